"""What the experiment shows: tables, the figures beside the specification's, the headline.

References were computed for the specification, with other code and other random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.tables import Check, Table, at_least, at_most, near, spread

from ..lipschitz import lipschitz_bound
from .study import CONSTANT, DRAGAN, MODELED, NAGARD, PLAIN, SPECTRAL, WGAN, Outcome, Result, shown_name
from .task import DISCOUNT, SHOWN

CLONING = "behavior cloning"


def tables(result: Result) -> list[Table]:
    """Scores and slopes by variant, few demonstrations, the bound."""
    return [score_table(result), slope_table(result), shown_table(result), bound_table(result)]


def scores(values: np.ndarray) -> list[str]:
    """Of all seeds, from the least to the greatest, and their mean."""
    if not np.all(np.isfinite(values)):
        return [Alarm("NaN"), Alarm("NaN")]
    return [" ".join(f"{one:.2f}" if abs(one) < 10 else f"{one:.0f}" for one in sorted(values)), f"{values.mean():.2f}"]


def score_table(result: Result) -> Table:
    """The score of each seed at the end."""
    rows = [
        [name, *scores(one.final("score")), f"{one.final('saturated').max():.0%}"]
        for name, one in result.outcomes.items()
        if one.variant.shown == SHOWN
    ]
    rows.append([CLONING, *scores(result.cloned[SHOWN]), ""])
    caption = (
        f"After {result.settings.steps} steps; 1 is the expert's mean return, {result.expert:.3f}, and 0 that of no "
        f"action, {result.idle:.2f}. Saturated: actions on the demonstrations at the box's edge, the most of a seed."
    )
    return Table("Score of each seed, sorted", ("reward", "seeds", "mean", "saturated"), rows, caption)


def slope_table(result: Result) -> Table:
    """Slopes, scores of the discriminator and factors at the end."""
    rows = []
    for name, one in result.outcomes.items():
        if one.variant.shown != SHOWN:
            continue
        slope = one.final("reward_slope")
        rows.append(
            [
                name,
                spread(slope, ".2f" if slope.max() < 10 else ".0f"),
                f"{growth(one):.2f}",
                spread(one.final("expert_score"), ".2f"),
                spread(one.final("value_slope"), ".1f"),
                f"{one.kappa[:, -1].mean():.2f}",
            ]
        )
    caption = (
        "Largest slopes on the demonstrations, over seeds: of the reward without its factor κ, and of a critic. "
        "Growth: the reward's slope at the end over that halfway, mean of seeds."
    )
    return Table("How steep it is", ("reward", "|∇r|", "growth", "D(e)", "|∇Q|", "κ"), rows, caption)


def growth(outcome: Outcome) -> float:
    """The reward's slope at the end, over that after half of the steps."""
    slope = outcome.looks.reward_slope
    half = int(np.argmin(np.abs(outcome.at - outcome.at[-1] / 2)))
    return float(np.mean(slope[:, -1] / slope[:, half]))


def shown_table(result: Result) -> Table:
    """Scores with few demonstrations."""
    rows = []
    for shown in sorted(result.cloned):
        name = shown_name(shown)
        if name in result.outcomes:
            rows.append([f"{shown}", WGAN, *scores(result.outcomes[name].final("score"))])
        rows.append([f"{shown}", CLONING, *scores(result.cloned[shown])])
    return Table("By number of the expert's episodes", ("shown", "method", "seeds", "mean"), rows, left=2)


def bound_table(result: Result) -> Table:
    """The rigorous bound on the value's slope beside what was found."""
    rows = []
    for name in (PLAIN, WGAN):
        if name not in result.outcomes:
            continue
        one = result.outcomes[name]
        bounds = one.final("reward_slope"), result.dynamics_slope, one.final("policy_slope"), DISCOUNT
        ratio = DISCOUNT * result.dynamics_slope * np.sqrt(1 + bounds[2] ** 2)
        rows.append(
            [
                name,
                spread(bounds[2], ".1f"),
                spread(ratio, ".1f"),
                spread(np.asarray(lipschitz_bound(*bounds, 3)), ".0f"),
                "none" if np.all(ratio >= 1) else spread(np.asarray(lipschitz_bound(*bounds)), ".0f"),
                spread(one.final("value_slope"), ".1f"),
            ]
        )
    caption = (
        f"B: the actor's slope on the demonstrations; q = γ A √(1 + B²) with A = {result.dynamics_slope:.2f}. A bound "
        "without a horizon needs q < 1. Q is what the critic learned, of which no bound speaks."
    )
    columns = ("reward", "B", "q", "3 rewards", "all rewards", "learned |∇Q|")
    return Table("The rigorous bound on |∇Q|", columns, rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification, and what it reports without one."""
    yield Check("the expert's return", result.expert, near(-9.927065, 1e-5), -9.927065, form=".5f")
    yield Check("no action's return", result.idle, near(-68.258876, 1e-5), -68.258876, form=".5f")
    plain, wgan, half = (result.outcomes[name] for name in (PLAIN, WGAN, CONSTANT))
    score, steep = wgan.final("score"), plain.final("reward_slope")
    yield Check("wgan: worst score", score.min(), at_least(0.7), 0.89, form=".2f")
    yield Check("wgan: mean score", score.mean(), at_least(0.85), 0.93, form=".2f")
    yield Check("wgan: largest |∇r|, ever", wgan.looks.reward_slope.max(), at_most(1.2), 0.63, form=".2f")
    below = score.min() - plain.final("score").min()
    yield Check("worst score: wgan − no penalty", below, at_least(0.3), 178, form=".3g")
    yield Check("no penalty: least |∇r| of a seed", steep.min(), at_least(20), 35, form=".0f")
    ratio = (steep / wgan.final("reward_slope")).min()
    yield Check("|∇r|, no penalty / wgan, least", ratio, at_least(25), "55 to 160", form=".0f")
    value = lambda one: one.final("value_slope").mean()
    yield Check("mean |∇Q|, constant κ / wgan", value(half) / value(wgan), at_most(0.75), 0.53, form=".2f")
    yield Check("constant κ: mean score", half.final("score").mean(), at_least(0.85), 0.94, form=".2f")
    modeled = result.outcomes.get(MODELED)
    found = None if modeled is None else value(modeled) / value(wgan)
    yield Check("mean |∇Q|, modeled κ / wgan", found, None, form=".2f")
    yield Check("no penalty: seeds below 0.7", int(np.sum(~(plain.final("score") >= 0.7))), None, 3, form="d")
    yield Check("no penalty: growth of |∇r|", growth(plain), None, form=".2f")
    for name, reference in ((DRAGAN, 0.97), (SPECTRAL, 0.95), (NAGARD, ""), (MODELED, "")):
        one = result.outcomes.get(name)
        mean = None if one is None else one.final("score").mean()
        steepest = None if one is None else one.final("reward_slope").max()
        yield Check(f"{name}: mean score", mean, None, reference, form=".2f")
        yield Check(f"{name}: largest |∇r|", steepest, None, {DRAGAN: 6.1, SPECTRAL: 24.0}.get(name, ""), form=".3g")
    yield Check(f"{CLONING}: mean score", result.cloned[SHOWN].mean(), None, 0.97, form=".2f")
    for shown in (1, 2):
        cloned = result.cloned.get(shown)
        gap = None
        if cloned is not None and shown_name(shown) in result.outcomes:
            gap = (result.outcomes[shown_name(shown)].final("score") - cloned).mean()
        yield Check(f"{shown} shown: wgan − cloning, mean", gap, None, form=".2f")


def headline(result: Result) -> str:
    """The one figure that matters, with what it is compared with."""
    plain, wgan = result.outcomes[PLAIN], result.outcomes[WGAN]
    score = lambda one: f"{one.final('score').min():.3g} to {one.final('score').max():.2g}"
    slope = lambda one: f"{one.final('reward_slope').min():.2g} to {one.final('reward_slope').max():.3g}"
    return (
        f"score with a penalty {score(wgan)}, without {score(plain)}; slope of the reward {slope(wgan)} and "
        f"{slope(plain)} (least to greatest; seeds: {len(result.settings.seeds)})"
    )
