"""The randomized Nyström preconditioner: fewer steps, the same solution, and what it cannot be used for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import linear

SIZE = 120
BASIS = np.linalg.qr(np.random.default_rng(0).standard_normal((SIZE, SIZE)))[0]
MATRIX = (BASIS * (1e-3 + 1e4 * 0.4 ** np.arange(SIZE))) @ BASIS.T
RIGHT = np.random.default_rng(1).standard_normal(SIZE)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize("solver", [linear.CG, linear.MINRES])
def test_few_steps_are_enough(solver, scale):
    """The error after 30 steps is that of a condition number below 28, which the paper's theorem promises."""
    product = lambda w: scale * (MATRIX @ w)

    def error(preconditioner):
        of = solver(max_steps=30, preconditioner=preconditioner)
        x = linear.solve(product, jnp.asarray(RIGHT), structure="positive definite", solver=of, on_failure="ignore")
        return np.linalg.norm(scale * MATRIX @ x - RIGHT) / np.linalg.norm(RIGHT)

    few = linear.Nystrom(rank=30)
    made = np.asarray(jax.vmap(few.of(product, jnp.asarray(RIGHT)))(jnp.eye(SIZE)))
    values = np.linalg.eigvals(made @ (scale * MATRIX)).real
    assert 0 < values.max() < 28 * values.min()
    # twice the rate of conjugate gradients, from a residual that may be larger by the root of the condition number
    assert error(few) < 2 * np.sqrt(28 * 1e7) * ((np.sqrt(28) - 1) / (np.sqrt(28) + 1)) ** 30
    assert error(None) > 0.1


def test_derivatives_in_both_modes_and_trees_of_two_precisions():
    """The derivative of a fit by it is the closed form, for an unknown of two leaves, one of them in float32."""
    matrix = jnp.asarray(MATRIX)

    def loss(w, t):
        both = jnp.concatenate([w[0], w[1].astype(float)])
        return 0.5 * both @ matrix @ both + 0.5 * jnp.exp(t) * both @ both - both @ RIGHT

    start = jnp.zeros(100), jnp.zeros(20, jnp.float32)
    implicit = dini.Implicit(linear_solver=linear.CG(preconditioner=linear.Nystrom(rank=25)))
    fit = lambda t: dini.minimize(loss, start, t, differentiation=implicit, solver=dini.Newton(rtol=1e-4)).x[0]
    shifted = MATRIX + np.exp(2.0) * np.eye(SIZE)
    want = -np.exp(2.0) * np.linalg.solve(shifted, np.linalg.solve(shifted, RIGHT))[:100]
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jax.jit(mode(fit))(2.0), want, atol=1e-4 * np.abs(want).max())


def test_lanes_and_maps_that_are_not_definite():
    def solved(shift):
        solver = linear.CG(preconditioner=linear.Nystrom(rank=8))
        return linear.solve(
            lambda w: shift * w, jnp.ones(5), structure="positive definite", solver=solver, on_failure="nan"
        )

    found = jax.jit(jax.vmap(solved))(jnp.array([2.0, jnp.nan, 0.5]))
    np.testing.assert_allclose(found[jnp.array([0, 2])], np.outer([0.5, 2.0], np.ones(5)), rtol=1e-10)
    assert jnp.isnan(found[1]).all()


def test_refusals():
    with pytest.raises(TypeError, match=r"preconditioner of CG\(\) and MINRES\(\)"):
        linear.solve(lambda w: 2 * w, jnp.ones(3), solver=linear.GMRES(preconditioner=linear.Nystrom()))
    with pytest.raises(ValueError, match="rank"):
        linear.Nystrom(rank=0)
