"""Tests of dini are strict: float64, and no shapes that are promoted in silence."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict():
    """Tests compute in float64 unless they say otherwise, and shapes are never promoted in silence."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        yield
