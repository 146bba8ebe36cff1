"""Which inequalities are active: one rule for conditions and solvers."""

import jax.numpy as jnp
import numpy as np

from dini.conditions._activity import active


def test_the_rule():
    """A multiplier beside its slack, none that is rounding, and what is violated whatever its multiplier."""
    multiplier = jnp.array([1.0, 1e-9, 0.0, 1e-15, 1e-15, 0.0, 0.0, 2.0])
    slack = jnp.array([1e-9, 1.0, 0.0, 0.0, -1.0, -1.0, -1e-15, jnp.inf])
    found = active(multiplier, slack, noise=1e-14, least=1e-14)
    np.testing.assert_array_equal(found, [True, False, False, False, True, True, False, False])


def test_without_a_margin_any_violation_counts():
    """In units of the program, a force of size one leaves more than the square of the roundoff."""
    np.testing.assert_array_equal(
        active(jnp.array([1e-20, 0.0, 1e-40, 0.0]), jnp.array([0.0, -1e-20, 0.0, 0.0])), [True, True, False, False]
    )
