"""Small matrices, eliminated without LAPACK, and symmetric ones taken for positive definite, against NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

import dini
from dini.linear._dense import symmetric_scales
from dini.linear._small import solve_pivoted, swept
from dini.solvers.shared._definite import inverse_positive, model_positive, solve_positive


def spectrum(n: int, signs: str) -> np.ndarray:
    """Return a random matrix with eigenvalues of given signs, and of sizes from 0.5 to 3."""
    rng = np.random.default_rng(n)
    values = rng.uniform(0.5, 3, n) * (1 if signs == "definite" else rng.choice([-1, 1], n))
    if signs == "indefinite":
        values[0] = -abs(values[0])
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return basis * values @ basis.T


def absolute(matrix: np.ndarray) -> np.ndarray:
    """Return a definite matrix as it is; of another, that with absolute eigenvalues in units in which rows are even."""
    if np.all(np.linalg.eigvalsh(matrix) > 0):
        return matrix
    scales = np.asarray(symmetric_scales(matrix))
    units = np.outer(scales, scales)
    values, vectors = np.linalg.eigh(matrix / units)
    return (vectors * np.abs(values) @ vectors.T) * units


@pytest.mark.by_default("3")
@pytest.mark.parametrize("n", [1, 3, 6, 7])
def test_against_the_absolute_eigenvalues(n):
    """Alone, in a batch with members that need them and without, in nested batches."""
    b = np.random.default_rng(1).standard_normal(n)
    stack = np.stack([spectrum(n, "definite"), spectrum(n, "indefinite"), -np.eye(n), spectrum(n, "definite")])
    close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7)  # a trace is added to small ones

    @jax.jit
    def batch(stack):
        model, solution, _ = jax.vmap(lambda m: model_positive(m, jnp.asarray(b)))(stack)
        return model, jax.vmap(inverse_positive)(stack), solution

    @jax.jit
    def alone(matrix, b):
        return solve_positive(matrix, b)[0]

    nested = jax.jit(jax.vmap(jax.vmap(alone, (0, None)), (None, 0)))
    for matrices in (stack, stack[[0, 3, 3, 0]]):
        want = np.stack([absolute(matrix) for matrix in matrices])
        model, inverse, solution = batch(matrices)
        close(model, want)
        close(inverse, np.linalg.inv(want))
        close(solution, batch_of(matrices, b))
        close([alone(m, b) for m in matrices], batch_of(matrices, b))
        close(nested(matrices, jnp.stack([b, 2 * b])), np.stack([batch_of(matrices, b), 2 * batch_of(matrices, b)]))


@pytest.mark.by_default("1e-30-float32")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e38])
def test_small_matrices_of_any_scale_and_rank(dtype, size):
    """A singular or nearly singular one, zero, and what is not finite: definite and bounded, or NaN."""
    eps = float(jnp.finfo(dtype).eps) ** 0.5
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    for values in ([1, -1, 1e-3, -1e-3], [1, -0.5, 0, 1e-12], [0, 0, 0, 0], [-1, -1, -1, -1]):
        unit = (basis * np.array(values)) @ basis.T
        matrix = jnp.asarray(size * unit, dtype)
        model, solution, _ = model_positive(matrix, jnp.ones(4, dtype))
        got = np.linalg.eigvalsh(np.asarray(model, np.float64)) / size
        np.testing.assert_allclose(got, np.linalg.eigvalsh(absolute(unit)), atol=4 * eps)
        assert np.all(got > 0) or not any(values)
        assert np.all(np.isfinite(solution)) or size * eps < jnp.finfo(dtype).tiny
    assert not np.any(np.isfinite(solve_positive(jnp.full((4, 4), jnp.nan, dtype), jnp.ones(4, dtype))[0]))


def batch_of(stack: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([np.linalg.solve(absolute(matrix), b) for matrix in stack])


@pytest.mark.thorough
def test_a_batch_of_definite_matrices_has_no_eigenvalues():
    """They stand behind a condition on the whole batch: LAPACK, called for each lane, costs many times the rest."""
    problem = dini.Minimize(lambda x: jnp.sum(jnp.cosh(x - 1)))
    step = lambda x: dini.Newton().step(problem, x, dini.Newton().init(problem, x))[0]
    jaxpr = jax.make_jaxpr(jax.vmap(jax.vmap(step)))(jnp.ones((2, 3, 9)))
    assert "eigh" in str(jaxpr)

    def outside(jaxpr: jax.extend.core.Jaxpr) -> list[str]:
        """Return the names of the primitives that are not behind a condition."""
        names = []
        for equation in jaxpr.eqns:
            names.append(equation.primitive.name)
            if equation.primitive.name != "cond":
                for value in equation.params.values():
                    inner = getattr(value, "jaxpr", value)
                    names += outside(inner) if hasattr(inner, "eqns") else []
        return names

    assert "eigh" not in outside(jaxpr.jaxpr)
    assert jnp.all(jnp.isfinite(jaxpr_as_fun(jaxpr)(jnp.ones((2, 3, 9)))[0]))


@pytest.mark.parametrize("solver", [dini.Newton(), dini.Dogleg(), dini.Chord(), dini.Broyden()], ids=lambda s: s.name)
def test_small_systems_call_no_lapack(solver):
    """XLA compiles a loop without calls into one function: a solve of two unknowns takes half of the time, or less."""
    objective = lambda x, a: jnp.sum(jnp.cos(x) + x**2 / 4 - a * x)
    problem = dini.Minimize(objective) if isinstance(solver, dini.Dogleg) else dini.Root(jax.grad(objective))
    text = jax.jit(lambda a: dini.solve(problem, solver, jnp.ones(3), a).x).lower(0.3).as_text()
    assert "while" in text
    assert "lapack" not in text


@pytest.mark.by_default("2")
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_elimination_with_pivots(n):
    """Rows of many scales, a zero in the corner, both directions, a batch; what is singular is told."""
    rng = np.random.default_rng(n)
    stack = rng.standard_normal((50, n, n)) * 10.0 ** rng.uniform(-3, 3, (50, n, 1))
    stack[0] = np.eye(n)[::-1]
    b = rng.standard_normal((50, n))
    solve = solve_pivoted
    back = lambda A, b: jax.linear_transpose(lambda b: solve(A, b), b)(b)[0]
    # the condition after the rows are scaled
    scaled = stack / np.abs(stack).max(axis=2, keepdims=True)
    tolerance = 1e-14 * np.linalg.cond(scaled)[:, None]
    scales = np.abs(stack).max(axis=2)
    want = np.linalg.solve(scaled, (b / scales)[..., None])[..., 0]
    got = jax.vmap(solve)(stack, b)
    assert np.all(np.abs(got - want) <= tolerance * np.abs(want).max(axis=1, keepdims=True))
    want = np.linalg.solve(scaled.swapaxes(1, 2), b[..., None])[..., 0]
    got = jax.vmap(back)(stack, b) * scales
    assert np.all(np.abs(got - want) <= tolerance * np.abs(want).max(axis=1, keepdims=True))
    np.testing.assert_allclose(solve(jnp.asarray(stack[0]), b[0]), b[0][::-1])
    assert not np.all(np.isfinite(solve(jnp.asarray(np.outer(np.ones(n), np.arange(n))), jnp.ones(n))))
    # an unknown for which there is no equation leaves the others alone
    apart = jnp.diag(jnp.arange(n, dtype=float))
    np.testing.assert_allclose(solve(apart, jnp.ones(n))[1:], 1 / np.arange(1, n))


@pytest.mark.by_default("False-1-1", "True-1-1", "False-4-0")
@pytest.mark.parametrize(("negative", "positive"), [(0, 5), (4, 0), (3, 4), (1, 1), (10, 10)])
@pytest.mark.parametrize("singular", [False, True])
def test_sweeps_of_quasi_definite_matrices(negative, positive, singular):
    """Alone, in a batch, and the derivatives; also where the positive block is only so with the others."""
    rng = np.random.default_rng(negative + 10 * positive)

    def definite(n):
        half = rng.standard_normal((n, n))
        return half @ half.T + np.eye(n)

    between = rng.standard_normal((positive, negative))
    rank = np.eye(positive) - np.outer(between[:, 0], between[:, 0]) / sum(between[:, 0] ** 2) if negative else None
    block = rank @ definite(positive) @ rank if singular and negative and positive else definite(positive)
    matrix = np.block([[-definite(negative), between.T], [between, block]])
    inverse, pivots = jax.jit(swept)(matrix)
    want = np.linalg.inv(matrix)
    close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9 * abs(want).max())
    close(inverse, want)
    assert np.all(pivots[:negative] < 0)
    assert np.all(pivots[negative:] > 0)
    np.testing.assert_allclose(np.prod(pivots), np.linalg.det(matrix), rtol=1e-8)
    scales = np.array([1.0, 1e-3, 1e3])
    close(jax.jit(jax.vmap(swept))(scales[:, None, None] * matrix)[0] * scales[:, None, None], [want] * 3)
    direction = rng.standard_normal(matrix.shape)
    _, along = jax.jvp(lambda m: swept(m)[0], (matrix,), (direction + direction.T,))
    close(along, -want @ (direction + direction.T) @ want)
    weights = rng.standard_normal(matrix.shape)
    close(jax.grad(lambda m: jnp.sum(weights * swept(m)[0]))(matrix), -want.T @ weights @ want.T)


def test_derivatives_of_a_branch_that_is_not_taken():
    """Of a pivot whose inverse overflows."""
    stack = jnp.stack([jnp.array([[1e-170, 1.0], [1.0, 0.0]]), 2 * jnp.eye(2)])
    slopes = jax.vmap(jax.grad(lambda m: solve_positive(m, jnp.ones(2))[0].sum()))(stack)
    np.testing.assert_allclose(slopes, [np.zeros((2, 2)), np.full((2, 2), -0.25)])


@pytest.mark.by_default("4-float32")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("n", [4, 8])
def test_little_negative_curvature_in_units_of_each_unknown(n, dtype):
    """What is a thousandth of the rest shows in a step, also where the unknowns' units differ by a million."""
    basis = np.linalg.qr(np.random.default_rng(n).standard_normal((n, n)))[0]
    values = np.linspace(1, 2, n)
    values[0] = -0.01
    unit, units = (basis * values) @ basis.T, 10.0 ** np.linspace(-3, 3, n)
    b = basis[:, 0] + basis[:, 1]

    @jax.jit
    def steps(matrix, b):
        return solve_positive(matrix, b)[0], model_positive(matrix, b)[1], inverse_positive(matrix) @ b

    for step in steps(jnp.asarray(unit / np.outer(units, units), dtype), jnp.asarray(b / units, dtype)):
        got = step / units
        assert 0.3 < got @ basis[:, 0] * 0.01 < 3
        assert got @ b > 0


@pytest.mark.by_default("3-float32")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("n", [3, 8])
def test_negative_curvature_is_distinguished_from_none(n, dtype):
    """Of a matrix without full rank a step is Newton's; where an eigenvalue is negative, it is not."""
    basis = np.linalg.qr(np.random.default_rng(n).standard_normal((n, n)))[0]
    units = 10.0 ** np.linspace(-3, 3, n)

    @jax.jit
    def exact(least):
        values = jnp.asarray(np.linspace(1, 2, n)).at[0].set(least)
        matrix = ((basis @ jnp.diag(values) @ basis.T) / np.outer(units, units)).astype(dtype)
        return solve_positive(matrix, jnp.ones(n, dtype))[2], model_positive(matrix, jnp.ones(n, dtype))[2]

    for least, want in ((1, True), (1e-30, True), (0, True), (-0.01, False), (-1, False)):
        assert exact(least) == (want, want)


@pytest.mark.thorough
@pytest.mark.parametrize("n", [2, 12])
def test_steps_through_indefinite_hessians_differentiate_in_a_batch(n):
    """The direction of a step over a hill is a constant's: with it, ten more steps converge to the exact derivative."""
    problem = dini.Minimize(lambda x, a: jnp.sum(x**4 / 4 - x**2 / 2 - a * x))
    end = lambda a, x: (
        dini.solve(problem, dini.Newton(), x, a, differentiation=dini.Unrolled(steps=25), on_failure="ignore").x
    )
    starts = jnp.stack([0.1 + 0.05 * jnp.arange(n), 2 + 0.1 * jnp.arange(n)])
    a = jnp.full(n, 0.3)
    x = jax.vmap(lambda start: end(a, start))(starts)
    forward = lambda start: jax.jvp(lambda a: end(a, start), (a,), (jnp.ones(n),))[1]
    reverse = lambda start: jax.vjp(lambda a: end(a, start), a)[1](jnp.ones(n))[0]
    for slopes in (jax.vmap(forward)(starts), jax.vmap(reverse)(starts), reverse(starts[0])[None]):
        np.testing.assert_allclose(slopes, (1 / (3 * x**2 - 1))[: len(slopes)], rtol=1e-6)
