"""Three claims: static regret is as small as noise and drift are, games converge, and points that move are followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from dini_zoo.kit.run import Run

from .baselines import optimistic_ftrl
from .ensemble import dynamic_ensemble, pool
from .environments import (
    BALL,
    DIMENSIONS,
    MOVING,
    D,
    L,
    bound,
    drifting,
    duality_gap,
    game,
    game_gradients,
    game_start,
    gradient,
    moving,
    noisy,
)
from .learner import Learner, follow, optimistic_mirror_descent
from .newton import optimistic_online_newton
from .regret import convex_bound
from .steps import adagrad_norm, adaptive_variation, constant, decreasing, strongly_convex

OPTIMISTIC, CENTER, PLAIN, ADAGRAD, LEADER = "optimistic", "without optimism", "OGD", "AdaGrad", "optimistic FTRL"
NEWTON, PLAIN_NEWTON = "optimistic Newton", "online Newton"
TWO_LAYERS, UNIFORM = "two layers", "uniform weights"


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (20, 21, 22, 23, 24)
    """Of noise and drift."""
    seed: int = 0
    """Of all random keys."""
    rounds: int = 10_000
    """Of the static regret and of the game."""
    early: int = 1000
    """The round at which both are looked at first."""
    environments: tuple[tuple[float, float], ...] = ((0, 0), (0.1, 0), (1, 0), (0, 0.05), (0, 0.5), (0.3, 0.1))
    """Noise and drift of the static regret."""
    strong_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of the noise where strong convexity is used."""
    newton_rounds: int = 1000
    """Of the online Newton steps; none, if zero."""
    game_starts: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    """Of the game, the first one the specification's."""
    moving_rounds: int = 2000
    """Of the dynamic regret."""
    noises: tuple[float, ...] = (0.0, 0.5)
    """There."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            rounds=200,
            early=20,
            environments=((0, 0), (1, 0)),
            strong_seeds=(0,),
            newton_rounds=0,
            game_starts=(1, 2),
            moving_rounds=100,
            noises=(0.5,),
        )


@dataclass(frozen=True)
class Static:
    """The static regret in one environment."""

    noise: float
    drift: float
    bounds: np.ndarray
    """The paper's, early and at the end, by seed: seeds along the first axis."""
    regret: dict[str, np.ndarray]
    """After each round, by seed."""


@dataclass(frozen=True)
class Game:
    """The duality gap after each round, starts along the first axis."""

    mean: np.ndarray
    """Of the mean of what was played."""
    last: np.ndarray

    def slope(self, early: int) -> np.ndarray:
        """The exponent of the mean's decay, from the tenth part of an early round to the end."""
        first, rounds = max(early // 10, 1), self.mean.shape[1]
        return np.log(self.mean[:, -1] / self.mean[:, first - 1]) / np.log(rounds / first)


@dataclass(frozen=True)
class Moving:
    """The dynamic regret in one environment, by learner and seed; the pool's members have an axis in front."""

    name: str
    noise: float
    etas: np.ndarray
    members: np.ndarray
    regret: dict[str, np.ndarray]

    @property
    def best(self) -> float:
        """The mean of the member that is best in the mean."""
        return float(self.members.mean(axis=1).min())

    @property
    def worst(self) -> float:
        """The mean of the one that is worst."""
        return float(self.members.mean(axis=1).max())


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    static: list[Static]
    strong: np.ndarray
    """The regret after each round with noise one, by seed."""
    still: np.ndarray
    """The same without noise."""
    newton: dict[str, np.ndarray]
    """The regret of the Newton steps with noise one, by seed."""
    games: dict[str, Game]
    moving: list[Moving]


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"static regret": 5, "Newton steps": 6, "games": 3, "dynamic regret": 5})
    static = run.part("static regret", lambda _: _static(settings, run))
    strong, still = run.part("strong convexity", lambda _: _strong(settings, run))
    newton = run.part("Newton steps", lambda _: _newton(settings, run))
    games = run.part("games", lambda _: _games(settings))
    moved = run.part("dynamic regret", lambda _: _moving(settings, run))
    return Result(settings, static, strong, still, newton, games, moved)


# static regret


def learners(G: Any) -> dict[str, Learner]:
    """All that play for the static regret, with a bound on gradients."""
    rule = adaptive_variation(D, G, L)
    return {
        OPTIMISTIC: optimistic_mirror_descent(BALL, rule),
        CENTER: optimistic_mirror_descent(BALL, rule, hint="none"),
        PLAIN: optimistic_mirror_descent(BALL, decreasing(D, G), hint="none"),
        ADAGRAD: optimistic_mirror_descent(BALL, adagrad_norm(D, G), hint="none"),
        LEADER: optimistic_ftrl(BALL, rule),
    }


def _played(make: Callable[[Any], dict[str, Learner]]) -> Any:
    """A program that plays against several sequences of points with several bounds side by side."""

    def play(items: Any, G: Any) -> Any:
        return {name: follow(one, gradient, items, jnp.zeros(DIMENSIONS))[0] for name, one in make(G).items()}

    return jax.jit(jax.vmap(play))


def growth(points: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The static regret after each round against the best fixed point of all rounds so far."""
    own = np.cumsum(0.5 * np.sum((points - a) ** 2, axis=-1), axis=-1)
    count = np.arange(1, a.shape[-2] + 1)
    sums, squares = np.cumsum(a, axis=-2), np.cumsum(np.sum(a**2, axis=-1), axis=-1)
    mean = sums / count[:, None]
    best = mean / np.maximum(1, np.linalg.norm(mean, axis=-1, keepdims=True))
    theirs = 0.5 * (squares - 2 * np.sum(best * sums, axis=-1) + count * np.sum(best**2, axis=-1))
    return own - theirs


def _static(settings: Settings, run: Run) -> list[Static]:
    worlds = [(noise, drift, seed) for noise, drift in settings.environments for seed in settings.seeds]
    centers, items = [], []
    for noise, drift, seed in worlds:
        random = run.random("static", f"{noise:g} {drift:g}", seed)
        centers.append(drifting(settings.rounds, drift, random))
        items.append(noisy(centers[-1], noise, random))
    items = np.stack(items)
    points = _played(learners)(items, jnp.array([bound(noise) for noise, _, _ in worlds]))
    # a program's dictionary comes back sorted
    regret = {name: growth(np.asarray(points[name]), items) for name in learners(1.0)}
    limits = np.array(
        [
            [_limit(noise, center[:rounds]) for rounds in (settings.early, settings.rounds)]
            for (noise, _, _), center in zip(worlds, centers, strict=True)
        ]
    )
    count = len(settings.seeds)
    lanes = [slice(i * count, (i + 1) * count) for i in range(len(settings.environments))]
    return [
        Static(noise, drift, limits[lane], {name: found[lane] for name, found in regret.items()})
        for (noise, drift), lane in zip(settings.environments, lanes, strict=True)
    ]


def _limit(noise: float, centers: np.ndarray) -> float:
    """The bound of the paper."""
    G = bound(noise)
    drift = np.sum(np.diff(centers, axis=0) ** 2) + G**2
    return float(convex_bound(D, G, L, noise**2 * len(centers), drift))


def _strong(settings: Settings, run: Run) -> tuple[np.ndarray, np.ndarray]:
    still = drifting(settings.rounds, 0.0, run.random("still"))
    items = [noisy(still, 1.0, run.random("strong", seed)) for seed in settings.strong_seeds]
    items = np.stack([still, *items])
    learner = {OPTIMISTIC: optimistic_mirror_descent(BALL, strongly_convex(1.0))}
    points = _played(lambda G: learner)(items, jnp.zeros(len(items)))[OPTIMISTIC]
    found = growth(np.asarray(points), items)
    return found[1:], found[0]


def _newton(settings: Settings, run: Run) -> dict[str, np.ndarray]:
    if not settings.newton_rounds:
        return {}
    noise = 1.0
    still = drifting(settings.newton_rounds, 0.0, run.random("still"))
    items = np.stack([noisy(still, noise, run.random("Newton", seed)) for seed in settings.seeds])
    G = bound(noise)

    def make(_: Any) -> dict[str, Learner]:
        # half of a squared distance is exp-concave with one over the squared bound
        ways = {NEWTON: True, PLAIN_NEWTON: False}
        return {
            name: optimistic_online_newton(BALL, D=D, G=G, alpha=1 / G**2, optimism=way) for name, way in ways.items()
        }

    points = _played(make)(items, jnp.zeros(len(items)))
    return {name: growth(np.asarray(points[name]), items) for name in (NEWTON, PLAIN_NEWTON)}


# games


def _games(settings: Settings) -> dict[str, Game]:
    A = jnp.asarray(game())

    def play(learner: Learner, start: tuple[Any, Any]) -> Any:
        def step(states: Any, _: None) -> Any:
            points = tuple(learner.play(state) for state in states)
            slopes = game_gradients(A, *points)
            return tuple(learner.update(*given) for given in zip(states, slopes, strict=True)), points

        return jax.lax.scan(step, tuple(map(learner.init, start)), None, settings.rounds)[1]

    both = {
        OPTIMISTIC: optimistic_mirror_descent(BALL, adaptive_variation(D, 1.0, L)),
        PLAIN: optimistic_mirror_descent(BALL, decreasing(D, 1.0), hint="none"),
    }
    starts = tuple(np.stack(part) for part in zip(*map(game_start, settings.game_starts), strict=True))
    found = jax.jit(jax.vmap(lambda start: {name: play(one, start) for name, one in both.items()}))(starts)
    games = {}
    for name in both:
        x, y = map(np.asarray, found[name])
        count = np.arange(1, settings.rounds + 1)[:, None]
        means = [np.cumsum(part, axis=1) / count for part in (x, y)]
        games[name] = Game(duality_gap(*means), duality_gap(x, y))
    return games


# dynamic regret


def _moving(settings: Settings, run: Run) -> list[Moving]:
    return [one for noise in settings.noises for one in _moving_with(settings, run, noise)]


def _moving_with(settings: Settings, run: Run, noise: float) -> list[Moving]:
    rounds, G = settings.moving_rounds, bound(noise)
    centers, items = [], []
    for name in MOVING:
        for seed in settings.seeds:
            random = run.random("moving", name, seed)
            centers.append(moving(name, rounds, random))
            items.append(noisy(centers[-1], noise, random))
    etas = pool(D, G, L, rounds)
    zero = jnp.zeros(DIMENSIONS)

    def play(items: Any) -> Any:
        def ensemble(uniform: Any) -> Any:
            learner = dynamic_ensemble(BALL, D=D, G=G, L=L, horizon=rounds, uniform=uniform)
            return follow(learner, gradient, items, zero)[0]

        member = lambda eta: follow(optimistic_mirror_descent(BALL, constant(eta)), gradient, items, zero)[0]
        others = {name: one for name, one in learners(G).items() if name in (OPTIMISTIC, PLAIN)}
        return (
            jax.vmap(ensemble)(jnp.array([False, True])),
            jax.vmap(member)(jnp.asarray(etas)),
            {name: follow(one, gradient, items, zero)[0] for name, one in others.items()},
        )

    layers, members, others = jax.jit(jax.vmap(play))(np.stack(items))
    lost = lambda points, goal: 0.5 * np.sum((np.asarray(points) - goal) ** 2, axis=(-2, -1))
    goals, count = np.stack(centers), len(settings.seeds)
    regrets = {TWO_LAYERS: lost(layers[:, 0], goals), UNIFORM: lost(layers[:, 1], goals)}
    regrets |= {name: lost(others[name], goals) for name in (OPTIMISTIC, PLAIN)}
    alone = lost(members, goals[:, None]).T
    lanes = {name: slice(i * count, (i + 1) * count) for i, name in enumerate(MOVING)}
    return [
        Moving(name, noise, etas, alone[:, lane], {key: found[lane] for key, found in regrets.items()})
        for name, lane in lanes.items()
    ]
