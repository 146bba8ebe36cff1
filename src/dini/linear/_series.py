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
from ._krylov import wrap_linear_solver
from ._protocol import LinearSolver, Matvec, Structure
from ._system import choose

#: growth of the terms up to which a series is taken for one that is merely cut off
_GROWTH = 2.0


@record
class Series:
    r"""The truncated Neumann series :math:`A^{-1} \approx \lambda \sum_{i<k} (I - \lambda A)^i`, an approximation.

    Its error is :math:`(I - \lambda A)^k A^{-1} b`. It is meant to be one: how small the residual is decides nothing.
    What counts as a failure is a series that diverges, so that the sum is of the size of its last term and has nothing
    to do with the inverse, and a result that is not finite. It diverges where the terms :math:`r_i = (I - \lambda A)^i
    b` have grown to twice ``b``, or have grown at all by steps that are too long, :math:`\|\lambda A r_{k-2}\| > 2
    \|r_{k-2}\|`: then :math:`\lambda` is more than two over a curvature. (A little growth without that is of a
    slightly negative curvature, and harmless in a few terms.)

    Parameters
    ----------
    terms
        ``k``; ``k - 1`` products. One term is :math:`\lambda b` and never diverges.
    damping
        :math:`\lambda`; less than two over the largest eigenvalue of a symmetric map.
    """

    terms: int = field(default=10, metadata={"static": True})
    damping: Any = 1.0

    def __post_init__(self) -> None:
        require_count("Series' terms", self.terms)
        require_positive("Series' damping", self.damping)

    @property
    def singular(self) -> str:
        """The message about the map where the series fails."""
        return (
            f"not suited to a series of {self.terms} terms, which diverges: the damping must be less than two over the "
            "largest eigenvalue, and no eigenvalue may be negative (for a fixed point, the map must contract)"
        )

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the sum and whether the series diverges."""
        del structure

        def body(_: Any, carry: Any) -> Any:
            w, last, _ = carry
            r = trees.sub(b, matvec(w))
            return trees.axpy(self.damping, r, w), r, last

        w, last, before = jax.lax.fori_loop(1, self.terms, body, (trees.scale(self.damping, b), b, b))
        length, size = trees.norm(last), trees.norm(b)
        overshot = (length > size) & (trees.norm(trees.sub(before, last)) > 2 * trees.norm(before))
        return w, (length > _GROWTH * size) | overshot | ~trees.all_finite(w)

    def accept(self, eps: float) -> float:
        """Return infinity: an approximation is asked for."""
        del eps
        return math.inf


@record
class SeriesFirst:
    """The Neumann series while it converges fast, and another solver where it does not.

    Each term is one product and reduces the residual by the map's contraction factor. The series continues as long as
    that factor reaches ``rtol`` within ``max_terms``; otherwise ``fallback`` starts from zero. Under ``vmap`` a batch
    in which one lane falls back runs both.

    Parameters
    ----------
    fallback
        A linear solver. Default: by size and structure.
    max_terms
        The number of terms with which the series is no longer worthwhile.
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
