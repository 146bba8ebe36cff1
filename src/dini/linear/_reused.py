"""What a solver has left behind, used for the linear system of the derivative."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..trees import Tree
from ._cg import CG
from ._dense import lost_pivots
from ._materialize import materialize
from ._preconditioner import Preconditioner
from ._protocol import Matvec, Structure

#: with how many products a factor is tested
_PRODUCTS = 4


@record
class ReusedCholesky:
    r"""Conjugate gradients preconditioned by a Cholesky factor of the matrix at a nearby point.

    Where Newton's method has converged, its last factor leaves an error of the size of its last step, so that two or
    three products take the place of assembling and factorizing a matrix. Where there is no factor, it is made.

    The factor is believed where it is near: a few products estimate the spectral radius of :math:`I - (L L^\top)^{-1}
    A`, which is below one where ``A`` is as definite as the factor's own matrix. So a Hessian that is singular or
    indefinite at the solution itself is factorized there, and seen.

    Parameters
    ----------
    factor
        Lower triangular, of shape ``(d, d)``.
    known
        Whether it is one of a positive definite matrix.
    """

    factor: Any
    known: Any

    def prepared(self, matvec: Matvec, like: Tree) -> ReusedCholesky:
        """Return the solver with its factor made where there was none."""
        factor = jax.lax.cond(
            self.known & self._near(matvec, like),
            lambda: self.factor,
            lambda: jax.lax.linalg.cholesky(materialize(matvec, like)[0], symmetrize_input=False),
        )
        return dataclasses.replace(self, factor=factor, known=jnp.ones((), bool))

    def _near(self, matvec: Matvec, like: Tree) -> jax.Array:
        """Return whether the map differs little from the factor's matrix, relative to that, by power iteration."""

        def step(_: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            p, size = carry
            p = trees.scale(jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0), p)
            p = trees.sub(p, _apply(self.factor, matvec(p)))
            return p, trees.norm(p)

        # a loop, which compiles one product
        start = trees.varied(like)
        return jax.lax.fori_loop(0, _PRODUCTS, step, (start, trees.norm(start)))[1] < 0.5

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether the matrix looks singular."""
        # the last digits need not be reachable: refinement stops there, and the true residual decides
        cg = CG(trees.eps(b) ** 0.75, 30, Preconditioner(jax.tree_util.Partial(_apply, self.factor)))
        w, failed = cg(matvec, b, structure)
        return w, failed | lost_pivots(self.factor, jnp.sum(jnp.square(self.factor), axis=1))

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375


def _apply(factor: jax.Array, r: Any) -> Any:
    flat, unravel = jax.flatten_util.ravel_pytree(r)
    w = jax.scipy.linalg.cho_solve((factor, True), flat.astype(factor.dtype), check_finite=False)
    return unravel(w.astype(flat.dtype))
