"""The types that linear solvers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import jax

Matvec = Callable[[Any], Any]
#: What is known of a linear map; ``None`` is a general square map.
Structure = Literal["symmetric", "positive definite"] | None


class LinearSolver(Protocol):
    """Solves ``matvec(w) = b`` for a pytree ``w``.

    Used for a map and, with its transposed products, for the transpose. More methods are used where they exist:
    ``prepared(matvec, like)`` returns the solver with what it finds out about a map while that is traced,
    ``transposed()`` the solver for the transposed system, ``modified(matvec)`` another map and its solver that are to
    be used in place of this one, ``relative(left, b, w)`` the size of a residual, and ``closed(like)`` the solver with
    all that it closes over as leaves.
    """

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return ``w`` and whether the solver knows that it failed."""
        ...

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which ``w`` is believed, for a unit roundoff ``eps``."""
        ...
