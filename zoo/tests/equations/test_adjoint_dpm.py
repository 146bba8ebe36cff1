"""Gradients through samplers: exact steps, schedules, the adjoint beside differences, bad input."""

import dataclasses
import doctest
import itertools

import diffrax
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met, assert_drawn, performed

from dini_zoo.diffusion.processes import VESDE, VPSDE, SubVPSDE
from dini_zoo.equations.adjoint_dpm import (
    CosineVP,
    DiscreteVP,
    ascend_noise,
    clip_perturbation,
    guided,
    noise_ratio,
    sample_pf_ode,
    sampling,
    schedules,
    steering,
    time_grid,
    time_of_ratio,
)
from dini_zoo.equations.adjoint_dpm.closed import MEAN, NOISE, flow, predict
from dini_zoo.equations.adjoint_dpm.experiment import experiment

ENDS = {"linear": 1.0, "cosine": 0.9946, "discrete": 1.0}


def process_of(name):
    made = {"linear": VPSDE, "cosine": CosineVP, "discrete": lambda: DiscreteVP(jnp.linspace(1e-4, 0.02, 1000))}
    return made[name]()


@pytest.mark.parametrize("name", ENDS)
def test_schedules_are_inverted_and_are_their_own_derivatives(name):
    process = process_of(name)
    t = jnp.linspace(1e-3, ENDS[name], 41)
    np.testing.assert_allclose(time_of_ratio(process, noise_ratio(process, t)), t, atol=1e-12)
    np.testing.assert_allclose(process.alpha(t) ** 2 + process.sigma(t) ** 2, 1.0, rtol=1e-12)
    if name == "discrete":
        np.testing.assert_allclose(process.alpha(1.0) ** 2, np.prod(1 - np.linspace(1e-4, 0.02, 1000)), rtol=1e-10)
        np.testing.assert_allclose(process.level(jnp.array([0.001, 1.0])), [0.0, 999.0], atol=1e-9)
        # between two levels, where the logarithm is linear
        t = (jnp.array([3.0, 500.0, 998.0]) + 0.4) / 1000
    slope = jax.vmap(jax.grad(lambda t: jnp.log(process.alpha(t))))(t)
    np.testing.assert_allclose(process.rate(t), slope, rtol=1e-9)
    variance_slope = jax.vmap(jax.grad(lambda t: process.sigma(t) ** 2))(t)
    np.testing.assert_allclose(
        process.diffusion(t) ** 2, variance_slope - 2 * process.rate(t) * process.sigma(t) ** 2, rtol=1e-8
    )


def test_the_clock_of_the_linear_schedule_is_that_of_the_specification():
    process = VPSDE()
    np.testing.assert_allclose(noise_ratio(process, 1.0), 152.167, rtol=1e-5)
    np.testing.assert_allclose(noise_ratio(process, 1e-3), 0.010486, rtol=1e-4)
    # near the data nothing cancels, and in single precision either
    for precise in (CosineVP(), process):
        small = precise.sigma(jnp.asarray(1e-10))
        np.testing.assert_allclose(precise.sigma(jnp.asarray(1e-10, jnp.float32)), small, rtol=1e-5)


@pytest.mark.parametrize("kind", ["logsnr", "time", "quadratic"])
def test_grids_end_where_they_should(kind):
    process = VPSDE()
    times = np.asarray(time_grid(process, 7, first=1e-3, last=0.9, kind=kind))
    assert times[0] == 0.9
    assert times[-1] == 1e-3
    assert np.all(np.diff(times) < 0)
    even = {"logsnr": process.log_snr, "time": lambda t: t, "quadratic": jnp.sqrt}[kind]
    np.testing.assert_allclose(np.diff(even(times), 2), 0.0, atol=1e-9)


def bent(params, x, t, condition):
    """A noise that is not affine in anything."""
    return jnp.tanh(x @ params.T + condition + jnp.log(t))


PARAMS = np.random.default_rng(0).normal(size=(2, 2))
CONDITION = np.array([0.3, -0.2])
X = np.random.default_rng(1).normal(size=(3, 2))


def test_a_euler_step_is_ddim():
    """On any network and grid; of a point mass, in any number of steps, to the end; for any linear process."""
    for process, kind in ((VPSDE(), "logsnr"), (VPSDE(), "time"), (SubVPSDE(), "logsnr"), (VESDE(), "time")):
        times = time_grid(process, 6, first=1e-2, kind=kind)
        given = (bent, PARAMS, CONDITION, X, process, times)
        found = sample_pf_ode(*given, solver=diffrax.Euler(), adjoint="direct")
        x = X
        for t, u in itertools.pairwise(times):
            noise = bent(PARAMS, x, t, CONDITION)
            data = (x - process.sigma(t) * noise) / process.alpha(t)
            x = process.alpha(u) * data + process.sigma(u) * noise
        np.testing.assert_allclose(found, x, rtol=1e-12)
        last = bent(PARAMS, x, times[-1], CONDITION)
        clean = sample_pf_ode(*given, solver=diffrax.Euler(), adjoint="direct", denoise=True)
        np.testing.assert_allclose(clean, (x - process.sigma(u) * last) / process.alpha(u), rtol=1e-10)
    process, m = VPSDE(), np.array([1.0, -2.0])
    for steps in (1, 5):
        times = time_grid(process, steps)
        point = lambda m, x, t, _: (x - process.alpha(t) * m) / process.sigma(t)
        found = sample_pf_ode(point, m, None, X, process, times, solver=diffrax.Euler(), adjoint="direct")
        a, b, c, d = process.alpha(times[-1]), process.sigma(times[-1]), process.alpha(1.0), process.sigma(1.0)
        np.testing.assert_allclose(found, a * m + b / d * (X - c * m), rtol=1e-12)


def test_a_plain_scan_takes_the_steps_of_the_solver():
    """Of a method with many stages, on a coarse grid."""
    process = VPSDE()
    given = (bent, PARAMS, CONDITION, X, process, time_grid(process, 3))
    one, other = (sample_pf_ode(*given, solver=diffrax.Tsit5(), adjoint=adjoint) for adjoint in ("direct", "stored"))
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_normal_data_have_the_derivatives_of_the_specification():
    """Exact figures; adaptive steps both ways come within 5e-6."""
    process = VPSDE()
    m, noise = jnp.array([MEAN]), jnp.array([NOISE])
    loss = lambda x: jnp.sum(x**2)
    exact = jax.grad(lambda noise, m, s: loss(flow(noise, m, s)), argnums=(0, 1, 2))(noise, m, 0.5)
    np.testing.assert_allclose(flow(noise, m, 0.5), [[1.34672202, -2.54341688]], rtol=1e-8)
    np.testing.assert_allclose(exact[1], [[2.68444428, -5.06983681]], rtol=1e-8)
    np.testing.assert_allclose(exact[2], 7.39437799, rtol=1e-8)
    ends = time_grid(process, 1)

    def value(noise, m, s):
        return loss(
            sample_pf_ode(predict, (m, s), None, noise, process, ends, solver=diffrax.Tsit5(), rtol=1e-6, atol=1e-8)
        )

    for found, truth in zip(jax.jit(jax.grad(value, argnums=(0, 1, 2)))(noise, m, 0.5), exact, strict=True):
        np.testing.assert_allclose(found, truth, atol=5e-6 * np.linalg.norm(truth))


@pytest.fixture(scope="module")
def slopes():
    """Values, and gradients by each adjoint, on coarse and on fine grids; and differences."""
    process = VPSDE()

    def value(at, times, adjoint):
        params, condition, noise = at
        return jnp.sum(sample_pf_ode(bent, params, condition, noise, process, times, adjoint=adjoint) ** 2)

    with jax.enable_x64(True):
        at = tuple(map(jnp.asarray, (PARAMS, CONDITION, X)))
        found = {}
        for steps in (6, 400):
            times = time_grid(process, steps, first=1e-2)
            modes = ("direct", "backsolve", *(("checkpoint",) if steps == 6 else ()))
            for adjoint in modes:
                program = jax.jit(jax.value_and_grad(lambda at, times, adjoint=adjoint: value(at, times, adjoint)))
                found[adjoint, steps] = program(at, times)
                if adjoint == "direct":
                    found["difference", steps] = differences(lambda at, f=program, times=times: f(at, times)[0], at)
        return found


def differences(value, at, h=1e-5):
    """The derivative of each number, by central differences."""
    flat, restore = jax.flatten_util.ravel_pytree(at)
    each = [(value(restore(flat + h * e)) - value(restore(flat - h * e))) / (2 * h) for e in np.eye(len(flat))]
    return np.asarray(each)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_the_adjoint_is_the_derivative_of_the_flow_and_not_of_few_steps(slopes):
    """On a coarse grid the exact ones agree with differences, the adjoint does not; on a fine one all do."""
    size = np.linalg.norm(slopes["difference", 6])
    for adjoint in ("direct", "checkpoint"):
        error = np.linalg.norm(flat(slopes[adjoint, 6][1]) - slopes["difference", 6]) / size
        assert error < 1e-6, (adjoint, error)
        np.testing.assert_allclose(slopes[adjoint, 6][0], slopes["backsolve", 6][0], rtol=1e-12)
    assert np.linalg.norm(flat(slopes["backsolve", 6][1]) - slopes["difference", 6]) / size > 0.02
    truth = slopes["difference", 400]
    assert np.linalg.norm(flat(slopes["direct", 400][1]) - truth) / np.linalg.norm(truth) < 1e-6
    assert np.linalg.norm(flat(slopes["backsolve", 400][1]) - truth) / np.linalg.norm(truth) < 1e-3


@pytest.mark.thorough
def test_the_adjoint_has_no_memory_of_steps():
    process = VPSDE()

    def memory(steps, adjoint):
        times = time_grid(process, steps)
        fun = lambda noise: jnp.sum(sample_pf_ode(bent, PARAMS, CONDITION, noise, process, times, adjoint=adjoint))
        return jax.jit(jax.grad(fun)).lower(jnp.ones((500, 2))).compile().memory_analysis().temp_size_in_bytes

    assert abs(memory(60, "backsolve") / memory(10, "backsolve") - 1) < 0.05
    assert memory(60, "direct") > 4 * memory(10, "direct")


def test_half_precision_is_that_of_the_network_alone():
    """The flow starts at noise / 0.0066: in half precision it would be coarse, further on it would overflow."""
    process, seen = VPSDE(), []

    def watched(params, x, t, _):
        seen.append((x.dtype, t.dtype))
        return x * process.sigma(t).astype(x.dtype)

    noise = jnp.ones((2, 2), jnp.float16)
    found = sample_pf_ode(watched, None, None, noise, process, time_grid(process, 10), adjoint="direct")
    assert found.dtype == jnp.float16
    assert set(seen) == {(jnp.dtype(jnp.float16), jnp.dtype(jnp.float16))}
    single = sample_pf_ode(watched, None, None, noise.astype(jnp.float32), process, time_grid(process, 10))
    np.testing.assert_allclose(np.asarray(found, float), single, rtol=0.01)


def test_guidance_moves_away_from_no_condition():
    both = guided(lambda p, x, t, c: c * x, 3.0, 1.0)
    np.testing.assert_allclose(both(None, X, 0.5, 2.0), 4 * X)
    np.testing.assert_allclose(jax.grad(lambda c: jnp.sum(both(None, X, 0.5, c)))(2.0), 3 * X.sum())


def test_ascent_stays_in_the_box_around_what_was_drawn():
    """The box does not move along; a sample whose gradient is zero or not a number leaves the others alone."""
    noise = jnp.asarray(X)
    slope = jnp.array([[1.0, -2.0], [0.0, 0.0], [jnp.nan, 1.0]])
    loss = lambda x: jnp.sum(slope * x, axis=1)
    for rule in ("sign", "normalized"):
        found = ascend_noise(loss, noise, steps=30, rate=0.05, radius=0.1, rule=rule)
        np.testing.assert_allclose(found.noise[0], X[0] + [0.1, -0.1])
        np.testing.assert_allclose(found.noise[1], X[1])
        assert np.isnan(found.noise[2, 0])
        assert found.losses.shape == (30, 3)
    np.testing.assert_allclose(clip_perturbation(noise + 3.0, noise, 0.2), X + 0.2)


def test_a_loss_that_is_no_number_moves_no_noise_to_where_it_looks_well():
    """The gradient of a logarithm below zero is finite, and the sign of it a direction."""
    climb = jax.jit(lambda x: ascend_noise(lambda x: jnp.log(x[:, 0]), x, steps=2))
    found = climb(jnp.array([[-1.0, 2.0], [1.0, 2.0]]))
    assert np.all(np.isnan(found.noise[0]))
    np.testing.assert_allclose(found.noise[1], [1.1, 2.0])
    # and where nobody can look at the noise, its NaN stays in the sample
    broken = jnp.asarray(X).at[0, 0].set(jnp.nan)
    assert np.isnan(jax.jit(lambda noise: sampled(noise=noise))(broken)[0, 0])


def sampled(**options):
    process = VPSDE()
    given = {"predict": bent, "params": PARAMS, "condition": CONDITION, "noise": X, "times": time_grid(process, 2)}
    given |= options
    return sample_pf_ode(process=process, **given)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: sampled(times=jnp.array([0.5, 0.0])), "times must be positive"),
        (lambda: sampled(times=jnp.array([0.5, 0.6])), "times must fall"),
        (lambda: sampled(times=jnp.array([0.5])), "vector of two or more"),
        (lambda: sampled(predict=lambda p, x, t, c: x[:, :1]), r"shape of x, \(3, 2\): given \(3, 1\)"),
        (lambda: sampled(params=np.eye(2, dtype=int)), "params must hold floats.*given int64"),
        (lambda: sampled(condition=3), "condition must hold floats"),
        (lambda: sampled(noise=np.array([[0.0, np.nan], [1.0, np.inf]])), "noise must be finite: given 2 of 4 numbers"),
        (lambda: sampled(params=PARAMS * jnp.nan), "params must be finite"),
        (lambda: sampled(condition=CONDITION + jnp.inf), "condition must be finite"),
        (lambda: sampled(adjoint="exact"), "adjoint must be one of"),
        (lambda: sampled(adjoint="direct", rtol=1e-3), "adjoint must be another"),
        (lambda: sampled(adjoint="direct", solver=diffrax.Kvaerno3()), "solver must be an explicit"),
        (lambda: sampled(rtol=0.0), "rtol must be positive"),
        (lambda: time_grid(VPSDE(), 0), "steps must be at least 1"),
        (lambda: time_grid(VPSDE(), 3, first=0.0), "first must be positive"),
        (lambda: time_grid(VPSDE(), 3, first=1.0), "last - first must be positive"),
        (lambda: time_grid(VPSDE(), 3, kind="even"), "kind must be one of"),
        (lambda: CosineVP(0.0), "shift must be positive"),
        (lambda: DiscreteVP(jnp.array([0.1, 1.0])), "betas must be"),
        (lambda: ascend_noise(lambda x: x[:, 0], jnp.asarray(X), radius=0.0), "radius must be positive"),
        (lambda: ascend_noise(lambda x: x[:, 0], jnp.asarray(X), rule="clip"), "rule must be one of"),
        (lambda: ascend_noise(lambda x: x[:, 0], jnp.asarray(X) * jnp.nan), "noise must be finite"),
        (lambda: ascend_noise(jnp.sum, jnp.asarray(X)), r"one number for each of the 3 samples: given shape \(\)"),
        (lambda: clip_perturbation(jnp.array([jnp.inf]), jnp.zeros(1), 0.1), "noise must be finite"),
        (lambda: clip_perturbation(jnp.zeros(1), jnp.zeros(2), 0.1), "center must have the shape"),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize("module", [sampling, schedules, steering], ids=lambda module: module.__name__)
def test_the_examples_of_docstrings(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_all_parts_of_the_experiment_run():
    settings = experiment.settings.tiny()
    done = performed("adjoint-dpm", experiment, dataclasses.replace(settings, parts=experiment.settings().parts))
    assert_drawn(experiment.draw(done.result))
    assert done.result.attack.largest <= settings.radius + 1e-6
    (fixed,) = done.result.closed.fixed
    assert done.result.closed.adaptive[fixed.spread] < 5e-6


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("adjoint-dpm", experiment)
