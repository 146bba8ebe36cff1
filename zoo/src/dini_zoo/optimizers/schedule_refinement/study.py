"""What is measured: schedules on noisy digits, refined ones where the noise changes, and the bound of linear decay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from dini_zoo.kit.run import Phase, Run

from .bounds import optimize_schedule
from .learning import learn_schedule
from .schedules import Fit, fit_schedule, linear_decay_schedule, refine_schedule, smoothed
from .sweeps import Kind, Swept, Task, sweep
from .tasks import NOISES, NoisyDigits, Planes, Regression

LINEAR, COSINE, CUBIC, STEPS, ROOT, FLAT, INVERSE, REFINED = (
    "linear",
    "cosine",
    "(1 - t/T)³",
    "two steps",
    "1/√t",
    "flat",
    "1/t",
    "refined",
)
LEARNED = "learned"
SGD, ADAM = "SGD", "Adam"

#: Base optimizers, and the norm and the power that refine their schedules.
OPTIMIZERS: dict[str, tuple[Kind, int, float]] = {
    SGD: (optax.sgd, 2, 2.0),
    ADAM: (partial(optax.adam, b1=0.9, b2=0.95), 1, 1.0),
}


def shapes(T: int) -> dict[str, Float[np.ndarray, " T"]]:
    """The schedules that need no earlier run, with a greatest value of about one."""
    t = np.arange(1, T + 1)
    u = t / T
    return {
        LINEAR: np.array(linear_decay_schedule(1.0, T)(np.arange(T))),
        COSINE: (1 + np.cos(np.pi * u)) / 2,
        CUBIC: (1 - u) ** 3,
        STEPS: np.where(u <= 1 / 3, 1.0, np.where(u <= 2 / 3, 0.1, 0.01)),
        ROOT: t**-0.5,
        FLAT: np.ones(T),
        INVERSE: 1 / t,
    }


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2, 3)
    """Of the batches of digits."""
    optimizers: tuple[str, ...] = (SGD, ADAM)
    """On the digits."""
    noisy: float = 0.3
    """The share of digits whose labels are redrawn."""
    batch: int = 16
    steps: int = 2246
    """On the digits: 20 passes."""
    rates: tuple[int, int] = (-6, 4)
    """Powers of two, the first and the last: SGD's learning rates on the digits."""
    adam_rates: tuple[int, int] = (-10, 0)
    """Adam's."""
    fresh_seeds: tuple[int, ...] = (10, 11, 12, 13, 14, 15, 16, 17)
    """Of other batches of digits, for the schedules that SGD's runs chose."""
    knots: int = 12
    """Numbers of the schedule that is learned by hypergradients."""
    hypergradients: int = 40
    """For it; 0 leaves it out."""
    noise_seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    """Of the noise of the regression."""
    noise_steps: int = 2000
    noise_rates: tuple[int, int] = (-12, 5)
    """Powers of two, the first and the last."""
    points: tuple[int, int] = (200, 20)
    """Rows and columns of the regression."""
    smoothing: float = 0.1
    """The share of a run over which the median of norms is taken."""
    optimized: int = 200
    """Steps of the schedule that minimizes the bound, for the picture."""
    functions: int = 200
    """How many there are for the bound."""
    lengths: tuple[int, ...] = (10, 100, 1000)
    """Steps on them."""
    seed: int = 0
    """Of all that is random."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            optimizers=(SGD,),
            steps=30,
            rates=(-3, -1),
            hypergradients=0,
            noise_seeds=(0,),
            noise_steps=30,
            noise_rates=(-5, -3),
            points=(20, 3),
            optimized=5,
            functions=3,
            lengths=(10,),
        )


@dataclass(frozen=True)
class Study:
    """One task: every schedule with every learning rate, and what refined one of them."""

    swept: dict[str, Swept]
    norms: Float[np.ndarray, " T"]
    """Of the gradients in one run with linear decay, from which the refined schedule is made."""
    fit: Fit
    """The simple schedule nearest to the refined one."""

    def over(self, one: str, other: str) -> float | None:
        """The excess of one schedule over that of another, each at its best rate."""
        return self.swept[one].least / self.swept[other].least if {one, other} <= self.swept.keys() else None

    @property
    def peak(self) -> float:
        """The share of the run after which the refined schedule is greatest."""
        values = self.swept[REFINED].values
        return (1 + int(np.argmax(values))) / len(values)


@dataclass(frozen=True)
class Gaps:
    """Last iterates as shares of the bound, function by function."""

    steps: int
    linear: Float[np.ndarray, " functions"]
    constant: Float[np.ndarray, " functions"]


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    optimum: float
    """The least loss on the noisy digits."""
    digits: dict[str, Study]
    """By base optimizer."""
    fresh: dict[str, Float[np.ndarray, " seeds"]]
    """The excess on other batches, by schedule, each with what SGD's runs chose."""
    learned: Float[np.ndarray, " T"] | None
    """The learning rates that hypergradients found for SGD on the digits."""
    least: float
    """The least value of the regression."""
    noises: dict[str, Study]
    """By how the noise changes."""
    optimized: dict[str, Float[np.ndarray, " n"]]
    """The schedules that minimize the bound for these noises' norms, with a greatest value of one."""
    gaps: list[Gaps]


def powers(ends: tuple[int, int]) -> np.ndarray:
    """Powers of two from the first to the last."""
    return 2.0 ** np.arange(ends[0], ends[1] + 1)


def studies(
    task: Task, optimizer: str, rates: np.ndarray, names: tuple[str, ...], groups: int, smoothing: float
) -> list[Study]:
    """Sweep, refine the best linear decay by the norms of its first seed, and sweep what comes of it.

    One study for each of the groups of the task's runs.
    """
    kind, order, power = OPTIMIZERS[optimizer]
    known = shapes(jax.tree.leaves(task.given)[0].shape[1])
    swept = sweep(task, kind, {name: np.tile(known[name], (groups, 1)) for name in names}, rates, order)
    norms = [one[LINEAR].norms[one[LINEAR].best, 0] for one in swept]
    refined = np.stack([refine_schedule(row, power=power, smoothing=smoothing) for row in norms])
    again = sweep(task, kind, {REFINED: refined}, rates, order)
    found = []
    for one, more, row, values in zip(swept, again, norms, refined, strict=True):
        # norms of all runs are not kept
        kept = {name: replace(swept, norms=None) for name, swept in (one | more).items()}
        found.append(Study(kept, row, fit_schedule(values)))
    return found


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"digits": 40, "learning": 8, "regression": 8, "schedules of the bound": 5, "bound": 5})
    generators: Callable[[str, tuple[int, ...]], list[np.random.Generator]] = lambda name, seeds: [
        run.random(name, seed) for seed in seeds
    ]
    images = NoisyDigits.make(settings.noisy)
    task = images.task(settings.batch, settings.steps, generators("batches", settings.seeds))
    rates = {SGD: powers(settings.rates), ADAM: powers(settings.adam_rates)}
    names = tuple(shapes(2))

    def on_digits(optimizer: str, _: Phase) -> Study:
        return studies(task, optimizer, rates[optimizer], names, 1, settings.smoothing)[0]

    digits = run.each("digits", settings.optimizers, on_digits, pairs=True)

    def on_fresh_batches(_: Phase) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        chosen = [digits[settings.optimizers.index(SGD)].swept[name] for name in (LINEAR, COSINE, REFINED)]
        rows = [one.values * one.rates[one.best] for one in chosen]
        learned = np.asarray(
            learn_schedule(task, optax.sgd, rows[0], knots=settings.knots, tries=settings.hypergradients)
        )
        other = images.task(settings.batch, settings.steps, generators("batches", settings.fresh_seeds))
        values = np.repeat(np.stack([*rows, learned])[:, None], len(settings.fresh_seeds), axis=1)
        excess, _ = other.runs(optax.sgd, values, np.ones(len(values)), 2)
        return learned, dict(zip((LINEAR, COSINE, REFINED, LEARNED), excess, strict=True))

    learned, fresh = None, {}
    if settings.hypergradients and SGD in settings.optimizers:
        learned, fresh = run.part("learning", on_fresh_batches)
    regression = Regression.make(*settings.points)

    def on_noises(_: Phase) -> list[Study]:
        given = regression.task(settings.noise_steps, generators("noise", settings.noise_seeds))
        grid = powers(settings.noise_rates)
        return studies(given, SGD, grid, (LINEAR, COSINE, FLAT), len(NOISES), settings.smoothing)

    noises = dict(zip(NOISES, run.part("regression", on_noises), strict=True))

    best = jax.jit(optimize_schedule)

    def by_bound(noise: str, _: Phase) -> np.ndarray:
        norms = smoothed(noises[noise].norms, settings.smoothing)
        at = np.linspace(0, 1, settings.optimized)
        found = np.asarray(best(jnp.asarray(np.interp(at, np.linspace(0, 1, len(norms)), norms))))
        return found / found.max()

    optimized = dict(zip(NOISES, run.each("schedules of the bound", tuple(NOISES), by_bound), strict=True))

    def on_planes(phase: Phase) -> list[Gaps]:
        planes = Planes.make(settings.functions, run.random("planes"))
        found = []
        for steps in settings.lengths:
            known = shapes(steps)
            found.append(Gaps(steps, planes.gaps(known[LINEAR]), planes.gaps(known[FLAT])))
            phase.advance()
        return found

    gaps = run.part("bound", on_planes, len(settings.lengths))
    return Result(
        settings,
        images.least,
        dict(zip(settings.optimizers, digits, strict=True)),
        fresh,
        learned,
        regression.least,
        noises,
        optimized,
        gaps,
    )
