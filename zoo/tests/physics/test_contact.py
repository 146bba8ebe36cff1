"""Contact, rigid bodies and cables: conservation, closed forms, derivatives where nothing moves or touches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.physics import rigid
from dini_zoo.physics.cable import Cable, CableState
from dini_zoo.physics.contact import Penalty, contact_energy, penalty_force, surface_contact, triangle_contact
from dini_zoo.physics.elasticity import lame_stable
from dini_zoo.physics.explicit import Motion, contact_limit, explicit_step
from dini_zoo.physics.rigid import Pose, RigidBody, box_inertia
from dini_zoo.physics.surfaces import Box, Capsule, Plane, Sphere, distance_and_normal
from dini_zoo.physics.tetrahedra import block_mesh, internal_forces, plane_nodes

FLOOR = Plane([0.0, 0.0, 0.0], [0.0, 0.0, 2.0])


@pytest.mark.parametrize(
    ("surface", "points", "distances"),
    [
        (Sphere([1.0, 0, 0], 0.5), [[1.0, 0, 2], [1, 0.2, 0]], [1.5, -0.3]),
        (FLOOR, [[5.0, 1, 3], [0, 0, -1]], [3.0, -1.0]),
        (Box([0.0, 0, 0], [1.0, 2, 3]), [[4.0, 6, 0], [0.5, 0, 0], [0, 1.9, 0]], [5.0, -0.5, -0.1]),
        (Capsule([0.0, 0, 0], [0.0, 0, 2], 0.5), [[1.0, 0, 1], [0, 0, 4], [0.1, 0, 1]], [0.5, 1.5, -0.4]),
    ],
)
def test_distances(surface, points, distances):
    found, normals = distance_and_normal(surface, jnp.array(points))
    np.testing.assert_allclose(found, distances, atol=1e-12)
    np.testing.assert_allclose(jnp.linalg.norm(normals, axis=1), 1)
    # a step along the normal is a step away
    further, _ = distance_and_normal(surface, jnp.array(points) + 1e-3 * normals)
    np.testing.assert_allclose(further - found, 1e-3, atol=1e-12)


def test_the_force_of_a_penalty():
    penalty = Penalty(kn=100.0, kd=10.0, kt=5.0, mu_f=0.5)
    points = jnp.array([[0, 0, -0.1], [0, 0, -0.1], [0, 0, -0.1], [0, 0, 0.1]])
    velocities = jnp.array([[0, 0, 2.0], [0.1, 0, -2.0], [3.0, 0, 0.0], [1.0, 1, -1]])
    push = jax.jit(lambda points, velocities: surface_contact(FLOOR, points, velocities, penalty))
    force = push(points, velocities)
    np.testing.assert_allclose(force, [[0, 0, 10], [-0.5, 0, 12], [-5, 0, 10], [0, 0, 0]], atol=1e-12)
    slope = jax.jit(jax.grad(lambda x: -contact_energy(FLOOR, x, 100.0)))(points)
    np.testing.assert_allclose(slope, push(points, 0 * velocities), atol=1e-12)


def test_derivatives_of_what_does_not_move_or_touch():
    total = lambda s, v, mu: jnp.sum(penalty_force(s, jnp.array([[0.0, 0, 1]]), v, Penalty(100.0, 1.0, 5.0, mu)) ** 2)
    slope = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
    for depth, velocity in ((-0.1, 0.0), (0.1, 1.0), (0.0, 0.0), (0.0, 1.0)):
        slopes = slope(jnp.array([depth]), jnp.full((1, 3), velocity), 0.5)
        assert all(bool(jnp.all(jnp.isfinite(slope))) for slope in slopes)
        if depth > 0:
            assert all(bool(jnp.all(slope == 0)) for slope in slopes)


def two_bodies():
    """A block on another, not aligned, that has sunk into it a little."""
    below = block_mesh((0, 0, 0), (2.0, 2.0, 1.0), (2, 2, 1))
    above = block_mesh((0.45, 0.35, 0.95), (1.55, 1.75, 1.95), (1, 1, 1))
    return below, above, np.flatnonzero(plane_nodes(above, 2, 0.95))


@pytest.mark.parametrize("softness", [None, pytest.param(0.3, marks=pytest.mark.thorough)])
def test_two_free_bodies_keep_their_momentum(softness):
    """Exact check 6: action is reaction."""
    below, above, touching = two_bodies()
    penalty, (mu, lam), dt = Penalty(50.0, 5.0, 3.0, 0.4), lame_stable(50.0, 0.3), 0.004
    masses = below.masses(1.0), above.masses(1.0)

    @jax.jit
    def run(velocity):
        def step(motions, _):
            one, other = motions
            found = triangle_contact(
                other.x[touching], other.v[touching], one.x, one.v, below.surface, penalty, softness=softness
            )
            on_one = internal_forces(below, one.x, mu, lam) + found.vertices
            on_other = internal_forces(above, other.x, mu, lam).at[touching].add(found.points)
            moved = explicit_step(one, on_one, masses[0], dt), explicit_step(other, on_other, masses[1], dt)
            return moved, (found.points.sum(axis=0), found.vertices.sum(axis=0))

        start = (Motion(below.nodes, 0 * below.nodes), Motion(above.nodes, jnp.zeros_like(above.nodes) + velocity))
        return jax.lax.scan(step, start, None, length=50)

    velocity = jnp.array([0.5, 0.2, -1.0])
    motions, (action, back) = run(velocity)
    np.testing.assert_allclose(action, -back, atol=1e-12)
    assert action[0, 2] > 0.1
    momentum = sum(mass @ motion.v for mass, motion in zip(masses, motions, strict=True))
    np.testing.assert_allclose(momentum, masses[1].sum() * velocity, atol=1e-12)


def test_beside_a_triangle_there_is_no_force():
    vertices, triangles = jnp.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), jnp.array([[0, 1, 2]])
    points = jnp.array([[0.2, 0.2, -0.1], [0.7, 0.7, -0.1], [-0.1, 0.5, -0.1], [0.2, 0.2, 0.1]])
    still = jnp.zeros_like(points)
    found = jax.jit(triangle_contact)(points, still, vertices, jnp.zeros((3, 3)), triangles, Penalty(10.0))
    np.testing.assert_allclose(found.points, [[0, 0, 1.0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(found.vertices, np.full((3, 3), [0, 0, -1 / 3]), atol=1e-12)


# a rigid block

ARMS = jnp.array([[1.0, 1, 0], [-1, 1, 0], [1, -1, 0], [-1, -1, 0]])
BLOCK = RigidBody(2.0, box_inertia(2.0, [1.0, 1.0, 1.0]), ARMS)


@jax.jit
def slide(pose, penalty, gravity):
    def step(pose, _):
        pose = BLOCK.step(pose, BLOCK.touching(pose, FLOOR, penalty), 1e-3, gravity=gravity)
        return pose, (pose.velocity, pose.position)

    return jax.lax.scan(step, pose, None, length=2000)[1]


def test_friction_of_a_rigid_block():
    """Exact check 6: Coulomb's deceleration first, then a decay by viscosity and no stop."""
    g, kn, kt, mu = 9.81, 1000.0, 20.0, 0.3
    rest = -2.0 * g / (4 * kn)
    pose = Pose.at([0.0, 0, rest], [2.0, 0, 0])
    velocity = slide(pose, Penalty(kn, 0.0, kt, mu), jnp.array([0, 0, -g]))[0][:, 0]
    load = 2.0 * g / 4
    fast = np.flatnonzero(kt * velocity > 1.001 * mu * load)
    np.testing.assert_allclose(np.diff(velocity[fast]) / 1e-3, -mu * g, rtol=1e-6)
    slow = np.flatnonzero((kt * velocity < 0.999 * mu * load) & (velocity > 2e-4))
    assert len(fast) > 100
    assert len(slow) > 100
    np.testing.assert_allclose(np.diff(np.log(velocity[slow])) / 1e-3, np.log1p(-4 * kt * 1e-3 / 2) / 1e-3, rtol=1e-6)
    np.testing.assert_allclose(np.log1p(-4 * kt * 1e-3 / 2) / 1e-3, -4 * kt / 2, rtol=0.03)
    assert 0 < velocity[-1] < 1e-4


def test_a_bounce():
    """Exact check 6: restitution."""
    pose = Pose.at([0.0, 0, 0.01], [0.0, 0, -1.0])
    for kd, least, most in ((0.0, 0.98, 1.02), (500.0, 0.1, 0.95)):
        velocity, position = slide(pose, Penalty(1000.0, kd, 0.0, 0.0), jnp.zeros(3))
        assert position[-1, 2] > 0.1
        assert least < velocity[-1, 2] < most


@pytest.mark.thorough
def test_a_free_spin_keeps_its_momentum():
    body = RigidBody(1.0, jnp.diag(jnp.array([1.0, 2.0, 3.0])), jnp.zeros((1, 3)))
    pose = Pose.at([0.0, 0, 0], spin=[0.1, 1.0, 0.2])

    @jax.jit
    def run(pose):
        step = lambda pose, _: (body.step(pose, jnp.zeros((1, 3)), 1e-3), None)
        return jax.lax.scan(step, pose, None, length=1000)[0]

    ended = run(pose)
    momentum = lambda p: (turn := rigid.rotation(p.quaternion)) @ body.inertia @ turn.T @ p.spin
    np.testing.assert_allclose(momentum(ended), momentum(pose), atol=5e-3)
    np.testing.assert_allclose(jnp.linalg.norm(ended.quaternion), 1)
    turn = rigid.rotation(rigid.exponential(jnp.array([0.0, 0.0, 0.3])))
    np.testing.assert_allclose(turn[:2, :2], [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]], atol=1e-12)
    assert bool(jnp.all(jnp.isfinite(jax.jacobian(rigid.exponential)(jnp.zeros(3)))))


# a cable


def test_a_cable_hangs_and_lies():
    x = jnp.stack([0.1 * jnp.arange(6), jnp.zeros(6), jnp.ones(6)], axis=1)
    cable = Cable(0.1, 0.01, floor=0.0)

    @jax.jit
    def run(floor):
        bounded = dataclasses.replace(cable, floor=floor)
        step = lambda s, _: (bounded.step(s, 0.005, gravity=jnp.array([0, 0, -9.81])), s.x)
        return jax.lax.scan(step, CableState(x, 0 * x), None, length=600)

    state, course = run(-10.0)
    np.testing.assert_allclose(state.x[0], x[0])
    lengths = np.linalg.norm(np.diff(course, axis=1), axis=2)
    np.testing.assert_allclose(lengths, 0.1, rtol=0.1)
    assert course[:, -1, 2].min() < 0.6
    lying, _ = run(0.95)
    assert lying.x[:, 2].min() >= 0.95
    assert jnp.all(jnp.isfinite(lying.v))


def test_explicit_limits():
    np.testing.assert_allclose(contact_limit(jnp.array([2.0, 1.0]), Penalty(8.0, kt=1.0)), 0.5)
    np.testing.assert_allclose(contact_limit(1.0, Penalty(2.0, kt=10.0)), 0.2)
    assert contact_limit(1.0, Penalty(0.0)) == np.inf
