"""The parts of the experiment: marginals, conditions on real values, adaptive rounds, learning, graphical models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini

from ..accounting import cdp_rho
from ..ledger import privacy_spent
from .domains import Table
from .fitting import fit_private_gsd
from .graphical import graphical_answers
from .measuring import Measurements, gumbel_scale, measure_one_shot
from .queries import Queries, Union, categorical_marginals, mixed_marginals
from .relaxation import relaxed_projection
from .search import genetic_search


@dataclass(frozen=True)
class Error:
    """Of answers, over all queries."""

    average: float
    largest: float

    @classmethod
    def of(cls, answers: Float[Array, " q"], truth: Float[Array, " q"]) -> Error:
        """How far answers are from the truth."""
        apart = np.abs(np.asarray(answers, float) - np.asarray(truth, float))
        return cls(float(apart.mean()), float(apart.max()))


@dataclass(frozen=True)
class Budget:
    """Of one search."""

    rows: int
    generations: int


def rho_of(epsilon: float, n: int) -> float:
    """The budget with a delta of one over the square of the number of rows."""
    return cdp_rho(epsilon, 1 / n**2)


def searched(key: jax.Array, measurements: Measurements, budget: Budget, project: str = "clip") -> Float[Array, "N d"]:
    """Rows of a search for a fixed number of generations."""
    targets = measurements.targets(project)
    weights = jnp.asarray(measurements.weights)
    found = genetic_search(
        key, measurements.queries, targets, budget.rows, budget.generations, weights=weights, stop=None
    )
    return found.rows


# A


@dataclass(frozen=True)
class Marginals:
    """Pairs of columns at one budget."""

    epsilon: float
    sigma: float
    table: Error
    noisy: Error
    consistent: Error
    """Of the noisy answers on the simplex."""
    consistent_table: Error
    """Of the table that was fitted to these."""


@dataclass(frozen=True)
class References:
    """What knows the table itself."""

    sampled: Error
    """So many rows of it as the synthetic one has."""
    independent: Error
    """Each column drawn by itself."""
    uniform: Error
    """Rows that are uniform over the domain."""


def pairs(table: Table) -> Queries:
    """All pairs of columns, real ones in 4 and in 16 bins."""
    return Union(categorical_marginals(table.domain), mixed_marginals(table.domain, bins=(4, 16), separate=True))


def marginals(table: Table, noise: jax.Array, search: jax.Array, epsilon: float, budget: Budget) -> Marginals:
    """Measure all pairs once, and search."""
    queries = pairs(table)
    truth = queries.answers(table.rows)
    measurements = measure_one_shot(noise, table, queries, rho_of(epsilon, len(table)))
    error = lambda project: Error.of(queries.answers(searched(search, measurements, budget, project)), truth)
    return Marginals(
        epsilon=epsilon,
        sigma=float(measurements.sigmas[0]),
        table=error("clip"),
        noisy=Error.of(measurements.targets(), truth),
        consistent=Error.of(measurements.targets("consistent"), truth),
        consistent_table=error("consistent"),
    )


def sampled(table: Table, key: jax.Array, count: int) -> Table:
    """Rows of the table itself, drawn without replacement: not private."""
    at = jax.random.choice(key, len(table), (min(count, len(table)),), replace=False)
    return Table(table.rows[at], table.domain)


def independent(table: Table, key: jax.Array) -> Table:
    """Each column shuffled by itself: not private."""
    return Table(jax.random.permutation(key, table.rows, axis=0, independent=True), table.domain)


def references(table: Table, key: jax.Array, rows: int) -> References:
    """Errors of pairs."""
    queries = pairs(table)
    truth = queries.answers(table.rows)
    error = lambda one: Error.of(queries.answers(one), truth)
    first, second, third = jax.random.split(key, 3)
    return References(
        error(sampled(table, first, rows).rows),
        error(independent(table, second).rows),
        error(table.domain.uniform(third, (rows,))),
    )


# B


@dataclass(frozen=True)
class Conditions:
    """One class of conditions at one budget."""

    kind: str
    epsilon: float
    table: Error
    relaxed: Error
    """RAP++ with Adam."""
    projected: Error
    """RAP++ with dini's projected gradients."""
    noisy: Error


def conditions(
    table: Table, queries: Queries, kind: str, keys: Sequence[jax.Array], epsilon: float, budget: Budget, steps: int
) -> Conditions:
    """Measure all conditions once; search, and relax, by the same noise."""
    noise, search, relax = keys
    truth = queries.answers(table.rows)
    measurements = measure_one_shot(noise, table, queries, rho_of(epsilon, len(table)))
    targets = measurements.targets()
    error = lambda rows: Error.of(queries.answers(rows), truth)
    by = lambda **how: error(relaxed_projection(relax, queries, targets, budget.rows, **how).rows)
    return Conditions(
        kind=kind,
        epsilon=epsilon,
        table=error(searched(search, measurements, budget)),
        relaxed=by(steps=steps),
        projected=by(solver=dini.ProjectedGradient(max_steps=steps)),
        noisy=Error.of(targets, truth),
    )


# C


@dataclass(frozen=True)
class Adaptive:
    """Rounds that measure where the table is worst, and the same budget without rounds."""

    rounds: list[Error]
    """Of the start, then after each round."""
    random: Error
    """As many workloads, chosen at random, measured at once."""
    everything: Error
    """All workloads measured at once."""
    rho: float
    spent: float
    """What the ledger sums up to."""
    epsilon: float
    """What that is at the delta."""
    scale: float
    sigma: float


def adaptive(
    table: Table,
    queries: Queries,
    keys: Sequence[jax.Array],
    epsilon: float,
    budget: Budget,
    rounds: int,
    per_round: int,
) -> Adaptive:
    """`budget.generations` in each round, and as many in all for the two others."""
    key, pick, noise, search = keys
    truth = queries.answers(table.rows)
    error = lambda rows: Error.of(queries.answers(rows), truth)
    fit = fit_private_gsd(
        key,
        table,
        queries,
        epsilon,
        mode="adaptive",
        rounds=rounds,
        per_round=per_round,
        num_rows=budget.rows,
        generations=budget.generations,
        stop=None,
    )
    begin = table.domain.uniform(search, (budget.rows,))
    rho, n = rho_of(epsilon, len(table)), len(table)
    some = np.asarray(jax.random.permutation(pick, queries.num_workloads)[: rounds * per_round])
    whole = Budget(budget.rows, rounds * budget.generations)
    at_once = lambda which: error(searched(search, measure_one_shot(noise, table, queries, rho, which), whole))
    return Adaptive(
        rounds=[error(begin), *(error(found.rows) for found in fit.rounds)],
        random=at_once(some),
        everything=at_once(None),
        rho=rho,
        spent=fit.ledger.rho,
        epsilon=privacy_spent(fit.ledger, 1 / n**2, "zcdp"),
        scale=gumbel_scale(rho / rounds / 2, per_round, n),
        sigma=float(fit.measurements.sigmas[fit.measurements.measured][0]),
    )


# D


@dataclass(frozen=True)
class Learning:
    """Macro-F1 on held-out people of a regression that was trained on one table, by what it predicts."""

    real: dict[str, float]
    table: dict[str, float]
    sampled: dict[str, float]
    independent: dict[str, float]


def learning(
    train: Table, test: Table, keys: Sequence[jax.Array], epsilon: float, budget: Budget, targets: Sequence[str]
) -> Learning:
    """Pairs are measured on the training part alone."""
    noise, search, draw, shuffle = keys
    measurements = measure_one_shot(noise, train, pairs(train), rho_of(epsilon, len(train)))
    synthetic = Table(searched(search, measurements, budget), train.domain)
    score = lambda table: {target: macro_f1(table, test, target) for target in targets}
    return Learning(
        score(train), score(synthetic), score(sampled(train, draw, budget.rows)), score(independent(train, shuffle))
    )


def macro_f1(train: Table, test: Table, target: str) -> float:
    """Of a logistic regression of one column on all others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    at = train.domain.index(target)
    scale = np.array([max(size - 1, 1) for size in train.domain.sizes])
    parts = lambda table: (np.delete(np.asarray(table.rows) / scale, at, axis=1), np.asarray(table.rows)[:, at] > 0)
    (X, y), (X_test, y_test) = parts(train), parts(test)
    if y.all() or not y.any():
        predicted = np.full(len(y_test), bool(y[0]))
    else:
        predicted = LogisticRegression(max_iter=2000).fit(X, y).predict(X_test)
    return float(f1_score(y_test, predicted, average="macro", zero_division=0.0))


# E


@dataclass(frozen=True)
class Graphical:
    """Pairs of categorical columns, where a graphical model can be had."""

    sigma: float
    table: Error
    model: Error
    noisy: Error


def graphical(
    table: Table, noise: jax.Array, search: jax.Array, epsilon: float, budget: Budget, iterations: int
) -> Graphical:
    """Search and graphical model by the same noise."""
    categorical = table.select(name for name, size in zip(table.domain.names, table.domain.sizes, strict=True) if size)
    queries = categorical_marginals(categorical.domain)
    truth = queries.answers(categorical.rows)
    measurements = measure_one_shot(noise, categorical, queries, rho_of(epsilon, len(table)))
    return Graphical(
        sigma=float(measurements.sigmas[0]),
        table=Error.of(queries.answers(searched(search, measurements, budget)), truth),
        model=Error.of(graphical_answers(measurements, len(table), iterations), truth),
        noisy=Error.of(measurements.targets(), truth),
    )
