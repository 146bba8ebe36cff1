"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from dini_zoo.kit import pictures

from .baselines import FIXED, L2, METHODS, TASK, auc
from .report import PAPER, SPECIFICATION
from .study import Codes, Result


def draw(result: Result) -> Figure:
    """The methods' AUC, the gain in each fold, the course of learning; below, the codes before and after it."""
    figure = pictures.canvas(
        "Will the tumor spread within five years? Sparse codes that learn the task", width=16, height=11.5
    )
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.05))
    methods, gains, course = above.subplots(1, 3, width_ratios=(1.35, 1, 1))
    _methods(methods, result)
    _gains(gains, result)
    _course(course, result)
    before, after, price = below.subplots(1, 3, width_ratios=(1, 1, 1.15))
    _codes(below, before, after, result.trials[0].codes)
    _price(price, result)
    return figure


def _methods(axes: Any, result: Result) -> None:
    """A point for each fold, the mean with its interval, and the reference figures."""
    random = np.random.RandomState(0)
    for i, (method, paper, reference) in enumerate(zip(METHODS, PAPER, SPECIFICATION, strict=True)):
        values, color = result.auc(method), {TASK: pictures.METHOD, FIXED: pictures.RIVAL}.get(method, pictures.INK)
        ours = result.estimate(method)
        axes.plot(i - 0.22 + 0.12 * random.rand(len(values)), 100 * values, "o", color=color, ms=3.5, alpha=0.35, mew=0)
        label = "ours: folds, mean, interval" if i == 0 else None
        axes.errorbar(i, ours.mean, ours.width, fmt="o", color=color, ms=9, lw=2.5, capsize=5, label=label)
        shown = ((0.18, reference, "s", "reference, same data"), (0.34, paper, "D", "paper, other patients and genes"))
        for offset, found, marker, name in shown:
            axes.errorbar(
                i + offset,
                *found,
                fmt=marker,
                color=pictures.QUIET,
                ms=5,
                lw=1.2,
                mfc="white",
                label=None if i else name,
            )
        axes.annotate(f"{ours.mean:.1f}", (i, 44), ha="center", fontsize=12, color=color, weight="bold")
    names = ("L1 logistic,\nall genes", "L2 logistic,\nall genes", "dictionary,\nthen L2", "task-driven\ndictionary")
    axes.set_xticks(range(len(METHODS)), names, fontsize=10)
    axes.set_ylim(42, 102)
    axes.grid(False, axis="x")
    axes.set_ylabel("AUC of test patients, %")
    axes.set_title(f"{len(result.trials)} folds; intervals are 1.96 standard errors")
    axes.legend(fontsize=9, loc="upper left", ncols=1)


def _gains(axes: Any, result: Result) -> None:
    """The difference of the AUC in each fold, in order."""
    ours = result.gain(TASK, FIXED).difference
    gains = np.sort(ours.values)
    axes.barh(range(len(gains)), gains, color=np.where(gains > 0, pictures.METHOD, pictures.RIVAL), height=0.75)
    axes.axvline(0, color=pictures.INK, lw=1)
    axes.axvspan(ours.mean - ours.width, ours.mean + ours.width, color=pictures.QUIET, alpha=0.2, lw=0)
    axes.axvline(ours.mean, color=pictures.INK, lw=1.5, ls="--")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("points of AUC gained by learning the task")
    axes.set_title(
        f"gain over the fixed dictionary: {ours.mean:+.1f} ± {ours.width:.1f},\n"
        f"positive in {np.sum(gains > 0)} of {len(gains)} folds",
    )


def _course(axes: Any, result: Result) -> None:
    """The loss of training patients and the AUC of test patients, by steps of Adam."""
    loss = np.array([trial.loss for trial in result.trials])
    curves = 100 * np.array([trial.course for trial in result.trials])
    steps, width = np.arange(loss.shape[1]), 1.96 * curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
    mean, other = curves.mean(axis=0), axes.twinx()
    axes.fill_between(steps, mean - width, mean + width, color=pictures.METHOD, alpha=0.15, lw=0)
    axes.plot(steps, mean, color=pictures.METHOD, lw=2.2)
    axes.axhline(result.estimate(L2).mean, color=pictures.INK, lw=1.2, ls=":")
    other.plot(steps, loss.mean(axis=0), color=pictures.RIVAL, lw=2.2, ls="--")
    axes.set_ylabel("mean AUC of test patients, % (band: interval)", color=pictures.METHOD)
    other.set_ylabel("mean training loss (dashed)", color=pictures.RIVAL)
    other.set_ylim(0, None)
    other.spines["right"].set_visible(True)
    other.grid(False)
    axes.set_xlabel("steps of Adam on atoms, weights and intercept")
    axes.set_title("the course of task-driven learning;\ndotted: L2 logistic on all genes")


def _codes(figure: Any, before: Any, after: Any, codes: Codes) -> None:
    """What each code adds to the scores of the first fold's test patients, who are sorted by label and score."""
    pairs = [z * w for z, w in zip((codes.before, codes.after), codes.weights, strict=True)]
    order = np.lexsort((pairs[1].sum(axis=1), codes.y))[::-1]
    atoms = np.argsort(-pairs[1].std(axis=0))
    top = np.quantile(np.abs(np.concatenate(pairs)), 0.99)
    ill = int(codes.y.sum())
    both = ((before, codes.before, "before"), (after, codes.after, "after"))
    for (axes, z, when), part in zip(both, pairs, strict=True):
        image = axes.imshow(part[order][:, atoms], cmap=pictures.SIGNED, vmin=-top, vmax=top, aspect="auto")
        axes.grid(False)
        axes.axhline(ill - 0.5, color=pictures.INK, lw=1.5)
        axes.set_xticks(range(len(atoms)), [str(atom) for atom in atoms])
        axes.set_xlabel("atom")
        middles = ((ill - 1) / 2, ill + (len(order) - ill - 1) / 2)
        axes.set_yticks(middles, ("metastasis", "none"), rotation=90, va="center")
        axes.tick_params(length=0)
        axes.set_title(
            f"contributions $w_j z_{{ij}}$ {when}: AUC {auc(codes.y, part.sum(axis=1)):.2f},\n"
            f"{np.mean(z != 0):.0%} of the codes are not zero (first fold, test)",
        )
    figure.colorbar(
        image, ax=[before, after], location="bottom", shrink=0.5, aspect=40, label="speaks for metastasis →"
    )


def _price(axes: Any, result: Result) -> None:
    """What learning the task does to the codes of test patients: fewer of them, which say less of the genes."""
    rows = (
        ("unexplained", pictures.INK, "of the genes' variance, not explained by the codes"),
        ("active", pictures.THIRD, "of the codes, not zero"),
    )
    for name, color, label in rows:
        curves = np.array([getattr(trial, name) for trial in result.trials])
        steps, mean, spread = np.arange(curves.shape[1]), curves.mean(axis=0), curves.std(axis=0)
        axes.fill_between(steps, mean - spread, mean + spread, color=color, alpha=0.15, lw=0)
        axes.plot(steps, mean, color=color, lw=2.2, label=f"{label}: {mean[0]:.0%} to {mean[-1]:.0%}")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(False, axis="x")
    axes.set_xlabel("steps of Adam on atoms, weights and intercept")
    axes.set_ylabel("share (band: standard deviation of folds)")
    axes.set_title("what the codes of test patients keep of their genes")
    axes.legend(loc="lower left")
