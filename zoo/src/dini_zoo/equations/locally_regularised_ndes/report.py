"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dini_zoo.kit.tables import Check, Table, at_least, at_most, between, duration

from .study import BACKSOLVE, BIASED, GLOBAL, INITIAL, TIMED, UNBIASED, VANILLA, Fitted, Result

#: Errors of the flow's end are compared with so many evaluations: ours with the first, the rival's with the second.
FEW, RIVAL_FEW = 20, 26


def tables(result: Result) -> list[Table]:
    """Methods, tolerances."""
    return [method_table(result), tolerance_table(result)]


def _mean(models: Sequence[Fitted], of: Callable[[Fitted], float]) -> float:
    return float(np.mean([of(one) for one in models]))


def _seconds(models: Sequence[Fitted]) -> float | None:
    """Of a training, in the mean; `None` where they were not timed."""
    known = [one.seconds for one in models if one.seconds is not None]
    return float(np.mean(known)) if known else None


def method_table(result: Result) -> Table:
    """Every method with the tolerance that the tests' tightest is."""
    rows = [
        [
            name,
            ", ".join(str(one.own.evaluations) for one in models),
            ", ".join(f"{one.own.accuracy:.1%}" for one in models),
            f"{_mean(models, lambda one: float(one.course.mean())):.0f}",
            "" if (seconds := _seconds(models)) is None else duration(seconds),
        ]
        for name, models in result.flows.items()
    ]
    settings = result.settings
    caption = (
        f"Calls of the network in one solve of all test images with tolerance {min(settings.tolerances):g}, and "
        f"accuracy, seed by seed; calls on average in a solve of training, {settings.steps} steps. "
        f"Training: processor time, without compilation; only {' and '.join(TIMED)} trained alone. Strong: "
        f"weights {settings.strong_weights[0]:g} to {settings.strong_weights[1]:g} in place of "
        f"{settings.weights[0]:g} to {settings.weights[1]:g}; so, too, the initial step."
    )
    return Table("Flows of digits", ("method", "calls", "accuracy", "calls, training", "training"), rows, caption)


def tolerance_table(result: Result) -> Table:
    """The control: looser tolerances when a model is used."""
    names = [name for name in (VANILLA, UNBIASED, BIASED) if name in result.settings.methods]
    rows = []
    for i, tolerance in enumerate(result.settings.tolerances):
        cells = [f"{tolerance:g}"]
        for name in names:
            tests = [one.tests[i] for one in result.flows[name]]
            calls, accuracy = np.mean([one.evaluations for one in tests]), np.mean([one.accuracy for one in tests])
            error = np.exp(np.mean([np.log(one.error) for one in tests]))
            cells.append(f"{calls:.0f}, {accuracy:.1%}, {error:.0e}")
        rows.append(cells)
    caption = "Accuracy needs no tight tolerance, whatever the method. Errors: geometric means over seeds."
    title = "Tested with other tolerances:\ncalls, accuracy, relative error of the flow's end"
    return Table(title, ("tolerance", *names), rows, caption)


def error_in(model: Fitted, calls: int) -> float | None:
    """The least error that a model reaches in so many evaluations or fewer."""
    return min((one.error for one in model.tests if one.evaluations <= calls), default=None)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    free = result.flows[VANILLA]
    calls, accuracy = (lambda one: one.own.evaluations), (lambda one: one.own.accuracy)
    references = {UNBIASED: (29 / 80, 0.006), BACKSOLVE: (32 / 80, -0.004), BIASED: (26 / 80, 0.0025)}
    for name, (ratio, gain) in references.items():
        models = result.flows.get(name)
        ours = None if models is None else _mean(models, calls) / _mean(free, calls)
        yield Check(f"{name}: calls / vanilla", ours, at_most(0.733), ratio, "0.556 to 0.733", form=".2f")
        change = None if models is None else _mean(models, accuracy) - _mean(free, accuracy)
        yield Check(f"{name}: accuracy - vanilla", change, at_least(-0.01), gain, form="+.4f")
    ours, theirs = _seconds(result.flows.get(UNBIASED, [])), _seconds(free)
    time = None if ours is None or theirs is None else ours / theirs
    yield Check("unbiased: training time / vanilla", time, at_most(1.15), 12.5 / 14, form=".2f")
    models, first = result.flows.get(INITIAL), free[: len(result.flows.get(INITIAL, []))]
    ours = None if models is None else _mean(models, calls) / _mean(first, calls)
    yield Check("initial step: calls / vanilla", ours, between(0.9, 1.1), 1.0, form=".2f")
    models = result.flows.get(GLOBAL)
    ours = None if models is None else _mean(models, calls) / _mean(free, calls)
    yield Check("global: calls / vanilla", ours, reference=20 / 80, form=".2f")
    models, worst = result.flows.get(UNBIASED, []), None
    pairs = [(error_in(one, FEW), error_in(other, RIVAL_FEW)) for one, other in zip(models, free, strict=False)]
    ratios = [one / other for one, other in pairs if one is not None and other is not None]
    if pairs and len(ratios) == len(pairs):
        worst = max(ratios)
    name = f"unbiased: error in {FEW} calls / vanilla's in {RIVAL_FEW}, worst seed"
    yield Check(name, worst, at_most(0.1), 1e-5 / 9e-4, form=".1e")


def headline(result: Result) -> str:
    """The one figure that matters."""
    free, ours = (_ends([f"{one.own.evaluations}" for one in result.flows[name]]) for name in (VANILLA, UNBIASED))
    plain, right = (_ends([f"{one.own.accuracy:.1%}" for one in result.flows[name]]) for name in (VANILLA, UNBIASED))
    return (
        f"digits: {ours} network calls a solve in place of {free}, accuracy {right} ({plain}); "
        f"seeds: {len(result.flows[VANILLA])}"
    )


def _ends(shown: Sequence[str]) -> str:
    """The least and the greatest of some figures that are written alike."""
    least, most = (pick(shown, key=lambda one: float(one.rstrip("%"))) for pick in (min, max))
    return least if least == most else f"{least} to {most}"
