"""JAXopt's line searches and steps of given length: starts that are numbers, complex unknowns, JAXopt's conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
import dini_jaxopt as jaxopt

SEARCHES = ["BacktrackingLineSearch", "ZoomLineSearch", "HagerZhangLineSearch"]


@pytest.mark.parametrize("name", SEARCHES)
def test_numbers_of_python(name):
    """A point and a direction may be numbers, of whole value too."""
    search = getattr(jaxopt, name)(lambda x: (x - 3.0) ** 2, max_stepsize=4.0)
    stepsize, state = search.run(1.0, 1, descent_direction=2.0)
    assert state.done
    assert (state.params - 3) ** 2 < 4
    np.testing.assert_allclose(state.params, 1 + 2 * stepsize)
    by_hand = search.update(1.0, search.init_state(1.0, 1, descent_direction=2.0), 1, descent_direction=2.0)
    assert by_hand.state.done
    np.testing.assert_allclose(by_hand.state.params, 3.0)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_complex_unknown_is_its_two_parts(name):
    """The step is that of the same function of real and imaginary part, along the gradient and along any direction."""
    W = jnp.array([[1, -2], [0.5 + 2j, 1 - 3j], [-2 - 2j, 4]])
    fun = lambda z: jnp.sum(jnp.abs(W @ z - 1) ** 1.5)
    parts = lambda z: jnp.stack([z.real, z.imag])
    start, along = jnp.array([1 - 1j, 2j]), jnp.array([-0.3 + 0.2j, -0.2 - 1j])
    assert jnp.sum(jax.grad(fun)(start) * along).real < 0
    make = getattr(jaxopt, name)
    whole, real = make(fun), make(lambda p: fun(p[0] + 1j * p[1]))
    for direction in (None, along):
        given = None if direction is None else parts(direction)
        stepsize, state = whole.run(0.05, start, descent_direction=direction)
        expected = real.run(0.05, parts(start), descent_direction=given)
        assert state.done
        np.testing.assert_allclose(stepsize, expected.stepsize, rtol=1e-10)
        np.testing.assert_allclose(parts(state.params), expected.state.params, rtol=1e-10)


def test_a_search_in_python():
    """With jit=False the function sees values."""
    fun = lambda x: (np.cos(np.asarray(x)), -np.sin(np.asarray(x)))
    search = jaxopt.ZoomLineSearch(fun, value_and_grad=True, jit=False)
    assert search.run(1.0, 1.0).state.value < np.cos(1.0)
    with pytest.raises(jax.errors.TracerArrayConversionError):
        jaxopt.ZoomLineSearch(fun, value_and_grad=True).run(1.0, 1.0)


def test_gradients_of_complex_unknowns_in_states():
    """They are JAX's, before and after a step."""
    fun = lambda z: jnp.sum(jnp.abs(z - (1 + 2j)) ** 2 * jnp.array([1.0, 5.0]))
    solver, z = jaxopt.NonlinearCG(fun), jnp.array([0.5j, 1.0 + 0j])
    state = solver.init_state(z)
    np.testing.assert_allclose(state.grad, jax.grad(fun)(z))
    z, state = solver.update(z, state)
    np.testing.assert_allclose(state.grad, jax.grad(fun)(z), rtol=1e-10)
    assert state.descent_direction.dtype == complex
    descent = jaxopt.GradientDescent(fun)
    assert descent.update(z, descent.init_state(z)).state.velocity.dtype == complex


def test_backtracking_asks_for_the_strong_wolfe_conditions():
    """A sufficient decrease alone leaves conjugate directions with steps that are far too short."""
    A = jnp.array([[2.0, 0.3], [-1.0, 0.5], [0.4, 3.0], [1.5, -2.0]])
    fun = lambda w: jnp.sum(jnp.logaddexp(0, -A @ w)) + 1e-4 * jnp.sum(w**2)
    solver = jaxopt.NonlinearCG(fun, linesearch="backtracking", tol=1e-4)
    point, state = jax.jit(solver.run)(jnp.zeros(2))
    assert state.status == dini.Status.CONVERGED
    assert jnp.linalg.norm(jax.grad(fun)(point)) <= 1e-4


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def test_bfgs_with_steps_of_given_length_starts_at_the_identity():
    """The iterations of the textbook, from the identity that is not scaled."""
    x, H, gradient = np.zeros(2), np.eye(2), jax.grad(rosenbrock)
    for _ in range(12):
        move = -1e-3 * H @ gradient(x)
        change = gradient(x + move) - gradient(x)
        V = np.eye(2) - np.outer(move, change) / (move @ change)
        x, H = x + move, V @ H @ V.T + np.outer(move, move) / (move @ change)
    solver = jaxopt.BFGS(rosenbrock, stepsize=1e-3, maxiter=12, tol=0.0)
    point, state = jax.jit(solver.run)(jnp.zeros(2))
    np.testing.assert_allclose(point, x, rtol=1e-8)
    np.testing.assert_allclose(state.H, H, rtol=1e-8)


@pytest.mark.parametrize("use_gamma", [True, False])
def test_lbfgs_with_steps_of_given_length(use_gamma):
    """The iterations of the textbook: of all pairs, those of BFGS from a multiple of the identity."""
    x, pairs, gradient = np.zeros(2), [], jax.grad(rosenbrock)
    for _ in range(12):
        s, y = pairs[-1] if pairs else (np.ones(2), np.ones(2))
        H = np.eye(2) * (s @ y / (y @ y) if use_gamma and pairs else 1)
        for s, y in pairs[-3:]:
            V = np.eye(2) - np.outer(s, y) / (s @ y)
            H = V @ H @ V.T + np.outer(s, s) / (s @ y)
        move = -1e-3 * H @ gradient(x)
        pairs.append((move, gradient(x + move) - gradient(x)))
        x = x + move
    solver = jaxopt.LBFGS(rosenbrock, stepsize=1e-3, maxiter=12, tol=0.0, history_size=3, use_gamma=use_gamma)
    np.testing.assert_allclose(jax.jit(solver.run)(jnp.zeros(2)).params, x, rtol=1e-8)


def test_a_state_keeps_its_types():
    """What a loop carries before a step it carries after it."""
    solver = jaxopt.GradientDescent(rosenbrock, acceleration=False)
    before = solver.init_state(jnp.zeros(2))
    after = solver.update(jnp.zeros(2), before).state
    assert jax.tree.structure(before) == jax.tree.structure(after)
    weak = lambda tree: [getattr(leaf, "weak_type", None) for leaf in jax.tree.leaves(tree)]
    assert weak(before) == weak(after)
