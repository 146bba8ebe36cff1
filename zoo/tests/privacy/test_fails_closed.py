"""What would leave records unprotected raises where it is known, and poisons the estimate where it is traced."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dini_zoo.privacy.diff2 import (
    Clients,
    Diff2Estimator,
    Noise,
    calibrate,
    clip_per_example,
    clipped_mean,
    diff2_estimator,
    diff2_local,
    dp_sgd,
    privacy_spent,
    round_robin,
    spent,
)
from dini_zoo.privacy.ledger import GaussianRelease, Ledger
from dini_zoo.privacy.private_gsd import (
    Categorical,
    Domain,
    Marginals,
    Measurements,
    Real,
    Table,
    categorical_marginals,
    gumbel_top_k,
    measure_one_shot,
)

DATA = np.array([[3.0, 0.0], [0.0, 4.0], [5.0, 0.0], [0.0, 6.0]])
CLIENTS = Clients.equal(DATA, 2)
#: The right one first.
RADII = [1.0, jnp.nan, -1.0, -np.inf]
SCALES = [0.5, jnp.nan, -0.5, np.inf]


def vector(x, z):
    """Of a record: itself."""
    return z + 0 * x


def estimates(clip, slope, first, second, restart_every=2):
    """Both kinds of round."""
    estimator = diff2_estimator(
        lambda x, z: z * (1 + x),
        gradient_clip=clip,
        difference_clip=slope,
        restart_every=restart_every,
        noise=Noise(first, second),
    )
    state = estimator.init(jnp.zeros(2))
    one, state = estimator.update(state, jnp.zeros(2), CLIENTS, jax.random.key(0))
    two, _ = estimator.update(state, jnp.ones(2), CLIENTS, jax.random.key(0))
    return one, two


RIGHT = (1.0, 1.0, 0.5, 0.5, 2)


@pytest.mark.parametrize(
    ("place", "wrong", "name"),
    [(0, RADII, "gradient_clip"), (1, RADII, "difference_clip"), (2, SCALES, "noise"), (3, SCALES, "noise")],
)
def test_a_radius_or_noise_that_is_none(place, wrong, name):
    """Eager, and in a batch whose first lane is right."""
    put = lambda value: (*RIGHT[:place], value, *RIGHT[place + 1 :])
    for value in wrong[1:]:
        with pytest.raises(ValueError, match=f"{name} must be"):
            estimates(*put(value))
    one, two = jax.jit(jax.vmap(lambda value: estimates(*put(value))))(jnp.array(wrong))
    assert np.all(np.isfinite(one[0]))
    assert np.all(np.isfinite(two[0]))
    if place in (0, 2):
        assert np.all(np.isnan(one[1:]))
    # what comes after an estimate that is poisoned is, too
    assert np.all(np.isnan(two[1:]))


def test_an_interval_that_is_none():
    for wrong in (0, -1, 2.5):
        with pytest.raises((ValueError, TypeError), match="restart_every must be"):
            estimates(*RIGHT[:4], wrong)
    one, two = jax.jit(jax.vmap(lambda value: estimates(*RIGHT[:4], value)))(jnp.array([2, 0, -1]))
    assert np.all(np.isfinite(one[0]) & np.isfinite(two[0]))
    assert np.all(np.isnan(one[1:]) & np.isnan(two[1:]))


def sampled(clip, multiplier, dtype=None):
    data = jnp.asarray(DATA, dtype)
    start = jnp.zeros(2, dtype)
    return dp_sgd(
        vector, optax.sgd(1.0), start, data, jax.random.key(0), rounds=1, rate=1.0, clip=clip, multiplier=multiplier
    ).params


@pytest.mark.parametrize(("place", "wrong", "name"), [(0, RADII, "clip"), (1, SCALES, "multiplier")])
def test_sampled_batches(place, wrong, name):
    put = lambda value: (value, 0.5) if place == 0 else (1.0, value)
    for value in wrong[1:]:
        with pytest.raises(ValueError, match=f"{name} must be"):
            sampled(*put(value))
    found = jax.jit(jax.vmap(lambda value: sampled(*put(value))))(jnp.array(wrong))
    assert np.all(np.isfinite(found[0]))
    assert np.all(np.isnan(found[1:]))


def test_clipped_means():
    """A radius of zero is right: what is at rest has no difference."""
    for value in (jnp.nan, -1.0):
        with pytest.raises(ValueError, match="max_norm must be zero or more"):
            clipped_mean(vector, jnp.zeros(2), CLIENTS, value)
    radii = jnp.array([1.0, 0.0, jnp.inf, jnp.nan, -1.0])
    mean = jax.jit(jax.vmap(lambda c: clipped_mean(vector, jnp.zeros(2), CLIENTS, c).mean))(radii)
    each = jax.jit(jax.vmap(lambda c: clip_per_example(jnp.asarray(DATA), c)[0]))(radii)
    for found in (mean, each):
        assert np.all(np.isfinite(found[:3]))
        assert np.all(np.isnan(found[3:]))
    np.testing.assert_allclose(mean[0], [0.5, 0.5])


@pytest.mark.parametrize(("dtype", "next_one"), [(jnp.float16, 1 + 2**-10), (jnp.bfloat16, 1 + 2**-7)])
def test_noise_is_added_before_a_mean_is_rounded(dtype, next_one):
    """A mean halfway between two numbers of half precision: rounded first it would be one of them, whatever the noise.

    A neighbor's mean could then be the other one, many standard deviations away.
    """
    with jax.enable_x64(False):
        data = jnp.asarray([[1.0], [1.0], [next_one], [next_one]], dtype)
        run = lambda key, scale: (
            dp_sgd(
                vector, optax.sgd(1.0), jnp.zeros(1, dtype), data, key, rounds=1, rate=1.0, clip=2.0, multiplier=scale
            ).params
        )
        keys = jax.random.split(jax.random.key(0), 400)
        # a fifth of the distance of the two; given in single and in half precision
        scale = (next_one - 1) / 5 * 2
        for one in (scale, jnp.asarray(scale, dtype)):
            found = jax.jit(jax.vmap(run, (0, None)))(keys, one)
            assert found.dtype == dtype
            assert 0.4 < np.mean(np.asarray(found, float) == -1) < 0.6
            assert np.isin(np.asarray(found, float), [-1, -next_one]).mean() > 0.95


def test_noise_below_the_resolution():
    """It would vanish in the sums: an error, and a mark where it is traced."""
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match=r"multiplier .* must be at least .* float32"):
            sampled(1.0, 1e-9, jnp.float32)
        with pytest.raises(ValueError, match=r"noise.* must be at least .* float32"):
            estimates(1.0, 1.0, 1e-9, 0.5)
        found = jax.jit(jax.vmap(lambda z: sampled(1.0, z, jnp.float32)))(jnp.array([0.5, 1e-9]))
    assert np.all(np.isfinite(found[0]))
    assert np.all(np.isnan(found[1]))


def test_local_steps():
    """A radius, a learning rate and a client that are none."""

    def run(clip=1.0, noise=0.5, rate=0.1, order=None):
        estimator = diff2_estimator(
            lambda x, z: z * (1 + x), gradient_clip=1.0, difference_clip=1.0, restart_every=1, noise=Noise(0.5, 0.5)
        )
        order = jnp.arange(1) if order is None else order
        return diff2_local(
            estimator,
            jnp.zeros(2),
            CLIENTS,
            jax.random.key(0),
            order=order,
            learning_rate=rate,
            steps=2,
            batch=2,
            local_clip=clip,
            local_noise=noise,
        ).params

    for name, value in (("clip", -1.0), ("noise", -1.0), ("noise", jnp.nan), ("rate", -1.0), ("order", jnp.array([2]))):
        with pytest.raises(ValueError, match="must be"):
            run(**{name: value})
    for name, values in (
        ("clip", [1.0, -1.0, jnp.nan]),
        ("noise", [0.5, -1.0, jnp.nan]),
        ("rate", [0.1, -0.1, jnp.nan]),
        ("order", [[1], [2], [-1]]),
    ):
        found = jax.jit(jax.vmap(lambda value, name=name: run(**{name: value})))(jnp.array(values))
        assert np.all(np.isfinite(found[0])), name
        assert np.all(np.isnan(found[1:])), name


def test_the_noise_is_for_the_smallest_client():
    """Sizes are given, so that their sum cannot be: clients of 10 and 990 need 50 times the noise of one of 1000."""
    told = {"rounds": 10, "restart_every": 1}
    with pytest.raises((TypeError, ValueError), match="sizes must be"):
        calibrate(1.0, 1e-5, sizes=1000, **told)
    unequal, whole = (calibrate(1.0, 1e-5, sizes=sizes, **told) for sizes in ((10, 990), (1000,)))
    assert unequal.restart == pytest.approx(50 * whole.restart)
    assert privacy_spent(spent(unequal, 10, 1, (10, 990)), 1e-5) <= 1.0
    assert privacy_spent(spent(whole, 10, 1, (10, 990)), 1e-5) > 10
    for wrong in ((), (10, 0), (2.5, 3)):
        with pytest.raises((TypeError, ValueError), match="sizes must be"):
            calibrate(1.0, 1e-5, sizes=wrong, **told)


def test_counts_are_whole():
    with pytest.raises(TypeError, match=r"rounds must be a whole number: given 20\.5"):
        calibrate(1.0, 1e-5, rounds=20.5, restart_every=1, sizes=(100,))
    with pytest.raises((TypeError, ValueError), match="count must be"):
        GaussianRelease("one", 1.0, np.nan)
    with pytest.raises(ValueError, match="multiplier must be"):
        GaussianRelease("one", jnp.asarray(jnp.nan, jnp.bfloat16))


DOMAIN = Domain.of({"a": Categorical(3), "b": Categorical(2)})
OTHER = Domain.of({"a": Categorical(2), "b": Categorical(3)})


def measured(domain, workloads=None):
    table = Table(domain.uniform(jax.random.key(0), (100,)), domain)
    return measure_one_shot(jax.random.key(1), table, categorical_marginals(domain, 1), 0.1, workloads)


def test_measurements_of_other_queries_are_not_joined():
    first, second = measured(DOMAIN, [0]), measured(DOMAIN, [1])
    both = first.joined(second)
    assert both.measured.all()
    assert both.ledger.rho == pytest.approx(0.2)
    with pytest.raises(ValueError, match="other must be of the same queries"):
        first.joined(measured(OTHER, [1]))


def test_measurements_made_by_hand_have_their_price():
    queries = categorical_marginals(DOMAIN, 1)
    with pytest.raises(ValueError, match="ledger must have the releases"):
        Measurements(queries, np.full(5, 0.2), np.full(2, 0.01))
    release = GaussianRelease("mine", 5.0, 2)
    found = Measurements(queries, np.full(5, 0.2), np.full(2, 0.01), Ledger((release,)))
    assert privacy_spent(found.ledger, 1e-5) > 0.5
    for sigmas in (np.array([0.01, np.nan]), np.array([0.01, 0.0]), np.array([0.01, -1.0]), np.full(3, 0.01)):
        with pytest.raises(ValueError, match="sigmas must"):
            Measurements(queries, np.full(5, 0.2), sigmas, Ledger((release,)))
    for noisy in (np.full(4, 0.2), np.full((5, 1), 0.2), np.full(5, np.nan)):
        with pytest.raises(ValueError, match="noisy must"):
            Measurements(queries, noisy, np.full(2, 0.01), Ledger((release,)))


def test_tables_in_half_precision_are_counted_in_single():
    """Counts above 2048 and noise of a thousandth have no place in it."""
    with jax.enable_x64(False):
        rows = DOMAIN.uniform(jax.random.key(0), (5000,)).astype(jnp.float16)
        found = measure_one_shot(jax.random.key(1), Table(rows, DOMAIN), categorical_marginals(DOMAIN, 1), 10.0)
        truth = np.bincount(np.asarray(rows[:, 0], int), minlength=3) / 5000
    assert found.noisy.dtype == jnp.float32
    np.testing.assert_allclose(found.noisy[:3], truth, atol=1e-3)


def test_a_choice_among_scores_in_half_precision_or_with_a_scale_that_is_none():
    with pytest.raises(ValueError, match="scale must be"):
        gumbel_top_k(jax.random.key(0), jnp.zeros(3), 1, -1.0)
    with pytest.raises(ValueError, match="scores must"):
        gumbel_top_k(jax.random.key(0), jnp.array([0.0, np.nan]), 1, 1.0)
    found = jax.vmap(lambda scale: gumbel_top_k(jax.random.key(0), jnp.arange(3.0), 2, scale))(
        jnp.array([1e-9, jnp.nan, -1.0])
    )
    assert found.tolist() == [[2, 1], [-1, -1], [-1, -1]]
    drawn = jax.vmap(lambda key: gumbel_top_k(key, jnp.zeros(2, jnp.float16), 1, 1e-9))(
        jax.random.split(jax.random.key(0), 100)
    )
    assert 20 < drawn.sum() < 80


def test_orders_of_clients_are_of_clients():
    with pytest.raises(ValueError, match="clients must be"):
        round_robin(0, 3)


def test_what_is_made_by_hand():
    """An estimator, a table, and families of queries, whose sensitivities would be those of others."""
    make = lambda **more: Diff2Estimator(
        **{"fun": vector, "gradient_clip": 1.0, "difference_clip": 1.0, "restart_every": 2, "noise": Noise(0.5, 0.5)}
        | {"microbatch": None}
        | more
    )
    assert make().restart_every == 2
    for more, words in (
        ({"gradient_clip": -1.0}, "gradient_clip must be positive"),
        ({"difference_clip": np.inf}, "difference_clip must be finite where there is noise"),
        ({"gradient_clip": jnp.ones(2)}, "gradient_clip must be one number"),
        ({"noise": Noise(jnp.array([0.0, 5.0]), 0.5)}, "noise must be one number"),
        ({"restart_every": 2.5}, "restart_every must be a whole number"),
        ({"microbatch": 0}, "microbatch must be at least 1"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            make(**more)
    descent = lambda multiplier: dp_sgd(
        vector,
        optax.sgd(0.1),
        jnp.zeros(2),
        DATA,
        jax.random.key(0),
        rounds=1,
        rate=0.5,
        clip=1.0,
        multiplier=multiplier,
    )
    with pytest.raises(ValueError, match="multiplier must be one number"):
        descent(jnp.array([0.0, 5.0]))
    with pytest.raises(ValueError, match="max_norm must be one number"):
        clip_per_example(DATA, jnp.ones(2))
    domain = Domain.of({"a": Categorical(3), "b": Real(0, 10)})
    assert len(Table(np.array([[2.0, 1.0], [0.0, 0.0]]), domain)) == 2
    for row in ([3.0, 0.5], [0.5, 0.5], [-1.0, 0.5], [0.0, 1.5], [np.nan, 0.5], [0.0, np.nan]):
        with pytest.raises(ValueError, match="rows must have categories, or real values scaled"):
            Table(np.array([row]), domain)
    with pytest.raises(ValueError, match="at least one row"):
        Table(np.zeros((0, 2)), domain)
    for columns, bins, workloads, words in (
        ([[0], [1]], [[3], [4]], (1, 0), "workloads must be numbers from zero"),
        ([[0], [1]], [[3], [4]], (0, 2), "workloads must be numbers from zero"),
        ([[0], [1]], [[3], [4]], (0,), "workloads must be numbers from zero"),
        ([[0], [2]], [[3], [4]], (0, 1), "columns must be from 0 to 1"),
        ([[-1]], [[3]], (0,), "columns must be from 0 to 1"),
        ([[0]], [[0]], (0,), "sizes must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            Marginals(domain, columns, bins, workloads)
    queries = Marginals(domain, [[0], [1]], [[3], [4]], (0, 1))
    table = Table(np.array([[2.0, 1.0], [0.0, 0.0]]), domain)
    with pytest.raises(ValueError, match="workloads must have the shape"):
        measure_one_shot(jax.random.key(0), table, queries, 1.0, np.array([[0]]))
    rows = jnp.stack([table.rows, jnp.array([[2.0, jnp.nan], [0.0, 0.0]])])
    assert np.isnan(jax.vmap(queries.answers)(rows)).any(axis=1).tolist() == [False, True]
