"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.tables import Check, Table, above, at_most, below, between

from .planes import EULER, PUBLISHED
from .restoration import UNSTRIDED
from .study import Result

#: Errors in the plane by rule and calls.
ERRORS = {
    "order 1": {10: 0.156, 40: 0.039, 320: 0.0065},
    "order 2": {10: 0.059, 20: 0.028, 40: 0.0067, 80: 0.0017},
    "order 3": {40: 0.0020, 80: 2.7e-4, 160: 3.4e-5},
    EULER: {10: 0.342, 40: 0.119, 320: 0.020},
}
#: Distances of restored halves with 10 calls, by method and grid.
TEN = {("ODE-2", "λ"): 0.059, ("ODE-2", "t"): 0.063, ("SDE-2", "λ"): 0.070, ("SDE-2", "t"): 0.061}


def tables(result: Result) -> list[Table]:
    """Convergence, restoration."""
    return [convergence_table(result), restoration_table(result)]


def convergence_table(result: Result) -> Table:
    """Errors in the plane."""
    one = result.convergence
    rows = [[name, *(f"{error:.1e}" for error in errors[: len(one.calls)])] for name, errors in one.errors.items()]
    caption = f"Columns: calls. The median of {result.settings.draws} draws of {result.settings.points} starts."
    return Table("A known law: root mean square error of the flow", ("rule", *map(str, one.calls)), rows, caption)


def restoration_table(result: Result) -> Table:
    """Distances of restored halves."""
    one = result.restored
    rows = [
        [name, grid, *(f"{value:.3f}" for value in values)]
        for name, grids in one.distances.items()
        for grid, values in grids.items()
    ]
    caption = (
        f"Lower halves of the test images, {result.settings.copies} restorations each; the images to train with are "
        f"{one.floor:.3f} away. Grid: equidistant in λ or t. Unstrided: so many of the table's own steps and no "
        "further, as in the published comparison, which is unfair."
    )
    columns = ("method", "grid", *(f"{n} calls" for n in one.calls))
    return Table("Digits restored: Fréchet distance", columns, rows, caption, left=2)


def errors(result: Result, *, worst: bool = False) -> dict[str, dict[int, float]]:
    """In the plane, by rule and calls; of the worst draw, if that is asked for."""
    one = result.convergence
    found = one.worst if worst else one.errors
    calls = {name: one.calls if name != EULER else (*one.calls, *result.settings.euler_calls) for name in found}
    return {name: dict(zip(calls[name], values, strict=True)) for name, values in found.items()}


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    found = errors(result)
    ratio = lambda a, b: None if a is None or b is None else a / b
    for name, values in found.items():
        if name == EULER:
            continue
        order = int(name.split()[1].rstrip(","))
        slope = ratio(values.get(160), values.get(320))
        bar = None if name == PUBLISHED else between(order - 0.15, order + 0.15)
        said = 2.14 if name == PUBLISHED else ""
        yield Check(f"{name}: slope", None if slope is None else float(np.log2(slope)), bar, said, form=".2f")
    second, euler = found["order 2"], found[EULER]
    yield Check("order 2 / Euler, 20 calls", ratio(second.get(20), euler.get(20)), at_most(1 / 3), form=".2f")
    yield Check("order 2, 20 calls / Euler, 100", ratio(second.get(20), euler.get(100)), below(1), form=".2f")
    quick = ratio(second.get(40), euler.get(600))
    yield Check("order 2, 40 calls / Euler, 600", quick, below(1), paper="10 to 20 times", form=".2f")
    quick = ratio(errors(result, worst=True)["order 2"].get(40), euler.get(600))
    yield Check("the same, the worst draw", quick, form=".2f")
    yield Check("velocity − data network", result.convergence.velocity_gap, at_most(1e-10), form=".0e")
    for name, values in ERRORS.items():
        gaps = [found[name][n] / value for n, value in values.items() if n in found[name]]
        yield Check(f"{name}: error / reference, most", max(gaps) if gaps else None, form=".2f")
    yield from restoration_checks(result)


def restoration_checks(result: Result) -> Iterator[Check]:
    """The bars for digits."""
    one = result.restored
    value = lambda name, grid, n: one.distances[name][grid][one.calls.index(n)] if n in one.calls else None
    yield Check("digits: training loss", result.loss, reference=0.053, form=".4f")
    for (name, grid), reference in TEN.items():
        ours, rival = value(name, grid, 10), value("Euler-SDE", grid, 10)
        yield Check(f"{name}, {grid}, 10 calls", ours, at_most(0.1), reference, form=".3f")
        share = None if ours is None or rival is None else ours / rival
        said = reference / {"λ": 0.162, "t": 0.303}[grid]
        yield Check(f"{name} / Euler-SDE, {grid}, 10", share, at_most(0.55), said, form=".2f")
    for grid, reference in (("λ", 0.070 / 0.066), ("t", 0.061 / 0.064)):
        ten, hundred = value("SDE-2", grid, 10), value("SDE-2", grid, 100)
        share = None if ten is None or hundred is None else ten / hundred
        yield Check(f"SDE-2, {grid}: 10 calls / 100", share, at_most(1.35), reference, "≈ 1", ".2f")
    for n, reference in ((5, 4.475), (10, 3.388), (20, 1.743)):
        yield Check(f"unstrided, {n} calls", value(UNSTRIDED, "t", n), above(1), reference, form=".2f")
    yield Check("SDE-2, λ, 5 calls: breaks", value("SDE-2", "λ", 5), reference=1.325, form=".3f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    one = result.restored
    at = one.calls.index(10) if 10 in one.calls else 0
    ours, rival, last = (one.distances[name]["λ"] for name in ("SDE-2", "Euler-SDE", "SDE-2"))
    fewest = f"; in {one.calls[0]} calls {ours[0]:.3f}, Euler {rival[0]:.3f}" if at else ""
    return (
        f"digits restored in {one.calls[at]} calls: distance {ours[at]:.3f}, Euler {rival[at]:.3f}; "
        f"in {one.calls[-1]} calls {last[-1]:.3f}{fewest}"
    )
