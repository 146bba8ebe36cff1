"""Tetrahedra: closed forms of elasticity, explicit steps and equilibria; what bad input gets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini_zoo.physics import dome, elasticity, explicit, tetrahedra
from dini_zoo.physics.elasticity import lame, lame_stable, stable_neo_hookean, stable_neo_hookean_energy
from dini_zoo.physics.explicit import Motion, elastic_limit, explicit_step
from dini_zoo.physics.statics import Load, Statics
from dini_zoo.physics.surfaces import Plane, Sphere, distance_and_normal
from dini_zoo.physics.tetrahedra import TetMesh, block_mesh, elastic_energy, internal_forces, plane_nodes

# the material


def test_the_stress_is_the_slope_of_the_energy_and_linear_elasticity_for_small_strains():
    E, nu = 8e3, 0.43
    mu, lam = lame_stable(E, nu)
    F = jnp.eye(3) + 0.3 * jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 3)))
    energy, stress = (lambda F, law=law: law(F, mu, lam) for law in (stable_neo_hookean_energy, stable_neo_hookean))

    @jax.jit
    def run(F, rest):
        return jax.vmap(jax.grad(energy))(F), stress(F), stress(rest), energy(rest), jax.jacobian(stress)(rest)

    slope, found, at_rest, nothing, stiffness = run(F, jnp.eye(3))
    np.testing.assert_allclose(found, slope, rtol=1e-10)
    np.testing.assert_allclose(at_rest, 0, atol=1e-11)
    assert nothing == 0
    eye, (shear, bulk) = np.eye(3), lame(E, nu)
    same, turned = np.einsum("ik,jl->ijkl", eye, eye), np.einsum("il,jk->ijkl", eye, eye)
    np.testing.assert_allclose(
        stiffness, bulk * np.einsum("ij,kl->ijkl", eye, eye) + shear * (same + turned), atol=1e-9 * bulk
    )


def test_raw_constants_are_another_material():
    """Exact check 2: Lamé's constants as they are give E = 6042.7 and a ratio of 0.4402."""
    shear, bulk = elasticity.linearized(*lame(8e3, 0.43))
    np.testing.assert_allclose(shear * (3 * bulk + 2 * shear) / (bulk + shear), 6042.7, rtol=1e-5)
    np.testing.assert_allclose(bulk / (2 * (bulk + shear)), 0.4402, atol=5e-5)
    np.testing.assert_allclose(elasticity.linearized(*lame_stable(8e3, 0.43)), lame(8e3, 0.43), rtol=1e-12)


# meshes


def test_affine_displacements():
    """Exact check 1: uniform F, and no force at inner nodes; forces are minus the gradient of the energy."""
    mesh = block_mesh((0, 0, 0), (1.0, 2.0, 3.0), (3, 3, 3))
    A = jnp.eye(3) + 0.2 * jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)))
    x = mesh.nodes @ A.T + jnp.array([3.0, -2.0, 1.0])
    bent = x + 0.1 * jnp.sin(3 * mesh.nodes)

    @jax.jit
    def run(x, bent):
        slope = jax.grad(lambda x: elastic_energy(mesh, x, 1.0, 2.0))(bent)
        forces = internal_forces(mesh, x, *lame_stable(1.0, 0.3)), internal_forces(mesh, bent, 1.0, 2.0)
        return tetrahedra.deformation_gradients(mesh, x), *forces, slope

    gradients, forces, bent_forces, slope = run(x, bent)
    np.testing.assert_allclose(gradients, np.broadcast_to(A, (162, 3, 3)), atol=1e-12)
    inner = np.setdiff1d(np.arange(mesh.count), mesh.surface)
    assert len(inner) == 8
    np.testing.assert_allclose(forces[inner], 0, atol=1e-12)
    assert jnp.abs(forces).max() > 1e-3
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(bent_forces, -slope, atol=1e-12)


def test_what_a_mesh_knows():
    mesh = block_mesh((0, 0, 0), (2.0, 1.0, 1.0), (2, 1, 2))
    np.testing.assert_allclose([mesh.volumes.sum(), mesh.masses(3.0).sum(), mesh.areas().sum()], [2, 6, 10])
    a, b, c = np.moveaxis(np.asarray(mesh.nodes)[mesh.surface], 1, 0)
    # surfaces are closed and look outward: their volume by the divergence theorem
    np.testing.assert_allclose(np.sum(np.cross(b - a, c - a) * (a + b + c)) / 18, 2)
    assert mesh.astype(jnp.float32).nodes.dtype == jnp.float32
    free = np.ones((mesh.count, 3), bool)
    free[plane_nodes(mesh, 0, 0.0)] = False
    statics = Statics.of(mesh, free)
    x = mesh.nodes + 0.01 * jnp.sin(5 * mesh.nodes)
    # a ball that touches some nodes, and constants of each tetrahedron
    mu = jnp.linspace(1.0, 2.0, len(mesh.tets))
    load = Load(x, mu, 2 * mu, surface=Sphere([0.9, 0.3, 1.2], 0.5), kn=3.0, areas=mesh.areas())
    touching = np.asarray(distance_and_normal(load.surface, x)[0]) < 0
    assert 0 < touching.sum() < mesh.count

    @jax.jit
    def run(u):
        slope = lambda u: statics.value_and_gradient(u, load)[1]
        nonzeros = statics.hessian_nonzeros(u, load), statics.under(load).hessian_nonzeros(u)
        return jax.jacfwd(slope)(u), slope(u), jax.grad(statics)(u, load), *nonzeros

    hessian, own, slope, nonzeros, under = run(statics.unknown(x))
    inside = statics.pattern.rows, statics.pattern.columns
    outside = np.ones(hessian.shape, bool)
    outside[inside] = False
    assert jnp.abs(hessian[outside]).max() == 0
    np.testing.assert_allclose(own, slope, atol=1e-12)
    np.testing.assert_allclose(nonzeros, hessian[inside], atol=1e-12)
    np.testing.assert_array_equal(under, nonzeros)


def test_a_dome():
    mesh, layer = dome.dome_mesh(count=60, layers=3)
    radius = np.linalg.norm(mesh.nodes, axis=1)
    np.testing.assert_allclose(radius, 0.75 + 0.25 * layer)
    assert np.bincount(layer).tolist() == [60, 107, 167]
    exact = 2 * np.pi / 3 * (1.25**3 - 0.75**3)
    assert 0.85 * exact < mesh.volumes.sum() < 1.01 * exact
    assert tetrahedra.signed_volumes(np.asarray(mesh.nodes), np.asarray(mesh.tets)).min() > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lame(-1.0, 0.3), "E, Young's modulus, must be positive"),
        (lambda: lame(1.0, 0.5), "nu, Poisson's ratio, must be between -1 and 1/2: given 0.5"),
        (lambda: block_mesh((0, 0, 0), (1, 1, 0), (1, 1, 1)), "low < high"),
        (lambda: TetMesh.of(np.eye(3), [[0, 1, 2, 3]]), "tets must name some of the 3 nodes: given 0 to 3"),
        (lambda: TetMesh.of(np.zeros((4, 3)), [[0, 1, 2, 3]]), "1 are flat"),
        (lambda: TetMesh.of(np.zeros((5, 3)), [[0, 1, 2, 3]]), "node 4 the first"),
        (lambda: TetMesh.of(np.zeros((4, 2)), [[0, 1, 2, 3]]), r"nodes of shape \(n, 3\)"),
        (lambda: dome.dome_mesh(layers=1), "layers must be at least 2"),
        (lambda: Statics.of(block_mesh((0, 0, 0), (1, 1, 1), (1, 1, 1)), np.ones(8)), "free must be a mask"),
        (lambda: Statics.of(block_mesh((0, 0, 0), (1, 1, 1), (1, 1, 1)), np.ones(8, bool)), "hold some"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_turned_tetrahedron_is_turned_back():
    nodes = np.concatenate([np.zeros((1, 3)), np.eye(3)])
    for tet in ([0, 1, 2, 3], [0, 2, 1, 3]):
        mesh = TetMesh.of(nodes, [tet])
        np.testing.assert_allclose(tetrahedra.deformation_gradients(mesh, mesh.nodes), [np.eye(3)])


# explicit steps


def test_free_fall_and_vibration():
    """Exact check 7: fall by the closed form of the steps, and energy that is kept over ten periods."""
    mesh = block_mesh((0, 0, 0), (2.0, 1.0, 1.0), (4, 1, 1))
    mu, lam = lame_stable(100.0, 0.3)
    masses = mesh.masses(1.0)
    # half of the limit or less, and so small that a period is sampled well enough for its mean
    dt = 0.25 * elastic_limit(mesh, mu, lam, 1.0)
    gravity = jnp.array([0.0, 0.0, -1.0])

    @jax.jit
    def run(x, v, acceleration):
        def step(motion, _):
            forces = internal_forces(mesh, motion.x, mu, lam) + masses[:, None] * acceleration
            motion = explicit_step(motion, forces, masses, dt)
            kinetic = 0.5 * jnp.sum(masses[:, None] * motion.v**2)
            return motion, (kinetic + elastic_energy(mesh, motion.x, mu, lam), motion.x[0, 0] - motion.x[-1, 0])

        return jax.lax.scan(step, Motion(x, v), None, length=2000)

    still = jnp.zeros_like(mesh.nodes)
    fallen, _ = run(mesh.nodes, still, gravity)
    np.testing.assert_allclose(
        fallen.x - mesh.nodes, np.broadcast_to(gravity * dt**2 * 2000 * 2001 / 2, (20, 3)), atol=1e-9
    )
    _, (energy, length) = run(mesh.nodes * jnp.array([1.02, 1.0, 1.0]), still, 0 * gravity)
    # the lowest longitudinal wave of a bar of length 2 has the period 4 / c
    period = int(4 / np.sqrt(100.0) / dt)
    assert 10 * period < 2000
    assert jnp.ptp(length) > 0.02
    np.testing.assert_allclose(energy[9 * period : 10 * period].mean(), energy[:period].mean(), rtol=0.01)
    assert energy[0] > 0


def test_steps_that_are_too_long():
    with pytest.raises(ValueError, match=r"dt must be below 0\.25, where explicit steps of a mesh"):
        explicit.require_stable(0.3, 0.25, "a mesh")


# equilibria


def reaction(statics, x, load, nodes, axis):
    """The force that holds prescribed nodes."""
    return -statics.forces(x, load)[nodes, axis].sum()


@pytest.mark.thorough
def test_uniaxial_tension():
    """Exact check 2: the modulus and the ratio of a block on rollers."""
    mesh = block_mesh((0, 0, 0), (4.0, 2.0, 2.0), (4, 2, 2))
    ends = plane_nodes(mesh, 0, 0.0), plane_nodes(mesh, 0, 4.0)
    free = np.ones((mesh.count, 3), bool)
    free[ends[0] | ends[1], 0] = False
    free[0, 1:] = False
    free[np.flatnonzero(ends[0] & plane_nodes(mesh, 1, 2.0) & plane_nodes(mesh, 2, 0.0)), 2] = False
    statics = Statics.of(mesh, free)
    load = Load(mesh.nodes * jnp.array([1.001, 1, 1]), *lame_stable(1.0, 0.3))
    x, found = statics.solve(load, mesh.nodes)
    assert found.status == dini.Status.CONVERGED
    modulus = reaction(statics, x, load, ends[1], 0) / (4 * 1e-3)
    ratio = -(jnp.ptp(x[:, 1]) - 2) / 2 / 1e-3
    np.testing.assert_allclose([modulus, ratio], [0.99939, 0.29997], atol=1e-5)


@pytest.mark.thorough
def test_a_column_under_its_own_weight():
    """Exact check 3."""
    mesh = block_mesh((0, 0, 0), (0.2, 0.2, 1.0), (2, 2, 10))
    statics = Statics.of(mesh, ~plane_nodes(mesh, 2, 0.0))
    weight = -1e-3 * mesh.masses(1.0)[:, None] * jnp.array([0, 0, 1.0])
    x, _ = statics.solve(Load(mesh.nodes, *lame_stable(1.0, 1e-3), forces=weight), mesh.nodes)
    top = plane_nodes(mesh, 2, 1.0)
    np.testing.assert_allclose((x - mesh.nodes)[top, 2].mean(), -5e-4, rtol=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize(("n", "known"), [(2, (0.553, 0.508)), (3, (0.732, 0.689)), (4, (0.829, 0.793))])
def test_a_cantilever(n, known):
    """Exact check 4: linear tetrahedra are too stiff in bending, and less so where they are smaller."""
    mesh = block_mesh((0, 0, 0), (1.0, 0.1, 0.1), (10 * n, n, n))
    statics, tip = Statics.of(mesh, ~plane_nodes(mesh, 0, 0.0)), jnp.asarray(plane_nodes(mesh, 0, 1.0))
    push = 1e-7
    forces = jnp.where(tip[:, None], jnp.array([0, 0, push]) / tip.sum(), 0)
    solve = jax.jit(lambda mu, lam: statics.solve(Load(mesh.nodes, mu, lam, forces), mesh.nodes)[0])
    beam = push / (3 * 0.1**4 / 12)
    for nu, reference in zip((0.0, 0.3), known, strict=True):
        bent = (solve(*lame_stable(1.0, nu)) - mesh.nodes)[tip, 2].mean() / beam
        np.testing.assert_allclose(bent, reference, atol=0.01)
        assert bent < 1.02


@pytest.mark.thorough
def test_a_platen():
    """Exact check 5: contact and block are two springs in series."""
    mesh, k, d = block_mesh((0, 0, 0), (1.0, 1.0, 1.0), (2, 2, 2)), 5.0, 0.01
    foot, top = plane_nodes(mesh, 2, 0.0), plane_nodes(mesh, 2, 1.0)
    free = np.ones((mesh.count, 3), bool)
    free[foot, 2] = False
    free[0, :2] = False
    free[2, 1] = False
    triangles = mesh.surface[np.all(top[np.asarray(mesh.surface)], axis=1)]
    platen = Plane([0.0, 0.0, 1.0 - d], [0.0, 0.0, -1.0])
    statics = Statics.of(mesh, free)
    load = Load(mesh.nodes, *lame_stable(1.0, 0.3), surface=platen, kn=k, areas=mesh.areas(triangles))
    x, _ = statics.solve(load, mesh.nodes)
    np.testing.assert_allclose(reaction(statics, x, load, foot, 2), d / (1 / k + 1), rtol=0.01)
    np.testing.assert_allclose(-statics.contact_forces(x, load)[:, 2].sum(), d / (1 / k + 1), rtol=0.01)
