"""What the experiment shows: tables, the figures beside the specification's, the headline, the picture."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, above, at_least, at_most, below

from .runs import DIFF2, DP_GD, Outcome
from .study import Result, best
from .visits import TARGET

#: The specification's bars on DIFF2 over the best DP-GD by budget, of the gradient's squared norm and of the value, and
#: its own figures.
GIVEN = {1.0: (0.45, 0.5, 0.27, 0.29), 3.0: (0.45, 0.5, 0.24, 0.23), 10.0: (0.25, 0.25, 0.11, 0.10)}
GRADIENT = "|∇f|²"


def mean(outcome: Outcome, of: str = "gradient") -> float:
    """Over seeds."""
    return float(np.mean(getattr(outcome, of)))


def main_setting(result: Result, epsilon: float, method: str) -> Outcome | None:
    """DP-GD's best clip, or the one setting of DIFF2 that the bars are for: the longest interval."""
    mine = [one for one in result.given if one.setting.epsilon == epsilon and one.setting.method == method]
    if method == DP_GD:
        return min(mine, key=mean, default=None)
    return max(mine, key=lambda one: one.setting.restart_every, default=None)


def ratio(one: Outcome | None, other: Outcome | None, of: str = "gradient") -> float | None:
    """Of two means; nothing where one was not measured."""
    return None if one is None or other is None else mean(one, of) / mean(other, of)


def _rows(outcomes: Sequence[Outcome], *, rounds: bool = False) -> list[list[str]]:
    rows = []
    for one in outcomes:
        chosen = one.setting
        tuned = [f"{chosen.rounds}", f"{chosen.learning_rate:g}"] if rounds else []
        interval = "" if chosen.restart_every == 1 else f"{chosen.restart_every}"
        rows.append(
            [
                chosen.method,
                f"{chosen.epsilon:g}",
                *tuned,
                interval,
                f"{chosen.gradient_clip:g}",
                f"{Estimate.of(one.gradient):.1e}",
                f"{Estimate.of(one.gap):.1e}",
                f"{mean(one, 'clipped'):.0%}",
            ]
        )
    return rows


def tables(result: Result) -> list[Table]:
    """At given rounds, at tuned ones, observed data, local steps, accounts."""
    settings = result.settings
    columns = ("", "ε", "T", "C₁", GRADIENT, "f − f*", "clipped")
    n, seeds = settings.records, len(settings.seeds)
    caption = (
        f"{n} records, {settings.rounds} rounds, δ = {settings.delta:g}, the closed form's noise; {seeds} seeds of the "
        f"noise, with their 95 % interval. {GRADIENT}: over the last tenth of the rounds. Clipped: records a round."
    )
    rows = _rows(result.given)
    for one in result.sampled:
        row = _rows([one])[0]
        rows.append(["DP-SGD", *row[1:]])
    found = [Table("Generated records, given rounds", columns, rows, caption)]
    if result.tuned:
        caption = (
            f"Rounds of {', '.join(map(str, settings.tuned))}, rates of 5 and 10, clips of 0.1 and 0.3, intervals of a "
            "tenth and a third of the rounds: each method's best by the gradient for one seed, then run with others."
        )
        columns = ("", "ε", "R", "η", "T", "C₁", GRADIENT, "f − f*", "clipped")
        found.append(Table("Rounds tuned as well", columns, _rows(result.tuned, rounds=True), caption))
    columns = ("", "ε", "T", "C₁", GRADIENT, "f − f*", "clipped")
    caption = f"{settings.health_records} records, {settings.health_rounds} rounds, {settings.health_seeds} seeds."
    if result.health:
        found.append(Table("Observed records: randhie", columns, _rows(result.health), caption))
    found.append(_visits_table(result))
    found.append(_accounts_table(result))
    return found


def _rounds(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    word = lambda one: f"{one:.0f}" if np.isfinite(one) else "none"
    return word(low) if low == high else f"{word(low)} to {word(high)}"


def _visits_table(result: Result) -> Table:
    visits, divisions = result.visits, tuple(result.visits.gradient)
    rows = [
        ["one step a round", *(_rounds([visits.gradient[one].rounds]) for one in divisions)],
        *(
            [
                f"{steps} local steps",
                *(_rounds([path.rounds for path in visits.local[one][steps]]) for one in divisions),
            ]
            for steps in result.settings.local_steps
        ),
        ["local SGD: its least", *(f"{min(path.least for path in visits.plain[one]):.1e}" for one in divisions)],
    ]
    private = [path.norms[-1] for path in result.private]
    caption = (
        f"Rounds until {GRADIENT} is at most {TARGET:g}, without noise, {result.settings.clients} clients that take "
        "turns."
    )
    if private:
        caption += (
            f" With privacy, ε = {min(result.settings.epsilons):g}, local steps end at {Estimate.of(private):.1e} "
            f"after {result.settings.private_rounds} rounds."
        )
    return Table("Local steps", ("", *(f"clients {one}" for one in divisions)), rows, caption)


def _accounts_table(result: Result) -> Table:
    names = ("gaussian", "rdp", "pld")
    rows = [
        [one.routine, f"{one.target:g}", *(f"{one.found[name]:.4f}" if name in one.found else "" for name in names)]
        for one in result.accounts
    ]
    caption = "ε spent, by the exact curve and by two accountants of dp-accounting. Neighbors: one record replaced."
    return Table("Accounts", ("", "ε asked for", "exact", "Rényi", "loss"), rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification, and what it reports without one."""
    for epsilon, (bar, value_bar, reference, value_reference) in GIVEN.items():
        ours, theirs = (main_setting(result, epsilon, method) for method in (DIFF2, DP_GD))
        name = f"ε = {epsilon:g}, DIFF2 / DP-GD"
        yield Check(f"{name}: {GRADIENT}", ratio(ours, theirs), at_most(bar), reference, form=".2f")
        yield Check(f"{name}: f − f*", ratio(ours, theirs, "gap"), at_most(value_bar), value_reference, form=".2f")
    smallest = min(result.settings.epsilons)
    theirs = best(result.given, DP_GD, smallest)
    ours = sorted(
        (one for one in result.given if one.setting.method == DIFF2 and one.setting.epsilon == smallest),
        key=lambda one: one.setting.restart_every,
    )
    whole = len(ours) == 4
    steps = [mean(b) / mean(a) for a, b in itertools.pairwise(ours[1:])]
    yield Check(
        "longer intervals: the largest ratio, 3 T's", max(steps) if whole else None, below(1), 3.0 / 4.2, form=".2f"
    )
    yield Check(
        "the shortest interval / DP-GD", ratio(ours[0], theirs) if whole else None, at_least(0.8), 5.4 / 4.8, form=".2f"
    )
    for epsilon, reference in ((1.0, 9.4 / 6.8), (3.0, 1.0), (10.0, 2.9 / 4.6)):
        pair = [next((one for one in result.tuned if _is(one, method, epsilon)), None) for method in (DIFF2, DP_GD)]
        yield Check(f"rounds tuned, ε = {epsilon:g}: {GRADIENT}", ratio(*pair), None, reference, form=".2f")
    theirs = best(result.health, DP_GD, smallest)
    mine = sorted(
        (one for one in result.health if one.setting.method == DIFF2), key=lambda one: one.setting.restart_every
    )
    shortest, longest = (mine[0], mine[-1]) if mine else (None, None)
    yield Check(f"randhie: {GRADIENT}", ratio(longest, theirs), at_most(0.4), 2.9 / 13.7, form=".2f")
    theirs_value = best(result.health, DP_GD, smallest, "gap")
    yield Check("randhie: f − f*", ratio(longest, theirs_value, "gap"), at_most(0.5), 2.2 / 8.6, form=".2f")
    yield Check("randhie: the shortest interval", ratio(shortest, theirs), at_least(0.8), 14.4 / 13.7, form=".2f")
    yield from _local_checks(result)
    yield from _account_checks(result)


def _is(outcome: Outcome, method: str, epsilon: float) -> bool:
    return outcome.setting.method == method and outcome.setting.epsilon == epsilon


def _local_checks(result: Result) -> Iterator[Check]:
    visits = result.visits
    order = visits.gradient["in order"].rounds
    worst = lambda steps, division="in order": max(
        (path.rounds for path in visits.local[division].get(steps, [])), default=None
    )
    of = lambda one, other: None if one is None or other is None or not np.isfinite(other) else one / other
    yield Check("10 local steps: rounds / one step's", of(worst(10), order), at_most(1 / 6), 31 / 304, form=".3f")
    yield Check("20 local steps: rounds / 10's", of(worst(20), worst(10)), below(1), 16 / 31, form=".2f")
    pairs = [of(worst(steps, "by label"), worst(steps)) for steps in result.settings.local_steps]
    away = None if any(one is None for one in pairs) else max(abs(one - 1) for one in pairs if one is not None)
    yield Check("clients by label: rounds differ by", away, at_most(0.2), 0.0, form=".2f")
    least = min(path.least for paths in visits.plain.values() for path in paths)
    yield Check(f"local SGD: the least {GRADIENT}", least, above(1e-7), 7e-7, form=".1e")


def _account_checks(result: Result) -> Iterator[Check]:
    closed, exact, *local = result.accounts
    yield Check(
        "ε of the closed form / asked, Rényi", closed.found["rdp"] / closed.target, at_most(1), 0.794, form=".3f"
    )
    # the accountant's grid rounds up
    yield Check(
        "ε of the exact noise / asked, loss", exact.found["pld"] / exact.target, at_most(1.001), 1.0, form=".4f"
    )
    found = local[0].found["rdp"] / local[0].target if local else None
    yield Check("ε of local steps / asked, Rényi", found, at_most(1), form=".4f")


def headline(result: Result) -> str:
    """The one figure that matters, with what it is compared with."""
    epsilon = min(result.settings.epsilons)
    ours, theirs = (main_setting(result, epsilon, method) for method in (DIFF2, DP_GD))
    sentence = f"ε = {epsilon:g}, {result.settings.rounds} rounds: {GRADIENT} {ratio(ours, theirs):.2f} of DP-GD's"
    tuned = [next((one for one in result.tuned if _is(one, method, epsilon)), None) for method in (DIFF2, DP_GD)]
    found = ratio(*tuned)
    return sentence if found is None else f"{sentence}; with rounds tuned for both {found:.2f}"


def draw(result: Result) -> Figure:
    """Utility against budget, over rounds, against the interval; observed data; local steps."""
    figure = pictures.canvas("Private descent: gradients, or their differences", height=9)
    panels = figure.subplots(2, 3)
    _utility(panels[0, 0], result)
    _curves(panels[0, 1], result)
    _intervals(panels[0, 2], result.given, min(result.settings.epsilons), "generated records: longer intervals")
    if result.health:
        _intervals(panels[1, 0], result.health, min(result.settings.epsilons), "observed records (randhie)")
    _local(panels[1, 1], result)
    _kinds(panels[1, 2], result)
    return figure


def _points(axes: Any, x: Sequence[float], outcomes: Sequence[Outcome], color: str, label: str, ls: str = "-") -> None:
    runs = np.transpose([one.gradient for one in outcomes])
    pictures.band(axes, x, runs, color=color, label=label, ls=ls)
    axes.plot(np.tile(x, len(runs)), runs.ravel(), "o", color=color, ms=3, alpha=0.6)


def _utility(axes: Any, result: Result) -> None:
    epsilons = sorted(result.settings.epsilons)
    for method, color in ((DP_GD, pictures.RIVAL), (DIFF2, pictures.METHOD)):
        chosen = [one for epsilon in epsilons if (one := main_setting(result, epsilon, method)) is not None]
        _points(axes, epsilons, chosen, color, f"{method}, {result.settings.rounds} rounds")
        tuned = [one for epsilon in epsilons for one in result.tuned if _is(one, method, epsilon)]
        if tuned:
            _points(axes, epsilons, tuned, color, f"{method}, rounds tuned", ":")
    axes.set(xscale="log", yscale="log", xlabel="ε", title=f"utility against budget: {GRADIENT}")
    axes.set_xticks(epsilons, [f"{one:g}" for one in epsilons])
    axes.minorticks_off()
    axes.legend(fontsize=9)


def _curves(axes: Any, result: Result) -> None:
    epsilon = min(result.settings.epsilons)
    for method, color in ((DP_GD, pictures.RIVAL), (DIFF2, pictures.METHOD)):
        one = main_setting(result, epsilon, method)
        if one is not None:
            every = "" if method == DP_GD else f", T = {one.setting.restart_every}"
            pictures.band(axes, one.at, one.curve, color=color, label=f"{method}{every}")
    axes.set(yscale="log", xlabel="round", title=f"{GRADIENT} on the way, ε = {epsilon:g}")
    axes.legend(fontsize=9)


def _intervals(axes: Any, outcomes: Sequence[Outcome], epsilon: float, title: str) -> None:
    mine = sorted(
        (one for one in outcomes if one.setting.epsilon == epsilon and one.setting.method == DIFF2),
        key=lambda one: one.setting.restart_every,
    )
    _points(axes, [one.setting.restart_every for one in mine], mine, pictures.METHOD, DIFF2)
    theirs = best(list(outcomes), DP_GD, epsilon)
    if theirs is not None:
        pictures.level(
            axes, theirs.gradient, color=pictures.RIVAL, label=f"{DP_GD}, C₁ = {theirs.setting.gradient_clip:g}"
        )
    axes.set(xscale="log", yscale="log", xlabel="rounds between restarts", title=title)
    at = [one.setting.restart_every for one in mine]
    axes.set_xticks(at, [str(one) for one in at])
    axes.xaxis.set_minor_formatter("")
    axes.legend(fontsize=9)


def _local(axes: Any, result: Result) -> None:
    visits = result.visits
    colors = (pictures.METHOD, pictures.THIRD, pictures.FOURTH)
    one = visits.gradient["in order"].norms
    axes.plot(np.arange(1, len(one) + 1), one, color=pictures.INK, label="one step a round")
    for steps, color in zip(result.settings.local_steps, colors, strict=False):
        runs = [path.norms for path in visits.local["in order"][steps]]
        pictures.band(axes, np.arange(1, len(runs[0]) + 1), runs, color=color, label=f"{steps} local steps")
    plain = [path.norms for path in visits.plain["in order"]]
    pictures.band(axes, np.arange(1, len(plain[0]) + 1), plain, color=pictures.RIVAL, label="local SGD")
    axes.axhline(TARGET, color=pictures.QUIET, lw=1.2, ls="--")
    axes.set(xscale="log", yscale="log", xlabel="round", title=f"local steps without noise: {GRADIENT}")
    axes.legend(fontsize=9)


def _kinds(axes: Any, result: Result) -> None:
    epsilon = min(result.settings.epsilons)
    found: dict[str, float | Estimate] = {}
    for method in (DP_GD, DIFF2):
        one = main_setting(result, epsilon, method)
        if one is not None:
            found[f"{method} {one.setting.rounds}"] = Estimate.of(one.gradient)
        for two in result.tuned:
            if _is(two, method, epsilon):
                found[f"{method} {two.setting.rounds}"] = Estimate.of(two.gradient)
    for one in result.sampled:
        found[f"DP-SGD {one.setting.rounds}"] = Estimate.of(one.gradient)
    rounds = result.settings.private_rounds
    if result.private:
        found[f"local {rounds}"] = Estimate.of(path.norms[-1] for path in result.private)
    colors = {
        name: pictures.RIVAL
        if name.startswith(DP_GD)
        else pictures.METHOD
        if name.startswith(DIFF2)
        else pictures.THIRD
        for name in found
    }
    pictures.bars(axes, found, form="{:.1e}", colors=colors)
    axes.set(title=f"ε = {epsilon:g}: {GRADIENT} by method and rounds")
