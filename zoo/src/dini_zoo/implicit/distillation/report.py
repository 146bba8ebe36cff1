"""The experiment's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dini_zoo.kit.tables import check_table, plain_table

from .checks import PAPER, checks

if TYPE_CHECKING:
    from rich.table import Table

    from .experiment import Result


def cost_table(result: Result) -> Table:
    """One hypergradient, in each way."""
    settings, implicit = result.settings, result.ways["implicit"]
    unrolled = result.ways["unrolled"]
    table = plain_table(
        "hypergradient",
        right=("error", "at the end", "memory", "fastest", "median"),
        title=f"One hypergradient through {settings.steps} steps of gradient descent",
        caption=f"Unrolled takes {unrolled.fastest / implicit.fastest:.2f} times as long as implicit by the fastest of "
        f"{settings.rounds} rounds, {unrolled.median / implicit.median:.2f} times by medians, the paper's factor is "
        f"{PAPER:.0f} (MNIST); and {unrolled.memory / implicit.memory:.0f} times the memory for intermediate results. "
        "Error: relative distance from the hypergradient at an exact solution, for the first and for the distilled "
        f"images (where it is {result.sizes[0] / result.sizes[1]:.0f} times smaller); after so many steps the "
        f"norm of the gradient is {result.residuals[0]:.0e} and {result.residuals[1]:.0e}. "
        f"Implicit and unrolled differ by {result.agreement[0]:.1e} and {result.agreement[1]:.1e}.",
    )
    table.add_row("none, the loss alone", "", "", "", _milliseconds(min(result.forward)), "")
    for name, way in result.ways.items():
        table.add_row(
            name,
            *(f"{error:.1e}" for error in way.errors),
            f"{way.memory / 1e6:.2f} MB",
            _milliseconds(way.fastest),
            _milliseconds(way.median),
        )
    return table


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"


def worth_table(result: Result) -> Table:
    """What is learned from ten images."""
    settings = result.settings
    table = plain_table(
        "learned from",
        right=("training loss", "test accuracy"),
        title="What ten images are worth",
        caption=f"Loss on {len(result.split.train.X)} digits, accuracy on {len(result.split.test.X)} others. "
        f"Distilled: {settings.outer_steps} steps of heavy-ball descent. Real images: mean and standard deviation of "
        f"{settings.draws} draws. The regularization and the outer step sizes were chosen on the same digits, so the "
        "accuracy of the distilled images is no unbiased estimate.",
    )
    for name, descent in result.descents.items():
        table.add_row(f"distilled images, {name}", f"{descent.loss[-1]:.4f}", f"{descent.accuracy[-1]:.3f}")
    table.add_row("mean images", *(f"{value:.{digits}f}" for value, digits in zip(result.means, (4, 3), strict=True)))
    (loss, accuracy), (spread, width) = result.real.mean(axis=0), result.real.std(axis=0)
    table.add_row("real images", f"{loss:.2f} ± {spread:.2f}", f"{accuracy:.3f} ± {width:.3f}")
    return table


def reference_table(result: Result) -> Table:
    """The specification's figures beside ours."""
    return check_table(
        checks(result),
        title="Beside the reference figures of the specification",
        caption="Implicit to unrolled: relative distance of the hypergradients at the first images. Time: unrolled / "
        f"implicit; {PAPER:.0f} in the paper.",
    )


def tables(result: Result) -> list[Table]:
    """All tables; the reference figures only where the settings are theirs."""
    found = [cost_table(result), worth_table(result)]
    return [*found, reference_table(result)] if result.settings == type(result.settings)() else found
