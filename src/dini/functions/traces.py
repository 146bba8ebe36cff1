"""Where JAX is: outside of all traces, where values are known and a program may be called, or inside of one."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.core
import jax.extend.core


def _state() -> Any:
    return jax.extend.core.get_opaque_trace_state()


@cache
def _outside() -> Any:
    with jax.core.eval_context():
        return _state()


def untraced() -> bool:
    """Return whether JAX is outside of all traces."""
    return _state() == _outside()
