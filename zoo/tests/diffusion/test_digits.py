"""The judge by a network: its features lead to what it says."""

import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.diffusion.digits import Digits, NetworkJudge, load, network_judge


class Fitted:
    coefs_ = (np.array([[1.0, -1.0], [0.5, 2.0]]), None)
    intercepts_ = (np.array([0.1, -0.3]), None)


def test_features_are_rectified():
    judge = NetworkJudge(Fitted())
    np.testing.assert_allclose(judge.features(jnp.array([[1.0, 0.2], [0.0, 1.0]])), [[1.2, 0.0], [0.6, 1.7]])
    np.testing.assert_array_equal(Digits(np.array([[0, 16, 4]]), np.array([0])).unit, [[0.0, 1.0, 0.25]])


@pytest.mark.thorough
def test_the_last_layer_on_the_features_is_the_verdict():
    judge, (_, test) = network_judge(), load()
    last = judge.classifier.coefs_[1], judge.classifier.intercepts_[1]
    scores = np.asarray(judge.features(jnp.asarray(test.unit))) @ last[0] + last[1]
    np.testing.assert_array_equal(scores.argmax(axis=1), judge.labels(test.unit))
    assert np.mean(judge.labels(test.unit) == test.labels) > 0.96
