"""The experiment's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dini_zoo.kit.tables import check_table, duration, plain_table

from .checks import PAPER, PAPER_SPEED, PROTOTYPE, checks

if TYPE_CHECKING:
    from rich.table import Table

    from .experiment import Result


def error_table(result: Result) -> Table:
    """How far the predictions are from the solutions."""
    settings = result.settings
    table = plain_table(
        "relative error",
        right=("ours", "prototype", "paper"),
        title=f"Diffusion-sorption, {settings.times}×{settings.places} points, {settings.training.steps} steps of Adam",
        caption="Ours: relative distance from the method of lines, mean ± standard deviation over "
        f"{settings.test} initial conditions, both the mean over {settings.seeds} seeds. Prototype: the "
        "specification's, one seed. Paper: a mesh of 1024×101, a network four times as wide, 4000 steps.",
    )
    for name, learned in result.learned.items():
        table.add_row(
            name, *(_spread(*pair) for pair in ((learned.mean, learned.spread), PROTOTYPE[name], PAPER[name]))
        )
    return table


def training_table(result: Result) -> Table:
    """How training went."""
    table = plain_table(
        "training",
        right=("error by seed", "loss", "iterations", "unsolved", "time"),
        title="Training without solutions",
        caption="Loss: residuals of the prediction, the mean of the last tenth of training. Iterations: of a solve. "
        "Unsolved: solves that stopped before their tolerance; their weights are used. Time: of all seeds, side by "
        "side.",
    )
    for name, learned in result.learned.items():
        courses = learned.courses
        tail = -max(len(courses[0].loss) // 10, 1)
        solves = name != "soft constraint"
        table.add_row(
            name,
            ", ".join(f"{one:.3f}" for one in learned.errors.mean(axis=1)),
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
    caption = (
        f"The trained networks' functions on {settings.fine[0]}×{settings.fine[1]} points, a batch of "
        f"{settings.batch}; points: sampled, of all {settings.experts} experts together. Time: the fastest of "
        f"{settings.rounds} rounds. Time and iterations: the means of {settings.seeds} networks. "
        f"Ratio: PI-HC to PI-HC-MoE; in the paper's training {PAPER_SPEED[0]} at 100 points to {PAPER_SPEED[1]} at "
        "100 000 (GPU)."
    )
    if result.without is not None:
        before, after = result.without
        caption += (
            " If the weights are taken for constants, the gradient of PI-HC-MoE's loss is off by "
            f"{before:.1f} times its size before training, {after:.1f} times after."
        )
    table = plain_table(
        right=("points", "PI-HC", "iterations", "PI-HC-MoE", "iterations", "ratio"),
        title="A constraint, forward and backward",
        caption=caption,
    )
    for total, costs in result.costs.items():
        cells = {
            name: (duration(costs[name].fastest), f"{costs[name].iterations:.1f}") if name in costs else ("", "")
            for name in ("PI-HC", "PI-HC-MoE")
        }
        ratio = f"{costs['PI-HC'].fastest / costs['PI-HC-MoE'].fastest:.2f}" if len(costs) == 2 else ""
        table.add_row(str(total), *cells["PI-HC"], *cells["PI-HC-MoE"], ratio)
    return table


def device_table(result: Result) -> Table:
    """The experts on devices."""
    settings = result.settings
    batch = result.devices[0].fastest
    table = plain_table(
        "experts on",
        right=("time", "faster", "prediction", "derivative"),
        title=f"{settings.experts} experts over virtual devices of this machine",
        caption=f"{max(settings.totals)} points of the same mesh, forward and backward, for the functions "
        "of an untrained network. Faster: than one batch. Prediction, derivative: largest distance from those of one "
        "batch, relative to their size; the functions are nearly dependent, which multiplies rounding.",
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
        caption="Reference: the specification's prototype, one seed. Iterations: the mean of all solves above.",
    )


def tables(result: Result) -> list[Table]:
    """All tables; the bars only where the settings are theirs."""
    found = [error_table(result), training_table(result), cost_table(result)]
    if result.devices:
        found.append(device_table(result))
    return [*found, bar_table(result)] if result.settings == type(result.settings)() else found
