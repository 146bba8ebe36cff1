r"""The linear system of an elementwise proximal fixed point, on its support alone.

Where the proximal operator treats each element on its own, its derivative :math:`P` is a diagonal matrix. With
:math:`S = \{i : P_{ii} > 0\}` the rows of :math:`A = I - P(I - \eta H)` outside of :math:`S` are those of the
identity, so :math:`Aw = b` has :math:`w_i = b_i` there, and the rest is a system of the size of :math:`S`,

.. math:: M w_S = P_S^{-1} b_S - \eta\, (H b_{\bar S})_S, \qquad M = P_S^{-1} (I - P)_S + \eta H_{SS} .

For the transposed system :math:`A^\top u = c` write :math:`q = P u`, which vanishes outside of :math:`S`:
:math:`M q_S = c_S` and :math:`u = c + (I - \eta H) q`. :math:`M` is symmetric, and positive definite where :math:`A` is
invertible and ``f`` convex.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..numerics.working_sets import LARGEST, dispatch, sizes
from ..trees import Tree

# rounding errors of the elements of P, in units in the last place
_ROUNDING = 16


def remainder(penalty: Any, x: Tree, prox: Callable[[Any], Any], step_size: Any) -> Any:
    r"""Return the diagonal of :math:`I - P`, for a diagonal :math:`P`, as a tree like ``x``.

    Where the penalty's own curvature :math:`\kappa` is small, :math:`P = 1 / (1 + \eta \kappa)` has rounded most of it
    away. Where the two agree to rounding, the difference is :math:`P \eta \kappa` and keeps all of it.

    Parameters
    ----------
    penalty
        The penalty, or ``None`` for a set, which has no curvature.
    x
        The solution.
    prox
        The derivative of the proximal operator.
    step_size
        :math:`\eta`.
    """
    ones = jax.tree.map(jnp.ones_like, x)
    kept = prox(ones)
    difference = trees.sub(ones, kept)
    if penalty is None:
        return difference
    curved = jax.jvp(jax.grad(penalty.value), (x,), (ones,))[1]

    def finer(p: jax.Array, rest: jax.Array, curvature: jax.Array) -> jax.Array:
        own = p * jnp.asarray(step_size, p.dtype) * curvature
        return jnp.where((p > 0) & (jnp.abs(own - rest) <= _ROUNDING * jnp.finfo(p.dtype).eps), own, rest)

    return jax.tree.map(finer, kept, difference, curved)


def on_support(
    x: Tree,
    prox: Callable[[Any], Any],
    rest: Any,
    block: Callable[[jax.Array], jax.Array],
    hessian: Callable[[Any], Any],
    step_size: Any,
) -> tuple[Any, Any]:
    r"""Return the direct solvers of ``A w = b`` and of its transpose.

    Parameters
    ----------
    x
        The solution.
    prox
        The derivative of the proximal operator.
    rest
        The diagonal of :math:`I - P`.
    block
        Returns the rows and columns of the Hessian for some elements.
    hessian
        The product with the Hessian.
    step_size
        :math:`\eta`.
    """
    flat, unravel = ravel_pytree(x)
    eta = jnp.asarray(step_size, flat.dtype)
    kept = ravel_pytree(prox(unravel(jnp.ones_like(flat))))[0]
    left = ravel_pytree(rest)[0]
    active = kept > 0
    count = jnp.sum(active)
    choices = sizes(flat.size)
    order = jax.lax.top_k(active.astype(jnp.int32), choices[-1])[1]
    product = lambda v: ravel_pytree(hessian(unravel(v)))[0]

    def solve(right: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the solution of the system with ``M``, zero outside of the support."""

        def compact(k: int, right: jax.Array) -> tuple[jax.Array, jax.Array]:
            rows = order[:k]
            inside = active[rows]
            curved = jnp.where(inside[:, None] & inside[None, :], eta * block(rows), 0)
            matrix = curved + jnp.diag(jnp.where(inside, left[rows] / jnp.where(inside, kept[rows], 1), 1))
            factor = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
            v = jax.scipy.linalg.cho_solve((factor, True), jnp.where(inside, right[rows], 0), check_finite=False)
            pivots = jnp.square(jnp.diagonal(factor)) / jnp.diagonal(matrix)
            singular = ~(jnp.min(pivots) > k * jnp.finfo(matrix.dtype).eps)
            return jnp.zeros_like(right).at[rows].set(v), singular

        return dispatch(choices, count, compact, right)

    def guarded(run: Callable[[Any], Any]) -> Callable[..., Any]:
        def direct(b: Any, otherwise: Callable[[Any], Any]) -> Any:
            if flat.size <= LARGEST:
                return run(b)
            return jax.lax.cond(count <= LARGEST, run, otherwise, b)

        return direct

    def forward(b: Any) -> Any:
        b = ravel_pytree(b)[0]
        rest = jnp.where(active, 0, b)
        v, singular = solve(jnp.where(active, b / jnp.where(active, kept, 1), 0) - eta * product(rest))
        return unravel(rest + v), singular

    def transposed(c: Any) -> Any:
        c = ravel_pytree(c)[0]
        q, singular = solve(c)
        return unravel(c + q - eta * product(q)), singular

    return guarded(forward), guarded(transposed)
