"""The battery: every solver on every problem that it takes, in every mode, under every transformation.

The default suite runs the cells that differ in kind; the others are marked slow.
"""

import pytest

import dini
from dini.testing import battery, cells_left_out

BY_CONDITION = (dini.Implicit(), dini.OneStep())
#: one line a solver; `names` restricts it to cases that it can do, with the reason
BATTERY = [
    *battery(dini.GradientDescent(tol=1e-9)),
    *battery(dini.LBFGS(tol=1e-11)),
    *battery(dini.BFGS(tol=1e-11)),
    *battery(dini.NonlinearCG(tol=1e-13)),
    *battery(dini.Newton(tol=1e-11)),
    *battery(dini.LevenbergMarquardt(tol=1e-9)),
    *battery(dini.TrustRegionNewtonCG(tol=1e-11)),
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
    *battery(dini.Anderson(tol=1e-10)),
    *battery(dini.Anderson(tol=1e-10, type=1)),
]

#: cases of every kind: smooth, tree, complex, set, penalty, rows, scalar and vector roots, fixed points, residuals
CORE = {
    "tree",
    "complex distance",
    "simplex",
    "lasso",
    "linear composite lasso",
    "entropy",
    "cubic",
    "pair",
    "babylon",
    "exponential fit",
    "bounded residuals",
}


def is_core(check):
    implicit = type(check.differentiation).__name__ == "Implicit"
    if check.solver.name == "ProjectedGradient":  # ProximalGradient under another name
        return check.case.name == "simplex" and implicit
    if check.transformation == "derivatives":
        return implicit or check.case.name in CORE
    return implicit and check.case.name in CORE


@pytest.mark.parametrize(
    "check", [pytest.param(c, id=c.name, marks=[] if is_core(c) else [pytest.mark.slow]) for c in BATTERY]
)
def test_battery(check):
    check()


def test_the_cells_left_out_are_few_and_have_reasons():
    reasons = set()
    for solver in (dini.LBFGS(), dini.Newton(), dini.ProximalGradient(), dini.Anderson()):
        reasons |= {reason for _, reason in cells_left_out(solver)}
    assert len(reasons) <= 8
    assert all(len(reason) > 20 for reason in reasons)
