"""The experiment's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ..report import check_table, duration, plain_table, size
from .checks import PAPER, SPECIFICATION, Figure, checks

if TYPE_CHECKING:
    from rich.table import Table

    from .experiment import Result


def figure_of(auc: Float[np.ndarray, " folds"]) -> Figure:
    """The mean of several folds in percent, with 1.96 standard errors.

    Folds share patients and are not independent: the interval is too narrow, as that of the paper is.
    """
    return Figure(100 * float(np.mean(auc)), 196 * float(np.std(auc, ddof=1)) / np.sqrt(len(auc)))


def auc_table(result: Result) -> Table:
    """Every method's AUC beside the specification's and the paper's."""
    from .experiment import FIXED, L1, L2, METHODS, TASK

    settings, gain = result.settings, result.auc(TASK) - result.auc(FIXED)
    ill, well = result.patients
    losses = np.mean([trial.loss[[0, -1]] for trial in result.trials], axis=0)
    table = plain_table(
        "method",
        right=("variables", "ours", "reference", "paper"),
        title="AUC in percent, mean and 1.96 standard errors",
        caption=f"{len(result.trials)} folds: {len(settings.seeds)} times {settings.splits}-fold cross-validation of "
        f"{ill} patients with a metastasis within five years and {well} without, {result.genes} genes; the paper has "
        "200 and 99 patients and 1000 genes. Reference: the specification's, for our data. "
        f"Task-driven minus dictionary, then L2: {100 * gain.mean():+.1f} on average, positive in "
        f"{np.sum(gain > 0)} folds, negative in {np.sum(gain < 0)}. {settings.steps} steps of Adam move the "
        f"dictionary by {np.mean([trial.moved for trial in result.trials]):.0%} of its norm and take the training "
        f"loss from {losses[0]:.3f} to {losses[1]:.3f}. The codes' settings and the number of steps were chosen on "
        "the same patients, so the last row is no unbiased estimate; all intervals overlap.",
    )
    genes = f"{np.mean([trial.genes for trial in result.trials]):.0f} genes"
    atoms = f"{settings.atoms} codes"
    variables = {L1: genes, L2: f"{result.genes} genes", FIXED: atoms, TASK: atoms}
    for method, reference, paper in zip(METHODS, SPECIFICATION, PAPER, strict=True):
        table.add_row(method, variables[method], str(figure_of(result.auc(method))), str(reference), str(paper))
    return table


def derivative_table(result: Result) -> Table:
    """What one derivative of the loss is worth, and what it costs."""
    settings, (implicit, unrolled) = result.settings, list(result.ways.values())[:2]
    pairs = "; ".join(
        f"atoms of norm {found.scale:g}: {found.error:.0e} to central differences, {found.few_steps:.0e} to that after "
        f"{settings.coding.steps} steps, the nearest kink {found.margin:.0e} of the threshold away"
        for found in result.precision
    )
    table = plain_table(
        "derivative",
        right=("to implicit", "memory", "fastest", "median"),
        title=f"One derivative of the loss through {settings.coding.steps} steps of FISTA",
        caption=f"In the first fold. Unrolled takes {unrolled.fastest / implicit.fastest:.1f} times as long as "
        f"implicit by the fastest of {len(implicit.times)} rounds, and {unrolled.memory / implicit.memory:.0f} times "
        f"the memory for intermediate results. Implicit, with codes of {settings.exact} steps: {pairs}. In training "
        f"no code's error is above {max(trial.residual for trial in result.trials):.0e}.",
    )
    for name, way in result.ways.items():
        distance = f"{way.distance:.0e}" if way.distance else ""
        table.add_row(name, distance, size(way.memory), duration(way.fastest), duration(way.median))
    return table


def bar_table(result: Result) -> Table:
    """Our figures beside the bars."""
    return check_table(
        checks(result),
        title="Beside the reference figures of the specification",
        caption="−: task-driven minus another, in points. Derivative: in the dictionary, relative distance from "
        "central differences.",
    )


def tables(result: Result) -> list[Table]:
    """All tables; the bars only where the settings are theirs."""
    found = [auc_table(result), derivative_table(result)]
    return [*found, bar_table(result)] if result.settings == type(result.settings)() else found
