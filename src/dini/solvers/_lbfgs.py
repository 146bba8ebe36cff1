"""Limited-memory BFGS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from .. import trees
from ..settings import require_count
from ._quasi_newton import QuasiNewton


class Pairs(NamedTuple):
    r"""The last differences of points (``s``) and gradients (``y``), scaled to unit ``s``, and their small matrices.

    ``inverse`` is :math:`R^{-1}`, where :math:`R_{ij} = s_i^\top y_j` for ``i`` not newer than ``j`` and zero elsewhere:
    triangular in the order of time. A new pair only adds a column to the inverse, and forgetting the oldest one only clears
    its row and column, so that nothing is factorized and the slots need no order.
    """

    s: Any
    y: Any
    inverse: Any
    diagonal: Any
    yy: Any
    gamma: Any
    count: Any


@register_dataclass
@dataclass(frozen=True)
class LBFGS(QuasiNewton):
    r"""Limited-memory BFGS with a weak-Wolfe line search.

    The inverse Hessian is kept as :math:`\gamma I` corrected by the last ``history`` pairs, in compact form: a step
    costs four products with an ``history``-by-``d`` matrix. The line search brackets a step that satisfies sufficient
    decrease and the curvature condition (Lewis and Overton 2013), interpolates inside the bracket, and near the
    rounding error of the objective accepts by the gradient (the approximate Wolfe conditions of Hager and Zhang
    2005). Each trial is one step of the solver. The error is :math:`\|\nabla f\|_2`.

    Parameters
    ----------
    history
        Number of pairs.
    tol
        Tolerance on the error. Default: the square root of the unit roundoff.
    max_steps
        Limit on the number of steps, that is of function evaluations.

    References
    ----------
    Byrd, Nocedal, Schnabel, "Representations of quasi-Newton matrices and their use in limited memory methods", Math.
    Program. 1994.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> rosenbrock = dini.Minimize(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    >>> print(dini.solve(rosenbrock, dini.LBFGS(tol=1e-3), jnp.zeros(2)).x.round(2))
    [1. 1.]
    """

    history: int = field(default=10, metadata={"static": True})
    tol: Any = None
    max_steps: int = field(default=2000, metadata={"static": True})

    def __post_init__(self) -> None:
        self._check_settings()
        require_count("LBFGS's history", self.history)

    def _empty(self, x: Any, dtype: Any) -> Pairs:
        store = jax.tree.map(lambda u: jnp.zeros((self.history, *u.shape), u.dtype), x)
        small = jnp.zeros((self.history, self.history), dtype)
        return Pairs(store, store, small, small[0], small, jnp.ones((), dtype), jnp.zeros((), jnp.int32))

    def _update(self, model: Pairs, s: Any, y: Any, active: Any) -> Pairs:
        return _update(model, s, y, active)

    def _forget(self, model: Pairs, forget: Any) -> Pairs:
        # what is left of the pairs themselves is never read
        count = jnp.where(forget, 0, model.count)
        inverse = jnp.where(forget, 0, model.inverse)
        return model._replace(count=count, inverse=inverse, gamma=jnp.where(forget, 1, model.gamma))

    def _direction(self, model: Pairs, gradient: Any) -> Any:
        return _direction(model, gradient)


def _products(rows: Any, vector: Any, dtype: Any) -> jax.Array:
    """Return the inner products of stored vectors with one vector."""
    parts = [
        (r.reshape(r.shape[0], -1) @ v.reshape(-1)).astype(dtype)
        for r, v in zip(jax.tree.leaves(rows), jax.tree.leaves(vector), strict=True)
    ]
    return sum(parts[1:], parts[0]) if parts else jnp.zeros(0, dtype)


def _combine(rows: Any, weights: jax.Array) -> Any:
    return jax.tree.map(lambda r: jnp.tensordot(weights.astype(r.dtype), r, 1), rows)


def _update(pairs: Pairs, s: Any, y: Any, active: Any) -> Pairs:
    """Store a pair in place of the oldest, unless its curvature is not positive."""
    dtype = pairs.yy.dtype
    length = trees.norm(s)
    shrink = jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
    s, y = trees.scale(shrink, s), trees.scale(shrink, y)
    curvature, squared = trees.vdot(s, y).astype(dtype), trees.vdot(y, y).astype(dtype)
    keep = active & (curvature > trees.eps(s) * squared) & jnp.isfinite(squared) & (length > 0)
    slots = jnp.arange(pairs.diagonal.size)
    here = slots == pairs.count % pairs.diagonal.size
    older = ~here & (slots < pairs.count)
    used = jnp.where(older, _products(pairs.s, y, dtype), 0)
    column = jnp.where(here, 1.0, -(pairs.inverse @ used)) / jnp.where(keep, curvature, 1)
    # without the oldest pair: its row and column are cleared
    clear = here[:, None] | here[None, :]
    inverse = jnp.where(here[None, :], column[:, None] * (older | here)[:, None], jnp.where(clear, 0, pairs.inverse))
    cross = jnp.where(here, squared, jnp.where(older, _products(pairs.y, y, dtype), 0))
    yy = jnp.where(here[None, :], cross[:, None], jnp.where(here[:, None], cross[None, :], pairs.yy))

    def put(store: Any, vector: Any) -> Any:
        slot = pairs.count % pairs.diagonal.size
        return jax.tree.map(lambda r, v: r.at[slot].set(jnp.where(keep, v, r[slot])), store, vector)

    return Pairs(
        put(pairs.s, s),
        put(pairs.y, y),
        jnp.where(keep, inverse, pairs.inverse),
        jnp.where(keep & here, curvature, pairs.diagonal),
        jnp.where(keep, yy, pairs.yy),
        jnp.where(keep, curvature / jnp.where(squared > 0, squared, 1), pairs.gamma),
        pairs.count + keep.astype(jnp.int32),
    )


def _direction(pairs: Pairs, gradient: Any) -> Any:
    r"""Return minus the inverse Hessian's approximation times the gradient.

    In the compact form :math:`Hg = \gamma g + S\,R^{-\top}(Du + \gamma(Y^\top Y u - Y^\top g)) - \gamma Y u` with
    :math:`u = R^{-1} S^\top g`. Rows of the inverse that belong to empty slots are zero, so these slots add nothing.
    """
    dtype, gamma = pairs.yy.dtype, pairs.gamma
    u = pairs.inverse @ _products(pairs.s, gradient, dtype)
    right = pairs.diagonal * u + gamma * (pairs.yy @ u - _products(pairs.y, gradient, dtype))
    step = trees.add(_combine(pairs.s, right @ pairs.inverse), _combine(pairs.y, -gamma * u))
    return trees.neg(trees.axpy(gamma, gradient, step))
