"""A variational inequality at a kink: as a minimization's, its derivative does not exist and is called a tie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import certified, conditions, sets

C = np.array([1.0, 2.0, 3.0, 9.0])
X = np.array([3.0, 2.0, 1.0, 0.0])  # the first is at its bound, with a multiplier of zero


def game(q, c):
    return q + jnp.sum(q) + c - 10


def verdict(problem, x, c, **how):
    certificate = certified.vjp(problem, x, (c,), jnp.ones_like(x), on_failure="ignore", **how)[1]
    return certified.Verdict(int(certificate.verdict)).name


@pytest.mark.parametrize("scale", [1.0, 1e6, 1e-6])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_verdicts(dtype, scale):
    unit = jnp.asarray(scale, dtype)
    F = conditions.VariationalInequality(lambda q, c: game(q / unit, c), sets.Box(dtype(0), 3 * unit))
    problem, x = dini.Root(F), unit * jnp.asarray(X, dtype)
    assert verdict(problem, x, jnp.asarray(C, dtype)) == "TIE"
    # the bound is active with a multiplier, or is not reached
    assert verdict(problem, x, jnp.asarray(C - [0.5, 0, 0, 0], dtype)) == "RELIABLE"
    inside = unit * jnp.asarray([2.5, 2.25, 1.25, 0], dtype)
    assert verdict(problem, inside, jnp.asarray([1.5, 1.75, 2.75, 9], dtype)) == "RELIABLE"
    # of the same problem as a minimization
    fun = lambda q, c: 0.5 * jnp.sum(q**2) + 0.5 * jnp.sum(q) ** 2 + jnp.sum((c - 10) * q)
    if scale == 1:
        problem = dini.Minimize(fun, constraint=sets.Box(dtype(0), dtype(3)))
        assert verdict(problem, jnp.asarray(X, dtype), jnp.asarray(C, dtype)) == "TIE"


def test_in_a_solve_and_as_a_condition():
    F = conditions.VariationalInequality(game, sets.Box(0.0, 3.0))
    mode = dini.Implicit(certify=True)
    solve = lambda c: dini.root(F, jnp.asarray(X), c, differentiation=mode).x
    with pytest.raises(dini.DerivativeError, match="TIE"):
        jax.grad(lambda c: jnp.sum(solve(c)))(jnp.asarray(C))
    got = jax.jacobian(solve)(jnp.asarray(C - [0.5, 0, 0, 0]))
    want = np.zeros((4, 4))
    want[1:3, 1:3] = -np.linalg.inv(np.eye(2) + 1)
    np.testing.assert_allclose(got, want, atol=1e-8)
    plain = dini.Root(lambda q, c: q - jnp.clip(q - 0.1 * game(q, c), 0.0, 3.0))
    assert verdict(plain, jnp.asarray(X), jnp.asarray(C), differentiation=dini.Implicit(condition=F)) == "TIE"


def test_parameters_of_the_operator_and_of_the_set_keep_their_derivatives():
    """What the functions close over is a parameter, also of a projection of the user's own."""

    def solve(theta):
        box = sets.Custom(lambda y: jnp.clip(y, 0.0, theta[1]))
        F = conditions.VariationalInequality(lambda q: theta[0] * game(q, jnp.asarray(C - [0.5, 0, 0, 0])), box)
        return dini.root(F, jnp.asarray(X)).x

    step = 1e-6
    want = (solve(jnp.array([2.0, 3.0 + step])) - solve(jnp.array([2.0, 3.0 - step]))) / (2 * step)
    got = jax.jacobian(solve)(jnp.array([2.0, 3.0]))
    np.testing.assert_allclose(got[:, 1], want, atol=1e-6)
    np.testing.assert_allclose(got[:, 0], 0, atol=1e-8)


def test_one_bad_lane():
    problem = dini.Root(conditions.VariationalInequality(game, sets.Box(0.0, 3.0)))
    c = jnp.asarray(np.stack([C, C - [0.5, 0, 0, 0]]))
    one = lambda c: certified.vjp(problem, jnp.asarray(X), (c,), jnp.ones(4), on_failure="ignore")[1].verdict
    np.testing.assert_array_equal(jax.vmap(one)(c), [certified.Verdict.TIE, certified.Verdict.RELIABLE])
