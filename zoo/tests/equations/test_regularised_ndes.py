"""Recorded solves: transparent, equal to replays by hand, differentiated rightly; bad input; the experiment's bars."""

import doctest
import itertools
from functools import partial

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met

from dini_zoo.equations import estimates, fields, recording
from dini_zoo.equations.regularised_ndes import (
    RecordingSolver,
    SolverHeuristics,
    exponential_schedule,
    heuristic_penalty,
    rms,
    scaled_error,
    solve_recorded,
    stability_size,
    steer_end_time,
)
from dini_zoo.equations.regularised_ndes.experiment import experiment

SOLVER = diffrax.Tsit5()
TABLEAU = SOLVER.tableau
W = np.random.default_rng(0).normal(size=(3, 3))
Z0 = np.array([1.0, -0.5, 0.3])


def field(t, z, W, np=jnp):
    return np.tanh(W @ z) - z * np.sin(3 * t)


TERM = diffrax.ODETerm(field)


def step_by_hand(f, t, z, h, rtol, atol):
    """A step of Tsit5 in NumPy: the state after it, its scaled error, its stiffness."""
    rows = [np.zeros(0), *TABLEAU.a_lower]
    k, g = [], []
    for row, c in zip(rows, [0.0, *TABLEAU.c], strict=True):
        g.append(z + h * sum((a * k for a, k in zip(row, k, strict=True)), np.zeros_like(z)))
        k.append(f(t + c * h, g[-1]))
    after = z + h * sum(b * k for b, k in zip(TABLEAU.b_sol, k, strict=True))
    error = h * sum(b * k for b, k in zip(TABLEAU.b_error, k, strict=True))
    size = lambda x: np.sqrt(np.mean(x**2))
    E = size(error / (atol + rtol * np.maximum(abs(z), abs(after))))
    return after, E, size(k[6] - k[5]) / size(g[6] - g[5])


def replay(W, times, tolerance=1e-5):
    """R_E, the same of squares, and R_S over given steps."""
    z, sums = Z0, np.zeros(3)
    for t, end in itertools.pairwise(times):
        z, E, S = step_by_hand(lambda t, z: field(t, z, W, np), t, z, end - t, tolerance, tolerance)
        sums += [E * (end - t), E**2 * (end - t), S]
    return z, sums


@jax.jit
def penalties_and_slopes(W):
    def sums(W):
        solution, found = solve_recorded(
            TERM, SOLVER, 0.0, 2.0, None, Z0, W, rtol=1e-5, atol=1e-5, max_steps=64, saveat=diffrax.SaveAt(steps=True)
        )
        return jnp.stack([found.error, found.error_sq, found.stiffness]), (solution, found)

    return jax.jacrev(sums, has_aux=True)(W)[0], *sums(W)


def test_sums_and_derivatives_are_those_of_a_replay_by_hand():
    slopes, sums, (solution, found) = penalties_and_slopes(W)
    steps = int(found.steps)
    assert steps == solution.stats["num_accepted_steps"] > 5
    assert solution.solver_state is None
    times = np.concatenate([[0.0], solution.ts[:steps]])
    end, expected = replay(W, times)
    np.testing.assert_allclose(solution.ys[steps - 1], end, rtol=1e-12)
    np.testing.assert_allclose(sums, expected, rtol=1e-8)
    # at fixed steps, by differences of the fourth order
    for i, j in ((0, 0), (2, 1)):
        slope = np.zeros(3)
        for shift, factor in ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12)):
            other = W.copy()
            other[i, j] += 1e-3 * shift
            slope += factor / 1e-3 * replay(other, times)[1]
        np.testing.assert_allclose(slopes[:, i, j], slope, rtol=1e-6)


SOLVERS = [
    (diffrax.Tsit5(), 1e-5),
    pytest.param((diffrax.Dopri8(), 1e-5), marks=pytest.mark.thorough),
    pytest.param((diffrax.Bosh3(), 1e-3), marks=pytest.mark.thorough),
    pytest.param((diffrax.Kvaerno3(), 1e-3), marks=pytest.mark.thorough),
    pytest.param((diffrax.HalfSolver(diffrax.Euler()), 1e-2), marks=pytest.mark.thorough),
]


@pytest.mark.parametrize(("case"), SOLVERS, ids=lambda case: type(case[0]).__name__)
def test_the_solution_is_the_same_bit_by_bit(case):
    solver, tolerance = case
    saveat = diffrax.SaveAt(t0=True, steps=True, dense=True)
    controller = diffrax.PIDController(rtol=tolerance, atol=tolerance)
    # backward in time, too
    bare = diffrax.diffeqsolve(
        TERM, solver, 2.0, 0.0, None, Z0, W, saveat=saveat, stepsize_controller=controller, max_steps=256
    )
    stiffness = estimates.equal_stages(solver) is not None
    recorded, found = solve_recorded(
        TERM,
        solver,
        2.0,
        0.0,
        None,
        Z0,
        W,
        rtol=tolerance,
        atol=tolerance,
        saveat=saveat,
        stiffness=stiffness,
        max_steps=256,
    )
    arrays = lambda one: jax.tree.leaves(eqx.filter((one.ts, one.ys, one.stats, one.interpolation), eqx.is_array))
    for ours, theirs in zip(arrays(recorded), arrays(bare), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found.steps == bare.stats["num_accepted_steps"]
    assert found.error > 0


@pytest.mark.thorough
def test_any_adjoint_differentiates_through_the_wrapper():
    def loss(W, adjoint):
        solution, found = solve_recorded(
            TERM, SOLVER, 0.0, 2.0, None, Z0, W, rtol=1e-5, atol=1e-5, max_steps=64, adjoint=adjoint
        )
        return jnp.sum(solution.ys**2) + heuristic_penalty(found, "error+stiffness")

    expected = jax.grad(loss)(W, diffrax.RecursiveCheckpointAdjoint())
    np.testing.assert_allclose(jax.grad(loss)(W, diffrax.DirectAdjoint()), expected, rtol=1e-9)
    np.testing.assert_allclose(jax.jacfwd(loss)(W, diffrax.ForwardMode()), expected, rtol=1e-9)

    def end(W, solver):
        solution = diffrax.diffeqsolve(
            TERM,
            solver,
            0.0,
            2.0,
            None,
            Z0,
            W,
            stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-5),
            adjoint=diffrax.BacksolveAdjoint(),
        )
        return jnp.sum(solution.ys**2)

    np.testing.assert_array_equal(jax.grad(end)(W, RecordingSolver(SOLVER, 1e-5, 1e-5)), jax.grad(end)(W, SOLVER))


@jax.jit
def linear(rate, start):
    """At steps of a hundredth: the recorded sums of z' = rate z, and their slopes."""

    def sums(rate):
        _, found = solve_recorded(
            diffrax.ODETerm(lambda t, z, rate: rate * z),
            SOLVER,
            0.0,
            0.05,
            0.01,
            start,
            rate,
            rtol=1e-6,
            atol=1e-6,
            stepsize_controller=diffrax.ConstantStepSize(),
            max_steps=8,
        )
        return jnp.stack([found.error, found.stiffness]), found

    return jax.jacrev(sums, has_aux=True)(rate)


def test_stiffness_of_a_linear_equation_is_its_rate():
    for rate in (-50.0, 7.0):
        slopes, found = linear(rate, np.ones(3))
        assert found.steps == 5
        np.testing.assert_allclose(found.stiffness / 5, abs(rate), rtol=1e-9)
        np.testing.assert_allclose(found.stiffness_max, abs(rate), rtol=1e-9)
        np.testing.assert_allclose(slopes[1], 5 * np.sign(rate), rtol=1e-6)
    # other units of the state, in which the tolerance is nothing beside it or all
    for unit in (1e-6, 1e6):
        np.testing.assert_allclose(linear(-50.0, unit * np.ones(3))[1].stiffness / 5, 50, rtol=1e-9)
    # errors grow with the unit where the absolute tolerance counts
    small, smaller = (float(linear(-50.0, unit * np.ones(3))[1].error) for unit in (1e-9, 1e-12))
    np.testing.assert_allclose(small / smaller, 1e3, rtol=0.01)


def test_nothing_is_not_a_number_where_nothing_moves():
    slopes, found = linear(0.0, np.ones(3))
    np.testing.assert_array_equal(found.error, 0)
    np.testing.assert_array_equal(found.stiffness, 0)
    assert np.all(np.isfinite(slopes))
    slopes, found = linear(-50.0, np.zeros(3))
    np.testing.assert_array_equal([found.error, found.stiffness, *slopes], 0)


def test_a_field_that_is_constant_has_no_error_and_no_stiffness():
    @jax.jit
    @jax.jacrev
    def sums(a):
        _, found = solve_recorded(
            diffrax.ODETerm(lambda t, z, a: a * jnp.ones(3)),
            SOLVER,
            0.0,
            1.0,
            None,
            jnp.zeros(3),
            a,
            rtol=1e-6,
            atol=1e-6,
            max_steps=64,
        )
        return jnp.stack([found.error, found.stiffness])

    for a in (0.0, 1.0):
        error, stiffness = sums(a)
        assert abs(error) < 1e-9
        assert stiffness == 0


def test_errors_fall_with_the_fifth_power_of_the_step():
    def oscillator(t, z):
        return np.array([z[1], 5 * (1 - z[0] ** 2) * z[1] - z[0]])

    # by the steps that recorded ones are compared with above
    errors = [step_by_hand(oscillator, 0.0, np.array([1.0, 3.0]), 0.1 / 2**i, 0.0, 1.0)[1] for i in range(4)]
    factors = np.array(errors[:-1]) / errors[1:]
    np.testing.assert_allclose(factors, [12, 26, 30], atol=0.6)


def test_norms_have_no_units_and_no_derivative_at_zero():
    x = jnp.array([3.0, -4.0])
    both = jax.jit(jax.value_and_grad(lambda x: rms({"a": x, "b": jnp.zeros((1, 2), x.dtype)})))
    for unit in (1e-30, 1.0, 1e30):
        value, slope = both(jnp.asarray(unit * x, jnp.float32))
        np.testing.assert_allclose(value, 2.5 * unit, rtol=1e-6)
        np.testing.assert_allclose(slope, x / 10, rtol=1e-6)
    value, slope = both(jnp.zeros(2, jnp.float32))
    np.testing.assert_array_equal([value, *slope], 0)
    assert np.isnan(both(jnp.array([jnp.nan, 1.0], jnp.float32))[0])
    # an estimate that is no number is no small error, and spoils no derivative
    slopes = jax.grad(lambda e: scaled_error(e, x, x, rtol=1e-3, atol=0.0))
    for bad in (jnp.nan, jnp.inf):
        assert scaled_error(jnp.array([bad, 0.0]), x, x, rtol=1e-3, atol=0.0) == jnp.inf
        np.testing.assert_array_equal(slopes(jnp.array([bad, 0.0])), 0)
    # without an absolute tolerance a state may be zero
    assert scaled_error(jnp.zeros(2), 0 * x, 0 * x, rtol=1e-3, atol=0.0) == 0
    assert scaled_error(jnp.ones(2), 0 * x, 0 * x, rtol=1e-3, atol=0.0) == jnp.inf


def test_lanes_have_estimates_of_their_own_and_a_bad_one_spoils_no_other():
    @jax.jit
    @jax.vmap
    @partial(jax.value_and_grad, has_aux=True)
    def penalty(rate):
        solution, found = solve_recorded(
            diffrax.ODETerm(lambda t, z, rate: -rate * z),
            SOLVER,
            jnp.float32(0.0),
            jnp.float32(1.0),
            None,
            jnp.ones(2, jnp.float32),
            rate,
            rtol=1e-4,
            atol=1e-4,
            max_steps=32,
            throw=False,
        )
        return heuristic_penalty(found, "stiffness", "max"), solution.result == diffrax.RESULTS.successful

    (values, good), slopes = penalty(jnp.array([1.0, jnp.nan, 4.0], jnp.float32))
    np.testing.assert_array_equal(good, [True, False, True])
    # stages that are hardly apart, in single precision
    np.testing.assert_allclose(values[::2] * stability_size(SOLVER), [1, 4], rtol=1e-2)
    np.testing.assert_allclose(slopes[::2] * stability_size(SOLVER), 1, rtol=1e-2)


def test_noise():
    """The drift's stiffness, and the derivative of the error at the same steps and noise."""
    path = diffrax.VirtualBrownianTree(0.0, 1.0, 1e-3, (2,), jax.random.key(0), levy_area=diffrax.SpaceTimeLevyArea)

    def penalty(rate):
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, z, rate: -rate * z),
            diffrax.ControlTerm(lambda t, z, rate: 0.1 * jnp.diag(rate * jnp.cos(z)), path),
        )
        _, found = solve_recorded(
            terms,
            diffrax.SPaRK(),
            0.0,
            1.0,
            0.25,
            jnp.ones(2),
            rate,
            rtol=1e-3,
            atol=1e-3,
            stepsize_controller=diffrax.ConstantStepSize(),
            max_steps=8,
            adjoint=diffrax.ForwardMode(),
        )
        return found.error, found

    rates = 3.0 + 1e-4 * jnp.array([0, 1, -1])
    values, slopes, found = jax.jit(jax.vmap(lambda rate: jax.jvp(penalty, (rate,), (jnp.ones(()),), has_aux=True)))(
        rates
    )
    np.testing.assert_array_equal(found.steps, 4)
    np.testing.assert_allclose(found.stiffness[0] / 4, 3, rtol=1e-9)
    assert found.stability == 1
    assert values[0] > 0
    np.testing.assert_allclose(slopes[0], (values[1] - values[2]) / 2e-4, rtol=1e-6)


def test_penalties_of_known_sums():
    found = SolverHeuristics(6.0, 12.0, 10.0, 3.0, 9.0, 4.0, jnp.asarray(4), 2.0)
    expected = {"error": (6, 1.5, 3), "error_sq": (12, 3, 9), "stiffness": (5, 1.25, 2)}
    for kind, values in expected.items():
        np.testing.assert_allclose([heuristic_penalty(found, kind, agg) for agg in ("sum", "mean", "max")], values)
    assert heuristic_penalty(found, "error+stiffness", "sum") == 6 + 0.1 * 5
    nothing = SolverHeuristics(*[jnp.zeros(())] * 6, jnp.asarray(0))
    assert heuristic_penalty(nothing) == 0


def test_stability_is_that_of_the_polynomial():
    for solver, expected in ((diffrax.Tsit5(), 3.5068), (diffrax.Dopri5(), 3.3066), (diffrax.Heun(), 2.0)):
        assert round(stability_size(solver), 4) == expected
        tableau = solver.tableau
        n = tableau.num_stages
        A = np.zeros((n, n))
        for i, row in enumerate(tableau.a_lower):
            A[i + 1, : i + 1] = row
        R = lambda x, A=A, b=tableau.b_sol, n=n: 1 - x * b @ np.linalg.solve(np.eye(n) + x * A, np.ones(n))
        inside = np.linspace(0, stability_size(solver), 200)
        assert max(abs(R(x)) for x in inside) <= 1 + 1e-9
        assert abs(R(stability_size(solver) + 1e-3)) > 1


def call(**changes):
    given = {"terms": TERM, "solver": SOLVER, "t0": 0.0, "t1": 1.0, "rtol": 1e-3, "atol": 1e-3} | changes
    terms, solver, t0, t1 = (given.pop(name) for name in ("terms", "solver", "t0", "t1"))
    return solve_recorded(terms, solver, t0, t1, None, Z0, W, **given)


@pytest.mark.parametrize(
    ("fun", "message"),
    [
        (lambda: call(solver=diffrax.Bosh3()), r"two stages at the same time.*given Bosh3.*stiffness=False"),
        (lambda: call(solver=diffrax.Kvaerno5()), r"given Kvaerno5"),
        (lambda: call(solver=diffrax.Euler(), stiffness=False), r"Euler has none.*HalfSolver\(Euler\(\)\)"),
        (lambda: call(adjoint=diffrax.BacksolveAdjoint()), r"given BacksolveAdjoint.*locally_regularised_ndes"),
        (lambda: call(adjoint=diffrax.ImplicitAdjoint()), r"given ImplicitAdjoint"),
        (lambda: call(rtol=-1e-3), r"rtol must be zero or more, and finite: given -0.001"),
        (lambda: call(rtol=0.0, atol=0.0), r"must not both be zero"),
        (lambda: call(t1=0.0), r"t0 and t1 must differ"),
        (lambda: call(t1=np.nan), r"t1 must be finite: given nan"),
        (lambda: heuristic_penalty(None, "errors"), r"kind must be one of 'error', .*: given 'errors'"),
        (lambda: heuristic_penalty(None, agg="all"), r"agg must be one of 'sum', 'mean', 'max': given 'all'"),
        (
            lambda: heuristic_penalty(SolverHeuristics(0, 0, None, 0, 0, None, 1), "stiffness"),
            r"needs a solve that recorded stiffness",
        ),
        (lambda: stability_size(diffrax.Kvaerno5()), r"must be an explicit Runge-Kutta method: given Kvaerno5"),
        (lambda: exponential_schedule(1.0, 0.0, 10), r"end must be positive and finite: given 0.0"),
        (lambda: exponential_schedule(1.0, 0.1, 0), r"steps must be at least 1"),
        (lambda: steer_end_time(None, 1.0, 1.0), r"b must be less than the length of the solve, 1.0: given 1.0"),
        (lambda: steer_end_time(None, 1.0, 0.0), r"b must be positive"),
        (lambda: fields.NeuralField((2, 3), key=None), r"sizes must begin and end with .*: given \(2, 3\)"),
    ],
)
def test_bad_input_is_refused(fun, message):
    with pytest.raises(ValueError, match=message):
        fun()


def test_examples():
    for module in (estimates, fields, recording):
        assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("regularised-ndes", experiment)
