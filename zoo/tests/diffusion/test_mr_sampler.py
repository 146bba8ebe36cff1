"""Mean-reverting diffusion: schedules against quadrature, rules against recursions with known figures, convergence."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met

from dini_zoo.diffusion import mean_reverting
from dini_zoo.diffusion.exponential import multistep_rule
from dini_zoo.diffusion.mr_sampler import (
    MeanRevertingSDE,
    constant,
    convert,
    cosine,
    linear,
    method,
    mr_loss,
    mr_sampler,
    planes,
    restoration,
    table,
    threshold,
    time_grid,
)
from dini_zoo.diffusion.mr_sampler.experiment import experiment

SCHEDULES = {"constant": constant(0.7), "linear": linear(0.7, horizon=3.0), "cosine": cosine(0.7), "table": table(0.5)}
each = pytest.mark.parametrize("name", SCHEDULES)


@each
def test_schedules_are_integrals_and_are_inverted(name):
    sde = SCHEDULES[name]
    t = sde.horizon * np.array([0.0151, 0.203, 0.555, 0.907, 0.999])
    d = 1e-6 * sde.horizon
    slope = (sde.theta_integral(t + d) - sde.theta_integral(t - d)) / (2 * d)
    np.testing.assert_allclose(slope, sde.theta(t), rtol=1e-6)
    np.testing.assert_allclose(sde.time_of(sde.log_snr(t)), t, rtol=1e-8)
    np.testing.assert_allclose(sde.alpha(sde.horizon), 0.005, rtol=1e-6)
    # the noise is that of an equation whose variance ends at s_inf²: (σ²)' = -2θσ² + g²
    square = lambda t: sde.sigma(t) ** 2
    change = (square(t + d) - square(t - d)) / (2 * d)
    np.testing.assert_allclose(change, -2 * sde.theta(t) * square(t) + sde.diffusion(t) ** 2, rtol=1e-4, atol=1e-9)
    assert name != "table" or sde.sigma(0.0) > 0


def test_the_process_reverts_to_its_mean():
    sde, x0, mu = constant(0.5), jnp.array([[1.0, -1.0]]), jnp.array([[0.3, 0.3]])
    mean, std = sde.marginal_around(x0, mu, 0.4)
    a = sde.alpha(0.4)
    np.testing.assert_allclose(mean, a * x0 + (1 - a) * mu, rtol=1e-12)
    np.testing.assert_allclose(std, 0.5 * np.sqrt(1 - a**2), rtol=1e-12)
    x, noise = sde.sample_around(jax.random.key(0), x0, mu, 0.4)
    np.testing.assert_allclose(x, mean + std * noise, rtol=1e-12)
    score = lambda x, t: -(x - mean) / std**2
    drift = sde.reverse_around(score, mu, ode=True)(x, 0.4)
    expected = sde.theta(0.4) * (mu - x) - 0.5 * sde.diffusion(0.4) ** 2 * score(x, 0.4)
    np.testing.assert_allclose(drift, expected, rtol=1e-12)


def normal_recursion(sde, times, mean, variance, mu, **options):
    """Mean and variance that a rule leaves on normal data: every point is affine in the start and the noises."""
    a, s = np.asarray(sde.alpha(times)), np.asarray(sde.sigma(times))
    keep, pull, noise = map(np.asarray, multistep_rule(a, s, **options))
    n = len(keep)
    one, y = np.zeros(n + 2), np.zeros(n + 2)
    one[0], y[1] = 1.0, sde.s_inf
    history = [np.zeros(n + 2)] * 2
    for i in range(n):
        m0 = mean - mu
        data = m0 * one + a[i] * variance / (a[i] ** 2 * variance + s[i] ** 2) * (y - a[i] * m0 * one)
        told = data if options["solve"] == "data" else (y - a[i] * data) / s[i]
        y = keep[i] * y + pull[i, 0] * told + pull[i, 1] * history[-1] + pull[i, 2] * history[-2]
        y[2 + i] += noise[i]
        history = [history[-1], told]
    return mu + y[0], np.sum(y[1:] ** 2)


def test_rules_have_the_figures_of_the_specification():
    """Normal data, ten steps: mean and variance are exact numbers."""
    sde = constant(0.7, 0.005)
    times = time_grid("linear-lambda", 10, sde, end=1e-3)
    run = lambda **options: normal_recursion(sde, times, 1.2, 0.09, 0.3, **options)
    for options, expected in (
        ({"order": 2, "kind": "ode", "lower_final": False}, (1.193238, 0.097384)),
        ({"order": 1, "kind": "ode", "lower_final": False}, (1.193595, 0.065832)),
        ({"order": 1, "kind": "sde", "lower_final": False}, (1.195240, 0.050114)),
        ({"order": 2, "kind": "sde", "lower_final": False}, (1.195240, 0.101045)),
        ({"order": 2, "kind": "ode"}, (1.193363, 0.085659)),
        ({"order": 2, "kind": "sde"}, (1.195240, 0.075547)),
    ):
        np.testing.assert_allclose(run(solve="data", **options), expected, atol=1e-6)
    # the noise prediction explodes in few steps
    few = time_grid("linear-lambda", 5, sde, end=1e-3)
    for order, variance in ((1, 15.3), (2, 6.1e3)):
        found = normal_recursion(sde, few, 1.2, 0.09, 0.3, order=order, kind="sde", solve="noise", lower_final=False)
        np.testing.assert_allclose(found[1], variance, rtol=0.01)


def test_order_one_is_known_by_other_names():
    """The flow's rules for data and noise are one; the SDE's is the posterior of the process between two times."""
    sde = constant(0.7)
    a, s = sde.alpha(jnp.array([0.8, 0.3])), sde.sigma(jnp.array([0.8, 0.3]))
    y, data = 0.4, -0.9
    noise = (y - a[0] * data) / s[0]
    by_data, by_noise = (multistep_rule(a, s, order=1, solve=solve) for solve in ("data", "noise"))
    one = by_data.keep[0] * y + by_data.pull[0, 0] * data
    np.testing.assert_allclose(one, by_noise.keep[0] * y + by_noise.pull[0, 0] * noise, atol=1e-12)
    rule = multistep_rule(a, s, order=1, kind="sde")
    A, B, C = a[0] / a[1], a[0], a[1]
    mean = A * (1 - C**2) / (1 - B**2) * y + C * (1 - A**2) / (1 - B**2) * data
    np.testing.assert_allclose(rule.keep[0] * y + rule.pull[0, 0] * data, mean, rtol=1e-10)
    np.testing.assert_allclose(rule.noise[0], 0.7 * np.sqrt((1 - A**2) * (1 - C**2) / (1 - B**2)), rtol=1e-10)


def test_velocity_is_converted_as_the_specification_says():
    si, a = 0.7, 0.6
    s = si * np.sqrt(1 - a**2)
    y, v = jnp.array([[0.4]]), jnp.array([[-1.3]])
    np.testing.assert_allclose(convert(v, y, a, s, "velocity", "data", bound=si), a * y - s / si * v, rtol=1e-12)
    expected = ((s / si) * y + a * v) / si
    np.testing.assert_allclose(convert(v, y, a, s, "velocity", "noise", bound=si), expected, rtol=1e-12)


def test_errors_fall_with_the_order():
    """On a mixture with a perfect network: slopes between 160 and 320 calls, and targets that agree."""
    found = planes.converge(jax.random.key(0), (160, 320), (), 64, draws=1)
    slope = lambda name: np.log2(found.errors[name][0] / found.errors[name][1])
    for name, (order, _, _) in planes.RULES.items():
        assert abs(slope(name) - order) < 0.15, name
    # half of the second difference is of order two
    assert slope(planes.PUBLISHED) < 2.5
    assert found.velocity_gap < 1e-10


def test_grids():
    sde = table(0.5)
    for name in method.GRIDS:
        times = time_grid(name, 7, sde)
        assert times.shape == (8,)
        assert np.all(np.diff(times) < 0)
        assert times[0] == 100 or name == "leading"
        assert times[-1] == 0 or name == "trailing"
    levels = sde.log_snr(time_grid("linear-lambda", 7, sde))
    np.testing.assert_allclose(np.diff(levels), np.diff(levels)[0], rtol=1e-8)
    roots = jnp.exp(-sde.log_snr(time_grid("karras-n", 7, sde)) / 7)
    np.testing.assert_allclose(np.diff(roots), np.diff(roots)[0], rtol=1e-8)
    assert time_grid("uniform", 5, sde, lambda_min=-3.0)[0] == pytest.approx(float(sde.time_of(-3.0)))


def test_the_last_step_may_return_the_data():
    sde, mu = constant(0.5), jnp.full((2, 3), 0.3)
    data = jnp.arange(6.0).reshape(2, 3)
    sample = mr_sampler(sde, time_grid("uniform", 4, sde, end=0.1), target="data", denoise_last=True)
    np.testing.assert_allclose(sample(jax.random.key(0), mu, lambda x, mu, t: data), data, rtol=1e-10)
    clipped = mr_sampler(sde, time_grid("uniform", 4, sde, end=0.1), target="data", denoise_last=True, clip=threshold)(
        jax.random.key(0), mu, lambda x, mu, t: data
    )
    np.testing.assert_allclose(clipped, threshold(data), rtol=1e-10)
    assert np.max(np.abs(threshold(data))) <= 1


def test_the_loss_is_zero_for_a_perfect_model():
    """One data point: noise, data and velocity are known."""
    sde, x0, mu = table(0.5, 20), jnp.full((64, 2), 0.8), jnp.full((64, 2), 0.3)
    for target in method.TARGETS:

        def model(x, mu, t, target=target):
            a, s = sde.alpha(t), sde.sigma(t)
            noise = (x - mu - a[:, None] * (x0 - mu)) / s[:, None]
            return x0 if target == "data" else convert(noise, x - mu, a, s, "noise", target, bound=0.5)

        for whole in (False, True):
            loss = mr_loss(model, sde, x0, mu, jax.random.key(0), target=target, whole_steps=whole)
            assert loss < 1e-12
        assert mr_loss(lambda x, mu, t: model(x, mu, t) + 0.1, sde, x0, mu, jax.random.key(0), target=target) > 0.009


def test_gradients_go_through_the_sampler():
    """Of a restored image in what is given, against differences."""
    sde = constant(0.7)
    sample = mr_sampler(sde, time_grid("linear-lambda", 6, sde, end=1e-2), kind="sde")
    model = lambda x, mu, t: jnp.tanh(x - 0.5 * mu)

    @jax.jit
    def value(c):
        return jnp.sum(sample(jax.random.key(0), c * jnp.ones((2, 2)), model) ** 2)

    d = 1e-5
    np.testing.assert_allclose(jax.grad(value)(0.4), (value(0.4 + d) - value(0.4 - d)) / (2 * d), rtol=1e-6)


def test_what_is_refused():
    sde = constant(0.5)
    for make, word in (
        (lambda: constant(0.0), "s_inf must be positive"),
        (lambda: MeanRevertingSDE(lambda t: -t, lambda t: -1.0, 0.5), "theta_integral must rise"),
        (lambda: table(0.5, shape="square"), "shape must be one of"),
        (lambda: time_grid("even", 3, sde), "name must be one of"),
        (lambda: time_grid("uniform", 3, sde, end=2.0), "must fall"),
        (lambda: mr_sampler(sde, [0.1, 0.5]), "grid must fall"),
        (lambda: mr_sampler(sde, [0.5, 0.1], order=3, kind="sde"), "order must be one of 1, 2"),
        (lambda: mr_sampler(sde, [0.5, 0.1], target="score"), "target must be one of"),
        (lambda: mr_sampler(sde, [0.5, 0.0], solve="noise"), "last sigma must be positive"),
        (lambda: sde.marginal_around(jnp.ones((1, 2)), jnp.ones(2), 0.5), "mu must have the shape of x0"),
        (lambda: mr_loss(None, sde, jnp.ones((1, 2)), jnp.ones(2), jax.random.key(0)), "mu must have the shape"),
    ):
        with pytest.raises(ValueError, match=word):
            make()


def test_the_baseline_is_euler_s_rule():
    """Strided over A: against the equation's own coefficients, which are one and two there."""
    sde, times = restoration.process(), jnp.array([100.0, 60.0, 0.0])
    for share, noisy in ((2.0, True), (1.0, False)):
        rule = restoration.euler_rule(sde, times, share)
        change = sde.theta_integral(times[0]) - sde.theta_integral(times[1])
        y, noise = 0.4, -0.7
        score = -noise / sde.sigma(times[0])
        step = y - (-y - share * 0.25 * score) * change
        np.testing.assert_allclose(rule.keep[0] * y + rule.pull[0, 0] * noise, step, rtol=1e-10)
        np.testing.assert_allclose(rule.noise[0], 0.5 * np.sqrt(2 * change) if noisy else 0.0, rtol=1e-10)


@pytest.mark.parametrize("module", [mean_reverting, method], ids=lambda module: module.__name__)
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_bars_of_the_full_run():
    assert_bars_met("mr-sampler", experiment)
