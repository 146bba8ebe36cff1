"""Optimistix, NLopt and POUNCE, against closed forms; packages that are not installed."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import dini
from dini.adapters import NLopt, Optimistix, Pounce, SciPy
from dini.testing import battery

A = np.array([[0.3, 1.0], [2.0, -1.0]])
TIGHT = {"rtol": 1e-11, "atol": 1e-11}


def near(got, want, rtol=1e-8):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


def arcsinh(x, a):
    return jnp.sum(jnp.cosh(x) - a * x)


def slopes_of_minima(solver):
    solve = lambda a: dini.minimize(arcsinh, jnp.zeros(2), a, solver=solver).x
    near(jax.jit(jax.vmap(jax.jacrev(solve)))(A), jax.vmap(jax.jacobian(jnp.arcsinh))(A), 1e-7)


def circle(solver):
    """The nearest point of a circle, with an inequality that is active in the second lane."""
    a = jnp.array([[3.0, 4.0], [4.0, 0.5]])

    def solve(a):
        constraints = {"equality": lambda x, a: jnp.sum(x**2) - 1.0, "inequality": lambda x, a: x[0] - 0.8}
        found = dini.minimize(lambda x, a: jnp.sum((x - a) ** 2), jnp.full(2, 0.7), a, **constraints, solver=solver)
        return found.x, found.multipliers

    x, dual = jax.jit(jax.vmap(solve))(a)
    r = jnp.linalg.norm(a[0])
    near(x, jnp.stack([a[0] / r, jnp.array([0.8, 0.6])]))
    # 2 (x - a) + 2 nu x + lam e_0 = 0
    nu = jnp.array([r - 1, 0.5 / 0.6 - 1])
    near(dual.equality, nu)
    near(dual.inequality, jnp.array([0.0, 2 * (4.0 - 0.8) - 2 * nu[1] * 0.8]))
    J = jax.jit(jax.jacobian(lambda a: solve(a)[0]))(a[0])
    near(J, (jnp.eye(2) - jnp.outer(a[0], a[0]) / r**2) / r)


@pytest.mark.by_default("LD_LBFGS")
@pytest.mark.parametrize("algorithm", ["LD_LBFGS", "LD_MMA", "LD_TNEWTON_PRECOND_RESTART", "LN_BOBYQA", "LN_SBPLX"])
def test_minima_by_nlopt(algorithm):
    slopes_of_minima(NLopt(algorithm))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "solver", [NLopt("LD_SLSQP"), NLopt("LN_COBYLA"), NLopt("AUGLAG"), Pounce()], ids=lambda one: one.name
)
def test_nonlinear_programs(solver):
    circle(solver)


def test_a_program_by_pounce():
    slope = lambda a: (
        dini.minimize(
            lambda x: jnp.sum((x - a) ** 2), jnp.ones(2), equality=lambda x: x[0] + x[1] - 1.0, solver=Pounce()
        ).x
    )
    near(jax.jit(jax.jacobian(slope))(jnp.array([2.0, 0.5])), jnp.array([[0.5, -0.5], [-0.5, 0.5]]))


def test_an_infeasible_program_by_pounce():
    found = dini.minimize(lambda x: x**2, 1.0, inequality=lambda x: x**2 + 1.0, solver=Pounce(), on_failure="ignore")
    assert found.status not in (dini.Status.CONVERGED, dini.Status.CONDITION)


@pytest.mark.thorough
def test_minima_by_pounce():
    slopes_of_minima(Pounce())


OPTIMISTIX = {
    "minimize": lambda s: jax.grad(lambda a: dini.minimize(lambda x: jnp.cosh(x) - a * x, 0.0, solver=s).x)(0.75) - 0.8,
    "least squares": lambda s: (
        jax.grad(lambda a: dini.least_squares(lambda x: jnp.exp(x) - jnp.stack([a, 3.0]), 0.3, solver=s).x)(1.0) - 0.25
    ),
    "root": lambda s: jax.grad(lambda a: dini.root(lambda x: x**3 - a, 1.5, solver=s).x)(8.0) - 1 / 12,
    "fixed point": lambda s: (
        jax.grad(lambda a: dini.fixed_point(lambda x: 0.5 * (x + a / x), 1.0, solver=s).x)(9.0) - 1 / 6
    ),
}


@pytest.mark.by_default("minimize-BFGS-", "root-Bisection-")
@pytest.mark.parametrize(
    ("kind", "solver", "options"),
    [
        ("minimize", optx.BFGS(**TIGHT), None),
        ("minimize", optx.NonlinearCG(**TIGHT), None),
        ("least squares", optx.LevenbergMarquardt(**TIGHT), None),
        ("least squares", optx.BFGS(**TIGHT), None),
        ("root", optx.Newton(**TIGHT), None),
        ("root", optx.Bisection(**TIGHT), {"lower": 0.0, "upper": 3.0}),
        ("root", optx.Dogleg(**TIGHT), None),
        ("fixed point", optx.FixedPointIteration(**TIGHT), None),
        ("fixed point", optx.Newton(**TIGHT), None),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__ if hasattr(part, "init") else "",
)
def test_optimistix(kind, solver, options):
    near(jax.jit(OPTIMISTIX[kind], static_argnums=0)(Optimistix(solver, options)), 0.0)


def test_optimistix_in_a_batch():
    slopes_of_minima(Optimistix(optx.BFGS(**TIGHT)))


def test_a_solver_that_stops_early_is_caught():
    early = Optimistix(optx.BFGS(rtol=0.5, atol=0.5))
    assert dini.minimize(arcsinh, jnp.zeros(2), A[1], solver=early, on_failure="ignore").status == dini.Status.CONDITION
    early = Optimistix(optx.BFGS(**TIGHT), max_steps=2)
    assert dini.minimize(arcsinh, jnp.zeros(2), A[1], solver=early, on_failure="ignore").status == dini.Status.MAX_STEPS
    early = NLopt("LD_LBFGS", {"xtol_rel": 0.9})
    assert dini.minimize(arcsinh, jnp.zeros(2), A[1], solver=early, on_failure="ignore").status == dini.Status.CONDITION


def test_what_is_refused():
    with pytest.raises(TypeError, match=r"Optimistix's solver must be an object.*given the class BFGS"):
        Optimistix(optx.BFGS)
    with pytest.raises(TypeError, match=r"Optimistix\(Newton\) does not solve Minimize.*AbstractMinimiser"):
        dini.minimize(arcsinh, jnp.zeros(2), A[0], solver=Optimistix(optx.Newton(**TIGHT)))
    box = dini.sets.Box(0.0, 1.0)
    with pytest.raises(TypeError, match=r"Optimistix\(BFGS\) cannot handle the constraint"):
        dini.minimize(arcsinh, jnp.zeros(2), A[0], constraint=box, solver=Optimistix(optx.BFGS(**TIGHT)))
    with pytest.raises(ValueError, match=r"NLopt's algorithm must be one of .*LD_LBFGS.*given 'LBFGS'"):
        NLopt("LBFGS")
    with pytest.raises(ValueError, match="NLopt's options are ftol_abs"):
        NLopt("LD_LBFGS", {"tolerance": 1.0})
    with pytest.raises(TypeError, match=r"NLopt\('LD_LBFGS'\) takes no equality constraints"):
        dini.minimize(lambda x: x**2, 1.0, equality=lambda x: x - 1.0, solver=NLopt("LD_LBFGS"))
    with pytest.raises(TypeError, match="Pounce cannot handle the penalty L1"):
        dini.minimize(lambda x: x**2, 1.0, penalty=dini.penalties.L1(1.0), solver=Pounce())


@pytest.mark.parametrize(
    ("make", "missing", "install"),
    [
        (lambda: SciPy("bfgs"), "scipy", "pip install scipy"),
        (lambda: NLopt("LD_LBFGS"), "nlopt", "pip install nlopt"),
        (lambda: Pounce(), "pounce", "pip install pounce-solver"),
        (lambda: Pounce("cyipopt"), "cyipopt", "pip install cyipopt"),
        (lambda: Optimistix(optx.BFGS(**TIGHT)), "optimistix", "pip install optimistix"),
        (lambda: dini.adapters.QPSolvers("osqp"), "qpsolvers", "pip install qpsolvers"),
        (lambda: dini.adapters.MPAX(), "mpax", "pip install mpax"),
    ],
    ids=["scipy", "nlopt", "pounce", "cyipopt", "optimistix", "qpsolvers", "mpax"],
)
def test_a_package_that_is_missing(monkeypatch, make, missing, install):
    real = importlib.import_module

    def absent(name, *rest):
        if name == missing:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ImportError, match=install):
        make()


# with x64 on, Optimistix' Levenberg-Marquardt has float64 in its state, and raises an error of its own for float32
CELLS = [
    pytest.param(check, id=check.name, marks=pytest.mark.thorough)
    for solver in (Optimistix(optx.LevenbergMarquardt(**TIGHT)), NLopt("LD_SLSQP"), Pounce())
    for check in battery(solver, without=["complex distance"] if isinstance(solver, Optimistix) else [])
    if not (isinstance(solver, Optimistix) and check.name.endswith("float32"))
]


@pytest.mark.parametrize("check", CELLS)
def test_battery(check):
    check()
