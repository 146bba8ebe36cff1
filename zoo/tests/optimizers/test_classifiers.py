"""The small classifiers that the systems of the field share."""

import doctest

import jax
import numpy as np
import pytest
from sklearn import metrics

from dini_zoo.optimizers import classifiers


def test_weights_have_the_variance_of_he():
    model = classifiers.Perceptron((400, 300, 10), key=jax.random.key(0))
    for W, b in zip(model.weights, model.biases, strict=True):
        assert np.var(W) == pytest.approx(2 / W.shape[1], rel=0.06)
        assert not np.any(b)


def test_loss_and_accuracy_are_those_of_scikit_learn():
    train, test = classifiers.digits(1200)
    assert train.X.shape == (1200, 64)
    assert test.X.shape == (597, 64)
    # every digit has its share
    assert np.ptp(train.Y.sum(axis=0) / 1200 - test.Y.sum(axis=0) / 597) < 0.003
    model = classifiers.Perceptron((64, 16, 10), key=jax.random.key(1))
    h = np.maximum(test.X @ np.asarray(model.weights[0]).T, 0) @ np.asarray(model.weights[1]).T
    share = np.exp(h) / np.exp(h).sum(axis=1, keepdims=True)
    assert classifiers.loss(model, test) == pytest.approx(metrics.log_loss(test.labels, share), rel=1e-6)
    assert classifiers.accuracy(model, test) == pytest.approx(np.mean(h.argmax(axis=1) == test.labels))


def test_examples_run():
    assert doctest.testmod(classifiers).failed == 0
