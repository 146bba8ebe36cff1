"""A change of units changes no answer: least squares and equations, where it also takes no more steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import dini
from dini import Status

T = np.linspace(0.0, 4.0, 20)
NOISE = 0.02 * np.random.default_rng(0).standard_normal(20)
LARGEST = {jnp.float64: 1e12, jnp.float32: 1e6}


def units(dtype):
    """Return factors of the residuals and of the unknown: none, each alone, both, one against the other."""
    big = LARGEST[dtype]
    pairs = [
        (1, 1),
        (big, 1),
        (1 / big, 1),
        (1, big),
        (1, 1 / big),
        (big, big),
        (1 / big, 1 / big),
        (1e3, 1),
        (1e-3, 1),
    ]
    return jnp.asarray(pairs, dtype).T


def agree(run, start, dtype, accuracy):
    """Solve in all units from the start, and from what was found: the same points in as many steps, and in one or two.

    ``run`` takes factors and a start in the first units, and returns the solution in them, the status and the steps.
    """
    c, b = units(dtype)
    solve = jax.jit(jax.vmap(run))
    x, status, steps = solve(c, b, jnp.broadcast_to(start, (c.size, *start.shape)).astype(dtype))
    np.testing.assert_array_equal(status, Status.CONVERGED)
    np.testing.assert_allclose(x, np.broadcast_to(x[0], x.shape), rtol=accuracy)
    assert np.all(steps <= 1.3 * steps[0] + 5)
    again, status, few = solve(c, b, x)
    np.testing.assert_array_equal(status, Status.CONVERGED)
    np.testing.assert_allclose(again, np.broadcast_to(x[0], x.shape), rtol=accuracy)
    return x[0], few


def decay(c, b, dtype, noise=1.0):
    """Return the residuals of a fit, without noise of one whose residuals vanish."""
    t, data = jnp.asarray(T, dtype), jnp.asarray(2.5 * np.exp(-1.3 * T) + 0.5 + noise * NOISE, dtype)
    return lambda p: c * (p[0] / b * jnp.exp(-p[1] / b * t) + p[2] / b - data)


def fitted(noise, dtype=jnp.float64):
    with jax.enable_x64(True):
        fun = lambda p: np.asarray(decay(1.0, 1.0, dtype, noise)(jnp.asarray(p)))
        return scipy.optimize.least_squares(fun, [1.0, 1.0, 1.0], xtol=1e-15, ftol=1e-15, gtol=1e-15).x


SQUARES = {
    "levenberg": dini.LevenbergMarquardt(),
    "region": dini.LevenbergMarquardt(strategy="trust region", linear_solver="qr", hessian="gauss-newton"),
    "cg": dini.LevenbergMarquardt(linear_solver="cg"),
    "dogleg": dini.DoglegLeastSquares(),
    "gauss-newton": dini.GaussNewton(),
    "full steps": dini.GaussNewton(patience=None),
}


@pytest.mark.by_default("float64-gauss-newton", "float32-full steps")
@pytest.mark.parametrize("name", SQUARES)
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_least_squares(name, dtype):
    noise = 0.0 if name in ("dogleg", "cg") else 1.0

    def run(c, b, start):
        problem = dini.LeastSquares(decay(c, b, dtype, noise))
        solution = dini.solve(problem, SQUARES[name], b * start, on_failure="ignore")
        return solution.x / b, solution.status, solution.stats.steps

    accuracy = 1e-3 if dtype == jnp.float32 else 1e-7
    x, again = agree(run, jnp.ones(3), dtype, accuracy)
    np.testing.assert_allclose(x, fitted(noise), rtol=accuracy)
    assert np.all(again <= 2)


@pytest.mark.thorough
def test_variable_projection():
    """Residuals and the linear part in one unit, the rate in another."""
    solver = dini.VariableProjection(linear="weights")

    def run(c, b, start):
        def residuals(x):
            return decay(1.0, 1.0, jnp.float64)(jnp.array([0.0, 1.0, 0.0])) * c + (
                jnp.exp(-jnp.asarray(T) * x["rate"] / b) * x["weights"][0] + x["weights"][1]
            )

        x = {"rate": b * start[0], "weights": jnp.zeros(2)}
        solution = dini.solve(dini.LeastSquares(residuals), solver, x, on_failure="ignore")
        point = jnp.stack([solution.x["weights"][0] / c, solution.x["rate"] / b, solution.x["weights"][1] / c])
        return point[jnp.array([1, 0, 2])], solution.status, solution.stats.steps

    x, again = agree(run, jnp.ones(3), jnp.float64, 1e-7)
    np.testing.assert_allclose(x[jnp.array([1, 0, 2])], fitted(1.0), rtol=1e-6)
    assert np.all(again <= 2)


@pytest.mark.thorough
def test_bounds_in_raw_units():
    """A non-negative fit whose columns are counted in very different units, and one whose bounds are tiny."""
    rng = np.random.default_rng(1)
    A, y = rng.standard_normal((20, 4)), rng.standard_normal(20)
    columns = np.array([1.0, 1e6, 1e-4, 1e3])
    want, _ = scipy.optimize.nnls(A, y)
    assert 0 < np.count_nonzero(want) < 4

    def run(c, b, start):
        problem = dini.LeastSquares(lambda x: c * (A @ (x * columns / b) - y), constraint=dini.sets.NonNegative())
        solution = dini.solve(problem, dini.LevenbergMarquardt(), b * start / columns, on_failure="ignore")
        return 1 + solution.x / b * columns, solution.status, solution.stats.steps

    x, _ = agree(lambda c, b, start: run(c, b, start - 1), jnp.ones(4) + 1, jnp.float64, 1e-7)
    np.testing.assert_allclose(x - 1, want, atol=1e-7)


def coupled(x, dtype=jnp.float64):
    return x**3 + x - 0.3 * jnp.roll(x, 1) - jnp.asarray([2.0, 5.0, 0.7, 7.0], dtype)


EQUATIONS = {
    "newton": dini.Newton(),
    "krylov inside": dini.Newton(linear_solver=dini.linear.GMRES()),
    "chord": dini.Chord(),
    "broyden": dini.Broyden(),
    "limited": dini.Broyden(history=2),
    "identity": dini.Broyden(start="identity"),
    "newton-krylov": dini.NewtonKrylov(),
    "levenberg": dini.LevenbergMarquardt(),
}


@pytest.mark.by_default("float64-newton", "float64-broyden", "float32-levenberg")
@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_equations(name, dtype):
    def run(c, b, start):
        problem = dini.Root(lambda x: c * coupled(x / b, dtype))
        solution = dini.solve(problem, EQUATIONS[name], b * start, on_failure="ignore")
        return solution.x / b, solution.status, solution.stats.steps

    x, again = agree(run, jnp.ones(4), dtype, 2e-3 if dtype == jnp.float32 else 1e-7)
    np.testing.assert_allclose(coupled(x.astype(float)), 0, atol=1e-2 if dtype == jnp.float32 else 1e-6)
    # a step of this method is a product with the Jacobian
    assert np.all(again <= (5 if name == "newton-krylov" else 2))


@pytest.mark.parametrize("method", [dini.Bisection, dini.Chandrupatla])
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_brackets(method, dtype):
    def run(c, b, start):
        problem = dini.Root(lambda x: c * ((x / b) ** 3 - jnp.asarray([2.0, 5.0, 1e-3, 7.0], dtype)))
        solution = dini.solve(problem, method(-b, 3 * b), b * start, on_failure="ignore")
        return solution.x / b, solution.status, solution.stats.steps

    accuracy = 1e-3 if dtype == jnp.float32 else 1e-7
    x, _ = agree(run, jnp.ones(4), dtype, accuracy)
    np.testing.assert_allclose(x, np.cbrt([2.0, 5.0, 1e-3, 7.0]), rtol=accuracy)


def test_examples():
    """The start is no solution where numbers are small, and a right point is one where they are large."""
    small = dini.least_squares(lambda p: 1e-3 * decay(1.0, 1.0, jnp.float64, 0.0)(p), jnp.ones(3))
    np.testing.assert_allclose(small.x, [2.5, 1.3, 0.5], rtol=1e-7)
    large = dini.root(lambda x: 1e4 * (x**3 - 2), 1.0)
    np.testing.assert_allclose(large.x, np.cbrt(2.0), rtol=1e-8)


@pytest.mark.by_default("levenberg", "full steps")
@pytest.mark.parametrize("name", ["levenberg", "region", "dogleg", "gauss-newton", "full steps"])
def test_residuals_that_fall_forever(name):
    """An exponential, in any unit and beside others that do not vanish, has no minimum."""

    def status(c, b, other):
        fun = lambda x: c * jnp.stack([jnp.exp(-x[0] / b), other])
        return dini.solve(dini.LeastSquares(fun), SQUARES[name], b[None], on_failure="ignore").status

    c, b = units(jnp.float64)
    for other in (0.0, 1.0):
        found = jax.jit(jax.vmap(status))(c, b, jnp.full(c.shape, other))
        np.testing.assert_array_equal(found, Status.DIVERGED)


@pytest.mark.by_default("newton", "levenberg")
@pytest.mark.parametrize("name", EQUATIONS)
def test_equations_that_are_solved_nowhere(name):
    """A root at infinity, and a minimum of the norm that is no root, close to one though it is in small units."""

    def status(fun, start):
        return dini.solve(dini.Root(fun), EQUATIONS[name], start, on_failure="ignore").status

    c, b = units(jnp.float64)
    away = jax.jit(jax.vmap(lambda c, b: status(lambda x: c * jnp.exp(-x / b), b[None])))(c, b)
    assert np.all(away != Status.CONVERGED)
    low = lambda c, b: status(
        lambda x: c * jnp.stack([(x[0] / b - 1) ** 2 + 1e-7, x[1] / b - 10]), jnp.stack([3 * b, b])
    )
    assert np.all(jax.jit(jax.vmap(low))(c, b) != Status.CONVERGED)


@pytest.mark.parametrize("solver", [dini.GaussNewton(), dini.LevenbergMarquardt()], ids=lambda s: s.name)
def test_a_plateau_is_no_minimum(solver):
    """From far out a step leads farther out, where the residual is the same to the last digit."""
    problem = dini.LeastSquares(lambda x: jax.nn.sigmoid(x) - 0.5)
    solution = jax.vmap(lambda x: dini.solve(problem, solver, x[None], on_failure="ignore"))(
        jnp.array([6.0, 20.0, 30.0])
    )
    right = jnp.abs(solution.x[:, 0]) < 1e-6
    np.testing.assert_array_equal(solution.success & ~right, False)


@pytest.mark.thorough
def test_mixed_units():
    """Unknowns whose units differ by a factor of 10^8, in equations whose units do, too: each gets its digits."""
    scale, rows = jnp.array([1e5, 1e-3, 1.0, 1e2]), jnp.array([1e5, 1e-3, 1e2, 1.0])
    for solver in (dini.Newton(), dini.Chord(), dini.LevenbergMarquardt(), dini.Broyden()):
        want = dini.root(coupled, jnp.ones(4), solver=solver).x
        got = dini.root(lambda x: rows * coupled(x / scale), scale, solver=solver).x / scale
        np.testing.assert_allclose(got, want, rtol=1e-6)
