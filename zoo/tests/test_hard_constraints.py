"""Hard constraints: the layer against closed forms, the split, the equations, training, the experiment."""

from dataclasses import replace

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from outputs import assert_all_bars_met, assert_drawn, printed, quiet
from scipy.integrate import solve_bvp
from scipy.optimize import least_squares
from scipy.special import erfc

import dini
from dini_zoo.hard_constraints import (
    ConstrainedOperator,
    DiffusionSorption,
    DomainPartition,
    FiniteDifference,
    FourierOperator,
    LeastSquaresConstraint,
    MixtureOfConstraints,
    NavierStokes2D,
    SoftConstraint,
    Spectral,
    Terms,
    Training,
    compile_training,
    experiment,
    loss,
    method_of_lines,
    random_vorticity,
    sample,
    train,
)
from dini_zoo.hard_constraints.checks import checks
from dini_zoo.hard_constraints.fourier import SpectralLayer
from dini_zoo.hard_constraints.scaling import over_devices

KEY = jax.random.key(0)
TIGHT = dini.LevenbergMarquardt(hessian="gauss-newton", tol=1e-11, max_steps=100)


def random(*shape, seed=0):
    return jnp.asarray(np.random.RandomState(seed).randn(*shape))


def relative(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return np.linalg.norm(one - other) / np.linalg.norm(other)


# --- derivatives on a mesh -------------------------------------------------------------------------------------------


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


# --- the layer -------------------------------------------------------------------------------------------------------


def linear(ridge, **rest):
    """The constraint `B w = y`."""
    residual = lambda fields, shared, y: fields - y
    return LeastSquaresConstraint(residual, TIGHT, ridge=ridge, **rest)


@pytest.mark.parametrize("derivative", ["gauss-newton", "exact"])
def test_a_linear_constraint_is_a_ridge_regression(derivative):
    # the columns are almost dependent, so that the ridge matters, in the derivative as well
    B, y, v, rho = random(12, 4), random(12, seed=1), random(4, seed=2), 0.1
    B = B.at[:, 3].set(B[:, 2] + 1e-3 * B[:, 3])
    layer = linear(rho, derivative=derivative)
    weights, pull, info = jax.vjp(lambda B: layer(Terms(B, B, data=y), KEY)[1:], B, has_aux=True)
    H = B.T @ B + rho**2 * np.eye(4)
    w = np.linalg.solve(H, B.T @ y)
    assert info.status == dini.Status.CONVERGED
    np.testing.assert_allclose(weights, w, atol=1e-10)
    # H w = B'y: with H s = v, the derivative of v'w in B is (y - B w) s' - B s w'
    s = np.linalg.solve(H, v)
    want = np.outer(y - B @ w, s) - np.outer(B @ s, w)
    np.testing.assert_allclose(pull(v)[0], want, atol=1e-8)


def test_a_basis_that_holds_the_solution_finds_it():
    D, n = 0.1, 12
    t, x = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n), indexing="ij")
    exact = np.exp(-(np.pi**2) * D * t) * np.sin(np.pi * x)
    waves = np.random.RandomState(0).uniform(0.5, 2.5, (2, 3))
    smooth = [np.sin(a * t + b * x) for a, b in waves.T]
    u = np.stack([exact, *smooth], -1)
    u_t = np.stack([-(np.pi**2) * D * exact, *(a * np.cos(a * t + b * x) for a, b in waves.T)], -1)
    u_xx = np.stack([-(np.pi**2) * exact, *(-(b**2) * f for b, f in zip(waves[1], smooth, strict=True))], -1)
    terms = Terms(*jax.tree.map(jnp.asarray, (u, {"u_t": u_t, "u_xx": u_xx}, u[0], exact[0])))

    def residual(inside, start, initial):
        return inside["u_t"] - D * inside["u_xx"], start - initial

    layer = LeastSquaresConstraint(residual, TIGHT, ridge=0.0, num_points=80)

    def worth(terms):
        found = layer(terms, KEY)
        fields = jax.tree.map(lambda leaf: leaf @ found.weights, terms.inside)
        equation, start = residual(fields, terms.shared @ found.weights, terms.data)
        return jnp.sum(equation**2) + jnp.sum(start**2), found

    (value, found), slope = jax.value_and_grad(worth, has_aux=True)(terms)
    np.testing.assert_allclose(found.weights, [1, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(found.u, exact, atol=1e-9)
    assert np.sqrt(value) < 1e-10
    for leaf in jax.tree.leaves(slope):
        np.testing.assert_allclose(leaf, 0, atol=1e-9)


def nonlinear(**rest):
    """A residual with a product of fields, which does not vanish at the minimum."""
    residual = lambda f, shared, y: (f**2 + 0.3 * jnp.sin(f) - y, shared - 1)
    return LeastSquaresConstraint(residual, TIGHT, ridge=1e-2, **rest)


def combined(layer, v):
    """A function of the basis functions through the whole layer."""

    def value(B, shared, y):
        found = layer(Terms(B, B, shared, y), KEY)
        return jnp.sum(v * found.u**2), found.weights

    return value


def test_the_implicit_gradient_is_that_of_differences_and_of_unrolling():
    B, shared, v = 0.5 + random(10, 3), random(2, 3, seed=3), random(10, seed=2)
    y = jnp.abs(random(10, seed=1)) + 0.5
    args = (B, shared, y[:8])
    layer = nonlinear(num_points=8, derivative="exact")
    program = jax.jit(jax.value_and_grad(combined(layer, v), (0, 1, 2), has_aux=True))
    value = lambda *args: program(*args)[0][0]
    slope = program(*args)[1]
    for i, part in enumerate(args):
        direction = random(*part.shape, seed=5)
        moved = [value(*(a + s * 1e-5 * direction if j == i else a for j, a in enumerate(args))) for s in (1, -1)]
        want = (moved[0] - moved[1]) / 2e-5
        assert float(jnp.sum(slope[i] * direction)) == pytest.approx(float(want), rel=1e-5)

    # the same by unrolling the solver to convergence
    chosen = lambda B: sample(Terms(B, B), 8, jax.random.fold_in(KEY, 0))

    def unrolled(B, shared, y):
        w = dini.solve(
            dini.LeastSquares(layer.residuals),
            TIGHT,
            jnp.ones(3),
            chosen(B),
            shared,
            y,
            differentiation=dini.Unrolled(steps=40),
            on_failure="ignore",
        ).x
        return jnp.sum(v * (B @ w) ** 2)

    want = jax.jit(jax.grad(unrolled, (0, 1, 2)))(*args)
    for one, other in zip(slope, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)
    # that of Gauss and Newton leaves out curvature times residual, and the constant weights leave out all of it
    rough = jax.jit(jax.grad(combined(nonlinear(num_points=8), v), has_aux=True))(*args)[0]
    none, w = jax.jit(jax.grad(combined(nonlinear(num_points=8, derivative="none"), v), has_aux=True))(*args)
    assert 1e-3 < relative(rough, slope[0]) < relative(none, slope[0])
    assert relative(none, slope[0]) > 0.05
    np.testing.assert_allclose(none, 2 * (v * (B @ w))[:, None] * w, rtol=1e-9)


def test_dead_and_double_functions_have_a_derivative():
    B = random(12, 4).at[:, 3].set(0.0)
    B = B.at[:, 2].set(B[:, 1])
    program = jax.jit(
        jax.value_and_grad(lambda B: jnp.sum(linear(1e-4)(Terms(B, B, data=random(12, seed=1)), KEY).u ** 2))
    )
    value, slope = lambda B: program(B)[0], program(B)[1]
    assert jnp.all(jnp.isfinite(slope))
    move = random(12, seed=3)
    # along a change of a live function that keeps the double one its double
    direction = jnp.zeros_like(B).at[:, 1].set(move).at[:, 2].set(move)
    want = (value(B + 1e-5 * direction) - value(B - 1e-5 * direction)) / 2e-5
    assert float(jnp.sum(slope * direction)) == pytest.approx(float(want), rel=1e-4)


def test_a_solve_that_stops_early_is_reported_and_not_raised():
    B, y = random(3, 12, 4), random(12, seed=1)
    short = replace(nonlinear(), solver=dini.LevenbergMarquardt(hessian="gauss-newton", tol=1e-11, max_steps=2))

    def run(B):
        found = jax.vmap(lambda B: short(Terms(B, B, random(2, 4, seed=3), jnp.abs(y)), KEY))(B)
        return jnp.sum(found.u), found.info

    slope, info = jax.jit(jax.grad(run, has_aux=True))(B)
    assert np.all(info.status == dini.Status.MAX_STEPS)
    assert np.all(info.steps == 2)
    assert jnp.all(jnp.isfinite(slope))


def test_a_function_with_a_fixed_weight():
    B, offset, y = random(9, 2), random(9, seed=1), random(9, seed=2)
    layer = LeastSquaresConstraint(lambda f, _, y: f - y, TIGHT, ridge=0.0, fixed=1)
    both = jnp.concatenate([B, offset[:, None]], 1)
    found = layer(Terms(both, both, data=y), KEY)
    w = np.linalg.lstsq(np.asarray(B), np.asarray(y - offset), rcond=None)[0]
    np.testing.assert_allclose(found.weights, w, atol=1e-10)
    np.testing.assert_allclose(found.u, B @ w + offset, atol=1e-9)


def test_samples_are_independent_and_without_repetition():
    basis = jnp.arange(60.0).reshape(6, 10, 1)
    terms = Terms(basis, {"u": basis})
    draw = lambda key, expert=0: np.asarray(sample(terms, 25, jax.random.fold_in(key, expert))["u"]).ravel()
    one = draw(KEY)
    assert len(set(one)) == 25
    np.testing.assert_array_equal(one, draw(KEY))
    for other in (draw(KEY, 1), draw(jax.random.key(1))):
        assert len(set(one) & set(other)) < 25
    assert len(set(np.concatenate([draw(jax.random.key(i)) for i in range(20)]))) == 60
    np.testing.assert_array_equal(sample(terms, None, KEY)["u"].ravel(), basis.ravel())


def test_the_layer_refuses_what_does_not_fit():
    layer = linear(0.1, num_points=13)
    B, y = random(12, 4), random(12, seed=1)
    with pytest.raises(ValueError, match=r"num_points must be at most .* 12: given 13"):
        layer(Terms(B, B, data=y), KEY)
    single = B.astype(jnp.float32)
    with pytest.raises(TypeError, match="needs basis functions in float64: given float32"):
        linear(0.1)(Terms(single, single, data=y.astype(jnp.float32)), KEY)
    with pytest.raises(ValueError, match="ridge must not be negative"):
        linear(-1.0)
    with pytest.raises(ValueError, match="num_points must be positive"):
        linear(1.0, num_points=0)
    with pytest.raises(ValueError, match="derivative must be"):
        linear(1.0, derivative="newton")
    with pytest.raises(ValueError, match="fixed must be"):
        linear(1.0, fixed=4)(Terms(B, B, data=y), KEY)


# --- the split -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("experts", "shape"), [((1, 4), (3, 8, 2)), ((2, 2, 1), (4, 6, 3, 2)), ((2, 3), (4, 9))])
def test_splitting_and_merging_is_the_identity(experts, shape):
    partition = DomainPartition(experts)
    tree = {"a": random(*shape), "b": jnp.arange(np.prod(shape)).reshape(shape)}
    parts = partition.split(tree)
    for name, leaf in partition.merge(parts).items():
        np.testing.assert_array_equal(leaf, tree[name])
    # the boxes are in the order of NumPy's indices
    axes = len(experts)
    for number, index in enumerate(np.ndindex(*experts)):
        sizes = [n // k for n, k in zip(shape[:axes], experts, strict=True)]
        box = tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, sizes, strict=True))
        np.testing.assert_array_equal(parts["a"][number], tree["a"][box])


def test_the_partition_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(1, 4\) must divide the mesh: given an array of shape \(4, 6\)"):
        DomainPartition((1, 4)).split(jnp.ones((4, 6)))
    with pytest.raises(ValueError, match="must divide the mesh"):
        DomainPartition((1, 1)).split(jnp.ones(4))
    with pytest.raises(ValueError, match="experts must be positive integers"):
        DomainPartition((0, 2))
    with pytest.raises(ValueError, match="merges arrays of shape"):
        DomainPartition((1, 4)).merge(jnp.ones((2, 2, 2)))


EQUATION = DiffusionSorption(8, 12)
INITIAL = jnp.full(12, 0.1)


def operator(constraint, seed=0, outputs=4):
    sizes = {"width": 6, "depth": 1, "modes": 2, "projection": 8, "padding": (2, 2)}
    network = FourierOperator(3, outputs, **sizes, key=jax.random.key(seed))
    return ConstrainedOperator(network, EQUATION, constraint)


def sorption(num_points, **rest):
    solver = dini.LevenbergMarquardt(hessian="gauss-newton", tol=1e-9, max_steps=50)
    return LeastSquaresConstraint(EQUATION.residual, solver, num_points=num_points, **rest)


@pytest.fixture(scope="module")
def terms():
    with jax.enable_x64(True):
        return jax.jit(EQUATION.terms)(0.5 + random(8, 12, 4), INITIAL)


def test_one_expert_is_the_constraint_itself(terms):
    layer = sorption(20)
    whole = jax.jit(layer)(terms, KEY)
    one = jax.jit(MixtureOfConstraints(layer, DomainPartition((1, 1))))(terms, KEY)
    np.testing.assert_array_equal(one.u, whole.u)
    np.testing.assert_array_equal(one.weights[0], whole.weights)


def test_experts_solve_their_own_boxes(terms):
    layer, partition = sorption(20), DomainPartition((1, 3))
    found = jax.jit(MixtureOfConstraints(layer, partition))(terms, KEY)
    assert found.u.shape == (8, 12)
    assert found.weights.shape == (3, 4)
    assert np.all(found.info.status == 0)
    parts = partition.split((terms.basis, terms.inside))
    residuals = jax.jit(lambda w, inside: jax.flatten_util.ravel_pytree(layer.residuals(w, inside, *terms[2:]))[0])
    for k in range(3):
        basis, inside = (jax.tree.map(lambda leaf, k=k: leaf[k], part) for part in parts)
        inside = sample(Terms(basis, inside), 20, jax.random.fold_in(KEY, k))
        best = least_squares(residuals, found.weights[k] + 1e-2, args=(inside,), xtol=1e-14, ftol=1e-14, gtol=1e-11)
        np.testing.assert_allclose(found.weights[k], best.x, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found.u[:, 4 * k : 4 * k + 4], basis @ found.weights[k], atol=1e-12)
    with pytest.raises(ValueError, match="num_points must be at most"):
        MixtureOfConstraints(sorption(33), partition)(terms, KEY)


def test_derivatives_are_taken_before_the_split():
    basis = random(8, 12, 4)
    split = DomainPartition((1, 2)).split
    whole = split(EQUATION.terms(basis, INITIAL).inside["u_xx"])
    boxes = jax.vmap(lambda box: EQUATION.difference.twice(box, 1))(split(basis))
    # two points on each side of the interface feel it, and no others
    np.testing.assert_allclose(whole[0, :, :4], boxes[0, :, :4], rtol=1e-12)
    np.testing.assert_allclose(whole[1, :, 2:], boxes[1, :, 2:], rtol=1e-12)
    assert np.all(np.abs(whole[0, :, 4:] - boxes[0, :, 4:]) > 1e-6)
    assert np.all(np.abs(whole[1, :, :2] - boxes[1, :, :2]) > 1e-6)


def test_sharded_experts_are_those_of_one_batch():
    found = over_devices([4], times=6, places=16, experts=4, num_points=16, batch=2, rounds=1)
    assert [one.count for one in found] == [0, 4]
    for one in found:
        assert one.prediction < 1e-9
        assert one.derivative < 1e-9


def test_the_mixture_refuses_what_does_not_fit():
    auto, explicit = ((one,) for one in (jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit))
    layer, partition = sorption(4), DomainPartition((1, 4))
    with pytest.raises(ValueError, match="axis_name must be an axis of its mesh"):
        MixtureOfConstraints(layer, partition, "other", jax.make_mesh((1,), ("expert",), axis_types=auto))
    with pytest.raises(ValueError, match=r"must have axes of the type AxisType\.Auto"):
        MixtureOfConstraints(layer, partition, "expert", jax.make_mesh((1,), ("expert",), axis_types=explicit))
    two = jax.sharding.AbstractMesh((3,), ("expert",), axis_types=auto)
    with pytest.raises(ValueError, match="multiple of the devices along 'expert': given 4 experts and 3 devices"):
        MixtureOfConstraints(layer, partition, "expert", two)


# --- the equations ---------------------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match="basis must be given at 8 times and 12 places"):
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
    solver = dini.LevenbergMarquardt(hessian="gauss-newton", tol=1e-10)
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
    with pytest.raises(ValueError, match="basis must be given on a mesh of"):
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


# --- the network and its training ------------------------------------------------------------------------------------


def test_a_spectral_layer_is_that_of_fast_transforms():
    layer, v = SpectralLayer(3, 2, 2, KEY), random(7, 8, 3)
    f = np.fft.rfftn(np.asarray(v), axes=(0, 1))
    R = np.asarray(layer.real + 1j * layer.imaginary).reshape(3, 2, 3, 3)
    out = np.zeros_like(f)
    for i, k in enumerate((-1, 0, 1)):
        for j in range(2):
            out[k, j] = f[k, j] @ R[i, j]
    np.testing.assert_allclose(layer(v), np.fft.irfftn(out, (7, 8), axes=(0, 1)), atol=1e-13)
    with pytest.raises(ValueError, match="at least 4 points an axis for 2 modes"):
        layer(v[:3])


def test_the_operator_takes_any_mesh():
    sizes = {"width": 4, "depth": 1, "modes": 2, "projection": 4}
    network = FourierOperator(4, 5, **sizes, padding=(2, 0, 0), key=KEY)
    for equation in (NavierStokes2D(6, 8), NavierStokes2D(5, 6)):
        n = equation.places
        functions = jax.eval_shape(lambda w, equation=equation: network(equation.inputs(w)), jnp.ones((n, n)))
        assert functions.shape == (equation.times, n, n, 5)
    with pytest.raises(ValueError, match="takes 4 functions on a mesh of 3 axes"):
        network(random(6, 8, 4))


def test_training_takes_the_steps_of_adam():
    model, initials = operator(SoftConstraint(), outputs=1), np.linspace(0.05, 0.2, 4)[:, None] * np.ones(12)
    training = Training(steps=2, batch=2, learning_rate=0.1, halve_every=1, floor=0.08, clip=0.5, chunk=2)
    program = compile_training(model, training, initials)
    taken = []
    course = train(program, model, training, initials, 3, taken.append)
    assert taken == [2]
    order = np.random.RandomState(3).permutation(4).reshape(2, 2)
    flat, unravel = jax.flatten_util.ravel_pytree(model.parameters)
    m, v = np.zeros_like(flat), np.zeros_like(flat)
    slope = jax.jit(jax.value_and_grad(lambda p, batch: loss(model.at(unravel(p)), batch, KEY)[0]))
    for i, (batch, rate) in enumerate(zip(order, (0.1, 0.08), strict=True), 1):
        value, g = slope(flat, jnp.asarray(initials[batch]))
        assert course.loss[i - 1] == pytest.approx(float(value))
        g = np.asarray(g * min(1, 0.5 / np.linalg.norm(g)))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        flat = flat - rate * (m / (1 - 0.9**i)) / (np.sqrt(v / (1 - 0.999**i)) + 1e-8)
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(course.model.parameters)[0], flat, atol=1e-7)
    with pytest.raises(ValueError, match="steps must be a multiple of its chunk"):
        Training(steps=5, chunk=2)


def test_the_tiny_run(tmp_path):
    settings = experiment.Settings.tiny()
    result = experiment.run(settings, quiet())
    mixture = result.learned[experiment.MIXTURE]
    assert mixture.predictions.shape == (1, settings.test, settings.times, settings.places)
    assert len(mixture.courses[0].loss) == settings.training.steps
    assert mixture.mean < result.learned[experiment.SOFT].mean
    assert result.costs[100][experiment.MIXTURE].iterations > 0
    text = printed(result)
    assert "prototype" in text
    assert "bars" not in text
    assert_drawn(result, tmp_path)


@pytest.mark.slow
def test_the_full_run():
    result = experiment.run(experiment.Settings(), quiet())
    assert_all_bars_met(result, checks)
