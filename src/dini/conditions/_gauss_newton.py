r"""The conditions of least squares with the Gauss-Newton matrix in place of the Hessian.

Half the sum of :math:`\rho(r_i^2)` has the Hessian

.. math:: J^\top W J + \sum_i \rho'_i\, r_i \nabla^2 r_i, \qquad W = \mathrm{diag}(\rho' + 2 \rho'' r^2) ,

whose second sum is left out, and so are negative elements of :math:`W`. Both are what makes it indefinite.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.records import record
from ..linear import Reduction
from ..protocols import AnyProblem, Residuals
from ..trees import Tree
from ._base import Condition


class _Frozen:
    """A least-squares problem around a point: the same gradient there, with the Gauss-Newton matrix for derivative."""

    def __init__(self, problem: Residuals, x: Tree, args: tuple[Tree, ...]):
        self._problem = problem
        self._residuals, self._pull = jax.vjp(lambda u: problem.residuals(u, *args), x)
        self._weights = _weights(problem.loss, self._residuals)
        self._slope = problem.gradient(x, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    def gradient(self, u: Tree, *args: Tree) -> Any:
        r"""Return :math:`\nabla f(x) + J^\top W (r(u) - r(x))`."""
        change = trees.sub(self._problem.residuals(u, *args), self._residuals)
        weighted = jax.tree.map(lambda w, d: w.astype(d.dtype) * d, self._weights, change)
        return trees.add(self._slope, self._pull(weighted)[0])

    def hessian_block(self, x: Tree, rows: jax.Array, *args: Tree) -> jax.Array:
        """Return the rows and columns of the matrix that belong to some elements of the unknown."""
        flat, unravel = ravel_pytree(x)
        product = jax.linearize(lambda u: ravel_pytree(self.gradient(unravel(u), *args))[0], flat)[1]
        return jax.vmap(product)(jax.nn.one_hot(rows, flat.size, dtype=flat.dtype))[:, rows]


def _weights(loss: Any, residuals: Any) -> Any:
    """Return the curvature of the loss in each residual, zero where it is negative."""
    if loss is None:
        return jax.tree.map(jnp.ones_like, residuals)
    flat, unravel = ravel_pytree(residuals)
    ones = jnp.ones_like(flat)
    slope = lambda s: jax.jvp(loss, (s,), (ones,))[1]
    first, second = jax.jvp(slope, (flat * flat,), (ones,))
    return unravel(jnp.maximum(first + 2 * second * flat * flat, 0))


@record
class GaussNewton(Condition):
    """A condition of a least-squares problem, ``base``, linearized in the unknown with the Gauss-Newton matrix."""

    base: Any

    @property
    def kinked(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the base is."""
        return self.base.kinked

    @property
    def step_size(self) -> Any:
        """The step size of the base, ``None`` where it has none."""
        return getattr(self.base, "step_size", None)

    def __call__(self, problem: AnyProblem, x: Tree, *args: Tree) -> Tree:
        """Return the residual of the base."""
        return self.base(problem, x, *args)

    def at(self, problem: Residuals, x: Tree, *args: Tree) -> GaussNewton:
        """Return the condition with what the base leaves open fixed."""
        return dataclasses.replace(self, base=self.base.at(_Frozen(problem, x, args), x, *args))

    def settled_like(self, other: GaussNewton) -> GaussNewton:
        """Return this condition with what was fixed in ``other``."""
        return dataclasses.replace(self, base=self.base.settled_like(other.base))

    def structure(self, problem: AnyProblem) -> Any:
        """Return what is known of the derivative of the base."""
        return self.base.structure(problem)

    def is_fixed_point(self, problem: AnyProblem) -> bool:
        """Return whether the base is."""
        return self.base.is_fixed_point(problem)

    def linearize(self, problem: Residuals, x: Tree, *args: Tree) -> tuple[Callable[[Any], Any], Reduction | None]:
        """Return the derivative of the base, with the Gauss-Newton matrix."""
        return self.base.linearize(_Frozen(problem, x, args), x, *args)

    def forces(self, problem: AnyProblem, x: Tree, *args: Tree) -> Any:
        """Return those of the base."""
        return self.base.forces(problem, x, *args)

    def error(self, problem: AnyProblem, x: Tree, *args: Tree) -> jax.Array:
        """Return the error of the base."""
        return self.base.error(problem, x, *args)
