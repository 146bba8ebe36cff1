"""Published figures, those of the specification, and the bars that ours must clear.

The specification's were computed with other code. They and the paper's are the only figures here that are not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from dini_zoo.kit.tables import Check

from .baselines import FIXED, L2, TASK

if TYPE_CHECKING:
    from .experiment import Result


class Estimate(NamedTuple):
    """A mean AUC in percent, and the half width of its interval of 95 percent."""

    mean: float
    width: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.width:.1f}"


#: By method, in the order of `baselines.METHODS`: 299 patients, 1000 genes.
PAPER = (Estimate(71.6, 2.0), Estimate(72.4, 2.8), Estimate(68.3, 2.3), Estimate(73.2, 2.1))
#: The same for the patients and genes of this experiment.
SPECIFICATION = (Estimate(70.8, 3.4), Estimate(74.1, 3.6), Estimate(71.5, 2.8), Estimate(73.3, 2.8))


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    ours, fixed, dense = (100 * result.mean(method) for method in (TASK, FIXED, L2))
    yield Check("AUC, task-driven", f"{ours:.1f}", "73.3", "≥ 72", ours >= 72)
    yield Check("− dictionary, then L2", f"{ours - fixed:+.1f}", "+1.8", "≥ 0", ours >= fixed)
    yield Check("− L2 on all genes", f"{ours - dense:+.1f}", "-0.8", "≥ −2.5", ours >= dense - 2.5)
    for found in result.precision:
        yield Check(
            f"derivative, atoms of norm {found.scale:g}", f"{found.error:.1e}", "1e-9", "≤ 1e-5", found.error <= 1e-5
        )
