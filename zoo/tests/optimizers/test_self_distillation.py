"""Self-distillation: every step against powers and solves, weights against grids, derivatives against differences."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met
from sklearn.kernel_ridge import KernelRidge

import dini
from dini_zoo.optimizers.self_distillation import (
    BestOnValidation,
    SelfDistillation,
    baselines,
    distill,
    distillation_targets,
    gaussian_kernel,
    kernel_ridge_fit,
    limit,
    limit_by_iteration,
    loop,
    mixing,
    optimal_mixing_weight,
    ridge,
    spectral,
    squared_distances,
    tuning,
)
from dini_zoo.optimizers.self_distillation.experiment import experiment

N, C, RIDGE = 12, 2, 0.3
PRECISE = dini.FixedPointIteration(rtol=0.0, atol=1e-13, max_steps=1000)


class Data:
    """A kernel between random points, targets, held-out points."""

    def __init__(self, seed=0):
        random = np.random.RandomState(seed)
        self.X, self.X_val = random.randn(N, 3), random.randn(7, 3)
        self.Y, self.Y_val = random.randn(N, C), random.randn(7, C)
        self.alphas = random.rand(5)
        self.weights = random.rand(N) + 0.5
        self.K, self.K_val = self.kernels(0.4)
        self.A = self.K @ np.linalg.inv(self.K + RIDGE * np.eye(N))

    def kernels(self, gamma):
        distances = lambda X: ((X[:, None] - self.X) ** 2).sum(axis=-1)
        return np.exp(-gamma * distances(self.X)), np.exp(-gamma * distances(self.X_val))


@pytest.fixture(scope="module")
def data():
    return Data()


@pytest.fixture(scope="module")
def model(data):
    with jax.enable_x64(True):
        return SelfDistillation.from_kernel(data.K, data.Y, RIDGE)


def powers(A, alphas, t):
    """The matrix of step `t` by the formula in powers; `alphas[i - 2]` is that of step `i`."""
    rest = lambda i: np.prod(1 - alphas[i - 1 : t - 1])
    whole = rest(1) * np.linalg.matrix_power(A, t)
    for i in range(2, t + 1):
        whole = whole + alphas[i - 2] * rest(i) * np.linalg.matrix_power(A, t - i + 1)
    return whole


# kernel ridge regression


def test_the_fit_is_that_of_scikit_learn(data):
    fit = kernel_ridge_fit(data.K, data.Y, RIDGE)
    peer = KernelRidge(alpha=RIDGE, kernel="precomputed").fit(data.K, data.Y)
    np.testing.assert_allclose(fit.predict(data.K_val), peer.predict(data.K_val), rtol=1e-9)
    np.testing.assert_allclose(fit.fitted, data.A @ data.Y, rtol=1e-9)
    weighted = kernel_ridge_fit(data.K, data.Y[:, 0], RIDGE, data.weights)
    peer = KernelRidge(alpha=RIDGE, kernel="precomputed").fit(data.K, data.Y[:, 0], sample_weight=data.weights)
    np.testing.assert_allclose(weighted.predict(data.K_val), peer.predict(data.K_val), rtol=1e-9)


def test_an_iterative_solver_gives_the_same_fit(data):
    iterative = kernel_ridge_fit(data.K, data.Y, RIDGE, linear_solver=dini.linear.CG(rtol=1e-13))
    np.testing.assert_allclose(iterative.fitted, data.A @ data.Y, rtol=1e-9)


def test_the_gaussian_kernel(data):
    K, K_val = data.kernels(0.4)
    np.testing.assert_allclose(gaussian_kernel(data.X_val, data.X, 0.4), K_val, rtol=1e-12)
    np.testing.assert_allclose(gaussian_kernel(data.X, data.X, 0.4), K, rtol=1e-12)
    far = squared_distances(data.X + 1e6, data.X + 1e6)  # what is far from the origin cancels no more
    np.testing.assert_allclose(far, squared_distances(data.X, data.X), atol=1e-8)


# the steps


def test_steps_by_recursion_by_powers_and_by_the_spectrum_agree(data, model):
    steps = model.steps(data.alphas)
    factors = np.asarray(model.spectral_filter(data.alphas))
    d, V = np.linalg.eigh(data.K)
    np.testing.assert_allclose(model.eigenvalues, d[::-1], rtol=1e-10)
    for t in range(1, len(data.alphas) + 2):
        exact = powers(data.A, data.alphas, t) @ data.Y
        np.testing.assert_allclose(steps.fitted[t - 1], exact, atol=1e-10)
        np.testing.assert_allclose(V[:, ::-1] @ np.diag(factors[t - 1]) @ V[:, ::-1].T @ data.Y, exact, atol=1e-10)
        np.testing.assert_allclose(data.K @ steps.dual_coef[t - 1], exact, atol=1e-10)
    before = np.concatenate([steps.fitted[:1], steps.fitted[:-1]])
    share = np.r_[1.0, data.alphas][:, None, None]
    np.testing.assert_allclose(steps.targets, share * data.Y + (1 - share) * before, atol=1e-12)
    np.testing.assert_allclose(model.targets(data.alphas), steps.targets)
    np.testing.assert_allclose(model.predict(data.K_val, data.alphas, 3), data.K_val @ steps.dual_coef[2])
    np.testing.assert_allclose(model.predict(data.K_val, data.alphas), data.K_val @ steps.dual_coef[-1])


def test_weighted_steps_are_weighted_fits_one_after_another(data):
    model = SelfDistillation.from_kernel(data.K, data.Y, RIDGE, data.weights)
    steps = model.steps(data.alphas[:2])
    fitted, R = data.Y, np.diag(np.sqrt(data.weights))
    M = R @ np.linalg.inv(R @ data.K @ R + RIDGE * np.eye(N)) @ R
    for t, alpha in enumerate((1.0, *data.alphas[:2])):
        fitted = data.K @ M @ (alpha * data.Y + (1 - alpha) * fitted)
        np.testing.assert_allclose(steps.fitted[t], fitted, atol=1e-10)
    limit = np.linalg.inv(np.linalg.inv(data.K @ M) - 0.7 * np.eye(N)) * 0.3 @ data.Y
    np.testing.assert_allclose(model.limit(0.3).fitted, limit, atol=1e-8)


def test_the_limit_is_a_larger_ridge(data, model):
    exact = data.K @ np.linalg.solve(data.K + RIDGE / 0.3 * np.eye(N), data.Y)
    np.testing.assert_allclose(model.limit(0.3).fitted, exact, atol=1e-12)
    np.testing.assert_allclose(model.steps(np.full(199, 0.3)).fitted[-1], exact, atol=1e-9)
    np.testing.assert_allclose(model.limit(1.0).fitted, data.A @ data.Y, atol=1e-12)
    # the factor of the linear convergence
    gaps = np.linalg.norm(model.steps(np.full(30, 0.3)).fitted - exact, axis=(1, 2))
    d = float(model.eigenvalues[0])
    assert gaps[-1] / gaps[-2] == pytest.approx(0.7 * d / (d + RIDGE), rel=1e-3)


def test_without_ground_truth_the_limit_is_zero_and_with_it_alone_nothing_changes(data, model):
    assert not np.any(model.limit(0.0).dual_coef)
    assert np.all(np.isfinite(jax.grad(lambda alpha: model.limit(alpha).fitted.sum())(0.0)))
    steps = model.steps(np.ones(3))
    assert np.array_equal(steps.fitted, np.broadcast_to(steps.fitted[0], steps.fitted.shape))


def test_distillation_makes_the_spectrum_sparser(data, model):
    ratio = lambda b: np.asarray(b[:, :-1] / b[:, 1:])
    mixed, truth, none = (ratio(model.spectral_filter(alphas)) for alphas in (data.alphas, np.ones(4), np.zeros(4)))
    assert np.all(mixed >= mixed[0] * (1 - 1e-12))
    assert np.all(mixed[1] > mixed[0])
    np.testing.assert_allclose(truth, np.broadcast_to(truth[0], truth.shape), rtol=1e-12)
    np.testing.assert_allclose(none, none[0] ** np.arange(1, 6)[:, None], rtol=1e-9)


def test_the_order_of_the_data_and_a_rotation_of_the_outputs_make_no_difference(data, model):
    order = np.random.RandomState(1).permutation(N)
    Q = np.linalg.qr(np.random.RandomState(2).randn(C, C))[0]
    other = SelfDistillation.from_kernel(data.K[order][:, order], data.Y[order] @ Q, RIDGE)
    fitted = model.steps(data.alphas).fitted[:, order] @ Q
    np.testing.assert_allclose(other.steps(data.alphas).fitted, fitted, atol=1e-10)
    weights = other.greedy_weights(data.K_val[:, order], data.Y_val @ Q, 4)
    np.testing.assert_allclose(weights, model.greedy_weights(data.K_val, data.Y_val, 4), atol=1e-10)


# the best weight


def test_the_best_weight_is_that_of_a_grid():
    random = np.random.RandomState(3)
    u, w = random.randn(2, 9, C)
    y = 0.4 * u + 0.6 * w + 0.3 * random.randn(9, C)
    grid = np.linspace(0, 1, 1001)
    errors = [np.sum((a * u + (1 - a) * w - y) ** 2) for a in grid]
    found = float(optimal_mixing_weight(u, w, y))
    assert abs(found - grid[np.argmin(errors)]) <= 1e-3
    assert 0.1 < found < 0.9
    # beyond an end the end is best
    assert float(optimal_mixing_weight(u, w, 3 * u - 2 * w)) == 1
    assert float(optimal_mixing_weight(u, w, 3 * u - 2 * w, clip=None)) == pytest.approx(3)
    # folds are taken together before they are divided
    folds = [[one[:4], one[4:]] for one in (u, w, y)]
    assert float(optimal_mixing_weight(*folds)) == pytest.approx(found)


def test_two_predictions_that_are_the_same_leave_the_ground_truth():
    u = np.array([1.0, -2.0])
    for w in (u, u * (1 + 1e-16)):
        value, slope = jax.value_and_grad(optimal_mixing_weight)(jnp.asarray(u), w, u + 1)
        assert value == 1
        assert np.all(slope == 0)


def test_greedy_weights_are_the_best_of_each_step(data, model):
    alphas = np.asarray(model.greedy_weights(data.K_val, data.Y_val, 5))
    assert np.all((alphas >= 0) & (alphas <= 1))
    fitted = data.A @ data.Y
    dual = lambda T: np.linalg.solve(data.K + RIDGE * np.eye(N), T)
    grid = np.linspace(0, 1, 1001)
    inside = 0
    for alpha in alphas:
        u, w = data.K_val @ dual(data.Y), data.K_val @ dual(fitted)
        errors = np.sum((grid[:, None, None] * u + (1 - grid[:, None, None]) * w - data.Y_val) ** 2, axis=(1, 2))
        assert abs(alpha - grid[np.argmin(errors)]) <= 1e-3
        assert np.sum((alpha * u + (1 - alpha) * w - data.Y_val) ** 2) <= min(errors[0], errors[-1]) + 1e-10
        inside += 0 < alpha < 1
        fitted = data.A @ (alpha * data.Y + (1 - alpha) * fitted)
    # the training points themselves are best predicted by the ground truth
    np.testing.assert_array_equal(model.greedy_weights(data.K, data.Y, 4), np.ones(3))


def test_greedy_weights_between_the_ends(data, model):
    # targets that lie between a first and a second fit
    first, second = data.A @ data.Y, data.A @ data.A @ data.Y
    dual = lambda T: data.K_val @ np.linalg.solve(data.K, T)
    Y_val = 0.25 * dual(first) + 0.75 * dual(second)
    assert float(model.greedy_weights(data.K_val, Y_val, 2)[0]) == pytest.approx(0.25, abs=1e-6)


# derivatives


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_derivatives_are_those_of_differences(data):
    """Of steps, best weights that depend on one another, and a plain fit: in weight, ridge, kernel and targets."""
    X, X_val, Y = map(jnp.asarray, (data.X, data.X_val, data.Y))
    # held-out targets between a first fit and a second one, as seen from the held-out points: weights within (0, 1)
    mixture = 0.5 * data.A @ data.Y + 0.5 * data.A @ data.A @ data.Y
    Y_val = jnp.asarray(data.kernels(0.5)[1] @ np.linalg.solve(data.K, mixture))

    def figures(at):
        alpha, ridge, gamma, scale, weight = at
        K = gaussian_kernel(X, X, gamma)
        K, K_val = (K + K.T) / 2, gaussian_kernel(X_val, X, gamma)
        targets = Y.at[0].multiply(scale)
        weights = jnp.ones(N).at[1].set(weight)
        model = SelfDistillation.from_kernel(K, targets, ridge, weights)
        fit = kernel_ridge_fit(K, targets, ridge, weights)
        greedy = model.greedy_weights(K_val, Y_val, 3)
        return jnp.stack(
            [
                jnp.sum(model.predict(K_val, jnp.stack([alpha, 0.5 * alpha])) ** 2),
                jnp.sum(model.predict(K_val, greedy) ** 2),
                jnp.sum(model.limit(alpha).predict(K_val) ** 2),
                jnp.sum(fit.predict(K_val) ** 2),
                jnp.sum(model.spectral_filter(jnp.stack([alpha]))[1] ** 2),
            ]
        ), greedy

    both = jax.jit(lambda at: (figures(at), jax.jacrev(lambda at: figures(at)[0])(at)))
    at = np.array([0.35, 0.2, 0.5, 1.2, 0.8])
    (_, greedy), slopes = both(at)
    assert np.all((np.asarray(greedy) > 0) & (np.asarray(greedy) < 1)), greedy
    step = 1e-5
    around = [[both(at + sign * step * e)[0][0] for sign in (1, -1)] for e in np.eye(len(at))]
    differences = np.array([(above - below) / (2 * step) for above, below in around]).T
    np.testing.assert_allclose(slopes, differences, rtol=1e-5, atol=1e-8)


def test_second_derivatives_and_equal_eigenvalues():
    """A kernel all of whose eigenvalues are the same: a derivative of eigenvectors would not be a number."""

    def value(s):
        model = SelfDistillation.from_kernel(s * jnp.eye(3), jnp.ones(3), 0.5)
        return jnp.sum(model.limit(0.5).fitted), jnp.sum(model.spectral_filter(jnp.array([0.5]))[-1])

    both = jax.jit(lambda s: (jax.jacrev(value)(s), jax.grad(jax.grad(lambda s: value(s)[0]))(s)))
    (limit, step), second = both(1.0)
    # s / (s + 1), three times; and a (1 + a) / 2 with a = s / (s + 1 / 2)
    assert float(limit) == pytest.approx(3 / 4, rel=1e-10)
    assert float(second) == pytest.approx(-3 / 4, rel=1e-10)
    assert float(step) == pytest.approx(3 * (0.5 + 2 / 3) * 0.5 / 1.5**2, rel=1e-10)


def test_the_limit_as_a_fixed_point(data):
    """Its value and its derivatives are those of the closed form."""
    distances, Y = squared_distances(data.X, data.X), jnp.asarray(data.Y[:, 0])
    distances = (distances + distances.T) / 2

    def limits(at):
        alpha, ridge, gamma = at
        K = jnp.exp(-gamma * distances)
        model = SelfDistillation.from_kernel(K, Y, ridge)
        exact = K @ jnp.linalg.solve(K + ridge / alpha * jnp.eye(N), Y)
        return limit_by_iteration(model, alpha, solver=PRECISE).x, model.limit(alpha).fitted, exact

    both = jax.jit(lambda at: (limits(at), jax.jacobian(limits)(at)))
    (iterated, closed, exact), slopes = both(np.array([0.4, 0.3, 0.5]))
    np.testing.assert_allclose(iterated, exact, atol=1e-11)
    np.testing.assert_allclose(closed, exact, atol=1e-11)
    np.testing.assert_allclose(slopes[0], slopes[2], atol=1e-9)
    np.testing.assert_allclose(slopes[1], slopes[2], atol=1e-10)


# models of any kind


def test_the_loop_with_ridge_regression_is_the_closed_form(data, model):
    def train(targets, key):
        dual = np.linalg.solve(data.K + RIDGE * np.eye(N), np.asarray(targets))
        return lambda K: jnp.asarray(K @ dual)

    Y = jnp.asarray(data.Y)
    by_rule = distill(train, data.K, Y, BestOnValidation(data.K_val, jnp.asarray(data.Y_val)), steps=4)
    alphas = model.greedy_weights(data.K_val, data.Y_val, 4)
    np.testing.assert_allclose([step.alpha for step in by_rule[1:]], alphas, atol=1e-9)
    given = distill(train, data.K, Y, list(data.alphas))
    exact = model.steps(data.alphas)
    for step, fitted, targets in zip(given, exact.fitted, exact.targets, strict=True):
        np.testing.assert_allclose(step.predict(data.K), fitted, atol=1e-9)
        np.testing.assert_allclose(step.targets, targets, atol=1e-9)


def test_the_trainings_of_a_step_have_one_key():
    seen = []

    def train(targets, key):
        seen.append(jax.random.key_data(key).tolist())
        return lambda X: 0.5 * targets

    distill(train, None, jnp.ones(3), lambda teacher, student: 0.5, steps=3)
    assert seen[1] == seen[2] != seen[3] == seen[4] != seen[0]


# what it is compared with


def test_rivals_are_what_they_are_called(data):
    task = tuning.Task.of((data.X, data.Y), (data.X_val, data.Y_val), (data.X[:5] + 0.1, data.Y[:5]))
    kernels = tuple(map(np.asarray, task.kernels(0.4)))
    np.testing.assert_allclose(kernels[0], data.K, rtol=1e-12)
    rivals = baselines.of_kernel(kernels, task)
    error = lambda f, new: np.mean((new @ f - data.Y_val) ** 2)
    fits = [np.linalg.solve(data.K + ridge * np.eye(N), data.Y) for ridge in baselines.RIDGES]
    assert rivals["tuned ridge"].validation == pytest.approx(min(error(f, data.K_val) for f in fits))
    # descent on half of the squared error of the values at the training points, from zero
    dual, step, seen = np.zeros((N, C)), 1 / np.linalg.eigvalsh(data.K)[-1], []
    for _ in range(5):
        dual = dual + step * (data.Y - data.K @ dual)
        seen.append([error(dual, data.K_val), np.mean((kernels[2] @ dual - data.Y[:5]) ** 2)])
    assert list(baselines.STOPS[:5]) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(baselines._filtered(*kernels, task)[1][:5], seen, rtol=1e-8)


def test_a_grid_has_the_errors_of_its_pairs(data):
    task = tuning.Task.of((data.X, data.Y), (data.X_val, data.Y_val), (data.X_val, data.Y_val))
    ridges, gammas = np.log([0.1, 1.0, 9.0]), np.log([0.2, 0.4])
    search, errors = tuning.grid_search(tuning.plain, task, ridges, gammas)
    for i, gamma in enumerate(gammas):
        K, K_val = data.kernels(np.exp(gamma))
        for j, log_ridge in enumerate(ridges):
            found = K_val @ np.linalg.solve(K + np.exp(log_ridge) * np.eye(N), data.Y)
            assert errors.validation[i, j] == pytest.approx(np.mean((found - data.Y_val) ** 2))
    assert search.validation == errors.validation.min()
    assert search.evaluations == 6
    i, j = np.argwhere(errors.validation == search.validation)[0]
    np.testing.assert_array_equal(search.best, [ridges[j], gammas[i]])


# bad input


def test_bad_input_is_refused(data, model):
    K, Y = data.K, data.Y
    make, low = SelfDistillation.from_kernel, K - 2 * np.eye(N)
    singular = np.ones((3, 3))
    bad = {
        "K must be a square": lambda: make(K[:3], Y, 1.0),
        "K must be symmetric": lambda: make(K + np.triu(K, 1) * 1e-4, Y, 1.0),
        "K must be symmetric and finite": lambda: kernel_ridge_fit(np.full((2, 2), np.nan), np.ones(2), 1.0),
        "K must be positive semidefinite: the eigenvalues of K are from -1": lambda: make(low, Y, 9.0),
        "K must be positive semidefinite: its eigenvalues are from -1": lambda: kernel_ridge_fit(low, Y, 9.0),
        "gamma must be zero or more": lambda: gaussian_kernel(K, K, -1.0),
        "Y must have": lambda: make(K, Y[:3], 1.0),
        "ridge must not be negative": lambda: make(K, Y, -1.0),
        "ridge must be one number": lambda: make(K, Y, np.ones(2)),
        "ridge must be positive where K is singular": lambda: kernel_ridge_fit(singular, np.ones(3), 0.0),
        "ridge must be large enough": lambda: make(singular, np.ones(3), 0.0),
        "weights must be positive": lambda: make(K, Y, 1.0, np.zeros(N)),
        "weights must have a number for each": lambda: make(K, Y, 1.0, np.ones(3)),
        "alphas must be from 0 to 1": lambda: model.steps([0.5, 1.5]),
        "alphas must have a number": lambda: model.steps(0.5),
        "alpha must be from 0 to 1": lambda: model.limit(-0.1),
        "step must be from 1 to 3": lambda: model.predict(data.K_val, [0.5, 0.5], 4),
        "K_new must have a column": lambda: model.predict(data.K_val[:, :3], [0.5]),
        "Y_val must be of the shape": lambda: model.greedy_weights(data.K_val, data.Y_val[:, 0], 3),
        "steps must be at least 1": lambda: model.greedy_weights(data.K_val, data.Y_val, 0),
        "targets must be of the shape": lambda: model.refit(Y[:, 0]),
        "must be of the same shapes": lambda: optimal_mixing_weight(Y, Y, Y[:, 0]),
        "clip must have the least": lambda: optimal_mixing_weight(Y, Y, Y, clip=(1, 0)),
        "predictions must be of the shape": lambda: distillation_targets(Y, Y[:, :1], 0.5),
        "shares must be from 0 to 1": lambda: distill(lambda T, k: lambda X: T, K, Y, [2.0]),
        "steps must be 3": lambda: distill(lambda T, k: lambda X: T, K, Y, [0.5, 0.5], steps=2),
        "X and Z must have points": lambda: squared_distances(Y, K),
    }
    for message, call in bad.items():
        # what annotations say comes first
        with pytest.raises(ValueError, match=f"{message}|must have the shape"):
            call()


def test_under_jit_a_model_that_would_be_wrong_is_no_number(data):
    fitted = jax.jit(lambda K, ridge: SelfDistillation.from_kernel(K, data.Y[:, 0], ridge).steps(jnp.ones(1)).fitted)
    assert np.all(np.isfinite(fitted(data.K, 0.1)))
    lopsided, indefinite = data.K + np.triu(data.K, 1) * 1e-4, data.K - 2 * np.eye(N)
    for K, strength in ((lopsided, 0.1), (indefinite, 9.0), (np.ones((N, N)), 0.0), (np.ones((N, N)), -0.1)):
        assert np.all(np.isnan(fitted(K, strength)))


def test_an_eigenvalue_below_zero_by_more_than_rounding_is_no_zero():
    """Beside a small ridge it decides the solution, and its sign."""
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    K = Q @ np.diag([1.0, 1, 1, 1, 1, -1e-7]) @ Q.T
    K, Y = (K + K.T) / 2, np.arange(6.0)
    for fit in (SelfDistillation.from_kernel, kernel_ridge_fit):
        with pytest.raises(ValueError, match=r"semidefinite: .* from -1\.0e-07 to 1\.0e\+00"):
            fit(K, Y, 1e-9)
    assert np.all(np.isnan(jax.jit(lambda K: SelfDistillation.from_kernel(K, Y, 1e-9).steps(jnp.ones(1)).fitted)(K)))


@pytest.mark.parametrize("linear_solver", [None, dini.linear.CG()])
def test_a_kernel_ridge_problem_without_a_minimum_is_refused(linear_solver):
    """The system of an indefinite kernel has a solution beside a large ridge: it is no minimizer."""
    K, Y = np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([1.0, -1.0])
    beta = np.linalg.solve(K + 4 * np.eye(2), Y)
    value = lambda beta: 0.5 * np.sum((Y - K @ beta) ** 2) + 2 * beta @ K @ beta
    assert value(beta + np.array([1.0, -1.0])) < value(beta)
    with pytest.raises(ValueError, match="semidefinite"):
        kernel_ridge_fit(K, Y, 4.0, linear_solver=linear_solver)
    # under jit it is no number
    assert np.all(np.isnan(jax.jit(lambda K: kernel_ridge_fit(K, Y, 4.0, linear_solver=linear_solver).fitted)(K)))
    # of zeros, and of one direction, there is one
    for K in (np.zeros((2, 2)), np.ones((2, 2))):
        np.testing.assert_allclose(
            kernel_ridge_fit(K, Y, 4.0, linear_solver=linear_solver).dual_coef, np.linalg.solve(K + 4 * np.eye(2), Y)
        )


def test_single_precision_refuses_a_ridge_that_it_cannot_tell_from_zero():
    K, Y = jnp.ones((3, 3), jnp.float32), jnp.ones(3, jnp.float32)
    with pytest.raises(ValueError, match="regular in float32"):
        SelfDistillation.from_kernel(K, Y, 1e-7)
    assert SelfDistillation.from_kernel(K, Y, 0.1).steps([0.5]).fitted.dtype == jnp.float32


@pytest.mark.parametrize("module", [limit, loop, mixing, ridge, spectral], ids=lambda module: module.__name__)
def test_examples_run(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("self-distillation", experiment)
