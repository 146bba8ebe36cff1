"""The experiment's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dini_zoo.kit.tables import check_table, plain_table

from .checks import SIZES, checks
from .sensitivity import size

if TYPE_CHECKING:
    from rich.table import Table

    from .experiment import Result


def start_table(result: Result, *, beside: bool) -> Table:
    """Each of the few starts; with `beside`, the reference sizes stand below ours."""
    settings = result.settings
    reference = " Below each size, in gray, that of the specification." if beside else ""
    table = plain_table(
        right=("start", "steps", "zero modes", "implicit", "to dense", "to difference", "unrolled", "error"),
        title=f"Sensitivity of {settings.few.disks} packed disks to the diameter of half of them",
        caption="Steps of FIRE. Zero modes: motions without a cost, two for all disks together and two for each "
        "rattler. Implicit, unrolled: sum of the absolute values of the derivative, unrolled after "
        f"{settings.steps} steps.{reference} To dense, to difference: relative distance of the implicit derivative "
        "from the minimum-norm solution with all of the Hessian, and from a central difference; rattlers may drift "
        "between the two packings of the latter. Error: relative distance of the unrolled from the implicit "
        "derivative.",
    )
    for i, start in enumerate(result.few):
        table.add_row(
            str(i),
            str(start.steps),
            str(start.zero_modes),
            f"{size(start.implicit):.3f}",
            f"{start.to_minimum_norm:.1e}",
            f"{start.to_difference:.1e}",
            f"{size(start.unrolled.dx):.2f}",
            f"{start.unrolled_error:.1e}",
        )
        if beside:
            implicit, unrolled = SIZES[i]
            gray = [f"[bright_black]{figure}[/]" for figure in (f"{implicit:.3f}", f"{unrolled:.2f}")]
            table.add_row("", "", "", gray[0], "", "", gray[1], "")
    return table


def many_table(result: Result) -> Table:
    """The many starts in a few lines, with and without rattlers."""
    settings = result.settings
    table = plain_table(
        "starts with",
        right=("number", "implicit", "to dense", "unrolled", "median", ">1%", ">100%"),
        title=f"The paper's size: {settings.many.disks} disks from {settings.many.starts} starts",
        caption="Implicit, unrolled: range of the sums of the absolute values. To dense: largest distance of the "
        "implicit derivative from the minimum-norm solution. Median: of the relative errors of the unrolled "
        "derivative; then the numbers of starts where it is more than so much. Where rattlers are thrown about, the "
        "others recoil. The paper's claim: implicit sensitivities "
        "are stable, those of the unrolled solver typically do not converge.",
    )
    loose = [start for start in result.many if start.rattlers.any()]
    held = [start for start in result.many if not start.rattlers.any()]
    for name, starts in (("rattlers", loose), ("none", held), ("either", result.many)):
        if starts:
            errors = np.array([start.unrolled_error for start in starts])
            table.add_row(
                name,
                str(len(starts)),
                _range([size(start.implicit) for start in starts]),
                f"{max(start.to_minimum_norm for start in starts):.0e}",
                _range([size(start.unrolled.dx) for start in starts]),
                f"{np.median(errors):.1e}",
                str(int(np.sum(errors > 0.01))),
                str(int(np.sum(errors > 1))),
            )
    return table


def _range(values: list[float]) -> str:
    return " to ".join(f"{value:.0f}" if value < 1e4 else f"{value:.0e}" for value in (min(values), max(values)))


def reference_table(result: Result) -> Table:
    """The specification's figures beside ours."""
    return check_table(
        checks(result),
        title="Beside the reference figures of the specification",
        caption="The largest of the few starts'. The difference is judged where there is no rattler, unrolling (the "
        "size of its derivative) where there is one. φ: the fraction of the area that the disks would fill.",
    )


def tables(result: Result) -> list[Table]:
    """All tables; the reference figures only where the settings are theirs."""
    theirs = result.settings == type(result.settings)()
    found = [start_table(result, beside=theirs), many_table(result)]
    return [*found, reference_table(result)] if theirs else found
