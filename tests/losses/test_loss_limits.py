"""Losses at their limits: labels of every type, targets that are none, infinite scores, vanishing losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini import losses

BINARY = [losses.logistic_loss, losses.binary_sparsemax_loss]


def softmax(s):
    e = np.exp(s - s.max())
    return e / e.sum()


def projection_of_two(s):
    """The projection of two scores onto the simplex."""
    first = np.clip((1 + s[0] - s[1]) / 2, 0, 1)
    return np.array([first, 1 - first])


@pytest.mark.by_default("int8")
@pytest.mark.parametrize("dtype", ["int4", "uint4", "int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64"])
def test_labels_of_every_integer_type(dtype):
    """Of more classes than the type can count: against the losses of equal scores, log n and (1 - 1/n)/2."""
    info = jnp.iinfo(dtype)
    for n in (200, 300, 70_000):
        label, scores = jnp.asarray(5, dtype), jnp.zeros(n)
        for loss, want in ((losses.softmax_loss, np.log(n)), (losses.sparsemax_loss, (1 - 1 / n) / 2)):
            traced = jax.jit(jax.value_and_grad(loss))
            np.testing.assert_allclose(loss(scores, label), want, rtol=1e-12)
            value, slope = traced(scores, label)
            np.testing.assert_allclose(value, want, rtol=1e-12)
            # one class, not those a multiple of 16 or 256 away
            np.testing.assert_allclose(1 / n - slope, np.arange(n) == 5, atol=1e-12)
            for wrong in (info.min, info.max):
                if not 0 <= wrong < n:
                    with pytest.raises(ValueError, match="must be classes from 0 to"):
                        loss(scores, jnp.asarray(wrong, dtype))
                    assert np.isnan(traced(scores, jnp.asarray(wrong, dtype))[0])


@pytest.mark.parametrize("loss", BINARY)
def test_binary_targets_that_are_no_probabilities(loss):
    """What is known raises, and says how to go from plus and minus ones to probabilities; what is traced gives NaN."""
    scores = jnp.array([-2.0, 0.5, 3.0])
    for target in (jnp.array([-1, 1, -1]), jnp.array([0.0, 1.5, 1.0]), jnp.array([-1, 1, 1], jnp.int8)):
        with pytest.raises(
            ValueError, match=r"target must be zeros and ones, or probabilities.*pass \(1 \+ target\) / 2"
        ):
            loss(scores, target)
        with pytest.raises(ValueError, match="given"):
            jax.jit(lambda s, target=target: loss(s, target))(scores)
        values = jax.jit(loss)(scores, target)
        np.testing.assert_array_equal(np.isnan(values), (target < 0) | (target > 1))
        slopes = jax.jit(jax.grad(lambda s, y: jnp.sum(loss(s, y))))(scores, target)
        np.testing.assert_array_equal(np.isnan(slopes), np.isnan(values))
    signs = np.array([-1, 1, -1])
    np.testing.assert_allclose(loss(scores, (1 + signs) / 2), loss(scores, jnp.array([0, 1, 0])))
    np.testing.assert_allclose(loss(scores, jnp.array([False, True, False])), loss(scores, jnp.array([0, 1, 0])))


@pytest.mark.parametrize("loss", [losses.softmax_loss, losses.sparsemax_loss])
def test_negative_shares_of_classes(loss):
    scores, target = jnp.arange(4.0), jnp.array([2.0, -1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"target must be .* nowhere negative: given"):
        loss(scores, target)
    got = jax.jit(loss)(jnp.stack([scores, scores]), jnp.stack([target, jnp.abs(target) / 3]))
    np.testing.assert_array_equal(np.isnan(got), [True, False])


def test_a_traced_setting_that_is_not_positive_gives_nan():
    """Eagerly it raises; see ``test_bad_targets_raise``."""
    values = jnp.array([3.0, 1.0, 2.0])
    for fun in (losses.soft_rank, losses.soft_sort):
        for strength in (-0.1, 0.0):
            assert np.isnan(jax.jit(fun)(values, strength)).all()
    for robust in (losses.Huber, losses.SoftL1, losses.Cauchy, losses.Arctan):
        got = jax.jit(lambda c, s, robust=robust: robust(c)(s))(jnp.array([-1.0, 0.0, 1.0]), values)
        np.testing.assert_array_equal(np.isnan(got), [True, True, False])


@pytest.mark.by_default("logistic_loss-float32")
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("loss", BINARY)
def test_binary_losses_of_infinite_scores(loss, dtype):
    """The limits: no loss for the right side, all for the wrong; the gradient is the prediction less the target."""
    for score, prediction in ((jnp.inf, 1.0), (-jnp.inf, 0.0)):
        for target in (0.0, 1.0, 0.25):
            value, slope = jax.jit(jax.value_and_grad(loss))(dtype(score), dtype(target))
            assert value == (0 if target == prediction else np.inf)
            assert slope == prediction - target
            assert jax.grad(jax.grad(loss))(dtype(score), dtype(target)) == 0
    assert np.isnan(loss(dtype(jnp.nan), dtype(0.0)))
    assert np.isnan(losses.sparse_sigmoid(jnp.nan))


@pytest.mark.thorough
def test_small_binary_losses_keep_their_digits():
    """In single precision, where the prediction is nearly right: against NumPy in double precision."""
    score = np.array([3.0, 10.0, 20.0, 60.0], np.float32)
    one = jnp.ones(4, jnp.float32)
    want = np.log1p(np.exp(-score.astype(float)))
    np.testing.assert_allclose(losses.logistic_loss(jnp.asarray(score), one), want, rtol=1e-6)
    np.testing.assert_allclose(losses.logistic_loss(jnp.asarray(-score), 1 - one), want, rtol=1e-6)
    half = jnp.array([-20_000.0, 20_000.0], jnp.float16)
    np.testing.assert_array_equal(losses.logistic_loss(half, jnp.array([0, 0])), [0, 20_000])
    near = np.array([0.9, 0.999, 0.99999, 1.0], np.float32)
    want = (near.astype(float) - 1) ** 2 / 4
    np.testing.assert_allclose(losses.binary_sparsemax_loss(jnp.asarray(near), one), want, rtol=1e-6)
    np.testing.assert_allclose(losses.binary_sparsemax_loss(jnp.asarray(-near), 1 - one), want, rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.softmax_loss, losses.sparsemax_loss])
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_multiclass_losses_of_infinite_scores(loss, dtype):
    """The limits: the prediction is the class of score infinity, or a distribution over those that are not excluded."""
    run = jax.jit(jax.value_and_grad(loss))
    for scores in ([np.inf, 0.0, 1.0], [np.inf, -np.inf, 0.0]):
        for target in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.25, 0.25]):
            value, slope = run(jnp.asarray(scores, dtype), jnp.asarray(target, dtype))
            assert value == (0 if target[0] == 1 else np.inf)
            np.testing.assert_array_equal(slope, np.eye(3)[0] - target)
    predict = softmax if loss is losses.softmax_loss else projection_of_two
    for target in ([0.5, 0.5, 0.0], [1.0, 0.0, 0.0]):
        value, slope = run(jnp.array([-jnp.inf, 0.0, 0.5], dtype), jnp.asarray(target, dtype))
        assert value == np.inf
        np.testing.assert_allclose(slope, np.append(0, predict(np.array([0.0, 0.5]))) - target, rtol=1e-6)
    # a row of padding has no target
    assert run(jnp.array([jnp.inf, 0.0, 1.0], dtype), jnp.zeros(3, dtype))[0] == np.inf
    # several infinities have no limit, unless the target is elsewhere
    for scores in ([np.inf, np.inf, 0.0], [-np.inf] * 3):
        value, slope = run(jnp.asarray(scores, dtype), jnp.array([1.0, 0.0, 0.0], dtype))
        assert np.isnan(value)
        assert np.isnan(slope[:2]).all()
    assert run(jnp.array([jnp.inf, jnp.inf, 0.0], dtype), jnp.array([0.0, 0.0, 1.0], dtype))[0] == np.inf
    # what is no target is not excused by an excluded class
    assert np.isnan(run(jnp.array([-jnp.inf, 1.0, 0.0], dtype), jnp.array([-1.0, 1.0, 1.0], dtype))[0])
    assert np.isnan(run(jnp.array([-jnp.inf, 1.0, 0.0], dtype), 3)[0])


@pytest.mark.by_default("Huber-inf", "Cauchy-inf")
@pytest.mark.parametrize(
    ("loss", "limit"),
    [
        (losses.Huber, np.inf),
        (losses.SoftL1, np.inf),
        (losses.Cauchy, np.inf),
        (losses.Arctan, 4 * np.pi / 2),
    ],
)
def test_robust_losses_of_an_infinite_residual(loss, limit):
    """All flatten out; in between, against closed forms in double precision."""
    fun = loss(2.0)
    np.testing.assert_allclose(fun(jnp.array(jnp.inf)), limit)
    assert jax.grad(fun)(jnp.inf) == 0
    assert jax.grad(jax.grad(fun))(jnp.inf) == 0
    z = np.geomspace(1e-8, 1e8, 33)
    unit, first = {
        losses.Huber: (np.where(z <= 1, z, 2 * np.sqrt(z) - 1), np.minimum(1, z**-0.5)),
        losses.SoftL1: (2 * z / (np.sqrt(1 + z) + 1), (1 + z) ** -0.5),
        losses.Cauchy: (np.log1p(z), 1 / (1 + z)),
        losses.Arctan: (np.arctan(z), 1 / (1 + z**2)),
    }[loss]
    for dtype, few in ((jnp.float64, 1e-14), (jnp.float32, 1e-6)):
        s = jnp.asarray(4 * z, dtype)
        np.testing.assert_allclose(fun(s), 4 * unit, rtol=few)
        np.testing.assert_allclose(jax.vmap(jax.grad(fun))(s), first, rtol=few)
