"""The learner: what it looks at and what not, time-outs, the scan; episodes that end early; a cloned policy."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dini_zoo.reinforcement.environments import Environment
from dini_zoo.reinforcement.lipschitz_gail import Demonstrations, Discriminator, Learner, absorbing, clone, imitate
from dini_zoo.reinforcement.td3 import TD3, actor_and_critics
from dini_zoo.reinforcement.trajectories import rollout

#: A point on a line that is pushed about, and whose true reward is no number at all.
LINE = Environment(
    reset=lambda key: (jnp.zeros(1), jnp.zeros(1)),
    step=lambda key, s, a: (s + a, s + a, jnp.full((), jnp.nan), jnp.zeros((), bool)),
    horizon=4,
    observations=1,
    actions=1,
    bound=1.0,
)
SHOWN = Demonstrations(jnp.linspace(-1, 1, 6)[:, None], jnp.linspace(0.5, -0.5, 6)[:, None])


def begun(environment=LINE, **options):
    adam = optax.adam(1e-2)
    learner = Learner(environment, TD3(adam, adam, delay=1), adam, batch=4, **options)
    discriminator = Discriminator(environment.observations, 1, (4,), key=jax.random.key(1))
    agent = actor_and_critics(jax.random.key(0), environment.observations, 1, (4,))
    return learner, learner.init(jax.random.key(2), *agent, discriminator, capacity=12)


@functools.cache
def filled():
    """A learner with ten steps behind it, and its compiled step of learning."""
    learner, state = begun(returns=2)
    step = eqx.filter_jit(lambda state, key: learner.collect(state, key, uniform=True))
    for key in jax.random.split(jax.random.key(3), 10):
        state = step(state, key)
    return learner, state, eqx.filter_jit(lambda state: learner.learn(state, jax.random.key(4), SHOWN))


def arrays(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


@pytest.mark.thorough
def test_rewards_are_those_of_the_discriminator_as_it_is_now():
    """The true reward is NaN, and nothing becomes so; another discriminator gives other values at once."""
    _, state, learn = filled()
    assert np.all(np.isnan(state.replay.items.reward[:10]))
    after, shown = learn(state)
    assert all(np.all(np.isfinite(leaf)) for leaf in arrays((after.agent, after.discriminator, shown)))
    other = Discriminator(1, 1, (4,), key=jax.random.key(9))
    other = eqx.tree_at(lambda D: D.network.layers[-1].bias, other, jnp.full(1, 3.0))
    assert learn(state._replace(discriminator=other))[1].critic_loss > 1.5 * shown.critic_loss


@pytest.mark.thorough
def test_a_time_out_is_not_the_end():
    """Behind a time-out the value counts: for returns over one step it changes nothing, an end does."""
    learner, state, _ = filled()
    learn = eqx.filter_jit(
        lambda state: Learner(LINE, learner.agent, learner.optimizer, batch=4, returns=1).learn(
            state, jax.random.key(4), SHOWN
        )
    )
    flagged = lambda name: state._replace(
        replay=eqx.tree_at(lambda tree: getattr(tree.items, name), state.replay, jnp.ones(12, bool))
    )
    # the clock strikes every fourth step, and the process is never over
    assert np.asarray(state.replay.items.truncated[:10]).nonzero()[0].tolist() == [3, 7]
    assert not state.replay.items.terminal.any()
    plain, cut, over = (learn(one)[0].agent for one in (state, flagged("truncated"), flagged("terminal")))
    assert all(np.array_equal(a, b) for a, b in zip(arrays(plain), arrays(cut), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(arrays(plain), arrays(over), strict=True))


@pytest.mark.thorough
def test_a_scan_is_the_steps_one_by_one():
    learner, start = begun(returns=1)
    watch = lambda state: (state.replay.written, state.agent.step)
    run = lambda start: imitate(learner, jax.random.key(5), start, SHOWN, steps=9, warmup=3, watch=watch, every=2)
    found = eqx.filter_jit(run)(start)
    np.testing.assert_array_equal(found.watched[0], [5, 7, 9])
    np.testing.assert_array_equal(found.watched[1], [2, 4, 6])
    first, rest = jax.random.split(jax.random.key(5))
    state = start
    for key in jax.random.split(first, 3):
        state = learner.collect(state, key, uniform=True)
    step = eqx.filter_jit(lambda state, one, other: learner.learn(learner.collect(state, one), other, SHOWN)[0])
    for key in jax.random.split(rest, 6):
        state = step(state, *jax.random.split(key))
    for one, other in zip(arrays(found.final), arrays(state), strict=True):
        if not jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.thorough
def test_rewards_of_states_alone_and_of_episodes_that_end():
    """In an environment that ends: with an absorbing state nothing is terminal, and the learner learns from states."""
    ending = Environment(
        reset=lambda key: (jnp.zeros(1), jnp.zeros(1)),
        step=lambda key, s, a: (s + a, s + a, jnp.ones(()), jnp.abs(s + a)[0] > 0.5),
        horizon=6,
        observations=1,
        actions=1,
        bound=1.0,
    )
    where = absorbing(ending)
    seen = rollout(where, lambda key, s: jnp.ones(1), jax.random.key(0))
    np.testing.assert_array_equal(seen.observation[:, 1], [0, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(seen.reward, [1, 0, 0, 0, 0, 0])
    assert not seen.terminal.any()
    shown = Demonstrations(seen.observation, next_state=seen.next_observation)
    adam = optax.adam(1e-2)
    learner = Learner(where, TD3(adam, adam), adam, batch=4, state_only=True)
    discriminator = Discriminator(2, 2, (4,), key=jax.random.key(1))
    start = learner.init(
        jax.random.key(2), *actor_and_critics(jax.random.key(0), 2, 1, (4,)), discriminator, capacity=20
    )
    told = {"steps": 12, "warmup": 6, "watch": lambda state: state.discriminator((jnp.zeros(2), jnp.zeros(2)))}
    found = eqx.filter_jit(lambda start: imitate(learner, jax.random.key(3), start, shown, every=3, **told))(start)
    assert np.all(np.isfinite(found.watched))
    assert not found.final.replay.items.terminal.any()
    assert found.final.replay.items.observation[:, 1].sum() > 0


def test_a_cloned_policy_is_the_expert():
    """A policy of the expert's form finds it."""
    states = np.random.default_rng(0).normal(size=(40, 2))
    gain = np.array([[0.5, -0.3]])
    shown = Demonstrations(states, states @ gain.T, count=30)
    actor = eqx.nn.Linear(2, 1, key=jax.random.key(0))
    found = jax.jit(lambda key: clone(key, actor, shown, optax.adam(3e-2), steps=600, batch=8))(jax.random.key(1))
    np.testing.assert_allclose(found.weight, gain, atol=1e-3)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        clone(jax.random.key(0), actor, shown, optax.adam(1e-3), steps=0)


def test_bad_learners_are_refused():
    adam = optax.adam(1e-2)
    unbounded = Environment(LINE.reset, LINE.step, horizon=4, observations=1, actions=1)
    with pytest.raises(ValueError, match="must have a box of actions"):
        Learner(unbounded, TD3(adam, adam), adam)
    for bad in ({"batch": 0}, {"returns": 0}, {"discount": 1.5}, {"exploration": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Learner(LINE, TD3(adam, adam), adam, **bad)
    learner, start = begun()
    told = {"watch": lambda state: 0.0, "warmup": 2}
    with pytest.raises(ValueError, match="every must divide the steps behind the warmup, 8"):
        imitate(learner, jax.random.key(0), start, SHOWN, steps=10, every=3, **told)
    with pytest.raises(ValueError, match="at least one example"):
        imitate(learner, jax.random.key(0), start, Demonstrations(SHOWN.state[:0]), steps=10, every=4, **told)
    few = {"watch": lambda state: 0.0, "warmup": 1}
    with pytest.raises(ValueError, match="warmup must be at least 3: given 1"):
        imitate(begun(returns=3)[0], jax.random.key(0), start, SHOWN, steps=10, every=3, **few)
