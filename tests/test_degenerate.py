"""The options at degenerate points, each asked for by name."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import conditions, linear, penalties, sets


def distance(x, p):
    return 0.5 * jnp.sum((x - p) ** 2)


H = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 1.5]])


def quadratic(x, c):
    return 0.5 * x @ H @ x - c @ x


def test_one_sided_derivatives_of_a_weakly_active_bound():
    """Trap 13: 1 and 0."""
    problem = dini.Minimize(distance, constraint=sets.NonNegative())
    for t, want in ((1.0, 1.0), (-1.0, 0.0), (-3.0, 0.0), (2.5, 2.5)):
        got = dini.one_sided_jvp(problem, jnp.zeros(1), (jnp.zeros(1),), (jnp.full(1, t),))
        np.testing.assert_allclose(got, [want], atol=1e-7)


PARTS = {
    "bounds": {"constraint": sets.NonNegative()},
    "simplex": {"constraint": sets.Simplex()},
    "1-norm": {"penalty": penalties.L1(0.5)},
}


@pytest.mark.by_default("0-simplex", "1-simplex", "2-simplex")
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("seed", range(3))
def test_one_sided_derivatives_against_differences(name, seed):
    """At a solution with a zero multiplier, for a Hessian that is not diagonal, against solves nearby."""
    problem = dini.Minimize(quadratic, **PARTS[name])
    # x and a subgradient such that the last coordinate is at its kink
    x, g = {
        "bounds": (np.array([0.7, 0.0, 0.0]), np.array([0.0, -0.4, 0.0])),
        "simplex": (np.array([0.6, 0.4, 0.0]), np.array([0.2, 0.2, 0.2])),
        "1-norm": (np.array([0.7, 0.0, 0.0]), np.array([0.5, 0.1, -0.5])),
    }[name]
    c = H @ x + g
    t = np.random.default_rng(seed).standard_normal(3)
    got = dini.one_sided_jvp(problem, x, (c,), (t,))
    solver = dini.ProximalGradient(tol=1e-13, max_steps=20_000)
    h = 1e-5
    ahead = dini.solve(problem, solver, jnp.asarray(x), c + h * t, on_failure="ignore").x
    np.testing.assert_allclose(got, (ahead - x) / h, atol=1e-5)
    # away from kinks it is the derivative
    c = np.array([1.5, 1.2, 0.9])
    x = dini.solve(problem, solver, jnp.ones(3) / 3, c).x
    want = jax.jvp(lambda c: dini.solve(problem, solver, jnp.ones(3) / 3, c).x, (c,), (t,))[1]
    np.testing.assert_allclose(dini.one_sided_jvp(problem, x, (c,), (t,)), want, atol=1e-6)


def test_one_sided_derivatives_compile_once():
    problem = dini.Minimize(distance, constraint=sets.NonNegative())
    along = lambda t: dini.one_sided_jvp(problem, np.zeros(2), (np.zeros(2),), (np.array([t, -t]),))
    along(1.0)
    with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
        compiled = []
        patch.setattr(logging.Logger, "handle", lambda self, record: compiled.append(record.getMessage()))
        np.testing.assert_allclose(along(-2.0), [0.0, 2.0])
    assert not [message for message in compiled if "compil" in message.lower()]


def test_one_sided_bad_input():
    with pytest.raises(TypeError, match="needs a minimization"):
        dini.one_sided_jvp(dini.Root(lambda x, a: x - a), 1.0, (1.0,), (1.0,))
    problem = dini.Minimize(distance, constraint=sets.NonNegative())
    with pytest.raises(TypeError, match="tangents must have the structure of args"):
        dini.one_sided_jvp(problem, jnp.ones(1), (jnp.ones(1),), ())


def solution(problem, condition, p, solver=None):
    solver = solver or dini.ProximalGradient(tol=1e-12)
    mode = dini.Implicit(condition=condition)
    return lambda p: dini.solve(problem, solver, jnp.ones_like(p), p, differentiation=mode).x


@pytest.mark.thorough
def test_relaxed_complementarity():
    """The derivative of x mu = kappa, for a bound, a box and the 1-norm, also in the parameters of the set."""
    kappa = 1e-2
    slope = lambda z: 0.5 * (1 + z / np.sqrt(z**2 + 4 * kappa))
    smooth = conditions.SmoothedProximalGradient(kappa=kappa)
    p = jnp.array([-0.3, 0.0, 0.05, 2.0])
    for part, want in (
        ({"constraint": sets.NonNegative()}, slope(p)),
        ({"constraint": sets.Box(0.0, 1.0)}, 1 - slope(0.0 - p) - slope(p - 1.0)),
        ({"penalty": penalties.L1(0.5)}, slope(-0.5 - p) + slope(p - 0.5)),
    ):
        # distance has curvature one: the operator's argument is p itself
        jacobian = jax.jacrev(solution(dini.Minimize(distance, **part), smooth, p))(p)
        np.testing.assert_allclose(jacobian, np.diag(want), atol=1e-9)
    bound = lambda low: solution(dini.Minimize(distance, constraint=sets.Box(low, None)), smooth, p)(p)
    np.testing.assert_allclose(jax.jacfwd(bound)(0.0), slope(0.0 - p), atol=1e-9)
    # the value is the exact one
    np.testing.assert_allclose(bound(0.0), np.maximum(p, 0), atol=1e-9)
    with pytest.raises(TypeError, match=r"needs the constraint NonNegative or Box.*given Simplex"):
        jax.jacrev(solution(dini.Minimize(distance, constraint=sets.Simplex()), smooth, p))(p)
    with pytest.raises(ValueError, match="kappa must be positive"):
        conditions.SmoothedProximalGradient(kappa=0.0)


@pytest.mark.thorough
def test_the_central_path():
    """With a coupled Hessian: the derivative of the relaxed optimality system, solved by NumPy, as kappa vanishes."""
    c = np.array([1.0, -0.8, 0.0])
    problem = dini.Minimize(quadratic, constraint=sets.NonNegative())
    x = np.asarray(dini.solve(problem, dini.ProximalGradient(tol=1e-13, max_steps=5000), jnp.ones(3), c).x)
    eta = 0.4
    y = x - eta * (H @ x - c)
    P = np.diag(0.5 * (1 + y / np.sqrt(y**2 + 4e-4)))
    want = np.linalg.solve(np.eye(3) - P @ (np.eye(3) - eta * H), eta * P)
    condition = conditions.SmoothedProximalGradient(kappa=1e-4, step_size=eta)
    solver = dini.ProximalGradient(tol=1e-13, max_steps=5000)
    for linear_solver in (None, linear.CG()):
        mode = dini.Implicit(condition=condition, linear_solver=linear_solver)
        solve = lambda c, mode=mode: dini.solve(problem, solver, jnp.ones(3), c, differentiation=mode).x
        got = jax.jacrev(solve)(c)
        np.testing.assert_allclose(got, want, atol=1e-9)


def test_perturbation():
    """The mean of the derivative around a kink: of a bound, half; of many samples, the normal distribution's."""
    problem = dini.Minimize(distance, constraint=sets.NonNegative())
    mean = conditions.PerturbedProximalGradient(scale=0.1, samples=4000)
    p = jnp.array([-0.1, 0.0, 0.05, 3.0])
    from scipy.stats import norm

    want = norm.cdf(np.asarray(p) / 0.1)
    jacobian = jax.jacrev(solution(problem, mean, p))(p)
    np.testing.assert_allclose(jacobian, np.diag(want), atol=4 * 0.5 / np.sqrt(4000))
    np.testing.assert_allclose(jacobian[1, 1], 0.5)  # by pairs of opposite sign
    with pytest.raises(ValueError, match="samples must be even"):
        conditions.PerturbedProximalGradient(samples=3)


def test_a_smoothed_derivative_is_no_tie():
    """It was asked for: the certificate does not refuse it for the kink."""
    problem = dini.Minimize(distance, constraint=sets.NonNegative())
    smooth = dini.Implicit(condition=conditions.SmoothedProximalGradient(kappa=1e-4))
    args = (jnp.zeros(1), (jnp.zeros(1),), jnp.ones(1))
    (gradient,), certificate = dini.certified.vjp(problem, *args, differentiation=smooth)
    np.testing.assert_allclose(gradient, 0.5)
    assert certificate.reliable


def test_minimum_norm():
    """Trap 5: min (w1 + w2 - a)^2 / 2 has the minimum-norm derivative (1/2, 1/2), if it is asked for."""
    flat = lambda w, a: 0.5 * (w[0] + w[1] - a) ** 2
    mode = dini.Implicit(linear_solver=linear.MinimumNorm())
    solve = lambda a: dini.minimize(flat, jnp.zeros(2), a, differentiation=mode).x
    np.testing.assert_allclose(jax.jacfwd(solve)(1.0), [0.5, 0.5], atol=1e-9)
    np.testing.assert_allclose(jax.jacrev(lambda a: solve(a).sum())(1.0), 1.0, atol=1e-9)
