"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, at_least, at_most, below

from .study import Result

#: Errors of standard deviations on normal data, by predictor, steps and whether there is a corrector.
NORMAL = {
    ("reverse diffusion", 50, False): 0.03721,
    ("reverse diffusion", 100, False): 0.01787,
    ("reverse diffusion", 200, False): 0.00876,
    ("reverse diffusion", 50, True): 0.00768,
    ("reverse diffusion", 100, True): 0.00635,
    ("ancestral", 50, False): 0.03334,
    ("ancestral", 100, False): 0.01704,
    ("ancestral", 200, False): 0.00865,
    ("ancestral", 50, True): 0.00340,
    ("ancestral", 100, True): 0.00602,
    ("Euler", 50, False): 0.00618,
    ("Euler", 100, False): 0.00284,
    ("Euler", 200, False): 0.00139,
    ("Euler", 50, True): 0.00561,
    ("Euler", 100, True): 0.00633,
}
#: Means of the unknown coordinate, by corrector steps.
KNOWN = {0: -0.166, 1: -0.564, 4: -0.606}


def tables(result: Result) -> list[Table]:
    """Likelihoods, samplers, a known coordinate, digits."""
    return [likelihood_table(result), sampler_table(result), known_table(result), *digit_tables(result)]


def likelihood_table(result: Result) -> Table:
    """Of the mixture's points."""
    rows = [
        [one.process, f"{one.exact:.4f}", f"{one.flow:.4f}", f"{one.error:.4f}", f"{one.hutchinson:.4f}"]
        for one in result.likelihoods
    ]
    caption = f"{result.settings.points} points. Error: the mean absolute one of a point. Estimated: 20 random vectors."
    columns = ("process", "exact", "flow", "error", "estimated")
    return Table("Mean log density of a mixture, by the probability flow", columns, rows, caption)


def sampler_table(result: Result) -> Table:
    """The error of the standard deviation on normal data."""
    rows = [
        [
            one.predictor,
            str(one.steps),
            "1" if one.corrected else "",
            f"{one.expected:.5f}",
            f"{one.sampled:.5f}",
            f"{one.deviations:.1f}",
        ]
        for one in result.samplers
    ]
    columns = ("predictor", "steps", "corrector", "by recursion", "by samples", "s.e. apart")
    return Table("Normal data, VE: error of the standard deviation", columns, rows)


def known_table(result: Result) -> Table:
    """The coordinate that is not known."""
    one = result.conditioned
    rows = [["exact", f"{one.mean:.3f}", f"{one.std:.3f}"]]
    rows += [
        [f"{number} corrector steps", f"{mean:.3f}", f"{std:.3f}"]
        for number, mean, std in zip(one.correctors, one.means, one.stds, strict=True)
    ]
    return Table("A mixture with one coordinate known: the other one", ("", "mean", "std"), rows)


def digit_tables(result: Result) -> list[Table]:
    """Bits, classes, halves."""
    bits = result.bits
    rows = [
        [name, f"{result.losses[name]:.4f}", f"{value:.3f} ± {1.96 * bits.errors[name]:.3f}"]
        for name, value in bits.flows.items()
    ]
    rows.append(["normal law", "", f"{bits.gaussian:.3f}"])
    classes, filled = result.classes, result.filled
    agreed = [
        [f"scale {scale:g}", f"{agreement:.1%}"]
        for scale, agreement in zip(classes.scales, classes.agreements, strict=True)
    ]
    halves = [["the images themselves", f"{filled.whole:.1%}"], ["mean image's half", f"{filled.mean_image:.1%}"]]
    halves.append(["unconditional sample's half", f"{filled.unconditional:.1%}"])
    halves += [
        [f"filled in, {number} corrector steps", f"{Estimate.of(values):.1%}"]
        for number, values in zip(filled.correctors, filled.accuracies, strict=True)
    ]
    return [
        Table("Digits: bits a pixel of the test images", ("", "training loss", "bits"), rows),
        Table("Digits of a class asked for: the judge agrees", ("classifier", "share"), agreed),
        Table("Digits with the upper half known: the judge is right", ("lower half", "share"), halves),
    ]


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    mixture = {one.process: one for one in result.likelihoods}
    for name in ("VP", "sub-VP"):
        error = mixture[name].error if name in mixture else None
        yield Check(f"{name}: error of log p", error, below(0.004), 0.0024, form=".4f")
    yield Check("VE: error of log p", mixture["VE"].error if "VE" in mixture else None, reference=0.036, form=".4f")
    worst = max((abs(one.hutchinson - one.flow) for one in result.likelihoods), default=None)
    yield Check("estimated − exact divergence", worst, at_most(0.03), form=".4f")
    normal = {(one.predictor, one.steps, one.corrected): one for one in result.samplers}
    measured = [abs(abs(normal[at].expected) - error) for at, error in NORMAL.items() if at in normal]
    yield Check("recursions − reference", max(measured) if measured else None, at_most(3e-5), form=".1e")
    worst = max(one.deviations for one in result.samplers)
    yield Check("samplers: s.e. from the recursion", worst, at_most(4), form=".1f")
    for name in ("reverse diffusion", "ancestral", "Euler"):
        ours = [normal.get((name, 50, True)), normal.get((name, 100, False))]
        ratio = None if None in ours else abs(ours[0].sampled / ours[1].sampled)
        reference = NORMAL[name, 50, True] / NORMAL[name, 100, False]
        bar = None if name == "Euler" else below(1)
        yield Check(f"{name}: error, PC50 / P100", ratio, bar, reference, "< 1", form=".2f")
    alone = [one.expected for one in result.samplers if one.predictor == "corrector alone" and one.steps == 50]
    yield Check("corrector alone, 50: error", alone[0] if alone else None, reference=8.55, paper="fails", form=".2f")
    known = dict(zip(result.conditioned.correctors, result.conditioned.means, strict=True))
    exact = result.conditioned.mean
    for number, bar in ((0, at_least(0.3)), (1, None), (4, at_most(0.06))):
        gap = abs(known[number] - exact) if number in known else None
        reference = abs(KNOWN[number] + 0.6103)
        yield Check(f"known coordinate, {number} correctors: bias", gap, bar, reference, form=".3f")
    yield from digit_checks(result)


def digit_checks(result: Result) -> Iterator[Check]:
    """The bars for digits."""
    bits = result.bits
    for name, reference, paper in (("VP", 2.326, 3.16), ("sub-VP", 2.303, 3.02)):
        yield Check(f"{name}: bits a pixel", bits.flows.get(name), at_most(2.45), reference, f"{paper} (CIFAR)", ".3f")
    order = bits.flows["sub-VP"] - bits.flows["VP"] if len(bits.flows) == 2 else None
    yield Check("sub-VP − VP, bits", order, at_most(0.02), -0.02, "−0.14 (CIFAR)", ".3f")
    gain = bits.gaussian - max(bits.flows.values())
    yield Check("normal law − ours, bits", gain, at_least(0.4), 0.61, form=".3f")
    agreements = dict(zip(result.classes.scales, result.classes.agreements, strict=True))
    for scale, bar, reference in ((0.0, None, 0.10), (1.0, at_least(0.8), 0.86), (2.0, at_least(0.93), 0.97)):
        yield Check(f"class, scale {scale:g}: agreement", agreements.get(scale), bar, reference, form=".3f")
    ordered = np.diff([agreements[scale] for scale in sorted(agreements)])
    rises = float(np.min(ordered)) if len(ordered) else None
    yield Check("class: least rise with the scale", rises, at_least(0), form=".3f")
    filled = result.filled
    means = {n: float(np.mean(values)) for n, values in zip(filled.correctors, filled.accuracies, strict=True)}
    yield Check("halves, 0 correctors: accuracy", means.get(0), reference=0.64, form=".3f")
    yield Check("halves, 1 corrector: accuracy", means.get(1), at_least(0.6), 0.66, form=".3f")
    gain = means[1] - filled.mean_image if 1 in means else None
    yield Check("halves, 1 corrector − mean image", gain, at_least(0), 0.1, form=".3f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    bits = result.bits
    texts = [f"{value:.2f} ± {1.96 * bits.errors[name]:.2f} ({name})" for name, value in bits.flows.items()]
    return f"digits: {' and '.join(texts)} bits a pixel, a normal law {bits.gaussian:.2f}"
