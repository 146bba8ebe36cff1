"""A start that is not a number is no start: bounds and projections must not hide it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import penalties, sets


def bowl(x, t):
    return jnp.sum((x - t) ** 2) + jnp.sum(x**4) / 10


SETS = {"box": sets.Box(0.0, 1.0), "orthant": sets.NonNegative(), "simplex": sets.Simplex(), "ball": sets.L2Ball(1.0)}
WITHIN = {
    "LBFGSB": ("box", "orthant"),
    "ProjectedNewton": ("box", "orthant"),
    "ProjectedGradient": SETS,
    "MirrorDescent": ("simplex",),
    "FrankWolfe": ("box", "simplex", "ball"),
    "BlockCoordinateDescent": ("box", "orthant"),
    "NelderMead": ("box",),
}
CASES = [(solver, name) for solver, names in WITHIN.items() for name in names]


def status(problem, solver, start):
    solution = dini.solve(problem, solver, start, 0.4, on_failure="ignore")
    return dini.Status(int(solution.status))


@pytest.mark.by_default("LBFGSB-box-float32", "ProjectedNewton-box-float64", "ProjectedGradient-simplex-float64")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("solver", "name"), CASES, ids=["-".join(case) for case in CASES])
def test_a_start_that_is_not_a_number(solver, name, dtype):
    problem, solver = dini.Minimize(bowl, constraint=SETS[name]), getattr(dini, solver)()
    start = jnp.asarray([0.3, jnp.nan, 0.3], dtype)
    assert status(problem, solver, start) == dini.Status.NONFINITE
    assert status(problem, solver, jnp.asarray([0.3, 5.0, -0.3], dtype)) == dini.Status.CONVERGED


@pytest.mark.parametrize("solver", ["ProximalGradient", "BlockCoordinateDescent", "ProximalNewton"])
def test_with_a_penalty(solver):
    problem, solver = dini.Minimize(bowl, penalty=penalties.L1(0.1)), getattr(dini, solver)()
    assert status(problem, solver, jnp.array([0.3, jnp.nan, 0.3])) == dini.Status.NONFINITE


def test_one_bad_lane():
    problem = dini.Minimize(bowl, constraint=sets.Box(0.0, 1.0))
    solve = lambda x: dini.solve(problem, dini.LBFGSB(), x, 0.4)
    found = jax.vmap(solve)(jnp.array([[0.3, 0.1], [jnp.nan, 0.2], [0.9, 1.4]]))
    wanted = [dini.Status.CONVERGED, dini.Status.NONFINITE, dini.Status.CONVERGED]
    np.testing.assert_array_equal(found.status, wanted)
    np.testing.assert_allclose(found.x[2], found.x[0], rtol=1e-6)


def test_a_cauchy_point_of_a_tiny_gradient_has_a_derivative():
    from dini.solvers._lbfgsb import _cauchy_point
    from dini.solvers.shared._box import Box

    box = Box(jnp.zeros(3, jnp.float32), jnp.ones(3, jnp.float32), lambda v: v)
    x = jnp.asarray([0.0, 0.5, 0.75], jnp.float32)
    none = jnp.zeros((2, 3), jnp.float32), jnp.zeros((2, 2), jnp.float32)
    one = jnp.ones((), jnp.float32)
    for size in (1.0, 1e-18, 1e-22, 1e-30):
        g = jnp.float32(size) * jnp.asarray([1.0, -1.0, 0.25], jnp.float32)
        along = jnp.asarray([1.0, 2.0, 3.0], jnp.float32)
        point, moved = jax.jvp(lambda g: _cauchy_point(box, x, g, one, *none), (g,), (along,))
        want = [0, min(0.5 + size, 1), 0.75 - 0.25 * size]
        np.testing.assert_allclose(point, want, rtol=1e-6)
        # of the model x @ x / 2 + g @ x: the free elements move by minus the gradient
        np.testing.assert_allclose(moved, [0, -2 if size < 0.5 else 0, -3], rtol=1e-5)
