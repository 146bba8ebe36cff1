"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, at_least, at_most, duration, spread

from ..digit_flows import Tested
from .study import ERROR, STIFFNESS, VANILLA, Fitted, Result

#: With so many evaluations or fewer, errors of the flow's end are compared.
FEW = 26


def tables(result: Result) -> list[Table]:
    """Methods, tolerances, noise."""
    noisy = [noise_table(result)] if result.noisy else []
    return [method_table(result), tolerance_table(result), *noisy]


def _mean(models: Sequence[Fitted], of: Callable[[Fitted], float]) -> float:
    return float(np.mean([of(one) for one in models]))


def method_table(result: Result) -> Table:
    """Every method with the tolerance that the tests' tightest is."""
    rows = [
        [
            name,
            str(len(models)),
            f"{_mean(models, lambda one: one.own.evaluations):.0f}",
            f"{Estimate.of(one.own.accuracy for one in models):.1%}",
            f"{_mean(models, lambda one: float(one.course.mean())):.0f}",
            duration(_mean(models, lambda one: one.seconds)),
            duration(min(one.times for one in models)),
        ]
        for name, models in result.flows.items()
    ]
    columns = ("method", "seeds", "calls", "accuracy", "calls, training", "training", "prediction")
    settings = result.settings
    caption = (
        f"Calls of the network in one solve of all test images with tolerance {min(settings.tolerances):g}, and on "
        f"average in training, {settings.steps} steps with tolerance {settings.tolerance:g} (trained loosely: "
        f"{settings.loose:g}). Means over seeds. "
        "Training: processor time, without compilation; prediction: the shortest time of all."
    )
    return Table("Flows of digits", columns, rows, caption)


def tolerance_table(result: Result) -> Table:
    """The control: looser tolerances when a model is used."""
    rows = []
    for i, tolerance in enumerate(result.settings.tolerances):
        cells = [f"{tolerance:g}"]
        for name in result.settings.methods:
            tests = [one.tests[i] for one in result.flows[name]]
            calls = np.mean([one.evaluations for one in tests])
            accuracy = np.mean([one.accuracy for one in tests])
            cells.append(f"{calls:.0f}, {accuracy:.1%}, {_geometric(tests):.0e}")
        rows.append(cells)
    caption = "Accuracy needs no tight tolerance, whatever the method. Errors: geometric means over seeds."
    title = "Tested with other tolerances:\ncalls, accuracy, relative error of the flow's end"
    return Table(title, ("tolerance", *result.settings.methods), rows, caption)


def _geometric(tests: Sequence[Tested]) -> float:
    return float(np.exp(np.mean([np.log(one.error) for one in tests])))


def noise_table(result: Result) -> Table:
    """Noisy flows by weight and tolerance."""
    settings = result.settings
    rows = []
    for weight in settings.noise_weights:
        cells = [f"{weight:g}"]
        for tolerance in settings.noise_tolerances:
            found = result.noise(weight, tolerance)
            accuracy = Estimate.of(one.accuracy for one in found)
            cells.append(f"{np.mean([one.steps for one in found]):.1f}, {accuracy.mean:.1%}")
        rows.append(cells)
    columns = ("weight", *(f"at {tolerance:g}" for tolerance in settings.noise_tolerances))
    caption = (
        f"Trained with tolerance {settings.noise_tolerances[0]:g}; means of {len(settings.noise_seeds)} seeds with "
        f"{settings.draws} draws of the noise each. Weight: of the mean error estimate."
    )
    return Table("Noisy flows of digits:\naccepted steps, accuracy; by tolerance of the test", columns, rows, caption)


def few(model: Fitted) -> float | None:
    """The least error that a model reaches in few evaluations."""
    return min((one.error for one in model.tests if one.evaluations <= FEW), default=None)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    free = result.flows[VANILLA]
    calls, accuracy = (lambda one: one.own.evaluations), (lambda one: one.own.accuracy)
    for name, bar, reference, paper in ((ERROR, 0.6, 20 / 80, "0.70"), (STIFFNESS, 0.8, 53 / 80, "about 1")):
        models = result.flows.get(name)
        ratio = None if models is None else _mean(models, calls) / _mean(free, calls)
        yield Check(f"{name}: calls / vanilla", ratio, at_most(bar), reference, paper, form=".2f")
        gain = None if models is None else _mean(models, accuracy) - _mean(free, accuracy)
        reference, paper = {ERROR: (0.0035, "-0.006"), STIFFNESS: (0.011, "")}[name]
        yield Check(f"{name}: accuracy - vanilla", gain, at_least(-0.01), reference, paper, form="+.4f")
    ratio = _mean(result.flows[ERROR], lambda one: one.seconds) / _mean(free, lambda one: one.seconds)
    yield Check("ERNODE: training time / vanilla", ratio, at_most(0.9), 5.5 / 12, form=".2f")
    times = min(one.times for one in result.flows[ERROR]) / min(one.times for one in free)
    yield Check("ERNODE: prediction time / vanilla", times, paper="0.64", form=".2f")
    pairs = [(few(one), few(other)) for one, other in zip(result.flows[ERROR], free, strict=True)]
    ratios = [ours / theirs for ours, theirs in pairs if ours is not None and theirs is not None]
    worst = max(ratios) if len(ratios) == len(pairs) else None
    name = f"ERNODE: error / vanilla's, ≤ {FEW} calls, worst seed"
    yield Check(name, worst, at_most(1e-2), 4e-10 / 9e-4, form=".1e")
    tolerance = result.settings.noise_tolerances[0]
    base = result.noise(0.0, tolerance)
    bars = {3.0: (0.85, -0.01, 9 / 11.8, 0.006), 10.0: (0.7, -0.025, 6.5 / 11.4, -0.0135)}
    for weight, (most, least, steps, gain) in bars.items():
        found = result.noise(weight, tolerance)
        ratio, change = None, None
        if found and base:
            ratio = float(np.mean([one.steps for one in found]) / np.mean([one.steps for one in base]))
            change = float(np.mean([one.accuracy for one in found]) - np.mean([one.accuracy for one in base]))
        yield Check(f"SDE, weight {weight:g}: steps / without", ratio, at_most(most), steps, "0.6", form=".2f")
        yield Check(f"SDE, weight {weight:g}: accuracy - without", change, at_least(least), gain, form="+.4f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    free, ours = (spread((one.own.evaluations for one in result.flows[name]), ".0f") for name in (VANILLA, ERROR))
    theirs, right = (Estimate.of(one.own.accuracy for one in result.flows[name]) for name in (VANILLA, ERROR))
    return (
        f"digits: {ours} network calls a solve in place of {free}, accuracy {right:.1%} ({theirs:.1%}); "
        f"seeds: {len(result.flows[ERROR])}"
    )
