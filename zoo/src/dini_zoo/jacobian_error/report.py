"""The experiment's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..report import check_table, plain_table
from .checks import checks

if TYPE_CHECKING:
    from rich.table import Table

    from .experiment import Result


def error_table(result: Result) -> Table:
    """Errors by the number of steps."""
    path, shown = result.path, result.settings.shown
    table = plain_table(
        right=("steps", "error of x", "implicit", "bound", "estimate", "unrolled", "unrolled / implicit"),
        title="Errors of the Jacobian at a point of gradient descent\nridge regression, diabetes data",
        caption="Implicit, unrolled: error of the Jacobian in spectral norm. Bound: on the implicit error, theorem 1 "
        f"of the paper: {result.exact.constants.slope:.3f} times the error of x. Estimate: dini's own, in Frobenius "
        "norm, made without knowledge of the solution; red where its verdict is that the Jacobian cannot be relied "
        f"on. Log-log slope of implicit over x: {result.slope(shown):.3f}. The paper's claim: the implicit error "
        "follows the bound (slope 1), the unrolled error is much larger at the same error of x.",
    )
    for steps in shown:
        i = steps - 1
        estimate = f"{path.estimate[i]:.1e}"
        table.add_row(
            str(steps),
            f"{path.solution_error[i]:#.4g}",
            f"{path.implicit_error[i]:#.4g}",
            f"{path.bound[i]:#.4g}",
            estimate if path.reliable[i] else f"[red]{estimate}[/]",
            f"{path.unrolled_error[i]:#.4g}",
            f"{path.unrolled_error[i] / path.implicit_error[i]:.1f}",
        )
    return table


def reference_table(result: Result) -> Table:
    """The specification's figures beside ours."""
    return check_table(
        checks(result),
        title="Beside the reference figures of the specification",
        caption="The bound and the slope are judged after 1, 3, 10, 30 and 100 steps.",
    )


def tables(result: Result) -> list[Table]:
    """All tables; the reference figures only where the settings are theirs."""
    found = [error_table(result)]
    return [*found, reference_table(result)] if result.settings == type(result.settings)() else found
