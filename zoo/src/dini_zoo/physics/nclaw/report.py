"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.tables import Check, Table, at_least, at_most, below, spread, worst

from .study import FIFTH, FREE, HALF, INVARIANT, NOISE, PLAIN, YOUNG, Errors, Identified, Laws, Plasticine, Result

#: Errors of the specification: the seen motion, two unseen ones.
REFERENCES = {
    INVARIANT: ("3.1e-5 / 1.0e-5", "1.1e-3 / 5.4e-4", "1.4e-3 / 5.3e-4"),
    PLAIN: ("1.1e-4", "5.5e-3", "8.6e-3"),
    FREE: ("1.17e-2", "6.38e-2", "1.23e-1"),
    HALF: ("2.5e-3", "5.8e-3", "1.9e-2"),
    FIFTH: ("3.5e-4", "5.3e-4", "3.1e-3 to 3.4e-3"),
}


def tables(result: Result) -> list[Table]:
    """Errors of rollouts, the training, moduli."""
    return [
        *([error_table(result, result.laws)] if result.laws else []),
        *([training_table(result)] if result.laws or result.plasticine else []),
        *([modulus_table(result.identified)] if result.identified else []),
    ]


def errors_of(laws: Laws, name: str) -> list[Errors]:
    """Of each seed, or the only one."""
    if name in laws.trained:
        return laws.trained[name]
    return [laws.known[name]] if name in laws.known else []


def error_table(result: Result, laws: Laws) -> Table:
    """The mean square error of positions, for each law and motion."""
    steps = result.settings.steps
    rows = []
    for name, several in (
        *((name, errors_of(laws, name)) for name in (INVARIANT, PLAIN, FIFTH, HALF, FREE)),
        ("untrained network", laws.untrained),
    ):
        if not several:
            continue
        columns = zip(*([one.seen, *one.unseen] for one in several), strict=True)
        rows.append([name, *(spread(values, ".1e") for values in columns)])
    caption = (
        f"Over {steps} steps of the motion trained with, {2 * steps} of the others; the network's seeds "
        f"{result.settings.seeds} from the least to the greatest. In the references, particles were "
        f"{laws.clamped} times beyond the last nodes of an upper face."
    )
    return Table("Mean square error of positions", ("law", "seen", "unseen 1", "unseen 2"), rows, caption)


def training_table(result: Result) -> Table:
    """Losses at the start and at the end."""
    rows = []
    if result.laws:
        for name, losses in result.laws.losses.items():
            rows.append([f"jelly, {name}", spread(losses[:, 0]), spread(losses[:, -1])])
    if result.plasticine:
        losses = result.plasticine.losses
        rows.append(["plasticine, invariant network", spread(losses[:, 0]), spread(losses[:, -1])])
    caption = "The jelly's segments are longer at the end than at the start, which makes the loss greater."
    return Table("Loss at the first and at the last epoch", ("", "first", "last"), rows, caption)


def modulus_table(identified: Identified) -> Table:
    """What each method found."""
    rows = [
        [
            one.name,
            f"{one.simulations}",
            f"{abs(one.E / YOUNG - 1):.1e}",
            f"{one.nu:.4f}",
            f"{one.loss:.1e}",
        ]
        for one in identified.found
    ]
    dini, closed = identified.spread
    caption = (
        "A simulation counts once, with its derivative or without. Positions with independent errors of "
        f"{NOISE:g} determine E to {dini:.2e} by dini's implicit derivative, {closed:.2e} in closed form."
    )
    return Table("Moduli from one motion", ("method", "simulations", "error of E", "ν", "loss"), rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification, of the worst seed."""
    yield from law_checks(result.laws)
    yield from other_checks(result.plasticine, result.identified)


def law_checks(laws: Laws | None) -> Iterator[Check]:
    """Bars on errors of rollouts."""
    of = lambda name, i: [(one.seen, *one.unseen)[i] for one in errors_of(laws, name)] if laws else []

    form = ".2e"
    yield worst("seen motion: error", of(INVARIANT, 0), at_most(1e-4), REFERENCES[INVARIANT][0], form=form)
    for i in (1, 2):
        ours = of(INVARIANT, i)
        for other, bound, reference in ((FREE, 0.06, (0.017, 0.011)), (HALF, 0.5, (0.19, 0.074))):
            ratios = [one / rival for one in ours for rival in of(other, i)]
            yield worst(f"unseen {i}: error / {other}", ratios, at_most(bound), reference[i - 1], form=form)
        # strict=False: there may be no plain network
        ratios = [b / a for a, b in zip(ours, of(PLAIN, i), strict=False)]
        yield worst(f"unseen {i}: plain / invariant", ratios, at_least(3), (10, 16)[i - 1], form=".2f")
    for name in (INVARIANT, PLAIN, FREE, HALF, FIFTH):
        for i in (1, 2) if name in (INVARIANT, PLAIN) else (0, 1, 2):
            place = "seen" if i == 0 else f"unseen {i}"
            yield worst(f"{place}: {name}", of(name, i), None, REFERENCES[name][i], form=form)


def other_checks(plasticine: Plasticine | None, identified: Identified | None) -> Iterator[Check]:
    """The plasticine's loss, and moduli."""
    falls = None if plasticine is None else float(np.min(plasticine.losses[:, 0] / plasticine.losses[:, -1]))
    yield Check("plasticine: loss falls by", falls, at_least(5), 30, form=".1f")
    free = None if plasticine is None else plasticine.free
    yield Check("plasticine: loss, stress-free", free, None, 0.80, form=".3f")
    error = lambda name: (
        None if identified is None else max(abs(one.E / YOUNG - 1) for one in identified.found if one.name == name)
    )
    yield Check("E by Adam alone: error", error("Adam, E"), below(0.02), 0.006, form=".2e")
    yield Check("E with ν, dini.least_squares: error", error("dini.least_squares, E and ν"), at_most(1e-8), form=".1e")
    gap = None if identified is None else abs(identified.spread[0] / identified.spread[1] - 1)
    yield Check("spread of E: dini / closed form − 1", gap, at_most(1e-6), form=".1e")


def headline(result: Result) -> str:
    """The one figure that matters."""
    if result.laws is None:
        return "the laws were not trained"
    texts = {INVARIANT: "with learned laws", PLAIN: "without their structure", HALF: f"with {HALF}"}
    errors = {name: errors_of(result.laws, name) for name in texts}
    means = [
        f"{np.mean([one.unseen for one in errors[name]]):.1e} {text}" for name, text in texts.items() if errors[name]
    ]
    return f"unseen motions of a jelly: error {', '.join(means)}"
