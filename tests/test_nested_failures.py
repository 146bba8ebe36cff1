"""Failures of a solve within another solve's functions arrive as dini's own."""

import jax
import jax.numpy as jnp
import pytest

import dini


def inner(y):
    """A square root, whose derivative at zero does not exist."""
    return dini.root(lambda x, y: x**2 - y, 0.3, y, solver=dini.Newton()).x


def outer(y, t):
    return (inner(y) - t) ** 2


@pytest.mark.parametrize("how", ["plain", "jit", "scan", "grad"])
def test_a_derivative_within_a_solve(how):
    fun = {
        "plain": outer,
        "jit": jax.jit(outer),
        "scan": lambda y, t: jax.lax.scan(lambda s, _: (s + outer(y, t), None), 0.0, None, length=2)[0],
        "grad": lambda y, t: jax.grad(outer)(y, t) ** 2,
    }[how]
    with pytest.raises(dini.DerivativeError, match="derivative of the solution of Root") as caught:
        dini.minimize(fun, 0.0, 1.0, solver=dini.GradientDescent())
    assert caught.value.status == dini.Status.SINGULAR


def test_a_failed_solve_within_a_solve():
    def hasty(y, t):
        return (dini.root(lambda x, y: x**3 - y, 100.0, y, solver=dini.Newton(max_steps=2)).x - t) ** 2

    with pytest.raises(dini.SolveError, match="MAX_STEPS after 2 steps") as caught:
        dini.minimize(hasty, 1.0, 1.0, solver=dini.GradientDescent())
    assert caught.value.status == dini.Status.MAX_STEPS


def test_in_the_derivative_of_a_solve():
    solve = lambda t: dini.minimize(outer, 0.0, t, solver=dini.GradientDescent()).x
    with pytest.raises(dini.DerivativeError, match="derivative of the solution of Root"):
        jax.grad(solve)(1.0)


def test_other_errors_stay():
    def broken(y):
        return jax.pure_callback(lambda y: 1 / 0, jax.ShapeDtypeStruct((), y.dtype), y)

    with pytest.raises(jax.errors.JaxRuntimeError, match="ZeroDivisionError"):
        dini.root(broken, 1.0, solver=dini.Bisection(lower=0.0, upper=1.0))


def test_what_is_right_is_not_refused():
    assert abs(dini.minimize(outer, 2.0, 1.5, solver=dini.BFGS()).x - 2.25) < 1e-6
    assert jnp.isclose(jax.grad(lambda t: dini.minimize(outer, 2.0, t, solver=dini.BFGS()).x)(1.5), 3.0, atol=1e-4)
