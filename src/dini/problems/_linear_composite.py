"""Objectives that see their unknown through a linear map, for solvers that change one block at a time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from ..functions import as_function, close, function_name


@register_dataclass
@dataclass(frozen=True)
class LinearComposite:
    r"""The objective :math:`f(x, \theta) = h(A^\top x, x, \theta)`, one row of ``A`` for each block (row) of ``x``.

    The object is an ordinary objective ``fun(x, *args)``; what it adds is that a solver which changes block ``i`` can
    keep ``z = A.T @ x`` up to date at the cost of one row. ``h`` must depend on its second argument linearly (a term
    ``<x, c>``), so that its curvature comes through ``z`` alone. A regression on a design matrix ``X`` has ``A =
    X.T``: its blocks are the coordinates.

    Parameters
    ----------
    outer
        ``h(z, x, *args)``, one real number.
    matrix
        ``matrix(*args)`` returns ``A`` of shape ``(m, p)``, for ``x`` of shape ``(m,)`` or ``(m, k)``.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> lasso = dini.LinearComposite(lambda z, w, X, y: 0.5 * jnp.mean((z - y) ** 2), lambda X, y: X.T)
    >>> problem = dini.Minimize(lasso, penalty=dini.penalties.L1(0.5))
    >>> X, y = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([3.0, 1.0])
    >>> print(dini.solve(problem, dini.BlockCoordinateDescent(), jnp.zeros(2), X, y).x)
    [2.   0.25]
    """

    outer: Any
    matrix: Any

    def __post_init__(self) -> None:
        for name in ("outer", "matrix"):
            if callable(getattr(self, name)):
                object.__setattr__(self, name, as_function(getattr(self, name), f"LinearComposite's {name}"))

    @property
    def name(self) -> str:
        """The objective in words, for messages."""
        return f"LinearComposite({function_name(self.outer)})"

    def __call__(self, x: Any, *args: Any) -> jax.Array:
        """Return ``h(A.T @ x, x, *args)``."""
        return self.outer(self.matrix(*args).T @ x, x, *args)

    def close(self, x: Any, *args: Any) -> LinearComposite:
        """Return the objective with all closures made explicit."""
        matrix = close(self.matrix, *args)
        shape = jax.eval_shape(matrix, *args)
        if (
            not isinstance(x, jax.Array)
            or x.ndim not in (1, 2)
            or len(shape.shape) != 2
            or shape.shape[0] != x.shape[0]
        ):
            raise ValueError(
                "LinearComposite needs an unknown of shape (m,) or (m, k) and a matrix of shape (m, p): "
                f"given {jax.tree.map(jnp.shape, x)} and {shape.shape}."
            )
        z = jax.eval_shape(lambda a, b: a.T @ b, shape, x)
        return dataclasses.replace(self, outer=close(self.outer, z, x, *args), matrix=matrix)

    def hessian_block(self, x: Any, rows: jax.Array, *args: Any) -> jax.Array:
        """Return the Hessian between some blocks of a vector ``x``: the rows of ``A``, weighted by the curvature."""
        matrix = jnp.asarray(self.matrix(*args))
        some = matrix[rows]
        curved = jax.linearize(lambda z: jax.grad(self.outer)(z, x, *args), matrix.T @ x)[1]
        return jax.vmap(curved)(some) @ some.T

    def rank(self, *args: Any) -> int:
        """Return a bound on the rank of the Hessian, the number of columns of ``A``."""
        return jax.eval_shape(self.matrix, *args).shape[1]
