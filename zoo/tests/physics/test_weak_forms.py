"""Test functions, rules and weak residuals: the specification's numbers, exact solutions, bad input."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.physics import weak_forms
from dini_zoo.physics.weak_forms import (
    bump,
    gauss_rule,
    grid_rule,
    sample_centers,
    value_and_slope,
    weak_residual,
    wendland,
    wendland_slope,
)


def test_wendland_is_that_of_the_specification():
    """Exact check 1."""
    y = jnp.array([0.3, 0.2])
    assert abs(wendland(y) - 0.31993685) < 1e-8
    np.testing.assert_allclose(wendland_slope(y), (-1.67799981, -1.11866654), atol=1e-8)
    integral = lambda rule, size: float(rule.mean(rule.v)) * size
    assert abs(integral(gauss_rule(6, 2), np.pi) - np.pi / 9) < 1e-14
    assert abs(integral(gauss_rule(6, 1), 2.0) - 2 / 3) < 1e-14
    edge = jnp.array([[1.0, 0.0], [0.6, 0.8], [3.0, -1.0]])
    np.testing.assert_allclose(wendland(edge), 0.0, atol=1e-60)
    np.testing.assert_allclose(wendland_slope(edge), 0.0, atol=1e-50)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_gradient_is_that_of_differences(dim):
    y = jax.random.uniform(jax.random.key(dim), (4, dim), minval=-0.5, maxval=0.5)
    h = 1e-6
    for test in (wendland, bump):
        slope, at = jax.jit(jax.vmap(jax.grad(test))), jax.jit(test)
        differences = [(at(y + h * e) - at(y - h * e)) / (2 * h) for e in np.eye(dim)]
        np.testing.assert_allclose(slope(y), np.stack(differences, axis=-1), atol=1e-8)
    # also at zero, where the radius has no derivative: the curvature is -(l + 3) (l + 4) / 3
    l = dim // 2 + 3
    np.testing.assert_allclose(
        jax.jit(jax.hessian(wendland))(jnp.zeros(dim)), -(l + 3) * (l + 4) / 3 * np.eye(dim), atol=1e-12
    )


def test_kappa_is_that_of_the_specification():
    """Exact check 2."""
    expected = {(5, 2): 0.8240470, (7, 2): 0.9876342, (9, 2): 0.9982717, (15, 2): 0.9999627}
    expected |= {(10, 1): 1.0007583, (11, 1): 0.9999040}
    for (count, dim), kappa in expected.items():
        assert abs(grid_rule(count, dim).kappa - kappa) < 6e-8
    assert [len(grid_rule(n, 2).v) for n in (7, 9)] == [25, 45]
    assert len(grid_rule(11, 1).v) == 9
    for dim in (1, 2, 3):
        assert abs(gauss_rule(6, dim).kappa - 1) < 1e-13


def test_the_manufactured_solution():
    """Exact check 3: u = sin(pi x) sin(pi y), a = 1 + x, and a source to it.

    The specification's figures are relative to the right-hand side without kappa.
    """
    rule, center = grid_rule(7, 2), jnp.array([[0.3, 0.4]])
    u = lambda x: jnp.prod(jnp.sin(jnp.pi * x), axis=-1)

    def source(x):
        a = 1 + x[..., 0]
        return 2 * jnp.pi**2 * a * u(x) - jnp.pi * jnp.cos(jnp.pi * x[..., 0]) * jnp.sin(jnp.pi * x[..., 1])

    @jax.jit
    def residual(radius, kappa):
        slope = lambda x: value_and_slope(u, x)[1]
        left = weak_residual(lambda x, v, dv: (1 + x[..., 0]) * jnp.sum(slope(x) * dv, axis=-1), center, radius, rule)
        right = weak_residual(lambda x, v, dv: source(x) * v, center, radius, rule)
        return left[0] / right[0] - kappa

    found = [residual(radius, rule.kappa) for radius in (0.1, 0.05, 0.025)]
    np.testing.assert_allclose(found, (-5.7e-5, -1.43e-5, -3.56e-6), rtol=5e-3)
    np.testing.assert_allclose(np.divide(found[:-1], found[1:]), 4.0, rtol=5e-3)
    assert all(abs(residual(radius, 1.0) + 0.0124) < 1e-4 for radius in (0.1, 0.05, 0.025))


def test_burgers_equation_in_weak_form():
    """A traveling wave of u_t + u u_x = nu u_xx leaves nothing, up to the square of the radius."""
    nu, speed = 0.2, 0.4
    wave = lambda x, t: speed - 2 * nu * jnp.tanh(x - speed * t)
    centers = jnp.array([[-0.4], [0.1], [0.7]])
    rule = gauss_rule(6, 1)

    @jax.jit
    def residual(radius, nu):
        def integrand(x, v, dv):
            u, slope = value_and_slope(lambda x: wave(x[..., 0], 0.3), x)
            rate = jax.jvp(lambda t: wave(x[..., 0], t), (0.3,), (1.0,))[1]
            return rate * v + u * slope[..., 0] * v + nu * slope[..., 0] * dv[:, 0]

        return weak_residual(integrand, centers, radius, rule)

    assert jnp.max(jnp.abs(residual(0.1, nu))) < 1e-12
    assert jnp.max(jnp.abs(residual(0.1, 1.1 * nu))) > 1e-3


def test_centers_are_strata_inside_the_box():
    low, high = (0.0, -1.0), (1.0, 3.0)
    x = sample_centers(jax.random.key(0), 16, 0.2, low, high)
    for axis in range(2):
        scaled = (x[:, axis] - low[axis] - 0.2) / (high[axis] - low[axis] - 0.4)
        np.testing.assert_array_equal(jnp.sort(jnp.floor(16 * scaled)), np.arange(16))
    assert np.corrcoef(x.T)[0, 1] < 0.9
    other = sample_centers(jax.random.key(1), 16, 0.2, low, high)
    assert jnp.max(jnp.abs(x - other)) > 0.1


def test_the_gradient_of_a_field_is_of_each_point_alone():
    x = jax.random.uniform(jax.random.key(0), (3, 5, 2))
    fields = lambda x: jnp.stack([jnp.sin(x[..., 0]) * x[..., 1], x[..., 1] ** 3])
    value, slope = value_and_slope(fields, x)
    assert value.shape == (2, 3, 5)
    expected = jnp.stack(
        [jnp.stack([jnp.cos(x[..., 0]) * x[..., 1], jnp.sin(x[..., 0])], axis=-1),
         jnp.stack([0 * x[..., 0], 3 * x[..., 1] ** 2], axis=-1)]
    )  # fmt: skip
    np.testing.assert_allclose(slope, expected, atol=1e-14)


def test_bad_input_is_refused():
    key, rule = jax.random.key(0), grid_rule(7, 2)
    with pytest.raises(ValueError, match=r"radius must be less than half of each side of the box: given 0.5"):
        sample_centers(key, 4, 0.5)
    with pytest.raises(ValueError, match=r"radius must be positive and finite: given -0.1"):
        sample_centers(key, 4, -0.1)
    with pytest.raises(ValueError, match=r"low and high must be corners of a box"):
        sample_centers(key, 4, 0.1, (0.0,), (1.0, 1.0))
    with pytest.raises(ValueError, match=r"centers must have shape \(j, 2\), as the rule has: given \(4, 1\)"):
        weak_residual(lambda x, v, dv: v, jnp.zeros((4, 1)), 0.1, rule)
    with pytest.raises(ValueError, match=r"integrand must return values at \(4, 25\) points"):
        weak_residual(lambda x, v, dv: v, jnp.zeros((4, 2)), 0.1, rule)
    with pytest.raises(ValueError, match=r"dim must be 1, 2 or 3: given 4"):
        gauss_rule(4, 4)
    with pytest.raises(ValueError, match=r"count must be at least 3: given 2"):
        grid_rule(2, 1)


def test_the_examples_of_the_docstrings():
    with jax.enable_x64(False):
        assert doctest.testmod(weak_forms, extraglobs={"jax": jax, "jnp": jnp}).failed == 0
