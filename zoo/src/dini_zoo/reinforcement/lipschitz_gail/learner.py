r"""Adversarial imitation with replay: a discriminator is the reward of a deterministic actor-critic.

One step of the environment is followed by one step of the actor and the critics on a batch of what was stored, whose
rewards are those of the discriminator *as it is now*, and by one step of the discriminator on the same batch and one of
the expert's. Rewards that were stored with transitions would be of discriminators that are gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ...kit.checking import at_least, finite, known, not_negative
from ..environments import Environment, Running, Transition
from ..replay import Replay
from ..td3 import TD3, Batch, TD3State, n_step
from .discriminator import Discriminator, Form, Penalty, discriminator_loss, imitation_reward
from .preconditioning import Constant, LearnedDynamics, precondition_reward


class Demonstrations(NamedTuple):
    """What the expert did, an example a row."""

    state: Float[Array, "n s"]
    action: Float[Array, "n a"] | None = None
    """Needed unless rewards are of states alone."""
    next_state: Float[Array, "n s"] | None = None
    """Needed where rewards are of states alone."""
    count: int | Int[Array, ""] | None = None
    """So many of the first examples are shown; all if it is not given."""

    def checked(self, environment: Environment, *, state_only: bool = False) -> Demonstrations:
        """The demonstrations, if they are of this environment.

        Raises `ValueError` where there are none, what is needed is missing, their numbers of columns are not the
        environment's, something is not finite, an action is outside of the box, or `count` is not from one to their
        number.
        """
        second = ("next_state", self.next_state, environment.observations)
        if not state_only:
            second = ("action", self.action, environment.actions)
        for name, array, columns in (("state", self.state, environment.observations), second):
            shape = np.shape(array)
            if array is None or len(shape) != 2 or shape[1] != columns or not 0 < shape[0] == len(self.state):
                raise ValueError(
                    f"The demonstrations' {name} must be a matrix of {columns} columns with a row for each of at least "
                    f"one example: given {'none' if array is None else f'the shape {shape}'}, beside "
                    f"{np.shape(self.state)[0]} states."
                )
            finite(f"The demonstrations' {name}", array)
        bound = environment.bound
        largest = np.max(np.abs(self.action)) if known(self.action) else 0.0
        if bound is not None and largest > bound * (1 + 1e-6):
            raise ValueError(
                f"The demonstrations' actions must be within [-{bound:g}, {bound:g}]: given one of size {largest:g}."
            )
        if known(self.count) and not 1 <= self.count <= len(self.state):
            raise ValueError(f"count must be from 1 to {len(self.state)}: given {self.count}.")
        return self

    def points(self, *, state_only: bool = False) -> tuple[Array, Array]:
        """All examples as a discriminator sees them."""
        return self.state, self.next_state if state_only else self.action

    def sample(self, key: Array, size: int, *, state_only: bool = False) -> tuple[Array, Array]:
        """A batch of those that are shown, drawn with replacement."""
        count = len(self.state) if self.count is None else self.count
        chosen = jax.random.randint(key, (size,), 0, count)
        return jax.tree.map(lambda rows: jnp.asarray(rows)[chosen], self.points(state_only=state_only))


class LearnerState(NamedTuple):
    """What is carried from step to step."""

    agent: TD3State
    discriminator: Discriminator
    optimizer: Any
    """The discriminator's."""
    preconditioner: Any
    replay: Replay[Transition]
    running: Running


class Figures(NamedTuple):
    """What a step shows."""

    critic_loss: Float[Array, ""]
    discriminator_loss: Float[Array, ""]
    kappa: Float[Array, ""]


@dataclass(frozen=True)
class Learner:
    """Adversarial imitation: its settings; `init`, `collect` and `learn` are pure functions.

    Parameters
    ----------
    environment
        Its rewards are never looked at.
    agent
        The actor-critic.
    optimizer
        The discriminator's, an optax transformation.
    discount
        From 0 to 1.
    penalty
        On the discriminator's slope; none if it is `None`.
    entropy, label_smoothing
        Of `discriminator_loss`.
    form
        Of `imitation_reward`.
    preconditioner
        Of the reward; `Constant(1.0)` leaves it as it is.
    batch
        Examples a step.
    exploration
        The standard deviation of the noise on actions.
    returns
        Over how many steps a return is summed before the critics' value follows.
    state_only
        Whether the reward is of a state and the next one, :math:`D(s, s')`, and not of a state and an action.
    power_steps
        A step, for a discriminator with spectral normalization.

    Raises
    ------
    ValueError
        For an environment without a box of actions, and numbers outside of their ranges.
    """

    environment: Environment
    agent: TD3
    optimizer: optax.GradientTransformation
    discount: float = 0.99
    penalty: Penalty | None = Penalty()  # noqa: RUF009 - frozen
    entropy: float = 1e-3
    label_smoothing: tuple[float, float] | None = (0.7, 1.2)
    form: Form = "minimax"
    preconditioner: Constant | LearnedDynamics = Constant()  # noqa: RUF009 - frozen
    batch: int = 64
    exploration: float = 0.1
    returns: int = 1
    state_only: bool = False
    power_steps: int = 5

    def __post_init__(self) -> None:
        if self.environment.bound is None:
            raise ValueError("The environment must have a box of actions: given one without a bound.")
        if known(self.discount) and not 0 <= self.discount <= 1:
            raise ValueError(f"discount must be from 0 to 1: given {self.discount}.")
        not_negative("exploration", self.exploration)
        for name in ("batch", "returns", "power_steps"):
            at_least(name, getattr(self, name), 1)

    def init(
        self, key: Array, actor: Any, critics: Any, discriminator: Discriminator, *, capacity: int = 100_000
    ) -> LearnerState:
        """The first state, with an empty replay buffer of so many transitions."""
        begin, for_factor = jax.random.split(key)
        running = self.environment.start(begin)
        action = jnp.zeros(self.environment.actions)
        seen = jax.eval_shape(self.environment.advance, key, running, action)[1]
        return LearnerState(
            self.agent.init(actor, critics),
            discriminator,
            self.optimizer.init(eqx.filter(discriminator, eqx.is_inexact_array)),
            self.preconditioner.init(for_factor),
            Replay.like(seen, capacity),
            running,
        )

    def collect(self, state: LearnerState, key: Array, *, uniform: bool = False) -> LearnerState:
        """One step of the environment, which is stored: of the actor with noise, or of an action from the whole box."""
        for_action, for_step = jax.random.split(key)
        bound = self.environment.bound
        if uniform:
            shape = (self.environment.actions,)
            action = jax.random.uniform(for_action, shape, minval=-bound, maxval=bound)
        else:
            action = self.agent.explore(for_action, state.agent.actor(state.running.observation), self.exploration)
        running, seen = self.environment.advance(for_step, state.running, action)
        return state._replace(running=running, replay=state.replay.add(seen))

    def points(self, seen: Transition) -> tuple[Array, Array]:
        """Transitions as the discriminator sees them."""
        return seen.observation, seen.next_observation if self.state_only else seen.action

    def reward(self, discriminator: Discriminator, points: tuple[Array, Array]) -> Array:
        """The learned reward of a batch of points, without the factor."""
        return imitation_reward(jax.vmap(discriminator)(points), self.form)

    def learn(self, state: LearnerState, key: Array, demonstrations: Demonstrations) -> tuple[LearnerState, Figures]:
        """One step of the actor-critic and one of the discriminator."""
        for_runs, for_agent, for_expert, for_loss = jax.random.split(key, 4)
        runs = state.replay.sample_runs(for_runs, self.batch, self.returns)
        first = jax.tree.map(lambda leaf: leaf[:, 0], runs)
        states, actions = first.observation, first.action
        memory, kappa = self.preconditioner.update(state.preconditioner, states, actions, first.next_observation)

        rewards = jax.vmap(lambda points: self.reward(state.discriminator, points))(self.points(runs))
        rewards = precondition_reward(rewards, kappa)
        several = jax.vmap(n_step, in_axes=(0, 0, 0, 0, None))
        targets = several(rewards, runs.next_observation, runs.terminal, runs.truncated, self.discount)
        agent, shown = self.agent.update(state.agent, for_agent, Batch(states, actions, *targets))

        expert = demonstrations.sample(for_expert, self.batch, state_only=self.state_only)
        loss, slope = eqx.filter_value_and_grad(self._loss)(state.discriminator, for_loss, self.points(first), expert)
        updates, optimizer = self.optimizer.update(
            slope, state.optimizer, eqx.filter(state.discriminator, eqx.is_inexact_array)
        )
        discriminator = eqx.apply_updates(state.discriminator, updates).refreshed(self.power_steps)
        after = LearnerState(agent, discriminator, optimizer, memory, state.replay, state.running)
        return after, Figures(shown.critic_loss, loss, jnp.asarray(kappa, loss.dtype))

    def _loss(self, discriminator: Discriminator, key: Array, ours: Any, theirs: Any) -> Array:
        return discriminator_loss(
            lambda D, point: D(point),
            discriminator,
            key,
            ours,
            theirs,
            entropy=self.entropy,
            label_smoothing=self.label_smoothing,
            penalty=self.penalty,
        )


class History[W](NamedTuple):
    """A run of a learner."""

    final: LearnerState
    figures: Figures
    """The mean over the steps between two looks."""
    watched: W
    """What `watch` returned at each look."""


def imitate[W](
    learner: Learner,
    key: Array,
    start: LearnerState,
    demonstrations: Demonstrations,
    *,
    steps: int,
    warmup: int,
    watch: Callable[[LearnerState], W],
    every: int,
) -> History[W]:
    """Learn for so many steps of the environment, in one scan that can be compiled and mapped over keys.

    Parameters
    ----------
    learner, start, demonstrations
        What learns, from where, from whom.
    steps
        In all.
    warmup
        Of these, the first ones, with actions from the whole box and without learning.
    watch
        What is looked at.
    every
        After so many steps that were learned in; it divides their number.

    Raises
    ------
    ValueError
        For demonstrations that are not of the environment, fewer steps of warming up than a return has, and an `every`
        that does not divide the other steps.
    """
    demonstrations = demonstrations.checked(learner.environment, state_only=learner.state_only)
    at_least("warmup", warmup, learner.returns)
    if every < 1 or steps <= warmup or (steps - warmup) % every:
        raise ValueError(
            f"every must divide the steps behind the warmup, {steps - warmup}, and there must be some: given {every}."
        )
    for_warmup, for_steps = jax.random.split(key)
    collected = lambda state, key: (learner.collect(state, key, uniform=True), None)
    dynamic, static = eqx.partition(start, eqx.is_array)

    def arrays(fun: Callable[[LearnerState, Array], tuple[LearnerState, Any]]) -> Any:
        """A step on the arrays alone, which a scan can carry."""

        def one(dynamic: Any, key: Array) -> tuple[Any, Any]:
            state, shown = fun(eqx.combine(dynamic, static), key)
            return eqx.filter(state, eqx.is_array), shown

        return one

    def step(state: LearnerState, key: Array) -> tuple[LearnerState, Figures]:
        for_environment, for_learning = jax.random.split(key)
        return learner.learn(learner.collect(state, for_environment), for_learning, demonstrations)

    def stretch(dynamic: Any, keys: Array) -> tuple[Any, tuple[Figures, W]]:
        dynamic, figures = jax.lax.scan(arrays(step), dynamic, keys)
        return dynamic, (jax.tree.map(jnp.mean, figures), watch(eqx.combine(dynamic, static)))

    dynamic, _ = jax.lax.scan(arrays(collected), dynamic, jax.random.split(for_warmup, warmup))
    keys = jax.random.split(for_steps, steps - warmup).reshape(-1, every)
    dynamic, (figures, watched) = jax.lax.scan(stretch, dynamic, keys)
    return History(eqx.combine(dynamic, static), figures, watched)
