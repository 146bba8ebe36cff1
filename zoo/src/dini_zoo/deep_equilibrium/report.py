"""The experiment's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..report import check_table, plain_table
from .checks import checks, decay

if TYPE_CHECKING:
    from rich.table import Table

    from .experiment import Result


def training_table(result: Result) -> Table:
    """What was learned in each mode."""
    settings = result.settings
    spread = "; ".join(
        f"{name} {np.mean(found):.3f} ± {np.std(found):.3f} ({', '.join(f'{one:.3f}' for one in found)})"
        for name, found in result.seeds.items()
    )
    table = plain_table(
        "mode",
        right=("test accuracy", "training loss", "steps", "unsolved", "radius", "norm"),
        title=f"Equilibrium classifier of the digits, {settings.epochs} epochs of Adam",
        caption="Steps: of Anderson's method for all data together, after training. Unsolved: batches whose solve did "
        f"not reach {settings.tol:.0e}. Radius, norm: the largest spectral radius and norm of the layer's Jacobian in "
        f"a batch, after training; before, {result.first.radius:.2f} and {result.first.norm:.2f}. Accuracy of "
        f"{settings.seeds} seeds: {spread}.",
    )
    for name, course in result.courses.items():
        after = result.contractions[name]
        solved = "" if name in settings.unrolls else str(course.failures)
        table.add_row(
            name,
            f"{course.accuracy[-1]:.3f}",
            f"{course.loss[-1]:.4f}",
            f"{course.steps[-1]:.0f}",
            solved,
            f"{after.radius:.2f}",
            f"{after.norm:.2f}",
        )
    return table


def gradient_table(result: Result) -> Table:
    """One gradient in each mode."""
    settings, choice = result.settings, result.choice
    table = plain_table(
        "mode",
        right=("error, before", "after", "cosine", "time", "memory"),
        title=f"One gradient, a batch of {settings.batch} images, {settings.hidden} hidden units",
        caption="Error: relative distance from the exact gradient before training and after implicit training; "
        "cosine of the angle between them, after. The exact gradient's slope differs from a central difference by "
        f"{result.central[0]:.0e} and {result.central[1]:.0e}. Time: the fastest of {settings.rounds} rounds, after "
        f"training. Auto picks: {choice.method} ({choice.reason}). One step of Anderson's method, as dini "
        "differentiates it, is one application of the layer: the Jacobian-free gradient.",
    )
    for name, way in result.ways.items():
        table.add_row(
            name,
            *(f"{error:.1e}" for error in way.errors),
            f"{way.cosine:.4f}",
            f"{1e3 * way.fastest:.2f} ms",
            f"{way.memory / 1e6:.2f} MB",
        )
    return table


def series_table(result: Result) -> Table:
    """The error of the Neumann series by the number of terms."""
    before, after = decay(result)
    table = plain_table(
        right=("terms", "error, before", "power", "error, after", "power"),
        title="The Neumann series",
        caption="Power: the spectral radius to the number of terms. One more term reduces the error by a factor of "
        f"{before:.3f} before training, where the radius is {result.radii[0]:.3f}, and of {after:.3f} after it "
        f"({result.radii[1]:.3f}); errors near that of the solve are left out.",
    )
    for i, terms in enumerate(result.settings.series):
        cells = [(result.series[row, i], result.radii[row] ** terms) for row in (0, 1)]
        table.add_row(str(terms), *(f"{figure:.1e}" for pair in cells for figure in pair))
    return table


def bar_table(result: Result) -> Table:
    """Our figures beside the bars."""
    return check_table(
        checks(result),
        title="Beside the bars",
        caption="Before and after: training in the implicit mode. Reference: the spectral radius.",
    )


def tables(result: Result) -> list[Table]:
    """All tables; the bars only where the settings are theirs."""
    found = [training_table(result), gradient_table(result), series_table(result)]
    return [*found, bar_table(result)] if result.settings == type(result.settings)() else found
