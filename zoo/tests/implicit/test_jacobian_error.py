"""The error of a Jacobian: its parts against closed forms and `dini.solve`, and the experiment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_bars_met

import dini
from dini_zoo.implicit.jacobian_error.experiment import experiment
from dini_zoo.implicit.jacobian_error.path import follow
from dini_zoo.implicit.jacobian_error.ridge import Data, Exact, ridge
from dini_zoo.implicit.jacobian_error.theorem import Constants

STEPS = 6
THETA = np.array([0.1, 0.5, 1.0])


@pytest.fixture(scope="module")
def data():
    random = np.random.RandomState(0)
    return Data(random.randn(8, 3), random.randn(8))


@pytest.fixture(scope="module")
def exact(data):
    return Exact.at(THETA, data)


def test_the_closed_form_is_a_minimum_and_its_jacobian_a_finite_difference(data, exact):
    np.testing.assert_allclose(ridge.gradient(exact.x, THETA, *data), 0, atol=1e-12)
    width = 1e-6
    columns = [
        (Exact.at(THETA + width * e, data).x - Exact.at(THETA - width * e, data).x) / (2 * width) for e in np.eye(3)
    ]
    np.testing.assert_allclose(exact.jacobian, np.stack(columns, axis=1), rtol=1e-7, atol=1e-9)


def test_the_path_is_gradient_descent_and_its_jacobians_have_closed_forms(data, exact):
    path = follow(THETA, data, exact, dini.GradientDescent(step_size=exact.step_size), STEPS)
    eta, H = exact.step_size, data.Phi.T @ data.Phi + np.diag(THETA)
    M = np.eye(3) - eta * H
    power = [np.linalg.matrix_power(M, k) for k in range(STEPS + 1)]
    for t in range(1, STEPS + 1):
        x = exact.x - power[t] @ exact.x
        # the derivative of M^t, column by column: one factor at a time
        lag = [sum(power[k] @ np.diag(e) @ power[t - 1 - k] @ exact.x for k in range(t)) for e in np.eye(3)]
        unrolled = exact.jacobian - power[t] @ exact.jacobian + eta * np.stack(lag, axis=1)
        np.testing.assert_allclose(path.x[t - 1], x, atol=1e-12)
        np.testing.assert_allclose(path.implicit[t - 1], -np.linalg.solve(H, np.diag(x)), atol=1e-12)
        np.testing.assert_allclose(path.unrolled[t - 1], unrolled, atol=1e-12)
    assert np.all(path.implicit_error <= path.bound)
    assert np.all(path.implicit_error <= path.estimate)


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    ("mode", "which"), [(dini.Implicit(), "implicit"), (dini.Unrolled(steps=STEPS), "unrolled")], ids=lambda value: ""
)
def test_solve_gives_the_same_jacobians(data, exact, mode, which):
    solver = dini.GradientDescent(step_size=exact.step_size, tol=0.0, max_steps=STEPS)

    def solution(theta):
        return dini.solve(ridge, solver, jnp.zeros(3), theta, *data, differentiation=mode, on_failure="ignore").x

    path = follow(THETA, data, exact, solver, STEPS)
    np.testing.assert_allclose(jax.jacobian(solution)(THETA), getattr(path, which)[-1], rtol=1e-10)


def test_the_bound_holds_where_the_condition_is_curved():
    # F = θ x³ + x - 1: A = -(3 θ x² + 1), B = x³, about the root 1 / 2 of θ = 4, over a radius of a tenth
    theta, root, radius = 4.0, 0.5, 0.1
    top = root + radius
    constants = Constants(3 * theta * (root - radius) ** 2 + 1, beta=3 * top**2, gamma=6 * theta * top, R=root**3)
    exact = -(root**3) / (3 * theta * root**2 + 1)
    assert constants.slope == pytest.approx(1.08 / 2.92 + 14.4 * 0.125 / 2.92**2)
    for error in (-radius, -0.01, 0.01, radius):
        # a tenth from the root the derivative is refused: here its error is what is asked for
        J = dini.root_jvp(lambda x, theta: theta * x**3 + x - 1, root + error, (theta,), (1.0,), on_failure="ignore")
        assert 0 < abs(J - exact) <= constants.slope * abs(error)


@pytest.mark.slow
def test_the_bars_at_full_scale():
    result = assert_bars_met("jacobian-error", experiment)
    path = result.path
    assert np.all(path.implicit_error <= path.bound)
    assert np.all(path.implicit_error <= path.estimate)
    assert np.all(path.implicit_error < path.unrolled_error)
    # where the verdict is good, the error is below the percent that it promises
    assert np.all(path.implicit_error[path.reliable] < 0.01 * np.linalg.norm(result.exact.jacobian))
    assert path.reliable[-1]
    assert not path.reliable[0]
