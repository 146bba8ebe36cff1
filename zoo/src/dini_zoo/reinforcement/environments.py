"""Decision processes as pure functions of a key, with the end of the process and the end of the clock kept apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dini_zoo.kit.checking import at_least, one_of

TASKS = ("Pendulum-v1", "CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0")


class Transition(NamedTuple):
    """What one step showed; with axes in front, what many did."""

    observation: Float[Array, "*axes n"]
    action: Array
    reward: Float[Array, "*axes"]
    next_observation: Float[Array, "*axes n"]
    """What was reached, also where an episode ended there: a bootstrapped value is of this."""
    terminal: Bool[Array, "*axes"]
    """The process is over, with no rewards after it. Never true for a time-out."""
    truncated: Bool[Array, "*axes"]
    """The clock ended the episode: the process would have gone on, and its value there counts."""


class Running(NamedTuple):
    """An episode under way."""

    state: Any
    observation: Float[Array, " n"]
    time: Int[Array, ""]


class Environment(eqx.Module):
    r"""A Markov decision process with a clock.

    Two functions say all: `reset(key) -> (state, observation)` draws a start, and
    `step(key, state, action) -> (state, observation, reward, terminal)` goes on. The clock is the environment's own:
    after `horizon` steps an episode is *truncated*, which is not *terminal*. (A value that is learned with time-outs
    taken for ends of the process is wrong wherever the clock may strike.)

    Parameters
    ----------
    reset, step
        The functions.
    horizon
        The number of steps after which an episode is cut.
    observations, actions
        The number of entries of an observation and of an action; of a discrete action, the number of choices.
    bound
        Actions are within `[-bound, bound]` in each entry; None for discrete or unbounded ones.

    Raises
    ------
    ValueError
        Where a number of them is less than one.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> walk = Environment(
    ...     reset=lambda key: (jnp.zeros(1), jnp.zeros(1)),
    ...     step=lambda key, s, a: (s + a, s + a, -jnp.sum(s**2), jnp.abs(s + a)[0] > 5),
    ...     horizon=3, observations=1, actions=1,
    ... )
    >>> running = walk.start(jax.random.key(0))
    >>> for key in jax.random.split(jax.random.key(1), 3):
    ...     running, seen = walk.advance(key, running, jnp.ones(1))
    ...     print(int(seen.next_observation[0]), bool(seen.terminal), bool(seen.truncated), int(running.time))
    1 False False 1
    2 False False 2
    3 False True 0
    """

    reset: Callable[[Any], tuple[Any, Array]]
    step: Callable[[Any, Any, Any], tuple[Any, Array, Array, Array]]
    horizon: int = eqx.field(static=True)
    observations: int = eqx.field(static=True)
    actions: int = eqx.field(static=True)
    bound: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        for name in ("horizon", "observations", "actions"):
            at_least(name, getattr(self, name), 1)

    def start(self, key: Key[Array, ""]) -> Running:
        """The beginning of an episode."""
        return Running(*self.reset(key), jnp.zeros((), jnp.int32))

    def move(self, key: Key[Array, ""], running: Running, action: Array) -> tuple[Running, Transition]:
        """One step, and what it showed. An episode that ended with it is not restarted."""
        state, observation, reward, terminal = self.step(key, running.state, action)
        time = running.time + 1
        terminal = jnp.asarray(terminal, bool)
        truncated = (time >= self.horizon) & ~terminal
        seen = Transition(running.observation, action, jnp.asarray(reward), observation, terminal, truncated)
        return Running(state, observation, time), seen

    def advance(self, key: Key[Array, ""], running: Running, action: Array) -> tuple[Running, Transition]:
        """One step, and a new episode where one ended: for learners that go on forever."""
        onward, anew = jax.random.split(key)
        after, seen = self.move(onward, running, action)
        ended = seen.terminal | seen.truncated
        fresh = self.start(anew)
        return jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, after), seen


def gymnax_environment(name: str, *, horizon: int | None = None) -> Environment:
    r"""A task of classic control from gymnax, with its time-outs distinguished from its ends.

    Gymnax calls an episode done when its clock strikes. Its clock is stopped here, and the environment's own is used,
    so that `terminal` means what it says. Actions of continuous tasks are an array of the shape (1,).

    Parameters
    ----------
    name
        "Pendulum-v1", "CartPole-v1", "Acrobot-v1", "MountainCar-v0" or "MountainCarContinuous-v0".
    horizon
        The steps of an episode; None for gymnax's own number.

    Raises
    ------
    ImportError
        Without gymnax, which `dini-zoo[reinforcement]` installs.
    ValueError
        For another name.
    """
    one_of("name", name, TASKS)
    try:
        import gymnax
    except ImportError as error:
        raise ImportError("The tasks of gymnax need `pip install 'dini-zoo[reinforcement]'`.") from error

    environment, params = gymnax.make(name)
    own = int(params.max_steps_in_episode)
    timeless = params.replace(max_steps_in_episode=jnp.iinfo(jnp.int32).max)
    space = environment.action_space(params)
    discrete = hasattr(space, "n")

    def reset(key: Any) -> tuple[Any, Array]:
        observation, state = environment.reset_env(key, timeless)
        # weak types would make a second program of the second step
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), (state, observation))

    def step(key: Any, state: Any, action: Any) -> tuple[Any, Array, Array, Array]:
        observation, after, reward, terminal, _ = environment.step_env(key, state, action, timeless)
        same = lambda new, old: jnp.reshape(jnp.asarray(new, jnp.result_type(old)), jnp.shape(old))
        return jax.tree.map(same, after, state), observation, jnp.reshape(reward, ()), terminal

    return Environment(
        reset,
        step,
        horizon=own if horizon is None else horizon,
        observations=jax.eval_shape(reset, jax.random.key(0))[1].shape[0],
        actions=int(space.n) if discrete else int(space.shape[0]),
        bound=None if discrete else float(jnp.max(jnp.abs(jnp.asarray(space.high)))),
    )
