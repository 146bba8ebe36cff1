"""Three tasks: a matrix to factorize, digits to recognize, a pole to balance.

In each, every method may ask the same number of times for the gradient of the loss in the model's outputs. The method
takes one, ten, or more inner steps for each; gradient descent, Adam and Armijo's line search take one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from dini_zoo.kit.run import Phase, Run

from .inner import Armijo
from .racing import Contest, Race, orders
from .stepsizes import TargetSearch
from .tasks import (
    DIGITS,
    PIXELS,
    START_SCALE,
    factorization,
    factorization_start,
    imitation,
    policy,
    softmax_regression,
)

SGD, ADAM, SEARCH, SLS = "gradient descent", "Adam", "line search", "SSO-SLS"


def sso(steps: int, eta: float | None = None) -> str:
    """The name of the method with a number of inner steps, and a step size if that is not tuned."""
    return f"SSO, m = {steps}" + ("" if eta is None else f", η = {eta:g}")


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of first parameters, orders of examples, and first states."""
    seed: int = 0
    """Of all random keys."""
    calls: int = 200
    """Gradients of targets in the factorization."""
    batches: tuple[int, ...] = (1000, 100)
    """Its batches; 1000 is all."""
    cautious: float = 0.3
    """The second step size of the method there; the first is 1."""
    long: int = 100
    """Most inner steps, in the factorization and in imitation."""
    digits_calls: int = 100
    """Gradients of targets for the digits."""
    digits_batches: tuple[int, ...] = (125, 625)
    digits_etas: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    """Step sizes of the method for the digits; the best one counts."""
    digits_steps: tuple[int, ...] = (1, 10, 50)
    """Its numbers of inner steps."""
    rounds: int = 50
    """Of imitation: rollouts, and an update."""
    length: int = 200
    """Steps of a rollout."""
    rollouts: int = 5
    """In a round."""
    long_seeds: tuple[int, ...] = (0,)
    """Those with which imitation takes the most inner steps."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            batches=(),
            long=5,
            digits_calls=5,
            digits_batches=(625,),
            digits_etas=(2.0, 8.0),
            digits_steps=(1, 2, 3),
            rounds=12,
            length=10,
            rollouts=2,
        )


@dataclass(frozen=True)
class Course:
    """Imitation by one method."""

    rates: tuple[float, ...]
    loss: np.ndarray
    """Of each round, by rate and seed."""
    steps: np.ndarray
    """How long a rollout stayed upright in the mean, of as many."""
    seeds: tuple[int, ...]

    def figure(self, last: int | None) -> np.ndarray:
        """The mean loss of the last rounds, or of all, by rate and seed; infinite where a run has diverged."""
        mean = self.loss[..., -(last or 0) :].mean(axis=-1)
        return np.where(np.isfinite(mean), mean, np.inf)

    def best(self, last: int | None) -> np.ndarray:
        """That of the rate that is best in the mean, by seed."""
        found = self.figure(last)
        return found[np.argmin(found.mean(axis=1))]

    def rate(self, last: int | None) -> float:
        """The rate that is best in the mean."""
        return self.rates[int(np.argmin(self.figure(last).mean(axis=1)))]


@dataclass(frozen=True)
class Result:
    """What each method has reached."""

    settings: Settings
    factorization: dict[int, dict[str, Race]]
    """By batch, then by method."""
    digits: dict[int, dict[str, Race]]
    imitation: dict[str, Course]
    searched: dict[int, float]
    """The last step size in target space of SSO-SLS, by batch."""


def powers(low: int, high: int) -> tuple[float, ...]:
    """Powers of two."""
    return tuple(2.0**k for k in range(low, high + 1))


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"imitation": 90, "digits": 60, "factorization": 40})
    steering = run.part("imitation", lambda phase: _imitation(settings, run, phase))
    found = run.each("digits", settings.digits_batches, lambda batch, _: _digits(settings, run, batch), pairs=True)
    factors = run.each(
        "factorization", settings.batches, lambda batch, _: _factorization(settings, run, batch), pairs=True
    )
    return Result(
        settings=settings,
        factorization=dict(zip(settings.batches, factors, strict=True)),
        digits={batch: races for batch, (races, _) in zip(settings.digits_batches, found, strict=True)},
        imitation=steering,
        searched={batch: eta for batch, (_, eta) in zip(settings.digits_batches, found, strict=True)},
    )


def _factorization(settings: Settings, run: Run, batch: int) -> dict[str, Race]:
    """All methods on the factorization with one size of batch."""
    calls = settings.calls
    contest = Contest(
        factorization(),
        Armijo(expansion=2 ** (batch / 1000)),
        [factorization_start(seed) for seed in settings.seeds],
        [orders(1000, batch, calls, run.random("order", batch, seed)) for seed in settings.seeds],
    )
    races = _descents(contest, powers(-7, 2), powers(-9, -1), calls)
    races |= {
        sso(1, 1): _method(contest, (1.0,), 1, settings.seeds),
        sso(10, 1): _method(contest, (1.0,), 10, settings.seeds),
        sso(10, settings.cautious): _method(contest, (settings.cautious,), 10, settings.seeds),
    }
    return races | {sso(settings.long, 1): _method(contest, (1.0,), settings.long, settings.seeds[:1])}


def _digits(settings: Settings, run: Run, batch: int) -> tuple[dict[str, Race], float]:
    """All methods on the digits with one size of batch, and the last step size that SSO-SLS has found."""
    calls = settings.digits_calls
    inner = Armijo(expansion=2 ** (1 / (DIGITS // batch)))
    task, starts = softmax_regression(), [np.zeros((PIXELS, 10))] * len(settings.seeds)
    items = [orders(DIGITS, batch, calls, run.random("order", batch, seed)) for seed in settings.seeds]
    contest = Contest(task, inner, starts, items)
    races = _descents(contest, powers(-2, 6), powers(-7, 1), calls)
    races[SEARCH] = _search(contest, settings.seeds)
    races |= {
        sso(steps): _method(contest, settings.digits_etas, steps, settings.seeds) for steps in settings.digits_steps
    }
    searched = [contest.searched(TargetSearch(), settings.digits_steps[1], i) for i in range(len(settings.seeds))]
    races[SLS] = _race((np.nan,), [[(seen, spent) for seen, spent, _ in searched]])
    return races, float(np.mean([eta for _, _, eta in searched]))


def _descents(contest: Contest, plain: tuple[float, ...], adaptive: tuple[float, ...], calls: int) -> dict[str, Race]:
    found = zip((SGD, ADAM), (plain, adaptive), contest.descents(plain, adaptive), strict=True)
    return {name: Race(rates, course, np.full(course.shape[:2], calls)) for name, rates, course in found}


def _method(contest: Contest, etas: tuple[float, ...], steps: int, seeds: tuple[int, ...]) -> Race:
    return _race(etas, [[contest.method(eta, steps, i)[:2] for i in range(len(seeds))] for eta in etas])


def _search(contest: Contest, seeds: tuple[int, ...]) -> Race:
    return _race((np.nan,), [[contest.search(i) for i in range(len(seeds))]])


def _race(rates: tuple[float, ...], found: list[list[tuple[Any, int]]]) -> Race:
    course = np.array([[seen for seen, _ in row] for row in found])
    return Race(rates, course, np.array([[spent for _, spent in row] for row in found], float))


def _imitation(settings: Settings, run: Run, phase: Phase) -> dict[str, Course]:
    """All methods on the pole."""
    seeds = settings.seeds
    starts = [
        START_SCALE * run.random("states", seed).uniform(-1, 1, (settings.rounds, settings.rollouts, 4))
        for seed in seeds
    ]
    contest = Contest(imitation(settings.length), Armijo(), [policy(run.key("policy", seed)) for seed in seeds], starts)

    def course(found: Any, rates: tuple[float, ...], own: tuple[int, ...]) -> Course:
        # what comes after the last round is no round's
        loss, steps = (np.asarray(part)[..., : settings.rounds] for part in found)
        return Course(rates, loss, steps, own)

    def method(steps: int, own: tuple[int, ...]) -> Course:
        found = []
        for seed in own:
            found.append(contest.method(1.0, steps, seeds.index(seed))[0])
            phase.advance()
        return course([np.stack(parts)[None] for parts in zip(*found, strict=True)], (1.0,), own)

    ways = {SGD: (0.03, 0.06, 0.1, 0.14, 0.2), ADAM: (0.003, 0.01, 0.03)}
    found = contest.descents(*ways.values())
    courses = {name: course(seen, ways[name], seeds) for name, seen in zip(ways, found, strict=True)}
    return courses | {
        sso(1): method(1, seeds),
        sso(10): method(10, seeds),
        sso(settings.long): method(settings.long, tuple(seed for seed in seeds if seed in settings.long_seeds)),
    }


__all__ = ["ADAM", "SEARCH", "SGD", "SLS", "Course", "Result", "Settings", "run", "sso"]
