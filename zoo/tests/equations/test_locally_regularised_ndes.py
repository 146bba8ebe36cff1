"""The penalty of one step: beside the recorded solve of that step, its derivatives, its laws; the experiment's bars."""

import doctest
from functools import partial

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met
from scipy import integrate, stats

from dini_zoo.equations.locally_regularised_ndes import (
    initial_step,
    local_penalty,
    local_step,
    locally_regularised_solve,
    method,
    penalty_evaluations,
    sample_time,
    sampling,
)
from dini_zoo.equations.locally_regularised_ndes.experiment import experiment
from dini_zoo.equations.recording import heuristic_penalty, solve_recorded

SOLVER = diffrax.Tsit5()
W = np.random.default_rng(0).normal(size=(3, 3))
Z0 = np.array([1.0, -0.5, 0.3])
TERM = diffrax.ODETerm(lambda t, z, W: jnp.tanh(W @ z) - z * jnp.sin(3 * t))


def solved(key, W, z0=Z0, **options):
    options = {"rtol": 1e-5, "atol": 1e-5, "max_steps": 128} | options
    t0, t1 = options.pop("span", (0.0, 2.0))
    return locally_regularised_solve(key, TERM, SOLVER, t0, t1, None, z0, W, **options)


def test_the_penalty_is_that_of_a_recorded_solve_of_one_step():
    kinds = ("error", "stiffness")

    @jax.jit
    def ours(W):
        # so long that the error is more than rounding
        one = lambda kind: lambda W: local_penalty(TERM, Z0, 0.25, 2.0, W, rtol=1e-5, atol=1e-5, kind=kind, step=0.5)
        return [jax.value_and_grad(one(kind))(W) for kind in kinds]

    @jax.jit
    @partial(jax.jacrev, has_aux=True)
    def theirs(W):
        to = diffrax.StepTo(jnp.array([0.25, 0.75]))
        _, found = solve_recorded(
            TERM, SOLVER, 0.25, 0.75, None, Z0, W, rtol=1e-5, atol=1e-5, stepsize_controller=to, max_steps=1
        )
        values = [heuristic_penalty(found, kind, "sum") for kind in kinds]
        return values, values

    for (value, slope), other_slope, other_value in zip(ours(W), *theirs(W), strict=True):
        np.testing.assert_allclose(value, other_value, rtol=1e-10)
        np.testing.assert_allclose(slope, other_slope, rtol=1e-10, atol=1e-10 * np.abs(slope).max())


@jax.jit
def unbiased(W, z0, weight, key):
    """Values and derivatives of a loss with a penalty, and of the penalty alone."""

    def parts(W, z0):
        found = solved(key, W, z0)
        return jnp.stack([jnp.sum(found.solution.ys**2) + weight * found.penalty, found.penalty]), found

    (in_W, in_z), found = jax.jacrev(parts, (0, 1), has_aux=True)(W, z0)
    return in_W, in_z, found


def test_derivatives_go_to_the_parameters_alone_and_the_solution_is_as_without():
    key = jax.random.key(3)
    in_W, in_z, found = unbiased(W, Z0, 0.0, key)
    assert np.abs(in_W[1]).max() > 1e-6
    np.testing.assert_array_equal(in_z[1], 0)

    # with weight zero the task's derivative is that of a plain solve, and in any case its solution
    @jax.jit
    @jax.value_and_grad
    def plain(W):
        controller = diffrax.PIDController(rtol=1e-5, atol=1e-5)
        solution = diffrax.diffeqsolve(
            TERM, SOLVER, 0.0, 2.0, None, Z0, W, stepsize_controller=controller, max_steps=64
        )
        return jnp.sum(solution.ys**2)

    value, slope = plain(W)
    np.testing.assert_array_equal(jnp.sum(found.solution.ys**2), value)
    np.testing.assert_allclose(in_W[0], slope, rtol=1e-12)
    assert found.solution.solver_state is None
    assert found.evaluations == 23
    # the point is on the solution, and the step about as long as the controller's
    assert 0 <= found.time < 2
    exact = integrate.solve_ivp(
        lambda t, z: np.tanh(W @ z) - z * np.sin(3 * t), (0, found.time), Z0, rtol=1e-10, atol=1e-12
    ).y[:, -1]
    value = jax.jit(lambda z: local_penalty(TERM, z, found.time, 2.0, W, rtol=1e-5, atol=1e-5))(exact)
    np.testing.assert_allclose(found.penalty, value, rtol=1e-2)
    assert 0.1 < found.penalty / found.length < 1.5


def test_biased_points_are_uniform_over_accepted_steps():
    @jax.jit
    @jax.vmap
    def draw(key):
        found = solved(key, W, mode="biased", step="solver", saveat=diffrax.SaveAt(t0=True, steps=True))
        return found.time, found.length, found.solution.ts

    times, lengths, saved = draw(jax.random.split(jax.random.key(0), 2000))
    starts = saved[0][np.isfinite(saved[0])]
    starts, after = starts[:-1], starts[1:]
    which = np.searchsorted(starts, times)
    np.testing.assert_array_equal(starts[which], times)
    np.testing.assert_allclose(lengths, (after - starts)[which], rtol=1e-12)
    counts = np.bincount(which, minlength=len(starts))
    assert len(counts) == len(starts) > 5
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_mean_of_unbiased_penalties_is_an_integral():
    """Of a step of a hundredth, over a known solution: z' = cos(3 t) z."""
    term = diffrax.ODETerm(lambda t, z, args: jnp.cos(3 * t) * z)
    solution = lambda t: jnp.exp(jnp.sin(3 * t) / 3) * jnp.ones(1)

    @jax.jit
    @jax.vmap
    def penalty(t):
        return local_penalty(term, solution(t), t, 1.0, rtol=1e-6, atol=1e-6, step=0.01)

    times = jax.vmap(lambda key: sample_time(key, 0.0, 1.0))(jax.random.split(jax.random.key(1), 4000))
    drawn = np.asarray(penalty(times))
    grid = np.linspace(0, 1 - 1e-6, 4000)
    expected = integrate.trapezoid(np.asarray(penalty(jnp.asarray(grid))), grid)
    assert abs(drawn.mean() - expected) < 3 * drawn.std() / np.sqrt(4000)


def test_stiffness_of_a_linear_equation_and_time_that_runs_backward():
    term = diffrax.ODETerm(lambda t, z, rate: rate * z)

    @jax.jit
    def both(t, t1):
        common = {"rtol": 1e-5, "atol": 1e-5}
        stiffness = local_penalty(term, jnp.ones(2), t, t1, -50.0, kind="stiffness", step=0.01, **common)
        return stiffness, local_step(term, jnp.ones(2), t, t1, -50.0, **common)

    for ends in ((0.0, 1.0), (1.0, 0.0)):
        stiffness, step = both(*ends)
        np.testing.assert_allclose(stiffness * 3.5068469938, 50, rtol=1e-9)
        assert 1e-3 < step.length < 0.1
        assert step.penalty > 0
    # the step ends where the solve does
    np.testing.assert_allclose(both(0.0, 1e-3)[1].length, 1e-3)


def test_the_first_step_is_diffrax_own():
    controller = diffrax.PIDController(rtol=1e-5, atol=1e-6)
    for z in map(jnp.asarray, (Z0, np.zeros(3), 1e6 * Z0)):
        expected, _ = controller.init(TERM, 0.3, 2.0, z, None, W, SOLVER.func, 5)
        f = lambda t, z, args: TERM.vf(t, z, args)
        np.testing.assert_allclose(initial_step(f, 0.3, z, W, 1e-5, 1e-6, 5), expected - 0.3, rtol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("mode", ["unbiased", "biased"])
def test_any_adjoint_serves(mode):
    @eqx.filter_jit
    def slope(W, adjoint, tolerance):
        def loss(W):
            found = solved(jax.random.key(2), W, mode=mode, adjoint=adjoint, rtol=tolerance, atol=tolerance)
            return jnp.sum(found.solution.ys**2) + found.penalty

        return jax.grad(loss)(W)

    through, direct, backward = (
        diffrax.RecursiveCheckpointAdjoint(),
        diffrax.DirectAdjoint(),
        diffrax.BacksolveAdjoint(),
    )
    # an error estimate of 1e-8 is known to 1e-8 of itself
    np.testing.assert_allclose(slope(W, direct, 1e-5), slope(W, through, 1e-5), rtol=1e-9)
    np.testing.assert_allclose(slope(W, backward, 1e-8), slope(W, through, 1e-8), rtol=1e-5)


@pytest.mark.thorough
def test_a_flow_to_its_steady_state():
    """The implicit adjoint gives the end alone, and the penalty has a derivative beside it."""

    def loss(b, weight):
        found = locally_regularised_solve(
            jax.random.key(0),
            diffrax.ODETerm(lambda t, z, b: b - z),
            SOLVER,
            0.0,
            30.0,
            None,
            jnp.zeros(2),
            b,
            rtol=1e-8,
            atol=1e-8,
            adjoint=diffrax.ImplicitAdjoint(),
            max_steps=256,
        )
        return jnp.sum(found.solution.ys) + weight * found.penalty

    np.testing.assert_allclose(jax.grad(loss)(jnp.ones(2), 0.0), 1, rtol=1e-6)
    assert np.all(jax.grad(loss)(jnp.ones(2), 1.0) != 1)


@pytest.mark.parametrize(
    "solver",
    [diffrax.SPaRK(), pytest.param(diffrax.HalfSolver(diffrax.EulerHeun()), marks=pytest.mark.thorough)],
    ids=("SPaRK", "half"),
)
def test_noise_is_fresh_and_differentiated(solver):
    path = diffrax.VirtualBrownianTree(0.0, 1.0, 1e-3, (2,), jax.random.key(0), levy_area=diffrax.SpaceTimeLevyArea)

    @jax.jit
    @jax.vmap
    def step(rate, key):
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, z, rate: -rate * z),
            diffrax.ControlTerm(lambda t, z, rate: 0.3 * jnp.diag(rate * jnp.cos(z)), path),
        )
        one = lambda rate: local_penalty(
            terms, jnp.ones(2), 0.2, 1.0, rate, rtol=1e-3, atol=1e-3, step=0.1, solver=solver, key=key
        )
        return jax.value_and_grad(one)(rate)

    keys = jax.random.split(jax.random.key(1), 2)[jnp.array([0, 1, 0, 0, 0])]
    values, slopes = step(jnp.array([2.0, 2.0, 2.0, 2.0 + 1e-4, 2.0 - 1e-4]), keys)
    assert values[0] != values[1]
    assert values[0] == values[2] > 0
    np.testing.assert_allclose(slopes[0], (values[3] - values[4]) / 2e-4, rtol=1e-5)


def call(**changes):
    given = {"terms": TERM, "t0": 0.0, "t1": 1.0, "solver": SOLVER, "rtol": 1e-3, "atol": 1e-3} | changes
    terms, solver, t0, t1 = (given.pop(name) for name in ("terms", "solver", "t0", "t1"))
    return locally_regularised_solve(jax.random.key(0), terms, solver, t0, t1, None, Z0, W, **given)


NOISY = diffrax.MultiTerm(
    TERM, diffrax.ControlTerm(lambda t, z, W: W, diffrax.VirtualBrownianTree(0, 1, 0.1, (3,), jax.random.key(0)))
)


@pytest.mark.parametrize(
    ("fun", "message"),
    [
        (lambda: call(mode="random"), r"mode must be one of 'none', 'unbiased', 'biased': given 'random'"),
        (lambda: call(kind="error_sq"), r"kind must be one of 'error', 'stiffness': given 'error_sq'"),
        (lambda: call(step="fresh"), r"step must be one of 'controller', 'initial', 'solver': given 'fresh'"),
        (lambda: call(step=0.0), r"step must be positive and finite: given 0.0"),
        (lambda: call(t1=0.0), r"t0 and t1 must differ"),
        (lambda: call(atol=np.inf), r"atol must be zero or more, and finite: given inf"),
        (lambda: call(solver=diffrax.Euler()), r"needs an error estimate: Euler has none"),
        (lambda: call(solver=diffrax.Heun(), kind="stiffness"), r"two stages at the same time.*given Heun"),
        (
            lambda: local_penalty(TERM, Z0, 0.0, 1.0, W, rtol=1e-3, atol=1e-3, step="solver"),
            r"step must be one of 'controller', 'initial': given 'solver'",
        ),
        (lambda: local_penalty(NOISY, Z0, 0.0, 1.0, W, rtol=1e-3, atol=1e-3), r"key must be given"),
        (lambda: call(terms=NOISY, solver=diffrax.SPaRK(), step="initial"), r"the rule for the first step of an ODE"),
        (lambda: sampling.SamplingSolver(SOLVER), r"a time or a key, and not both"),
    ],
)
def test_bad_input_is_refused(fun, message):
    with pytest.raises(ValueError, match=message):
        fun()


def test_what_a_penalty_costs():
    count = lambda solver, step, **known: penalty_evaluations(solver, step, **known)
    assert [count(SOLVER, step) for step in ("controller", "initial", "solver", 0.1)] == [23, 9, 7, 7]
    assert count(diffrax.SPaRK(), "controller", noisy=True) == 12
    assert count(diffrax.HalfSolver(diffrax.Heun()), 0.1) == 6
    assert count(diffrax.Kvaerno5(), 0.1) is None


def test_examples():
    for module in (method, sampling):
        assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("locally-regularised-ndes", experiment)
