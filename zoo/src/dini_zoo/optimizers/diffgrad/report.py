"""What the experiment prints.

The references were computed for the specification, with other code. They are the only figures here that are not
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from dini_zoo.kit.seeds import Estimate, Paired
from dini_zoo.kit.tables import Check, Strong, Table, above, at_least, at_most, below, between

from .functions import FUNCTIONS
from .study import ADAM, DIFFGRAD, FROZEN, Look, Result
from .training import Trained

#: The updates whose points have a reference.
AT = (1, 2, 10, 50, 299)

#: Points at these updates and the greatest one, by optimizer and function.
REFERENCES: dict[tuple[str, str], tuple[tuple[float, ...], float]] = {
    (ADAM, "F1"): ((-0.9, -0.80048740, -0.12185208, 0.11866199, 0.20011493), 0.332),
    (DIFFGRAD, "F1"): ((-0.91978161, -0.86596113, -0.46402355, -0.37765437, -0.30007117), -0.0616),
    (ADAM, "F2"): ((-0.9, -0.8, -0.37734291, 0.04350074, 0.00009013), 0.0747),
    (DIFFGRAD, "F2"): ((-0.9, -0.85, -0.48327484, -0.73909216, -0.64296269), -0.4188),
    (DIFFGRAD, "F2, published slope"): ((-0.9, -0.85, -0.6045317, -0.68788731, -0.81214459), -0.5305),
    (ADAM, "F3"): ((-0.9, -0.80027037, -0.11469059, 0.10057579, 0.00051014), 0.2667),
    (DIFFGRAD, "F3"): ((-0.91192029, -0.85764822, -0.42693574, -0.08667328, 0.01356512), 0.1834),
}

#: The friction frozen at 1/2: all points on `F1`, the last ones on the others.
FROZEN_REFERENCE = (-0.95, -0.90008079, -0.51387921, -0.34540009, -0.30029982)


def tables(result: Result) -> list[Table]:
    """The paper's functions, the perceptron, the convolutional network, the valley."""
    found = [functions_table(result)]
    found += [perceptron_table(result)] if result.perceptron else []
    found += [network_table(result)] if result.looks else []
    found += [differences_table(result)] if gains(result) else []
    return [*found, valley_table(result)]


def value(result: Result, optimizer: str, function: str) -> float:
    """The value of a function at the last point of a descent."""
    x = result.points[optimizer][-1, list(FUNCTIONS).index(function)]
    return float(FUNCTIONS[function][0](x))


def functions_table(result: Result) -> Table:
    """Where the descents on functions of one variable end."""
    rows: list[list[str] | None] = []
    for i, name in enumerate(FUNCTIONS):
        rows += [None, [Strong(name), *[""] * 3]]
        for optimizer, points in result.points.items():
            x = points[:, i]
            rows.append([f"  {optimizer}", f"{x[-1]:.4f}", f"{value(result, optimizer, name):.2g}", f"{x.max():.4f}"])
    ends = {name: points[-1] for name, points in result.points.items()}
    far = np.abs(ends[ADAM] - ends[DIFFGRAD])[:2].min()
    near = np.abs(ends[FROZEN] - ends[DIFFGRAD]).max()
    note = (
        " A friction that is 1/2 whatever the gradients, which is Adam with half the learning rate, ends in the same "
        "minima as diffGrad: it is the smaller step that finds them."
    )
    return Table(
        f"The paper's functions of one variable, {result.settings.updates} updates from -1",
        ("function", "last point", "its value", "greatest point"),
        rows[1:],
        "All with the learning rate 0.1." + (note if near < 0.05 < far else ""),
    )


def _how(rate: float, scale: float) -> str:
    return ("" if rate == 1 else f", {rate:g} × rate") + ("" if scale == 1 else f", loss × {scale:g}")


def perceptron_table(result: Result) -> Table:
    """All optimizers on the digits."""
    settings = result.settings
    rows = [
        [
            name + _how(rate, scale),
            f"{Estimate.of(one.accuracy):.1%}",
            f"{Estimate.of(one.loss):.4f}",
            f"{one.friction.mean():.3f}",
        ]
        for (name, rate, scale), one in result.perceptron.items()
    ]
    return Table(
        f"A perceptron on the digits, {settings.epochs} passes",
        ("optimizer", "test accuracy", "training loss", "friction"),
        rows,
        f"Means of {len(settings.seeds)} seeds with intervals of 95 percent. Learning rate of Adam: {settings.rate:g}, "
        "ten times as much for SGD and AdaGrad, a thousand times for AdaDelta. Friction: the paper's, averaged over "
        "training and coordinates, whether or not the optimizer has one.",
    )


def _title(look: Look) -> str:
    return look.optimizer + ("" if look.scale == 1 else f", loss × {look.scale:g}")


def network_table(result: Result) -> Table:
    """The convolutional network, each optimizer with the learning rate that the validation images chose."""
    settings = result.settings
    rows = [
        [
            _title(look),
            f"{look.rates[look.best]:g}",
            f"{Estimate.of(look.chosen.validation):.4f}",
            f"{Estimate.of(look.chosen.accuracy):.2%}",
            f"{look.chosen.friction.mean():.2f}",
        ]
        for look in result.looks
    ]
    return Table(
        f"A convolutional network on the digits, {settings.epochs} passes",
        ("optimizer", "rate", "valid. loss", "test accuracy", "friction"),
        rows,
        f"Each with the one of {len(settings.rates)} learning rates from {min(settings.rates):g} to "
        f"{max(settings.rates):g} (SGD: ten times these) whose validation loss is least. Mean friction: that of "
        "diffGrad, averaged over each leaf.",
    )


def rival(result: Result) -> Look | None:
    """The network trained by Adam."""
    return next((look for look in result.looks if look.optimizer == ADAM), None)


def gains(result: Result) -> dict[str, tuple[Paired, Paired]]:
    """Validation loss and test accuracy of every optimizer of the network minus those of Adam, seed by seed."""
    adam = rival(result)
    if adam is None:
        return {}
    return {
        _title(look): (
            Paired.of(look.chosen.validation, adam.chosen.validation),
            Paired.of(look.chosen.accuracy, adam.chosen.accuracy, scale=100),
        )
        for look in result.looks
        if look is not adam
    }


def differences_table(result: Result) -> Table:
    """What the friction is worth on the network, seed by seed."""
    rows = [
        [name, f"{loss:.4f}", f"{accuracy:.2f}", f"{accuracy.wins} : {accuracy.losses}"]
        for name, (loss, accuracy) in gains(result).items()
    ]
    return Table(
        "The convolutional network: differences from Adam",
        ("optimizer", "valid. loss", "test accuracy, points", "better : worse"),
        rows,
        "Paired by seed, with intervals of 95 percent; better and worse count seeds by test accuracy.",
    )


def valley_table(result: Result) -> Table:
    """What the friction is worth where curvatures differ and nothing is random."""
    settings = result.settings
    rates = 2 ** np.linspace(*settings.valley_rates)
    rows = []
    for (name, scale), needed in result.valley.items():
        best = int(np.argmin(needed))
        reached = needed[best] <= settings.valley_updates
        updates = str(needed[best]) if reached else f"> {settings.valley_updates}"
        rows.append([name + _how(1.0, scale), updates, f"{rates[best]:.3g}" if reached else ""])
    return Table(
        f"A narrow valley: least squares, curvatures from 1 to {result.condition:.0f}",
        ("optimizer", "updates to its end", "at the rate"),
        rows,
        f"Diabetes data, all of it in every gradient. Updates until the excess stays below {settings.valley_share:g} "
        f"of the first, at the best of {len(rates)} learning rates from {rates[0]:.2g} to {rates[-1]:.2g}.",
    )


def deviation(result: Result, optimizer: str, function: str) -> float | None:
    """The greatest distance of a descent's points from their references; on `F2` without the last one."""
    points, reference = result.points[optimizer], REFERENCES[optimizer, function][0]
    if len(points) <= AT[-1]:
        return None
    found = points[list(AT), list(FUNCTIONS).index(function)]
    kept = slice(4) if function.startswith("F2") else slice(5)
    return float(np.max(np.abs(found - reference)[kept]))


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    full = result.settings.updates == AT[-1]
    for optimizer, function in REFERENCES:
        off = deviation(result, optimizer, function)
        yield Check(f"{function}: {optimizer}, points off by", off, at_most(1e-6), form=".0e")
    for (optimizer, function), (points, _) in REFERENCES.items():
        if function.startswith("F2"):
            x = float(result.points[optimizer][-1, list(FUNCTIONS).index(function)]) if full else None
            bar = between(points[-1] - 1e-4, points[-1] + 1e-4)
            yield Check(f"{function}: {optimizer}, last point", x, bar, points[-1], form=".5f")
    for function, ours, theirs in (("F1", below(1e-6), above(0.04)), ("F2", below(0.001), above(0.8))):
        for optimizer, bar in ((DIFFGRAD, ours), (ADAM, theirs)):
            last = value(result, optimizer, function) if full else None
            yield Check(f"{function}: {optimizer}, last value", last, bar, form=".1e")
    frozen = result.points[FROZEN][:, 0]
    off = float(np.max(np.abs(frozen[list(AT)] - FROZEN_REFERENCE))) if full else None
    yield Check("F1: friction 1/2, points off by", off, at_most(1e-6), form=".0e")

    def ratio(one: tuple[str, float, float], other: tuple[str, float, float], of: Callable[[Trained], np.ndarray]):
        found = [result.perceptron.get(lane) for lane in (one, other)]
        return None if None in found else [float(np.mean(of(lane))) for lane in found if lane is not None]

    def losses(one: tuple[str, float, float], other: tuple[str, float, float]) -> float | None:
        pair = ratio(one, other, lambda lane: lane.loss)
        return None if pair is None else pair[0] / pair[1]

    for times, other, references in ((1.0, 0.5, ("0.995", "0")), (2.0, 1.0, ("0.975", "0.14"))):
        one, two = (DIFFGRAD, times, 1.0), (ADAM, other, 1.0)
        name = f"diffGrad, {times:g} × rate / Adam, {other:g} × rate"
        yield Check(f"{name}, loss", losses(one, two), between(0.9, 1.1), references[0])
        pair = ratio(one, two, lambda lane: 100 * lane.accuracy)
        points = None if pair is None else pair[0] - pair[1]
        yield Check(f"{name}, accuracy", points, between(-0.5, 0.5), references[1], form="+.2f")
    hundred, myriad, frozen = (DIFFGRAD, 1.0, 1e2), (DIFFGRAD, 1.0, 1e4), (FROZEN, 1.0, 1e2)
    half, whole = (ADAM, 0.5, 1.0), (ADAM, 1.0, 1.0)
    yield Check("loss × 100: diffGrad / Adam, 0.5 × rate", losses(hundred, half), at_most(0.85), "0.74")
    yield Check("loss × 100: friction 1/2 / Adam, 0.5 × rate", losses(frozen, half), None, "1.00")
    yield Check("loss × 100: diffGrad / Adam", losses(hundred, whole), at_least(1.5), "1.99")
    yield Check("loss × 10⁴: diffGrad / Adam", losses(myriad, whole), between(0.8, 1.2), "1.10")
    for name, (_, accuracy) in gains(result).items():
        if name.startswith(DIFFGRAD):
            yield Check(f"network: {name} - Adam, points", accuracy.difference.mean, paper="> 0", form="+.2f")
    fewest = {lane: int(np.min(needed)) for lane, needed in result.valley.items()}
    for (name, scale), updates in fewest.items():
        if name == DIFFGRAD and updates <= result.settings.valley_updates:
            title = f"valley: {name}{_how(1.0, scale)} / Adam, updates"
            yield Check(title, updates / fewest[ADAM, 1.0], paper="< 1", form=".2f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    found = {name: gain for name, gain in gains(result).items() if name.startswith(DIFFGRAD)}
    if not found:
        points = {name: value(result, name, "F1") for name in (DIFFGRAD, ADAM)}
        return f"on F1 diffGrad ends at {points[DIFFGRAD]:.1g}, Adam at {points[ADAM]:.1g}"
    # which of them counts, the validation images say
    name, (_, gain) = min(found.items(), key=lambda item: item[1][0].difference.mean)
    clear = "" if gain.clear else ", no clear difference"
    return f"a convolutional network's test accuracy, {name} (best by validation) minus Adam: {gain:.2f} points{clear}"
