"""DIFF2: exactness without noise, the published table, noise, ledgers, local steps, Poisson's batches, bad input."""

import doctest
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from outputs import assert_bars_met

import dini
from dini_zoo.privacy.diff2 import (
    Clients,
    LocalNoise,
    Noise,
    budget,
    calibrate,
    calibrate_local,
    calibrate_poisson,
    diff2_estimator,
    diff2_gd,
    diff2_local,
    dp_gd,
    dp_sgd,
    local_ledger,
    local_sgd,
    local_spent,
    poisson_ledger,
    privacy_spent,
    random_order,
    round_robin,
    spent,
)
from dini_zoo.privacy.diff2.experiment import experiment
from dini_zoo.privacy.diff2.problems import (
    LIPSCHITZ,
    SMOOTHNESS,
    generated,
    penalty_gradient,
    record_gradient,
    record_loss,
)

SIZES = (6, 9, 15)
ITSELF = lambda w: w


def data(seed=0, n=30, d=3):
    random = np.random.default_rng(seed)
    a = random.standard_normal((n, d))
    return a / np.linalg.norm(a, axis=1, keepdims=True), random.integers(0, 2, n).astype(float)


def gradients(w, a, b):
    """Each record's, with NumPy."""
    s = 1 / (1 + np.exp(-a @ w))
    return (2 * (s - b) * s * (1 - s))[:, None] * a


WEIGHTS = np.repeat([1 / (3 * size) for size in SIZES], SIZES)


def by_hand(rounds, restart_every, c1, c2, eta=2.0):
    """The specification's loop without noise, in NumPy: the iterates."""
    a, b = data()
    clip = lambda g, c: g * np.minimum(1, c / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-300))
    x, before, v, path = np.zeros(3), np.zeros(3), np.zeros(3), []
    for r in range(rounds):
        if r % restart_every == 0:
            v = WEIGHTS @ clip(gradients(x, a, b), c1)
        else:
            radius = c2 * np.linalg.norm(x - before)
            v = v + WEIGHTS @ clip(gradients(x, a, b) - gradients(before, a, b), radius)
        x, before = x - eta * (v + 1e-3 * x), x
        path.append(x)
    return np.array(path)


@pytest.fixture(scope="module")
def descents():
    """One program: any interval and radii, without noise."""
    with jax.enable_x64(True):
        clients = Clients(data(), SIZES)

        @jax.jit
        def run(restart_every, c1, c2):
            estimator = diff2_estimator(
                record_gradient, gradient_clip=c1, difference_clip=c2, restart_every=restart_every, microbatch=8
            )
            told = {"rounds": 12, "public": penalty_gradient, "observe": ITSELF}
            return diff2_gd(estimator, optax.sgd(2.0), np.zeros(3), clients, jax.random.key(0), **told)

        return run


@pytest.mark.parametrize("restart_every", [1, 3, 5, 12])
def test_without_noise_and_clipping_it_is_gradient_descent(descents, restart_every):
    """Exact check 1: differences telescope."""
    found = descents(restart_every, np.inf, np.inf)
    np.testing.assert_allclose(found.observed, by_hand(12, 1, np.inf, np.inf), atol=1e-12)
    assert found.state.restarts == -(-12 // restart_every)
    assert found.state.rounds == 12
    assert found.finite


@pytest.mark.parametrize(("restart_every", "c1", "c2"), [(1, 0.1, 1.0), (3, 0.1, 0.05), (12, 0.2, 0.02)])
def test_the_loop_with_clipping(descents, restart_every, c1, c2):
    """Exact check 2 among them: with T = 1 it is DP-GD."""
    found = descents(restart_every, c1, c2)
    np.testing.assert_allclose(found.observed, by_hand(12, restart_every, c1, c2), atol=1e-12)
    assert np.max(np.abs(found.observed - by_hand(12, 1, np.inf, np.inf))) > 1e-3
    assert 0 < found.clipped.max() <= 1


def test_dp_gd_is_the_estimator_with_restarts_alone(descents):
    clients = Clients(data(), SIZES)
    found, estimator = dp_gd(
        record_gradient,
        optax.sgd(2.0),
        np.zeros(3),
        clients,
        jax.random.key(0),
        rounds=3,
        clip=0.1,
        noise=0.05,
        public=penalty_gradient,
    )
    ledger = estimator.ledger(found.state, clients)
    # 3 restarts of multiplier s n / 2 with n = 3 * 6
    assert ledger.rho == pytest.approx(3 / (2 * (0.05 * 18 / 2) ** 2))
    assert ledger == spent(Noise(0.05, 0.0), 3, 1, SIZES)


@pytest.mark.parametrize(
    ("n", "rounds", "interval", "epsilon", "expected"),
    [
        (20_000, 3000, 300, 1, (0.00176777, 0.06123724)),
        (16_512, 2000, 6, 3, (0.00428238, 0.02097930)),
        (16_512, 2000, 1, 5, (0.00593384, 0.0)),
    ],
)
def test_the_published_table(n, rounds, interval, epsilon, expected):
    """Exact check 3; and what the closed form keeps back is what the exact noise saves."""
    told = {"rounds": rounds, "restart_every": interval, "sizes": (n,)}
    closed = calibrate(epsilon, 1e-5, **told)
    np.testing.assert_allclose(closed, expected, atol=5e-9)
    assert privacy_spent(spent(closed, rounds, interval, (n,)), 1e-5) < epsilon
    exact = calibrate(epsilon, 1e-5, method="exact", **told)
    assert privacy_spent(spent(exact, rounds, interval, (n,)), 1e-5) == pytest.approx(epsilon, rel=1e-9)
    assert exact.restart < closed.restart
    assert exact.difference * closed.restart == pytest.approx(closed.difference * exact.restart)


def test_the_closed_form_does_not_break_its_promise_silently():
    """It counts R / T restarts; with T just below R there are two and not one."""
    told = {"rounds": 1000, "restart_every": 999, "sizes": (1000,)}
    with pytest.raises(ValueError, match=r"restart_every that divides the rounds: with 999 of 1000 .* method='exact'"):
        calibrate(1.0, 1e-5, **told)
    noise = calibrate(1.0, 1e-5, method="exact", **told)
    assert privacy_spent(spent(noise, 1000, 999, (1000,)), 1e-5) == pytest.approx(1.0)
    assert math.isinf(privacy_spent(spent(Noise(0.0, 0.0), 10, 2, (100,)), 1e-5))


def test_the_noise():
    """Exact check 5: its deviation within 3 %, of restarts and differences; fresh in each round, from one key."""
    clients = Clients(data(), SIZES)
    estimator = diff2_estimator(
        record_gradient, gradient_clip=0.1, difference_clip=0.05, restart_every=3, noise=Noise(0.5, 2.0)
    )
    x = [jnp.array(point) for point in ([0.1, 0.2, 0.3], [0.4, 0.1, 0.0], [0.4, 0.1, 0.0])]

    @jax.jit
    def rounds(keys):
        def one(key):
            state, found = estimator.init(x[0]), []
            for point in x:
                v, state = estimator.update(state, point, clients, key)
                found.append(v)
            return jnp.stack(found)

        return jax.vmap(one)(keys)

    drawn = np.asarray(rounds(jax.random.split(jax.random.key(1), 10_000)))
    quiet, state = [], None
    exact = diff2_estimator(record_gradient, gradient_clip=0.1, difference_clip=0.05, restart_every=3)
    state = exact.init(x[0])
    for point in x[:2]:
        v, state = exact.update(state, point, clients, jax.random.key(0))
        quiet.append(v)
    first, second = drawn[:, 0], drawn[:, 1] - drawn[:, 0]
    length = np.linalg.norm(x[1] - x[0])
    np.testing.assert_allclose(first.mean(0), quiet[0], atol=5 * 0.05 / 100)
    np.testing.assert_allclose(second.mean(0), quiet[1] - quiet[0], atol=5 * 0.1 * length / 100)
    np.testing.assert_allclose(first.std(0), 0.1 * 0.5, rtol=0.03)
    np.testing.assert_allclose(second.std(0), 0.05 * length * 2.0, rtol=0.03)
    both = np.corrcoef(np.concatenate([first, second], axis=1), rowvar=False)
    assert np.max(np.abs(both - np.eye(6))) < 0.05
    # a step of length zero releases nothing, and costs no noise
    np.testing.assert_array_equal(drawn[:, 2], drawn[:, 1])


def test_any_optimizer_and_single_precision():
    clients = Clients(jax.tree.map(lambda one: jnp.asarray(one, jnp.float32), data()), SIZES)
    told = {"rounds": 6, "restart_every": 3, "sizes": clients.sizes}
    noise = calibrate(2.0, 1e-3, method="exact", **told)
    estimator = diff2_estimator(
        record_gradient, gradient_clip=0.3, difference_clip=0.16, restart_every=3, noise=noise, microbatch=7
    )
    run = jax.jit(
        lambda key: diff2_gd(
            estimator, optax.adam(0.1), jnp.zeros(3, jnp.float32), clients, key, rounds=6, observe=ITSELF
        )
    )
    found, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(found.observed, again.observed)
    assert np.all(np.asarray(found.params) != np.asarray(other.params))
    assert found.params.dtype == jnp.float32
    assert any(np.array_equal(found.drawn, one) for one in found.observed)
    assert privacy_spent(estimator.ledger(found.state, clients), 1e-3) == pytest.approx(2.0)


def test_a_record_that_is_not_finite_is_counted():
    a, b = data()
    a[4] = np.nan
    clients = Clients((a, b), SIZES)
    estimator = diff2_estimator(record_gradient, gradient_clip=0.3, difference_clip=0.2, restart_every=2)
    found = diff2_gd(estimator, optax.sgd(1.0), np.zeros(3), clients, jax.random.key(0), rounds=3)
    assert found.state.lost == 3
    assert found.finite


def test_a_radius_far_too_small_runs_away_and_says_so():
    """Differences that say too little: the estimate never learns that the slope has turned."""
    clients = Clients.equal(jnp.ones((4, 1)))
    steep = diff2_estimator(lambda x, z: 1e30 * x, gradient_clip=1e38, difference_clip=1e25, restart_every=50)
    with jax.enable_x64(False):
        found = diff2_gd(steep, optax.sgd(1.9e-30), jnp.ones(1, jnp.float32), clients, jax.random.key(0), rounds=60)
        run_away = diff2_gd(steep, optax.sgd(1e9), jnp.ones(1, jnp.float32), clients, jax.random.key(0), rounds=3)
    assert np.max(np.abs(found.params)) > 10
    assert np.mean(found.clipped) > 0.9
    assert not run_away.finite


def test_private_hypergradients():
    """Values that are implicit gradients of solves: the radius of their differences is known exactly."""

    def outer(t, z):
        y = dini.minimize(lambda y, t: ((y - t) ** 2 + y**2) / 2, jnp.zeros(()), t, solver=dini.Newton()).x
        return (y - z) ** 2 / 2

    clients = Clients.of([jnp.array([0.3, -1.0]), jnp.array([2.0])])
    points = [jnp.array(1.0), jnp.array(3.0)]

    @jax.jit
    def two(difference_clip):
        estimator = diff2_estimator(
            jax.grad(outer), gradient_clip=10.0, difference_clip=difference_clip, restart_every=5
        )
        state, found = estimator.init(points[0]), []
        for t in points:
            v, state = estimator.update(state, t, clients, jax.random.key(0))
            found.append((v, state.clipped))
        return found

    mean = ((0.3 - 1.0) / 2 + 2.0) / 2
    (first, _), (second, clipped) = two(0.26)
    assert first == pytest.approx((1.0 / 2 - mean) / 2, rel=1e-6)
    assert second == pytest.approx((3.0 / 2 - mean) / 2, rel=1e-6)
    assert clipped == 0
    (_, _), (short, clipped) = two(0.2)
    assert short - first == pytest.approx(0.2 * 2.0, rel=1e-6)
    assert clipped == 1


# local steps


def test_local_steps_on_equal_clients_are_gradient_descent():
    """Whole batches of clients with the same records: K steps a round are K steps; and one step is DIFF2-GD."""
    a, b = data(n=6)
    clients = Clients.of([(a, b)] * 3)
    estimator = diff2_estimator(record_gradient, gradient_clip=np.inf, difference_clip=np.inf, restart_every=2)
    told = {"learning_rate": 2.0, "batch": 6, "local_clip": np.inf, "public": penalty_gradient, "observe": ITSELF}
    x, path = np.zeros(3), []
    for _ in range(12):
        x = x - 2.0 * (gradients(x, a, b).mean(0) + 1e-3 * x)
        path.append(x)
    for steps, rounds in ((4, 3), (1, 5)):
        found = diff2_local(
            estimator, np.zeros(3), clients, jax.random.key(0), order=round_robin(3, rounds), steps=steps, **told
        )
        np.testing.assert_allclose(found.observed, path[steps - 1 :: steps][:rounds], atol=1e-12)


def test_local_noise_and_its_ledger():
    clients = Clients(data(), SIZES)
    noise = LocalNoise(0.5, 2.0, 4.0)
    estimator = diff2_estimator(
        record_gradient, gradient_clip=0.3, difference_clip=0.2, restart_every=2, noise=Noise(0.0, 0.0)
    )
    order = round_robin(3, 1)
    told = {"order": order, "learning_rate": 1.0, "steps": 2, "batch": 6, "local_clip": 0.1}

    @jax.jit
    def ends(keys):
        loud = lambda key: diff2_local(estimator, np.zeros(3), clients, key, local_noise=noise.local, **told).params
        return jax.vmap(loud)(keys)

    drawn = np.asarray(ends(jax.random.split(jax.random.key(2), 4000)))
    quiet = diff2_local(estimator, np.zeros(3), clients, jax.random.key(0), **told).params
    # the first step has length |v|, the second one's noise is proportional to it; the batch is all of the client
    length = np.linalg.norm(by_hand(1, 1, 0.3, 0.2, eta=1.0)[0])
    np.testing.assert_allclose(drawn.mean(0), quiet, atol=5 * 0.1 * length * 4.0 / np.sqrt(4000))
    np.testing.assert_allclose(drawn.std(0), 0.1 * length * 4.0, rtol=0.05)
    loud = diff2_estimator(
        record_gradient, gradient_clip=0.3, difference_clip=0.2, restart_every=2, noise=Noise(0.5, 2.0)
    )
    order = round_robin(3, 7)
    found = diff2_local(
        loud, np.zeros(3), clients, jax.random.key(0), local_noise=4.0, **{**told, "order": order, "batch": 3}
    )
    ledger = local_ledger(loud, found.state, clients, order=order, steps=2, batch=3, noise=4.0)
    # 4 restarts and 3 differences of 18 records; the first client works 3 times, and each time in one step with noise
    cost = {"rounds": 7, "restart_every": 2, "sizes": SIZES}
    assert ledger == local_spent(noise, **cost, batch=3, steps=2, visits=3)
    assert [one.count for one in ledger.releases] == [4, 3, 3]
    assert [one.multiplier for one in ledger.releases] == [0.5 * 9, 2.0 * 9, 4.0 * 1.5]


@pytest.mark.thorough
def test_the_local_budget():
    told = {"rounds": 6, "restart_every": 3, "sizes": (200, 200)}
    told |= {"batch": 20, "steps": 4, "visits": 3}
    noise = calibrate_local(2.0, 1e-4, **told, tolerance=0.02)
    assert 1.9 < privacy_spent(local_spent(noise, **told), 1e-4, "rdp") <= 2.0
    # the secrecy of batches is worth something
    plain = 2 / 20 * math.sqrt(9 / (2 * budget.cdp_rho(2.0, 1e-4) / 3))
    assert noise.local < 0.6 * plain
    assert calibrate_local(2.0, 1e-4, **{**told, "steps": 1}).local == 0


def test_orders_of_clients():
    np.testing.assert_array_equal(round_robin(3, 7), [0, 1, 2, 0, 1, 2, 0])
    order = np.asarray(random_order(jax.random.key(0), 5, 13, 3))
    assert len(order) == 13
    assert np.bincount(order).max() <= 3
    with pytest.raises(ValueError, match="at_most must be at least 3 for 13 rounds: given 2"):
        random_order(jax.random.key(0), 5, 13, 2)


def test_local_sgd():
    a, b = data(n=6)
    found = local_sgd(
        record_gradient,
        np.zeros(3),
        Clients.of([(a, b)] * 2),
        jax.random.key(0),
        order=round_robin(2, 2),
        learning_rate=2.0,
        steps=2,
        batch=6,
    )
    x = np.zeros(3)
    for _ in range(4):
        x = x - 2.0 * gradients(x, a, b).mean(0)
    np.testing.assert_allclose(found.params, x, atol=1e-12)


# Poisson's batches


def test_poisson_batches():
    a, b = data()
    told = {"rounds": 1, "clip": 0.1}
    run = lambda key, **options: dp_sgd(record_gradient, optax.sgd(1.0), np.zeros(3), (a, b), key, **told, **options)
    norm = np.linalg.norm(gradients(np.zeros(3), a, b), axis=1, keepdims=True)
    clipped = gradients(np.zeros(3), a, b) * np.minimum(1, 0.1 / norm)
    np.testing.assert_allclose(run(jax.random.key(0), rate=1.0).params, -clipped.mean(0), atol=1e-12)
    drawn = np.asarray(
        jax.jit(jax.vmap(lambda key: run(key, rate=0.3, multiplier=2.0).params))(
            jax.random.split(jax.random.key(1), 10_000)
        )
    )
    np.testing.assert_allclose(drawn.mean(0), -clipped.mean(0), atol=5 * drawn.std() / 100)
    n = len(a)
    variance = (0.1 * 2.0 / (0.3 * n)) ** 2 + 0.7 / 0.3 * np.sum(clipped**2, 0) / n**2
    np.testing.assert_allclose(drawn.std(0), np.sqrt(variance), rtol=0.03)


def test_the_budget_of_poisson_batches():
    multiplier = calibrate_poisson(1.0, 1e-5, rate=0.05, rounds=100, tolerance=0.02)
    ledger = poisson_ledger(multiplier, rate=0.05, records=2000, rounds=100)
    assert 0.95 < privacy_spent(ledger, 1e-5, "rdp") <= 1.0
    # without the secrecy of batches it were ten times as much and more
    assert multiplier < 0.1 * 10 / budget.gaussian_mu(1.0, 1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="epsilon must be positive"):
        calibrate(0.0, 1e-5, rounds=10, restart_every=1, sizes=(10,))
    with pytest.raises(ValueError, match="delta must be between 0 and 1"):
        calibrate(1.0, 1.0, rounds=10, restart_every=1, sizes=(10,))
    for interval in (0, 11):
        with pytest.raises(ValueError, match=f"restart_every must be from 1 to 10, the rounds: given {interval}"):
            calibrate(1.0, 1e-5, rounds=10, restart_every=interval, sizes=(10,))
    with pytest.raises(ValueError, match="split must be above 1 and finite: given 1"):
        calibrate(1.0, 1e-5, rounds=10, restart_every=2, sizes=(10,), split=1.0)
    with pytest.raises(ValueError, match="sizes must be those of clients with a record each"):
        calibrate(1.0, 1e-5, rounds=10, restart_every=2, sizes=(0,))
    with pytest.raises(ValueError, match="method must be one of"):
        calibrate(1.0, 1e-5, rounds=10, restart_every=2, sizes=(10,), method="best")
    with pytest.raises(ValueError, match="batch must be at most 5, the records of the smallest client: given 6"):
        local_spent(
            LocalNoise(1, 1, 1),
            rounds=4,
            restart_every=2,
            sizes=(5, 5),
            batch=6,
            steps=2,
            visits=1,
        )
    options = {"gradient_clip": 1.0, "difference_clip": 1.0, "restart_every": 2}
    for name, value, words in (
        ("gradient_clip", -1.0, "must be positive: given -1"),
        ("difference_clip", 0.0, "must be positive: given 0"),
        ("restart_every", 0, "must be at least 1: given 0"),
    ):
        with pytest.raises(ValueError, match=f"{name} {words}"):
            diff2_estimator(record_gradient, **{**options, name: value})
    with pytest.raises(ValueError, match="gradient_clip must be finite where there is noise"):
        diff2_estimator(record_gradient, **{**options, "gradient_clip": np.inf}, noise=Noise(1.0, 1.0))
    with pytest.raises(ValueError, match="noise must be zero or more"):
        diff2_estimator(record_gradient, **options, noise=Noise(-1.0, 1.0))
    clients, key = Clients(data(), SIZES), jax.random.key(0)
    estimator = diff2_estimator(record_gradient, **options)
    with pytest.raises(ValueError, match="rounds must be at least 1: given 0"):
        diff2_gd(estimator, optax.sgd(1.0), np.zeros(3), clients, key, rounds=0)
    with pytest.raises(TypeError, match="params must be a tree of arrays of floats: given int"):
        diff2_gd(estimator, optax.sgd(1.0), np.zeros(3, int), clients, key, rounds=1)
    told = {"learning_rate": 1.0, "steps": 2, "batch": 3, "local_clip": 1.0}
    local = lambda **others: diff2_local(estimator, np.zeros(3), clients, key, **{"order": [0], **told, **others})
    for name, value, words in (
        ("batch", 7, "batch must be at most 6"),
        ("order", [3], "order must be from 0 to 2: given 3"),
        ("steps", 0, "steps must be at least 1"),
        ("learning_rate", 0.0, "learning_rate must be positive"),
        ("local_clip", 0.0, "local_clip must be positive"),
    ):
        with pytest.raises(ValueError, match=words):
            local(**{name: value})
    with pytest.raises(ValueError, match=r"rate must be above 0 and at most 1: given 1\.5"):
        dp_sgd(record_gradient, optax.sgd(1.0), np.zeros(3), data(), key, rounds=1, rate=1.5, clip=1.0)


def test_the_problem():
    """Its derivatives' bounds, by a fine grid; and the specification's least value."""
    s = np.linspace(-12, 12, 4001)
    one = jnp.array([1.0])
    slope = jax.jit(jax.vmap(lambda t, b: jax.grad(record_loss)(t * one, (one, b))[0], in_axes=(0, None)))
    bend = jax.jit(jax.vmap(lambda t, b: jax.hessian(record_loss)(t * one, (one, b))[0, 0], in_axes=(0, None)))
    most = lambda fun: max(float(jnp.max(jnp.abs(fun(s, b)))) for b in (0.0, 1.0))
    assert LIPSCHITZ - 1e-6 < most(slope) <= LIPSCHITZ
    assert SMOOTHNESS - 1e-4 < most(bend) <= SMOOTHNESS


@pytest.mark.thorough
def test_the_differences_radius_on_the_generated_records():
    """Exact check 1b: what C2 above and below the smoothness does in the first 300 rounds, without noise."""
    problem = generated()
    assert problem.least == pytest.approx(0.1404475, abs=5e-8)
    clients = Clients.equal((problem.a, problem.b))

    @jax.jit
    def run(c2):
        estimator = diff2_estimator(record_gradient, gradient_clip=0.3, difference_clip=c2, restart_every=300)
        return diff2_gd(
            estimator, optax.sgd(5.0), np.zeros(20), clients, jax.random.key(0), rounds=300, public=penalty_gradient
        )

    exact, enough, short = (run(c2) for c2 in (np.inf, 0.155, 0.05))
    assert not np.any(enough.clipped)
    np.testing.assert_allclose(enough.params, exact.params, atol=1e-12)
    assert np.mean(short.clipped[1:]) == pytest.approx(0.007, abs=5e-4)
    assert np.max(short.clipped) == pytest.approx(0.15, abs=0.005)
    assert np.max(np.abs(short.params - exact.params)) == pytest.approx(0.27, abs=0.005)


def test_the_docstrings():
    failed, tried = doctest.testmod(budget)
    assert tried
    assert not failed


@pytest.mark.slow
def test_the_bars():
    pytest.importorskip("statsmodels")
    pytest.importorskip("dp_accounting")
    with jax.enable_x64(False):
        assert_bars_met("diff2", experiment)
