"""The tests are as strict as dini's: float64, and no shapes that are promoted in silence."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict():
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        yield
