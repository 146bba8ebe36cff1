"""The derivative of a nonlinear program by the last factorization of its solver, from 64 unknowns and rows on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini

SIZE = 66


def nearest(a, total):
    """Return the point next to ``a`` with a given sum and last element, none negative, the first ones not too large."""
    return dini.minimize(
        lambda x, a, total: 0.5 * jnp.sum((x - a) ** 2),
        jnp.full_like(a, 1.0) * total / SIZE,
        a,
        total,
        equality=lambda x, a, total: jnp.stack([jnp.sum(x) - total, x[-1] - 0.01 * total]),
        inequality=lambda x, a, total: jnp.stack([x[0] - total, jnp.sum(x[:3]) - 0.005 * total]),
        constraint=dini.sets.NonNegative(),
    )


@pytest.mark.thorough  # 9 s of CPU; the test below has the same road
def test_closed_form_in_any_units():
    """The Jacobian is that of the projection onto a face, by hand."""
    a = np.random.default_rng(0).uniform(-0.5, 1, SIZE)

    @jax.jit
    def everything(a, total):
        return jax.jacrev(lambda a: (lambda x: (x, x))(nearest(a, total).x), has_aux=True)(a)

    for size in (1.0, 1e6, 1e-6):
        first, x = everything(size * a, jnp.asarray(8.0 * size))
        assert np.isclose(x[:3].sum(), 0.04 * size)
        free = np.asarray(x) > 0
        assert 3 <= free.sum() < SIZE
        rows = np.stack([np.ones(SIZE), np.eye(SIZE)[-1], np.eye(3, SIZE).sum(0)]) * free
        expected = np.diag(free * 1.0) - rows.T @ np.linalg.solve(rows @ rows.T, rows)
        np.testing.assert_allclose(first, expected, atol=1e-9)


@pytest.mark.may_cost(8)
def test_a_singular_system_is_seen():
    """Rows that are dependent only up to what the factor's constraints give are no regular ones."""

    def program(x, a, twice):
        return jnp.stack([jnp.sum(x) - 1, twice * x[0] + 2 * (jnp.sum(x) - 1)])

    def point(a, twice):
        return dini.minimize(
            lambda x, a, twice: 0.5 * jnp.sum((x - a) ** 2), jnp.zeros(SIZE), a, twice, equality=program
        ).x

    slope = jax.jit(lambda a, twice: jax.grad(lambda a: point(a, twice)[1])(a))
    a = jnp.linspace(-1.0, 1.0, SIZE)
    free = np.arange(SIZE) > 0
    np.testing.assert_allclose(slope(a, 1.0), np.eye(SIZE)[1] - free / (SIZE - 1), atol=1e-9)
    # raised by a compiled program, it is wrapped
    with pytest.raises(ValueError, match=r"DerivativeError.*singular to working precision"):
        slope(a, 0.0)


@pytest.mark.thorough  # derivatives of the cheaper test's, 10 s of CPU
def test_second_order():
    """On a sphere: the Hessian of a linear function of the nearest point, by hand."""
    c = jnp.asarray(np.random.default_rng(1).normal(size=SIZE))
    point = lambda a: dini.minimize(
        lambda x, a: 0.5 * jnp.sum((x - a) ** 2), jnp.ones(SIZE), a, equality=lambda x, a: jnp.sum(x**2) - 2.0
    )
    exact = lambda a: c @ (jnp.sqrt(2.0) * a / jnp.linalg.norm(a))
    a = jnp.asarray(np.random.default_rng(2).normal(size=SIZE))
    found, expected = (jax.jit(jax.jacfwd(jax.grad(fun)))(a) for fun in (lambda a: c @ point(a).x, exact))
    np.testing.assert_allclose(found, expected, atol=1e-9)
