"""The battery: every solver on every problem that it takes, in every mode, under every transformation."""

import pytest

import dini
from dini.testing import battery

#: one line a solver; `without` names the cases that it takes and cannot do, each with its reason
BATTERY = [
    *battery(dini.GradientDescent(tol=1e-9)),
    *battery(dini.LBFGS(tol=1e-11)),
    *battery(dini.BFGS(tol=1e-11)),
    *battery(dini.Newton(tol=1e-11)),
    *battery(dini.LevenbergMarquardt(tol=1e-9)),
    *battery(dini.ProximalGradient(tol=1e-9)),
    *battery(dini.ProjectedGradient(tol=1e-9)),
    # mirror descent with entropy reaches the boundary of the simplex only in the limit
    *battery(dini.MirrorDescent(tol=1e-11), names=["entropy", "simplex rows"]),
    *battery(dini.BlockCoordinateDescent(tol=1e-9)),
    *battery(dini.FixedPointIteration(tol=1e-10)),
    *battery(dini.Anderson(tol=1e-10)),
]


@pytest.mark.parametrize("check", BATTERY, ids=lambda check: check.name)
def test_battery(check):
    check()
