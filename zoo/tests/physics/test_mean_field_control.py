"""Fits of a mean field and plans with it: recovered laws, NumPy's fit, two ways to one plan, derivatives."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.physics import mean_field, policies
from dini_zoo.physics.digital_twin_control import MetabolicPathway
from dini_zoo.physics.estimators import corrected_rollout, mean_field_rollout
from dini_zoo.physics.mean_field import (
    LotkaVolterraMap,
    Transitions,
    explained_increments,
    fit_mean_field,
    monomials,
    random_controls,
)
from dini_zoo.physics.optimal_control import open_loop_optimal_control
from dini_zoo.physics.policies import Schedule, TrackingCost

SCALE = (200.0, 80.0)


@pytest.fixture(scope="module")
def law():
    """Of two species that oscillate, the second of which is controlled."""
    with jax.enable_x64(True):
        # 1, z1, z2, z1², z1 z2, z2²
        rates = [[0.15, 0.0, -0.1, -0.05, 0.0, 0.0], [-0.1, 0.08, 0.0, 0.0, 0.02, -0.03]]
        return LotkaVolterraMap(jnp.array(rates), SCALE, (1,))


def steps(law, noise=0.0, count=60):
    random = np.random.default_rng(0)
    x, u = random.uniform(0.3, 2.0, (count, 2)) * SCALE, random.uniform(0, 0.5, (count, 1))
    after = np.asarray(jax.vmap(law)(jnp.asarray(x), jnp.asarray(u))) + noise * random.normal(size=(count, 2))
    return Transitions(*map(jnp.asarray, (x, u, after)))


@pytest.mark.thorough
def test_a_law_is_recovered(law):
    data = steps(law)
    # what begins with too few has no say
    few = Transitions(data.x.at[:3, 1].set(4.0), data.u, data.after.at[:3].set(1e3))
    for given in (data, few):
        found = fit_mean_field(given, scale=SCALE, controlled=(1,))
        np.testing.assert_allclose(found.coefficients, law.coefficients, atol=1e-10)
    np.testing.assert_allclose(explained_increments(law, data), 1.0)
    assert np.all(explained_increments(lambda x, u: x, data) < 0.01)


def test_the_fit_is_numpys_and_has_its_derivative(law):
    data = steps(law, noise=3.0)
    found = fit_mean_field(data, scale=SCALE, controlled=(1,))
    left = np.asarray(data.x) * np.column_stack([np.ones(60), 1 - np.asarray(data.u)[:, 0]])
    features = np.stack([np.asarray(monomials(jnp.asarray(row))) for row in left / SCALE])
    for i in range(2):
        expected = np.linalg.lstsq(left[:, i, None] * features, np.asarray(data.after)[:, i] - left[:, i])[0]
        np.testing.assert_allclose(found.coefficients[i], expected, atol=1e-9)

    def along(h):
        moved = Transitions(data.x * (1 + h * jnp.cos(data.x)), data.u * (1 - h), data.after + h * data.x)
        return fit_mean_field(moved, scale=SCALE, controlled=(1,)).coefficients

    both, h = jax.jit(lambda h: jax.jvp(along, (h,), (jnp.ones(()),))), 1e-5
    slope = both(0.0)[1]
    np.testing.assert_allclose(slope, (both(h)[0] - both(-h)[0]) / (2 * h), rtol=1e-6, atol=1e-7)
    assert np.min(np.abs(slope)) > 1e-6


def test_what_has_died_out_stays_so(law):
    np.testing.assert_array_equal(law(jnp.zeros(2), jnp.array([0.1])), 0.0)
    assert law(jnp.array([100.0, 0.0]), jnp.array([0.1]))[1] == 0
    # never negative
    steep = LotkaVolterraMap(-5 * jnp.ones((2, 6)), SCALE, (1,))
    np.testing.assert_array_equal(steep(jnp.array([100.0, 50.0]), jnp.array([0.0])), 0.0)


def test_random_controls():
    u = random_controls(jax.random.key(0), 200, 35, (0.1, 2.0), hold=10, active=0.6)
    assert u.shape == (200, 35, 2)
    held = np.asarray(u).reshape(200, 7, 5, 2)
    np.testing.assert_array_equal(held, np.broadcast_to(held[:, :, :1], held.shape))
    np.testing.assert_allclose(np.mean(np.asarray(u) > 0, axis=(0, 1)), 0.6, atol=0.05)
    np.testing.assert_allclose(np.max(u, axis=(0, 1)), (0.1, 2.0), rtol=0.02)
    np.testing.assert_allclose(np.mean(u, axis=(0, 1)), (0.03, 0.6), rtol=0.1)


def test_bad_fits(law):
    data = steps(law)
    fit = lambda data, **options: fit_mean_field(data, **({"scale": SCALE, "controlled": (1,)} | options))
    with pytest.raises(ValueError, match="the number of steps from counts of at least 5 must be at least 6: given 4"):
        fit(Transitions(*(part[:4] for part in data)))
    with pytest.raises(ValueError, match="data must be finite"):
        fit(data._replace(after=data.after.at[0].set(jnp.nan)))
    with pytest.raises(ValueError, match="scale must have the shape of the counts"):
        fit(data, scale=(1.0,))
    with pytest.raises(ValueError, match=r"data\.u must have the shape of data.x and controlled"):
        fit(data, controlled=(0, 1))
    with pytest.raises(ValueError, match="controlled must be from 0 to 1: given 2 to 2"):
        fit(data, controlled=(2,))
    with pytest.raises(ValueError, match="coefficients must have 2 rows, as scale has, of 6 numbers"):
        LotkaVolterraMap(jnp.zeros((2, 5)), SCALE, (1,))
    with pytest.raises(ValueError, match="scale must be positive"):
        fit(data, scale=(0.0, 1.0))


def tracking(steps, effort=1.0):
    return TrackingCost(
        jnp.full((steps, 2), jnp.array([180.0, 60.0])), jnp.arange(steps) >= 1, species=(0, 1), effort=effort
    )


X0 = np.array([250.0, 110.0])


def shooting(law, count, **options):
    bounds = {"lower": jnp.zeros(1), "upper": 0.3}
    return open_loop_optimal_control(law, X0, tracking(count), count, **bounds, **options)


def test_a_plan_and_its_derivative(law):
    """No other control is cheaper; the plan follows the coefficients as differences say."""
    count = 6

    def planned(rates):
        plan = shooting(LotkaVolterraMap(rates, SCALE, (1,)), count)
        return plan.u, plan.x, plan.cost

    random = np.random.default_rng(0)
    direction, h = jnp.asarray(random.normal(size=(2, 6))) * 0.1, 1e-5
    both = jax.jit(lambda rates: jax.jvp(planned, (rates,), (direction,)))
    (u, x, cost), (slope, _, _) = both(law.coefficients)
    follow = jax.jit(lambda u: jax.lax.scan(lambda x, u: (law(x, u),) * 2, jnp.asarray(X0), u)[1])
    value = lambda u: tracking(count)(follow(jnp.asarray(u)), jnp.asarray(u))
    np.testing.assert_allclose(x[1:], follow(u), rtol=1e-12)
    np.testing.assert_allclose(cost, value(u), rtol=1e-12)
    assert np.all((u >= 0) & (u <= 0.3))
    assert np.any((u > 1e-3) & (u < 0.299))
    for size in (1e-3, 0.03):
        assert value(np.clip(u + size * random.normal(size=u.shape), 0, 0.3)) > cost
    ends = [both(law.coefficients + sign * h * direction)[0][0] for sign in (1, -1)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * h), rtol=1e-4, atol=1e-6)
    assert np.max(np.abs(slope)) > 1e-2


@pytest.mark.thorough
def test_collocation_finds_the_plan_of_shooting(law):
    """And has its derivative, whose matrix has the states in it."""
    count, hold, segment, h = 6, 2, 3, 1e-5

    @jax.jit
    def both(factor):
        moved = LotkaVolterraMap(law.coefficients * factor, SCALE, (1,))
        one = shooting(moved, count, hold=hold)
        other = shooting(moved, count, hold=hold, method="collocation", segment=segment)
        return one.u, other.u, one.x, other.x

    one, other, x, same = both(1.0)
    np.testing.assert_allclose(other, one, atol=1e-7)
    np.testing.assert_allclose(same, x, rtol=1e-6)
    np.testing.assert_array_equal(one[::hold], one[hold - 1 :: hold])
    slopes = jax.jacfwd(both)(1.0)
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(slopes[1], (both(1 + h)[1] - both(1 - h)[1]) / (2 * h), rtol=1e-4, atol=1e-6)


@pytest.mark.thorough
def test_a_plan_is_tuned_by_what_the_population_does():
    """The model's rate is wrong. How the population's cost follows that rate, through the plan: as differences say.

    Without inhibition the corrected derivative of a linear cost is exact, and that of the mean.
    """
    count, weights, key = 12, jnp.linspace(0.1, 1.0, 12), jax.random.key(0)
    population = MetabolicPathway(inhibition=jnp.inf, capacity=128)
    wanted = TrackingCost(jnp.full((count, 1), 6.0), jnp.arange(count) >= 4, species=(1,), effort=1e-4)

    def planned(rate):
        g = MetabolicPathway(rates=jnp.stack([rate, 0.5, 0.5, 0.3]), inhibition=jnp.inf).mean_field
        bounds = {"lower": jnp.zeros(1), "upper": 60.0, "hold": 3}
        return open_loop_optimal_control(g, jnp.zeros(4), wanted, count, **bounds).u

    def transferred(rate):
        path = corrected_rollout(population, population.mean_field, Schedule(planned(rate)), key, count)
        return weights @ path.x[1:, 1]

    def on_average(rate):
        return (
            weights @ mean_field_rollout(population.mean_field, Schedule(planned(rate)), jnp.zeros(4), count)[0][1:, 1]
        )

    slope, h = jax.jit(jax.grad(transferred))(1.3), 1e-5
    mean = jax.jit(on_average)
    np.testing.assert_allclose(slope, (mean(1.3 + h) - mean(1.3 - h)) / (2 * h), rtol=1e-5)
    assert abs(slope) > 1


def test_bad_plans(law):
    for options, told in (
        ({"hold": 4}, "hold must divide the number of steps, 6: given 4"),
        ({"segment": 5, "method": "collocation"}, "segment must divide the number of steps, 6: given 5"),
        ({"method": "guess"}, "method must be one of 'shooting', 'collocation'"),
    ):
        with pytest.raises(ValueError, match=told):
            shooting(law, 6, **options)
    with pytest.raises(ValueError, match="lower or upper must have a number for each control"):
        open_loop_optimal_control(law, X0, tracking(6), 6, lower=0.0, upper=0.3)
    with pytest.raises(ValueError, match="x0 must be finite"):
        open_loop_optimal_control(law, X0 * jnp.nan, tracking(6), 6, lower=jnp.zeros(1), upper=0.3)


def test_steps_that_do_not_tell_the_law(law):
    """All from one state, or without the second species."""
    data = steps(law)
    same = Transitions(*(jnp.broadcast_to(part[:1], part.shape) for part in data))
    with pytest.raises(ValueError, match="given counts that tell 1 of those of species 0 apart"):
        fit_mean_field(same, scale=SCALE, controlled=(1,))
    alone = data._replace(x=data.x.at[:, 1].set(0.0))
    with pytest.raises(ValueError, match=r"given counts that tell \d of those of species 0 apart"):
        fit_mean_field(alone, scale=SCALE, controlled=(1,), least=0.0)


@pytest.mark.parametrize(
    "module", [mean_field, pytest.param(policies, marks=pytest.mark.thorough)], ids=["mean_field", "policies"]
)
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0
