"""The specification's reference figures, and the bars that ours must clear.

The references were computed for the specification, with other code. They are the only figures here that are not
measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dini_zoo.kit.tables import Check, near

if TYPE_CHECKING:
    from .experiment import Result

#: Sizes of the derivative from each of the few starts, implicit and unrolled.
SIZES = (
    (332.965, 5749.0),
    (312.847, 312.81),
    (116.832, 116.83),
    (319.227, 331.89),
    (108.596, 300.75),
    (272.565, 272.56),
    (155.583, 155.58),
    (78.999, 79.00),
)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    few = result.few
    held = [start for start in few if not start.rattlers.any()]
    loose = [start for start in few if start.rattlers.any()]

    force = max(start.error for start in few)
    yield Check("norm of the forces", f"{force:.1e} at most", "", "≤ 1e-13", force <= 1e-13)
    dense = max(start.to_minimum_norm for start in few)
    yield Check("implicit to dense", f"{dense:.1e} at most", "2e-9", "≤ 1e-6", dense <= 1e-6)
    difference = max(start.to_difference for start in held)
    yield Check("difference to implicit", f"{difference:.1e} at most", "2e-8", "≤ 1e-6", difference <= 1e-6)
    excess = max((start.unrolled_excess for start in loose), default=0.0)
    reference = max(abs(unrolled / implicit - 1) for implicit, unrolled in SIZES)
    yield Check("unrolled, off by", f"{excess:.0%}", f"{reference:.0%}", "≥ 50%", excess >= 0.5)
    yield near(f"implicit, φ = {result.settings.dense:.1f}", result.dense, 131.80793, 1e-6, ".5f")
