"""Adversarial imitation: the loss and its pieces by hand, the mechanism in closed form, the task, bad input, bars."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from outputs import assert_bars_met

from dini_zoo.reinforcement.lipschitz import local_lipschitz
from dini_zoo.reinforcement.lipschitz_gail import (
    Constant,
    Discriminator,
    LearnedDynamics,
    Model,
    Penalty,
    SmoothDynamics,
    absorbing,
    bernoulli_entropy,
    best_discriminator,
    clone,
    discriminator_loss,
    imitation_reward,
    precondition_reward,
    reward_of_the_best,
)
from dini_zoo.reinforcement.lipschitz_gail.experiment import experiment
from dini_zoo.reinforcement.lipschitz_gail.learner import Demonstrations
from dini_zoo.reinforcement.lipschitz_gail.task import make
from dini_zoo.reinforcement.policies import Network

linear = lambda w, z: w @ z
softplus = lambda x: np.logaddexp(0, x)


def test_the_loss_is_that_of_its_formula():
    random = np.random.default_rng(0)
    w, p, e = random.normal(size=3), random.normal(size=(4, 3)), random.normal(size=(4, 3))
    ours, theirs = p @ w, e @ w
    key = jax.random.key(0)
    loss = jax.jit(
        lambda w, key, low, high: discriminator_loss(
            linear, w, key, p, e, entropy=0.25, label_smoothing=(low, high), penalty=Penalty(weight=2.0, target=0.5)
        )
    )
    chance = 1 / (1 + np.exp(-np.concatenate([ours, theirs])))
    entropy = -np.mean(chance * np.log(chance) + (1 - chance) * np.log(1 - chance))
    rest = np.mean(softplus(ours)) - 0.25 * entropy + 2 * (np.linalg.norm(w) - 0.5) ** 2
    for label in (0.8, 1.0):
        bce = -np.mean(label * np.log(chance[4:]) + (1 - label) * np.log(1 - chance[4:]))
        np.testing.assert_allclose(loss(w, key, label, label), rest + bce, rtol=1e-12)
    # smoothed labels differ from draw to draw, with the interval's mean
    draws = jax.vmap(lambda key: loss(w, key, 0.7, 1.2))(jax.random.split(key, 20_000))
    labels = rest + np.mean(softplus(theirs)) - draws
    assert np.std(draws) > 0.01
    np.testing.assert_allclose(labels.mean(), 0.95 * theirs.mean(), atol=5e-3)
    width = 0.5 * np.linalg.norm(theirs) / 4 / np.sqrt(12)
    np.testing.assert_allclose(draws.std(), width, rtol=0.03)
    for extreme in (1e6, -1e6):
        assert np.isfinite(discriminator_loss(linear, extreme * w, key, p, e, penalty=None))
    np.testing.assert_allclose(bernoulli_entropy(jnp.array([0.0, 1e4, -1e4])), [np.log(2), 0, 0], atol=1e-12)


def test_rewards_are_no_steeper_than_the_score():
    """Exact check 4."""
    D = lambda x: 3 * jnp.sin(x[0]) + x[1] ** 3
    x = 3 * np.random.default_rng(1).normal(size=(200, 2))
    norm = lambda form: jnp.linalg.norm(jax.vmap(jax.grad(lambda x: imitation_reward(D(x), form)))(x), axis=1)
    of_D = jnp.linalg.norm(jax.vmap(jax.grad(D))(x), axis=1)
    assert np.all(norm("minimax") <= of_D)
    np.testing.assert_allclose(norm("sum"), of_D)
    high = jax.vmap(D)(x) > 40
    assert high.sum() > 5
    np.testing.assert_allclose(norm("minimax")[high], of_D[high], rtol=1e-12)
    score = np.linspace(-30, 60, 91)
    np.testing.assert_allclose(imitation_reward(score), softplus(score))
    np.testing.assert_allclose(imitation_reward(score, "clipped").max(), 18.420681, atol=1e-6)
    low = score < 10
    np.testing.assert_allclose(imitation_reward(score, "clipped")[low], softplus(score)[low], atol=3e-4)
    with pytest.raises(ValueError, match="form must be one of 'minimax'"):
        imitation_reward(score, "max")


P, E = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])


def test_without_a_penalty_the_slope_grows_like_the_logarithm_of_the_steps():
    """Exact check 5, its first half."""
    loss = lambda w: discriminator_loss(
        linear, w, jax.random.key(0), P, E, entropy=0.0, label_smoothing=None, penalty=None
    )

    @jax.jit
    def descended(steps):
        return jax.lax.fori_loop(0, steps, lambda _, w: w - jax.grad(loss)(w), jnp.zeros(2))

    for steps, expected in ((100, 4.589246), (1000, 6.905011), (10_000, 9.209951)):
        np.testing.assert_allclose(descended(steps), (-expected, expected), atol=1e-6)


@jax.jit
def best(p, e, lam, k):
    """The weights, and the derivatives of the last one in lam and k."""
    last = lambda lam, k: (lambda w: (w[1], w))(best_discriminator(p, e, lam, k).x)
    (_, w), slopes = jax.value_and_grad(last, (0, 1), has_aux=True)(lam, k)
    return w, slopes


def test_the_best_discriminator_under_a_penalty_and_its_implicit_derivatives():
    """Exact check 5, its second half; and in other units of the points, whose slopes are in theirs."""
    w, slopes = best(P, E, 10.0, 1.0)
    np.testing.assert_allclose(w, (-0.7234385927, 0.7234385927), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(w), 1.0230966694, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(w) / (1 + np.exp(-w[1])), 0.6889162291, atol=1e-9)
    np.testing.assert_allclose(slopes, (-0.0016154160, 0.6994151379), atol=1e-9)
    for scale in (1e-6, 1e6):
        scaled, _ = best(scale * P, scale * E, 10.0 * scale**2, 1 / scale)
        np.testing.assert_allclose(scale * scaled, w, rtol=1e-7)
    for bad, word in (({"lam": 0.0}, "lam must be positive"), ({"k": -1.0}, "k must be positive")):
        with pytest.raises(ValueError, match=word):
            best_discriminator(P, E, **bad)
    with pytest.raises(ValueError, match="as many columns"):
        best_discriminator(P, E[:, :1])


def test_a_policy_is_differentiated_through_its_best_discriminator():
    """By the total derivative, of features that are not linear, beside differences; the partial one is another."""
    random = np.random.default_rng(3)
    p, e = random.normal(size=(3, 2)), random.normal(size=(4, 2)) + np.array([1.0, 0.0])
    features = lambda z: jnp.array([z[0], z[1], jnp.sin(z[0] * z[1])])

    @jax.jit
    def game(p, lam):
        w = best_discriminator(p, e, lam, 0.3, features=features).x
        frozen = lambda p: jnp.mean(imitation_reward(jax.vmap(features)(p) @ w))
        J = lambda p, lam: reward_of_the_best(p, e, lam, 0.3, features=features)
        return *jax.value_and_grad(J, (0, 1))(p, lam), jax.grad(frozen)(p)

    h, along = 1e-4, random.normal(size=p.shape)
    J = lambda p, lam: game(p, lam)[0]
    _, (total, by_weight), partial = game(p, 3.0)
    difference = (J(p + h * along, 3.0) - J(p - h * along, 3.0)) / (2 * h)
    np.testing.assert_allclose(np.sum(total * along), difference, rtol=1e-5)
    np.testing.assert_allclose(by_weight, (J(p, 3.0 + h) - J(p, 3.0 - h)) / (2 * h), rtol=1e-5)
    assert abs(np.sum(partial * along) / difference - 1) > 0.1


def test_a_constant_factor_scales_slopes_and_another_adds_its_own():
    r, kappa = lambda x: jnp.sum(x**2), lambda x: 1 / (1 + x[0] ** 2)
    x = jnp.array([0.5, -1.0])
    np.testing.assert_allclose(jax.grad(lambda x: precondition_reward(r(x), 0.5))(x), x)
    whole = jax.grad(lambda x: precondition_reward(r(x), kappa(x), constant=False))(x)
    np.testing.assert_allclose(whole, kappa(x) * jax.grad(r)(x) + r(x) * jax.grad(kappa)(x))
    scaled = jax.grad(lambda x: precondition_reward(r(x), kappa(x)))(x)
    np.testing.assert_allclose(scaled, kappa(x) * jax.grad(r)(x))
    for bad in (0.0, 1.1, np.array([0.5, np.nan])):
        with pytest.raises(ValueError, match="kappa must be above 0 and at most 1"):
            precondition_reward(jnp.ones(2), bad)
        assert np.any(np.isnan(jax.jit(precondition_reward)(jnp.ones(2), bad)))
    with pytest.raises(ValueError, match="kappa must be above 0"):
        Constant(2.0)


def test_the_factor_of_steep_dynamics():
    """By NumPy, over more steps than are remembered; the first penalty as it is; one where dynamics are not steep."""
    smooth = SmoothDynamics(threshold=0.5, floor=0.2, window=4)
    kappa = jax.jit(lambda recent, c, s, a: smooth(recent, lambda s, a: c * (s + a.sum()), s, a))
    s, a = np.ones((3, 2)), np.ones((3, 1))
    recent, penalties = smooth.init(), []
    for c in (0.3, 0.4, 1.0, 0.9, 0.7, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6):
        recent, found = kappa(recent, c, s, a)
        penalties.append(max(0.0, c * np.sqrt(6) - 0.5) ** 2)
        deviation = np.std(penalties[-4:]) if len(penalties) > 1 else 1.0
        ratio = penalties[-1] / deviation if deviation > 1e-12 else np.inf
        np.testing.assert_allclose(found, np.clip(np.exp(-ratio), 0.2, 1), rtol=1e-9)
    assert kappa(smooth.init(), 0.1, s, a)[1] == 1
    assert kappa(*kappa(smooth.init(), 0.1, s, a)[:1], 0.1, s, a)[1] == 1
    for bad in ({"threshold": -1.0}, {"floor": 0.0}, {"floor": 1.5}, {"window": 1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            SmoothDynamics(**bad)


@pytest.mark.thorough
def test_learned_dynamics_are_as_steep_as_the_true_ones():
    task = make()
    made = LearnedDynamics(lambda key: Model(Network([6, 4], key)), optax.adam(1e-2), SmoothDynamics(threshold=2.0))
    random = np.random.default_rng(0)

    @eqx.filter_jit
    def update(memory, s, a):
        return made.update(memory, s, a, jax.vmap(lambda s, a: task.dynamics((s, a)))(s, a))

    memory = made.init(jax.random.key(0))
    for _ in range(1500):
        memory, kappa = update(memory, random.normal(size=(32, 4)), random.uniform(-1, 1, (32, 2)))
    point = (np.zeros(4), np.zeros(2))
    for fun in (lambda z: memory.model(*z), task.dynamics):
        total = jax.grad(lambda z, fun=fun: fun(z).sum())(point)
        np.testing.assert_allclose(
            np.linalg.norm(np.concatenate(total)), np.sqrt(2 + 2 * 1.2**2 + 2 * 0.2**2), rtol=1e-3
        )
    # above the threshold, and the same from step to step: the floor
    np.testing.assert_allclose(kappa, 0.7)


@pytest.mark.thorough
def test_normalized_layers_have_spectral_norm_one():
    plain = Discriminator(3, 2, (6, 5), key=jax.random.key(0))
    assert plain.refreshed() is plain
    points = tuple(np.random.default_rng(0).normal(size=(50, n)) for n in (3, 2))
    weigh = np.arange(30.0).reshape(6, 5)

    @jax.jit
    def found(W):
        D = Discriminator(3, 2, (6, 5), key=jax.random.key(0), spectral=True)
        D = eqx.tree_at(lambda tree: tree.network.layers[0].weight, D, W).refreshed(300)
        divided = lambda W: eqx.tree_at(lambda tree: tree.network.layers[0].weight, D, W).normalized().network.layers
        slope = jax.grad(lambda W: jnp.sum(divided(W)[0].weight * weigh))(W)
        weights = [[layer.weight for layer in layers] for layers in (D.network.layers, divided(W))]
        return *weights, local_lipschitz(D, points), slope

    W = np.random.default_rng(1).normal(size=(6, 5))
    weights, divided, steepest, slope = found(W)
    for given, one in zip(weights[:2], divided[:2], strict=True):
        np.testing.assert_allclose(one, given / np.linalg.norm(given, 2), rtol=1e-6)
    np.testing.assert_array_equal(divided[2], weights[2])
    assert steepest <= np.linalg.norm(weights[2]) * (1 + 1e-6)
    # the derivative is that of the norm, too
    exact = lambda W: np.sum(W / np.linalg.norm(W, 2) * weigh)
    along = np.random.default_rng(2).normal(size=(6, 5))
    difference = (exact(W + 1e-6 * along) - exact(W - 1e-6 * along)) / 2e-6
    np.testing.assert_allclose(np.sum(slope * along), difference, rtol=1e-5)


def test_actions_in_the_absorbing_state_tell_nothing():
    D = Discriminator(3, 2, (6,), key=jax.random.key(0), absorbing=True)
    score = jax.jit(lambda state, action: D((state, action)))
    over, on = np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, 0.0])
    assert score(over, np.ones(2)) == score(over, np.zeros(2))
    assert score(on, np.ones(2)) != score(on, np.zeros(2))


def test_the_task_is_the_one_of_the_specification():
    """Its expert, by SciPy's Riccati equation; its demonstrations; the score of both ends."""
    task = make()
    A, B, gamma = np.asarray(task.problem.A), np.asarray(task.problem.B), 0.97
    Q, R = np.diag([1, 1, 0.1, 0.1]), 0.05 * np.eye(2)
    X = scipy.linalg.solve_discrete_are(np.sqrt(gamma) * A, np.sqrt(gamma) * B, Q, R)
    K = np.linalg.solve(R + gamma * B.T @ X @ B, gamma * B.T @ X @ A)
    np.testing.assert_allclose(task.gain, K, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose((task.expert, task.idle), (-9.927065, -68.258876), atol=5e-7)
    assert task.demonstrations.state.shape == (160, 4)
    s, a = np.asarray(task.demonstrations.state), np.asarray(task.demonstrations.action)
    np.testing.assert_allclose(a, np.clip(-s @ K.T, -1, 1), atol=1e-10)
    np.testing.assert_allclose(s[1:40], s[:39] @ A.T + a[:39] @ B.T, atol=1e-12)
    assert np.all(s[::40, 2:] == 0)
    np.testing.assert_allclose(task.score(lambda s: jnp.clip(-K @ s, -1, 1)), 1, atol=1e-9)
    task.demonstrations.checked(task.environment)


def test_bad_demonstrations_are_refused():
    where = make().environment
    s, a = np.zeros((5, 4)), np.zeros((5, 2))
    for bad, word in (
        (Demonstrations(s[:0], a[:0]), "at least one example"),
        (Demonstrations(s, a[:4]), r"given the shape \(4, 2\), beside 5 states"),
        (Demonstrations(s[:, :3], a), "state must be a matrix of 4 columns"),
        (Demonstrations(s, a[:, :1]), "action must be a matrix of 2 columns"),
        (Demonstrations(s), "given none"),
        (Demonstrations(s, a + 1.5), r"must be within \[-1, 1\]: given one of size 1.5"),
        (Demonstrations(s + np.nan, a), "must be finite"),
        (Demonstrations(s, a, count=6), "count must be from 1 to 5: given 6"),
    ):
        with pytest.raises(ValueError, match=word):
            bad.checked(where)
    with pytest.raises(ValueError, match="next_state must be a matrix of 4 columns"):
        Demonstrations(s, a).checked(where, state_only=True)
    with pytest.raises(ValueError, match="must have actions to be cloned"):
        clone(jax.random.key(0), lambda s: s, Demonstrations(s), optax.adam(1e-3), steps=1)
    assert absorbing(where).observations == 5


def test_bad_losses_are_refused():
    with pytest.raises(ValueError, match="weight must be zero or more"):
        Penalty(weight=-1.0)
    with pytest.raises(ValueError, match="target must be zero or more"):
        Penalty(target=-1.0)
    with pytest.raises(ValueError, match="kind must be one of"):
        Penalty("none")
    told = (linear, np.ones(2), jax.random.key(0), P)
    with pytest.raises(ValueError, match="examples of expert_batch must be at least 1: given 0"):
        discriminator_loss(*told, E[:0])
    with pytest.raises(ValueError, match="whose middle is above 0 and at most 1"):
        discriminator_loss(*told, E, label_smoothing=(0.9, 1.3))
    with pytest.raises(ValueError, match="entropy must be zero or more"):
        discriminator_loss(*told, E, entropy=-1.0)
    with pytest.raises(ValueError, match="must have the same arrays"):
        discriminator_loss(*told, np.ones((2, 2)))


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("lipschitz-gail", experiment)
