"""TD3: returns over several steps, targets, the delayed step, each by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dini_zoo.reinforcement.td3 import TD3, Actor, Batch, actor_and_critics, first_of, n_step, twin_values, twins


def test_a_return_goes_past_a_time_out_and_not_past_an_end():
    several = jax.jit(n_step)
    rewards, states = np.array([1.0, 2.0, 4.0, 8.0]), np.arange(4.0)[:, None]
    off, gamma = np.zeros(4, bool), 0.5
    at = lambda i: np.arange(4) == i
    cases = [
        (off, off, 1 + 2 / 2 + 4 / 4 + 8 / 8, 3, gamma**4),
        (off, at(1), 2.0, 1, gamma**2),  # cut by the clock: what follows counts
        (at(1), off, 2.0, 1, 0.0),  # over: nothing follows
        (at(0), off, 1.0, 0, 0.0),
        (off, at(3), 4.0, 3, gamma**4),
        (at(3), off, 4.0, 3, 0.0),
        (at(2), at(1), 2.0, 1, gamma**2),  # what ended the next episode says nothing of this one
    ]
    for terminal, truncated, expected, last, discount in cases:
        R, state, found = several(rewards, states, terminal, truncated, gamma)
        np.testing.assert_allclose((R, state[0], found), (expected, last, discount))
    # what is behind the end may be anything
    wild = np.where(np.arange(4) > 1, np.nan, rewards)
    assert several(wild, states, off, at(1), gamma)[0] == 2
    R, state, discount = n_step(rewards[:1], states[:1], off[:1], off[:1], 0.9)
    np.testing.assert_allclose((R, state[0], discount), (1, 0, 0.9))


class Bilinear(eqx.Module):
    """A value whose derivatives are known: `w (s, a)`."""

    w: jax.Array

    def __call__(self, state, action):
        return self.w @ jnp.concatenate([state, action])


class Linear(eqx.Module):
    """A policy `K s`."""

    K: jax.Array

    def __call__(self, state):
        return self.K @ state


def start(rate=0.1, **options):
    random = np.random.default_rng(0)
    agent = TD3(optax.sgd(rate), optax.sgd(rate), **options)
    state = agent.init(
        Linear(jnp.asarray(random.normal(size=(1, 2)))), Bilinear(jnp.asarray(random.normal(size=(2, 3))))
    )
    s, a, r, following = (random.normal(size=shape) for shape in ((5, 2), (5, 1), (5,), (5, 2)))
    return agent, state, Batch(s, np.clip(a, -1, 1), r, following, np.array([0.9, 0.9, 0.0, 0.9, 0.81]))


def test_targets_are_those_of_both_critics_and_of_clipped_noise():
    agent, state, batch = start(noise=0.0, weight_of_min=0.75)
    targets = jax.jit(lambda state, key, batch: agent.targets(state, key, batch))
    found = targets(state, jax.random.key(0), batch)
    action = np.clip(batch.next_state @ state.actor.K.T, -1, 1)
    Q = np.concatenate([batch.next_state, action], axis=1) @ state.critics.w.T
    y = batch.reward + batch.discount * (0.75 * Q.min(axis=1) + 0.25 * Q.max(axis=1))
    np.testing.assert_allclose(found, y, rtol=1e-12)
    # nothing behind a terminal state counts, not even what is no number
    following = batch.next_state.copy()
    following[2] = np.nan
    np.testing.assert_allclose(targets(state, jax.random.key(0), batch._replace(next_state=following)), y, rtol=1e-12)
    # with noise: within what clipped noise can do, and not without any
    agent, state, batch = start(noise=5.0, noise_clip=0.1, weight_of_min=1.0)
    quiet = start(noise=0.0)[0].targets(state, jax.random.key(0), batch)
    gap = np.abs(agent.targets(state, jax.random.key(0), batch) - quiet)
    assert np.all(gap <= batch.discount * 0.1 * np.abs(state.critics.w[:, 2]).max() + 1e-12)
    assert gap.max() > 0.01


def test_a_step_descends_and_moves_the_actor_every_second_time():
    agent, state, batch = start(noise=0.0, polyak=0.1)
    update = jax.jit(lambda state, batch: agent.update(state, jax.random.key(0), batch))
    y = agent.targets(state, jax.random.key(0), batch)
    points = np.concatenate([batch.state, batch.action], axis=1)
    error = lambda w: np.sum(np.mean((points @ w.T - y[:, None]) ** 2, axis=0))
    one, shown = update(state, batch)
    w = np.asarray(state.critics.w)
    slope = 2 * (points @ w.T - y[:, None]).T @ points / 5
    np.testing.assert_allclose(shown.critic_loss, error(w), rtol=1e-12)
    np.testing.assert_allclose(one.critics.w, w - 0.1 * slope, rtol=1e-12)
    np.testing.assert_allclose(twin_values(state.critics, batch.state, batch.action), w @ points.T)
    for name in ("actor", "target_actor", "target_critics"):
        assert eqx.tree_equal(getattr(one, name), getattr(state, name))
    two, _ = update(one, batch)
    assert int(two.step) == 2
    # the actor goes where the first critic rises: d/dK mean w_a K s
    moved = state.actor.K + 0.1 * two.critics.w[0, 2] * batch.state.mean(axis=0)
    np.testing.assert_allclose(two.actor.K, moved, rtol=1e-12)
    np.testing.assert_allclose(two.target_actor.K, state.actor.K + 0.1 * (moved - state.actor.K), rtol=1e-12)
    np.testing.assert_allclose(two.target_critics.w, w + 0.1 * (two.critics.w - w), rtol=1e-12)
    lenient = start(noise=0.0, huber=1e-3)[0].update(state, jax.random.key(0), batch)[1].critic_loss
    gap = np.abs(points @ w.T - y[:, None])
    np.testing.assert_allclose(lenient, np.sum(np.mean(2 * 1e-3 * (gap - 5e-4), axis=0)), rtol=1e-12)


def test_networks_begin_near_zero_and_stay_in_the_box():
    states = np.random.default_rng(0).normal(size=(9, 3))

    @jax.jit
    def found(key):
        actor, critics = actor_and_critics(key, 3, 2, (8,), bound=2.0)
        actions = jax.vmap(actor)(states)
        return actions, twin_values(critics, states, actions), jax.vmap(first_of(critics))(states, actions)

    actions, values, first = found(jax.random.key(0))
    assert actions.shape == (9, 2)
    assert np.abs(actions).max() < 0.2
    assert np.abs(Actor(lambda s: 1e3 * s, 2.0)(states[0])).max() == 2
    assert values.shape == (2, 9)
    np.testing.assert_allclose(first, values[0], rtol=1e-6)
    assert np.abs(values[0] - values[1]).max() > 0.1
    assert twins(lambda key: Linear(jax.random.normal(key, (1, 2))), jax.random.key(0)).K.shape == (2, 1, 2)


def test_bad_settings_are_refused():
    adam = optax.adam(1e-3)
    with pytest.raises(ValueError, match="low must be below high"):
        TD3(adam, adam, low=1.0, high=1.0)
    with pytest.raises(ValueError, match="polyak must be from 0 to 1"):
        TD3(adam, adam, polyak=1.5)
    with pytest.raises(ValueError, match="delay must be at least 1: given 0"):
        TD3(adam, adam, delay=0)
    with pytest.raises(ValueError, match="noise must be zero or more"):
        TD3(adam, adam, noise=-0.1)
    with pytest.raises(ValueError, match="bound must be positive"):
        Actor(lambda s: s, 0.0)
