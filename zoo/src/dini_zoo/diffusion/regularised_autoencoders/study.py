"""The paper's claims: the score from reconstructions on a line and in the plane, and samples by it, of digits as well.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp

from dini_zoo.kit.run import Phase, Run

from . import images, line, plane


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seed: int = 0
    line_scales: tuple[float, ...] = (0.4, 0.2, 0.1, 0.05)
    bandwidth_points: int = 1000
    """Of the data with which a scale is chosen; with 0 none is."""
    denoising_scales: tuple[float, ...] = (0.5, 0.3, 0.1)
    contractive_scales: tuple[float, ...] = (0.5, 0.1)
    trainings: int = 3
    """Networks of each objective and scale in the plane, whose errors are reported with their spread."""
    training: int = 4000
    """Steps of each network."""
    batch: int = 256
    width: int = 128
    points: int = 4000
    """With which scores are judged."""
    rules: tuple[str, ...] = ("Gauss", "midpoint", "trapezoid", "end point")
    walk_scale: float = 0.3
    """Of the denoising network that the chains walk by; one of the scales above."""
    walk_sizes: tuple[float, ...] = (0.8, 0.3)
    walk_steps: int = 1000
    chains: int = 4000
    digit_scale: float = 0.3
    digit_size: float = 0.15
    digit_steps: int = 1000
    digit_chains: int = 2000

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            line_scales=(0.4,),
            bandwidth_points=0,
            denoising_scales=(0.3,),
            contractive_scales=(),
            trainings=2,
            training=2,
            batch=16,
            width=8,
            points=100,
            rules=("end point",),
            walk_sizes=(0.8,),
            walk_steps=2,
            chains=50,
            digit_steps=2,
            digit_chains=20,
        )


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    line: line.Line
    bandwidth: line.Bandwidth | None
    fits: list[plane.Fit]
    kernel_estimate: float
    walks: list[plane.Walk]
    floor: float
    """The distance of two samples of the law that the chains should have."""
    shares: list[float]
    """Of the means that are nearest to its samples."""
    digits: images.Digits


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"line": 10, "plane": 60, "chains": 60, "digits, training": 10, "digits": 15})

    def exact(_: Phase) -> tuple[line.Line, line.Bandwidth | None]:
        with jax.enable_x64(True):
            count = settings.bandwidth_points
            chosen = line.bandwidth(run.key("bandwidth"), count) if count else None
            return line.errors(settings.line_scales), chosen

    errors, bandwidth = run.part("line", exact)
    options = {"steps": settings.training, "batch": settings.batch, "width": settings.width}
    models = [(plane.DAE, s) for s in settings.denoising_scales] + [
        (plane.RCAE, s) for s in settings.contractive_scales
    ]
    mixture = plane.mixture()

    def fit(which: tuple[str, float], phase: Phase) -> tuple[plane.Residual, plane.Fit]:
        objective, s = which
        keys = jax.random.split(run.key("training", objective, f"{s}"), settings.trainings)
        networks = plane.train(objective, s, keys, mixture.sample, 2, advance=phase.advance, **options)
        return networks[0], plane.judge(networks, objective, s, run.key("points"), settings.points)

    fitted = run.each("plane", models, fit, settings.training)
    walker = dict(zip(models, (network for network, _ in fitted), strict=True))[plane.DAE, settings.walk_scale]
    walks, floor, shares = run.part(
        "chains",
        lambda _: plane.walks(
            walker,
            settings.walk_scale,
            run.key("chains"),
            rules=settings.rules,
            sizes=settings.walk_sizes,
            chains=settings.chains,
            steps=settings.walk_steps,
        ),
    )
    x, _, _ = images.whitened()
    data = jnp.asarray(x)
    draw = lambda key, n: data[jax.random.randint(key, (n,), 0, len(data))]
    s = settings.digit_scale
    network = run.part(
        "digits, training",
        lambda phase: plane.train(
            plane.DAE, s, run.key("digits")[None], draw, images.COMPONENTS, advance=phase.advance, **options
        )[0],
        settings.training,
    )
    digits = run.part(
        "digits",
        lambda _: images.walk(
            network,
            s,
            run.key("digit chains"),
            chains=settings.digit_chains,
            steps=settings.digit_steps,
            size=settings.digit_size,
            x=x,
        ),
    )
    estimate = plane.kernel_estimate(run.key("kernel estimate"), settings.points, settings.walk_scale)
    return Result(settings, errors, bandwidth, [one for _, one in fitted], estimate, walks, floor, shares, digits)
