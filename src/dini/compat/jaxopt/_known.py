"""Functions that say of which set or penalty they are, so that solvers know more than a function's values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def onto(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Mark a projection ``projection(x, hyperparams)`` as that onto the set ``make(hyperparams)``."""

    def marked(fun: Any) -> Any:
        fun.set = make
        return fun

    return marked


def of(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Mark a proximal operator ``prox(x, hyperparams, scaling)`` as that of the penalty ``make(hyperparams)``."""

    def marked(fun: Any) -> Any:
        fun.penalty = make
        return fun

    return marked


def or_one(value: Any) -> Any:
    """Return a parameter, one for ``None``."""
    return 1.0 if value is None else value
