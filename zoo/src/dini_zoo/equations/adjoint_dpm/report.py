"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator

from dini_zoo.kit.tables import Check, Table, at_least, at_most, duration, size

from .closed import Closed
from .digits import Attack, Cost, Inversion
from .study import Result

#: Of 20 steps: the sample's error and the gradient's, in the clock and in the time; by spread.
FIXED = {0.02: ((7.7e-4, 6.2e-2), (3.2e-2, 0.43)), 0.1: ((3.6e-3, 1.4e-2), (3.4e-2, 0.25))}
NAMES = {"backsolve": "adjoint", "checkpoint": "checkpoints", "stored": "all states", "direct": "plain scan"}
#: Cosines of noise and weights by steps.
COSINES = {15: {"noise": 0.9993, "weights": 0.9992}, 30: {"noise": 0.99999, "weights": 0.99999}}


def tables(result: Result) -> list[Table]:
    """Normal data, what is steered, what a gradient costs."""
    steered = steering_table(result)
    return [
        *([closed_table(result.closed)] if result.closed else []),
        *([steered] if steered else []),
        *([cost_table(result.costs)] if result.costs else []),
    ]


def closed_table(closed: Closed) -> Table:
    """Errors in the clock and in the time."""
    rows = [
        [
            f"s = {one.spread:g}",
            str(one.steps),
            *(f"{value:.1e}" for pair in (one.sample, one.gradient) for value in pair),
        ]
        for one in closed.fixed
    ]
    adaptive = ", ".join(f"{error:.0e} for s = {spread:g}" for spread, error in closed.adaptive.items())
    return Table(
        "Normal data N(m, s²): Heun's method in the clock ρ, and in the time t",
        ("", "steps", "sample: ρ", "t", "gradient: ρ", "t"),
        rows,
        f"Gradients by the adjoint, in the noise. With adaptive steps in ρ, in noise, mean and s: {adaptive}.",
    )


def steering_table(result: Result) -> Table | None:
    """What the two judges see."""
    rows: list[list[str] | None] = []
    if result.inversion:
        one = result.inversion
        rows += [
            ["shows its class, all classes", *_shares(one.accuracy)],
            ["shows 8, embedding of 3", *_shares(one.before)],
            ["shows 8, embedding that was sought", *_shares(one.after)],
            ["shows 8, embedding of 8", *_shares(one.own)],
            None,
        ]
    if result.attack:
        one = result.attack
        rows += [
            ["misclassified, noise as drawn", *_shares(one.none)],
            ["misclassified, random signs", *_shares(one.random)],
            ["misclassified, noise attacked", *_shares(one.attacked)],
            None,
        ]
    if not rows:
        return None
    caption = (
        f"The classifier is the loss, too, and has {result.accuracy:.1%} on images that it was not trained with; "
        f"the second judge, a support vector machine, {result.judge_accuracy:.1%}."
    )
    return Table("Digits: shares of samples", ("", "classifier", "second judge"), rows[:-1], caption)


def _shares(pair: tuple[float, float]) -> tuple[str, str]:
    return (f"{pair[0]:.3f}", f"{pair[1]:.3f}")


def cost_table(costs: list[Cost]) -> Table:
    """By steps and adjoint."""
    rows: list[list[str] | None] = []
    for one in costs:
        for name in one.memory:
            cosines = one.cosines.values() if name == "backsolve" else ()
            shown = [f"{cosine:.6f}" for cosine in cosines] or ["", "", ""]
            rows.append([NAMES[name], str(one.steps), size(one.memory[name]), duration(one.seconds[name]), *shown])
        rows.append(None)
    columns = ("", "steps", "memory", "time", *(f"cos {name}" for name in costs[0].cosines))
    caption = "Cosine: of the angle between the adjoint's gradient and the exact one of the sampler."
    return Table("One gradient in noise, weights and embedding", columns, rows[:-1], caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    yield from closed_checks(result.closed)
    yield from inversion_checks(result, result.inversion)
    yield from attack_checks(result.attack)
    yield from cost_checks(result.costs or [])


def closed_checks(closed: Closed | None) -> Iterator[Check]:
    """The bars of normal data."""
    if closed is None:
        yield Check("normal data", None)
        return
    for one in closed.fixed:
        for name, (ours, other), i in (("sample", one.sample, 0), ("gradient", one.gradient, 1)):
            wins = one.spread in FIXED
            pair = FIXED[one.spread][i] if wins and one.steps == 20 else None
            bar = at_most(1 / 3) if wins else None
            reference = "" if pair is None else pair[0] / pair[1]
            quantity = f"s = {one.spread:g}, {one.steps} steps: {name}, ρ / t"
            yield Check(quantity, ours / other, bar, reference, form=".3f")
    for spread, error in closed.adaptive.items():
        yield Check(f"s = {spread:g}, adaptive: gradients", error, at_most(5e-6), "5e-7", form=".1e")


def inversion_checks(result: Result, inversion: Inversion | None) -> Iterator[Check]:
    """The bars of the embedding."""
    yield Check("classifier, fresh images", result.accuracy, at_least(0.96), form=".3f")
    accuracy = None if inversion is None else inversion.accuracy[0]
    yield Check("samples that show their class", accuracy, reference="0.85 to 0.88", form=".3f")
    yield Check("shows 8, before", None if inversion is None else inversion.before[0], reference=0.008, form=".3f")
    yield Check("shows 8, after", None if inversion is None else inversion.after[0], at_least(0.9), 0.998, form=".3f")


def attack_checks(attack: Attack | None) -> Iterator[Check]:
    """The bars of the attack."""
    share = None if attack is None else attack.attacked[0]
    yield Check("misclassified, attacked", share, at_least(0.6), 0.90, form=".3f")
    ratio = None if attack is None else attack.attacked[0] / max(attack.random[0], 1 / 100)
    yield Check("misclassified, attacked / random signs", ratio, at_least(3), 0.90 / 0.14, form=".1f")


def cost_checks(costs: list[Cost]) -> Iterator[Check]:
    """The bars of the gradient."""
    by = {one.steps: one for one in costs}
    for count, least in ((15, 0.995), (30, 0.9999)):
        for name in ("noise", "weights", "embedding"):
            found = by[count].cosines[name] if count in by else None
            reference = COSINES[count].get(name, "")
            yield Check(f"{count} steps: cosine, {name}", found, at_least(least), reference, form=".5f")
    memories = [one.memory["backsolve"] for one in costs]
    growth = max(memories) / min(memories) - 1 if len(memories) > 1 else None
    yield Check("adjoint's memory, growth with steps", growth, at_most(0.02), 0.0, form=".1%")
    last = by.get(60)
    ratio = None if last is None else last.memory["direct"] / last.memory["backsolve"]
    yield Check("60 steps: memory, plain scan / adjoint", ratio, at_least(10), 99.6 / 2.52, form=".1f")
    ratio = None if last is None else last.memory["checkpoint"] / last.memory["backsolve"]
    yield Check("60 steps: memory, checkpoints / adjoint", ratio, reference=1.98 / 2.52, form=".2f")
    for name in ("backsolve", "checkpoint"):
        ratio = None if last is None else last.seconds[name] / last.seconds["direct"]
        yield Check(f"60 steps: time, {NAMES[name]} / plain scan", ratio, form=".2f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    if not result.costs:
        return "what a gradient costs was not measured in this run"
    last = result.costs[-1]
    return (
        f"{last.steps} steps: a gradient takes {size(last.memory['backsolve'])} by the adjoint, "
        f"{size(last.memory['checkpoint'])} by checkpoints, {size(last.memory['direct'])} by a plain scan"
    )
