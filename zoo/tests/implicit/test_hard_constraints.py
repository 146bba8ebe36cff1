"""The layer of hard constraints against closed forms, and its split over experts."""

import doctest
import importlib
from dataclasses import replace

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares

import dini
from dini_zoo.implicit.hard_constraints import (
    DiffusionSorption,
    DomainPartition,
    LeastSquaresConstraint,
    MixtureOfConstraints,
    Terms,
    sample,
)
from dini_zoo.implicit.hard_constraints.scaling import Workload, over_devices

KEY = jax.random.key(0)
TIGHT = dini.LevenbergMarquardt(hessian="gauss-newton", tol=1e-11, max_steps=100)


def random(*shape, seed=0):
    return jnp.asarray(np.random.RandomState(seed).randn(*shape))


def relative(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return np.linalg.norm(one - other) / np.linalg.norm(other)


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


@pytest.mark.thorough
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


@pytest.mark.thorough
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


@pytest.mark.thorough
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


@pytest.mark.slow
def test_sharded_experts_are_those_of_one_batch(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # it compiles faster
    work = Workload(times=6, places=16, functions=3, experts=4, num_points=16, batch=2, rounds=1)
    found = over_devices([4], work)
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


@pytest.mark.parametrize("name", ["constraint", "partition"])
def test_docstring_examples(name):
    found = doctest.testmod(importlib.import_module(f"dini_zoo.implicit.hard_constraints.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
