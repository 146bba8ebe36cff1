"""The experiment's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dini_zoo.kit.tables import check_table, plain_table

from .checks import checks, decay

if TYPE_CHECKING:
    from rich.table import Table

    from .experiment import Result


def training_table(result: Result) -> Table:
    """What was learned in each mode."""
    settings, first = result.settings, result.contraction[0]
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
        f"a batch, after training; before, {first.radius:.2f} and {first.norm:.2f}. Accuracy of "
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
        f"{max(result.central):.0e} at most. Time: the fastest of {settings.rounds} rounds, after "
        f"training. Auto picks: {choice.method} ({choice.reason}). One step of Anderson's method, as dini "
        "differentiates it, is one application of the layer: the Jacobian-free gradient.",
    )
    for name, way in result.ways.items():
        table.add_row(
            name,
            *(f"{way.errors[i]:.1e}" for i in (0, -1)),
            f"{way.cosine:.4f}",
            f"{1e3 * way.fastest:.2f} ms",
            f"{way.memory / 1e6:.2f} MB",
        )
    return table


def series_table(result: Result) -> Table:
    """The error of the Neumann series by the number of terms."""
    points = ("before", f"{result.settings.early} epochs", "after")
    table = plain_table(
        right=("terms", *(cell for point in points for cell in (point, "power"))),
        title="The Neumann series on the way of implicit training",
        caption="Error of the gradient, and the spectral radius to the number of terms. The radius is "
        f"{_listed(result.radii)}; one more term multiplies the error by {_listed(decay(result))} (errors near that of "
        "the solve are left out). Above one, the layer no longer contracts, and the series does not converge.",
    )
    for i, terms in enumerate(result.settings.series):
        cells = [(errors[i], radius**terms) for errors, radius in zip(result.series, result.radii, strict=True)]
        table.add_row(str(terms), *(f"{figure:.1e}" for pair in cells for figure in pair))
    return table


def _listed(figures: Sequence[float]) -> str:
    return ", ".join(f"{figure:.3f}" for figure in figures)


def bar_table(result: Result) -> Table:
    """Our figures beside the bars."""
    return check_table(
        checks(result),
        title="Beside the bars",
        caption="The series' bar is the spectral radius; after training it is judged only where that is below one.",
    )


def tables(result: Result) -> list[Table]:
    """All tables; the bars only where the settings are theirs."""
    found = [training_table(result), gradient_table(result), series_table(result)]
    return [*found, bar_table(result)] if result.settings == type(result.settings)() else found
