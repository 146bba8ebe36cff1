"""JAXopt's linear solves: NumPy's solutions, derivatives in matrix and right-hand side, and failures that show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
import dini_jaxopt as jaxopt
from dini_jaxopt import linear_solve

RNG = np.random.default_rng(0)
M = RNG.normal(size=(5, 5))
GENERAL, DEFINITE, b = M + 4 * np.eye(5), M @ M.T + np.eye(5), RNG.normal(size=5)
SOLVES = {
    "lu": GENERAL,
    "qr": GENERAL,
    "inv": GENERAL,
    "cholesky": DEFINITE,
    "cg": DEFINITE,
    "normal_cg": GENERAL,
    "gmres": GENERAL,
    "bicgstab": GENERAL,
    "iterative_refinement": GENERAL,
}


@pytest.mark.parametrize("name", SOLVES)
def test_solves(name):
    """With a ridge, in reverse mode in the matrix, the right-hand side and the ridge, on a tree."""
    A, solve = SOLVES[name], getattr(linear_solve, f"solve_{name}")
    more = {} if name == "iterative_refinement" else {"ridge": 0.1}
    normal = name == "normal_cg"
    shifted = (A.T @ A if normal else A) + (0.1 if more else 0.0) * np.eye(5)
    expected = np.linalg.solve(shifted, A.T @ b if normal else b)

    def run(A, b):
        matvec = lambda x: {"u": (A @ jnp.append(x["u"], x["v"]))[:4], "v": (A @ jnp.append(x["u"], x["v"]))[4]}
        x = solve(matvec, {"u": b[:4], "v": b[4]}, **more)
        return jnp.append(x["u"], x["v"])

    x, pull = jax.jit(lambda A, b: jax.vjp(run, A, b))(A, b)
    np.testing.assert_allclose(x, expected, rtol=1e-5)
    weights = np.linalg.solve(shifted.T, np.ones(5))
    dA, db = pull(jnp.ones(5))
    np.testing.assert_allclose(db, A @ weights if normal else weights, rtol=1e-4)
    if not normal:
        np.testing.assert_allclose(dA, -np.outer(weights, expected), rtol=1e-4)


def test_least_squares_by_normal_equations():
    A = RNG.normal(size=(6, 3))
    y = RNG.normal(size=6)
    x = linear_solve.solve_normal_cg(lambda x: A @ x, jnp.asarray(y), init=jnp.zeros(3))
    np.testing.assert_allclose(x, np.linalg.lstsq(A, y)[0], rtol=1e-8)
    with pytest.raises(TypeError, match="init"):
        linear_solve.solve_normal_cg(lambda x: A @ x, jnp.asarray(y))


def test_settings_of_jax_are_taken():
    scale = jnp.logspace(0, 6, 50)
    matvec = lambda x: scale * x
    settings = {"tol": 1e-10, "atol": 0.0, "maxiter": 5, "M": lambda r: r / scale, "init": jnp.zeros(50)}
    np.testing.assert_allclose(linear_solve.solve_cg(matvec, jnp.ones(50), **settings), 1 / scale, rtol=1e-9)
    settings |= {"restart": 4, "solve_method": "batched"}
    np.testing.assert_allclose(linear_solve.solve_gmres(matvec, jnp.ones(50), **settings), 1 / scale, rtol=1e-9)


def test_an_early_end_warns_and_a_singular_matrix_raises():
    scale = jnp.logspace(0, 6, 50)
    with pytest.warns(dini.SolveWarning, match="relative residual"):
        linear_solve.solve_cg(lambda x: scale * x, jnp.ones(50), maxiter=3)
    singular = jnp.diag(jnp.array([1.0, 0.0]))
    with pytest.raises(dini.DerivativeError, match="singular"):
        linear_solve.solve_lu(lambda x: singular @ x, jnp.ones(2))
    with pytest.raises(dini.DerivativeError, match="not positive definite"):
        linear_solve.solve_cholesky(lambda x: -x, jnp.ones(2))
    lanes = jax.vmap(lambda d: linear_solve.solve_lu(lambda x: d * x, jnp.ones(2)))(jnp.array([[1.0, 2.0], [1.0, 0.0]]))
    np.testing.assert_array_equal(np.isnan(lanes).any(axis=1), [False, True])


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units(scale):
    for name in ("lu", "cg", "gmres"):
        solve = getattr(linear_solve, f"solve_{name}")
        x = solve(lambda x: jnp.asarray(scale * DEFINITE, jnp.float32) @ x, jnp.asarray(scale * b, jnp.float32))
        assert x.dtype == jnp.float32
        np.testing.assert_allclose(x, np.linalg.solve(DEFINITE, b), rtol=1e-3, atol=1e-4)


def test_refinement_corrects_a_solver_of_another_matrix():
    """The matrix near by is diagonal: the iteration is Jacobi's. The state counts, and the result is differentiable."""
    A = np.diag(np.full(5, 8.0)) + M * (1 - np.eye(5)) * 0.5
    settings = {
        "matvec_A_bar": lambda d, x: d * x,
        "solve": lambda matvec, r, init: linear_solve.solve_cg(matvec, r, init=init),
        "tol": 1e-10,
    }
    refinement = jaxopt.IterativeRefinement(maxiter=60, **settings)
    run = lambda A, b: refinement.run(jnp.ones(5), A, b, jnp.diag(A))
    step = jax.jit(run)(A, b)
    np.testing.assert_allclose(step.params, np.linalg.solve(A, b), rtol=1e-9)
    assert 5 < step.state.iter_num < 60
    assert step.state.error <= 1e-10
    gradient = jax.grad(lambda b: run(jnp.asarray(A), b).params.sum())(jnp.asarray(b))
    np.testing.assert_allclose(gradient, np.linalg.solve(A.T, np.ones(5)), rtol=1e-8)
    with pytest.warns(dini.SolveWarning, match="MAX_STEPS"):
        jaxopt.IterativeRefinement(maxiter=1, **settings).run(None, jnp.asarray(A), jnp.asarray(b), jnp.diag(A))


def test_refinement_on_a_tree_of_matrices():
    A = {"u": jnp.asarray(GENERAL), "v": jnp.array([[2.0]])}
    right = {"u": jnp.asarray(b), "v": jnp.array([4.0])}
    x = jaxopt.IterativeRefinement().run(None, A, right).params
    np.testing.assert_allclose(x["u"], np.linalg.solve(GENERAL, b), rtol=1e-6)
    np.testing.assert_allclose(x["v"], [2.0], rtol=1e-6)
    assert jaxopt.IterativeRefinement().l2_optimality_error(x, A, right) < 1e-6
