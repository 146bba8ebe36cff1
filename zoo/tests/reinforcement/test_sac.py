"""The core of soft actor-critic, on values that are known; the bandit; a mixture's step."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dini_zoo.reinforcement import bandits
from dini_zoo.reinforcement.environments import Environment, Transition
from dini_zoo.reinforcement.mixtures import GaussianMixturePolicy
from dini_zoo.reinforcement.pmoe import mixture_sac
from dini_zoo.reinforcement.policies import Network, SquashedGaussian
from dini_zoo.reinforcement.sac import SAC, TwinCritic, scanned


class Constant(eqx.Module):
    """One number, whatever it is given."""

    value: jax.Array

    def __call__(self, x):
        return self.value[None] + 0 * x[:1]


class Still(eqx.Module):
    """A policy of one action, whose log-density is a number."""

    log_prob: jax.Array

    def sample(self, key, state):
        return jnp.zeros(1), self.log_prob


def constants(first, second):
    return TwinCritic(Constant(jnp.asarray(first)), Constant(jnp.asarray(second)))


def steps(reward=1.0, terminal=(False, False), truncated=(False, False), reached=0.0):
    many = len(terminal)
    zeros = jnp.zeros((many, 1))
    told = (jnp.asarray(terminal), jnp.asarray(truncated))
    return Transition(zeros, zeros, jnp.full(many, reward), jnp.full((many, 1), reached), *told)


def test_targets_go_on_past_a_time_out_and_stop_at_the_end():
    """The smaller critic, less the temperature's part; what lies behind an end of the process may be anything."""
    core = SAC(optax.sgd(0.1), discount=0.9)
    state = core.init(Still(jnp.asarray(-2.0)), constants(3.0, 5.0), alpha=0.5)
    batch = steps(terminal=(False, False, True), truncated=(False, True, False))
    found = jax.jit(core.targets)
    on = 1 + 0.9 * (3 + 0.5 * 2)
    np.testing.assert_allclose(found(state, batch, jax.random.key(0)), [on, on, 1.0])
    lost = batch._replace(next_observation=jnp.array([[0.0], [0.0], [jnp.nan]]))
    np.testing.assert_allclose(found(state, lost, jax.random.key(0)), [on, on, 1.0])


def test_values_of_endless_rewards():
    """A reward of one for ever is worth 1 / (1 - γ), whether the clock strikes or not; one that ends is worth one."""
    core = SAC(optax.sgd(0.2), discount=0.9, tau=0.2)

    @jax.jit
    def found(batch):
        state = core.init(Still(jnp.asarray(0.0)), constants(0.0, 1.0), alpha=1e-12)
        step = lambda state, key: (core.step(state, batch, key)[0], None)
        state, _ = scanned(step, state, jax.random.split(jax.random.key(0), 1500))
        return state.critics.both(jnp.zeros(1), jnp.zeros(1))

    np.testing.assert_allclose(found(steps()), 10.0, rtol=1e-6)
    np.testing.assert_allclose(found(steps(truncated=(True, False))), 10.0, rtol=1e-6)
    np.testing.assert_allclose(found(steps(terminal=(True, True))), 1.0, rtol=1e-6)


def test_each_part_moves_what_it_is_for():
    """By plain descent, in closed form: critics to values, the temperature by entropy, targets a share of the way."""
    core = SAC(optax.sgd(0.1), tau=0.25, target_entropy=1.0)
    state = core.init(Still(jnp.asarray(-2.0)), constants(3.0, 5.0), alpha=0.5)
    batch = steps()
    fitted, loss = core.fit_critics(state, batch.observation, batch.action, jnp.array([4.0, 4.0]))
    np.testing.assert_allclose(loss, 2.0)
    np.testing.assert_allclose(fitted.critics.both(jnp.zeros(1), jnp.zeros(1)), [3.2, 4.8])
    assert fitted.targets is state.targets
    followed = core.follow(fitted)
    np.testing.assert_allclose(followed.targets.both(jnp.zeros(1), jnp.zeros(1)), [3.05, 4.95])
    # an entropy of two, above its target of one: the temperature falls
    warm = core.fit_temperature(state, jnp.array([-2.0]))
    np.testing.assert_allclose(warm.log_alpha, np.log(0.5) - 0.1)
    assert SAC(optax.sgd(0.1)).fit_temperature(state, jnp.array([-2.0])) is state
    # the density itself is this policy's parameter: its slope is the temperature
    moved, _, figures = core.fit_policy(state, batch.observation, jax.random.key(0))
    np.testing.assert_allclose(moved.policy.log_prob, -2 - 0.1 * 0.5)
    np.testing.assert_allclose(figures.log_prob, -2.0)
    assert moved.critics is state.critics


def policies():
    keys = jax.random.split(jax.random.key(0), 2)
    trunk = lambda K: Network([2, 8, 4 * K], keys[0])
    mixed = lambda K: GaussianMixturePolicy(trunk(K), Network([2, K], keys[1]), components=K, action_size=2)
    return SquashedGaussian(trunk(1)), mixed(1), mixed(3)


def stepped(core, policy):
    """One step on some transitions, in one program."""
    keys = jax.random.split(jax.random.key(1), 3)
    critics = TwinCritic(Network([4, 8, 1], keys[0]), Network([4, 8, 1], keys[1]))
    seen = jax.random.normal(keys[2], (16, 2))
    batch = Transition(seen, 0.1 * seen, seen[:, 0], seen[::-1], seen[:, 0] > 1, seen[:, 0] < 0)
    return eqx.filter_jit(lambda policy: core.step(core.init(policy, critics), batch, jax.random.key(2)))(policy)


@pytest.mark.thorough
def test_a_step_of_a_mixture():
    """Everything moves, and stays finite; either density may enter the critics' targets."""
    *_, three = policies()
    core, proper = (mixture_sac(optax.sgd(0.1), target_entropy=-2.0, entropy=one) for one in ("component", "mixture"))
    state, info = stepped(proper, three)
    arrays = jax.tree.leaves(eqx.filter((state.policy, state.critics), eqx.is_inexact_array))
    assert all(np.all(np.isfinite(leaf)) for leaf in arrays)
    assert np.isclose(info.figures.wins.sum(), 1)
    assert np.any(state.policy.gate.layers[0].weight != three.gate.layers[0].weight)
    assert np.any(state.policy.trunk.layers[0].weight != three.trunk.layers[0].weight)
    assert info.alpha != 1
    drawn = three.sample(jax.random.key(4), jnp.ones(2))
    for one, density in ((core, drawn.component_log_prob), (proper, drawn.log_prob)):
        np.testing.assert_allclose(one.sample(three, jax.random.key(4), jnp.ones(2))[1], density)


@pytest.mark.thorough
def test_a_step_of_one_gaussian():
    """The field's squashed Gaussian runs through the same step as mixtures do."""
    single, one, three = policies()
    for core, policy in ((SAC(optax.sgd(0.1), target_entropy=-2.0), single), (mixture_sac(optax.sgd(0.1)), one)):
        _, info = stepped(core, policy)
        assert np.isfinite(info.critic_loss)
        assert np.isfinite(info.policy_loss)
        assert (info.alpha == 1) == (core.target_entropy is None)
    assert stepped(mixture_sac(optax.sgd(0.1), backprop="all"), three)[1].figures.weights.shape == (3,)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (lambda: SAC(optax.sgd(1.0), discount=1.0), "discount"),
        (lambda: SAC(optax.sgd(1.0), tau=0.0), "tau"),
        (lambda: SAC(optax.sgd(1.0)).init(None, constants(0.0, 0.0), alpha=0.0), "alpha"),
        (lambda: bandits.reward(jnp.zeros(2), jnp.zeros(3)), "actions"),
        (lambda: bandits.reward(jnp.zeros(1), jnp.zeros(2)), "states"),
    ],
)
def test_bad_input_is_named(bad, named):
    with pytest.raises(ValueError, match=named):
        bad()


def test_the_bandit():
    """Its tops, that no action gets more, and the optimum of the evaluation contexts."""
    states = bandits.evaluation_contexts()
    assert abs(jnp.mean(bandits.optimum(states)) - 0.916) < 5e-4
    g = 1 / (1 + np.exp(-4 * states[:, 0]))
    for center, height in zip(bandits.CENTERS, (0.55 + 0 * g, 0.3 + 0.7 * g, 1 - 0.7 * g), strict=True):
        np.testing.assert_allclose(bandits.reward(states, center), np.maximum(height, bandits.reward(states, center)))
        assert np.all(bandits.bumps(states, center).max(axis=-1) >= height - 1e-12)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 81)] * 2), axis=-1).reshape(-1, 1, 2)
    everywhere = np.asarray(bandits.reward(states[:32], grid))
    best = np.asarray(bandits.optimum(states[:32]))
    assert np.all(everywhere <= best + 1e-12)
    assert np.all(everywhere.max(axis=0) > 0.98 * best)
    # the trap: uphill from the origin leads to the low bump
    slope = jax.grad(lambda a: bandits.reward(jnp.array([1.0, 0.0]), a))(jnp.zeros(2))
    assert slope[0] > 0.5


@pytest.mark.thorough
def test_control_of_a_point():
    """A point on a line that is to stay at zero: a mixture learns it, and clocks are no ends."""
    from dini_zoo.reinforcement.pmoe.control import ControlBudget, control

    point = Environment(
        reset=lambda key: 2 * (jax.random.normal(key, (1,)),),
        step=lambda key, x, a: (x + a, x + a, -jnp.sum((x + a) ** 2), jnp.asarray(False)),
        horizon=5,
        observations=1,
        actions=1,
        bound=1.0,
    )
    budget = ControlBudget(steps=600, random=100, batch=32, hidden=16, rate=3e-3, reward_scale=1.0)
    with jax.enable_x64(False):
        keys = jax.random.split(jax.random.key(0), 2)
        found = control(keys, environment=point, budget=budget, components=2, backprop="all")
    assert found.reward.shape == (2, 600)
    np.testing.assert_array_equal(np.flatnonzero(found.ended[0]), np.arange(4, 600, 5))
    np.testing.assert_allclose(found.wins.sum(axis=1), 1, rtol=1e-5)
    assert np.all(found.reward[:, -100:].mean(axis=1) > 0.5 * found.reward[:, :100].mean(axis=1))
