"""What refuses a solution of residuals is a lower point, not a step that promises one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import Status
from dini.verification import _residuals

SOLVERS = [dini.LBFGS(), dini.BFGS(), dini.NonlinearCG()]


def systems(count, dtype):
    """Return random matrices, well conditioned, and solutions of systems that have one."""
    rng = np.random.default_rng(0)
    orthogonal = [np.linalg.qr(rng.standard_normal((8, 4)))[0] for _ in range(count)]
    A = np.array([q * 10.0 ** rng.uniform(-0.5, 0.5, 4) for q in orthogonal])
    return jnp.asarray(A, dtype), jnp.asarray(rng.standard_normal((count, 4)), dtype)


@pytest.mark.parametrize("dtype", [jnp.float64, pytest.param(jnp.float32, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.name)
def test_consistent_systems_are_solved(solver, dtype):
    """A point that is right to the tolerance has converged, though a step takes what rounding left of the value."""

    @jax.jit
    @jax.vmap
    def run(A, x, scale):
        return dini.least_squares(
            lambda u: scale * (A @ u - A @ x), jnp.zeros(4, dtype), solver=solver, on_failure="ignore"
        )

    A, x = systems(20, dtype)
    for scale in (1.0, 1e-6, 1e6):
        found = run(A, x, jnp.full(20, scale, dtype))
        np.testing.assert_array_equal(found.status, Status.CONVERGED)
        error = jnp.abs(found.x - x).max(axis=1) / jnp.abs(x).max(axis=1)
        assert jnp.max(error) < 20 * jnp.finfo(dtype).eps ** 0.5


def verdict(fun, start, point, dtype=jnp.float64, constraint=None):
    """Return what becomes of a point that a solver takes for a solution."""
    start, point = jnp.asarray(start, dtype), jnp.asarray(point, dtype)
    problem, rtol = dini.LeastSquares(fun, constraint=constraint), jnp.finfo(dtype).eps ** 0.5
    return _residuals.status(problem, dini.LBFGS(), rtol, start, point, jnp.asarray(Status.CONVERGED), ())


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_a_lower_point_refuses(dtype):
    """In any units: what is off by a thousandth, but not what is off by the tolerance."""
    rng = np.random.default_rng(1)
    A, x = rng.standard_normal((8, 3)), np.array([1.0, -2.0, 0.0])
    small = float(jnp.finfo(dtype).eps) ** 0.5
    for noise in (0.0, 0.1):
        y = A @ x + noise * rng.standard_normal(8)
        best = np.linalg.lstsq(A, y)[0]
        for unit in ((1.0, 1.0, 1.0), (1e6, 1.0, 1e-6)):
            for c in (1e-6, 1.0, 1e6):
                matrix, data, units = (jnp.asarray(v, dtype) for v in (c * A, c * y, unit))
                fun = lambda u, matrix=matrix, data=data, units=units: matrix @ (u / units) - data
                near, away = (np.array(unit) * best * (1 + share) for share in (small, 1e-2))
                assert verdict(fun, 0 * near, near, dtype) == Status.CONVERGED
                assert verdict(fun, 0 * near, away, dtype) == Status.NO_MINIMUM


def test_what_is_no_number_hides_no_lower_point():
    """The full step leads beyond the domain, a shorter one down."""
    fun = lambda x: jnp.log(x) + 1
    assert not jnp.isfinite(fun(3.0 - (jnp.log(3.0) + 1) * 3.0))
    assert verdict(fun, [3.0], [3.0]) == Status.NO_MINIMUM
    assert verdict(fun, [3.0], [jnp.exp(-1.0)]) == Status.CONVERGED


def test_a_bound_stops_a_step():
    bounds = dini.sets.Box(0.0, 1.0)
    fun = lambda x: jnp.stack([x[0] - 2, x[1] - 0.5])
    assert verdict(fun, [0.5, 0.5], [1.0, 0.5], constraint=bounds) == Status.CONVERGED
    assert verdict(fun, [0.5, 0.5], [1.0, 0.6], constraint=bounds) == Status.NO_MINIMUM


#: residuals of one unknown that level off, which have no minimum
LEVEL = [
    lambda x: jnp.exp(-x) + 1,
    lambda x: 1 + 1 / x,
    lambda x: x / jnp.sqrt(1 + x * x) - 2,
    lambda x: 1 / x,
]
#: residuals with a minimum far away, sharp or flat behind it
FAR = [
    lambda x: x / 1e6 - 1,
    lambda x: jnp.exp(1e-5 * x) - 1e-5 * x - 2,
    lambda x: jnp.maximum(1 - x / 1e6, 0.0) ** 3,
    lambda x: jnp.arctan(x / 1e6) - 0.5,
    lambda x: jnp.log(x) - 14,
]


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_an_infimum_at_infinity_is_no_minimum(dtype):
    """Of points that are far away those have not converged where the residuals level off."""

    def run(which, start, point):
        def fun(x):
            return jnp.stack([jax.lax.switch(which, [*LEVEL, *FAR], x[0]), x[1] - 1])

        problem, solver = dini.LeastSquares(fun), dini.GaussNewton()
        at = lambda v: jnp.stack([v, jnp.ones_like(v)])
        return _residuals.status(problem, solver, 1e-8, at(start), at(point), jnp.asarray(Status.CONVERGED), ())

    ends = [1e10] * len(LEVEL) + [1e6, 114619.322, 1e6, 1e6 * np.tan(0.5), np.exp(14.0)]
    starts = jnp.ones(len(ends), dtype)
    status = jax.jit(jax.vmap(run))(jnp.arange(len(ends)), starts, jnp.asarray(ends, dtype))
    np.testing.assert_array_equal(status, [Status.DIVERGED] * len(LEVEL) + [Status.CONVERGED] * len(FAR))


@pytest.mark.parametrize("solver", [dini.GaussNewton(), dini.LevenbergMarquardt()], ids=lambda solver: solver.name)
def test_residuals_that_level_off_do_not_converge(solver):
    starts = jnp.array([0.5, 3.0, 30.0])
    for fun in (LEVEL[0], LEVEL[2]):
        run = lambda x, fun=fun: dini.least_squares(fun, x, solver=solver, on_failure="ignore").status
        assert jnp.all(jax.vmap(run)(starts) != Status.CONVERGED)
