"""What the experiment prints.

The bars were set before the experiment was first run, without published figures. Two were changed after it had been:

- The factor by which a term multiplies the series' error was first taken from the first to the last number of terms.
  Before training, the last errors turned out to be those of the solve. Since then errors within a hundred times the
  implicit gradient's are left out.
- The series had a bar after training, too. Training then took the spectral radius above one, where no series
  converges. Since then the bar is for a radius below one; else the factor stands without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Bar, Check, Table, at_least, at_most

from .study import IMPLICIT, Result


def tables(result: Result) -> list[Table]:
    """What was learned in each mode, one gradient in each, and the series' errors."""
    return [training_table(result), gradient_table(result), series_table(result)]


def training_table(result: Result) -> Table:
    """What was learned in each mode."""
    settings, first = result.settings, result.contraction[0]
    spread = "; ".join(
        f"{name} {Estimate.of(found):.3f} ({', '.join(f'{one:.3f}' for one in found)})"
        for name, found in result.seeds.items()
    )
    rows = []
    for name, course in result.courses.items():
        after = result.contractions[name]
        rows.append(
            [
                name,
                f"{course.accuracy[-1]:.3f}",
                f"{course.loss[-1]:.4f}",
                f"{course.steps[-1]:.0f}",
                "" if name in settings.unrolls else str(course.failures),
                f"{after.radius:.2f}",
                f"{after.norm:.2f}",
            ]
        )
    return Table(
        f"Equilibrium classifier of the digits, {settings.epochs} epochs of Adam",
        ("mode", "test accuracy", "training loss", "steps", "unsolved", "radius", "norm"),
        rows,
        "Steps: of Anderson's method for all data together, after training. Unsolved: batches whose solve did "
        f"not reach {settings.tol:.0e}. Radius, norm: the largest spectral radius and norm of the layer's Jacobian in "
        f"a batch, after training; before, {first.radius:.2f} and {first.norm:.2f}. Accuracy, mean and interval of "
        f"{len(settings.seeds)} seeds: {spread}.",
    )


def gradient_table(result: Result) -> Table:
    """One gradient in each mode."""
    settings, choice = result.settings, result.choice
    rows = [
        [
            name,
            *(f"{way.errors[i]:.0e}" for i in (0, -1)),
            f"{way.cosine:.4f}",
            f"{1e3 * way.fastest:.2f} ms",
            f"{way.memory / 1e6:.2f} MB",
        ]
        for name, way in result.ways.items()
    ]
    return Table(
        f"One gradient, a batch of {settings.batch} images, {settings.hidden} hidden units",
        ("mode", "before", "after", "cosine", "time", "memory"),
        rows,
        "Before, after: relative distance from the exact gradient before training and after implicit training; "
        "cosine of the angle between them, after. The exact gradient's slope differs from a central difference by "
        f"{max(result.central):.0e} at most. Time: the fastest of {settings.rounds} rounds, after "
        f"training. Auto picks: {choice.method} ({choice.reason}). One step of Anderson's method, as dini "
        "differentiates it, is one application of the layer: the Jacobian-free gradient.",
    )


def series_table(result: Result) -> Table:
    """The error of the Neumann series by the number of terms."""
    points = ("before", f"{result.settings.early} epochs", "after")
    rows = []
    for i, terms in enumerate(result.settings.series):
        cells = [(errors[i], radius**terms) for errors, radius in zip(result.series, result.radii, strict=True)]
        rows.append([str(terms), *(f"{figure:.1e}" for pair in cells for figure in pair)])
    return Table(
        "The Neumann series on the way of implicit training",
        ("terms", *(cell for point in points for cell in (point, "power"))),
        rows,
        "Error of the gradient, and the spectral radius to the number of terms. The radius is "
        f"{_listed(result.radii)}; one more term multiplies the error by {_listed(decay(result))} (errors near that of "
        "the solve are left out). With a radius above one the layer does not contract, and the series does not "
        "converge.",
        left=0,
    )


def _listed(figures: Sequence[float | None]) -> str:
    return ", ".join("-" if figure is None else f"{figure:.3f}" for figure in figures)


def decay(result: Result) -> list[float | None]:
    """The mean factor by which one more term multiplies the series' error, at each of the three points.

    An error that is not far above the implicit gradient's is that of the solve: such errors are left out. Where fewer
    than two are left there is no factor.
    """
    terms = np.array(result.settings.series)
    factors: list[float | None] = []
    for errors, floor in zip(result.series, result.ways[IMPLICIT].errors, strict=True):
        above = np.flatnonzero(errors > 100 * floor)
        last = int(above[-1]) if len(above) else 0
        factors.append(float((errors[last] / errors[0]) ** (1 / (terms[last] - terms[0]))) if last else None)
    return factors


def checks(result: Result) -> Iterator[Check]:
    """Every bar."""
    implicit, longest = result.ways[IMPLICIT], result.ways.get(result.settings.longest)
    yield Check("exact gradient to central difference", max(result.central), at_most(1e-4), form=".1e")
    yield Check("implicit to exact gradient", max(implicit.errors), at_most(1e-6), form=".1e")
    for factor, radius, when in zip(decay(result), result.radii, ("before training", "early", "after"), strict=True):
        contracts = radius < 1 or when != "after"
        bar = Bar(f"≤ {radius:.3f}", high=radius) if contracts else None
        yield Check(f"series, {when}: error × by a term", factor, bar, form=".3f")
    growth = None if result.doubled is None else result.doubled / implicit.memory
    yield Check("implicit memory, twice the steps", growth, at_most(1.01), form=".3f")
    share = None if longest is None else implicit.memory / longest.memory
    yield Check("implicit memory / full unroll's", share, at_most(0.25), form=".3f")
    accuracy = {name: float(course.accuracy[-1]) for name, course in result.courses.items()}
    ours = accuracy[IMPLICIT]
    yield Check("test accuracy, implicit", ours, at_least(0.93), form=".3f")
    yield Check("test accuracy, best mode − implicit", max(accuracy.values()) - ours, at_most(0.01), form=".3f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    accuracy = "; ".join(f"{name} {Estimate.of(found):.3f}" for name, found in result.seeds.items())
    errors = ", ".join(f"{name} {way.errors[-1]:.0e}" for name, way in result.ways.items() if name in result.seeds)
    return f"test accuracy {accuracy}; relative error of a gradient after training: {errors}"
