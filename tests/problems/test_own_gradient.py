"""Objectives with a gradient of their own: it is taken, not that of the value, which here has none."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini

TARGET = jnp.array([1.0, -2.0, 0.5])


def _value(x, scale, target):
    # nothing of it can be differentiated
    return jax.lax.stop_gradient(0.5 * jnp.sum(scale * (x - target) ** 2) + 0.25 * jnp.sum(x**4))


def _gradient(x, scale, target):
    return scale * (x - target) + x**3


class Plain:
    def __init__(self, target):
        self.target = target

    def __call__(self, x, scale):
        return _value(x, scale, self.target)

    def value_and_gradient(self, x, scale):
        return _value(x, scale, self.target), _gradient(x, scale, self.target)


class Tree(eqx.Module):
    target: jax.Array

    def __call__(self, x, scale):
        return _value(x, scale, self.target)

    def value_and_gradient(self, x, scale):
        return _value(x, scale, self.target), _gradient(x, scale, self.target)


class WithStatic(Tree):
    activation: object = jnp.tanh


@pytest.mark.parametrize("kind", [Plain, Tree, WithStatic])
@pytest.mark.parametrize("solver", [None, dini.ProjectedGradient()], ids=["default", "ProjectedGradient"])
def test_the_gradient_of_an_object_is_taken(kind, solver):
    """The solution is that of the gradient, and so are its derivatives, in what the object holds too."""
    box = None if solver is None else dini.sets.Box(-5.0, 5.0)

    def solution(scale, target):
        fun = kind(target)
        return dini.minimize(fun, jnp.zeros(3), scale, solver=solver, constraint=box).x

    x, (by_scale, by_target) = jax.jit(lambda *a: (solution(*a), jax.jacobian(solution, (0, 1))(*a)))(2.0, TARGET)
    np.testing.assert_allclose(_gradient(x, 2.0, TARGET), 0, atol=1e-7)
    curvature = 2.0 + 3 * x**2
    np.testing.assert_allclose(by_scale, (TARGET - x) / curvature, atol=1e-7)
    np.testing.assert_allclose(by_target, np.diag(2.0 / curvature), atol=1e-7)


def test_a_bound_keyword_and_a_copied_attribute():
    """Keywords are bound to both; a wrapper's copy of another function's attribute is no method of its own."""

    class Scaled(Plain):
        def __call__(self, x, *, scale):
            return _value(x, scale, self.target)

        def value_and_gradient(self, x, *, scale):
            return _value(x, scale, self.target), _gradient(x, scale, self.target)

    x = dini.minimize(functools.partial(Scaled(TARGET), scale=2.0), jnp.zeros(3)).x
    np.testing.assert_allclose(_gradient(x, 2.0, TARGET), 0, atol=1e-7)

    def original(x):
        return jnp.sum((x - 1) ** 2)

    original.value_and_gradient = lambda x: (original(x), 2 * (x - 1))
    wrapped = functools.wraps(original)(lambda x: original(3 * x))
    np.testing.assert_allclose(dini.minimize(wrapped, jnp.zeros(3)).x, 1 / 3, rtol=1e-6)


def test_a_failure_from_a_list_is_told_as_a_failure():
    with pytest.raises(dini.SolveError):
        dini.minimize(lambda x: jnp.exp(x[0]) + x[1] ** 4, [0.0, 1.0], solver=dini.GradientDescent(max_steps=2))


def test_by_hand_and_with_an_auxiliary_output():
    class Counted(Plain):
        def __call__(self, x, scale):
            return super().__call__(x, scale), x + 1

    problem = dini.Minimize(Counted(TARGET), has_aux=True)
    assert "Counted" in repr(problem.fun)
    solver = dini.GradientDescent()
    x, state = jnp.zeros(3), solver.init(problem, jnp.zeros(3), 2.0)
    step = jax.jit(lambda x, state: solver.step(problem, x, state, 2.0))
    for _ in range(100):
        x, state = step(x, state)
    np.testing.assert_allclose(_gradient(x, 2.0, TARGET), 0, atol=1e-6)
    found = dini.solve(problem, dini.LBFGS(), jnp.zeros(3), 2.0)
    np.testing.assert_allclose(found.aux, found.x + 1)
    np.testing.assert_allclose(found.x, x, atol=1e-6)
