"""What the experiment prints and draws. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, above, at_least, at_most, below, between

from . import plane
from .plane import DAE, RCAE
from .study import Result

#: On the line, by scale: r(0), r(1/2), the score's error; the denoising r(0) and error.
LINE = {
    0.4: (-0.08708, 0.62585, 0.52013, -0.16575, 0.50629),
    0.2: (-0.03241, 0.55793, 0.22496, -0.04416, 0.19614),
    0.1: (-0.00812, 0.51785, 0.07215, -0.00863, 0.05701),
    0.05: (-0.00189, 0.50469, 0.02001, -0.00189, 0.01486),
}
#: In the plane: errors to the smoothed and to the clean score.
PLANE = {
    (DAE, 0.5): (0.035, 0.685),
    (DAE, 0.3): (0.051, 0.432),
    (DAE, 0.1): (0.092, 0.121),
    (DAE, 0.03): (0.140, 0.141),
    (RCAE, 0.5): (0.176, 0.680),
    (RCAE, 0.3): (0.091, 0.448),
    (RCAE, 0.1): (0.087, 0.122),
    (RCAE, 0.03): (0.138, 0.139),
}
#: Distances of chains.
WALKS = {
    ("exact", 0.8): 0.033,
    ("Gauss", 0.8): 0.031,
    ("midpoint", 0.8): 0.225,
    ("trapezoid", 0.8): 0.289,
    ("end point", 0.8): 0.461,
    ("Gauss", 0.3): 0.034,
    ("midpoint", 0.3): 0.056,
    ("trapezoid", 0.3): 0.075,
    ("end point", 0.3): 0.140,
}


def tables(result: Result) -> list[Table]:
    """The line, the plane, chains, digits."""
    return [line_table(result), plane_table(result), walk_table(result), digit_table(result)]


def line_table(result: Result) -> Table:
    """Errors by scale."""
    line, chosen = result.line, result.bandwidth
    rows = [
        [f"{s:g}", f"{r:.5f}", f"{one:.5f}", f"{other:.5f}"]
        for s, r, one, other in zip(line.scales, line.at_zero, line.contractive, line.denoising, strict=True)
    ]
    caption = ""
    if chosen:
        caption = (
            f"The scale by the derivative of score matching: {chosen.scale:.3f}, with an error of {chosen.error:.3f} "
            f"({chosen.start_error:.3f} at the start; the least with any scale {chosen.truth:.3f})."
        )
    title = "On the line: error of the score of the two optima"
    return Table(title, ("s", "r(0), contractive", "contractive", "denoising"), rows, caption)


def plane_table(result: Result) -> Table:
    """Errors of trained scores."""
    rows = [
        [
            f"{one.objective}, s = {one.scale:g}",
            f"{one.smoothed:.3f}",
            one.smoothed.range,
            f"{one.clean:.3f}",
            f"{one.between:.3f}",
        ]
        for one in result.fits
    ]
    rows.append([f"kernel density, s = {result.settings.walk_scale:g}", f"{result.kernel_estimate:.3f}", "", "", ""])
    columns = ("", "to noisy data's", "from, to", "to the data's", "these two")
    caption = f"{result.settings.trainings} trainings of each: mean, 95% interval, least and greatest."
    return Table("In the plane: error of the score", columns, rows, caption)


def walk_table(result: Result) -> Table:
    """Distances of chains."""
    rows = [
        [
            one.rule,
            f"{one.step:g}",
            f"{one.distance:.3f}",
            f"{one.acceptance:.3f}",
            " ".join(f"{share:.3f}" for share in one.shares),
            f"{one.furthest:.1f}",
        ]
        for one in result.walks
    ]
    numbers = " ".join(f"{share:.3f}" for share in result.shares)
    caption = f"Two samples of the law are {result.floor:.3f} apart; its shares are {numbers}."
    columns = ("rule", "step", "distance", "accepted", "nearest means", "furthest")
    return Table("Metropolis chains: sliced W2 to the noisy data", columns, rows, caption)


def digit_table(result: Result) -> Table:
    """Figures of the digits."""
    one = result.digits
    rows = [
        ["accepted", f"{one.acceptance:.2f}"],
        ["covariance, relative error", f"{one.covariance:.3f}"],
        ["the same, independent samples", f"{one.floor:.3f}"],
        ["ratio of traces", f"{one.trace:.3f}"],
        ["mean, error a coordinate", f"{one.mean:.3f}"],
        ["least share of a class", f"{min(one.classes):.1%}"],
        ["furthest coordinate", f"{one.furthest:.2f}"],
        ["asymmetry of the Jacobian", f"{one.asymmetry:.3f}"],
    ]
    return Table(f"Digits in 16 components: {one.chains} chains", ("", ""), rows)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    line = result.line
    at = {s: i for i, s in enumerate(line.scales)}
    ours = {
        s: (line.at_zero[i], line.at_half[i], line.contractive[i], line.denoising_at_zero[i], line.denoising[i])
        for s, i in at.items()
    }
    gaps = [abs(a - b) for s, known in LINE.items() if s in ours for a, b in zip(ours[s], known, strict=True)]
    yield Check("line: greatest gap to the references", max(gaps), at_most(1.5e-5), form=".1e")
    ratio = line.contractive[at[0.1]] / line.contractive[at[0.05]] if {0.1, 0.05} <= at.keys() else None
    yield Check("line: contractive error, s / half of it", ratio, reference=3.61, paper="4, as s → 0", form=".2f")
    chosen = result.bandwidth
    gap = abs(chosen.slope / chosen.difference - 1) if chosen else None
    yield Check("scale's derivative against differences", gap, at_most(1e-6), form=".1e")
    yield Check("chosen scale: error / least error", chosen.error / chosen.truth if chosen else None, form=".2f")
    fits = {(one.objective, one.scale): one for one in result.fits}

    def error(objective: str, s: float, kind: str) -> Estimate | None:
        return getattr(fits[objective, s], kind) if (objective, s) in fits else None

    bars = (
        (DAE, 0.5, "smoothed", None),
        (DAE, 0.3, "smoothed", at_most(0.06)),
        (DAE, 0.1, "smoothed", at_most(0.12)),
        (RCAE, 0.1, "clean", at_most(0.15)),
        (RCAE, 0.5, "smoothed", above(0.12)),
    )
    for objective, s, kind, bar in bars:
        reference = PLANE[objective, s][kind == "clean"]
        words = "noisy data's" if kind == "smoothed" else "data's"
        found = error(objective, s, kind)
        ours, shown = (None, "") if found is None else (found.mean, f"{found:.3f}")
        yield Check(f"{objective}, s = {s:g}: to the {words} score", ours, bar, reference, form=".3f", shown=shown)
    best = error(DAE, 0.3, "smoothed") if result.settings.walk_scale == 0.3 else None
    gain = None if best is None else result.kernel_estimate - best.mean
    yield Check("kernel density − denoising, s = 0.3", gain, above(0), 0.16, form=".3f")
    yield from walk_checks(result)
    yield from digit_checks(result)


def walk_checks(result: Result) -> Iterator[Check]:
    """The bars of chains in the plane."""
    walks = {(one.rule, one.step): one for one in result.walks}
    for at, reference in WALKS.items():
        if at[0] == "exact":
            continue
        ours = walks[at].distance if at in walks else None
        yield Check(
            f"{at[0]}, step {at[1]:g}: distance",
            ours,
            at_most(0.09) if at[0] == "Gauss" else None,
            reference,
            form=".3f",
        )
    ends = [walks.get((rule, 0.8)) for rule in ("end point", "Gauss", "exact")]
    end, gauss, exact = ends
    ratio = None if end is None or gauss is None else end.distance / gauss.distance
    yield Check("step 0.8: end point / Gauss", ratio, at_least(3), 14.9, form=".1f")
    gap = None if gauss is None or exact is None else abs(gauss.acceptance - exact.acceptance)
    yield Check("step 0.8: acceptance, Gauss − exact", gap, at_most(0.02), 0.001, form=".4f")
    for size in (0.8, 0.3):
        one = walks.get(("Gauss", size))
        gap = None if one is None else float(np.max(np.abs(np.subtract(one.shares, result.shares))))
        yield Check(f"step {size:g}: shares, Gauss − exact", gap, at_most(0.03), form=".3f")


def digit_checks(result: Result) -> Iterator[Check]:
    """The bars of digits."""
    one = result.digits
    yield Check("digits: covariance error", one.covariance, at_most(0.2), 0.154, form=".3f")
    yield Check("digits: ratio of traces", one.trace, between(0.9, 1.1), 0.95, form=".3f")
    yield Check("digits: least share of a class", min(one.classes), at_least(0.04), form=".3f")
    yield Check("digits: furthest coordinate", one.furthest, below(10), 4.9, form=".1f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    walk = next((one for one in result.walks if one.rule == "Gauss"), result.walks[-1])
    exact = next(one for one in result.walks if one.rule == "exact" and one.step == walk.step)
    return (
        f"chains by the score alone ({walk.rule}) end {walk.distance:.3f} from the law, "
        f"by the density itself {exact.distance:.3f}"
    )


def draw(result: Result) -> Figure:
    """Errors by scale, chains, digits."""
    figure = pictures.canvas("What a reconstruction knows of the density", height=9)
    above_, below_ = figure.subfigures(2, 1)
    errors, fits, digits = above_.subplots(1, 3)
    line = result.line
    errors.loglog(line.scales, line.contractive, "o-", color=pictures.RIVAL, label=RCAE)
    errors.loglog(line.scales, line.denoising, "o-", color=pictures.METHOD, label=DAE)
    errors.set_xlabel("scale of the noise")
    errors.set_title("a line: relative error of the score\nof the exact optima")
    errors.legend()
    for objective, color in ((DAE, pictures.METHOD), (RCAE, pictures.RIVAL)):
        mine = [one for one in result.fits if one.objective == objective]
        scales = [one.scale for one in mine]
        for kind, style, words in (("smoothed", "o-", "noisy data's"), ("clean", "o--", "the data's")):
            found = [getattr(one, kind) for one in mine]
            fits.plot(scales, [one.mean for one in found], style, color=color, label=f"{objective}, to {words}")
        least, most = (
            zip(*((min(one.smoothed.values), max(one.smoothed.values)) for one in mine), strict=True)
            if mine
            else ((), ())
        )
        fits.vlines(scales, least, most, color=color)
    fits.axhline(result.kernel_estimate, color=pictures.QUIET, ls=":", label="kernel density")
    fits.set_xlabel("scale of the noise")
    fits.set_title("the plane: relative error of trained scores")
    fits.legend(fontsize=9)
    digits.imshow(pictures.mosaic(result.digits.shown, 10, low=0, high=1))
    pictures.bare(digits)
    digits.set_title("ends of chains in 16 components,\nand their reconstructions")
    size = result.walks[0].step
    shown = [one for one in result.walks if one.step == size][:4]
    x, y = np.meshgrid(np.linspace(-3, 3.5, 100), np.linspace(-4, 3.5, 100))
    law = plane.mixture().diffused(1.0, result.settings.walk_scale)
    density = np.exp(np.asarray(law.log_prob(np.stack([x, y], axis=-1).astype(np.float32))))
    for axes, one in zip(below_.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        axes.contour(x, y, density, levels=6, colors=pictures.PALE, linewidths=1)
        color = pictures.INK if one.rule == "exact" else pictures.METHOD if one.rule == "Gauss" else pictures.ALARM
        axes.plot(*one.points.T, ".", color=color, ms=3, alpha=0.5)
        axes.set_title(f"{one.rule}: {one.distance:.3f} from the law")
        axes.set_xlim(-3, 3.5)
        axes.set_ylim(-4, 3.5)
    return figure
