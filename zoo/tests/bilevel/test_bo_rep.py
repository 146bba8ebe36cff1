"""BO-REP: its first steps to the digit, its hypergradient against implicit differentiation, and what it promises."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outputs import assert_bars_met

import dini
from dini_zoo.bilevel import data, oracles
from dini_zoo.bilevel.bo_rep import (
    BOREP,
    epoch_sgd,
    ma_soba,
    method,
    momentum,
    normalized_momentum,
    project_to_ball,
    refinement,
    soba,
)

# Xfrom dini_zoo.bilevel.bo_rep.experiment import experiment
from dini_zoo.bilevel.oracles import Oracles, adjoint, largest_curvature

A = np.array([[1.0, 0.0], [0.5, -1.0]])
Q = np.diag([2.0, 1.0])
c = np.array([0.0, 1.0])
X0 = np.array([1.0, 0.5])


def outer(x, y, scale):
    return (1.0 if scale is None else scale) * (jnp.sum(jnp.cosh(y - c)) + 0.1 * jnp.sum(x**2))


def inner(x, y, _):
    return 0.5 * (y - A @ x) @ Q @ (y - A @ x)


LEVELS = Oracles(outer, inner)
TRACE = BOREP(LEVELS, normalized_momentum(0.2), nu=0.25, gamma=0.3, period=2, inner_steps=2)
#: After step k the state holds y_{k-1}, x_k, z_k, m_k of the specification.
STEPS = {
    1: {"x": (0.82111456, 0.41055728), "z": (0.2938003, -0.2938003), "m": (0.02, 0.01)},
    3: {
        "x": (0.48384887, 0.19585731),
        "y": (0.74737395, 0.00651791),
        "z": (0.42508014, -0.676905),
        "m": (0.14605828, 0.09951654),
    },
}


def steps_of(solver, count, scale=None):
    """All states of a deterministic run."""
    state = solver.init(X0, A @ X0)
    return jax.jit(
        lambda state: jax.lax.scan(lambda s, _: (solver.update(s, scale, None),) * 2, state, length=count)[1]
    )(state)


def test_the_first_steps_are_those_of_the_specification():
    states = steps_of(TRACE, 3)
    for k, known in STEPS.items():
        found = {"x": states.x, "y": states.y, "z": states.z, "m": states.optimizer[0].ema}
        for name, value in known.items():
            np.testing.assert_allclose(found[name][k - 1], value, atol=1e-7, err_msg=f"{name} after step {k}")


def test_at_the_solution_its_direction_is_the_implicit_hypergradient():
    # y* in a solve that dini differentiates
    def phi(x):
        found = dini.minimize(lambda y, x: inner(x, y, None), jnp.zeros(2), x, solver=dini.BFGS(tol=1e-13))
        return outer(x, found.x, None)

    exact = jax.grad(phi)(X0)
    np.testing.assert_allclose(exact, (0.7876006, 1.27520119), atol=1e-8)
    solver = BOREP(LEVELS, normalized_momentum(0.2), nu=0.5, gamma=0.3, z_order="new")
    state = solver.refine(solver.init(X0, A @ X0), None, None, steps=80)
    np.testing.assert_allclose(state.z, adjoint(LEVELS, X0, A @ X0), atol=1e-10)
    np.testing.assert_allclose(state.z, np.linalg.solve(Q, np.sinh(A @ X0 - c)), atol=1e-10)
    h = LEVELS.upper(X0, A @ X0, None).x - LEVELS.cross(X0, A @ X0, state.z, None)
    np.testing.assert_allclose(h, exact, atol=1e-8)
    assert float(largest_curvature(LEVELS, X0, A @ X0)) == pytest.approx(2.0, rel=1e-6)
    with pytest.raises(dini.DerivativeError):  # along a flat direction there is no adjoint
        adjoint(Oracles(outer, lambda x, y, _: y[0] ** 2 + y @ x), X0, A @ X0)


def test_every_step_has_one_length_for_any_tree_and_numbers_of_any_size():
    def run(scale):
        tree = {"a": jnp.ones((2, 3)), "b": (jnp.array(2.0),)}
        total = lambda x: jnp.sum(jnp.stack([jnp.sum(leaf**2) for leaf in jax.tree.leaves(x)]))
        levels = Oracles(lambda x, y, _: scale * (total(x) + y**2), lambda x, y, _: 0.5 * (y - total(x)) ** 2)
        solver = BOREP(levels, normalized_momentum(0.01), nu=0.5, gamma=0.5)
        state = solver.init(tree, jnp.array(10.0))
        xs = jax.lax.scan(lambda s, _: (solver.update(s, None, None),) * 2, state, length=8)[1].x
        rows = jnp.concatenate([xs["a"].reshape(8, -1), xs["b"][0][:, None]], axis=1)
        return jnp.linalg.norm(jnp.diff(rows, axis=0), axis=1)

    lengths = jax.jit(jax.vmap(run))(jnp.array([1e-170, 1e-6, 1.0, 1e6, 1e150]))
    np.testing.assert_allclose(lengths, 0.01, rtol=1e-12)


def test_the_inner_variable_rests_within_a_period_and_its_gradients_are_counted():
    solver = BOREP(LEVELS, normalized_momentum(0.05), nu=0.25, gamma=0.3, period=3, inner_steps=4)
    states = steps_of(solver, 10)
    y = np.asarray(states.y)
    changed = np.any(np.diff(y, axis=0) != 0, axis=1)
    assert [k + 1 for k in np.flatnonzero(changed)] == [3, 6, 9]
    assert int(states.lower_calls[-1]) == 4 * ((10 - 1) // 3)
    assert int(solver.init(X0, X0, lower_calls=20).lower_calls) == 20


def test_a_multiple_of_the_outer_objective_changes_nothing():
    one, many = (steps_of(TRACE, 12, scale) for scale in (1.0, 100.0))
    np.testing.assert_allclose(many.x, one.x, rtol=1e-6)
    np.testing.assert_allclose(many.z, 100 * one.z, rtol=1e-6)
    plain = soba(LEVELS, 0.01, nu=0.25, gamma=0.3)
    one, many = (steps_of(plain, 12, scale) for scale in (1.0, 100.0))
    assert np.abs(many.x[-1] - one.x[-1]).max() > 0.1


def test_presets_are_the_same_loop():
    """SOBA by hand, and MA-SOBA with a momentum of zero."""
    x, y, z = jnp.asarray(X0), A @ X0, jnp.zeros(2)
    for k in range(4):
        if k:
            y = y - 0.3 * Q @ (y - A @ x)
        h = 0.2 * x + A.T @ Q @ z
        z = z - 0.25 * (Q @ z - jnp.sinh(y - c))
        x = x - 0.1 * h
    for solver in (soba(LEVELS, 0.1, nu=0.25, gamma=0.3), ma_soba(LEVELS, 0.1, nu=0.25, gamma=0.3, beta=0.0)):
        states = steps_of(solver, 4)
        np.testing.assert_allclose(states.x[-1], x, rtol=1e-12)
        np.testing.assert_allclose(states.z[-1], z, rtol=1e-12)


def test_of_noisy_lanes_the_one_that_explodes_is_told_and_disturbs_no_other():
    def one(rate, key):
        solver = soba(LEVELS, rate, nu=0.25, gamma=0.3)
        return solver.run(solver.init(4 * X0, A @ X0), lambda key: (None, None), key, steps=40)

    keys = jax.random.split(jax.random.key(0), 2)
    found = jax.jit(jax.vmap(one))(jnp.array([0.02, 1e6]), keys)
    assert list(np.asarray(found.finite)) == [True, False]
    assert np.all(np.isfinite(found.x))  # the last good values
    np.testing.assert_allclose(found.x[0], jax.jit(one)(0.02, keys[0]).x, rtol=1e-12)


def test_a_small_radius_is_met_and_told():
    solver = BOREP(LEVELS, normalized_momentum(0.2), nu=0.25, gamma=0.3, radius=1e-3)
    with pytest.warns(UserWarning, match="radius 0.001"):
        found = solver.run(solver.init(X0, A @ X0), lambda key: (None, None), jax.random.key(0), steps=9)
    assert float(found.projected) == 1.0
    moved = np.linalg.norm(np.asarray(found.y) - A @ X0)
    assert 0 < moved <= 4 * 1e-3
    np.testing.assert_allclose(project_to_ball({"a": jnp.array([2.0])}, {"a": jnp.array([1.0])}, 0.5)["a"], 1.5)


def test_a_compiled_run_warns_of_a_small_radius():
    solver = BOREP(LEVELS, normalized_momentum(0.2), nu=0.25, gamma=0.3, radius=1e-3)
    run = jax.jit(lambda state: solver.run(state, lambda key: (None, None), jax.random.key(0), steps=9))
    with pytest.warns(dini.SolveWarning, match="100% of the updates.*radius 0.001"):
        jax.block_until_ready(run(solver.init(X0, A @ X0)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_run_to_huge_numbers_is_not_called_finite(dtype):
    """Steps that are too long for the inner problem, for the linear system, and for the outer one; none overflows."""
    levels = Oracles(lambda x, y, _: 0.5 * jnp.sum((y - 1) ** 2), lambda x, y, _: 0.5 * jnp.sum((y - x) ** 2))
    start = np.array([3.0, 1.0], dtype)

    @jax.jit
    @jax.vmap
    def run(rate, nu, gamma):
        solver = soba(levels, rate, nu=nu, gamma=gamma)
        state = solver.init(start, start + 1)
        return solver.run(state, lambda key: (None, None), jax.random.key(0), steps=150)

    rates = {"good": (0.1, 0.5, 0.5), "inner": (0.01, 0.5, 2.5), "system": (0.01, 2.5, 0.5), "outer": (4.0, 0.5, 0.5)}
    found = run(*np.array(list(rates.values()), dtype).T)
    assert list(np.asarray(found.finite)) == [True, False, False, False]
    # nothing moves from then on, long before the numbers overflow
    assert np.max(np.abs(np.stack([found.x, found.y, found.z]))) < 1e3 / np.finfo(dtype).eps
    np.testing.assert_allclose(found.x[0], 1, rtol=1e-3)


def test_refinement_in_stages_is_better_than_its_last_gradient():
    gradient = lambda y, key: Q @ (y - c) + jax.random.normal(key, (2,))
    refine = lambda key: epoch_sgd(gradient, jnp.array([8.0, -8.0]), key, step=0.2, steps=20, stages=6, radius=20.0)
    found = jax.jit(jax.vmap(refine))(jax.random.split(jax.random.key(0), 40))
    # each stage has the error of its step, a 32nd of the first one's
    assert np.mean((found - c) ** 2) < 0.01
    # without noise the errors of averages are products of geometric sums
    exact = epoch_sgd(
        lambda y, key: Q @ (y - c), jnp.array([8.0, -8.0]), jax.random.key(0), step=0.2, steps=4, stages=3
    )
    error = np.array([8.0, -9.0])
    for s in range(3):
        powers = (1 - 0.2 / 2**s * np.diag(Q)[:, None]) ** np.arange(1, 4 * 2**s + 1)
        error = error * powers.mean(axis=1)
    np.testing.assert_allclose(exact, c + error, rtol=1e-12)


def test_single_precision_stays_single():
    state = TRACE.init(X0.astype(np.float32), (A @ X0).astype(np.float32))
    after = TRACE.update(state, None, None)
    assert {leaf.dtype for leaf in (after.x, after.y, after.z)} == {jnp.float32.dtype}


def test_digits_with_wrong_labels():
    digits = data.noisy_digits(1000, 300, 0.4)
    clean = data.noisy_digits(1000, 300, 0.0)
    assert np.array_equal(digits.train.y != clean.train.y, digits.wrong)
    assert abs(digits.wrong.mean() - 0.4) < 0.05
    assert np.array_equal(digits.validation.y, clean.validation.y)
    both = data.noisy_digits(400, 400, 0.2, noisy_validation=True)
    assert len(both.wrong) == 800
    assert np.any(both.wrong[400:])
    with pytest.raises(ValueError, match="leave none to test"):
        data.noisy_digits(1500, 297, 0.1)
    with pytest.raises(ValueError, match="share must be"):
        data.noisy_digits(10, 10, 1.5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nu": 0.0}, "nu must be positive"),
        ({"gamma": np.inf}, "gamma must be positive"),
        ({"period": 0}, "period must be at least 1"),
        ({"inner_steps": 0}, "inner_steps must be at least 1"),
        ({"radius": -1.0}, "radius must be positive"),
        ({"damping": -1.0}, "damping must be zero or more"),
        ({"z_order": "older"}, "z_order must be one of"),
    ],
)
def test_settings_out_of_range_are_told(wrong, message):
    with pytest.raises(ValueError, match=message):
        BOREP(**{"oracles": LEVELS, "optimizer": optax.sgd(0.1), "nu": 0.1, "gamma": 0.1} | wrong)


def test_bad_input_is_told():
    with pytest.raises(ValueError, match="beta must be from 0 to less than 1"):
        normalized_momentum(0.1, 1.0)
    with pytest.raises(ValueError, match="eta must be positive"):
        normalized_momentum(-0.1)
    with pytest.raises(TypeError, match="z must be a tree like y"):
        TRACE.init(X0, X0, {"a": X0})
    with pytest.raises(TypeError, match=r"z\['a'\] must be as in y, float64\[2\]: given float64\[3\]"):
        TRACE.init(X0, {"a": X0}, {"a": np.zeros(3)})
    with pytest.raises(TypeError, match="x must be of real floats: given int"):
        TRACE.init(np.arange(2), X0)
    state = TRACE.init(X0, X0)
    with pytest.raises(ValueError, match="data_inner must have 4 batches"):
        TRACE.update(state, None, jnp.zeros((3, 5)))
    with pytest.raises(ValueError, match="every must divide steps"):
        TRACE.run(state, lambda key: (None, None), jax.random.key(0), steps=5, every=2)
    with pytest.raises(ValueError, match="stages must be at least 1"):
        epoch_sgd(lambda y, key: y, X0, jax.random.key(0), step=0.1, steps=1, stages=0)


@pytest.mark.parametrize("module", [data, oracles, method, momentum, refinement], ids=lambda module: module.__name__)
def test_examples(module):
    with jax.enable_x64(False):
        names = {"normalized_momentum": normalized_momentum}
        assert not doctest.testmod(module, extraglobs=names).failed


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("bo-rep", experiment, but=("digits: accuracy − uniform, points",))
