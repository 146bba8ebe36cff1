"""Calibration and control of a soft sensor by gradients, its equilibrium by dini, and what its camera sees.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dini_zoo.kit.run import Phase, Run
from dini_zoo.kit.training import Trainer

from . import equilibrium, scenes, seeing
from .calibration import Goal, calibration_loss, evolve, relative_error
from .equilibrium import DomeResult, Pressed
from .scenes import START, TRUTH
from .seeing import Seen
from .sensor import Rollout
from .settings import Settings

#: Relative changes of logarithms for central differences.
STEP = 1e-3


@dataclass(frozen=True)
class Calibrated:
    """One search for the parameters."""

    factors: tuple[float, ...]
    """Where it began, over the truth."""
    gradient: np.ndarray
    """There, in the logarithms."""
    differences: np.ndarray
    """The same by central differences in float64."""
    ratios: np.ndarray
    """Of what gradients found to the truth."""
    course: np.ndarray
    """The loss before each step, and at the end."""
    evolved: np.ndarray
    """Of what the evolution strategy found to the truth."""
    evolution: np.ndarray
    """The best loss after each generation."""
    elsewhere: dict[str, tuple[float, float]]
    """On a motion that was not seen: relative errors of forces and of markers, in the norm."""


@dataclass(frozen=True)
class Calibration:
    """All searches, and the motion that they are about."""

    force: np.ndarray
    pressed: np.ndarray
    """Positions of all nodes in the end."""
    searches: list[Calibrated]


@dataclass(frozen=True)
class Controlled:
    """Motions to a goal."""

    course: np.ndarray
    """Of gradients: the objective before each step, and at the end."""
    force_error: float
    travel_error: float
    evolutions: list[np.ndarray]
    """Of the evolution strategy, for each seed: the best objective after each generation."""
    controls: np.ndarray


@dataclass(frozen=True)
class Result:
    """What was found; `None` is what was not done."""

    settings: Settings
    calibration: Calibration | None
    control: Controlled | None
    optics: list[Seen] | None
    equilibrium: Pressed | None
    dome: DomeResult | None


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"calibration": 60, "control": 60, "optics": 30, "equilibrium": 40, "dome": 40})
    done = lambda name: name in settings.parts
    part = lambda name, fun, total=None: run.part(name, fun, total) if done(name) else None
    seeds = len(settings.seeds)
    total = settings.steps + seeds * settings.generations
    calibration = part("calibration", lambda phase: calibrated(settings, run, phase), total)
    total = settings.steps + seeds * settings.control_generations
    control = part("control", lambda phase: controlled(settings, phase), total)
    optics = seeing.trained(settings, run) if done("optics") else None
    pressed = part("equilibrium", lambda _: equilibrium.pressed(settings, run))
    dome = part("dome", lambda _: equilibrium.pressed_dome(settings))
    return Result(settings, calibration, control, optics, pressed, dome)


def starts(settings: Settings, run: Run) -> list[tuple[float, ...]]:
    """Where calibration begins: at the specification's place, then anywhere within a factor of two."""
    drawn = lambda seed: tuple(map(float, np.exp(run.random("start", seed).uniform(-np.log(2), np.log(2), 3))))
    return [START if seed == settings.seeds[0] else drawn(seed) for seed in settings.seeds]


def calibrated(settings: Settings, run: Run, phase: Phase) -> Calibration:
    """All starts side by side by gradients, then each by the evolution strategy."""
    truth = np.log([TRUTH.E, TRUTH.kn, TRUTH.mu_f])
    factors = starts(settings, run)
    first = np.stack([truth + np.log(one) for one in factors])
    sim = scenes.block_sensor(settings.cells, settings.substeps)
    controls, others = scenes.schedule(settings.controls), scenes.other_motion(settings.controls)
    rollout = jax.jit(lambda parameters, controls: sim.rollout(parameters, controls))
    observed = trusted(sim, rollout(TRUTH, controls))
    loss = calibration_loss(sim, controls, observed, TRUTH)
    adam = optax.adam(optax.cosine_decay_schedule(settings.calibration_rate, settings.steps))
    trainer = Trainer(lambda x, *_: loss(x), adam, steps=settings.steps)
    keys = jax.random.split(jax.random.key(0), len(factors))
    course = trainer.together(jnp.asarray(first, jnp.float32), keys=keys, advance=phase.advance)
    many = jax.jit(jax.vmap(loss))
    found = np.asarray(course.model, float)
    ended = np.asarray(many(course.model))
    objective = lambda x: many(jnp.asarray(x, jnp.float32))
    evolved = [
        evolve(objective, one, 0.3, settings.generations, 8, seed, phase.advance)
        for seed, one in zip(settings.seeds, first, strict=True)
    ]
    slopes = gradients(settings, first)
    there = trusted(sim, rollout(TRUTH, others))

    def elsewhere(logarithms: np.ndarray) -> tuple[float, float]:
        E, kn, mu_f = np.exp(logarithms)
        ours = trusted(sim, rollout(TRUTH._replace(E=E, kn=kn, mu_f=mu_f), others))
        pairs = ((ours.force, there.force), (ours.markers, there.markers))
        force, markers = (float(jnp.sqrt(relative_error(*pair))) for pair in pairs)
        return force, markers

    searches = [
        Calibrated(
            factors[i],
            *slopes[i],
            np.exp(found[i] - truth),
            np.append(course.loss[i], ended[i]),
            np.exp(evolved[i].x - truth),
            evolved[i].best,
            {"start": elsewhere(first[i]), "gradients": elsewhere(found[i]), "CMA-ES": elsewhere(evolved[i].x)},
        )
        for i in range(len(factors))
    ]
    return Calibration(np.asarray(observed.force), np.asarray(observed.motion.x), searches)


def gradients(settings: Settings, first: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The gradient at each start in float32, as it is used, and central differences in float64."""

    def loss_in(dtype: Any) -> Any:
        sim = scenes.block_sensor(settings.cells, settings.substeps, dtype)
        controls = scenes.schedule(settings.controls, dtype)
        observed = jax.jit(lambda parameters: sim.rollout(parameters, controls))(TRUTH)
        return calibration_loss(sim, controls, observed, TRUTH)

    slope = jax.jit(jax.vmap(jax.grad(loss_in(jnp.float32))))(jnp.asarray(first, jnp.float32))
    shifts = STEP * np.concatenate([np.eye(3), -np.eye(3)])
    values = np.asarray(jax.jit(jax.vmap(jax.vmap(loss_in(jnp.float64))))(jnp.asarray(first[:, None] + shifts)))
    differences = (values[:, :3] - values[:, 3:]) / (2 * STEP)
    return list(zip(np.asarray(slope, float), differences, strict=True))


def controlled(settings: Settings, phase: Phase) -> Controlled:
    """Velocities to a force and a displacement, by gradients and by the evolution strategy."""
    sim, goal = scenes.block_sensor(settings.cells, settings.substeps), Goal()
    parameters = TRUTH._replace(mu_f=0.6)
    objective = lambda controls: goal(sim.rollout(parameters, controls))
    start = scenes.schedule(settings.controls)
    adam = optax.adam(optax.cosine_decay_schedule(settings.control_rate, settings.steps))
    trainer = Trainer(lambda x, *_: objective(x), adam, steps=settings.steps)
    course = trainer(start, key=jax.random.key(0), advance=phase.advance)
    ended = trusted(sim, jax.jit(lambda controls: sim.rollout(parameters, controls))(course.model))
    many = jax.jit(jax.vmap(objective))
    each = lambda x: many(jnp.asarray(x, jnp.float32))
    evolutions = [
        evolve(each, start, 0.3, settings.control_generations, 16, seed, phase.advance).best for seed in settings.seeds
    ]
    force, travel = map(float, goal.errors(ended))
    descent = np.append(course.loss, float(goal(ended)))
    return Controlled(descent, force, travel, evolutions, np.asarray(course.model))


def trusted(sim: Any, rollout: Rollout) -> Rollout:
    """A rollout, or an error where its steps were too long."""
    if not bool(sim.trusted(rollout)):
        raise FloatingPointError(
            f"The simulation is not finite, or its substep of {sim.dt} s is longer than {float(rollout.limit):.2g} s, "
            "which the nodes in contact allow: take shorter substeps."
        )
    return rollout
