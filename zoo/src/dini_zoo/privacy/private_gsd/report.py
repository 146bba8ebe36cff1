"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from dini_zoo.kit.tables import Check, Table, at_least, at_most, below, spread, worst

from .parts import Conditions, Error, Marginals
from .study import HALF_SPACE, PREFIX, TARGETS, Result


def averages(errors: Iterable[Error]) -> list[float]:
    """Over queries, one for each."""
    return [one.average for one in errors]


def largest(errors: Iterable[Error]) -> list[float]:
    """Over queries, one for each."""
    return [one.largest for one in errors]


def mean(values: Sequence[float], form: str = ".4f") -> str:
    """Of the seeds, as text."""
    return f"{np.mean(values):{form}}"


def cells(errors: Sequence[Error]) -> list[str]:
    """Both errors' means over seeds."""
    return [mean(averages(errors), ".5f"), mean(largest(errors))]


def at(result: Result, epsilon: float) -> list[Marginals]:
    """One for each seed."""
    return [one for one in result.marginals if one.epsilon == epsilon]


def of_kind(result: Result, kind: str, epsilon: float) -> list[Conditions]:
    """One for each seed."""
    return [one for one in result.conditions if (one.kind, one.epsilon) == (kind, epsilon)]


# tables


def tables(result: Result) -> list[Table]:
    """One for each part."""
    makers = {
        "marginals": marginals_table,
        "conditions": conditions_table,
        "adaptive": adaptive_table,
        "learning": learning_table,
        "graphical": graphical_table,
    }
    return [make(result) for part, make in makers.items() if getattr(result, part)]


def marginals_table(result: Result) -> Table:
    """Errors by budget."""
    rows: list[list[str] | None] = []
    for epsilon in result.settings.epsilons:
        found = at(result, epsilon)
        rows.append(
            [
                f"ε = {epsilon:g}",
                *cells([one.table for one in found]),
                *cells([one.noisy for one in found]),
                *cells([one.consistent_table for one in found]),
            ]
        )
    rows.append(None)
    methods = (
        ("rows of the data", [one.sampled for one in result.references]),
        ("columns apart", [one.independent for one in result.references]),
        ("uniform rows", [one.uniform for one in result.references]),
    )
    rows += [[name, *cells(errors), "", "", "", ""] for name, errors in methods]
    caption = (
        f"Means over seeds {result.settings.seeds}; average and largest over queries. On the simplex: the "
        "table fitted to answers that were projected. Below, not private: as many rows of the data as the table has, "
        "each column shuffled by itself, and rows without data."
    )
    columns = ("", "table", "max", "noisy", "max", "on simplex", "max")
    return Table("Pairs of columns: errors of a table and of noisy answers", columns, rows, caption)


def conditions_table(result: Result) -> Table:
    """Errors by class and budget."""
    rows = []
    for kind, epsilon in dict.fromkeys((one.kind, one.epsilon) for one in result.conditions):
        found = of_kind(result, kind, epsilon)
        errors_of = ([getattr(one, name) for one in found] for name in ("table", "relaxed", "projected", "noisy"))
        flat = [mean(of(errors)) for errors in errors_of for of in (averages, largest)]
        rows.append([f"{kind}, {epsilon:g}", *flat])
    caption = (
        f"Class and ε. Means over seeds {result.settings.seeds}; average and largest over queries. RAP++ by Adam, "
        "and by dini's projected gradients with as many steps, from the same noise."
    )
    columns = ("", "table", "max", "RAP++", "max", "by dini", "max", "noisy", "max")
    return Table("Conditions on real values: errors", columns, rows, caption)


def adaptive_table(result: Result) -> Table:
    """Errors by round."""
    last = len(result.adaptive[0].rounds) - 1
    shown = sorted({0, 1, 2, last // 2, last} & set(range(last + 1)))
    names = ["start", *(f"round {i}" for i in shown[1:])]
    rows: list[list[str] | None] = [
        [name, *cells([one.rounds[i] for one in result.adaptive])] for name, i in zip(names, shown, strict=True)
    ]
    rows.append(None)
    rows.append(["as many at random, at once", *cells([one.random for one in result.adaptive])])
    rows.append(["all of them at once", *cells([one.everything for one in result.adaptive])])
    first = result.adaptive[0]
    caption = (
        f"{result.settings.per_round} of {result.settings.pool} half-spaces a round, seeds "
        f"{result.settings.adaptive_seeds}. Spent: ρ = {first.spent:.6f} of {first.rho:.6f}, ε = {first.epsilon:.4f}; "
        f"Gumbel noise of scale {first.scale:.5f}, normal noise of {first.sigma:.5f}."
    )
    return Table("Adaptive rounds, ε = 1: errors over all half-spaces", ("", "average", "max"), rows, caption)


def learning_table(result: Result) -> Table:
    """Scores by what is predicted."""
    rows = [
        [
            target,
            f"{result.learning[0].real[target]:.3f}",
            *(
                spread([getattr(one, name)[target] for one in result.learning], ".3f")
                for name in ("table", "sampled", "independent")
            ),
        ]
        for target in TARGETS
    ]
    caption = (
        f"Logistic regression, macro-F1 on a fifth of the people, which was held out; seeds {result.settings.seeds}. "
        "Only the column of the table is private."
    )
    columns = ("predicted", "data", "table, ε = 1", "rows of the data", "columns apart")
    return Table("Learning from a synthetic table", columns, rows, caption)


def graphical_table(result: Result) -> Table:
    """Errors of three."""
    names = (("table", "table"), ("graphical model", "model"), ("noisy answers", "noisy"))
    rows = [[name, *cells([getattr(one, field) for one in result.graphical])] for name, field in names]
    caption = f"The same noise for all, of {result.graphical[0].sigma:.7f}; means over seeds {result.settings.seeds}."
    return Table("Pairs of categorical columns, ε = 1: errors", ("", "average", "max"), rows, caption)


# checks


def ratios(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Seed by seed."""
    return [a / b if b else np.inf for a, b in zip(one, other, strict=True)]


def of_means(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The ratio of two means, where they were measured."""
    return float(np.mean(one) / np.mean(other)) if one else None


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    yield from marginals_checks(result)
    yield from conditions_checks(result)
    yield from adaptive_checks(result)
    scores = lambda target: ratios(
        [one.table[target] for one in result.learning], [one.real[target] for one in result.learning]
    )
    yield worst("F1 of marr / that of data", scores("marr"), at_least(0.95), 0.744 / 0.750)
    yield worst("F1 of nodegree / that of data", scores("nodegree"), at_least(0.75), 0.781 / 0.961)
    yield from graphical_checks(result)


def marginals_checks(result: Result) -> Iterator[Check]:
    """Of pairs of columns."""
    one, ten = at(result, 1.0), at(result, 10.0)
    table, noisy = ([getattr(each, name) for each in one] for name in ("table", "noisy"))
    yield worst("pairs, ε 1: average", averages(table), at_most(0.0016), "0.00124 to 0.00126")
    yield worst("pairs, ε 1: max", largest(table), at_most(0.013), "0.0084 to 0.0098")
    yield worst("pairs, ε 1: average / noisy", ratios(averages(table), averages(noisy)), below(1), 0.00124 / 0.0022)
    yield worst("pairs, ε 1: max / noisy", ratios(largest(table), largest(noisy)), below(1), 0.0084 / 0.014)
    rows = [each.sampled for each in result.references]
    ours = of_means(largest(table), largest(rows)) if table else None
    yield Check("pairs, ε 1: max / rows of the data", ours, below(0.5), "0.2 to 0.4")
    yield worst("pairs, ε 10: max", largest(each.table for each in ten), at_most(0.005), 0.0026)
    by_budget = [
        [np.mean(of([one.table for one in at(result, e)])) for of in (averages, largest)]
        for e in sorted(result.settings.epsilons)
        if at(result, e)
    ]
    steps = [b / a for one, other in itertools.pairwise(by_budget) for a, b in zip(one, other, strict=True)]
    ours = float(max(steps)) if steps else None
    yield Check("pairs: error / that of the next smaller ε", ours, below(1), "0.15 to 0.4")


def conditions_checks(result: Result) -> Iterator[Check]:
    """Of prefixes and half-spaces."""

    def pair(kind: str, epsilon: float, of: Callable[[Iterable[Error]], list[float]], other: str) -> list[float]:
        found = of_kind(result, kind, epsilon)
        return ratios(of(one.table for one in found), of(getattr(one, other) for one in found))

    yield worst("prefix, ε 1: max / RAP++", pair(PREFIX, 1.0, largest, "relaxed"), at_most(0.7), "0.45 to 0.52")
    yield worst("prefix, ε 10: max / RAP++", pair(PREFIX, 10.0, largest, "relaxed"), at_most(0.2), "0.06 to 0.10")
    halves = pair(HALF_SPACE, 10.0, largest, "relaxed")
    yield worst("half-space, ε 10: max / RAP++", halves, at_most(0.7), "0.34 to 0.49")
    yield worst("half-space, ε 1: max / RAP++", pair(HALF_SPACE, 1.0, largest, "relaxed"), None, "0.70 to 0.97")
    references = {
        (PREFIX, 1.0): "0.88 to 0.89",
        (PREFIX, 10.0): "0.35 to 0.39",
        (HALF_SPACE, 1.0): "0.90 to 0.97",
        (HALF_SPACE, 10.0): "0.50 to 0.75",
    }
    for (kind, epsilon), reference in references.items():
        name = f"{kind}, ε {epsilon:g}: average / RAP++"
        yield worst(name, pair(kind, epsilon, averages, "relaxed"), below(1), reference)
    for kind, reference in ((PREFIX, "0.81 to 0.84"), (HALF_SPACE, "0.69 to 0.73")):
        yield worst(f"{kind}, ε 1: average / noisy", pair(kind, 1.0, averages, "noisy"), below(1), reference)
    yield worst("prefix, ε 1: max / RAP++ by dini", pair(PREFIX, 1.0, largest, "projected"), None, "")
    yield worst("half-space, ε 10: max / RAP++ by dini", pair(HALF_SPACE, 10.0, largest, "projected"), None, "")


def adaptive_checks(result: Result) -> Iterator[Check]:
    """Of rounds."""
    found = result.adaptive
    last = [one.rounds[-1] for one in found]
    for of, name, first, random in ((largest, "max", 0.25, 0.5), (averages, "average", 0.15, 0.75)):
        ours = ratios(of(last), of(one.rounds[1] for one in found))
        reference = "0.08" if of is largest else "0.036 to 0.048"
        yield worst(f"rounds: {name}, last / first", ours, at_most(first), reference)
        ours = ratios(of(last), of(one.random for one in found))
        reference = 0.042 / 0.19 if of is largest else 0.0041 / 0.0114
        yield worst(f"rounds: {name} / as many at random", ours, at_most(random), reference)
    gaps = [abs(one.spent / one.rho - 1) for one in found]
    yield worst("rounds: budget spent / given, less one", gaps, at_most(1e-12), 0.0)
    for of, name, reference in ((largest, "max", "0.84 to 1.2"), (averages, "average", "1.1 to 1.5")):
        ours = ratios(of(last), of(one.everything for one in found))
        yield worst(f"rounds: {name} / all at once", ours, None, reference)


def graphical_checks(result: Result) -> Iterator[Check]:
    """Of pairs of categorical columns: means over seeds."""
    pick = lambda of, name: of([getattr(one, name) for one in result.graphical])
    for of, name, bar, model, noisy in (
        (averages, "average", 1.2, 0.00081 / 0.00075, 0.00081 / 0.00115),
        (largest, "max", 1.3, 0.0048 / 0.0049, 0.0048 / 0.0060),
    ):
        yield Check(
            f"categorical: {name} / graphical model",
            of_means(pick(of, "table"), pick(of, "model")),
            at_most(bar),
            model,
        )
        yield Check(f"categorical: {name} / noisy", of_means(pick(of, "table"), pick(of, "noisy")), below(1), noisy)


def headline(result: Result) -> str:
    """The one figure that matters."""
    epsilon = max(1.0, *result.settings.epsilons)
    for kind in (PREFIX, HALF_SPACE):
        found = of_kind(result, kind, epsilon)
        if found:
            ours, other = (np.mean(largest(getattr(one, name) for one in found)) for name in ("table", "relaxed"))
            return (
                f"{kind} queries at ε = {epsilon:g}: largest error {ours:.4f}, RAP++ with the same noise {other:.4f} "
                f"(means, each of {len(found)} seeds with queries of its own)"
            )
    found = result.marginals
    if found:
        ours, other = (np.mean(largest(getattr(one, name) for one in found)) for name in ("table", "noisy"))
        return f"Pairs of columns: largest error {ours:.4f}, the noisy answers themselves {other:.4f}"
    return f"Synthetic tables of {result.settings.rows} rows from noisy answers"
