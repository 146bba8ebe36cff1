"""Digital-twin control: rules of both populations against loops in NumPy, symmetries, stationary means, bad input.

Derivatives have their tests in `test_estimators.py`, fits and plans in `test_mean_field_control.py`.
"""

import doctest

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met

from dini_zoo.physics.agents import AgentArrays, simulate
from dini_zoo.physics.digital_twin_control import GrassSheepWolves, MetabolicPathway, grass_sheep_wolves
from dini_zoo.physics.digital_twin_control import metabolic_pathway as pathway_module
from dini_zoo.physics.digital_twin_control.experiment import experiment
from dini_zoo.physics.policies import (
    Controller,
    Inputs,
    TrackingCost,
    constant,
    constant_policy_search,
    evaluate,
)

SIDE, TICKS = 6, 12


def meadow(**changes):
    options = {"side": SIDE, "sheep": 30, "wolves": 8, "capacity": (60, 24), "regrowth": 4}
    return GrassSheepWolves(**(options | changes))


@eqx.filter_jit
def course(abm, state, controls, key):
    """All states, and the random numbers of each step."""

    def tick(state, given):
        u, t = given
        after = abm.step(state, u, jax.random.fold_in(key, t))
        return after, after

    return jax.lax.scan(tick, state, (controls, jnp.arange(len(controls))))[1]


@eqx.filter_jit
def draws(abm, key, ticks):
    numbers = lambda t: jax.random.uniform(jax.random.fold_in(key, t), (3, sum(abm.capacity)))
    return jax.vmap(numbers)(jnp.arange(ticks))


class Loop:
    """The rules, one agent after the other, in lists: no arrays, no masks."""

    def __init__(self, abm, state):
        self.abm, self.grass = abm, list(np.asarray(state.countdown))
        self.herds = [self.herd(state.sheep), self.herd(state.wolves)]
        self.lost = 0

    @staticmethod
    def herd(animals):
        alive, (position, energy) = np.asarray(animals.alive), map(np.asarray, animals.values)
        return [
            [*map(int, position[i]), float(energy[i])] if alive[i] else None  # a slot
            for i in range(len(alive))
        ]

    def tick(self, u, chance):
        side, food, birth = self.abm.side, np.asarray(self.abm.food), np.asarray(self.abm.birth)
        parts = np.split(chance, [self.abm.capacity[0]], axis=1)
        events = {name: [0, 0] for name in ("removed", "starved", "eaten", "born")}
        for kind, herd in enumerate(self.herds):
            for i, one in enumerate(herd):
                if one and parts[kind][0, i] < u[kind]:
                    herd[i] = None
                    events["removed"][kind] += 1
                elif one:
                    move = int(9 * parts[kind][1, i])
                    herd[i] = [(one[0] + move // 3 - 1) % side, (one[1] + move % 3 - 1) % side, one[2] - 1]
        sheep, wolves = self.herds
        for cell in range(side**2):
            there = [one for one in sheep if one and one[0] * side + one[1] == cell]
            if self.grass[cell] == 0 and there:
                there[0][2] += food[0]
                self.grass[cell] = self.abm.regrowth
            else:
                self.grass[cell] = max(self.grass[cell] - 1, 0)
        self.starve(0, events)
        for cell in range(side**2):
            at = lambda herd, cell=cell: [i for i, one in enumerate(herd) if one and one[0] * side + one[1] == cell]
            if at(sheep) and at(wolves):
                wolves[at(wolves)[0]][2] += food[1]
                sheep[at(sheep)[0]] = None
                events["eaten"][0] += 1
        self.starve(1, events)
        for kind, herd in enumerate(self.herds):
            parents = [i for i, one in enumerate(herd) if one and parts[kind][2, i] < birth[kind]]
            free = [i for i, one in enumerate(herd) if one is None]
            for parent, slot in zip(parents, free, strict=False):
                herd[parent][2] /= 2
                herd[slot] = list(herd[parent])
                events["born"][kind] += 1
            self.lost += max(len(parents) - len(free), 0)
        return events

    def starve(self, kind, events):
        for i, one in enumerate(self.herds[kind]):
            if one and one[2] < 0:
                self.herds[kind][i] = None
                events["starved"][kind] += 1


def test_the_rules_of_the_meadow():
    """Exact check 3, by loops over agents: every slot, energy, countdown and event, also where slots run out."""
    random = np.random.default_rng(0)
    controls = jnp.asarray(random.uniform(0, 0.1, (TICKS, 2)))
    seen, lost = {}, []
    for seed, birth in ((0, (0.05, 0.03)), (1, (0.9, 0.6))):
        abm, key = meadow(birth=birth), jax.random.key(seed)
        start = eqx.filter_jit(abm.init)(jax.random.key(10 + seed))
        states, chance = course(abm, start, controls, key), np.asarray(draws(abm, key, TICKS))
        loop = Loop(abm, start)
        for t in range(TICKS):
            events = loop.tick(controls[t], chance[t])
            state = jax.tree.map(lambda leaf, t=t: leaf[t], states)
            np.testing.assert_array_equal(state.countdown, loop.grass)
            assert int(state.overflow) == loop.lost
            for ours, theirs in zip((state.sheep, state.wolves), loop.herds, strict=True):
                for mine, other in zip(Loop.herd(ours), theirs, strict=True):
                    assert (mine is None) == (other is None)
                    assert mine is None or mine == pytest.approx(other, rel=1e-12)
            for name, counts in events.items():
                np.testing.assert_array_equal(getattr(state.events, name), counts)
                seen[name] = seen.get(name, 0) + np.array(counts)
            np.testing.assert_array_equal(
                abm.observe(state),
                [sum(one is not None for one in herd) for herd in loop.herds] + [loop.grass.count(0)],
            )
        lost.append(loop.lost)
    # all of it has happened
    assert lost[0] == 0 < lost[1]
    assert np.all(seen["removed"] > 0)
    assert np.all(seen["born"] > 0)
    assert seen["eaten"][0] > 0
    assert seen["starved"].sum() > 0


def test_without_food_all_starve_when_they_must():
    """And the same meadow, moved over the torus, does the same there: exact checks 3 and 4."""
    abm, key = meadow(birth=(0.0, 0.0), food=(0.0, 0.0), start_energy=(5.0, 9.0)), jax.random.key(0)
    start = eqx.filter_jit(abm.init)(key)
    controls = jnp.zeros((TICKS, 2))
    states = course(abm, start, controls, key)
    for animals, first, eaten in (
        (states.wolves, start.wolves, np.zeros(TICKS, int)),
        (states.sheep, start.sheep, np.cumsum(states.events.eaten[:, 0])),
    ):
        energy = np.where(first.alive, first.values.energy, -np.inf)
        could = energy >= np.arange(1, TICKS + 1)[:, None]
        alive = np.asarray(animals.alive)
        assert not np.any(alive & ~could)
        assert np.all(np.sum(could & ~alive, axis=1) <= eaten)
    assert not np.any(states.wolves.alive[9])
    assert np.any(states.wolves.alive[4])
    shift = np.array([2, 5])

    def moved(state):
        put = lambda animals: animals.replace(
            animals.values._replace(position=(animals.values.position + shift) % SIDE)
        )
        grass = jnp.roll(state.countdown.reshape(*state.countdown.shape[:-1], SIDE, SIDE), shift, axis=(-2, -1))
        return state._replace(
            sheep=put(state.sheep), wolves=put(state.wolves), countdown=grass.reshape(state.countdown.shape)
        )

    for one, other in zip(
        jax.tree.leaves(course(abm, moved(start), controls, key)), jax.tree.leaves(moved(states)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.thorough
def test_keys_and_batches():
    """The same key gives the same, a batch what a loop gives, a short simulation the beginning of a long one."""
    abm, keys = MetabolicPathway(capacity=64), jax.random.split(jax.random.key(0), 3)
    u = constant([30.0], 20)

    @jax.jit
    def runs(keys):
        one = lambda key: simulate(abm, u, key, 20)
        return jax.vmap(one)(keys), jax.lax.map(one, keys), simulate(abm, u, keys[0], 7).x

    batch, loop, short = runs(keys)
    for whole, single in zip(jax.tree.leaves(batch), jax.tree.leaves(loop), strict=True):
        np.testing.assert_array_equal(whole, single)
    np.testing.assert_array_equal(short, batch.x[0, :8])
    np.testing.assert_array_equal(runs(keys)[0].x, batch.x)
    assert np.any(batch.x[0] != batch.x[1])


def test_the_stationary_mean_of_the_pathway():
    """Exact check 5: without inhibition `u dt / (1 - exp(-k_i dt))`, by the agents and by their mean field."""
    abm, steps = MetabolicPathway(inhibition=jnp.inf, capacity=288), 320
    expected = 24 * 0.1 / -np.expm1(-0.1 * np.array([1.0, 0.5, 0.5, 0.3]))
    np.testing.assert_allclose(expected, (25.22, 49.21, 49.21, 81.21), atol=5e-3)
    x = jnp.asarray(expected)
    np.testing.assert_allclose(abm.mean_field(x, jnp.array([24.0])), x, rtol=1e-12)
    with jax.enable_x64(False):
        abm = MetabolicPathway(inhibition=jnp.inf, capacity=288)
        runs = jax.jit(jax.vmap(lambda key: simulate(abm, constant([24.0], steps), key, steps)))
        path = runs(jax.random.split(jax.random.key(0), 128))
    last = np.asarray(path.x[:, -1], np.float64)
    assert np.all(np.abs(last.mean(axis=0) - expected) < 3 * last.std(axis=0, ddof=1) / np.sqrt(128))
    # and counts are those of independent molecules
    assert np.all(np.abs(last.var(axis=0) / expected - 1) < 0.5)
    assert np.max(path.state.overflow) == 0


def test_the_mean_of_a_step_of_the_pathway():
    """With inhibition, from any state; molecules that enter do not advance, and what has no slot is told."""
    abm = MetabolicPathway(rates=(1.0, 0.5, 0.4, 0.3), inhibition=20.0, dt=0.5, capacity=120, draws=16)
    species = jnp.concatenate([jnp.repeat(jnp.arange(1, 5), jnp.array([40, 10, 20, 30]), total_repeat_length=100)])
    molecules = AgentArrays.of(species, 120)
    state = abm.init(jax.random.key(0))._replace(molecules=molecules)
    u, keys = jnp.array([20.0]), jax.random.split(jax.random.key(1), 4000)
    step = eqx.filter_jit(lambda abm, u: jax.vmap(lambda key: abm.step(state, u, key))(keys))
    after = step(abm, u)
    x = np.asarray(jax.vmap(abm.observe)(after))
    width = x.std(axis=0, ddof=1) / np.sqrt(len(x))
    assert np.all(np.abs(x.mean(axis=0) - abm.mean_field(abm.observe(state), u)) < 4 * width)
    full = step(abm, jnp.array([32.0]))
    np.testing.assert_array_equal(full.entered, 16)
    total = np.asarray(jax.vmap(abm.observe)(full)).sum(axis=1)
    left = 100 - (total - 16 + np.asarray(full.overflow))
    assert np.all((left >= 0) & (left <= 30))
    np.testing.assert_array_equal(full.overflow, np.maximum(16 - 20 - left, 0))


def test_costs_and_controllers():
    """By hand; a controller begins near no control, and is given what its inputs say."""
    x, u = jnp.array([[9.0, 50.0], [9.0, 90.0], [9.0, 150.0]]), jnp.array([[1.0, 2.0], [0.0, 0.0], [0.0, 1.0]])
    cost = TrackingCost(jnp.array([[1.0], [100.0], [100.0]]), jnp.array([False, True, True]), (1,), effort=3.0)
    np.testing.assert_allclose(cost(x, u), (0.1**2 + 0.5**2) / 2 + 3 * 6 / 3)
    inputs = Inputs((10.0, 50.0), 3, (60.0, 90.0, 90.0))
    np.testing.assert_allclose(inputs(x[1], 1), (-0.1, 0.8, 90 / 80 - 1, 1 / 3 - 0.5), atol=1e-12)
    policy = Controller(inputs, (0.2, 6.0), key=jax.random.key(0))
    at = eqx.filter_jit(lambda policy, x: policy(x, 0))
    zero = eqx.tree_at(lambda one: one.network.layers[-1].weight, policy, jnp.zeros((2, 16)))
    np.testing.assert_allclose(at(zero, x[0]), np.array([0.2, 6.0]) / (1 + np.exp(2)))
    assert np.all(at(policy, x[0]) < np.array([0.2, 6.0]) / 2)
    # another count, another control
    assert np.all(at(policy, x[0]) != at(policy, x[1]))
    assert 0.5 < np.std(policy.network.layers[1].weight) * 4 < 1.5


@pytest.mark.thorough
def test_the_best_constant():
    abm, steps, keys = MetabolicPathway(capacity=64), 20, jax.random.split(jax.random.key(0), 4)
    cost = TrackingCost(jnp.full((steps, 1), 20.0), jnp.arange(steps) >= 10, (0,))
    grid = np.array([[5.0], [17.0], [40.0]])
    best, costs = constant_policy_search(abm, cost, grid, keys, steps)
    found = [evaluate(abm, constant(u, steps), cost, keys, steps).cost.mean() for u in grid]
    np.testing.assert_allclose(costs, found)
    np.testing.assert_array_equal(best, grid[np.argmin(found)])
    assert best == 17
    with pytest.raises(ValueError, match=r"grid must have the shape \(n, m\): given \(1,\)"):
        constant_policy_search(abm, cost, [5.0], keys, steps)


def test_bad_input():
    with pytest.raises(ValueError, match="capacity must have slots for all 30 sheep of the start: given 20"):
        meadow(capacity=(20, 24))
    with pytest.raises(ValueError, match="rates must be 4 numbers"):
        MetabolicPathway(rates=(1.0, 2.0))
    with pytest.raises(ValueError, match="dt must be positive"):
        MetabolicPathway(dt=0.0)
    with pytest.raises(ValueError, match="target must be positive"):
        TrackingCost(jnp.zeros((3, 1)), jnp.ones(3, bool), (0,))
    with pytest.raises(ValueError, match="target must have a row for each step and a column for each of the 2"):
        TrackingCost(jnp.ones((3, 1)), jnp.ones(3, bool), (0, 1))
    with pytest.raises(ValueError, match="counted must have the shape"):
        TrackingCost(jnp.ones((3, 1)), jnp.ones(2, bool), (0,))
    with pytest.raises(ValueError, match="counted must have a step that counts"):
        TrackingCost(jnp.ones((3, 1)), jnp.zeros(3, bool), (0,))
    cost = TrackingCost(jnp.ones((3, 1)), jnp.ones(3, bool), (2,))
    with pytest.raises(ValueError, match="species must be from 0 to 1: given 2 to 2"):
        cost(jnp.ones((3, 2)), jnp.ones((3, 1)))
    with pytest.raises(ValueError, match="x must have a row for each of the 3 steps"):
        cost(jnp.ones((1, 3)), jnp.ones((1, 1)))
    for abm in (meadow(), MetabolicPathway(capacity=4)):
        with pytest.raises(ValueError, match="control must have the shape"):
            jax.eval_shape(lambda abm=abm: abm.step(abm.init(jax.random.key(0)), jnp.ones(3), jax.random.key(0)))
    with pytest.raises(ValueError, match="inhibition must be positive"):
        MetabolicPathway(inhibition=0.0)
    with pytest.raises(ValueError, match="birth must be zero or more"):
        meadow(birth=(-0.1, 0.0))
    with pytest.raises(ValueError, match="reference must have 3 numbers: given 2"):
        Inputs((1.0,), 3, (1.0, 2.0))


@pytest.mark.thorough
@pytest.mark.parametrize("module", [grass_sheep_wolves, pathway_module], ids=["meadow", "pathway"])
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_the_bars_at_full_scale():
    # the page tells of it: the best of three searches, chosen on the held-out simulations, comes nearer
    assert_bars_met("digital-twin-control", experiment, but=("best CMA-ES / through population",))
