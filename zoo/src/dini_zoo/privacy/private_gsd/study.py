"""The paper's claims on census data: marginals, conditions that have no derivative, adaptive rounds, learning.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from dini_zoo.kit.run import Phase, Run

from . import parts as of
from .census import FEW, census, parted
from .domains import Table
from .measuring import measure_one_shot
from .parts import Budget, searched
from .queries import half_space_queries, prefix_queries

MARGINALS, CONDITIONS, ADAPTIVE, LEARNING, GRAPHICAL = PARTS = (
    "marginals",
    "conditions",
    "adaptive",
    "learning",
    "graphical",
)
PREFIX, HALF_SPACE = KINDS = ("prefix", "half-space")
#: What regressions predict. `black` is left out: no one is predicted to be, by the real table neither.
TARGETS = ("marr", "nodegree")


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (20, 21, 22, 23, 24)
    """Of the conditions that are drawn, of noise, starts and searches."""
    adaptive_seeds: tuple[int, ...] = (0,)
    """Of the adaptive rounds, which take longest."""
    parts: tuple[str, ...] = PARTS
    """Which parts are run."""
    records: int = 15_992
    """People, the first of the data."""
    rows: int = 1000
    """Of synthetic tables."""
    epsilons: tuple[float, ...] = (0.1, 1.0, 10.0)
    """Budgets of marginals; those of conditions are the ones from 1 on, all others are 1."""
    generations: int = 20_000
    """Of searches for marginals."""
    conditions: int = 200
    """Of each class."""
    condition_generations: int = 10_000
    relaxation: int = 400
    """Steps in each of the baseline's ten stages."""
    pool: int = 1000
    """Half-spaces among which the adaptive rounds choose."""
    rounds: int = 10
    per_round: int = 5
    """Half-spaces measured in a round."""
    round_generations: int = 3000
    mirror_steps: int = 1000
    """Of the graphical model's fit."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            records=1500,
            rows=60,
            epsilons=(1.0,),
            generations=300,
            conditions=10,
            condition_generations=300,
            relaxation=5,
            pool=12,
            rounds=2,
            per_round=2,
            round_generations=100,
            parts=(MARGINALS, LEARNING),
        )


@dataclass(frozen=True)
class Shown:
    """Shares of people by earnings, and by age, for the picture."""

    real: np.ndarray
    table: np.ndarray


@dataclass(frozen=True)
class Result:
    """What was found; lists have an item for each seed, and each budget and class in turn."""

    settings: Settings
    marginals: list[of.Marginals]
    references: list[of.References]
    conditions: list[of.Conditions]
    adaptive: list[of.Adaptive]
    learning: list[of.Learning]
    graphical: list[of.Graphical]
    shown: Shown


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    costs = {MARGINALS: 40, CONDITIONS: 130, ADAPTIVE: 50, LEARNING: 50, GRAPHICAL: 25}
    run.plan({name: seconds for name, seconds in costs.items() if name in settings.parts})
    whole = census()
    table = Table(whole.rows[: settings.records], whole.domain)
    few = table.select(FEW)
    budget = Budget(settings.rows, settings.generations)
    seeds = lambda name, chosen=settings.seeds: chosen if name in settings.parts else ()
    keys = lambda part, seed, *names: [run.key(part, name, seed) for name in names]

    def marginals(item: tuple[int, float], _: Phase) -> of.Marginals:
        seed, epsilon = item
        return of.marginals(table, *keys(MARGINALS, seed, "noise", "search"), epsilon, budget)

    each_budget = [(seed, epsilon) for epsilon in settings.epsilons for seed in seeds(MARGINALS)]
    found_marginals = run.each(MARGINALS, each_budget, marginals, pairs=True)
    references = run.each(
        "references",
        seeds(MARGINALS),
        lambda seed, _: of.references(table, run.key("references", seed), settings.rows),
    )

    def predicates(kind: str, seed: int) -> Any:
        if kind == PREFIX:
            return prefix_queries(run.key("prefixes", seed), few.domain, settings.conditions)
        return half_space_queries(run.key("half-spaces", seed), few.domain, settings.conditions, spread=0.3)

    def conditions(item: tuple[str, float, int], _: Phase) -> of.Conditions:
        kind, epsilon, seed = item
        three = keys(CONDITIONS, seed, "noise", "search", "relaxation")
        short = Budget(settings.rows, settings.condition_generations)
        return of.conditions(few, predicates(kind, seed), kind, three, epsilon, short, settings.relaxation)

    each_kind = [
        (kind, epsilon, seed)
        for kind in KINDS
        for epsilon in settings.epsilons
        for seed in seeds(CONDITIONS)
        if epsilon >= 1
    ]
    found_conditions = run.each(CONDITIONS, each_kind, conditions, pairs=True)

    found_adaptive = run.each(
        ADAPTIVE,
        seeds(ADAPTIVE, settings.adaptive_seeds),
        lambda seed, _: of.adaptive(
            few,
            half_space_queries(run.key("pool", seed), few.domain, settings.pool, spread=0.3),
            keys(ADAPTIVE, seed, "fit", "choice", "noise", "search"),
            1.0,
            Budget(settings.rows, settings.round_generations),
            settings.rounds,
            settings.per_round,
        ),
    )
    train, test = parted(table)
    found_learning = run.each(
        LEARNING,
        seeds(LEARNING),
        lambda seed, _: of.learning(
            train, test, keys(LEARNING, seed, "noise", "search", "sample", "shuffle"), 1.0, budget, TARGETS
        ),
    )
    found_graphical = run.each(
        GRAPHICAL,
        seeds(GRAPHICAL),
        lambda seed, _: of.graphical(
            table, *keys(GRAPHICAL, seed, "noise", "search"), 1.0, budget, settings.mirror_steps
        ),
    )
    shown = run.part("picture", lambda _: show(table, run, budget))
    return Result(
        settings,
        found_marginals,
        references,
        found_conditions,
        found_adaptive,
        found_learning,
        found_graphical,
        shown,
    )


def show(table: Table, run: Run, budget: Budget) -> Shown:
    """Earnings of 1978 against age, of people and of a synthetic table at a budget of 1."""
    measurements = measure_one_shot(run.key("picture", "noise"), table, of.pairs(table), of.rho_of(1.0, len(table)))
    rows = searched(run.key("picture", "search"), measurements, budget)
    i, j = (table.domain.index(name) for name in ("age", "re78"))

    def share(rows: np.ndarray) -> np.ndarray:
        counts, *_ = np.histogram2d(rows[:, i], rows[:, j], bins=(20, 16), range=((-0.5, 39.5), (0, 1)))
        return counts / len(rows)

    return Shown(share(np.asarray(table.rows)), share(np.asarray(rows)))
