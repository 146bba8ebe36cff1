"""Architecture search: hypergradients against closed forms and differences, votes, and what is read off."""

import doctest
import importlib
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from outputs import assert_bars_met

import dini
from dini_zoo.bilevel.sd_darts import (
    Cell,
    Search,
    SuperNet,
    TeacherBuffer,
    arch_gradient,
    dense_operations,
    derive,
    edges_of,
    hessian_top_eigenvalue,
    self_distillation_loss,
    sharpness,
)

# Xfrom dini_zoo.bilevel.sd_darts.experiment import experiment

X64 = jnp.array


@pytest.fixture(scope="module")
def quadratic():
    random = np.random.default_rng(0)
    R = random.normal(size=(4, 4))
    P = R @ R.T / 4 + np.eye(4)
    w, a, c = random.normal(size=(3, 4))
    train = lambda w, a, _: 0.5 * (w - a) @ P @ (w - a)
    validation = lambda w, a, _: 0.5 * jnp.sum((w - c) ** 2) + 0.1 * jnp.sum(a**2)
    return P, w, a, c, train, validation


def test_hypergradients_of_a_quadratic_are_their_closed_forms(quadratic):
    P, w, a, c, train, validation = quadratic
    found = lambda **how: arch_gradient(train, validation, w, a, None, None, **how)
    np.testing.assert_allclose(found(), 0.2 * a, atol=1e-12)
    xi = 0.3 / np.linalg.eigvalsh(P)[-1]
    after = w - xi * P @ (w - a)
    np.testing.assert_allclose(found(mode="second", xi=xi), 0.2 * a + xi * P @ (after - c), atol=1e-12)
    push = np.arange(4.0)
    moved = found(mode="second", xi=xi, momentum=push)
    np.testing.assert_allclose(moved, 0.2 * a + xi * P @ (after - xi * push - c), atol=1e-12)
    exact = 0.2 * a + (w - c)
    np.testing.assert_allclose(found(mode="cg"), exact, atol=1e-9)
    damped = 0.2 * a + P @ np.linalg.solve(P + 0.5 * np.eye(4), w - c)
    np.testing.assert_allclose(found(mode="cg", damping=0.5), damped, atol=1e-9)
    errors = [np.linalg.norm(found(mode="implicit", xi=xi, terms=K) - exact) for K in (40, 41, 42)]
    rate = 1 - xi * np.linalg.eigvalsh(P)[0]
    np.testing.assert_allclose([b / a for a, b in pairwise(errors)], rate, rtol=2e-2)
    # losses of any size
    for size in (1e-6, 1e6):
        small = [lambda w, a, _, loss=loss, size=size: size * loss(w, a, _) for loss in (train, validation)]
        scaled = arch_gradient(*small, w, a, None, None, mode="cg")
        np.testing.assert_allclose(scaled, size * exact, rtol=1e-8)


def test_conjugate_gradients_tell_of_flat_directions(quadratic):
    _, w, a, _, _, validation = quadratic
    flat = lambda w, a, _: 0.5 * w[0] ** 2 + w @ a
    with pytest.raises(dini.DerivativeError):
        arch_gradient(flat, validation, w, a, None, None, mode="cg")
    finite = arch_gradient(flat, validation, w, a, None, None, mode="cg", damping=1.5)
    np.testing.assert_allclose(finite[0], 0.2 * a[0] - 1 / 2.5 * (w[0] - quadratic[3][0]), atol=1e-9)


def test_a_saddle_and_a_series_that_diverges_are_no_gradient():
    """Alone an error, in a batch the lane's own mark."""
    train = lambda w, a, d: 0.5 * jnp.sum(d * w**2) - jnp.sum(a * w)
    found = lambda d, **how: arch_gradient(train, lambda w, a, _: jnp.sum(w), jnp.ones(2), jnp.ones(2), d, None, **how)
    saddle, steep = jnp.array([1.0, -2.0]), jnp.array([1.0, 300.0])
    with pytest.raises(dini.DerivativeError, match="not positive definite"):
        found(saddle, mode="cg")
    np.testing.assert_allclose(found(saddle, mode="cg", damping=3.0), [1 / 4, 1.0], rtol=1e-9)
    with pytest.raises(dini.DerivativeError, match="damping must be less than two over the largest"):
        found(steep, mode="implicit", xi=1.0)
    np.testing.assert_allclose(found(steep, mode="implicit", xi=1 / 300, terms=0), 1 / 300)
    np.testing.assert_allclose(
        found(steep, mode="second", xi=1.0), 1.0
    )  # the derivative of a step, whatever its length
    lanes = jax.vmap(lambda d: found(d, mode="cg"))(jnp.stack([steep, saddle]))
    np.testing.assert_allclose(lanes[0], [1, 1 / 300], rtol=1e-6)
    assert np.all(np.isnan(lanes[1]))


def small_net(rectifier=jax.nn.softplus, n_nodes=2):
    operations = list(dense_operations(8, rectifier=rectifier).values())
    net = SuperNet(6, 8, 3, n_nodes=n_nodes, operations=operations, key=jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf.astype(float) if eqx.is_inexact_array(leaf) else leaf, net)


def problem(net, rows=24):
    random = np.random.default_rng(1)
    w, static = eqx.partition(net, eqx.is_inexact_array)
    apply = lambda w, alpha, x: eqx.combine(w, static)(x, alpha)
    batches = [(random.normal(size=(rows, 6)), random.integers(0, 3, rows)) for _ in range(2)]
    alpha = 0.1 * random.normal(size=(len(net.cell.edges), 6))
    return w, alpha, apply, batches


def test_the_second_order_is_that_of_differences_on_a_smooth_supernet():
    w, alpha, apply, (train, held) = problem(small_net())
    search = Search(apply, optax.sgd(0.1), optax.sgd(0.1))
    xi = 0.05

    @jax.jit
    def both(w, alpha, steps):
        exact = arch_gradient(search.loss, search.loss, w, alpha, train, held, mode="second", xi=xi)
        flat, restore = ravel_pytree(w)
        slope = lambda w: jax.grad(search.loss, argnums=1)(w, alpha, train)
        after = flat - xi * ravel_pytree(jax.grad(search.loss)(w, alpha, train))[0]
        v, direct = jax.grad(search.loss, argnums=(0, 1))(restore(after), alpha, held)
        v = ravel_pytree(v)[0]

        def difference(step):
            step = step / jnp.linalg.norm(v)
            return direct - xi * (slope(restore(flat + step * v)) - slope(restore(flat - step * v))) / (2 * step)

        return exact, jax.lax.map(difference, steps)

    exact, differences = both(w, alpha, X64([1e-2, 1e-4]))
    errors = [np.linalg.norm(one - exact) / np.linalg.norm(exact) for one in differences]
    assert errors[0] < 1e-4
    assert errors[1] < 1e-8


# self-distillation


def test_the_distillation_loss_and_its_slope():
    z, student = X64([[1.0, 0.0, 0.0]]), X64([[0.0, 2.0, 0.0]])
    loss = lambda student, T: self_distillation_loss(student, jax.nn.softmax(z / T, axis=1), T)
    assert float(loss(student, 1.0)) == pytest.approx(0.8403338218, abs=1e-9)
    assert float(loss(student, 2.0)) == pytest.approx(0.8357228256, abs=1e-9)
    slope = jax.grad(loss)(student, 1.0)[0]
    np.testing.assert_allclose(slope, (-0.4696099058, 0.5750444845, -0.1054345787), atol=1e-9)
    sure = self_distillation_loss(student, X64([[0.0, 1.0, 0.0]]), 1.0)  # no class that is not named counts
    assert float(sure) == pytest.approx(-float(jax.nn.log_softmax(student)[0, 1]), rel=1e-12)


def test_teachers_that_are_the_student_teach_nothing():
    apply = lambda w, x: x @ w
    x, w = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4))), jnp.ones((4, 3)) * X64([1.0, 2.0, -1.0])
    buffer = TeacherBuffer(3)
    teachers = buffer.init(w)
    assert not buffer.full(teachers)
    for _ in range(3):
        teachers = buffer.push(teachers, w)
    assert buffer.full(teachers)
    loss = lambda w, how: self_distillation_loss(apply(w, x), buffer.vote(apply, teachers, x, 2.0, how), 2.0)
    for how in ("prob", "logit"):
        value, slope = jax.value_and_grad(loss)(w, how)
        assert abs(float(value)) < 1e-14
        np.testing.assert_allclose(slope, 0, atol=1e-14)
    other = buffer.push(teachers, -w)
    for how in ("prob", "logit", "hard"):
        votes = buffer.vote(apply, other, x, 2.0, how)
        np.testing.assert_allclose(votes.sum(axis=1), 1, rtol=1e-12)
    assert set(np.unique(np.round(3 * votes))) <= {0.0, 1.0, 2.0, 3.0}
    # live weights among the teachers are constants
    live = jax.grad(lambda w: jnp.sum(buffer.vote(apply, buffer.push(teachers, w), x)[:, 0]))(w)
    assert not np.any(live)


def test_a_search_begins_to_distil_when_its_buffer_is_full_and_stops_where_numbers_end():
    w, alpha, apply, (train, held) = problem(small_net(n_nodes=1))

    def run(strength, factor):
        search = Search(apply, optax.sgd(0.05), optax.sgd(0.1), strength=strength, teachers=2, interval=2)
        step = lambda state, _: (search.step(state, (factor * train[0], train[1]), held),) * 2
        return jax.lax.scan(step, search.init(w, alpha), length=6)[1]

    run = jax.jit(jax.vmap(run))
    states = run(X64([0.0, 5.0, 5.0]), X64([1.0, 1.0, np.nan]))
    head = np.asarray(states.w.head)
    np.testing.assert_array_equal(head[0, :4], head[1, :4])
    assert np.abs(head[0, 4] - head[1, 4]).max() > 1e-6
    assert list(np.asarray(states.teachers.pushed[0])) == [1, 1, 2, 2, 3, 3]
    assert not np.any(states.finite[2])
    np.testing.assert_array_equal(head[2, -1], w.head)
    # the first step by hand: the mixture's, then the weights' for the new mixture
    search = Search(apply, optax.sgd(0.05), optax.sgd(0.1))
    new = alpha - 0.1 * jax.grad(search.loss, argnums=1)(w, alpha, held)
    np.testing.assert_allclose(states.alpha[0, 0], new, rtol=1e-10)
    np.testing.assert_allclose(head[0, 0], w.head - 0.05 * jax.grad(search.loss)(w, new, train).head, rtol=1e-10)


# architectures


def test_a_saturated_supernet_is_the_derived_network():
    net = small_net(jax.nn.relu, n_nodes=3)
    random = np.random.default_rng(3)
    kept = derive(random.normal(size=(6, 6)), net.cell.edges)
    assert [j for _, j, _ in kept.kept] == [1, 2, 2, 3, 3]
    assert all(o != 0 for _, _, o in kept.kept)
    alpha = np.zeros((6, 6))
    alpha[:, 0] = 100
    for i, j, o in kept.kept:
        row = net.cell.edges.index((i, j))
        alpha[row] = 0
        alpha[row, o] = 100
    x = jnp.asarray(random.normal(size=(9, 6)))
    # by hand, edge after edge
    h = x @ net.stem + net.stem_bias
    nodes = [(h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + 1e-5)]
    for node in (1, 2, 3):
        total = 0.0
        for i, j, o in kept.kept:
            if j == node:
                row = net.cell.edges.index((i, j))
                pick = lambda leaf, row=row: leaf[row] if eqx.is_array(leaf) else leaf
                operation = jax.tree.map(pick, net.cell.mixed.operations[o])
                total = total + operation(nodes[i])
        nodes.append(total)
    explicit = np.concatenate(nodes[1:], axis=1) @ net.head + net.head_bias
    np.testing.assert_allclose(net(x, jnp.asarray(alpha)), explicit, atol=1e-6)
    np.testing.assert_allclose(net.weighted(x, kept.weights(net.cell.edges, 6)), explicit, atol=1e-12)


def test_strengths_are_shares_of_all_operations():
    """An edge whose none is strong is weak, though its best logit is larger."""
    alpha = [[0.0, 1.0], [9.0, 3.0], [0.0, 1.0], [0.0, 0.5]]
    found = derive(alpha, ((0, 3), (1, 3), (2, 3), (0, 4)), top_edges=2)
    assert found.kept == ((0, 3, 1), (2, 3, 1), (0, 4, 1))


def test_sharpness_of_a_known_function():
    R = np.random.default_rng(0).normal(size=(6, 6))
    H = R @ R.T
    loss = lambda w: 0.5 * w @ H @ w
    w = np.ones(6)
    found = hessian_top_eigenvalue(loss, w, jax.random.key(0), iterations=200)
    assert float(found) == pytest.approx(np.linalg.eigvalsh(H)[-1], rel=1e-9)
    g = H @ w
    climb = 0.1 * np.linalg.norm(g) + 0.005 * g @ H @ g / (g @ g)
    assert float(sharpness(loss, w, 0.1)) == pytest.approx(climb, rel=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: derive([[1.0]], ((0, 1),)), "two operations or more"),
        (lambda: derive([[1.0, 2.0]], ((1, 0),)), "smaller number to a larger"),
        (lambda: derive([[np.nan, 2.0]], ((0, 1),)), "must be finite"),
        (lambda: derive([[1.0, 2.0]], ((0, 1),), none_index=2), "none_index must be one of"),
        (lambda: Cell(1, 1, [lambda key: None], jax.random.key(0)), "operations must be two or more"),
        (lambda: edges_of(0, 2), "n_in must be at least 1"),
        (lambda: TeacherBuffer(0), "size must be at least 1"),
        (lambda: arch_gradient(None, None, 1.0, 1.0, None, None, mode="second"), "xi must be given"),
        (lambda: arch_gradient(None, None, 1.0, 1.0, None, None, mode="third"), "mode must be one of"),
        (lambda: arch_gradient(None, None, 1.0, 1.0, None, None, mode="second", xi=-1.0), "xi must be zero or more"),
        (lambda: Search(None, None, None, interval=0), "interval must be at least 1"),
        (lambda: self_distillation_loss(jnp.ones((2, 3)), jnp.ones((3, 2))), "teacher_probs must have the shape"),
        (
            lambda: Search(None, optax.sgd(1.0), optax.sgd(1.0)).step(
                Search(None, optax.sgd(1.0), optax.sgd(1.0)).init(X64(1.0), X64(1.0)),
                (X64([1.0]), X64([])),
                (X64([]),) * 2,
            ),
            "batch_train must have a label for each image",
        ),
    ],
)
def test_bad_input_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["supernet", "genotype", "gradient", "distillation", "sharpness"])
def test_examples(name):
    module = importlib.import_module(f"dini_zoo.bilevel.sd_darts.{name}")  # a function has the name of one
    with jax.enable_x64(False):
        assert not doctest.testmod(module).failed


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("sd-darts", experiment)
