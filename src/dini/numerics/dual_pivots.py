r"""The dual active-set method on a matrix of products: inequalities are taken up and dropped by pivots."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..deferred import Array, Bool, Float, Int

#: a row counts as violated by more than so many units in the last place of what its slack is computed of
_ROUNDING = 32


class Pivots(NamedTuple):
    """The multipliers, which rows are held, how many pivots it took, and whether no row is violated any more."""

    w: Float[Array, " p"]
    held: Bool[Array, " p"]
    pivots: Int[Array, ""]
    done: Bool[Array, ""]


class _Table(NamedTuple):
    """Carried from pivot to pivot."""

    #: the swept matrix
    swept: Any
    #: multipliers of held rows, slacks of the others
    values: Any
    held: Any
    #: the row that is being taken up, if one is, and its multiplier
    entering: Any
    raised: Any
    #: the largest terms that a row's slack has been computed of
    terms: Any
    count: Any
    done: Any


def dual_pivots(D: Float[Array, "p p"], r: Float[Array, " p"], rows: Bool[Array, " p"], limit: int) -> Pivots:
    r"""Return the solution of :math:`\min_{w \ge 0} \tfrac12 w^\top D w + r^\top w`, with ``D`` positive definite.

    With the slacks :math:`s = r + D w` this is the complementarity problem :math:`s \ge 0, w \ge 0, s^\top w = 0`, and
    the dual of a projection onto a polyhedron, whose distance rises with each step of the method of Goldfarb and
    Idnani: the row ``a`` that is violated most gets a multiplier that grows by ``t``, while the slacks of held rows
    stay zero,

    .. math:: \dot w_B = -D_{BB}^{-1} D_{Ba}, \qquad \dot s_F = D_{Fa} - D_{FB} D_{BB}^{-1} D_{Ba} ,

    until its slack is zero (it is held) or the multiplier of a held row is (that is dropped). Both directions stand in
    the column ``a`` of the matrix swept on ``B``,

    .. math:: \begin{pmatrix} -D_{BB}^{-1} & D_{BB}^{-1} D_{BF} \\ \cdot & D_{FF} - D_{FB} D_{BB}^{-1} D_{BF}
              \end{pmatrix} ,

    and a row that is held or dropped is one sweep, a matrix of rank one: in a batch the same few operations for all.

    Parameters
    ----------
    D, r
        The matrix of products and what is left until each bound at ``w = 0``.
    rows
        Which rows there are; the others are never held.
    limit
        Most pivots.

    References
    ----------
    Goldfarb and Idnani, "A numerically stable dual method for solving strictly convex quadratic programs",
    Mathematical Programming, 1983. Goodnight, "A tutorial on the SWEEP operator", The American Statistician, 1979.
    Arnström, Bemporad, Axehill, "A dual active-set solver for embedded quadratic programming using recursive
    LDLᵀ updates", 2022 (arXiv 2103.16236).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.numerics.dual_pivots import dual_pivots
    >>> end = dual_pivots(jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([-4.0, 1.0]), jnp.array([True, True]), 20)
    >>> print(end.w, end.held, end.done)
    [2. 0.] [ True False] True
    """
    p, eps = r.size, jnp.finfo(r.dtype).eps
    zero = jnp.zeros((), jnp.int32)
    if not p:
        return Pivots(r, rows, zero, zero == 0)
    places = jnp.arange(p)
    # a row is as far violated as its plane is away
    length = jnp.sqrt(jnp.diagonal(D))
    length = jnp.where(length > 0, length, 1)

    def step(now: _Table) -> _Table:
        S, values, held = now.swept, now.values, now.held
        score = jnp.where(rows & ~held & (values < -_ROUNDING * eps * now.terms), -values / length, 0)
        pending = now.entering < p
        a = jnp.where(pending, now.entering, jnp.argmax(score))
        going = pending | (score[a] > 0)
        column = S[a]
        pivot = column[a]
        full = jnp.where(pivot > 0, -values[a] / jnp.where(pivot > 0, pivot, 1), jnp.inf)
        falls = held & (column > 0)
        ratios = jnp.where(falls, values / jnp.where(falls, column, 1), jnp.inf)
        leaving = jnp.argmin(ratios)
        add = full <= ratios[leaving]
        t = jnp.where(going, jnp.minimum(full, ratios[leaving]), 0)
        lost = ~jnp.isfinite(t)
        t = jnp.where(lost, 0, t)
        move = t * jnp.where(held, -column, column)
        values = values + move
        values = jnp.where(held, jnp.maximum(values, 0), values)
        raised = jnp.where(pending, now.raised, 0) + t
        k = jnp.where(add, a, leaving)
        there = places == k
        # the row that is held or dropped changes sides
        values = jnp.where(there, jnp.where(add, raised, 0), values)
        swap = going & ~lost
        c = jnp.where(add, column, S[leaving])
        p_k = jnp.where(swap, c[k], 1)
        scaled = c / p_k
        edge = jnp.where(add, scaled, -scaled)
        swept = S - scaled[:, None] * c[None, :]
        swept = jnp.where(there[:, None], edge[None, :], jnp.where(there[None, :], edge[:, None], swept))
        swept = jnp.where(there[:, None] & there[None, :], -1 / p_k, swept)
        return _Table(
            jnp.where(swap, swept, S),
            jnp.where(swap, values, now.values),
            jnp.where(swap, held ^ there, held),
            jnp.where(swap & ~add, a, p).astype(jnp.int32),
            raised,
            jnp.maximum(now.terms, jnp.abs(move)),
            now.count + 1,
            ~going | lost,
        )

    start = _Table(D, r, jnp.zeros(p, bool), zero + p, jnp.zeros((), r.dtype), jnp.abs(r), zero, zero > 0)
    end = jax.lax.while_loop(lambda now: ~now.done & (now.count < limit), step, start)
    w = jnp.where(end.held, end.values, 0)
    return Pivots(w, end.held, end.count, end.done)
