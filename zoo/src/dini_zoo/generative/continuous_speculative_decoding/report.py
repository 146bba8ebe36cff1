"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, above, at_least, at_most, below, between, near, worst

from .images import Images
from .pair import DRAFT, TARGET, Tried
from .sequences import Case
from .study import Coupling, Result
from .tokens import Tokens

#: Calls of the target for sequences of 32 tokens, by draft length.
CALLS = {1: 20.46, 2: 16.99, 4: 14.73, 8: 13.83}
PREFILLED = 15.85
#: Scores of the mean that biased ways to decode have.
BIASED = {"in place": -32.0, "relax 2": -29.0, "relax 42": -77.0}
EXACT = ("reflection", "rejection", "prefilled", "unaligned")


def tables(result: Result) -> list[Table]:
    """One pair, single tokens, sequences, digits."""
    return [
        *([pair_table(result.pairs)] if result.pairs else []),
        *([token_table(result.tokens)] if result.tokens else []),
        *([sequence_table(result.sequences)] if result.sequences else []),
        *([digit_table(result, result.images)] if result.images else []),
    ]


def name_of(one: Tried) -> str:
    """A rule."""
    if one.relax != 1:
        return f"relax = {one.relax:g}"
    return "exact" if one.sigma == 1 else f"published, Σ = {one.sigma:g}"


def pair_table(pairs: list[Tried]) -> Table:
    """What rules do to draws of the draft, beside their laws."""
    rows = []
    for one in pairs:
        figures = ((getattr(law, name) for law in (one.ours, one.predicted)) for name in ("acceptance", "mean", "std"))
        rows.append([name_of(one), *(f"{ours:.4f}, {law:.4f}" for ours, law in figures), f"{one.proposals:.3f}"])
    caption = f"Draft N({DRAFT[0]:g}, {DRAFT[1]:g}²), target N({TARGET[0]:g}, {TARGET[1]:g}²)."
    columns = ("rule", "accepted", "mean", "std", "proposals")
    return Table("One pair of Gaussians: ours, the law by quadrature", columns, rows, caption)


def token_table(tokens: list[Tokens]) -> Table:
    """Distances to the target, of all seeds."""
    rows = [[name, f"{Estimate.of(one.distances[name] for one in tokens):.4f}"] for name in tokens[0].distances]
    rows += [
        None,
        ["accepted, shared noise", f"{Estimate.of(one.aligned for one in tokens):.4f}"],
        ["mean overlap, in closed form", f"{Estimate.of(one.overlap for one in tokens):.4f}"],
        ["accepted, noise of their own", f"{Estimate.of(one.unaligned for one in tokens):.4f}"],
        ["proposals a token", f"{Estimate.of(one.proposals for one in tokens):.3f}"],
    ]
    caption = (
        f"Other variances: the draft's are larger, Σ is {np.median([one.sigma for one in tokens]):.2f}. "
        f"The most proposals for a token were {max(one.most for one in tokens)}."
    )
    return Table("Single tokens: Kolmogorov's distance to the target", ("", "seeds"), rows, caption)


def sequence_table(sequences: list[list[Case]]) -> Table:
    """Each way to decode, over the seeds."""
    rows = []
    for cases in zip(*sequences, strict=True):
        first = cases[0]
        worst = max((one.worst for one in cases), key=abs)
        calls, acceptance = np.mean([one.calls for one in cases]), np.mean([one.acceptance for one in cases])
        least = min(one.p for one in cases)
        rows.append(
            [first.name, f"{first.gamma}", f"{calls:.2f}", f"{acceptance:.3f}", f"{worst:+.1f}", f"{least:.3f}"]
        )
    caption = (
        f"z: the worst of {len(sequences[0][0].scores)} statistics and {len(sequences)} seeds; p: the least "
        "of an energy test's. The last three are known to be biased."
    )
    return Table("Sequences", ("", "γ", "target calls", "accepted", "z", "p"), rows, caption)


def speed_up(one: Images, gamma: int) -> float:
    """Tokens for the cost of one of the target's, where a call costs one and the draft's token its share."""
    return one.per_call[gamma] / (gamma * one.cost + 1)


def digit_table(result: Result, images: list[Images]) -> Table:
    """Distances, acceptance and tokens for each call."""
    gamma = result.settings.gamma
    of = lambda value: f"{Estimate.of(map(value, images)):.3f}"
    rows = [
        ["distance: target alone, again", of(lambda one: float(np.mean(one.floors)))],
        ["distance: speculative", of(lambda one: one.decoded)],
        ["distance: speculative, unaligned", of(lambda one: one.unaligned)],
        ["distance: draft alone", of(lambda one: one.draft)],
        ["to the data: target, draft", f"{of(lambda one: one.target_to_data)}, {of(lambda one: one.draft_to_data)}"],
        None,
        *(
            [f"accepted, γ = {count}", of(lambda one, count=count: one.acceptance[count])]
            for count in images[0].acceptance
        ),
        [f"accepted, unaligned, γ = {gamma}", of(lambda one: one.acceptance_unaligned)],
        *(
            [f"tokens a call, γ = {count}", of(lambda one, count=count: one.per_call[count])]
            for count in images[0].per_call
        ),
        ["cost of the draft's token", f"{images[0].cost:.3f}"],
        *(
            [f"speed-up by these, γ = {count}", of(lambda one, count=count: speed_up(one, count))]
            for count in images[0].per_call
        ),
    ]
    if images[0].larger:
        rows.append(["larger draft: accepted, tokens a call", f"{images[0].larger[0]:.3f}, {images[0].larger[1]:.2f}"])
    caption = (
        f"{result.settings.images} images a set, to one set of the target alone. Cost: multiplications by weights, "
        "over the target's."
    )
    return Table("Digits, row by row", ("", "seeds"), rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification, of the worst seed."""
    if result.pairs and result.coupling:
        yield from pair_checks(result.pairs, result.coupling)
    if result.tokens:
        yield from token_checks(result.tokens)
    if result.sequences:
        yield from sequence_checks(result.sequences)
    if result.images:
        yield from digit_checks(result, result.images)


def pair_checks(pairs: list[Tried], coupling: Coupling) -> Iterator[Check]:
    """Figures of many draws beside laws by quadrature."""
    for one in pairs:
        for name in ("acceptance", "mean", "std"):
            law = getattr(one.predicted, name)
            bar = between(round(law - 0.01, 4), round(law + 0.01, 4))
            yield Check(f"{name_of(one)}: {name}", getattr(one.ours, name), bar, law, form=".4f")
    yield Check("exact: proposals a token", pairs[0].proposals, between(0.99, 1.01), 1.0, form=".4f")
    yield Check("reflection − optimal transport", coupling.difference, at_most(1e-9), form=".1e")
    yield Check("transport: what stays", coupling.overlap, near(coupling.closed, 0.01), coupling.closed, form=".4f")


def token_checks(tokens: list[Tokens]) -> Iterator[Check]:
    """The bars on single tokens."""
    yield worst("accepted", [one.aligned for one in tokens], between(0.63, 0.66), 0.644, form=".3f")
    ratios = [one.aligned / max(one.unaligned, 1e-9) for one in tokens]
    yield worst("accepted, shared / own", ratios, at_least(3), 3.37, "0.30 / 0.07", ".2f")
    for name, reference in (("rejection", 0.0017), ("reflection", 0.0018), ("unaligned", 0.0030)):
        yield worst(f"KS, {name}", [one.distances[name] for one in tokens], below(0.006), reference, form=".4f")
    yield worst("KS, draft alone", [one.distances["draft"] for one in tokens], above(0.05), 0.0566, form=".4f")
    name = "other variances, exact"
    yield worst("KS, other S, exact rule", [one.distances[name] for one in tokens], below(0.006), "", form=".4f")
    published = [one.distances["other variances, published"] for one in tokens]
    yield Check("KS, other S, published rule", min(published), form=".4f")


def sequence_checks(sequences: list[list[Case]]) -> Iterator[Check]:
    """The bars on sequences."""
    by_case = {(cases[0].name, cases[0].gamma): cases for cases in zip(*sequences, strict=True)}
    for (name, gamma), cases in by_case.items():
        calls = [one.calls for one in cases]
        reference = (
            CALLS.get(gamma) if name in ("reflection", "rejection") else PREFILLED if name == "prefilled" else None
        )
        label = f"{name}, γ = {gamma}"
        if reference is not None and (name != "prefilled" or gamma == 4):
            bar = between(round(0.98 * reference, 2), round(1.02 * reference, 2))
            yield worst(f"{label}: calls", calls, bar, reference, form=".2f")
        scores = [abs(one.worst) for one in cases]
        if name in EXACT:
            yield worst(f"{label}: |z|", scores, below(4), 2.8, form=".1f")
            yield worst(f"{label}: p", [one.p for one in cases], above(0.005), ".28 to .92", form=".3f")
        else:
            yield worst(f"{label}: |z|", scores, at_least(4), abs(BIASED[name]), form=".1f")


def digit_checks(result: Result, images: list[Images]) -> Iterator[Check]:
    """The bars on digits."""
    gamma = result.settings.gamma
    over = lambda value: [value(one) / max(one.floors) for one in images]
    yield worst(
        "digits, FD: ours / target alone", over(lambda one: one.decoded), at_most(1.25), 0.86, "2.36 / 2.35", ".2f"
    )
    yield worst("digits, FD: unaligned", over(lambda one: one.unaligned), at_most(1.25), 0.78, form=".2f")
    yield worst("digits, FD: draft", over(lambda one: one.draft), at_least(2), 3.5, form=".2f")
    yield worst("digits: tokens a call", [one.per_call[gamma] for one in images], at_least(1.2), 1.34, form=".2f")
    accepted = [one.acceptance[gamma] for one in images]
    yield Check("digits: accepted", float(np.mean(accepted)), None, 0.293, "0.30", ".3f")
    ratios = [one.acceptance_unaligned / one.acceptance[gamma] for one in images]
    yield worst("digits: own / shared", ratios, at_most(0.6), 0.41, "0.14 / 0.32", ".2f")
    if images[0].larger:
        yield Check("larger draft: accepted", images[0].larger[0], None, 0.388, form=".3f")
        yield Check("larger draft: a call", images[0].larger[1], None, 1.51, form=".2f")


def headline(result: Result) -> str:
    """The calls of the target that are saved; the speed-up by cost, with the best number of drafts and with `gamma`."""
    if not result.sequences:
        return "sequences were not decoded"
    cases = [one for cases in result.sequences for one in cases if one.name == "reflection"]
    best = min(cases, key=lambda one: one.calls)
    length = result.settings.length
    z = max(abs(one.worst) for one in cases)
    found = f"{length} tokens by {best.calls:.1f} calls of the target (γ = {best.gamma}), largest |z| {z:.1f}"
    if not result.images:
        return f"{found} of {len(cases) * len(best.scores)}"
    speeds = {count: Estimate.of(speed_up(one, count) for one in result.images) for count in result.images[0].per_call}
    fastest, usual = max(speeds, key=lambda count: speeds[count].mean), result.settings.gamma
    return (
        f"{found}; digits, by cost: {speeds[fastest]:.2f} times as fast at γ = {fastest}, the best, "
        f"{speeds[usual]:.2f} at γ = {usual}; seeds: {len(result.images)}"
    )
