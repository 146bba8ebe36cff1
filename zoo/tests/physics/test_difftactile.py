"""DiffTactile: rollouts, equilibria and their derivatives, camera and optics; what bad input gets."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met, assert_drawn, assert_fits, performed

import dini
from dini_zoo.physics.difftactile import (
    FisheyeCamera,
    Goal,
    MarkerReadout,
    OpticalMLP,
    Parameters,
    TactileSim,
    calibration_loss,
    evolve,
    optics,
    pixel_normals,
    relative_error,
    scenes,
    vertex_normals,
)
from dini_zoo.physics.difftactile.equilibrium import Identification
from dini_zoo.physics.difftactile.experiment import experiment
from dini_zoo.physics.difftactile.scenes import TRUTH

# the sensor in motion

CELLS = (2, 2, 1)


@pytest.fixture(scope="module")
def moving():
    """A small sensor in float64, its motion, what it measures, and the loss of other parameters with its gradient."""
    with jax.enable_x64(True):
        sim, controls = scenes.block_sensor(CELLS, 10, jnp.float64), scenes.schedule(6, jnp.float64)
        rollout = jax.jit(lambda parameters, controls: sim.rollout(parameters, controls))
        observed = rollout(TRUTH, controls)
        loss = calibration_loss(sim, controls, observed, TRUTH)
        return sim, controls, rollout, observed, jax.jit(jax.vmap(jax.value_and_grad(loss)))


def test_the_gradient_of_a_rollout(moving):
    """Beside central differences in float64, through contact, friction and a checkpoint for each control step."""
    sim, _, _, observed, loss = moving
    assert bool(sim.trusted(observed))
    assert observed.force[5, 2] > 10
    assert abs(observed.force[-1, 0]) > 1
    truth = jnp.log(jnp.array([TRUTH.E, TRUTH.kn, TRUTH.mu_f]))
    start = truth + jnp.log(jnp.array(scenes.START))
    steps = 1e-5 * jnp.concatenate([jnp.eye(3), -jnp.eye(3)])
    points = jnp.concatenate([truth[None], start[None], start + steps])
    values, slopes = loss(points)
    np.testing.assert_allclose(values[0], 0, atol=1e-20)
    np.testing.assert_allclose(slopes[1], (values[2:5] - values[5:]) / 2e-5, rtol=1e-5)
    # a lane of a batch whose parameters are nonsense does not touch the others
    mixed = points.at[0].set(jnp.nan)
    np.testing.assert_array_equal(loss(mixed)[0][1:], values[1:])


def test_a_sensor_that_touches_nothing_learns_nothing(moving):
    sim, controls, rollout, _, _ = moving
    away = rollout(TRUTH, -controls)
    assert jnp.abs(away.force).max() == 0
    assert away.limit == np.inf
    with pytest.raises(ValueError, match="observed must show a contact: given force of zero"):
        calibration_loss(sim, controls, away, TRUTH)


def test_steps_that_contact_does_not_allow(moving):
    sim, controls, rollout, _, _ = moving
    stiff = rollout(TRUTH._replace(kn=1e9), controls)
    assert not bool(sim.trusted(stiff))


@pytest.fixture(scope="module")
def resting():
    """The block at rest by dini: positions and their derivative in the modulus, and the force."""
    with jax.enable_x64(True):
        scene = scenes.PressedBlock(CELLS)
        init = scene.lowered(0.2)

        def solved(E, kn):
            load = scene.load(E, kn, 0.2)
            x, found = scene.statics.solve(load, init)
            return x, (*scene.measured(x, load), found.status)

        return scene, jax.jit(lambda E, kn: jax.jvp(lambda E: solved(E, kn), (E,), (jnp.ones_like(E),)))


def test_at_rest_it_is_in_equilibrium(resting):
    """Exact check 8: what the damped motion comes to is what dini finds, within 1 %."""
    mesh, top, bottom = scenes.block(CELLS, jnp.float64)
    sim = TactileSim.of(mesh, top, bottom, scenes.ball(jnp.float64), substeps=20, damping=40.0)
    controls = jnp.concatenate([jnp.tile(jnp.array([0, 0, -2.0]), (10, 1)), jnp.zeros((40, 3))])
    smooth = TRUTH._replace(kt=0.0, kd=0.0)
    moved = jax.jit(lambda controls: sim.rollout(smooth, controls))(controls)
    (_, (force, markers, status)), _ = resting[1](TRUTH.E, TRUTH.kn)
    assert status == dini.Status.CONVERGED
    assert force[2] > 50
    np.testing.assert_allclose(moved.force[-1], force, atol=0.01 * force[2])
    np.testing.assert_allclose(moved.markers[-1], markers, atol=0.01 * jnp.abs(markers).max())


def test_positions_by_the_modulus(resting):
    """Exact check 8: dx*/dE beside central differences; and in units that are a million times smaller or larger."""
    solve, E, kn = resting[1], TRUTH.E, TRUTH.kn
    (x, _), (slope, _) = solve(E, kn)
    h = 1e-4 * E
    differences = (solve(E + h, kn)[0][0] - solve(E - h, kn)[0][0]) / (2 * h)
    np.testing.assert_allclose(slope, differences, atol=1e-5 * jnp.abs(slope).max())
    for scale in (1e-6, 1e6):
        np.testing.assert_allclose(solve(scale * E, scale * kn)[0][0], x, atol=1e-7)
        np.testing.assert_allclose(scale * solve(scale * E, scale * kn)[1][0], slope, atol=1e-5 * jnp.abs(slope).max())


@pytest.mark.thorough
def test_a_certified_gradient_and_the_identification():
    """The gradient of a mismatch at rest beside central differences in float64, and what it leads to."""
    problem = Identification(scenes.PressedBlock(CELLS), 0.2)
    theta = jnp.log(jnp.array([TRUTH.E, TRUTH.kn]))
    observed = problem.observed(theta)
    start = theta + jnp.log(jnp.array([0.5, 2.0]))
    value, gradient, _, solution, certificate = problem.at(start, observed)
    assert solution.status == dini.Status.CONVERGED
    assert bool(certificate.reliable)
    assert certificate.error < 1e-6
    mismatch = lambda theta: problem.at(theta, observed)[0]
    differences = [(mismatch(start + h) - mismatch(start - h)) / 2e-4 for h in 1e-4 * np.eye(2)]
    np.testing.assert_allclose(gradient, differences, rtol=1e-5)
    assert value > 0.01
    found, course = problem.found(observed, start)
    np.testing.assert_allclose(found, theta, rtol=1e-6)
    assert course[-1] < 1e-12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scenes.block_sensor(CELLS).rollout(TRUTH._replace(E=1e7), jnp.zeros((1, 3))), "dt must be below"),
        (lambda: scenes.block_sensor(CELLS).rollout(TRUTH._replace(kn=-1.0), jnp.zeros((1, 3))), "kn must be positive"),
        (lambda: scenes.block_sensor(CELLS).rollout(TRUTH, jnp.zeros(3)), r"controls must have the shape \(steps, 3\)"),
        (lambda: scenes.block_sensor(CELLS, 0), "substeps must be at least 1"),
        (lambda: sensor(driven=np.zeros(18, bool)), "driven must be a mask of the mesh's 18 nodes"),
        (lambda: sensor(damping=1e4), r"damping \* dt must be below 1"),
        (
            lambda: MarkerReadout.of(FisheyeCamera(), np.ones((9, 3)), [0, 1], [[0.0, 0.0]]),
            "the number of nodes, must be",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def sensor(**changed):
    """A sensor with something else."""
    mesh, top, bottom = scenes.block(CELLS, jnp.float32)
    given = {"driven": top, "touching": bottom} | changed
    return TactileSim.of(mesh, given.pop("driven"), given.pop("touching"), scenes.ball(jnp.float32), **given)


# calibration and control


def test_goals_and_errors():
    force, frame = jnp.zeros((2, 3)).at[1, 2].set(1000.0), jnp.zeros((2, 3)).at[1, 0].set(0.25)
    found = dataclasses.make_dataclass("Found", ("force", "frame"))(force, frame)
    np.testing.assert_allclose(Goal()(found), 0.25**2 + 0.5**2)
    np.testing.assert_allclose(relative_error(jnp.array([1.0, 2]), jnp.array([2.0, 2])), 1 / 8)
    assert Parameters(1.0, 2.0, 3.0).penalty[:4] == (2.0, 20.0, 50.0, 3.0)


def test_the_evolution_strategy():
    bowl = lambda x: np.where(x[:, 0, 0] > 2, np.nan, np.sum((np.asarray(x) - 1) ** 2, axis=(1, 2)))
    one, other = (evolve(bowl, np.zeros((2, 2)), 0.5, 25, 8, 3) for _ in range(2))
    np.testing.assert_array_equal(one.best, other.best)
    assert one.x.shape == (2, 2)
    np.testing.assert_allclose(one.best[-1], np.sum((one.x - 1) ** 2))
    assert one.best[-1] < 0.05
    assert np.all(np.diff(one.best) <= 0)


# what the camera sees


def test_an_equidistant_fisheye():
    camera = FisheyeCamera(offset=0.0)
    angle, turn = np.deg2rad([0.0, 1e-8, 30, 90, 120]), 0.7
    points = np.stack([np.sin(angle) * np.cos(turn), np.cos(angle), np.sin(angle) * np.sin(turn)], axis=1)
    project = jax.jit(lambda points: camera.project(points))
    seen = np.asarray(project(jnp.asarray(2.5 * points))) - np.array([332, 240])
    radius = 173913.04 * 8.627e-4 * angle
    np.testing.assert_allclose(seen, -radius[:, None] * [np.cos(turn), np.sin(turn)], atol=1e-9)
    slope = jax.jacobian(project)(jnp.array([[0.0, 2.0, 0.0]]))
    np.testing.assert_allclose(slope[0, :, 0, ::2], -173913.04 * 8.627e-4 / 2 * np.eye(2), rtol=1e-6)


def test_markers_are_means_of_the_nearest_nodes():
    random = np.random.default_rng(0)
    rest = jnp.asarray(random.normal(size=(30, 3)) * [1, 0, 1] + [0, 2.0, 0])
    camera = FisheyeCamera()
    seen = camera.project(rest)
    readout = MarkerReadout.of(camera, rest, np.arange(5, 30), seen[7:9] + 1e-7)
    np.testing.assert_allclose(readout(rest), seen[7:9], atol=1e-4)
    np.testing.assert_allclose(readout.weights.sum(axis=1), 1)
    assert readout.nodes.min() >= 5
    seen_after = jax.jit(lambda x: readout(x))
    shifted = seen_after(rest + jnp.array([0.01, 0, 0])) - seen_after(rest)
    assert jnp.all(shifted[:, 0] < 0)


def test_normals_of_a_mesh_and_of_pixels():
    mesh, _, bottom = scenes.block((4, 4, 1), jnp.float64)
    triangles = mesh.surface[np.all(bottom[np.asarray(mesh.surface)], axis=1)]
    tilted = mesh.nodes + mesh.nodes[:, :1] * jnp.array([0, 0, 0.5])
    normals = jax.jit(vertex_normals)(tilted, triangles)
    expected = np.array([0.5, 0, -1]) / np.sqrt(1.25)
    np.testing.assert_allclose(normals[bottom], np.broadcast_to(expected, (25, 3)), atol=1e-12)
    assert jnp.abs(normals[~bottom]).max() == 0
    pixels = jnp.array([[0.1, 0.2], [-0.9, 0.3], [3.0, 0.0]])
    found, inside = jax.jit(pixel_normals)(pixels, tilted[:, :2], normals, triangles)
    np.testing.assert_allclose(found, np.broadcast_to(expected, (3, 3)), atol=1e-12)
    assert inside.tolist() == [1, 1, 0]


def test_dents():
    made = optics.dents(np.random.default_rng(0), 3, 16)
    assert made.normals.shape == made.colors.shape == (3, 256, 3)
    np.testing.assert_allclose(np.linalg.norm(made.normals, axis=-1), 1)
    # far from the dent the surface is flat and nothing changes
    flat = made.normals[..., 2] > 1 - 1e-12
    assert flat.any()
    np.testing.assert_allclose(made.colors[flat], 0, atol=1e-5)
    inputs = np.concatenate([np.broadcast_to(made.pixels, (3, 256, 2)), made.normals], axis=-1).reshape(-1, 5)
    weights = optics.linear_fit(inputs, inputs @ np.arange(15.0).reshape(5, 3) + 7)
    np.testing.assert_allclose(
        np.column_stack([inputs, np.ones(len(inputs))]) @ weights, inputs @ np.arange(15.0).reshape(5, 3) + 7
    )
    network = OpticalMLP(jax.random.key(0))
    assert network(jnp.asarray(inputs[:4, :2]), jnp.asarray(inputs[:4, 2:])).shape == (4, 3)
    assert (
        sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array))) == 5 * 32 + 32 + 32 * 32 + 32 + 99
    )


# the experiment


@pytest.mark.thorough
def test_all_parts_in_small():
    settings = dataclasses.replace(experiment.settings.tiny(), parts=("calibration", "control", "equilibrium", "dome"))
    done = performed("difftactile", experiment, settings)
    assert_fits([*done.record.tables, done.record.verdict.table()])
    assert_drawn(experiment.draw(done.result))
    assert done.result.dome.slope_error < 1e-4


@pytest.mark.slow
def test_the_bars():
    assert_bars_met("difftactile", experiment)
