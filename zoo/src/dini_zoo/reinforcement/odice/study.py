"""The fenced grid by method, its limits, duals solved to the end, imitation, networks, and batches.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax.numpy as jnp

from dini_zoo.kit.run import Phase, Run

from .gradients import MODES, Mode
from .network_runs import Trained, batches, whole
from .tabular_runs import RESCALED, Duals, Imitation, Lane, Setup, descents, duals, imitation


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seed: int = 0
    """Of networks, records and batches: tables need none."""
    scales: tuple[float, ...] = (1.0, 3.0)
    """What a step costs, for tables."""
    steps: int = 20_000
    """Of a table."""
    solved: bool = True
    """Whether duals are solved to the end as well, and differentiated."""
    keys: int = 8
    """Networks of values, for each method and scale."""
    network_scales: tuple[float, ...] = (1.0, 10.0)
    """With none, there are no networks of values."""
    network_steps: int = 6000
    batch_keys: int = 3
    """Runs in batches, for each method; with none these are left out."""
    records: int = 20_000
    """That are drawn for such a run."""
    batch: int = 256
    batch_steps: int = 5000

    @classmethod
    def tiny(cls) -> Self:
        return cls(scales=(1.0,), steps=50, solved=False, network_scales=(), batch_keys=0)


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    lanes: list[Lane]
    """Tables with the fence, by method and scale; and their limits."""
    duals: Duals | None
    imitation: Imitation | None
    networks: list[Trained]
    batches: list[Trained]


#: The start that makes the semi-gradient safe.
PESSIMISTIC = -50.0


def setups(settings: Settings) -> list[Setup]:
    """Each method at each scale, then the limits at the first one."""
    found = [Setup(mode, scale) for scale in settings.scales for mode in MODES]
    found += [Setup("true", scale, lam=RESCALED) for scale in settings.scales]
    first = settings.scales[0]
    found += [Setup(mode, first, start=PESSIMISTIC) for mode in ("orthogonal", "semi")]
    found += [Setup(mode, first, fence="none") for mode in MODES]
    found += [Setup(mode, first, fence="dropped") for mode in ("orthogonal", "semi")]
    return found


#: In batches: a method and how actions are weighted.
IN_BATCHES = (
    ("orthogonal", "conjugate"),
    ("semi", "conjugate"),
    ("orthogonal", "relu"),
    ("semi", "relu"),
    ("semi", "uniform"),
)


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"tables": 10, "duals": 10, "networks": 60, "batches": 50})
    lanes = run.part("tables", lambda _: descents(setups(settings), settings.steps))
    solve = lambda _: (duals(lanes, run.key("directions")), imitation())
    found, cloned = run.part("duals", solve) if settings.solved else (None, None)

    def network(task: tuple[Mode, float], _: Phase) -> Trained:
        keys = jnp.stack([run.key("network", number) for number in range(settings.keys)])
        return whole(*task, keys, settings.network_steps)

    tasks = [(mode, scale) for scale in settings.network_scales for mode in ("orthogonal", "semi")]
    networks = run.each("networks", tasks, network, pairs=True)

    def batched(task: tuple[Mode, str], _: Phase) -> Trained:
        keys = [run.key("batches", number) for number in range(settings.batch_keys)]
        sizes = {"records": settings.records, "steps": settings.batch_steps, "batch": settings.batch}
        return batches(*task, settings.scales[0], keys, **sizes)

    in_batches = run.each("batches", IN_BATCHES if settings.batch_keys else (), batched, pairs=True)
    return Result(settings, lanes, found, cloned, networks, in_batches)
