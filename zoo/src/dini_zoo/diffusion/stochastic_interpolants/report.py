"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from dini_zoo.kit.seeds import Estimate, Paired
from dini_zoo.kit.tables import Check, Table, at_least, at_most

from .study import Result

#: Distances that learned samples had from the end, by level.
DISTANCES = {0.0: 0.079, 0.25: 0.102, 1.0: 0.112, 4.0: 0.120}
#: Divergences in many dimensions, by level; 10k samples, 100 steps, one seed.
DIVERGENCES = {0.0: 0.00962, 0.1: 0.00734, 0.5: 0.00720, 1.0: 0.02126}


def tables(result: Result) -> list[Table]:
    """Fields, samples, levels of noise, bridges."""
    return [field_table(result), sample_table(result), level_table(result), bridge_table(result)]


def field_table(result: Result) -> Table:
    """Errors of the learned fields."""
    one = result.transport
    rows = [
        ["velocity", *(f"{error:.3f}" for error in one.velocity_errors)],
        ["score", *(f"{error:.3f}" for error in one.score_errors)],
    ]
    columns = ("", *(f"t = {t:g}" for t in one.times))
    return Table("Learned fields in the plane: relative errors", columns, rows)


def sample_table(result: Result) -> Table:
    """Distances of samples from the end."""
    one, settings = result.transport, result.settings
    rows = [
        [
            f"{level:g}",
            f"{Estimate.of(exact):.3f}",
            f"{Estimate.of(learned):.3f}",
            " ".join(f"{share:.3f}" for share in shares),
        ]
        for level, exact, learned, shares in zip(one.levels, one.exact, one.learned, one.fractions, strict=True)
    ]
    caption = (
        f"{settings.keys} times {settings.points} points with as many of each component as its weight says; two "
        f"samples of the end are {Estimate.of(one.floor):.3f} apart. Shares: of the end 0.4 0.3 0.3."
    )
    columns = ("noise", "exact fields", "learned", "learned: shares")
    return Table("Samples in the plane: sliced Wasserstein distance", columns, rows, caption)


def divergences(result: Result) -> dict[float, list[float]]:
    """Of all seeds and keys, by level."""
    found: dict[float, list[float]] = {}
    for one in result.levels:
        for level, values in zip(one.levels, one.values, strict=True):
            found.setdefault(level, []).extend(values)
    return found


def level_table(result: Result) -> Table:
    """Divergences by the level of noise."""
    found = divergences(result)
    ratios = [""] + [_ratio(found[level], found[before]) for before, level in pairwise(found)]
    rows = [[f"{one:g}", f"{Estimate.of(found[one]):.5f}", ratio] for one, ratio in zip(found, ratios, strict=True)]
    floor = Estimate.of([value for one in result.levels for value in one.floor])
    caption = (
        f"An exact sample: {floor:.5f}. Seeds: {len(result.settings.seeds)}, of {result.settings.many_keys} keys. "
        "Ratio: the geometric mean over seeds and keys, which share their noise, and its interval."
    )
    columns = ("noise", "mean", "ratio to the one above")
    return Table(f"{result.settings.dimension} dimensions, short training: divergence", columns, rows, caption)


def _ratio(one: list[float], other: list[float]) -> str:
    """The geometric mean of ratios in pairs, and its interval."""
    found = Paired.of(np.log(one), np.log(other)).difference
    spread = "" if np.isnan(found.width) else f", {np.exp(found.low):.2f} to {np.exp(found.high):.2f}"
    return f"{np.exp(found.mean):.2f}{spread}"


def bridge_table(result: Result) -> Table:
    """Energies of bridges."""
    rows = [
        [
            f"{one.a:g} to {one.b:g}, noise {one.eps:g}",
            *(f"{value:.5f}" for value in (one.independent, one.optimum, one.discretized, one.learned)),
            " ".join(f"{value:.3f}" for value in (one.middle, one.discretized_middle, one.learned_middle)),
        ]
        for one in result.bridges
    ]
    caption = (
        "Energy of independent ends, of the bridge, of 65 variances by dini.minimize, of a path learned on samples. "
        "Middle: the variance at time 1/2 of the last three."
    ).replace("65", str(result.settings.nodes))
    columns = ("variances", "indep.", "bridge", "discrete", "learned", "middle")
    return Table("Schrödinger bridges of normal laws: kinetic energy", columns, rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    one = result.transport
    yield Check("velocity: largest error", max(one.velocity_errors), at_most(0.10), 0.056, form=".3f")
    yield Check("score: largest error", max(one.score_errors), at_most(0.18), 0.115, form=".3f")
    distances = dict(zip(one.levels, zip(one.exact, one.learned, strict=True), strict=True))
    for level in (0.0, 0.25, 1.0):
        gap = float(np.mean(distances[level][1]) - np.mean(distances[level][0])) if level in distances else None
        reference = DISTANCES[level] - 0.055
        yield Check(f"noise {level:g}: distance, learned − exact", gap, at_most(0.08), reference, form=".3f")
    last = float(np.mean(distances[4.0][1])) if 4.0 in distances else None
    yield Check("noise 4: distance, learned", last, at_most(0.16), DISTANCES[4.0], form=".3f")
    means = {level: float(np.mean(values)) for level, values in divergences(result).items()}
    for name, top, bottom, bar, paper in (
        ("divergence, noise 0.1 / 0", 0.1, 0.0, at_most(1.05), "< 1"),
        ("divergence, noise 1 / 0.1", 1.0, 0.1, at_least(1.3), "> 1"),
    ):
        ratio = means[top] / means[bottom] if top in means and bottom in means else None
        yield Check(name, ratio, bar, DIVERGENCES[top] / DIVERGENCES[bottom], paper, ".2f")
    worst = lambda values: 100 * max(abs(found / truth - 1) for found, truth in values)
    bridges = result.bridges
    for name, values, bar in (
        ("bridge, discrete: energy, %", [(one.discretized, one.optimum) for one in bridges], 1),
        ("bridge, discrete: middle, %", [(one.discretized_middle, one.middle) for one in bridges], 2),
        ("bridge, learned: energy, %", [(one.learned, one.optimum) for one in bridges], 5),
        ("bridge, learned: middle, %", [(one.learned_middle, one.middle) for one in bridges], 5),
    ):
        yield Check(name, worst(values) if values else None, at_most(bar), form=".3f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    one = result.transport
    gaps = [Estimate.of(ours) for ours in one.learned]
    shown = ", ".join(f"{gap:.3f} (noise {level:g})" for gap, level in zip(gaps, one.levels, strict=True))
    return f"one learned pair of fields: sliced distance {shown}, of {len(one.learned[0])} keys"
