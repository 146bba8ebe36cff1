"""What the experiment prints.

The references were computed for the specification, with other code. They are the only figures here that are not
measured.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.seeds import Estimate, Paired
from dini_zoo.kit.tables import Bar, Check, Table, at_most, below, between, near_reference

from .study import COSINE, CUBIC, FLAT, INVERSE, LEARNED, LINEAR, REFINED, ROOT, SGD, STEPS, Result, Study
from .sweeps import Swept

#: A thousand times the excess on the noisy digits, of two implementations.
DIGITS: dict[str, dict[str, tuple[float, ...]]] = {
    SGD: {
        COSINE: (21.1, 20.7),
        LINEAR: (21.8, 21.8),
        REFINED: (22.4, 22.0),
        CUBIC: (22.7, 20.8),
        STEPS: (30.7, 32.7),
        ROOT: (34.2, 34.2),
        FLAT: (46.0, 48.8),
        INVERSE: (192,),
    },
    "Adam": {
        COSINE: (26.6, 28.1),
        LINEAR: (27.7, 29.6),
        REFINED: (28.1, 29.9),
        CUBIC: (28.2, 27.7),
        STEPS: (36.3, 36.8),
        ROOT: (39.7, 41.5),
        FLAT: (49.6, 53.8),
        INVERSE: (207,),
    },
}

#: The excess of the regression.
NOISES: dict[str, dict[str, float]] = {
    "early": {LINEAR: 0.319, COSINE: 0.345, FLAT: 0.128, REFINED: 0.0020},
    "late": {LINEAR: 0.143, COSINE: 0.106, FLAT: 0.27, REFINED: 0.0019},
    "decay": {LINEAR: 0.117, FLAT: 0.0019, REFINED: 0.0017},
}

#: The worst shares of the bound: linear decay, constant steps.
WORST = {10: (0.56, 0.84), 100: (0.38, 0.87), 1000: (0.27, 0.61)}


def tables(result: Result) -> list[Table]:
    """Schedules on the digits, where the noise changes, and beside the bound."""
    fresh = [fresh_table(result)] if result.fresh else []
    return [digits_table(result), *fresh, noise_table(result), shape_table(result), bound_table(result)]


def _cell(swept: Swept, scale: float, form: str) -> str:
    mark = "" if swept.inside else "*"
    return f"{Estimate.of(swept.excess[swept.best], scale=scale):{form}}{mark}"


_EDGE = "At the best of {} learning rates, powers of two; *: at the first or the last of them. "


def digits_table(result: Result) -> Table:
    """The last iterates on the digits."""
    settings, studies = result.settings, result.digits
    names = sorted(DIGITS[SGD], key=lambda name: studies[SGD].swept[name].least)
    rows = []
    for name in names:
        cells = [name]
        for optimizer, study in studies.items():
            known = ", ".join(f"{one:g}" for one in DIGITS[optimizer][name])
            cells += [_cell(study.swept[name], 1e3, ".1f"), known]
        rows.append(cells)
    count = settings.rates[1] - settings.rates[0] + 1
    return Table(
        f"Softmax regression of digits, {settings.noisy:.0%} of the labels redrawn:\n"
        "1000 × (last training loss - least)",
        ("schedule", *(text for optimizer in studies for text in (optimizer, "reference"))),
        rows,
        _EDGE.format(count) + f"{settings.steps} steps with {settings.batch} images each; "
        f"{len(settings.seeds)} seeds, intervals of 95 percent. References: of two implementations.",
    )


def fresh_table(result: Result) -> Table:
    """The last iterates on other batches."""
    settings = result.settings
    rows = [
        [
            name,
            f"{Estimate.of(excess, scale=1e3):.1f}",
            "" if name == LINEAR else f"{Paired.of(excess, result.fresh[LINEAR], scale=1e3):.1f}",
        ]
        for name, excess in result.fresh.items()
    ]
    return Table(
        "SGD on other batches of the digits:\n1000 × (last training loss - least)",
        ("schedule", "excess", "minus linear"),
        rows,
        f"{len(settings.fresh_seeds)} seeds, with what the runs above chose. Learned: linear decay changed by "
        f"{settings.knots} numbers, which {settings.hypergradients} hypergradients through all steps of those runs "
        "found: so much, at least, a schedule can gain here.",
    )


def noise_table(result: Result) -> Table:
    """The last iterates where the noise changes."""
    settings = result.settings
    rows = [
        [name, *(_cell(study.swept[name], 1.0, ".4f") for study in result.noises.values())]
        for name in (REFINED, FLAT, COSINE, LINEAR)
    ]
    count = settings.noise_rates[1] - settings.noise_rates[0] + 1
    return Table(
        "Absolute values with noise that changes: last value - least",
        ("schedule", *(f"noise: {noise}" for noise in result.noises)),
        rows,
        _EDGE.format(count) + f"{settings.noise_steps} steps, {len(settings.noise_seeds)} seeds. Early: much noise in "
        "the first 40 percent of the run; late: in the last 40; decay: it falls exponentially.",
    )


def shape_table(result: Result) -> Table:
    """What refined schedules look like."""
    studies = {f"digits, {name}": study for name, study in result.digits.items()}
    studies |= {f"noise: {name}": study for name, study in result.noises.items()}
    rows = []
    for name, study in studies.items():
        values, fit = study.swept[REFINED].values, study.fit
        row = (f"{study.peak:.1%}", f"{values[0]:.2f}", f"{fit.warmup:.0%}", f"{fit.power:.2f}", f"{fit.error:.2f}")
        rows.append([name, *row])
    return Table(
        "Refined schedules",
        ("task", "greatest after", "starts at", "warm-up", "power", "error"),
        rows,
        "Warm-up, power: the linear rise and the fall as (1 - t/T)^power that are nearest; error: their distance, root "
        "mean square.",
    )


def bound_table(result: Result) -> Table:
    """Last iterates beside the bound of the theorem."""
    rows = [
        [
            str(gap.steps),
            f"{gap.linear.max():.3f}",
            f"{gap.constant.max():.3f}",
            f"{np.mean(gap.linear):.3f}",
            f"{np.mean(gap.constant):.3f}",
        ]
        for gap in result.gaps
    ]
    return Table(
        f"Maxima of planes, {result.settings.functions} of them: last value - least, as a share of DG/√T",
        ("steps", "worst, linear", "worst, constant", "mean, linear", "mean, constant"),
        rows,
        "For linear decay the theorem says at most 1. Both with the same greatest step, D / (G √T).",
    )


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    settings = result.settings
    full = settings.noisy == 0.3
    yield near_reference("digits: least loss", result.optimum if full else None, 1.1840968765, 1e-8, ".9f")
    for optimizer in DIGITS:
        yield from _ranking(optimizer, result.digits.get(optimizer))
    for name in (REFINED, LEARNED):
        pair = [result.fresh.get(one) for one in (name, LINEAR)]
        ratio = None if pair[0] is None else float(np.mean(pair[0]) / np.mean(pair[1]))
        yield Check(f"SGD, other batches: {name} / {LINEAR}", ratio, form=".2f")
    yield near_reference(
        "regression: least value", result.least if settings.points == (200, 20) else None, 0.6945627514, 1e-9, ".10f"
    )
    for noise, study in result.noises.items():
        references = NOISES[noise]
        for other, bound in ((LINEAR, 0.05), (FLAT, 1.3 if noise == "decay" else 0.05)):
            reference = references[REFINED] / references[other]
            ratio = study.over(REFINED, other)
            yield Check(f"noise, {noise}: refined / {other}", ratio, at_most(bound), reference, form=".2g")
    edges = [
        swept.inside for study in (*result.digits.values(), *result.noises.values()) for swept in study.swept.values()
    ]
    yield Check("best rates at an end of their grid", edges.count(False), at_most(0), 0, form="d")
    found = {gap.steps: gap for gap in result.gaps}
    for steps, (linear, constant) in WORST.items():
        gap = found.get(steps)
        worst = None if gap is None else float(gap.linear.max())
        yield Check(f"planes, T = {steps}: worst share, linear", worst, at_most(1), linear, "≤ 1")
        ratio = None if gap is None else float(gap.linear.max() / gap.constant.max())
        bar = None if steps == 10 else at_most(0.75)
        yield Check(f"planes, T = {steps}: worst, linear / constant", ratio, bar, linear / constant, form=".2f")


def _ranking(optimizer: str, study: Study | None) -> Iterator[Check]:
    """The bars on the digits."""
    known = {name: np.mean(figures) for name, figures in DIGITS[optimizer].items()}
    bars: list[tuple[str, str, Bar, str]] = [
        (LINEAR, STEPS, at_most(0.85), "≤ 1"),
        (LINEAR, ROOT, at_most(0.8), "< 1"),
        (LINEAR, FLAT, at_most(0.65), "< 1"),
        (LINEAR, INVERSE, at_most(0.2), "< 1"),
        (LINEAR, COSINE, between(0.9, 1.1), "≤ 1"),
        (REFINED, LINEAR, between(0.9, 1.1), "≤ 1"),
    ]
    for one, other, bar, paper in bars:
        reference = float(known[one] / known[other])
        ratio = None if study is None else study.over(one, other)
        yield Check(f"{optimizer}: {one} / {other}", ratio, bar, reference, paper, form=".2f")
    peak, first = (None, None) if study is None else (study.peak, float(study.swept[REFINED].values[0]))
    yield Check(f"{optimizer}: refined, greatest after", peak, between(0.03, 0.2), 0.05, form=".3f")
    yield Check(f"{optimizer}: refined, starts at", first, below(0.8), form=".2f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    swept = result.noises["early"].swept
    ours, theirs = (Estimate.of(swept[name].excess[swept[name].best]) for name in (REFINED, LINEAR))
    text = f"excess where noise fades: {ours:.4f} by the refined schedule, {theirs:.4f} by linear decay"
    if result.fresh:
        apart = Paired.of(result.fresh[REFINED], result.fresh[LINEAR], scale=1e3)
        text += f"; on fresh digits 1000 (refined - linear) is {apart:.1f}"
    return text
