"""The paper's claims at a size for two cores: bridges that are known, an index that is learned, moving blobs.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import numpy as np

from dini_zoo.kit.run import Phase, Run

from . import bridge, learning, moving
from .approximation import Kind, ou_speeds, relative_error
from .noise import FractionalNoise, MarkovNoise


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seed: int = 0
    parts: tuple[str, ...] = ("bridges", "learning", "video")
    """What is done beside the approximation's error."""
    kinds: tuple[Kind, ...] = ("II", "I")
    """Types of noise in bridges."""
    paths: int = 20_000
    """Bridges."""
    coarse: int = 400
    """Steps of a bridge, and below many."""
    fine: int = 1600
    hursts: tuple[float, ...] = tuple(case.hurst for case in learning.CASES)
    """The indices that are learned."""
    sequences: int = 512
    """To learn the index from."""
    seeds: int = 3
    """Trainings of each index, with other random numbers."""
    training: int = 500
    batch: int = 32
    looks: int = 8
    """Paths for each sequence by which the bound is measured."""
    substeps: float = 1.0
    """Steps between observations, relative to the specification's."""
    clips: int = 600
    test_clips: int = 200
    video_training: int = 2500
    video_width: int = 128

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            parts=("bridges",),
            kinds=("II",),
            paths=20,
            coarse=100,
            fine=100,
            hursts=(0.7,),
            sequences=8,
            seeds=1,
            training=2,
            batch=4,
            looks=1,
            substeps=0.1,
            clips=4,
            test_clips=4,
            video_training=2,
            video_width=8,
        )


@dataclass(frozen=True)
class Grid:
    """Relative errors of an approximation, by index."""

    kind: Kind
    count: int
    fastest: float
    errors: list[float]


#: Indices at which approximations are compared.
HURSTS = (0.1, 0.3, 0.5, 0.7, 0.9)
GRIDS: tuple[tuple[Kind, int, float], ...] = (("I", 5, 20.0), ("I", 10, 100.0), ("I", 15, 1000.0), ("II", 5, 20.0))


@dataclass(frozen=True)
class Result:
    """What was found; `None` is what was not done."""

    settings: Settings
    grids: list[Grid]
    noises: dict[str, np.ndarray]
    """A path of each index, with the same random numbers."""
    bridges: list[bridge.Bridge] | None
    learned: list[learning.Learned] | None
    videos: list[moving.Outcome] | None
    pixel_variance: float
    """Of frames of the test clips, summed over pixels."""
    clip: np.ndarray
    """The first of them."""


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"bridges": 15, "learning": 50, "video": 70})
    random = run.random("clips")
    data, test = moving.clips(random, settings.clips), moving.clips(random, settings.test_clips)
    asked = lambda name: name in settings.parts
    return Result(
        settings,
        [
            Grid(kind, count, fastest, [relative_error(ou_speeds(count, fastest), H, 1.0, kind) for H in HURSTS])
            for kind, count, fastest in GRIDS
        ],
        noises(run),
        bridges(settings, run) if asked("bridges") else None,
        learned(settings, run) if asked("learning") else None,
        videos(settings, run, data, test) if asked("video") else None,
        float(test.reshape(-1, test.shape[-1]).var(axis=0).sum()),
        test[0],
    )


def noises(run: Run) -> dict[str, np.ndarray]:
    """Exact paths on a fine grid."""
    ts = np.linspace(0, 1, 401)[1:]
    return {
        f"{hurst:g}": np.asarray(FractionalNoise(hurst, unit_variance=True).paths(run.key("noises"), ts, 1)[:, 0])
        for hurst in (0.1, 0.5, 0.9)
    }


def bridges(settings: Settings, run: Run) -> list[bridge.Bridge]:
    """Of both types, rough and smooth."""
    wanted = [(settings.kinds[0], 0.3, settings.coarse)]
    wanted += [(kind, hurst, settings.fine) for kind in settings.kinds for hurst in (0.3, 0.7)]
    key = run.key("bridges")
    return run.each("bridges", wanted, lambda one, _: bridge.cross(*one, settings.paths, key))


def learned(settings: Settings, run: Run) -> list[learning.Learned]:
    """Rough and smooth."""

    def one(case: learning.Case, phase: Phase) -> learning.Learned:
        name = f"{case.hurst:g}"
        observations = learning.observed(case, settings.sequences, run.random("observations", name))
        return learning.learn(
            case,
            observations,
            jax.random.split(run.key("learning", name), settings.seeds),
            steps=settings.training,
            batch=settings.batch,
            paths=settings.looks,
            scale=settings.substeps,
            advance=phase.advance,
        )

    cases = [case for case in learning.CASES if case.hurst in settings.hursts]
    # the programs are too small for two cores: both cases at a time
    return run.each("learning", cases, one, settings.training, pairs=True)


def videos(settings: Settings, run: Run, data: np.ndarray, test: np.ndarray) -> list[moving.Outcome]:
    """With fractional noise and without, both at a time."""
    size = {"steps": settings.video_training, "width": settings.video_width}

    def train(item: tuple[str, MarkovNoise], phase: Phase) -> moving.Outcome:
        return moving.train(*item, data, test, run.key("video"), **size, advance=phase.advance)

    return run.each("video", moving.noises().items(), train, settings.video_training, pairs=True)
