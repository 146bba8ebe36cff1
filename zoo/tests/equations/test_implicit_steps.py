"""Implicit steps: closed forms, derivatives in both modes and of second order, stiff ones, failures that are told."""

import doctest

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from dini_zoo.equations import implicit_steps
from dini_zoo.equations.implicit_steps import ThetaMethod

TERM = diffrax.ODETerm(lambda t, z, a: -a * z**3 + jnp.cos(t))


def by_hand(a, theta, h=0.25, steps=4):
    """The end of the same steps, their roots by bisection."""
    z, f = 1.5, lambda t, z: -a * z**3 + np.cos(t)

    def after(t, z):
        known = z + h * (1 - theta) * f(t, z)
        return optimize.brentq(lambda x: x - known - h * theta * f(t + h, x), -10, 10, xtol=1e-15, rtol=1e-15)

    for i in range(steps):
        z = after(i * h, z)
    return z


@pytest.mark.parametrize("theta", [pytest.param(1.0, marks=pytest.mark.thorough), 0.5])
def test_steps_and_their_derivatives(theta):
    def end(a, adjoint):
        solution = diffrax.diffeqsolve(
            TERM, ThetaMethod(theta), 0.0, 1.0, 0.25, jnp.asarray(1.5), a, max_steps=4, adjoint=adjoint
        )
        return solution.ys[0]

    reverse = lambda a: jax.value_and_grad(end)(a, diffrax.RecursiveCheckpointAdjoint())
    forward = lambda a: jax.jvp(lambda a: end(a, diffrax.ForwardMode()), (a,), (jnp.ones(()),))
    second = lambda a: jax.jvp(lambda a: forward(a)[1], (a,), (jnp.ones(()),))[1]
    (value, slope), (_, tangent), curvature = jax.jit(lambda a: (reverse(a), forward(a), second(a)))(0.7)
    np.testing.assert_allclose(value, by_hand(0.7, theta), rtol=1e-9)
    d = 1e-3
    low, mid, high = (by_hand(0.7 + shift, theta) for shift in (-d, 0, d))
    np.testing.assert_allclose([slope, tangent], (high - low) / (2 * d), rtol=1e-5)
    np.testing.assert_allclose(curvature, (high - 2 * mid + low) / d**2, rtol=1e-4)


def test_a_root_that_is_not_found_is_told():
    # z = 1 + h (z² + 1) has no solution at h = 1
    term = diffrax.ODETerm(lambda t, z, args: z**2 + 1)
    solution = diffrax.diffeqsolve(
        term, ThetaMethod(), 0.0, 2.0, 1.0, jnp.ones(()), max_steps=4, throw=False, adjoint=diffrax.ForwardMode()
    )
    assert solution.result == diffrax.RESULTS.nonlinear_divergence


def test_a_lane_without_a_root_spoils_no_other():
    """Values and derivatives of the lanes beside it are those that each has alone."""
    # z = 1.2 + z² - a has no real solution for a < 0.95
    term = diffrax.ODETerm(lambda t, z, a: z**2 - a)

    def end(a):
        z, *_, result = ThetaMethod().step(term, 0.0, 1.0, jnp.asarray(1.2), a, None, False)
        return z, result == diffrax.RESULTS.successful

    levels = np.array([1.0, -5.0, np.nan, 2.0])
    (found, success), slopes = jax.jit(jax.vmap(jax.value_and_grad(end, has_aux=True)))(levels)
    assert list(np.asarray(success)) == [True, False, False, True]
    for i in (0, 3):
        truth = 0.5 + np.sqrt(levels[i] - 1.2 + 0.25)
        np.testing.assert_allclose(found[i], truth, rtol=1e-9)
        np.testing.assert_allclose(slopes[i], 1 / (2 * truth - 1), rtol=1e-8)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"theta must be in \(0, 1\]: given 0.0"):
        ThetaMethod(0.0)


def test_examples():
    assert doctest.testmod(implicit_steps).failed == 0
