"""The claim at a given number of rounds, at rounds that were tuned, on observed data; and local steps.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from dini_zoo.kit.run import Phase, Run

from ..ledger import privacy_spent
from .budget import Noise, calibrate, calibrate_local, local_spent, spent
from .poisson import calibrate_poisson
from .problems import Problem, generated, health
from .runs import DIFF2, DP_GD, Outcome, Setting, descent, poisson
from .visits import Path, by_gradient, by_local_steps, divided, privately


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (20, 21, 22, 23, 24)
    epsilons: tuple[float, ...] = (1.0, 3.0, 10.0)
    delta: float = 1e-5
    records: int = 20_000
    """Generated ones."""
    rounds: int = 3000
    tuned: tuple[int, ...] = (100, 300, 1000)
    """Other numbers of rounds, among which each method takes its best one; with none there is no such comparison."""
    health_seeds: int = 5
    """Of the noise on observed data, from the first seed on; with none these are left out."""
    health_records: int = 16_000
    """At most 20 190."""
    health_rounds: int = 1500
    clients: int = 10
    batch: int = 200
    """Of a local step."""
    local_steps: tuple[int, ...] = (5, 10, 20)
    local_rounds: int = 400
    """At most so many, of one step each; with local steps as many fewer."""
    private_rounds: int = 30
    """Of the private run with local steps; with none it is left out."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            epsilons=(3.0,),
            records=200,
            rounds=30,
            tuned=(),
            health_seeds=0,
            clients=2,
            batch=20,
            local_steps=(2,),
            local_rounds=8,
            private_rounds=0,
        )

    def interval(self, share: int) -> int:
        """A restart's interval, of so many in all rounds."""
        return max(2, self.rounds // share)


@dataclass(frozen=True)
class Account:
    r"""What a routine's releases cost by several accountants, in :math:`\varepsilon`."""

    routine: str
    target: float
    found: dict[str, float]


@dataclass(frozen=True)
class Visits:
    """Rounds to a small gradient without noise, clients in order and by label."""

    gradient: dict[str, Path]
    local: dict[str, dict[int, list[Path]]]
    """By division and local steps, a path for each seed."""
    plain: dict[str, list[Path]]


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    given: list[Outcome]
    """At the given rounds, on generated records."""
    sampled: list[Outcome]
    """DP-SGD at the same rounds and the smallest budget."""
    tuned: list[Outcome]
    """Each method's best setting at each budget, chosen by other noise."""
    health: list[Outcome]
    visits: Visits
    private: list[Path]
    """Private local steps, for each seed."""
    accounts: list[Account]


def given_settings(settings: Settings) -> list[Setting]:
    """The specification's: all intervals at the smallest budget, the best one at the others."""
    found = []
    for epsilon in settings.epsilons:
        smallest = epsilon == min(settings.epsilons)
        found += [Setting(epsilon, settings.rounds, 1, clip) for clip in (0.1, 0.3)]
        shares = {300: 0.1, 100: 0.1, 30: 0.1, 10: 0.1} if smallest else {3: 0.3}
        found += [Setting(epsilon, settings.rounds, settings.interval(share), clip) for share, clip in shares.items()]
    return list(dict.fromkeys(found))


def tuned_settings(settings: Settings) -> list[Setting]:
    """Fewer rounds, two rates, two clips; and two intervals."""
    return [
        Setting(epsilon, rounds, interval, clip, rate)
        for epsilon in settings.epsilons
        for rounds in settings.tuned
        for rate in (5.0, 10.0)
        for clip in (0.1, 0.3)
        for interval in (1, rounds // 10, rounds // 3)
    ]


def health_settings(settings: Settings) -> list[Setting]:
    """DP-GD with several clips, and DIFF2 with several intervals, at the smallest budget."""
    epsilon, rounds = min(settings.epsilons), settings.health_rounds
    one = [Setting(epsilon, rounds, 1, clip) for clip in (0.03, 0.1, 0.2, 0.3)]
    return one + list(
        dict.fromkeys(Setting(epsilon, rounds, max(2, rounds // share), 0.3) for share in (100, 10, 5, 3))
    )


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan(
        {
            "data": 3,
            "given rounds": 50,
            "DP-SGD": 8,
            "tuned rounds": 25,
            "their best": 8,
            "randhie": 12,
            "local steps": 12,
        }
    )
    problem, observed = run.part(
        "data",
        lambda _: (generated(settings.records), health(settings.health_records) if settings.health_seeds else None),
    )

    def outcomes(name: str, problem: Problem, all_settings: list[Setting], seeds: tuple[int, ...]) -> list[Outcome]:
        def one(setting: Setting, _: Phase) -> Outcome:
            keys = [run.key(name, setting.name, seed) for seed in seeds]
            return descent(problem, setting, keys, delta=settings.delta)

        return run.each(name, all_settings, one, pairs=True)

    given = outcomes("given rounds", problem, given_settings(settings), settings.seeds)

    def sampled(rate: float, _: Phase) -> Outcome:
        setting = Setting(min(settings.epsilons), settings.rounds, 1, 0.1)
        multiplier = calibrate_poisson(setting.epsilon, settings.delta, rate=rate, rounds=settings.rounds)
        keys = [run.key("poisson", str(rate), seed) for seed in settings.seeds]
        return poisson(problem, setting, keys, rate=rate, multiplier=multiplier)

    stochastic = run.each("DP-SGD", (0.1,), sampled)
    # chosen by noise of its own: the least of many figures is too good to be reported
    tried = outcomes("tuned rounds", problem, tuned_settings(settings), (-1,)) if settings.tuned else []
    chosen = [
        found.setting
        for epsilon in settings.epsilons
        for method in (DP_GD, DIFF2)
        if (found := best(tried, method, epsilon)) is not None
    ]
    tuned = outcomes("their best", problem, chosen, settings.seeds)
    seeds = tuple(settings.seeds[0] + i for i in range(settings.health_seeds))
    on_health = [] if observed is None else outcomes("randhie", observed, health_settings(settings), seeds)
    visits = run.part("local steps", lambda _: _visits(settings, problem, run))
    private, accounts = run.part("accounts", lambda _: _private(settings, problem, run))
    return Result(settings, given, stochastic, tuned, on_health, visits, private, accounts)


def _visits(settings: Settings, problem: Problem, run: Run) -> Visits:
    gradient, local, plain = {}, {}, {}
    middle = settings.local_steps[len(settings.local_steps) // 2]
    for division in ("in order", "by label"):
        clients = divided(problem, settings.clients, by_label=division == "by label")
        keys = [run.key("local", division, seed) for seed in settings.seeds]
        gradient[division] = by_gradient(keys[0], problem.start, clients, 5.0, settings.local_rounds)
        local[division] = {
            steps: [
                by_local_steps(
                    key,
                    problem.start,
                    clients,
                    5.0,
                    rounds=max(1, 2 * settings.local_rounds // steps),
                    steps=steps,
                    batch=settings.batch,
                )
                for key in keys
            ]
            for steps in settings.local_steps
        }
        plain[division] = [
            by_local_steps(
                key,
                problem.start,
                clients,
                5.0,
                rounds=settings.local_rounds // 2,
                steps=middle,
                batch=settings.batch,
                plain=True,
            )
            for key in keys
        ]
    return Visits(gradient, local, plain)


def _private(settings: Settings, problem: Problem, run: Run) -> tuple[list[Path], list[Account]]:
    """Local steps with privacy; and what both routines' releases cost by the accountants of another library."""
    epsilon, delta = min(settings.epsilons), settings.delta
    whole, sizes = (settings.records,), (settings.records // settings.clients,) * settings.clients
    rounds, interval = settings.rounds, settings.interval(10)
    accounts = []
    for method in ("closed_form", "exact"):
        noise = calibrate(epsilon, delta, rounds=rounds, restart_every=interval, sizes=whole, method=method)
        ledger = spent(Noise(*noise), rounds, interval, whole)
        found = {name: privacy_spent(ledger, delta, name) for name in ("gaussian", "rdp", "pld")}
        accounts.append(Account(f"{DIFF2}-GD, {method.replace('_', ' ')}", epsilon, found))
    if not settings.private_rounds:
        return [], accounts
    options = {"rounds": settings.private_rounds, "restart_every": max(1, settings.private_rounds // 3)}
    steps = settings.local_steps[len(settings.local_steps) // 2]
    cost = {"sizes": sizes, "batch": settings.batch, "steps": steps}
    cost["visits"] = -(-settings.private_rounds // settings.clients)
    noise = calibrate_local(epsilon, delta, **options, **cost)
    found = {"rdp": privacy_spent(local_spent(noise, **options, **cost), delta, "rdp")}
    accounts.append(Account(f"{DIFF2}, local steps", epsilon, found))
    clients = divided(problem, settings.clients, by_label=False)
    paths = [
        privately(
            run.key("private", seed), problem.start, clients, 5.0, noise, **options, steps=steps, batch=settings.batch
        )
        for seed in settings.seeds
    ]
    return paths, accounts


def best(outcomes: list[Outcome], method: str, epsilon: float, of: str = "gradient") -> Outcome | None:
    """The setting of a method and a budget whose mean over seeds is the least."""
    mine = [one for one in outcomes if one.setting.method == method and one.setting.epsilon == epsilon]
    return min(mine, key=lambda one: np.mean(getattr(one, of)), default=None)
