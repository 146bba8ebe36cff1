"""Self-tuning networks: responses against exact ones, layers against explicit weights, and what bad input gets."""

import doctest

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outputs import assert_bars_met

from dini_zoo.bilevel.self_tuning_networks import (
    STN,
    Hyper,
    HyperConv,
    HyperEmbedding,
    HyperLinear,
    HyperSpace,
    best_response_hypergradient,
    hyperize,
    layers,
    method,
    perturbation_entropy,
    ridge,
    settle,
    space,
)

# Xfrom dini_zoo.bilevel.self_tuning_networks.experiment import experiment

SMALL = ridge.Task(
    np.array([[1.0, 2], [0, 1], [-1, 1], [2, 0]]),
    np.array([1.0, 0, 2, -1]),
    np.array([[1.0, 1], [1, -1], [0, 2]]),
    np.array([1.0, -1, 1.5]),
)
EXACT = 0.1153239019
AFFINE = {0.01: 0.1153223841, 0.1: 0.1151714502, 0.5: 0.1111673746, 1.0: 0.0968321260}


def test_the_response_of_ridge_regression_is_gated_by_a_sigmoid():
    random = np.random.default_rng(1)
    X, t = random.normal(size=(9, 4)), random.normal(size=9)
    task = ridge.Task(X, t, X, t)
    found = jax.jit(jax.vmap(lambda lam: ridge.best_response(lam, task)))(jnp.array([-3.0, 0.0, 1.5]))
    for lam, w in zip((-3.0, 0.0, 1.5), found, strict=True):
        np.testing.assert_allclose(w, np.linalg.solve(X.T @ X + 9 * np.exp(lam) * np.eye(4), X.T @ t), atol=1e-12)


def test_the_affine_response_to_a_quadratic_has_its_exact_jacobian():
    """The mean over the distribution by a quadrature that is exact for quadratics."""
    points, weights = np.polynomial.hermite_e.hermegauss(3)
    grid = np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 2)
    masses = np.outer(weights, weights).ravel() / (2 * np.pi)

    def jacobian(M, c, sigma):
        def mean(flat):
            a, B = flat[:5], flat[5:].reshape(5, 2)
            u = jnp.concatenate([sigma * grid, a + sigma * grid @ B.T], axis=1)
            return masses @ (0.5 * jnp.sum((u @ M) * u, axis=1) + u @ c)

        at = jnp.zeros(15)
        flat = -jnp.linalg.solve(jax.hessian(mean)(at), jax.grad(mean)(at))
        return flat[5:].reshape(5, 2)

    compiled = jax.jit(jacobian)
    for seed, sigma in ((0, 0.1), (1, 1.0)):
        random = np.random.default_rng(seed)
        R = random.normal(size=(7, 7))
        M, c = R @ R.T + np.eye(7), random.normal(size=7)
        np.testing.assert_allclose(compiled(M, c, sigma), -np.linalg.solve(M[2:, 2:], M[2:, :2]), atol=1e-10)


def test_hypergradients_through_affine_responses():
    assert float(jax.grad(ridge.implicit_value)(0.0, SMALL)) == pytest.approx(EXACT, abs=1e-9)
    np.testing.assert_allclose(ridge.best_response(0.0, SMALL), (-0.34343434, 0.43434343), atol=1e-8)
    through = best_response_hypergradient(
        lambda lam, w: ridge.validation(w, SMALL), lambda lam: ridge.best_response(lam, SMALL), jnp.asarray(0.0)
    )
    assert float(through) == pytest.approx(EXACT, abs=1e-9)
    sigmas = jnp.array(list(AFFINE))
    found = jax.jit(jax.vmap(lambda sigma: ridge.affine_hypergradient(0.0, sigma, SMALL)))(sigmas)
    np.testing.assert_allclose(found, list(AFFINE.values()), atol=1e-9)


def test_a_loop_finds_the_optimum_of_ridge_regression():
    task = ridge.generated()
    path = jax.jit(lambda start: ridge._loop(task, start, jax.random.key(0), tuned=True, cycles=900, warmup=300))(1.0)
    # a third of the experiment's steps: within five times its bar
    assert np.mean(path[-200:]) == pytest.approx(-0.642135, abs=0.15)
    assert path[0] == 1.0


# layers


def test_gated_activations_are_those_of_explicit_weights():
    keys = jax.random.split(jax.random.key(0), 6)
    h = jax.random.normal(keys[0], (5, 3))
    x, images = jax.random.normal(keys[1], (5, 4)), jax.random.normal(keys[2], (5, 2, 6, 6))
    dense = HyperLinear(4, 7, 3, key=keys[3], center=0.5)
    W = lambda g: dense.elementary.weight + (dense.gates[:7] @ (g - 0.5))[:, None] * dense.hyper.weight
    b = lambda g: dense.elementary.bias + (dense.gates[7:] @ (g - 0.5)) * dense.hyper.bias
    np.testing.assert_allclose(dense(x, h), jnp.stack([W(g) @ v + b(g) for g, v in zip(h, x, strict=True)]), atol=1e-12)
    conv = HyperConv(2, 3, 3, n_hyper=3, padding=1, stride=2, key=keys[4])
    for layer, given in ((dense, x), (conv, images)):
        explicit = jax.vmap(lambda v, g, layer=layer: layer.at(g)(v))(given, h)
        np.testing.assert_allclose(layer(given, h), explicit, atol=1e-6)
        np.testing.assert_allclose(layer(given[0], h[0]), explicit[0], atol=1e-6)
        np.testing.assert_allclose(layer(given, h[0])[0], explicit[0], atol=1e-6)
    table = HyperEmbedding(10, 4, n_hyper=3, key=keys[5])
    np.testing.assert_allclose(table(jnp.array([1, 7, 1, 0, 9]), h)[1], table.at(h[1])(jnp.array(7)), atol=1e-12)
    free = HyperConv(2, 3, 3, n_hyper=3, key=keys[4], use_bias=False)
    np.testing.assert_allclose(free(images, h)[1], free.at(h[1])(images[1]), atol=1e-6)
    bare = HyperLinear(4, 7, 3, key=keys[3], use_bias=False)
    np.testing.assert_allclose(bare(x, h)[2], bare.at(h[2])(x[2]), atol=1e-12)


def test_without_gates_a_layer_is_plain_and_the_center_has_no_slope():
    hypers = HyperSpace([Hyper("rate", 0.3, (0.0, 0.9)), Hyper("other", 1.0)])
    layer = HyperLinear(4, 2, 2, key=jax.random.key(0))
    layer = eqx.tree_at(lambda one: one.gates, layer, jnp.zeros_like(layer.gates))
    x = jnp.ones((6, 4))
    np.testing.assert_allclose(layer(x, jnp.ones((6, 2))), jax.vmap(layer.elementary)(x), atol=1e-14)
    stn = STN(
        layer, None, lambda m, numbers, x: jnp.mean(m(x, numbers) ** 2), hypers, optax.sgd(0.1), optax.sgd(0.1), 6
    )
    state = stn.init(layer, hypers.init(0.5))
    _, slope = stn.hyper_gradient(state, x, jax.random.key(1))
    assert not np.any(slope.center)
    assert np.all(slope.scale < 0)  # the entropy's
    fixed = STN(layer, None, stn.valid_loss, hypers, optax.sgd(0.1), optax.sgd(0.1), 6, tune_deviation=False)
    assert not np.any(fixed.hyper_gradient(state, x, jax.random.key(1))[1].scale)


def test_gates_and_regularization_see_the_same_numbers():
    hypers = HyperSpace([Hyper("rate", 0.3, (0.0, 0.9)), Hyper("decay", 0.1, (0.0, np.inf), per_example=False)])
    seen = {}

    def train(model, numbers, given, batch, key):
        seen.update(numbers=numbers, **given)
        return jnp.sum(model**2)

    stn = STN(jnp.ones(2), train, None, hypers, optax.sgd(0.1), optax.sgd(0.1), 50)
    with jax.disable_jit():
        state, value, numbers = stn.train_step(stn.init(jnp.ones(2), hypers.init(0.5)), None, jax.random.key(0))
    assert seen["numbers"] is numbers
    np.testing.assert_allclose(seen["rate"], 0.9 / (1 + np.exp(-numbers[:, 0])), rtol=1e-12)
    np.testing.assert_allclose(seen["decay"], np.log1p(np.exp(numbers[:, 1])), rtol=1e-12)
    assert len(np.unique(numbers[:, 0])) == 50
    assert len(np.unique(numbers[:, 1])) == 1
    np.testing.assert_allclose(state.params, 0.8)
    assert float(value) == 2.0


def test_a_model_of_equinox_is_made_to_answer_and_settles():
    model = eqx.nn.MLP(3, 2, 8, 1, key=jax.random.key(0))
    tuned = hyperize(model, 4, jax.random.key(1))
    x, h = jnp.ones(3), jnp.arange(4.0)
    np.testing.assert_allclose(settle(tuned, jnp.zeros(4))(x), model(x), rtol=1e-12)
    assert np.abs(settle(tuned, h)(x) - model(x)).max() > 1e-4
    explicit = tuned.layers[1](jax.nn.relu(tuned.layers[0](x, h)), h)
    np.testing.assert_allclose(settle(tuned, h)(x), explicit, rtol=1e-12)


# hyperparameters


def test_bounds_and_whole_numbers():
    hypers = HyperSpace(
        [
            Hyper("rate", 0.05, (0.0, 0.9)),
            Hyper("penalty", 1e-6, (0.0, np.inf)),
            Hyper("log", -3.0),
            Hyper("holes", 2.5, (0.0, 4.0), discrete=True),
        ]
    )
    state = hypers.init(0.5)
    found = hypers.constrain(state.center)
    np.testing.assert_allclose([found["rate"], found["penalty"], found["log"], found["holes"]], [0.05, 1e-6, -3.0, 2.0])
    ends = hypers.constrain(jnp.array([[-1e6] * 4, [1e6] * 4]))
    np.testing.assert_allclose(ends["rate"], [0.0, 0.9])
    np.testing.assert_allclose(ends["holes"], [0.0, 4.0])
    np.testing.assert_allclose(space.deviation(state.scale), 0.5, rtol=1e-12)
    np.testing.assert_allclose(space.deviation(jnp.array([-50.0, 50.0])), [0.01, 3.0])
    drawn = hypers.perturb(state, jax.random.key(0), 4000) - state.center
    np.testing.assert_allclose(drawn.std(axis=0), 0.5, rtol=0.05)
    entropy = perturbation_entropy(state.scale)
    assert float(entropy) == pytest.approx(4 * np.log(0.5 * np.sqrt(2 * np.pi * np.e)), rel=1e-12)


def test_a_whole_number_starts_at_itself():
    for dtype in (jnp.float32, jnp.float64):
        for high in (100.0, 8.0, 1e4, np.inf):
            for init in range(1, 8):
                one = Hyper("n", float(init), (0.0, high), discrete=True)
                assert float(one.constrain(jnp.asarray(one.start, dtype))) == init
        for bounds in ((-np.inf, np.inf), (-7.5, 3.2)):
            for init in (-3.0, 0.0, 3.0):
                one = Hyper("n", init, bounds, discrete=True)
                assert float(one.constrain(jnp.asarray(one.start, dtype))) == init


def test_a_slope_that_is_not_finite_is_told_though_the_loss_is():
    """The norm at zero, as a training loss and as a validation loss: nothing moves, and `finite` says so."""
    norm = lambda model: jnp.sqrt(jnp.sum(model**2))
    plain = lambda model, numbers, given, batch, key: jnp.sum(model**2)
    none = lambda model, numbers, batch: jnp.sum(numbers**2)
    for train, valid in (
        (lambda model, numbers, given, batch, key: norm(model), none),
        (plain, lambda model, numbers, batch: norm(0 * numbers)),
    ):
        stn = STN(jnp.zeros(2), train, valid, HyperSpace([Hyper("rate", 0.3)]), optax.sgd(0.1), optax.sgd(0.1), batch=4)
        start = stn.init(jnp.zeros(2), stn.space.init(0.5))
        trained, value, _ = jax.jit(stn.train_step)(start, None, jax.random.key(0))
        tuned = jax.jit(stn.hyper_step)(start, None, jax.random.key(0))
        assert np.isfinite(value)
        assert (bool(trained.finite), bool(tuned.finite)) == ((False, True) if valid is none else (True, False))
        for state in (trained, tuned):
            assert np.all(np.isfinite(np.concatenate([state.params, *state.hyper])))


def test_a_loss_that_is_not_finite_stops_its_lane_alone():
    hypers = HyperSpace([Hyper("rate", 0.3, (0.0, 0.9))])
    train = lambda model, numbers, given, batch, key: batch * jnp.sum(model**2)
    valid = lambda model, numbers, batch: jnp.sum(model * numbers[0])

    def one(size):
        stn = STN(jnp.ones(2), train, valid, hypers, optax.sgd(0.1), optax.sgd(0.1), 4)
        state = stn.init(jnp.ones(2), hypers.init(0.5))
        return stn.run(state, lambda key: size, lambda key: None, jax.random.key(0), cycles=3).state

    found = jax.jit(jax.vmap(one))(jnp.array([1.0, np.inf]))
    assert list(np.asarray(found.finite)) == [True, False]
    np.testing.assert_allclose(found.params, [[0.8**6] * 2, [1.0] * 2], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hyper("a", 1.0, (0.0, 0.9)), "init of a must be inside"),
        (lambda: Hyper("a", 0.0, (1.0, 0.0)), "bounds of a must be two increasing"),
        (lambda: Hyper("a", 0.0, (-np.inf, 1.0)), "bounds of a must be two increasing"),
        (lambda: HyperSpace([]), "at least one"),
        (lambda: HyperSpace([Hyper("a", 0.0), Hyper("a", 1.0)]), "a name of its own"),
        (lambda: HyperSpace([Hyper("a", 0.0)]).init(0.0), "deviation must be between 0.01 and 3: given 0.0"),
        (lambda: HyperSpace([Hyper("a", 0.0)]).init(5.0), "deviation must be between 0.01 and 3: given 5.0"),
        (lambda: HyperSpace([Hyper("a", 0.0)]).init(1e-3), "deviation must be between"),
        (lambda: HyperLinear(2, 2, 0, key=jax.random.key(0)), "n_hyper must be at least 1"),
        (
            lambda: HyperLinear(2, 2, 3, key=jax.random.key(0), name="first")(jnp.ones(2), jnp.ones(2)),
            "The layer first",
        ),
        (lambda: hyperize(jnp.ones(2), 1, jax.random.key(0)), "model has no layer"),
        (lambda: STN(None, None, None, None, None, None, 0), "batch must be at least 1"),
        (lambda: STN(None, None, None, None, None, None, 1, entropy=-1.0), "entropy must be zero or more"),
    ],
)
def test_bad_input_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_batch_of_another_length_is_told():
    """Also one of a single row, and one of a single image, which would be repeated without a word."""
    loss = lambda model, numbers, *rest: jnp.mean(model(rest[-2] if len(rest) > 1 else rest[0], numbers) ** 2)
    model = HyperLinear(3, 1, 1, key=jax.random.key(0))
    train = lambda model, numbers, given, batch, key: loss(model, numbers, batch)
    stn = STN(model, train, loss, HyperSpace([Hyper("rate", 0.3)]), optax.sgd(0.1), optax.sgd(0.1), batch=4)
    state = stn.init(model, stn.space.init(0.5))
    for rows in (5, 1):
        with pytest.raises(ValueError, match=rf"a training batch.*given batch=4 and arrays with {rows} rows"):
            stn.train_step(state, jnp.ones((rows, 3)), jax.random.key(0))
        with pytest.raises(ValueError, match="a validation batch"):
            stn.hyper_step(state, jnp.ones((rows, 3)), jax.random.key(0))
        with pytest.raises(ValueError, match=rf"given {rows} examples and hyperparameters of the shape \(4, 1\)"):
            model(jnp.ones((rows, 3)), jnp.ones((4, 1)))
    assert model(jnp.ones((4, 3)), jnp.ones((4, 1))).shape == model(jnp.ones((4, 3)), jnp.ones(1)).shape == (4, 1)
    image = layers.HyperConv(1, 2, 3, n_hyper=1, padding=1, key=jax.random.key(0))
    for rows in ((), (5,)):
        with pytest.raises(ValueError, match="examples and hyperparameters"):
            image(jnp.ones((*rows, 1, 8, 8)), jnp.ones((4, 1)))
    with pytest.raises(ValueError, match="examples and hyperparameters"):
        layers.HyperEmbedding(9, 2, n_hyper=1, key=jax.random.key(0))(jnp.arange(5), jnp.ones((4, 1)))


@pytest.mark.parametrize("module", [layers, method, space], ids=lambda module: module.__name__)
def test_examples(module):
    with jax.enable_x64(False):
        assert not doctest.testmod(module).failed


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("self-tuning-networks", experiment)
