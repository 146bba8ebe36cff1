"""JAXopt's loop: a while loop with a largest number of rounds, by the kind of loop that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

__all__ = ["while_loop"]


def while_loop(
    cond_fun: Callable[[Any], Any],
    body_fun: Callable[[Any], Any],
    init_val: Any,
    maxiter: Any,
    unroll: bool = False,
    jit: bool = False,
) -> Any:
    """Apply ``body_fun`` while ``cond_fun`` holds, at most ``maxiter`` times.

    With ``jit`` alone it is a loop of XLA's, which reverse mode cannot differentiate. With ``unroll`` it can: then all
    rounds are compiled with their results kept (``jit``), or run one by one in Python (without).

    Raises
    ------
    ValueError
        If neither ``unroll`` nor ``jit`` is asked for.

    Examples
    --------
    >>> import jax
    >>> from dini_jaxopt.loop import while_loop
    >>> power = lambda x: while_loop(lambda v: v < 10.0, lambda v: x * v, 1.0, maxiter=20, unroll=True, jit=True)
    >>> print(power(2.0), jax.grad(power)(2.0))
    16.0 32.0
    """
    if not unroll and not jit:
        raise ValueError("while_loop needs unroll=True or jit=True: given False for both.")
    if unroll and not jit:
        val = init_val
        for _ in range(maxiter):
            if not cond_fun(val):
                break
            val = body_fun(val)
        return val
    if not unroll:
        start = 0, init_val
        running = lambda now: (now[0] < maxiter) & cond_fun(now[1])
        return jax.lax.while_loop(running, lambda now: (now[0] + 1, body_fun(now[1])), start)[1]

    def one(val: Any, _: Any) -> tuple[Any, None]:
        return jax.lax.cond(cond_fun(val), body_fun, lambda same: same, val), None

    return jax.lax.scan(one, init_val, None, length=maxiter)[0]
