"""The calls that packages make to JAXopt, in our own words, through the shim.

Read in NeMoS (`solvers/_jaxopt_adapter.py`), OTT (`geometry/costs.py`, `neural/solvers/conjugate.py`), BlackJAX
(`optimizers/lbfgs.py`) and pycse (`sklearn/dpose.py`).
"""

import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from scipy.stats import norm
from sklearn.linear_model import PoissonRegressor

import dini_jaxopt as jaxopt

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4))
Y = RNG.poisson(np.exp(0.3 + X @ np.array([0.6, -0.4, 0.0, 0.3]))).astype(float)
START = (np.zeros(4), np.zeros(()))


def poisson(params, X, y):
    """The mean negative log-likelihood, with an auxiliary output: NeMoS' losses have one."""
    rate = X @ params[0] + params[1]
    return jnp.mean(jnp.exp(rate) - y * rate), {"rate": jnp.mean(jnp.exp(rate))}


class Adapter:
    """NeMoS' adapter: a proximal solver gets the regularizer's operator, another one the penalized loss."""

    proximal = False

    def __init__(self, name, strength, prox=None, **settings):
        cls = getattr(jaxopt, name)
        self.accepted = set(inspect.signature(cls).parameters) - {"fun", "has_aux"}
        assert set(settings) <= self.accepted
        self.hyperparams = () if prox is None else (strength,)
        fun = poisson
        if prox is None:

            def fun(params, X, y):
                value, aux = poisson(params, X, y)
                return value + 0.5 * strength * jnp.sum(params[0] ** 2), aux

        more = {} if prox is None else {"prox": prox}
        self.solver = cls(fun=fun, has_aux=True, **more, **settings)

    def run(self, params, *data):
        params, state = self.solver.run(params, *self.hyperparams, *data)
        return params, state, state.aux

    def init_state(self, params, *data):
        return self.solver.init_state(params, *self.hyperparams, *data)

    def update(self, params, state, *data):
        params, state = self.solver.update(params, state, *self.hyperparams, *data)
        return params, state, state.aux

    def info(self, state):
        steps = state.iter_num.item()
        return {
            "value": getattr(state, "value", None),
            "steps": steps,
            "converged": state.error.item() <= self.solver.tol,
            "exhausted": steps == self.solver.maxiter,
        }


@pytest.fixture(scope="module")
def ridge():
    fit = PoissonRegressor(alpha=0.1, tol=1e-12, max_iter=1000).fit(X, Y)
    return fit.coef_, fit.intercept_


@pytest.mark.parametrize("name", ["GradientDescent", "BFGS", "LBFGS", "NonlinearCG", "ProximalGradient"])
def test_nemos_fits(name, ridge):
    """A whole fit and steps by hand, of each solver that it registers: scikit-learn's coefficients."""
    prox = None
    if name == "ProximalGradient":

        def prox(params, strength, scaling=1.0):
            return jaxopt.prox.prox_ridge(params[0], strength, scaling), params[1]

    adapter = Adapter(name, 0.1, prox, tol=1e-7, maxiter=2000)
    assert {"tol", "maxiter"} <= adapter.accepted
    params, state, aux = adapter.run(START, X, Y)
    np.testing.assert_allclose(params[0], ridge[0], atol=1e-5)
    np.testing.assert_allclose(params[1], ridge[1], atol=1e-5)
    info = adapter.info(state)
    assert info["converged"]
    assert not info["exhausted"]
    np.testing.assert_allclose(aux["rate"], np.mean(Y), rtol=1e-5)  # as the intercept is free

    update, params, state = jax.jit(adapter.update), START, adapter.init_state(START, X, Y)
    for _ in range(200 if "Gradient" in name else 40):
        params, state, aux = update(params, state, X, Y)
    np.testing.assert_allclose(params[0], ridge[0], atol=2e-3)
    assert aux["rate"].shape == ()


def group_prox(params, strength, scaling=1.0):
    """NeMoS' group lasso: masks of features, an intercept without penalty, strengths weighted by sizes."""
    masks = jnp.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    size = jnp.linalg.norm(masks * params[0][None, :], axis=1) / jnp.sqrt(masks.sum(1))
    factor = jax.nn.relu(1 - strength * scaling / size)
    return params[0] * (factor @ masks), params[1]


@pytest.mark.parametrize(("penalty", "strength"), [("lasso", 0.3), ("group lasso", 0.4)])
def test_nemos_sparse_fits(penalty, strength):
    """At the solution, a step of the proximal gradient goes nowhere; and the fit has a derivative in its strength."""
    lasso = lambda params, strength, scaling=1.0: (jaxopt.prox.prox_lasso(params[0], strength, scaling), params[1])
    prox = lasso if penalty == "lasso" else group_prox
    fit = lambda strength: Adapter("ProximalGradient", strength, prox, tol=1e-9, maxiter=5000).run(START, X, Y)[0]
    params, slope = jax.jvp(fit, (strength,), (1.0,))
    gradient = jax.grad(lambda p: poisson(p, X, Y)[0])(params)
    step = prox(jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), strength, 0.1)
    np.testing.assert_allclose(step[0], params[0], atol=1e-8)
    np.testing.assert_allclose(step[1], params[1], atol=1e-8)
    assert 0 < np.count_nonzero(params[0]) < 4
    difference = (fit(strength + 1e-4)[0] - fit(strength - 1e-4)[0]) / 2e-4
    np.testing.assert_allclose(slope[0], difference, atol=1e-5)


class ConjugateResults(NamedTuple):
    val: jax.Array
    grad: jax.Array
    num_iter: jax.Array


@pytest.mark.parametrize("linesearch", ["backtracking", "zoom", "hager-zhang"])
def test_ott_conjugates(linesearch):
    """OTT's numerical conjugate, in a batch: of the quartic, its value and gradient are known."""
    quartic = lambda x: jnp.sum(x**4) / 4 + jnp.sum(x**2) / 2

    def conjugate(y):
        solver = jaxopt.LBFGS(
            fun=lambda x: quartic(x) - x.dot(y),
            tol=1e-8,
            maxiter=100,
            linesearch=linesearch,
            linesearch_init="increase",
            increase_factor=1.5,
            maxls=20,
            implicit_diff=False,
            unroll=False,
        )
        out = solver.run(y)
        return ConjugateResults(-out.state.value, out.params, out.state.iter_num)

    y = jnp.asarray(RNG.normal(size=(5, 3)))
    found = jax.jit(jax.vmap(conjugate))(y)
    np.testing.assert_allclose(found.grad**3 + found.grad, y, atol=1e-7)  # the gradients are inverse to each other
    exact = jnp.sum(found.grad * y, 1) - jax.vmap(quartic)(found.grad)
    np.testing.assert_allclose(found.val, exact, atol=1e-10)
    assert found.num_iter.shape == (5,)
    assert found.num_iter.max() < 100


def test_ott_transforms():
    """OTT's h-transform of a concave function, by proximal gradients: for quadratics it is a soft threshold."""
    a, gamma = 0.7, 0.5
    f = lambda x: -0.5 * a * jnp.sum(x**2)
    h = lambda z: 0.5 * jnp.sum(z**2) + gamma * jnp.sum(jnp.abs(z))

    def minus_f(z, x):
        return -f(x - z)

    def prox(z, scaling_reg, scaling_h):
        shrink = 1.0 / (1.0 + scaling_h)
        return jaxopt.prox.prox_lasso(z * shrink, scaling_reg * scaling_h * shrink)

    def f_h(x):
        run = jaxopt.ProximalGradient(fun=minus_f, prox=prox, tol=1e-10, maxiter=500).run(x, gamma, x=x)
        solution = jax.lax.stop_gradient(run.params)
        return h(solution) + minus_f(solution, x)

    x = jnp.asarray(RNG.normal(size=(6, 3)))
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(f_h)))(x)
    z = np.sign(x) * np.maximum(a * np.abs(x) - gamma, 0) / (1 + a)
    np.testing.assert_allclose(value, jax.vmap(h)(z) + 0.5 * a * np.sum((x - z) ** 2, 1), atol=1e-9)
    np.testing.assert_allclose(slope, a * (x - z), atol=1e-8)


def test_ott_implicit_potentials():
    """A Sinkhorn loop of its own, differentiated by `custom_fixed_point`: the derivative of the cost is the plan."""
    cost, epsilon = jnp.asarray(RNG.random((4, 3))), 0.1
    a, b = jnp.full(4, 1 / 4), jnp.full(3, 1 / 3)

    def sweep(g, cost):
        f = epsilon * (jnp.log(a) - jax.nn.logsumexp((g[None, :] - cost) / epsilon, axis=1))
        g = epsilon * (jnp.log(b) - jax.nn.logsumexp((f[:, None] - cost) / epsilon, axis=0))
        return g - g.mean()

    @jaxopt.implicit_diff.custom_fixed_point(sweep)
    def potentials(init, cost):
        return jax.lax.fori_loop(0, 500, lambda _, g: sweep(g, cost), init)

    def transport(cost):
        g = potentials(jnp.zeros(3), cost)
        f = epsilon * (jnp.log(a) - jax.nn.logsumexp((g[None, :] - cost) / epsilon, axis=1))
        plan = jnp.exp((f[:, None] + g[None, :] - cost) / epsilon)
        return f @ a + g @ b, plan

    slope, plan = jax.grad(transport, has_aux=True)(cost)
    np.testing.assert_allclose(slope, plan, atol=1e-10)
    np.testing.assert_allclose(plan.sum(0), b, atol=1e-10)
    projected = jaxopt.projection.kl_projection_transport(-cost / epsilon, (a, b))
    np.testing.assert_allclose(plan, projected, atol=1e-9)


class Path(NamedTuple):
    x: jax.Array
    f: jax.Array
    g: jax.Array


def test_blackjax_paths():
    """BlackJAX's pathfinder: L-BFGS by hand in a scan that ends early, with its path, on a Gaussian.

    Of the path it makes the model of the inverse Hessian, whose last pair fulfills the secant equation, and whose
    limit is the covariance.
    """
    half = RNG.normal(size=(4, 4))
    covariance = half @ half.T / 4 + np.eye(4)
    precision, mean = np.linalg.inv(covariance), RNG.normal(size=4)
    fun = lambda x: 0.5 * (x - mean) @ precision @ (x - mean)
    solver = jaxopt.LBFGS(fun=fun, maxiter=30, maxls=1000, history_size=6)

    def one(carry, i):
        step, _ = carry
        # a step size that fell too far starts anew, and the value is the caller's
        size = jnp.where(step.state.stepsize < 1e-3, 1.0, step.state.stepsize)
        new = solver.update(step.params, step.state._replace(stepsize=size))
        change = jnp.abs(step.state.value - new.state.value) / jnp.maximum(1.0, jnp.abs(step.state.value))
        going = (new.state.error > 1e-8) & (change > 1e-14) & (i < 30)
        return (new, Path(new.params, new.state.value, new.state.grad)), going

    def body(carry, i):
        going = carry[1]
        carry, going = jax.lax.cond(going, one, lambda carry, i: (carry, False), carry[0], i)
        return (carry, going), carry[1]

    @jax.jit
    def minimize(x0):
        value, grad = jax.value_and_grad(fun)(x0)
        state = solver.init_state(x0)._replace(value=value)
        start = jaxopt.OptStep(params=x0, state=state), Path(x0, value, grad)
        ((last, _), _), path = jax.lax.scan(body, (start, True), jnp.arange(30))
        return last, jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start[1], path)

    last, path = minimize(jnp.zeros(4))
    np.testing.assert_allclose(last.params, mean, atol=1e-6)
    assert last.state.iter_num < 30
    np.testing.assert_allclose(path.g, (path.x - mean[None, :]) @ precision, atol=1e-9)
    assert np.all(np.diff(path.f) <= 1e-12)
    S, Z = np.diff(path.x, axis=0), np.diff(path.g, axis=0)
    moved = np.linalg.norm(S, axis=1) > 1e-12
    S, Z = S[moved].T, Z[moved].T
    alpha = np.ones(4)
    R = np.triu(S.T @ Z)
    beta, inverse = np.hstack([alpha[:, None] * Z, S]), -np.linalg.inv(R)
    block = inverse.T @ (Z.T @ (alpha[:, None] * Z) + np.diag(np.diag(R))) @ inverse
    gamma = np.block([[np.zeros_like(inverse), inverse], [inverse.T, block]])
    H = np.diag(alpha) + beta @ gamma @ beta.T
    np.testing.assert_allclose(H @ Z[:, -1], S[:, -1], rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(H, covariance, rtol=0.1, atol=0.1)


def crps(params, X, y):
    """pycse's loss of a shallow ensemble: the continuous ranked probability score of its mean and spread."""
    hidden = jnp.tanh(X @ params["W"] + params["b"][None, :])
    outputs = hidden @ params["V"] + params["c"][None, :]
    sigma = jnp.sqrt(outputs.var(axis=1) + 1e-6)
    z = (y - outputs.mean(axis=1)) / sigma
    density, share = jax.scipy.stats.norm.pdf(z), jax.scipy.stats.norm.cdf(z)
    return jnp.mean(sigma * (z * (2 * share - 1) + 2 * density - 1 / jnp.sqrt(jnp.pi)))


@pytest.mark.parametrize("name", ["BFGS", "LBFGS", "LBFGSB", "NonlinearCG", "GradientDescent", "adam"])
def test_pycse_ensembles(name):
    """A network of six outputs with uncertainty, fitted as pycse's estimators do: no worse than SciPy from there."""
    x = np.linspace(0, 1, 40)[:, None]
    y = x[:, 0] ** (1 / 3) + (0.01 + 0.1 * x[:, 0]) * RNG.normal(size=40)
    keys = jax.random.split(jax.random.key(19), 2)
    params = {
        "W": jax.random.normal(keys[0], (1, 5)),
        "b": jnp.zeros(5),
        "V": 0.4 * jax.random.normal(keys[1], (5, 6)),
        "c": jnp.zeros(6),
    }
    objective = jax.jit(lambda params: crps(params, x, y))
    settings = {"maxiter": 1500, "tol": 1e-3}
    if name == "adam":
        solver = jaxopt.OptaxSolver(opt=optax.adam(1e-2), fun=objective, **settings)
    elif name == "GradientDescent":
        solver = jaxopt.GradientDescent(fun=objective, **settings)
    else:
        solver = getattr(jaxopt, name)(fun=jax.value_and_grad(objective), value_and_grad=True, **settings)
    fitted, state = solver.run(params)
    assert state.error <= 1e-3
    assert jnp.linalg.norm(jax.flatten_util.ravel_pytree(jax.grad(objective)(fitted))[0]) <= 2e-3
    # the score of the mean with the best constant spread, by hand
    spread = np.std(y)
    grid = [np.mean(_score((y - np.mean(y)) / s) * s) for s in spread * np.linspace(0.5, 1.5, 21)]
    assert objective(fitted) < 0.5 * min(grid)


def _score(z):

    return z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi)


def test_pycse_curve_fits():
    """A nonlinear fit with uncertainty: parameters and covariance as SciPy's `curve_fit` has them."""
    t = np.linspace(0, 3, 30)
    y = 2 * np.exp(-1.3 * t) + 0.5 + 0.02 * RNG.normal(size=30)
    model = lambda t, a, k, c: a * np.exp(-k * t) + c
    expected, covariance = scipy.optimize.curve_fit(model, t, y, p0=[1.0, 1.0, 0.0])

    def residuals(p, t, y):
        return p[0] * jnp.exp(-p[1] * t) + p[2] - y

    solver = jaxopt.LevenbergMarquardt(residual_fun=residuals, tol=1e-10)
    params = solver.run(jnp.array([1.0, 1.0, 0.0]), t, y).params
    np.testing.assert_allclose(params, expected, rtol=1e-6)
    J = jax.jacobian(residuals)(params, t, y)
    noise = jnp.sum(residuals(params, t, y) ** 2) / (30 - 3)
    np.testing.assert_allclose(noise * jnp.linalg.inv(J.T @ J), covariance, rtol=1e-5)
    # a fit is a function of its data: to first order, its covariance is that of its derivative
    D = jax.jacobian(lambda y: solver.run(params, t, y).params)(jnp.asarray(y))
    np.testing.assert_allclose(noise * D @ D.T, covariance, rtol=0.1)
