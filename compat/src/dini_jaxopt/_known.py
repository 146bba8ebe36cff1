"""Functions that say of which set or penalty they are, so that solvers know more than a function's values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Mark(NamedTuple):
    """What a function is known as, with the function: a wrapper (``jax.vmap``, ``functools.wraps``) copies the mark."""

    fun: Any
    make: Callable[[Any], Any]


def known(fun: Any, kind: str) -> Callable[[Any], Any] | None:
    """Return ``make`` of a function's own mark, ``"set"`` or ``"penalty"``, else ``None``.

    The mark of another function is none: ``jax.vmap(projection_simplex)`` is onto a product of simplices.
    """
    mark = getattr(fun, kind, None)
    return mark.make if isinstance(mark, Mark) and mark.fun is fun else None


def onto(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Mark a projection ``projection(x, hyperparams)`` as that onto the set ``make(hyperparams)``."""

    def marked(fun: Any) -> Any:
        fun.set = Mark(fun, make)
        return fun

    return marked


def of(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Mark a proximal operator ``prox(x, hyperparams, scaling)`` as that of the penalty ``make(hyperparams)``."""

    def marked(fun: Any) -> Any:
        fun.penalty = Mark(fun, make)
        return fun

    return marked


def or_one(value: Any) -> Any:
    """Return a parameter, one for ``None``."""
    return 1.0 if value is None else value
