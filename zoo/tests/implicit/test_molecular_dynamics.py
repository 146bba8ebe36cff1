"""Packed disks: their energy against plain loops, FIRE by hand, the derivatives against one another."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met

import dini
from dini_zoo.implicit.molecular_dynamics.experiment import experiment
from dini_zoo.implicit.molecular_dynamics.fire import FIRE
from dini_zoo.implicit.molecular_dynamics.packing import (
    box_side,
    diameters,
    displacements,
    energy,
    overlaps,
    packing,
    random_start,
)
from dini_zoo.implicit.molecular_dynamics.report import SIZES
from dini_zoo.implicit.molecular_dynamics.sensitivity import examine, implicit, minimum_norm, size, unroll
from dini_zoo.kit.modes import distance

TINY = experiment.settings.tiny()
SOLVER = FIRE(max_steps=TINY.steps)
THETA, DISKS = TINY.theta, TINY.few.disks
SIDE = box_side(DISKS, THETA, TINY.fraction)
ENERGY, FORCE = jax.jit(energy), jax.jit(jax.grad(energy))


def thrown(which):
    """A start of the tiny run: the first packing has no rattler, the second one."""
    return np.asarray(random_start(jax.random.split(jax.random.PRNGKey(0), 2)[which], DISKS, SIDE))


def test_the_square_has_the_area_that_the_disks_would_fill():
    area = np.pi / 4 * np.sum(np.asarray(diameters(0.6, 7)) ** 2)
    assert box_side(7, 0.6, 0.9) ** 2 * 0.9 == pytest.approx(area)
    assert box_side(64, 0.6, 0.9) == pytest.approx(6.16266, abs=1e-5)  # the specification's


def test_displacements_are_to_the_nearest_of_all_images():
    x = np.random.RandomState(0).uniform(-2 * SIDE, 2 * SIDE, (5, 2))
    found = np.asarray(displacements(x, SIDE))
    shifts = SIDE * np.array(list(itertools.product(range(-5, 6), repeat=2)))
    for i, j in itertools.product(range(5), repeat=2):
        images = x[i] - x[j] + shifts
        np.testing.assert_allclose(found[i, j], images[np.argmin(np.linalg.norm(images, axis=1))], atol=1e-12)


def test_the_energy_is_a_sum_over_pairs_and_the_force_its_slope():
    x = thrown(0)
    sigma = np.where(np.arange(DISKS) < DISKS // 2, THETA, 1.0)
    total = 0.0
    for i, j in itertools.combinations(range(DISKS), 2):
        apart = x[i] - x[j]
        distance = np.linalg.norm(apart - SIDE * np.round(apart / SIDE))
        total += 0.5 * max(0.0, 1 - 2 * distance / (sigma[i] + sigma[j])) ** 2
    assert float(ENERGY(x, THETA, SIDE)) == pytest.approx(total, rel=1e-13)
    gradient, width = np.asarray(FORCE(x, THETA, SIDE)), 1e-6
    for k in range(4):
        step = np.zeros_like(x)
        step[k, k % 2] = width
        slope = (ENERGY(x + step, THETA, SIDE) - ENERGY(x - step, THETA, SIDE)) / (2 * width)
        assert gradient[k, k % 2] == pytest.approx(float(slope), abs=1e-9)
    np.testing.assert_allclose(gradient.sum(axis=0), 0, atol=1e-13)


def test_the_energy_feels_neither_a_common_shift_nor_a_move_to_another_image():
    x = thrown(0)
    moved = x + np.array([0.3, -7.1])
    moved[2, 1] += 3 * SIDE
    assert float(ENERGY(moved, THETA, SIDE)) == pytest.approx(float(ENERGY(x, THETA, SIDE)), rel=1e-12)


def test_disks_in_one_place_have_finite_derivatives():
    x = np.zeros((DISKS, 2))
    assert np.all(FORCE(x, THETA, SIDE) == 0)
    assert np.all(np.asarray(overlaps(x, THETA, SIDE)) == 1 - np.eye(DISKS))


def test_steps_of_fire_by_hand():
    # E = a x² / 2 in one dimension: force -a x
    problem, a = dini.Minimize(lambda x, a: 0.5 * a * jnp.sum(x**2)), 2.0
    solver, x = FIRE(patience=0), jnp.array([1.0])
    state = solver.init(problem, x, a)
    assert float(state.error) == 2.0
    x, state = solver.step(problem, x, state, a)
    np.testing.assert_allclose(x, 1 - 0.5 * 0.1**2 * 2)
    velocity = -0.5 * 0.1 * 2 * (1 + float(x[0]))
    # both point the same way, so that steering changes nothing; the time step grows
    np.testing.assert_allclose(state.velocity, velocity)
    np.testing.assert_allclose([state.time_step, state.steering], [0.11, 0.099])
    # past the minimum the force points back
    state = state._replace(velocity=jnp.array([-1.0]), force=jnp.array([2.0]))
    x, state = solver.step(problem, jnp.array([-1.0]), state, a)
    assert float(state.velocity[0]) == 0
    np.testing.assert_allclose([state.time_step, state.steering], [0.055, 0.1])
    assert int(state.downhill) == 0


def test_steering_turns_the_velocity_and_keeps_its_length():
    problem = dini.Minimize(lambda x, b: jnp.vdot(b, x))
    force, velocity = np.array([0.0, 2.0]), np.array([3.0, 4.0])
    solver = FIRE(steering=1.0, time_step=0.0)
    state = solver.init(problem, jnp.zeros(2), -force)._replace(velocity=jnp.asarray(velocity))
    _, state = solver.step(problem, jnp.zeros(2), state, -force)
    np.testing.assert_allclose(state.velocity, [0.0, 5.0])


@pytest.mark.parametrize("which", [0, 1])
def test_the_implicit_derivative_is_the_shortest_solution(which):
    start = examine(thrown(which), THETA, SIDE, SOLVER, TINY.steps, TINY.width)
    assert start.error <= 1e-13
    assert start.rattlers.sum() == which
    assert start.zero_modes == 2 + 2 * which
    assert start.to_minimum_norm < 1e-9
    assert start.to_difference < 1e-6
    np.testing.assert_allclose(start.implicit.sum(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(start.implicit[start.rattlers], 0, atol=1e-9)
    assert (start.unrolled_error < 1e-6) == (which == 0)
    assert start.unrolled.forces.shape == start.unrolled.sizes.shape == (TINY.steps,)
    assert start.unrolled.sizes[-1] == pytest.approx(size(start.unrolled.dx))


def test_unrolling_is_that_of_dini():
    start, steps = thrown(1), 40
    found = unroll(start, THETA, SIDE, SOLVER, steps)

    @jax.jit
    def points(theta):
        how = dini.Unrolled(steps=steps, checkpoint=False)
        return dini.solve(packing, SOLVER, start, theta, SIDE, differentiation=how, on_failure="ignore").x

    np.testing.assert_allclose(found.dx, jax.jacfwd(points)(THETA), rtol=1e-9, atol=1e-9)


def test_a_derivative_that_is_not_unique_is_an_error_unless_asked_for():
    start = thrown(1)
    x = np.asarray(implicit(start, THETA, SIDE, SOLVER)[0].x)
    reference, _ = minimum_norm(x, THETA, SIDE)
    direction = ((jnp.asarray(THETA),), (jnp.ones(()),))
    condition = lambda x, theta: FORCE(x, theta, SIDE)
    with pytest.raises(Exception, match=r"DerivativeError.*MinimumNorm"):
        jax.jit(lambda: dini.root_jvp(condition, x, *direction))()
    shortest = jax.jit(lambda: dini.root_jvp(condition, x, *direction, linear_solver=dini.linear.MinimumNorm()))()
    assert distance(shortest, reference) < 1e-9
    # reverse mode of a function that no motion without a cost changes: Krylov methods do
    krylov = dini.linear.BiCGStab(rtol=1e-10)
    back = jax.jit(lambda v: dini.root_vjp(condition, x, direction[0], v, linear_solver=krylov)[0])
    slope = back(reference)
    assert float(slope) == pytest.approx(np.sum(reference**2), rel=1e-9)
    # the position of a rattler is none
    loose = np.asarray(overlaps(x, THETA, SIDE) > 0).any(axis=1) == 0
    position = np.where(loose[:, None], [1.0, 0.0], 0.0)
    with pytest.raises(Exception, match="DerivativeError"):
        back(position)


@pytest.mark.slow
def test_the_bars_at_full_scale():
    result = assert_bars_met("molecular-dynamics", experiment)
    for start, (reference, _) in zip(result.few, SIZES, strict=True):
        assert size(start.implicit) == pytest.approx(reference, rel=1e-5)
    assert max(start.to_minimum_norm for start in result.many) < 1e-6
    # the paper's claim
    assert np.mean([start.unrolled_error > 0.01 for start in result.many]) > 0.5
