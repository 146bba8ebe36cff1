"""Neural constitutive laws: what is built in, the loss, its derivative, moduli by dini, the experiment's bars."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met, assert_drawn, assert_fits, performed

from dini_zoo.physics import materials, mpm
from dini_zoo.physics.decompositions import singular_values
from dini_zoo.physics.mpm import MPMConfig, Particles
from dini_zoo.physics.nclaw import (
    Curriculum,
    LawTrainer,
    NeuralElasticity,
    NeuralPlasticity,
    invariants,
    motion,
    neural_material,
    roll,
    segment_loss,
)
from dini_zoo.physics.nclaw.experiment import experiment

I = np.eye(3)


def rotation(seed):
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return Q * np.linalg.det(Q)


def test_laws_turn_with_the_body_and_start_without_stress():
    """Exact check 4, for random weights; the plain network has neither property, and neither is isotropic."""
    F = I + 0.3 * np.random.default_rng(0).normal(size=(3, 3))
    Q = rotation(1)
    key = jax.random.key(0)
    elastic, plastic = NeuralElasticity(key, 16, scale=1.0), NeuralPlasticity(key, 16, alpha=0.5)
    P, plastic = jax.jit(lambda F: elastic.piola(F)), jax.jit(lambda F, law=plastic: law(F))
    assert np.linalg.norm(P(F)) > 0.01
    np.testing.assert_allclose(P(Q @ F), Q @ P(F), atol=1e-12)
    np.testing.assert_allclose(plastic(Q @ F), Q @ plastic(F), atol=1e-12)
    np.testing.assert_allclose(elastic(F), P(F) @ F.T, atol=1e-14)
    assert np.linalg.norm(P(F @ Q) - P(F) @ Q) > 1e-3
    np.testing.assert_allclose(P(I), 0, atol=1e-14)
    np.testing.assert_allclose(elastic(Q), 0, atol=1e-12)
    np.testing.assert_allclose(plastic(I), I, atol=1e-14)
    plain = NeuralElasticity(key, 16, scale=1.0, plain=True).piola
    assert np.linalg.norm(plain(Q @ F) - Q @ plain(F)) > 1e-2
    assert np.linalg.norm(plain(Q)) > 1e-2
    z = invariants(F)
    expected = np.concatenate([np.linalg.svd(F, compute_uv=False) - 1, (F.T @ F - I).ravel(), [np.linalg.det(F) - 1]])
    np.testing.assert_allclose(z, expected, atol=1e-14)
    np.testing.assert_allclose(invariants(Q), np.zeros(13), atol=1e-14)
    # finite where all singular values are equal, and the whole law's derivative beside differences off ties
    bend = jax.jit(jax.jacfwd(P))
    assert np.all(np.isfinite(bend(I)))
    slope, E = bend(F), 1e-6 * np.eye(9).reshape(9, 3, 3)
    difference = (jax.vmap(P)(F + E) - jax.vmap(P)(F - E)) / 2e-6
    np.testing.assert_allclose(slope.reshape(3, 3, 9), np.moveaxis(difference, 0, -1), atol=1e-8)
    np.testing.assert_allclose(jax.jacfwd(lambda F: jnp.sum(singular_values(F) ** 2))(I), 2 * I, atol=1e-14)


@functools.cache
def plane(steps=8):
    """A square of jelly that hits a wall, in the plane."""
    config = MPMConfig(10, 2e-3, gravity=(0.0, -9.8), bound=2)
    x, volume = mpm.lattice((0.25, 0.22), (0.6, 0.57), (3, 3))
    particles = Particles(volume, 1000.0)
    state = mpm.initial_state(config, x, np.array([1.0, -3.0]))
    # moduli as arrays that know nothing of each other's programs
    truth = materials.jelly(1e5, 0.2)
    return config, particles, state, jax.jit(lambda state: motion(config, particles, state, truth, steps))(state)


def test_the_loss_is_that_of_segments_from_the_reference():
    config, particles, _, reference = plane()
    assert reference.x.shape == (9, 9, 2)
    material = neural_material(jax.random.key(0), 6, dim=2, scale=1e4)
    loss = lambda material, length: segment_loss(config, particles, reference, material, length)
    params, static = eqx.partition(material, eqx.is_inexact_array)
    flat, restore = jax.flatten_util.ravel_pytree(params)
    at = jax.jit(jax.value_and_grad(lambda flat: loss(eqx.combine(restore(flat), static), 4)))
    value, slope = at(flat)
    direct = 0.0
    run = jax.jit(lambda state: roll(config, particles, state, material, 4).recorded)
    for first in (0, 4):
        start = jax.tree.map(lambda leaf, first=first: leaf[first], reference)
        direct += np.sum(np.mean((run(start) - reference.x[first + 1 : first + 5]) ** 2, axis=(1, 2)))
    np.testing.assert_allclose(value, 1e4 * 2 / 8 * direct, rtol=1e-10)
    # along a random direction, by differences; both laws have a part in it
    direction = np.random.default_rng(0).normal(size=flat.shape)
    difference = (at(flat + 1e-6 * direction)[0] - at(flat - 1e-6 * direction)[0]) / 2e-6
    np.testing.assert_allclose(slope @ direction, difference, rtol=2e-5)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(restore(slope)))
    with pytest.raises(ValueError, match="length must divide the 8 steps of the reference: given 3"):
        loss(material, 3)


@pytest.mark.thorough
def test_training_learns_a_law_in_the_plane():
    config, particles, _, reference = plane()
    keys = jax.random.split(jax.random.key(1), 2)
    start = eqx.filter_vmap(lambda key: neural_material(key, 12, dim=2))(keys)
    seen = []
    trainer = LawTrainer(config, particles, Curriculum(((4, 40), (8, 20))))
    course = trainer(start, reference, keys=keys, advance=seen.append)
    assert course.losses.shape == (2, 60)
    assert sum(seen) == 60
    assert np.all(course.losses[:, 39] < 0.5 * course.losses[:, 0])
    assert np.all(course.losses[:, -1] < 0.8 * course.losses[:, 40])
    worse = eqx.tree_at(lambda tree: tree.elasticity.layers.weights[-1], start, replace_fn=lambda W: -1e9 * W)
    with pytest.raises(FloatingPointError, match="The loss is not finite"):
        trainer(worse, reference, keys=keys)


@pytest.mark.thorough
def test_moduli_and_their_spread_by_dini():
    from dini_zoo.physics.nclaw.identification import (
        Observed,
        by_adam,
        by_evolution,
        by_least_squares,
        moduli,
        modulus_error,
        unknowns,
    )

    np.testing.assert_allclose(moduli(unknowns(3e4, 0.3)), (3e4, 0.3))
    config, particles, state, reference = plane(40)
    observed = Observed(config, particles, state, reference.x[1:])
    start = unknowns(6e4, 0.3)
    found, theta = by_least_squares(observed, start)
    np.testing.assert_allclose((found.E, found.nu), (1e5, 0.2), rtol=1e-8)
    assert found.simulations < 20
    by_dini, closed = modulus_error(observed, theta, 1e-3)
    np.testing.assert_allclose(by_dini, closed, rtol=1e-7)
    # one scalar at a fixed number of steps: from 40 % off to a few percent
    assert abs(by_adam(observed, unknowns(6e4, 0.2), only_E=True).E / 1e5 - 1) < 0.1
    few, more = by_evolution(observed, start, (20, 60), seed=0)
    assert (few.simulations, more.simulations) == (20, 60)
    assert found.loss < more.loss <= few.loss < float(observed.loss(jnp.asarray(start)))


@pytest.mark.thorough
def test_every_part_of_a_small_run_is_told_and_drawn():
    settings = dataclasses.replace(experiment.settings.tiny(), parts=("plasticine", "identification"), adam=2)
    done = performed("nclaw", experiment, settings)
    assert_fits([*done.record.tables, done.record.verdict.table()])
    assert_drawn(experiment.draw(done.result))
    assert done.result.laws is None


def test_bad_networks_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="dim must be 2 or 3: given 4"):
        NeuralElasticity(key, dim=4)
    with pytest.raises(ValueError, match="width must be at least 1: given 0"):
        NeuralPlasticity(key, 0)
    with pytest.raises(ValueError, match="scale must be positive"):
        NeuralElasticity(key, scale=0.0)


@pytest.mark.slow
def test_the_claims_at_full_scale():
    assert_bars_met("nclaw", experiment)
