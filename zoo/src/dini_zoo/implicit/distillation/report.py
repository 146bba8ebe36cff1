"""What the experiment prints.

The references were computed for the specification, with other code, and the factor 4 is the paper's. They are the only
figures here that are not measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from dini_zoo.kit.tables import Bar, Check, Table, at_least, at_most, between

from .study import IMPLICIT, UNROLLED, Result

#: How much faster implicit differentiation is than unrolling, in the paper.
PAPER = 4.0


def tables(result: Result) -> list[Table]:
    """One hypergradient in each way, and what is learned from ten images."""
    return [cost_table(result), worth_table(result)]


def cost_table(result: Result) -> Table:
    """One hypergradient, in each way."""
    settings, implicit, unrolled = result.settings, result.ways[IMPLICIT], result.ways[UNROLLED]
    rows = [["none, the loss alone", "", "", "", _milliseconds(result.forward.fastest), ""]]
    for name, way in result.ways.items():
        errors = (f"{error:.1e}" for error in way.errors)
        times = map(_milliseconds, (way.fastest, way.median))
        rows.append([name, *errors, f"{way.memory / 1e6:.2f} MB", *times])
    return Table(
        f"One hypergradient through {settings.steps} steps of gradient descent",
        ("hypergradient", "error", "at the end", "memory", "fastest", "median"),
        rows,
        f"Unrolled takes {unrolled.fastest / implicit.fastest:.2f} times as long as implicit by the fastest of "
        f"{settings.rounds} rounds, {unrolled.median / implicit.median:.2f} times by medians, the paper's factor is "
        f"{PAPER:.0f} (MNIST); and {unrolled.memory / implicit.memory:.0f} times the memory for intermediate results. "
        "Error: relative distance from the hypergradient at an exact solution, for the first and for the distilled "
        f"images (where it is {result.sizes[0] / result.sizes[1]:.0f} times smaller); after so many steps the "
        f"norm of the gradient is {result.residuals[0]:.0e} and {result.residuals[1]:.0e}. "
        f"Implicit and unrolled differ by {result.agreement[0]:.1e} and {result.agreement[1]:.1e}.",
    )


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"


def worth_table(result: Result) -> Table:
    """What is learned from ten images."""
    settings = result.settings
    rows = [
        [f"distilled images, {name}", f"{descent.loss[-1]:.4f}", f"{descent.accuracy[-1]:.3f}"]
        for name, descent in result.descents.items()
    ]
    (loss, accuracy), (spread, width) = result.real.mean(axis=0), result.real.std(axis=0)
    rows += [
        ["mean images", f"{result.means[0]:.4f}", f"{result.means[1]:.3f}"],
        ["real images", f"{loss:.2f} ± {spread:.2f}", f"{accuracy:.3f} ± {width:.3f}"],
    ]
    return Table(
        "What ten images are worth",
        ("learned from", "training loss", "test accuracy"),
        rows,
        f"Loss on {len(result.split.train.X)} digits, accuracy on {len(result.split.test.X)} others. "
        f"Distilled: {settings.outer_steps} steps of heavy-ball descent. Real images: mean and standard deviation of "
        f"{len(settings.draws)} draws. The default regularization and outer step sizes were chosen on the same digits, "
        "so the accuracy of the distilled images is no unbiased estimate.",
    )


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    implicit, unrolled = result.ways[IMPLICIT], result.ways[UNROLLED]
    yield Check("implicit to unrolled, first images", result.agreement[0], at_most(1e-5), "1.5e-6", form=".1e")
    yield Check("memory, unrolled / implicit", unrolled.memory / implicit.memory, at_least(8), "17", form=".1f")
    faster = unrolled.fastest / implicit.fastest
    yield Check("time, unrolled / implicit, minima", faster, at_least(2), "2.5 to 2.6", PAPER, form=".2g")
    descent = result.descents[IMPLICIT]
    loss, accuracy = float(descent.loss[-1]), float(descent.accuracy[-1])
    reproduced = dataclasses.replace(between(0.517, 0.519), around=True)
    yield Check("training loss", loss, reproduced, 0.518, form=".3f")
    yield Check("test accuracy", accuracy, at_least(0.93), 0.950, form=".3f")
    worse = Bar("less", high=accuracy, open=True)
    yield Check("test accuracy, mean images", result.means[1], worse, 0.905, form=".3f")
    yield Check("test accuracy, real images", float(result.real[:, 1].mean()), worse, 0.652, form=".3f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    implicit, unrolled = result.ways[IMPLICIT], result.ways[UNROLLED]
    accuracy = result.descents[IMPLICIT].accuracy[-1]
    return (
        f"test accuracy {accuracy:.1%} from ten distilled images, {result.means[1]:.1%} from ten mean images; "
        f"unrolling takes {unrolled.fastest / implicit.fastest:.1f} times as long"
    )
