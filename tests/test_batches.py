"""A batch that does not wait for its slowest member has the results and derivatives of vmap."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini


def bowl(x, a, scales):
    return 0.5 * jnp.sum(scales * (x - a) ** 2) + 0.1 * jnp.sum(x**4)


def lanes(count=11, seed=0):
    """Return problems with condition numbers from 1 to 1000, so with very different numbers of steps."""
    rng = np.random.default_rng(seed)
    scales = np.stack([np.geomspace(1, c, 3) for c in np.geomspace(1, 1000, count)])
    return jnp.asarray(rng.normal(size=(count, 3))), jnp.asarray(scales)


PROBLEM = dini.Minimize(bowl)


def with_gradients(run):
    """Return the solution and the derivatives of a sum over it, by one compiled program."""

    def total(*args):
        solution = run(*args)
        return jnp.sum(jnp.cos(solution.x)), solution

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))


GRADIENT_DESCENT, LBFGS = dini.GradientDescent(tol=1e-8), dini.LBFGS(tol=1e-9)


@functools.cache
def by_vmap(solver):
    run = lambda a, scales: jax.vmap(lambda x, a, s: dini.solve(PROBLEM, solver, x, a, s))(
        jnp.zeros((11, 3)), a, scales
    )
    return with_gradients(run)(*lanes())


@pytest.mark.by_default(2)
@pytest.mark.parametrize(
    ("solver", "width", "chunk"),
    [(GRADIENT_DESCENT, None, 8), (GRADIENT_DESCENT, 4, 3), (GRADIENT_DESCENT, 1, 1), (LBFGS, 4, 3)],
    ids=str,
)
def test_solutions_and_gradients_are_those_of_vmap(solver, width, chunk):
    start = jnp.zeros((11, 3))
    run = lambda a, scales: dini.batch_solve(PROBLEM, solver, start, a, scales, width=width, chunk=chunk)
    (_, got), got_slopes = with_gradients(run)(*lanes())
    (_, want), want_slopes = by_vmap(solver)
    np.testing.assert_allclose(got.x, want.x, atol=1e-10)
    # Barzilai-Borwein steps are chaotic: the rounding of a program for another number of lanes changes a long run
    rtol = 0.5 if solver is GRADIENT_DESCENT else 0
    np.testing.assert_allclose(got.stats.steps, want.stats.steps, rtol=rtol)
    np.testing.assert_array_equal(got.status, want.status)
    np.testing.assert_allclose(got_slopes[0], want_slopes[0], atol=1e-8)
    np.testing.assert_allclose(got_slopes[1], want_slopes[1], atol=1e-8)


@pytest.mark.thorough
def test_closures_penalties_and_shared_arguments():
    rng = np.random.default_rng(1)
    X, y = jnp.asarray(rng.normal(size=(20, 4))), jnp.asarray(rng.normal(size=20))
    solver = dini.ProximalGradient(tol=1e-10)

    def path(strengths, y):
        fun = lambda w: 0.5 * jnp.mean((X @ w - y) ** 2)
        problem = dini.Minimize(fun, penalty=dini.penalties.L1(strengths))
        axes = (dini.Minimize(fun, penalty=dini.penalties.L1(0)), None)
        return dini.batch_solve(problem, solver, jnp.zeros(4), in_axes=axes, width=2)

    def plain(strengths, y):
        fun = lambda w: 0.5 * jnp.mean((X @ w - y) ** 2)
        problem = lambda strength: dini.Minimize(fun, penalty=dini.penalties.L1(strength))
        return jax.vmap(lambda strength: dini.solve(problem(strength), solver, jnp.zeros(4)))(strengths)

    strengths = jnp.array([0.01, 0.3, 0.05])
    ((_, got), got_slopes), ((_, want), want_slopes) = (with_gradients(run)(strengths, y) for run in (path, plain))
    np.testing.assert_allclose(got.x, want.x, atol=1e-9)
    np.testing.assert_allclose(got_slopes[0], want_slopes[0], atol=1e-7)
    np.testing.assert_allclose(got_slopes[1], want_slopes[1], atol=1e-7)


def test_failed_lanes_are_marked():
    a, scales = lanes()
    solver = dini.GradientDescent(tol=1e-8, max_steps=40)
    start = jnp.zeros((11, 3))
    solution = dini.batch_solve(PROBLEM, solver, start, a, scales, width=4)
    want = jax.vmap(lambda x, a, s: dini.solve(PROBLEM, solver, x, a, s))(start, a, scales)
    np.testing.assert_array_equal(solution.status, want.status)
    failed = np.asarray(solution.status) != 0
    assert 0 < failed.sum() < 11
    total = lambda a: jnp.sum(dini.batch_solve(PROBLEM, solver, start, a, scales, width=4).x, axis=1)
    slopes = jax.jacfwd(total)(a)
    np.testing.assert_array_equal(np.isnan(np.einsum("iij->ij", slopes)).any(axis=1), failed)


def test_it_works_inside_other_transformations():
    a, scales = lanes(4)
    several = jnp.stack([a, 2 * a])
    solve = lambda a: dini.batch_solve(PROBLEM, GRADIENT_DESCENT, jnp.zeros((4, 3)), a, scales, width=2).x
    x = jax.jit(jax.vmap(solve))(several)
    slopes = jax.vmap(jax.vmap(jax.grad(bowl)), in_axes=(0, 0, None))(x, several, scales)
    np.testing.assert_allclose(slopes, 0, atol=1e-8)


def test_what_does_not_fit_is_refused():
    a, scales = lanes(4)
    start, solver = jnp.zeros((4, 3)), dini.LBFGS()
    with pytest.raises(ValueError, match="one common leading axis"):
        dini.batch_solve(PROBLEM, solver, jnp.zeros((3, 3)), a, scales)
    with pytest.raises(ValueError, match="one common leading axis"):
        dini.batch_solve(PROBLEM, solver, start[0], a[0], scales[0], in_axes=(None, None, None, None))
    with pytest.raises(ValueError, match="needs an entry"):
        dini.batch_solve(PROBLEM, solver, start, a, scales, in_axes=(None, 0))
    with pytest.raises(ValueError, match="in_axes are 0 or None"):
        dini.batch_solve(PROBLEM, solver, start, a, scales, in_axes=(None, 0, 1, 0))
    with pytest.raises(ValueError, match="needs an entry"):
        dini.batch_solve(PROBLEM, solver, start, a, scales, in_axes=0)
    with pytest.raises(TypeError, match="problem must be a Minimize"):
        dini.batch_solve(bowl, solver, start, a, scales)
    with pytest.raises(TypeError, match="differentiates by Implicit"):
        dini.batch_solve(PROBLEM, solver, start, a, scales, differentiation=dini.OneStep())
    with pytest.raises(TypeError, match="is a function"):
        dini.batch_solve(PROBLEM, lambda problem, x, *args: x, start, a, scales)
    with pytest.raises(TypeError, match="no complex unknown"):
        dini.batch_solve(PROBLEM, solver, start + 0j, a, scales)
    with pytest.raises(TypeError, match="cannot handle the constraint"):
        dini.batch_solve(dini.Minimize(bowl, constraint=dini.sets.NonNegative()), solver, start, a, scales)
