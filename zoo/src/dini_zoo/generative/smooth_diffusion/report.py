"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Bar, Check, Table, at_most, spread, worst

from .judging import Judged
from .study import Result

#: By weight: the prototype's ISTD, CV, Fréchet distance and loss.
PROTOTYPE = {
    0.0: (0.0953, 0.228, 0.338, 0.1353),
    0.01: (0.0900, 0.220, 0.295, 0.1353),
    0.1: (0.0578, 0.157, 0.366, 0.1373),
    1.0: (0.0466, 0.118, 0.640, 0.1488),
}
type Figure = Callable[[Judged], float]


def of_weight(result: Result, weight: float) -> list[Judged]:
    """One for each seed, none where the weight was not trained with."""
    return [one.judged for tunings in result.tunings for one in tunings if one.weight == weight]


def ratios(result: Result, weight: float, figure: Figure) -> list[float]:
    """Of a figure to the control's, seed by seed."""
    ours = of_weight(result, weight)
    return [figure(a) / figure(b) for a, b in zip(ours, of_weight(result, 0.0), strict=False)]


def std(one: Judged) -> float:
    """ISTD on arcs."""
    return one.arcs.std


def variation(one: Judged) -> float:
    """The coefficient of variation on arcs."""
    return one.arcs.variation


def distance(one: Judged) -> float:
    """Fréchet's."""
    return one.distance


def seen(one: Judged) -> float:
    """The error there and back."""
    return one.inversion.seen


def unseen(one: Judged) -> float:
    """The same, of images that were not trained with."""
    return one.inversion.unseen


def loss(one: Judged) -> float:
    """Of the noise."""
    return one.loss


def rows(result: Result, cells: Callable[[list[Judged]], Sequence[str]]) -> list[list[str] | None]:
    """A row for the base and one for each weight."""
    weights = [[f"λ = {weight:g}", *cells(of_weight(result, weight))] for weight in result.settings.weights]
    weights[0][0] = "control, λ = 0"
    return [["base", *cells(result.base)], *weights]


def estimates(judged: list[Judged], figures: Sequence[tuple[Figure, str]]) -> list[str]:
    """As text."""
    return [f"{Estimate.of(figure(one) for one in judged):{form}}" for figure, form in figures]


def tables(result: Result) -> Sequence[Table]:
    """Walks, quality, inversion, norms."""
    return [walk_table(result), quality_table(result), inversion_table(result), norm_table(result)]


def walk_table(result: Result) -> Table:
    """Along arcs, along lines, and along arcs that are respaced."""
    figures = (
        (std, ".4f"),
        (variation, ".3f"),
        (lambda one: one.lines.std, ".4f"),
        (lambda one: one.even.std, ".4f"),
    )
    settings = result.settings
    caption = (
        f"Images in [0, 1], {settings.pairs} walks, {settings.steps} steps of DDIM. CV: a walk's std / mean. "
        "Respaced: ratios chosen from the distances of a first walk, for twice the samples."
    )
    columns = ("", "arcs: ISTD", "arcs: CV", "lines: ISTD", "respaced")
    return Table("Walks between two noises", columns, rows(result, lambda j: estimates(j, figures)), caption)


def quality_table(result: Result) -> Table:
    """What samples are worth."""
    figures = (
        (distance, ".2f"),
        (lambda one: one.diversity, ".2f"),
        (lambda one: one.arcs.length, ".2f"),
        (loss, ".4f"),
    )
    half, two = (np.mean([getattr(one, name) for one in result.data]) for name in ("distance", "diversity"))
    caption = (
        f"Fréchet distance of {result.settings.samples} samples in features of a classifier: ratios only. Half of the "
        f"data is {half:.2f} from the other half; two images of the data are {two:.2f} apart."
    )
    columns = ("", "Fréchet", "two samples", "walk's length", "noise loss")
    return Table("Quality", columns, rows(result, lambda j: estimates(j, figures)), caption)


def inversion_table(result: Result) -> Table:
    """There and back."""
    settings = result.settings

    def cells(judged: list[Judged]) -> list[str]:
        text = [f"{np.mean([figure(one) for one in judged]):.5f}" for figure in (seen, unseen)]
        fixed = [one.inversion.fixed for one in judged if one.inversion.fixed is not None]
        if not fixed:
            return text
        for name, form in (("one_step", ".5f"), ("error", ".0e")):
            values = [value for one in fixed if (value := getattr(one, name)) is not None]
            text.append(f"{np.mean(values):{form}}" if values else "none")
        return [*text, f"{np.mean([one.found for one in fixed]):.0%}"]

    columns = ["", "seen", "not seen"]
    caption = f"{settings.inversion_steps} steps. Seen: {settings.inverted} images that were trained with."
    if settings.exact:
        columns += ["one step", "fixed point", "found"]
        caption += (
            f" The last three columns are of {settings.exact} others, in double precision: the share whose fixed "
            "points dini found, and both errors of these."
        )
    return Table("Inversion of DDIM: mean squared error, [-1, 1]", columns, rows(result, cells), caption)


def norm_table(result: Result) -> Table:
    """What the penalty is on."""
    table_rows: list[list[str] | None] = []
    for tunings in zip(*result.tunings, strict=True):
        mean, spread = (Estimate.of(getattr(one, name) for one in tunings) for name in ("norm", "spread"))
        table_rows.append([f"λ = {tunings[0].weight:g}", f"{mean:.3f}", f"{spread:.3f}"])
    caption = "Of the batches of the last tenth of the training, over images, steps, noises and directions."
    return Table("Variation norms", ("", "mean", "std / mean"), table_rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification. All seeds must meet it: the worst one's figure counts."""

    def of_worst(name: str, weight: float, figure: Figure, bar: Bar | None, reference: str, paper: str = "") -> Check:
        return worst(name, ratios(result, weight, figure), bar, reference, paper, ".2f")

    yield of_worst("ISTD, λ = 0.1 / control", 0.1, std, at_most(0.75), "0.61 / 0.62", "0.43")
    yield of_worst("CV, λ = 0.1 / control", 0.1, variation, at_most(0.85), "0.69 / 0.70")
    yield of_worst("Fréchet, λ = 0.1 / control", 0.1, distance, at_most(1.4), "1.08 / 1.17", "0.95")
    yield of_worst("inversion, λ = 0.1 / control", 0.1, seen, at_most(1), "0.90", "0.62")
    yield of_worst("inversion of others, λ = 0.1 / control", 0.1, unseen, None, "")
    yield of_worst("noise loss, λ = 0.1 / control", 0.1, loss, None, "1.01 / 1.01")
    for weight in (0.01, 1.0):
        for name, figure, at in (("ISTD", std, 0), ("Fréchet", distance, 2)):
            reference = PROTOTYPE[weight][at] / PROTOTYPE[0.0][at]
            yield of_worst(f"{name}, λ = {weight:g} / control", weight, figure, None, f"{reference:.2f}")


def headline(result: Result) -> str:
    """The one figure that matters."""
    one, other = (np.mean([std(j) for j in of_weight(result, weight)]) for weight in (result.settings.weight, 0.0))
    quality = spread(ratios(result, result.settings.weight, distance), ".2f")
    return (
        f"interpolation standard deviation {one:.3f} with the penalty, {other:.3f} without, from one base; Fréchet "
        f"distance {quality} of the latter's; seeds: {len(result.settings.seeds)}"
    )
