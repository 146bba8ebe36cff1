r"""What a stochastic bilevel method asks of its two levels: gradients, and two products with second derivatives.

.. math:: \min_x \; \Phi(x) = f(x, y^\star(x)), \qquad y^\star(x) = \arg\min_y \; g(x, y) .

With :math:`H = \nabla^2_{yy} g` and :math:`J^\top z = \nabla_x \langle \nabla_y g(x, y), z \rangle`,

.. math:: \nabla \Phi(x) = \nabla_x f - J^\top z^\star, \qquad H z^\star = \nabla_y f, \qquad y = y^\star(x) .
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

import dini

from ..kit.checking import at_least

Tree = Any
Level = Callable[[Tree, Tree, Any], Float[Array, ""]]


class Slopes(NamedTuple):
    """The outer objective's partial derivatives."""

    x: Tree
    y: Tree


@dataclass(frozen=True)
class Oracles:
    """The oracles of two functions, by automatic differentiation; a subclass may answer otherwise, with noise, say.

    Parameters
    ----------
    outer
        `f(x, y, data)`: a number.
    inner
        `g(x, y, data)`: a number, with second derivatives.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> oracles = Oracles(lambda x, y, _: jnp.sum(y**2) + x, lambda x, y, _: jnp.sum((y - x) ** 2))
    >>> x, y = jnp.array(2.0), jnp.array([2.0, 2.0])
    >>> print(oracles.upper(x, y, None).y, oracles.hessian(x, y, y, None), oracles.cross(x, y, y, None))
    [4. 4.] [4. 4.] -8.0
    """

    outer: Level
    inner: Level

    def upper(self, x: Tree, y: Tree, data: Any) -> Slopes:
        r""":math:`\nabla_x f` and :math:`\nabla_y f`."""
        return Slopes(*jax.grad(self.outer, argnums=(0, 1))(x, y, data))

    def lower(self, x: Tree, y: Tree, data: Any) -> Tree:
        r""":math:`\nabla_y g`."""
        return jax.grad(self.inner, argnums=1)(x, y, data)

    def hessian(self, x: Tree, y: Tree, z: Tree, data: Any) -> Tree:
        """:math:`H z`: the derivative of the gradient along `z`."""
        return jax.jvp(lambda y: self.lower(x, y, data), (y,), (z,))[1]

    def cross(self, x: Tree, y: Tree, z: Tree, data: Any) -> Tree:
        r""":math:`J^\top z`: the gradient in `x` of the slope of `g` along `z`."""
        return jax.grad(lambda x: jax.jvp(lambda y: self.inner(x, y, data), (y,), (z,))[1])(x)


def largest_curvature(oracles: Oracles, x: Tree, y: Tree, data: Any = None, *, products: int = 10) -> Float[Array, ""]:
    """An estimate from below of the largest eigenvalue of `H`, by Lanczos: steps up to its reciprocal are safe.

    Parameters
    ----------
    products
        With `H`; at most the number of unknowns are used.
    """
    at_least("products", products, 1)
    count = min(products, sum(leaf.size for leaf in jax.tree.leaves(y)))
    return dini.linear.ritz_values(lambda z: oracles.hessian(x, y, z, data), y, count)[-1]


def adjoint(
    oracles: Oracles, x: Tree, y: Tree, data_outer: Any = None, data_inner: Any = None, *, linear_solver: Any = None
) -> Tree:
    r"""The solution of :math:`H z = \nabla_y f` by one of dini's linear solvers, conjugate gradients by default.

    Raises
    ------
    DerivativeError
        Where the system was not solved, as where `g` is flat in a direction of `y` in which `f` is not; where
        conjugate gradients find a direction of negative curvature, so that `y` is no minimum.
    """
    solver = dini.linear.CG() if linear_solver is None else linear_solver
    return dini.linear.solve(
        lambda z: oracles.hessian(x, y, z, data_inner),
        oracles.upper(x, y, data_outer).y,
        structure="positive definite",
        solver=solver,
        name="the inner problem",
    )
