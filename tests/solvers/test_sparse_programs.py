"""Quadratic programs whose matrices are sparse or known by their products, beside dense ones; operator splitting."""

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
import scipy.sparse as sp
from jax.experimental.sparse import BCOO, BCSR

import dini
from dini import Status

N, M, P = 6, 2, 4
NAMES = ("Q", "c", "A", "b", "G", "h", "lower", "upper")


def program(seed, kind="strict"):
    """Return a program with a known solution: active and inactive constraints, strictly, and none of a kind."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(N)
    half = rng.standard_normal((N, N))
    Q = 0 * half if kind == "linear" else half @ half.T + 0.1 * np.eye(N)
    A, G = rng.standard_normal((M, N)), rng.standard_normal((P, N))
    G[rng.random(G.shape) < 0.3] = 0
    many = 2 if kind == "linear" else 1
    z = np.where(np.arange(P) < many, rng.uniform(0.5, 1, P), 0)
    mu = np.array([rng.uniform(0.5, 1), -rng.uniform(0.5, 1), 0, 0, 0, 0])
    y = rng.standard_normal(M)
    lower, upper = np.where(mu < 0, x, x - 1), np.where(mu > 0, x, x + 1)
    lower[3], upper[4] = -np.inf, np.inf
    c = -(Q @ x + A.T @ y + G.T @ z + mu)
    h = G @ x + np.where(z > 0, 0, 1)
    if kind == "infeasible":
        G[1], h[1] = -G[0], -h[0] - 1
    if kind == "unbounded":
        Q, lower, upper = 0 * Q, np.full(N, -np.inf), np.full(N, np.inf)
        ray = np.linalg.svd(np.vstack([A, G[:1]]))[2][-1]
        G *= np.where(G @ ray > 0, -1, 1)[:, None]
        h, c = G @ x + 1, -ray
    data = dict(zip(NAMES, (Q, c, A, A @ x, G, h, lower, upper), strict=True))
    return {name: jnp.asarray(value) for name, value in data.items()}, x, (y, z, mu)


def as_sparse(data):
    """Return the data with all elements of their matrices stored, so that all programs have one shape."""
    return data | {name: BCOO.fromdense(data[name], nse=data[name].size) for name in "QAG"}


def as_maps(data):
    """Return the data with their matrices as functions that close over them."""
    return data | {name: (lambda x, matrix=data[name]: matrix @ x) for name in "QAG"}


def split(data, **settings):
    solver = dini.OperatorSplitting(dense_limit=0, **settings)
    return dini.quadratic_program(**data, solver=solver, on_failure="ignore")


@jax.jit
def sparse_solution(data):
    """All tests of sparse programs share one program."""

    def point(data):
        solution = split(as_sparse(data))
        return (solution.x, solution.multipliers), solution

    return point(data)[1]


def test_sparse_programs_have_the_solutions_they_were_built_for():
    """Points and multipliers, exact to rounding; certificates where there is no solution; units do not decide."""
    for seed, kind in ((0, "strict"), (1, "strict"), (2, "linear"), (3, "linear")):
        data, x, duals = program(seed, kind)
        for length, rows in ((1.0, 1.0), (1e6, 1e-6), (1e-6, 1e6)):
            scales = {"Q": length**-2, "c": 1 / length, "A": rows / length, "b": rows, "G": rows / length}
            scales |= {"h": rows, "lower": length, "upper": length}
            solution = sparse_solution({name: data[name] * scales[name] for name in NAMES})
            assert solution.status == Status.CONVERGED
            np.testing.assert_allclose(solution.x / length, x, rtol=1e-10, atol=1e-11)
            np.testing.assert_allclose(solution.multipliers.equality * rows, duals[0], rtol=1e-8, atol=1e-9)
            np.testing.assert_allclose(solution.multipliers.inequality * rows, duals[1], rtol=1e-8, atol=1e-9)
            np.testing.assert_array_equal(solution.active.upper, duals[2] > 0)
    data, *_ = program(4, "infeasible")
    solution = sparse_solution(data)
    assert solution.status == Status.PRIMAL_INFEASIBLE
    y, z, mu = solution.multipliers
    finite = lambda bound: jnp.where(jnp.isfinite(bound), bound, 0)
    claim = data["b"] @ y + data["h"] @ z + finite(data["upper"]) @ jnp.maximum(mu, 0)
    claim = claim - finite(data["lower"]) @ jnp.maximum(-mu, 0)
    assert (z >= 0).all()
    assert claim < -1e-3
    assert np.abs(data["A"].T @ y + data["G"].T @ z + mu).max() < 1e-7
    data, *_ = program(5, "unbounded")
    solution = sparse_solution(data)
    assert solution.status == Status.DUAL_INFEASIBLE
    assert data["c"] @ solution.ray < -1e-3
    assert max(np.abs(data["A"] @ solution.ray).max(), (data["G"] @ solution.ray).max()) < 1e-7


@pytest.mark.parametrize("form", ["sparse", pytest.param("maps", marks=pytest.mark.thorough)])
def test_derivatives_in_what_is_stored(form):
    """On the host or by MINRES, in forward and reverse mode, beside those of the dense program."""
    data, *_ = program(0)
    rng = np.random.default_rng(0)
    along = {name: jnp.asarray(rng.standard_normal(value.shape)) for name, value in data.items()}
    made = as_sparse if form == "sparse" else as_maps

    @jax.jit
    def both(data, along):
        found = []
        for solve in (lambda data: dini.quadratic_program(**data), lambda data: split(made(data))):
            point = lambda data, solve=solve: (lambda s: (s.x, s.multipliers))(solve(data))
            value, push = jax.linearize(point, data)
            pulled = jax.linear_transpose(push, data)(value)[0]
            found.append((value, push(along), pulled))
        return found

    truth, ours = both(data, along)
    for name in ("lower", "upper"):  # of a bound that is none, nothing is asked
        for found in (truth, ours):
            found[2][name] = jnp.where(jnp.isfinite(data[name]), found[2][name], 0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8), ours, truth)


def test_the_verb_chooses_by_size_and_the_forms_agree():
    """Small programs are solved with arrays; every form of a matrix is one program."""
    data, x, _ = program(0)
    mixed = {
        "Q": lambda x: data["Q"] @ x,
        "A": BCSR.fromdense(data["A"]),
        "G": sp.csr_matrix(np.asarray(data["G"])),
    }
    solution = dini.quadratic_program(**(data | mixed))
    assert solution.solver == "ActiveSet()"
    np.testing.assert_allclose(solution.x, x, rtol=1e-10, atol=1e-11)
    operator = dini.QuadraticProgram(**(data | {"G": lineax.MatrixLinearOperator(data["G"])}))
    np.testing.assert_allclose(operator.dense.G, data["G"])
    large = BCOO.fromdense(jnp.ones((1, 600)))
    found = dini.quadratic_program(Q=lambda x: x, c=-jnp.ones(600), A=large, b=jnp.ones(1))
    assert found.solver == "OperatorSplitting()"
    np.testing.assert_allclose(found.x, 1 / 600, rtol=1e-9)


def test_a_warm_start_saves_steps():
    """The solution of a program nearby, with its multipliers."""
    data, *_ = program(2, "linear")
    near = data | {"c": data["c"] * 1.001}
    cold = dini.quadratic_program(**data, solver=dini.OperatorSplitting())
    start = {"x0": cold.x, "multipliers": cold.multipliers}
    warm = dini.quadratic_program(**near, **start, solver=dini.OperatorSplitting())
    again = dini.quadratic_program(**near, solver=dini.OperatorSplitting())
    np.testing.assert_allclose(warm.x, again.x, rtol=1e-10, atol=1e-11)
    assert warm.stats.steps < again.stats.steps


@pytest.mark.thorough  # two programs, 12 s of CPU
def test_what_is_not_convex_or_singular_is_told():
    """A large negative curvature of a map, and a linear program with many solutions, which has no derivative."""
    with pytest.raises(dini.SolveError, match="NOT_CONVEX"):
        dini.quadratic_program(Q=lambda x: -x, c=jnp.ones(600), lower=0.0, upper=1.0)
    data = {"A": BCOO.fromdense(jnp.ones((1, 3))), "b": jnp.ones(1), "lower": 0.0}
    solver = dini.OperatorSplitting(dense_limit=0)
    with pytest.raises(dini.DerivativeError):
        jax.grad(lambda c: dini.quadratic_program(c=c, **data, solver=solver).x[0])(jnp.ones(3))


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        ({"c": np.ones(2), "A": lambda x: x[:1] ** 1, "b": np.ones(2)}, ValueError, "A must map"),
        ({"Q": lambda x: x}, ValueError, "must show the number n of unknowns"),
        (
            {"c": np.ones(2), "A": BCOO.fromdense(jnp.ones((2, 3))), "b": np.ones(2)},
            ValueError,
            "A must have the shape",
        ),
        ({"c": np.ones(2), "Q": BCOO.fromdense(jnp.ones((2, 2, 2)))}, TypeError, "without batch or dense dimensions"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(data, error, said):
    with pytest.raises(error, match=said):
        dini.quadratic_program(**data)


def test_a_function_that_is_not_linear_is_no_matrix():
    """One that is curved, or has a constant, is refused; where only values of a program tell, nothing is solved."""

    def made(A):
        return dini.QuadraticProgram(Q=jnp.eye(2), c=jnp.ones(2), A=A, b=jnp.ones(1))

    with pytest.raises(TypeError, match="A must be a linear function"):
        made(lambda x: x[:1] ** 2)
    with pytest.raises(ValueError, match=r"A must be a linear function.*right-hand side"):
        made(lambda x: x[:1] + x[1:] - 1.0)

    @jax.jit
    def solved(offset):
        problem = made(lambda x: x[:1] + x[1:] - offset)
        solution = dini.solve(problem, dini.OperatorSplitting(), problem.start(), on_failure="ignore")
        return solution.x.primal, solution.status

    x, status = solved(0.0)
    np.testing.assert_allclose(x, [0.5, 0.5], atol=1e-8)
    assert status == dini.Status.CONVERGED
    assert solved(1.0)[1] != dini.Status.CONVERGED
