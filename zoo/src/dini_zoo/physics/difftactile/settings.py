"""The settings of the experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from dini_zoo.kit.checking import some_of

PARTS = ("calibration", "control", "optics", "equilibrium", "dome")


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of evolution strategies, networks and noise; all but the first draw where calibration starts."""
    parts: tuple[str, ...] = PARTS
    """What is done."""
    cells: tuple[int, int, int] = (6, 6, 3)
    """Boxes of the block along each axis, of six tetrahedra each."""
    controls: int = 12
    """Control steps down, and as many aside."""
    substeps: int = 20
    """Explicit steps in each."""
    steps: int = 40
    """Of Adam."""
    calibration_rate: float = 0.12
    control_rate: float = 0.2
    """Learning rates, which fall as a cosine."""
    generations: int = 15
    """Of the evolution strategy that calibrates, eight simulations each."""
    control_generations: int = 25
    """Of the one that controls, sixteen simulations each."""
    images: int = 20
    """With dents, a quarter of them for the test."""
    pixels: int = 48
    """Along a side."""
    training: int = 2000
    """Steps of the optical network."""
    batch: int = 1024
    depth: float = 0.2
    """Of the block that is at rest, with the gap before it."""
    noise: float = 0.01
    """Of what it measures, relative to the root of the mean square."""
    dome: int = 60
    """Nodes of the dome's innermost layer."""
    layers: int = 4

    def __post_init__(self) -> None:
        some_of("parts", self.parts, PARTS)

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            parts=("optics",),
            cells=(2, 2, 1),
            controls=4,
            substeps=10,
            steps=2,
            generations=1,
            control_generations=1,
            images=4,
            pixels=12,
            training=4,
            batch=32,
            dome=12,
            layers=2,
        )
