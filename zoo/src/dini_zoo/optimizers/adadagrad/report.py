"""What the experiment prints and draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate, Paired
from dini_zoo.kit.tables import Check, Table, at_least, at_most, between

from .study import CONSTANT, DOUBLING, FULL, INNER, NORM, SGD, Descent, Result, by_eta, by_size


def tables(result: Result) -> Sequence[Table]:
    """What each method needs for a small gradient, and what it makes of a budget of samples."""
    return [_descents(result), _trained(result)]


def _among(values: Sequence[float]) -> str:
    """One number, or the least and the greatest of several."""
    low, high = min(values), max(values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _descents(result: Result) -> Table:
    setup = result.settings.logistic
    rows = []
    for name, runs in result.descents.items():
        samples = f"{_mean([run.samples[-1] for run in runs]):,.0f}" if all(run.reached for run in runs) else "-"
        rows.append(
            [
                name,
                samples,
                _among([run.samples[-1] for run in runs]),
                _among([run.steps for run in runs]),
                _among([run.sizes[-1] for run in runs]) if runs[0].sizes else "-",
            ]
        )
    caption = (
        f"AdaGrad-Norm on {setup.points} points, until the squared norm of the gradient of all of them is "
        f"{setup.target:g}, {setup.patience} steps at most. A dash: not reached by each of "
        f"{len(result.settings.seeds)} seeds."
    )
    return Table(
        "Samples until the gradient is small", ("batch", "mean", "samples", "steps", "last batch"), rows, caption
    )


def _trained(result: Result) -> Table:
    setup = result.settings.digits
    rows = [
        [
            name,
            _among([run.steps for run in runs]),
            f"{Estimate.of(run.loss for run in runs):.3f}",
            f"{Estimate.of((run.accuracy for run in runs), scale=100):.1f}",
            _among([run.final for run in runs]),
        ]
        for name, runs in result.trained.items()
    ]
    rate = next((rate for rate, runs in result.sgd.items() if runs == result.trained.get(SGD)), None)
    caption = (
        f"{setup.passes} passes through {setup.train} images, {len(result.settings.seeds)} seeds. AdaGrad with rate "
        f"{setup.learning_rate:g}; SGD with {rate:g}, the best of {', '.join(f'{one:g}' for one in result.sgd)} by "
        f"training loss. Doubling: after each pass, up to {setup.doubled}."
    )
    columns = ("batch", "steps", "training loss", "test accuracy (%)", "last batch")
    return Table("A perceptron on digits, the same number of samples for all", columns, rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    descents, trained = result.descents, result.trained

    def samples(name: str) -> float | None:
        runs = descents.get(name)
        return _mean([run.samples[-1] for run in runs]) if runs and all(run.reached for run in runs) else None

    def ratio(one: float | None, other: float | None) -> float | None:
        return None if one is None or other is None else one / other

    def steps(name: str, runs: dict[str, Any]) -> float | None:
        return _mean([run.steps for run in runs[name]]) if name in runs else None

    tested = samples(by_eta(1.0))
    yield Check("η = 1: samples", tested, at_most(60_000), reference="23k", form=",.0f")
    yield Check("all data / η = 1: samples", ratio(samples(FULL), tested), at_least(2), reference="5.0", form=".1f")
    large = samples(by_size(256))
    yield Check("256 / η = 1: samples", ratio(large, tested), at_least(4), reference="8.1", form=".1f")
    few = descents.get(by_size(16))
    unreached = None if few is None else float(not any(run.reached for run in few))
    setup = result.settings.logistic
    left = "" if few is None else "not reached" if unreached else "reached"
    yield Check(f"16: after {setup.patience} steps", unreached, at_least(1), reference="not reached", shown=left)
    yield Check("η = 1: steps", _most(descents.get(by_eta(1.0))), at_most(200), reference="43 to 56", form=".0f")
    yield Check("η = 0.5: steps", _most(descents.get(by_eta(0.5))), at_most(40), reference="16 to 23", form=".0f")

    small = by_size(8)
    fewer = ratio(steps(small, trained), steps(INNER, trained))
    yield Check("digits, 8 / inner product: steps", fewer, at_least(8), reference="15", form=".1f")
    lost = None
    if small in trained and INNER in trained:
        lost = 100 * (_mean([run.accuracy for run in trained[small]]) - _mean([run.accuracy for run in trained[INNER]]))
    yield Check("digits, points of accuracy lost to 8", lost, at_most(1.5), reference="0.7", form=".2f")
    loss = {name: _mean([run.loss for run in runs]) for name, runs in trained.items()}
    part = ratio(loss.get(INNER), loss.get(FULL))
    yield Check("digits, loss / all data's", part, at_most(0.7), reference="0.53", form=".2f")
    for name, other in ((INNER, DOUBLING), (NORM, SGD)):
        yield from _beside(trained, name, other)
    finals = [run.final for run in trained.get(INNER, [])]
    if finals:
        worst = min(finals) if min(finals) < 100 else max(finals)
        bar = between(100, 1000)
        yield Check("digits, inner product: last batch", worst, bar, "216 to 282", shown=_among(finals))


def _beside(trained: dict[str, Any], name: str, other: str) -> Iterator[Check]:
    """Without a bar: a rival of about as many steps, seed by seed."""
    if not {name, other} <= trained.keys():
        return
    for what, scale, form in (("loss", 1.0, ".3f"), ("accuracy", 100.0, ".2f")):
        one, two = ([getattr(run, what) for run in trained[way]] for way in (name, other))
        found = Paired.of(one, two, scale=scale)
        title = f"digits, {name} - {other}: {what}" + (", points" if what == "accuracy" else "")
        yield Check(title, found.difference.mean, shown=f"{found:{form}}")


def _most(runs: list[Descent] | None) -> float | None:
    """The most steps that a run took; `None` where one did not end."""
    return max(run.steps for run in runs) if runs and all(run.reached for run in runs) else None


def headline(result: Result) -> str:
    """The one figure that matters."""
    setup = result.settings.digits
    small, tested = result.trained[by_size(setup.initial)], result.trained[INNER]
    fewer = _mean([run.steps for run in small]) / _mean([run.steps for run in tested])
    ours, theirs = (Estimate.of((run.accuracy for run in runs), scale=100) for runs in (tested, small))
    return (
        f"batches that grow by a test take {fewer:.0f} times fewer steps than batches of {setup.initial}; test "
        f"accuracy {ours:.1f} %, theirs {theirs:.1f} %"
    )


_STYLES = {
    INNER: pictures.METHOD,
    NORM: pictures.INK,
    SGD: pictures.THIRD,
    DOUBLING: pictures.RIVAL,
    FULL: pictures.QUIET,
}


def _color(name: str) -> str:
    return pictures.ALARM if name.startswith(CONSTANT) else _STYLES[name]


def draw(result: Result) -> Figure:
    """The gradient over the samples seen; the batch and the loss of the perceptron over the passes."""
    figure = pictures.canvas("Batches that grow when their gradients are too noisy")
    left, middle, right = figure.subplots(1, 3)
    colors = iter(pictures.COLORS)
    for name, runs in result.descents.items():
        color = next(colors)
        for i, run in enumerate(runs):
            # the first batch begins where nothing has been seen: it has no place on a logarithmic axis
            left.plot(run.samples[1:], run.squares[1:], color=color, lw=1, label=None if i else name)
    left.axhline(result.settings.logistic.target, color=pictures.QUIET, lw=1, ls=":")
    left.set(xscale="log", yscale="log", xlabel="samples seen", ylabel="squared norm of the gradient of all data")
    left.set_title("logistic regression, not convex")
    left.legend(fontsize=9)

    train = result.settings.digits.train
    for name, runs in result.trained.items():
        for i, run in enumerate(runs):
            label = None if i else name
            starts, sizes = zip(*run.sizes, strict=True)
            ends = [*starts, run.samples[-1]]
            middle.stairs(sizes, np.asarray(ends) / train, baseline=None, color=_color(name), lw=1.5, label=label)
            right.plot(np.asarray(run.samples) / train, run.losses, color=_color(name), lw=1.2, label=label)
    middle.set(yscale="log", xlabel="passes through the data", ylabel="batch size")
    middle.set_title("digits: the batch")
    right.set(yscale="log", xlabel="passes through the data", ylabel="training loss")
    right.set_title("digits: the loss")
    right.legend(fontsize=9)
    return figure
