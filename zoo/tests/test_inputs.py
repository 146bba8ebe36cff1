"""What was accepted without a word, by kind: shapes that broadcast, indices, kinds of numbers, values, lost status.

A case raises, or gives NaN where it is traced. What is right beside it goes through. The battery looks for more.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def refused(call, words, kind=(ValueError, TypeError)):
    with pytest.raises(kind, match=words):
        call()


def lost(found):
    """Whether all lanes but the first of what is floating are NaN somewhere, and the first one is not."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(found) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    bad = np.any([np.isnan(leaf.reshape(len(leaf), -1)).any(axis=1) for leaf in leaves], axis=0)
    return not bad[0] and bad[1:].all()


# shapes


def test_rewards_with_an_axis_too_many():
    from dini_zoo.reinforcement.lipschitz_gail.preconditioning import precondition_reward
    from dini_zoo.reinforcement.odice import Transitions

    flags = jnp.zeros(4, bool)
    make = lambda reward, **more: Transitions(
        jnp.ones((4, 2)), jnp.ones((4, 1)), reward, jnp.ones((4, 2)), flags, **more
    )
    refused(lambda: make(jnp.ones((4, 1))), r"reward must have the shape \(n,\)")
    refused(lambda: make(jnp.ones(4), weight=jnp.ones((4, 1))), r"weight must have the shape \(n,\)")
    assert make(np.ones(4, int)).shares().dtype == jnp.float64
    refused(lambda: precondition_reward(jnp.ones(4), jnp.full((4, 1), 0.5)), "kappa must have the shape of reward")
    assert precondition_reward(jnp.ones(4), jnp.full(4, 0.5)).shape == (4,)


def test_functions_that_return_an_array_for_a_number():
    from dini_zoo.reinforcement.fisher_policy_gradient.estimators import policy_gradient
    from dini_zoo.reinforcement.trajectories import Trajectory

    yes = jnp.ones(3, bool)
    seen = jnp.arange(6.0).reshape(3, 2)
    traj = Trajectory(seen, jnp.ones((3, 1)), jnp.arange(3.0), yes, seen, ~yes)
    one = lambda theta, s, a: -jnp.sum((a - theta @ s) ** 2)
    run = lambda log_prob, **more: policy_gradient(log_prob, jnp.ones(2), traj, discount=0.9, **more)
    assert run(one, baseline=lambda t, s: 1.0 * t).shape == (2,)
    refused(lambda: run(lambda *a: one(*a)[None]), r"log_prob must return an array of shape \(\): given \(1,\)")
    refused(lambda: run(one, baseline=lambda t, s: jnp.ones(1)), r"baseline must return an array of shape \(\)")
    refused(lambda: run(one, bootstrap=lambda s: jnp.ones(1)), r"bootstrap must return an array of shape \(\)")


def test_networks_that_return_another_shape():
    from dini_zoo.diffusion.chain_sampling import chain_loss, chain_sample
    from dini_zoo.diffusion.chains import Chain

    chain = Chain.of_betas(jnp.array([0.1, 0.2]))
    loss = lambda model: chain_loss(model, chain, jnp.ones((4, 2)), jax.random.key(0))
    assert jnp.isfinite(loss(lambda x, t: x))
    refused(lambda: loss(lambda x, t: x[:, :1]), r"predict must return an array of shape \(4, 2\): given \(4, 1\)")
    draw = lambda noise: chain_sample(None, jnp.ones((4, 2)), chain, lambda x, t: x, eta=1.0, noise=noise)
    assert draw(jnp.ones((2, 1, 2))).shape == (4, 2)
    refused(lambda: draw(jnp.ones(2)), "noise must have rows of the shape of x")


def test_a_batch_where_one_draw_is_meant():
    from dini_zoo.generative.continuous_speculative_decoding import Gaussian, accept_resample

    q, p = Gaussian(jnp.zeros(2), jnp.ones(2)), Gaussian(jnp.full(2, 0.5), jnp.ones(2))
    key = jax.random.key(0)
    assert accept_resample(key, jnp.zeros(2), q, p).x.shape == (2,)
    refused(lambda: accept_resample(key, jnp.zeros((50, 2)), q, p), "must have the shape")
    plain = lambda y: -0.5 * jnp.sum(y**2, axis=-1)
    draw = lambda key: jax.random.normal(key, (2,))
    refused(lambda: accept_resample(key, jnp.zeros((50, 2)), plain, plain, draw), "must return an array of shape")


def test_energies_of_other_meshes_and_areas():
    from dini_zoo.physics.contact import contact_energy
    from dini_zoo.physics.tetrahedra import TetMesh, elastic_energy

    nodes = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1.0]])
    mesh = TetMesh.of(nodes, [[0, 1, 2, 3], [1, 2, 3, 4]])
    assert elastic_energy(mesh, jnp.asarray(nodes), 1.0, 1.0) == pytest.approx(0, abs=1e-12)
    refused(lambda: elastic_energy(mesh, jnp.zeros((9, 3)), 1.0, 1.0), "x must have the shape of the mesh's nodes")
    surface = lambda x: x[2]
    points = jnp.full((4, 3), -1.0)
    assert contact_energy(surface, points, 1.0, jnp.ones(4)) == 2
    refused(lambda: contact_energy(surface, points, 1.0, jnp.ones((4, 1))), "areas must have the shape of the points")
    refused(lambda: contact_energy(surface, points, -1.0), "kn must be zero or more")


# indices


def test_steps_of_a_chain_that_there_are_not():
    from dini_zoo.diffusion.chains import Chain

    chain = Chain.of_betas(jnp.array([0.1, 0.2, 0.3]))
    for call in (
        lambda i: chain.noised(jnp.ones((1, 2)), jnp.ones((1, 2)), i),
        chain.posterior,
        chain.posterior_std,
        chain.noise_std,
    ):
        for wrong in (-1, 3):
            refused(lambda call=call, wrong=wrong: call(wrong), "i must be from 0 to 2")
        refused(lambda call=call: call(0.5), "i must be whole numbers")
        assert lost(jax.vmap(call)(jnp.array([2, 3, -1])))


def test_numbers_that_are_no_codes():
    from dini_zoo.generative.continuous_speculative_decoding import accept_resample
    from dini_zoo.generative.vq_ddm import Tokenizer, Transformer
    from dini_zoo.generative.vq_ddm.transformer import sequence_nats

    tokenizer = Tokenizer(4, 2, widths=(4, 4), key=jax.random.key(0))
    good = np.zeros((1, 16), int)
    network = {
        causal: Transformer(4, 16, causal=causal, width=8, heads=2, layers=1, key=jax.random.key(1))
        for causal in (False, True)
    }
    calls = [tokenizer.images, network[False], network[True], lambda z: sequence_nats(jnp.zeros((1, 16, 4)), z)]
    for call in calls:
        assert np.all(np.isfinite(call(good)))
        for wrong in (-1, 4, 99):
            refused(lambda call=call, wrong=wrong: call(good + wrong), "must be from 0 to 3")
        assert lost(jax.jit(lambda zs, call=call: jax.vmap(call)(zs))(jnp.stack([good, good - 1, good + 4])))
    # a code that is lost at the end says nothing of what comes before
    late = jnp.asarray(good).at[0, 15].set(-1)
    assert np.all(np.isfinite(jax.jit(lambda z: network[True](z))(late)))
    token = lambda x: accept_resample(jax.random.key(0), x, jnp.zeros(3), jnp.zeros(3), on_failure="nan").failed
    assert jax.jit(jax.vmap(token))(jnp.array([0, 3, -1])).tolist() == [False, True, True]


def test_masks_where_indices_are_meant_and_the_other_way_round():
    from dini_zoo.physics.agents import AgentArrays
    from dini_zoo.privacy.private_gsd import Categorical, Domain, Table, categorical_marginals, measure_one_shot

    agents = AgentArrays.of(jnp.array([3.0, 5.0]), capacity=3)
    refused(lambda: agents.remove(jnp.array([1, 2])), "mask must")
    refused(lambda: agents.remove(jnp.array([True])), "mask must have the shape")
    refused(lambda: agents.spawn(jnp.ones(3), jnp.array([2, 0, 1])), "mask must be Booleans")
    refused(lambda: agents.spawn(jnp.ones(2), jnp.array([True] * 3)), "values must have a row for each of the 3")
    domain = Domain.of({"a": Categorical(3), "b": Categorical(2)})
    table = Table(domain.uniform(jax.random.key(0), (10,)), domain)
    queries = categorical_marginals(domain, 1)
    for wrong in ([True, False], np.array([0.4, 1.2])):
        refused(
            lambda wrong=wrong: measure_one_shot(jax.random.key(1), table, queries, 1.0, wrong),
            "workloads must be whole numbers",
        )


def test_a_sampler_of_times_of_another_length():
    from dini_zoo.generative.vq_ddm import ImportanceTimeSampler, MultinomialDiffusion, cosine_alphas

    diffusion = MultinomialDiffusion.of_alphas(cosine_alphas(5), 3)
    run = lambda steps: diffusion.loss(
        lambda z, t: jnp.zeros((*z.shape, 3)),
        jax.random.key(0),
        jnp.zeros((4, 2), int),
        times=ImportanceTimeSampler.initial(steps),
    )
    assert jnp.isfinite(run(5))
    refused(lambda: run(7), "times must have 5 entries, as many as the diffusion's steps: given 7")


def test_edges_triangles_and_components_that_there_are_not():
    from dini_zoo.implicit.convergent_graphs.operator import ContractiveOperator
    from dini_zoo.physics.difftactile import FisheyeCamera, MarkerReadout, vertex_normals
    from dini_zoo.reinforcement.mixtures import pick

    # an index of `size` is padding
    edges = lambda rows: ContractiveOperator(np.ones(2) / 2, np.array(rows), np.array([0, 1]), 2)
    assert edges([0, 2]).size == 2
    for wrong in ([0, 3], [0, -1]):
        refused(lambda wrong=wrong: edges(wrong), "rows must be from 0 to 2")
    corners, good = jnp.eye(3), np.array([[0, 1, 2]])
    components = np.arange(6.0).reshape(1, 3, 2)
    refused(lambda: vertex_normals(corners, good + 1), "triangles must be from 0 to 2")
    refused(lambda: pick(components, np.array([-1])), "index must be from 0 to 2")
    both = jax.jit(jax.vmap(lambda at: (vertex_normals(corners, good + at), pick(components, at[None]))))
    normals, picked = both(np.array([0, 3, -1]))
    assert lost(normals)
    assert lost(picked)
    markers = lambda rest, at: MarkerReadout.of(FisheyeCamera(), rest, np.arange(3), at, k=1)
    refused(lambda: markers(corners[:, :2], np.ones((2, 2))), "rest must have the shape")
    refused(lambda: markers(corners, np.ones((2, 3))), "markers must have the shape")
    refused(lambda: markers(corners * np.nan, np.ones((2, 2))), "rest must be finite")


# kinds of numbers


def test_integers_are_as_good_as_floats():
    from dini_zoo.physics.layered import solve_layered
    from dini_zoo.reinforcement.odice import action_weights
    from dini_zoo.reinforcement.td3 import n_step
    from dini_zoo.reinforcement.trajectories import discounted_returns

    whole, none = np.array([1, 2, 3]), np.zeros(3, bool)
    for call in (
        lambda x: discounted_returns(x, 0.5),
        lambda x: n_step(x, jnp.ones((3, 1)), none, none, 0.5),
        action_weights,
        lambda x: solve_layered(x, 8.0),
    ):
        for kind in (np.asarray, jnp.asarray):
            for one, other in zip(jax.tree.leaves(call(kind(whole))), jax.tree.leaves(call(whole * 1.0)), strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_buffer_of_integers_takes_no_fractions():
    from dini_zoo.reinforcement.replay import Replay

    whole = Replay.like({"r": jnp.zeros((), int)}, 3)
    refused(lambda: whole.add({"r": 0.7}), "must be of whole numbers")
    refused(lambda: whole.extend({"r": jnp.array([0.7, 1.0])}), "must be of whole numbers")
    assert whole.add({"r": 2}).items["r"][0] == 2
    real = Replay.like({"r": jnp.zeros(2)}, 3)
    refused(lambda: real.add({"r": 1.0}), "must have the shape")
    assert real.add({"r": jnp.array([1, 2])}).items["r"].dtype == jnp.float64


# values


def test_values_that_are_none():
    from dini_zoo.physics.policies import constant
    from dini_zoo.physics.posteriors import laplace
    from dini_zoo.reinforcement.linear_quadratic import LinearQuadratic, environment

    refused(lambda: constant([np.nan], 3), "u must be finite")
    refused(lambda: constant([0.5], 0), "steps must be at least 1")
    make = lambda discount: LinearQuadratic(jnp.eye(1), jnp.eye(1), jnp.eye(1), jnp.eye(1), discount=discount)
    problem = make(jnp.asarray(0.9))
    for wrong in (jnp.asarray(1.5), 1.5, np.nan, 0.0):
        refused(lambda wrong=wrong: make(wrong), r"discount must be in \(0, 1\]")
    refused(lambda: environment(problem, lambda key: jnp.zeros(1), 5, bound=-1.0), "bound must be positive")
    energy = lambda z: 2 * jnp.sum((z - 1.0) ** 2)
    assert laplace(energy, jnp.full(2, 1.001)).root.shape == (2, 2)
    refused(lambda: laplace(energy, jnp.zeros(2)), "z must be a minimum of the energy: the one nearby is 2.83")
    assert lost(jax.jit(jax.vmap(lambda z: laplace(energy, z).mean))(jnp.stack([jnp.ones(2), jnp.zeros(2)])))


def test_weights_steps_and_rates_that_are_none():
    from dini_zoo.implicit.hard_constraints import LeastSquaresConstraint, Terms
    from dini_zoo.optimizers.adadagrad import Batches, adagrad_norm
    from dini_zoo.optimizers.batch_size_scaling import lanczos_learning_rate
    from dini_zoo.optimizers.optimistic_omd import pool
    from dini_zoo.optimizers.schedule_refinement import array_schedule, conversion_bound, linear_decay_schedule

    w, G = jnp.array([1.0, 2.0]), jnp.array([1.0, 0.5])
    assert conversion_bound(w, G, 1.0) == conversion_bound([1, 2], G, 1) == 0.5
    refused(lambda: conversion_bound(w[:, None], G, 1.0), "w must have the shape")
    refused(lambda: conversion_bound(w, G[:, None], 1.0), "G must have the shape")
    refused(lambda: conversion_bound(w, G, -1.0), "D must be positive")
    refused(lambda: conversion_bound(w, -G, 1.0), "G must be zero or more")
    for make in (
        lambda rate: linear_decay_schedule(rate, 5),
        lambda rate: array_schedule(w, rate),
        lambda rate: optax.chain(adagrad_norm(rate)),
    ):
        assert make(0.0)
        for wrong in (-1.0, np.nan, np.inf):
            refused(lambda make=make, wrong=wrong: make(wrong), "must be zero or more, and finite")
    for make in (
        lambda count: Batches(count, np.random.default_rng(0)),
        lambda count: lanczos_learning_rate(count, every=3),
        lambda count: pool(1.0, 1.0, 1.0, count),
    ):
        assert make(3) is not None
        refused(lambda make=make: make(2.5), "must be a whole number")
        refused(lambda make=make: make(0), "must be at least 1")
    solve = lambda inside: LeastSquaresConstraint(lambda f, s, d: f - 1.0).solve(
        Terms(jnp.ones((3, 2)), jnp.ones((3, 2))), inside
    )
    assert solve(jnp.ones((3, 2))).x.shape == (2,)
    refused(lambda: solve(jnp.ones(2)), "inside must have arrays of 2 axes or more")
    refused(lambda: solve(jnp.ones((3, 1))), "the last of length 2")


def test_particles_faster_than_a_cell_a_step():
    from dini_zoo.physics.rollouts import Rollout

    flags = {"final": None, "recorded": None, "clamped": jnp.zeros(()), "finite": jnp.array(True)}
    good = Rollout(**flags, courant=jnp.array(0.1), travel=jnp.array(0.5))
    fast = good._replace(travel=jnp.array(120.0))
    assert good.is_sound
    assert not fast.is_sound
    refused(fast.checked, "a particle goes 120 cells in a step")


# status


def test_an_inversion_that_is_not_found_is_marked_under_vmap():
    from dini_zoo.diffusion.chain_sampling import chain_invert
    from dini_zoo.diffusion.chains import Chain

    chain = Chain.of_betas(jnp.array([0.3, 0.3, 0.3]))

    def run(scale, **options):
        solver = dini.FixedPointIteration(max_steps=60)
        model = lambda x, t: scale * jnp.tanh(x)
        return chain_invert(
            jnp.array([[0.3]]), chain, model, predicts="noise", method="fixed point", solver=solver, **options
        )

    scales = jnp.array([0.1, -50.0])
    assert lost(jax.jit(jax.vmap(run))(scales))
    assert np.all(np.isfinite(jax.vmap(lambda s: run(s, on_failure="ignore"))(scales)))


def test_nearest_codes_where_an_entry_is_far_away():
    """In single precision, against differences in double."""
    from dini_zoo.generative.vq_ddm.quantization import nearest

    random = np.random.default_rng(0)
    book = np.concatenate([1e-2 * random.standard_normal((15, 4)), np.full((1, 4), 1e4)]).astype(np.float32)
    h = 1e-2 * random.standard_normal((400, 4)).astype(np.float32)
    truth = np.argmin(((h.astype(float)[:, None] - book.astype(float)) ** 2).sum(-1), axis=1)
    with jax.enable_x64(False):
        assert np.mean(nearest(jnp.asarray(h), jnp.asarray(book)) == truth) == 1
        assert nearest(jnp.asarray(h).at[0, 0].set(jnp.nan), jnp.asarray(book))[0] == -1


def test_parts_that_an_experiment_has_not():
    from dini_zoo.diffusion.svdd.study import Settings as Decoding
    from dini_zoo.generative.continuous_speculative_decoding.study import Settings as Speculative
    from dini_zoo.physics.difftactile.settings import Settings as Tactile
    from dini_zoo.physics.nclaw.study import Settings as Laws

    for settings in (Decoding, Speculative, Tactile, Laws):
        refused(
            lambda settings=settings: settings(parts=("lawz",)), "parts must be one of .*: given 'lawz'", ValueError
        )
        assert settings(parts=settings().parts[:1]).parts


def test_a_filtration_of_nan_has_no_gradient_of_zero():
    """Each coordinate's: a sum over points that do not move with the NaN itself would else stand still."""
    from dini_zoo.topology.multiparameter_persistence import rips_lower_star, signed_measure

    points = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])

    def total(function):
        measure = signed_measure(rips_lower_star(points, function), invariant="euler")
        return jnp.sum(jnp.where(measure.mask[:, None], measure.weights[:, None] * measure.points, 0))

    good, bad = jnp.array([0.1, 0.5, 0.3]), jnp.array([0.1, jnp.nan, 0.3])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(total)))(jnp.stack([good, bad, good]))
    assert np.isnan(values).tolist() == [False, True, False]
    assert np.all(np.isfinite(slopes[0]) & (slopes[0] == slopes[2]))
    assert np.isnan(slopes[1][np.array([0, 2])]).all()


def test_points_of_nan_have_no_value_of_a_step_function():
    from dini_zoo.topology.multiparameter_persistence import (
        cumulative,
        graph_filtration,
        landscape,
        rank_function,
        signed_measure,
    )

    @jax.jit
    def found(at):
        filtration = graph_filtration(jnp.array([0.0, 0.5, 2.0]), [[0, 2], [1, 2]])
        measure = signed_measure(filtration, 0, "rank", engine="numpy", max_points=4)
        euler = signed_measure(filtration, invariant="euler")
        first, last = jnp.full((2, 1), -jnp.inf), at * jnp.array([[jnp.inf], [1]])
        return (
            cumulative(euler, at),
            rank_function(measure, at, at),
            rank_function(measure, first, last),
            landscape(measure, 1, at),
        )

    assert np.isnan(found(jnp.array([[1.0], [jnp.nan]]))).tolist() == [[False, True]] * 4


def test_norms_and_thresholds_keep_nan():
    """A comparison with NaN is false: what is written for zero must not take it."""
    from dini_zoo.implicit.molecular_dynamics.packing import overlaps
    from dini_zoo.physics.contact import Penalty
    from dini_zoo.physics.dgno.inversion import relative_misfit
    from dini_zoo.physics.explicit import contact_limit
    from dini_zoo.physics.materials import norm_or_zero
    from dini_zoo.physics.random_fields import two_phase
    from dini_zoo.physics.surfaces import safe_norm
    from dini_zoo.physics.weak_forms import bump, wendland
    from dini_zoo.reinforcement.lipschitz import euclidean
    from dini_zoo.reinforcement.odice import weighted_policy

    zeros = np.zeros(2)
    norms = (safe_norm, norm_or_zero, euclidean, lambda x: relative_misfit(x + 1, jnp.ones(2)))

    @jax.jit
    def found(bad):
        at_zero = [jax.value_and_grad(norm)(zeros) for norm in norms]
        lost = (
            [norm(bad) for norm in norms],
            [function(jnp.stack([bad, zeros, zeros + 2])) for function in (bump, wendland)],
            two_phase(bad, 1.0, 2.0),
            overlaps(jnp.stack([zeros, bad]), 1.4, 3.0).sum(),
            [contact_limit(jnp.ones(2), Penalty(kn)) for kn in (bad[1], 0 * bad[0])],
            weighted_policy(jnp.ones((2, 2)), jnp.stack([zeros + 1, bad])).sum(),
        )
        return at_zero, lost

    at_zero, lost = jax.tree.map(np.asarray, found(np.array([0.5, np.nan])))
    assert not any(value or slope.any() for value, slope in at_zero)
    assert np.isnan(lost[0]).all()
    assert np.isnan(lost[1]).tolist() == [[True, False, False]] * 2
    assert np.isnan(lost[2]).tolist() == [False, True]
    assert np.isnan(lost[3])
    assert np.isnan(lost[4][0])
    assert lost[4][1] == np.inf
    assert np.isnan(lost[5])
