"""The equations of the hard constraints: derivatives on a mesh, residuals, reference solutions."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_bvp
from scipy.special import erfc

import dini
from dini_zoo.implicit.hard_constraints import (
    DiffusionSorption,
    DomainPartition,
    FiniteDifference,
    LeastSquaresConstraint,
    MixtureOfConstraints,
    NavierStokes2D,
    Spectral,
    method_of_lines,
    random_vorticity,
)

KEY = jax.random.key(0)
EQUATION = DiffusionSorption(8, 12)
INITIAL = jnp.full(12, 0.1)


def random(*shape, seed=0):
    return jnp.asarray(np.random.RandomState(seed).randn(*shape))


def relative(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return np.linalg.norm(one - other) / np.linalg.norm(other)


@pytest.mark.parametrize("order", [1, 2])
def test_finite_differences_are_those_of_numpy(order):
    f = random(6, 5, 3)
    d = FiniteDifference((0.5, 0.25), order)
    for axis, spacing in enumerate(d.spacings):
        want = np.gradient(np.asarray(f), spacing, axis=axis, edge_order=order)
        np.testing.assert_allclose(d(f, axis), want, atol=1e-13)
        twice = np.gradient(want, spacing, axis=axis, edge_order=order)
        np.testing.assert_allclose(d.twice(f, axis), twice, atol=1e-12)


def test_spectral_derivatives_are_exact_for_waves():
    x, y = np.meshgrid(2 * np.arange(8) / 8, 3 * np.arange(9) / 9, indexing="ij")
    a, b = np.pi * x, 4 * np.pi / 3 * y
    f = jnp.asarray(np.sin(a) * np.cos(b) + 2.0)[None, ..., None]
    d = Spectral((1, 2), (2.0, 3.0))
    np.testing.assert_allclose(d(f, 0)[0, ..., 0], np.pi * np.cos(a) * np.cos(b), atol=1e-12)
    np.testing.assert_allclose(d(f, 1)[0, ..., 0], -4 * np.pi / 3 * np.sin(a) * np.sin(b), atol=1e-12)
    square = np.pi**2 + (4 * np.pi / 3) ** 2
    np.testing.assert_allclose(d.laplacian(f)[0, ..., 0], -square * np.sin(a) * np.cos(b), atol=1e-11)
    np.testing.assert_allclose(d.inverse_laplacian(d.laplacian(f)), f - 2, atol=1e-12)


def test_derivatives_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="spacings must be positive"):
        FiniteDifference((0.1, 0.0))
    with pytest.raises(ValueError, match="edge_order must be 1 or 2"):
        FiniteDifference((0.1,), 3)
    with pytest.raises(ValueError, match="axis must be one of"):
        FiniteDifference((0.1,))(jnp.ones((4, 4)), 1)
    with pytest.raises(ValueError, match="needs three points"):
        FiniteDifference((0.1,))(jnp.ones(2), 0)
    with pytest.raises(ValueError, match="a positive period for each axis"):
        Spectral((0, 1), (1.0,))


def test_the_loss_of_diffusion_sorption_by_hand():
    equation, u, initial = DiffusionSorption(6, 5, weights=(2.0, 1.0, 3.0)), 0.5 + 0.3 * random(6, 5), random(5) ** 2
    a, dt, dx = np.asarray(u), 100.0, 0.25
    a_x = np.gradient(a, dx, axis=1)
    R = 1 + 0.71 / 0.29 * 2880 * 3.5e-4 * 0.874 * (np.maximum(a, 0) + 1e-6) ** (0.874 - 1)
    equals = 2 * (np.gradient(a, dt, axis=0) - 5e-4 / R * np.gradient(a_x, dx, axis=1))
    ends = 3 * np.concatenate([a[1:, 0] - 1, a[1:, -1] - 5e-4 * a_x[1:, -1]])
    start = np.linalg.norm(a[0] - initial) / np.linalg.norm(initial)
    want = np.linalg.norm(equals) + start + np.sqrt(np.mean(ends**2))
    assert float(equation.loss(u, initial)) == pytest.approx(want, rel=1e-12)


def test_the_power_law_has_a_derivative_everywhere():
    R = EQUATION.retardation
    points = jnp.array([-1.0, -1e-9, 0.0, 1e-12, 0.3])
    want = 1 + 0.71 / 0.29 * 2880 * 3.5e-4 * 0.874 * (np.maximum(points, 0) + 1e-6) ** (0.874 - 1)
    np.testing.assert_allclose(R(points), want, rtol=1e-12)
    slope = jax.vmap(jax.grad(R))(points)
    np.testing.assert_allclose(slope[:3], 0)
    by_hand = -0.126 * (want[4] - 1) / (0.3 + 1e-6)
    np.testing.assert_allclose(slope[4], by_hand, rtol=1e-9)
    assert np.isfinite(slope[3])


def test_diffusion_sorption_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="three times and places"):
        DiffusionSorption(2, 8)
    with pytest.raises(ValueError, match="porosity must lie between"):
        DiffusionSorption(porosity=1.0)
    with pytest.raises(ValueError, match=r"initial must have the shape \(x,\), where x = 11 by basis"):
        EQUATION.terms(jnp.ones((8, 11, 2)), INITIAL)


def test_the_method_of_lines_finds_the_similarity_solution():
    # until it feels the other end, u is a function of z = x / sqrt(t) with D u'' + z R(u) u' / 2 = 0
    equation, initial = DiffusionSorption(9, 41, duration=60.0), 0.1
    D, strength = 5e-4, 0.71 / 0.29 * 2880 * 3.5e-4 * 0.874
    R = lambda u: 1 + strength * (np.maximum(u, 0) + 1e-6) ** (0.874 - 1)
    slope = lambda z, f: np.stack([f[1], -z * R(f[0]) * f[1] / (2 * D)])
    far = lambda left, right: np.array([left[0] - 1, right[0] - initial])
    z = np.linspace(0, 0.12, 400)
    guess = np.stack([initial + (1 - initial) * erfc(50 * z), np.zeros_like(z)])
    profile = solve_bvp(slope, far, z, guess, tol=1e-6, max_nodes=20_000)
    assert profile.success
    u = method_of_lines(equation, initial, cells=512)
    np.testing.assert_array_equal(u[0], initial)
    for row, t in zip(u[2:], equation.t[2:], strict=True):
        near = equation.x < 0.6
        want = profile.sol(np.minimum(equation.x[near] / np.sqrt(t), 0.12))[0]
        np.testing.assert_allclose(row[near], want, atol=2e-3)
    # outflow at the other end
    h = equation.x[1]
    end = u[-1, -1]
    assert end == pytest.approx(D * (3 * end - 4 * u[-1, -2] + u[-1, -3]) / (2 * h), rel=0.2)
    with pytest.raises(ValueError, match="cells must be less than 1000"):
        method_of_lines(equation, initial, cells=1000)


def test_a_decaying_vortex_solves_navier_stokes():
    equation = NavierStokes2D(16, 12)
    x = np.arange(12) / 12
    t = np.linspace(0, equation.duration, 16)
    decay = np.exp(-4 * np.pi**2 * equation.viscosity * t)[:, None, None]
    w = jnp.asarray(decay * (np.cos(2 * np.pi * x)[:, None] + np.cos(2 * np.pi * x)))
    fields = {name: leaf[..., 0] for name, leaf in equation.fields(w[..., None]).inside.items()}
    assert float(jnp.max(jnp.abs(equation.residual(fields)))) < 1e-6
    assert float(equation.loss(w, w[0])) == pytest.approx(float(jnp.linalg.norm(equation.residual(fields))))


def test_the_transport_of_vorticity_by_hand():
    equation = NavierStokes2D(3, 16, viscosity=0.01)
    x = 2 * np.pi * np.arange(16)[:, None] / 16
    y = 2 * np.pi * np.arange(16) / 16
    w = np.sin(x) + np.cos(2 * y)
    # the stream function is sin(x) / 4 pi^2 + cos(2 y) / 16 pi^2
    want = 1.5 * np.cos(x) * np.sin(2 * y) + 0.01 * 4 * np.pi**2 * (np.sin(x) + 4 * np.cos(2 * y))
    still = jnp.broadcast_to(jnp.asarray(w), (3, 16, 16))
    fields = {name: leaf[..., 0] for name, leaf in equation.fields(still[..., None]).inside.items()}
    np.testing.assert_allclose(equation.residual(fields)[1], want, atol=1e-11)


@pytest.mark.thorough
def test_four_experts_find_the_decaying_vortex():
    equation, n = NavierStokes2D(8, 8, viscosity=1e-2), 8
    x = np.arange(n) / n
    initial = np.cos(2 * np.pi * x)[:, None] + np.cos(2 * np.pi * x)
    rate = 4 * np.pi**2 * equation.viscosity
    t = np.linspace(0, equation.duration, n)
    # what the network would have to give: the change, over the ramp
    ramp = equation.gain * t / equation.duration
    change = np.divide(
        np.exp(-rate * t) - 1, ramp, out=np.full(n, -rate * equation.duration / equation.gain), where=t > 0
    )
    basis = np.concatenate([(change[:, None, None] * initial)[..., None], 50 * random(n, n, n, 2)], -1)
    terms = equation.terms(jnp.asarray(basis), jnp.asarray(initial))
    # 1e-9 is what rounding leaves of the gradient on one of the platforms
    solver = dini.LevenbergMarquardt(hessian="gauss-newton", tol=1e-8)
    layer = LeastSquaresConstraint(
        equation.residual, solver, ridge=0.0, start=0.0, num_points=100, fixed=equation.fixed
    )
    found = jax.jit(MixtureOfConstraints(layer, DomainPartition((2, 2, 1))))(terms, KEY)
    assert np.all(found.info.status == 0)
    np.testing.assert_allclose(found.u[0], initial, atol=1e-14)
    # up to the error of finite differences in time
    np.testing.assert_allclose(found.weights, np.ones((4, 1)) * [1, 0, 0], atol=0.05)
    exact = np.exp(-rate * t)[:, None, None] * initial
    assert relative(found.u - initial, exact - initial) < 0.05
    # the free functions have no mean, so that the prediction keeps that of the beginning
    np.testing.assert_allclose(jnp.mean(terms.basis[..., :3], (1, 2)), 0, atol=1e-14)


def test_navier_stokes_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="three times and four places"):
        NavierStokes2D(2, 8)
    with pytest.raises(ValueError, match=r"initial must have the shape \(x, y\), where x = 4 by basis and y = 5"):
        NavierStokes2D(4, 4).terms(jnp.ones((4, 4, 5, 2)), jnp.ones((4, 4)))
    with pytest.raises(ValueError, match="length_scale must be positive"):
        random_vorticity(KEY, 4, 0.0)


def test_random_vorticity_has_its_covariance():
    n, scale = 6, 0.8
    fields = np.asarray(jax.vmap(lambda key: random_vorticity(key, n, scale))(jax.random.split(KEY, 4000)))
    np.testing.assert_allclose(fields.mean(axis=(1, 2)), 0, atol=1e-12)
    d = np.sin(np.pi * np.arange(n) / n) ** 2
    covariance = np.exp(-2 * (d[:, None] + d) / scale**2)
    want = covariance - covariance.mean()  # without the mean of the field
    found = np.mean(fields[:, :1, :1] * fields, axis=0)
    np.testing.assert_allclose(found, want, atol=0.06)
