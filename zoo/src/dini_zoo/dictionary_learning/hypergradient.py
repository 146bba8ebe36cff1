"""What the derivative of the loss in the dictionary is worth, and what it costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

import dini

from ..measure import Program, Timed, compile_program, take_turns
from .coding import SparseCoding
from .data import Cohort
from .task import Params, bounded, loss

Atoms = Float[np.ndarray, "k p"]


@dataclass(frozen=True)
class Precision:
    """The derivative against central differences, at one dictionary."""

    scale: float
    """The norm of the atoms."""
    error: float
    """Relative distance of its slopes in random directions from central differences."""
    few_steps: float
    """Relative distance of the derivative at codes of few steps of FISTA."""
    margin: float
    """How far the nearest entry of a code is from where its support changes, in units of the threshold."""


@dataclass(frozen=True)
class Way(Timed):
    """One way to differentiate the loss in the dictionary, weights and intercept."""

    memory: int
    """Bytes for intermediate results."""
    distance: float
    """Relative distance of the derivative from the implicit one."""
    times: list[float]
    """In seconds; the ways take turns."""


def precision(
    params: Params, cohort: Cohort, coding: SparseCoding, decay: float, *, exact: int, step: float, directions: int
) -> list[Precision]:
    """Compare at atoms shorter and longer than one, where the bound on their norms is smooth.

    `exact` is the number of FISTA's steps for the codes, `step` that of the central differences, in `directions`
    random directions of unit norm.
    """
    precise = dataclasses.replace(coding, steps=exact)
    cohort = jax.device_put(cohort)

    def at(coding: SparseCoding) -> Callable[[Any], Any]:
        return lambda D: loss(params._replace(D=D), cohort, coding, decay)

    D = np.asarray(params.D)
    value = compile_program(at(precise), D)
    slope, rough = (compile_program(jax.grad(at(one)), D) for one in (precise, coding))
    random, found = np.random.RandomState(0), []
    for scale in (0.9, 1.1):
        E = scale * D / np.linalg.norm(D, axis=1, keepdims=True)
        derivative = np.asarray(slope.at(E))
        pairs = []
        for _ in range(directions):
            V = random.randn(*E.shape)
            V /= np.linalg.norm(V)
            central = (float(value.at(E + step * V)) - float(value.at(E - step * V))) / (2 * step)
            pairs.append((float(np.vdot(derivative, V)), central))
        slopes, centrals = np.array(pairs).T
        found.append(
            Precision(
                scale,
                _distance(slopes, centrals),
                _distance(np.asarray(rough.at(E)), derivative),
                _margin(E, cohort, precise),
            )
        )
    return found


def costs(params: Params, cohort: Cohort, coding: SparseCoding, decay: float, rounds: int) -> dict[str, Way]:
    """Compile, run and time the derivative, implicit and unrolled."""
    modes: dict[str, dini.Differentiation] = {
        "implicit": dini.Implicit(),
        "unrolled": dini.Unrolled(steps=coding.steps, checkpoint=False),
        "unrolled, checkpoints": dini.Unrolled(steps=coding.steps),
    }
    cohort = jax.device_put(cohort)

    def program(mode: dini.Differentiation) -> Program:
        return compile_program(jax.grad(lambda params: loss(params, cohort, coding, decay, mode)), params)

    programs = {name: program(mode) for name, mode in modes.items()}
    derivatives = {name: np.asarray(program().D) for name, program in programs.items()}
    times = take_turns(list(programs.values()), rounds)
    return {
        name: Way(programs[name].memory, _distance(derivatives[name], derivatives["implicit"]), own)
        for name, own in zip(programs, times, strict=True)
    }


def _margin(D: Atoms, cohort: Cohort, coding: SparseCoding) -> float:
    """The least distance of a forward step's entry from the threshold of the proximal operator, over the threshold."""
    D = np.asarray(bounded(D))
    X, Z = np.asarray(cohort.X), np.asarray(jax.jit(coding.encode)(cohort.X, D).x)
    step = 1 / np.linalg.norm(D, ord=2) ** 2
    forward = Z + step * (X - Z @ D) @ D.T
    return float(np.min(np.abs(np.abs(forward) / (step * coding.strength) - 1)))


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))
