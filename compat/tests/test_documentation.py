"""The examples of JAXopt's documentation, in our own words, through the shim: with results known from elsewhere."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.svm import SVC

import dini_jaxopt as jaxopt
from dini_jaxopt import implicit_diff, linear_solve, loss, objective, projection, prox

RNG = np.random.default_rng(0)
X, y = RNG.normal(size=(30, 4)), RNG.normal(size=30) + 1.0
CLASSES = RNG.integers(0, 3, size=30)


def test_constrained_quadratic_program():
    """By hand: on the line x1 + x2 = 1, the smallest of 2 x1^2 + x2^2 + x1 x2 + x1 + x2 is at (1/4, 3/4)."""
    Q, c = 2 * jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, 1.0])
    A, b, G, h = jnp.array([[1.0, 1.0]]), jnp.array([1.0]), -jnp.eye(2), jnp.zeros(2)
    for solver in (jaxopt.OSQP(tol=1e-6), jaxopt.CvxpyQP(solver="OSQP")):
        solution = solver.run(None, params_obj=(Q, c), params_eq=(A, b), params_ineq=(G, h)).params
        np.testing.assert_allclose(solution.primal, [0.25, 0.75], atol=1e-8)
        np.testing.assert_allclose(solution.dual_eq, [-2.75], atol=1e-8)
        np.testing.assert_allclose(solution.dual_ineq, [0, 0], atol=1e-8)
    alone = jaxopt.EqualityConstrainedQP().run(params_obj=(Q, c), params_eq=(A, b)).params
    np.testing.assert_allclose(alone.primal, [0.25, 0.75], atol=1e-10)


def test_non_negative_least_squares():
    solver = jaxopt.ProjectedGradient(
        fun=objective.least_squares, projection=projection.projection_non_negative, tol=1e-9
    )
    solution = solver.run(jnp.zeros(4), data=(X, y)).params
    np.testing.assert_allclose(solution, scipy.optimize.nnls(X, y)[0], atol=1e-7)


def test_lasso_and_its_strength():
    """scikit-learn's coefficients; the derivative in the strength is that of the equations on the support."""
    solver = jaxopt.ProximalGradient(fun=objective.least_squares, prox=prox.prox_lasso, tol=1e-9, maxiter=2000)
    fit = lambda strength: solver.run(jnp.zeros(4), hyperparams_prox=strength, data=(X, y)).params
    w, slope = jax.jvp(fit, (0.3,), (1.0,))
    np.testing.assert_allclose(
        w, Lasso(alpha=0.3, fit_intercept=False, tol=1e-14, max_iter=10**5).fit(X, y).coef_, atol=1e-7
    )
    held = np.asarray(w) != 0
    assert 0 < held.sum() < 4
    expected = np.zeros(4)
    expected[held] = -np.linalg.solve(X[:, held].T @ X[:, held] / 30, np.sign(w[held]))
    np.testing.assert_allclose(slope, expected, atol=1e-6)
    coordinates = jaxopt.BlockCoordinateDescent(fun=objective.least_squares, block_prox=prox.prox_lasso, tol=1e-9)
    np.testing.assert_allclose(coordinates.run(jnp.zeros(4), hyperparams_prox=0.3, data=(X, y)).params, w, atol=1e-7)


def test_ridge_hypergradients():
    """A solver of scikit-learn's kind, given its optimality condition; and a solver's own implicit derivative."""
    gram, right = X.T @ X / 30, X.T @ y / 30
    closed = lambda strength: jnp.linalg.solve(gram + strength * jnp.eye(4), right)

    @implicit_diff.custom_root(jax.grad(objective.ridge_regression))
    def by_numpy(init, strength, data):
        rows, target = (np.asarray(part) for part in data)
        left = rows.T @ rows + len(rows) * float(strength) * np.eye(4)
        return jnp.asarray(np.linalg.solve(left, rows.T @ target))

    held_out = lambda w: jnp.sum((X[:5] @ w - y[:5]) ** 2)
    truth = jax.grad(lambda s: held_out(closed(s)))(0.5)
    np.testing.assert_allclose(jax.grad(lambda s: held_out(by_numpy(None, s, (X, y))))(0.5), truth, rtol=1e-9)
    for solve in (None, linear_solve.solve_cg, linear_solve.solve_cholesky, linear_solve.solve_normal_cg):
        solver = jaxopt.LBFGS(objective.ridge_regression, tol=1e-10, implicit_diff_solve=solve)
        gradient = jax.grad(lambda s, solver=solver: held_out(solver.run(jnp.zeros(4), l2reg=s, data=(X, y)).params))(
            0.5
        )
        np.testing.assert_allclose(gradient, truth, rtol=1e-6)


def test_multiclass_support_vector_machine():
    """Both methods close the duality gap of the primal problem."""
    hot, strength = np.eye(3)[CLASSES], 5.0
    data = (jnp.asarray(X), jnp.asarray(hot))
    start = jnp.full((30, 3), 1 / 3)

    def primal(beta):
        W = X.T @ (hot - beta) / strength
        return np.sum(np.max(X @ W + 1 - hot, 1) - np.sum(X @ W * hot, 1)) + 0.5 * strength * np.sum(W**2)

    rows = jax.vmap(projection.projection_simplex)
    gradient = jaxopt.ProjectedGradient(
        objective.multiclass_linear_svm_dual, lambda x, _: rows(x), maxiter=3000, tol=1e-8
    )
    blocks = jaxopt.BlockCoordinateDescent(
        objective.multiclass_linear_svm_dual,
        block_prox=prox.make_prox_from_projection(projection.projection_simplex),
        maxiter=3000,
        tol=1e-8,
    )
    for solver, hyperparams in ((gradient, {}), (blocks, {"hyperparams_prox": 1.0})):
        beta = np.asarray(solver.run(start, **hyperparams, l2reg=strength, data=data).params)
        dual = -float(objective.multiclass_linear_svm_dual(beta, strength, data))
        np.testing.assert_allclose(beta.sum(1), 1)
        assert abs(primal(beta) - dual) <= 1e-5 * abs(dual)


def test_kernel_support_vector_machine_with_intercept():
    """The dual over a section of a box, by projected gradients and as a program: scikit-learn's coefficients."""
    labels, C = np.where(CLASSES > 0, 1.0, -1.0), 2.0
    distances = np.sum((X[:, None] - X[None]) ** 2, axis=-1)
    K = np.exp(-0.3 * distances)
    machine = SVC(C=C, kernel="precomputed", tol=1e-9).fit(K, labels)
    expected = np.zeros(30)
    expected[machine.support_] = machine.dual_coef_[0]
    # with beta = alpha * label, the constraint is sum(beta) = 0
    low, high = np.where(labels > 0, 0, -C), np.where(labels > 0, C, 0)
    fun = lambda beta: 0.5 * beta @ (K @ beta) - beta @ labels
    section = (jnp.asarray(low), jnp.asarray(high), jnp.ones(30), 0.0)
    solver = jaxopt.ProjectedGradient(fun, projection.projection_box_section, tol=1e-8, maxiter=5000)
    beta = solver.run(jnp.zeros(30), hyperparams_proj=section).params
    np.testing.assert_allclose(beta, expected, atol=1e-5)
    rows, bounds = np.concatenate([np.ones((1, 30)), np.eye(30)]), [np.append(0.0, end) for end in (low, high)]
    program = jaxopt.BoxOSQP().run(None, (jnp.asarray(K), -labels), jnp.asarray(rows), tuple(map(jnp.asarray, bounds)))
    np.testing.assert_allclose(program.params.primal[0], expected, atol=1e-6)


def test_dictionary_learning():
    """The codes are scikit-learn's, and the loss has a gradient in the atoms through them."""
    data, atoms = RNG.normal(size=(6, 5)), RNG.normal(size=(3, 5))
    strength = 0.5

    def reconstruction(codes, atoms):
        return 0.5 * jnp.sum((data - codes @ atoms) ** 2)

    solver = jaxopt.ProximalGradient(reconstruction, prox.prox_lasso, tol=1e-10, maxiter=3000)
    encode = lambda atoms: solver.run(jnp.zeros((6, 3)), strength, atoms).params
    codes = encode(jnp.asarray(atoms))
    np.testing.assert_allclose(
        codes, sparse_encode(data, atoms, algorithm="lasso_cd", alpha=strength, max_iter=10**4), atol=1e-3
    )
    task = lambda atoms: jnp.sum(jnp.tanh(encode(atoms)))
    slope, move = jax.grad(task)(jnp.asarray(atoms)), RNG.normal(size=atoms.shape)
    difference = (task(atoms + 1e-5 * move) - task(atoms - 1e-5 * move)) / 2e-5
    np.testing.assert_allclose(np.vdot(slope, move), difference, rtol=1e-5)


def test_non_negative_matrix_factorization():
    """Alternating programs: each half is SciPy's non-negative least squares, and the error never rises."""
    V = RNG.random((6, 2)) @ RNG.random((2, 5))
    W = jnp.asarray(RNG.random((6, 2)) + 0.1)
    solver = jaxopt.OSQP()

    @jax.jit
    def best(W, V):
        """Return the nonnegative H with the least squares of V - W H, a program for each column."""
        one = lambda v: solver.run(None, (W.T @ W, -W.T @ v), None, (-jnp.eye(2), jnp.zeros(2))).params.primal
        return jax.vmap(one, 1, 1)(V)

    errors = []
    for _ in range(40):
        H = best(W, V)
        if not errors:
            exact = np.stack([scipy.optimize.nnls(np.asarray(W), v)[0] for v in V.T], 1)
            np.testing.assert_allclose(H, exact, atol=1e-8)
        W = best(H.T, V.T).T
        errors.append(float(jnp.linalg.norm(V - W @ H)))
    assert np.all(np.diff(errors) <= 1e-10)
    assert errors[-1] < 0.05 * errors[0]


def test_fixed_points_and_anderson():
    T = lambda x, theta: jnp.cos(x) + theta
    for solver in (
        jaxopt.FixedPointIteration(T, maxiter=500, tol=1e-10),
        jaxopt.AndersonAcceleration(T, history_size=5, tol=1e-10),
    ):
        x, slope = jax.value_and_grad(lambda theta, s=solver: s.run(jnp.zeros(()), theta).params)(0.5)
        np.testing.assert_allclose(x, np.cos(x) + 0.5, atol=1e-9)
        np.testing.assert_allclose(slope, 1 / (1 + np.sin(x)), rtol=1e-7)


def test_anderson_around_coordinate_descent():
    plain = jaxopt.BlockCoordinateDescent(objective.least_squares, block_prox=prox.prox_lasso, maxiter=500, tol=1e-8)
    around = jaxopt.AndersonWrapper(solver=plain, history_size=3)
    w = around.run(jnp.zeros(4), hyperparams_prox=0.3, data=(X, y)).params
    np.testing.assert_allclose(
        w, Lasso(alpha=0.3, fit_intercept=False, tol=1e-14, max_iter=10**5).fit(X, y).coef_, atol=1e-6
    )


def test_deep_equilibrium():
    """A layer that is its own fixed point: its gradient is that of very many layers."""
    W, U = 0.3 * RNG.normal(size=(5, 5)), RNG.normal(size=(4, 5))
    layer = lambda z, W: jnp.tanh(z @ W + X[:6] @ U)
    solver = jaxopt.AndersonAcceleration(layer, history_size=4, tol=1e-10, implicit_diff=True)
    implicit = jax.grad(lambda W: jnp.sum(solver.run(jnp.zeros((6, 5)), W).params ** 2))(jnp.asarray(W))
    many = lambda W: jax.lax.fori_loop(0, 200, lambda _, z: layer(z, W), jnp.zeros((6, 5)))
    np.testing.assert_allclose(implicit, jax.grad(lambda W: jnp.sum(many(W) ** 2))(jnp.asarray(W)), atol=1e-7)


def test_line_search():
    """The step meets the two inequalities of Wolfe."""
    fun = lambda w, data: objective.binary_logreg(w, data)
    data = (X, CLASSES % 2)
    w, gradient = jnp.zeros(4), jax.grad(fun)(jnp.zeros(4), data)
    search = jaxopt.BacktrackingLineSearch(fun=fun, maxiter=20, condition="strong-wolfe", decrease_factor=0.8)
    step = search.run(init_stepsize=1.0, params=w, fun_kwargs={"data": data})
    new = w - step.stepsize * gradient
    slope = -gradient @ gradient
    assert fun(new, data) <= fun(w, data) + 1e-4 * step.stepsize * slope
    assert abs(jax.grad(fun)(new, data) @ -gradient) <= 0.9 * abs(slope)


def test_roots():
    F = lambda x, a: x**3 - x - a
    for solver in (jaxopt.Bisection(F, lower=1.0, upper=2.0, tol=1e-10, maxiter=100), jaxopt.Broyden(F, tol=1e-10)):
        x, slope = jax.value_and_grad(lambda a, s=solver: s.run(jnp.asarray(1.5), a).params)(2.0)
        np.testing.assert_allclose(x, scipy.optimize.brentq(lambda x: x**3 - x - 2, 1, 2), rtol=1e-8)
        np.testing.assert_allclose(slope, 1 / (3 * x**2 - 1), rtol=1e-6)


def test_nonlinear_least_squares():
    rosenbrock = lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])
    for solver in (jaxopt.GaussNewton(rosenbrock), jaxopt.LevenbergMarquardt(rosenbrock, tol=1e-6)):
        np.testing.assert_allclose(solver.run(jnp.array([-1.2, 1.0])).params, [1, 1], atol=1e-3)


def test_unconstrained_minimization():
    """L-BFGS, gradient descent and SciPy's wrappers on a logistic regression: scikit-learn's coefficients."""
    model = LogisticRegression(C=1 / (30 * 0.1), fit_intercept=False, tol=1e-12, max_iter=10**4).fit(X, CLASSES)
    centered = lambda W: W - W.mean(axis=1, keepdims=True)  # an equal shift of all classes changes nothing but the norm
    data = (X, CLASSES)
    for solver in (
        jaxopt.LBFGS(objective.l2_multiclass_logreg, tol=1e-8),
        jaxopt.GradientDescent(objective.l2_multiclass_logreg, tol=1e-8, maxiter=2000),
        jaxopt.ScipyMinimize(fun=objective.l2_multiclass_logreg, method="l-bfgs-b", tol=1e-10),
    ):
        W = solver.run(jnp.zeros((4, 3)), l2reg=0.1, data=data).params
        np.testing.assert_allclose(centered(W), centered(model.coef_.T), atol=2e-4)


def test_bounds():
    fun = lambda w, data: objective.ridge_regression(w, 0.1, data)
    low, high = -0.05 * jnp.ones(4), 0.05 * jnp.ones(4)
    truth = scipy.optimize.lsq_linear(
        np.concatenate([X / np.sqrt(30), np.sqrt(0.1) * np.eye(4)]),
        np.concatenate([y / np.sqrt(30), np.zeros(4)]),
        (low, high),
        tol=1e-14,
    ).x
    for solver in (jaxopt.LBFGSB(fun, tol=1e-8), jaxopt.ScipyBoundedMinimize(fun=fun, method="l-bfgs-b", tol=1e-12)):
        np.testing.assert_allclose(solver.run(jnp.zeros(4), bounds=(low, high), data=(X, y)).params, truth, atol=1e-5)
    box = jaxopt.ProjectedGradient(fun, projection.projection_box, tol=1e-8)
    np.testing.assert_allclose(
        box.run(jnp.zeros(4), hyperparams_proj=(low, high), data=(X, y)).params, truth, atol=1e-6
    )


@pytest.mark.parametrize("name", ["adam", "PolyakSGD", "ArmijoSGD"])
def test_stochastic_solvers(name):
    """Batches from an iterator, on data that a linear model fits exactly: all of them find it."""
    w = np.array([1.0, -2.0, 0.5, 3.0])
    order = np.random.default_rng(1)
    batches = ((X[rows], X[rows] @ w) for rows in (order.integers(0, 30, 10) for _ in itertools.count()))
    fun = objective.least_squares
    solver = {
        "adam": lambda: jaxopt.OptaxSolver(fun=fun, opt=optax.adam(0.1), maxiter=300, tol=0),
        "PolyakSGD": lambda: jaxopt.PolyakSGD(fun=fun, maxiter=300, tol=0),
        "ArmijoSGD": lambda: jaxopt.ArmijoSGD(fun=fun, maxiter=300, tol=0),
    }[name]()
    params, state = solver.run_iterator(jnp.zeros(4), batches)
    np.testing.assert_allclose(params, w, atol=0.02)
    assert state.iter_num == 300


def test_a_small_network():
    """A residual network's training in small: a loss with running statistics as auxiliary output, steps by hand."""
    labels = (X[:, 0] * X[:, 1] > 0).astype(int)
    keys = jax.random.split(jax.random.key(0), 3)
    params = [
        0.5 * jax.random.normal(key, shape) for key, shape in zip(keys, ((4, 16), (16, 16), (16, 2)), strict=True)
    ]

    def fun(params, l2reg, data, statistics):
        rows, target = data
        hidden = jnp.tanh(rows @ params[0])
        hidden = hidden + jnp.tanh(hidden @ params[1])  # the residual
        statistics = 0.9 * statistics + 0.1 * hidden.mean(axis=0)
        value = jnp.mean(jax.vmap(loss.multiclass_logistic_loss)(target, hidden @ params[2]))
        return value + 0.5 * l2reg * sum(jnp.sum(W**2) for W in params), statistics

    solver = jaxopt.ArmijoSGD(fun=fun, has_aux=True, maxiter=400, tol=0)
    data, statistics = (X, labels), jnp.zeros(16)
    state, update = solver.init_state(params, l2reg=1e-4, data=data, statistics=statistics), jax.jit(solver.update)
    first = fun(params, 1e-4, data, statistics)[0]
    for _ in range(300):
        params, state = update(params, state, l2reg=1e-4, data=data, statistics=statistics)
        statistics = state.aux
    assert statistics.shape == (16,)
    assert fun(params, 1e-4, data, statistics)[0] < 0.2 * first


def test_implicit_meta_learning():
    """A task's fit stays near a start; the gradient of its loss in that start is known for a regression."""
    inner = lambda w, start: objective.least_squares(w, (X[:20], y[:20])) + 0.5 * jnp.sum((w - start) ** 2)
    outer = lambda w: objective.least_squares(w, (X[20:], y[20:]))
    solver = jaxopt.LBFGS(inner, tol=1e-9, implicit_diff_solve=linear_solve.solve_cg)
    start = jnp.asarray(RNG.normal(size=4))
    gradient = jax.grad(lambda start: outer(solver.run(jnp.zeros(4), start).params))(start)
    H = X[:20].T @ X[:20] / 20 + np.eye(4)
    w = np.linalg.solve(H, X[:20].T @ y[:20] / 20 + start)
    np.testing.assert_allclose(gradient, np.linalg.solve(H, jax.grad(outer)(jnp.asarray(w))), rtol=1e-6)


def test_distillation():
    """One example a class that teaches a logistic regression: the gradient in the examples, by differences."""
    inner = lambda W, images: objective.l2_multiclass_logreg(W, 0.1, (images, jnp.arange(3)))
    solver = jaxopt.LBFGS(inner, tol=1e-10)
    outer = lambda images: objective.multiclass_logreg(solver.run(jnp.zeros((4, 3)), images).params, (X, CLASSES))
    images, move = jnp.asarray(RNG.normal(size=(3, 4))), RNG.normal(size=(3, 4))
    slope = jax.grad(outer)(images)
    difference = (outer(images + 1e-5 * move) - outer(images - 1e-5 * move)) / 2e-5
    np.testing.assert_allclose(np.vdot(slope, move), difference, rtol=1e-5)
