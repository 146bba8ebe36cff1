"""A bandit with a trap, by every estimator of the gate's gradient, with exact rewards and with critics; Pendulum.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from dini_zoo.kit.checking import one_of
from dini_zoo.kit.run import Phase, Run

from ..bandits import evaluation_contexts, optimum
from ..environments import gymnax_environment
from .bandit_training import (
    Budget,
    CriticBudget,
    PPOBudget,
    Trained,
    by_ppo,
    judged,
    with_exact_rewards,
    with_learned_critics,
)
from .control import ControlBudget, control
from .gates import gate_fixed_point, win_probability
from .losses import (
    blended_policy_loss,
    gumbel_policy_loss,
    mixture_policy_loss,
    reinforce_policy_loss,
    score_ratio_policy_loss,
)

PARTS = ("exact", "spread", "critics", "PPO", "control")
MAX, ALL, ONE = "PMOE, max", "PMOE, all", "one Gaussian"
GUMBEL, REINFORCE, RATIO, BLEND = "Gumbel-Softmax", "REINFORCE", "score ratio", "blended actions"
MIXTURE = "PMOE, max, mixture's entropy"
WITH, WITHOUT = "uniform start", "no uniform start"


@dataclass(frozen=True)
class Row:
    """A way to train on the bandit."""

    name: str
    loss: Callable[..., Any]
    several: bool = True
    """Whether there is more than one component."""
    blended: bool = False


ROWS = (
    Row(MAX, mixture_policy_loss),
    Row(ONE, mixture_policy_loss, several=False),
    Row(ALL, functools.partial(mixture_policy_loss, backprop="all")),
    Row(GUMBEL, gumbel_policy_loss),
    Row(REINFORCE, reinforce_policy_loss),
    Row(BLEND, blended_policy_loss, blended=True),
    Row(RATIO, score_ratio_policy_loss),
    Row(MIXTURE, functools.partial(mixture_policy_loss, entropy="mixture")),
)


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = tuple(range(8))
    """Of trainings with exact rewards."""
    parts: tuple[str, ...] = PARTS
    """What is done."""
    rows: tuple[str, ...] = tuple(row.name for row in ROWS)
    """Ways to train with exact rewards."""
    components: int = 4
    """Of a mixture."""
    updates: int = 2000
    batch: int = 64
    spread: float = 0.5
    """The deviation of initial means in the part of that name, which has the first five rows; they are zero else."""
    critic_seeds: int = 3
    """Of trainings with learned critics and by PPO, the first ones of the seeds."""
    start: int = 4000
    """Pairs with uniform actions that critics start with."""
    alone: int = 1000
    """Iterations in which the critics learn alone."""
    rounds: int = 64
    """Of PPO, with 2048 contexts each."""
    control_seeds: int = 3
    control_steps: int = 10_000
    """Of Pendulum."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(seeds=(0, 1), parts=("exact",), rows=(MAX,), components=2, updates=2, batch=4)


@dataclass(frozen=True)
class Outcome:
    """What a row led to, seed by seed."""

    name: str
    score: np.ndarray
    stochastic: np.ndarray
    """Of each seed and point of the training."""
    weights: np.ndarray
    wins: np.ndarray
    critic_error: np.ndarray
    logits: np.ndarray
    """At the shown contexts: shape (seeds, contexts, K)."""
    mean: np.ndarray
    log_std: np.ndarray
    squashed: bool

    @classmethod
    def of(cls, name: str, trained: Trained) -> Outcome:
        """As arrays of NumPy."""
        shown = trained.shown
        parts = (trained.score, trained.stochastic, trained.weights, trained.wins)
        figures = (
            np.asarray(one, float) for one in (*parts, np.broadcast_to(trained.critic_error, trained.score.shape))
        )
        drawn = (np.asarray(one, float) for one in (shown.logits, shown.mean, shown.log_std))
        return cls(name, *figures, *drawn, shown.scale is not None)


@dataclass(frozen=True)
class Task:
    """Returns of the episodes of a control task, seed by seed, and who won."""

    name: str
    returns: list[np.ndarray]
    """In the training, with sampled actions."""
    greedy: np.ndarray
    """After it, of the mean with the largest weight; the mean of each seed's episodes."""
    alpha: np.ndarray
    wins: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class FixedPoint:
    """The gate's, of two primitives with a value that is affine in the action."""

    weight: float
    derivative: float
    """In the first mean, by the implicit function theorem."""


@dataclass(frozen=True)
class Result:
    """What was found; what was not done is empty."""

    settings: Settings
    optimum: float
    fixed: FixedPoint
    exact: list[Outcome]
    spread: list[Outcome]
    critics: dict[str, list[Outcome]]
    """With a uniform start, and without."""
    ppo: list[Outcome]
    control: list[Task]


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    for part in settings.parts:
        one_of("parts", part, PARTS)
    for row in settings.rows:
        one_of("rows", row, [row.name for row in ROWS])
    run.plan({"fixed point": 2, "exact": 35, "spread": 35, "critics": 50, "PPO": 15, "control": 50})
    done = lambda name: name in settings.parts
    keys = lambda name, seeds: jnp.stack([run.key(name, seed) for seed in seeds])
    few = settings.seeds[: settings.critic_seeds]
    budget = Budget(settings.updates, settings.batch)

    def on_bandit(name: str, rows: tuple[Row, ...], spread: float) -> list[Outcome]:
        def one(row: Row, _: Phase) -> Outcome:
            components = settings.components if row.several else 1
            figures = {"budget": budget, "loss": row.loss, "components": components, "blended": row.blended}
            # the same keys for each row: it begins where the others of its size do, and sees the same contexts
            found = with_exact_rewards(keys("exact", settings.seeds), jnp.asarray(spread), **figures)
            return Outcome.of(row.name, judged(*found, blended=row.blended))

        chosen = [row for row in rows if row.name in settings.rows and done(name)]
        return run.each(name, chosen, one, pairs=True) if chosen else []

    def with_critics(which: tuple[str, str], _: Phase) -> Outcome:
        start, name = which
        critics = CriticBudget(start=settings.start if start == WITH else 0, alone=settings.alone)
        components = settings.components if name == MAX else 1
        figures = {"budget": budget, "critics": critics, "loss": mixture_policy_loss, "components": components}
        *found, error = with_learned_critics(keys("critics", few), **figures)
        return Outcome.of(name, judged(*found, critic_error=error))

    def ppo(name: str, _: Phase) -> Outcome:
        components = settings.components if name == MAX else 1
        figures = {"budget": PPOBudget(rounds=settings.rounds), "components": components}
        return Outcome.of(name, judged(*by_ppo(keys("PPO", few), **figures)))

    fixed = run.part("fixed point", _fixed_point)
    exact, spread = on_bandit("exact", ROWS, 0.0), on_bandit("spread", ROWS[:5], settings.spread)
    pairs = [(start, name) for start in (WITH, WITHOUT) for name in (MAX, ONE)] if done("critics") else []
    learned = run.each("critics", pairs, with_critics, pairs=True) if pairs else []
    critics = {}
    for (start, _), found in zip(pairs, learned, strict=True):
        critics.setdefault(start, []).append(found)
    by_surrogate = run.each("PPO", (MAX, ONE), ppo, pairs=True) if done("PPO") else []
    controlled = _control(settings, run, keys) if done("control") else []
    best = float(jnp.mean(optimum(jnp.asarray(evaluation_contexts()))))
    return Result(settings, best, fixed, exact, spread, critics, by_surrogate, controlled)


def _fixed_point(_: Phase) -> FixedPoint:
    """In double precision."""
    with jax.enable_x64(True):
        mean, std = jnp.array([0.3, 0.0]), jnp.array([0.5, 0.4])
        weight = lambda mean: jax.nn.softmax(gate_fixed_point(win_probability(mean, std)))[0]
        value, slope = jax.jit(jax.value_and_grad(weight))(mean)
        return FixedPoint(float(value), float(slope[0]))


def _control(settings: Settings, run: Run, keys: Any) -> list[Task]:
    environment = gymnax_environment("Pendulum-v1")
    random = min(1000, settings.control_steps // 2)
    budget = ControlBudget(steps=settings.control_steps, random=random)
    seeds = settings.seeds[: settings.control_seeds]

    def one(name: str, _: Phase) -> Task:
        components = 1 if name == ONE else settings.components
        backprop = "all" if name == ALL else "max"
        figures = {"environment": environment, "budget": budget, "components": components, "backprop": backprop}
        found = control(keys("control", seeds), **figures)
        returns = [_returns(reward, ended) for reward, ended in zip(found.reward, found.ended, strict=True)]
        figures = (found.greedy.mean(axis=1), found.alpha, found.wins, found.weights)
        return Task(name, returns, *(np.asarray(part, float) for part in figures))

    return run.each("control", (MAX, ALL, ONE), one, pairs=True)


def _returns(reward: Any, ended: Any) -> np.ndarray:
    """Of the episodes that ended, or of all that was seen if none did."""
    ends = np.flatnonzero(np.asarray(ended)) + 1
    parts = np.split(np.asarray(reward, float), ends)
    return np.array([part.sum() for part in parts[: max(1, len(ends))]])
