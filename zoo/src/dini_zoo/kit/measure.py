"""Time and memory of compiled programs."""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax

import dini


class Timed:
    """What has been timed several times, in seconds."""

    times: list[float]

    @property
    def fastest(self) -> float:
        """The shortest time: the one with the least disturbance in it."""
        return min(self.times)

    @property
    def median(self) -> float:
        """The median of the times."""
        return statistics.median(self.times)


@dataclass(frozen=True)
class Program:
    """A compiled function with its arguments."""

    compiled: Any
    arguments: tuple[Any, ...]
    seconds: float = 0.0
    """What tracing and compiling took."""

    @property
    def memory(self) -> int:
        """The bytes that the program allocates for intermediate results."""
        return self.compiled.memory_analysis().temp_size_in_bytes

    def __call__(self) -> Any:
        """Run it to its end."""
        return jax.block_until_ready(self.compiled(*self.arguments))

    def at(self, *arguments: Any) -> Any:
        """Run it for other arguments of the same shapes."""
        return self.compiled(*arguments)

    def run_and_listen(self) -> tuple[Any, list[str]]:
        """Run it to its end, and return its result with what dini warned of."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", dini.SolveWarning)
            result = self()
        return result, [str(warning.message) for warning in caught]


def compile_program(fun: Callable[..., Any], *arguments: Any) -> Program:
    """Compile a function for its arguments."""
    start = time.perf_counter()
    compiled = jax.jit(fun).lower(*arguments).compile()
    return Program(compiled, arguments, time.perf_counter() - start)


def side_by_side[A, B](fun: Callable[[A], B], arguments: Iterable[A]) -> list[B]:
    """Call a function for each argument, two at a time: to compile leaves a second core idle, as small programs do."""
    double = jax.config.read("jax_enable_x64")

    def call(argument: A) -> B:
        with jax.enable_x64(double):  # a setting of the thread
            return fun(argument)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(call, arguments))


def take_turns(programs: Sequence[Program], rounds: int, patience: float = math.inf) -> list[list[float]]:
    """The times of each program in seconds.

    The programs take turns, so that a disturbance of the machine hits all of them alike. There are `rounds` turns, or
    as many as begin within `patience` seconds.
    """
    times: list[list[float]] = [[] for _ in programs]
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dini.SolveWarning)
        for turn in range(rounds):
            if turn and time.perf_counter() - begin > patience:
                break
            for program, own in zip(programs, times, strict=True):
                start = time.perf_counter()
                program()
                own.append(time.perf_counter() - start)
    return times


def fastest(programs: Sequence[Program], rounds: int, patience: float = math.inf) -> list[float]:
    """The shortest of the times that `take_turns` measures: the one with the least disturbance in it."""
    return [min(own) for own in take_turns(programs, rounds, patience)]
