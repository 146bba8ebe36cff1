"""What the experiment prints.

The references were computed for the specification, with other code. They are the only figures here that are not
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from dini_zoo.kit.tables import (
    Alarm,
    Bar,
    Check,
    Strong,
    Table,
    at_least,
    between,
    duration,
    near_reference,
    size,
)

from .comparison import MIRROR_CONDITION, PROJECTED_CONDITION, UNROLLED, Cell, Row
from .solvers import ACCELERATED, BLOCKS, MIRROR
from .study import Result, Study
from .tuning import DESCENT

_SHORT = {MIRROR_CONDITION: "mirror", PROJECTED_CONDITION: "projected", UNROLLED: "unrolled"}

DERIVATIVE = -10.757760
#: Of the squared validation error and its derivative, by λ.
ALONG = {5.0: (29.6592, 10.33808), 6.0: (40.1910, 8.45532), 7.0: (46.0767, 3.74014)}


def tables(result: Result) -> list[Table]:
    """The comparison of solvers for each problem, and what tuning gives."""
    return [*map(comparison_table, result.studies), tuning_table(*result.studies)]


def _verdict(row: Row, cell: Cell) -> str:
    if not row.converged:
        return Alarm("unconverged")
    return "" if cell.system_solved else Alarm("system unsolved")


def _about(row: Row) -> list[str]:
    """Three lines about a solver, one beside each of its cells."""
    ended = f"{'converged' if row.converged else row.status.name} at {row.residual:.0e}"
    steps = f"{row.steps} steps, {duration(row.seconds)}"
    return [Strong(row.solver), steps, ended if row.converged else Alarm(ended)]


def comparison_table(study: Study) -> Table:
    """Solver × way to differentiate."""
    problem, comparison = study.problem, study.comparison
    rows: list[list[str] | None] = []
    for row in comparison.rows:
        about = _about(row)
        for i, cell in enumerate(row.cells):
            rows.append(
                [
                    about[i] if i < len(about) else "",
                    _SHORT[cell.through],
                    f"{cell.derivative:.6f}",
                    f"{cell.error:.0e}",
                    duration(cell.seconds),
                    size(cell.memory),
                    _verdict(row, cell),
                ]
            )
        rows += [[text, *[""] * 6] for text in about[len(row.cells) :]]
        rows.append(None)
    return Table(
        f"Derivative of the validation loss in λ = {comparison.log_theta:g}\n{problem.classes} digits, "
        f"{problem.train} training points; central difference {comparison.difference:.6f}",
        ("solver", "through", "derivative", "error", "time", "memory", ""),
        rows[:-1],
        "Through: the fixed point of mirror descent or of projected gradient, or the solver's own steps"
        f"{', with checkpoints' if comparison.checkpoint else ''}. Error: relative to the central difference. "
        "Time: solve and derivative, the shortest (under the solver's name: of the solve). Memory: temporary, of "
        f"the compiled gradient. The dual's tie margin is {comparison.tie_margin:.0e}: a solver that ends with a "
        "greater residual does not know the support.",
        left=2,
    )


def _lambda(log_theta: np.ndarray) -> str:
    return f"{log_theta:.3f}" if log_theta.ndim == 0 else f"{log_theta.min():.1f} to {log_theta.max():.1f}"


def tuning_table(*studies: Study) -> Table:
    """What tuning gives."""
    rows: list[list[str] | None] = []
    for study in studies:
        group = ""
        for tuned in study.tuned:
            if tuned.loss != group:
                group = tuned.loss
                rows += [None, [Strong(f"{study.problem.classes} digits, {group}"), *[""] * 6]]
            search, machine = tuned.search, tuned.machine
            rows.append(
                [
                    f"  {tuned.how}",
                    _lambda(machine.log_theta),
                    f"{tuned.value:.4f}",
                    f"{100 * machine.validation:.1f} %",
                    f"{100 * machine.test:.1f} %",
                    "" if search is None else str(len(search.tried)),
                    "" if search is None else duration(search.seconds),
                ]
            )
    return Table(
        "Tuning the regularization e^λ by the validation loss: accuracies",
        ("chosen by", "λ", "loss", "valid.", "test", "solves", "time"),
        rows[1:],
        "Untuned: λ = 0, scikit-learn's C = 1. Solves: of the dual, in the search. The squared error compares "
        "scores with 0 and 1, though only their differences decide the class; the squared hinge sees margins.",
    )


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification, for the small problem.

    BCD, APG, MD: solved by block coordinate descent, accelerated projected gradient, mirror descent; PG, MD after the
    colon: differentiated through that fixed point.
    """
    comparison = result.small.comparison
    rows = {row.solver: row for row in comparison.rows}
    blocks, accelerated, mirror = (rows.get(name) for name in (BLOCKS, ACCELERATED, MIRROR))
    at = f"λ = {comparison.log_theta:g}: "

    def of(row: Row | None, figure: Callable[[Row], float]) -> float | None:
        return None if row is None else figure(row)

    def slope(through: str) -> Callable[[Row], float]:
        return lambda row: row.cell(through).derivative

    yield near_reference(at + "BCD, loss", of(blocks, lambda row: row.value), 26.771845, 1e-6, ".6f")
    yield near_reference(at + "central difference", comparison.difference, -10.75776, 1e-6, ".5f")
    yield near_reference(at + "BCD, by PG", of(blocks, slope(PROJECTED_CONDITION)), DERIVATIVE, 1e-6, ".6f")
    yield near_reference(at + "BCD, by MD", of(blocks, slope(MIRROR_CONDITION)), DERIVATIVE, 1e-6, ".6f")
    yield near_reference(at + "APG, by PG", of(accelerated, slope(PROJECTED_CONDITION)), -10.75804, 1e-3, ".5f")
    if accelerated is None:
        implicit = unrolled = None
    else:
        implicit, unrolled = (accelerated.cell(through) for through in (PROJECTED_CONDITION, UNROLLED))
    both = None if implicit is None or unrolled is None else (implicit, unrolled)
    yield Check(
        at + "APG, unrolled, off by",
        None if both is None else both[1].error,
        between(0.06, 0.08),
        0.07,
        form=".1%",
        shown="" if both is None else f"{both[1].derivative:.2f}, {both[1].error:.1%}",
    )
    reference = (11.51 - 10.75776) / (10.75804 - 10.75776)
    error = None if both is None else both[1].error / both[0].error
    yield Check(at + "APG, error, unrolled / PG", error, at_least(20), reference, form=".0f")
    yield Check(
        at + "APG, memory, unrolled / PG",
        None if both is None else both[1].memory / both[0].memory,
        at_least(20),
        "20.9 MB / 61 kB",
        shown="" if both is None else f"{size(both[1].memory)} / {size(both[0].memory)}",
    )
    faster = None if both is None else both[1].seconds / both[0].seconds
    yield Check(at + "APG, time, unrolled / PG", faster, at_least(1.2), 1.5, "> 1", form=".2f")
    yield near_reference(at + "MD, loss", of(mirror, lambda row: row.value), 26.7715, 1e-5, ".4f")
    own = of(mirror, slope(MIRROR_CONDITION))
    yield Check(at + "MD, by MD", own, Bar("to 1e-02", -10.50, -10.48), -10.49, form=".2f")
    # it has not converged: a residual below the margin would be another solver's
    residual = of(mirror, lambda row: row.residual / comparison.tie_margin)
    yield Check(at + "MD, residual / tie margin", residual, at_least(1), "unconverged", form=".1f")
    tuned = next(one for one in result.small.tuned if one.how == DESCENT)
    yield Check("λ of least loss", float(tuned.machine.log_theta), between(4, 5), "4 to 5", form=".4f")
    for point in result.points:
        if point.log_theta in ALONG:
            value, derivative = ALONG[point.log_theta]
            yield near_reference(f"loss at λ = {point.log_theta:g}", point.value, value, 1e-5, ".4f")
            yield near_reference(f"derivative at λ = {point.log_theta:g}", point.derivative, derivative, 1e-5, ".5f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    comparison = result.small.comparison
    best = min(cell.error for row in comparison.rows for cell in row.cells if cell.through != UNROLLED)
    accelerated = next((row for row in comparison.rows if row.solver == ACCELERATED), None)
    text = f"best error of a hypergradient {best:.0e}"
    if accelerated is None:
        return text
    implicit, unrolled = (accelerated.cell(through) for through in (PROJECTED_CONDITION, UNROLLED))
    return (
        f"{text}; stopped early: {implicit.error:.2%} implicit, {unrolled.error:.1%} unrolled, at "
        f"{unrolled.seconds / implicit.seconds:.1f} times the time and {unrolled.memory / implicit.memory:.0f} times "
        "the memory"
    )
