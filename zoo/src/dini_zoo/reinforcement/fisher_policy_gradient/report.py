"""What the experiment prints: tables, the figures beside the specification's, the headline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dini_zoo.kit.tables import Check, Table, at_least, at_most, between, near

from .study import (
    HARPG,
    IGT,
    METHODS,
    MOMENTUM,
    NEGATED,
    NHARPG,
    NPG,
    PG,
    SCORELESS,
    STILL,
    STORM,
    Result,
    Searched,
)

#: The specification's: error at the end, error at a tenth, gap.
REFERENCES = {
    NPG: (0.14, 0.22, 9.3e-3),
    MOMENTUM: (1.2e-3, 9.4e-3, 6.0e-4),
    IGT: (3.5e-4, 3.0e-3, 2.8e-4),
    NHARPG: (4.2e-4, 6.6e-3, 5.4e-4),
    STILL: (2.2e-3, 3.8e-2, 2.0e-3),
    NEGATED: (4.8e-2, 0.18, 4.1e-2),
    SCORELESS: (4.5e-3, 3.8e-2, 2.5e-3),
    STORM: (1.7e-4, 1.3e-3, 1.8e-4),
    PG: (0.13, 0.17, 4.6e-4),
    HARPG: (4.0e-4, 5.5e-3, 3.0e-2),
}
#: The gap from which on a seed counts as lost.
LOST = 0.1
#: The specification's gap at each method's best step.
BEST = {STORM: 1.8e-4, IGT: 2.8e-4, PG: 4.6e-4, NHARPG: 5.4e-4, MOMENTUM: 6.0e-4, NPG: 9.8e-4}


def tables(result: Result) -> Sequence[Table]:
    """The errors, the gaps, the estimators at one point, the exact problem, the bilevel problem."""
    found = [_errors_table(result), _gaps_table(result), _estimators_table(result), _truth_table(result)]
    return [*found, _bilevel_table(result)] if result.bilevel else found


def _errors_table(result: Result) -> Table:
    rows = []
    for name in METHODS:
        one = result.at_reference(name)
        if one is None:
            continue
        slope = one.slope(result.settings.seeds)
        more = f"{one.late(first=result.settings.seeds):.1e}" if result.settings.others else ""
        rows.append(
            [
                name,
                f"{one.step:g}",
                f"{one.early(result.settings.seeds):.1e}",
                f"{one.late(result.settings.seeds):.1e}",
                "" if slope is None else f"{slope:.2f}",
                more,
                f"{one.ahead:.2g}",
            ]
        )
    caption = (
        f"Squared error of the estimate to the exact gradient, median of {result.settings.seeds} seeds: means around "
        "a tenth and at the end of the iterations, and the exponent of its decay. More: at the end, by other seeds. "
        "Ahead: the longest way of the look-ahead, used or not."
    )
    return Table("Estimates of the gradient", ("", "step", "at 10%", "end", "slope", "more", "ahead"), rows, caption)


def _gaps_table(result: Result) -> Table:
    rows = []
    for name in METHODS:
        for one in (one for one in result.searched if one.method == name):
            gaps = one.gaps[: result.settings.seeds]
            label = f"{name}, best" if one is result.best(name) and result.settings.other_steps else name
            cells = [label, f"{one.step:g}", f"{np.median(gaps):.1e}", f"{gaps.min():.0e}", f"{gaps.max():.0e}"]
            rows.append([*cells, str(int(np.sum(gaps >= LOST)))])
    caption = (
        f"J* - J of the last parameters, {result.settings.seeds} seeds; the reference step first. Lost: seeds with a "
        f"gap of {LOST:g} or more."
    )
    return Table("Gaps", ("", "step", "median", "min", "max", "lost"), rows, caption)


def _estimators_table(result: Result) -> Table:
    one = result.estimators
    pair = lambda x, form=".3f": ", ".join(f"{entry:{form}}" for entry in x)
    rows: list[list[str]] = [["g, exact", pair(one.gradient), ""], ["B u, exact", pair(one.hvp), ""]]
    rows += [[name, pair(mean), pair(deviation, ".2f")] for name, (mean, deviation) in one.found.items()]
    caption = (
        f"Means of {result.settings.samples} trajectories at K = (0.3, 0.8), u = (1, -0.5). The trace of g's "
        f"covariance is {one.spread:.0f}, with a baseline {one.spread_baseline:.0f}."
    )
    return Table("Estimators at one point", ("", "mean", "standard error"), rows, caption)


def _truth_table(result: Result) -> Table:
    one = result.truth
    pair = lambda x: ", ".join(f"{entry:.8f}" for entry in x)
    rows = [
        ["best gain, minimize", pair(one.optimum)],
        ["best gain, root", pair(one.root)],
        ["its value", f"{one.best:.8f}"],
        ["its curvature", ", ".join(f"{entry:.4f}" for entry in one.curvatures)],
        ["its loop's spectral radius", f"{one.radius:.4f}"],
        ["gain without a horizon, fixed point", pair(one.stationary)],
        ["what that loses", f"{one.stationary_gap:.1e}"],
    ]
    return Table("The problem, by dini", ("", "exact"), rows)


def _bilevel_table(result: Result) -> Table:
    rows = [
        [one.method, f"{one.early():.1e}", f"{one.late():.1e}", f"{np.median(one.gaps):.1e}", f"{one.gaps.max():.1e}"]
        for one in result.bilevel
    ]
    caption = (
        f"Where measurements are to be made: squared error of the hypergradient and gap, {result.settings.seeds} "
        f"seeds, {result.settings.bilevel_iterations} iterations at step {result.bilevel[0].step:g}. No bars."
    )
    return Table("A stochastic bilevel problem", ("", "at 10%", "end", "gap", "largest"), rows, caption)


def ratio(one: float | None, other: float | None) -> float | None:
    """One figure over another, which is infinite if the first one is; nothing where one of them is not there."""
    if one is None or other is None:
        return None
    return np.inf if not np.isfinite(one) else one / other


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification, on its seeds and on others, and what it reports without one."""
    truth, found = result.truth, result.estimators
    reference = np.array([1.86212444, 2.06959584])
    yield Check("J*", truth.best, near(-3.23048157, 1e-8), -3.23048157, form=".8f")
    yield Check("best gain off", float(np.abs(truth.optimum - reference).max()), at_most(1e-8), form=".0e")
    yield Check("minimize and root differ", float(np.abs(truth.optimum - truth.root).max()), at_most(1e-7), form=".0e")
    off = lambda name, exact: np.abs(found.found[name][0] - exact) / found.found[name][1]
    yield Check("g off, standard errors", float(off("g", found.gradient).max()), at_most(4), form=".1f")
    yield Check("B u off, standard errors", float(off("B u", found.hvp).max()), at_most(4), form=".1f")
    without = float(off("without the score term", found.hvp).max())
    yield Check("without the score term, off", without, at_least(20), form=".0f")
    yield Check("trace of g's covariance", found.spread, None, 698.0, form=".0f")
    yield Check("with a baseline", found.spread_baseline, None, 89.0, form=".0f")
    count = result.settings.seeds
    yield from _error_checks(result, count, 0, "")
    if result.settings.others:
        yield from _error_checks(result, result.settings.others, count, "more seeds: ")
    yield from _gap_checks(result)


def _error_checks(result: Result, count: int, first: int, prefix: str) -> Iterator[Check]:
    at = {name: one for name in METHODS if (one := result.at_reference(name)) is not None}
    late = {name: one.late(count, first) for name, one in at.items()}
    early = {name: one.early(count, first) for name, one in at.items()}

    def over(one: str, other: str, errors: dict[str, float] = late) -> float | None:
        return ratio(errors.get(one), errors.get(other))

    of = lambda one, other, i: REFERENCES[one][i] / REFERENCES[other][i]
    for name, bar in ((IGT, 1e-3), (NHARPG, 1.5e-3)):
        yield Check(f"{prefix}{name}: error", late.get(name), at_most(bar), REFERENCES[name][0], form=".1e")
        yield Check(f"{prefix}N-PG / {name}", over(NPG, name), at_least(40), of(NPG, name, 0), form=".0f")
    for name, other, label, bar in ((IGT, MOMENTUM, "momentum", 0.6), (NHARPG, STILL, "v = 0", 0.5)):
        for when, errors, i in (("at 10%", early, 1), ("end", late, 0)):
            found = over(name, other, errors)
            yield Check(f"{prefix}{name} / {label}, {when}", found, at_most(bar), of(name, other, i), form=".2f")
    yield Check(f"{prefix}v negated / N-HARPG", over(NEGATED, NHARPG), at_least(20), 110.0, form=".0f")
    yield Check(f"{prefix}no score / N-HARPG", over(SCORELESS, NHARPG), None, of(SCORELESS, NHARPG, 0), form=".1f")
    slopes = {IGT: (at_most(-0.7), -0.92), NHARPG: (at_most(-0.9), -1.29), NPG: (between(-0.4, 0.1), -0.15)}
    for name, (bar, reference) in slopes.items():
        found = at[name].slope(count, first) if name in at else None
        yield Check(f"{prefix}{name}: slope", found, bar, reference, form=".2f")


def _gap_checks(result: Result) -> Iterator[Check]:
    count = result.settings.seeds
    several = bool(result.settings.other_steps)
    best = {name: one.gap(count) for name in BEST if several and (one := result.best(name)) is not None}
    yield Check("best gap: N-PG-IGT", best.get(IGT), at_most(8e-4), BEST[IGT], form=".1e")
    found = ratio(best.get(IGT), best.get(NPG))
    yield Check("best gap: N-PG-IGT / N-PG", found, at_most(1), BEST[IGT] / BEST[NPG], form=".2f")
    for name in (STORM, PG, NHARPG, MOMENTUM, NPG):
        yield Check(f"best gap: {name}", best.get(name), None, BEST[name], form=".1e")
    for name, (_, _, gap) in REFERENCES.items():
        one = result.at_reference(name)
        yield Check(f"gap: {name}", None if one is None else one.gap(count), None, gap, form=".1e")


def headline(result: Result) -> str:
    """The one figure that matters, with what it is compared with."""

    def better(other: str) -> str:
        ours, theirs = result.at_reference(IGT), result.at_reference(other)
        if ours is None or theirs is None:
            return "?"
        count = result.settings.seeds
        return f"{ratio(theirs.late(count), ours.late(count)):.3g}"

    return f"error of N-PG-IGT's gradient: 1/{better(NPG)} of N-PG's, 1/{better(MOMENTUM)} of untransported momentum's"


def best_first(result: Result) -> list[Searched]:
    """Each method with its best step, the smallest gap first."""
    found = [one for name in (*BEST, HARPG) if (one := result.best(name)) is not None]
    return sorted(found, key=lambda one: one.gap(result.settings.seeds))
