"""Multipliers for a point of a program that comes without."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..linear._matrices import densified
from ..trees import Tree
from ..trees.products import dot
from ._composite import PrimalDual
from ._multipliers import Multipliers
from ._nonlinear_program import NonlinearProgram
from ._quadratic_program import QuadraticProgram


class _Local(NamedTuple):
    """A program around a point, to first order: all that its multipliers depend on."""

    x: jax.Array
    gradient: jax.Array
    equalities: jax.Array
    inequalities: jax.Array
    values: jax.Array
    lower: jax.Array
    upper: jax.Array


class _Trial(NamedTuple):
    """Constraints that may push, their multipliers, and whether all push the right way."""

    active: jax.Array
    high: jax.Array
    low: jax.Array
    multipliers: jax.Array
    bounds: jax.Array
    steps: jax.Array
    done: jax.Array


def recovered(problem: NonlinearProgram | QuadraticProgram, x: Tree, *args: Tree) -> PrimalDual:
    r"""Return a point with the multipliers that leave least of the Lagrangian's gradient.

    .. math:: \min_{\nu,\, \lambda \ge 0,\, w}
        \|\nabla_1 f + (\partial_1 h)^\top \nu + (\partial_1 g)^\top \lambda + w\|

    over the inequalities and bounds that are met to the cube root of the rounding unit, by least squares of smallest
    norm; of those that would pull, the strongest is left out, one after the other. Constant of differentiation.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> from dini.problems._recovered import recovered
    >>> problem = dini.QuadraticProgram(Q=jnp.eye(2), c=jnp.array([-2.0, 0.5]), lower=0.0, upper=1.0)
    >>> print(recovered(problem, jnp.array([1.0, 0.0])).dual.bounds)
    [ 1.  -0.5]
    """
    problem, x, args = jax.lax.stop_gradient((problem, x, args))
    if isinstance(problem, QuadraticProgram):
        nothing = jnp.zeros((0, x.size), x.dtype)
        A, G = (densified(part, x.dtype) for part in (problem.A, problem.G))
        values = jnp.zeros(0, x.dtype) if G is None else dot(G, x) - problem.h
        full = lambda bound, none: jnp.full_like(x, none) if bound is None else bound
        rows = nothing if A is None else A, nothing if G is None else G
        bounds = full(problem.lower, -jnp.inf), full(problem.upper, jnp.inf)
        nu, lam, w = _multipliers(_Local(x, problem.gradient(x), *rows, values, *bounds))
        bounded = problem.lower is not None or problem.upper is not None
        dual = None if A is None else nu, None if G is None else lam, w if bounded else None
        return PrimalDual(x, Multipliers(*dual))
    start = problem.start(x, *args)
    flat, unravel = ravel_pytree(x)
    both = lambda v: tuple(ravel_pytree(part)[0].astype(flat.dtype) for part in problem.constraints(unravel(v), *args))
    # a tree without leaves is a vector without elements, of another dtype
    values, (equalities, inequalities) = both(flat)[1], jax.jacrev(both)(flat)
    zero = jax.tree.map(jnp.zeros_like, start.dual)
    gradient = ravel_pytree(problem.pulled(x, zero, *args)[0])[0]
    bounds = (ravel_pytree(bound)[0].astype(flat.dtype) for bound in problem.bounds(x))
    found = _multipliers(_Local(flat, gradient, equalities, inequalities, values, *bounds))
    like = lambda vector, tree: ravel_pytree(tree)[1](vector.astype(ravel_pytree(tree)[0].dtype))
    dual = (like(part, tree) for part, tree in zip(found, start.dual, strict=True))
    return PrimalDual(start.primal, Multipliers(*dual))


def _multipliers(at: _Local) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the multipliers of equalities, inequalities and bounds."""
    m, dtype = at.equalities.shape[0], at.x.dtype
    eps = trees.eps(at.x)
    size = trees.max_abs(at.x)
    near = eps ** (1 / 3) * jnp.where(size > 0, size, 1)
    norms = jnp.sqrt(jnp.sum(jnp.square(jnp.concatenate([at.equalities, at.inequalities])), axis=1))
    norms = jnp.where(norms > 0, norms, 1)
    rows = jnp.concatenate([at.equalities, at.inequalities]) / norms[:, None]
    active = jnp.concatenate([jnp.ones(m, bool), at.values >= -near * norms[m:]])
    fixed = at.lower == at.upper

    def solved(active: jax.Array, high: jax.Array, low: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the multipliers of unit rows, and those of the bounds."""
        free = ~(high | low)
        matrix = jnp.where(active[:, None] & free[None], rows, 0)
        found = jnp.linalg.lstsq(matrix.T, jnp.where(free, -at.gradient, 0))[0] if rows.shape[0] else norms
        found = jnp.where(active, found, 0).astype(dtype)
        return found, jnp.where(free, 0, -at.gradient - dot(rows.T, found))

    def again(now: _Trial) -> _Trial:
        found, w = solved(now.active, now.high, now.low)
        # how much each pulls where it may only push
        wrong = jnp.concatenate(
            [
                jnp.where(jnp.arange(found.size) < m, 0, -found),
                jnp.where(now.high & ~fixed, -w, 0),
                jnp.where(now.low & ~fixed, w, 0),
            ]
        )
        force = jnp.maximum(trees.max_abs(at.gradient), trees.max_abs(found))
        worst = jnp.argmax(wrong)
        done = ~(wrong[worst] > eps**0.75 * force)
        keep = ~(jnp.arange(wrong.size) == worst) | done
        first, second = found.size, found.size + w.size
        return _Trial(
            now.active & keep[:first],
            now.high & keep[first:second],
            now.low & keep[second:],
            found,
            w,
            now.steps + 1,
            done,
        )

    high, low = at.x >= at.upper - near, at.x <= at.lower + near
    zero, start = jnp.zeros((), jnp.int32), jnp.zeros(rows.shape[0], dtype)
    # of two bounds that are both near, the nearer one
    both = high & low & ~fixed
    nearer = at.upper - at.x <= at.x - at.lower
    high, low = high & ~(both & ~nearer), low & ~(both & nearer)
    first = _Trial(active, high, low, start, jnp.zeros_like(at.x), zero, jnp.asarray(False))
    most = rows.shape[0] + 2 * at.x.size
    end = jax.lax.while_loop(lambda now: ~now.done & (now.steps <= most), again, first)
    found = end.multipliers / norms
    return found[:m], jnp.maximum(found[m:], 0), end.bounds
