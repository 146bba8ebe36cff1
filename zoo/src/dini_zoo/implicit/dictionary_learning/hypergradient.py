"""What the derivative of the loss in the dictionary is worth, and what it costs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

import dini
from dini_zoo.kit.measure import Program, Timed, compile_program, take_turns
from dini_zoo.kit.modes import distance

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
    precise, cohort = dataclasses.replace(coding, steps=exact), jax.device_put(cohort)
    outer = lambda D: loss(params._replace(D=D), cohort, precise, decay)
    program = compile_program(jax.value_and_grad(outer, has_aux=True), np.asarray(params.D))
    value = lambda D: float(program.at(D)[0][0])

    random, found = np.random.RandomState(0), []
    for scale in (0.9, 1.1):
        D = scale * np.asarray(params.D) / np.linalg.norm(params.D, axis=1, keepdims=True)
        (_, codes), derivative = program.at(D)
        pairs = []
        for _ in range(directions):
            V = random.randn(*D.shape)
            V /= np.linalg.norm(V)
            central = (value(D + step * V) - value(D - step * V)) / (2 * step)
            pairs.append((float(np.vdot(derivative, V)), central))
        slopes, centrals = np.array(pairs).T
        margin = _margin(np.asarray(codes.x), np.asarray(bounded(D)), np.asarray(cohort.X), coding.strength)
        found.append(Precision(scale, distance(slopes, centrals), margin))
    return found


def costs(
    params: Params, cohort: Cohort, coding: SparseCoding, decay: float, *, rounds: int, checkpoints: bool
) -> dict[str, Way]:
    """Compile, run and time the derivative: implicit, unrolled, and unrolled with checkpoints if wanted."""
    modes: dict[str, dini.Differentiation] = {
        "implicit": dini.Implicit(),
        "unrolled": dini.Unrolled(steps=coding.steps, checkpoint=False),
    }
    if checkpoints:
        modes["unrolled, checkpoints"] = dini.Unrolled(steps=coding.steps)
    cohort = jax.device_put(cohort)

    def program(mode: dini.Differentiation) -> Program:
        return compile_program(jax.grad(lambda params: loss(params, cohort, coding, decay, mode)[0]), params)

    programs = {name: program(mode) for name, mode in modes.items()}
    derivatives = {name: np.asarray(program().D) for name, program in programs.items()}
    times = take_turns(list(programs.values()), rounds)
    return {
        name: Way(programs[name].memory, distance(derivatives[name], derivatives["implicit"]), own)
        for name, own in zip(programs, times, strict=True)
    }


def _margin(Z: np.ndarray, D: Atoms, X: np.ndarray, strength: float) -> float:
    """The least distance of a forward step's entry from the threshold of the proximal operator, over the threshold."""
    step = 1 / np.linalg.norm(D, ord=2) ** 2
    forward = Z + step * (X - Z @ D) @ D.T
    return float(np.min(np.abs(np.abs(forward) / (step * strength) - 1)))
