"""The experiment's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from .experiment import Result

_IMPLICIT, _UNROLLED, _BOUND, _ESTIMATE = "#1f8a8c", "#e08a2c", "#26374a", "#7b5ea7"


def draw(result: Result) -> Figure:
    """Errors of Jacobians over the error of the solution and over the steps; below, the Jacobians themselves."""
    figure = Figure(figsize=(15, 11), dpi=110, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.3, 1))
    left, right = above.subplots(1, 2, sharey=True)
    _errors(left, result, result.path.solution_error)
    left.invert_xaxis()
    left.set_xscale("log")
    left.set_xlabel("error of the solution, ‖x − x*‖ (steps go to the right)")
    left.set_ylabel("error of the Jacobian (spectral norm)")
    left.set_title("the paper's figure: the implicit error follows the bound of theorem 1", fontsize=11)
    left.legend(frameon=False, fontsize=10)
    _errors(right, result, np.arange(1, result.settings.steps + 1))
    right.set_xlabel("steps of gradient descent")
    last = result.settings.shown[-1]
    lag = result.path.unrolled_error[last - 1] / result.path.implicit_error[last - 1]
    right.set_title(f"after {last} steps the unrolled error is {lag:.0f} times the implicit one", fontsize=11)
    _jacobians(below, result)
    figure.suptitle("Ridge regression, stopped early: the error of its Jacobian", fontsize=16)
    return figure


def _errors(axes: Any, result: Result, over: np.ndarray) -> None:
    path, shown = result.path, np.array(result.settings.shown) - 1
    axes.plot(over, path.unrolled_error, color=_UNROLLED, lw=2, label="unrolled")
    axes.plot(over, path.bound, color=_BOUND, lw=1.5, ls="--", label="bound of theorem 1, on the implicit error")
    axes.plot(over, path.estimate, color=_ESTIMATE, lw=1.5, ls=":", label="dini's estimate of the implicit error")
    axes.plot(over, path.implicit_error, color=_IMPLICIT, lw=2, label="implicit")
    for errors, color in ((path.unrolled_error, _UNROLLED), (path.implicit_error, _IMPLICIT)):
        axes.plot(over[shown], errors[shown], "o", color=color, ms=6)
    for i in shown:
        axes.annotate(
            str(i + 1),
            (over[i], path.unrolled_error[i]),
            textcoords="offset points",
            xytext=(6, 6),
            color=_UNROLLED,
            fontsize=9,
        )
    axes.set_yscale("log")
    axes.grid(color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


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
        image = axes.imshow(jacobian, cmap="RdBu_r", vmin=-reach, vmax=reach)
        axes.set_title(name, fontsize=11)
        axes.set_xticks(range(len(result.features)), result.features, fontsize=9)
        axes.set_yticks(range(len(result.features)), result.features, fontsize=9)
        axes.set_xlabel("regularization θ of")
    panels[0].set_ylabel("coefficient x of")
    figure.colorbar(image, ax=panels, label="∂x / ∂θ")
    figure.suptitle(f"the Jacobian, exact and after {steps} steps", fontsize=12)
