"""JAXopt's branch that need not be compiled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax

__all__ = ["cond"]


def cond(cond: Any, if_fun: Callable[..., Any], else_fun: Callable[..., Any], *operands: Any, jit: bool = True) -> Any:
    """Return ``if_fun(*operands)`` where ``cond`` holds, else ``else_fun(*operands)``; uncompiled without ``jit``.

    Examples
    --------
    >>> from dini_jaxopt.cond import cond
    >>> print(cond(True, lambda x: x + 1.0, lambda x: x - 1.0, 1.0, jit=False))
    2.0
    """
    with nullcontext() if jit else jax.disable_jit():
        return jax.lax.cond(cond, if_fun, else_fun, *operands)
