"""Compilation of dini's own programs: outside of traces at a level of optimization that takes less time."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import jax

from .. import xla
from .traces import untraced

#: the level at which LLVM optimizes programs for a CPU: XLA's default is 3. At 1 the large programs of solves compile
#: in 60 to 86 % of the time, and BFGS and L-BFGS run as fast, Newton's method of 100 unknowns a fifth slower (place
#: `level` of `benchmarks/xla.py`); at 0 they compile in a quarter, and run 4 to 5 times slower
_FLAG, _LEVEL = "xla_backend_optimization_level", 1


def compiled(function: Callable[..., Any], static_argnums: int | tuple[int, ...] = ()) -> Callable[..., Any]:
    """Return a function compiled by ``jax.jit``: outside of all traces, on a CPU, at a lower level of optimization.

    Inside of a trace the options are those of the program that is traced. A level that the user has set, by `XLA_FLAGS`
    or by `jax_disable_most_optimizations`, is kept.
    """
    traced: Any = jax.jit(function, static_argnums=static_argnums)
    called: Any = jax.jit(function, static_argnums=static_argnums, compiler_options={_FLAG: _LEVEL})

    @wraps(function)
    def run(*given: Any, **named: Any) -> Any:
        return (called if untraced() and _lower() else traced)(*given, **named)

    vars(run)["_cache_size"] = lambda: traced._cache_size() + called._cache_size()
    return run


def _lower() -> bool:
    """Return whether programs are for a CPU, and no other level has been set."""
    set_already = jax.config.read("jax_disable_most_optimizations") or _FLAG in os.environ.get("XLA_FLAGS", "")
    return jax.default_backend() == "cpu" and not set_already and not xla.plain("level")
