"""Small matrices and laws: against NumPy, closed forms, differences and dini's derivatives; ties, scales, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini_zoo.physics import decompositions, materials
from dini_zoo.physics.decompositions import isotropic, polar, polar_and_values, polar_root, singular_values, svd
from dini_zoo.physics.elasticity import lame

MU, LAM = lame(1e5, 0.2)
I = np.eye(3)


def rotation(seed, d=3):
    """A random one."""
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    return Q * np.linalg.det(Q) if d == 3 else Q * np.array([1, np.linalg.det(Q)])


def slopes(fun, F, width=1e-6):
    """The derivative by central differences, an axis pair for the matrix behind."""
    d = len(F)
    E = width * np.eye(d * d).reshape(-1, d, d)
    difference = (jax.vmap(fun)(F + E) - jax.vmap(fun)(F - E)) / (2 * width)
    return np.moveaxis(np.asarray(difference), 0, -1).reshape(*difference.shape[1:], d, d)


@pytest.mark.parametrize("d", [2, 3])
def test_the_decomposition_has_rotations(d):
    F = np.random.default_rng(d).normal(size=(200, d, d))
    F[:4] = np.eye(d), 2 * np.eye(d), -np.eye(d), rotation(0, d)
    F[4:50] *= np.logspace(-6, 6, 46)[:, None, None]
    U, s, V = jax.jit(jax.vmap(svd))(F)
    scale = np.abs(np.asarray(s)).max(axis=1)[:, None, None]
    np.testing.assert_allclose(((U * s[:, None, :]) @ V.mT - F) / scale, 0, atol=3e-15)
    for one in (U, V):
        np.testing.assert_allclose(one @ one.mT, np.broadcast_to(np.eye(d), F.shape), atol=3e-15)
        np.testing.assert_allclose(jnp.linalg.det(one), 1, atol=1e-14)
    np.testing.assert_allclose(
        np.abs(s) / scale[..., 0], np.linalg.svd(F, compute_uv=False) / scale[..., 0], atol=3e-15
    )
    assert np.all(np.sign(s[:, -1]) == np.sign(np.linalg.det(F)))


def test_polar_has_the_derivative_of_a_root():
    """Exact check 4, by the closed rule, by dini's, and by differences; at the identity it is the skew part."""
    bent = I + 0.3 * np.random.default_rng(1).normal(size=(3, 3))
    flipped = bent * np.array([1, 1, -1])
    both = jax.jit(lambda F: (jax.jacobian(polar)(F), jax.jacobian(polar_root)(F), jax.jacrev(polar)(F)))
    for F in (I, bent, 1e-6 * bent, 1e6 * bent, flipped):
        closed, implicit, reverse = both(F)
        size = np.abs(closed).max()
        np.testing.assert_allclose(implicit, closed, atol=1e-11 * size)
        np.testing.assert_allclose(reverse, closed, atol=1e-12 * size)
        width = 1e-6 * np.linalg.norm(F)
        np.testing.assert_allclose(slopes(polar, F, width), closed, atol=2e-9 * size)
    at_identity = both(I)[0]
    skew = (np.einsum("ik,jl->ijkl", I, I) - np.einsum("il,jk->ijkl", I, I)) / 2
    np.testing.assert_allclose(at_identity, skew, atol=1e-15)
    # the second derivative is smooth there, too
    second = jax.jit(jax.jacfwd(jax.jacfwd(polar)))(I)
    bend = jax.jit(jax.jacfwd(polar))
    np.testing.assert_allclose(
        second[..., 0, 1], (bend(I + 1e-6 * np.eye(3)[[0]].T @ np.eye(3)[[1]]) - skew) / 1e-6, atol=2e-5
    )


@pytest.mark.thorough
def test_a_root_finder_of_dini_finds_the_rotation():
    F = I + 0.2 * np.random.default_rng(2).normal(size=(3, 3))
    found = dini.root(decompositions._away_from_polar, jnp.eye(3), jnp.asarray(F)).x
    np.testing.assert_allclose(found, polar(F), atol=1e-10)
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.array([[1.5, 0.2], [0.2, 0.7]])
    np.testing.assert_allclose(polar(turn @ stretch), turn, atol=1e-15)
    slope = jax.jacobian(polar)(turn @ stretch)
    np.testing.assert_allclose(slope, slopes(polar, turn @ stretch), atol=1e-9)
    np.testing.assert_allclose(jax.jacobian(polar_root)(turn @ stretch), slope, atol=1e-12)


def test_one_bad_lane_spoils_no_other():
    F = jnp.stack([jnp.eye(3), jnp.full((3, 3), jnp.nan), jnp.zeros((3, 3)), 2 * jnp.eye(3)]).astype(jnp.float32)
    (R, s), slope = jax.jit(lambda F: (jax.vmap(polar_and_values)(F), jax.vmap(jax.jacfwd(singular_values))(F)))(F)
    assert R.dtype == jnp.float32
    for lane, good in enumerate((True, False, False, True)):
        assert np.all(np.isfinite(R[lane])) == good
        assert np.all(np.isfinite(slope[lane])) == good
    np.testing.assert_array_equal(s[2], 0)
    with pytest.raises(ValueError, match=r"F must have the shape \(d, d\): given \(4, 3, 3\)"):
        polar(F)


def test_isotropic_functions_have_derivatives_at_ties():
    """A square of the matrix, whose derivative is known, and laws: at, near and off equal singular values."""
    cube = lambda F: isotropic(lambda s, k: k * s**3, F, 2.0)
    exact = lambda F: 2 * F @ F.T @ F
    ours, known = (jax.jit(jax.jacobian(fun)) for fun in (cube, exact))
    turned = rotation(3) @ np.diag([1.0, 1.0, 0.5]) @ rotation(4).T
    for F in (I, turned, turned + 1e-7 * rotation(5), I + 0.3 * rotation(6), np.diag([1.0, 0.9, -0.4])):
        np.testing.assert_allclose(cube(F), exact(F), atol=1e-13)
        np.testing.assert_allclose(ours(F), known(F), atol=3e-10)
    np.testing.assert_allclose(
        jax.grad(lambda k: jnp.sum(isotropic(lambda s, k: k * s**3, turned, k)))(2.0),
        np.sum(turned @ turned.T @ turned),
        rtol=1e-12,
    )
    # the second derivative is right where values differ
    F = np.diag([1.2, 0.9, 0.4]) + 0.1 * rotation(7)
    second = lambda fun: jax.jit(jax.jvp, static_argnums=0)(jax.grad(lambda F: jnp.sum(jnp.sin(fun(F)))), (F,), (I,))[1]
    np.testing.assert_allclose(second(cube), second(exact), rtol=1e-9)
    with pytest.raises(ValueError, match="values must return a vector like sigma"):
        isotropic(lambda s: s[:2], I)


def test_solids_are_linear_elastic_for_small_strains():
    linear = MU * (np.einsum("ik,jl->ijkl", I, I) + np.einsum("il,jk->ijkl", I, I)) + LAM * np.einsum(
        "ij,kl->ijkl", I, I
    )
    for law in (materials.corotated, materials.hencky):
        fun = lambda F, law=law: law(F, MU, LAM)
        np.testing.assert_allclose(jax.jit(jax.jacobian(fun))(I), linear, atol=1e-9 * MU)
        F = I + 0.2 * np.random.default_rng(8).normal(size=(3, 3))
        Q = rotation(9)
        np.testing.assert_allclose(fun(Q @ F), Q @ fun(F) @ Q.T, atol=1e-10 * MU)
        np.testing.assert_allclose(fun(Q), 0, atol=1e-9)
        np.testing.assert_allclose(jax.jit(jax.jacobian(fun))(F), slopes(fun, F), atol=3e-9 * MU)
    w, U = np.linalg.eigh(F @ F.T)
    e = np.log(w) / 2
    np.testing.assert_allclose(materials.hencky(F, MU, LAM), (U * (2 * MU * e + LAM * e.sum())) @ U.T, atol=1e-9)
    J = np.linalg.det(F)
    np.testing.assert_allclose(materials.weakly_compressible(F, LAM), LAM * J * (J - 1) * I, atol=1e-9)
    # uniaxial stress of a plane and of space: Young's modulus over Lamé's
    np.testing.assert_allclose(MU * (3 * LAM + 2 * MU) / (LAM + MU), 1e5)
    np.testing.assert_allclose(LAM / (2 * (LAM + MU)), 0.2)


def deformed(count, seed):
    return I + 0.25 * np.random.default_rng(seed).normal(size=(count, 3, 3))


def strains(F):
    e = np.log(np.linalg.svd(F, compute_uv=False))
    return e, np.linalg.norm(e - e.mean(axis=-1, keepdims=True), axis=-1)


def closed(e, r):
    """What the return map does to strains."""
    return jnp.log(materials._von_mises_stretches(jnp.exp(e), 1.0, 2 * r))


@pytest.mark.thorough
def test_the_von_mises_return_is_what_a_solver_of_dini_finds():
    """The program that defines the projection, solved and differentiated implicitly."""
    program = lambda e, r: (
        dini.minimize(
            lambda x: jnp.sum((x - e) ** 2) / 2,
            e,
            inequality=lambda x: jnp.sum((x - jnp.mean(x)) ** 2) - r**2,
        ).x
    )
    e, radius = jnp.array([0.3, 0.1, -0.25]), 0.08
    np.testing.assert_allclose(program(e, radius), closed(e, radius), atol=1e-8)
    slopes = (jax.jacobian(fun, (0, 1))(e, radius) for fun in (program, closed))
    for one, other in zip(*slopes, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_von_mises_return_is_a_projection():
    """Exact check 5; and values and derivatives beside dini's projection."""
    mu, limit = 1.2e4, 2e3
    radius = limit / (2 * mu)
    map_ = lambda F: materials.von_mises_return(F, mu, limit)
    F = deformed(60, 10)
    out = np.asarray(jax.jit(jax.vmap(map_))(F))
    size = strains(F)[1]
    yields = size > radius
    assert yields.sum() > 5
    small = I + 0.1 * (F - I)
    inside = strains(small)[1] < radius
    assert inside.any()
    np.testing.assert_allclose(jax.vmap(map_)(small[inside]), small[inside], atol=1e-14)
    np.testing.assert_allclose(strains(out)[1][yields], radius, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.det(out), np.linalg.det(F), rtol=1e-12)
    # the closed form of the strains and dini's sets
    sets = jax.jit(
        lambda e, r: (materials.von_mises_projection(e, r), jax.jacobian(materials.von_mises_projection, (0, 1))(e, r))
    )
    ours = jax.jit(lambda e, r: (closed(e, r), jax.jacobian(closed, (0, 1))(e, r)))
    for e in (*strains(F)[0][yields][:3], 0.01 * strains(F)[0][0], np.full(3, 0.3)):
        for one, other in zip(jax.tree.leaves(sets(e, radius)), jax.tree.leaves(ours(e, radius)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-13)
    slope = jax.jit(jax.jacobian(map_))
    for one in (F[yields][0], small[inside][0], I):
        np.testing.assert_allclose(slope(one), slopes(map_, one), atol=2e-9)


def test_drucker_prager_stays_in_its_cone():
    """Exact check 5."""
    mu, lam = lame(1e6, 0.2)
    map_ = lambda F: materials.drucker_prager_return(F, mu, lam, 25.0)
    squeezed = deformed(200, 11)
    out = np.asarray(jax.jit(jax.vmap(map_))(squeezed))
    e, _ = strains(np.where(np.linalg.det(squeezed)[:, None, None] > 0, squeezed, I))
    after, size = strains(out)
    slope = float(materials.friction_slope(25.0))
    np.testing.assert_allclose(slope, np.sqrt(2 / 3) * 2 * np.sin(np.pi * 25 / 180) / (3 - np.sin(np.pi * 25 / 180)))
    excess = size + (3 * lam + 2 * mu) / (2 * mu) * slope * after.sum(axis=1)
    assert np.all(excess < 1e-12)
    expands = e.sum(axis=1) > 1e-9
    assert 10 < expands.sum() < 190
    np.testing.assert_allclose(after[expands], 0, atol=1e-13)
    # a state within the cone: mostly pressure
    inside = rotation(12) @ np.diag(np.exp([-0.10, -0.11, -0.12])) @ rotation(13).T
    np.testing.assert_allclose(map_(inside), inside, atol=1e-14)
    np.testing.assert_allclose(jax.jit(jax.jacobian(map_))(inside), slopes(map_, inside), atol=2e-9)
    shear = np.array([[0.95, 0.3, 0.0], [0.0, 0.95, 0.0], [0.0, 0.0, 0.98]])
    np.testing.assert_allclose(jax.jit(jax.jacobian(map_))(shear), slopes(map_, shear), atol=2e-9)
    assert np.linalg.norm(map_(shear) - shear) > 0.05
    np.testing.assert_allclose(np.linalg.det(map_(shear)), np.linalg.det(shear))
    fluid = materials.project_fluid(shear)
    np.testing.assert_allclose(fluid, np.cbrt(np.linalg.det(shear)) * I, atol=1e-15)


def test_what_collapses_is_kept_finite_by_return_maps():
    flat = np.diag([1.0, 0.8, -1e-3])
    for out in (materials.von_mises_return(flat, 1.0, 100.0), materials.drucker_prager_return(flat, 1.0, 1.0)):
        assert np.all(np.isfinite(out))
        assert np.linalg.det(out) > 0
    assert np.isnan(materials.hencky(flat, 1.0, 1.0)).any()


def test_bad_moduli_are_refused():
    for E, nu, message in (
        (-1.0, 0.2, "E, Young's modulus, must be positive and finite: given -1.0"),
        (np.nan, 0.2, "E, Young's modulus, must be positive"),
        (1.0, 0.5, "nu, Poisson's ratio, must be between -1 and 1/2: given 0.5"),
        (1.0, -1.0, "nu, Poisson's ratio, must be between -1 and 1/2"),
    ):
        with pytest.raises(ValueError, match=message):
            materials.jelly(E, nu)
    with pytest.raises(ValueError, match="yield_stress must be positive"):
        materials.von_mises_return(I, 1.0, 0.0)
    with pytest.raises(ValueError, match="angle must be at least 0 and less than 90 degrees: given 90"):
        materials.drucker_prager_return(I, 1.0, 1.0, 90.0)
