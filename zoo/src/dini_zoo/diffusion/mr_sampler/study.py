"""The paper's claims at a size for two cores: convergence on a law that is known, restoration of 8×8 digits.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax

from dini_zoo.kit.run import Run

from . import planes, restoration


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seed: int = 0
    convergence_calls: tuple[int, ...] = (10, 20, 40, 80, 160, 320)
    euler_calls: tuple[int, ...] = (100, 600)
    """Further ones of Euler's rule."""
    points: int = 512
    """In the plane, of each draw."""
    draws: int = 5
    training: int = 5000
    """Steps of the network for digits."""
    width: int = 256
    blocks: int = 4
    calls: tuple[int, ...] = (5, 10, 20, 100)
    """Of that network, for each restored image."""
    copies: int = 3
    """How often each test image is restored."""
    test_images: int = 297

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            convergence_calls=(3,),
            euler_calls=(),
            points=4,
            draws=2,
            training=2,
            width=16,
            blocks=1,
            calls=(2,),
            copies=1,
            test_images=20,
        )


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    convergence: planes.Convergence
    loss: float
    """Of the network's training, at its end."""
    restored: restoration.Restored


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"convergence": 30, "training": 60, "restoration": 40})

    def convergence() -> planes.Convergence:
        with jax.enable_x64(True):
            calls, more = settings.convergence_calls, settings.euler_calls
            return planes.converge(run.key("plane"), calls, more, settings.points, settings.draws)

    found = run.part("convergence", lambda _: convergence())
    fitted = run.part(
        "training",
        lambda phase: restoration.train(
            run.key("training"),
            steps=settings.training,
            width=settings.width,
            blocks=settings.blocks,
            advance=phase.advance,
        ),
        settings.training,
    )
    restored = run.part(
        "restoration",
        lambda phase: restoration.restore(
            fitted.network,
            run.key("restoration"),
            calls=settings.calls,
            copies=settings.copies,
            count=settings.test_images,
            advance=phase.advance,
        ),
        2 * len(settings.calls),
    )
    return Result(settings, found, fitted.loss, restored)
