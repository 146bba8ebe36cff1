"""JAXopt's losses and objectives: NumPy's formulas, and gradients by differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from dini_jaxopt import loss, objective
from dini_jaxopt.base import LinearOperator

RNG = np.random.default_rng(0)
SCORES = 2 * RNG.normal(size=(6, 4))
CLASSES = np.array([0, 3, 1, 2, 2, 0])


def simplex(s):
    u = np.sort(s)[::-1]
    c = np.cumsum(u) - 1
    rho = np.nonzero(u * np.arange(1, len(s) + 1) > c)[0][-1]
    return np.maximum(s - c[rho] / (rho + 1), 0)


MULTICLASS = {
    "logistic": lambda y, s: logsumexp(s) - s[y],
    "sparsemax": lambda y, s: 0.5 * (np.sum((np.eye(4)[y] - s) ** 2) - np.sum((simplex(s) - s) ** 2)),
    "hinge": lambda y, s: np.max(s + 1 - np.eye(4)[y]) - s[y],
    "perceptron": lambda y, s: np.max(s) - s[y],
}
BINARY = {
    "logistic": lambda y, s: np.log1p(np.exp(-s if y else s)),
    "sparsemax": lambda y, s: (lambda z: 0 if z <= -1 else z if z >= 1 else (z + 1) ** 2 / 4)(-s if y else s),
    "hinge": lambda y, s: max(0, 1 - s * (1 if y else -1)),
    "perceptron": lambda y, s: max(0, -s * (1 if y else -1)),
}


@pytest.mark.parametrize("name", MULTICLASS)
def test_multiclass_losses(name):
    fun = getattr(loss, f"multiclass_{name}_loss")
    values = jax.jit(jax.vmap(fun))(CLASSES, jnp.asarray(SCORES))
    np.testing.assert_allclose(
        values, [MULTICLASS[name](*pair) for pair in zip(CLASSES, SCORES, strict=True)], rtol=1e-12
    )
    with pytest.raises(ValueError, match="from 0 to 3"):
        fun(4, jnp.zeros(4))
    # JAX clamps an index that is too large: here it is seen
    assert np.isnan(jax.jit(fun)(4, jnp.zeros(4)))


@pytest.mark.parametrize("name", BINARY)
def test_binary_losses(name):
    fun = getattr(loss, f"binary_{name}_loss")
    labels, scores = CLASSES % 2, SCORES[:, 0]
    values = jax.jit(fun)(labels, scores)
    np.testing.assert_allclose(values, [BINARY[name](*pair) for pair in zip(labels, scores, strict=True)], rtol=1e-12)
    np.testing.assert_allclose(fun(1, jnp.asarray(scores))[0], fun(True, scores[0]))
    with pytest.raises(ValueError, match="zeros and ones"):  # a label of the other convention
        fun(-1, 0.5)


def test_sparse_plus_and_its_derivative():
    x = jnp.linspace(-2, 2, 9)
    np.testing.assert_allclose(jax.vmap(jax.grad(loss.sparse_plus))(x), loss.sparse_sigmoid(x))
    np.testing.assert_allclose(loss.sparse_sigmoid(x), np.clip((np.asarray(x) + 1) / 2, 0, 1))


def test_huber_loss():
    np.testing.assert_allclose(loss.huber_loss(jnp.array([0.0, 1.0]), jnp.array([0.5, 4.0]), 2.0), [0.125, 4.0])
    assert jax.grad(loss.huber_loss, argnums=1)(0.0, 3.0) == 1.0


def test_a_fenchel_young_loss_of_a_maximum():
    fun = loss.make_fenchel_young_loss(lambda s, power: jnp.sum(s**power))
    np.testing.assert_allclose(fun(jnp.array([1.0, 0.0]), jnp.array([2.0, 3.0]), power=2), 11.0)


X, Y = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 2))
W, B = RNG.normal(size=(3, 4)), RNG.normal(size=4)
LOG = lambda Z: np.mean([MULTICLASS["logistic"](*pair) for pair in zip(CLASSES, Z, strict=True)])


def test_objectives():
    o, data = objective, (jnp.asarray(X), CLASSES)
    W2, w = W[:, :2], W[:, 0]
    np.testing.assert_allclose(o.least_squares(W2, (X, Y)), 0.5 * np.mean((X @ W2 - Y) ** 2), rtol=1e-13)
    np.testing.assert_allclose(
        o.ridge_regression(w, 0.3, (X, Y[:, 0])), np.mean((X @ w - Y[:, 0]) ** 2) / 2 + 0.15 * w @ w, rtol=1e-13
    )
    binary = np.mean([BINARY["logistic"](*pair) for pair in zip(CLASSES % 2, X @ w, strict=True)])
    np.testing.assert_allclose(o.binary_logreg(w, (X, CLASSES % 2)), binary, rtol=1e-13)
    np.testing.assert_allclose(o.multiclass_logreg(W, data), LOG(X @ W), rtol=1e-13)
    np.testing.assert_allclose(o.multiclass_logreg_with_intercept((W, B), data), LOG(X @ W + B), rtol=1e-13)
    penalty = 0.15 * np.sum(W**2)
    np.testing.assert_allclose(o.l2_multiclass_logreg(W, 0.3, data), LOG(X @ W) + penalty, rtol=1e-13)
    with_intercept = o.l2_multiclass_logreg_with_intercept((W, B), 0.3, data)
    np.testing.assert_allclose(with_intercept, LOG(X @ W + B) + penalty, rtol=1e-13)


def test_the_dual_of_the_support_vector_machine():
    """Its value is the primal's, at the solution of one dual variable that is known: no duality gap by hand."""
    hot, beta = np.eye(4)[CLASSES], RNG.dirichlet(np.ones(4), 6)
    value = objective.multiclass_linear_svm_dual(jnp.asarray(beta), 0.3, (jnp.asarray(X), jnp.asarray(hot)))
    V = X.T @ (hot - beta)
    np.testing.assert_allclose(value, np.sum(V**2) / 0.6 - np.sum(beta * (1 - hot)), rtol=1e-12)
    # weak duality, for the primal of weights W: a sum of hinges plus the penalty
    primal = lambda W: np.sum(np.max(X @ W + 1 - hot, 1) - np.sum(X @ W * hot, 1)) + 0.15 * np.sum(W**2)
    assert -value <= primal(V / 0.3) + 1e-12


def test_targets_of_another_shape_are_not_broadcast():
    with pytest.raises(ValueError, match=r"\(6,\)"):
        objective.least_squares(W[:, 0], (X, Y[:, :1]))


def test_what_coordinate_methods_ask():
    A = objective.least_squares.make_linop((X, Y))
    np.testing.assert_allclose(A.matvec(W), X @ W)
    np.testing.assert_allclose(A.rmatvec(Y), X.T @ Y)
    np.testing.assert_allclose(A.matvec_element(W, 2), X[2] @ W)
    np.testing.assert_allclose(A.rmatvec_element(Y, 1), X[:, 1] @ Y)
    moved = W.copy()
    moved[1] += 0.5
    np.testing.assert_allclose(A.update_matvec(X @ W, 0.5 * np.ones(4), 1), X @ moved)
    np.testing.assert_allclose(A.update_rmatvec(X.T @ Y[:, 0], 0.5, 2), X.T @ (Y[:, 0] + 0.5 * np.eye(6)[2]))
    np.testing.assert_allclose(A.column_l2_norms(), np.linalg.norm(X, axis=0))
    for fun, curvature in ((objective.binary_logreg, 0.25), (objective.multiclass_logreg, 0.5)):
        np.testing.assert_allclose(fun.columnwise_lipschitz_const((X, Y)), curvature * np.sum(X**2, 0))
    assert isinstance(jax.tree.map(lambda leaf: leaf, A), LinearOperator)
