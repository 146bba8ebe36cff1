"""What the experiment shows: tables, the figures beside the specification's, the headline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, at_least, at_most, between, near_reference

from . import bakeoff
from .cone import MIDPOINTS
from .study import Result, Trained

#: The specification's bars and figures of seed 0, and the paper's values, by objective.
VALUES: dict[str, tuple[float, float, float, float | str]] = {
    "ELBO": (-8.18, -8.02, -8.086, -8.08),
    "IWELBO(5)": (-7.62, -7.45, -7.524, -7.67),
    "HVI": (-9.80, -9.70, -9.754, -9.75),
    "IWHVI(5,1)": (-8.24, -8.12, -8.184, -8.18),
    "DIWHVI(5,5)": (-7.37, -7.22, -7.306, -7.30),
    MIDPOINTS: (-5.3262, -5.3202, -5.3232, ""),
}
#: The paper's figures of NumPyro's objectives.
NUMPYRO = {"ELBO": "-8.09", "IWELBO(5)": "-7.87"}
#: The specification's standard deviations of one gradient.
SPREADS = {"enumeration": 1.376, "REINFORCE": 2.047, "measures": 2.654}


def of(result: Result, name: str) -> list[Trained]:
    """An objective's ascents, one for each start."""
    return [one for one in result.trained if one.name == name]


def farthest(values: Iterable[float], center: float) -> float:
    """The value that is farthest from the center."""
    return max(values, key=lambda one: abs(one - center))


def tables(result: Result) -> list[Table]:
    """Everything."""
    return [_values(result), _fixed(result), _estimators(result), _overheads(result)]


def _start(one: Trained) -> str:
    return ", ".join(f"{x:g}" for x in one.start)


def _values(result: Result) -> Table:
    rows = [
        [one.name, _start(one), f"{Estimate.of(one.values):.3f}", f"{max(one.errors):.3f}"] for one in result.trained
    ]
    rows += [None] if result.numpyro else []
    rows += [
        [f"NumPyro, {one.name}", _start(one), f"{Estimate.of(one.values):.3f}", f"{max(one.errors):.3f}"]
        for one in result.numpyro
    ]
    rows += [None, ["exact log-evidence", "", f"{result.evidence:.6f}", ""]]
    columns = ("objective", "start", "value", "its error")
    steps, samples = result.settings.steps, result.settings.samples
    caption = (
        f"After {steps} steps with {samples} samples each. Mean over seeds with Student's interval, "
        f"and the largest standard error of one seed's {result.settings.evaluations} evaluations."
    )
    return Table("Noisy cone: objectives after ascent", columns, rows, caption)


def _fixed(result: Result) -> Table:
    write = lambda mean, error: f"{mean:.3f} ± {error:.3f}"
    rows = [[one.name, write(*one.ours), write(*one.theirs), f"{one.distance:.1f}"] for one in result.agreements]
    rows += [[f"{n} particles", write(mean, error), "", ""] for n, mean, error in result.rising]
    caption = "± one standard error; the distance is in joint ones. More particles at the parameters of IWELBO(5)."
    return Table("At fixed parameters", ("objective", "ours", "NumPyro", "distance"), rows, caption)


def _estimators(result: Result) -> Table:
    value, gradient = bakeoff.exact(bakeoff.AT)
    rows = [
        [
            one.name,
            f"{one.value:.4f} ± {one.value_error:.4f}",
            f"{one.gradient:.4f} ± {one.gradient_error:.4f}",
            f"{one.spread:.3f}",
        ]
        for one in result.estimators
    ]
    rows += [None, ["exact", f"{value:.4f}", f"{gradient:.4f}", ""]]
    caption = f"Means of {result.settings.estimates} estimates, ± one standard error; spread of one gradient."
    return Table("One binary choice by three strategies", ("strategy", "value", "gradient", "spread"), rows, caption)


def _overheads(result: Result) -> Table:
    rows = []
    for one in result.overheads:
        ours, hand = (f"{1e6 * t:.1f} µs" for t in one.times)
        rows.append([str(one.samples), ours, hand, f"{one.times[0] / one.times[1]:.2f}", f"{one.difference:.0e}"])
    caption = f"Least of {result.settings.rounds} times in turns; the gradients' relative difference."
    columns = ("samples", "interpreter", "by hand", "ratio", "difference")
    return Table("Gradient of the mean-field ELBO", columns, rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """The figures that have bars.

    Of an objective it is the value of the seed and start that is farthest from the bar's middle; errors and distances
    are in standard errors.
    """
    for name, (low, high, reference, paper) in VALUES.items():
        values = [value for one in of(result, name) for value in one.values]
        ours = farthest(values, (low + high) / 2) if values else None
        bar, form = between(low, high), ".2f" if paper else ".4f"
        yield Check(name, ours, bar, reference, paper, form=form, shown="" if ours is None else f"{ours:.4f}")
    bounds = [
        value - 3 * error - result.evidence
        for one in result.trained
        if one.name != MIDPOINTS
        for value, error in zip(one.values, one.errors, strict=True)
    ]
    yield Check("bounds over evidence", max(bounds, default=None), at_most(0))
    for name in ("ELBO", "IWELBO(5)"):
        found = [one.distance for one in result.agreements if one.name == name]
        yield Check(f"{name} to NumPyro's", found[0] if found else None, at_most(4))
        theirs = [value for one in result.numpyro if one.name == name for value in one.values]
        yield Check(f"{name}, NumPyro's", float(np.mean(theirs)) if theirs else None, paper=NUMPYRO[name], form=".3f")
    means = [mean for _, mean, _ in result.rising]
    least = min(np.diff(means), default=None)
    yield Check("rise with particles", None if least is None else float(least), at_least(0))
    value, gradient = bakeoff.exact(bakeoff.AT)
    for one in result.estimators:
        off = max(abs(one.value - value) / one.value_error, abs(one.gradient - gradient) / one.gradient_error)
        yield Check(f"{one.name}, error", off, at_most(4))
        yield near_reference(f"{one.name}, spread", one.spread, SPREADS[one.name], 0.05, ".3f")
    for one in result.overheads:
        yield Check(f"time / by hand, {one.samples}", one.times[0] / one.times[1], at_most(1.15), 1.0)


def headline(result: Result) -> str:
    """In one sentence."""
    shown = {name: np.mean(found[0].values) for name in VALUES if (found := of(result, name))}
    text = ", ".join(f"{name} {mean:.2f}" for name, mean in shown.items())
    return f"A ring's evidence is {result.evidence:.2f}; bounds: {text}"
