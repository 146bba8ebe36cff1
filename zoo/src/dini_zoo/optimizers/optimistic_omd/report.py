"""What the experiment prints.

The references were computed for the specification, with other code. They are the only figures here that are not
measured.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, at_least, at_most, between

from .study import ADAGRAD, OPTIMISTIC, PLAIN, TWO_LAYERS, UNIFORM, Moving, Result, Static


def tables(result: Result) -> list[Table]:
    """One for each claim."""
    return [static_table(result), *others_tables(result), games_table(result), moving_table(result)]


def _moments(result: Result) -> tuple[int, int]:
    return result.settings.early, result.settings.rounds


def static_table(result: Result) -> Table:
    """The regret of each learner at the end, by environment."""
    names = list(result.static[0].regret)
    rows = []
    for one in result.static:
        ends = [f"{one.regret[name][:, -1].mean():.4g}" for name in names]
        rows.append([f"{one.noise:g}", f"{one.drift:g}", *ends, f"{one.bounds[:, -1].mean():.3g}"])
    return Table(
        f"Static regret after {result.settings.rounds} rounds",
        ("noise", "drift", *names, "bound"),
        rows,
        f"Against the best fixed point in hindsight, mean of {len(result.settings.seeds)} seeds; negative where the "
        "learner follows what drifts and no fixed point can. The bound is the paper's, for the first learner. All but "
        f"{PLAIN} and {ADAGRAD} have the same step sizes.",
        left=2,
    )


def others_tables(result: Result) -> list[Table]:
    """Where more is known of the losses: that they are strongly convex, or exp-concave."""
    early, rounds = _moments(result)
    rows = [["2/(λt), noise 1", early, rounds, result.strong], ["2/(λt), no noise", early, rounds, result.still[None]]]
    for name, found in result.newton.items():
        count = found.shape[1]
        rows.append([f"{name}, noise 1", max(count // 10, 1), count, found])
    shown = [
        [
            name,
            f"{Estimate.of(found[:, first - 1]):.2f}",
            str(first),
            f"{Estimate.of(found[:, last - 1]):.2f}",
            str(last),
        ]
        for name, first, last, found in rows
    ]
    caption = "No drift. 2/(λt): the step size for strongly convex losses."
    if result.newton:
        caption += " Newton: with the β of the theory, which is so small that the logarithm does not show yet."
    return [Table("Static regret where more is known", ("learner", "regret", "at", "regret", "at"), shown, caption)]


def games_table(result: Result) -> Table:
    """How far both players are from an equilibrium."""
    early, rounds = _moments(result)
    moments = (max(early // 10, 1), early, rounds)
    rows = []
    for name, one in result.games.items():
        for what, gap in (("mean", one.mean), ("last", one.last)):
            slope = f"{one.slope(early)[0]:.2f}" if what == "mean" else ""
            rows.append([name, what, *(f"{gap[0, t - 1]:.3g}" for t in moments), slope])
    return Table(
        "Duality gap of a bilinear game between two such learners",
        ("players", "of the", *(f"round {t}" for t in moments), "slope"),
        rows,
        f"Mean and last of the points that were played, from the first of {len(result.settings.game_starts)} starts.",
        left=2,
    )


def moving_table(result: Result) -> Table:
    """The dynamic regret in each environment."""
    names = list(result.moving[0].regret)
    rows = [
        [
            one.name,
            f"{one.noise:g}",
            *(f"{one.regret[name].mean():.4g}" for name in names),
            f"{one.best:.4g}",
            f"{one.worst:.4g}",
        ]
        for one in result.moving
    ]
    return Table(
        f"Dynamic regret after {result.settings.moving_rounds} rounds",
        ("centers", "noise", *names, "best member", "worst"),
        rows,
        f"Against the centers, mean of {len(result.settings.seeds)} seeds. Members: the step sizes of the pool, "
        f"each alone. The column {OPTIMISTIC} is the learner for static regret, whose steps may be longer than the "
        "pool's.",
        left=2,
    )


#: Dynamic regret of the two layers in the specification, by environment and noise.
_MOVING = {
    ("static", 0.0): 1.78,
    ("static", 0.5): 7.7,
    ("slow", 0.0): 5.7,
    ("slow", 0.5): 17.1,
    ("switch", 0.0): 63,
    ("switch", 0.5): 82,
    ("drift", 0.0): 586,
    ("drift", 0.5): 609,
}


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    yield from _static_checks(result)
    yield from _strong_checks(result)
    yield from _games_checks(result)
    yield from _moving_checks(result)


def _found(result: Result, noise: float, drift: float) -> Static | None:
    return next((one for one in result.static if (one.noise, one.drift) == (noise, drift)), None)


def _static_checks(result: Result) -> Iterator[Check]:
    early, rounds = _moments(result)
    moments = [early - 1, rounds - 1]
    shares = [(one.regret[OPTIMISTIC][:, moments] / one.bounds).max() for one in result.static]
    yield Check("regret / bound, largest", max(shares), at_most(1), "0.046")
    mean = {}
    for noise in (0.0, 0.1, 1.0):
        one = _found(result, noise, 0.0)
        mean[noise] = None if one is None else one.regret[OPTIMISTIC][:, moments].mean(axis=0)

    def ratio(one: np.ndarray | None, other: np.ndarray | None, i: int, j: int) -> float | None:
        return None if one is None or other is None else float(one[i] / other[j])

    yield Check("growth, no noise", ratio(mean[0.0], mean[0.0], 1, 0), at_most(1.05), "1.00", form=".4g")
    yield Check("growth, noise 1", ratio(mean[1.0], mean[1.0], 1, 0), between(2.5, 3.8), "3.1", "√10")
    yield Check("noise 1 / noise 0.1", ratio(mean[1.0], mean[0.1], 1, 1), between(7, 13), "10", "10")


def _strong_checks(result: Result) -> Iterator[Check]:
    early, rounds = _moments(result)
    difference = result.strong[:, rounds - 1] - result.strong[:, early - 1]
    text = f"{Estimate.of(difference):.2f}"
    name = "strongly convex: growth, noise 1"
    yield Check(name, float(difference.mean()), between(0.8, 2.5), "1.61", shown=text)
    yield Check("strongly convex: regret, no noise", float(result.still[-1]), None, 0.36)


def _games_checks(result: Result) -> Iterator[Check]:
    early = result.settings.early
    ours, plain = result.games[OPTIMISTIC], result.games[PLAIN]
    slopes, theirs = ours.slope(early), plain.slope(early)
    yield Check("game: slope, optimistic", float(slopes[0]), at_most(-0.95), "-1.00", -1.0)
    yield Check("game: slope, plain", float(theirs[0]), at_least(-0.7), "-0.57", form=".2g")
    yield Check("game: last gap, optimistic", float(ours.last[0, -1]), at_most(0.01), 0.0052, form=".2g")
    yield Check("game: last gap, plain", float(plain.last[0, -1]), at_least(1), 1.39)
    others = len(slopes) > 1
    yield Check("game: slope, other starts", float(slopes[1:].max()) if others else None, at_most(-0.9), "-0.92")
    last = float(ours.last[1:, -1].max()) if others else None
    yield Check("game: last gap, other starts", last, at_most(0.03), "0.015", form=".2g")


def _moving_checks(result: Result) -> Iterator[Check]:
    def ratio(one: Moving, other: float) -> float:
        return float(one.regret[TWO_LAYERS].mean()) / other

    for one in result.moving:
        figure = float(one.regret[TWO_LAYERS].mean())
        reference = _MOVING.get((one.name, one.noise), "")
        yield Check(f"two layers, {one.name}, noise {one.noise:g}", figure, None, reference)
    largest = max(ratio(one, 2.5 * one.best + 5) for one in result.moving)
    yield Check("two layers / (2.5 best member + 5)", largest, at_most(1), "0.56")
    among = [one for one in result.moving if one.name in ("slow", "switch") or (one.name, one.noise) == ("static", 0.5)]
    yield Check(
        "two layers / worst member, 5 worlds", max(ratio(one, one.worst) for one in among), at_most(0.5), "0.32"
    )
    quiet = [one for one in result.moving if one.name in ("slow", "switch") and not one.noise]
    uniform = [ratio(one, float(one.regret[UNIFORM].mean())) for one in quiet]
    yield Check("two layers / uniform, 2 worlds", max(uniform) if uniform else None, at_most(0.7), "0.53")


def headline(result: Result) -> str:
    """The one figure that matters."""
    ours, plain = (result.games[name] for name in (OPTIMISTIC, PLAIN))
    worst = f" ({ours.last[1:, -1].max():.2g} at the worst of the other starts)" if len(ours.last) > 1 else ""
    return (
        f"last duality gap of a game after {result.settings.rounds} rounds: {ours.last[0, -1]:.2g} of the optimistic "
        f"learner{worst}, {plain.last[0, -1]:.2g} of OGD"
    )
