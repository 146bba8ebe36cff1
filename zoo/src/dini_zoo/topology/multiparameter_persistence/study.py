"""Clouds of points moved by a topological loss of one parameter or two, and graphs distinguished by learned functions.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from dini_zoo.kit.run import Phase, Run

from .clouds import ONE, TWO, Moved, Mover, Shown, basin, cloud, shown
from .complexes import Ranked
from .filtrations import rips_lower_star
from .graphs import Learned, Learner, sampled
from .measures import cumulative, signed_measure
from .reduction import betti
from .vectorizations import linear_functional

KINDS = (TWO, ONE)
PARTS = ("exact", "clouds", "graphs")


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of the clouds."""
    parts: tuple[str, ...] = PARTS
    """What is done."""
    points: int = 50
    steps: int = 400
    """Of Adam on a cloud; fewer do not tell the losses apart."""
    rate: float = 0.01
    data_seeds: tuple[int, ...] = (0, 1, 2)
    """Of the graphs."""
    parameters: tuple[int, ...] = (2, 1)
    """Numbers of functions that are learned."""
    starts: int = 4
    """Of a network on one set of graphs: the one with the smallest training loss is kept."""
    train: int = 200
    test: int = 400
    batch: int = 16
    graph_steps: int = 400
    graph_rate: float = 2e-2
    pixels: int = 60
    """Of a landscape, a side."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            parts=("clouds",),
            points=8,
            steps=2,
            data_seeds=(0,),
            parameters=(2,),
            starts=1,
            train=8,
            test=8,
            batch=8,
            graph_steps=2,
            pixels=4,
        )


@dataclass(frozen=True)
class Exact:
    """What is known exactly, and what was found."""

    derivatives: tuple[float, ...]
    """Of a loss in degrees 0 and 1, along a direction."""
    differences: tuple[float, ...]
    """The same by central differences."""
    rebuilt: int
    """Values of a Hilbert function that the measure gives back as ranks of boundary matrices have them."""
    asked: int


@dataclass(frozen=True)
class Result:
    """What was found; `None` or nothing is what was not done."""

    settings: Settings
    exact: Exact | None
    clouds: dict[str, list[Moved]]
    """By the number of parameters, for each seed."""
    shown: list[Shown]
    """The first seed's cloud before and after, by two parameters."""
    graphs: list[Learned]
    """By data seed and number of parameters."""


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"exact checks": 4, "clouds": 55, "measures": 4, "graphs": 110})
    done = lambda part: part in settings.parts
    exact = run.part("exact checks", lambda _: exact_checks()) if done("exact") else None
    clouds = moved_clouds(settings, run) if done("clouds") else {kind: [] for kind in KINDS}
    first = clouds[TWO][:1]
    measures = run.part(
        "measures", lambda _: [shown(points, settings.pixels) for one in first for points in (one.first, one.last)]
    )
    graphs = learned_graphs(settings, run) if done("graphs") else []
    return Result(settings, exact, clouds, measures, graphs)


def moved_clouds(settings: Settings, run: Run) -> dict[str, list[Moved]]:
    """Each seed's cloud by both losses."""
    movers = {kind: Mover(kind, settings.steps, settings.rate) for kind in KINDS}

    def move(item: tuple[str, int], phase: Phase) -> Moved:
        kind, seed = item
        return movers[kind](cloud(settings.points, seed), phase.advance)

    items = [(kind, seed) for seed in settings.seeds for kind in KINDS]
    moved = run.each("clouds", items, move, settings.steps, pairs=True)
    return {kind: moved[i :: len(KINDS)] for i, kind in enumerate(KINDS)}


def learned_graphs(settings: Settings, run: Run) -> list[Learned]:
    """Networks of one function and of two on each set of graphs."""
    learners = {p: Learner(p, settings.graph_steps, settings.batch, settings.graph_rate) for p in settings.parameters}

    def learn(item: tuple[int, int], phase: Phase) -> Learned:
        seed, parameters = item
        random = np.random.RandomState(seed)
        train, test = sampled(random, settings.train), sampled(random, settings.test)
        keys = jnp.stack([run.key("start", seed, i) for i in range(settings.starts)])
        return learners[parameters](seed, keys, train, test, phase.advance)

    tasks = [(seed, parameters) for seed in settings.data_seeds for parameters in settings.parameters]
    return run.each("graphs", tasks, learn, settings.graph_steps, pairs=True)


def exact_checks() -> Exact:
    """A derivative and a reconstruction whose figures are known."""
    points = jnp.asarray(np.random.RandomState(7).rand(25, 2))
    direction = jnp.asarray(np.random.RandomState(8).randn(25, 2))

    @jax.jit
    def losses(points: jax.Array, direction: jax.Array) -> Any:
        """In both degrees, with their derivatives along the direction."""

        def both(points: jax.Array) -> jax.Array:
            filtration = rips_lower_star(points, basin(points))
            measures = [signed_measure(filtration, degree, engine="multipers") for degree in (0, 1)]
            return jnp.stack([linear_functional(one, lambda p: p[0] ** 2 + p[0] * p[1]) for one in measures])

        return jax.jvp(both, (points,), (direction,))

    h = 1e-6
    _, derivatives = losses(points, direction)
    differences = (losses(points + h * direction, direction)[0] - losses(points - h * direction, direction)[0]) / (
        2 * h
    )
    found, truth = reconstruction()
    rebuilt = int(np.sum(found == truth))
    return Exact(tuple(derivatives.tolist()), tuple(differences.tolist()), rebuilt, truth.size)


def reconstruction() -> tuple[np.ndarray, np.ndarray]:
    """The first Betti numbers of a noisy circle by scale and function: by the measure, and by ranks of boundaries."""
    turn = 2 * np.pi * np.arange(24) / 24
    points = np.stack([np.cos(turn), np.sin(turn)], axis=1) + 0.1 * np.random.RandomState(0).randn(24, 2)
    function = points[:, 0] ** 2 + 0.3 * points[:, 1] + 0.1 * np.arange(24) / 24
    measure = signed_measure(rips_lower_star(points, function), 1, engine="multipers", max_points=64)
    scales = np.linspace(0.2, 2, 9)
    levels = np.quantile(function, np.linspace(0.3, 1, 7))
    at = np.stack(np.meshgrid(scales, levels, indexing="ij"), axis=-1)
    truth = np.array([[_betti(points[function <= level], scale) for level in levels] for scale in scales])
    return np.asarray(cumulative(measure, jnp.asarray(at))), truth


def _betti(points: np.ndarray, scale: float) -> int:
    """The first Betti number of the Rips complex of points at a scale, by boundary matrices and nothing else."""
    near = np.linalg.norm(points[:, None] - points, axis=-1) <= scale
    edges = np.argwhere(np.triu(near, 1))
    return betti(Ranked.flag_of(len(points), edges, 2), 1)
