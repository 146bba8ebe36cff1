"""Iterations that are counted and compared: least squares as published, traced limits, states before the first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini_jaxopt as jaxopt
from dini.status import SolveWarning

START = np.array([-1.2, 1.0])


def valley(x):
    return jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def parts(x):
    return np.asarray(valley(x)), np.array([[-20 * x[0], 10.0], [-1.0, 0.0]])


def published(damping, tol, most):
    """Return the point and the number of trials of Madsen, Nielsen and Tingleff's algorithm (2004), in NumPy."""
    x, growth = START, 2.0
    r, J = parts(x)
    mu = damping * max(np.diag(J.T @ J))
    for trials in range(most):
        if np.linalg.norm(J.T @ r) <= tol:
            return x, trials
        h = np.linalg.solve(J.T @ J + mu * np.eye(2), -J.T @ r)
        new, at = parts(x + h)
        ratio = (r @ r - new @ new) / (h @ (mu * h - J.T @ r))
        if ratio > 0:
            x, r, J, growth = x + h, new, at, 2.0
            mu *= max(1 / 3, 1 - (2 * ratio - 1) ** 3)
        else:
            mu, growth = mu * growth, 2 * growth
    return x, most


@pytest.mark.parametrize(("damping", "most"), [(1e-3, 100), (1e-3, 6), (1.0, 100)])
def test_levenberg_marquardt_takes_the_published_steps(damping, most):
    """Rejected trials count, and points that are no solution yet are the same."""
    x, trials = published(damping, 1e-6, most)
    settings = {"damping_parameter": damping, "tol": 1e-6, "maxiter": most}
    params, state = jax.jit(jaxopt.LevenbergMarquardt(valley, **settings).run)(START)
    assert state.iter_num == trials
    assert state.iter_num.dtype == jnp.zeros(0, int).dtype
    np.testing.assert_allclose(params, x, rtol=1e-9)


def test_gauss_newton_tests_the_length_of_its_full_steps():
    curve = lambda x, y: y - x[0] * jnp.exp(x[1] * jnp.arange(4.0))
    y = jnp.array([2.0, 1.3, 1.1, 0.4])
    x, steps = np.array([1.0, -0.1]), []
    while not steps or steps[-1] > 1e-3:
        r, J = np.asarray(curve(x, y)), np.asarray(jax.jacfwd(curve)(x, y))
        step = np.linalg.lstsq(J, r, rcond=None)[0]
        x, steps = x - step, [*steps, np.linalg.norm(step)]
    solver = jaxopt.GaussNewton(curve, tol=1e-3)
    params, state = solver.run(np.array([1.0, -0.1]), y)
    assert state.iter_num == len(steps) > 2
    np.testing.assert_allclose(params, x, rtol=1e-9)
    np.testing.assert_allclose(state.error, steps[-1], rtol=1e-6)
    assert jnp.isinf(solver.init_state(np.array([1.0, -0.1]), y).error)


def test_gauss_newton_that_runs_away_says_so():
    """From far, full steps on an arc tangent overshoot more each time."""
    with pytest.warns(SolveWarning, match="GaussNewton ended before"):
        jaxopt.GaussNewton(lambda x: jnp.arctan(x), maxiter=8).run(jnp.array([2.0]))


def test_maxiter_may_be_traced():
    run = lambda most: jaxopt.FixedPointIteration(jnp.cos, maxiter=most, tol=1e-6).run(jnp.ones(()))
    traced = jax.jit(run)
    for most in (0, 2, 50):
        (params, state), (same, told) = jax.jit(lambda most=most: run(most))(), traced(most)
        np.testing.assert_allclose(params, same)
        assert (state.iter_num, state.status) == (told.iter_num, told.status)
    assert 2 < told.iter_num < 50
    slope = jax.jit(lambda most: jax.grad(lambda a: jaxopt.LBFGS(twice, maxiter=most).run(0.0, a).params)(1.0))
    np.testing.assert_allclose(slope(30), 2.0)


def twice(x, a):
    return (x - 2 * a) ** 2


def test_maxiter_that_does_not_fit():
    fun = lambda x: jnp.sum(x**2)
    unrolled = lambda most: jaxopt.GradientDescent(fun, maxiter=most, implicit_diff=False).run(jnp.zeros(2))
    with pytest.raises(TypeError, match="maxiter must be a Python integer where iterations are differentiated"):
        jax.jit(unrolled)(3)
    for wrong in (2.5, -1):
        with pytest.raises(ValueError, match="GradientDescent's maxiter must be an integer of at least zero"):
            jaxopt.GradientDescent(fun, maxiter=wrong).run(jnp.zeros(2))


def test_the_first_state_of_a_box_needs_no_program():
    Q, c = jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([-4.0, 1.0])
    solver = jaxopt.BoxCDQP()
    bare = jaxopt.OptStep(jnp.zeros(2), solver.init_state(jnp.zeros(2)))
    update = lambda _, step: solver.update(*step, params_obj=(Q, c), params_ineq=(jnp.zeros(2), jnp.ones(2)))
    params, state = jax.lax.fori_loop(0, 3, update, bare)
    np.testing.assert_allclose(params, [1.0, 0.0])
    assert state.error == 0
    given = solver.init_state(jnp.zeros(2), (Q, c), (jnp.zeros(2), jnp.ones(2)))
    assert jax.tree.structure(given) == jax.tree.structure(bare.state)
