"""The first half of the experiment: sheep and wolves that are to stay near a target."""

from __future__ import annotations

import functools
import itertools
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dini_zoo.kit.run import Phase, Run

from ..mean_field import LotkaVolterraMap, Transitions, explained_increments, fit_mean_field, random_controls
from ..mean_field import transitions_of as transitions
from ..optimal_control import open_loop_optimal_control
from ..policies import Controller, Inputs, TrackingCost, policy_trainer, through_mean_field, through_population
from .common import CUT, MEAN_FIELD, POPULATION, Judge, Score, Weighted, score
from .evolution import evolve
from .grass_sheep_wolves import GrassSheepWolves

#: Usual counts of sheep, wolves and grown cells on 40 × 40 cells.
SCALE = (200.0, 80.0, 800.0)
TARGET, MOST, EFFORT = (180.0, 40.0), 0.15, 5.0
GRID = tuple(itertools.product((0.0, 0.01, 0.02), (0.01, 0.02, 0.03, 0.05)))
NONE, CONSTANT, PLAN, EVOLUTION = "no control", "best constant", "plan of the mean field", "CMA-ES"


@dataclass(frozen=True)
class Plans:
    """The best controls of the mean field, found in two ways."""

    u: np.ndarray
    """By shooting, free in each step."""
    promised: float
    """What they cost by the mean field."""
    steps: dict[str, int]
    """Of the solver, by way: free in each step, or held for a while."""
    seconds: dict[str, float]
    """With compilation."""
    apart: float
    """The largest difference of the controls of the two ways, relative to the largest control."""


@dataclass(frozen=True)
class Predators:
    """What was found of sheep and wolves."""

    explained: tuple[float, ...]
    """Of the variance of single steps, by the mean field."""
    best: tuple[float, ...]
    """The best constant control."""
    plans: Plans | None
    scores: list[Score]
    paths: dict[str, np.ndarray]
    """Counts on the held-out keys, of some policies."""
    controls: np.ndarray
    """Mean controls of the first controller that was trained through the population."""
    meadows: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    """At the end of a simulation, of some policies: grown cells, positions of sheep, of wolves."""
    losses: dict[str, np.ndarray]
    """Of the trainings, a row for each seed."""


def tracking(steps: int) -> TrackingCost:
    """Both targets, from a quarter of the time on."""
    after = jnp.arange(1, steps + 1)
    target = jnp.broadcast_to(jnp.array(TARGET, jnp.float32), (steps, 2))
    return TrackingCost(target, after >= steps // 4, species=(0, 1), effort=EFFORT)


def fitted(data: Any) -> tuple[LotkaVolterraMap, tuple[float, ...]]:
    """The mean field, in double precision, and what it explains."""
    with jax.enable_x64(True):
        data = Transitions(*(jnp.asarray(np.asarray(part), float) for part in data))
        g = fit_mean_field(data, scale=SCALE, controlled=(0, 1))
        return g, tuple(map(float, explained_increments(g, data)))


def planned(g: LotkaVolterraMap, x0: np.ndarray, steps: int, hold: int) -> Plans:
    """Shooting and collocation, in double precision."""
    with jax.enable_x64(True):
        like = tracking(steps)
        target = jnp.asarray(np.asarray(like.target), float)
        cost = TrackingCost(target, like.counted, species=like.species, effort=EFFORT)
        bounds: dict[str, Any] = {"lower": jnp.zeros(2), "upper": MOST, "start": jnp.full(2, 0.1 * MOST)}
        ways: dict[str, dict[str, Any]] = {
            "free": {},
            "shooting": {"hold": hold},
            "collocation": {"hold": hold, "method": "collocation", "segment": hold},
        }
        found, seconds = {}, {}
        for name, way in ways.items():
            plan = jax.jit(functools.partial(open_loop_optimal_control, cost=cost, steps=steps, **bounds, **way))
            begin = time.perf_counter()
            found[name] = jax.block_until_ready(plan(g, jnp.asarray(x0, float)))
            seconds[name] = time.perf_counter() - begin
        apart = float(jnp.max(jnp.abs(found["shooting"].u - found["collocation"].u)) / MOST)
        taken = {name: int(one.solution.stats.steps) for name, one in found.items()}
        return Plans(np.asarray(found["free"].u), float(found["free"].cost), taken, seconds, apart)


def study(settings: Any, run: Run) -> Predators:
    """Fit, train, plan, search, and compare on held-out keys."""
    steps, seeds, count = settings.steps, settings.seeds, settings.evaluated
    abm = GrassSheepWolves(side=settings.side, sheep=settings.sheep, wolves=settings.wolves, capacity=settings.capacity)
    cost = tracking(steps)
    fresh = lambda seed: Controller(Inputs(SCALE, steps), (MOST, MOST), key=run.key("weights", seed))
    judge = Judge(abm, cost, steps, fresh(seeds[0]))
    keys = lambda *name: jax.random.split(run.key("predators", *name), count)

    def fit(_: Phase) -> tuple[Any, tuple[float, ...], np.ndarray]:
        controls = random_controls(run.key("controls"), count, steps, (MOST, MOST))
        path = judge.each([judge.of_schedule(u) for u in controls], keys("transitions")).path
        g, explained = fitted(transitions(path))
        return g, explained, np.asarray(path.x[:, 0]).mean(axis=0)

    g, explained, x0 = run.part("mean field", fit)
    plans = run.part("plans", lambda _: planned(g, x0, steps, settings.hold)) if settings.hold else None

    def searched(_: Phase) -> tuple[float, ...]:
        costs = [float(jnp.mean(judge(judge.of_schedule(u), keys("constants")).cost)) for u in GRID]
        return GRID[int(np.argmin(costs))]

    best = run.part("constants", searched)

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
    options = {"training": settings.training, "runs": settings.runs}
    by_population = policy_trainer(through_population(abm, steps), cost, optimizer, **options)
    by_mean_field = policy_trainer(through_mean_field(abm, steps), cost, optimizer, **options)
    single = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), g)

    def train(which: tuple[str, int], phase: Phase) -> tuple[Controller, np.ndarray]:
        kind, seed = which
        trainer = by_mean_field if kind == MEAN_FIELD else by_population
        weighted = Weighted(single, jnp.float32(0.0 if kind == CUT else 1.0))
        course = trainer(fresh(seed), weighted, key=run.key("training", seed), advance=phase.advance)
        return course.model, course.loss

    jobs = [(kind, seed) for seed in seeds for kind in (POPULATION, MEAN_FIELD, CUT)]
    trained = dict(zip(jobs, run.each("controllers", jobs, train, settings.training, pairs=True), strict=True))

    def search(which: tuple[float, int], phase: Phase) -> Controller:
        sigma, seed = which

        def costs(policies: list[Controller], generation: int) -> Any:
            key = jax.random.fold_in(run.key("evolution", seed), generation)
            phase.advance()
            return judge.each([judge.of_controller(one) for one in policies], jnp.stack([key] * len(policies))).cost

        sizes = {"generations": settings.generations, "population": settings.population}
        return evolve(fresh(seed), costs, sigma=sigma, seed=seed, **sizes)

    searches = [(sigma, seed) for seed in seeds for sigma in settings.sigmas]
    evolved = run.each("evolution", searches, search, settings.generations, pairs=True)

    def judged(phase: Phase) -> tuple[list[Score], dict[str, np.ndarray], np.ndarray, dict[str, Any]]:
        policies = [
            (NONE, None, judge.of_schedule(0.0)),
            (CONSTANT, None, judge.of_schedule(best)),
            *([] if plans is None else [(PLAN, None, judge.of_schedule(plans.u))]),
            *((kind, seed, judge.of_controller(found[0])) for (kind, seed), found in trained.items()),
            *(
                (f"{EVOLUTION}, σ = {sigma}", seed, judge.of_controller(found))
                for (sigma, seed), found in zip(searches, evolved, strict=True)
            ),
        ]
        scores, paths, meadows, controls = [], {}, {}, np.zeros(())
        for name, seed, policy in policies:
            found = judge(policy, keys("held out"))
            scores.append(score(name, seed, found))
            if name not in paths and not name.startswith(EVOLUTION):
                paths[name] = np.asarray(found.path.x)
                meadows[name] = drawn(found.path.state, settings.side)
                if name == POPULATION:
                    controls = np.asarray(found.path.u).mean(axis=0)
            phase.advance()
        return scores, paths, controls, meadows

    scores, paths, controls, meadows = run.part("predators judged", judged)
    losses = {kind: np.stack([trained[kind, seed][1] for seed in seeds]) for kind in (POPULATION, MEAN_FIELD, CUT)}
    return Predators(explained, best, plans, scores, paths, controls, meadows, losses)


def drawn(state: Any, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first one of several states, to be drawn."""
    grown = np.asarray(state.countdown[0] == 0).reshape(side, side)
    where = lambda animals: np.asarray(animals.values.position[0])[np.asarray(animals.alive[0])]
    return grown, where(state.sheep), where(state.wolves)
