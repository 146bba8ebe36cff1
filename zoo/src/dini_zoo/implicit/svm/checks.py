"""The specification's reference figures, and the bars that ours must clear.

The references were computed for the specification, with other code. They are the only figures here that are not
measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dini_zoo.kit.tables import Check, near

from .comparison import MIRROR_CONDITION, PROJECTED_CONDITION, UNROLLED
from .solvers import ACCELERATED, BLOCKS, MIRROR
from .tuning import DESCENT

if TYPE_CHECKING:
    from .experiment import Result

DERIVATIVE = -10.757760
#: Of the squared validation error and its derivative, by λ.
ALONG = {5.0: (29.6592, 10.33808), 6.0: (40.1910, 8.45532), 7.0: (46.0767, 3.74014)}


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    comparison = result.small.comparison
    blocks, accelerated, mirror = (comparison.row(name) for name in (BLOCKS, ACCELERATED, MIRROR))
    implicit, unrolled = (accelerated.cell(through) for through in (PROJECTED_CONDITION, UNROLLED))

    yield near("BCD: loss", blocks.value, 26.771845, 1e-6, ".6f")
    yield near("central difference", comparison.difference, -10.75776, 1e-6, ".5f")
    yield near("BCD: derivative, PG", blocks.cell(PROJECTED_CONDITION).derivative, DERIVATIVE, 1e-6, ".6f")
    yield near("BCD: derivative, MD", blocks.cell(MIRROR_CONDITION).derivative, DERIVATIVE, 1e-6, ".6f")
    yield near("APG: derivative, PG", implicit.derivative, -10.75804, 1e-3, ".5f")
    yield Check(
        "APG: derivative, unrolled",
        f"{unrolled.derivative:.2f}, {unrolled.error:.1%} off",
        "-11.51, 7% off",
        "6 to 8%",
        0.06 <= unrolled.error <= 0.08,
    )
    yield Check(
        "APG: error, unrolled / PG",
        f"{unrolled.error / implicit.error:.0f}",
        f"{(11.51 - 10.75776) / (10.75804 - 10.75776):.0f}",
        "≥ 20",
        unrolled.error >= 20 * implicit.error,
    )
    yield Check(
        "APG: memory, unrolled / PG",
        f"{unrolled.memory / 1e6:.1f} MB / {implicit.memory / 1e3:.0f} kB",
        "20.9 MB / 61 kB",
        "≥ 20",
        unrolled.memory >= 20 * implicit.memory,
    )
    yield Check(
        "APG: time, unrolled / PG",
        f"{unrolled.seconds / implicit.seconds:.2f}",
        "1.5",
        "≥ 1.2",
        unrolled.seconds >= 1.2 * implicit.seconds,
    )
    own = mirror.cell(MIRROR_CONDITION)
    yield near("MD: loss", mirror.value, 26.7715, 1e-5, ".4f")
    yield Check(
        "MD: derivative, MD",
        f"{own.derivative:.2f}, {mirror.status.name}",
        "-10.49",
        "unconverged",
        not mirror.converged and abs(own.derivative + 10.49) < 0.01,
    )
    tuned = next(one for one in result.small.tuned if one.how == DESCENT)
    optimum = float(tuned.machine.log_theta)
    yield Check("λ of least loss", f"{optimum:.4f}", "4 to 5", "4 to 5", 4 < optimum < 5)
    for point in result.points:
        if point.log_theta in ALONG:
            value, derivative = ALONG[point.log_theta]
            yield near(f"loss at λ = {point.log_theta:g}", point.value, value, 1e-5, ".4f")
            yield near(f"derivative at λ = {point.log_theta:g}", point.derivative, derivative, 1e-5, ".5f")
