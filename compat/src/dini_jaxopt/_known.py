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


def mark(fun: Any, kind: str, make: Callable[[Any], Any]) -> None:
    """Mark a function as that of the set or penalty ``make(hyperparams)``."""
    setattr(fun, kind, Mark(fun, make))


def shows[Function](output: str, *code: str) -> Callable[[Function], Function]:
    """Give a function an example: lines of code, the last of which is an expression that prints the output."""

    def made(fun: Any) -> Any:
        module = fun.__module__.rpartition(".")[2]
        head = ["import jax, jax.numpy as jnp", f"from dini_jaxopt import {module}"]
        lines = [f">>> {line}" for line in (*head, *code[:-1], f"print({code[-1]})")]
        text = "\n".join(["Examples", "--------", *lines, *output.splitlines()])
        indented = text.replace("\n", "\n    ")
        fun.__doc__ = f"{fun.__doc__.rstrip()}\n\n    {indented}\n    "
        return fun

    return made


def or_one(value: Any) -> Any:
    """Return a parameter, one for ``None``."""
    return 1.0 if value is None else value
