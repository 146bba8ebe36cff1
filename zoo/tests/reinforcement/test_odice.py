"""O-DICE: every exact check of its specification, and what the update is on paper."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dini_zoo.reinforcement.environments import Transition
from dini_zoo.reinforcement.odice import (
    Learner,
    Transitions,
    action_weights,
    conjugate_f,
    dice_gradients,
    odice_imitation_step,
    odice_step,
    weighted_bc_loss,
    weighted_policy,
)
from dini_zoo.reinforcement.policies import Network, SquashedGaussian

NEXT = np.array([[1, 0], [2, 0], [2, 1]])
REWARDS = np.array([[0.0, 0.1], [0.2, 0.0], [1.0, 0.0]])
DATA = np.array([[0.15, 0.25], [0.1, 0.2], [0.1, 0.2]])


def lookup(values, states):
    return values[states]


def records(rewards=REWARDS):
    """The decision problem of the specification as weighted records."""
    states, actions = (one.ravel() for one in np.indices((3, 2)))
    parts = (states, actions, rewards.ravel(), NEXT.ravel(), np.zeros(6, bool), DATA.ravel())
    return Transitions(*map(jnp.asarray, parts))


gradients = jax.jit(dice_gradients, static_argnums=0, static_argnames=("mode", "axis_name"))


def told(**others):
    return {"lam": 0.6, "gamma": 0.9, **others}


# conjugates


def test_the_conjugate_of_the_specification():
    """Exact check 2."""
    y = jnp.arange(-3.0, 3.0)
    value, weight = conjugate_f("pearson_chi2")
    np.testing.assert_array_equal(value(y), [-1, -1, -0.75, 0, 1.25, 3])
    off = y + 0.3  # away from the kink
    for name in ("pearson_chi2", "reverse_kl"):
        value, weight = conjugate_f(name)
        np.testing.assert_allclose(jax.vmap(jax.grad(value))(off), weight(off), rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "f"), [("pearson_chi2", lambda x: (x - 1) ** 2), ("reverse_kl", lambda x: x * np.log(x))]
)
def test_the_conjugate_is_the_largest_of_all_lines(name, f):
    x = np.linspace(1e-12, 10, 200_001)
    y = np.array([-4.0, -1.0, 0.5, 2.0])
    np.testing.assert_allclose(conjugate_f(name).value(y), [np.max(x * one - f(x)) for one in y], atol=1e-7)


def test_the_weights_of_actions():
    y = jnp.array([-3.0, -1.0, 2.0])
    np.testing.assert_array_equal(action_weights(y), [0, 0, 2])
    np.testing.assert_array_equal(action_weights(y, "conjugate"), [0, 0.5, 2])
    np.testing.assert_array_equal(action_weights(y, "uniform"), [1, 1, 1])
    np.testing.assert_allclose(action_weights(y, "conjugate", "reverse_kl"), np.exp(y - 1))
    with pytest.raises(ValueError, match="divergence='reverse_kl'"):
        action_weights(y, "relu", "reverse_kl")


# the gradients


def test_the_gradient_of_the_specification():
    """Exact check 3, one full gradient; the others are made of its parts."""
    values = jnp.array([1.0, 2.0, 3.0])
    found, aux = gradients(lookup, values, values, records(), **told())
    np.testing.assert_allclose(aux.forward, [-0.276, -0.141, -0.129], atol=1e-15)
    np.testing.assert_allclose(aux.backward, [0.1836, 0.1566, 0.1512], atol=1e-15)
    np.testing.assert_allclose(aux.coefficient, -0.8186391950, atol=5e-11)
    np.testing.assert_allclose(found, [-0.1583444178, 0.0201718735, 0.0365955438], atol=5e-11)
    level = 0.4 * DATA.sum(axis=1)
    by_mode = {mode: gradients(lookup, values, values, records(), **told(mode=mode))[0] for mode in MODES}
    np.testing.assert_allclose(by_mode["semi"], level + aux.forward, atol=1e-15)
    np.testing.assert_allclose(by_mode["sum"], level + aux.forward + aux.backward, atol=1e-15)
    # without a copy both are seen at once, and the sum of the two is the gradient
    np.testing.assert_allclose(by_mode["true"], by_mode["sum"], atol=1e-15)
    none, _ = gradients(lookup, values, values, records(), **told(eta=0.0))
    np.testing.assert_array_equal(none, by_mode["semi"])


MODES = ("semi", "sum", "true")


def test_the_copy_stands_where_it_should():
    """The four gradients, with another copy, are those of the losses as they are on paper."""
    values, copy = jnp.array([0.3, -0.2, 0.5]), jnp.array([-0.4, 0.1, 0.2])
    batch = dataclasses.replace(records(), terminal=jnp.array([False, False, True, False, False, False]))
    alive = ~batch.terminal
    fstar = conjugate_f("pearson_chi2").value

    def loss(here, there):
        y = batch.reward + 0.9 * alive * there[batch.next_observation] - here[batch.observation]
        return 0.6 * jnp.sum(batch.weight * fstar(y))

    level = 0.4 * DATA.sum(axis=1)
    forward, backward = jax.grad(loss)(values, copy), 0.7 * jax.grad(loss, 1)(copy, values)
    rest = backward - (backward @ forward) / (forward @ forward) * forward
    expected = {
        "orthogonal": level + forward + rest,
        "semi": level + forward,
        "sum": level + forward + backward,
        "true": level + jax.grad(lambda v: loss(v, v))(values),
    }
    for mode, gradient in expected.items():
        found, aux = gradients(lookup, values, copy, batch, **told(eta=0.7, mode=mode))
        np.testing.assert_allclose(found, gradient, rtol=1e-13)
    y = batch.reward + 0.9 * alive * copy[batch.next_observation] - values[batch.observation]
    np.testing.assert_allclose(aux.residual, y, rtol=1e-15)


def test_a_dangling_state_is_seen_by_the_backward_gradient_alone():
    """Exact check 5, and that a time-out is not an end: a terminal state is seen by nobody, be its value NaN."""
    values = jnp.array([0.5, -0.3, 0.2, 0.4, jnp.nan])
    # the third state is entered by two records and never left; the last is an end
    parts = ([0, 1, 1, 0, 0], [0, 0, 1, 1, 2], [0.1, 0.2, 0.0, 0.3, 1.0], [1, 2, 0, 3, 4])
    weight = jnp.array([0.3, 0.2, 0.25, 0.15, 0.1])
    batch = Transitions(*map(jnp.asarray, parts), jnp.array([False] * 4 + [True]), weight)
    dangling = slice(2, 4)
    semi, _ = gradients(lookup, values, values, batch, **told(mode="semi"))
    np.testing.assert_array_equal(semi[2:], 0.0)
    found, aux = gradients(lookup, values, values, batch, **told(eta=0.5))
    residual = np.array([0.2, 0.3]) + 0.9 * np.array([0.2, 0.4]) - np.array([-0.3, 0.5])
    expected = 0.6 * 0.5 * 0.9 * np.array([0.2, 0.15]) * (residual / 2 + 1)
    np.testing.assert_allclose(found[dangling], expected, rtol=1e-14)
    np.testing.assert_array_equal(found[dangling], aux.backward[dangling])
    assert found[4] == 0
    assert np.all(np.isfinite(found))


def test_the_step_is_free_of_interference():
    """Exact check 4: the forward loss changes by the second order of the step along what was added."""
    values = jnp.array([1.0, 2.0, 3.0])
    found, aux = gradients(lookup, values, values, records(), **told())
    direction = found - 0.4 * DATA.sum(axis=1) - aux.forward
    forward = lambda v: gradients(lookup, v, values, records(), **told())[1].loss - 0.4 * DATA.sum(axis=1) @ v
    # the first point's loss, and two steps
    before, long, short = (forward(values - h * direction) for h in (0.0, 1e-2, 5e-3))
    np.testing.assert_allclose((long - before) / (short - before), 4.0, rtol=1e-6)
    assert abs(jnp.vdot(direction, aux.forward)) < 1e-16


def test_ensembles_and_divided_batches():
    """Twins: the loss of both, and the least as a bootstrap. Parts of a batch: the projection of the whole."""
    values, copy = jnp.array([[0.3, -0.2, 0.5], [0.1, 0.4, -0.6]]), jnp.array([[0.2, 0.1, 0.3], [-0.1, 0.3, 0.4]])
    batch, least = records(), jnp.array([-0.1, 0.1, 0.3])
    twins = lambda params, states: params[:, states]
    found, aux = gradients(twins, values, copy, batch, **told(mode="semi"))
    each = [gradients(lookup, one, least, batch, **told(mode="semi")) for one in values]
    np.testing.assert_allclose(found, [gradient / 2 for gradient, _ in each], rtol=1e-14)
    np.testing.assert_allclose(aux.residual, sum(other.residual for _, other in each) / 2, rtol=1e-14)
    # equal twins are one value function
    pair, _ = gradients(twins, jnp.stack([values[0]] * 2), jnp.stack([copy[0]] * 2), batch, **told())
    alone, _ = gradients(lookup, values[0], copy[0], batch, **told())
    np.testing.assert_allclose(pair, jnp.stack([alone / 2] * 2), rtol=1e-14)

    parts = jax.tree.map(lambda leaf: leaf.reshape(3, 2), batch)
    shard = lambda part: gradients(lookup, values[0], copy[0], part, **told(axis_name="data"))[0]
    for one in jax.vmap(shard, axis_name="data")(parts):
        np.testing.assert_allclose(one, alone, rtol=1e-13)


def test_single_precision_and_small_units():
    """In single precision the gradient stays single; and a guard of zero makes the projection free of units."""
    single = lambda tree: jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, tree
    )
    values = single(jnp.array([1.0, 2.0, 3.0]))
    found, aux = gradients(lookup, values, values, single(records()), **told())
    assert {leaf.dtype for leaf in jax.tree.leaves((found, aux))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(found, [-0.1583444178, 0.0201718735, 0.0365955438], atol=1e-6)
    # parameters in units a million times larger: gradients are as much smaller, and the update is the same
    scaled = lambda params, states: 1e6 * params[states]
    for unit in (scaled, lambda params, states: 1e-6 * params[states]):
        factor = unit(jnp.ones(1), jnp.zeros(1, int))[0]
        params = jnp.array([1.0, 2.0, 3.0]) / factor
        same, _ = gradients(unit, params, params, records(), **told(eps=0.0))
        np.testing.assert_allclose(same / factor, [-0.1583444178, 0.0201718735, 0.0365955438], atol=5e-10)


# policies


def test_the_weighted_clone():
    batch = records()
    log_prob = lambda logits, states, actions: jax.nn.log_softmax(logits)[states, actions]
    logits, weights = jnp.zeros((3, 2)), jnp.array([0.0, 1.0, 2.0, 3.0, 200.0, 5.0])
    found, slope = jax.value_and_grad(lambda p: weighted_bc_loss(log_prob, p, batch, weights))(logits)
    share = DATA.ravel() * np.minimum(weights, 100.0)
    np.testing.assert_allclose(found, np.log(2) * share.sum(), rtol=1e-14)
    table = share.reshape(3, 2)
    np.testing.assert_allclose(slope, table.sum(axis=1, keepdims=True) / 2 - table, rtol=1e-13)
    # what has no weight may have no probability
    never = lambda p, states, actions: jnp.where((states == 0) & (actions == 0), -jnp.inf, p[states, actions])
    assert jnp.isfinite(weighted_bc_loss(never, logits, batch, weights))
    # the loss is least at the policy in closed form
    best = jnp.log(weighted_policy(jnp.asarray(DATA), jnp.minimum(weights, 100.0).reshape(3, 2)) + 1e-30)
    np.testing.assert_allclose(jax.grad(lambda p: weighted_bc_loss(log_prob, p, batch, weights))(best), 0.0, atol=1e-12)


def test_states_without_weight_keep_the_behavior():
    found = weighted_policy(jnp.array([[1.0, 3.0], [1.0, 3.0], [0.0, 0.0]]), jnp.array([[3.0, 1.0], [0, 0], [1, 1]]))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])


def learner(**others):
    log_prob = lambda logits, states, actions: jax.nn.log_softmax(logits)[states, actions]
    told = {"value_optimizer": optax.adam(0.02), "policy_optimizer": optax.adam(0.02), "gamma": 0.9, **others}
    return Learner(lookup, log_prob, **told)


def test_a_step_weighs_by_the_values_before_it():
    method = learner(target_rate=0.1)
    state = method.init(jnp.array([0.3, -0.2, 0.5]), jnp.zeros((3, 2)))._replace(target=jnp.array([0.2, 0.1, 0.3]))
    batch = records(10 * REWARDS)
    after, report = jax.jit(odice_step, static_argnums=0)(method, state, batch)
    y = batch.reward + 0.9 * state.target[batch.next_observation] - state.value[batch.observation]
    np.testing.assert_allclose(report.dual.residual, y, rtol=1e-14)
    np.testing.assert_allclose(report.weight, DATA.ravel() @ np.maximum(y, 0), rtol=1e-14)
    np.testing.assert_allclose(report.policy_loss, np.log(2) * report.weight, rtol=1e-14)
    gradient, _ = gradients(lookup, state.value, state.target, batch, **told())
    updates, _ = optax.adam(0.02).update(gradient, state.value_state)
    np.testing.assert_allclose(after.value, state.value + updates, rtol=1e-14)
    np.testing.assert_allclose(after.target, 0.9 * state.target + 0.1 * after.value, rtol=1e-14)
    assert int(after.steps) == 1


@pytest.mark.thorough
def test_a_step_on_parts_of_a_batch_is_that_of_the_whole():
    method = learner(target_rate=0.1)
    state, batch = method.init(jnp.array([0.3, -0.2, 0.5]), jnp.zeros((3, 2))), records(10 * REWARDS)
    after, _ = odice_step(method, state, batch)
    parts = jax.tree.map(lambda leaf: leaf.reshape(3, 2), batch)
    shard = lambda part: odice_step(learner(target_rate=0.1, axis_name="data"), state, part)
    for name, one in zip(state._fields, jax.vmap(shard, axis_name="data")(parts)[0], strict=True):
        expected = jax.tree.leaves(getattr(after, name))
        for found, leaf in zip(jax.tree.leaves(one), expected, strict=True):
            np.testing.assert_allclose(found, jnp.broadcast_to(leaf, found.shape), rtol=1e-12, atol=1e-15)


def test_imitation_by_table_is_cloning_for_the_semi_gradient():
    """Part B: constant weights, whatever rewards stand in the records; and none at all from one half on."""
    method = learner(lam=0.4, mode="semi", target_rate=0.05, policy_optimizer=optax.sgd(1.0))
    step = lambda state, _: odice_imitation_step(method, state, records())

    @jax.jit
    def run(state):
        return jax.lax.scan(step, state, length=4000)

    state, reports = run(method.init(jnp.zeros(3), jnp.zeros((3, 2))))
    np.testing.assert_allclose(state.value, -10.0, atol=1e-3)
    np.testing.assert_allclose(reports.weight[-1], 1.0, atol=1e-4)
    clone = DATA / DATA.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(jax.nn.softmax(state.policy), clone, atol=1e-3)
    for lam in (0.5, 0.6):
        with pytest.raises(ValueError, match=r"lam must be below 0\.5 in imitation"):
            odice_imitation_step(learner(lam=lam), state, records())
    # the paper's weights vanish for no lam
    method = learner(lam=0.6, weight="conjugate")
    assert odice_imitation_step(method, method.init(jnp.zeros(3), jnp.zeros((3, 2))), records())[1].weight > 0


@pytest.mark.thorough
def test_squashed_policies_and_networks_learn_in_one_step():
    """With continuous actions, one of them on the edge of the box; a twin of networks; all in single precision."""
    keys = jax.random.split(jax.random.key(0), 4)
    with jax.enable_x64(False):
        value, value_form = eqx.partition(
            eqx.filter_vmap(lambda k: Network([2, 8, 1], k))(keys[:2]), eqx.is_inexact_array
        )
        policy = SquashedGaussian(Network([2, 8, 2], keys[2]))
        policy, policy_form = eqx.partition(policy, eqx.is_inexact_array)

        def value_fn(params, states):
            of_one = lambda network: jax.vmap(network)(states)[:, 0]
            return eqx.filter_vmap(of_one)(eqx.combine(params, value_form))

        def log_prob(params, states, actions):
            return jax.vmap(eqx.combine(params, policy_form).log_probability)(states, actions)

        states = jax.random.normal(keys[3], (2, 16, 2))
        actions = jnp.linspace(-1, 1, 16)[:, None]
        seen = Transition(states[0], actions, jnp.ones(16), states[1], jnp.arange(16) < 2, jnp.arange(16) > 13)
        batch = Transitions.of(seen)
        assert len(batch.reward) == 16
        assert len(Transitions.of(seen, drop_truncated=True).reward) == 14
        method = Learner(value_fn, log_prob, optax.adam(1e-3), optax.adam(1e-3))
        state, report = jax.jit(odice_step, static_argnums=0)(method, method.init(value, policy), batch)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((state, report)))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((state.value, state.policy)))
    assert report.policy_loss != 0


# what is refused


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda b: dice_gradients(lookup, jnp.zeros(3), jnp.zeros(3), b, **told(lam=1.0)), r"lam must be in \(0, 1\)"),
        (lambda b: dice_gradients(lookup, jnp.zeros(3), jnp.zeros(3), b, **told(gamma=1.0)), "gamma must be in"),
        (lambda b: dice_gradients(lookup, jnp.zeros(3), jnp.zeros(3), b, **told(eta=-1.0)), "eta must be zero or more"),
        (lambda b: dice_gradients(lookup, jnp.zeros(3), jnp.zeros(3), b, **told(mode="main")), "mode must be one of"),
        (lambda b: dice_gradients(lambda v, s: v, jnp.zeros(3), jnp.zeros(3), b, **told()), "value_fn must return"),
        (lambda b: dataclasses.replace(b, reward=b.reward.at[0].set(jnp.nan)), "reward must be finite"),
        (lambda b: dataclasses.replace(b, reward=b.reward[1:]), "terminal must have the shape"),
        (lambda b: Transitions(*[jnp.zeros(0)] * 5), "at least one record"),
        (
            lambda b: dice_gradients(lookup, jnp.zeros(3), jnp.zeros(3), b.rows(slice(0)), **told()),
            "at least one record",
        ),
        (lambda b: dataclasses.replace(b, weight=-b.weight), "weight must be zero or more"),
        (lambda b: learner(lam=0.0), "lam must be in"),
        (lambda b: learner(target_rate=0.0), "target_rate must be in"),
        (lambda b: learner(divergence="reverse_kl"), "weight='relu'"),
        (lambda b: conjugate_f("hellinger"), "name must be one of"),
        (lambda b: weighted_bc_loss(lookup, jnp.zeros(3), b, jnp.ones(5)), "weights must have the shape"),
        (lambda b: weighted_bc_loss(lookup, jnp.zeros(3), b, -jnp.ones(6)), "weights must be zero or more"),
    ],
)
def test_what_does_not_fit_is_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make(records())
