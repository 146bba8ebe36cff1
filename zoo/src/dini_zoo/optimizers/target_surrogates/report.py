"""What the experiment prints.

The references were computed for the specification, with other code. They are the only figures here that are not
measured.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, above, at_most

from .racing import Race
from .study import ADAM, SGD, SLS, Result, sso

LAST = 10
"""Rounds of imitation whose mean counts."""


def tables(result: Result) -> list[Table]:
    """One for each task."""
    return [
        *(factorization_table(result, batch) for batch in result.factorization),
        *(digits_table(result, batch) for batch in result.digits),
        imitation_table(result),
    ]


def _rate(rate: float) -> str:
    return "searched" if np.isnan(rate) else f"{rate:.3g}"


def factorization_table(result: Result, batch: int) -> Table:
    """What each method has reached on the factorization."""
    settings = result.settings
    rows = [
        [name, _rate(race.rate), f"{race.final.min():.0e}", f"{race.final.max():.0e}", _count(race)]
        for name, race in result.factorization[batch].items()
    ]
    return Table(
        f"Matrix factorization, {settings.calls} gradients of targets, batches of {batch}",
        ("method", "step size", "least loss", "greatest", "evaluations"),
        rows,
        f"Last loss of {len(settings.seeds)} seeds, m = {settings.long} of one; gradient descent and Adam with the "
        "best of their step sizes. Evaluations: of the model, in all inner steps.",
    )


def _count(race: Race) -> str:
    return f"{race.evaluations[race.best].mean():,.0f}"


def digits_table(result: Result, batch: int) -> Table:
    """What each method has reached on the digits."""
    settings = result.settings
    rows = [
        [name, _rate(race.rate), f"{Estimate.of(race.final):.4f}", _count(race)]
        for name, race in result.digits[batch].items()
    ]
    return Table(
        f"Softmax regression on digits, {settings.digits_calls} gradients of targets, batches of {batch}",
        ("method", "step size", "training loss", "evaluations"),
        rows,
        f"Of all 1797 digits, at the end, with the best of each method's step sizes; {len(settings.seeds)} seeds. "
        f"{SLS}: {settings.digits_steps[1]} inner steps, its step size found by a search in target space, at last "
        f"{result.searched[batch]:.2g}. The line search on the loss restarts with each batch; its trials ask "
        "for the loss, too.",
    )


def imitation_table(result: Result) -> Table:
    """How well the pole is balanced."""
    settings = result.settings
    rows = [
        [
            name,
            f"{Estimate.of(course.best(LAST)):.1e}",
            f"{course.rate(LAST):g}",
            f"{Estimate.of(course.best(None)):.4f}",
            f"{course.rate(None):g}",
            f"{course.steps[np.argmin(course.figure(LAST).mean(axis=1)), :, -LAST:].mean():.0f}",
        ]
        for name, course in result.imitation.items()
    ]
    return Table(
        f"Imitation of an expert that balances a pole, {settings.rounds} rounds",
        ("method", f"loss, last {LAST}", "rate", "loss, all", "rate", "upright"),
        rows,
        f"Mean loss of the last {LAST} rounds and of all, before the update, each with its best step size; upright: "
        f"steps of {settings.length}, in the last {LAST} rounds. {len(settings.seeds)} seeds, m = {settings.long} of "
        f"{len(result.imitation[sso(settings.long)].seeds)}.",
    )


#: Last losses on the digits, by batch: gradient descent, Adam, and the method with 1, 10 and 50 inner steps.
_DIGITS = {125: (0.102, 0.0465, 0.099, 0.024, 0.0152), 625: (0.0796, 0.0193, 0.080, 0.0202, 0.0046)}


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    yield from _factorization_checks(result)
    yield from _digits_checks(result)
    yield from _imitation_checks(result)


def _factorization_checks(result: Result) -> Iterator[Check]:
    settings = result.settings
    if not result.factorization:
        yield Check("factorization", None)
    for batch, races in result.factorization.items():
        bold, cautious = races[sso(10, 1)], races[sso(10, settings.cautious)]
        where = f"factorization, {batch}:"
        yield Check(f"{where} loss, m = 10, η = 1", bold.final.max(), at_most(1e-15), "4e-20", form=".0e")
        tuned = races[SGD].ends.min(axis=0)
        yield Check(f"{where} over gradient descent", (bold.final / tuned).max(), at_most(1e-6), form=".0e")
        name = f"{where} loss, m = 10, η = {settings.cautious:g}"
        yield Check(name, cautious.final.max(), at_most(1e-9), "1e-21", form=".0e")
    whole = result.factorization.get(1000, {})
    rise = max((np.diff(race.course, axis=-1).max() for name, race in whole.items() if "SSO" in name), default=None)
    yield Check("factorization, 1000: largest rise", rise, at_most(1e-12), form=".0e")


def _digits_checks(result: Result) -> Iterator[Check]:
    few, some, many = map(sso, result.settings.digits_steps)
    for batch, races in result.digits.items():
        one, ten, fifty, tuned = (races[name].final.mean() for name in (few, some, many, SGD))
        sgd, _, first, second, third = _DIGITS.get(batch, [np.nan] * 5)
        shown = lambda ratio: "" if np.isnan(ratio) else f"{ratio:.2g}"
        yield Check(f"digits, {batch}: {some} / {SGD}", ten / tuned, at_most(0.6), shown(second / sgd))
        yield Check(f"digits, {batch}: {many} / {some}", fifty / ten, at_most(0.8), shown(third / second))
        yield Check(f"digits, {batch}: {few} / {some}", one / ten, above(1), shown(first / second))
        yield Check(f"digits, {batch}: {ADAM} / {some}", races[ADAM].final.mean() / ten)
        bar = at_most(0.15) if batch == 625 else None
        yield Check(f"digits, {batch}: {SLS}", races[SLS].final.mean(), bar, 0.1225 if batch == 625 else "")


def _imitation_checks(result: Result) -> Iterator[Check]:
    long = result.imitation[sso(result.settings.long)]
    descent, ten = result.imitation[SGD], result.imitation[sso(10)]
    own = [descent.seeds.index(seed) for seed in long.seeds]
    name = sso(result.settings.long)
    last = descent.best(LAST)
    yield Check(f"imitation: {name} / {SGD}, last", long.best(LAST).mean() / last[own].mean(), at_most(0.2), "0.04")
    yield Check(f"imitation: {sso(10)} / {SGD}, last", ten.best(LAST).mean() / last.mean(), at_most(0.4), "0.15")
    whole = descent.best(None)[own].mean()
    yield Check(f"imitation: {name} / {SGD}, all", long.best(None).mean() / whole, at_most(0.7), "0.5")


def headline(result: Result) -> str:
    """The one figure that matters."""
    batch = max(result.digits)
    races, name = result.digits[batch], sso(result.settings.digits_steps[-1])
    return (
        f"training loss on digits {Estimate.of(races[name].final):.4f} with {result.settings.digits_steps[-1]} inner "
        f"steps a gradient; Adam {Estimate.of(races[ADAM].final):.4f}, gradient descent "
        f"{Estimate.of(races[SGD].final):.4f}"
    )
