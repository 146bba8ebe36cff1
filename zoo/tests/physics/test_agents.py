"""Agents in arrays: births into free slots, removals, conflicts over a cell, simulations."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.physics import agents
from dini_zoo.physics.agents import AgentArrays, first_in_cell


def test_births_take_free_slots_in_order():
    """As with a sort of the free slots, for any masks: nobody is overwritten, and what has no room is told."""
    random = np.random.default_rng(0)
    spawn = jax.jit(lambda agents, values, mask: agents.spawn(values, mask))
    for share_alive, share_born in ((0.5, 0.3), (0.9, 0.6), (1.0, 0.5), (0.0, 1.0), (0.4, 0.0)):
        alive, born = random.uniform(size=9) < share_alive, random.uniform(size=12) < share_born
        values = {"id": np.arange(9), "at": random.normal(size=(9, 2))}
        new = {"id": 100 + np.arange(12), "at": random.normal(size=(12, 2))}
        given = AgentArrays(jnp.asarray(alive), jax.tree.map(jnp.asarray, values))
        found, placed = spawn(given, jax.tree.map(jnp.asarray, new), jnp.asarray(born))
        expected_alive, expected_placed = alive.copy(), np.zeros(12, bool)
        free = np.argsort(alive, kind="stable")[: 9 - alive.sum()]
        for slot, parent in zip(free, np.flatnonzero(born), strict=False):
            expected_alive[slot] = expected_placed[parent] = True
            for name in values:
                values[name][slot] = new[name][parent]
        np.testing.assert_array_equal(found.alive, expected_alive)
        np.testing.assert_array_equal(placed, expected_placed)
        for name in values:
            np.testing.assert_array_equal(found.values[name][expected_alive], values[name][expected_alive])
        assert found.count == alive.sum() + min(born.sum(), 9 - alive.sum())


def test_the_first_in_each_cell():
    cell, mask = jnp.array([2, 0, 2, 2, 1]), jnp.array([False, True, True, True, False])
    first, taken = first_in_cell(cell, mask, 4)
    np.testing.assert_array_equal(first, [False, True, True, False, False])
    np.testing.assert_array_equal(taken, [True, False, True, False])


def test_bad_input():
    with pytest.raises(ValueError, match="capacity must be at least the number of agents, 3: given 2"):
        AgentArrays.of(jnp.zeros(3), 2)
    with pytest.raises(ValueError, match="values must have a row for each of the"):
        AgentArrays(jnp.zeros(3, bool), jnp.zeros(4))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        agents.simulate(None, lambda x, t: x, jax.random.key(0), 0)


def test_examples():
    with jax.enable_x64(False):
        assert doctest.testmod(agents).failed == 0
