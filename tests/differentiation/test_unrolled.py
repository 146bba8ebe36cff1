"""Unrolled derivatives that do not converge with the point: told, against the implicit derivative and closed forms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini

CURVATURE = np.linspace(1.0, 10.0, 6)
UNROLLED = dini.Unrolled()
#: coordinates 2 to 5 stay at zero, where no step size is fitted to their curvature
UNSEEN, SEEN = np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]), np.arange(1.0, 7.0)


def objective(x, b):
    return 0.5 * jnp.sum(CURVATURE * x**2) + 0.1 * jnp.sum(x**4) - b @ x


def total(b, solver, mode, on_failure="nan"):
    return jnp.sum(
        dini.minimize(objective, jnp.zeros(6), b, solver=solver, differentiation=mode, on_failure=on_failure).x
    )


FITTED = [
    dini.BFGS(),
    dini.LBFGS(history=4),
    dini.NonlinearCG(),
    dini.GradientDescent(),
    dini.TrustRegionNewtonCG(),
    dini.ProximalGradient(),
]


@pytest.mark.by_default("GradientDescent")
@pytest.mark.parametrize("solver", FITTED, ids=lambda solver: solver.name)
def test_a_direction_that_no_step_has_seen(solver):
    """The derivative there is up to thousands of times too large; of a batch, only the lanes that are wrong are NaN."""
    want = jax.grad(partial(total, solver=dini.Newton(), mode=dini.Implicit()))(SEEN)
    np.testing.assert_allclose(want, 1 / (CURVATURE + 1.2 * point(SEEN) ** 2), rtol=1e-8)
    both = jax.jit(jax.vmap(jax.grad(partial(total, solver=solver, mode=UNROLLED))))(np.stack([UNSEEN, SEEN]))
    assert np.all(np.isnan(both[0]))
    np.testing.assert_allclose(both[1], want, rtol=1e-3)
    as_it_is = jax.grad(partial(total, solver=solver, mode=UNROLLED, on_failure="ignore"))(UNSEEN)
    truth = 1 / (CURVATURE + 1.2 * point(UNSEEN) ** 2)
    assert np.max(np.abs(as_it_is / truth - 1)) > 0.1
    assert np.isfinite(total(UNSEEN, solver, UNROLLED, "raise"))


def point(b):
    """Return the minimizer, by Newton's method on each of its equations, D x + 0.4 x^3 = b."""
    x = np.zeros(6)
    for _ in range(50):
        x = x - (CURVATURE * x + 0.4 * x**3 - b) / (CURVATURE + 1.2 * x**2)
    return x


@pytest.mark.thorough
def test_a_method_that_contracts_everywhere_is_right():
    for solver in (dini.Newton(), dini.BFGS(start="hessian"), dini.GradientDescent(step_size=0.1)):
        got = jax.grad(partial(total, solver=solver, mode=UNROLLED, on_failure="raise"))(UNSEEN)
        np.testing.assert_allclose(got, 1 / (CURVATURE + 1.2 * point(UNSEEN) ** 2), rtol=1e-3)
    forward = jax.jvp(partial(total, solver=dini.BFGS(), mode=UNROLLED), (UNSEEN,), (jnp.ones(6),))[1]
    assert np.isnan(forward)


def test_the_error_names_the_remedy():
    with pytest.raises(Exception, match=r"has not converged, although the point has.*Use Implicit\(\)"):
        jax.block_until_ready(jax.grad(partial(total, solver=dini.BFGS(), mode=UNROLLED, on_failure="raise"))(UNSEEN))


@pytest.mark.thorough
def test_a_number_of_steps_that_runs_away():
    """Fifty steps make 4e22 of 0.1; three are what was asked for."""
    grad = lambda steps, b: jax.grad(partial(total, solver=dini.BFGS(), mode=dini.Unrolled(steps=steps)))(b)
    assert np.all(np.isnan(grad(50, UNSEEN)))
    assert np.all(np.isfinite(grad(3, UNSEEN)))
    np.testing.assert_allclose(grad(50, SEEN), grad(40, SEEN), rtol=1e-6)


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_a_start_at_the_solution_has_no_derivative():
    """It is kept, so that the derivative would be zero; steps that are asked for are taken."""
    run = lambda a, mode: (
        dini.minimize(
            lambda x, a: jnp.sum((x - a) ** 2), 2.0, a, solver=dini.Newton(), differentiation=mode, on_failure="nan"
        ).x
    )
    assert np.isnan(jax.grad(run)(2.0, UNROLLED))
    np.testing.assert_allclose(jax.grad(run)(2.0, dini.Unrolled(steps=2)), 1)
    start = lambda x0: (
        dini.minimize(lambda x: jnp.sum((x - 2.0) ** 2), x0, differentiation=UNROLLED, on_failure="nan").x
    )
    assert np.isnan(jax.grad(start)(2.0))
    np.testing.assert_allclose(jax.grad(start)(0.0), 0, atol=1e-6)


def test_a_bisection_has_no_derivative():
    """Its trial points are the middles of brackets, which do not depend on the parameters."""
    run = lambda a, mode: (
        dini.root(
            lambda x, a: (1 + a) * x - 2,
            0.6,
            a,
            solver=dini.Bisection(0.0, 3.0),
            differentiation=mode,
            on_failure="nan",
        ).x
    )
    assert np.isnan(jax.grad(run)(0.4, UNROLLED))
    for mode in (dini.Unrolled(last=2), dini.Implicit()):
        np.testing.assert_allclose(jax.grad(run)(0.4, mode), -2 / 1.4**2, rtol=1e-6)


@pytest.mark.thorough
def test_what_does_not_move_the_solution():
    """Its derivative is zero, of which no error is a share: a scale, a setting, a term that acts on the way alone."""
    b = np.array([1.0, 2.0, -1.0])
    scaled = lambda x, a: a * jnp.sum(np.array([1.0, 2.0, 5.0]) * (x - b) ** 2 / 2)
    for solver in (dini.GradientDescent(step_size=0.1), dini.GradientDescent(), dini.LBFGS(), dini.BFGS()):
        fit = partial(dini.minimize, scaled, jnp.zeros(3), solver=solver, differentiation=UNROLLED)
        np.testing.assert_allclose(jax.grad(lambda a, fit=fit: fit(a).x.sum())(1.3), 0, atol=1e-4)
    run = lambda a: dini.root(lambda x, a: a * (x**3 - 2), 1.0, a, differentiation=UNROLLED).x
    np.testing.assert_allclose(jax.grad(run)(1.0), 0, atol=1e-6)
    run = lambda t: dini.minimize(
        scaled, jnp.zeros(3), 1.0, solver=dini.GradientDescent(step_size=t), differentiation=UNROLLED
    ).x.sum()
    np.testing.assert_allclose(jax.grad(run)(0.1), 0, atol=1e-4)


@pytest.mark.thorough
def test_a_setting_of_steps_that_have_not_converged():
    """The derivative is that of the iterate."""
    run = lambda t: dini.fixed_point(
        lambda x: jnp.cos(x + jnp.arange(3.0)),
        jnp.zeros(3),
        solver=dini.Anderson(mixing=t),
        differentiation=dini.Unrolled(steps=3),
    ).x[0]
    slope = (run(0.9 + 1e-6) - run(0.9 - 1e-6)) / 2e-6
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(jax.grad(run)(0.9), slope, rtol=1e-4)


def test_a_map_with_a_rule_for_reverse_mode_alone():
    @jax.custom_vjp
    def half(x):
        return 0.5 * x

    half.defvjp(lambda x: (half(x), None), lambda _, w: (0.5 * w,))
    fixed = lambda a: (
        dini.fixed_point(
            lambda x, a: half(x) + a, 0.0, a, solver=dini.FixedPointIteration(), differentiation=UNROLLED
        ).x
    )
    np.testing.assert_allclose(jax.grad(fixed)(3.0), 2, rtol=1e-6)
