"""Points whose error is small and that are no minimum: infima at infinity, saddles, inflections."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import Status
from dini.sets import ConeProduct, Exponential, NonNegative, Zero

INTERIOR, LAGRANGIAN = dini.NonlinearInteriorPoint(), dini.AugmentedLagrangian()


def falling(x, k):
    """Return one of some functions that fall for ever along ``x[0]``, the last one to 3, beside one with a minimum."""
    t = x[0]
    some = [jnp.exp(-t), jax.nn.softplus(-t), jax.nn.sigmoid(-t), jnp.exp(-(t**2)), 1 / (1 + t), -jnp.tanh(t)]
    return jnp.stack([*some, jnp.maximum(0, 3 - t) ** 2])[k] + x[1] ** 2


def test_no_infimum_at_infinity_is_a_minimum():
    """Forces vanish on the way there, beside the rounding of an element that has come to rest, or underflow at once."""
    program = dini.NonlinearProgram(falling, inequality=lambda x, k: x[1] - x[0])

    def solve(k):
        found = dini.solve(program, INTERIOR, program.start(jnp.ones(2), k), k, on_failure="ignore")
        return found.status, found.value

    ends, value = jax.jit(jax.vmap(solve))(jnp.arange(7))
    assert list(np.asarray(ends)) == [Status.DIVERGED] * 6 + [Status.CONVERGED]
    np.testing.assert_allclose(value[-1], 0, atol=1e-12)


def bent(x, k):
    """Return one of some functions that are stationary, and no minimum, where a run from the axis comes to rest."""
    a, b = x
    return jnp.stack([-(a**2) - b**2 + 0.1 * a, a**3 + b**2, a**4 - b**4 + 0.1 * a])[k]


#: the least values on the square; of the last one, where the derivative ``4 a^3 + 0.1`` is zero
LEAST = np.array([-2.1, -1.0, 0.025 ** (4 / 3) - 0.1 * 0.025 ** (1 / 3) - 1.0])
STARTS = np.array([[0.0, 0.0], [0.5, 0.5], [0.0, 0.0]])


def ends_of(solver):
    program = dini.NonlinearProgram(bent, inequality=lambda x, k: x**2 - 1)

    def solve(k, start):
        found = dini.solve(program, solver, program.start(start, k), k, on_failure="ignore")
        return found.status, found.value

    return jax.jit(jax.vmap(solve))(jnp.arange(3), STARTS)


def test_a_stationary_point_beside_lower_ones_is_left():
    """Saddles of second and fourth order, and an inflection, from a start whose gradient is not zero."""
    status, value = ends_of(INTERIOR)
    assert not status.any()
    np.testing.assert_allclose(value, LEAST, rtol=1e-9)


@pytest.mark.thorough
def test_a_stationary_point_is_none_that_an_augmented_lagrangian_claims():
    """Saddles are left; where Newton's steps towards an inflection become shorter too slowly, it says so."""
    status, value = ends_of(LAGRANGIAN)
    assert not status[0]
    assert not status[2]
    np.testing.assert_allclose(value[::2], LEAST[::2], rtol=1e-9)
    assert status[1] == Status.STALLED or value[1] < -1 + 1e-9


@pytest.mark.by_default("interior")
@pytest.mark.parametrize("solver", [INTERIOR, LAGRANGIAN], ids=["interior", "lagrangian"])
def test_a_maximum_on_a_circle_is_left(solver):
    """The objective is linear: what is curved is the Lagrangian."""
    found = dini.minimize(
        lambda x: x[0], jnp.array([1.0, 0.0]), equality=lambda x: x @ x - 1.0, solver=solver, on_failure="ignore"
    )
    assert found.success
    np.testing.assert_allclose(found.x, [-1.0, 0.0], atol=1e-8)


def exponential(c, first, cone, side):
    """Return the program with rows of its own, and ``exp(v) <= z`` for its last two unknowns ``(v, z)``."""
    rows = np.zeros((3, len(c)))
    rows[0, -2], rows[2, -1] = -1, -1
    A, b = np.concatenate([np.atleast_2d(first), rows]), np.concatenate([np.atleast_1d(side), [0.0, 1, 0]])
    parts = ConeProduct([cone, Exponential()], (len(A) - 3, 3))
    return dini.cone_program(c=jnp.array(c), A=jnp.array(A), b=jnp.array(b), cone=parts, on_failure="ignore")


@pytest.mark.thorough
def test_no_infimum_at_infinity_is_a_solution_of_a_cone_program():
    """``exp(v)`` has no minimum, also beside rows that say nothing."""
    empty = exponential([0.0, 1.0], np.zeros((2, 2)), NonNegative(), np.ones(2))
    assert not empty.success


@pytest.mark.thorough
def test_no_infimum_is_hidden_by_a_cost_that_an_equation_settles():
    settled = exponential([1e10, 0.0, 1.0], [1.0, 0.0, 0.0], Zero(), 1.0)
    assert not settled.success


@pytest.mark.thorough
def test_a_solution_far_down_an_exponential():
    """The largest ``v`` with ``exp(v) <= 1e-9``, and a small cost beside a large one that an equation settles."""
    far = exponential([-1.0, 0.0], [0.0, 1.0], NonNegative(), 1e-9)
    assert far.success
    np.testing.assert_allclose(far.x[0], np.log(1e-9), rtol=1e-6)
    beside = exponential([1e10, -0.5, 1.0], [1.0, 0.0, 0.0], Zero(), 1.0)  # exp(v) - v / 2
    assert beside.success
    np.testing.assert_allclose(beside.x, [1.0, np.log(0.5), 0.5], rtol=1e-6)
    np.testing.assert_allclose(beside.multipliers[0], -1e10, rtol=1e-12)
