"""The task: a mass in the plane that is to be brought to rest, and an expert with Riccati's gain."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..environments import Environment
from ..linear_quadratic import LinearQuadratic, double_integrator, environment, riccati_gain
from ..trajectories import rollout
from .learner import Demonstrations

#: The half width of the square in which an episode starts, and how many steps it has before the clock cuts it.
WIDTH, HORIZON = 1.5, 40
#: Of the expert's problem and of the learner alike.
DISCOUNT = 0.97
#: Episodes that are judged, and the most that are shown.
JUDGED, SHOWN = 64, 4


class Task(NamedTuple):
    """What is learned, and from whom."""

    problem: LinearQuadratic
    gain: Float[Array, "2 4"]
    """The expert's: :math:`a = -K s`, clipped to the box."""
    starts: Float[Array, "64 4"]
    demonstrations: Demonstrations
    """One episode behind the other."""
    expert: Float[Array, ""]
    """The mean return of the expert from the starts, without discount."""
    idle: Float[Array, ""]
    """That of no action at all."""

    @property
    def environment(self) -> Environment:
        """Episodes with random starts."""
        return environment(self.problem, _random_start, HORIZON, bound=1.0)

    def score(self, policy: Callable[[Array], Array]) -> Float[Array, ""]:
        """A policy's mean return from the starts: zero for no action, one for the expert's."""
        return (_mean_return(self.problem, policy, self.starts) - self.idle) / (self.expert - self.idle)

    def dynamics(self, point: tuple[Array, Array]) -> Array:
        """The next state."""
        return self.problem.A @ point[0] + self.problem.B @ point[1]


def _random_start(key: Array) -> Array:
    position = jax.random.uniform(key, (2,), minval=-WIDTH, maxval=WIDTH)
    return jnp.concatenate([position, jnp.zeros(2)])


def _episodes(problem: LinearQuadratic, policy: Callable[[Array], Array], starts: Array) -> tuple[Array, Array, Array]:
    """States, actions and rewards from each start."""

    def one(start: Array) -> tuple[Array, Array, Array]:
        here = environment(problem, lambda key: start, HORIZON, bound=1.0)
        found = rollout(here, lambda key, state: policy(state), jax.random.key(0))
        return found.observation, found.action, found.reward

    return jax.vmap(one)(starts)


def _mean_return(problem: LinearQuadratic, policy: Callable[[Array], Array], starts: Array) -> Array:
    return _episodes(problem, policy, starts)[2].sum(axis=1).mean()


def make() -> Task:
    """The task of the specification, whose starts are drawn by NumPy."""
    random = np.random.default_rng(0)
    rest = lambda positions: jnp.asarray(np.concatenate([positions, np.zeros_like(positions)], axis=1), float)
    starts = rest(random.uniform(-WIDTH, WIDTH, (JUDGED, 2)))
    shown = rest(random.uniform(-WIDTH, WIDTH, (SHOWN, 2)))
    problem = double_integrator(2, action_cost=0.05, discount=DISCOUNT)
    gain = riccati_gain(problem)

    @jax.jit
    def found(gain: Array, starts: Array, shown: Array) -> tuple[Array, ...]:
        expert = lambda state: jnp.clip(-gain @ state, -1.0, 1.0)
        states, actions, _ = _episodes(problem, expert, shown)
        returns = [_mean_return(problem, policy, starts) for policy in (expert, lambda state: jnp.zeros(2))]
        return states.reshape(-1, 4), actions.reshape(-1, 2), *returns

    states, actions, expert, idle = found(gain, starts, shown)
    return Task(problem, gain, starts, Demonstrations(states, actions), expert, idle)
