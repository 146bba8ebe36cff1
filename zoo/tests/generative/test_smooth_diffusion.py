"""Smooth diffusion: the exact checks of its specification by their numbers, second derivatives, bad input."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outputs import assert_bars_met

from dini_zoo.diffusion.chains import Chain, scaled_linear_betas
from dini_zoo.diffusion.networks import StepNetwork
from dini_zoo.diffusion.predictions import convert
from dini_zoo.generative.smooth_diffusion import (
    VariationEMA,
    data_of_noise,
    even_ratios,
    interpolation_std,
    measures,
    neighbor_distances,
    regularizer,
    smooth_loss,
    variation_norm,
    variation_penalty,
    walk,
)
from dini_zoo.generative.smooth_diffusion.experiment import experiment
from dini_zoo.kit import adapters
from dini_zoo.kit.training import Trainer


@pytest.fixture(scope="module")
def chain():
    with jax.enable_x64(True):
        return Chain.of_betas(scaled_linear_betas(1000))


def small(x, t):
    """Some function of a point and its time, other than linear."""
    W = jnp.array([[0.5, -1.0, 0.3], [0.2, 0.7, -0.4], [1.1, 0.1, 0.6]], x.dtype)
    return jnp.tanh(x @ W.T + jnp.asarray(t, x.dtype)[:, None] / 1000) + 0.1 * x


# the norm


@pytest.mark.parametrize("predicts", ["noise", "velocity", "data"])
def test_the_norm_of_normal_data(chain, predicts):
    """Exact check 1: the norm is f |y|, with the network that is exact for N(0, 1/4), by whatever it predicts."""
    i = jnp.array([250, 500, 999, 0])
    level = chain.alpha_bar[0]
    first = jnp.sqrt(level) * (1 - level) * 0.25 / (level * 0.25 + 1 - level)
    known = (0.1353299872, 0.1199661101, 0.0170462762, first)

    def exact(x, t):
        level = chain.alpha_bar[t][:, None]
        noise = jnp.sqrt(1 - level) * x / (level * 0.25 + 1 - level)
        return convert(noise, x, *jnp.sqrt(jnp.stack([level, 1 - level])), "noise", predicts)

    x0, noise, y = jax.random.normal(jax.random.key(0), (3, 4, 2))
    scale = jnp.sqrt(1 - chain.alpha_bar[i])
    predicted = data_of_noise(exact, chain, x0, i, predicts=predicts)
    v, said = variation_norm(predicted, noise, scale=scale, direction=y, has_aux=True)
    np.testing.assert_allclose(v / jnp.linalg.norm(y, axis=1), known, atol=1e-10)
    np.testing.assert_allclose(said, exact(chain.noised(x0, noise, i), i))


def test_its_square_is_the_jacobians_on_average(chain):
    """Exact check 4: over 100 000 directions, to 2 percent; and for each direction the product itself."""
    n, scale = 100_000, jnp.sqrt(1 - chain.alpha_bar[600])

    @jax.jit
    def both(key):
        for_points, for_directions = jax.random.split(key)
        x0, noise = jax.random.normal(for_points, (2, 1, 3))
        J = jax.jacobian(lambda noise: data_of_noise(small, chain, x0, 600)(noise[None])[0][0])(noise[0])
        x0, noise = (jnp.broadcast_to(one, (n, 3)) for one in (x0, noise))
        predicted = data_of_noise(small, chain, x0, 600)
        v, _ = variation_norm(predicted, noise, for_directions, scale, has_aux=True)
        y = jax.random.normal(for_directions, (n, 3)) / np.sqrt(3)
        return v, y, J

    v, y, J = map(np.asarray, both(jax.random.key(0)))
    np.testing.assert_allclose(v, scale * np.linalg.norm(y @ J, axis=1), rtol=1e-12)
    assert abs(np.mean(v**2) / (scale**2 * np.sum(J**2) / 3) - 1) < 0.02


def test_any_generator():
    """Images of another shape than the noise; each point by itself, whatever its neighbor is."""
    W = jax.random.normal(jax.random.key(0), (2, 3, 4))
    norm = jax.jit(lambda z, y: variation_norm(lambda z: jnp.einsum("ijk,nk->nij", W, jnp.sin(z)), z, direction=y))
    z, y = jax.random.normal(jax.random.key(1), (6, 4)), jax.random.normal(jax.random.key(2), (6, 2, 3))
    v, bad = norm(z, y), norm(z.at[3].set(jnp.nan), y)
    slope = np.einsum("ijk,nij->nk", W, y) * np.cos(z)
    np.testing.assert_allclose(v, np.linalg.norm(slope, axis=1), rtol=1e-12)
    assert np.isnan(bad[3])
    np.testing.assert_array_equal(np.delete(bad, 3), np.delete(v, 3))


def test_precision_and_size():
    """Half precision is widened; single precision takes slopes of 1e-15 and 1e15; where there is none, 0."""
    z, y = jax.random.normal(jax.random.key(0), (2, 4, 3), jnp.float32)
    expected = variation_norm(lambda z: jnp.tanh(z), z, direction=y)
    for size in (1e-15, 1e15):
        found = variation_norm(lambda z, size=size: size * jnp.tanh(z), z, direction=y)
        np.testing.assert_allclose(found / size, expected, rtol=1e-6)
    half = variation_norm(lambda z: jnp.tanh(z), z.astype(jnp.bfloat16), direction=y)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, expected, rtol=0.03)

    def norm(b):
        return jnp.sum(variation_norm(lambda z: jax.nn.relu(b * z - 100), z, direction=y))

    value, slope = jax.value_and_grad(norm)(jnp.float32(1.0))
    assert value == slope == 0


# the penalty


def test_no_penalty_where_the_norm_is_constant():
    """Exact check 3: value and slope are 0, at any decay."""
    for decay in (0.01, 1.0):
        loss = lambda v, decay=decay: variation_penalty(v, VariationEMA(0.75), decay)[0]
        value, slope = jax.value_and_grad(loss)(jnp.full(5, 0.75))
        assert value == 0
        np.testing.assert_array_equal(slope, 0)


def test_the_running_mean():
    """Beside NumPy's, from both starts; the slope with the target as a constant, and as the published code has it."""
    batches = jax.random.uniform(jax.random.key(0), (6, 4))
    for start in (0.0, None):
        a, state = start, VariationEMA(start)
        for v in np.asarray(batches):
            loss, state = variation_penalty(jnp.asarray(v), state, 0.2)
            a = v.mean() if a is None else a + 0.2 * (v.mean() - a)
            np.testing.assert_allclose([loss, state.mean], [np.mean((v - a) ** 2), a], rtol=1e-12)
    v, state = batches[0], VariationEMA(0.1)
    for constant in (True, False):
        slope = jax.grad(lambda v, c=constant: variation_penalty(v, state, 0.2, stop_gradient_target=c)[0])(v)
        a = 0.1 + 0.2 * (v.mean() - 0.1)
        leak = 0.0 if constant else 0.2 * np.mean(v - a)
        np.testing.assert_allclose(slope, 2 / 4 * (v - a - leak), rtol=1e-12)
    # the state has no derivative in either case
    kept = jax.grad(lambda v: variation_penalty(v, state, stop_gradient_target=False)[1].mean)(v)
    np.testing.assert_array_equal(kept, 0)


def test_one_mean_over_all_devices():
    parts = jax.random.uniform(jax.random.key(0), (3, 4))
    part = lambda v: variation_penalty(v, VariationEMA(0.5), 0.3, axis_name="devices")
    losses, states = jax.vmap(part, axis_name="devices")(parts)
    whole, state = variation_penalty(parts.reshape(-1), VariationEMA(0.5), 0.3)
    np.testing.assert_allclose(losses.mean(), whole, rtol=1e-12)
    np.testing.assert_allclose(states.mean, state.mean, rtol=1e-12)


# the loss


def test_the_loss_is_differentiated_through_its_gradient(chain):
    """Beside the loss with Jacobians written out, and its slope in the adapters beside differences."""
    network = StepNetwork(3, width=4, depth=1, features=4, key=jax.random.key(0))
    start = adapters.init(jax.random.key(1), network, 2)
    made = jax.tree.map(lambda leaf: leaf + 0.3, start)  # B is not zero, so that A has a slope
    x0, key, state = jax.random.normal(jax.random.key(2), (4, 3)), jax.random.key(3), VariationEMA(0.2)

    def loss(made, weight):
        return smooth_loss(adapters.apply(network, made), chain, x0, key, state, weight=weight)

    @jax.jit
    def written_out(made):
        """From the definitions."""
        model = adapters.merge(network, made)
        for_steps, for_noise, for_direction = jax.random.split(key, 3)
        i = jax.random.randint(for_steps, (4,), 0, 1000)
        noise = jax.random.normal(for_noise, (4, 3))
        y = jax.random.normal(for_direction, (4, 3)) / np.sqrt(3)
        level = chain.alpha_bar[i]

        def of_one(x0, noise, y, level, t):
            def predicted(noise):
                x = jnp.sqrt(level) * x0 + jnp.sqrt(1 - level) * noise
                e = model(x[None], t[None])[0]
                return (x - jnp.sqrt(1 - level) * e) / jnp.sqrt(level), e

            J, e = jax.jacfwd(predicted, has_aux=True)(noise)
            return jnp.sqrt(1 - level) * jnp.sqrt(jnp.sum((y @ J) ** 2)), e

        v, e = jax.vmap(of_one)(x0, noise, y, level, i)
        a = 0.2 + 0.01 * (v.mean() - 0.2)
        return jnp.mean((e - noise) ** 2), jnp.mean((v - a) ** 2), a

    slope = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, (following, parts)), found = slope(made, 2.0)
    base, penalty, a = written_out(made)
    np.testing.assert_allclose([parts.base, parts.penalty, following.mean], [base, penalty, a], rtol=1e-10)
    np.testing.assert_allclose(value, base + 2 * penalty, rtol=1e-10)
    leaves, structure = jax.tree.flatten(made)
    directions = [jax.random.normal(jax.random.key(i), leaf.shape) for i, leaf in enumerate(leaves)]
    direction, h = jax.tree.unflatten(structure, directions), 1e-5
    frozen = following.mean  # the target counts as a constant

    def moved(h):
        return written_out(jax.tree.map(lambda a, d: a + h * d, made, direction))

    def total(h):
        base, penalty, a = moved(h)
        # mean (v - c)² from mean (v - a)² and the mean of v, which a tells
        mean = (a - 0.2) / 0.01 + 0.2
        return base + 2 * (penalty + (mean - frozen) ** 2 - (mean - a) ** 2)

    along = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(found), directions, strict=True))
    np.testing.assert_allclose(along, (total(h) - total(-h)) / (2 * h), rtol=1e-6)
    # without the penalty the slope is another one
    _, plain = slope(made, 0.0)
    assert any(np.max(np.abs(a - b)) > 1e-3 for a, b in zip(*map(jax.tree.leaves, (found, plain)), strict=True))


def test_the_optimum_is_an_orthogonal_map():
    """Of linear maps of one norm, the penalty alone leads to one that turns and does nothing else."""

    def loss(W, batch, key, state):
        W = W * jnp.sqrt(3) / jnp.linalg.norm(W)
        v = variation_norm(lambda z: z @ W.T, jnp.zeros((256, 3)), key)
        return variation_penalty(v, state, 0.1)

    W = jnp.diag(jnp.array([2.0, 1.0, 0.3])) @ jnp.linalg.qr(jax.random.normal(jax.random.key(0), (3, 3)))[0]
    trainer = Trainer(loss, optax.adam(optax.cosine_decay_schedule(0.03, 300)), steps=300, carries=True)
    course = trainer(W, key=jax.random.key(1), carried=VariationEMA(None))
    assert np.linalg.cond(course.model) < 1.05
    # the mean of |y| for normal y with variance 1 / 3
    assert abs(course.carried.mean - np.sqrt(8 / (3 * np.pi))) < 0.01


def test_adapters_are_tuned(chain):
    """The first step is the base's at any weight; the state goes on from step to step, the control's too."""
    network = StepNetwork(3, width=8, depth=1, features=4, key=jax.random.key(0))
    made = adapters.init(jax.random.key(1), network, 2)
    x = 0.3 * jax.random.normal(jax.random.key(2), (64, 3))

    def loss(made, x, key, carried):
        weight, state = carried
        value, (state, parts) = smooth_loss(adapters.apply(network, made), chain, x, key, state, weight=weight)
        return value, ((weight, state), parts)

    trainer = Trainer(loss, optax.adam(1e-2), steps=10, every=10, batch=32, carries=True, aux=True)
    train = lambda weight: trainer(made, x, key=jax.random.key(3), carried=(jnp.asarray(weight), VariationEMA()))
    ours, control = train(1.0), train(0.0)
    for name in ("base", "mean", "std", "penalty"):
        one, other = (getattr(course.aux, name) for course in (ours, control))
        assert one[0] == other[0]
        assert one[-1] != other[-1]
    np.testing.assert_array_equal(control.loss, control.aux.base)
    mean = 0.0
    for one in control.aux.mean:
        mean += 0.01 * (one - mean)
    np.testing.assert_allclose(control.carried[1].mean, mean, rtol=1e-10)


# walks


def test_walks_of_an_orthogonal_map_are_even():
    """Exact check 2: arcs between noises of one length, and lines between any; not arcs between others."""
    Q, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (6, 6)))
    z0, z1 = jax.random.normal(jax.random.key(1), (2, 5, 6))
    r = jnp.linspace(0.0, 1.0, 11)

    @jax.jit
    def stds(z0, z1):
        std = lambda *given: measures.Smoothness.of(neighbor_distances(walk(lambda z: z @ Q, *given))).std
        u0, u1 = (z / jnp.linalg.norm(z, axis=1, keepdims=True) for z in (z0, z1))
        return std(u0, u1, r, "slerp"), std(z0, z1, r, "lerp"), std(z0, z1, r, "slerp")

    arcs, lines, others = stds(z0, z1)
    assert arcs < 1e-12
    assert lines < 1e-12
    assert others > 1e-3


def test_the_figures_of_a_walk():
    """Against NumPy; a sampler that has one image alone gets no figure without a unit."""
    sampler = lambda z: jnp.stack([jnp.sin(z), z**2], axis=-1)
    key = jax.random.key(0)

    @jax.jit
    def both(key):
        z0, z1 = jax.random.normal(key, (2, 7, 3))
        alike = interpolation_std(lambda z: jnp.zeros_like(z), key, 7, (3,))
        found = interpolation_std(sampler, key, 7, (3,), steps=4)
        return found, alike, (z0, z1), walk(sampler, z0, z1, jnp.linspace(0, 1, 6))

    found, alike, (z0, z1), images = both(key)
    assert images.shape == (6, 7, 3, 2)
    np.testing.assert_allclose(images[0], sampler(z0), atol=1e-12)
    np.testing.assert_allclose(images[-1], sampler(z1), atol=1e-12)
    d = np.sqrt(np.sum(np.diff(np.asarray(images), axis=0) ** 2, axis=(2, 3))).T
    np.testing.assert_allclose(found.distances, d, rtol=1e-12)
    expected = d.std(axis=1).mean(), (d.std(axis=1) / d.mean(axis=1)).mean(), d.sum(axis=1).mean()
    np.testing.assert_allclose(found[:3], expected, rtol=1e-12)
    assert alike.std == 0
    assert np.isnan(alike.variation)


def test_walks_spaced_anew():
    """On a straight line whose speed changes they are even up to the curve between two images."""
    sampler = lambda z: z[:, :1] ** 3
    z0, z1 = jnp.array([[0.0], [1.0]]), jnp.array([[1.0], [3.0]])

    @jax.jit
    def twice(z0, z1):
        first = neighbor_distances(walk(sampler, z0, z1, jnp.linspace(0, 1, 201), "lerp"))
        return first, neighbor_distances(walk(sampler, z0, z1, even_ratios(first), "lerp"))

    first, again = twice(z0, z1)
    assert np.all(np.std(first, axis=1) / np.mean(first, axis=1) > 0.5)
    assert np.all(np.std(again, axis=1)[1:] / np.mean(again, axis=1)[1:] < 1e-3)
    np.testing.assert_allclose(np.sum(again, axis=1), (1.0, 26.0), rtol=1e-12)


# what is refused


def test_bad_input(chain):
    z, key = jnp.zeros((4, 3)), jax.random.key(0)
    same = lambda z: z
    with pytest.raises(ValueError, match="give a key, or the directions"):
        variation_norm(same, z)
    with pytest.raises(ValueError, match=r"direction must have the shape of the predictions, \(4, 3\)"):
        variation_norm(same, z, direction=jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"scale must be a number, or one for each of the 4 noises: given .*\(3,\)"):
        variation_norm(same, z, key, jnp.ones(3))
    with pytest.raises(ValueError, match="one prediction a noise, 4: given shape"):
        variation_norm(jnp.sum, z, key)
    for decay in (0.0, -0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match="decay must be above 0 and at most 1"):
            variation_penalty(jnp.ones(3), VariationEMA(), decay)
    for v in (jnp.ones(()), jnp.ones((2, 2)), jnp.ones(0)):
        with pytest.raises(ValueError, match=r"v must (be a vector of norms|have the shape)"):
            variation_penalty(v, VariationEMA())
    loss = lambda model=small, **options: smooth_loss(model, chain, z, key, VariationEMA(), **options)
    for weight in (-1.0, np.inf):
        with pytest.raises(ValueError, match="weight must be zero or more"):
            loss(weight=weight)
    with pytest.raises(ValueError, match="predicts must be one of 'noise', 'velocity', 'data': given 'score'"):
        loss(predicts="score")
    with pytest.raises(ValueError, match=r"What the model returns must have the shape of x0, \(4, 3\)"):
        loss(lambda x, t: x[:, :2])
    for options in ({"pairs": 0}, {"steps": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be at least 1"):
            interpolation_std(same, key, **{"pairs": 1, "shape": (3,), **options})
    with pytest.raises(ValueError, match="sampler must return an image a noise, 22: given 3"):
        interpolation_std(lambda z: z[:3], key, 2, (3,))
    with pytest.raises(ValueError, match="kind must be one of"):
        interpolation_std(same, key, 2, (3,), kind="cubic")
    with pytest.raises(ValueError, match="the number of images in a walk must be at least 2"):
        neighbor_distances(jnp.zeros((1, 2, 3)))


@pytest.mark.parametrize("module", [regularizer, measures], ids=lambda one: one.__name__.rpartition(".")[2])
def test_examples(module):
    with jax.enable_x64(False):
        assert doctest.testmod(module).failed == 0


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("smooth-diffusion", experiment)
