"""The specification's reference figures, and the bars that ours must clear.

The references were computed for the specification, with other code. They are the only figures here that are not
measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..report import Check, near

if TYPE_CHECKING:
    from .experiment import Result

#: Errors of the solution, of the implicit and the unrolled Jacobian, and the bound, by the number of steps.
ERRORS = {
    10: (36.22, 30.96, 182.7, 67.91),
    30: (0.3601, 0.2631, 7.238, 0.6750),
    100: (3.598e-5, 4.496e-5, 1.260e-3, 6.746e-5),
}
#: The numbers of steps at which the bound and the slope are judged.
JUDGED = (1, 3, 10, 30, 100)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    exact, path = result.exact, result.path
    yield near("norm of the solution", float(np.linalg.norm(exact.x)), 683.91, 1e-2, ".2f")
    yield near("norm of its Jacobian", float(np.linalg.norm(exact.jacobian, 2)), 558.20, 1e-2, ".2f")
    errors = {
        "error of x": path.solution_error,
        "implicit error": path.implicit_error,
        "unrolled error": path.unrolled_error,
        "bound": path.bound,
    }
    for steps, references in ERRORS.items():
        for (name, ours), reference in zip(errors.items(), references, strict=True):
            yield near(f"{name}, {steps} steps", float(ours[steps - 1]), reference, 1e-2, "#.4g")
    judged = np.array(JUDGED) - 1
    nearest = float(np.max(path.implicit_error[judged] / path.bound[judged]))
    yield Check("implicit error / bound", f"{nearest:.3f} at most", "", "≤ 1", nearest <= 1)
    slope = result.slope(JUDGED)
    yield Check("log-log slope, implicit", f"{slope:.3f}", "1 (theorem)", "0.9 to 1.1", 0.9 <= slope <= 1.1)
    ratio = float(path.unrolled_error[99] / path.implicit_error[99])
    yield Check("unrolled / implicit, 100 steps", f"{ratio:.1f}", f"{1.260e-3 / 4.496e-5:.1f}", "≥ 20", ratio >= 20)
