"""What is written for XLA's sake, and not for the mathematics: the results are the same without it, up to rounding.

Four facts on a CPU stand behind it (each was found with `perf` and in the optimized programs):

* XLA fuses what is cheap into each loop that uses it, and computes it again there, element by element. What
  :func:`once` has seen is computed once.
* Where threads share a core, two passes over large data at a time, or two products with small matrices, wait for each
  other. :func:`after` says which comes first.
* A loop that calls a library (LAPACK) runs operation by operation, and a batch calls it for each of its members. Small
  systems are eliminated by hand, up to a size that :func:`up_to` gives.
* A program that cannot call back is handed to another thread, which costs a small solve half of its time: see
  :func:`in_this_thread`.

`benchmarks/xla.py` shows the gain of each place; one that gains less than a tenth everywhere is removed. The
environment variable `DINI_PLAIN` turns places off by their names, separated by commas, or all of them
(`DINI_PLAIN=all`): what is wrong there as well is not XLA's or this module's fault.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

_PLAIN = frozenset(filter(None, os.environ.get("DINI_PLAIN", "").split(",")))


def plain(place: str) -> bool:
    """Return whether a place is turned off."""
    return place in _PLAIN or "all" in _PLAIN


def once[Values](values: Values, place: str) -> Values:
    """Return values that are computed once, however many loops use them."""
    return values if plain(place) else jax.lax.optimization_barrier(values)


def after[Values](values: Values, earlier: Any, place: str) -> Values:
    """Return values of which nothing is computed before ``earlier`` is."""
    return values if plain(place) else jax.lax.optimization_barrier((values, earlier))[0]


def up_to(size: int, place: str) -> int:
    """Return the size of the largest systems that are eliminated by hand."""
    return 0 if plain(place) else size


@cache
def never() -> jax.Array | None:
    """Return false, where XLA cannot know it."""
    if plain("thread"):
        return None
    with jax.core.eval_context():
        return jnp.zeros((), bool)


def in_this_thread(figures: jax.Array, never: jax.Array | None) -> jax.Array:
    """Return the figures, and make the program one that runs in the thread that asks for it, where ``never`` is given.

    It is for callers who wait for the end, outside of all traces; the call never happens.
    """
    if never is None or jax.default_backend() != "cpu":
        return figures

    def by_host(figures: jax.Array) -> jax.Array:
        return jax.pure_callback(np.asarray, figures, figures, vmap_method="broadcast_all")

    return jax.lax.cond(never, by_host, lambda same: same, jax.lax.stop_gradient(figures))
