"""Failures arrive as dini's exceptions wherever Python comes past, and print nothing beside them."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini

A = np.array([1.0, 2.0])


def valley(x, a):
    """A minimum that is not unique: its Hessian is singular."""
    return (x[0] + x[1] - jnp.sum(a)) ** 2


def positional(a):
    return dini.minimize(valley, jnp.zeros(2), a).x[0] ** 2


def closed_over(a):
    return dini.minimize(lambda x: valley(x, a), jnp.zeros(2)).x[0] ** 2


def both(a):
    return dini.minimize(lambda x, b: valley(x, a + b), jnp.zeros(2), a).x[0] ** 2


@dini.custom_root(lambda x, a: jnp.ones((2, 2)) @ x - jnp.sum(a))
def decorated(init, a):
    return jnp.ones(2) * jnp.sum(a) / 2


def decorated_anew(a):
    @dini.custom_root(lambda x: jnp.ones((2, 2)) @ x - jnp.sum(a))
    def solver(init):
        return jnp.ones(2) * jnp.sum(jax.lax.stop_gradient(a)) / 2

    return solver(None)[0] ** 2


SOLVES = {
    "positional": positional,
    "closed over": closed_over,
    "both": both,
    "custom_root": lambda a: decorated(None, a)[0] ** 2,
    "custom_root anew": decorated_anew,
}

WAYS = {
    "grad": lambda f: jax.grad(f)(A),
    "value_and_grad": lambda f: jax.value_and_grad(f)(A),
    "jacobian": lambda f: jax.jacobian(lambda a: jnp.stack([f(a), 2 * f(a)]))(A),
    "jacfwd": lambda f: jax.jacfwd(f)(A),
    "jvp": lambda f: jax.jvp(f, (A,), (A,)),
    "vjp": lambda f: jax.vjp(f, A)[1](1.0),
    "grad of more": lambda f: jax.grad(lambda a: jnp.sin(f(2 * a)) + jnp.sum(a))(A),
}


@pytest.mark.by_default("positional", "custom_root anew")
@pytest.mark.parametrize("solve", SOLVES)
def test_derivative_errors_are_themselves(solve):
    ways = WAYS if solve in ("positional", "custom_root") else ["grad", "jacobian", "jvp"]
    for way in ways:
        with pytest.raises(dini.DerivativeError, match="was not solved: its matrix is singular") as caught:
            jax.block_until_ready(WAYS[way](SOLVES[solve]))
        assert caught.value.status == dini.Status.SINGULAR, way
    # nothing is left behind for the next one
    fine = jax.grad(lambda a: dini.minimize(lambda x, a: jnp.sum((x - a) ** 2), jnp.zeros(2), a).x.sum())(A)
    np.testing.assert_allclose(fine, 1.0, rtol=1e-6)


def test_in_a_program_the_text_is_the_same():
    with pytest.raises(jax.errors.JaxRuntimeError, match="DerivativeError: The linear system of the derivative"):
        jax.block_until_ready(jax.jit(jax.grad(positional))(A))
    # a pullback that becomes a program after all
    with pytest.raises(jax.errors.JaxRuntimeError, match="DerivativeError: The linear system of the derivative"):
        jax.block_until_ready(jax.jit(jax.vjp(positional, A)[1])(1.0))


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_lanes_are_marked_as_ever():
    lanes = jnp.stack([A, 2 * A])
    assert np.isnan(jax.vmap(jax.grad(positional))(lanes)).all()
    assert np.isnan(jax.vmap(jax.grad(closed_over))(lanes)).all()
    one = lambda a, s: dini.minimize(lambda x, a, s: valley(x, a) + s * jnp.sum(x**2), jnp.zeros(2), a, s).x[0]
    mixed = jax.vmap(jax.grad(one))(lanes, jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(np.isnan(mixed), [[True, True], [False, False]])
    for policy in ("nan", "ignore"):
        solve = lambda a, policy=policy: dini.minimize(valley, jnp.zeros(2), a, on_failure=policy).x[0]
        assert jax.grad(solve)(A).shape == (2,)


def test_solves_that_fail_inside_of_a_derivative():
    end = lambda a: dini.minimize(lambda x, a: jnp.sum((x - a) ** 4), jnp.zeros(2), a, solver=dini.BFGS(max_steps=1))
    for way in WAYS.values():
        with pytest.raises(dini.SolveError, match="MAX_STEPS after 1 steps"):
            way(lambda a: end(a).x[0])


def test_products_and_linear_systems_raise_themselves():
    S = jnp.ones((2, 2))
    for call in (
        lambda: dini.linear.solve(lambda w: S @ w, jnp.asarray(A)),
        lambda: dini.root_vjp(lambda x, a: S @ x - a, A, (A,), A),
        lambda: dini.root_jvp(lambda x, a: S @ x - a, A, (A,), (A,)),
    ):
        with pytest.raises(dini.DerivativeError, match="singular"):
            call()


def test_unrolled_derivatives_that_have_not_converged():
    # a start at the solution, whose derivative no step has seen
    end = lambda a: dini.minimize(
        lambda x, a: (x[0] - a) ** 2 + 3 * x[1] ** 2, jnp.zeros(2), a, differentiation=dini.Unrolled()
    )
    with pytest.raises(dini.DerivativeError, match="unrolled derivative"):
        jax.grad(lambda a: end(a).x[0])(0.0)


SCRIPT = """
import jax, jax.numpy as jnp, dini

def valley(x, a):
    return (x[0] + x[1] - jnp.sum(a)) ** 2

a = jnp.ones(2)
solve = lambda a, **options: dini.minimize(valley, jnp.zeros(2), a, **options).x[0]
lost = lambda a: dini.minimize(lambda x, a: jnp.sum((x - a) ** 4), a + 1, a, solver=dini.BFGS(max_steps=1)).x[0]
for call, kind in [
    (lambda: lost(a), dini.SolveError),
    (lambda: jax.grad(lost)(a), dini.SolveError),
    (lambda: jax.jit(lost)(a), jax.errors.JaxRuntimeError),
    (lambda: jax.grad(solve)(a), dini.DerivativeError),
    (lambda: jax.jacobian(solve)(a), dini.DerivativeError),
    (lambda: jax.jit(jax.grad(solve))(a), jax.errors.JaxRuntimeError),
]:
    try:
        jax.block_until_ready(call())
    except kind as error:
        print(type(error).__name__)
"""


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_nothing_is_printed_beside_an_exception():
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], capture_output=True, text=True, check=True, timeout=300
    )
    assert run.stdout.split() == ["SolveError"] * 2 + ["JaxRuntimeError"] + ["DerivativeError"] * 2 + [
        "JaxRuntimeError"
    ]
    assert run.stderr == ""
