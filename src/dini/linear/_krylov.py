"""Matrix-free solvers: thin settings around Lineax's Krylov methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import lineax as lx
from jax.tree_util import register_dataclass

from .. import trees
from ._protocol import Matvec, Structure

_TAGS = {
    None: (),
    "symmetric": lx.symmetric_tag,
    "positive definite": (lx.symmetric_tag, lx.positive_semidefinite_tag),
}


def _tolerances(rtol: float) -> dict[str, Any]:
    # The caller scales the right-hand side to unit norm, so that an absolute tolerance is a relative one. Lineax
    # measures each element on its own scale, which without an absolute part is zero for a zero right-hand side.
    return {"rtol": rtol, "atol": rtol, "norm": trees.norm}


def _run(solver: Any, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
    operator = lx.FunctionLinearOperator(matvec, jax.eval_shape(lambda: b), _TAGS[structure])
    # the caller computes the true residual; Lineax's own flag would only repeat its recurrence's opinion
    solution = lx.linear_solve(operator, b, solver, throw=False)
    return solution.value, ~trees.all_finite(solution.value)


def _default_rtol(b: Any) -> float:
    # three quarters of the digits: the rest is lost to rounding in long recurrences
    return trees.eps(b) ** 0.65


@register_dataclass
@dataclass(frozen=True)
class CG:
    """Conjugate gradients, for positive definite maps. ``rtol`` (relative residual) defaults to ``eps**0.65``."""

    rtol: float | None = field(default=None, metadata={"static": True})
    max_steps: int | None = field(default=None, metadata={"static": True})

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether it is finite; refuses a map that is not declared positive definite."""
        if structure != "positive definite":
            raise ValueError(
                f"CG needs a positive definite linear map; this condition declares {structure or 'no structure'}. "
                "Use GMRES(), BiCGStab() or Dense(), or a condition with a positive definite derivative."
            )
        rtol = _default_rtol(b) if self.rtol is None else self.rtol
        steps = 10 * trees.size(b) + 100 if self.max_steps is None else self.max_steps
        return _run(lx.CG(**_tolerances(rtol), max_steps=steps), matvec, b, structure)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return 100 * (eps**0.65 if self.rtol is None else self.rtol)


@register_dataclass
@dataclass(frozen=True)
class GMRES:
    """Restarted GMRES, for general maps. ``rtol`` (relative residual) defaults to ``eps**0.65``."""

    rtol: float | None = field(default=None, metadata={"static": True})
    restart: int = field(default=30, metadata={"static": True})
    max_steps: int | None = field(default=None, metadata={"static": True})

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether it is finite."""
        rtol = _default_rtol(b) if self.rtol is None else self.rtol
        size = trees.size(b)
        steps = 10 * size + 100 if self.max_steps is None else self.max_steps
        restart = min(self.restart, size)
        return _run(lx.GMRES(**_tolerances(rtol), max_steps=steps, restart=restart), matvec, b, structure)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return 100 * (eps**0.65 if self.rtol is None else self.rtol)


@register_dataclass
@dataclass(frozen=True)
class BiCGStab:
    """BiCGStab, for general maps in short memory. ``rtol`` (relative residual) defaults to ``eps**0.65``."""

    rtol: float | None = field(default=None, metadata={"static": True})
    max_steps: int | None = field(default=None, metadata={"static": True})

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether it is finite."""
        rtol = _default_rtol(b) if self.rtol is None else self.rtol
        steps = 10 * trees.size(b) + 100 if self.max_steps is None else self.max_steps
        return _run(lx.BiCGStab(**_tolerances(rtol), max_steps=steps), matvec, b, structure)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return 100 * (eps**0.65 if self.rtol is None else self.rtol)


@register_dataclass
@dataclass(frozen=True)
class Lineax:
    """Any solver of Lineax, as it is. Its relative tolerance, where it has one, decides what is believed."""

    solver: Any = field(metadata={"static": True})

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether it is finite."""
        return _run(self.solver, matvec, b, structure)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        rtol = getattr(self.solver, "rtol", None)
        return eps**0.375 if rtol is None else 100 * float(rtol)


@register_dataclass
@dataclass(frozen=True)
class Function:
    """A user's own ``solve(matvec, b) -> w``; it gets the transposed products for the transposed system."""

    solve: Any

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether it is finite."""
        del structure
        w = self.solve(matvec, b)
        trees.require_same("The solution of the user's linear solver", w, b, "the right-hand side")
        return w, ~trees.all_finite(w)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375


def as_linear_solver(solver: Any) -> Any:
    """Return a dini linear solver for one of dini's, one of Lineax's or a plain ``solve(matvec, b)``."""
    if hasattr(solver, "accept") or hasattr(solver, "choose"):
        return solver
    if isinstance(solver, lx.AbstractLinearSolver):
        return Lineax(solver)
    if callable(solver):
        return Function(jax.tree_util.Partial(solver))
    raise TypeError(
        f"linear_solver must be one of dini.linear's, a Lineax solver or a function solve(matvec, b): given {solver!r}."
    )


def wrap_linear_solver(solver: Any) -> Any:
    """Return a setting of a frozen pytree as a linear solver; what JAX puts there while it rebuilds trees passes."""
    usable = callable(solver) or isinstance(solver, lx.AbstractLinearSolver | str)
    return as_linear_solver(solver) if usable else solver
