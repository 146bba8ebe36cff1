"""Fractional noise: coefficients by quadrature, laws in closed form, bridges whose evidence is known, bad input."""

import dataclasses
import decimal
import doctest

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met, assert_drawn, performed
from scipy import integrate, special

from dini_zoo.equations.fractional_sde import (
    FixedNoise,
    FractionalNoise,
    FractionalSDE,
    GridBrownianPath,
    WeightTable,
    approximation,
    brownian,
    equation,
    exact_ou_step,
    fbm_covariance,
    ma_covariance,
    noise,
    optimal_weights,
    ou_speeds,
    relative_error,
    white_noise,
)
from dini_zoo.equations.fractional_sde.bridge import build, exact
from dini_zoo.equations.fractional_sde.experiment import experiment
from dini_zoo.equations.fractional_sde.learning import CASES, expected_log_likelihood

SPEEDS = ou_speeds(5)


@pytest.mark.parametrize("hurst", [0.2, 0.7])
def test_the_linear_system_is_that_of_quadrature(hurst):
    """Integrals of covariances over the horizon, by SciPy."""
    T, gamma, a = 1.7, np.array(SPEEDS), hurst + 0.5
    quad = lambda fun, end, **options: integrate.quad(fun, 0, end, epsabs=1e-13, epsrel=1e-12, limit=200, **options)[0]
    vector = approximation.normal_vector
    for k, g in enumerate(gamma):
        # ∫ (T - v) v^(H - 1/2) exp(-g v) dv, with the power as a weight
        power = {"weight": "alg", "wvar": (hurst - 0.5, 0.0)}
        value = quad(lambda v, g=g: (T - v) * np.exp(-g * v), T, **power) / special.gamma(a)
        np.testing.assert_allclose(vector(gamma, hurst, T, "II")[k], value, rtol=1e-8)
        # of the time before zero, once with the power integrated over the horizon by hand
        before = quad(lambda u, g=g: ((T + u) ** a - u**a) / a * np.exp(-g * u), np.inf) / special.gamma(a)
        value = (T + T - (1 - np.exp(-g * T)) / g) / g**a - before
        np.testing.assert_allclose(vector(gamma, hurst, T, "I")[k], value, rtol=1e-8)
    pairs = [(0, 0), (0, 4), (2, 3), (4, 4)]
    for i, j in pairs:
        g, h = gamma[i], gamma[j]
        one = quad(lambda t, g=g, h=h: (2 - np.exp(-g * t) - np.exp(-h * t)) / (g + h), T)
        two = quad(lambda t, g=g, h=h: (1 - np.exp(-(g + h) * t)) / (g + h), T)
        np.testing.assert_allclose(approximation.normal_matrix(gamma, T, "I")[i, j], one, rtol=1e-8)
        np.testing.assert_allclose(approximation.normal_matrix(gamma, T, "II")[i, j], two, rtol=1e-8)


def test_the_scaled_incomplete_gamma_function_has_no_seam():
    """Against a quadrature of its integral; no overflow."""
    for a in (0.52, 1.0, 1.48):
        x = np.array([0.3, 5.0, 29.9, 30.1, 80.0, 1e4, 1e8])
        # Γ(a) eˣ Q(a, x) = ∫ (x + u)^(a - 1) e^-u du
        truth = [integrate.quad(lambda u, x=x, a=a: (x + u) ** (a - 1) * np.exp(-u), 0, np.inf)[0] for x in x]
        np.testing.assert_allclose(approximation.scaled_upper_gamma(a, x) * special.gamma(a), truth, rtol=1e-8)


def exactly(a, x):
    """With sixty digits `2x + exp(-x) - exp(x)`, and `Γ(a + 1) exp(x) P(a, x) - xᵃ`, by its series."""
    with decimal.localcontext(prec=60):
        a, x = decimal.Decimal(a), decimal.Decimal(x)
        terms = [decimal.Decimal(1)]
        for n in range(1, 200):
            terms.append(terms[-1] * x / (a + n))
        return float(2 * x + (-x).exp() - x.exp()), float(x**a * sum(terms[1:]))


@pytest.mark.parametrize("hurst", [0.02, 0.3, 0.5, 0.9, 0.98])
def test_slow_speeds_lose_no_digits(hurst):
    """Sixty digits against the vector of type I, on both sides of the seam of its series."""
    x = np.array([1e-9, 1e-6, 1e-3, 0.1, 0.7, 0.999999, 1.0, 1.000001, 1.5, 6.0])
    odd, rest = np.transpose([exactly(hurst + 0.5, float(one)) for one in x])
    truth = odd + rest / special.gamma(hurst + 1.5)
    for T in (1e-6, 1.0, 1e6):
        found = approximation.normal_vector(x / T, hurst, T, "I") * (x / T) ** (hurst + 1.5)
        np.testing.assert_allclose(found, truth, rtol=1e-12)


def test_wide_ranges_and_short_horizons_leave_errors_between_zero_and_one():
    """Of a rounded index too, and of the table with its derivative."""
    wide = ou_speeds(20, 1e6)
    assert abs(relative_error(wide, 0.8, 1.0, "I") / 0.0031 - 1) < 0.02
    for kind in ("I", "II"):
        for horizon in (1e-6, 1.0, 1e6):
            for hurst in (0.05, 0.3, 0.8, 0.97):
                assert -1e-9 < relative_error(wide, hurst, horizon, kind) < 1, (kind, horizon, hurst)
                assert -1e-9 < relative_error(SPEEDS, hurst, horizon, kind) < 1, (kind, horizon, hurst)
    for rounded in (np.float32(0.8), jnp.float32(0.8)):
        exact = optimal_weights(SPEEDS, float(rounded), 1.0, "I")
        np.testing.assert_allclose(optimal_weights(SPEEDS, rounded, 1.0, "I"), exact, rtol=1e-12)
        assert relative_error(SPEEDS, rounded, 1.0, "I") == relative_error(SPEEDS, float(rounded), 1.0, "I")
    table = WeightTable(SPEEDS, 1e-3, "I")
    weights, slope = jax.jit(lambda H: jax.jvp(table, (H,), (jnp.ones_like(H),)))(jnp.asarray(0.8))
    above, truth, below = (optimal_weights(SPEEDS, 0.8 + h, 1e-3, "I") for h in (1e-4, 0, -1e-4))
    np.testing.assert_allclose(weights, truth, atol=1e-6 * np.abs(truth).max(), rtol=0)
    np.testing.assert_allclose(slope, (above - below) / 2e-4, atol=1e-4 * np.abs(slope).max(), rtol=0)


def test_errors_of_the_approximation_are_those_of_the_specification():
    """Brownian motion is reproduced; units of time do not matter."""
    assert relative_error(SPEEDS, 0.5, 1.0) < 1e-9
    assert 5e-6 < relative_error(SPEEDS, 0.5, 6.0) < 2e-5
    for kind, wanted in (("I", (0.31, 0.017, 0.013, 0.098, 0.51)), ("II", (0.23, 0.0078, None, 1.3e-4, 6e-5))):
        for hurst, error in zip((0.1, 0.3, 0.5, 0.7, 0.9), wanted, strict=True):
            if error is not None:
                assert abs(relative_error(SPEEDS, hurst, 1.0, kind) / error - 1) < 0.06, (kind, hurst)
    assert abs(relative_error(ou_speeds(15, 1000.0), 0.7, 1.0, "I") / 0.0081 - 1) < 0.02
    for kind in ("I", "II"):
        weights = optimal_weights(SPEEDS, 0.3, 1.0, kind)
        for unit in (1e-6, 1e6):
            other = optimal_weights(np.array(SPEEDS) / unit, 0.3, unit, kind)
            np.testing.assert_allclose(other * unit**0.2, weights, rtol=1e-7)


def test_the_table_is_the_solution_and_its_derivative():
    """In double precision against the solution and its differences; in single precision; one bad lane."""
    for kind, tolerance in (("I", 1e-9), ("II", 1e-7)):
        table = WeightTable(SPEEDS, 1.0, kind)
        hursts = jnp.array([0.03, 0.25, 0.5, 0.71, 0.97, 1.2])
        found, slopes = jax.jit(jax.vmap(lambda H, table=table: jax.jvp(table, (H,), (jnp.ones_like(H),))))(hursts)
        assert np.all(np.isnan(found[-1]))
        for H, weights, slope in zip(hursts[:-1], found, slopes, strict=False):
            truth = optimal_weights(SPEEDS, float(H), 1.0, kind)
            np.testing.assert_allclose(weights, truth, atol=tolerance * np.abs(truth).max(), rtol=0)
            above, below = (optimal_weights(SPEEDS, float(H) + h, 1.0, kind) for h in (1e-4, -1e-4))
            difference = (above - below) / 2e-4
            np.testing.assert_allclose(slope, difference, atol=1e-5 * np.abs(difference).max(), rtol=0)
        single = jax.jit(jax.vmap(table))(hursts.astype(jnp.float32))
        assert single.dtype == jnp.float32
        size = np.abs(found[:-1]).max(axis=1, keepdims=True)
        np.testing.assert_allclose(single[:-1] / size, found[:-1] / size, atol=2e-5)


def test_covariances_are_those_of_the_integrals():
    """Of fractional Brownian motion, by quadrature; and at one half, of Brownian motion."""
    for H in (0.2, 0.7):
        for s, t in ((0.3, 0.8), (1.0, 1.0), (2e-6, 1e6)):
            # substituted so that the singularity of the shorter factor is gone: v = (s - u)^(H + 1/2)
            a = H + 0.5
            inner = lambda v, s=s, t=t, a=a, H=H: (t - s + v ** (1 / a)) ** (H - 0.5) / a
            value = integrate.quad(inner, 0, s**a, epsabs=0, epsrel=1e-11)[0] if s < t else s ** (2 * H) / (2 * H)
            found = fbm_covariance(H, s, t, "II")
            np.testing.assert_allclose(found, value / special.gamma(a) ** 2, rtol=1e-8)
            np.testing.assert_allclose(fbm_covariance(H, t, s, "II"), found, rtol=1e-14)
        scale = 1 / (special.gamma(2 * H + 1) * np.sin(np.pi * H))
        np.testing.assert_allclose(fbm_covariance(H, 1.0, 1.0, "I"), scale)
        np.testing.assert_allclose(FractionalNoise(H, unit_variance=True).covariance(1.0, 1.0), 1.0, rtol=2e-2)
    np.testing.assert_allclose(fbm_covariance(0.5, [0.0, 0.3], 0.2, "II"), [0.0, 0.2], atol=1e-15)


@pytest.mark.parametrize("kind", ["I", "II"])
def test_exact_paths_have_the_covariance(kind):
    """Of 100000 paths, within four standard errors."""
    ts, count = np.array([0.004, 0.3, 1.0]), 100_000
    rough = FractionalNoise(0.3, kind=kind)
    x = np.asarray(jax.jit(lambda key: rough.paths(key, ts, count))(jax.random.key(0)))
    found = x @ x.T / count
    truth = np.asarray(rough.covariance(ts[:, None], ts))
    spread = np.sqrt((truth**2 + np.outer(np.diagonal(truth), np.diagonal(truth))) / count)
    assert np.all(np.abs(found - truth) < 4 * spread)


def test_two_exact_steps_are_one():
    """However short: the covariance has a low rank there."""
    for h in (1e-9, 1e-3, 3.0):
        half, gain, root = exact_ou_step(SPEEDS, h / 2)
        whole, whole_gain, whole_root = exact_ou_step(SPEEDS, h)
        np.testing.assert_allclose(half**2, whole, rtol=1e-12)
        np.testing.assert_allclose(half * gain + gain, whole_gain, rtol=1e-12)
        carried = half[:, None] * (root @ root.T) * half + root @ root.T
        np.testing.assert_allclose(whole_root @ whole_root.T, carried, rtol=1e-6, atol=1e-12 * h)
        # one Brownian motion: nothing is imaginary, and its increments have variance h where nothing decays
        assert np.all(np.isfinite(root))
    np.testing.assert_allclose(exact_ou_step([0.0], 0.25)[2] ** 2, 0.25)


def test_the_law_ahead_is_exact_in_single_precision_too():
    """The variance as a double sum in double precision; Brownian motion; short and long times."""
    rough = FractionalNoise(0.25, horizon=1.0)
    taus = np.array([1e-6, 1e-2, 0.3, 2.0, 50.0])
    _, kappa, variance = jax.jit(jax.vmap(rough.ahead))(jnp.asarray(taus))
    omega, gamma = np.asarray(rough.weights), np.array(SPEEDS)
    total = gamma[:, None] + gamma
    truth = [omega @ (-np.expm1(-total * tau) / total) @ omega for tau in taus]
    np.testing.assert_allclose(variance, truth, rtol=1e-8)
    np.testing.assert_allclose(kappa, np.exp(-np.outer(taus, gamma)) @ omega, rtol=1e-9)
    with jax.enable_x64(False):
        single = FractionalNoise(0.25, horizon=1.0)
        _, _, found = jax.jit(jax.vmap(single.ahead))(jnp.asarray(taus, jnp.float32))
    np.testing.assert_allclose(found, truth, rtol=2e-4)
    np.testing.assert_allclose(white_noise().ahead(0.7)[2], 0.7, rtol=1e-12)


@pytest.fixture(scope="module")
def bridges():
    """Paths with the exact control, and the gradient of the bound in the parameter of the index."""

    def estimates(raw, keys):
        sde = build("II", 0.7)
        sde = eqx.tree_at(lambda sde: sde.noise.raw, sde, raw)

        def one(key):
            path = sde.sample(key, jnp.zeros(1), jnp.array([0.0, 1.0, 2.0]), steps=60, posterior=True)
            log_p = -0.5 * (1.0 - path.x[-1, 0]) ** 2 / 0.09 - 0.5 * jnp.log(2 * jnp.pi * 0.09)
            return log_p - path.kl, path.martingale

        bound, martingale = jax.vmap(one)(keys)
        return jnp.mean(bound - martingale), (bound, martingale)

    with jax.enable_x64(True):
        program = jax.jit(jax.value_and_grad(estimates, has_aux=True))
        raw, keys = FractionalNoise(0.7).raw, jax.random.split(jax.random.key(0), 200)
        (value, parts), slope = program(raw, keys)
        above, below = (program(raw + h, keys)[0][0] for h in (1e-5, -1e-5))
        return value, parts, slope, (above - below) / 2e-5


def test_the_exact_control_makes_the_bound_the_evidence(bridges):
    """Of every single path, up to the steps; the plain bound needs many."""
    value, (bound, martingale), _, _ = bridges
    truth, _ = exact("II", 0.7)
    np.testing.assert_allclose(truth, -1.5556, atol=6e-5)
    np.testing.assert_allclose(exact("I", 0.3)[0], -1.5745, atol=6e-5)
    assert abs(value - truth) < 0.05
    assert np.std(bound - martingale) < 0.3 * np.std(bound)
    assert abs(np.mean(martingale)) < 4 * np.std(martingale) / np.sqrt(len(martingale))


def test_the_bound_is_differentiated_in_the_index(bridges):
    _, _, slope, difference = bridges
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


@pytest.mark.parametrize(
    "solver",
    [
        diffrax.Heun(),
        *(
            pytest.param(one(), marks=pytest.mark.thorough)
            for one in (diffrax.SPaRK, diffrax.StratonovichMilstein, diffrax.EulerHeun)
        ),
    ],
    ids=lambda solver: type(solver).__name__,
)
def test_any_solver_takes_the_noise(solver):
    """Without a drift the path is the noise itself, whose variance is known; the martingale is that of Ito alone."""
    rough = FractionalNoise(0.3)
    sde = FractionalSDE(lambda x, t: jnp.zeros_like(x), lambda x, t: 2 * jnp.ones_like(x), rough)
    ts, count = jnp.array([0.0, 0.5, 1.0]), 3000
    draw = lambda key: sde.sample(key, jnp.ones(2), ts, steps=40, solver=solver)
    path = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), count))
    np.testing.assert_array_equal(path.x[:, 0], 1.0)
    for i in (1, 2):
        truth = 4 * float(rough.covariance(ts[i], ts[i]))
        error = abs(np.var(path.x[:, i]) / truth - 1)
        assert error < 4 * np.sqrt(2 / (2 * count)) + 0.06, error  # and the bias of steps
    # the state and the processes tell of the same noise
    np.testing.assert_allclose(path.x - 1, 2 * path.y @ np.asarray(rough.weights), atol=1e-10)
    ito = isinstance(solver, diffrax.AbstractItoSolver)
    assert np.all(path.martingale == 0) if ito else np.all(np.isnan(path.martingale))


@pytest.mark.thorough
def test_adaptive_steps_take_the_terms():
    """With any Brownian path of diffrax; the gradient in the index goes through."""
    ts = jnp.linspace(0.0, 1.0, 3)

    def last(raw, key):
        rough = eqx.tree_at(lambda noise: noise.raw, FractionalNoise(0.3), raw)
        sde = FractionalSDE(lambda x, t: -x, lambda x, t: jnp.ones_like(x), rough)
        path = diffrax.VirtualBrownianTree(0.0, 1.0, 1e-3, (1,), key, levy_area=diffrax.SpaceTimeLevyArea)
        controller = diffrax.PIDController(rtol=1e-2, atol=1e-2, dtmin=2e-3)
        found = diffrax.diffeqsolve(
            sde.terms(path),
            diffrax.SPaRK(),
            0.0,
            1.0,
            0.01,
            sde.initial(key, jnp.zeros(1)),
            stepsize_controller=controller,
            saveat=diffrax.SaveAt(ts=ts),
        )
        return found.ys.x[-1, 0]

    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(last), (None, 0)))(
        FractionalNoise(0.3).raw, jax.random.split(jax.random.key(0), 3)
    )
    assert np.all(np.isfinite(values))
    assert np.all(np.abs(slopes) > 1e-3)


def test_a_step_that_is_too_long_is_seen_in_a_program_too():
    with pytest.raises(Exception, match="steps must be so many"):
        jax.block_until_ready(eqx.filter_jit(lambda end: sampled(ts=jnp.stack([0.0 * end, end])).x)(jnp.asarray(2.0)))


@pytest.mark.thorough
def test_the_solver_decides_between_ito_and_stratonovich():
    """Geometric Brownian motion: its mean stays, or grows."""
    sde = FractionalSDE(lambda x, t: jnp.zeros_like(x), lambda x, t: x, white_noise())
    keys = jax.random.split(jax.random.key(0), 20_000)
    for solver, mean in ((diffrax.Euler(), 1.0), (diffrax.Heun(), np.exp(0.125))):
        draw = lambda key, solver=solver: sde.sample(key, jnp.ones(1), jnp.array([0.0, 0.25]), steps=50, solver=solver)
        x = jax.jit(jax.vmap(draw))(keys).x[:, -1, 0]
        assert abs(np.mean(x) - mean) < 4 * np.std(x) / np.sqrt(len(x))


def test_likelihoods_of_the_specification():
    """Of a sequence, by the true model and by Brownian motion."""
    rough, smooth = CASES
    found = [expected_log_likelihood(case, hurst) for case in (rough, smooth) for hurst in (case.hurst, 0.5)]
    np.testing.assert_allclose(found, [-10.293, -10.822, -5.756, -6.060], atol=6e-4)


def test_increments_of_the_grid_are_those_of_its_intervals():
    grid = jnp.array([0.0, 0.1, 0.4])
    path = GridBrownianPath(grid, (3,), levy_area=diffrax.SpaceTimeLevyArea, key=jax.random.key(0))
    found = path.evaluate(grid[1], grid[2], use_levy=True)
    np.testing.assert_allclose(found.W, jnp.sqrt(0.3) * path.normals[0][1])
    np.testing.assert_allclose(found.H, jnp.sqrt(0.3 / 12) * path.normals[1][1])


def sampled(**options):
    sde = FractionalSDE(lambda x, t: x, lambda x, t: jnp.ones_like(x), FractionalNoise())
    given = {"ts": jnp.array([0.0, 1.0]), "steps": 60} | options
    return sde.sample(jax.random.key(0), jnp.zeros(1), **given)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: ou_speeds(0), "count must be at least 1"),
        (lambda: ou_speeds(3, 1.0), "fastest must be more than slowest"),
        (lambda: optimal_weights(SPEEDS, 1.0, 1.0), "hurst must be between 0 and 1"),
        (lambda: optimal_weights(SPEEDS, 0.3, -1.0), "horizon must be positive"),
        (lambda: optimal_weights((1.0, 1.0), 0.3, 1.0), "different"),
        (lambda: optimal_weights((1.0, np.nan), 0.3, 1.0), "speeds must be positive"),
        (lambda: optimal_weights(SPEEDS, 0.3, 1.0, "III"), "kind must be one of"),
        (lambda: fbm_covariance(0.3, -1.0, 1.0), "s must be zero or more"),
        (lambda: WeightTable(SPEEDS)(0.99), "hurst must be from 0.02 to 0.98"),
        (lambda: FractionalNoise(0.99), "hurst must be between 0.02 and 0.98"),
        (lambda: FixedNoise((0.0,), (1.0,), "I"), "speeds of type I must be positive"),
        (lambda: FixedNoise((1.0,), (1.0, 2.0)), "as many"),
        (lambda: FractionalNoise().paths(jax.random.key(0), [1.0, 0.5], 1), "ts must rise"),
        (lambda: ma_covariance(SPEEDS, jnp.ones(5), 0.0, 0.0, "i"), "kind must be one of"),
        (lambda: sampled(ts=jnp.array([0.0, 1.0, 1.0])), "ts must rise"),
        (lambda: sampled(steps=0), "steps must be at least 1"),
        (lambda: sampled(solver=diffrax.ItoMilstein()), "another than ItoMilstein"),
        (lambda: sampled(steps=40), r"below 0.5 \(Euler's method\): given 0.5, with 40"),
        (lambda: sampled(posterior=True), "needs a control"),
        (lambda: exact_ou_step(SPEEDS, -1.0), "h must be zero or more"),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize("module", [approximation, noise, brownian, equation], ids=lambda module: module.__name__)
def test_the_examples_of_docstrings(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0


@pytest.mark.thorough
def test_all_parts_of_the_experiment_run():
    settings = dataclasses.replace(experiment.settings.tiny(), parts=("learning", "video"), seeds=2)
    done = performed("fractional-sde", experiment, settings)
    assert_drawn(experiment.draw(done.result))
    (one,) = done.result.learned
    assert all(0.45 < hurst < 0.55 for hurst in one.hursts)  # after two steps
    assert np.isfinite(one.bounds).all()  # of so few draws they are estimates, and above the likelihood by chance


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("fractional-sde", experiment)
