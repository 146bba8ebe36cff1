"""Krylov methods by JAXopt's names of their settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dini import linear
from dini.extend import trees

Matvec = Callable[[Any], Any]


def shifted(matvec: Matvec, ridge: Any) -> Matvec:
    """Return the map with ``ridge`` times the identity added."""
    return matvec if ridge is None else lambda v: trees.axpy(ridge, v, matvec(v))


def iterative(
    method: Any, matvec: Matvec, b: trees.Tree, ridge: Any, name: str, structure: Any = None, **settings: Any
) -> Any:
    """Solve by a Krylov method; JAX's names for its settings are turned into dini's."""
    atol, tol = settings.pop("atol", 0.0), settings.pop("tol", None)
    renamed = (("x0", "init"), ("max_steps", "maxiter"), ("preconditioner", "M"))
    settings = {ours: settings.pop(theirs, None) for ours, theirs in renamed} | settings
    # dini's tolerance is relative; without one the default asks for at least what an absolute one could
    solver = method(rtol=None if tol is None or (not tol and atol) else float(tol), **settings)
    how: dict[str, Any] = {"structure": structure, "solver": solver, "on_failure": "warn", "name": name}
    return linear.solve(shifted(matvec, ridge), trees.inexact(b), **how)


def gmres(matvec: Matvec, b: trees.Tree, ridge: Any = None, init: Any = None, tol: float = 1e-5, **kwargs: Any) -> Any:
    """Solve by restarted GMRES."""
    kwargs.pop("solve_method", None)
    return iterative(linear.GMRES, matvec, b, ridge, "solve_gmres", init=init, tol=tol, **kwargs)
