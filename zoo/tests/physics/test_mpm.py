"""The material point method: transfers, conservation, free fall, a period, walls, symmetry, derivatives, doors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.physics import decompositions, materials, mpm, rollouts
from dini_zoo.physics.elasticity import lame
from dini_zoo.physics.mpm import MPMConfig, MPMState, Particles
from dini_zoo.physics.rollouts import simulate

JELLY = materials.jelly(1e5, 0.2)


def cube(config, low, high, side, velocity=0.0, dtype=float):
    """A cube, or a square, of particles."""
    d = config.dim
    x, volume = mpm.lattice((low,) * d, (high,) * d, (side,) * d)
    return Particles(volume, 1000.0), mpm.initial_state(config, x.astype(dtype), velocity)


def cross(x, v):
    return x[:, 0] * v[:, 1] - x[:, 1] * v[:, 0]


@pytest.mark.parametrize("d", [2, 3])
def test_transfers_keep_momentum_and_affine_fields(d):
    """Exact check 1."""
    config = MPMConfig(9, 1e-3, gravity=(0.0,) * d, bound=0)
    random = np.random.default_rng(d)
    x = random.uniform(0.2, 0.8, (40, d))
    particles = Particles(random.uniform(1, 2, 40), random.uniform(1, 2, 40))
    v, C, tau = random.normal(size=(40, d)), random.normal(size=(40, d, d)), 1e3 * random.normal(size=(40, d, d))
    state = mpm.initial_state(config, x, v, C=C)
    at = mpm.stencil(config, state.x)
    mass, momentum = mpm.to_grid(config, particles, at, state, jnp.asarray(tau))
    np.testing.assert_allclose(mass.sum(), particles.mass.sum(), rtol=1e-13)
    scale = np.abs(momentum).sum()
    np.testing.assert_allclose(momentum.sum(axis=0), particles.mass @ v, atol=1e-12 * scale)
    nodes = np.indices((9,) * d).reshape(d, -1).T / 9
    a, B = random.normal(size=d), random.normal(size=(d, d))
    v, C = mpm.from_grid(config, at, jnp.asarray(a + nodes @ B.T))
    np.testing.assert_allclose(v, a + x @ B.T, atol=1e-13)
    np.testing.assert_allclose(C, np.broadcast_to(B, C.shape), atol=1e-12)


def conserved(dtype):
    config = MPMConfig(12, 1e-3, gravity=(0.0, 0.0, 0.0), bound=0)
    particles, state = cube(config, 0.35, 0.65, 4, dtype=dtype)
    v = mpm.spinning(state.x, (0.1, -0.05, 0.05), (4, 4, 4), 0.5)
    state = state._replace(v=jnp.asarray(v, dtype))
    roll = jax.jit(lambda state: simulate(config, particles, state, JELLY.elasticity, steps=500).final)
    final = roll(state)
    mass, angular = particles.mass * len(state.x), lambda state: mpm.angular_momentum(config, particles, state)
    linear = lambda state: mpm.linear_momentum(particles, state)
    orbital = lambda state: particles.mass * np.cross(state.x, state.v).sum(axis=0)
    size = np.linalg.norm(angular(state))
    assert np.all(np.isfinite(final.x))
    assert np.linalg.norm(final.x - state.x) > 0.1
    return (
        np.linalg.norm(linear(final) - linear(state)) / (mass * np.linalg.norm(v, axis=1).mean()),
        np.linalg.norm(angular(final) - angular(state)) / size,
        np.linalg.norm(orbital(final) - orbital(state)) / size,
    )


def test_momenta_are_kept():
    """Exact check 1: over 500 steps, the angular one with the part of the affine fields."""
    linear, angular, orbital = conserved(np.float64)
    assert linear < 1e-11
    assert angular < 1e-11
    assert orbital > 0.01


@pytest.mark.thorough
def test_momenta_are_kept_in_single_precision():
    with jax.enable_x64(False):
        linear, angular, _ = conserved(np.float32)
    assert linear < 2e-5
    assert angular < 2e-5


def test_momenta_are_kept_in_the_plane():
    config = MPMConfig(12, 1e-3, gravity=(0.0, 0.0), bound=0)
    particles, state = cube(config, 0.35, 0.65, 5)
    spin = lambda x: np.stack([-4 * (x[:, 1] - 0.5), 4 * (x[:, 0] - 0.5)], axis=1)
    state = state._replace(v=jnp.asarray(spin(np.asarray(state.x)) + np.array([0.1, -0.05])))
    final = jax.jit(lambda state: simulate(config, particles, state, JELLY.elasticity, steps=200).final)(state)
    of = lambda state: np.array(
        [*mpm.linear_momentum(particles, state), mpm.angular_momentum(config, particles, state)]
    )
    np.testing.assert_allclose(of(final), of(state), atol=1e-11 * np.abs(of(state)).max())
    # undeformed at a small amplitude: each particle is turned by the same angle as the body
    assert np.linalg.norm(final.x - state.x) > 0.1


def test_free_fall():
    """Exact check 2."""
    gravity = np.array([0.5, -9.8, 0.0])
    config = MPMConfig(12, 1e-3, gravity=tuple(gravity), bound=2)
    v = np.array([0.3, 0.5, -0.2])
    particles, state = cube(config, 0.4, 0.6, 3, v)
    n = 60
    final = jax.jit(lambda state: simulate(config, particles, state, JELLY.elasticity, steps=n).final)(state)
    np.testing.assert_allclose(final.x, state.x + n * 1e-3 * v + gravity * 1e-6 * n * (n + 1) / 2, atol=1e-12)
    np.testing.assert_allclose(final.F, np.broadcast_to(np.eye(3), final.F.shape), atol=1e-11)


@pytest.mark.thorough
@pytest.mark.parametrize("nu", [0.0, 0.2])
def test_the_period_of_a_wave(nu):
    """Exact check 3: a bar that swings along its length."""
    config = MPMConfig(32, 2e-4, gravity=(0.0, 0.0, 0.0), bound=0)
    x, volume = mpm.lattice((0.25, 0.4375, 0.4375), (0.75, 0.5625, 0.5625), (32, 8, 8), faces=False)
    np.testing.assert_allclose(volume, 1 / 64**3)
    shape = np.sin(np.pi * (x[:, 0] - 0.5) / 0.5)
    v = np.zeros_like(x)
    v[:, 0] = 0.2 * shape
    material = materials.jelly(1e5, nu)
    state = mpm.initial_state(config, x, v)
    record = lambda state: jnp.mean(state.v[:, 0] * shape)
    roll = lambda state: (
        simulate(config, Particles(volume, 1e3), state, material.elasticity, steps=660, record=record).recorded
    )
    swing = np.asarray(jax.jit(roll)(state))
    after = np.flatnonzero(np.diff(np.sign(swing)))
    zeros = after + swing[after] / (swing[after] - swing[after + 1])
    period = (zeros[2] - zeros[0]) * 2e-4
    np.testing.assert_allclose(period, 0.1, rtol=0.015)


def test_walls():
    config = MPMConfig(8, 1e-3, gravity=(0.0, 0.0), bound=2)
    velocity = lambda v, boundary: np.asarray(
        mpm.grid_velocity(
            MPMConfig(8, 1e-3, gravity=(0.0, 0.0), bound=2, boundary=boundary),
            jnp.ones(64),
            jnp.broadcast_to(jnp.asarray(v), (64, 2)),
        )
    ).reshape(8, 8, 2)
    low, high = (one.reshape(8, 8, 2) for one in config.walls)
    assert low[1, 5].tolist() == [True, False]
    assert high[7, 5].tolist() == [True, False]
    assert not high[6, 6].any()
    for v in ((-1.0, 0.5), (1.0, 0.5)):
        slip, stick = velocity(v, "slip"), velocity(v, "stick")
        into = low[..., 0] if v[0] < 0 else high[..., 0]
        top = high[..., 1]
        np.testing.assert_array_equal(slip[..., 0], np.where(into, 0, v[0]))
        np.testing.assert_array_equal(slip[..., 1], np.where(top, 0, v[1]))
        np.testing.assert_array_equal(stick, np.where((into | top)[..., None], 0, v))


@functools.cache
def plane():
    """A square that hits a wall, with and without checkpoints, and its derivative by the modulus."""
    config = MPMConfig(10, 1e-3, gravity=(0.0, -9.8), bound=2)
    particles, state = cube(config, 0.25, 0.6, 4, np.array([1.0, -3.0]))

    @functools.partial(jax.jit, static_argnums=1)
    def value(E, checkpoint):
        material = materials.jelly(E, 0.2)
        roll = simulate(config, particles, state, material.elasticity, steps=50, checkpoint=checkpoint)
        return jnp.sum(roll.recorded**2), roll

    return value


def test_checkpoints_change_nothing_and_derivatives_are_right():
    value = plane()
    at = jax.jit(jax.value_and_grad(lambda E: value(E, 20)[0]))
    one, roll = value(1e4, 1)
    assert roll.recorded.shape == (50, 16, 2)
    again, slope = at(1e4)
    np.testing.assert_allclose(again, one, rtol=1e-13)
    difference = (at(1e4 + 1.0)[0] - at(1e4 - 1.0)[0]) / 2
    np.testing.assert_allclose(slope, difference, rtol=1e-6)
    np.testing.assert_allclose(roll.final.x, roll.recorded[-1])


def test_a_quarter_turn_and_a_mirror():
    config = MPMConfig(12, 1e-3, gravity=(0.0, 0.0), bound=0)
    particles, state = cube(config, 0.4, 0.65, 4)
    random = np.random.default_rng(0)
    state = state._replace(v=jnp.asarray(random.normal(size=(16, 2))), F=state.F + 0.1 * random.normal(size=(16, 2, 2)))
    roll = jax.jit(lambda state: simulate(config, particles, state, JELLY.elasticity, steps=40).final)
    final = roll(state)
    for Q in (np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([[-1.0, 0.0], [0.0, 1.0]])):
        turn = lambda state, Q=Q: MPMState(
            (state.x - 0.5) @ Q.T + 0.5, state.v @ Q.T, Q @ state.C @ Q.T, Q @ state.F @ (Q.T if Q[0, 0] else np.eye(2))
        )
        for one, other in zip(roll(turn(state)), turn(final), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-10)


@pytest.mark.thorough
def test_water_and_sand_come_to_lie_flat():
    """Other materials on a floor in the plane: finite, and flatter than a jelly."""
    config = MPMConfig(16, 5e-4, gravity=(0.0, -9.8), bound=3)
    particles, state = cube(config, 0.35, 0.65, 6)
    heights = {}
    for name, material in {
        "jelly": JELLY,
        "sand": materials.sand(1e5),
        "water": materials.water(1e5),
        "plasticine": materials.plasticine(1e5, 0.25, 1e2),
    }.items():
        roll = jax.jit(
            lambda state, material=material: simulate(
                config, particles, state, material.elasticity, material.plasticity, steps=500, record=lambda _: None
            )
        )(state)
        assert roll.is_sound
        heights[name] = float(jnp.mean(roll.final.x[:, 1]))
    assert max(heights["sand"], heights["water"], heights["plasticine"]) < heights["jelly"] - 0.01


def test_what_cannot_be_simulated_is_refused():
    config = MPMConfig(12, 1e-3, gravity=(0.0, -9.8))
    for changes, message in (
        ({"n": 3}, "n must be at least 4: given 3"),
        ({"dt": 0.0}, "dt must be positive"),
        ({"gravity": (1.0,)}, "gravity must have 2 or 3 components"),
        ({"bound": 6}, "bound must be from 0 to less than half of n = 12: given 6"),
        ({"boundary": "glue"}, "boundary must be one of 'slip', 'stick': given 'glue'"),
        ({"eps": -1.0}, "eps must be zero or more"),
        ({"margin": 0.0}, "margin must be positive and less than half"),
    ):
        with pytest.raises(ValueError, match=message):
            MPMConfig(**({"n": 12, "dt": 1e-3} | changes))
    particles, state = cube(config, 0.3, 0.6, 3)
    with pytest.raises(ValueError, match=r"x must be within the unit cube: given -0\.1 to 0\.5"):
        mpm.initial_state(config, np.array([[-0.1, 0.5]]))
    with pytest.raises(ValueError, match=r"x must have the shape \(particles, 2\)"):
        mpm.initial_state(config, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="density must be positive"):
        simulate(config, Particles(1.0, -1.0), state, JELLY.elasticity, steps=1)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        simulate(config, particles, state, JELLY.elasticity, steps=0)
    with pytest.raises(ValueError, match=r"elastic waves go 3\.\d+ cells in a step"):
        simulate(config, particles, state, materials.jelly(8e7, 0.2).elasticity, steps=1)
    explosive = lambda F: -3e5 * (F @ F.T - jnp.eye(2))
    with pytest.raises(FloatingPointError, match="The simulation is not finite"):
        simulate(
            config,
            particles,
            state._replace(F=1.5 * state.F),
            lambda F: explosive(F) * jnp.exp(1e3 * jnp.trace(F)),
            steps=20,
        )


def test_a_batch_with_one_bad_lane():
    config = MPMConfig(12, 1e-3, gravity=(0.0, -9.8))
    particles, state = cube(config, 0.3, 0.6, 3)
    v = jnp.stack([state.v, jnp.full_like(state.v, jnp.nan)])
    roll = jax.jit(jax.vmap(lambda v: simulate(config, particles, state._replace(v=v), JELLY.elasticity, steps=3)))(v)
    assert roll.finite.tolist() == [True, False]
    assert np.all(np.isfinite(roll.final.x[0]))
    with pytest.raises(FloatingPointError, match="not finite"):
        roll.checked()


def test_the_courant_number_is_that_of_pressure_waves():
    config = MPMConfig(20, 5e-4)
    mu, lam = lame(1e6, 0.2)
    for material in (materials.jelly(1e6, 0.2), materials.sand(1e6, 0.2)):
        found = rollouts.courant_number(config, Particles(1.0, 1e3), material.elasticity)
        np.testing.assert_allclose(found, 5e-4 * 20 * np.sqrt((lam + 2 * mu) / 1e3), rtol=1e-12)


@pytest.mark.thorough
def test_a_rollout_differentiates_through_a_root_of_dini_in_each_particle():
    """The rotation by `dini.custom_root`, within vmap, checkpoint, scan and jit, beside the closed rule."""
    config = MPMConfig(10, 1e-3, gravity=(0.0, -9.8), bound=2)
    particles, state = cube(config, 0.22, 0.5, 3, np.array([1.0, -3.0]))
    _, lam = lame(1e5, 0.2)

    def moved(mu, rotation):
        def law(F):
            J = decompositions.determinant(F)
            return 2 * mu * (F - rotation(F)) @ F.T + lam * J * (J - 1) * jnp.eye(2)

        return jnp.sum(simulate(config, particles, state, law, steps=30, checkpoint=5).final.x ** 2)

    found = [
        jax.jit(jax.value_and_grad(lambda mu, rotation=rotation: moved(mu, rotation)))(4e4)
        for rotation in (decompositions.polar, decompositions.polar_root)
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)
    assert found[0][1] != 0
