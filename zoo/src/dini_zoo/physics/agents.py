"""Agents in arrays of fixed length, with an alive mask: births, deaths, conflicts over a cell, and simulations.

A population whose size changes is kept in as many slots as it may ever need, so that a program of fixed shapes moves
it: agents that die leave a free slot, those that are born take one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import at_least, one_length, same_shape


class AgentArrays[V](eqx.Module):
    """Agents in `n` slots.

    What a slot holds that is not alive has no meaning.

    Parameters
    ----------
    alive
        Which slots hold an agent.
    values
        What an agent is, such as its position and energy: a tree of arrays with `n` rows.

    Raises
    ------
    ValueError
        Where an array of `values` has not `n` rows.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> agents = AgentArrays.of(jnp.array([3.0, 5.0]), capacity=3)
    >>> agents = agents.remove(jnp.array([True, False, False]))
    >>> agents, placed = agents.spawn(jnp.array([7.0, 8.0, 9.0]), jnp.array([True, True, True]))
    >>> print(agents.values, agents.alive, placed)
    [7. 5. 8.] [ True  True  True] [ True  True False]
    """

    alive: Bool[Array, "*batch n"]
    values: V

    def __check_init__(self) -> None:
        for leaf in jax.tree.leaves(self.values):
            # a batch of agents has its axes in front
            if getattr(leaf, "ndim", 0) < 1 or leaf.shape[: self.alive.ndim] != self.alive.shape:
                raise ValueError(
                    f"values must have a row for each of the {self.alive.shape} slots: given {np.shape(leaf)}."
                )

    @classmethod
    def of(cls, values: V, capacity: int) -> Self:
        """Agents that are all alive, in the first of `capacity` slots; raises `ValueError` where these are too few."""
        count = len(jax.tree.leaves(values)[0])
        if count > capacity:
            raise ValueError(f"capacity must be at least the number of agents, {count}: given {capacity}.")
        free = lambda leaf: jnp.zeros((capacity - count, *leaf.shape[1:]), leaf.dtype)
        return cls(jnp.arange(capacity) < count, jax.tree.map(lambda leaf: jnp.concatenate([leaf, free(leaf)]), values))

    @property
    def count(self) -> Int[Array, ""]:
        """The number of agents that are alive."""
        return jnp.sum(self.alive)

    def remove(self, mask: Bool[Array, "*batch n"]) -> Self:
        """Without the agents of a mask, a Boolean for each slot; slots that are free stay so."""
        same_shape("mask", mask, "alive", self.alive.shape)
        return type(self)(self.alive & ~mask, self.values)

    def replace(self, values: V) -> Self:
        """The same agents with other values."""
        return type(self)(self.alive, values)

    def spawn(self, values: V, mask: Bool[Array, " m"]) -> tuple[Self, Bool[Array, " m"]]:
        """Put candidates into free slots: the first of a mask into the first free slot, and so on.

        Parameters
        ----------
        values
            Those of `m` candidates, a tree of arrays with `m` rows: of parents, say.
        mask
            Which of the candidates are born.

        Returns
        -------
        agents
            With those that were born, as far as there are free slots.
        placed
            Which of the candidates have got one. Of `mask` without `placed` there was no room: count them.
        """
        free, count = ~self.alive, mask.shape[0]
        if one_length("values", values) != count:
            raise ValueError(
                f"values must have a row for each of the {count} of mask: given {one_length('values', values)}."
            )
        # of the candidates that are born, the one with each rank
        rank = jnp.cumsum(mask) - 1
        ranked = jnp.full(count, count).at[jnp.where(mask, rank, count)].set(jnp.arange(count), mode="drop")
        order = jnp.cumsum(free) - 1
        source = jnp.where(free & (order < count), ranked.at[order].get(mode="clip"), count)
        filled = source < count

        def put(own: Array, new: Array) -> Array:
            wide = filled.reshape(-1, *[1] * (own.ndim - 1))
            return jnp.where(wide, new.at[source].get(mode="clip").astype(own.dtype), own)

        agents = type(self)(self.alive | filled, jax.tree.map(put, self.values, values))
        return agents, mask & (rank < jnp.sum(free))


def first_in_cell(
    cell: Int[Array, " n"], mask: Bool[Array, " n"], cells: int
) -> tuple[Bool[Array, " n"], Bool[Array, " cells"]]:
    """The agent of lowest index in each of `cells` cells, among those of a mask.

    Returns
    -------
    first
        Which agents these are.
    taken
        Which cells have one.
    """
    n = cell.shape[0]
    index = jnp.arange(n)
    lowest = jnp.full(cells, n).at[cell].min(jnp.where(mask, index, n))
    return mask & (lowest[cell] == index), lowest < n


class ABM(Protocol):
    """A population as a Markov chain: `s' ~ A(s, u)`, of which the counts `x = o(s)` are seen.

    All are pure functions; an equinox module, whose parameters may be arrays, is one. Where the control is the
    probability of independent draws, `log_probability(state, control, after)` is the logarithm of what a step drew by
    it, for :func:`~dini_zoo.physics.estimators.score_function_loss`.
    """

    def init(self, key: Array) -> Any:
        """Return a random state to start from."""
        ...

    def step(self, state: Any, control: Float[Array, " m"], key: Array) -> Any:
        """Return the state after a step."""
        ...

    def observe(self, state: Any) -> Float[Array, " k"]:
        """Return the counts that are seen of a state, as floats."""
        ...


Policy = Callable[[Float[Array, " k"], Any], Float[Array, " m"]]
"""`policy(x, t)`: the control of step `t`, from the counts before it."""


class Trajectory(NamedTuple):
    """What was seen and done in `T` steps."""

    x: Float[Array, "T+1 k"]
    """The counts, the first ones before any step."""
    u: Float[Array, "T m"]
    """The controls of the steps."""
    state: Any
    """The last state."""


def step_keys(key: Array) -> tuple[Array, Callable[[Any], Array]]:
    """The key of the start, and that of each step: a shorter simulation is the beginning of a longer one."""
    start, steps = jax.random.split(key)
    return start, lambda t: jax.random.fold_in(steps, t)


def check_horizon(policy: Any, steps: int) -> None:
    """Raise where a policy that knows how many steps it is for is asked for more."""
    at_least("steps", steps, 1)
    horizon = getattr(policy, "horizon", None)
    if horizon is not None and steps > horizon:
        raise ValueError(f"steps must be at most {horizon}, those that the policy is for: given {steps}.")


def simulate(abm: ABM, policy: Policy, key: Array, steps: int) -> Trajectory:
    """Simulate a population under a policy; to be differentiated, see :mod:`~dini_zoo.physics.estimators`.

    Parameters
    ----------
    abm
        The population.
    policy
        `policy(x, t)`: the control of step `t`.
    key
        The same key gives the same trajectory.
    steps
        How many.

    Raises
    ------
    ValueError
        Where a policy with a `horizon`, such as a schedule, is asked for more steps.
    """
    check_horizon(policy, steps)
    start, of_step = step_keys(key)
    state = abm.init(start)

    def tick(carried: Any, t: Array) -> Any:
        state, x = carried
        u = policy(x, t)
        state = abm.step(state, u, of_step(t))
        after = abm.observe(state)
        return (state, after), (after, u)

    x0 = abm.observe(state)
    (state, _), (x, u) = jax.lax.scan(tick, (state, x0), jnp.arange(steps))
    return Trajectory(jnp.concatenate([x0[None], x]), u, state)
