"""What the experiment prints and draws. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.tables import Check, Table, at_most, below

from .digits import Search
from .study import Result

#: By number of steps: the distance with DDIM's stride, and with the steps found.
REFERENCES = {4: (2.411, 0.615), 6: (1.314, 0.478)}
#: The paper's ratio of distances on ImageNet of 64×64, by number of steps.
PAPER = {4: 17.86 / 138.66, 6: 11.17 / 23.71}
BARS = {4: 1 / 3, 6: 1 / 2}


def tables(result: Result) -> list[Table]:
    """Steps, layers."""
    return [step_table(result), layer_table(result)]


def step_table(result: Result) -> Table:
    """Distances of spacings and searches."""
    searches = list(result.searches) + ([result.plugged] if result.plugged else [])
    names = [f"{one.count}" for one in result.searches] + (["DPM-Solver++"] if result.plugged else [])
    rows = [[name, *(f"{one.spacings[name]:.3f}" for one in searches)] for name in searches[0].spacings]
    rows.append(["random, the best", *("" if one.random is None else f"{one.random:.3f}" for one in searches)])
    rows.append(["searched, its noise", *(f"{one.searched:.3f}" for one in searches)])
    rows.append(["searched", *(f"{one.reported:.3f}" for one in searches)])
    learned = result.learned
    rows.append(["by the gradient", f"{learned.reported:.3f}", *[""] * (len(searches) - 1)])
    text = "; ".join(f"{name}: {', '.join(map(str, one.steps))}" for name, one in zip(names, searches, strict=True))
    times = ", ".join(f"{1000 * t - 1:.0f}" for t in learned.times)
    caption = (
        f"{result.settings.fresh} samples, fresh noise; random sets and 'its noise' have {result.settings.samples}. "
        f"Steps found: {text}. By {learned.steps} quasi-Newton steps: {times}."
    )
    columns = ("steps", *names)
    return Table("Fréchet distance by the steps that are taken", columns, rows, caption)


def layer_table(result: Result) -> Table:
    """Distances with layers left out."""
    layers = result.layers
    rows = [
        [
            f"{count} off",
            f"{layers.random[i]:.3f}",
            f"{layers.searched[i]:.3f}",
            f"{layers.evolved[i]:.3f}",
            f"{layers.greedy[i]:.3f}",
        ]
        for i, count in enumerate(layers.off)
    ]
    settings = result.settings
    caption = (
        f"Of {layers.single.size} layers. First two: {settings.samples // 2} samples, the search's noise; last two: "
        f"{2 * settings.samples} samples, with which the whole network has {layers.full:.3f}."
    )
    columns = ("", "random, best", "searched", "searched", "greedy")
    return Table(f"Layers left out of {len(layers.steps)} steps", columns, rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    by_count = {one.count: one for one in result.searches}
    for count, (stride, searched) in REFERENCES.items():
        yield from search_checks(by_count.get(count), count, stride, searched)
    first = result.searches[0]
    ratio = None if first.random is None else first.searched / first.random
    yield Check("searched / best of as many random sets", ratio, below(1), 0.589 / 0.691, form=".3f")
    gained = result.learned.reported / first.reported
    yield Check("by the gradient / searched", gained, form=".3f")
    yield from layer_checks(result)
    plugged, borrowed = result.plugged, result.borrowed
    ratio = None if plugged is None else plugged.reported / min(plugged.spacings.values())
    yield Check("DPM-Solver++: searched / best spacing", ratio, at_most(0.6), 0.161 / 0.507, form=".3f")
    ratio = None if plugged is None or borrowed is None else plugged.reported / borrowed
    yield Check("DPM-Solver++: searched / DDIM's steps", ratio, below(1), 0.161 / 0.389, form=".3f")
    moved = result.transfer
    ratio = None if moved is None else moved.carried / moved.own.reported
    yield Check("second network: carried / its own", ratio, at_most(1.3), 0.568 / 0.525, form=".3f")
    ratio = None if moved is None else moved.carried / moved.own.spacings["stride"]
    yield Check("second network: carried / stride", ratio, at_most(0.5), 0.568 / 2.069, form=".3f")


def search_checks(one: Search | None, count: int, stride: float, searched: float) -> Iterator[Check]:
    """The bars of one number of steps."""
    ratio = None if one is None else one.reported / one.spacings["stride"]
    reference, paper = searched / stride, f"{PAPER[count]:.2f} (ImageNet)"
    yield Check(f"{count} steps: searched / stride", ratio, at_most(round(BARS[count], 4)), reference, paper, ".3f")
    yield Check(f"{count} steps: stride", None if one is None else one.spacings["stride"], reference=stride, form=".3f")
    yield Check(f"{count} steps: searched", None if one is None else one.reported, reference=searched, form=".3f")
    ratio = None if one is None else one.reported / min(one.spacings.values())
    yield Check(f"{count} steps: searched / best spacing", ratio, below(1), form=".3f")
    rise = None if one is None else float(max(np.diff(one.history), default=0.0))
    yield Check(f"{count} steps: greatest rise of the best", rise, at_most(0), form=".1g")
    gap = None if one is None else abs(one.again / one.searched - 1)
    yield Check(f"{count} steps: fresh noise, as many samples", gap, at_most(0.1), form=".3f")


def layer_checks(result: Result) -> Iterator[Check]:
    """The bars of layers."""
    layers = result.layers
    at = {count: i for i, count in enumerate(layers.off)} if len(layers.steps) == 6 else {}
    for count, most, least, reference in ((4, 1.35, 1.0, 0.482 / 0.427), (8, 2.2, 0.8, 0.805 / 0.427)):
        i = at.get(count)
        ratio = None if i is None else layers.evolved[i] / layers.full
        yield Check(f"{count} layers off: searched / full", ratio, at_most(most), reference, form=".3f")
        ratio = None if i is None else layers.searched[i] / layers.random[i]
        bar = below(1) if least == 1.0 else at_most(least)
        reference = {4: 0.704 / 0.878, 8: 0.966 / 1.520}[count]
        yield Check(f"{count} layers off: searched / random", ratio, bar, reference, form=".3f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    one = result.searches[0]
    best = min(one.spacings.values())
    return (
        f"{one.count} steps: Fréchet distance {one.reported:.2f} with those found, {one.spacings['stride']:.2f} with "
        f"DDIM's, {best:.2f} with the best spacing"
    )


def draw(result: Result) -> Figure:
    """Distances, the search's course, steps, layers, digits."""
    figure = pictures.canvas("Which few steps of a diffusion to take", height=9)
    above, below_ = figure.subfigures(2, 1)
    bars, course, steps = above.subplots(1, 3)
    one = result.searches[0]
    figures = {**one.spacings, "gradient": result.learned.reported, "searched": one.reported}
    colors = dict.fromkeys(one.spacings, pictures.QUIET) | {"gradient": pictures.RIVAL, "searched": pictures.METHOD}
    pictures.bars(bars, figures, form="{:.2f}", colors=colors)
    bars.set_title(f"{one.count} steps: Fréchet distance of samples")
    bars.tick_params(axis="x", labelsize=8)
    for search, color in zip(result.searches, pictures.COLORS, strict=False):
        course.plot(range(1, 1 + len(search.history)), search.history, color=color, label=f"{search.count} steps")
    if one.random is not None:
        course.axhline(one.random, color=pictures.QUIET, ls="--", lw=1.2, label=f"best random, {one.count} steps")
    course.set_yscale("log")
    course.set_xlabel("evaluations")
    course.set_title("least distance so far, the search's noise")
    course.legend(fontsize=9)
    rows = {f"{search.count}, stride": np.arange(search.count) * (1000 // search.count) for search in result.searches}
    rows |= {f"{search.count}, searched": np.asarray(search.steps) for search in result.searches}
    rows["gradient"] = 1000 * np.asarray(result.learned.times) - 1
    if result.plugged:
        rows["DPM-Solver++"] = np.asarray(result.plugged.steps)
    for i, (name, at) in enumerate(rows.items()):
        steps.plot(at, np.full(len(at), -i), "o", color=pictures.QUIET if "stride" in name else pictures.METHOD)
    steps.set_yticks(-np.arange(len(rows)), list(rows))
    steps.set_xlabel("step of 1000")
    steps.set_title("the steps")
    cost, *images = below_.subplots(1, 3)
    layers = result.layers
    shown = cost.imshow(layers.single, cmap=pictures.UNSIGNED, aspect="auto")
    figure.colorbar(shown, ax=cost)
    cost.grid(False)
    cost.set_xlabel("block")
    cost.set_ylabel("step")
    off = np.argwhere(layers.gates[-1] == 0)
    cost.plot(off[:, 1], off[:, 0], "x", color=pictures.ALARM, ms=10, mew=2)
    cost.set_title(f"distance that each layer saves\n(crosses: the {layers.off[-1]} left out by the search)")
    for axes, (name, x) in zip(images, result.images.items(), strict=True):
        axes.imshow(pictures.mosaic(x.reshape(-1, 8, 8), 5, low=-1, high=1))
        pictures.bare(axes)
        axes.set_title(f"digits in {one.count} steps, {name}")
    return figure
