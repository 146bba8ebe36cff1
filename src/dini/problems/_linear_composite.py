"""Objectives that see their unknown through a linear map, for solvers that change one block at a time."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..functions import as_function, close, function_name
from ..linear import sparsity
from ..linear._sparsity import varies
from ..trees import Tree
from ..trees.products import dot
from ._quadratic import Quadratic

_BLOCK = 128


def _symmetric_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return ``a @ b.T``, known to be symmetric: of the blocks only those on and above the diagonal are computed."""
    size = a.shape[0]
    if size < 3 * _BLOCK:
        return dot(a, b.T)
    bands = [(i, dot(a[i : i + _BLOCK], b[i:].T)) for i in range(0, size, _BLOCK)]
    upper = jnp.triu(jnp.concatenate([jnp.pad(band, ((0, 0), (i, 0))) for i, band in bands]))
    return upper + jnp.triu(upper, 1).T


@record
class LinearComposite:
    r"""The objective :math:`f(x, \theta) = h(A^\top x, x, \theta)`, one row of ``A`` for each block (row) of ``x``.

    The object is an ordinary objective ``fun(x, *args)``; what it adds is that a solver which changes block ``i`` can
    keep ``z = A.T @ x`` up to date at the cost of one row. A regression on a design matrix ``X`` has ``A = X.T``: its
    blocks are the coordinates.

    **Curvature.** The Hessian between some blocks :math:`S` is

    .. math:: A_S h_{zz} A_S^\top + A_S h_{zx} + h_{xz} A_S^\top + h_{xx},

    the last three between the blocks in :math:`S` too. Where ``h`` depends on its second argument by a term ``<x, c>``
    at most, only the first is there: a matrix product. Whether it is so is seen in the program of ``h``. Otherwise
    (a ridge term in ``h``, say) the rest is made by a product with the Hessian of ``h`` for each element of :math:`S`,
    and block coordinate descent takes a gradient of ``h`` in ``x`` for each block. A ridge costs nothing as a penalty:
    :class:`dini.penalties.ElasticNet`.

    Parameters
    ----------
    outer
        ``h(z, x, *args)``, one real number, smooth in ``z`` and ``x``.
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
        for name, form in (("outer", "h(z, x, *args)"), ("matrix", "of the args that returns A")):
            part = getattr(self, name)
            if not callable(part):
                remedy = " Write lambda *args: A." if getattr(part, "ndim", None) == 2 else ""
                raise TypeError(
                    f"LinearComposite's {name} must be a function {form}: given {trees.describe(part)}.{remedy}"
                )
            object.__setattr__(self, name, as_function(part, f"LinearComposite's {name}"))

    @property
    def name(self) -> str:
        """The objective in words, for messages."""
        return f"LinearComposite({function_name(self.outer)})"

    def __call__(self, x: Tree, *args: Tree) -> jax.Array:
        """Return ``h(A.T @ x, x, *args)``."""
        with self._explained(x, args):
            return self.outer(dot(self.matrix(*args).T, x), x, *args)

    @contextlib.contextmanager
    def _explained(self, x: Tree, args: tuple[Tree, ...]) -> Generator[None]:
        """Say what the functions are called with, where that is not what they take."""
        try:
            yield
        except TypeError as error:
            from ..explanations import calls

            better = calls.linear_composite(error, self.outer, self.matrix, x, args)
            if better is None:
                raise
            raise better from error

    def close(self, x: Tree, *args: Tree) -> LinearComposite:
        """Return the objective with all closures made explicit."""
        with self._explained(x, args):
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
        z = jax.eval_shape(lambda a, b: dot(a.T, b), shape, x)
        with self._explained(x, args):
            return dataclasses.replace(self, outer=close(self.outer, z, x, *args), matrix=matrix)

    def curved(self, z: Any, x: Tree, *args: Tree) -> bool:
        """Return whether ``h`` may have curvature that is not in ``z`` alone: more than a term ``<x, c>`` in ``x``."""
        return varies(lambda both: jax.grad(self.outer, argnums=1)(*both, *args), (z, x))

    def hessian_block(self, x: Tree, rows: jax.Array, *args: Tree) -> jax.Array:
        """Return the Hessian between some blocks of a vector ``x``: the rows of ``A``, weighted by the curvature."""
        matrix = jnp.asarray(self.matrix(*args))
        some, z = matrix[rows], dot(matrix.T, x)
        if not self.curved(z, x, *args):
            curved = jax.linearize(lambda z: jax.grad(self.outer)(z, x, *args), z)[1]
            return _symmetric_product(jax.vmap(curved)(some), some)
        both = jax.linearize(lambda z, x: jax.grad(self.outer, argnums=(0, 1))(z, x, *args), z, x)[1]
        # a unit vector moves z by a row of A
        through, direct = jax.vmap(both)(some, jax.nn.one_hot(rows, x.size, dtype=x.dtype))
        return dot(through, some.T) + direct[:, rows]

    def rank(self, x: Tree, *args: Tree) -> int:
        """Return a bound on the rank of the Hessian: the number of elements of ``z`` where it comes through them."""
        z = jax.eval_shape(lambda u: dot(self.matrix(*args).T, u), x)
        return x.size if self.curved(z, x, *args) else z.size

    def quadratic(self, size: int, *args: Tree) -> Quadratic:
        """Return the same objective, up to a constant, as a :class:`dini.Quadratic` of ``size`` unknowns.

        Worth its cost, that of a matrix product, where a regression with more samples than coefficients is solved many
        times, along a path of penalties, say.

        Raises
        ------
        ValueError
            If the curvature of ``h`` depends on where it is taken: then the objective is not quadratic.
        """
        matrix = jnp.asarray(self.matrix(*args))
        start = jnp.zeros(size, matrix.dtype)
        both = jnp.zeros(matrix.shape[1], matrix.dtype), start
        gradient = lambda u: jax.grad(self.outer, argnums=(0, 1))(*u, *args)
        if sparsity(lambda u: jax.jvp(gradient, (u,), (jax.tree.map(jnp.ones_like, u),))[1], both).count:
            raise ValueError(f"{self.name} is not quadratic: its curvature depends on the unknown.")
        return Quadratic(self.hessian_block(start, jnp.arange(size), *args), jax.grad(self)(start, *args))
