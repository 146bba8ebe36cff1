"""Quadratic objectives."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ..checks.records import record
from ..functions import as_function, close
from ..trees import Tree
from ..trees.products import dot, vdot


@record
class Quadratic:
    r"""The objective :math:`\tfrac12 x^\top Q x + c^\top x`, for :class:`dini.Minimize`.

    The object is an ordinary objective ``fun(x, *args)``; what it adds is that a solver which changes some coordinates
    takes a part of ``Q`` in place of Hessian products. A regression with more samples than coefficients that is solved
    many times (for a path of penalties, say) is one with :math:`Q = X^\top X` and :math:`c = -X^\top y`, made once.

    Parameters
    ----------
    matrix
        ``Q``, of shape ``(m, m)``: an array, or a function of ``*args`` that returns one. Only its symmetric part
        counts.
    linear
        ``c``, of shape ``(m,)``, likewise.

    Raises
    ------
    ValueError
        If the shapes of ``x``, ``Q`` and ``c`` do not fit.

    Examples
    --------
    A quadratic program on a box:

    >>> import dini, jax.numpy as jnp
    >>> fun = dini.Quadratic(jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([-4.0, 1.0]))
    >>> problem = dini.Minimize(fun, constraint=dini.sets.Box(0.0, 1.0))
    >>> print(dini.solve(problem, dini.ProximalNewton(), jnp.zeros(2)).x)
    [1. 0.]
    """

    matrix: Any
    linear: Any

    def __post_init__(self) -> None:
        for name in ("matrix", "linear"):
            if callable(getattr(self, name)):
                object.__setattr__(self, name, as_function(getattr(self, name), f"Quadratic's {name}"))

    @property
    def name(self) -> str:
        """The objective in words, for messages."""
        return "Quadratic"

    def _parts(self, *args: Tree) -> tuple[jax.Array, jax.Array]:
        matrix, linear = (part(*args) if callable(part) else part for part in (self.matrix, self.linear))
        return jnp.asarray(matrix), jnp.asarray(linear)

    def __call__(self, x: Tree, *args: Tree) -> jax.Array:
        """Return the objective."""
        matrix, linear = self._parts(*args)
        return 0.5 * vdot(x, dot(matrix, x)) + vdot(linear, x)

    def value_and_gradient(self, x: Tree, *args: Tree) -> tuple[jax.Array, jax.Array]:
        """Return the objective and its gradient, with the same products for both."""
        matrix, linear = self._parts(*args)
        product = 0.5 * (dot(matrix, x) + dot(x, matrix))
        return 0.5 * vdot(x, product) + vdot(linear, x), product + linear

    def hessian_block(self, x: Tree, rows: jax.Array, *args: Tree) -> jax.Array:
        """Return some rows and columns of the symmetric part of ``Q``."""
        del x
        block = self._parts(*args)[0][rows[:, None], rows[None, :]]
        return 0.5 * (block + block.T)

    def close(self, x: Tree, *args: Tree) -> Quadratic:
        """Return the objective with all closures made explicit."""
        changes = {name: close(part, *args) for name, part in vars(self).items() if callable(part)}
        closed = dataclasses.replace(self, **changes)
        matrix, linear = jax.eval_shape(closed._parts, *args)
        if not isinstance(x, jax.Array) or (*x.shape, *x.shape) != matrix.shape or x.shape != linear.shape:
            raise ValueError(
                "Quadratic needs an unknown of shape (m,), a matrix of shape (m, m) and a vector of shape (m,): given "
                f"{jax.tree.map(jnp.shape, x)}, {matrix.shape} and {linear.shape}."
            )
        return closed
