"""Linear programs by SciPy's ``linprog``."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

from ..problems import PrimalDual, QuadraticProgram
from ..status import Status
from ._conversation import Found
from ._program_data import HostSolution, ProgramData, Unpacked, finite_rows, in_units

#: how ``linprog`` ends
_ENDS = {1: Status.MAX_STEPS, 2: Status.PRIMAL_INFEASIBLE, 3: Status.DUAL_INFEASIBLE, 4: Status.STALLED}


class _LinProg(NamedTuple):
    """A call of ``linprog`` with the data of a program."""

    form: ProgramData
    method: str
    options: tuple[tuple[str, Any], ...]
    limit: int

    def __call__(self, start: Any, *arrays: Any) -> tuple[Any, ...]:
        del start
        data = self.form.unpacked(arrays)
        return self.form.packed(data, self._solved(data) if data.finite else HostSolution(status=Status.NONFINITE))

    def _solved(self, data: Unpacked) -> HostSolution:
        # tolerances are absolute numbers
        data, units = in_units(data)
        kept, G, h = finite_rows(data)
        found = importlib.import_module("scipy.optimize").linprog(
            data.c,
            A_ub=G,
            b_ub=h,
            A_eq=data.A,
            b_eq=data.b,
            bounds=np.stack([data.lower, data.upper], axis=1),
            method=self.method,
            options={"maxiter": self.limit} | dict(self.options),
        )
        status = _ENDS.get(found.status, Status.RUNNING)
        if found.x is None:
            return HostSolution(steps=found.nit, status=status)
        # SciPy's are derivatives of the value, which falls where a constraint is loosened
        y = None if data.A is None else -found.eqlin.marginals
        z = None if data.h is None else np.zeros(data.h.size)
        if z is not None and h is not None:
            z[kept] = -found.ineqlin.marginals
        w = -(found.lower.marginals + found.upper.marginals)
        return units.back(HostSolution(found.x, y, z, w, found.nit, status))


def linear_program(
    problem: QuadraticProgram, x: PrimalDual, method: str, options: Any, limit: int
) -> tuple[PrimalDual, Found]:
    """Return the solution of a linear program with its multipliers."""
    form = ProgramData.of(problem)
    return form.called(_LinProg(form, method, options, limit), problem, x)
