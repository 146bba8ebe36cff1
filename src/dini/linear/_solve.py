"""The one linear solve behind every derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from .. import trees
from ..status import DerivativeError, OnFailure, Status, guard
from ._dense import Dense
from ._krylov import CG, GMRES, as_linear_solver
from ._protocol import LinearSolver, Matvec, Structure

__all__ = ["DENSE_LIMIT", "Auto", "LinearSolver", "Reduction", "Structure", "solve"]

#: Unknowns of up to this many real numbers are factorized densely by default (measured: benchmarks/dense_limit.py).
DENSE_LIMIT = 512


class Reduction(NamedTuple):
    """A positive semidefinite system that stands for a nonsymmetric one.

    ``A w = b`` is solved by ``S v = restrict(b)`` and ``w = extend(v, b)``; the transposed system likewise with the
    last two functions. All maps are linear.
    """

    matvec: Matvec
    restrict: Callable[[Any], Any]
    extend: Callable[[Any, Any], Any]
    restrict_transposed: Callable[[Any], Any]
    extend_transposed: Callable[[Any, Any], Any]


@register_dataclass
@dataclass(frozen=True)
class Auto:
    """Choose by size and structure.

    Up to ``dense_limit`` unknowns: :class:`Dense`. Above: :class:`CG` where the map is positive definite or has a
    positive semidefinite reduction (proximal fixed points do), :class:`GMRES` for everything else. The normal
    equations, which square the condition number, are never formed.
    """

    dense_limit: int = field(default=DENSE_LIMIT, metadata={"static": True})

    def choose(self, size: int, structure: Structure) -> LinearSolver:
        """Return the solver for a map of this size and structure."""
        if size <= self.dense_limit:
            return Dense()
        return CG() if structure == "positive definite" else GMRES()


def solve(
    matvec: Matvec,
    b: Any,
    *,
    structure: Structure = None,
    reduction: Reduction | None = None,
    solver: Any = None,
    on_failure: OnFailure = "raise",
    name: str = "linear system",
) -> Any:
    r"""Solve ``matvec(w) = b`` for a pytree ``w``; differentiable, transposable, batched by ``vmap``.

    The right-hand side is scaled to unit size before the solve, so that a cotangent of ``1e-22`` in float32 is not
    lost. Afterwards the true residual :math:`\|Aw - b\| / \|b\|` is computed and, with what the solver itself found,
    decides whether the answer is believed; if not, ``on_failure`` says what happens.

    Parameters
    ----------
    matvec
        A linear function from trees like ``b`` to trees like ``b``.
    b
        Right-hand side, a pytree of real arrays.
    structure
        What is known of the map.
    reduction
        A positive semidefinite stand-in, used by Krylov methods.
    solver
        One of :mod:`dini.linear`, a Lineax solver or a function ``solve(matvec, b)``. Default: :class:`Auto`.
    on_failure
        ``"raise"``, ``"warn"``, ``"nan"`` or ``"ignore"``, see :func:`dini.status.guard`.
    name
        What the system belongs to, for messages.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.linear import solve
    >>> A = jnp.array([[2.0, 1.0], [0.0, 4.0]])
    >>> solve(lambda w: A @ w, jnp.array([3.0, 4.0]))
    Array([1., 1.], dtype=float32)
    """
    chosen = Auto() if solver is None else as_linear_solver(solver)
    if isinstance(chosen, Auto):
        size = trees.size(b)
        reducible = reduction is not None and size > chosen.dense_limit
        chosen = chosen.choose(size, "positive definite" if reducible else structure)
    # a direct solver takes the map as it is; of the Krylov methods, CG needs the reduction
    reduced = reduction if isinstance(chosen, CG) and structure != "positive definite" else None
    accept = chosen.accept(trees.eps(b))
    method = type(chosen).__name__
    no_minimum = " or not positive definite (no minimum)" if structure == "positive definite" else ""

    def report(figures: Any) -> DerivativeError:
        residual, singular = figures
        cause = "it did not reach its tolerance"
        if singular:
            cause = f"its matrix is singular to working precision{no_minimum}"
        return DerivativeError(
            f"The linear system of the derivative of {name} was not solved: {cause} "
            f"(method {method}, relative residual {float(residual):.2e}, accepted up to {accept:.1e}). "
            "The solution may not be unique or may not depend smoothly on the parameters there. Add a small "
            "regularization to the problem, compute in float64, choose another `linear_solver`, or, if a "
            'derivative that may be wrong is acceptable, pass on_failure="ignore".',
            Status.SINGULAR,
        )

    def run(transposed: bool) -> Callable[[Matvec, Any], Any]:
        def go(mv: Matvec, rhs: Any) -> Any:
            # to unit norm, in two steps: the square of a small number underflows
            top = trees.max_abs(rhs)
            unit = jnp.where(top > 0, top, 1)
            rhs = trees.scale(1 / unit, rhs)
            size = trees.norm(rhs)
            size = jnp.where(size > 0, size, 1)
            rhs = trees.scale(1 / size, rhs)
            product = mv
            if isinstance(chosen, Dense):
                # the residual by the matrix that is there: the same to rounding, and nothing more to compile
                factor = chosen.factorize(mv, rhs, structure)
                w, flagged, product = factor.solve(rhs), factor.singular, factor.product
            elif reduced is None:
                w, flagged = chosen(mv, rhs, structure)
            else:
                restrict = reduced.restrict_transposed if transposed else reduced.restrict
                extend = reduced.extend_transposed if transposed else reduced.extend
                v, flagged = chosen(reduced.matvec, restrict(rhs), "positive definite")
                w = extend(v, rhs)
            residual = trees.norm(trees.sub(product(w), rhs))
            failed = flagged | ~(residual <= accept)
            if transposed:
                # a zero cotangent (of a lane that a loss does not use, say) has the solution zero, whatever the matrix
                failed = (failed & (top != 0)) | ~jnp.isfinite(residual)
            w = trees.scale(size, trees.scale(unit, w))
            return guard(w, failed, report, (jnp.stack([residual, flagged.astype(residual.dtype)]),), on_failure)

        return go

    symmetric = structure is not None
    return jax.lax.custom_linear_solve(matvec, b, run(False), run(True), symmetric=symmetric)
