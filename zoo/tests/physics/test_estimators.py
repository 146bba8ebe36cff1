"""Derivatives of stochastic populations: against closed forms, each other, and differences in double precision."""

import doctest
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.physics import estimators
from dini_zoo.physics.agents import AgentArrays, simulate
from dini_zoo.physics.digital_twin_control import GrassSheepWolves, MetabolicPathway
from dini_zoo.physics.estimators import (
    binomial_log_probability,
    corrected_rollout,
    mean_field_rollout,
    score_function_loss,
    straight_through,
)
from dini_zoo.physics.mean_field import LotkaVolterraMap
from dini_zoo.physics.policies import Controller, Inputs, Schedule


class Counted(NamedTuple):
    agents: AgentArrays
    removed: jax.Array


class Duplicating(eqx.Module):
    """Exact check 1: each agent is removed with the probability u, then duplicates with the probability b."""

    birth: float = eqx.field(static=True, default=0.2)
    start: int = eqx.field(static=True, default=20)
    slots: int = eqx.field(static=True, default=128)

    def init(self, key):
        return Counted(AgentArrays.of(jnp.zeros(self.start), self.slots), jnp.zeros((), int))

    def observe(self, state):
        return state.agents.count[None].astype(float)

    def step(self, state, control, key):
        chance = jax.random.uniform(key, (2, self.slots))
        gone = state.agents.alive & (chance[0] < control[0])
        left = state.agents.remove(gone)
        after, _ = left.spawn(left.values, left.alive & (chance[1] < self.birth))
        return Counted(after, jnp.sum(gone))

    def log_probability(self, state, control, after):
        return binomial_log_probability(after.removed[None], state.agents.count[None], control)


CONTROLS = np.array([[0.1], [0.3], [0.2], [0.05]])


def within(samples, truth, errors=4.0):
    """The mean of samples is the truth, up to so many standard errors; returns these."""
    samples = np.asarray(samples)
    width = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(axis=0) - truth) <= errors * width + 1e-10), (samples.mean(axis=0), truth, width)
    return width


def test_a_linear_population():
    """Both estimators have the closed form's mean, -E N_T / (1 - u_t); that of scores spreads far more."""
    abm, steps = Duplicating(), len(CONTROLS)
    g = lambda x, u: (1 - u) * (1 + abm.birth) * x
    last = lambda x, u: x[-1, 0]

    @jax.jit
    def both(u):
        def corrected(u, key):
            path = corrected_rollout(abm, g, Schedule(u), key, steps)
            return path.x[-1, 0]

        keys = jax.random.split(jax.random.key(0), 10_000)
        values, slopes = jax.vmap(jax.value_and_grad(corrected), (None, 0))(u, keys)
        scored = lambda u, key: score_function_loss(abm, Schedule(u), last, key, steps, runs=100)
        costs, scores = jax.vmap(jax.value_and_grad(scored), (None, 0))(u, jax.random.split(jax.random.key(1), 100))
        return values, slopes[:, :, 0], costs, scores[:, :, 0]

    values, slopes, costs, scores = both(jnp.asarray(CONTROLS))
    assert np.max(values) < abm.slots
    mean = abm.start * np.prod((1 - CONTROLS) * (1 + abm.birth))
    truth = -mean / (1 - CONTROLS[:, 0])
    within(values, mean)
    within(costs, mean)
    adjoint, score = within(slopes, truth), within(scores, truth)
    assert np.all(score > 5 * adjoint)
    assert np.all(np.abs(truth) > 20 * adjoint)


def test_where_the_mean_is_linear_the_derivative_is_that_of_the_mean_field():
    """A pathway without inhibition: all runs have one derivative, and it is what differences say."""
    pathway, steps = MetabolicPathway(inhibition=jnp.inf, capacity=128), 12
    g, weights = pathway.mean_field, jnp.array([0.3, -1.0, 2.0, 5.0])
    u = 30 + 10 * jnp.cos(jnp.arange(steps))[:, None]
    value = lambda x: jnp.sum(x[1:] @ weights)
    mean = jax.jit(lambda u: value(mean_field_rollout(g, Schedule(u), jnp.zeros(4), steps)[0]))
    found = jax.jit(
        jax.vmap(
            jax.grad(lambda u, key: value(corrected_rollout(pathway, g, Schedule(u), key, steps).x)), in_axes=(None, 0)
        )
    )(u, jax.random.split(jax.random.key(0), 2))
    h = 1e-4
    for t in range(steps):
        step = h * (jnp.arange(steps) == t)[:, None]
        difference = (mean(u + step) - mean(u - step)) / (2 * h)
        np.testing.assert_allclose(found[:, t, 0], difference, rtol=1e-7, atol=1e-8)


def identical(abm, g, policy, steps):
    """Exact check 2: counts and controls are those of the population, in single precision, bit for bit."""
    keys = jax.random.split(jax.random.key(3), 2)

    @jax.jit
    def run(arrays, factor):
        policy_ = eqx.combine(arrays, static)
        wrong = lambda x, u: factor * g(x, u)
        plain = jax.vmap(lambda key: simulate(abm, policy_, key, steps)[:2])(keys)
        return plain, jax.vmap(lambda key: corrected_rollout(abm, wrong, policy_, key, steps)[:2])(keys)

    arrays, static = eqx.partition(policy, eqx.is_inexact_array)
    for factor in (1.0, 1e6, -3e-7):
        (x, u), (same_x, same_u) = run(arrays, jnp.float32(factor))
        assert x.dtype == jnp.float32
        np.testing.assert_array_equal(same_x, x)
        np.testing.assert_array_equal(same_u, u)
        assert np.max(x) > 3


def test_the_values_are_the_populations():
    with jax.enable_x64(False):
        pathway = MetabolicPathway(capacity=64)
        policy = Controller(Inputs((30.0, 50.0, 50.0, 80.0), 10), (60.0,), key=jax.random.key(0))
        identical(pathway, pathway.mean_field, policy, 10)


@pytest.mark.thorough
def test_the_values_are_those_of_sheep_and_wolves():
    with jax.enable_x64(False):
        meadow = GrassSheepWolves(side=10, sheep=40, wolves=10, capacity=(160, 64))
        policy = Controller(Inputs((200.0, 80.0, 800.0), 10), (0.15, 0.15), key=jax.random.key(0))
        g = LotkaVolterraMap(0.1 * jax.random.normal(jax.random.key(1), (3, 10)), (200.0, 80.0, 800.0), (0, 1))
        identical(meadow, g, policy, 10)


@pytest.mark.thorough
def test_a_window_cuts_the_derivative():
    """After each window it restarts: as if the counts there were given."""
    abm, key, steps = Duplicating(birth=0.5), jax.random.key(0), 4
    g = lambda x, u: (1 - u) * 1.5 * x
    slope = lambda window: jax.grad(
        lambda u: corrected_rollout(abm, g, Schedule(u), key, steps, window=window).x[-1, 0]
    )(jnp.asarray(CONTROLS))
    whole, cut = slope(None), slope(2)
    np.testing.assert_allclose(cut[2:], whole[2:], rtol=1e-12)
    np.testing.assert_array_equal(cut[:2], 0.0)
    np.testing.assert_allclose(slope(4), whole, rtol=1e-12)
    assert np.all(whole < 0)


@pytest.mark.thorough
def test_scores_of_both_populations():
    """Of one step, in closed form: `N (1 - u) P(no starving)` sheep without food, `u dt` molecules."""
    meadow = GrassSheepWolves(
        side=5, sheep=40, wolves=0, capacity=(40, 1), food=(0.0, 0.0), birth=(0.0, 0.0), start_energy=(8.0, 1.0)
    )
    pathway = MetabolicPathway(capacity=32)
    for abm, u, truth in ((meadow, [0.3, 0.5], [-40 * 7 / 8, 0.0]), (pathway, [30.0], [0.1])):

        @jax.jit
        def slopes(u, abm=abm):
            scored = lambda u, key: score_function_loss(abm, Schedule(u), lambda x, u: x[-1, 0], key, 1, runs=20)
            return jax.vmap(jax.grad(scored), (None, 0))(u, jax.random.split(jax.random.key(0), 200))[:, 0]

        width = within(slopes(jnp.array([u])), np.array(truth))
        assert width[0] < 0.1 * abs(truth[0])


def test_straight_through():
    for surrogate in (3.7, 1e9, -1e-9):
        with jax.enable_x64(False):
            assert straight_through(jnp.float32(4), jnp.float32(surrogate)) == 4
    count = lambda u, key: straight_through(jnp.sum(jax.random.uniform(key, (7,)) < u), 7 * u)
    value, slope = jax.value_and_grad(count)(0.4, jax.random.key(0))
    assert value in range(8)
    assert slope == 7
    with pytest.raises(ValueError, match=r"value must have the shape of the surrogate, \(3,\)"):
        straight_through(jnp.zeros(2), jnp.zeros(3))


def test_log_probabilities():
    """Of draws that are certain, or never happen, too; the slope is n / p - (N - n) / (1 - p)."""
    of = lambda p, n, trials: binomial_log_probability(jnp.array([n]), jnp.array([trials]), p[None])
    value, slope = jax.value_and_grad(of)(jnp.array(0.3), 2, 5)
    np.testing.assert_allclose((value, slope), (2 * np.log(0.3) + 3 * np.log(0.7), 2 / 0.3 - 3 / 0.7), rtol=1e-12)
    for p, n, slope in ((0.0, 0, -5.0), (1.0, 5, 5.0)):
        np.testing.assert_allclose(jax.value_and_grad(of)(jnp.array(p), n, 5), (0.0, slope))
    assert of(jnp.array(1e-9), 1, 5) < -20


def test_bad_input():
    abm, policy, key = Duplicating(), Schedule(jnp.asarray(CONTROLS)), jax.random.key(0)
    cost = lambda x, u: x[-1, 0]
    with pytest.raises(ValueError, match="runs must be at least 2: given 1"):
        score_function_loss(abm, policy, cost, key, 4, runs=1)
    with pytest.raises(TypeError, match="abm must have log_probability"):
        score_function_loss(object(), policy, cost, key, 4, runs=2)
    for run in (simulate, lambda abm, policy, key, steps: corrected_rollout(abm, lambda x, u: x, policy, key, steps)):
        with pytest.raises(ValueError, match="steps must be at most 4, those that the policy is for: given 5"):
            run(abm, policy, key, 5)
    with pytest.raises(ValueError, match="window must be at least 1"):
        corrected_rollout(abm, lambda x, u: x, policy, key, 4, window=0)


def test_examples():
    with jax.enable_x64(False):
        assert doctest.testmod(estimators).failed == 0
