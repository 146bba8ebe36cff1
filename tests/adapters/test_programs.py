"""Quadratic and linear programs by qpsolvers and MPAX, beside dini's interior point method."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

import dini
from dini.adapters import MPAX, QPSolvers

RNG = np.random.default_rng(0)
HALF = RNG.normal(size=(5, 5))
#: a program with an equality, inequalities and bounds, of which some are active
DATA = {
    "Q": HALF @ HALF.T + np.eye(5),
    "A": RNG.normal(size=(1, 5)),
    "b": np.array([0.3]),
    "G": RNG.normal(size=(3, 5)),
    "h": RNG.normal(size=3) + 1.0,
    "lower": -0.5,
    "upper": 0.5,
}
C = RNG.normal(size=(2, 5))
STATUS = {
    "PRIMAL_INFEASIBLE": {"c": np.ones(2), "A": np.ones((1, 2)), "b": np.array([-1.0]), "lower": 0.0},
    "DUAL_INFEASIBLE": {"c": -np.ones(2), "G": np.array([[1.0, -1.0]]), "h": np.ones(1), "lower": 0.0},
    "NOT_CONVEX": {"Q": -np.eye(2), "c": np.ones(2), "lower": 0.0, "upper": 1.0},
}


def near(got, want, rtol=1e-8):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=rtol, atol=rtol), got, want)


def solved(solver, data, batch):
    """Return the points, multipliers and Jacobians in ``c`` of a batch."""

    def solve(c):
        found = dini.quadratic_program(c=c, **data, solver=solver)
        return found.x, (found.multipliers, found.status)

    def both(c):
        x, rest = solve(c)
        return x, rest, jax.jacrev(lambda c: solve(c)[0])(c)

    return jax.jit(jax.vmap(both))(batch)


@pytest.mark.by_default("osqp")
@pytest.mark.parametrize("name", ["osqp", "proxqp", "clarabel", "highs", "scs"])
def test_quadratic_programs(name):
    near(solved(QPSolvers(name), DATA, C), solved(dini.InteriorPoint(), DATA, C))


@pytest.mark.thorough
def test_quadratic_programs_by_mpax():
    near(solved(MPAX(), DATA, C), solved(dini.InteriorPoint(), DATA, C))


@pytest.mark.thorough
def test_a_wrong_success_of_mpax_is_caught():
    """Its Halpern method calls a point outside of the bounds optimal."""
    status = lambda c: dini.quadratic_program(c=c, **DATA, solver=MPAX("r2hpdhg"), on_failure="ignore").status
    assert status(C[0]) == dini.Status.CONDITION


@pytest.mark.thorough
@pytest.mark.parametrize("solver", [QPSolvers("highs"), MPAX()], ids=lambda solver: solver.name)
def test_linear_programs(solver):
    data = {name: part for name, part in DATA.items() if name != "Q"}
    near(solved(solver, data, C), solved(dini.InteriorPoint(), data, C))


@pytest.mark.parametrize("solver", [QPSolvers("clarabel"), MPAX()], ids=lambda solver: solver.name)
def test_sparse_programs(solver):
    """A chain x_i - x_{i+1} / 2 <= h_i, all of whose rows are active: x and its derivative by one solve."""
    n = 6
    chain = np.eye(n) - 0.5 * np.eye(n, k=1)
    sparse = BCOO.fromdense(jnp.asarray(chain))

    def solve(h):
        # every element is worth something, and bounded by the chain alone
        return dini.quadratic_program(c=-jnp.ones(n), G=sparse, h=h, lower=0.0, solver=solver).x

    near(solve(jnp.ones(n)), np.linalg.solve(chain, np.ones(n)), 1e-8)
    near(jax.jit(jax.jacobian(solve))(jnp.ones(n)), np.linalg.inv(chain), 1e-8)


@pytest.mark.parametrize("name", STATUS)
def test_programs_without_a_solution(name):
    found = dini.quadratic_program(**STATUS[name], solver=QPSolvers("clarabel"), on_failure="ignore")
    assert dini.Status(int(found.status)).name == name


def test_curvatures_of_zero_and_of_unlike_size():
    """A quadratic term of zeros is convex; a negative curvature is seen beside one that is much larger."""
    rest = {
        "c": np.array([1.0, 2.0]),
        "A": np.ones((1, 2)),
        "b": np.ones(1),
        "lower": 0.0,
        "solver": QPSolvers("clarabel"),
    }
    solve = jax.jit(
        jax.vmap(lambda Q: (lambda s: (s.status, s.x))(dini.quadratic_program(Q=Q, on_failure="ignore", **rest)))
    )
    status, x = solve(np.stack([np.zeros((2, 2)), np.array([[1e6, 2.0], [2.0, 1e-6]]), np.array([[0.0, 1], [1, 0]])]))
    assert [dini.Status(int(s)).name for s in status] == ["CONVERGED", "NOT_CONVEX", "NOT_CONVEX"]
    near(x[0], np.array([1.0, 0.0]))


def test_a_bad_lane_is_alone():
    """Of a batch, one program has no point, one data that are no numbers."""
    total = jnp.array([[1.0], [-1.0], [jnp.nan], [2.0]])
    data = {"c": jnp.array([1.0, 2.0]), "A": jnp.ones((1, 2)), "lower": 0.0, "upper": 3.0}
    solve = lambda b: dini.quadratic_program(**data, b=b, solver=QPSolvers("highs"), on_failure="ignore")
    found = jax.jit(jax.vmap(solve))(total)
    names = [dini.Status(int(status)).name for status in found.status]
    assert names == ["CONVERGED", "PRIMAL_INFEASIBLE", "NONFINITE", "CONVERGED"]
    near(found.x[jnp.array([0, 3])], jnp.array([[1.0, 0.0], [2.0, 0.0]]))


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units(unit):
    """The same program with lengths, and with prices, a million times smaller or larger."""
    base = dini.quadratic_program(c=C[0], **DATA).x
    scaled = {name: DATA[name] * unit for name in ("b", "h", "lower", "upper")}
    solver = QPSolvers("clarabel")
    long = dini.quadratic_program(c=C[0] * unit, **(DATA | scaled), solver=solver).x
    near(long / unit, base, 1e-7)
    costly = dini.quadratic_program(c=C[0] * unit, **(DATA | {"Q": DATA["Q"] * unit}), solver=solver).x
    near(costly, base, 1e-7)


def test_rows_of_unlike_units_in_single_precision():
    """What rounding leaves of rows of a million is no violation; single rows and all of them."""
    c, data = 3 * np.random.default_rng(1).normal(size=(12, 5)), DATA | {"h": np.full(3, 0.01)}
    exact = jax.jit(jax.vmap(lambda c: dini.quadratic_program(c=c, **data)))(c)
    assert exact.active.inequality.any(axis=0).all()
    with jax.enable_x64(False):
        one = lambda c, data: dini.quadratic_program(c=c, **data, solver=QPSolvers("clarabel"), on_failure="ignore")
        solve = jax.jit(jax.vmap(one, (0, None)))
        for size in ([1e6, 1e6, 1e6], [1e6, 1.0, 1e-6], [1e-6, 1e-6, 1e-6]):
            rows = {"G": data["G"] * np.array(size)[:, None], "h": data["h"] * np.array(size)}
            single = {name: jnp.asarray(part, jnp.float32) for name, part in (data | rows).items()}
            found = solve(jnp.asarray(c, jnp.float32), single)
            assert not found.status.any(), size
            near(found.x, exact.x, 1e-5)


def test_a_solver_that_stops_early_is_caught():
    early = QPSolvers("scs", {"max_iters": 3, "acceleration_lookback": 0})
    found = dini.quadratic_program(c=C[0], **DATA, solver=early, on_failure="ignore")
    assert found.status == dini.Status.STALLED
    loose = QPSolvers("scs", {"eps_abs": 0.5, "eps_rel": 0.5})
    found = dini.quadratic_program(c=C[0], **DATA, solver=loose, on_failure="ignore")
    wrong = jnp.max(jnp.abs(found.x - dini.quadratic_program(c=C[0], **DATA).x))
    assert found.status != dini.Status.CONVERGED or wrong < 1e-6


def test_a_problem_of_cvxpys():
    """The projection onto the simplex, by a host's solver of quadratic programs."""
    x, a = cp.Variable(3, nonneg=True), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - a)), [cp.sum(x) == 1])
    layer = dini.from_cvxpy(problem, [a], [x], solver=QPSolvers("osqp"))
    y = jnp.array([0.9, 0.5, -1.0])
    near(layer(y)[0], jnp.array([0.7, 0.3, 0.0]))
    want = jnp.array([[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    near(jax.jacobian(lambda y: layer(y)[0])(y), want)
    norm = cp.Problem(cp.Minimize(cp.norm(x - a)), [cp.sum(x) == 1])
    with pytest.raises(TypeError, match=r"QPSolvers\('osqp'\) solves quadratic programs.*second-order"):
        dini.from_cvxpy(norm, [a], [x], solver=QPSolvers("osqp"))(y)


def test_what_is_refused():
    with pytest.raises(ImportError, match=r"finds no solver of this name.*installed are"):
        QPSolvers("simplex")
    with pytest.raises(TypeError, match=r"QPSolvers.* solves problems of the kinds QuadraticProgram"):
        dini.minimize(lambda x: x**2, 1.0, solver=QPSolvers("osqp"))
    with pytest.raises(ValueError, match="MPAX's method must be one of"):
        MPAX("pdhg")
    with pytest.raises(TypeError, match="MPAX needs a program with equalities or inequalities"):
        dini.quadratic_program(c=jnp.ones(2), lower=0.0, solver=MPAX())
