"""The specification's figures, and the bars that ours must clear.

The references were measured for the specification with other code, on one seed. No figure of the paper is among them:
its results on these tasks are figures only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dini_zoo.kit.tables import Check

if TYPE_CHECKING:
    from .experiment import Result


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    from .experiment import CGS, GNN1, GNN3

    (ours, ours_far), (one, _), (three, three_far) = (result.path[name].medians for name in (CGS, GNN1, GNN3))
    yield _at_most("paths: RMSE", ours, 0.075, "0.059", ".3f")
    yield _at_most("paths: RMSE / GNN, 1 layer", ours / one, 0.35, "0.23", ".2f")
    yield _at_most("paths: RMSE / GNN, 3 layers", ours / three, 0.75, "0.57", ".2f")
    yield _at_most("longer paths: RMSE / GNN, 3 layers", ours_far / three_far, 0.75, "0.56", ".2f")
    inside, outside = result.decisions.medians
    yield _at_most("decisions: relative error", inside, 0.055, "0.039", ".3f")
    yield _at_most("larger decisions: relative error", outside, 0.06, "0.038", ".3f")
    for where, naive, error in zip(("decisions", "larger decisions"), result.naive, (inside, outside), strict=True):
        yield Check(f"{where}: naive / ours", f"{naive / error:.1f}", "", "≥ 2", naive >= 2 * error)
    yield _at_most("fixed points to dense algebra", max(one.solution for one in result.agreement), 1e-6, "", ".1e")
    yield _at_most("gradients to dense algebra", max(one.gradient for one in result.agreement), 1e-6, "", ".1e")
    growth = max(one.doubled / one.memory for one in result.agreement)
    yield _at_most("gradients' memory, 5000 iterations allowed", growth, 1.01, "", ".3f")


def _at_most(quantity: str, ours: float, bar: float, reference: str, form: str) -> Check:
    return Check(quantity, f"{ours:{form}}", reference, f"≤ {bar:g}", ours <= bar)
