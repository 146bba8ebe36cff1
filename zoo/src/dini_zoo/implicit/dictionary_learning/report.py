"""What the experiment prints, beside published figures and those of the specification.

The specification's were computed with other code. They and the paper's are the only figures here that are not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dini_zoo.kit.tables import Check, Table, at_least, at_most, duration, size

from .baselines import FIXED, L1, L2, METHODS, TASK
from .study import Result


class Published(NamedTuple):
    """A mean AUC in percent, and the half width of its interval of 95 percent."""

    mean: float
    width: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.width:.1f}"


#: By method, in the order of `baselines.METHODS`: 299 patients, 1000 genes.
PAPER = (Published(71.6, 2.0), Published(72.4, 2.8), Published(68.3, 2.3), Published(73.2, 2.1))
#: The same for the patients and genes of this experiment.
SPECIFICATION = (Published(70.8, 3.4), Published(74.1, 3.6), Published(71.5, 2.8), Published(73.3, 2.8))


def tables(result: Result) -> list[Table]:
    """The methods, and what a derivative is worth and costs."""
    found = [auc_table(result), precision_table(result)]
    return [*found, cost_table(result)] if result.ways else found


def auc_table(result: Result) -> Table:
    """Every method's AUC beside the specification's and the paper's."""
    settings, gain = result.settings, result.gain(TASK, FIXED)
    ill, well = result.patients
    losses = np.mean([trial.loss[[0, -1]] for trial in result.trials], axis=0)
    genes = f"{np.mean([trial.genes for trial in result.trials]):.0f} genes"
    atoms = f"{settings.atoms} codes"
    variables = {L1: genes, L2: f"{result.genes} genes", FIXED: atoms, TASK: atoms}
    rows = [
        [method, variables[method], f"{result.estimate(method):.1f}", str(reference), str(paper)]
        for method, reference, paper in zip(METHODS, SPECIFICATION, PAPER, strict=True)
    ]
    return Table(
        "AUC in percent, mean and 1.96 standard errors",
        ("method", "variables", "ours", "reference", "paper"),
        rows,
        f"{len(result.trials)} folds: {len(settings.seeds)} times {settings.splits}-fold cross-validation of "
        f"{ill} patients with a metastasis within five years and {well} without, {result.genes} genes; the paper has "
        "200 and 99 patients and 1000 genes. Reference: the specification's, for the same patients, 5 times 5 folds, "
        "10 atoms and 60 steps. "
        f"Task-driven minus dictionary, then L2, fold by fold: {gain:.1f}, positive in "
        f"{gain.wins} folds, negative in {gain.losses}. {settings.steps} steps of Adam move the "
        f"dictionary by {np.mean([trial.moved for trial in result.trials]):.0%} of its norm and take the training "
        f"loss from {losses[0]:.3f} to {losses[1]:.3f}. The codes' default settings and number of steps were chosen "
        "on the same patients, so the last row is no unbiased estimate.",
        left=1,
    )


def precision_table(result: Result) -> Table:
    """What one derivative of the loss is worth."""
    settings = result.settings
    return Table(
        f"Implicit derivative, {settings.exact} steps of FISTA",
        ("derivative in the dictionary", "error", "nearest kink"),
        [[f"atoms of norm {found.scale:g}", f"{found.error:.1e}", f"{found.margin:.1e}"] for found in result.precision],
        f"Error: relative distance from central differences in {settings.directions} directions, step "
        f"{settings.difference:.0e}. Nearest kink: how far the next change of a code's support is, in units of the "
        "threshold. First fold.",
    )


def cost_table(result: Result) -> Table:
    """What one derivative of the loss costs."""
    implicit, unrolled = result.ways["implicit"], result.ways["unrolled"]
    rows = []
    for name, way in result.ways.items():
        distance = f"{way.distance:.0e}" if way.distance else ""
        rows.append([name, distance, size(way.memory), duration(way.fastest), duration(way.median)])
    return Table(
        f"One derivative of the loss, {result.settings.coding.steps} steps of FISTA",
        ("way", "to implicit", "memory", "fastest", "median"),
        rows,
        f"Unrolled takes {unrolled.fastest / implicit.fastest:.1f} times as long as implicit by the fastest of "
        f"{len(implicit.times)} rounds, and {unrolled.memory / implicit.memory:.0f} times the memory. In training no "
        f"code's error is above {max(trial.residual for trial in result.trials):.0e}.",
    )


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    ours, fixed, dense = (result.estimate(method).mean for method in (TASK, FIXED, L2))
    paper = {method: found.mean for method, found in zip(METHODS, PAPER, strict=True)}
    yield Check("AUC, task-driven", ours, at_least(72), 73.3, paper[TASK], form=".1f")
    gain = paper[TASK] - paper[FIXED]
    yield Check("task-driven − fixed dictionary", ours - fixed, at_least(0), 1.8, gain, form="+.1f")
    gain = paper[TASK] - paper[L2]
    yield Check("task-driven − L2 on all genes", ours - dense, at_least(-2.5), -0.8, gain, form="+.1f")
    for found in result.precision:
        yield Check(
            f"derivative to differences, norm {found.scale:g}", found.error, at_most(1e-5), reference="1e-9", form=".1e"
        )


def headline(result: Result) -> str:
    """The one figure that matters."""
    ours, fixed, dense = (result.estimate(method) for method in (TASK, FIXED, L2))
    return (
        f"mean AUC {ours:.1f} % task-driven, {fixed:.1f} % with the dictionary fixed, {dense:.1f} % by L2 logistic on "
        "all genes"
    )
