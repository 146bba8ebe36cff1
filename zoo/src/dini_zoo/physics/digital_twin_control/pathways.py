"""The second half of the experiment: the end product of a pathway that is to follow a reference."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dini_zoo.kit.run import Phase, Run

from ..estimators import mean_field_rollout
from ..optimal_control import open_loop_optimal_control
from ..policies import Controller, Inputs, TrackingCost, policy_trainer, through_mean_field, through_population
from .common import MEAN_FIELD, POPULATION, Judge, Score, Weighted, score
from .metabolic_pathway import MetabolicPathway

SCALE, MOST = (30.0, 50.0, 50.0, 80.0), 60.0
REFERENCE = (60.0, 90.0)
GRID = (17.5, 20.0, 22.5, 25.0, 27.5, 30.0, 32.5)
NOMINAL, CHANGED = 0.3, 0.39
#: What the effort of a plan weighs: where no count matters, its controls would be free.
EFFORT = 1e-6
CONSTANT, OPEN, OPTIMAL = "best constant", "open loop", "open loop, by dini"


@dataclass(frozen=True)
class Pathways:
    """What was found of the pathway: costs are mean squares of relative errors."""

    best: float
    """The best constant inflow of the nominal pathway."""
    nominal: list[Score]
    changed: list[Score]
    """With a faster last step, on which no network was trained."""
    promised: float | None
    """The cost of dini's plan by the mean field, without effort."""
    paths: dict[str, np.ndarray]
    """Counts of the end product on the held-out keys, of some policies: from the 10th to the 90th percent, the mean."""
    reference: np.ndarray


def tracking(steps: int, effort: float = 0.0) -> TrackingCost:
    """The end product, at the later half of each of two phases."""
    t, half = np.arange(steps), steps // 2
    target = np.where(t < half, *REFERENCE)[:, None]
    return TrackingCost(jnp.asarray(target, float), jnp.asarray(t % half >= half // 2), species=(3,), effort=effort)


def planned(steps: int, hold: int) -> tuple[np.ndarray, float]:
    """The best controls of the mean field, and what they promise, in double precision."""
    with jax.enable_x64(True):
        bounds: dict[str, Any] = {"lower": jnp.zeros(1), "upper": MOST, "start": jnp.full(1, MOST / 3)}
        plan = jax.jit(
            functools.partial(open_loop_optimal_control, cost=tracking(steps, EFFORT), steps=steps, hold=hold, **bounds)
        )(MetabolicPathway().mean_field, jnp.zeros(4))
        return np.asarray(plan.u), float(tracking(steps)(plan.x[1:], plan.u))


def study(settings: Any, run: Run) -> Pathways:
    """Train, plan and search, and compare on held-out keys of two pathways."""
    steps, seeds, count = settings.pathway_steps, settings.seeds, settings.pathway_evaluated
    abm, cost = MetabolicPathway(), tracking(steps)
    changed = MetabolicPathway(rates=(1.0, 0.5, 0.5, CHANGED))
    reference = tuple(map(float, cost.target[:, 0]))
    fresh = lambda seed: Controller(Inputs(SCALE, steps, reference), (MOST,), key=run.key("pathway weights", seed))
    judge = Judge(abm, cost, steps, fresh(seeds[0]))
    keys = lambda *name: jax.random.split(run.key("pathway", *name), count)

    def searched(_: Phase) -> float:
        costs = [float(jnp.mean(judge(judge.of_schedule(u), keys("constants")).cost)) for u in GRID]
        return GRID[int(np.argmin(costs))]

    best = run.part("pathway constants", searched)
    plan = run.part("pathway plan", lambda _: planned(steps, settings.hold)) if settings.hold else None

    training = settings.pathway_training
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(2e-2, training)))
    options = {"training": training, "runs": settings.runs}
    by_population = policy_trainer(through_population(abm, steps), cost, optimizer, **options)
    by_mean_field = policy_trainer(through_mean_field(abm, steps), cost, optimizer, **options)
    g = Weighted(abm.mean_field, jnp.float32(1.0))

    def train(which: tuple[str, int], phase: Phase) -> Controller:
        kind, seed = which
        trainer = by_mean_field if kind == MEAN_FIELD else by_population
        return trainer(fresh(seed), g, key=run.key("pathway training", seed), advance=phase.advance).model

    jobs = [(kind, seed) for seed in seeds for kind in (POPULATION, MEAN_FIELD)]
    trained = dict(zip(jobs, run.each("pathway controllers", jobs, train, training, pairs=True), strict=True))

    def judged(phase: Phase) -> tuple[list[Score], list[Score], dict[str, np.ndarray]]:
        policies = [
            (CONSTANT, None, judge.of_schedule(best)),
            *([] if plan is None else [(OPTIMAL, None, judge.of_schedule(plan[0]))]),
            *((kind, seed, judge.of_controller(found)) for (kind, seed), found in trained.items()),
        ]
        for seed in seeds:
            # what the network does on the mean field, whatever the population does
            u = mean_field_rollout(g, trained[MEAN_FIELD, seed], jnp.zeros(4), steps)[1]
            policies.append((OPEN, seed, judge.of_schedule(u)))
        nominal, other, paths = [], [], {}
        for name, seed, policy in policies:
            for scores, which, label in ((nominal, abm, "nominal"), (other, changed, "changed")):
                found = judge(policy, keys("held out"), which)
                scores.append(score(name, seed, found))
                if f"{name}, {label}" not in paths:
                    x = np.asarray(found.path.x[:, :, 3])
                    paths[f"{name}, {label}"] = np.stack([*np.quantile(x, (0.1, 0.9), axis=0), x.mean(axis=0)])
            phase.advance()
        return nominal, other, paths

    nominal, other, paths = run.part("pathways judged", judged)
    return Pathways(best, nominal, other, None if plan is None else plan[1], paths, np.asarray(cost.target[:, 0]))
