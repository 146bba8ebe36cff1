"""Limited-memory BFGS."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_count
from ..trees import Tree
from ..trees.products import dot, tensordot
from ._base import solver
from .shared._line_method import Pair
from .shared._line_search import LineSearch, WeakWolfe
from .shared._quasi_newton import QuasiNewton


class Pairs(NamedTuple):
    r"""The last differences of points (``s``) and gradients (``y``), scaled to unit ``s``, and their small matrices.

    ``store`` holds them as ``s, y, s, y, ...``, and ``products`` their inner products with the gradient at the last
    accepted point, a row for each pair. ``inverse`` is :math:`R^{-1}`, where
    :math:`R_{ij} = s_i^\top y_j` for ``i`` not newer than ``j`` and zero elsewhere: triangular in the order of time.
    A new pair only adds a column to the inverse, and forgetting the oldest one only clears its row and column, so
    that nothing is factorized and the slots need no order.
    """

    store: Any
    products: Any
    inverse: Any
    diagonal: Any
    yy: Any
    gamma: Any
    count: Any


@solver
class LBFGS(QuasiNewton):
    r"""Limited-memory BFGS with a line search.

    .. math::
        \begin{aligned}
        x &\leftarrow x - t H \nabla f(x), \\
        H &= \gamma I + \begin{pmatrix} S & \gamma Y \end{pmatrix}
        \begin{pmatrix} R^{-\top} (D + \gamma Y^\top Y) R^{-1} & -R^{-\top} \\ -R^{-1} & 0 \end{pmatrix}
        \begin{pmatrix} S^\top \\ \gamma Y^\top \end{pmatrix}, \qquad (1) \\
        \gamma &= s^\top y / y^\top y, \qquad (2)
        \end{aligned}

    with the last ``history`` steps ``s`` and changes of the gradient ``y`` as the columns of ``S`` and ``Y``, the upper
    triangle ``R`` of :math:`S^\top Y` and its diagonal ``D``. A step costs four products with an ``history``-by-``d``
    matrix. The line search for ``t`` (by default one for the weak Wolfe conditions) takes one trial a step of the
    solver.

    Steps are taken in the variables :math:`x_i / d_i`, in which each element has a curvature of about one: the scales
    :math:`d` are estimated once, when the solve starts, by ten products with the Hessian (where there are none, as of a
    call of the host or another solve, they are one, and the first step is short). With ``step_size`` they are
    one as well. The error is :math:`\|\nabla f\|_2`; the point is a solution to ``rtol`` where the step
    :math:`p = -H \nabla f` moves no element by more than that share of its size.

    Parameters
    ----------
    history
        Number of pairs.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps, that is of function evaluations.
    line_search
        One of :mod:`dini.solvers`: ``WeakWolfe()``, ``StrongWolfe()``, ``HagerZhang()``, ``Backtracking()``.
    step_size
        In place of a line search: the lengths ``t`` of the steps, a constant or a function of the number of the step,
        used without any test.
    scaled
        Whether :math:`\gamma` is (2), or one.

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
    max_steps: int = field(default=2000, metadata={"static": True})
    line_search: LineSearch = field(default=WeakWolfe(), metadata={"static": True})
    step_size: Any = None
    scaled: bool = field(default=True, metadata={"static": True})

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_count("LBFGS's history", self.history)

    def empty(self, x: Tree, dtype: Any) -> Pairs:
        """Return empty slots."""
        store = jax.tree.map(lambda u: jnp.zeros((2 * self.history, *u.shape), u.dtype), x)
        small = jnp.zeros((self.history, self.history), dtype)
        products = jnp.zeros((self.history, 2), dtype)
        return Pairs(store, products, small, small[0], small, jnp.ones((), dtype), jnp.zeros((), jnp.int32))

    def forget(self, model: Pairs, forget: Any) -> Pairs:
        """Drop all pairs where ``forget`` holds."""
        # what is left of the pairs themselves is never read
        count = jnp.where(forget, 0, model.count)
        inverse = jnp.where(forget, 0, model.inverse)
        return model._replace(count=count, inverse=inverse, gamma=jnp.where(forget, 1, model.gamma))

    def _scaling(self, curvature: Any, squared: Any) -> Any:
        """Return the multiple of the identity below the pairs, from the newest of them."""
        return curvature / jnp.where(squared > 0, squared, 1) if self.scaled else jnp.ones_like(squared)

    def take_in(self, model: Pairs, pair: Pair, old: Tree, keep: Any, accept: Any) -> tuple[Pairs, Any, Any]:
        r"""Store the pair in place of the oldest, then apply the compact form.

        (1) is :math:`Hg = \gamma g + S R^{-\top}(Du + \gamma(Y^\top Y u - Y^\top g)) - \gamma Y u` with
        :math:`u = R^{-1} S^\top g`. Rows of the inverse that belong to empty slots are zero, so these add nothing.
        """
        del old
        s, y, g, gram = pair.move, pair.change, pair.gradient, pair.products
        m, dtype = self.history, model.yy.dtype
        shrink = jnp.where(gram.ss > 0, jax.lax.rsqrt(jnp.where(gram.ss > 0, gram.ss, 1)), 0)
        curvature, squared = shrink**2 * gram.sy, shrink**2 * gram.yy
        with_g = _products(model.store, g, dtype)
        with_y = with_g - model.products
        slots = jnp.arange(m, dtype=jnp.int32)
        here = slots == model.count % m
        older = ~here & (slots < model.count)
        column = jnp.where(here, 1.0, -dot(model.inverse, jnp.where(older, shrink * with_y[:, 0], 0)))
        column = jnp.where(here | older, column, 0) / jnp.where(keep, curvature, 1)
        cross = jnp.where(here, squared, jnp.where(older, shrink * with_y[:, 1], 0))
        new_here = keep & here
        row, col = new_here[:, None], new_here[None, :]
        inverse = jnp.where(col, column[:, None], jnp.where(row, 0, model.inverse))
        yy = jnp.where(col, cross[:, None], jnp.where(row, cross[None, :], model.yy))
        diagonal = jnp.where(new_here, curvature, model.diagonal)
        # (2)
        gamma = jnp.where(keep, self._scaling(curvature, squared), model.gamma)
        p = jnp.where(new_here, shrink * gram.sg, with_g[:, 0])
        q = jnp.where(new_here, shrink * gram.yg, with_g[:, 1])

        products = jnp.where(accept, jnp.stack([p, q], axis=1), model.products)

        # (1): p = S'g, q = Y'g, yy = Y'Y, inverse = R^-1; top and -gamma u are the weights of S and Y
        u = dot(inverse, p)
        top = dot(diagonal * u + gamma * (dot(yy, u) - q), inverse)
        weights = jnp.stack([top, -gamma * u], axis=1).reshape(-1)
        slope = -(gamma * gram.gg + dot(top, p) - gamma * dot(u, q))

        place = 2 * (model.count % m)
        # A NaN means that all pairs are about to be forgotten. The condition is for the order that it implies: once
        # all products with the old rows are known, XLA updates the store in place instead of copying it.
        put = keep & ~jnp.isnan(slope)

        def updated(store: jax.Array, s: jax.Array, y: jax.Array) -> jax.Array:
            newest = shrink.astype(s.dtype) * jnp.stack([s, y])
            oldest = jax.lax.dynamic_slice_in_dim(store, place, 2)
            return jax.lax.dynamic_update_slice_in_dim(store, jnp.where(put, newest, oldest), place, 0)

        store = jax.tree.map(updated, model.store, s, y)
        direction = jax.tree.map(
            lambda rows, v: -(gamma.astype(v.dtype) * v + tensordot(weights.astype(v.dtype), rows, 1)), store, g
        )
        count = model.count + keep.astype(jnp.int32)
        return Pairs(store, products, inverse, diagonal, yy, gamma, count), direction, slope


def _products(store: Any, vector: Any, dtype: Any) -> jax.Array:
    """Return the inner products of all stored vectors with one vector, a row for each pair."""
    parts = [
        tensordot(rows, leaf, leaf.ndim).astype(dtype).reshape(-1, 2)
        for rows, leaf in zip(jax.tree.leaves(store), jax.tree.leaves(vector), strict=True)
    ]
    return trees.total(parts)
