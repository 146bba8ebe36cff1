"""The paper's claims at a size for two cores: learned transport, the level of noise, Schrödinger bridges.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax

from dini_zoo.kit.run import Phase, Run

from ..interpolants import linear
from . import gaussians, noise_levels, transport


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seed: int = 0
    training: int = 5000
    """Steps of the network in the plane."""
    batch: int = 256
    width: int = 128
    times: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    """At which its fields are compared with the exact ones."""
    levels: tuple[float, ...] = (0.0, 0.25, 1.0, 4.0)
    """Of noise, in the plane."""
    points: int = 2500
    """That are drawn with each key."""
    keys: int = 4
    steps: int = 400
    """Of the samplers in the plane."""
    seeds: tuple[int, ...] = (0, 1)
    """Of networks and laws in many dimensions."""
    dimension: int = 32
    short_training: int = 1200
    short_width: int = 192
    many_levels: tuple[float, ...] = (0.0, 0.1, 1.0)
    many_points: int = 10_000
    many_keys: int = 2
    many_steps: int = 100
    cases: int = 3
    """Pairs of normal laws that are bridged."""
    nodes: int = 65
    """Of a discretized path; odd."""
    bridge_steps: int = 300
    bridge_batch: int = 1024
    bridge_width: int = 16

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            training=2,
            batch=8,
            width=8,
            times=(0.5,),
            levels=(0.0,),
            points=40,
            keys=1,
            steps=4,
            seeds=(0,),
            dimension=3,
            short_training=2,
            short_width=8,
            many_levels=(0.1,),
            many_points=40,
            many_keys=1,
            many_steps=2,
            cases=0,
        )


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    transport: transport.Transport
    levels: list[noise_levels.Levels]
    """For each seed."""
    bridges: list[gaussians.Case]


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"bridges": 25, "training": 40, "transport": 80, "levels of noise": 140})

    def bridge(case: tuple[float, float, float], phase: Phase) -> gaussians.Case:
        with jax.enable_x64(True):
            return gaussians.solve(
                case,
                run.key("bridges"),
                nodes=settings.nodes,
                steps=settings.bridge_steps,
                batch=settings.bridge_batch,
                width=settings.bridge_width,
            )

    bridges = run.each("bridges", gaussians.CASES[: settings.cases], bridge)
    network = run.part(
        "training",
        lambda phase: transport.train(
            linear(),
            transport.start(),
            transport.end(),
            run.key("training"),
            steps=settings.training,
            batch=settings.batch,
            width=settings.width,
            advance=phase.advance,
        ),
        settings.training,
    )
    found = run.part(
        "transport",
        lambda _: transport.transport(
            network,
            run.key("transport"),
            times=settings.times,
            levels=settings.levels,
            points=settings.points,
            keys=settings.keys,
            steps=settings.steps,
        ),
    )

    def level(seed: int, phase: Phase) -> noise_levels.Levels:
        return noise_levels.measure(
            seed,
            run.key("levels", seed),
            dimension=settings.dimension,
            training=settings.short_training,
            batch=settings.batch,
            width=settings.short_width,
            levels=settings.many_levels,
            keys=settings.many_keys,
            points=settings.many_points,
            steps=settings.many_steps,
            advance=phase.advance,
        )

    levels = run.each("levels of noise", settings.seeds, level, settings.short_training)
    return Result(settings, found, levels, bridges)
