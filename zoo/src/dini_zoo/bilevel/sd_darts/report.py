"""What the experiment prints and draws.

References were computed for the specification, with other code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, at_least, at_most

from .study import DARTS, SD, Result


def tables(result: Result) -> Sequence[Table]:
    """The supernets, and what is derived from them."""
    rows = []
    for name, one in result.searches.items():
        figures = [f"{Estimate.of(one.eigenvalue):.2f}", f"{Estimate.of(one.ascent):.3f}"]
        rows.append([name, *figures, *(f"{Estimate.of(a, scale=100):.1f}" for a in (one.accuracy, one.inherited))])
    seeds = len(result.settings.seeds)
    return [
        Table(
            "The supernet at the end of the search",
            ("search", "λ max", "ascent", "test, %", "inherited, %"),
            rows,
            f"{seeds} seeds, mean and interval of 95 %. λ max: of the training loss. Ascent: the climb of "
            f"the validation loss along a step of {result.settings.radius:g}. Inherited: the derived network with the "
            "supernet's weights.",
        ),
        Table(
            "Retrained architectures: test accuracy in percent",
            ("architectures", "accuracy", "least to greatest"),
            [
                [name, f"{Estimate.of(values.mean(axis=1), scale=100):.1f}", Estimate.of(100 * values.ravel()).range]
                for name, values in result.retrained.items()
            ]
            or [["not trained", "", ""]],
        ),
    ]


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification, and what it has none for."""
    plain, ours = result.searches[DARTS], result.searches[SD]
    ratio = float(ours.eigenvalue.mean() / plain.eigenvalue.mean())
    yield Check("largest eigenvalue, SD / DARTS", ratio, at_most(0.75), "0.45", "lower", ".2f")
    ratio = float(ours.ascent.mean() / plain.ascent.mean())
    yield Check("ascent sharpness, SD / DARTS", ratio, at_most(0.9), "0.7", "lower", ".2f")
    gain = 100 * float(ours.accuracy.mean() - plain.accuracy.mean())
    yield Check("supernet's accuracy, SD − DARTS, points", gain, at_least(-0.5), "1-4", "higher", ".1f")
    gap = 100 * float((plain.accuracy - plain.inherited).mean() - (ours.accuracy - ours.inherited).mean())
    yield Check("gap to the derived, DARTS − SD, points", gap, None, "not separable", "smaller gap", ".1f")
    retrained = {name: 100 * float(values.mean()) for name, values in result.retrained.items()}
    for name, reference in ((DARTS, "74-77"), (SD, "70-77"), ("random", "75-78")):
        yield Check(f"retrained, {name}, %", retrained.get(name), None, reference, form=".1f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    plain, ours = result.searches[DARTS], result.searches[SD]
    return (
        f"largest curvature of the supernet {ours.eigenvalue.mean():.2f}, without self-distillation "
        f"{plain.eigenvalue.mean():.2f}; test accuracy {ours.accuracy.mean():.1%} and {plain.accuracy.mean():.1%}"
    )


def draw(result: Result) -> Figure:
    """Sharpness and accuracies of both searches; mixtures of the first seed."""
    figure = pictures.canvas("Architecture search, with votes of the supernet's past", width=16, height=8)
    above, below = figure.subfigures(2, 1, height_ratios=(1.2, 1))
    panels = above.subplots(1, 3)
    colors = {DARTS: pictures.RIVAL, SD: pictures.METHOD, "random": pictures.QUIET}
    figures = (
        ("largest eigenvalue of the Hessian", "eigenvalue", "{:.2f}"),
        ("climb of the validation loss", "ascent", "{:.3f}"),
    )
    for axes, (title, name, form) in zip(panels[:2], figures, strict=True):
        values = {one: Estimate.of(getattr(found, name)) for one, found in result.searches.items()}
        pictures.bars(axes, values, form=form, colors=colors)
        axes.set_title(title)
    values = {f"supernet {name}": Estimate.of(one.accuracy) for name, one in result.searches.items()}
    values |= {f"retrained {name}": Estimate.of(one.mean(axis=1)) for name, one in result.retrained.items()}
    shades = {name: colors[name.split(" ", 1)[1]] for name in values}
    pictures.bars(panels[2], values, form="{:.2f}", colors=shades)
    panels[2].set_ylim(0.9 * min(min(one.values) for one in values.values()))
    panels[2].set_title("test accuracy")
    for axes, (name, one) in zip(below.subplots(1, 2), result.searches.items(), strict=True):
        shares = np.exp(one.alpha[0] - one.alpha[0].max(axis=1, keepdims=True))
        shown = axes.imshow((shares / shares.sum(axis=1, keepdims=True)).T, cmap=pictures.UNSIGNED, aspect="auto")
        axes.set_yticks(range(len(result.operations)), result.operations)
        axes.set_xticks(range(len(result.edges)), [f"{i}→{j}" for i, j in result.edges])
        axes.set_title(f"{name}: shares of operations, first seed")
        axes.grid(False)
        below.colorbar(shown, ax=axes)
    return figure
