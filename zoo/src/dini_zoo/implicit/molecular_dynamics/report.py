"""What the experiment prints.

The references were computed for the specification, with other code. They are the only figures here that are not
measured.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.tables import Check, Table, at_least, at_most, near_reference

from .sensitivity import size
from .study import Result, Settings

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


def theirs(result: Result) -> bool:
    """Whether the few starts are those of the specification."""
    ours, usual = result.settings, Settings()
    names = ("few", "theta", "fraction", "steps", "seed")
    return all(getattr(ours, name) == getattr(usual, name) for name in names)


def tables(result: Result) -> list[Table]:
    """Each of the few starts, and the many in a few lines."""
    return [start_table(result), many_table(result)]


def start_table(result: Result) -> Table:
    """Each of the few starts; where they are the specification's, its sizes stand beside ours."""
    settings, beside = result.settings, theirs(result)
    names = ["start", "steps", "zero modes", "implicit", "to dense", "to difference", "unrolled", "error"]
    if beside:
        names.insert(4, "spec")
        names.insert(8, "spec")
    rows = []
    for i, start in enumerate(result.few):
        cells = [
            str(i),
            str(start.steps),
            str(start.zero_modes),
            f"{size(start.implicit):.3f}",
            f"{start.to_minimum_norm:.0e}",
            f"{start.to_difference:.0e}",
            f"{size(start.unrolled.dx):.2f}",
            f"{start.unrolled_error:.0e}",
        ]
        if beside:
            implicit, unrolled = SIZES[i]
            cells.insert(4, f"{implicit:.3f}")
            cells.insert(8, f"{unrolled:.2f}")
        rows.append(cells)
    reference = " Spec: those of the specification." if beside else ""
    return Table(
        f"Sensitivity of {settings.few.disks} packed disks to the diameter of half of them",
        names,
        rows,
        "Steps of FIRE. Zero modes: motions without a cost, two for all disks together and two for each "
        "rattler. Implicit, unrolled: sum of the absolute values of the derivative, unrolled after "
        f"{settings.steps} steps.{reference} To dense, to difference: relative distance of the implicit derivative "
        "from the minimum-norm solution with all of the Hessian, and from a central difference; rattlers may drift "
        "between the two packings of the latter. Error: relative distance of the unrolled from the implicit "
        "derivative.",
        left=0,
    )


def many_table(result: Result) -> Table:
    """The many starts in a few lines, with and without rattlers."""
    settings, rows = result.settings, []
    loose = [start for start in result.many if start.rattlers.any()]
    held = [start for start in result.many if not start.rattlers.any()]
    for name, starts in (("rattlers", loose), ("none", held), ("either", result.many)):
        if starts:
            errors = np.array([start.unrolled_error for start in starts])
            rows.append(
                [
                    name,
                    str(len(starts)),
                    _range([size(start.implicit) for start in starts]),
                    f"{max(start.to_minimum_norm for start in starts):.0e}",
                    _range([size(start.unrolled.dx) for start in starts]),
                    f"{np.median(errors):.1e}",
                    str(int(np.sum(errors > 0.01))),
                    str(int(np.sum(errors > 1))),
                ]
            )
    return Table(
        f"{settings.many.disks} disks from {settings.many.starts} starts; the paper has 128 from 40",
        ("starts with", "number", "implicit", "to dense", "unrolled", "median", ">1%", ">100%"),
        rows,
        "Implicit, unrolled: range of the sums of the absolute values. To dense: largest distance of the "
        "implicit derivative from the minimum-norm solution. Median: of the relative errors of the unrolled "
        "derivative; then the numbers of starts where it is more than so much. Where rattlers are thrown about, the "
        "others recoil.",
    )


def _range(values: list[float]) -> str:
    return " to ".join(f"{value:.0f}" if value < 1e4 else f"{value:.0e}" for value in (min(values), max(values)))


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification, for the largest of the few starts, and the paper's claim for the many."""
    few, many = result.few, result.many
    held = [start for start in few if not start.rattlers.any()]
    loose = [start for start in few if start.rattlers.any()]
    yield Check("norm of the forces, at most", max(start.error for start in few), at_most(1e-13), form=".1e")
    dense = max(start.to_minimum_norm for start in few)
    yield Check("implicit to dense, at most", dense, at_most(1e-6), "2e-9", form=".1e")
    # where there are rattlers, they may drift
    difference = max((start.to_difference for start in held), default=None)
    yield Check("difference to implicit, at most", difference, at_most(1e-6), "2e-8", form=".1e")
    excess = max((start.unrolled_excess for start in loose), default=None)
    reference = max(abs(unrolled / implicit - 1) for implicit, unrolled in SIZES)
    yield Check("unrolled size with rattlers, off by", excess, at_least(0.5), reference, form=".0%")
    yield near_reference(f"implicit size, φ = {result.settings.dense:.1f}", result.dense, 131.80793, 1e-6, ".5f")
    wrong = sum(start.unrolled_error > 0.01 for start in many)
    yield Check(
        "share of starts, unrolled > 1 % off",
        wrong / len(many),
        paper="typical",
        form=".0%",
        shown=f"{wrong} of {len(many)}",
    )


def headline(result: Result) -> str:
    """The one figure that matters."""
    many, few = result.many, result.few
    wrong = sum(start.unrolled_error > 0.01 for start in many)
    dense = max(start.to_minimum_norm for start in (*few, *many))
    return f"unrolled derivative > 1 % off at {wrong} of {len(many)} starts; implicit: dense algebra's to {dense:.0e}"
