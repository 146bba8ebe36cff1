"""All methods on a quadratic bilevel problem, whose optimum, hypergradient and every bias are closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import bilevel

rng = np.random.default_rng(0)
P, SAMPLES = 3, 24
ROOTS = rng.standard_normal((SAMPLES, P, P))
A = 0.5 * ROOTS @ ROOTS.transpose(0, 2, 1) / P + 0.5 * np.eye(P)
B = 0.3 * rng.standard_normal((SAMPLES, P, P)) + np.eye(P)
c = rng.standard_normal((SAMPLES, P))
H, C, mean = A.mean(0), B.mean(0), c.mean(0)


def inner(x, theta, batch):
    A, B = batch
    return jnp.mean(0.5 * jnp.einsum("i,nij,j->n", x, A, x) - jnp.einsum("i,nij,j->n", x, B, theta))


def outer(x, theta, batch):
    return 0.5 * jnp.mean(jnp.sum((x[None] - batch) ** 2, axis=1)) + 0.05 * jnp.sum(theta**2)


def end(S):
    """Where the direction is zero whose adjoint is `S` times what the inverse Hessian should be applied to."""
    M = np.linalg.solve(H, C)
    return np.linalg.solve(C.T @ S @ M + 0.1 * np.eye(P), C.T @ S @ mean)


OPTIMUM = end(np.linalg.inv(H))
SERIES = lambda step, terms: sum(step * np.linalg.matrix_power(np.eye(P) - step * H, k) for k in range(terms))
PROBLEM = bilevel.Bilevel(outer, inner)


def ended(method, steps, *, size=None, seed=0):
    if size is None:  # all data at once
        state = method.init(np.zeros(P), np.zeros(P), c, (A, B))
        state = jax.jit(lambda state: jax.lax.fori_loop(0, steps, lambda _, s: method.step(s, c, (A, B)), state))(state)
    else:
        data = bilevel.Batches(c, size), bilevel.Batches((A, B), size)
        state = method.init(np.zeros(P), np.zeros(P), data[0][0], data[1][0])
        state = method.run(state, steps, *data, jax.random.key(seed))
    assert state.status == dini.Status.RUNNING
    return state


def off(theta, truth=OPTIMUM):
    return np.linalg.norm(theta - truth) / np.linalg.norm(OPTIMUM)


HOW = {"inner_step": 0.5, "outer_step": 0.2}
UNBIASED = {
    "SOBA": bilevel.SOBA(PROBLEM, **HOW),
    "MASOBA": bilevel.MASOBA(PROBLEM, inner_step=0.5, outer_step=0.1, average=0.5),
    "AmIGO": bilevel.AmIGO(PROBLEM, **HOW, inner_steps=3, adjoint_steps=3),
    "FSLA": bilevel.FSLA(PROBLEM, **HOW, eta=0.3),
    "SubBiO": bilevel.SubBiO(PROBLEM, **HOW),
    "LancBiO": bilevel.LancBiO(PROBLEM, **HOW, size=2),
}


@pytest.mark.parametrize("name", UNBIASED)
def test_the_unbiased_reach_the_optimum_on_all_data(name):
    state = ended(UNBIASED[name], 400)
    assert off(state.theta) < 1e-9
    assert state.error < 1e-8
    np.testing.assert_allclose(state.x, np.linalg.solve(H, C @ OPTIMUM), rtol=1e-7)
    np.testing.assert_allclose(state.v, -np.linalg.solve(H, state.x - mean), rtol=1e-6)


@pytest.mark.parametrize("name", ["SABA", "SRBA"])
def test_variance_reduction_reaches_the_optimum_on_batches(name):
    how = {"inner_step": 0.2, "outer_step": 0.05}
    method = bilevel.SABA(PROBLEM, **how) if name == "SABA" else bilevel.SRBA(PROBLEM, **how, period=6, radius=100.0)
    assert off(ended(method, 4000, size=4).theta) < 1e-9


def test_plain_batches_end_in_a_neighbourhood_as_large_as_the_root_of_the_steps():
    data = bilevel.Batches(c, 4), bilevel.Batches((A, B), 4)

    @jax.jit
    @jax.vmap
    def run(length, key):
        method = bilevel.SOBA(PROBLEM, inner_step=2 * length, outer_step=length)
        start = method.init(np.zeros(P), np.zeros(P), data[0][0], data[1][0])
        return method.run(start, 3000, *data, key).theta

    keys = jax.random.split(jax.random.key(0), 256)
    far, near = run(np.repeat([0.04, 0.01], 128), keys).reshape(2, 128, P) - OPTIMUM[None, None]
    spread = lambda theta: np.sqrt(np.mean(np.sum(theta**2, axis=1)))
    assert 1.6 < spread(far) / spread(near) < 2.6
    assert np.linalg.norm(np.mean(near, axis=0)) < 0.3 * spread(near)


def test_a_series_that_is_cut_off_ends_where_its_bias_says():
    method = bilevel.StocBiO(PROBLEM, **HOW, inner_steps=2, adjoint_steps=4)
    state = ended(method, 400)
    assert off(state.theta, end(SERIES(0.5, 4))) < 1e-9
    assert off(state.theta) > 1e-3


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_a_krylov_space_is_that_of_conjugate_gradients(scale):
    """Where nothing moves, step `k` has the adjoint of `k` conjugate gradient steps, in any units, and stays."""
    values = scale * np.linspace(1.0, 30.0, 6)
    own = np.random.default_rng(3)
    G = np.linalg.qr(own.standard_normal((6, 6)))[0]
    G = (G * values) @ G.T
    b = own.standard_normal(6)
    adjoint, v = bilevel.Lanczos(size=8), jnp.zeros(6)
    memory, found = (adjoint.start(v), ()), []
    for _ in range(8):
        given = bilevel._adjoints.Adjoint(None, lambda v, _: (G @ v, -b), 0.0, memory, 0)
        v, memory = adjoint.run(v, given)
        found.append(v)
    x, r = np.zeros(6), b
    p = r
    for k in range(6):
        x = x + (r @ r) / (p @ G @ p) * p
        old, r = r, r - (r @ r) / (p @ G @ p) * (G @ p)
        p = r + (r @ r) / (old @ old) * p
        np.testing.assert_allclose(found[k], x, rtol=1e-6, atol=1e-9 / scale)
    for v in found[5:]:
        np.testing.assert_allclose(v, np.linalg.solve(G, b), rtol=1e-9, atol=1e-12 / scale)


def test_one_random_term_is_the_series_in_the_mean():
    terms, step = 5, 0.5
    adjoint = bilevel.RandomTerm(terms)
    b = np.array([1.0, -2.0, 0.5])
    given = lambda count: bilevel._adjoints.Adjoint(None, lambda v, _: (H @ v, b), step, (), count)
    v = jax.vmap(lambda count: adjoint.run(jnp.zeros(P), given(count))[0])(jnp.arange(20000))
    truth = -SERIES(step, terms) @ b
    deviation = np.std(v, axis=0) / np.sqrt(20000)
    assert np.all(np.abs(np.mean(v, axis=0) - truth) < 4 * deviation)
    assert np.max(deviation) < 0.02 * np.linalg.norm(truth)
    state = ended(bilevel.TTSA(PROBLEM, inner_step=0.5, outer_step=0.01, terms=4), 5000)
    assert off(state.theta, end(SERIES(0.5, 4))) < 0.2


@pytest.mark.parametrize("order", [1, 2])
def test_a_fixed_penalty_is_off_by_its_order(order):
    def predicted(multiplier):
        nu = 1 / multiplier
        inverse = lambda nu: np.linalg.inv(H + nu * np.eye(P))
        if order == 1:
            S, b = (np.linalg.inv(H) - inverse(nu)) / nu, inverse(nu)
        else:
            S, b = (inverse(-nu) - inverse(nu)) / (2 * nu), (inverse(nu) + inverse(-nu)) / 2
        # 0.1 theta - C'(x(nu) - x(down)) / (nu - down), where x(nu) = (H + nu)^-1 (C theta + nu c)
        return np.linalg.solve(C.T @ S @ C + 0.1 * np.eye(P), C.T @ b @ mean)

    @jax.jit
    def run(multiplier):
        method = bilevel.F2SA(PROBLEM, 0.5, 0.2, multiplier, order, 10)
        state = method.init(np.zeros(P), np.zeros(P), c, (A, B))
        return jax.lax.fori_loop(0, 400, lambda _, s: method.step(s, c, (A, B)), state).theta

    errors = []
    for multiplier in (20.0, 40.0, 80.0):
        theta = run(multiplier)
        assert off(theta, predicted(multiplier)) < 1e-8
        errors.append(off(theta))
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    np.testing.assert_allclose(ratios, 2.0**order, rtol=0.1)


def test_bome_needs_no_second_derivative():
    method = bilevel.BOME(PROBLEM, inner_step=0.5, outer_step=lambda k: 0.1 / (1 + k / 200), inner_steps=20)
    assert off(ended(method, 6000).theta) < 0.02


def test_hoag_needs_no_learning_rate():
    at = {"outer": lambda x, t: outer(x, t, c), "inner": dini.Minimize(lambda x, t: inner(x, t, (A, B)))}
    method = bilevel.HOAG(**at, tolerance=lambda k: 0.1 * 0.7**k)
    state = method.run(method.init(np.zeros(P), np.zeros(P)), 40)
    assert off(state.theta) < 1e-6


def test_an_evolution_strategy_follows_the_gradient_in_the_mean():
    target = lambda x, t: outer(x, t, c)
    fit = dini.Minimize(lambda x, t: inner(x, t, (A, B)))
    theta = np.array([0.3, -0.2, 0.1])
    M = np.linalg.solve(H, C)
    exact = M.T @ (M @ theta - mean) + 0.1 * theta

    @jax.jit
    def moved(seed):
        how = {"solver": dini.Newton(), "sigma": 0.1, "pairs": 4000, "seed": seed}
        method = bilevel.EvolutionStrategy(target, fit, 1.0, **how)
        return theta - method.step(method.init(theta, np.zeros(P))).theta

    # a quadratic function's smoothed gradient is its own; a pair's error is about as large as the gradient
    assert np.linalg.norm(moved(0) - exact) < 5 * np.linalg.norm(exact) * np.sqrt(P / 4000)


MODES = {"one step": (dini.OneStep(), 1), "truncated": (dini.Unrolled(last=3), 3)}


@pytest.mark.parametrize("name", MODES)
def test_other_modes_end_where_their_bias_says(name):
    mode, terms = MODES[name]
    at = {"outer": lambda x, t: outer(x, t, c), "inner": dini.Minimize(lambda x, t: inner(x, t, (A, B)))}
    solver = dini.GradientDescent(step_size=0.5, rtol=1e-11, max_steps=1000)
    method = bilevel.HOAG(**at, solver=solver, outer_step=0.5, differentiation=mode)
    state = method.run(method.init(np.zeros(P), np.zeros(P)), 100)
    assert off(state.theta, end(SERIES(0.5, terms))) < 1e-7
    assert off(state.theta) > 1e-2
