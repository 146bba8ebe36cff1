"""Programs of dini's own are compiled at a lower level of optimization, where they are not part of another one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini.functions import compiled as module

LOWER = {"xla_backend_optimization_level": 1}


@pytest.fixture
def optimized():
    """Compile as users do."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def square(monkeypatch):
    """A compiled function, and a list of the options of each of its calls."""
    options = []

    def jit(function, *, compiler_options=None, **settings):
        program = jax.jit(function, compiler_options=compiler_options, **settings)

        def run(*given):
            options.append(compiler_options)
            return program(*given)

        return run

    monkeypatch.setattr(module, "jax", _Jax(jit))
    return functools.partial(module.compiled, static_argnums=1)(lambda x, power: jnp.sum(x**power)), options


class _Jax:
    def __init__(self, jit):
        self.jit = jit

    def __getattr__(self, name):
        return getattr(jax, name)


@pytest.mark.parametrize(
    ("transform", "lower"),
    [
        (lambda f: f, True),
        (lambda f: lambda x: _within_evaluation(f, x), True),
        (jax.jit, False),
        (jax.grad, False),
        (lambda f: lambda x: jax.linearize(f, x)[1](x), False),
        (lambda f: lambda x: jax.vmap(f)(x[None]), False),
        (lambda f: lambda x: jax.lax.map(lambda _: f(x), jnp.arange(2)), False),
        (jax.checkpoint, False),
    ],
)
def test_the_level_is_lower_outside_of_traces(optimized, square, transform, lower):
    function, options = square
    np.testing.assert_allclose(jnp.max(transform(lambda x: function(x, 2))(jnp.full(1, 3.0))), _expected(transform))
    assert set(map(str, options)) == {str(LOWER if lower else None)}


def _within_evaluation(f, x):
    found = []

    def traced(y):
        with jax.core.eval_context():
            found.append(f(x))
        return y

    jax.jit(traced)(0.0)
    return found[0]


def _expected(transform):
    return 6.0 if transform is jax.grad else jnp.max(transform(lambda x: jnp.sum(x**2))(jnp.full(1, 3.0)))


def test_a_level_that_the_user_has_set_is_kept(optimized, square, monkeypatch):
    function, options = square
    function(jnp.ones(2), 2)
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=2")
    function(jnp.ones(3), 2)
    monkeypatch.delenv("XLA_FLAGS")
    jax.config.update("jax_disable_most_optimizations", True)
    function(jnp.ones(4), 2)
    assert options == [LOWER, None, None]


def test_solves_and_gradients_are_the_same_at_both_levels(optimized):
    def solved(a):
        return dini.minimize(lambda x: jnp.sum(jnp.cosh(x - a) + 0.1 * x**4), jnp.zeros(3), solver=dini.BFGS()).x

    a = jnp.asarray([0.5, 1.0, -2.0])
    np.testing.assert_allclose(solved(a), jax.jit(solved)(a), rtol=1e-6)
    total = lambda a: jnp.sum(solved(a) ** 2)
    np.testing.assert_allclose(jax.grad(total)(a), jax.jit(jax.grad(total))(a), rtol=1e-5)
