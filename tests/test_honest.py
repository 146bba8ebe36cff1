"""Ends of a solve that look like solutions and are none, and values that must not come out of NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import penalties, sets
from dini.status import Status


def quiet(problem, solver, x, *args):
    return dini.solve(problem, solver, x, *args, on_failure="ignore")


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_frank_wolfe_stays_in_its_set(dtype):
    scales = jnp.array([1.0, 10.0, 100.0], dtype)
    centers = jnp.asarray(3 * np.random.default_rng(0).normal(size=(100, 3)), dtype)
    for part in (sets.L2Ball(1.0), sets.Box(1.0, 2.0)):
        for weights, tol in ((jnp.ones(3, dtype), None), (scales, 1e-3)):
            problem = dini.Minimize(lambda x, c, w: jnp.sum(w * (x - c) ** 2), constraint=part)
            solver = dini.FrankWolfe(tol=tol)
            solve = lambda c, w, problem=problem, solver=solver: quiet(problem, solver, jnp.zeros(3, dtype), c, w)
            solution = jax.jit(jax.vmap(solve, (0, None)))(centers, weights)
            outside = jax.vmap(part.residual)(solution.x)
            assert np.max(outside) < 100 * float(jnp.finfo(dtype).eps)
            if tol is None:
                solved = solution.status == 0
                assert np.mean(solved) > 0.9
                want = jax.vmap(part.project)(centers)
                np.testing.assert_allclose(solution.x[solved], want[solved], atol=0.05)


def test_linear_functions_have_minima_in_the_set_also_where_they_are_flat():
    for part in (sets.Box(1.0, 2.0), sets.Box(-2.0, -1.0), sets.Box(-jnp.inf, -1.0)):
        point = part.minimize_linear(jnp.array([-1.0, 0.0]))
        np.testing.assert_allclose(part.residual(point), 0, atol=1e-12)
    product = sets.Product([sets.Box(1.0, 2.0), sets.Box(3.0, 4.0)])
    np.testing.assert_array_equal(product.minimize_linear([jnp.array(1.0), jnp.array(0.0)]), [1.0, 3.0])
    assert np.isnan(sets.Box(-jnp.inf, 1.0).minimize_linear(jnp.array(1.0)))


def test_a_swallowed_block_is_no_solution():
    rng = np.random.default_rng(0)
    X = jnp.asarray(rng.normal(size=(50, 5)) * [1, 1, 1, 1, 1e4], jnp.float32)
    y = jnp.asarray(100 * rng.normal(size=50), jnp.float32)
    problem = dini.Minimize(lambda w: 0.5 * jnp.sum((X @ w - y) ** 2), constraint=sets.NonNegative())
    for solver in (dini.BlockCoordinateDescent(atol=1e-3), dini.ProximalGradient(atol=1e-3)):
        solution = quiet(problem, solver, jnp.full(5, 10.0, jnp.float32))
        slope = jax.grad(problem.fun)(solution.x)
        missing = jnp.linalg.norm(jnp.where(solution.x > 0, slope, jnp.minimum(slope, 0)))
        assert solution.status != 0
        assert solution.stats.error >= 0.5 * missing


@pytest.mark.by_default("each")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("solver", [dini.Anderson(), dini.Newton(), dini.Broyden(), dini.FixedPointIteration()])
def test_maps_without_a_fixed_point(dtype, solver):
    """The residual vanishes by rounding where the point is large enough."""
    chain = jnp.array([[0.5, 0.5], [0.3, 0.7]], dtype)
    bellman = lambda v: chain @ v + jnp.array([1.0, 2.0], dtype)
    for fun, start in ((bellman, jnp.zeros(2, dtype)), (lambda x: x - 0.3, jnp.zeros((), dtype))):
        assert quiet(dini.FixedPoint(fun), solver, start).status != 0
    # large, and a fixed point
    size = 1e5 if dtype == jnp.float32 else 1e9
    found = quiet(dini.FixedPoint(lambda x: 0.5 * x + 0.5 * size), solver, jnp.asarray(0.9 * size, dtype))
    assert found.status == 0
    np.testing.assert_allclose(found.x, size, rtol=float(jnp.finfo(dtype).eps) ** 0.5)


@pytest.mark.parametrize("method", [dini.Bisection, dini.Chandrupatla])
def test_coupled_equations_have_no_brackets(method):
    coupled = dini.Root(lambda x: jnp.stack([x[0] + 5 * x[1] - 3, x[1] - 2 * x[0]]))
    assert quiet(coupled, method(-5.0, 5.0), jnp.zeros(2)).status == Status.CONDITION
    family = lambda x, c: jnp.stack([x[0] + c * x[1] - 3, x[1] - 0.4 * c * x[0]])
    lanes = jax.vmap(lambda c: quiet(dini.Root(family), method(-5.0, 5.0), jnp.zeros(2), c))(jnp.array([0.0, 5.0]))
    np.testing.assert_array_equal(lanes.status, [Status.CONVERGED, Status.CONDITION])


def test_an_infinite_point_solves_nothing():
    problem = dini.Minimize(lambda x: jnp.sum(jnp.exp(-x)))
    solution = quiet(problem, dini.GradientDescent(step_size=0.01), jnp.array([1e4, -1e4]))
    assert solution.status == Status.NONFINITE


def test_a_transform_that_is_not_orthogonal():
    for transform in (jnp.array([[2.0]]), lambda x: 2 * x):
        problem = dini.Minimize(
            lambda x: 0.5 * jnp.sum((x - 1) ** 2), penalty=penalties.Orthogonal(penalties.L1(1.0), transform)
        )
        assert quiet(problem, dini.ProximalGradient(), jnp.zeros(1)).status == Status.NONFINITE
    turn = jnp.array([[0.6, 0.8], [-0.8, 0.6]])
    problem = dini.Minimize(
        lambda x, c: 0.5 * jnp.sum((x - c) ** 2), penalty=penalties.Orthogonal(penalties.L1(1.0), turn)
    )
    c = jnp.array([3.0, -2.0])
    shrunk = jnp.sign(turn @ c) * jnp.maximum(jnp.abs(turn @ c) - 1, 0)
    np.testing.assert_allclose(quiet(problem, dini.ProximalGradient(), c, c).x, turn.T @ shrunk, atol=1e-7)


def test_nan_is_not_lost():
    broken = jnp.array([[jnp.nan, 0.0], [0.0, 1.0]])
    infinite = jnp.diag(jnp.array([jnp.inf, 1.0, 2.0]))
    for value in (
        sets.PositiveSemidefinite().project(broken),
        sets.Spectrahedron().project(broken),
        sets.L2Sphere().project(jnp.array([jnp.nan, 1.0])),
        penalties.NuclearNorm(1.0).prox(infinite, 1.0),  # which LAPACK does not end on
        sets.NuclearNormBall(1.0).project(infinite),
    ):
        assert np.isnan(value).all()


@pytest.mark.parametrize(
    "prox",
    [
        lambda s, z: penalties.L0(s).prox(z, 1.0),
        lambda s, z: penalties.MCP(s, 3.0).prox(z, 1.0),
        lambda s, z: penalties.MCP(0.1, s).prox(z, 1.0),
        lambda s, z: penalties.SCAD(s, 3.7).prox(z, 1.0),
        lambda s, z: penalties.Huber(0.1, s).prox(z, 1.0),
        lambda s, z: sets.L2Sphere(s).project(z),
        lambda s, z: sets.L1Sphere(s).project(z),
        lambda s, z: sets.SparseSimplex(1, s).project(z),
        lambda s, z: sets.Scaled(sets.L2Ball(), s).project(z),
        lambda s, z: sets.Power(s).project(jnp.append(z, 1.0)),
        lambda s, z: penalties.Scaled(penalties.L1(0.1), s).prox(z, 1.0),
        lambda s, z: penalties.L1(0.1).prox(z, s),
        lambda s, z: penalties.GroupLasso(0.1).prox(z, s),
    ],
)
def test_traced_parameters_outside_of_their_domain(prox):
    z = jnp.array([0.5, 2.0])
    for value in (-1.0, jnp.nan):
        assert np.isnan(jax.jit(prox)(value, z)).all()


def test_constants_and_identities_are_functions():
    np.testing.assert_array_equal(dini.minimize(lambda x: jnp.asarray(3.0), jnp.ones(2)).x, 1.0)
    same = dini.custom_root(lambda x, a: x - a)(lambda init, a: a)
    np.testing.assert_allclose(jax.grad(same, argnums=1)(0.0, 2.0), 1.0)


def test_a_step_that_diverges_returns_the_best_point():
    problem = dini.Minimize(lambda x: 0.5e8 * jnp.sum((x - 1) ** 2))
    solution = quiet(problem, dini.ProximalGradient(step_size=0.01), jnp.zeros(2))
    np.testing.assert_array_equal(solution.x, 0.0)
    np.testing.assert_allclose(solution.stats.error, 1e8 * np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: dini.LBFGS(tol=[1e-3]), TypeError, "LBFGS's tol must be a number"),
        (lambda: dini.LBFGS(tol=np.array([1e-3, 1e-4])), ValueError, r"tol must be one number: given shape \(2,\)"),
        (lambda: dini.LBFGSB(line_search="wolfe"), TypeError, "LBFGSB's line_search must be one of"),
        (lambda: dini.Newton(linear_solver=0), TypeError, "linear_solver must be one of"),
        (lambda: dini.Implicit(linear_solver="cholesky"), TypeError, "linear_solver must be one of"),
        (lambda: sets.Intersection(sets.L2Ball()), TypeError, "Intersection needs a list of sets"),
        (lambda: sets.Product([sets.L2Ball(), 3]), TypeError, "Product needs a tree of sets"),
        (lambda: sets.Box(jnp.array(1j), 2.0).check(jnp.ones(2)), TypeError, "must be real, as the unknown x is"),
        (lambda: penalties.L1(jnp.array(1j)).check(jnp.ones(2)), TypeError, "must be real, as the unknown x is"),
    ],
)
def test_settings_of_the_wrong_kind(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("distance", [1e-12, 1e-10, 3e-9, 1e-8])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4])
def test_a_first_step_that_makes_a_good_start_worse(offset, distance):
    """The length of the first step is a guess; so close to a solution no value tells that it was too long."""
    curvature, target = jnp.array([1.0, 3.0, 0.5]), jnp.array([0.3, 0.2, 0.4])
    fun = lambda x: offset + 0.5 * jnp.sum(curvature * x**2) - target @ x
    problem = dini.Minimize(fun, constraint=dini.sets.Box(-5.0, 5.0))
    for solver in (dini.ProjectedGradient(), dini.ProjectedGradient(acceleration=False)):
        solution = dini.solve(problem, solver, target / curvature + distance)
        assert jnp.linalg.norm(jax.grad(fun)(solution.x)) <= 2 * np.finfo(float).eps ** 0.5
