"""Continuous speculative decoding: the method against its closed form, bad input, and the experiment's bars."""

import jax
import numpy as np
import pytest
from outputs import assert_bars_met

from dini_zoo.generative.continuous_speculative_decoding import fit
from dini_zoo.generative.continuous_speculative_decoding.experiment import experiment


def test_the_fit_is_that_of_the_normal_equations():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(8, 3)), random.normal(size=8)
    w = jax.jit(lambda theta: fit(theta, X, y, steps=400))(0.5)
    np.testing.assert_allclose(w, np.linalg.solve(X.T @ X + np.exp(0.5) * np.eye(3), X.T @ y), rtol=1e-8)


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("continuous-speculative-decoding", experiment)
