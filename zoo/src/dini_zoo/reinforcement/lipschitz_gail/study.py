"""The claim: rewards with a penalty on their slope and without, by seed; other bounds of it; few demonstrations.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from dini_zoo.kit.run import Phase, Run

from ..lipschitz import Kind, local_lipschitz
from ..policies import Network
from ..td3 import TD3, actor_and_critics, first_of
from .cloning import clone
from .discriminator import Discriminator, Penalty
from .learner import Learner, LearnerState, imitate
from .preconditioning import Constant, LearnedDynamics, Model, SmoothDynamics
from .task import DISCOUNT, HORIZON, SHOWN, Task, make

#: Where the actor is said to be saturated: so far out in the box.
EDGE = 0.99


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 10_000
    """Of the environment, and of learning behind the first ones."""
    warmup: int = 500
    """Steps with random actions, without learning."""
    every: int = 500
    """After so many steps of learning it is looked at."""
    hidden: int = 64
    """Units in each of two layers."""
    batch: int = 64
    weight: float = 10.0
    """Of the penalty."""
    target: float = 1.0
    """The slope that it allows."""
    kappa: float = 0.5
    """The factor of the preconditioned reward."""
    threshold: float = 2.0
    """The slope of learned dynamics above which they lower the factor; the published one is 9."""
    others: bool = True
    """Whether other penalties, spectral normalization and learned dynamics are shown, too."""
    shown: tuple[int, ...] = (1, 2)
    """Numbers of the expert's episodes, beside all of them."""
    cloning_steps: int = 2000

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0, 1), steps=60, warmup=20, every=20, hidden=8, batch=8, others=False, shown=(1,), cloning_steps=20
        )


@dataclass(frozen=True)
class Variant:
    """A way to learn the reward."""

    name: str
    kind: Kind | None = "wgan"
    """Where the penalty is; without it the program has none."""
    penalized: bool = True
    """Whether its weight is not zero."""
    kappa: float = 1.0
    spectral: bool = False
    modeled: bool = False
    """Whether learned dynamics make a factor."""
    shown: int = SHOWN
    """Of the expert's episodes."""

    @property
    def program(self) -> tuple[Kind | None, bool, bool]:
        """What variants have in common that are compiled once."""
        return self.kind, self.spectral, self.modeled


PLAIN, WGAN, CONSTANT, MODELED, DRAGAN, NAGARD, SPECTRAL = (
    "no penalty",
    "wgan",
    "wgan, constant κ",
    "wgan, modeled κ",
    "dragan",
    "nagard",
    "spectral norm",
)


def variants(settings: Settings) -> list[Variant]:
    """All that are learned with, the claim's first."""
    found = [Variant(PLAIN, penalized=False), Variant(WGAN), Variant(CONSTANT, kappa=settings.kappa)]
    if settings.others:
        found += [Variant(DRAGAN, "dragan"), Variant(NAGARD, "nagard"), Variant(SPECTRAL, None, spectral=True)]
        found += [Variant(MODELED, modeled=True)]
    return found + [Variant(shown_name(shown), shown=shown) for shown in settings.shown]


def shown_name(shown: int) -> str:
    """The variant's name that is shown so many of the expert's episodes."""
    return WGAN if shown == SHOWN else f"{WGAN}, {shown} shown"


class Look(NamedTuple):
    """What is seen of a learner; with axes in front, of each seed at each look."""

    score: Any
    reward_slope: Any
    """The largest norm of the gradient of the reward on the demonstrations, without the factor."""
    expert_score: Any
    """The mean of the discriminator's scores there."""
    value_slope: Any
    """The largest norm of the gradient of the first critic there."""
    policy_slope: Any
    """The largest spectral norm of the actor's Jacobian there."""
    saturated: Any
    """The share of the actor's actions there that are at the edge of the box."""


@dataclass(frozen=True)
class Outcome:
    """A variant's looks."""

    variant: Variant
    at: np.ndarray
    """Steps of the environment."""
    looks: Look
    """Arrays `(seeds, looks)`."""
    kappa: np.ndarray
    """The mean factor of the reward between two looks, by seed."""

    def final(self, of: str) -> np.ndarray:
        """At the end, by seed."""
        return getattr(self.looks, of)[:, -1]


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    expert: float
    idle: float
    dynamics_slope: float
    """The spectral norm of the dynamics' Jacobian."""
    outcomes: dict[str, Outcome]
    cloned: dict[int, np.ndarray]
    """Scores of behavior cloning by seed, for each number of episodes shown."""


def look(task: Task, state: LearnerState) -> Look:
    """What is seen of a learner."""
    actor, critic, discriminator = state.agent.actor, first_of(state.agent.critics), state.discriminator
    points = task.demonstrations.state, task.demonstrations.action
    actions = jax.vmap(actor)(points[0])
    return Look(
        task.score(actor),
        local_lipschitz(lambda point: jax.nn.softplus(discriminator(point)), points),
        jax.vmap(discriminator)(points).mean(),
        local_lipschitz(lambda point: critic(*point), points),
        local_lipschitz(actor, points[0]),
        jnp.mean(jnp.any(jnp.abs(actions) > EDGE, axis=1)),
    )


def program(settings: Settings, task: Task, kind: Kind | None, spectral: bool, modeled: bool) -> Callable[..., Any]:
    """All seeds side by side, compiled once for all weights, factors and numbers of episodes."""
    adam, hidden = optax.adam(1e-3), (settings.hidden, settings.hidden)
    model = lambda key: Model(Network((6, *hidden, 4), key, last_scale=0.01))

    def one(key: Array, weight: Array, kappa: Array, count: Array) -> tuple[Look, Array]:
        for_agent, for_discriminator, for_start, for_steps = jax.random.split(key, 4)
        learner = Learner(
            task.environment,
            TD3(adam, adam),
            optax.adam(5e-4),
            discount=DISCOUNT,
            penalty=None if kind is None else Penalty(kind, weight, settings.target),
            preconditioner=LearnedDynamics(model, adam, SmoothDynamics(settings.threshold))
            if modeled
            else Constant(kappa),
            batch=settings.batch,
        )
        agent = actor_and_critics(for_agent, 4, 2, hidden)
        discriminator = Discriminator(4, 2, hidden, key=for_discriminator, spectral=spectral)
        start = learner.init(for_start, *agent, discriminator, capacity=settings.steps)
        found = imitate(
            learner,
            for_steps,
            start,
            task.demonstrations._replace(count=count),
            steps=settings.steps,
            warmup=settings.warmup,
            watch=functools.partial(look, task),
            every=settings.every,
        )
        return found.watched, found.figures.kappa

    return jax.jit(jax.vmap(one, in_axes=(0, None, None, None)))


def clones(settings: Settings, task: Task) -> Callable[..., Array]:
    """Scores of behavior cloning, for all seeds."""

    def one(key: Array, count: Array) -> Array:
        for_agent, for_steps = jax.random.split(key)
        actor, _ = actor_and_critics(for_agent, 4, 2, (settings.hidden, settings.hidden))
        shown = task.demonstrations._replace(count=count)
        adam = optax.adam(1e-3)
        return task.score(clone(for_steps, actor, shown, adam, steps=settings.cloning_steps, batch=settings.batch))

    return jax.jit(jax.vmap(one, in_axes=(0, None)))


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    # inside of compiled programs numbers are not checked
    Penalty("wgan", settings.weight, settings.target)
    Constant(settings.kappa)
    if not all(1 <= shown <= SHOWN for shown in settings.shown):
        raise ValueError(
            f"shown must be from 1 to {SHOWN}, the number of the expert's episodes: given {settings.shown}."
        )
    all_variants = variants(settings)
    run.plan({"task": 2, "learners": 15 * len(all_variants), "behavior cloning": 6})
    task = run.part("task", lambda _: make())
    keys = jnp.stack([run.key("training", seed) for seed in settings.seeds])
    kinds = dict.fromkeys(variant.program for variant in all_variants)
    programs = {kind: program(settings, task, *kind) for kind in kinds}
    at = np.arange(settings.warmup, settings.steps, settings.every) + settings.every

    def learned(variant: Variant, _: Phase) -> Outcome:
        weight = settings.weight if variant.penalized else 0.0
        looks, kappa = programs[variant.program](
            keys, jnp.asarray(weight), jnp.asarray(variant.kappa), jnp.asarray(variant.shown * HORIZON)
        )
        return Outcome(variant, at, jax.tree.map(np.asarray, looks), np.asarray(kappa))

    outcomes = run.each("learners", all_variants, learned, pairs=True)
    cloning = clones(settings, task)
    shown = sorted({*settings.shown, SHOWN})
    scores = run.each("behavior cloning", shown, lambda count, _: np.asarray(cloning(keys, count * HORIZON)))
    return Result(
        settings,
        float(task.expert),
        float(task.idle),
        float(local_lipschitz(task.dynamics, jax.tree.map(lambda leaf: leaf[:1], task.demonstrations[:2]))),
        {one.variant.name: one for one in outcomes},
        dict(zip(shown, scores, strict=True)),
    )
