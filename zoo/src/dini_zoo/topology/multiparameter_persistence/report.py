"""What the experiment shows: tables, the figures beside the specification's, and the headline."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.tables import Check, Table, at_least, at_most

from .clouds import ONE, TWO
from .graphs import Learned
from .study import Exact, Result

#: A training loss that tells a network that has learned from one that sticks.
LEARNED = 0.02


def tables(result: Result) -> list[Table]:
    """The clouds' sizes, and the networks' accuracy."""
    clouds = [cloud_table(result, kind) for kind in (TWO, ONE) if result.clouds[kind]]
    return [*clouds, *([graph_table(result)] if result.graphs else [])]


def looks(result: Result) -> tuple[int, ...]:
    """The steps at which a cloud is looked at: 0, 60, 200 and 400 of 400."""
    steps = result.settings.steps
    return (0, 3 * steps // 20, steps // 2, steps)


def cloud_table(result: Result, kind: str) -> Table:
    """Sides and losses on the way."""
    at = looks(result)
    rows = []
    for seed, one in zip(result.settings.seeds, result.clouds[kind], strict=True):
        losses = [f"{one.losses[i]:.3f}" for i in (at[0], at[2], at[3])]
        rows.append([str(seed), *(f"{one.sides[i]:.2f}" for i in at), *losses, str(int(one.sizes[-1]))])
    columns = ["seed", *(f"side {i}" for i in at), *(f"loss {i}" for i in (at[0], at[2], at[3])), "points"]
    caption = "Longest side of the bounding box, and loss, at some steps; points of the last measure."
    return Table(f"A cloud moved by a loss of {kind}", columns, rows, caption)


def graph_table(result: Result) -> Table:
    """By data seed and number of parameters."""
    rows = [
        [
            str(one.seed),
            str(one.parameters),
            f"{one.training[one.kept]:.4f}",
            f"{one.accuracy[one.kept]:.3f}",
            f"{one.accuracy.min():.3f} to {one.accuracy.max():.3f}",
            f"{np.sum(one.training < LEARNED)} of {len(one.training)}",
        ]
        for one in result.graphs
    ]
    columns = ["data seed", "parameters", "training loss", "accuracy", "of all starts", "learned"]
    caption = (
        "Of the start with the smallest training loss; accuracy on test graphs. "
        f"Learned: starts with a training loss below {LEARNED}."
    )
    return Table("Graphs distinguished by learned functions", columns, rows, caption)


def growth(result: Result, kind: str) -> float | None:
    """How many times the side grows in the second half of the steps, mean over seeds."""
    middle = looks(result)[2]
    found = [one.sides[-1] / one.sides[middle] for one in result.clouds[kind]]
    return float(np.mean(found)) if found else None


def by_parameters(result: Result, parameters: int) -> list[Learned]:
    """The networks of one kind."""
    return [one for one in result.graphs if one.parameters == parameters]


def kept_accuracy(one: Learned) -> float:
    """Of the start that is kept, on test graphs."""
    return float(one.accuracy[one.kept])


def checks(result: Result) -> Iterator[Check]:
    """The figures beside the specification's."""
    two, one = ([float(cloud.sides[-1]) for cloud in result.clouds[kind]] for kind in (TWO, ONE))
    ratios = [a / b for a, b in zip(one, two, strict=True)]
    falls = [float(cloud.losses[0] - cloud.losses[-1]) for cloud in result.clouds[TWO]]
    yield Check("side at the end, two: largest", max(two, default=None), at_most(1.3), 1.12, form=".2f")
    yield Check("side at the end, one: smallest", min(one, default=None), at_least(2), 2.68, form=".2f")
    yield Check("side, one / two: smallest", min(ratios, default=None), at_least(1.8), 2.68 / 1.12, form=".2f")
    yield Check("growth in the second half, two", growth(result, TWO), at_most(1.08), 1.0, form=".3f")
    yield Check("growth in the second half, one", growth(result, ONE), at_least(1.3), 1.5, form=".3f")
    yield Check("fall of the loss, two: smallest", min(falls, default=None), at_least(0.08), 0.111, form=".3f")
    yield from _graph_checks(result)
    yield from _exact_checks(result.exact)


def _exact_checks(exact: Exact | None) -> Iterator[Check]:
    rebuilt = None if exact is None else exact.rebuilt
    yield Check("values of the Hilbert function, of 63", rebuilt, at_least(63), 63, form="d")
    known = (5.054463203, 1.677611879)
    off = [None, None] if exact is None else [abs(a - b) for a, b in zip(exact.derivatives, known, strict=True)]
    for degree, one in enumerate(off):
        yield Check(f"derivative, degree {degree}: off by", one, at_most(1e-8), form=".0e")
    differences = (
        None if exact is None else max(abs(a - b) for a, b in zip(exact.derivatives, exact.differences, strict=True))
    )
    yield Check("derivatives − differences", differences, at_most(1e-7), form=".0e")


def _graph_checks(result: Result) -> Iterator[Check]:
    two, one = by_parameters(result, 2), by_parameters(result, 1)
    least = min(map(kept_accuracy, two), default=None)
    yield Check("graphs, accuracy, two: smallest", least, at_least(0.95), 1.0, form=".3f")
    most = max((float(runs.accuracy.max()) for runs in one), default=None)
    yield Check("graphs, accuracy, one: largest", most, at_most(0.87), 0.782, form=".3f")
    learned = float(np.mean([runs.training < LEARNED for runs in two])) if two else None
    yield Check("graphs, two: share of starts that learn", learned, None, 11 / 12, form=".2f")


def headline(result: Result) -> str:
    """The one figure that matters, with what it is compared with."""
    texts = []
    ends = [[float(cloud.sides[-1]) for cloud in result.clouds[kind]] for kind in (TWO, ONE)]
    if ends[0]:
        written = [f"{min(one):.2f}" + (f" to {max(one):.2f}" if len(one) > 1 else "") for one in ends]
        texts.append(f"side of a cloud at the end {written[0]}, by one parameter {written[1]}")
    runs = [by_parameters(result, p) for p in (2, 1)]
    if all(runs):
        accuracy = [float(np.mean(list(map(kept_accuracy, one)))) for one in runs]
        learned = np.concatenate([one.training < LEARNED for one in runs[0]])
        texts.append(
            f"accuracy on graphs {accuracy[0]:.2f}, by one {accuracy[1]:.2f}, of the start with the least loss "
            f"({learned.sum()} of {learned.size} learn)"
        )
    return "; ".join(texts) or "neither clouds nor graphs were asked for"
