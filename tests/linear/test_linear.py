"""Linear solvers: each against NumPy's dense solution, in both directions, and told when it fails."""

import dataclasses
import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import linear
from dini.linear import Pattern
from dini.linear._materialize import materialize
from dini.linear._sparsity import Linearized


def banded(d, lower, upper, seed=0, shift=0.0):
    """Return a random banded matrix."""
    rng = np.random.default_rng(seed)
    A = np.triu(np.tril(rng.normal(size=(d, d)), upper), -lower)
    return A + shift * np.eye(d)


def grid(n, drift=0.0):
    """Return the five-point Laplacian of an n by n grid, with a drift along the first axis."""
    one = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    return np.kron(one + drift * np.eye(n, k=1), np.eye(n)) + np.kron(np.eye(n), one)


def shuffled(d):
    """Return a tridiagonal matrix in a random order of the unknowns."""
    order = np.random.default_rng(3).permutation(d)
    return banded(d, 1, 1, shift=4.0)[order][:, order]


def vector(d, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=d))


def product(A):
    """Return the products with a matrix by its nonzeros, as a sparse program makes them."""
    rows, columns = np.nonzero(A)
    values = jnp.asarray(A[rows, columns])
    return lambda w: jnp.zeros_like(w).at[rows].add(values.astype(w.dtype) * w[columns])


def both(solve, b, c):
    """Return the solution for ``b``, and that of the transposed system for ``c``."""
    w, back = jax.vjp(solve, b)
    return w, back(c)[0]


def definite(A):
    return np.allclose(A, A.T) and np.linalg.eigvalsh(A)[0] > 0


SYSTEMS = {
    "diagonal": np.diag(np.random.default_rng(0).normal(size=40)),
    "tridiagonal": banded(100, 1, 1),
    "tridiagonal of a minimum": 2.1 * np.eye(100) - np.eye(100, k=1) - np.eye(100, k=-1),
    "lower bidiagonal": banded(50, 1, 0, shift=3.0),
    "upper bidiagonal": banded(50, 0, 1, shift=3.0),
    "unequal bands": banded(100, 2, 5),
    "wide band": banded(97, 12, 3),
    "upper band": banded(60, 0, 4, shift=3.0),
    "band of a minimum": banded(90, 2, 1) @ banded(90, 2, 1).T + np.eye(90),
    "shuffled": shuffled(100),
    "grid": grid(9),
    "grid with drift": grid(9, 0.5),
    "small": banded(5, 1, 1),
}


def solvers_for(A):
    lower, upper = Pattern.of(A).bandwidth
    some = [linear.Sparse(), linear.SparseDirect(Pattern.of(A))]
    if max(lower, upper) < 20:
        some.append(linear.Banded(lower, upper))
    if lower == upper == 0:
        some.append(linear.Diagonal())
    return some


@pytest.mark.by_default("unequal bands", "shuffled")
@pytest.mark.parametrize("name", SYSTEMS)
def test_sparse_solvers_in_both_directions(name):
    A = SYSTEMS[name]
    d = A.shape[0]
    b, c = vector(d), vector(d, 2)
    for structure in (None, "positive definite") if definite(A) else (None,):
        for solver in solvers_for(A):

            def solve(b, solver=solver, structure=structure):
                return linear.solve(product(A), b, solver=solver, structure=structure)

            w, back = jax.jit(lambda b, c, solve=solve: both(solve, b, c))(b, c)
            scale = 1e-14 * np.linalg.cond(A)
            np.testing.assert_allclose(w, np.linalg.solve(A, b), rtol=scale, atol=scale * np.linalg.norm(w))
            np.testing.assert_allclose(back, np.linalg.solve(A.T, c), rtol=scale, atol=scale * np.linalg.norm(back))


@pytest.mark.by_default(2)
@pytest.mark.parametrize("solver", [linear.Sparse(), linear.SparseDirect(), linear.Banded(2, 5)], ids=str)
def test_sparse_solvers_batched_and_in_float32(solver):
    A = SYSTEMS["unequal bands"] + 6 * np.eye(100)
    factors = jnp.asarray([1.0, 2.0, 3.0])
    bs = jnp.stack([vector(100, seed) for seed in range(3)])

    def solve(factor, b):
        return linear.solve(lambda w: factor * product(A)(w), b, solver=solver)

    expected = np.stack([np.linalg.solve(f * A, b) for f, b in zip(factors, bs, strict=True)])
    np.testing.assert_allclose(jax.jit(jax.vmap(solve))(factors, bs), expected, rtol=1e-9)
    shared = np.linalg.solve(A, np.asarray(bs).T).T
    np.testing.assert_allclose(jax.jit(jax.vmap(solve, (None, 0)))(factors[0], bs), shared, rtol=1e-9)
    low = jax.jit(solve)(jnp.float32(1.0), bs[0].astype(jnp.float32))
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, expected[0], rtol=1e-3)


def neumann(w):
    """Return the second difference with reflecting ends: constants are its kernel."""
    flow = jnp.diff(w)
    return jnp.concatenate([-flow[:1], -jnp.diff(flow), flow[-1:]])


SINGULAR = [linear.Sparse(), linear.Banded(1), linear.Banded(2), linear.SparseDirect()]


@pytest.mark.by_default(2)
@pytest.mark.parametrize("solver", SINGULAR, ids=str)
@pytest.mark.parametrize("structure", [None, "positive definite"])
def test_singular_sparse_systems_are_told(solver, structure):
    @jax.jit
    def solve(b):
        return linear.solve(neumann, b, solver=solver, structure=structure, on_failure="nan")

    for b in (vector(100), neumann(vector(100)), neumann(vector(100)).astype(jnp.float32)):
        assert np.all(np.isnan(solve(b)))


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    "solver", [linear.Sparse(), linear.Banded(1), linear.Banded(2), linear.SparseDirect()], ids=str
)
def test_what_is_no_minimum_is_told(solver):
    A = np.eye(100) - np.eye(100, k=1) - np.eye(100, k=-1)  # indefinite, and far from singular
    assert np.min(np.abs(np.linalg.eigvalsh(A))) > 1e-3
    w = linear.solve(product(A), vector(100), solver=solver, structure="positive definite", on_failure="nan")
    assert np.all(np.isnan(w))


@pytest.mark.thorough
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_does_not_matter(scale):
    A = SYSTEMS["tridiagonal"]
    b = vector(100)
    for solver in (linear.Sparse(), linear.Banded(1), linear.Banded(2), linear.SparseDirect()):
        w = jax.jit(lambda b, solver=solver: linear.solve(product(scale * A), b, solver=solver))(b)
        np.testing.assert_allclose(w * scale, np.linalg.solve(A, b), rtol=1e-9)


def test_a_pattern_that_misses_a_nonzero_is_told():
    A = SYSTEMS["unequal bands"] + 6 * np.eye(100)
    for solver in (linear.Sparse(Pattern.banded(100, 1, 1)), linear.Banded(2, 4), linear.Diagonal()):
        w = linear.solve(product(A), vector(100), solver=solver, on_failure="nan")
        assert np.all(np.isnan(w))


def test_settings_of_sparse_solvers():
    with pytest.raises(TypeError, match=r"must be a dini\.linear\.Pattern"):
        linear.Sparse(np.eye(3))
    with pytest.raises(ValueError, match="Banded's lower"):
        linear.Banded(-1)
    with pytest.raises(ValueError, match="needs a pattern of shape"):
        linear.solve(product(np.eye(4)), jnp.ones(4), solver=linear.Sparse(Pattern.banded(5, 1, 1)))
    with pytest.raises(linear.NotSparse):
        linear.solve(lambda w: w + jnp.sum(w), jnp.ones(20_000), solver=linear.Sparse())


def equation(x, theta):
    y = jnp.pad(x, 1)
    return (theta - 2 * x) * x - y[:-2] - 2 * y[2:] + 1


def with_indices(x, theta):
    """The same equation with indices that the program computes."""
    out = (theta - 2 * x) * x + 1
    return out.at[1:].add(-x[:-1]).at[jnp.arange(x.size - 1)].add(-2 * x[1:])


@pytest.mark.by_default("equation")
@pytest.mark.parametrize("fun", [equation, with_indices])
def test_root_with_detected_sparsity(fun):
    d = 300
    theta, c = 3 + 0.1 * vector(d), vector(d, 2)
    sparse = linear.Sparse()
    solver, how = dini.Newton(linear_solver=sparse), dini.Implicit(linear_solver=sparse)

    def loss(theta):
        return c @ dini.solve(dini.Root(fun), solver, -jnp.ones(d), theta, differentiation=how).x

    x = dini.solve(dini.Root(fun), solver, -jnp.ones(d), theta).x
    A = jax.jacfwd(equation)(x, theta)
    expected = -x * np.linalg.solve(A.T, c)  # the derivative of the equation in theta is diag(x)
    np.testing.assert_allclose(jax.grad(loss)(theta), expected, rtol=1e-7, atol=1e-10)
    text = jax.jit(jax.grad(loss)).lower(theta).as_text()
    assert f"{d}x{d}" not in text  # no dense matrix anywhere


@pytest.mark.thorough
def test_second_derivatives_through_a_sparse_solve():
    sparse = linear.Sparse()
    solver, how = dini.Newton(linear_solver=sparse, tol=1e-12), dini.Implicit(linear_solver=sparse)

    def loss(t, how):
        x = dini.solve(dini.Root(equation), solver, -jnp.ones(40), t * jnp.ones(40), differentiation=how).x
        return jnp.sum(x**2)

    ours = jax.jacfwd(jax.grad(loss))(3.0, how)
    np.testing.assert_allclose(ours, jax.jacfwd(jax.grad(loss))(3.0, dini.Implicit()), rtol=1e-9)
    h = 1e-4
    slope = lambda t: jax.grad(loss)(t, how)
    np.testing.assert_allclose(ours, (slope(3 + h) - slope(3 - h)) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("solver", SINGULAR, ids=str)
def test_a_singular_lane_marks_itself_only(solver):
    shifts, b = jnp.array([0.5, 0.0, 1.0]), vector(100)

    def solve(shift):
        return linear.solve(lambda w: neumann(w) + shift * w, b, solver=solver)

    w = jax.jit(jax.vmap(solve))(shifts)
    N = np.asarray(jax.jacfwd(neumann)(b))
    assert np.all(np.isnan(w[1]))
    for lane in (0, 2):
        np.testing.assert_allclose(w[lane], np.linalg.solve(N + shifts[lane] * np.eye(100), b), rtol=1e-9)


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_complex_unknowns():
    sparse = linear.Sparse()
    d, how = 50, dini.Implicit(linear_solver=sparse)

    def fun(z, t):
        return (2 + 1j) * z - 0.5 * jnp.roll(jnp.conj(z), 1) - t

    def loss(t, how):
        z = dini.solve(dini.Root(fun), dini.Newton(), jnp.zeros(d, complex), t * (1 + 2j), differentiation=how).x
        return jnp.sum(jnp.abs(z) ** 2)

    np.testing.assert_allclose(jax.grad(loss)(1.5, how), jax.grad(loss)(1.5, dini.Implicit()), rtol=1e-9)


@pytest.mark.thorough
def test_certificates_with_a_sparse_solver():
    how = dini.Implicit(linear_solver=linear.Sparse(), certify=True)
    theta = 3 + 0.1 * vector(50)

    def loss(theta, how):
        return jnp.sum(dini.solve(dini.Root(equation), dini.Newton(), -jnp.ones(50), theta, differentiation=how).x)

    truth = jax.grad(loss)(theta, dini.Implicit())
    np.testing.assert_allclose(jax.grad(loss)(theta, how), truth, rtol=1e-7)
    stopped = lambda theta: dini.solve(
        dini.Root(equation), dini.Newton(max_steps=2), -jnp.ones(50), theta, differentiation=how, on_failure="nan"
    ).x[0]
    assert np.all(np.isnan(jax.grad(stopped)(theta)))


def _logistic(theta, scale):
    w, b = theta["w"], theta["b"]
    margins = jnp.asarray(_DATA) @ w + w[::-1] @ jnp.asarray(_DATA).T + b
    return jnp.mean(jnp.logaddexp(0, -margins)) + scale * jnp.sum(w**4) + jnp.sum(theta["c"] ** 2) * b**2


_DATA = np.random.default_rng(5).standard_normal((40, 23))


@pytest.mark.thorough
def test_a_matrix_costs_no_product_with_the_identity():
    """A Hessian is assembled with one product of two matrices less, to the same numbers, in trees and batches too."""
    theta = {"w": jnp.linspace(-1, 1, 23), "b": jnp.ones(()), "c": jnp.ones((2, 3))}
    flat, unravel = jax.flatten_util.ravel_pytree(theta)

    def assembled(scale):
        hessian = Linearized(lambda u: jax.grad(_logistic)(u, scale), theta)
        return materialize(hessian, theta)[0]

    wanted = lambda scale: jax.hessian(lambda v: _logistic(unravel(v), scale))(flat)
    for turned, at, atol in ((jax.jit, 0.3, 1e-14), (jax.vmap, np.array([0.1, 2.0]), 1e-14), (jax.jacfwd, 0.3, 1e-13)):
        got, want = (jax.jit(turned(matrix))(at) for matrix in (assembled, wanted))
        np.testing.assert_allclose(got, want, atol=atol)

    data = jnp.asarray(_DATA)
    weighted = lambda weights: materialize(lambda v: data.T @ (weights * (data @ v)), jnp.ones(23))[0]
    np.testing.assert_allclose(weighted(jnp.arange(40.0)), _DATA.T * np.arange(40) @ _DATA, rtol=1e-12)
    assert str(jax.make_jaxpr(weighted)(jnp.ones(40))).count("dot_general") == 1
    # numbers of its own before the product
    outer = lambda weights: materialize(lambda v: data @ (2 * (weights * (v @ data))), jnp.ones(40))[0]
    np.testing.assert_allclose(outer(jnp.arange(23.0)), 2 * _DATA * np.arange(23) @ _DATA.T, rtol=1e-12)
    inner = lambda weights: materialize(lambda v: data @ (data.T @ (weights * v * 2)), jnp.ones(40))[0]
    np.testing.assert_allclose(inner(jnp.arange(40.0)), 2 * _DATA @ _DATA.T * np.arange(40), rtol=1e-12)
    assert str(jax.make_jaxpr(inner)(jnp.ones(40))).count("dot_general") == 1
    # few unknowns
    thin = data[:, :3]
    few = lambda weights: materialize(lambda v: thin.T @ (weights * (thin @ v)), jnp.ones(3))[0]
    np.testing.assert_allclose(few(jnp.arange(40.0)), _DATA[:, :3].T * np.arange(40) @ _DATA[:, :3], rtol=1e-12)
    assert str(jax.make_jaxpr(few)(jnp.ones(40))).count("dot_general") == 1


def test_a_sharded_matrix_is_multiplied():
    """What is sharded along the batch of unit vectors is left to JAX."""
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        data = jax.device_put(_DATA, jax.sharding.NamedSharding(mesh, jax.P(None, "x")))
        product = lambda v: jnp.dot(data, v, out_sharding=jax.P(None))
        matrix = materialize(lambda v: jnp.dot(_DATA.T, product(v)), jnp.ones(23))[0]
    np.testing.assert_allclose(matrix, _DATA.T @ _DATA, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", [None, linear.GMRES()], ids=str)
def test_a_map_that_is_not_linear_is_told(solver):
    A, b = jnp.array([[2.0, 1.0], [1.0, 3.0]]), jnp.array([1.0, 2.0])
    with pytest.raises(Exception, match=r"not linear: matvec\(0\)|was not solved"):
        jax.block_until_ready(linear.solve(lambda w: A @ w + 1.0, b, solver=solver))
    assert jnp.all(jnp.isnan(linear.solve(lambda w: A @ w + 1.0, b, solver=solver, on_failure="nan")))
    for bent in (lambda w: w * jnp.abs(w), jnp.sin):
        with pytest.raises(TypeError, match="matvec of linear system must be linear"):
            linear.solve(bent, b, solver=solver)

    # errors of the map's own are left alone
    def own(w):
        assert w.shape == (3,), "a map's own"
        return w

    with pytest.raises(AssertionError, match="a map's own"):
        linear.solve(own, b, solver=solver)
    with pytest.raises(TypeError, match="contracting"):
        linear.solve(lambda w: A @ w @ jnp.ones(3), b, solver=solver)


def test_a_map_that_is_linear_up_to_rounding_is_solved():
    """Terms that cancel leave such an offset behind."""
    A, b = jnp.array([[2.0, 1.0], [1.0, 3.0]], jnp.float32), jnp.array([1.0, 2.0], jnp.float32)
    got = linear.solve(lambda w: A @ w + jnp.float32(1e-6), b)
    np.testing.assert_allclose(got, [0.2, 0.6], atol=1e-5)
    with pytest.raises(Exception, match=r"not linear: matvec\(0\)"):
        jax.block_until_ready(linear.solve(lambda w: A @ w + jnp.float32(1e-2), b))


def test_errors_of_a_solver_are_its_own():
    matrix = np.array([[2.0, 1.0], [1.0, 3.0]])
    host = lambda w: jax.pure_callback(lambda v: matrix @ v, jax.ShapeDtypeStruct((2,), float), w)

    def fails(matvec, b):
        raise ValueError("a solver of the user's")

    with pytest.raises(ValueError, match="a solver of the user's"):
        linear.solve(host, jnp.ones(2), structure="symmetric", solver=fails)
    got = linear.solve(host, jnp.array([1.0, 2.0]), structure="positive definite", solver=linear.CG())
    np.testing.assert_allclose(got, [0.2, 0.6], atol=1e-9)


def test_a_singular_leaf_leaves_the_others_alone():
    b = {"a": jnp.ones(()), "b": jnp.ones(())}
    w = linear.solve(lambda w: {"a": 0 * w["a"], "b": 2 * w["b"]}, b, on_failure="ignore")
    assert w["b"] == 0.5


def test_a_system_without_unknowns_is_solved():
    with pytest.raises(TypeError, match="real floating-point arrays: given int32"):
        linear.solve(lambda w: w, jnp.zeros(0, jnp.int32))
    assert linear.solve(lambda w: w, jnp.zeros(0)).shape == (0,)
    assert linear.solve(lambda w: w, {}) == {}
    with pytest.raises(ValueError, match="like must hold numbers"):
        linear.condition_estimate(lambda w: w, jnp.zeros(0))


def test_a_map_or_right_hand_side_that_does_not_fit_is_told():
    d, b = jnp.arange(1.0, 4.0), jnp.ones(3, jnp.float32)
    for solver in (None, linear.CG(), linear.GMRES()):
        with pytest.raises(TypeError, match=r"output of matvec must .*given float64\[3\], needed float32\[3\]"):
            linear.solve(lambda w: d * w, b, structure="positive definite", solver=solver)
    with pytest.raises(TypeError, match=r"output of matvec must .*given \{a: float32\[3\]\}"):
        linear.solve(lambda w: {"a": w}, b)
    for wrong in ([1.0, 2.0], jnp.arange(3), jnp.ones(3, complex)):
        with pytest.raises(TypeError, match="b of a linear system must be a pytree of real floating-point arrays"):
            linear.solve(lambda w: w, wrong)


@pytest.mark.by_default("each")
@pytest.mark.parametrize("solver", [linear.Banded(1), linear.Sparse(Pattern.banded(200, 1, 1))], ids=repr)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_small_missed_nonzero_does_not_hide_in_the_residual(solver, dtype):
    """A coupling that changes the solution by percents, and whose residual is within the tolerance of float32."""
    A = 2 * np.eye(200) - np.eye(200, k=1) - np.eye(200, k=-1)
    solve = lambda A: linear.solve(product(A.astype(dtype)), jnp.ones(200, dtype), solver=solver, on_failure="nan")
    want = np.linalg.solve(A, np.ones(200))
    np.testing.assert_allclose(solve(A), want, rtol=2e-2 if dtype == jnp.float32 else 1e-10)
    A[0, -1] = 1e-3
    assert np.all(np.isnan(solve(A)))
    unchecked = dataclasses.replace(solver, check=False)
    rough = linear.solve(product(A.astype(dtype)), jnp.ones(200, dtype), solver=unchecked, on_failure="ignore")
    assert np.all(np.isfinite(rough))


@pytest.mark.thorough
def test_patterns_in_mixed_and_in_half_precision():
    """What rounding leaves in a product is no missed nonzero; nor is what cancels inside of a map."""
    solve = lambda mv, b, solver: linear.solve(mv, b, solver=solver)
    mixed = (jnp.ones(5, jnp.float32), jnp.ones(5))
    u, v = solve(lambda w: (3 * w[0], 2 * w[1]), mixed, linear.Diagonal())
    np.testing.assert_allclose(u, 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(v, 1 / 2, rtol=1e-15)
    for dtype in (jnp.bfloat16, jnp.float16):
        scales = jnp.arange(1, 201).astype(dtype)
        w = solve(lambda w, scales=scales: scales * w, jnp.ones(200, dtype), linear.Diagonal())
        np.testing.assert_allclose(w.astype(float), 1 / np.arange(1, 201), rtol=2e-2)
    large = jnp.asarray(1e4, jnp.float32)
    w = solve(lambda w: (large + 2) * w - large * w, jnp.ones(100, jnp.float32), linear.Diagonal())
    np.testing.assert_allclose(w, 0.5, rtol=1e-2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_units_of_blocks_do_not_make_a_symmetric_matrix_singular(dtype):
    """A Hessian, a constraint, a bound and a constraint that is not active, with lengths of 1e-6 to 1e6."""
    natural = np.zeros((6, 6))
    natural[:3, :3] = [[4.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 5.0]]
    natural[3, :3] = natural[:3, 3] = [1.0, -2.0, 0.5]
    natural[4, 2] = natural[2, 4] = natural[5, 5] = 1.0
    w = np.array([1.0, -2.0, 0.5, 3.0, -1.0, 0.25])
    for length in (1e-6, 1.0, 1e6):
        # with the unknown in other units, multipliers of constraints stay, that of the bound is a force
        units = np.array([length, length, length, 1.0, 1 / length, 1.0])
        matrix = jnp.asarray(natural / units[:, None] / units[None, :], dtype)
        matrix = matrix.at[5, 5].set(1.0).at[4, 2].set(1.0).at[2, 4].set(1.0)
        found, singular = dini.linear.Dense()(
            lambda v, matrix=matrix: matrix @ v, jnp.asarray(natural @ w / units, dtype), "symmetric"
        )
        assert not singular
        np.testing.assert_allclose(found / units, w, rtol=1e-4 if dtype == jnp.float32 else 1e-10)


@pytest.mark.parametrize("structure", [None, "positive definite"])
def test_units_of_equations_and_unknowns_do_not_decide(structure):
    """In any units a regular system is solved in both directions, and a singular one is refused."""
    skew = 0.0 if structure else 1.0
    regular = np.array([[2.0, 1.0, 1.0], [1.0 - skew, 2.0, 1.0], [1.0, 1.0 - skew, 3.0]])
    left, sizes, right = np.linalg.svd(regular)
    singular = regular - sizes[2] * np.outer(left[:, 2], right[2])
    b = jnp.array([1.0, -2.0, 0.5])

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def solved(matrix, rows, columns):
        product = lambda w: rows * (matrix @ (columns * w))
        solve = lambda b: linear.solve(product, b, structure=structure, on_failure="nan")
        forward, back = jax.vjp(solve, rows * b)
        return columns * forward, rows * back(columns * b)[0]

    rows = jnp.array([[1.0, 1, 1], [1e6, 1, 1e-6], [1e-6, 1, 1e6], [1e8, 1, 1e-8], [1, 1e-7, 1]])
    for columns in (rows,) if structure else (rows, rows[::-1], jnp.ones_like(rows)):
        for found, matrix in zip(solved(regular, rows, columns), (regular, regular.T), strict=True):
            want = np.linalg.solve(matrix, b)
            np.testing.assert_allclose(found, np.broadcast_to(want, found.shape), rtol=1e-11)
        assert np.all(np.isnan(solved(singular, rows, columns)))
