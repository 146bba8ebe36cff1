"""The dual of a small problem solved to the end, the fenced grid, and the experiment."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met, assert_drawn, assert_fits, performed

from dini_zoo.reinforcement import gradient_surgery
from dini_zoo.reinforcement.odice import (
    Transitions,
    conjugate_f,
    conjugates,
    dice_gradients,
    learning,
    return_sensitivity,
    solve_dice_tabular,
    tabular,
)
from dini_zoo.reinforcement.odice.experiment import experiment
from dini_zoo.reinforcement.odice.fence import GAMMA, GOAL, STEPS, Fenced
from dini_zoo.reinforcement.odice.study import Settings
from dini_zoo.reinforcement.odice.tabular_runs import Setup, descents, lookup

NEXT = np.array([[1, 0], [2, 0], [2, 1]])
MOVES = np.eye(3)[NEXT]
REWARDS = np.array([[0.0, 0.1], [0.2, 0.0], [1.0, 0.0]])
DATA = np.array([[0.15, 0.25], [0.1, 0.2], [0.1, 0.2]])

solve = jax.jit(solve_dice_tabular, static_argnums=5)

#: Exact check 3 of the specification: values and weights.
SOLUTIONS = {
    "true": (
        [-119.1570993, -117.2510298, -112.8573690],
        [[7.81558623, 7.00785496], [8.93969887, 6.00482022], [7.14286845, 4.66572107]],
    ),
    "semi": (
        [7.6229348882, 7.7210884354, 8.0466472303],
        [[0.66302235, 0.66885326], [0.86044704, 0.56977648], [1.09766764, 0.45116618]],
    ),
    "orthogonal": (
        [7.580101116, 7.731422123, 8.074265241],
        [[0.68908940, 0.67099494], [0.86770830, 0.54533444], [1.09628674, 0.44200733]],
    ),
}


@pytest.mark.parametrize("mode", SOLUTIONS)
def test_the_solutions_of_the_specification(mode):
    """Exact check 3; with and without rewards, in both units of frequencies."""
    values, weights = SOLUTIONS[mode]
    found = solve(MOVES, REWARDS, DATA, 0.6, 0.9, mode)
    np.testing.assert_allclose(found.values, values, rtol=0, atol=5e-8)
    np.testing.assert_allclose(found.weights, weights, rtol=0, atol=2e-8)
    np.testing.assert_allclose(solve(MOVES, REWARDS, 1e6 * DATA, 0.6, 0.9, mode).values, found.values, atol=1e-7)
    mass = DATA * found.weights
    if mode == "semi":
        np.testing.assert_allclose(mass.sum(axis=1) / DATA.sum(axis=1), 2 / 3, rtol=1e-9)
    if mode == "true":
        np.testing.assert_allclose(mass.sum(), 2 / 3 / 0.1, rtol=1e-9)
        flow = 2 / 3 * DATA.sum(axis=1) + 0.9 * np.einsum("sa,sat->t", mass, MOVES)
        np.testing.assert_allclose(mass.sum(axis=1), flow, rtol=1e-8)
    silent = {"semi": [-10.0] * 3, "orthogonal": [-10.6033808569, -10.3802571398, -9.7541527830]}
    if mode in silent:
        found = solve(MOVES, 0 * REWARDS, DATA, 0.4, 0.9, mode)
        np.testing.assert_allclose(found.values, silent[mode], rtol=0, atol=2e-8)
    if mode == "semi":
        np.testing.assert_allclose(found.weights, 1.5, rtol=1e-9)


def test_the_descent_runs_into_the_orthogonal_root():
    """From zero and from the semi-gradient solution alike, with the copy at the values."""
    states, actions = (one.ravel() for one in np.indices((3, 2)))
    parts = (states, actions, REWARDS.ravel(), NEXT.ravel(), np.zeros(6, bool), DATA.ravel())
    batch = Transitions(*map(jnp.asarray, parts))

    @jax.jit
    @jax.vmap
    def descended(values):
        step = lambda v, _: (v - 0.05 * dice_gradients(lookup, v, v, batch, lam=0.6, gamma=0.9)[0], None)
        return jax.lax.scan(step, values, length=60_000)[0]

    for found in descended(jnp.array([np.zeros(3), SOLUTIONS["semi"][0]])):
        np.testing.assert_allclose(found, SOLUTIONS["orthogonal"][0], rtol=0, atol=2e-8)


def test_the_return_is_differentiated_implicitly():
    """Beside central differences, by rewards and by data; and a factor of all data changes nothing."""
    start = np.full(3, 1 / 3)
    told = {"lam": 0.6, "gamma": 0.9, "mode": "orthogonal"}
    found = jax.jit(lambda r, d: return_sensitivity(MOVES, r, d, start, **told))(REWARDS, DATA)
    value = jax.jit(lambda r, d: return_sensitivity(MOVES, r, d, start, evaluation=REWARDS, **told).value)
    np.testing.assert_allclose(jnp.sum(DATA * found.data), 0.0, atol=1e-10)
    for gradient, at in ((found.rewards, 0), (found.data, 1)):
        for place in ((0, 1), (2, 0)):
            ends = []
            for sign in (1, -1):
                given = [REWARDS.copy(), DATA.copy()]
                given[at][place] += sign * 1e-4
                ends.append(value(*given))
            np.testing.assert_allclose(gradient[place], (ends[0] - ends[1]) / 2e-4, rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("mode", SOLUTIONS)
@pytest.mark.parametrize("divergence", ["pearson_chi2", "reverse_kl"])
def test_random_problems_are_solved(mode, divergence):
    """The update vanishes at the solution; derivatives of it by λ are those of differences."""
    random = np.random.default_rng(1)
    solve_it = jax.jit(lambda *given: solve_dice_tabular(*given, mode, divergence=divergence))
    slope = jax.jit(jax.jacfwd(lambda lam, *given: solve_it(*given[:3], lam, given[3]).values))
    for _ in range(5):
        moves, data = random.dirichlet(np.full(5, 0.3), (5, 3)), random.dirichlet(np.ones(15)).reshape(5, 3)
        rewards, lam, gamma = random.normal(size=(5, 3)), random.uniform(0.2, 0.9), random.uniform(0.3, 0.95)
        found = solve_it(moves, rewards, data, lam, gamma)
        carried = lam * data * conjugate_f(divergence).weight(found.residuals)
        forward, backward = -carried.sum(axis=1), gamma * np.einsum("sa,sat->t", carried, moves)
        rest = backward - (backward @ forward) / (forward @ forward) * forward
        total = (1 - lam) * data.sum(axis=1) + forward + {"true": backward, "semi": 0, "orthogonal": rest}[mode]
        np.testing.assert_allclose(total, 0.0, atol=1e-7)
        above, below = (solve_it(moves, rewards, data, lam + h, gamma).values for h in (1e-5, -1e-5))
        np.testing.assert_allclose(
            slope(lam, moves, rewards, data, gamma), (above - below) / 2e-5, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize(
    ("others", "match"),
    [
        ({"d": DATA * [[1], [1], [0]]}, r"given none of \[2\]"),
        ({"d": -DATA}, "d must be zero or more"),
        ({"d": DATA[:2]}, "d must have the shape"),
        ({"r": REWARDS * np.nan}, "rewards must be finite"),
        ({"P": 2 * MOVES}, "transitions must be probabilities"),
        ({"lam": 0.0}, "lam must be in"),
        ({"gamma": 1.0}, "discount must be in"),
        ({"mode": "sum"}, "mode must be one of"),
    ],
)
def test_what_has_no_solution_is_refused(others, match):
    given = {"P": MOVES, "r": REWARDS, "d": DATA, "lam": 0.6, "gamma": 0.9} | others
    with pytest.raises(ValueError, match=match):
        solve_dice_tabular(**given)


# the fenced grid


def test_the_frequencies_of_the_specification():
    grid = Fenced()
    cell = grid.world.cell
    assert len(grid.records().reward) == 192
    np.testing.assert_allclose(grid.frequencies[cell(8, 4)].sum(), 0.0730715, atol=5e-8)
    assert grid.dangling.sum() == 8
    assert {column for _, column in grid.world.places[grid.dangling]} == {6}
    np.testing.assert_allclose(grid.frequencies[grid.crossing].sum(), 0.0273817, atol=5e-8)
    assert grid.world.distance[cell(8, 4)] == grid.open.distance[cell(8, 4)] == 16
    records = grid.records(3.0)
    np.testing.assert_array_equal(records.terminal, records.next_observation == cell(*GOAL))
    np.testing.assert_array_equal(records.reward, np.where(records.terminal, 0.0, -3.0))
    for fence in ("none", "dropped"):
        assert len(Fenced(fence).records().reward) == 184
        assert not Fenced(fence).dangling.any()
    with pytest.raises(ValueError, match="no cell dangling"):
        grid.compact()
    with pytest.raises(ValueError, match="fence must be one of"):
        Fenced("open")


def test_outcomes_are_exact():
    """The shortest way arrives after 16 steps; a walk to the right is caught."""
    grid = Fenced()
    shortest = np.where(grid.world.nearer.any(axis=1, keepdims=True), grid.world.nearer, True)
    found = grid.outcome(shortest / shortest.sum(axis=1, keepdims=True))
    np.testing.assert_allclose([found.success, found.mud, found.steps], [1.0, 0.0, 16.0])
    right = np.eye(4)[np.full(81, 3)]
    found = grid.outcome(right)
    np.testing.assert_allclose([found.success, found.mud, found.steps], [0.0, 1.0, STEPS])
    np.testing.assert_allclose(found.cells.sum(), STEPS + 1)
    # the truth is that of a decision problem with the mud in it
    assert grid.error(np.where(np.isfinite(grid.world.distance), 0.0, np.nan)) > 0
    values = np.full(81, np.nan)
    values[grid.left] = -(1 - GAMMA ** (grid.world.distance[grid.left] - 1)) / (1 - GAMMA)
    assert grid.error(values) == 0
    assert grid.error(values, through_mud=True) > 0


@pytest.mark.thorough
def test_the_mechanism_shows_without_a_random_number():
    """The table of the specification, of the orthogonal update and the semi-gradient."""
    ours, theirs = descents([Setup("orthogonal"), Setup("semi")], 20_000)
    np.testing.assert_allclose(
        [ours.paper.success, ours.paper.mud, ours.error, ours.code.success, ours.dangling],
        [0.9998, 0.0, 1.75, 0.925, -7.0],
        atol=0.03,
    )
    assert ours.entering <= -2
    assert max(ours.gradient, theirs.gradient) < 1e-6
    assert theirs.untouched
    assert not ours.untouched
    np.testing.assert_allclose([theirs.paper.mud, theirs.code.mud, theirs.error], [1.0, 1.0, 4.0], atol=0.01)


# examples and the experiment


@pytest.mark.parametrize("module", [gradient_surgery, conjugates, learning, tabular])
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


@pytest.mark.thorough
@pytest.mark.may_cost(60)
def test_all_parts_run():
    """Small, with every table, check and panel."""
    small = {"steps": 20, "keys": 2, "network_steps": 3, "batch_keys": 1, "records": 50, "batch": 8, "batch_steps": 3}
    done = performed("odice", experiment, Settings(network_scales=(1.0,), **small))
    assert len(done.record.tables) == 5
    assert_fits([*done.record.tables, done.record.verdict.table()])
    assert all(check.ours is not None and np.isfinite(check.ours) for check in done.record.verdict.checks)
    assert_drawn(experiment.draw(done.result))


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("odice", experiment)
