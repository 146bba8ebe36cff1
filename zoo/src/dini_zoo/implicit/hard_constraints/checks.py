"""The specification's bars, beside the figures of its prototype (one seed)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dini_zoo.kit.tables import Check

if TYPE_CHECKING:
    from .experiment import Result

#: Relative errors of the specification's prototype: mean and standard deviation over initial conditions.
PROTOTYPE = {"soft constraint": (0.112, 0.017), "PI-HC": (0.0618, 0.0154), "PI-HC-MoE": (0.0540, 0.0077)}
#: Those of the paper, with a larger network, mesh and budget.
PAPER = {"soft constraint": (0.8593, 0.0507), "PI-HC": (0.0755, 0.0810), "PI-HC-MoE": (0.0360, 0.0293)}
#: In the paper, how many times as long a step takes without experts as with them: at 100 and at 100 000 points.
PAPER_SPEED = (1.61, 3.19)


def checks(result: Result) -> Iterator[Check]:
    """Every bar."""
    soft, hard, mixture = (result.learned[name] for name in ("soft constraint", "PI-HC", "PI-HC-MoE"))
    yield _at_most("error, PI-HC-MoE", mixture.mean, "0.054", 0.07, ".4f")
    yield _at_most("error, PI-HC", hard.mean, "0.0618", 0.075, ".4f")
    yield _at_most("error, PI-HC-MoE / soft", mixture.mean / soft.mean, "0.48", 0.65, ".3f")
    yield _at_most("error, PI-HC-MoE / PI-HC", mixture.mean / hard.mean, "0.87", 1.05, ".3f")
    spread = mixture.spread / hard.spread
    yield Check("spread, PI-HC-MoE / PI-HC", f"{spread:.3f}", "0.50", "< 1", spread < 1)
    assert result.without is not None  # they are measured in the settings of the bars
    least = min(result.without)
    yield Check("gradient without the implicit part", f"{least:.2f}", "", "> 0.05", least > 0.05)
    most = result.costs[max(result.costs)]
    faster = most["PI-HC"].fastest / most["PI-HC-MoE"].fastest
    yield Check(f"time, PI-HC / MoE, {max(result.costs)} points", f"{faster:.2f}", "", "≥ 0.9", faster >= 0.9)
    ours, whole = (
        sum(costs[name].iterations for costs in result.costs.values()) / len(result.costs)
        for name in ("PI-HC-MoE", "PI-HC")
    )
    yield Check("iterations, expert / whole", f"{ours:.1f} / {whole:.1f}", "", "≤ 1", ours <= whole)
    distance = max(max(one.prediction, one.derivative) for one in result.devices)
    yield _at_most("experts on devices to one batch", distance, "", 1e-6, ".1e")


def _at_most(quantity: str, ours: float, reference: str, bar: float, form: str) -> Check:
    return Check(quantity, f"{ours:{form}}", reference, f"≤ {bar:g}", ours <= bar)
