"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dini_zoo.kit.seeds import Estimate, Paired
from dini_zoo.kit.tables import Check, Table, above, at_least, at_most

from .stage_one import BEFORE, CONTROL, REBUILT, REFIT, Tokenized
from .stage_two import BOTTOM, DIFFUSION, MASKS, RASTER, RIGHT, TOP
from .study import Result

#: By mask: accuracy and error of both models, of the prototype and of a second run with other code.
COMPLETIONS = {
    (BOTTOM, DIFFUSION): (".613 / .638", ".0553 / .0542"),
    (BOTTOM, RASTER): (".475 / .490", ".0651 / .0677"),
    (RIGHT, DIFFUSION): (".566 / .539", ".0535 / .0571"),
    (RIGHT, RASTER): (".515 / .599", ".0610 / .0541"),
    (TOP, DIFFUSION): (".465 / .503", ".0683 / .0638"),
    (TOP, RASTER): (".636 / .668", ".0498 / .0488"),
}


def tables(result: Result) -> Sequence[Table]:
    """Codebooks, completions, k-means."""
    settings = result.settings
    found = [codebook_table(f"A codebook of {settings.codes}", result.small, settings.seeds)]
    if result.large:
        found.append(codebook_table(f"A codebook of {settings.large_codes}", result.large, settings.large_seeds))
    return [*found, completion_table(result), likelihood_table(result), kmeans_table(result)]


def codebook_table(title: str, tokenized: list[Tokenized], seeds: tuple[int, ...]) -> Table:
    """Usage, perplexity and error along the way."""
    rows = []
    for name in (BEFORE, REBUILT, REFIT, CONTROL):
        states = [one.states[name] for one in tokenized]
        figures = [[getattr(state, key) for state in states] for key in ("usage", "perplexity", "error")]
        rows.append(
            [name, *(f"{Estimate.of(v):{form}}" for v, form in zip(figures, (".3f", ".1f", ".5f"), strict=True))]
        )
    usage = ", ".join(f"{one.states[BEFORE].usage:.3f}" for one in tokenized)
    caption = f"Usage before, by seed ({', '.join(map(str, seeds))}): {usage}. Control: trained on without re-building."
    return Table(title, ("", "usage", "perplexity", "test error"), rows, caption)


def completion_table(result: Result) -> Table:
    """Accuracy and error by what is known."""
    rows: list[list[str] | None] = []
    for place in MASKS:
        for name in (DIFFUSION, RASTER):
            own = [one.completions[place][name] for one in result.completed]
            accuracy, error = Estimate.of(c.accuracy for c in own), Estimate.of(c.error for c in own)
            rows.append([f"{place} known, {name}", f"{accuracy:.3f}", f"{error:.4f}"])
        rows.append(None)
    judged = Estimate.of(one.judged for one in result.completed)
    kept = all(one.kept for one in result.completed)
    caption = (
        f"Reconstructions from all codes: {judged:.3f}. Known codes came back as they were: {'yes' if kept else 'NO'}. "
        f"{len(result.completed)} seeds, means of {result.settings.draws} draws."
    )
    return Table("Completion: the judge's accuracy", ("", "accuracy", "squared error"), rows[:-1], caption)


def likelihood_table(result: Result) -> Table:
    """Bits a code of the test images."""
    rows = [
        ["diffusion, a bound", f"{Estimate.of(one.bits[DIFFUSION] for one in result.completed):.3f}"],
        ["autoregressive", f"{Estimate.of(one.bits[RASTER] for one in result.completed):.3f}"],
    ]
    return Table("Bits a code, test images", ("", "bits"), rows)


def kmeans_table(result: Result) -> Table:
    """dini's fixed point beside scikit-learn's."""
    rows = [
        [
            str(seed),
            f"{one.steps} / {one.their_steps}",
            f"{one.centers:.1e}",
            f"{abs(one.inertia - 1):.1e}",
            f"{one.implicit:.1e}",
            f"{one.one_step:.1e}",
            f"{one.seconds:.2f} / {one.their_seconds:.2f}",
        ]
        for seed, one in zip(result.settings.seeds, result.comparisons, strict=True)
    ]
    caption = "Ours / scikit-learn's, from the same start. Derivative: relative error against differences."
    columns = ("seed", "steps", "centers", "inertia", "implicit", "one step", "seconds")
    return Table("k-means as a fixed point", columns, rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification, for the worst seed."""
    yield from codebook_checks(result)
    gains = {place: gain(result, place) for place in MASKS}
    worse = {place: error_gain(result, place) for place in MASKS}
    at = lambda place: (gains[place], worse[place])
    more, less = at(BOTTOM)
    yield Check(
        "bottom known: accuracy, diffusion − AR",
        more.mean,
        at_least(0.08),
        ".138 / .148",
        form=".3f",
        shown=f"{more:.3f}",
    )
    yield Check(
        "bottom known: error, AR − diffusion", less.mean, above(0), ".0098 / .0135", form=".4f", shown=f"{less:.4f}"
    )
    more, less = at(RIGHT)
    yield Check(
        "right known: accuracy, diffusion − AR", more.mean, None, ".051 / −.060", form=".3f", shown=f"{more:.3f}"
    )
    yield Check(
        "right known: error, AR − diffusion", less.mean, None, ".0075 / −.0030", form=".4f", shown=f"{less:.4f}"
    )
    more, less = at(TOP)
    yield Check(
        "top known: accuracy, diffusion − AR", more.mean, at_most(0), "−.171 / −.165", form=".3f", shown=f"{more:.3f}"
    )
    yield Check("top known: error, AR − diffusion", less.mean, None, "−.0185 / −.0150", form=".4f", shown=f"{less:.4f}")
    yield Check(
        "k-means: centers, ours − scikit-learn's",
        max(one.centers for one in result.comparisons),
        at_most(1e-6),
        form=".1e",
    )
    yield Check(
        "k-means: derivative, implicit", max(one.implicit for one in result.comparisons), at_most(1e-5), form=".1e"
    )


def codebook_checks(result: Result) -> Iterator[Check]:
    """Bars of the first stage: of the worst seed."""
    small = [one.states for one in result.small]
    yield Check(
        "usage before, most", max(s[BEFORE].usage for s in small), at_most(0.85), ".672 / .297", "31.85%", form=".3f"
    )
    yield Check(
        "usage re-built, least", min(s[REBUILT].usage for s in small), at_least(0.95), "1.000", "97.07%", form=".3f"
    )
    ratio = min(s[REFIT].perplexity / s[BEFORE].perplexity for s in small)
    yield Check("perplexity, ReFiT / before, least", ratio, at_least(1.4), "1.87 / 4.6", form=".2f")
    ratio = max(s[REFIT].error / s[BEFORE].error for s in small)
    yield Check("error, ReFiT / before, most", ratio, at_most(0.8), ".71 / .58", form=".2f")
    ratio = max(s[REFIT].error / s[CONTROL].error for s in small)
    yield Check("error, ReFiT / control, most", ratio, at_most(0.95), ".88 / .66", form=".2f")
    ratio = max(s[REBUILT].error / s[BEFORE].error for s in small)
    yield Check("error, re-built / before, most", ratio, None, ".84 / 1.35", form=".2f")
    large = [one.states for one in result.large]
    yield Check(
        "large: usage before, most",
        max((s[BEFORE].usage for s in large), default=None),
        at_most(0.5),
        0.141,
        form=".3f",
    )
    yield Check(
        "large: usage re-built, least",
        min((s[REBUILT].usage for s in large), default=None),
        at_least(0.95),
        0.996,
        form=".3f",
    )
    ratio = max((s[REFIT].error / s[CONTROL].error for s in large), default=None)
    yield Check("large: error, ReFiT / control, most", ratio, at_most(0.75), 0.51, form=".2f")


def gain(result: Result, place: str) -> Estimate:
    """How much more often the judge is right with the diffusion, seed by seed."""
    ours, theirs = ([one.completions[place][name].accuracy for one in result.completed] for name in (DIFFUSION, RASTER))
    return Paired.of(ours, theirs).difference


def error_gain(result: Result, place: str) -> Estimate:
    """How much greater the autoregressive model's error is, seed by seed."""
    ours, theirs = ([one.completions[place][name].error for one in result.completed] for name in (DIFFUSION, RASTER))
    return Paired.of(theirs, ours).difference


def headline(result: Result) -> str:
    """The codebook's figure, whose interval shows a gain, and the completions', with the bar that it has."""
    error = lambda name: f"{Estimate.of(one.states[name].error for one in result.small):.4f}"
    ahead = gain(result, BOTTOM)
    points = f"{100 * ahead.mean:+.1f}" + (f" ± {100 * ahead.width:.1f}" if len(ahead.values) > 1 else "")
    return (
        f"test error {error(REFIT)} with the codebook re-built, {error(CONTROL)} without; a lower half completed: "
        f"{points} points to raster order (bar 8; seeds: {len(result.completed)})"
    )
