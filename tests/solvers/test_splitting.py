"""Primal-dual splitting, ADMM, Douglas-Rachford and Frank-Wolfe, against CVXPY and finite differences."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini

TIGHT = {"solver": "CLARABEL", "tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


def generic(n=12, d=8, m=10, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=n), rng.normal(size=(m, d))


def squares(x, A, b, K):
    return 0.5 * jnp.sum((A @ x - b) ** 2)


def analysis(strength=0.7):
    return dini.Composite(squares, dini.penalties.L1(strength), lambda x, A, b, K: K @ x)


@pytest.mark.parametrize("solver", [dini.CondatVu(), dini.ADMM(), dini.ADMM(dense_limit=0)], ids=str)
def test_analysis_lasso_against_cvxpy(solver):
    A, b, K = generic()
    problem = analysis()
    solution = dini.solve(problem, solver, problem.start(jnp.zeros(8), A, b, K), A, b, K)
    x = cp.Variable(8)
    cp.Problem(cp.Minimize(0.5 * cp.sum_squares(A @ x - b) + 0.7 * cp.norm1(K @ x))).solve(**TIGHT)
    np.testing.assert_allclose(solution.x.primal, x.value, atol=1e-5)
    # the dual variable is a subgradient that balances the gradient of f
    np.testing.assert_allclose(K.T @ solution.x.dual, -A.T @ (A @ solution.x.primal - b), atol=1e-6)
    assert np.abs(solution.x.dual).max() <= 0.7 + 1e-9


def test_scales_of_the_function_and_of_the_operator():
    """The balance of the step sizes follows the units of f and of K."""
    A, b, K = generic(d=6, m=4)

    @jax.jit
    def run(size, stretch):
        problem = dini.Composite(lambda x: 0.5 * jnp.sum((size * A @ x - b) ** 2), dini.penalties.L1(0.3), stretch * K)
        x = problem.start(jnp.zeros(6))
        return dini.solve(problem, dini.CondatVu(max_steps=2000), x, on_failure="ignore")

    for size, stretch in ((100.0, 0.1), (10.0, 1.0), (1.0, 1.0), (0.1, 10.0), (0.1, 0.1)):
        assert run(size, stretch).status == dini.Status.CONVERGED, (size, stretch)


def test_derivatives_in_everything_by_finite_differences():
    A, b, K = map(jnp.asarray, generic(m=6))

    @jax.jit
    def total(strength, b, K):
        problem = analysis(strength)
        x = dini.solve(problem, dini.ADMM(tol=1e-12), problem.start(jnp.zeros(8), A, b, K), A, b, K).x
        return jnp.sum(jnp.cos(x.primal)) + jnp.sum(x.dual**2)

    at = (jnp.asarray(0.7), b, K)
    got = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*at)
    rng = np.random.default_rng(1)
    for _ in range(2):
        way = [jnp.asarray(rng.normal(size=a.shape)) for a in at]
        ends = [total(*(a + s * w for a, w in zip(at, way, strict=True))) for s in (1e-6, -1e-6)]
        slope = sum(jnp.sum(g * w) for g, w in zip(got, way, strict=True))
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-6)


def test_chambolle_pock_on_a_linear_program():
    """Basis pursuit: no smooth part at all, and an equality behind the operator."""
    rng = np.random.default_rng(4)
    A = rng.normal(size=(5, 12))
    b = A[:, :2] @ np.array([1.0, -2.0])
    point = dini.sets.Box(b, b)
    problem = dini.Composite(None, point, A, penalty=dini.penalties.L1(1.0))
    solution = dini.solve(problem, dini.ChambollePock(tol=1e-6), problem.start(jnp.zeros(12)))
    x = cp.Variable(12)
    cp.Problem(cp.Minimize(cp.norm1(x)), [A @ x == b]).solve(**TIGHT)
    np.testing.assert_allclose(solution.x.primal, x.value, atol=1e-4)


def test_a_curvature_that_grows_on_the_way():
    """The quartic is flat at the start: the step size must notice."""
    fun = lambda x: 0.25 * jnp.sum((x - 3.0) ** 4)
    problem = dini.Composite(fun, dini.penalties.L1(0.5), None)
    start = problem.start(jnp.full(2, 3.0))
    x = dini.solve(problem, dini.CondatVu(), start).x.primal
    np.testing.assert_allclose(x, 3 - np.cbrt(0.5), atol=1e-5)


@pytest.mark.parametrize("solver", [dini.DouglasRachford(), dini.CondatVu()], ids=str)
def test_two_sets_and_a_function_against_cvxpy(solver):
    rng = np.random.default_rng(5)
    c = rng.normal(size=6)
    normal = rng.normal(size=6)
    problem = dini.Composite(
        lambda x: 0.5 * jnp.sum((x - c) ** 2), dini.sets.Halfspace(normal, -0.2), constraint=dini.sets.Simplex()
    )
    got = dini.solve(problem, solver, problem.start(jnp.ones(6) / 6)).x.primal
    x = cp.Variable(6)
    cp.Problem(cp.Minimize(0.5 * cp.sum_squares(x - c)), [normal @ x <= -0.2, cp.sum(x) == 1, x >= 0]).solve(**TIGHT)
    np.testing.assert_allclose(got, x.value, atol=1e-6)


@pytest.mark.thorough
def test_total_variation_of_an_image_by_minimum_norm():
    """Dependent rows of K: the dual variable is not unique, the derivative of the primal one is."""
    image = jnp.asarray(np.random.default_rng(6).normal(size=(3, 3)))

    def denoise(image):
        problem = dini.Composite(
            lambda x, a: 0.5 * jnp.sum((x - a) ** 2),
            dini.penalties.L1(0.3),
            lambda x, a: {"down": x[1:] - x[:-1], "right": x[:, 1:] - x[:, :-1]},
        )
        how = dini.Implicit(linear_solver=dini.linear.MinimumNorm())
        start = problem.start(image, image)
        return dini.solve(problem, dini.ADMM(tol=1e-11), start, image, differentiation=how).x.primal

    got = jax.jit(jax.jacrev(denoise))(image).reshape(9, 9)
    fast = jax.jit(denoise)
    steps = 1e-6 * np.eye(9).reshape(9, 3, 3)
    want = np.stack([(fast(image + h) - fast(image - h)).ravel() / 2e-6 for h in steps], axis=1)
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_what_does_not_fit_is_refused():
    x = jnp.zeros(3)
    l1, distance = dini.penalties.L1(1.0), lambda x: jnp.sum(x**2)
    with pytest.raises(TypeError, match=r"start at problem.start"):
        dini.solve(dini.Composite(distance, l1), dini.CondatVu(), x)
    bent = dini.Composite(distance, l1, lambda x: x**2)
    with pytest.raises(ValueError, match="must be linear"):
        dini.solve(bent, dini.CondatVu(), bent.start(x))
    quartic = dini.Composite(lambda x: jnp.sum(x**4), l1)
    with pytest.raises(ValueError, match="needs a quadratic f"):
        dini.solve(quartic, dini.ADMM(), quartic.start(x))
    both = dini.Composite(distance, l1, constraint=dini.sets.NonNegative())
    with pytest.raises(TypeError, match="to the operator's output"):
        dini.solve(both, dini.ADMM(), both.start(x))
    behind = dini.Composite(distance, l1, jnp.eye(3))
    with pytest.raises(TypeError, match="identity"):
        dini.solve(behind, dini.DouglasRachford(), behind.start(x))
    with pytest.raises(TypeError, match="has no step for the smooth part"):
        dini.solve(behind, dini.ChambollePock(), behind.start(x))
    with pytest.raises(TypeError, match="solves problems of the kinds"):
        dini.solve(behind, dini.LBFGS(), behind.start(x))
    for outer in (None, dini.penalties.L1):
        with pytest.raises(TypeError, match="must be a penalty"):
            dini.Composite(distance, outer)
    other = dini.Composite(distance, jnp.ones(3))
    with pytest.raises(TypeError, match="outer must be a penalty"):
        dini.solve(other, dini.CondatVu(), other.start(x))
    with pytest.raises(TypeError, match="the class NonNegative; call it"):
        dini.Composite(distance, l1, constraint=dini.sets.NonNegative)
    for part in ({"constraint": l1}, {"penalty": dini.sets.NonNegative()}):
        with pytest.raises(TypeError, match="must be an object of"):
            dini.Composite(distance, l1, **part)
    with pytest.raises(TypeError, match="operator must be a matrix"):
        dini.Composite(distance, l1, "K")
    with pytest.raises(ValueError, match=r"operator must be a matrix .* given shape \(2, 4\)"):
        dini.Composite(distance, l1, jnp.ones((2, 4))).start(x)
    nonconvex = dini.Composite(distance, dini.penalties.MCP(1.0, 3.0))
    with pytest.raises(ValueError, match="convex parts"):
        dini.solve(nonconvex, dini.CondatVu(), nonconvex.start(x))


@pytest.mark.by_default("L1Ball-6")
@pytest.mark.parametrize(
    ("constraint", "atoms"),
    [(dini.sets.Simplex(1.5), 32), (dini.sets.L1Ball(1.5), 6), (dini.sets.Box(-0.3, 0.4), 6)],
    ids=lambda s: getattr(s, "name", s),
)
def test_frank_wolfe_reaches_the_projection(constraint, atoms):
    """With few atoms some are merged on the way."""
    a = jnp.asarray(np.random.default_rng(7).normal(size=20))
    problem = dini.Minimize(lambda x: 0.5 * jnp.sum((x - a) ** 2), constraint=constraint)
    solution = dini.solve(problem, dini.FrankWolfe(atoms=atoms, tol=1e-10, max_steps=20000), jnp.zeros(20))
    np.testing.assert_allclose(solution.x, constraint.project(a), atol=1e-4)


def test_frank_wolfe_on_quadratics_converges_linearly():
    A, b, _ = generic(n=30, d=10)
    problem = dini.Minimize(lambda x: 0.5 * jnp.sum((A @ x - b) ** 2), constraint=dini.sets.Simplex())
    steps = [
        int(dini.solve(problem, dini.FrankWolfe(tol=tol), jnp.ones(10) / 10).stats.steps) for tol in (1e-4, 1e-8, 1e-12)
    ]
    assert steps[2] - steps[1] <= 3 * max(steps[1] - steps[0], 10)


@pytest.mark.thorough
@pytest.mark.parametrize(("dtype", "tol"), [(jnp.float32, 1e-6), (jnp.float64, 1e-13)])
def test_frank_wolfe_where_rounding_hides_what_a_step_gains(dtype, tol):
    """Points next to the set: the objective is nearly zero there, and the last half of the digits shows in no value."""
    rng = np.random.default_rng(0)
    inside = rng.dirichlet(np.ones(3), size=100)
    targets = jnp.asarray([inside + away * rng.normal(size=(100, 3)) for away in (1e-3, 0.1)], dtype).reshape(-1, 3)
    simplex = dini.sets.Simplex()
    problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2), constraint=simplex)
    start = jnp.ones(3, dtype) / 3
    one = lambda a: dini.solve(problem, dini.FrankWolfe(tol=tol), start, a, on_failure="ignore")
    solution = jax.jit(jax.vmap(one))(targets)
    np.testing.assert_array_equal(solution.status, dini.Status.CONVERGED)
    # the gap bounds the squared distance
    np.testing.assert_allclose(solution.x, jax.vmap(simplex.project)(targets), atol=tol**0.5)


def test_linear_minimization():
    d = jnp.array([3.0, -1.0, 2.0])
    np.testing.assert_allclose(dini.sets.L1Ball(2.0).minimize_linear(d), [-2.0, 0.0, 0.0])
    np.testing.assert_allclose(dini.sets.Box(-1.0, 2.0).minimize_linear(d), [-1.0, 2.0, -1.0])
    np.testing.assert_allclose(dini.sets.L2Ball(1.0).minimize_linear(d), -d / jnp.linalg.norm(d))
    assert np.isnan(dini.sets.NonNegative().minimize_linear(d)).any()
    halfspace = dini.Minimize(jnp.sum, constraint=dini.sets.Halfspace(jnp.ones(3), 1.0))
    simplex = dini.Minimize(jnp.sum, constraint=dini.sets.Simplex())
    with pytest.raises(ValueError, match="moves between vertices"):
        dini.solve(simplex, dini.FrankWolfe(), jnp.zeros(3), differentiation=dini.Unrolled())
    with pytest.raises(TypeError, match=r"support function: .* has none"):
        dini.solve(halfspace, dini.FrankWolfe(), jnp.zeros(3))
