"""The battery: every solver on every problem that it takes, in every mode, under every transformation.

The default run has the cells in which every solver, and with one of them every mode and every transformation appears.
Those in which every case appears and that differ in kind are thorough, the others are slow.
"""

import dataclasses
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import dini
from dini.extend import trees
from dini.testing import battery, cells_left_out

BY_CONDITION = (dini.Implicit(), dini.OneStep())
#: one line a solver; `names` restricts it to cases that it can do, with the reason
BATTERY = [
    *battery(dini.GradientDescent(tol=1e-9)),
    *battery(dini.LBFGS(tol=1e-11)),
    *battery(dini.BFGS(tol=1e-11)),
    *battery(dini.BFGS(tol=1e-11, start="hessian")),
    *battery(dini.NonlinearCG(tol=1e-13)),
    *battery(dini.Newton(tol=1e-11)),
    *battery(dini.LevenbergMarquardt(tol=1e-9)),
    *battery(dini.TrustRegionNewtonCG(tol=1e-11, radius=1.0)),
    *battery(dini.Dogleg(tol=1e-11)),
    *battery(dini.Dogleg("bfgs", tol=1e-11)),
    # values alone tell a minimum to the square root of their rounding error
    *battery(dini.NelderMead(tol=1e-9)),
    *battery(dini.LBFGSB(tol=1e-11)),
    *battery(dini.ProjectedNewton(tol=1e-11)),
    *battery(dini.GaussNewton(tol=1e-9)),
    *battery(dini.DoglegLeastSquares(tol=1e-9)),
    *battery(dini.VariableProjection(linear="c", tol=1e-9), names=["separable"]),
    *battery(dini.ProximalGradient(tol=1e-9)),
    *battery(dini.ProjectedGradient(tol=1e-9)),
    *battery(dini.ProximalNewton(tol=1e-10)),
    *battery(dini.CoordinateDescent(tol=1e-10)),
    # the gap is in units of the objective; on the curved ball the method is sublinear, the orthant is not bounded
    *battery(dini.FrankWolfe(tol=1e-14), without=["l2 ball", "nonnegative"]),
    *battery(dini.CondatVu(tol=1e-10)),
    *battery(dini.DouglasRachford(tol=1e-10)),
    *battery(dini.ADMM(tol=1e-10)),
    # mirror descent with entropy reaches the boundary of the simplex only in the limit
    *battery(dini.MirrorDescent(tol=1e-11), names=["entropy", "simplex rows"]),
    # one block in a narrow curved valley: steepest descent, which is too slow there
    *battery(dini.BlockCoordinateDescent(tol=1e-9), without=["valley"]),
    *battery(dini.Chord(tol=1e-11)),
    *battery(dini.Broyden(tol=1e-11)),
    *battery(dini.NewtonKrylov(tol=1e-11)),
    # elementwise equations with their brackets; where a bracket is cut does not depend on the parameters smoothly
    *battery(dini.Bisection(0.5, 10.0, tol=1e-11), names=["cubic", "babylon"], modes=BY_CONDITION),
    *battery(dini.Chandrupatla(0.5, 10.0, tol=1e-12), names=["cubic", "babylon"], modes=BY_CONDITION),
    *battery(dini.FixedPointIteration(tol=1e-10)),
    *battery(dini.SemismoothNewton(tol=1e-11)),
    *battery(dini.Extragradient(tol=1e-11)),
    *battery(dini.Anderson(tol=1e-10)),
    *battery(dini.Anderson(tol=1e-10, type=1)),
]

#: cases of every kind: a tree, complex numbers, sets, penalties, rows, roots, fixed points, residuals; the first that a
#: solver takes is the one for all transformations, so one real array, whose programs are small, comes before a tree
CORE = (
    "cubic",
    "babylon",
    "entropy",
    "simplex",
    "lasso",
    "ridge",
    "tree",
    "complex distance",
    "linear composite lasso",
    "pair",
    "exponential fit",
    "bounded residuals",
)


#: of these, what every solver is tested on that takes it
KINDS = {"cubic", "babylon", "simplex", "lasso", "tree", "bounded residuals"}
#: what does not depend on the solver but on the road that it is on is tested with one of each kind
ON_EVERY_ROAD = ("LBFGS", "Newton", "ProximalGradient", "LevenbergMarquardt", "FixedPointIteration", "CondatVu")


def of_kinds(checks):
    """Yield for each cell whether it is one: every kind of case, and every mode and transformation once a solver."""
    first = {}
    rank = lambda check: CORE.index(check.case.name) if check.case.name in CORE else len(CORE)
    kind = lambda check: (id(check.solver), type(check.differentiation), check.transformation)
    for check in checks:
        first[kind(check)] = min(first.get(kind(check), len(CORE)), rank(check))
    seen = set()
    for check in checks:
        implicit, plain = isinstance(check.differentiation, dini.Implicit), check.transformation == "derivatives"
        new = implicit and plain and check.case.name not in seen
        seen |= {check.case.name} if new else set()
        alias = check.solver.name == "ProjectedGradient"  # ProximalGradient under another name
        own = check.transformation not in ("hessian", "closure", "vmap") or check.solver.name in ON_EVERY_ROAD
        representative = (implicit or plain) and own and rank(check) == first[kind(check)]
        yield new or representative or (implicit and plain and not alias and check.case.name in KINDS)


#: with this one every mode and every transformation appears in the default run
IN_EVERY_MODE = "Newton"


def marks(checks):
    """Yield the marks of each cell: none where a solver, mode or transformation is met for the first time."""
    seen = set()
    for check, kept in zip(checks, of_kinds(checks), strict=True):
        if not kept:
            yield [pytest.mark.slow]
            continue
        if check.transformation == "derivatives" and isinstance(check.differentiation, dini.Implicit):
            met = {id(check.solver)}
        elif check.solver.name == IN_EVERY_MODE:
            met = {(type(check.differentiation), check.transformation)}
        else:
            met = set()
        yield [] if met - seen else [pytest.mark.thorough]
        seen |= met


CELLS = [
    pytest.param(check, id=check.name, marks=cell_marks)
    for check, cell_marks in zip(BATTERY, marks(BATTERY), strict=True)
]


@pytest.mark.parametrize("check", CELLS)
def test_battery(check):
    check()


def test_the_cells_left_out_are_few_and_have_reasons():
    reasons = set()
    for solver in (dini.LBFGS(), dini.Newton(), dini.ProximalGradient(), dini.Anderson()):
        reasons |= {reason for _, reason in cells_left_out(solver)}
    assert len(reasons) <= 8
    assert all(len(reason) > 20 for reason in reasons)


class State(NamedTuple):
    error: Any


@dini.solver
class Descent(dini.Solver):
    """Gradient descent that keeps the contract, but for the fault that is asked for."""

    fault: str = dataclasses.field(default="", metadata={"static": True})
    max_steps: int = dataclasses.field(default=400, metadata={"static": True})

    def init(self, problem, x, *args):
        if self.fault == "arrays only":
            return State(jnp.max(jnp.abs(x)))
        return State(jnp.full_like(trees.norm(x), jnp.inf))

    def step(self, problem, x, state, *args):
        gradient = problem.gradient(x, *args)
        error = trees.norm(gradient)
        if self.fault == "Python" and error > 1:
            return x, state
        if self.fault == "constant steps":
            gradient = jax.lax.stop_gradient(gradient)
        x = trees.axpy(-10.0 if self.fault == "too long" else -0.1, gradient, x)
        if self.fault == "one number":
            return x, error
        error = error + 1 if self.fault == "no end" else error
        return (x, State(error)) if self.fault != "point only" else x


FAULTS = {
    "arrays only": (
        "tree",
        dini.Implicit(),
        r"`init` must accept unknowns that are pytrees \(2 real arrays\): TypeError",
    ),
    "Python": ("ridge", dini.Implicit(), "`step` must accept unknowns that are real arrays.*use jnp.where or lax.cond"),
    "point only": ("ridge", dini.Implicit(), r"`step` must return the pair \(x, state\)"),
    "one number": ("ridge", dini.Implicit(), "`step` must return a state of the structure"),
    "no end": ("ridge", dini.Implicit(), "`error` must fall below `rtol` at a solution: MAX_STEPS after 400 steps"),
    "too long": ("ridge", dini.Implicit(), "steps must lead to a solution of real arrays: DIVERGED|NONFINITE"),
    "constant steps": ("ridge", dini.Unrolled(), "steps must depend smoothly on the parameters"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_check_names_the_requirement(fault):
    name, mode, said = FAULTS[fault]
    how = {"names": [name], "modes": [mode], "transformations": ["derivatives"]}
    (check,) = battery(Descent(rtol=1e-9, fault=fault), **how)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        check()
    assert re.search(said, caught.value.__notes__[-1])


def test_a_battery_runs_when_it_is_called():
    how = {"names": ["ridge"], "modes": [dini.Implicit()], "transformations": ["derivatives"]}
    said = battery(Descent(rtol=1e-9), **how)()
    assert said == "Descent passed 1 checks: 1 problem (ridge) x 1 mode (Implicit) x derivatives"
    broken = battery(Descent(rtol=1e-9, fault="point only"), **how)
    with pytest.raises(
        AssertionError, match=r"(?s)failed 1 of 1 checks.*Descent-ridge-Implicit.*Requirement: `step` must"
    ):
        broken()


def test_a_battery_that_is_not_run_is_warned_of():
    unused = [battery(Descent(), names=["ridge"])]
    with pytest.warns(UserWarning, match="none was run"):
        unused.clear()
    with pytest.raises(ValueError, match=r"names must be some of .*ridge.*: given rigde"):
        battery(Descent(), names=["rigde"])
    with pytest.raises(ValueError, match="transformations must be some of derivatives"):
        battery(Descent(), transformations=["jacobian"])
    with pytest.raises(ValueError, match="No check applies to Descent: it takes none of lasso"):
        battery(Descent(), names=["lasso"])
