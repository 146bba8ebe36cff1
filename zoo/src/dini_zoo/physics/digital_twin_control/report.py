"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from dini_zoo.kit.tables import Bar, Check, Table, at_least, at_most, duration, spread, worst

from . import pathways, predators
from .common import CUT, MEAN_FIELD, POPULATION, Score
from .picture import draw
from .study import Result

__all__ = ["checks", "draw", "headline", "tables"]


def costs(scores: Sequence[Score], name: str) -> list[float]:
    """Of a policy, one for each seed; none where it was not measured."""
    return [one.cost for one in scores if one.name == name]


def roots(scores: Sequence[Score], name: str) -> list[float]:
    """Root mean squares of relative errors."""
    return [math.sqrt(cost) for cost in costs(scores, name)]


def evolutions(result: Result) -> list[str]:
    """The searches, by their first standard deviation."""
    return [f"{predators.EVOLUTION}, σ = {sigma}" for sigma in result.settings.sigmas]


def tables(result: Result) -> list[Table]:
    """Predators and prey, the plans, the pathway."""
    plans = result.predators.plans
    return [predator_table(result), *([] if plans is None else [plan_table(result, plans)]), pathway_table(result)]


def predator_table(result: Result) -> Table:
    """Costs and controls by policy."""
    found, settings = result.predators, result.settings
    rows: list[list[str] | None] = []
    groups = (
        (predators.NONE, predators.CONSTANT, predators.PLAN),
        (POPULATION, MEAN_FIELD, CUT),
        tuple(evolutions(result)),
    )
    for group in groups:
        for name in group:
            scores = [one for one in found.scores if one.name == name]
            if not scores:
                continue
            controls = np.mean([one.controls for one in scores], axis=0)
            label = [spread([getattr(one, part) for one in scores], ".4f") for part in ("cost", "error")]
            rows.append([name, *label, *(f"{u:.3f}" for u in controls)])
        rows.append(None)
    explained = ", ".join(f"{share:.2f}" for share in found.explained)
    overflow = max(one.overflow for one in found.scores)
    caption = (
        f"Targets: {predators.TARGET[0]:.0f} sheep, {predators.TARGET[1]:.0f} wolves. Costs on "
        f"{settings.evaluated} held-out simulations, over the seeds {settings.seeds} of training; controls are shares "
        f"removed a step. Best constant: {found.best}. The mean field explains {explained} of the variance of the "
        f"steps of sheep, wolves and grass. Births without a slot: {overflow}."
    )
    columns = ("policy", "cost", "standard error", "sheep", "wolves")
    return Table("Sheep and wolves", columns, rows[:-1], caption)


def plan_table(result: Result, plans: predators.Plans) -> Table:
    """Shooting beside collocation."""
    hold = result.settings.hold
    names = {"free": "shooting, free in each step", "shooting": "shooting", "collocation": "collocation"}
    rows = [[names[name], f"{plans.steps[name]}", duration(plans.seconds[name])] for name in plans.steps]
    (real,) = costs(result.predators.scores, predators.PLAN)
    caption = (
        f"Where controls are not free they stay for {hold} steps; times are with compilation. The controls of shooting "
        f"and collocation differ by {plans.apart:.1e} of the largest one. Free in each step, the mean field promises a "
        f"cost of {plans.promised:.4f}; the population gives {real:.3f}."
    )
    return Table("Plans of the mean field, by dini.minimize", ("method", "steps", "time"), rows, caption)


def pathway_table(result: Result) -> Table:
    """Errors by policy and pathway."""
    found = result.pathways
    rows = []
    planned = () if found.promised is None else (pathways.OPTIMAL,)
    for name in (pathways.CONSTANT, *planned, pathways.OPEN, POPULATION, MEAN_FIELD):
        rows.append([name, *(spread(roots(scores, name), ".3f") for scores in (found.nominal, found.changed))])
    noise = math.sqrt(np.mean([1 / level for level in pathways.REFERENCE]))
    overflow = max(one.overflow for one in (*found.nominal, *found.changed))
    promise = "" if found.promised is None else f"; dini's plan promises {math.sqrt(found.promised):.3f}"
    caption = (
        f"On {result.settings.pathway_evaluated} held-out simulations. None was trained with k₄ = {pathways.CHANGED}. "
        f"Best constant inflow: {found.best:g}. Counting noise alone is {noise:.3f}{promise}. Arrivals without a slot: "
        f"{overflow}."
    )
    columns = ("policy", f"k₄ = {pathways.NOMINAL}", f"k₄ = {pathways.CHANGED}")
    return Table("Pathway: root mean square relative error of the end product", columns, rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification. All seeds must meet it: the worst one's figure counts."""
    scores = result.predators.scores
    ours, rival, cut = (costs(scores, name) for name in (POPULATION, MEAN_FIELD, CUT))
    (best,) = costs(scores, predators.CONSTANT)
    (none,) = costs(scores, predators.NONE)

    def of_worst(
        quantity: str, values: list[float], bar: Bar | None, reference: float | str, form: str = ".2f"
    ) -> Check:
        return worst(quantity, values, bar, reference, form=form)

    divided = lambda one, other: [a / b for a, b in zip(one, other, strict=True)]
    yield of_worst("sheep, wolves: cost, through population", ours, at_most(0.06), "0.023 to 0.038", ".4f")
    yield of_worst("sheep, wolves: this / best constant", [one / best for one in ours], at_most(0.4), "0.15 to 0.23")
    yield of_worst("sheep, wolves: this / through mean field", divided(ours, rival), at_most(0.25), "0.05 to 0.12")
    names = evolutions(result)
    evolved = [min(each) for each in zip(*(costs(scores, name) for name in names), strict=True)] if names else []
    yield of_worst("best CMA-ES / through population", divided(evolved, ours) if evolved else [], at_least(1.5), 4.1)
    yield of_worst("no gradient through time / through population", divided(cut, ours), at_least(3), 101)
    yield Check("sheep, wolves: cost, no control", none, None, "2.57, 3.03", form=".2f")
    for label, scores, references, bounds in (
        (f"k₄ = {pathways.NOMINAL}", result.pathways.nominal, ("0.096 to 0.112", 0.64, 0.88), (0.7, 0.93)),
        (f"k₄ = {pathways.CHANGED}", result.pathways.changed, ("0.192 to 0.215", 0.84, 0.93), (0.9, 0.96)),
    ):
        feedback, mean_field, open_loop = (roots(scores, name) for name in (POPULATION, MEAN_FIELD, pathways.OPEN))
        (best,) = roots(scores, pathways.CONSTANT)
        bar = at_most(0.12) if scores is result.pathways.nominal else None
        yield of_worst(f"pathway, {label}: error of feedback", feedback, bar, references[0], ".3f")
        yield of_worst(
            f"pathway, {label}: this / best constant",
            [one / best for one in feedback],
            at_most(bounds[0]),
            references[1],
        )
        yield of_worst(
            f"pathway, {label}: this / open loop", divided(feedback, open_loop), at_most(bounds[1]), references[2]
        )
        yield of_worst(
            f"pathway, {label}: this / through mean field", divided(feedback, mean_field), None, "0.99 to 1.02"
        )
    lost = max(one.overflow for one in (*result.predators.scores, *result.pathways.nominal, *result.pathways.changed))
    yield Check("births, arrivals without a slot", lost, at_most(0), 0, form=".0f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    one, other = (costs(result.predators.scores, name) for name in (POPULATION, MEAN_FIELD))
    (best,) = costs(result.predators.scores, predators.CONSTANT)
    return (
        f"Cost {np.mean(one):.3f} ({spread(one, '.3f')}) if trained through the agents, {np.mean(other):.3f} "
        f"({spread(other, '.3f')}) through their mean field, best constant {best:.3f}; seeds: {len(one)}"
    )
