"""What a solver has left behind, used for the linear system of the derivative."""

from __future__ import annotations

from typing import Any, Protocol, Self

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


class LastFactor(Protocol):
    """What :class:`Reused` needs of a factor."""

    def apply(self, r: Tree) -> Tree:
        """Return the solution of the factorized system."""
        ...

    def renewed(self, matvec: Matvec, like: Tree) -> Self:
        """Return the factor of another matrix."""
        ...

    def lost(self, b: Tree) -> jax.Array:
        """Return whether the matrix was singular to working precision."""
        ...


@record
class CholeskyFactor:
    """The Cholesky factor of a matrix: lower triangular, of shape ``(d, d)``."""

    lower: Any

    def apply(self, r: Tree) -> Tree:
        """Return the solution of the factorized system."""
        flat, unravel = jax.flatten_util.ravel_pytree(r)
        w = jax.scipy.linalg.cho_solve((self.lower, True), flat.astype(self.lower.dtype), check_finite=False)
        return unravel(w.astype(flat.dtype))

    def renewed(self, matvec: Matvec, like: Tree) -> CholeskyFactor:
        """Return the factor of another matrix."""
        return CholeskyFactor(jax.lax.linalg.cholesky(materialize(matvec, like)[0], symmetrize_input=False))

    def lost(self, b: Tree) -> jax.Array:
        """Return whether the matrix was singular to working precision."""
        del b
        return lost_pivots(self.lower, jnp.sum(jnp.square(self.lower), axis=1))


@record
class SparseFactor:
    """The nonzeros of a sparse matrix, whose factor the host remembers, or a band's is made again.

    Parameters
    ----------
    values
        The nonzeros in the order of the solver's pattern.
    solver
        A :class:`Sparse` or :class:`SparseDirect` that works by them.
    """

    values: Any
    solver: Any

    def apply(self, r: Tree) -> Tree:
        """Return the solution of the factorized system."""
        return self.solver.with_nonzeros(self.values, r, "positive definite")[0]

    def renewed(self, matvec: Matvec, like: Tree) -> SparseFactor:
        """Return the factor of another matrix with the same pattern."""
        return SparseFactor(self.solver.pattern.values(matvec, like), self.solver)

    def lost(self, b: Tree) -> jax.Array:
        """Return whether the matrix was singular to working precision."""
        return self.solver.with_nonzeros(self.values, b, "positive definite")[1]


@record
class Reused:
    r"""Conjugate gradients preconditioned by the factor of the matrix at a nearby point.

    Where Newton's method has converged, its last factor leaves an error of the size of its last step, so that two or
    three products take the place of assembling and factorizing a matrix. Where there is no factor, it is made.

    The factor is believed where it is near: a few products estimate the spectral radius of :math:`I - (L L^\top)^{-1}
    A`, which is below one where ``A`` is as definite as the factor's own matrix. So a Hessian that is singular or
    indefinite at the solution itself is factorized there, and seen.

    Parameters
    ----------
    factor
        A :class:`LastFactor`.
    known
        Whether it is one of a positive definite matrix.
    """

    factor: Any
    known: Any

    def prepared(self, matvec: Matvec, like: Tree) -> Reused:
        """Return the solver with its factor made where there was none."""
        usable = self.known & self._near(matvec, like)
        factor = jax.lax.cond(usable, lambda: self.factor, lambda: self.factor.renewed(matvec, like))
        return Reused(factor, jnp.ones((), bool))

    def _near(self, matvec: Matvec, like: Tree) -> jax.Array:
        """Return whether the map differs little from the factor's matrix, relative to that, by power iteration."""

        def step(_: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            p, size = carry
            p = trees.scale(jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0), p)
            p = trees.sub(p, self.factor.apply(matvec(p)))
            return p, trees.norm(p)

        # a loop, which compiles one product
        start = trees.varied(like)
        return jax.lax.fori_loop(0, _PRODUCTS, step, (start, trees.norm(start)))[1] < 0.5

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether the matrix looks singular."""
        # the last digits need not be reachable: refinement stops there, and the true residual decides
        apply = jax.tree_util.Partial(lambda factor, r: factor.apply(r), self.factor)
        w, failed = CG(trees.eps(b) ** 0.75, 30, Preconditioner(apply))(matvec, b, structure)
        return w, failed | self.factor.lost(b)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375
