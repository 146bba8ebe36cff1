"""PMOE: the gate's frequencies and their fixed point, what learns from which loss, unbiased estimators, PPO."""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from dini_zoo.reinforcement import bandits
from dini_zoo.reinforcement.mixtures import GaussianMixturePolicy, Mixture
from dini_zoo.reinforcement.pmoe import (
    PPO,
    PPOBatch,
    PPOModel,
    blended_policy_loss,
    expected_gate_loss,
    frequency_gate_loss,
    gate_fixed_point,
    gumbel_policy_loss,
    mixture_policy_loss,
    reinforce_policy_loss,
    score_ratio_policy_loss,
    win_probability,
    win_shares,
)
from dini_zoo.reinforcement.policies import Network, SquashedGaussian
from dini_zoo.reinforcement.sac import plain_policy_loss

#: Exact check 2: two normal primitives and a value that is the action.
MEAN, STD = np.array([0.3, 0.0]), np.array([0.5, 0.4])
WINS = scipy.stats.norm.cdf(0.3 / math.sqrt(0.41))
SLOPE = scipy.stats.norm.pdf(0.3 / math.sqrt(0.41)) / math.sqrt(0.41)


def by_hermite(mean, std, nodes=200):
    """The probability of each of several normal numbers to be the largest, by Gauss and Hermite's rule."""
    z, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    rows = []
    for i in range(len(mean)):
        below = [scipy.stats.norm.cdf((mean[i] + std[i] * z - mean[j]) / std[j]) for j in range(len(mean)) if j != i]
        rows.append(np.sum(weights * np.prod(below, axis=0)))
    return np.array(rows)


def test_the_gate_learns_how_often_each_primitive_is_best():
    """Exact check 2: primitives stay, the gate takes 20 000 steps on samples."""
    assert abs(WINS - 0.680294) < 1e-6
    optimizer = optax.sgd(optax.linear_schedule(1.0, 0.0, 20_000))

    @jax.jit
    def train(key):
        def step(carried, key):
            logits, state = carried
            actions = MEAN + STD * jax.random.normal(key, (256, 2))
            loss = lambda logits: frequency_gate_loss(jnp.broadcast_to(logits, (256, 2)), actions)
            updates, state = optimizer.update(jax.grad(loss)(logits), state)
            return (optax.apply_updates(logits, updates), state), None

        start = jnp.zeros(2)
        (logits, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), jax.random.split(key, 20_000))
        return jax.nn.softmax(logits)

    assert abs(train(jax.random.key(0))[0] - WINS) < 0.01


def test_the_gates_fixed_point_and_its_derivative():
    """Exact check 2's twin: by dini's root, with the implicit derivative in means and in deviations."""
    weights = lambda mean, std: jax.nn.softmax(gate_fixed_point(win_probability(mean, std)))
    both = jax.jit(lambda mean, std: (weights(mean, std), *jax.jacobian(weights, (0, 1))(mean, std)))
    found, by_mean, by_std = both(MEAN, STD)
    np.testing.assert_allclose(found, by_hermite(MEAN, STD), atol=1e-8)
    assert abs(found[0] - 0.6802943) < 1e-6
    assert abs(by_mean[0, 0] - 0.558279) < 1e-6
    np.testing.assert_allclose(by_mean, SLOPE * np.array([[1, -1], [-1, 1]]), atol=1e-8)
    slope = -0.3 / 0.41**1.5 * scipy.stats.norm.pdf(0.3 / math.sqrt(0.41)) * STD
    np.testing.assert_allclose(by_std, [slope, -slope], atol=1e-8)
    # the root of the gradient of Hermite's own numbers, without ours
    P = by_hermite(np.array([0.5, 0.0, -0.4]), np.array([0.3, 0.8, 0.5]))
    logits = gate_fixed_point(P)
    np.testing.assert_allclose(jax.nn.softmax(logits), P, atol=1e-8)
    assert abs(jnp.mean(logits)) < 1e-10
    np.testing.assert_allclose(jax.grad(expected_gate_loss)(logits, P), 0, atol=1e-10)


def test_the_fixed_point_of_rare_wins():
    """A primitive that is best once in ten thousand times, in both precisions."""
    for dtype, rtol in ((jnp.float64, 1e-6), (jnp.float32, 1e-2)):
        P = jnp.array([0.6998, 0.3001, 1e-4], dtype)
        np.testing.assert_allclose(jax.nn.softmax(gate_fixed_point(P)), P, rtol=rtol)


def test_probabilities_of_being_the_largest():
    """Beside quadrature by another rule, and the closed form of two whatever their deviations are."""
    found = jax.jit(win_probability)
    mean, std = np.array([0.5, 0.0, -0.4]), np.array([0.3, 0.8, 0.5])
    for unit in (1.0, 1e-6, 1e6):
        np.testing.assert_allclose(found(unit * mean, unit * std), by_hermite(mean, std), atol=1e-12)
    for ratio in (1.0, 1e-3, 1e-9, 1e9):
        pair = found(np.array([0.3, 0.0]), np.array([1.0, ratio]))
        closed = scipy.stats.norm.cdf(0.3 / math.hypot(1.0, ratio))
        np.testing.assert_allclose(pair, [closed, 1 - closed], atol=1e-12)
    single = win_probability(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, by_hermite(mean, std), atol=1e-5)


def test_shares_of_wins():
    found = win_shares(
        jnp.array([[1.0, 3.0, 2.0], [2.0, 2.0, 1.0], [-jnp.inf, -jnp.inf, -jnp.inf], [jnp.nan, 1.0, 2.0]])
    )
    np.testing.assert_array_equal(found, [[0, 1, 0], [0.5, 0.5, 0], [1 / 3] * 3, [np.nan] * 3])


def test_the_gates_gradient_is_that_of_the_squares():
    """In closed form, with none through the values; the expectation's beside samples."""
    rng = np.random.default_rng(0)
    logits, q = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    by_logits, by_q = jax.jit(jax.grad(frequency_gate_loss, (0, 1)))(logits, q)
    w, v = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), np.eye(3)[q.argmax(-1)]
    away = w - v
    expected = 2 / 15 * w * (away - np.sum(w * away, axis=-1, keepdims=True))
    np.testing.assert_allclose(by_logits, expected, rtol=1e-10)
    np.testing.assert_array_equal(by_q, 0)
    crossed = jax.grad(functools.partial(frequency_gate_loss, kind="cross-entropy"))(logits, q)
    np.testing.assert_allclose(crossed, away / 5, rtol=1e-10)
    P = np.array([0.2, 0.5, 0.3])
    once = lambda v: frequency_gate_loss(logits[:1], v[None])
    np.testing.assert_allclose(
        expected_gate_loss(logits[0], P), sum(p * once(v) for p, v in zip(P, np.eye(3), strict=True))
    )


# losses, on policies of tables: the state is an index


class Table(eqx.Module):
    """One mixture for all states."""

    rows: jax.Array

    def __call__(self, state):
        return self.rows + 0 * state[0]


def tabular(K=3, *, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    trunk = np.concatenate([0.6 * rng.normal(size=K), -0.5 + 0.2 * rng.normal(size=K)])
    return GaussianMixturePolicy(
        Table(jnp.asarray(trunk)), Table(jnp.asarray(rng.normal(size=K))), components=K, action_size=1, scale=scale
    )


def value(state, action):
    """Smooth, with two tops."""
    return jnp.sin(4 * action[0]) + 0.5 * action[0]


def slopes(policy, loss, key, states, alpha):
    fun = lambda policy: loss(policy, value, key, states, alpha)
    slope, figures = eqx.filter_grad(fun, has_aux=True)(policy)
    return slope.trunk.rows, slope.gate.rows, figures


STATES = np.zeros((40, 1))


@pytest.mark.parametrize("backprop", ["max", pytest.param("all", marks=pytest.mark.thorough)])
def test_one_component_is_sac_to_the_last_bit(backprop):
    """Exact check 3: the frequency loss is zero, and the gradient that of the field's SAC with a squashed Gaussian."""
    for_trunk, for_gate = jax.random.split(jax.random.key(0))
    trunk, gate = Network([2, 8, 4], for_trunk), Network([2, 8, 1], for_gate)
    policy = GaussianMixturePolicy(trunk, gate, components=1, action_size=2)
    # a value whose derivative sums nothing: sums of several shapes round in several orders
    q = lambda state, action: jnp.sin(4 * action[0]) * action[1] + state[0]
    told = (q, jax.random.key(2), bandits.contexts(jax.random.key(1), 16), 0.03)
    plain = lambda network: plain_policy_loss(SquashedGaussian(network), *told)
    (expected_loss, one), expected = eqx.filter_value_and_grad(plain, has_aux=True)(trunk)
    mixed = lambda policy: mixture_policy_loss(policy, *told, backprop=backprop)
    (found, figures), slope = eqx.filter_value_and_grad(mixed, has_aux=True)(policy)
    assert figures.gate_loss == 0
    assert found == expected_loss
    np.testing.assert_array_equal(figures.log_prob, one.log_prob)
    for one, other in zip(jax.tree.leaves(slope.trunk), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(slope.gate))


@pytest.mark.parametrize("entropy", [pytest.param("component", marks=pytest.mark.thorough), "mixture"])
def test_the_winner_learns_or_all_do(entropy):
    """Each loss beside the sum that defines it, over the samples that the key draws."""
    policy, key, alpha = tabular(), jax.random.key(3), 0.1

    @eqx.filter_jit
    def found(policy):
        each = [
            slopes(policy, functools.partial(mixture_policy_loss, backprop=one, entropy=entropy), key, STATES, alpha)
            for one in ("max", "all")
        ]
        draws = jax.vmap(policy.sample_all)(jax.random.split(key, len(STATES)), STATES)

        def defined(policy, chosen):
            """Of the components that are chosen, a mask for each state."""
            draws = jax.vmap(policy.sample_all)(jax.random.split(key, len(STATES)), STATES)
            q = jax.vmap(jax.vmap(value, (None, 0)))(STATES, draws.action)
            mixture = jax.vmap(policy)(STATES)
            held = Mixture(jax.lax.stop_gradient(mixture.logits), mixture.mean, mixture.log_std, mixture.scale)
            log_prob = draws.log_prob if entropy == "component" else jax.vmap(held.latent_log_prob, 1, 1)(draws.latent)
            return jnp.mean(jnp.sum(chosen * (alpha * log_prob - q), axis=1))

        wins = jax.nn.one_hot(jnp.argmax(jax.vmap(jax.vmap(value, (None, 0)))(STATES, draws.action), axis=1), 3)
        expected = [eqx.filter_grad(defined)(policy, chosen) for chosen in (wins, jnp.ones_like(wins))]
        gate = jax.grad(lambda logits: jnp.mean((jax.nn.softmax(logits) - wins) ** 2))(policy.gate.rows)
        return each, expected, gate, wins

    each, expected, gate, wins = found(policy)
    for (trunk, of_gate, figures), defined in zip(each, expected, strict=True):
        np.testing.assert_allclose(trunk, defined.trunk.rows, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(of_gate, gate, rtol=1e-9)
        np.testing.assert_allclose(figures.wins, wins.mean(0))
        np.testing.assert_array_equal(defined.gate.rows, 0.0)
    assert np.any(each[0][0] != each[1][0])


def test_who_never_wins_does_not_learn():
    """Nor is anything drawn from another sample than the one that was ranked."""
    policy = eqx.tree_at(lambda p: p.trunk.rows, tabular(), jnp.array([-3.0, 0.5, 0.0, -4.0, -4.0, -4.0]))
    rising = lambda state, action: action[0]
    fun = lambda policy: mixture_policy_loss(policy, rising, jax.random.key(0), STATES, 0.0)
    slope, figures = eqx.filter_jit(eqx.filter_grad(fun, has_aux=True))(policy)
    np.testing.assert_array_equal(figures.wins, [0, 1, 0])
    assert np.all(np.flatnonzero(slope.trunk.rows) == [1, 4])


def expected_objective(policy, alpha, weights_only=False):
    """The soft objective of a table, by quadrature: the mean of Q less the temperature times the log-density."""
    u = jnp.linspace(-6, 6, 4001)
    mixture = policy(jnp.zeros(1))
    log_density = jax.vmap(mixture.latent_log_prob)(u[:, None])
    # of the latent: densities of actions have the slope of the tangent in them
    action = mixture.squash(u[:, None])
    of_latent = log_density + (0 if mixture.scale is None else jnp.log(mixture.scale * (1 - jnp.tanh(u) ** 2)))
    q = jax.vmap(value, (None, 0))(jnp.zeros(1), action)
    return jnp.trapezoid(jnp.exp(of_latent) * (q - alpha * log_density), u)


@pytest.mark.parametrize(
    "loss", [reinforce_policy_loss, pytest.param(score_ratio_policy_loss, marks=pytest.mark.thorough)]
)
def test_estimators_are_unbiased(loss):
    """Beside the derivative of the soft objective, by quadrature; the score ratio's gate alone."""
    alpha, count = 0.2, 400
    policy, states = tabular(), np.zeros((500, 1))

    @eqx.filter_jit
    def found(policy, keys):
        each = jax.lax.map(lambda key: slopes(policy, loss, key, states, alpha)[:2], keys)
        return each, eqx.filter_grad(expected_objective)(policy, alpha)

    (trunk, gate), truth = found(policy, jax.random.split(jax.random.key(0), count))
    for each, exact in [(gate, truth.gate.rows), (trunk, truth.trunk.rows)][: 1 + (loss is reinforce_policy_loss)]:
        # the baseline has the sample's own part in it, one in 500
        middle, error = -each.mean(0) * 500 / 499, each.std(0) / count**0.5
        assert np.all(np.abs(middle - exact) < 4 * error + 1e-6), (middle, exact, error)
        assert np.all(error < 0.2 * np.max(np.abs(exact)))


@pytest.mark.thorough
def test_the_other_estimators_have_the_value_of_their_actions():
    """Gumbel's action is one component's sample, a blend is the weights' mean of all: seen from outside."""
    policy, key = tabular(), jax.random.key(5)
    of = lambda loss, q: loss(policy, q, key, STATES, 0.0)[0]
    weights = np.asarray(jax.nn.softmax(policy.gate.rows))
    square = lambda state, action: action[0] ** 2
    for_noise, _ = jax.random.split(key)
    draws = jax.vmap(policy.sample_all)(jax.random.split(for_noise, len(STATES)), STATES).action[..., 0]
    inside = lambda state, action: jnp.min(jnp.abs(action[0] - draws)) < 1e-12
    assert of(gumbel_policy_loss, inside) == -1
    draws = jax.vmap(policy.sample_all)(jax.random.split(key, len(STATES)), STATES).action[..., 0]
    np.testing.assert_allclose(of(blended_policy_loss, square), -np.mean((np.asarray(draws) @ weights) ** 2))
    # a cold draw's derivative is the hard one's: none for the gate
    slope = eqx.filter_grad(lambda p: gumbel_policy_loss(p, value, key, STATES, 0.1, temperature=1e-3)[0])(policy)
    warm = eqx.filter_grad(lambda p: gumbel_policy_loss(p, value, key, STATES, 0.1)[0])(policy)
    assert np.max(np.abs(slope.gate.rows)) < 1e-6 < np.max(np.abs(warm.gate.rows))


def ppo_model(K=2):
    keys = jax.random.split(jax.random.key(0), 4)
    policy = GaussianMixturePolicy(
        Network([2, 8, K], keys[0]), Network([2, K], keys[1]), components=K, action_size=1, scale=None,
        log_std=jnp.zeros((K, 1)),
    )  # fmt: skip
    return PPOModel(policy, Network([2, 1], keys[2]), Network([3, 1], keys[3]))


def test_ppos_loss():
    """On the old policy it is the plain policy gradient, with the gate's own beside it; far away it is clipped."""
    core, key = PPO(optax.adam(1e-3), normalize=False), jax.random.key(4)
    rng = np.random.default_rng(0)
    states, advantage = rng.normal(size=(32, 2)), rng.normal(size=32)

    @eqx.filter_jit
    def found(model, shift, advantage):
        drawn = jax.lax.stop_gradient(jax.vmap(model.policy)(states).sample(jax.random.key(2)))
        values = jax.lax.stop_gradient(jax.vmap(model.state_value)(states))
        batch = PPOBatch(states, drawn.action, drawn.log_prob + shift, advantage, values + advantage, values)

        def plain(policy):
            draws = jax.lax.stop_gradient(jax.vmap(policy)(states).draw(key))
            q = jax.vmap(jax.vmap(model.action_value, (None, 0)))(states, draws.action)
            of_gate = frequency_gate_loss(jax.vmap(policy.gate)(states), q)
            return of_gate - jnp.mean(advantage * jax.vmap(policy.log_prob)(states, drawn.action))

        slope, figures = eqx.filter_grad(lambda model: core.loss(model, batch, key), has_aux=True)(model)
        return slope, figures, eqx.filter_grad(plain)(model.policy)

    model = ppo_model()
    slope, figures, plain = found(model, jnp.asarray(0.0), advantage)
    for one, other in zip(jax.tree.leaves(slope.policy), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(figures.value, np.mean(advantage**2))
    assert figures.clipped == 0
    assert np.isclose(np.sum(figures.wins), 1)
    # a ratio of e where the advantage is positive: no gradient is left but the gate's own
    slope, figures, _ = found(model, jnp.asarray(-1.0), np.abs(advantage))
    assert figures.clipped == 1
    assert np.all(slope.policy.log_std == 0)
    assert np.all(slope.policy.trunk.layers[0].weight == 0)
    assert np.any(slope.policy.gate.layers[0].weight != 0)


PPO_BATCH = PPOBatch(jnp.zeros((4, 1)), jnp.zeros((4, 1)), *[jnp.zeros(4)] * 4)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (lambda: frequency_gate_loss(jnp.zeros(3), jnp.zeros(2)), "q_values"),
        (lambda: frequency_gate_loss(jnp.array([0.0, jnp.nan]), jnp.zeros(2)), "logits"),
        (lambda: frequency_gate_loss(jnp.zeros(2), jnp.zeros(2), kind="l1"), "kind"),
        (lambda: mixture_policy_loss(tabular(), value, jax.random.key(0), STATES, 0.1, backprop="some"), "backprop"),
        (lambda: mixture_policy_loss(tabular(), value, jax.random.key(0), STATES, 0.1, entropy="no"), "entropy"),
        (lambda: gumbel_policy_loss(tabular(), value, jax.random.key(0), STATES, 0.1, temperature=0.0), "temperature"),
        (lambda: gate_fixed_point(jnp.array([0.5, 0.6])), "sum to one"),
        (lambda: gate_fixed_point(jnp.array([1.0, 0.0])), "positive"),
        (lambda: gate_fixed_point(jnp.ones((1, 1))), "win_probability must have the shape"),
        (lambda: gate_fixed_point(jnp.array([0.5, 0.5]), jnp.zeros(3)), "logits"),
        (lambda: win_probability(jnp.zeros(2), jnp.array([1.0, 0.0])), "std"),
        (lambda: win_probability(jnp.zeros(2), jnp.ones(3)), "std"),
        (lambda: win_probability(jnp.array([0.0, jnp.inf]), jnp.ones(2)), "mean"),
        (lambda: PPO(optax.sgd(1.0), clip=0.0), "clip"),
        (lambda: PPO(optax.sgd(1.0), batch=3).update(None, None, PPO_BATCH, None), "batch"),
    ],
)  # fmt: skip
def test_bad_input_is_named(bad, named):
    with pytest.raises(ValueError, match=named):
        bad()
