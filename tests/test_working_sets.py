"""Coordinate descent and proximal Newton on working sets, against scikit-learn, CVXPY and the closed form."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression

import dini
from dini.working_sets import Elements, sizes

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


@pytest.mark.parametrize("solver", SOLVERS, ids=by_name)
def test_lasso_path_against_scikit_learn(solver):
    X, y = regression()
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


@pytest.mark.parametrize("solver", SOLVERS, ids=by_name)
def test_elastic_net_and_its_gradient(solver):
    X, y = regression(n=40, d=30)

    def fit(strengths):
        lasso, ridge = strengths
        penalty = dini.penalties.ElasticNet(lasso, ridge / lasso)
        return dini.solve(dini.Minimize(LASSO, penalty=penalty), solver, jnp.zeros(30), X, y).x

    strengths = jnp.array([0.2, 0.1])
    want = ElasticNet(alpha=0.3, l1_ratio=0.2 / 0.3, fit_intercept=False, tol=1e-13, max_iter=100000).fit(X, y).coef_
    np.testing.assert_allclose(fit(strengths), want, atol=1e-6)
    S = np.flatnonzero(want)
    H = X[:, S].T @ X[:, S] / len(y) + 0.1 * np.eye(len(S))
    closed = np.zeros((30, 2))
    closed[S] = -np.linalg.solve(H, np.stack([np.sign(want[S]), want[S]], axis=1))
    np.testing.assert_allclose(jax.jit(jax.jacrev(fit))(strengths), closed, atol=1e-6)


def test_gradients_in_the_data_by_finite_differences():
    X, y = regression(n=20, d=12)
    problem = dini.Minimize(LASSO, penalty=dini.penalties.L1(0.3))
    total = jax.jit(
        lambda X, y: jnp.sum(jnp.cos(dini.solve(problem, dini.ProximalNewton(tol=1e-12), jnp.zeros(12), X, y).x))
    )
    got = jax.jit(jax.grad(total, argnums=(0, 1)))(X, y)
    rng = np.random.default_rng(1)
    dX, dy = rng.normal(size=X.shape), rng.normal(size=y.shape)
    step = 1e-6
    want = (total(X + step * dX, y + step * dy) - total(X - step * dX, y - step * dy)) / (2 * step)
    np.testing.assert_allclose(np.sum(got[0] * dX) + np.sum(got[1] * dy), want, rtol=1e-5)


def test_the_derivative_on_the_support_is_that_of_the_whole_system():
    """More elements than a derivative factorizes whole: by the support, and by conjugate gradients."""
    X, y = regression(n=50, d=600)

    def fit(strength, linear_solver):
        problem = dini.Minimize(LASSO, penalty=dini.penalties.L1(strength))
        how = dini.Implicit(linear_solver=linear_solver)
        return dini.solve(problem, dini.ProximalNewton(), jnp.zeros(600), X, y, differentiation=how).x

    for direction in (jax.jacfwd, jax.jacrev):
        got, want = (
            jax.jit(direction(lambda s, how=how: jnp.sin(fit(s, how)).sum()))(0.3) for how in (None, dini.linear.CG())
        )
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS, ids=by_name)
def test_sparse_logistic_regression(solver):
    X, y = regression(n=80, d=30, seed=3)
    y = np.where(y > 0, 1.0, -1.0)
    problem = dini.Minimize(LOGISTIC, penalty=dini.penalties.L1(2.0))
    got = dini.solve(problem, solver, jnp.zeros(30), X, y).x
    model = LogisticRegression(l1_ratio=1.0, C=0.5, fit_intercept=False, solver="liblinear", tol=1e-12, max_iter=10000)
    np.testing.assert_allclose(got, model.fit(X, y).coef_[0], atol=1e-5)


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


def test_kinks_that_are_not_at_zero_and_starts_outside():
    a = jnp.array([3.0, 0.2, -2.0])
    distance = lambda x: 0.5 * jnp.sum((x - a) ** 2) + 0.2 * jnp.sum(x) ** 2
    shifted = dini.penalties.Shifted(dini.penalties.L1(1.0), jnp.array([1.0, -1.0, 0.5]))
    inside = dini.penalties.Indicator(dini.sets.Box(-1.0, 0.5))
    for part in ({"penalty": shifted}, {"penalty": inside}, {"constraint": dini.sets.Box(-1.0, 0.5)}):
        problem = dini.Minimize(distance, **part)
        want = dini.solve(problem, dini.ProximalGradient(tol=1e-11), jnp.zeros(3)).x
        for solver in SOLVERS:
            np.testing.assert_allclose(dini.solve(problem, solver, jnp.full(3, 7.0)).x, want, atol=1e-8)


def test_weights_and_trees():
    """An unknown of several arrays, and a penalty with a strength for each element."""
    a = {"u": jnp.array([3.0, 0.2, -2.0]), "v": jnp.array([[1.0], [-4.0]])}
    strength = {"u": jnp.array([1.0, 1.0, 3.0]), "v": jnp.array([[0.5], [1.0]])}
    distance = lambda x: 0.5 * sum(jnp.sum((x[k] - a[k]) ** 2) for k in x)
    problem = dini.Minimize(distance, penalty=dini.penalties.L1(strength))
    start = jax.tree.map(jnp.zeros_like, a)
    for solver in SOLVERS:
        x = dini.solve(problem, solver, start).x
        np.testing.assert_allclose(x["u"], [2.0, 0.0, 0.0], atol=1e-7)
        np.testing.assert_allclose(x["v"], [[0.5], [-3.0]], atol=1e-7)


def test_parts_on_some_elements():
    x = jnp.arange(4.0)
    part = Elements.of(dini.Minimize(jnp.sum, penalty=dini.penalties.L1(jnp.array([1.0, 2.0, 3.0, 4.0]))), x)
    some = part.rows(jnp.array([3, 1]))
    np.testing.assert_allclose(some.prox(jnp.array([5.0, 5.0]), jnp.array([1.0, 0.5])), [1.0, 4.0])
    np.testing.assert_allclose(some.value(jnp.array([1.0, 1.0])), 6.0)
    assert sizes(128) == [128]
    assert sizes(129) == [128, 129]


def test_more_active_elements_than_the_largest_working_set():
    X, y = regression(n=60, d=40)
    problem = dini.Minimize(LASSO, penalty=dini.penalties.L1(0.01))
    want = dini.solve(problem, dini.ProximalNewton(), jnp.zeros(40), X, y).x
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
    penalty = dini.penalties.L1(0.2)
    got = dini.solve(dini.Minimize(LASSO.quadratic(20, X, y), penalty=penalty), dini.ProximalNewton(), jnp.zeros(20)).x
    want = dini.solve(dini.Minimize(LASSO, penalty=penalty), dini.ProximalNewton(), jnp.zeros(20), X, y).x
    np.testing.assert_allclose(got, want, atol=1e-9)
    with pytest.raises(ValueError, match="is not quadratic"):
        LOGISTIC.quadratic(20, X, y)


def test_a_large_block_is_symmetric():
    X, y = regression(n=30, d=500)
    block = LASSO.hessian_block(jnp.zeros(500), jnp.arange(500), X, y)
    np.testing.assert_allclose(block, X.T @ X / 30, atol=1e-12)


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
        with pytest.raises(ValueError, match="each element on its own"):
            dini.solve(dini.Minimize(distance, **part), dini.ProximalNewton(), x)
    with pytest.raises(ValueError, match="needs a convex penalty: MCP"):
        dini.solve(dini.Minimize(distance, penalty=dini.penalties.MCP(1.0, 3.0)), dini.ProximalNewton(), x)
    with pytest.raises(ValueError, match="a matrix of shape"):
        dini.solve(dini.Minimize(dini.Quadratic(jnp.eye(2), jnp.zeros(3))), dini.ProximalNewton(), x)
