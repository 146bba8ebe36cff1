"""The error of a quadratic program's conditions."""

import jax
import jax.numpy as jnp
import pytest

import dini


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_what_a_point_violates_is_in_its_error_whatever_its_multipliers(scale):
    """A stationary point of the objective outside of a bound or a row is no solution."""
    condition, zero = dini.conditions.ProgramKKT(), jnp.zeros(2)
    start = scale * jnp.array([-2.0, 1.0])  # the minimum without constraints
    cases = {
        "lower": ({"lower": -scale}, dini.Multipliers(bounds=zero)),
        "upper": ({"upper": 0.5 * scale}, dini.Multipliers(bounds=zero)),
        "row": ({"G": jnp.array([[1.0, 1.0]]), "h": jnp.array([-2.0]) * scale}, dini.Multipliers(inequality=zero[:1])),
    }
    for name, (part, dual) in cases.items():
        for noise in (0.0, 1e-17, -1e-17):
            given = jax.tree.map(lambda leaf, noise=noise: leaf + noise * scale, dual)
            program = dini.QuadraticProgram(Q=jnp.eye(2), c=-start, **part)
            error = condition.error(program, dini.PrimalDual(start, given))
            assert error > 0.1, (name, noise)
