"""A solve that stops after a time: in groups of steps, between which the clock is read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from .protocols import AnySolver
from .solution import Solution
from .solvers.shared._resumed import Resumed
from .status import Status
from .trees import Tree


def in_time(
    begin: Callable[[], Any], run: Callable[[Resumed, Tree], Solution], solver: AnySolver, init: Tree, time_limit: float
) -> Solution:
    """Solve in groups of steps, each at most twice as long as the one before and a fraction of what time is left.

    ``begin`` returns the first state; ``run`` takes the steps of one group, from a point, and returns a solution with
    its state.
    """
    start = time.perf_counter()
    state, taken, group = begin(), 0, 1
    while True:
        began = time.perf_counter()
        solution = run(Resumed(solver, state, jnp.asarray(min(group, solver.max_steps - taken), jnp.int32)), init)
        status, steps, error, tol, value, chosen = np.asarray(solution.figures)
        now = time.perf_counter()
        taken, init, state = taken + int(steps), solution.x, solution.state
        if status != Status.MAX_STEPS or taken >= solver.max_steps:
            break
        if now - start >= time_limit:
            status = Status.TIME_LIMIT
            break
        share = 0.5 * (time_limit - (now - start)) / ((now - began) / max(int(steps), 1))
        affordable = int(min(share, solver.max_steps))
        group = max(1, min(2 * group, affordable))
    figures = jnp.asarray([float(status), taken, error, tol, value, chosen], solution.figures.dtype)
    return replace(solution, figures=figures)
