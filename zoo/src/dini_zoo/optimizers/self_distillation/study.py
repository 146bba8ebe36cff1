"""The paper's claims: its toy, ridge regression on real data, small networks; and tuning by hypergradients.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from dini_zoo.kit.run import Phase, Run

from . import baselines, networks
from .data import TOY_GAMMA, TOY_RIDGE, diabetes, digits_task, network_split, toy
from .exactness import Exactness, exactness
from .spectral import SelfDistillation
from .tuning import Errors, Search, Task, descend, greedy, grid_search, joint, mean_square, plain

DIABETES, NOISY, CLEAN = "diabetes", "digits, noise", "digits"
GRID, HYPERGRADIENT = "grid", "hypergradient"
RIDGE, DISTILLED, WEIGHTS = "ridge", "distilled, best α", "distilled, all free"


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment. The splits are those of the specification."""

    seeds: tuple[int, ...] = tuple(range(8))
    """Of the networks, of their order of examples and of their wrong labels."""
    toy_shares: tuple[float, ...] = (0.0, 0.25, 0.35)
    steps: int = 10
    """Of self-distillation on real data."""
    data: tuple[str, ...] = (DIABETES, NOISY, CLEAN)
    """On which ridge regression is distilled."""
    digits: tuple[int, int] = (1000, 400)
    """To train on, and to validate."""
    noise: float = 0.3
    """The share of the digits' training labels that are redrawn, for ridge regression."""
    candidates: int = 1001
    """Shares that are tried beside the closed form."""
    tuned: tuple[str, ...] = (RIDGE, DISTILLED, WEIGHTS)
    """Models whose ridge and kernel are tuned, on the diabetes data."""
    ridges: tuple[float, float, int] = (-6.0, 6.0, 25)
    """Logarithms of the ridges of the grid: the first, the last, how many."""
    gammas: tuple[float, float, int] = (-8.0, 0.0, 17)
    """And of the kernel's parameters."""
    descent: int = 60
    """Evaluations of a hypergradient descent, at most."""
    epochs: int = 60
    label_noise: float = 0.4
    """As `noise`, for the networks."""
    shares: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """That students are trained with, beside the estimated one."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            toy_shares=(0.25,),
            steps=3,
            data=(NOISY,),
            digits=(64, 32),
            candidates=11,
            tuned=(RIDGE,),
            ridges=(-2.0, 2.0, 2),
            gammas=(-4.0, -2.0, 2),
            descent=2,
            epochs=1,
            shares=(0.0, 1.0),
        )


@dataclass(frozen=True)
class Distillation:
    """Self-distillation with the best weights, for one ridge and kernel."""

    data: str
    ridge: float
    gamma: float
    alphas: np.ndarray
    """Of the steps from the second one on."""
    validation: np.ndarray
    """Mean squared error of each step."""
    test: np.ndarray
    grid_gap: float
    """The largest distance of a weight from the best one of a grid."""
    grid_excess: float
    """The largest excess of a step's validation error over those with the weights zero and one in its place."""
    rivals: dict[str, baselines.Rival]
    """What else can be done with this kernel."""

    @property
    def gain(self) -> float:
        """By how much the last step's test error is less than the first one's, relative to that."""
        return float(1 - self.test[-1] / self.test[0])

    @property
    def best(self) -> Errors:
        """At the step with the least validation error."""
        at = int(np.argmin(self.validation))
        return Errors(self.validation[at], self.test[at])


@dataclass(frozen=True)
class Toy:
    """Errors of the toy's steps for one weight, and of their limit."""

    share: float
    losses: np.ndarray
    limit: float
    curves: np.ndarray
    """The first step, the last, and the limit, over the toy's new points."""


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    toy: list[Toy]
    exactness: Exactness
    filters: dict[float, np.ndarray]
    """On the toy: the factor of each step and eigenvalue, for several weights."""
    distillations: list[Distillation]
    searches: dict[str, dict[str, Search]]
    """Of ridge and kernel on the diabetes data: by grid and by hypergradient, for each kind of model."""
    landscapes: dict[str, np.ndarray]
    """The validation errors on the grid, kernels in rows, for each kind of model."""
    networks: list[networks.Seed]

    def find(self, data: str, ridge: float) -> Distillation | None:
        """The distillation of this data and ridge."""
        return next((one for one in self.distillations if (one.data, one.ridge) == (data, ridge)), None)


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"toy": 8, "real data": 30, "tuning": 30, "networks": 60})
    toys, exact, filters = run.part("toy", lambda _: on_toy(settings))
    real = run.part("real data", partial(on_real_data, settings), total=6)
    searches, landscapes = run.part("tuning", partial(tune, settings), total=len(settings.tuned) * settings.descent)

    training = networks.Training(settings.digits[0], epochs=settings.epochs)

    def one(seed: int, phase: Phase) -> networks.Seed:
        split = network_split(*settings.digits, settings.label_noise, seed)
        return networks.compare(split, training, settings.shares, run.key("networks", seed), phase.advance)

    trainings = 3 + sum(share != 0 for share in settings.shares)
    seeds = run.each("networks", settings.seeds, one, trainings)
    return Result(settings, toys, exact, filters, real, searches, landscapes, seeds)


def on_toy(settings: Settings) -> tuple[list[Toy], Exactness, dict[float, np.ndarray]]:
    """The toy's errors for several weights, what derivatives are worth, and its filters."""
    task = toy()
    K, K_new, _ = task.kernels(TOY_GAMMA)

    @jax.jit
    def course(share: jax.Array) -> tuple[jax.Array, ...]:
        model = SelfDistillation.from_kernel(K, task.Y, TOY_RIDGE)
        alphas = jnp.full(5, share)
        curves = jnp.concatenate([model.steps(alphas).dual_coef, model.limit(share).dual_coef[None]]) @ K_new.T
        losses = jnp.mean((curves - task.Y_test) ** 2, axis=1)
        return losses, curves, model.spectral_filter(alphas)

    found, filters = [], {}
    for share in settings.toy_shares:
        losses, curves, factors = map(np.asarray, course(jnp.asarray(share)))
        found.append(Toy(share, losses[:-1], float(losses[-1]), curves[[0, -2, -1]]))
        filters[share] = factors
    return found, exactness(), filters


def on_real_data(settings: Settings, phase: Phase) -> list[Distillation]:
    """Distillation on real data, for several ridges."""
    noisy, gamma = digits_task(*settings.digits, settings.noise)
    clean, _ = digits_task(*settings.digits, 0.0)
    tasks = {
        DIABETES: (diabetes, 0.1, (0.1, 1.0, 10.0)),
        NOISY: (lambda: noisy, gamma, (0.1, 1.0)),
        CLEAN: (lambda: clean, gamma, (0.1,)),
    }
    program = jax.jit(partial(distilled, steps=settings.steps, candidates=settings.candidates))
    found = []
    for data in settings.data:
        make, gamma, ridges = tasks[data]
        task = make()
        kernels = tuple(map(np.asarray, _kernels(task, gamma)))
        rivals = baselines.of_kernel(kernels, task)
        for ridge in ridges:
            alphas, errors, gap, excess, zero = map(np.asarray, program(kernels, task, ridge))
            own = rivals | {"no ground truth (α = 0)": baselines.best("steps", np.arange(1, len(zero) + 1), zero)}
            found.append(Distillation(data, ridge, gamma, alphas, *errors.T, float(gap), float(excess), own))
            phase.advance()
    return found


_kernels = jax.jit(Task.kernels)


def distilled(
    kernels: tuple[jax.Array, ...], task: Task, ridge: jax.Array, *, steps: int, candidates: int
) -> tuple[jax.Array, ...]:
    """Weights; errors of each step; their distance from a grid's; their excess over zero and one; errors for zeros."""
    K, K_val, K_test = kernels
    model = SelfDistillation.from_kernel(K, task.Y, ridge)

    def errors(dual_coef: jax.Array) -> jax.Array:
        return jnp.stack([mean_square(K_val @ dual_coef, task.Y_val), mean_square(K_test @ dual_coef, task.Y_test)])

    alphas = model.greedy_weights(K_val, task.Y_val, steps)
    found = model.steps(alphas)
    teacher = K_val @ found.dual_coef[0]
    students = jax.vmap(lambda fitted: K_val @ model.refit(fitted).dual_coef)(found.fitted[:-1])
    tried = jnp.linspace(0.0, 1.0, candidates)

    def of_grid(student: jax.Array) -> jax.Array:
        return jax.lax.map(lambda a: mean_square(a * teacher + (1 - a) * student, task.Y_val), tried)

    grid = jax.lax.map(of_grid, students)
    measured = jax.lax.map(errors, found.dual_coef)
    excess = measured[1:, 0] - jnp.minimum(grid[:, 0], grid[:, -1])
    gap = jnp.abs(alphas - tried[jnp.argmin(grid, axis=1)])
    zero = jax.lax.map(errors, model.steps(jnp.zeros(steps - 1)).dual_coef)
    return alphas, measured, jnp.max(gap), jnp.max(excess), zero


def tune(settings: Settings, phase: Phase) -> tuple[dict[str, dict[str, Search]], dict[str, np.ndarray]]:
    """Ridge and kernel of the diabetes data, by grid and by hypergradient; the validation errors on the grid."""
    task, start = diabetes(), np.log([1.0, 0.1])
    axes = np.linspace(*settings.ridges), np.linspace(*settings.gammas)
    how: dict[str, Any] = {"max_steps": settings.descent, "advance": phase.advance}
    found: dict[str, dict[str, Search]] = {}
    landscapes: dict[str, np.ndarray] = {}
    for name in settings.tuned:
        if name == WEIGHTS:  # a grid would have as many axes as there are weights, and two
            shares = settings.steps - 1
            found[name] = {HYPERGRADIENT: descend(joint, task, np.r_[start, [0.5] * shares], shares=shares, **how)}
            continue
        errors = plain if name == RIDGE else partial(greedy, steps=settings.steps)
        grid, rows = grid_search(errors, task, *axes)
        phase.advance()
        found[name] = {GRID: grid, HYPERGRADIENT: descend(errors, task, start, **how)}
        landscapes[name] = np.asarray(rows.validation)
    return found, landscapes
