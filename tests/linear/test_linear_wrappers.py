"""Ridge, refinement, minimum norm, condition estimates, and factors that are shared by right-hand sides."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import linear

D = 60


def vector(seed=1, d=D):
    return jnp.asarray(np.random.default_rng(seed).normal(size=d))


def matrix(values, seed=0, symmetric=False):
    """Return a matrix with given singular values (eigenvalues)."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(len(values),) * 2))[0]
    right = left if symmetric else np.linalg.qr(rng.normal(size=(len(values),) * 2))[0]
    return left @ np.diag(values) @ right.T


def both(solve, b, c):
    w, back = jax.vjp(solve, b)
    return w, back(c)[0]


RIDGED = [None, linear.Dense(), linear.GMRES(rtol=1e-12), linear.Banded(D - 1), linear.Sparse()]


@pytest.mark.by_default(2)
@pytest.mark.parametrize("solver", RIDGED, ids=str)
def test_ridge_solves_the_changed_system(solver):
    A = matrix([*np.linspace(1, 3, D - 2), 0, 0])
    A = A + 2 * np.eye(D) if isinstance(solver, linear.GMRES) else A
    R = A + 0.5 * np.eye(D)
    ridge = linear.Ridge(0.5, solver)
    w, back = both(lambda b: linear.solve(lambda w: jnp.asarray(A) @ w, b, solver=ridge), vector(), vector(2))
    np.testing.assert_allclose(w, np.linalg.solve(R, vector()), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(back, np.linalg.solve(R.T, vector(2)), rtol=1e-7, atol=1e-9)


@pytest.mark.thorough
def test_ridge_in_newton_and_in_the_derivative():
    """With a traced strength, which has no derivative, and a pattern detected through the ridge."""

    def gradient(strength):
        how = dini.Implicit(linear_solver=linear.Ridge(strength, linear.Sparse()))

        def loss(t):
            fun = lambda x, t: x.at[1:].add(-0.5 * x[:-1]) - t
            return jnp.sum(dini.solve(dini.Root(fun), dini.Newton(), jnp.zeros(100), t, differentiation=how).x)

        return jax.grad(loss)(1.0)

    A = np.eye(100) - 0.5 * np.eye(100, k=-1) + 0.1 * np.eye(100)
    np.testing.assert_allclose(jax.jit(gradient)(0.1), np.sum(np.linalg.solve(A, np.ones(100))), rtol=1e-9)
    assert jax.grad(gradient)(0.1) == 0
    with pytest.raises(ValueError, match="Ridge's strength"):
        linear.Ridge(-1.0)


@pytest.mark.by_default(2)
@pytest.mark.parametrize(
    "solver", [linear.Dense(), linear.SparseDirect(), linear.GMRES(rtol=1e-4, restart=60), None], ids=str
)
@pytest.mark.parametrize("structure", [None, "positive definite"])
def test_refinement_reaches_the_accuracy_of_the_residual(solver, structure):
    A = matrix(np.logspace(0, 2, D), symmetric=structure is not None)
    refined = linear.Refined(steps=8) if solver is None else linear.Refined(solver, steps=8)
    solve = lambda b: linear.solve(lambda w: jnp.asarray(A) @ w, b, solver=refined, structure=structure)
    w, back = jax.jit(lambda b, c: both(solve, b, c))(vector(), vector(2))
    np.testing.assert_allclose(w, np.linalg.solve(A, vector()), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(back, np.linalg.solve(A.T, vector(2)), rtol=1e-9, atol=1e-12)


@pytest.mark.thorough
def test_refinement_improves_step_by_step_and_tells_where_it_cannot():
    A = jnp.asarray(matrix(np.logspace(0, 3, D)))
    b = vector() / jnp.linalg.norm(vector())
    residuals = [
        float(jnp.linalg.norm(A @ linear.Refined(steps=k)(lambda w: A @ w, b, None)[0] - b)) for k in (1, 2, 3)
    ]
    single = float(jnp.linalg.norm(A @ linear.Dense()(lambda w: A @ w, b.astype(jnp.float32), None)[0] - b))
    assert residuals[0] < 1e-1 * single
    assert residuals[1] < 1e-1 * residuals[0]
    # far beyond float32, near-singular there
    hopeless = jnp.asarray(matrix(np.logspace(0, 12, D)))
    w = linear.solve(lambda w: hopeless @ w, b, solver=linear.Refined(), on_failure="nan")
    assert np.all(np.isnan(w))
    # the inner factorization is in the low precision, and there is one
    text = jax.jit(lambda b: linear.Refined()(lambda w: A @ w, b, None)[0]).lower(b).as_text()
    factored = re.findall(r"lapack_(.)getrf", text)
    assert factored == ["s"]
    with pytest.raises(ValueError, match="Refined's dtype"):
        linear.Refined(dtype="int32")


@pytest.mark.by_default("40")
@pytest.mark.parametrize("d", [40, 600])
def test_minimum_norm(d):
    values = np.ones(d)
    values[:3], values[3:10] = 0, 4
    A = jnp.asarray(matrix(values))
    b, c = A @ vector(1, d), vector(2, d)  # a cotangent need not be in the range
    solve = jax.jit(
        lambda A, b: linear.solve(lambda w: A @ w, b, solver=linear.MinimumNorm(), on_failure="nan")
    )  # the matrix as an argument: XLA is slow with large constants
    w, back = jax.jit(lambda A, b, c: both(lambda b: solve(A, b), b, c))(A, b, c)
    np.testing.assert_allclose(w, np.linalg.pinv(A, 1e-10) @ b, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(back, np.linalg.pinv(A, 1e-10).T @ c, rtol=1e-7, atol=1e-8)
    assert np.all(np.isnan(solve(A, vector(3, d))))  # has no solution


@pytest.mark.thorough
def test_derivatives_of_a_minimum_that_may_be_moved():
    """Two points on a line with a spring between them: their center is free."""

    def energy(x, length):
        return 0.5 * (x[1] - x[0] - length) ** 2 + 0.1 * (x[1] - x[0]) ** 4

    how = dini.Implicit(linear_solver=linear.MinimumNorm())

    def positions(length):
        return dini.solve(
            dini.Minimize(energy), dini.BFGS(tol=1e-10), jnp.array([0.0, 1.0]), length, differentiation=how
        ).x

    gap = positions(1.0)[1] - positions(1.0)[0]
    expected = 0.5 / (1 + 1.2 * gap**2)  # half of d gap / d length, from the scalar equation of the gap
    for jacobian in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jacobian(positions)(1.0), [-expected, expected], rtol=1e-6)


CONDITIONED = {
    "dense": (None, None),
    "dense definite": (None, "positive definite"),
    "sparse": (linear.Sparse(), None),
    "banded": (linear.Banded(D - 1), None),
    "refined": (linear.Refined(), None),
}


@pytest.mark.by_default("1.0-dense", "1.0-dense definite", "3000.0-sparse")
@pytest.mark.parametrize("name", CONDITIONED)
@pytest.mark.parametrize("condition", [1.0, 3e3])
def test_condition_estimates_of_direct_solvers(name, condition):
    solver, structure = CONDITIONED[name]
    values = np.geomspace(1, condition, D)
    A = jnp.asarray(matrix(values, symmetric=structure is not None))
    estimate = jax.jit(
        lambda: linear.condition_estimate(lambda w: A @ w, jnp.ones(D), structure=structure, solver=solver)
    )()
    assert 0.4 * condition <= estimate <= condition * (1 + 1e-6)


def test_condition_estimates_of_large_numbers():
    values = np.geomspace(1e-11, 1, D)
    A = jnp.asarray(matrix(values))
    estimate = linear.condition_estimate(lambda w: A @ w, jnp.ones(D))
    assert 0.4e11 <= estimate <= 1.1e11


@pytest.mark.parametrize("structure", [None, "symmetric", "positive definite"])
def test_condition_estimates_without_a_matrix(structure):
    values = np.linspace(1, 50, D)
    if structure == "symmetric":
        values[::2] *= -1
    A = jnp.asarray(matrix(values, symmetric=structure is not None))
    solver = linear.CG() if structure == "positive definite" else linear.GMRES()
    for iterations, low in ((20, 0.3), (D, 0.99)):
        estimate = linear.condition_estimate(
            lambda w: A @ w, {"a": jnp.ones(D)}["a"], structure=structure, solver=solver, iterations=iterations
        )
        assert low * 50 <= estimate <= 50 * (1 + 1e-9)


def test_ritz_values():
    values = np.concatenate([[-7.0], np.linspace(1, 10, D - 2), [30.0]])
    A = jnp.asarray(matrix(values, symmetric=True))
    ritz = linear.ritz_values(lambda w: A @ w, jnp.ones(D), 20)
    np.testing.assert_allclose(ritz[np.array([0, -1])], [-7, 30], rtol=1e-6)
    assert np.all((ritz >= -7 - 1e-9) & (ritz <= 30 + 1e-9))
    np.testing.assert_allclose(linear.ritz_values(lambda w: A @ w, jnp.ones(D), 100), np.sort(values), rtol=1e-9)
    # a space that is exhausted after two steps
    d = jnp.where(jnp.arange(D) < 3, 2.0, 5.0)
    few = linear.ritz_values(lambda w: d * w, jnp.ones(D), 10)
    assert few.size == 10
    np.testing.assert_allclose(few[np.array([0, -1])], [2, 5], rtol=1e-9)
    with pytest.raises(ValueError, match="steps"):
        linear.ritz_values(lambda w: w, jnp.ones(3), 0)


def factorizations(text):
    """Return the shapes of the matrices that a lowered program factorizes."""
    found = []
    for line in text.splitlines():
        if "getrf" in line or "potrf" in line:
            found.append(re.findall(r"tensor<([0-9x]*)xf64>", line)[0])
    return found


@pytest.mark.by_default("LU-jacfwd", "LU-jacrev")
@pytest.mark.parametrize("jacobian", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("name", ["LU", "Cholesky"])
def test_a_jacobian_factorizes_once(jacobian, name):
    d = 40  # a smaller matrix is factorized by a loop of the program's own
    M = jnp.asarray(matrix(np.linspace(1, 5, d), symmetric=True))
    if name == "LU":
        problem, solver = dini.Root(lambda x, t: M @ x + 0.1 * x**3 - t), dini.FixedPointIteration()
        problem = dini.FixedPoint(lambda x, t: x - 0.2 * (M @ x + 0.1 * x**3 - t))
    else:
        problem, solver = dini.Minimize(lambda x, t: 0.5 * x @ M @ x + 0.025 * jnp.sum(x**4) - t @ x), dini.LBFGS()
    solution = lambda t: dini.solve(problem, solver, jnp.zeros(d), t).x
    t = vector(1, d)
    assert factorizations(jax.jit(jacobian(solution)).lower(t).as_text()) == [f"{d}x{d}"]
    x = solution(t)
    truth = np.linalg.inv(np.asarray(M) + 0.3 * np.diag(np.asarray(x) ** 2))
    np.testing.assert_allclose(jax.jit(jacobian(solution))(t), truth, rtol=1e-5, atol=1e-6)


def test_right_hand_sides_share_a_sparse_factorization(monkeypatch):
    from dini.linear import _sparse

    calls, factorize = [], _sparse._solve_one
    monkeypatch.setattr(_sparse, "_solve_one", lambda *args: calls.append(0) or factorize(*args))
    A = np.random.default_rng(0).normal(size=(40, 40)) + 9 * np.eye(40)
    solve = lambda b: linear.solve(lambda w: jnp.asarray(A) @ w, b, solver=linear.SparseDirect())
    for jacobian, truth in ((jax.jacfwd, np.linalg.inv(A)), (jax.jacrev, np.linalg.inv(A))):
        calls.clear()
        np.testing.assert_allclose(jax.jit(jacobian(solve))(vector(1, 40)), truth, rtol=1e-9, atol=1e-12)
        jax.effects_barrier()
        assert len(calls) <= 2  # the solution and its derivative
