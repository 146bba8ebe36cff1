"""The experiment's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dini_zoo.kit.tables import check_table, plain_table, size

from .checks import checks

if TYPE_CHECKING:
    from rich.table import Table

    from .experiment import Result

#: What a prototype measured for the specification on one seed: test, and transfer.
_PROTOTYPE = {
    "CGS, γ = 0.95": ("0.059", "0.023"),
    "CGS, γ = 0.5": ("0.118", ""),
    "GNN, 1 layer": ("0.255", ""),
    "GNN, 3 layers": ("0.103", "0.041"),
}


def path_table(result: Result) -> Table:
    """The models on the path."""
    task, seeds = result.settings.path, result.settings.seeds
    table = plain_table(
        "model",
        right=("RMSE", "spec", "longer paths", "spec", "ms a step"),
        title=f"A. Rewards on a path: {task.steps} steps of {task.batch} graphs",
        caption=f"RMSE over all nodes: the median of {seeds} seeds, and the range. Paths of {task.sizes[0]} to "
        f"{task.sizes[1]} nodes (root mean square of the values {result.spread[0]:.2f}), longer ones of "
        f"{task.larger[0]} to {task.larger[1]} ({result.spread[1]:.2f}). Spec: one seed of a prototype. γ = 0.95 is "
        "solved for by LU, γ = 0.5 by Picard's iteration through dini.",
    )
    for name, found in result.path.items():
        cells = [
            f"{median:.3f} ({min(own):.3f}–{max(own):.3f})"
            for median, own in zip(found.medians, (found.test, found.transfer), strict=True)
        ]
        took = 1e3 * min(course.seconds for course in found.courses) / task.steps
        spec = _PROTOTYPE.get(name, ("", ""))
        table.add_row(name, cells[0], spec[0], cells[1], spec[1], f"{took:.1f}")
    return table


def decision_table(result: Result) -> Table:
    """Decision processes in and out of the sizes of training."""
    settings, task, found = result.settings, result.settings.decisions, result.decisions
    table = plain_table(
        "processes",
        right=("states", "actions", "relative error", "spec", "naive", "policy"),
        title=f"B. Values of decision processes: {task.steps} steps of {task.batch} graphs",
        caption="Relative error: mean of |predicted − true| / |true| over all states. Naive: that of the mean value of "
        "training. Policy: how often the action that is best by the predicted values is a best one. "
        f"{1e3 * found.courses[0].seconds / task.steps:.0f} ms a step.",
    )
    rows = (
        ("as in training", task.sizes, settings.actions, found.test[0], "3.9 %"),
        ("larger", task.larger, settings.more_actions, found.transfer[0], "3.8 %"),
    )
    for (name, states, actions, error, spec), naive, policy in zip(rows, result.naive, result.policy, strict=True):
        ranges = (f"{low}–{high}" for low, high in (states, actions))
        table.add_row(name, *ranges, f"{100 * error:.1f} %", spec, f"{100 * naive:.1f} %", f"{100 * policy:.1f} %")
    return table


def solver_table(result: Result) -> Table:
    """The trained model's fixed points by each solver."""
    table = plain_table(
        "solver",
        right=("γ", "iterations", "solution", "gradient", "memory"),
        title="C. One trained model's fixed points by each solver, in double precision",
        caption="Solution, gradient: largest distance from dense algebra in NumPy, on one path. Memory: of the "
        "gradient; it is the same where 5000 iterations are allowed.",
    )
    for one in result.agreement:
        steps = str(one.steps) if one.steps else ""
        table.add_row(one.name, f"{one.gamma:g}", steps, f"{one.solution:.1e}", f"{one.gradient:.1e}", size(one.memory))
    return table


def bar_table(result: Result) -> Table:
    """Our figures beside the bars."""
    return check_table(checks(result), "Beside the bars", "Reference: the specification's prototype, one seed.")


def tables(result: Result) -> list[Table]:
    """All tables; the bars only where the settings are theirs."""
    found = [path_table(result), decision_table(result), solver_table(result)]
    return [*found, bar_table(result)] if result.settings == type(result.settings)() else found
