"""The specification's reference figures, and the bars that ours must clear.

The references were computed for the specification, with other code, and the factor 4 is the paper's. They are the only
figures here that are not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dini_zoo.kit.tables import Check

if TYPE_CHECKING:
    from .experiment import Result

#: How much faster implicit differentiation is than unrolling, in the paper.
PAPER = 4.0


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    implicit, unrolled = result.ways["implicit"], result.ways["unrolled"]
    agreement = result.agreement[0]
    yield Check("implicit to unrolled", f"{agreement:.1e}", "1.5e-6", "≤ 1e-5", agreement <= 1e-5)
    yield Check(
        "memory, unrolled / implicit",
        f"{unrolled.memory / implicit.memory:.1f}",
        "17",
        "≥ 8",
        unrolled.memory >= 8 * implicit.memory,
    )
    faster = unrolled.fastest / implicit.fastest
    yield Check("time, by minima", f"{faster:.2f}", "2.5 to 2.6", "≥ 2", faster >= 2)
    descent = result.descents["implicit"]
    loss, accuracy = float(descent.loss[-1]), float(descent.accuracy[-1])
    yield Check("training loss", f"{loss:.3f}", "0.518", "to 1e-3", abs(loss - 0.518) < 0.001)
    yield Check("test accuracy", f"{accuracy:.3f}", "0.950", "≥ 0.93", accuracy >= 0.93)
    mean, real = result.means[1], float(result.real[:, 1].mean())
    yield Check("test accuracy, mean images", f"{mean:.3f}", "0.905", "less", mean < accuracy)
    yield Check("test accuracy, real images", f"{real:.3f}", "0.652", "less", real < accuracy)
