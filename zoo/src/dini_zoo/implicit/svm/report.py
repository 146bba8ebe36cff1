"""The experiment's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dini_zoo.kit.tables import check_table, duration, plain_table, size

from .checks import checks
from .comparison import MIRROR_CONDITION, PROJECTED_CONDITION, UNROLLED, Cell, Row

if TYPE_CHECKING:
    from rich.table import Table

    from .experiment import Result, Study

_SHORT = {MIRROR_CONDITION: "mirror", PROJECTED_CONDITION: "projected", UNROLLED: "unrolled"}


def _verdict(row: Row, cell: Cell) -> str:
    if not row.converged:
        return "[red]unconverged[/]"
    return "" if cell.system_solved else "[red]system unsolved[/]"


def _about(row: Row) -> list[str]:
    """Three lines about a solver, one beside each of its cells."""
    ended = "converged" if row.converged else f"[red]{row.status.name}[/]"
    return [f"[bold]{row.solver}[/]", f"{row.steps} steps, {duration(row.seconds)}", f"{ended} at {row.residual:.0e}"]


def comparison_table(study: Study) -> Table:
    """Solver × way to differentiate."""
    problem, comparison = study.problem, study.comparison
    table = plain_table(
        "solver",
        "through",
        right=("derivative", "error", "time", "memory"),
        title=f"Derivative of the validation loss in λ = {comparison.log_theta:g}\n{problem.classes} digits, "
        f"{problem.train} training points; central difference {comparison.difference:.6f}",
        caption="Through: the fixed point of mirror descent or of projected gradient, or the solver's own steps"
        f"{', with checkpoints' if comparison.checkpoint else ''}. Error: relative to the central difference. "
        "Time: solve and derivative, the shortest (under the solver's name: of the solve). Memory: temporary, of "
        f"the compiled gradient. The dual's tie margin is {comparison.tie_margin:.0e}: a solver that ends with a "
        "greater residual does not know the support.",
    )
    table.add_column("")
    for row in comparison.rows:
        for about, cell in zip(_about(row), row.cells, strict=True):
            table.add_row(
                about,
                _SHORT[cell.through],
                f"{cell.derivative:.6f}",
                f"{cell.error:.0e}",
                duration(cell.seconds),
                size(cell.memory),
                _verdict(row, cell),
            )
        table.add_section()
    return table


def _lambda(log_theta: np.ndarray) -> str:
    return f"{log_theta:.3f}" if log_theta.ndim == 0 else f"{log_theta.min():.1f}…{log_theta.max():.1f}"


def tuning_table(*studies: Study) -> Table:
    """What tuning gives."""
    table = plain_table(
        "chosen by",
        right=("λ", "loss", "valid.", "test", "solves", "time"),
        title="Tuning the regularization e^λ by the validation loss: accuracies",
        caption="Untuned: λ = 0, scikit-learn's C = 1. Solves: of the dual, in the search. The squared error compares "
        "scores with 0 and 1, though only their differences decide the class; the squared hinge sees margins.",
    )
    for study in studies:
        group = ""
        for tuned in study.tuned:
            if tuned.loss != group:
                group = tuned.loss
                table.add_section()
                table.add_row(f"[bold]{study.problem.classes} digits, {group}[/]")
            search, machine = tuned.search, tuned.machine
            table.add_row(
                f"  {tuned.how}",
                _lambda(machine.log_theta),
                f"{tuned.value:.4f}",
                f"{100 * machine.validation:.1f} %",
                f"{100 * machine.test:.1f} %",
                "" if search is None else str(len(search.tried)),
                "" if search is None else duration(search.seconds),
            )
    return table


def reference_table(result: Result) -> Table:
    """The specification's figures beside ours."""
    return check_table(
        checks(result),
        title=f"Beside the reference figures of the specification: {result.settings.small.classes} digits",
        caption="All at λ = 4 unless said. BCD, APG, MD: solved by block coordinate descent, accelerated projected "
        "gradient, mirror descent; PG, MD after the colon: differentiated through that fixed point. Times: best of "
        f"{result.settings.pairs} rounds, in turns.",
    )


def tables(result: Result) -> list[Table]:
    """All tables; the reference figures only where the settings are theirs."""
    found = [comparison_table(result.small), comparison_table(result.large), tuning_table(result.small, result.large)]
    return [*found, reference_table(result)] if result.settings == type(result.settings)() else found
