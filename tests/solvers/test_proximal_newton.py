"""ProximalNewton and quadratic objectives, against closed forms and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import ElasticNet, Lasso

import dini
from dini import penalties, sets

rng = np.random.default_rng(0)
X = rng.standard_normal((40, 60))
Y = X[:, :5] @ np.array([3.0, -2.0, 1.5, 1.0, -1.0]) + 0.1 * rng.standard_normal(40)
SQUARES = dini.LinearComposite(lambda z, w, X, y: 0.5 * jnp.mean((z - y) ** 2), lambda X, y: X.T)
Q, C = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([-4.0, 1.0])


def lasso(strength, y=Y, solver=None, ratio=None):
    penalty = penalties.L1(strength) if ratio is None else penalties.ElasticNet(strength, ratio)
    solver = dini.ProximalNewton(tol=1e-12) if solver is None else solver
    return dini.solve(dini.Minimize(SQUARES, penalty=penalty), solver, jnp.zeros(60), X, y).x


@pytest.mark.parametrize("strength", [0.02, 0.3])
@pytest.mark.parametrize("largest", [4, 1024])
def test_lasso_as_scikit_learn(strength, largest):
    want = Lasso(strength, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(X, Y).coef_
    np.testing.assert_allclose(lasso(strength, solver=dini.ProximalNewton(largest, tol=1e-12)), want, atol=1e-7)


def test_elastic_net_as_scikit_learn():
    want = ElasticNet(0.3, l1_ratio=0.5, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(X, Y).coef_
    # scikit-learn: a r |w|_1 + a (1 - r) |w|^2 / 2; dini: s (|w|_1 + ratio |w|^2 / 2)
    np.testing.assert_allclose(lasso(0.15, ratio=1.0), want, atol=1e-7)


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_the_lassos_derivative_is_that_on_its_support():
    w = np.asarray(lasso(0.3))
    S = w != 0
    gram = X[:, S].T @ X[:, S] / 40
    in_strength = np.zeros(60)
    in_strength[S] = -np.linalg.solve(gram, np.sign(w[S]))
    np.testing.assert_allclose(jax.jacobian(lasso)(0.3), in_strength, atol=1e-9)
    in_y = np.zeros((60, 40))
    in_y[S] = np.linalg.solve(gram, X[:, S].T / 40)
    np.testing.assert_allclose(jax.jacrev(lasso, argnums=1)(0.3, Y), in_y, atol=1e-9)


@pytest.mark.thorough
def test_quadratic_objectives_by_hand():
    def solve(c, strength, Q=Q):
        problem = dini.Minimize(dini.Quadratic(Q, c), penalty=penalties.L1(strength))
        return dini.solve(problem, dini.ProximalNewton(tol=1e-12), jnp.zeros(2)).x

    np.testing.assert_allclose(solve(C, jnp.array([0.0, 1.5])), [2.5, -1.0], atol=1e-9)
    np.testing.assert_allclose(
        jax.jacobian(solve, argnums=1)(C, jnp.array([0.0, 1.5]))[:, 1], [-1 / 3, 2 / 3], atol=1e-9
    )
    np.testing.assert_allclose(solve(C, jnp.array([0.0, 4.0])), [2.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(jax.jacobian(solve, argnums=1)(C, jnp.array([0.0, 4.0]))[:, 1], 0, atol=1e-12)
    box = dini.Minimize(dini.Quadratic(Q, C), constraint=sets.Box(0.0, 1.0))
    np.testing.assert_allclose(dini.solve(box, dini.ProximalNewton(), jnp.zeros(2)).x, [1.0, 0.0], atol=1e-9)


@pytest.mark.thorough
def test_only_the_symmetric_part_of_a_matrix_counts():
    crooked = np.array([[2.0, 1.0], [0.0, 2.0]])
    symmetric = 0.5 * (crooked + crooked.T)
    for solver in (dini.Newton(), dini.GradientDescent(), dini.ProximalNewton(), dini.ProximalGradient()):
        x = dini.solve(dini.Minimize(dini.Quadratic(crooked, C)), solver, jnp.zeros(2)).x
        np.testing.assert_allclose(x, -np.linalg.solve(symmetric, C), atol=1e-6)
    first = lambda M: dini.solve(dini.Minimize(dini.Quadratic(M, C)), dini.Newton(), jnp.zeros(2)).x[0]
    np.testing.assert_allclose(jax.grad(first)(jnp.asarray(Q)), [[-2, 7 / 6], [7 / 6, -2 / 3]], atol=1e-9)


def test_bad_input():
    with pytest.raises(ValueError, match="acts on each element alone"):
        dini.solve(dini.Minimize(SQUARES, constraint=sets.L2Ball(1.0)), dini.ProximalNewton(), jnp.zeros(60), X, Y)
    with pytest.raises(ValueError, match="Quadratic needs"):
        dini.solve(dini.Minimize(dini.Quadratic(np.eye(3), C)), dini.Newton(), jnp.zeros(2))
