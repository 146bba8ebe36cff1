"""Barriers of the cones that are not symmetric, near the boundary, where a factorization would be lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini.solvers.interior._barrier_cones import ExponentialCone, PowerCone


def points(kind, margin):
    """Return points at a relative distance from the boundary."""
    x, y = jnp.array([-1.3, 0.2, 1.0, 2.0]), jnp.array([0.3, 1.0, 2.0, 0.7])
    if kind == "exponential":
        edge = y * jnp.exp(x / y)
        return jnp.stack([x, y, edge * (1 + margin)], axis=1)
    x, sign = jnp.abs(x), jnp.array([1.0, -1, 1, -1])
    return jnp.stack([x, y, sign * x**0.3 * y**0.7 * (1 - margin)], axis=1)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("kind", ["exponential", "power"])
def test_inverse_hessians(kind, unit):
    """As the barrier is logarithmically homogeneous, the inverse takes its gradient to the point with a minus sign."""
    cone, alpha = (ExponentialCone() if kind == "exponential" else PowerCone()), jnp.asarray(0.3)

    @jax.jit
    @jax.vmap
    def parts(s):
        inverse, gradient = cone.inverse_hessian(s, alpha), cone.gradient(s, alpha)
        return inverse, inverse @ gradient, jax.jacfwd(cone.gradient)(s, alpha)

    for margin in (1e-1, 1e-5, 1e-9):
        s = unit * points(kind, margin)
        inverse, image, hessian = parts(s)
        np.testing.assert_allclose(image / unit, -s / unit, rtol=1e-5 if margin < 1e-6 else 1e-8, atol=1e-7)
        # positive definite however near the boundary is, as the path needs it
        values = jnp.linalg.eigvalsh(inverse / unit**2)
        assert (values[:, 0] > -16 * jnp.finfo(values.dtype).eps * values[:, -1]).all()
        if margin == 1e-1:
            np.testing.assert_allclose(inverse @ hessian, np.tile(np.eye(3), (4, 1, 1)), atol=1e-9)
