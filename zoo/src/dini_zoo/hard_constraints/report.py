"""The experiment's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..report import check_table, duration, plain_table
from .checks import PAPER, PAPER_SPEED, PROTOTYPE, checks

if TYPE_CHECKING:
    from rich.table import Table

    from .experiment import Result


def error_table(result: Result) -> Table:
    """What was learned."""
    settings = result.settings
    seeds = "; ".join(
        f"{name} {', '.join(f'{one:.3f}' for one in learned.errors.mean(axis=1))}"
        for name, learned in result.learned.items()
    )
    table = plain_table(
        "method",
        right=("error", "prototype", "paper", "loss", "iterations", "unsolved", "trained"),
        title=f"Diffusion-sorption on {settings.times}×{settings.places} points, {settings.training.steps} steps",
        caption=f"Error: relative distance from the method of lines, mean ± standard deviation over {settings.test} "
        f"initial conditions, the mean of {settings.seeds} seeds (by seed: {seeds}). Prototype: the specification's, "
        "one seed. Paper: a mesh of 1024×101, 4000 steps. Loss: mean of the last tenth of training. Iterations: "
        "of a solve in training; unsolved: solves that stopped before their tolerance. Trained: wall time, the seeds "
        "side by side.",
    )
    for name, learned in result.learned.items():
        courses = learned.courses
        tail = -max(len(courses[0].loss) // 10, 1)
        solves = name != "soft constraint"
        table.add_row(
            name,
            f"{learned.mean:.3f} ± {learned.spread:.3f}",
            _spread(*PROTOTYPE[name]),
            _spread(*PAPER[name]),
            f"{np.mean([course.loss[tail:].mean() for course in courses]):.3f}",
            f"{np.mean([course.iterations.mean() for course in courses]):.1f}" if solves else "",
            f"{np.mean([course.early for course in courses]):.1%}" if solves else "",
            duration(learned.seconds),
        )
    return table


def _spread(mean: float, width: float) -> str:
    return f"{mean:.3f} ± {width:.3f}"


def cost_table(result: Result) -> Table:
    """What the constraints cost."""
    settings = result.settings
    before, after = result.without
    table = plain_table(
        right=("points", "PI-HC", "iterations", "PI-HC-MoE", "iterations", "ratio"),
        title="A constraint, forward and backward",
        caption=f"The trained network's functions on {settings.fine[0]}×{settings.fine[1]} points, a batch of "
        f"{settings.batch}; points: sampled, of all {settings.experts} experts together. Time: the fastest of "
        f"{settings.rounds} rounds. Iterations: the mean. Ratio: PI-HC to PI-HC-MoE; in the paper's training "
        f"{PAPER_SPEED[0]} at 100 points to {PAPER_SPEED[1]} at 100 000 (GPU). The gradient of PI-HC-MoE's loss with "
        f"constant weights is {before:.2f} of the implicit one away from it before training, {after:.2f} after.",
    )
    for total, costs in result.costs.items():
        hard, mixture = costs["PI-HC"], costs["PI-HC-MoE"]
        table.add_row(
            str(total),
            duration(hard.fastest),
            f"{hard.iterations:.1f}",
            duration(mixture.fastest),
            f"{mixture.iterations:.1f}",
            f"{hard.fastest / mixture.fastest:.2f}",
        )
    return table


def device_table(result: Result) -> Table:
    """The experts on devices."""
    settings = result.settings
    batch = result.devices[0].fastest
    table = plain_table(
        "experts on",
        right=("time", "faster", "prediction", "derivative"),
        title=f"{settings.experts} experts over virtual devices of this machine",
        caption=f"{max(settings.totals)} points of the same mesh, forward and backward, by an untrained network's "
        f"functions. Faster: than one batch. Prediction, derivative: largest distance from those of one batch, relative "
        "to their size.",
    )
    for one in result.devices:
        name = "one batch (vmap)" if not one.count else f"{one.count} device{'s' if one.count > 1 else ''} (shard_map)"
        table.add_row(
            name, duration(one.fastest), f"{batch / one.fastest:.2f}", f"{one.prediction:.0e}", f"{one.derivative:.0e}"
        )
    return table


def bar_table(result: Result) -> Table:
    """Our figures beside the bars."""
    return check_table(
        checks(result),
        title="Beside the bars of the specification",
        caption="Reference: the specification's prototype, one seed.",
    )


def tables(result: Result) -> list[Table]:
    """All tables; the bars only where the settings are theirs."""
    found = [error_table(result), cost_table(result)]
    if result.devices:
        found.append(device_table(result))
    return [*found, bar_table(result)] if result.settings == type(result.settings)() else found
