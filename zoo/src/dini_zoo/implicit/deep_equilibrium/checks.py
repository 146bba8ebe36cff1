"""The bars that the experiment must clear. They were set before it was run; no published figure is among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from dini_zoo.kit.tables import Check

if TYPE_CHECKING:
    from .experiment import Result


def checks(result: Result) -> Iterator[Check]:
    """Every bar."""
    implicit, longest = result.ways["implicit"], result.ways[result.settings.longest]
    central = max(result.central)
    yield _at_most("exact gradient to central difference", central, 1e-4, ".1e")
    yield _at_most("implicit to exact gradient", max(implicit.errors), 1e-6, ".1e")
    # where the layer no longer contracts, the series does not converge
    for slope, radius, when in zip(decay(result), result.radii, ("before training", "early", "after"), strict=True):
        if when != "after" or radius < 1:
            yield Check(f"series, {when}: error × by a term", f"{slope:.3f}", "", f"≤ {radius:.3f}", slope <= radius)
    growth = result.doubled / implicit.memory
    yield Check("implicit memory, twice the steps", f"× {growth:.3f}", "", "≤ 1.01", growth <= 1.01)
    share = implicit.memory / longest.memory
    yield _at_most("implicit memory / full unroll's", share, 0.25, ".3f")
    accuracy = {name: float(course.accuracy[-1]) for name, course in result.courses.items()}
    ours, best = accuracy["implicit"], max(accuracy.values())
    yield Check("test accuracy, implicit", f"{ours:.3f}", "", "≥ 0.93", ours >= 0.93)
    yield Check("test accuracy, best mode − implicit", f"{best - ours:.3f}", "", "≤ 0.01", best - ours <= 0.01)


def decay(result: Result) -> list[float]:
    """The mean factor by which one more term multiplies the series' error, at each of the three points.

    An error that is not far above the implicit gradient's is that of the solve: such errors are left out.
    """
    terms, factors = np.array(result.settings.series), []
    for errors, floor in zip(result.series, result.ways["implicit"].errors, strict=True):
        last = int(np.flatnonzero(errors > 100 * floor)[-1])
        # with one number of terms there is no factor
        factors.append(float((errors[last] / errors[0]) ** (1 / (terms[last] - terms[0]))) if last else float("nan"))
    return factors


def _at_most(quantity: str, ours: float, bar: float, form: str) -> Check:
    return Check(quantity, f"{ours:{form}}", "", f"≤ {bar:g}", ours <= bar)
