"""A derivative in several modes of differentiation: how exact it is, and what it costs in time and memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .measure import Program, Timed, compile_program, side_by_side, take_turns


@dataclass(frozen=True)
class Way(Timed):
    """A derivative in one mode."""

    error: float
    """Relative distance from the truth; NaN if none was given."""
    cosine: float
    """Of the angle to the truth."""
    memory: int
    """Bytes for intermediate results."""
    compile_seconds: float
    times: list[float]
    """Of one derivative in seconds, with those of the other ways in turns."""


def distance(found: Any, truth: Any) -> float:
    """The relative Euclidean distance of two trees of arrays: `‖found − truth‖ / ‖truth‖`."""
    a, b = _flat(found), _flat(truth)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def cosine(found: Any, truth: Any) -> float:
    """The cosine of the angle between two trees of arrays."""
    a, b = _flat(found), _flat(truth)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _flat(tree: Any) -> np.ndarray:
    """All numbers of a tree, in double precision."""
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])


def gradients(value: Callable[[Any, Any], Any], modes: Mapping[str, Any], at: Any) -> dict[str, Program]:
    """Compile the derivative of `value(at, mode)` in `at`, a tree of arrays, in each mode."""
    compiled = side_by_side(lambda mode: compile_program(jax.grad(lambda at: value(at, mode)), at), modes.values())
    return dict(zip(modes, compiled, strict=True))


def compare(
    value: Callable[[Any, Any], Any],
    modes: Mapping[str, Any],
    at: Any,
    *,
    truth: Any = None,
    rounds: int = 20,
    patience: float = math.inf,
) -> dict[str, Way]:
    """Differentiate `value(at, mode)` in `at` in each mode, and measure.

    Parameters
    ----------
    value
        Takes a tree of arrays and a mode to a number; inside, the mode goes to dini's `differentiation=`.
    modes
        What `value` is given, by name.
    at
        Where the derivative is taken.
    truth
        The exact derivative, of the form of `at`, from where it can be had: a closed form, or a precise solution.
        Without it, errors are NaN: see `difference_error` for a check that needs none.
    rounds, patience
        How often each is timed, in turns, as `measure.take_turns` has it.
    """
    programs = gradients(value, modes, at)
    found = {name: program() for name, program in programs.items()}
    times = take_turns(list(programs.values()), rounds, patience)
    return {
        name: Way(
            error=math.nan if truth is None else distance(found[name], truth),
            cosine=math.nan if truth is None else cosine(found[name], truth),
            memory=program.memory,
            compile_seconds=program.seconds,
            times=own,
        )
        for (name, program), own in zip(programs.items(), times, strict=True)
    }


def directions(at: Any, count: int, key: jax.Array) -> list[Any]:
    """So many random directions of norm one, trees of the form of `at`."""
    flat, restore = ravel_pytree(at)
    drawn = jax.random.normal(key, (count, flat.size), flat.dtype)
    return [restore(one / jnp.linalg.norm(one)) for one in drawn]


def difference_error(
    value: Callable[[Any], Any], gradient: Any, at: Any, *, key: jax.Array, count: int = 5, width: float = 1e-6
) -> float:
    """How far a gradient is from central differences of `value` in random directions, relative to them.

    `value` must be compiled, and precise to much less than `width`. The error is `‖slopes of the gradient − central
    differences‖ / ‖central differences‖` over the directions.
    """
    flat, restore = ravel_pytree(at)
    slopes, differences = [], []
    for direction in directions(at, count, key):
        step = ravel_pytree(direction)[0]
        slopes.append(float(jnp.vdot(ravel_pytree(gradient)[0], step)))
        above, below = (float(value(restore(flat + sign * width * step))) for sign in (1, -1))
        differences.append((above - below) / (2 * width))
    return distance(np.array(slopes), np.array(differences))
