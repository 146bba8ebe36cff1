"""diffGrad: its formula, what it is a limit of, its place in optax, the paper's descents, and the experiment's bars."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outputs import assert_bars_met

from dini_zoo.optimizers.classifiers import digits
from dini_zoo.optimizers.diffgrad import abs_sigmoid, diffgrad, functions, method, network, scale_by_diffgrad
from dini_zoo.optimizers.diffgrad.experiment import experiment
from dini_zoo.optimizers.diffgrad.report import REFERENCES
from dini_zoo.optimizers.diffgrad.study import descents

GRADIENTS = np.random.default_rng(0).normal(size=(6, 4)) * [0.01, 1.0, 30.0, 0.5]


def updates(optimizer, gradients, params=None):
    """What an optimizer makes of gradients, row by row, in one program."""
    params = jax.tree.map(lambda leaf: leaf[0] * 0, gradients) if params is None else params

    def step(state, gradient):
        update, state = optimizer.update(gradient, state, params)
        return state, update

    return jax.jit(lambda gradients: jax.lax.scan(step, optimizer.init(params), gradients)[1])(gradients)


def by_hand(gradients, alpha, b1=0.9, b2=0.999, eps=1e-8, friction=None):
    """The method's formulas in a loop over one coordinate."""
    m = v = previous = 0.0
    found = []
    for t, g in enumerate(map(float, gradients), start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        xi = 1 / (1 + np.exp(-abs(previous - g))) if friction is None else friction
        previous = g
        found.append(-alpha * xi * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps))
    return np.array(found)


def test_the_formula_in_every_coordinate_and_any_tree():
    expected = np.stack([by_hand(column, 0.1) for column in GRADIENTS.T], axis=1)
    np.testing.assert_allclose(updates(diffgrad(0.1), GRADIENTS), expected, rtol=1e-12)
    tree = {"a": {"b": GRADIENTS[:, :1]}, "c": [GRADIENTS[:, 1:].reshape(6, 3, 1), np.zeros((6, 0))]}
    found = updates(diffgrad(0.1), tree)
    np.testing.assert_allclose(found["a"]["b"][:, 0], expected[:, 0], rtol=1e-12)
    np.testing.assert_allclose(found["c"][0][..., 0], expected[:, 1:], rtol=1e-12)
    # several seeds side by side, outside of a loop
    lanes = jnp.stack([GRADIENTS, GRADIENTS[::-1]])
    optimizer = diffgrad(0.1)
    state = jax.vmap(optimizer.init)(lanes[:, 0])
    for t in range(2):
        found, state = jax.vmap(optimizer.update)(lanes[:, t], state)
    np.testing.assert_allclose(found[0], expected[1], rtol=1e-12)
    np.testing.assert_allclose(found[1], [by_hand(c, 0.1)[1] for c in GRADIENTS[::-1].T], rtol=1e-12)


def test_a_constant_gradient_has_a_friction_of_a_half_from_the_second_update():
    constant = np.full((5, 3), [0.3, -2.0, 7.0])
    found, half = updates(diffgrad(0.1), constant), updates(optax.adam(0.05), constant)
    np.testing.assert_allclose(found[1:], half[1:], rtol=1e-12)
    np.testing.assert_allclose(found[0] / half[0], 2 / (1 + np.exp(-np.abs(constant[0]))), rtol=1e-12)


def test_without_averages_only_signs_and_frictions_are_left():
    found = updates(diffgrad(0.1, b1=0.0, b2=0.0, eps=0.0), GRADIENTS)
    before = np.concatenate([np.zeros((1, 4)), GRADIENTS[:-1]])
    xi = 1 / (1 + np.exp(-np.abs(before - GRADIENTS)))
    np.testing.assert_allclose(found, -0.1 * xi * np.sign(GRADIENTS), rtol=1e-12)
    # the friction of a gradient that is remembered too early
    assert np.abs(xi - 0.5).max() > 0.4


def test_adam_is_the_limit_and_a_friction_of_one():
    adam = updates(optax.adam(0.1), GRADIENTS)
    one = updates(diffgrad(0.1, friction=lambda previous, gradient: 1), GRADIENTS)
    np.testing.assert_allclose(one, adam, rtol=1e-13)
    np.testing.assert_allclose(updates(diffgrad(0.1, scale=1e6), GRADIENTS), adam, rtol=1e-12)
    np.testing.assert_allclose(updates(diffgrad(0.1, scale=0.0), GRADIENTS), adam / 2, rtol=1e-12)
    rooted = updates(optax.adam(0.1, eps=1e-3, eps_root=1e-2), GRADIENTS)
    found = updates(diffgrad(0.1, eps=1e-3, eps_root=1e-2, friction=lambda previous, gradient: 1.0), GRADIENTS)
    np.testing.assert_allclose(found, rooted, rtol=1e-13)


def test_a_multiple_of_the_loss_counts_unless_it_is_normalized():
    one, other = (updates(diffgrad(0.1, eps=0.0), c * GRADIENTS) for c in (1, 100))
    assert np.abs(one / other - 1).max() > 0.3
    np.testing.assert_allclose(updates(diffgrad(0.1, eps=0.0, scale=100), GRADIENTS), other, rtol=1e-12)
    one, other = (updates(diffgrad(0.1, eps=0.0, normalize=True), c * GRADIENTS) for c in (1, 100))
    np.testing.assert_allclose(one, other, rtol=1e-12)
    # with no memory of squares the gradient is 1 in its own units, and the one before their ratio
    found = updates(diffgrad(0.1, b1=0.0, b2=0.0, eps=0.0, normalize=True, scale=2.0), GRADIENTS[:, 1:2])
    ratio = np.concatenate([[0.0], GRADIENTS[:-1, 1] / GRADIENTS[1:, 1]])
    np.testing.assert_allclose(np.abs(found[:, 0]), 0.1 / (1 + np.exp(-2 * np.abs(ratio - 1))), rtol=1e-12)


def test_a_friction_of_ones_own_sees_leaves_and_must_fit_them():
    mean = lambda previous, gradient: jnp.mean(abs_sigmoid(previous, gradient))
    found, adam = updates(diffgrad(0.1, friction=mean), GRADIENTS), updates(optax.adam(0.1), GRADIENTS)
    before = np.concatenate([np.zeros((1, 4)), GRADIENTS[:-1]])
    xi = (1 / (1 + np.exp(-np.abs(before - GRADIENTS)))).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, xi * adam, rtol=1e-12)
    for wrong in (lambda p, g: jnp.ones((2, 4)), lambda p, g: jnp.ones(3), lambda p, g: 1j * g):
        with pytest.raises(ValueError, match=r"friction must return real numbers.*\(4,\).*given an array"):
            updates(diffgrad(0.1, friction=wrong), GRADIENTS)


def test_its_place_in_optax():
    expected = updates(diffgrad(0.1, b1=0.8), GRADIENTS)
    # learning rates and decays in the state, and schedules of them
    injected = optax.inject_hyperparams(diffgrad)(learning_rate=0.1, b1=0.8)
    np.testing.assert_allclose(updates(injected, GRADIENTS), expected, rtol=1e-12)
    falling = optax.inject_hyperparams(diffgrad)(learning_rate=lambda count: 0.1 / (1 + count), b1=0.8)
    np.testing.assert_allclose(updates(falling, GRADIENTS), expected / np.arange(1, 7)[:, None], rtol=1e-12)
    np.testing.assert_allclose(
        updates(diffgrad(lambda count: 0.1 / (1 + count), b1=0.8), GRADIENTS), updates(falling, GRADIENTS), rtol=1e-12
    )
    own = optax.inject_hyperparams(diffgrad, static_args="friction")(0.1, b1=0.8, friction=abs_sigmoid)
    np.testing.assert_allclose(updates(own, GRADIENTS), expected, rtol=1e-12)
    # what stands before it changes the gradients that it compares, what stands after it its updates
    params = np.ones(4)
    coupled = optax.chain(optax.add_decayed_weights(0.5), diffgrad(0.1))
    np.testing.assert_allclose(updates(coupled, GRADIENTS, params), updates(diffgrad(0.1), GRADIENTS + 0.5), rtol=1e-12)
    apart = optax.chain(scale_by_diffgrad(), optax.add_decayed_weights(0.5), optax.scale_by_learning_rate(0.1))
    np.testing.assert_allclose(updates(apart, GRADIENTS, params), updates(diffgrad(0.1), GRADIENTS) - 0.05, rtol=1e-12)


def test_masked_leaves_have_no_state():
    params = {"on": jnp.ones(2), "off": jnp.ones(3), "none": None}
    optimizer = optax.masked(diffgrad(0.1), {"on": True, "off": False, "none": True})
    state = optimizer.init(params)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 1 + 3 * 2
    gradients = {"on": jnp.array([1.0, 2.0]), "off": jnp.ones(3), "none": None}
    found, state = jax.jit(optimizer.update)(gradients, state)
    np.testing.assert_allclose(found["on"], -0.1 / (1 + np.exp(-gradients["on"])), rtol=1e-7)
    assert np.all(found["off"] == 1)
    assert found["none"] is None
    # a leaf without a gradient waits
    bare = diffgrad(0.1)
    state = bare.init(jnp.ones(2))
    found, after = bare.update(None, state)
    assert found is None
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_sixteen_bits_have_a_friction_of_thirty_two():
    gradients = jnp.asarray(GRADIENTS, jnp.bfloat16)
    found = updates(diffgrad(0.1, friction=lambda p, g: checked(p, g)), gradients)
    assert found.dtype == jnp.bfloat16
    exact = updates(diffgrad(0.1), np.asarray(gradients, float))
    np.testing.assert_allclose(np.asarray(found, float), exact, atol=5e-4)
    state = diffgrad(0.1, mu_dtype="float32", prev_dtype="bfloat16").init(jnp.zeros(2, jnp.float16))[0]
    assert (state.mu.dtype, state.nu.dtype, state.prev_grad.dtype) == ("float32", "float16", "bfloat16")
    kept = updates(diffgrad(0.1, mu_dtype="float32", prev_dtype="bfloat16"), GRADIENTS)
    assert kept.dtype == "float64"
    np.testing.assert_allclose(kept, updates(diffgrad(0.1), GRADIENTS), rtol=0.03)


def test_strict_promotion_of_types_is_no_obstacle():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        optimizer = diffgrad(0.1, normalize=True, mu_dtype="float32", prev_dtype="bfloat16")
        assert updates(optimizer, jnp.asarray(GRADIENTS, jnp.float16)).dtype == jnp.float16


def checked(previous, gradient):
    assert previous.dtype == gradient.dtype == jnp.float32
    return abs_sigmoid(previous, gradient)


def test_complex_numbers_count_by_their_absolute_value():
    z = GRADIENTS[:, :2] + 1j * GRADIENTS[:, 2:]
    found = updates(diffgrad(0.1, b1=0.0, b2=0.0, eps=0.0), z)
    before = np.concatenate([np.zeros((1, 2)), z[:-1]])
    np.testing.assert_allclose(found, -0.1 / (1 + np.exp(-np.abs(before - z))) * z / np.abs(z), rtol=1e-12)


def test_what_is_not_a_number_is_seen():
    found = updates(diffgrad(0.1), np.array([[1.0, 1.0], [np.nan, 1.0], [1.0, 1.0]]))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1:, 0]).all()
    assert np.isfinite(found[:, 1]).all()


def test_unrolled_updates_have_the_derivative_of_differences():
    def end(theta):
        def step(carried, _):
            x, state = carried
            change, state = optimizer.update(jnp.array([4.0, 0.5]) * (x - theta) ** 3, state)
            return (x + change, state), None

        optimizer = diffgrad(0.1 * theta, eps_root=1e-8)
        x = jnp.array([1.0, -2.0])
        return jnp.sum(jax.lax.scan(step, (x, optimizer.init(x)), length=5)[0][0])

    value = jax.jit(jax.value_and_grad(end))
    difference = (value(0.3 + 1e-5)[0] - value(0.3 - 1e-5)[0]) / 2e-5
    np.testing.assert_allclose(value(0.3)[1], difference, rtol=1e-7)
    # where gradients stay as they are, the friction's derivative is zero
    assert jax.grad(lambda g: abs_sigmoid(g, jnp.ones(())))(1.0) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("b1", 1.0), ("b1", -0.1), ("b2", 1.0), ("eps", -1e-8), ("eps_root", -1.0), ("scale", -1.0), ("scale", np.nan)],
)
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .*given {value}"):
        diffgrad(0.1, **{name: value})


def test_the_learning_rate_and_the_friction_are_looked_at():
    with pytest.raises(ValueError, match=r"learning_rate must be finite and at least 0: given -0.1"):
        diffgrad(-0.1)
    with pytest.raises(ValueError, match=r"friction must be a function.*given 0.5"):
        diffgrad(0.1, friction=0.5)


def test_the_papers_functions_have_the_slopes_that_they_say():
    x = np.linspace(-1.2, 0.8, 41) + 0.003
    for name, (value, slope) in functions.FUNCTIONS.items():
        wrong = np.abs(jax.vmap(jax.grad(value))(x) - slope(x))
        assert (wrong.max() > 1) == (name == "F2, published slope"), name
        if name != "F2, published slope":
            assert wrong.max() < 1e-12
    assert functions.second(-0.6429186) == pytest.approx(0.00011977, abs=1e-8)
    assert functions.second_slope(-0.6429186) == pytest.approx(0, abs=1e-5)
    assert functions.second(-0.9) - functions.second(-0.9 + 1e-12) == pytest.approx(0.0147, abs=1e-4)


def test_the_descents_are_those_of_the_specification():
    points = descents(299)
    for (name, function), (reference, top) in REFERENCES.items():
        column = points[name][:, list(functions.FUNCTIONS).index(function)]
        last = 1e-4 if function.startswith("F2") else 1e-6
        np.testing.assert_allclose(column[[1, 2, 10, 50]], reference[:4], atol=1e-6, err_msg=f"{name} {function}")
        np.testing.assert_allclose(column[299], reference[4], atol=last)
        np.testing.assert_allclose(column.max(), top, atol=5e-4)


def test_patches_are_the_convolution_of_jax():
    model = network.Convolutional((3, 5), key=jax.random.key(0))
    image = digits(1200)[0].X[0]
    h = jnp.asarray(image).reshape(1, 8, 8, 1)
    for W, b in zip(model.weights[:2], model.biases[:2], strict=True):
        kernel = W.reshape(3, 3, h.shape[-1], -1)
        h = jax.lax.conv_general_dilated(h, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        h = jnp.maximum(h + b, 0)
        side = h.shape[1] // 2
        h = h.reshape(side, 2, side, 2, -1).mean(axis=(1, 3))[None]
    np.testing.assert_allclose(model(jnp.asarray(image)), h.reshape(-1) @ model.weights[2], rtol=1e-10)


def test_examples_run():
    assert all(doctest.testmod(module).failed == 0 for module in (method, network))


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("diffgrad", experiment)
