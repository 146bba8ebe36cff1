"""JAXopt's decorators: solvers in any Python, and solvers that are traced."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini.status import SolveWarning
from dini_jaxopt import implicit_diff, linear_solve

X = np.array([[1.0, 0.2], [0.1, 2.0], [-0.3, 1.0]])
Y = np.array([2.0, 5.0, 1.0])


class Fitted(NamedTuple):
    params: Any
    seen: Any


def F(x, X, y, strength):
    return X.T @ (X @ x - y) + strength * x


def closed(strength):
    return jnp.linalg.solve(X.T @ X + strength * jnp.eye(2), X.T @ Y)


def by_numpy(init, X, y, strength):
    X, y = np.asarray(X), np.asarray(y)
    return jnp.asarray(np.linalg.solve(X.T @ X + float(strength) * np.eye(2), X.T @ y))


def by_jax(init, X, y, strength):
    return jnp.linalg.solve(X.T @ X + strength * jnp.eye(2), X.T @ y)


@pytest.mark.parametrize("solver", [by_numpy, by_jax])
@pytest.mark.parametrize("mode", [jax.jacrev, jax.jacfwd])
def test_any_python(solver, mode):
    ridge = implicit_diff.custom_root(F, solve=linear_solve.solve_cg)(solver)
    np.testing.assert_allclose(ridge(None, X, Y, 0.5), closed(0.5))
    by_position = mode(lambda s: ridge(None, X, Y, s))(0.5)
    by_name = mode(lambda s: ridge(None, X=X, y=Y, strength=s))(0.5)
    for slope in (by_position, by_name):
        np.testing.assert_allclose(slope, jax.jacrev(closed)(0.5), rtol=1e-6)


def test_in_programs_and_to_second_order():
    ridge = implicit_diff.custom_root(F)(by_jax)
    run = lambda s: ridge(None, X, Y, s)
    np.testing.assert_allclose(jax.jit(jax.jacrev(run))(0.5), jax.jacrev(closed)(0.5), rtol=1e-8)
    second = jax.jacfwd(jax.jacrev(closed))(0.5)
    np.testing.assert_allclose(jax.jacfwd(jax.jacrev(run))(0.5), second, rtol=1e-7)
    eager = implicit_diff.custom_root(F)(by_numpy)
    twice = jax.jacfwd(jax.jacfwd(lambda s: eager(None, X, Y, s)))(0.5)
    np.testing.assert_allclose(twice, second, rtol=1e-7)


@pytest.mark.parametrize("compiled", [False, True])
def test_more_than_the_solution(compiled):
    solver = lambda init, X, y, strength: Fitted(by_jax(init, X, y, strength), jnp.asarray(3))
    ridge = implicit_diff.custom_root(F, has_aux=True)(solver)
    run = lambda s: (ridge(None, X, Y, s), jax.jacrev(lambda s: ridge(None, X, Y, s).params)(s))
    output, slope = (jax.jit(run) if compiled else run)(0.5)
    assert isinstance(output, Fitted)
    assert output.seen == 3
    np.testing.assert_allclose(slope, jax.jacrev(closed)(0.5), rtol=1e-8)


def test_a_reference_for_signatures():
    loose = lambda x, *args, **kwargs: F(x, *args, **kwargs)
    ridge = implicit_diff.custom_root(loose, reference_signature=F)(by_jax)
    slope = jax.jacrev(lambda s: ridge(None, X, Y, strength=s))(0.5)
    np.testing.assert_allclose(slope, jax.jacrev(closed)(0.5), rtol=1e-8)


def test_fixed_points():
    root = implicit_diff.custom_fixed_point(lambda x, a: 0.5 * (x + a / x))(lambda init, a: a**0.5)
    np.testing.assert_allclose(jax.grad(root, argnums=1)(1.0, 4.0), 0.25, rtol=1e-10)


def test_what_is_no_solution_warns():
    wrong = implicit_diff.custom_root(F)(lambda init, X, y, strength: jnp.ones(2))
    with pytest.warns(SolveWarning, match="does not satisfy"):
        jax.jacrev(lambda s: wrong(None, X, Y, s))(0.5)


def test_products():
    x = closed(0.5)
    slope = jax.jacrev(closed)(0.5)
    dot = implicit_diff.root_jvp(F, x, (X, Y, 0.5), (0 * X, 0 * Y, 1.0), solve=linear_solve.solve_lu)
    np.testing.assert_allclose(dot, slope, rtol=1e-8)
    bars = implicit_diff.root_vjp(F, x, (X, Y, 0.5), jnp.ones(2))
    np.testing.assert_allclose(bars[2], jnp.sum(slope), rtol=1e-8)
    exact = jax.grad(lambda y: jnp.sum(jnp.linalg.solve(X.T @ X + 0.5 * jnp.eye(2), X.T @ y)))(Y)
    np.testing.assert_allclose(bars[1], exact, rtol=1e-8)
    with pytest.raises(ValueError, match="same length"):
        implicit_diff.root_jvp(F, x, (X, Y, 0.5), (X,))


def test_a_condition_that_cannot_be_traced():
    """With known values a condition may branch on its unknown; its second derivative is refused."""

    def branches(x, a):
        return x**2 - a if x[0] > 0 else x

    root = implicit_diff.custom_root(branches)(lambda init, a: jnp.asarray(np.sqrt(np.asarray(a))))
    a = jnp.array([4.0, 9.0])
    for mode in (jax.jacrev, jax.jacfwd):
        slope = mode(lambda a: root(None, a))(a) if mode is jax.jacfwd else jax.vjp(lambda a: root(None, a), a)[1](a)[0]
        np.testing.assert_allclose(slope if slope.ndim == 1 else slope @ a, [1.0, 1.5], rtol=1e-10)
    with pytest.raises(TypeError, match="only first derivatives"):
        jax.jvp(lambda a: jax.jvp(lambda a: root(None, a), (a,), (a,))[1], (a,), (a,))


@pytest.mark.parametrize("solver", [by_numpy, by_jax])
def test_a_solver_that_takes_any_names(solver):
    """Names tell which argument is which, in any order; JAXopt matched them to the condition's too."""
    ridge = implicit_diff.custom_root(F)(lambda init, **given: solver(init, **given))
    for run in (lambda s: ridge(None, X=X, y=Y, strength=s), lambda s: ridge(None, strength=s, y=Y, X=X)):
        np.testing.assert_allclose(run(0.5), closed(0.5))
        for mode in (jax.jacrev, jax.jacfwd):
            np.testing.assert_allclose(mode(run)(0.5), jax.jacrev(closed)(0.5), rtol=1e-8)
        if solver is by_jax:
            np.testing.assert_allclose(jax.jit(run)(0.5), closed(0.5))
            np.testing.assert_allclose(jax.jit(jax.jacrev(run))(0.5), jax.jacrev(closed)(0.5), rtol=1e-8)


def test_names_that_do_not_fit():
    """A condition may take any names as well; one that does not take a name of the solver's is refused."""

    def by_names(init, *, X, y, strength):
        return by_jax(init, X, y, strength)

    ridge = implicit_diff.custom_root(lambda x, **given: F(x, **given))(by_names)
    slope = jax.jacrev(lambda s: ridge(None, X=X, y=Y, strength=s))(0.5)
    np.testing.assert_allclose(slope, jax.jacrev(closed)(0.5), rtol=1e-8)
    more = implicit_diff.custom_root(F)(lambda init, **given: by_jax(init, X, Y, given["strength"]))
    with pytest.raises(TypeError, match="cannot be matched"):
        jax.jacrev(lambda s: more(None, X=X, y=Y, strength=s, more=s))(0.5)
