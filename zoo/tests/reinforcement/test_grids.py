"""Decision problems as arrays, and grid worlds: values and occupancies beside closed forms and sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.reinforcement.grids import (
    DecisionProblem,
    Grid,
    discounted_occupancy,
    optimal_values,
    policy_values,
    propagated,
    toward_goal,
    visits,
)

#: A room with a wall that leaves one gap, and a trap beside the start.
ROOM = Grid(3, 3, (2, 0), (0, 0), walls=frozenset([(1, 0), (1, 1)]), traps=frozenset([(2, 1)]))
OPEN = Grid(3, 3, (2, 0), (0, 0), walls=frozenset([(1, 0), (1, 1)]))


def random_problem(seed=0, states=4, actions=3):
    random = np.random.default_rng(seed)
    transitions = random.dirichlet(np.ones(states), (states, actions))
    policy = random.dirichlet(np.ones(actions), states)
    start = random.dirichlet(np.ones(states))
    return DecisionProblem(jnp.asarray(transitions), jnp.asarray(random.normal(size=(states, actions))), 0.8), *map(
        jnp.asarray, (policy, start)
    )


def test_distances_go_around_walls_and_not_through_traps():
    np.testing.assert_array_equal(
        OPEN.distance.reshape(3, 3), [[0, 1, 2], [np.inf, np.inf, 3], [6, 5, 4]]
    )  # fmt: skip
    np.testing.assert_array_equal(
        ROOM.distance.reshape(3, 3), [[0, 1, 2], [np.inf, np.inf, 3], [np.inf, np.inf, 4]]
    )  # fmt: skip
    # up into the wall and left off the grid stay; nobody leaves a trap or a wall
    np.testing.assert_array_equal(ROOM.next_cell[6], [6, 6, 6, 7])
    np.testing.assert_array_equal(ROOM.next_cell[[7, 3]], [[7] * 4, [3] * 4])


def test_values_and_occupancies_are_those_of_long_sums():
    problem, policy, start = random_problem()
    values, occupancy = policy_values(problem, policy), discounted_occupancy(problem, policy, start)
    moves = np.einsum("sa,sat->st", policy, problem.transitions)
    now, flow, sum_of_rewards, level = np.eye(4), np.array(start), np.zeros(4), np.zeros(4)
    for t in range(200):
        sum_of_rewards += 0.8**t * now @ np.sum(policy * problem.rewards, axis=1)
        level += 0.2 * 0.8**t * flow
        now, flow = now @ moves, flow @ moves
    np.testing.assert_allclose(values, sum_of_rewards, rtol=1e-12)
    np.testing.assert_allclose(occupancy, level[:, None] * policy, rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(occupancy), 1.0, rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(occupancy * problem.rewards) / 0.2, start @ values, rtol=1e-12)


def test_optimal_values_are_those_of_the_shortest_way_and_have_derivatives():
    transitions = jnp.asarray(OPEN.transitions())
    rewards = jnp.asarray(OPEN.problem(0.9).rewards)
    reached = np.isfinite(OPEN.distance) & (OPEN.distance > 0)

    @jax.jit
    def values(cost):
        return optimal_values(DecisionProblem(transitions, cost * rewards, 0.9))

    closed = -(1 - 0.9 ** (OPEN.distance[reached] - 1)) / (1 - 0.9)
    for cost in (1.0, 1e-6, 1e6):
        np.testing.assert_allclose(values(cost)[reached], cost * closed, rtol=1e-9)
    # walls are cells that nobody leaves
    np.testing.assert_allclose(values(1.0)[3], -10.0, rtol=1e-9)
    np.testing.assert_allclose(jax.jacfwd(values)(2.0)[reached], closed, rtol=1e-9)


def test_propagation_counts_every_move():
    policy = jnp.asarray(toward_goal(OPEN, 0.5))
    endless = jnp.asarray(OPEN.transitions(np.zeros(9, bool)))
    np.testing.assert_allclose(jnp.sum(propagated(endless, policy, jnp.asarray(OPEN.first), 7), axis=1), 1.0)
    np.testing.assert_allclose(jnp.sum(visits(endless, policy, jnp.asarray(OPEN.first), 7)), 7.0)
    # the sure way: five moves, each cell once, and the sixth ends it
    sure = propagated(jnp.asarray(OPEN.transitions()), jnp.asarray(toward_goal(OPEN, 1.0)), jnp.asarray(OPEN.first), 6)
    np.testing.assert_array_equal(np.argmax(sure[:6], axis=1), [6, 7, 8, 5, 2, 1])
    np.testing.assert_array_equal(jnp.sum(sure, axis=1), [1, 1, 1, 1, 1, 1, 0])


def test_the_behavior_prefers_what_is_nearer():
    policy = toward_goal(OPEN, 0.4)
    np.testing.assert_allclose(policy.sum(axis=1), 1.0)
    np.testing.assert_allclose(policy[6], [0.15, 0.15, 0.15, 0.55])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Grid(3, 3, (1, 0), (0, 0), frozenset([(1, 0)])), "start must be"),
        (lambda: Grid(3, 3, (1, 0), (3, 0)), "goal must be"),
        (lambda: DecisionProblem(jnp.ones((2, 1, 2)), jnp.zeros((2, 1)), 0.9), "at most one"),
        (lambda: DecisionProblem(jnp.ones((2, 2)), jnp.zeros((2, 1)), 0.9), "transitions must have the shape"),
        (lambda: DecisionProblem(jnp.ones((2, 1, 2)) / 2, jnp.zeros((1, 2)), 0.9), "rewards must have the shape"),
        (lambda: DecisionProblem(jnp.ones((2, 1, 2)) / 2, jnp.full((2, 1), jnp.nan), 0.9), "rewards must be finite"),
        (lambda: DecisionProblem(jnp.ones((2, 1, 2)) / 2, jnp.zeros((2, 1)), 1.0), r"discount must be in \[0, 1\)"),
        (lambda: policy_values(random_problem()[0], jnp.ones((4, 3))), "policy must be probabilities"),
        (lambda: toward_goal(OPEN, 1.5), "greedy must be"),
        (lambda: visits(jnp.ones((1, 1, 1)), jnp.ones((1, 1)), jnp.ones(1), 0), "steps must be"),
    ],
)
def test_what_is_no_problem_is_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()
