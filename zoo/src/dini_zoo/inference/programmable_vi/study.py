"""The noisy cone by six objectives, beside NumPyro; three estimators of one gradient; what the interpreter costs.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from dini_zoo.kit.run import Phase, Run

from . import bakeoff, baseline, overhead
from .bakeoff import Estimator
from .cone import MEAN_FIELD, MIDPOINTS, POSTERIOR, Objective, guide_of, log_evidence, mean_field, objectives
from .expectation import expectation, simulate
from .fitting import fit
from .objectives import iwelbo
from .overhead import Overhead

#: Parameters at which values are compared: fitted ones of the specification's prototype.
FIXED = {"ELBO": (0.0, 2.2225, -1.275, -3.387), "IWELBO(5)": (2.164, 0.0, -2.585, -0.585)}
Estimate = Callable[[Array, Array], Array]
"""Of a key and parameters."""

#: So many evaluations are one batch.
BATCH = 4000
#: So many points of a curve are kept, each a mean of the steps around it.
CURVE = 100


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (20, 21, 22, 23, 24)
    objectives: tuple[str, ...] = ("ELBO", "IWELBO(5)", "HVI", "IWHVI(5,1)", "DIWHVI(5,5)", MIDPOINTS)
    """Those by the midpoint rule from the first seed alone."""
    steps: int = 5000
    rate: float = 1e-3
    samples: int = 64
    """Of a gradient."""
    evaluations: int = 20_000
    """Of a value."""
    points: int = 400
    """Of the midpoint rule."""
    particles: tuple[int, ...] = (1, 2, 5, 20)
    """Of the importance-weighted bound at fixed parameters."""
    estimates: int = 200_000
    """Of each estimator of the small gradient."""
    timed: tuple[int, ...] = (64, 1024)
    """Samples of the gradients that are timed."""
    rounds: int = 3000
    """Turns of the timing."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            objectives=("HVI",),
            steps=20,
            samples=4,
            evaluations=50,
            points=20,
            particles=(),
            estimates=500,
            timed=(8,),
            rounds=3,
        )


@dataclass(frozen=True)
class Trained:
    """One objective after its ascent, from each seed."""

    name: str
    start: tuple[float, ...]
    params: np.ndarray
    """A row for each seed."""
    values: tuple[float, ...]
    errors: tuple[float, ...]
    """Standard errors of the values."""
    curves: np.ndarray
    """A row for each seed: the objective on the way."""


@dataclass(frozen=True)
class Agreement:
    """One objective at fixed parameters, by us and by NumPyro: means and standard errors."""

    name: str
    ours: tuple[float, float]
    theirs: tuple[float, float]

    @property
    def distance(self) -> float:
        """In joint standard errors."""
        return abs(self.ours[0] - self.theirs[0]) / float(np.hypot(self.ours[1], self.theirs[1]))


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    evidence: float
    trained: list[Trained]
    numpyro: list[Trained]
    agreements: list[Agreement]
    rising: list[tuple[int, float, float]]
    """Particles, mean and standard error of the importance-weighted bound at fixed parameters."""
    estimators: list[Estimator]
    overheads: list[Overhead]
    draws: dict[str, np.ndarray]
    """Points of fitted guides, by objective: of the first start and seed."""


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    plan = {
        "objectives": 90,
        "NumPyro": 20,
        "at fixed parameters": 4,
        "more particles": 6,
        "estimators": 5,
        "overhead": 3,
    }
    run.plan(plan)
    known = objectives(settings.points)
    chosen = [known[name] for name in settings.objectives]
    found = run.each("objectives", chosen, lambda one, _: _trained(settings, run, one), pairs=True)
    trained = [one for starts in found for one in starts]
    both = [name for name in settings.objectives if name in baseline.OBJECTIVES]
    # one at a time: NumPyro keeps what it is doing in one place for all threads
    theirs = run.each("NumPyro", both, lambda name, _: _numpyro(settings, run, name))
    agreements = run.each(
        "at fixed parameters", [known[name] for name in both], lambda one, _: _agreement(settings, run, one)
    )
    rising = run.each("more particles", settings.particles, lambda n, _: _rising(settings, run, n))

    def estimator(name: str, _: Phase) -> Estimator:
        return bakeoff.measured(name, run.key("bake-off", name), settings.estimates)

    estimators = run.each("estimators", list(bakeoff.STRATEGIES), estimator)
    overheads = run.each(
        "overhead", settings.timed, lambda n, _: overhead.compare(run.key("overhead", n), n, settings.rounds)
    )
    draws = {one.name: _draws(run, one) for one in reversed(trained)}
    return Result(settings, log_evidence(), trained, theirs, agreements, rising, estimators, overheads, draws)


def _means(estimate: Estimate, keys: Array, params: Array) -> tuple[np.ndarray, np.ndarray]:
    """Means over each row of keys and their standard errors, at each row of parameters, in batches."""
    one = jax.vmap(jax.vmap(estimate, (0, None)))
    batch = min(BATCH, keys.shape[1])
    parts = jnp.stack(jnp.split(keys[:, : keys.shape[1] // batch * batch], keys.shape[1] // batch, axis=1))
    found = np.asarray(jax.jit(lambda parts: jax.lax.map(lambda some: one(some, params), parts))(parts), float)
    flat = np.moveaxis(found, 1, 0).reshape(len(params), -1)
    return flat.mean(axis=1), flat.std(axis=1) / np.sqrt(flat.shape[1])


def _trained(settings: Settings, run: Run, objective: Objective) -> list[Trained]:
    """The ascents from all starts and seeds, side by side."""
    seeds = settings.seeds[:1] if objective.name == MIDPOINTS else settings.seeds
    pairs = [(start, seed) for start in objective.starts for seed in seeds]
    keys = jnp.stack([run.key("training", objective.name, str(start), seed) for start, seed in pairs])
    budget = {"steps": settings.steps, "num_samples": settings.samples, "optimizer": optax.sgd(settings.rate)}
    ascent = lambda key, start: fit(objective.program, start, key=key, **budget)
    found = jax.jit(jax.vmap(ascent))(keys, jnp.array([start for start, _ in pairs]))
    values, errors = _values(settings, run, expectation(objective.program).estimate, found.params, objective.name)
    steps = np.array_split(np.asarray(found.history, float), min(CURVE, settings.steps), axis=1)
    curves = np.stack([some.mean(axis=1) for some in steps], axis=1)
    params, n = np.asarray(found.params), len(seeds)
    return [
        Trained(objective.name, start, *(every[i * n : (i + 1) * n] for every in (params, values, errors, curves)))
        for i, start in enumerate(objective.starts)
    ]


def _values(
    settings: Settings, run: Run, estimate: Estimate, params: Array, name: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and standard errors at each row of parameters, each from draws of its own."""
    keys = [jax.random.split(run.key("evaluation", name, i), settings.evaluations) for i in range(len(params))]
    means, errors = _means(estimate, jnp.stack(keys), params)
    return tuple(map(float, means)), tuple(map(float, errors))


def _numpyro(settings: Settings, run: Run, name: str) -> Trained:
    start = MEAN_FIELD[0]
    keys = jnp.stack([run.key("NumPyro", name, seed) for seed in settings.seeds])
    budget = {"steps": settings.steps, "num_samples": settings.samples, "rate": settings.rate}
    params = jax.jit(jax.vmap(lambda key: baseline.fit(name, jnp.array(start), key=key, **budget)))(keys)
    values, errors = _values(settings, run, baseline.estimate(name), params, name)
    return Trained(name, start, np.asarray(params), values, errors, np.zeros((len(keys), 0)))


def _agreement(settings: Settings, run: Run, objective: Objective) -> Agreement:
    name, params = objective.name, jnp.array([FIXED[objective.name]])
    ours = _values(settings, run, expectation(objective.program).estimate, params, f"fixed {name}")
    theirs = _values(settings, run, baseline.estimate(name), params, f"NumPyro's {name}")
    return Agreement(name, (ours[0][0], ours[1][0]), (theirs[0][0], theirs[1][0]))


def _rising(settings: Settings, run: Run, n: int) -> tuple[int, float, float]:
    program = lambda params: iwelbo(POSTERIOR, mean_field, params, n=n)
    params = jnp.array([FIXED["IWELBO(5)"]])
    (mean,), (error,) = _values(settings, run, expectation(program).estimate, params, f"{n} particles")
    return n, mean, error


def _draws(run: Run, trained: Trained) -> np.ndarray:
    guide, params = guide_of(trained.name), jnp.asarray(trained.params[0])
    keys = jax.random.split(run.key("draws", trained.name), 1500)
    found = jax.jit(jax.vmap(lambda key: simulate(key, guide.trace, params).choices))(keys)
    return np.stack([found["x"], found["y"]], axis=1)
