"""The experiment's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from dini_zoo.kit.tables import check_table, duration, plain_table, size

from .baselines import FIXED, L1, L2, METHODS, TASK
from .checks import PAPER, SPECIFICATION, Estimate, checks

if TYPE_CHECKING:
    from rich.table import Table

    from .experiment import Result


def estimate(auc: Float[np.ndarray, " folds"]) -> Estimate:
    """The mean of several folds in percent, with 1.96 standard errors.

    Folds share patients and are not independent: the interval is too narrow, as that of the paper is.
    """
    return Estimate(100 * float(np.mean(auc)), 196 * float(np.std(auc, ddof=1)) / np.sqrt(len(auc)))


def auc_table(result: Result) -> Table:
    """Every method's AUC beside the specification's and the paper's."""
    settings, gains = result.settings, result.auc(TASK) - result.auc(FIXED)
    gain = estimate(gains)
    ill, well = result.patients
    losses = np.mean([trial.loss[[0, -1]] for trial in result.trials], axis=0)
    table = plain_table(
        "method",
        right=("variables", "ours", "reference", "paper"),
        title="AUC in percent, mean and 1.96 standard errors",
        caption=f"{len(result.trials)} folds: {len(settings.seeds)} times {settings.splits}-fold cross-validation of "
        f"{ill} patients with a metastasis within five years and {well} without, {result.genes} genes; the paper has "
        "200 and 99 patients and 1000 genes. Reference: the specification's, for our patients and the full setting. "
        f"Task-driven minus dictionary, then L2, fold by fold: {gain.mean:+.1f} ± {gain.width:.1f}, positive in "
        f"{np.sum(gains > 0)} folds, negative in {np.sum(gains < 0)}. {settings.steps} steps of Adam move the "
        f"dictionary by {np.mean([trial.moved for trial in result.trials]):.0%} of its norm and take the training "
        f"loss from {losses[0]:.3f} to {losses[1]:.3f}. The codes' settings and the number of steps were chosen on "
        "the same patients, so the last row is no unbiased estimate.",
    )
    genes = f"{np.mean([trial.genes for trial in result.trials]):.0f} genes"
    atoms = f"{settings.atoms} codes"
    variables = {L1: genes, L2: f"{result.genes} genes", FIXED: atoms, TASK: atoms}
    for method, reference, paper in zip(METHODS, SPECIFICATION, PAPER, strict=True):
        table.add_row(method, variables[method], str(estimate(result.auc(method))), str(reference), str(paper))
    return table


def precision_table(result: Result) -> Table:
    """What one derivative of the loss is worth."""
    settings = result.settings
    table = plain_table(
        "derivative in the dictionary",
        right=("error", "nearest kink"),
        title=f"Implicit derivative, {settings.exact} steps of FISTA",
        caption=f"Error: relative distance from central differences in {settings.directions} directions, step "
        f"{settings.difference:.0e}. Nearest kink: how far the next change of a code's support is, in units of the "
        "threshold. First fold.",
    )
    for found in result.precision:
        table.add_row(f"atoms of norm {found.scale:g}", f"{found.error:.1e}", f"{found.margin:.1e}")
    return table


def cost_table(result: Result) -> Table:
    """What one derivative of the loss costs."""
    implicit, unrolled = result.ways["implicit"], result.ways["unrolled"]
    table = plain_table(
        "way",
        right=("to implicit", "memory", "fastest", "median"),
        title=f"One derivative of the loss, {result.settings.coding.steps} steps of FISTA",
        caption=f"Unrolled takes {unrolled.fastest / implicit.fastest:.1f} times as long as implicit by the fastest of "
        f"{len(implicit.times)} rounds, and {unrolled.memory / implicit.memory:.0f} times the memory. In training no "
        f"code's error is above {max(trial.residual for trial in result.trials):.0e}.",
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
    found = [auc_table(result), precision_table(result), cost_table(result)]
    return [*found, bar_table(result)] if result.settings == type(result.settings)() else found
