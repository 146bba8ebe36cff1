"""What the experiment prints and draws.

The references were computed for the specification, with other code. They are the only figures here that are not
measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.tables import Alarm, Check, Table, at_least, at_most, between, near_reference

from .study import Result

#: Errors of the solution, of the implicit and the unrolled Jacobian, and the bound, by the number of steps.
ERRORS = {
    10: (36.22, 30.96, 182.7, 67.91),
    30: (0.3601, 0.2631, 7.238, 0.6750),
    100: (3.598e-5, 4.496e-5, 1.260e-3, 6.746e-5),
}
#: The numbers of steps at which the bound and the slope are judged.
JUDGED = (1, 3, 10, 30, 100)


def tables(result: Result) -> list[Table]:
    """Errors by the number of steps."""
    path, shown = result.path, result.settings.shown
    rows = []
    for steps in shown:
        i = steps - 1
        estimate = f"{path.estimate[i]:.1e}"
        rows.append(
            [
                str(steps),
                f"{path.solution_error[i]:#.4g}",
                f"{path.implicit_error[i]:#.4g}",
                f"{path.bound[i]:#.4g}",
                estimate if path.reliable[i] else Alarm(estimate),
                f"{path.unrolled_error[i]:#.4g}",
                f"{path.unrolled_error[i] / path.implicit_error[i]:.1f}",
            ]
        )
    return [
        Table(
            "Errors of the Jacobian at a point of gradient descent\nridge regression, diabetes data",
            ("steps", "error of x", "implicit", "bound", "estimate", "unrolled", "unrolled / implicit"),
            rows,
            "Implicit, unrolled: error of the Jacobian in spectral norm. Bound: on the implicit error, theorem 1 "
            f"of the paper: {result.exact.constants.slope:.3f} times the error of x. Estimate: dini's own, Frobenius "
            "norm, made without knowledge of the solution; red where its verdict is that the Jacobian cannot be relied "
            f"on. Log-log slope of implicit over x: {result.slope(shown):.3f}.",
            left=0,
        )
    ]


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification. The bound and the slope are judged after the first steps of `JUDGED`."""
    exact, path, taken = result.exact, result.path, result.settings.steps
    yield near_reference("norm of the solution", float(np.linalg.norm(exact.x)), 683.91, 1e-2, ".2f")
    yield near_reference("norm of its Jacobian", float(np.linalg.norm(exact.jacobian, 2)), 558.20, 1e-2, ".2f")
    errors = {
        "error of x": path.solution_error,
        "implicit error": path.implicit_error,
        "unrolled error": path.unrolled_error,
        "bound": path.bound,
    }
    for steps, references in ERRORS.items():
        for (name, ours), reference in zip(errors.items(), references, strict=True):
            found = float(ours[steps - 1]) if steps <= taken else None
            yield near_reference(f"{name}, {steps} steps", found, reference, 1e-2, "#.4g")
    judged = [steps for steps in JUDGED if steps <= taken]
    at = np.array(judged) - 1
    nearest = float(np.max(path.implicit_error[at] / path.bound[at]))
    yield Check("implicit error / bound, at most", nearest, at_most(1), paper="≤ 1 (theorem 1)", form=".3f")
    slope = result.slope(judged)
    yield Check("log-log slope, implicit", slope, between(0.9, 1.1), paper="1 (theorem 1)", form=".3f")
    ratio = float(path.unrolled_error[99] / path.implicit_error[99]) if taken >= 100 else None
    reference = 1.260e-3 / 4.496e-5
    yield Check("unrolled / implicit, 100 steps", ratio, at_least(20), reference, "much larger", form=".1f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    steps = min(100, result.settings.steps)
    i = steps - 1
    implicit, unrolled, bound = (
        float(errors[i]) for errors in (result.path.implicit_error, result.path.unrolled_error, result.path.bound)
    )
    return (
        f"error of the Jacobian after {steps} steps: {implicit:.2g} implicit (bound {bound:.2g}), {unrolled:.2g} "
        f"unrolled, {unrolled / implicit:.0f} times as much"
    )


def draw(result: Result) -> Figure:
    """Errors of Jacobians over the error of the solution and over the steps; below, the Jacobians themselves."""
    figure = pictures.canvas("Ridge regression, stopped early: the error of its Jacobian", height=11)
    above, below = figure.subfigures(2, 1, height_ratios=(1.3, 1))
    left, right = above.subplots(1, 2, sharey=True)
    _errors(left, result, result.path.solution_error)
    left.invert_xaxis()
    left.set_xscale("log")
    left.set_xlabel("error of the solution, ‖x − x*‖ (steps go to the right)")
    left.set_ylabel("error of the Jacobian (spectral norm)")
    left.set_title(f"the paper's figure: slope {result.slope(result.settings.shown):.2f} of the implicit error")
    left.legend()
    _errors(right, result, np.arange(1, result.settings.steps + 1))
    right.set_xlabel("steps of gradient descent")
    last = result.settings.shown[-1]
    lag = result.path.unrolled_error[last - 1] / result.path.implicit_error[last - 1]
    right.set_title(f"after {last} steps the unrolled error is {lag:.0f} times the implicit one")
    _jacobians(below, result)
    return figure


def _errors(axes: Any, result: Result, over: np.ndarray) -> None:
    path, shown = result.path, np.array(result.settings.shown) - 1
    axes.plot(over, path.unrolled_error, color=pictures.RIVAL, label="unrolled")
    axes.plot(over, path.bound, color=pictures.INK, lw=1.5, ls="--", label="bound of theorem 1, on the implicit error")
    axes.plot(over, path.estimate, color=pictures.THIRD, lw=1.5, ls=":", label="dini's estimate of the implicit error")
    axes.plot(over, path.implicit_error, color=pictures.METHOD, label="implicit")
    steps = [str(i + 1) for i in shown]
    pictures.points(axes, over[shown], path.unrolled_error[shown], steps, color=pictures.RIVAL)
    axes.plot(over[shown], path.implicit_error[shown], "o", color=pictures.METHOD, ms=6)
    axes.set_yscale("log")


def _jacobians(figure: Any, result: Result) -> None:
    """The exact Jacobian and both others at one point, in one scale of color."""
    steps, path = result.settings.pictured, result.path
    exact = result.exact.jacobian
    reach = np.abs(exact).max()
    shown = {
        "exact": exact,
        f"implicit: error {path.implicit_error[steps - 1]:.3g}": path.implicit[steps - 1],
        f"unrolled: error {path.unrolled_error[steps - 1]:.3g}": path.unrolled[steps - 1],
    }
    panels = figure.subplots(1, 3)
    for axes, (name, jacobian) in zip(panels, shown.items(), strict=True):
        image = axes.imshow(jacobian, cmap=pictures.SIGNED, vmin=-reach, vmax=reach)
        axes.grid(False)
        axes.set_title(name)
        axes.set_xticks(range(len(result.features)), result.features, fontsize=9)
        axes.set_yticks(range(len(result.features)), result.features, fontsize=9)
        axes.set_xlabel("regularization θ of")
    panels[0].set_ylabel("coefficient x of")
    figure.colorbar(image, ax=panels, label="∂x / ∂θ")
    figure.suptitle(f"the Jacobian, exact and after {steps} steps", fontsize=12)
