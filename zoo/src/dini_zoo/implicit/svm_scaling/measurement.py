"""Hypergradients at one number of features: what they cost and how exact they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import dini
from dini_zoo.kit.measure import Program, Timed, compile_program, take_turns

from ..support_vectors import PROJECTED, dual, squared_error, tie_margin, validation_loss, weights
from .data import Data
from .peers import Solve
from .solvers import PEER, UNROLLED, Contender

#: Finds the reference.
PRECISE = dini.ProjectedGradient(tol=1e-10, max_steps=50_000)


@dataclass(frozen=True)
class Reading(Timed):
    """One solver, differentiated in one way."""

    derivative: float
    error: float
    """Relative to the derivative at a precise solution."""
    residual: float
    """How far a projected gradient step of length one moves the point that was differentiated."""
    times: list[float]
    """Of solve and derivative, in seconds, with those of all other programs in turns."""
    memory: int
    """Bytes for intermediate results; of unrolling, without checkpoints."""
    compile_seconds: float
    checkpoint: bool = False
    """Whether unrolling was timed with checkpoints, as without them it would have needed too much memory."""


@dataclass(frozen=True)
class Row:
    """One solver, by ways to differentiate it."""

    solver: str
    steps: int
    readings: dict[str, Reading]


@dataclass(frozen=True)
class Size:
    """All solvers at one number of features, with the reference that judges them."""

    features: int
    derivative: float
    """Implicit, at a precise solution."""
    difference: float
    """The central difference of the loss, from precise solutions too."""
    tie_margin: float
    """A point whose residual is above it does not know the support."""
    rows: list[Row]

    def converged(self, reading: Reading) -> bool:
        """Whether the point that was differentiated knows the support."""
        return reading.residual < self.tie_margin

    def row(self, solver: str) -> Row:
        return next(row for row in self.rows if row.solver == solver)


def residual(x: Array, log_theta: Array, data: Data) -> Array:
    """The norm of the projected gradient step of length one."""
    gradient = dual.gradient(x, jnp.exp(log_theta), *data.train)
    return jnp.linalg.norm(x - dini.sets.Simplex(axis=-1).project(x - gradient))


def reference(data: Data, log_theta: float, width: float = 1e-5) -> tuple[float, float, float]:
    """The implicit derivative at a precise solution, the central difference, and the dual's tie margin.

    The width is small because the loss has kinks, where an element of the dual joins or leaves the support.
    """
    at = partial(validation_loss, train=data.train, validation=data.validation, solver=PRECISE)
    gradient = compile_program(
        jax.value_and_grad(partial(at, differentiation=PROJECTED), has_aux=True), jnp.asarray(log_theta)
    )
    (_, solution), derivative = gradient()
    values = [float(gradient.at(jnp.asarray(log_theta + shift))[0][0]) for shift in (-width, width)]
    margin = tie_margin(solution.x, np.exp(log_theta), data.train)
    return float(derivative), (values[1] - values[0]) / (2 * width), float(margin)


def _gradient(log_theta: float, loss: Callable[[Array], tuple[Array, Array]]) -> Program:
    return compile_program(jax.value_and_grad(loss, has_aux=True), jnp.asarray(log_theta))


def own_gradient(data: Data, log_theta: float, solver: dini.Solver, mode: dini.Differentiation) -> Program:
    """A program that returns `((loss, x), derivative)`."""

    def loss(at: Array) -> tuple[Array, Array]:
        # so many steps and no more: a stop before the solution is not a failure here
        value, solution = validation_loss(at, *data, solver, differentiation=mode, on_failure="ignore")
        return value, solution.x

    return _gradient(log_theta, loss)


def peer_gradient(data: Data, log_theta: float, solve: Solve) -> Program:
    """The same with a solver that is not dini's."""

    def loss(at: Array) -> tuple[Array, Array]:
        theta = jnp.exp(at)
        x = solve(theta, data.train)
        return squared_error(data.validation.X @ weights(x, theta, data.train), data.validation.Y), x

    return _gradient(log_theta, loss)


def measure(
    data: Data,
    log_theta: float,
    contenders: Sequence[Contender],
    peers: Mapping[str, Solve],
    *,
    rounds: int,
    patience: float,
    memory_limit: float,
    advance: Callable[[str], None] = lambda doing: None,
) -> Size:
    """Compile all programs, then time them in turns: four, and up to `rounds` where these fit in `patience` seconds."""
    # on the device, and constants of the programs: what these need for intermediate results holds no copy of the data
    data = jax.device_put(data)
    advance("reference")
    derivative, difference, margin = reference(data, log_theta)
    programs: dict[tuple[str, str], Program] = {}
    needed: dict[tuple[str, str], int] = {}
    for contender in contenders:
        for way, mode in contender.ways.items():
            advance(f"{contender.name}, {way}")
            key = contender.name, way
            program = own_gradient(data, log_theta, contender.solver, mode)
            if program.memory > memory_limit and isinstance(mode, dini.Unrolled):
                needed[key] = program.memory
                program = own_gradient(data, log_theta, contender.solver, replace(mode, checkpoint=True))
            programs[key] = program
        if contender.name in peers:
            programs[contender.name, PEER] = peer_gradient(data, log_theta, peers[contender.name])
    advance("residuals")
    moved = jax.jit(partial(residual, data=data))
    start = time.perf_counter()
    found = {key: program() for key, program in programs.items()}
    turns = min(rounds, max(4, int(patience / (time.perf_counter() - start))))
    advance("timing")
    times = dict(zip(programs, take_turns(list(programs.values()), turns), strict=True))

    def reading(key: tuple[str, str]) -> Reading:
        ((_, x), slope), program = found[key], programs[key]
        return Reading(
            derivative=float(slope),
            error=abs(float(slope) - derivative) / abs(derivative),
            residual=float(moved(x, jnp.asarray(log_theta))),
            times=times[key],
            memory=needed.get(key, program.memory),
            compile_seconds=program.seconds,
            checkpoint=key in needed,
        )

    rows = [
        Row(one.name, one.steps, {way: reading((name, way)) for name, way in programs if name == one.name})
        for one in contenders
    ]
    return Size(data.train.X.shape[1], derivative, difference, margin, rows)


def speedup(row: Row, way: str) -> float:
    """How many times as long as another way unrolling takes."""
    return row.readings[UNROLLED].fastest / row.readings[way].fastest


def thrift(row: Row, way: str) -> float:
    """How many times as much memory as another way unrolling takes."""
    return row.readings[UNROLLED].memory / row.readings[way].memory
