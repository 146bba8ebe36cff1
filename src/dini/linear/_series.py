"""Neumann series: the inverse of a map near the identity by products alone."""

from __future__ import annotations

import math
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import require_count, require_positive
from ..trees import Tree
from ._krylov import wrap_linear_solver
from ._protocol import LinearSolver, Matvec, Structure
from ._system import choose


@record
class Series:
    r"""The truncated Neumann series :math:`A^{-1} \approx \lambda \sum_{i<k} (I - \lambda A)^i`, an approximation.

    Its error is :math:`(I - \lambda A)^k A^{-1} b`. It is meant to be one: the residual decides nothing, and only a
    result that is not finite counts as a failure.

    Parameters
    ----------
    terms
        ``k``; ``k - 1`` products.
    damping
        :math:`\lambda`.
    """

    terms: int = field(default=10, metadata={"static": True})
    damping: Any = 1.0

    def __post_init__(self) -> None:
        require_count("Series' terms", self.terms)
        require_positive("Series' damping", self.damping)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the sum and whether it is not finite."""
        del structure

        def body(_: Any, w: Tree) -> Any:
            return trees.axpy(self.damping, trees.sub(b, matvec(w)), w)

        w = jax.lax.fori_loop(1, self.terms, body, trees.scale(self.damping, b))
        return w, ~trees.all_finite(w)

    def accept(self, eps: float) -> float:
        """Return infinity: an approximation is asked for."""
        del eps
        return math.inf


@record
class SeriesFirst:
    """The Neumann series while it converges fast, and another solver where it does not.

    Each term is one product and reduces the residual by the map's contraction factor. The series goes on as long as
    that factor reaches ``rtol`` within ``max_terms``; otherwise ``fallback`` starts anew. Under ``vmap`` a batch in
    which one lane falls back runs both.

    Parameters
    ----------
    fallback
        A linear solver. Default: by size and structure.
    max_terms
        The number of terms with which the series is no longer worth while.
    rtol
        Relative residual, a number or a scalar array; default ``eps**0.65``. It is used between that and
        ``eps**0.375``.
    """

    fallback: Any = None
    max_terms: int = field(default=60, metadata={"static": True})
    rtol: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fallback", wrap_linear_solver(self.fallback))
        require_count("SeriesFirst's max_terms", self.max_terms)
        require_positive("SeriesFirst's rtol", self.rtol, or_zero=True)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether the solver that gave it knows that it failed."""
        fallback: LinearSolver = choose(self.fallback, trees.size(b), structure, None)[0]
        w, residual, _ = self.series(matvec, b)
        return jax.lax.cond(
            residual <= self.tolerance(b),
            lambda b: (w, jnp.asarray(False)),
            lambda b: fallback(matvec, b, structure),
            b,
        )

    def tolerance(self, b: Any) -> Any:
        """Return the relative residual that ends the series."""
        tight, loose = trees.eps(b) ** 0.65, trees.eps(b) ** 0.375
        return tight if self.rtol is None else jnp.clip(self.rtol, tight, loose)

    def series(self, matvec: Matvec, b: Any) -> tuple[Any, jax.Array, jax.Array]:
        """Return the sum, its relative residual and the number of terms."""
        rtol, start = self.tolerance(b), trees.norm(b)
        # after the first terms, which may say little, the residual must fall fast enough to arrive in time
        rate = rtol ** (1 / self.max_terms)

        def going(carry: Any) -> jax.Array:
            _, _, relative, k = carry
            return (relative > rtol) & (k < self.max_terms) & ((k < 8) | (relative <= 10 * rate**k))

        def body(carry: Any) -> Any:
            w, r, _, k = carry
            w = trees.add(w, r)
            r = trees.sub(r, matvec(r))
            return w, r, trees.norm(r) / jnp.where(start > 0, start, 1), k + 1

        one = jnp.where(start > 0, 1, 0).astype(start.dtype)
        w, _, relative, k = jax.lax.while_loop(going, body, (trees.zeros_like(b), b, one, 0))
        return w, relative, k

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return 100 * eps**0.65 if self.rtol is None else 2 * eps**0.375
