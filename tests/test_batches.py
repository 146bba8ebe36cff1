"""A batch that does not wait for its slowest member has the results and derivatives of vmap."""

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


@pytest.mark.parametrize("solver", [dini.GradientDescent(tol=1e-8), dini.LBFGS(tol=1e-9)], ids=lambda s: s.name)
@pytest.mark.parametrize(("width", "chunk"), [(None, 8), (4, 3), (1, 1)])
def test_solutions_and_gradients_are_those_of_vmap(solver, width, chunk):
    a, scales = lanes()
    start = jnp.zeros((11, 3))

    def pooled(a, scales):
        return dini.batch_solve(PROBLEM, solver, start, a, scales, width=width, chunk=chunk)

    def plain(a, scales):
        return jax.vmap(lambda x, a, s: dini.solve(PROBLEM, solver, x, a, s))(start, a, scales)

    got, want = pooled(a, scales), plain(a, scales)
    np.testing.assert_allclose(got.x, want.x, atol=1e-10)
    np.testing.assert_array_equal(got.stats.steps, want.stats.steps)
    np.testing.assert_array_equal(got.status, want.status)
    got, want = (
        jax.jit(jax.grad(lambda *t, run=run: jnp.sum(jnp.cos(run(*t).x)), argnums=(0, 1)))(a, scales)
        for run in (pooled, plain)
    )
    np.testing.assert_allclose(got[0], want[0], atol=1e-8)
    np.testing.assert_allclose(got[1], want[1], atol=1e-8)


def test_closures_penalties_and_shared_arguments():
    rng = np.random.default_rng(1)
    X, y = jnp.asarray(rng.normal(size=(20, 4))), jnp.asarray(rng.normal(size=20))

    def path(strengths, y):
        fun = lambda w: 0.5 * jnp.mean((X @ w - y) ** 2)
        problem = dini.Minimize(fun, penalty=dini.penalties.L1(strengths))
        axes = (dini.Minimize(fun, penalty=dini.penalties.L1(0)), None)
        return dini.batch_solve(problem, dini.ProximalGradient(tol=1e-10), jnp.zeros(4), in_axes=axes, width=2).x

    def plain(strengths, y):
        def one(strength):
            fun = lambda w: 0.5 * jnp.mean((X @ w - y) ** 2)
            problem = dini.Minimize(fun, penalty=dini.penalties.L1(strength))
            return dini.solve(problem, dini.ProximalGradient(tol=1e-10), jnp.zeros(4)).x

        return jax.vmap(one)(strengths)

    strengths = jnp.array([0.01, 0.3, 0.05])
    np.testing.assert_allclose(path(strengths, y), plain(strengths, y), atol=1e-9)
    got, want = (jax.jacrev(f, argnums=(0, 1))(strengths, y) for f in (path, plain))
    np.testing.assert_allclose(got[0], want[0], atol=1e-7)
    np.testing.assert_allclose(got[1], want[1], atol=1e-7)


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
    start = jnp.zeros((4, 3))
    solve = lambda a: dini.batch_solve(PROBLEM, dini.LBFGS(tol=1e-9), start, a, scales, width=2).x
    both = jax.jit(jax.vmap(solve))(jnp.stack([a, 2 * a]))
    np.testing.assert_allclose(both[0], solve(a), atol=1e-9)
    np.testing.assert_allclose(both[1], solve(2 * a), atol=1e-9)


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
    with pytest.raises(TypeError, match="cannot keep the constraint"):
        dini.batch_solve(dini.Minimize(bowl, constraint=dini.sets.NonNegative()), solver, start, a, scales)
