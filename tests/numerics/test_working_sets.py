"""Coordinate descent and proximal Newton on working sets, against scikit-learn, CVXPY and the closed form."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression

import dini
from dini.numerics.working_sets import Elements, dispatch, sizes

SOLVERS = [dini.ProximalNewton(), dini.CoordinateDescent()]
LASSO = dini.LinearComposite(lambda z, w, X, y: 0.5 * jnp.mean((z - y) ** 2), lambda X, y: X.T)
LOGISTIC = dini.LinearComposite(lambda z, w, X, y: jnp.sum(jnp.logaddexp(0, -y * z)), lambda X, y: X.T)


def by_name(solver):
    return solver.name


def regression(n=60, d=200, k=8, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    w = np.zeros(d)
    w[:k] = rng.choice([-1.0, 1.0], k) * rng.uniform(1, 3, k)
    return X, X @ w + 0.1 * rng.normal(size=n)


@pytest.mark.by_default("100-CoordinateDescent")
@pytest.mark.parametrize("solver", SOLVERS, ids=by_name)
@pytest.mark.parametrize("size", [100, pytest.param(300, marks=pytest.mark.slow)])
def test_lasso_path_against_scikit_learn(solver, size):
    """The larger one has working sets of three sizes."""
    X, y = regression(d=size)
    strengths = np.abs(X.T @ y).max() / len(y) * np.geomspace(0.5, 0.05, 4)

    @jax.jit
    def path(X, y, strengths):
        def step(w, strength):
            problem = dini.Minimize(LASSO, penalty=dini.penalties.L1(strength))
            w = dini.solve(problem, solver, w, X, y).x
            return w, w

        return jax.lax.scan(step, jnp.zeros(X.shape[1]), strengths)[1]

    for w, strength in zip(path(X, y, strengths), strengths, strict=True):
        want = Lasso(alpha=strength, fit_intercept=False, tol=1e-12, max_iter=100000).fit(X, y).coef_
        np.testing.assert_allclose(w, want, atol=1e-6)
        np.testing.assert_array_equal(w != 0, want != 0)


@pytest.mark.by_default("ProximalNewton")
@pytest.mark.parametrize("solver", SOLVERS, ids=by_name)
def test_elastic_net_and_its_gradient(solver):
    X, y = regression(n=40, d=30)

    def fit(strengths):
        lasso, ridge = strengths
        penalty = dini.penalties.ElasticNet(lasso, ridge / lasso)
        w = dini.solve(dini.Minimize(LASSO, penalty=penalty), solver, jnp.zeros(30), X, y).x
        return w, w

    strengths = jnp.array([0.2, 0.1])
    want = ElasticNet(alpha=0.3, l1_ratio=0.2 / 0.3, fit_intercept=False, tol=1e-13, max_iter=100000).fit(X, y).coef_
    jacobian, w = jax.jit(jax.jacfwd(fit, has_aux=True))(strengths)
    np.testing.assert_allclose(w, want, atol=1e-6)
    S = np.flatnonzero(want)
    H = X[:, S].T @ X[:, S] / len(y) + 0.1 * np.eye(len(S))
    closed = np.zeros((30, 2))
    closed[S] = -np.linalg.solve(H, np.stack([np.sign(want[S]), want[S]], axis=1))
    np.testing.assert_allclose(jacobian, closed, atol=1e-6)


def test_gradients_in_the_data_by_finite_differences():
    X, y = regression(n=20, d=12)
    problem, solver = dini.Minimize(LASSO, penalty=dini.penalties.L1(0.3)), dini.ProximalNewton(tol=1e-12)
    total = lambda X, y: jnp.sum(jnp.cos(dini.solve(problem, solver, jnp.zeros(12), X, y).x))
    both = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    got = both(X, y)[1]
    rng = np.random.default_rng(1)
    dX, dy = rng.normal(size=X.shape), rng.normal(size=y.shape)
    ends = [both(X + step * dX, y + step * dy)[0] for step in (1e-6, -1e-6)]
    np.testing.assert_allclose(np.sum(got[0] * dX) + np.sum(got[1] * dy), (ends[0] - ends[1]) / 2e-6, rtol=1e-5)


def in_the_outer_function(z, w, X, y, ridge):
    return 0.5 * jnp.mean((z - y) ** 2) + 0.5 * ridge * jnp.sum(w**2)


@pytest.mark.by_default("BlockCoordinateDescent")
@pytest.mark.parametrize("solver", [*SOLVERS, dini.BlockCoordinateDescent(tol=1e-10)], ids=by_name)
def test_a_ridge_inside_of_the_outer_function(solver):
    """Its curvature does not come through ``z``: solution and derivative are the closed form on the support."""
    X, y = regression(n=30, d=50, k=4)
    fun = dini.LinearComposite(in_the_outer_function, lambda X, y, ridge: X.T)
    problem = dini.Minimize(fun, penalty=dini.penalties.L1(0.2))

    def fit(ridge):
        solution = dini.solve(problem, solver, jnp.zeros(50), X, y, ridge)
        return solution.x, (solution.x, solution.stats.steps)

    ridge = 0.5
    want = ElasticNet(alpha=0.7, l1_ratio=0.2 / 0.7, fit_intercept=False, tol=1e-13, max_iter=100000).fit(X, y).coef_
    slope, (w, steps) = jax.jit(jax.jacfwd(fit, has_aux=True))(ridge)
    np.testing.assert_allclose(w, want, atol=1e-6)
    S = np.flatnonzero(want)
    closed = np.zeros(50)
    closed[S] = -np.linalg.solve(X[:, S].T @ X[:, S] / len(y) + ridge * np.eye(len(S)), want[S])
    np.testing.assert_allclose(slope, closed, atol=1e-6)
    assert steps <= (10 if solver in SOLVERS else 100)


COUPLING = np.random.default_rng(5).normal(size=(30, 12))
CURVED = {
    "ridge": lambda z, w, X, y, c: jnp.sum((z - y) ** 2) + jnp.sum(w**2),
    "linear, with a factor of z": lambda z, w, X, y, c: jnp.sum((z - y) ** 2) + jnp.sum(z**2) * jnp.vdot(w, c),
    "bilinear": lambda z, w, X, y, c: jnp.sum(jnp.logaddexp(0, z)) + z @ COUPLING @ jnp.sin(w),
    "a scan": lambda z, w, X, y, c: jnp.sum(z**3) + jax.lax.scan(lambda s, u: (s * jnp.cos(u) + u, None), 1.0, w)[0],
}
NOT_CURVED = {
    "nothing": lambda z, w, X, y, c: jnp.sum((z - y) ** 4),
    "a term": lambda z, w, X, y, c: jnp.sum((z - y) ** 4) + jax.jit(jnp.vdot)(w, jnp.exp(c)) + 2 * w[3] - jnp.mean(w),
    "bends": lambda z, w, X, y, c: jnp.sum((z - y) ** 2) + jnp.sum(jnp.where(w > 0, c * w, 0)),
    "a scan": lambda z, w, X, y, c: (
        jax.lax.scan(lambda s, u: (s * 0.5 + u, None), 1.0, w)[0] + jax.lax.scan(lambda s, u: (s * u, None), 1.0, z)[0]
    ),
}


@pytest.mark.by_default("ridge", "a scan", "not nothing", "not a term", "not bends")
@pytest.mark.parametrize("kind", [*CURVED, *(f"not {kind}" for kind in NOT_CURVED)])
def test_blocks_are_those_of_the_whole_hessian(kind):
    X, y = regression(n=30, d=12)
    w, c = np.random.default_rng(4).normal(size=(2, 12))
    outer = CURVED[kind] if kind in CURVED else NOT_CURVED[kind.removeprefix("not ")]
    fun = dini.LinearComposite(outer, lambda X, y, c: X.T)
    args = X, y, c
    rows = np.array([7, 2, 3, 11])
    want = jax.hessian(lambda u: outer(X @ u, u, *args))(w)[np.ix_(rows, rows)]
    block = jax.jit(lambda w, rows: fun.hessian_block(w, rows, *args))(w, rows)
    np.testing.assert_allclose(block, want, rtol=1e-9, atol=1e-9 * np.abs(want).max())
    # where no more than a matrix product is needed, no more is done
    assert fun.curved(X @ w, w, *args) == (kind in CURVED)


def test_curvature_in_x_adds_to_the_rank():
    X, y = regression(n=5, d=12)
    assert LASSO.rank(jnp.zeros(12), X, y) == 5
    ridge = dini.LinearComposite(in_the_outer_function, lambda X, y, ridge: X.T)
    assert ridge.rank(jnp.zeros(12), X, y, 0.5) == 12


def test_rows_with_curvature_of_their_own():
    """Block coordinate descent on an array, ``z`` and ``x`` coupled, against the linear system."""
    rng = np.random.default_rng(6)
    A, B, Y = rng.normal(size=(6, 4)), 0.3 * rng.normal(size=(4, 6)), rng.normal(size=(4, 2))
    outer = lambda z, x, r: 0.5 * jnp.sum((z + B @ x - Y) ** 2) + 0.5 * r * jnp.sum(x**2)
    problem, solver = dini.Minimize(dini.LinearComposite(outer, lambda r: A)), dini.BlockCoordinateDescent(tol=1e-11)

    def fit(r):
        solution = dini.solve(problem, solver, jnp.zeros((6, 2)), r)
        return solution.x, (solution.x, solution.stats.steps)

    slope, (x, steps) = jax.jacfwd(fit, has_aux=True)(50.0)
    M = A.T + B
    system = M.T @ M + 50.0 * np.eye(6)
    want = np.linalg.solve(system, M.T @ Y)
    np.testing.assert_allclose(x, want, atol=1e-12)
    np.testing.assert_allclose(slope, -np.linalg.solve(system, want), atol=1e-12)
    # step sizes that knew nothing of the curvature in x took 155
    assert steps <= 20


def check_derivatives(size, strengths):
    """Compare the derivatives of Lasso solutions in their strengths with the closed form, forward and reverse."""
    X, y = regression(n=50, d=size)
    known = lambda problem, init, X, y: init

    def total(strength, found):
        problem = dini.Minimize(LASSO, penalty=dini.penalties.L1(strength))
        return jnp.sin(dini.solve(problem, known, found, X, y).x).sum()

    both = jax.jit(lambda s, w: (jax.jacfwd(total)(s, w), jax.jacrev(total)(s, w)))
    active = []
    for strength in strengths:
        w = Lasso(alpha=strength, fit_intercept=False, tol=1e-14, max_iter=100000).fit(X, y).coef_
        S = np.flatnonzero(w)
        slopes = -np.linalg.solve(X[:, S].T @ X[:, S] / len(y), np.sign(w[S]))
        np.testing.assert_allclose(both(strength, w), np.cos(w[S]) @ slopes, rtol=1e-6)
        active.append(len(S))
    return active


@pytest.mark.parametrize("size", [40, pytest.param(600, marks=pytest.mark.slow)])
def test_the_derivative_on_the_support_is_the_closed_form(size):
    check_derivatives(size, [0.3])


@pytest.mark.thorough
def test_a_support_that_is_too_large_is_left_to_conjugate_gradients(monkeypatch):
    monkeypatch.setattr("dini.conditions._support.LARGEST", 10)
    few, many = check_derivatives(40, [1.0, 0.01])
    assert few <= 10 < many


def test_the_smallest_size_that_holds_them_is_taken():
    for count, size in ((0, 2), (2, 2), (3, 4), (9, 8)):
        assert jax.jit(lambda n: dispatch([2, 4, 8], n, lambda k, x: x + k, 0))(count) == size


@pytest.mark.by_default("CoordinateDescent")
@pytest.mark.parametrize("solver", SOLVERS, ids=by_name)
def test_sparse_logistic_regression(solver):
    X, y = regression(n=80, d=30, seed=3)
    y = np.where(y > 0, 1.0, -1.0)
    problem = dini.Minimize(LOGISTIC, penalty=dini.penalties.L1(2.0))
    got = dini.solve(problem, solver, jnp.zeros(30), X, y).x
    # liblinear draws its order at random, and with a smaller tolerance 3 % of the orders never meet it
    model = LogisticRegression(
        l1_ratio=1.0, C=0.5, fit_intercept=False, solver="liblinear", tol=1e-9, max_iter=10_000, random_state=0
    )
    np.testing.assert_allclose(got, model.fit(X, y).coef_[0], atol=1e-7)


@pytest.mark.thorough
@pytest.mark.parametrize("solver", SOLVERS, ids=by_name)
def test_quadratic_program_on_a_box(solver):
    rng = np.random.default_rng(2)
    A = rng.normal(size=(40, 30))
    Q, c = A.T @ A / 40 + 0.01 * np.eye(30), rng.normal(size=30)
    lower = -rng.uniform(0.1, 1, 30)
    problem = dini.Minimize(dini.Quadratic(Q, c), constraint=dini.sets.Box(lower, 0.5))
    x = cp.Variable(30)
    cp.Problem(cp.Minimize(0.5 * cp.quad_form(x, cp.psd_wrap(Q)) + c @ x), [x >= lower, x <= 0.5]).solve(
        solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
    )
    got = dini.solve(problem, solver, jnp.zeros(30)).x
    np.testing.assert_allclose(got, x.value, atol=1e-6)


@pytest.mark.thorough
def test_kinks_that_are_not_at_zero_and_starts_outside():
    a, center = np.array([3.0, 0.2, -2.0]), np.array([1.0, -1.0, 0.5])
    distance = lambda x: 0.5 * jnp.sum((x - a) ** 2) + 0.2 * jnp.sum(x) ** 2
    shifted = dini.penalties.Shifted(dini.penalties.L1(1.0), jnp.asarray(center))
    inside = dini.penalties.Indicator(dini.sets.Box(-1.0, 0.5))
    x = cp.Variable(3)
    smooth = 0.5 * cp.sum_squares(x - a) + 0.2 * cp.square(cp.sum(x))
    for penalty, solver, model in (
        (shifted, dini.ProximalNewton(), cp.Problem(cp.Minimize(smooth + cp.norm1(x - center)))),
        (inside, dini.CoordinateDescent(), cp.Problem(cp.Minimize(smooth), [x >= -1, x <= 0.5])),
    ):
        model.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        got = dini.solve(dini.Minimize(distance, penalty=penalty), solver, jnp.full(3, 7.0)).x
        np.testing.assert_allclose(got, x.value, atol=1e-6)


def test_weights_and_trees():
    """An unknown of several arrays, and a penalty with a strength for each element."""
    a = {"u": jnp.array([3.0, 0.2, -2.0]), "v": jnp.array([[1.0], [-4.0]])}
    strength = {"u": jnp.array([1.0, 1.0, 3.0]), "v": jnp.array([[0.5], [1.0]])}
    distance = lambda x: 0.5 * sum(jnp.sum((x[k] - a[k]) ** 2) for k in x)
    problem = dini.Minimize(distance, penalty=dini.penalties.L1(strength))
    start = jax.tree.map(jnp.zeros_like, a)
    x = dini.solve(problem, dini.ProximalNewton(), start).x
    np.testing.assert_allclose(x["u"], [2.0, 0.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(x["v"], [[0.5], [-3.0]], atol=1e-7)


def test_parts_on_some_elements():
    x = jnp.arange(4.0)
    part = Elements.of(dini.Minimize(jnp.sum, penalty=dini.penalties.L1(jnp.array([1.0, 2.0, 3.0, 4.0]))), x)
    some = part.rows(jnp.array([3, 1]))
    np.testing.assert_allclose(some.prox(jnp.array([5.0, 5.0]), jnp.array([1.0, 0.5])), [1.0, 4.0])
    np.testing.assert_allclose(some.value(jnp.array([1.0, 1.0])), 6.0)
    assert sizes(128) == [128]
    assert sizes(129) == [129]
    assert sizes(192) == [128, 192]


def test_more_active_elements_than_the_largest_working_set():
    X, y = regression(n=60, d=40)
    problem = dini.Minimize(LASSO, penalty=dini.penalties.L1(0.01))
    want = Lasso(alpha=0.01, fit_intercept=False, tol=1e-12, max_iter=100000).fit(X, y).coef_
    assert np.sum(want != 0) > 16
    got = dini.solve(problem, dini.ProximalNewton(largest=16, max_steps=2000), jnp.zeros(40), X, y).x
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_nonconvex_penalty_reaches_a_stationary_point():
    X, y = regression(n=60, d=40)
    penalty = dini.penalties.MCP(0.5, 3.0)
    w = dini.solve(dini.Minimize(LASSO, penalty=penalty), dini.CoordinateDescent(), jnp.zeros(40), X, y).x
    gradient = X.T @ (X @ w - y) / len(y)
    inside = np.abs(gradient[w == 0])
    slope = np.sign(w) * np.maximum(0.5 - np.abs(w) / 3.0, 0)
    assert inside.max() <= 0.5 + 1e-7
    np.testing.assert_allclose((gradient + slope)[w != 0], 0, atol=1e-7)


def test_the_gram_form_is_the_same_problem():
    X, y = regression(n=60, d=20)
    quadratic = LASSO.quadratic(20, X, y)
    w, v = np.random.default_rng(1).normal(size=(2, 20))
    np.testing.assert_allclose(quadratic(w) - quadratic(v), LASSO(w, X, y) - LASSO(v, X, y), rtol=1e-10)
    np.testing.assert_allclose(quadratic.value_and_gradient(w)[1], jax.grad(LASSO)(w, X, y), atol=1e-10)
    with pytest.raises(ValueError, match="is not quadratic"):
        LOGISTIC.quadratic(20, X, y)


def test_the_gram_form_has_the_ridge_in_it():
    X, y = regression(n=60, d=20)
    ridge = dini.LinearComposite(in_the_outer_function, lambda X, y, ridge: X.T)
    np.testing.assert_allclose(ridge.quadratic(20, X, y, 0.3).matrix, X.T @ X / 60 + 0.3 * np.eye(20), atol=1e-12)
    quartic = dini.LinearComposite(lambda z, w, X: jnp.sum(z**2) + jnp.sum(w**4), lambda X: X.T)
    with pytest.raises(ValueError, match="is not quadratic"):
        quartic.quadratic(20, X)


def test_a_large_block_is_symmetric():
    X, y = regression(n=30, d=500)
    block = LASSO.hessian_block(jnp.zeros(500), jnp.arange(500), X, y)
    np.testing.assert_allclose(block, X.T @ X / 30, atol=1e-12)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("solver", SOLVERS, ids=by_name)
def test_damping_makes_a_curved_valley_descend(solver):
    """Nonconvex and smooth: a plain Newton model would go uphill."""
    rosenbrock = dini.Minimize(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    solver = dini.ProximalNewton() if solver.name == "ProximalNewton" else dini.CoordinateDescent(max_steps=2000)
    x = dini.solve(rosenbrock, solver, jnp.array([-1.2, 1.0])).x
    np.testing.assert_allclose(x, scipy.optimize.rosen_der(np.ones(2)) + 1, atol=1e-5)


def test_what_does_not_fit_is_refused():
    x, distance = jnp.zeros(3), lambda x: jnp.sum(x**2)
    for part in ({"constraint": dini.sets.Simplex()}, {"penalty": dini.penalties.GroupLasso(1.0)}):
        with pytest.raises(ValueError, match="acts on each element alone"):
            dini.solve(dini.Minimize(distance, **part), dini.ProximalNewton(), x)
    with pytest.raises(ValueError, match="needs a convex penalty: MCP"):
        dini.solve(dini.Minimize(distance, penalty=dini.penalties.MCP(1.0, 3.0)), dini.ProximalNewton(), x)
    with pytest.raises(ValueError, match="a matrix of shape"):
        dini.solve(dini.Minimize(dini.Quadratic(jnp.eye(2), jnp.zeros(3))), dini.ProximalNewton(), x)
