"""Task-driven dictionary learning: codes against scikit-learn, the derivative against its formula, the experiment."""

import doctest
import sys
from functools import partial

import jax
import numpy as np
import pytest
from outputs import assert_bars_met
from sklearn.linear_model import ElasticNet

from dini_zoo.implicit.dictionary_learning import (
    Cohort,
    Params,
    SparseCoding,
    auc,
    bounded,
    breast_cancer,
    coding,
    folds,
    l1_logistic,
    l2_logistic,
    learn_dictionary,
    loss,
    outcomes,
    standardize,
    train,
)
from dini_zoo.implicit.dictionary_learning.baselines import FIXED, TASK
from dini_zoo.implicit.dictionary_learning.experiment import experiment

CODING, DECAY, RATE = SparseCoding(strength=0.15, ratio=0.3, steps=2000), 0.2, 0.05
ATOMS, GENES, PATIENTS = 4, 7, 9


@pytest.fixture(scope="module")
def params():
    random = np.random.RandomState(0)
    D = random.randn(ATOMS, GENES)
    # two atoms inside of the ball, two outside
    D *= np.array([[0.7], [1.6], [0.9], [1.2]]) / np.linalg.norm(D, axis=1, keepdims=True)
    return Params(D, random.randn(ATOMS), np.float64(0.3))


@pytest.fixture(scope="module")
def cohort():
    random = np.random.RandomState(1)
    return Cohort(0.5 * random.randn(PATIENTS, GENES), (random.rand(PATIENTS) < 0.5).astype(float))


def encode(X, D, coding=CODING):
    """The codes, by coordinate descent."""
    # scikit-learn divides the squares by twice the number of rows, here that of genes
    p, share = X.shape[1], 1 / (1 + coding.ratio)
    model = ElasticNet(coding.strength / (p * share), l1_ratio=share, fit_intercept=False, tol=1e-15, max_iter=10**5)
    return np.array([model.fit(D.T, x).coef_.copy() for x in X])


def formula(params, cohort):
    """The loss and its derivatives, by the formula of Mairal, Bach and Ponce."""
    norms = np.maximum(1, np.linalg.norm(params.D, axis=1, keepdims=True))
    D, m = params.D / norms, len(cohort.y)
    Z = encode(cohort.X, D)
    assert 0 < np.sum(Z == 0) < Z.size
    scores = Z @ params.w + params.b
    value = np.mean(np.log1p(np.exp(scores)) - cohort.y * scores) + DECAY * params.w @ params.w / m
    slopes = (1 / (1 + np.exp(-scores)) - cohort.y) / m
    G = np.zeros_like(D)
    for x, z, slope in zip(cohort.X, Z, slopes, strict=True):
        S, beta = np.flatnonzero(z), np.zeros_like(z)
        H = D[S] @ D[S].T + CODING.strength * CODING.ratio * np.eye(len(S))
        beta[S] = np.linalg.solve(H, slope * params.w[S])
        G += np.outer(beta, x - z @ D) - np.outer(z, beta @ D)
    # through the division by the norm, where it is above one
    radial = np.sum(G * D, axis=1, keepdims=True) * D
    G = np.where(norms > 1, (G - radial) / norms, G)
    return value, Params(G, Z.T @ slopes + 2 * DECAY * params.w / m, slopes.sum())


def test_the_example_in_the_docstring():
    assert doctest.testmod(coding) == (0, 4)


@pytest.fixture(scope="module")
def slope():
    """The loss with the codes, and its derivative: a compiled function of the parameters and the patients."""
    return jax.jit(jax.value_and_grad(partial(loss, coding=CODING, decay=DECAY), has_aux=True))


def test_codes_are_those_of_coordinate_descent(params, cohort, slope):
    (_, codes), _ = slope(params, cohort)
    D = params.D / np.maximum(1, np.linalg.norm(params.D, axis=1, keepdims=True))
    np.testing.assert_allclose(bounded(params.D), D, rtol=1e-14)
    expected = encode(cohort.X, D)
    np.testing.assert_allclose(codes.x, expected, atol=1e-10)
    np.testing.assert_array_equal(codes.x == 0, expected == 0)
    assert np.all(codes.stats.error < 1e-12)


def test_training_takes_steps_of_adam_on_the_formula(params, cohort):
    course = jax.jit(partial(train, coding=CODING, decay=DECAY, learning_rate=RATE, steps=3))(params, cohort)
    mean = square = jax.tree.map(np.zeros_like, params)
    now = params
    for step in range(4):
        value, slope = formula(now, cohort)
        assert float(course.loss[step]) == pytest.approx(value, rel=1e-9)
        for found, expected in zip(course.params, now, strict=True):
            np.testing.assert_allclose(found[step], expected, rtol=1e-7, atol=1e-9)
        mean = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, mean, slope)
        square = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g**2, square, slope)
        first, second = (1 - decay ** (step + 1) for decay in (0.9, 0.999))
        now = jax.tree.map(
            lambda x, a, q, f=first, s=second: x - RATE * (a / f) / (np.sqrt(q / s) + 1e-8), now, mean, square
        )
    assert np.all(course.error < 1e-12)


def test_the_gradient_is_that_of_the_formula_and_begins_stationary_in_the_weights(params, cohort, slope):
    (value, _), found = slope(params, cohort)
    expected_value, expected = formula(params, cohort)
    assert float(value) == pytest.approx(expected_value, rel=1e-12)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    # the weights of scikit-learn minimize the same loss
    codes = encode(cohort.X, np.asarray(bounded(params.D)))
    model = l2_logistic(Cohort(codes, cohort.y), C=1 / (2 * DECAY))
    start = Params(params.D, model.coef_[0], np.float64(model.intercept_[0]))
    _, found = slope(start, cohort)
    np.testing.assert_allclose(found.w, 0, atol=2e-4)
    np.testing.assert_allclose(found.b, 0, atol=2e-4)
    assert np.max(np.abs(2 * DECAY * start.w / PATIENTS)) > 2e-3


def test_what_codes_refuse():
    with pytest.raises(ValueError, match=r"strength must not be negative: given -1"):
        SparseCoding(strength=-1)
    with pytest.raises(ValueError, match=r"ratio must not be negative: given nan"):
        SparseCoding(ratio=float("nan"))
    with pytest.raises(ValueError, match=r"steps must be at least 1: given 0"):
        SparseCoding(steps=0)
    with pytest.raises(ValueError, match=r"D must have the shape \(k, p\), where p = 5 by X: given \(2, 4\)"):
        SparseCoding().encode(np.ones((3, 5)), np.ones((2, 4)))


def test_the_step_of_fista():
    assert float(CODING.solver(np.diag([3.0, 2.0])).step_size) == pytest.approx(1 / 9)
    assert float(CODING.solver(np.zeros((2, 3))).step_size) == 1


def test_what_learning_refuses(params, cohort):
    with pytest.raises(ValueError, match=r"cohort.y must have the shape \(m,\), where m = 9 by cohort.X"):
        loss(params, cohort._replace(y=cohort.y[:, None]), CODING, DECAY)
    with pytest.raises(ValueError, match=r"steps must be at least one: given 0"):
        train(params, cohort, CODING, decay=DECAY, learning_rate=RATE, steps=0)


def test_outcomes_by_hand():
    event, time = np.array([True, True, False, False, True]), np.array([4.0, 6.0, 4.0, 6.0, 5.0])
    known, y = outcomes(event, time, 5.0)
    assert known.tolist() == [True, True, False, True, True]
    assert y.tolist() == [1, 0, 0, 1]
    with pytest.raises(ValueError, match=r"vectors of one length: given shapes \(5,\) and \(4,\)"):
        outcomes(event, time[:4], 5.0)


def test_folds_are_in_units_of_their_training_patients():
    random = np.random.RandomState(2)
    whole = Cohort(3 + 2 * random.rand(40, 3), (np.arange(40) < 8).astype(float))
    found = folds(whole, 4, (0, 1))
    assert len(found) == 8
    for known, test in found:
        assert (len(known.y), len(test.y), known.y.sum(), test.y.sum()) == (30, 10, 6, 2)
        np.testing.assert_allclose(known.X.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(known.X.var(axis=0), 1)
        # the test patients are in the same units: each is found in the whole by one shift and scale for all
        row = np.concatenate([known.X, test.X])
        order = np.argsort(row[:, 0])
        line = np.polynomial.polynomial.polyfit(row[order, 0], np.sort(whole.X[:, 0]), 1)
        np.testing.assert_allclose(line[0] + line[1] * row[order, 0], np.sort(whole.X[:, 0]), atol=1e-12)
    with pytest.raises(ValueError, match=r"the columns \[1\] do not"):
        standardize(Cohort(np.array([[1.0, 2.0], [3.0, 2.0]]), np.ones(2)), Cohort(np.ones((1, 2)), np.ones(1)))


def test_methods_to_compare_with():
    random = np.random.RandomState(3)
    X = random.randn(40, 6)
    y = (X[:, 0] + 0.5 * random.randn(40) > 0).astype(float)
    scores = random.randn(40)
    pairs = scores[y == 1][:, None] > scores[y == 0]
    assert auc(y, scores) == pytest.approx(pairs.mean())
    # the subgradient of a sum of absolute values: one where a weight is not zero, no more elsewhere
    C = 0.3
    model = l1_logistic(Cohort(X, y), C)
    w = model.coef_[0]
    slope = C * X.T @ (y - model.predict_proba(X)[:, 1])
    assert 0 < np.sum(w != 0) < 6
    np.testing.assert_allclose(slope[w != 0], np.sign(w[w != 0]), atol=0.01)
    assert np.all(np.abs(slope) < 1.01)
    model = l2_logistic(Cohort(X, y), C)
    np.testing.assert_allclose(C * X.T @ (y - model.predict_proba(X)[:, 1]), model.coef_[0], atol=0.01)
    # three patterns and little else
    patterns = np.eye(3, 6)
    D = learn_dictionary(random.randn(40, 3) @ patterns, 3, 0.01, 30)
    np.testing.assert_allclose(np.linalg.norm(D, axis=1), 1)
    np.testing.assert_allclose(D[:, 3:], 0, atol=1e-12)


def test_without_scikit_survival_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sksurv.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dini-zoo\[survival\]'"):
        breast_cancer()


@pytest.fixture
def data():
    pytest.importorskip("sksurv", reason="scikit-survival, which has the data, has no build for this platform")


@pytest.mark.usefixtures("data")
def test_the_data():
    X, y = breast_cancer()
    assert X.shape == (189, 76)
    assert y.sum() == 35
    # with more years more events, and fewer patients who were observed so long
    later = breast_cancer(10.0)
    assert later.y.sum() > 35
    assert len(later.y) < 189


@pytest.mark.slow
@pytest.mark.usefixtures("data")
def test_the_bars_at_full_scale():
    result = assert_bars_met("dictionary", experiment)
    for trial in result.trials:
        assert trial.course[[0, -1]].tolist() == [trial.auc[name] for name in (FIXED, TASK)]
        assert trial.residual < 1e-12
    assert result.ways["unrolled"].distance < 1e-10
