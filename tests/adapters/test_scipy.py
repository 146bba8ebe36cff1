"""SciPy's solvers under jit, vmap and grad, against closed forms; what they get wrong is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini.adapters import SciPy
from dini.testing import battery

A = np.array([[0.3, 1.0], [2.0, -1.0], [5.0, 0.1]])
#: methods whose points are as good as the gradient is; the others see values only
WITH_GRADIENTS = [
    "bfgs",
    "l-bfgs-b",
    "newton-cg",
    "tnc",
    "slsqp",
    "trust-constr",
    "dogleg",
    "trust-ncg",
    "trust-krylov",
]
WITH_GRADIENTS += ["trust-exact", "cg"]
VALUES_ONLY = ["nelder-mead", "powell", "cobyla", "cobyqa"]


def arcsinh(x, a):
    return jnp.sum(jnp.cosh(x) - a * x)


def slopes(solve, batch=A):
    return jax.jit(jax.vmap(jax.jacrev(solve)))(batch)


def near(got, want, rtol):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


@pytest.mark.by_default("bfgs", "trust-krylov", "nelder-mead")
@pytest.mark.parametrize("method", WITH_GRADIENTS + VALUES_ONLY)
def test_minima(method):
    """The derivative of arcsinh, under jit(vmap(grad(...)))."""
    solver = SciPy(method)
    got = slopes(lambda a: dini.minimize(arcsinh, jnp.zeros(2), a, solver=solver).x)
    near(got, jax.vmap(jax.jacobian(jnp.arcsinh))(A), 1e-8 if method in WITH_GRADIENTS else 1e-7)


@pytest.mark.by_default("l-bfgs-b")
@pytest.mark.parametrize("method", ["l-bfgs-b", "tnc", "slsqp", "trust-constr", "powell", "nelder-mead", "cobyqa"])
def test_minima_with_bounds(method):
    """A bound that holds an unknown, and a derivative in the bound."""

    def nearest(t):
        box = dini.sets.Box(0.0, t[1])
        return dini.minimize(
            lambda x, y: jnp.sum((x - y) ** 2),
            jnp.full(2, 0.5),
            t[:1] * jnp.array([1.0, 0.2]),
            constraint=box,
            solver=SciPy(method),
        ).x

    got = jax.jit(jax.jacobian(nearest))(jnp.array([3.0, 1.0]))
    near(got, jnp.array([[0.0, 1.0], [0.2, 0.0]]), 1e-6)


@pytest.mark.by_default("slsqp")
@pytest.mark.parametrize("method", ["slsqp", "trust-constr", "cobyqa", "cobyla"])
def test_nonlinear_programs(method):
    """The nearest point of a circle, with an inequality that is active in one lane, and the multipliers."""
    a = np.array([[3.0, 4.0], [4.0, 0.5]])

    def solve(a):
        constraints = {"equality": lambda x, a: jnp.sum(x**2) - 1.0, "inequality": lambda x, a: x[0] - 0.8}
        found = dini.minimize(
            lambda x, a: jnp.sum((x - a) ** 2), jnp.full(2, 0.7), a, **constraints, solver=SciPy(method)
        )
        return found.x, found.multipliers

    def both(a):
        x, back, dual = jax.vjp(solve, a, has_aux=True)
        return x, dual, jax.vmap(lambda v: back(v)[0])(jnp.eye(2))

    x, dual, J = jax.jit(jax.vmap(both))(a)
    # the first lane: x = a / |a|; the second: the corner, which does not move
    r = np.linalg.norm(a[0])
    near(x, np.stack([a[0] / r, [0.8, 0.6]]), 1e-8)
    near(J, np.stack([(np.eye(2) - np.outer(a[0], a[0]) / r**2) / r, np.zeros((2, 2))]), 1e-8)
    # 2 (x - a) + 2 nu x + lam e_0 = 0
    nu = np.array([r - 1, 0.5 / 0.6 - 1])
    near(dual.equality, nu, 1e-7)
    near(dual.inequality, [0.0, 2 * (4.0 - 0.8) - 2 * nu[1] * 0.8], 1e-7)


@pytest.mark.by_default("hybr", "krylov")
@pytest.mark.parametrize("method", ["hybr", "lm", "broyden1", "broyden2", "anderson", "krylov", "df-sane"])
def test_equations(method):
    solver = SciPy(method)
    got = slopes(lambda a: dini.root(lambda x, a: x + 0.5 * jnp.sin(x) - a, jnp.zeros(2), a, solver=solver).x)
    x = jax.vmap(lambda a: dini.root(lambda x, a: x + 0.5 * jnp.sin(x) - a, jnp.zeros(2), a).x)(A)
    near(got, jax.vmap(jnp.diag)(1 / (1 + 0.5 * jnp.cos(x))), 1e-8)


def test_fixed_points():
    slope = jax.grad(lambda a: dini.fixed_point(lambda x, a: 0.5 * (x + a / x), 1.0, a, solver=SciPy("hybr")).x)(9.0)
    near(slope, 1 / 6, 1e-9)


@pytest.mark.by_default("trf", "lm")
@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_least_squares(method):
    """Two residuals exp(x) - a_i: x is the logarithm of their mean."""
    fit = lambda a: dini.least_squares(lambda x, a: jnp.exp(x) - a, jnp.zeros(1), a, solver=SciPy(method)).x
    a = jnp.array([[1.0, 3.0], [0.5, 7.0]])
    near(slopes(fit, a), (1 / jnp.sum(a, 1))[:, None, None] * jnp.ones((2, 1, 2)), 1e-8)


@pytest.mark.by_default("trf")
@pytest.mark.parametrize("method", ["trf", "dogbox"])
def test_robust_losses_and_bounds_of_least_squares(method):
    y = jnp.array([0.1, -0.2, 0.05, 8.0])

    def location(y, solver, **kind):
        return dini.least_squares(lambda x, y: x - y, jnp.zeros(1), y, solver=solver, **kind).x[0]

    for kind in ({"loss": dini.losses.Cauchy(0.5)}, {"constraint": dini.sets.Box(-0.5, 0.4)}):
        got, want = (
            jax.value_and_grad(lambda y, s=s, kind=kind: location(y, s, **kind))(y)
            for s in (SciPy(method), dini.LevenbergMarquardt(rtol=1e-13))
        )
        near(got[0], want[0], 1e-8)
        near(got[1], want[1], 1e-8)


@pytest.mark.by_default("brent")
@pytest.mark.parametrize("method", ["brent", "golden", "bounded"])
def test_scalar_minima(method):
    box = dini.sets.Box(-3.0, 3.0) if method == "bounded" else None
    solve = lambda a: dini.minimize(lambda x, a: jnp.cosh(x) - a * x, 0.0, a, constraint=box, solver=SciPy(method)).x
    a = jnp.array([0.3, 2.0, -1.5])
    near(jax.jit(jax.vmap(jax.grad(solve)))(a), 1 / jnp.sqrt(1 + a**2), 1e-7)


def test_second_derivatives():
    solve = lambda a: dini.minimize(lambda x, a: jnp.cosh(x) - a * x, 0.0, a, solver=SciPy("bfgs")).x
    near(jax.jit(jax.grad(jax.grad(solve)))(0.7), -0.7 / (1 + 0.7**2) ** 1.5, 1e-8)


@pytest.mark.by_default("highs")
@pytest.mark.parametrize("method", ["highs", "highs-ds", "highs-ipm"])
def test_linear_programs(method):
    """A diet with an equality, an inequality and bounds: vertex, multipliers and derivatives by hand."""

    def solve(h, b):
        # x0 + x1 + x2 = b, x0 - x1 <= h, 0 <= x <= 2: cheapest is x0, then x1
        data = {"A": jnp.ones((1, 3)), "b": b, "G": jnp.array([[1.0, -1.0, 0.0]]), "h": h}
        found = dini.quadratic_program(c=jnp.array([1.0, 2.0, 9.0]), **data, lower=0.0, upper=2.0, solver=SciPy(method))
        return found.x, found.multipliers

    h, b = jnp.array([0.5]), jnp.array([2.5])
    x, dual = solve(h, b)
    near(x, jnp.array([1.5, 1.0, 0.0]), 1e-9)
    near(dual.equality, jnp.array([-1.5]), 1e-9)
    near(dual.inequality, jnp.array([0.5]), 1e-9)
    near(dual.bounds, jnp.array([0.0, 0.0, -7.5]), 1e-9)
    J = jax.jit(jax.jacobian(lambda h, b: solve(h, b)[0], argnums=(0, 1)))(h, b)
    near(J[0][:, 0], jnp.array([0.5, -0.5, 0.0]), 1e-9)
    near(J[1][:, 0], jnp.array([0.5, 0.5, 0.0]), 1e-9)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"A": jnp.ones((1, 2)), "b": jnp.array([-1.0]), "lower": 0.0}, "PRIMAL_INFEASIBLE"),
        ({"G": jnp.array([[1.0, -1.0]]), "h": jnp.ones(1), "upper": 5.0}, "DUAL_INFEASIBLE"),
    ],
)
def test_linear_programs_without_a_solution(data, status):
    found = dini.quadratic_program(c=jnp.ones(2), **data, solver=SciPy("highs"), on_failure="ignore")
    assert dini.Status(int(found.status)).name == status


def test_a_solver_that_stops_early_is_caught():
    solver = SciPy("bfgs", {"gtol": 1.0})
    found = dini.minimize(arcsinh, jnp.zeros(2), A[1], solver=solver, on_failure="ignore")
    assert found.status == dini.Status.CONDITION
    found = dini.minimize(arcsinh, jnp.zeros(2), A[1], solver=SciPy("bfgs", max_steps=3), on_failure="ignore")
    assert found.status == dini.Status.MAX_STEPS
    with pytest.raises(dini.SolveError, match="MAX_STEPS"):
        dini.minimize(arcsinh, jnp.zeros(2), A[1], solver=SciPy("bfgs", {"maxiter": 2}))


def test_a_bad_lane_is_alone():
    """Of a batch, a lane whose function is no number fails, and the others do not."""
    solve = lambda a: dini.minimize(lambda x, a: jnp.cosh(x) - jnp.log(a) * x, 0.0, a, solver=SciPy("bfgs"))
    a = jnp.array([2.0, -1.0, 5.0])
    found = jax.jit(jax.vmap(solve))(a)
    assert list(np.asarray(found.status)) == [0, dini.Status.NONFINITE, 0]
    slope = jax.jit(jax.vmap(jax.grad(lambda a: solve(a).x)))(a)
    want = 1 / (a * jnp.sqrt(1 + jnp.log(a) ** 2))
    near(slope[jnp.array([0, 2])], want[jnp.array([0, 2])], 1e-8)
    assert np.isnan(slope[1])


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units(unit):
    """The same answer where the unknown, or the objective, is a million times smaller or larger."""
    solver = SciPy("bfgs")
    solve = lambda a, u, v: dini.minimize(lambda x: v * arcsinh(x / u, a), jnp.full(2, u), solver=solver).x
    for u, v in ((unit, 1.0), (1.0, unit)):
        near(jax.jacobian(lambda a, u=u, v=v: solve(a, u, v))(A[1]) / u, jnp.diag(1 / jnp.sqrt(1 + A[1] ** 2)), 1e-7)


def test_unlike_units():
    """Conjugate gradients that have hardly moved an element whose gradient is small beside another's."""
    quartic = lambda x: jnp.sum((x - jnp.array([1.0, 2, 3])) ** 2) + jnp.sum((x - 1) ** 4)
    solver = SciPy("CG")

    def solved(unit):
        found = dini.minimize(lambda u: quartic(u / unit), 0.5 * unit, solver=solver, on_failure="ignore")
        return found.x / unit, found.success

    units = 10 ** np.concatenate([np.zeros((1, 3)), np.random.default_rng(1).uniform(-3, 3, (16, 3))])
    x, success = jax.jit(jax.vmap(solved))(units)
    assert success.sum() > 8
    np.testing.assert_allclose(x[success], np.broadcast_to(x[0], (int(success.sum()), 3)), atol=1e-3)


def test_units_of_least_squares_by_minpack():
    """A gradient that is no longer small may be less than the least tolerance that MINPACK takes."""
    fit = lambda a, v: dini.least_squares(lambda x: v * (jnp.exp(x) - a), jnp.zeros(1), solver=SciPy("lm")).x
    near(jax.jit(jax.vmap(fit, (None, 0)))(np.array([1.0, 3.0]), np.array([1e-6, 1e6])), np.log([[2.0], [2.0]]), 1e-8)


def test_the_lanes_of_a_batch_of_starts():
    """Only the starting points differ."""
    solve = lambda x0: dini.root(lambda x: x**2 - 4.0, x0, solver=SciPy("hybr")).x
    near(jax.vmap(solve)(jnp.array([1.0, -1.0, 3.0])), jnp.array([2.0, -2.0, 2.0]), 1e-8)


def test_the_same_solve_twice_in_a_program():
    """Equal calls may become one, whose session is asked twice."""
    solve = lambda a: dini.minimize(arcsinh, jnp.zeros(2), a, solver=SciPy("bfgs")).x
    near(jax.jit(lambda a: solve(a) + solve(a))(A[0]), 2 * jnp.arcsinh(A[0]), 1e-8)
    near(jax.jit(lambda a: jax.lax.map(solve, jnp.stack([a, a])))(A[0])[1], jnp.arcsinh(A[0]), 1e-8)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"method must be one of 'nelder-mead'.*given 'levenberg'"):
        SciPy("levenberg")
    with pytest.raises(TypeError, match=r"options must be a dictionary.*gtol"):
        SciPy("bfgs", {"gtol": jnp.ones(2)})
    with pytest.raises(TypeError, match=r"SciPy\('bfgs'\) does not solve Root.*hybr"):
        dini.root(lambda x: x, 1.0, solver=SciPy("bfgs"))
    with pytest.raises(TypeError, match="takes bounds as constraint"):
        dini.minimize(lambda x: jnp.sum(x), jnp.ones(2), constraint=dini.sets.Simplex(), solver=SciPy("slsqp"))
    with pytest.raises(TypeError, match="linear programs: given one with Q"):
        dini.quadratic_program(Q=jnp.eye(2), c=jnp.ones(2), solver=SciPy("highs"))
    with pytest.raises(Exception, match="Unknown solver options: gtolerance"):
        dini.minimize(arcsinh, jnp.zeros(2), A[0], solver=SciPy("bfgs", {"gtolerance": 1.0}))


BATTERY = [
    *battery(SciPy("bfgs")),
    *battery(SciPy("l-bfgs-b"), names=["box", "nonnegative", "quadratic on a box"]),
    *battery(SciPy("trf")),
    *battery(SciPy("hybr")),
]
#: on a narrow road: what the road is made of is tested with dini's own solvers
DEFAULT = ("SciPy('bfgs')-tree-Implicit-derivatives", "SciPy('trf')-bounded_residuals-Implicit-float32")
CELLS = [
    pytest.param(check, id=check.name, marks=[] if check.name in DEFAULT else [pytest.mark.thorough])
    for check in BATTERY
]


@pytest.mark.parametrize("check", CELLS)
def test_battery(check):
    check()
