"""Each element of a root, of a fixed point, and of a point that is handed in counts relative to its own size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import DerivativeError, SolveError, Status
from dini.verification import _equations


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("solver", [dini.Anderson(), dini.FixedPointIteration()], ids=lambda solver: solver.name)
def test_fixed_points_in_unlike_units(solver, dtype):
    """Two unknowns, one of which is up to 1e16 times as large: x = x / 2 + a / 2 and x = 0.9 x + 0.1 b."""
    sizes = jnp.asarray([[100, 0.01], [1e6, 1e-4], [1e8, 1e-8], [1e-4, 1e6], [1, 1], [jnp.nan, 1]], dtype)
    rates = jnp.asarray([0.5, 0.9], dtype)

    @jax.jit
    @jax.vmap
    def run(c):
        step = lambda x, c: rates * x + (1 - rates) * c
        return dini.fixed_point(step, jnp.zeros(2, dtype), c, solver=solver, on_failure="ignore")

    found = run(sizes)
    np.testing.assert_array_equal(found.status[:-1], Status.CONVERGED)
    assert found.status[-1] == Status.NONFINITE
    # a residual of rtol is an error of ten times as much, where the map contracts by 0.9
    assert jnp.max(jnp.abs(found.x / sizes - 1)[:-1]) < 30 * jnp.finfo(dtype).eps ** 0.5


def test_an_element_that_is_small_because_large_ones_cancel():
    """No more is asked of it than the large ones allow: in single precision, that would be less than rounding."""
    matrix = jnp.asarray([[0.3, 0.1, -0.2], [0, 0.5, 0], [0, 0, 0.5]], jnp.float32)
    step = lambda x: matrix @ x + jnp.asarray([1e-7, 1, 0.5], jnp.float32)
    for solver in (dini.Anderson(), dini.FixedPointIteration()):
        found = dini.fixed_point(step, jnp.ones(3, jnp.float32), solver=solver)
        np.testing.assert_allclose(found.x, [1e-7 / 0.7, 2, 1], atol=1e-3)
        assert found.stats.steps < 15


@pytest.mark.parametrize("solver", [dini.Broyden(), dini.Chord()], ids=lambda solver: solver.name)
def test_roots_in_unlike_units(solver):
    rows = jnp.array([[1.0, 1.0], [1e8, 1e-8], [1.0, 1.0]])
    sizes = jnp.array([[1e6, 1e-6], [1.0, 1.0], [1e-6, 1e6]])

    @jax.jit
    @jax.vmap
    def run(row, size):
        F = lambda u: jnp.stack([jnp.exp(u[0]) - 2, u[1] ** 3 + u[0] - 1])
        in_units = lambda x, row, size: row * F(x / size)
        return dini.root(in_units, size, row, size, solver=solver, on_failure="ignore")

    found, first = run(rows, sizes), np.log(2)
    np.testing.assert_array_equal(found.status, Status.CONVERGED)
    np.testing.assert_allclose(found.x / sizes, [[first, (1 - first) ** (1 / 3)]] * 3, rtol=3e-7)


def condition(x, t):
    return jnp.stack([x[0] - 1e6 * t, x[1] ** 2 - 1e-6 * t])


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_points_that_are_handed_in(dtype):
    """The second of the unknowns 1e6 t and 1e-3 sqrt(t) is right, or not: then so is its derivative."""

    def custom(share, on_failure="raise"):
        solver = lambda init, t: jnp.stack([1e6 * t, share * 1e-3 * jnp.sqrt(t)])
        solved = dini.custom_root(condition, on_failure=on_failure)(solver)
        return jax.jacobian(lambda t: solved(None, t))(jnp.ones((), dtype))

    def handed(share):
        x = jnp.asarray([1e6, share * 1e-3], dtype)
        return jax.jacobian(lambda t: dini.differentiate(dini.Root(condition), x, t).x)(jnp.ones((), dtype))

    def function(share):
        solver = lambda problem, init, t: jnp.stack([1e6 * t, share * 1e-3 * jnp.sqrt(t)])
        solved = lambda t: dini.solve(dini.Root(condition), solver, jnp.ones(2, dtype), t).x
        return jax.jacobian(solved)(jnp.ones((), dtype))

    for derivative in (custom, handed, function):
        np.testing.assert_allclose(derivative(1.0), [1e6, 5e-4], rtol=1e-5)
    with pytest.raises(DerivativeError, match="in one of its elements"):
        custom(10.0)
    np.testing.assert_allclose(custom(10.0, "ignore"), [1e6, 5e-5], rtol=1e-5)
    for derivative in (handed, function):
        with pytest.raises(SolveError, match="CONDITION"):
            derivative(10.0)


def test_points_that_are_right():
    """Elements that are zero, or singular, or rounding, show nothing."""
    follow = lambda F, x: float(jax.jit(lambda x: _equations.followed(F, x).error)(jnp.asarray(x)))
    # the first one is zero, and 1e-9 is all that a solver has left of it
    assert follow(lambda x: jnp.sinh(x) - jnp.array([0, 1]), [1e-9, np.arcsinh(1)]) < 1e-8
    matrix = jnp.array([[1.0, 0, 0], [0, 2, -1], [0, -1, 2]])
    right = np.linalg.solve(matrix, [0, 1, 1e-6])
    assert follow(lambda x: matrix @ x - jnp.array([0, 1, 1e-6]), right + np.array([1e-9, 0, 0])) < 1e-8
    # a root of a singular system, a double one, and one that is none
    assert follow(lambda x: jnp.stack([x[0] + x[1] - 1, 2 * (x[0] + x[1] - 1)]), [0.3, 0.7]) == 0
    assert follow(lambda x: (x - 1) ** 2, [1 + 1e-9]) < 1e-8
    assert follow(lambda x: x**2 + 1, [0.5]) == 0
    # an element that is a thousandth of its size off is seen beside one that is 1e12 times as large
    assert follow(lambda x: x - jnp.array([1e6, 1e-6]), [1e6, 1.001e-6]) == pytest.approx(1e-3)
