r"""From a sensitive table and a budget to a synthetic one: measure, search, and perhaps again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import jax
import numpy as np

from dini_zoo.kit.checking import at_least, one_of

from ..accounting import cdp_rho, probability
from ..ledger import Ledger, privacy_spent
from .bandit import Bandit
from .domains import Table
from .measuring import Measurements, Projection, measure_one_shot, select_and_measure
from .queries import Queries
from .search import DEFAULT, Found, Operators, genetic_search

type Mode = Literal["one_shot", "adaptive", "hybrid"]

MODES: tuple[Mode, ...] = ("one_shot", "adaptive", "hybrid")


@dataclass(frozen=True)
class Fit:
    """A synthetic table, and all that was released to make it."""

    table: Table
    measurements: Measurements
    rounds: tuple[Found, ...]
    """The searches, each of which starts at the one before."""
    delta: float

    def __post_init__(self) -> None:
        probability("delta", self.delta)

    @property
    def ledger(self) -> Ledger:
        """What was released."""
        return self.measurements.ledger

    @property
    def epsilon(self) -> float:
        """What it cost at `delta`, by zero-concentrated privacy."""
        return privacy_spent(self.ledger, self.delta, "zcdp")


def fit_private_gsd(
    key: jax.Array,
    table: Table,
    queries: Queries,
    epsilon: float,
    delta: float | None = None,
    mode: Mode = "one_shot",
    *,
    rounds: int = 10,
    per_round: int = 5,
    first: Sequence[int] = (),
    num_rows: int = 1000,
    generations: int = 20_000,
    operators: Operators | Bandit = DEFAULT,
    stop: float | None = 1e-4,
    project: Projection = "clip",
    largest: int | None = None,
    spent: Ledger | None = None,
) -> Fit:
    r"""Fit a synthetic table to noisy answers of a sensitive one, with :math:`(\varepsilon, \delta)`-privacy in all.

    The budget is :math:`\rho`, the greatest whose zero-concentrated privacy implies what is asked for (`cdp_rho`), and
    it is spent to the end. Only measurements look at the table: the search may be done again with `genetic_search` and
    `Fit.measurements`. What is not accounted for is the choice of all arguments here: they must not depend on the
    table.

    Parameters
    ----------
    key
        Split in two: for the measurements, and for the search. It must be secret and used for nothing else.
    table
        The sensitive one, of `n` rows, a number that counts as public.
    queries
        What is to be matched.
    epsilon, delta
        The promise for tables with one row replaced. By default :math:`\delta = 1/n^2`.
    mode
        `"one_shot"` measures all workloads. `"adaptive"` measures in each of `rounds` rounds the `per_round` workloads
        that the table so far answers worst, and half of the round's budget is for that choice. `"hybrid"` measures the
        workloads `first` in one shot, with their share of all measurements as their share of the budget, and goes on as
        `"adaptive"`.
    rounds, per_round
        Of the adaptive rounds.
    first
        The workloads with which `"hybrid"` begins.
    num_rows, generations, operators, stop
        Of the search, see `genetic_search`; generations are those of each round.
    project
        What is done to noisy answers before the search, see `Measurements.targets`.
    largest
        If it is given, the search follows only so many cells of each level, those with the largest noisy answers, see
        `Measurements.largest`; `num_rows` is enough. By default it follows all.
    spent
        What was released of the same table before, such as `Bins.ledger`. It is part of the promise: the rest of the
        budget is for the measurements.

    Returns
    -------
    Fit
        The table, the measurements, the searches.

    Raises
    ------
    ValueError
        Where `epsilon` is not positive or `delta` is not between 0 and 1; for another `mode`; where there are fewer
        workloads than are to be measured; where `largest` is less than one; where `spent` is for other neighbors or has
        cost all of the budget, and whatever `genetic_search` refuses.

    References
    ----------
    Liu, Tang, Vietri and Wu, "Generating private synthetic data with genetic algorithms", ICML 2023 (arXiv 2306.03257).

    Examples
    --------
    >>> import jax
    >>> from dini_zoo.privacy.private_gsd import Categorical, Domain, Real, Table, mixed_marginals
    >>> domain = Domain.of({"married": Categorical(2), "income": Real(0, 50_000)})
    >>> table = Table(domain.uniform(jax.random.key(0), (2000,)), domain)
    >>> fit = fit_private_gsd(jax.random.key(1), table, mixed_marginals(domain), 1.0, num_rows=100, generations=200)
    >>> len(fit.table), round(fit.epsilon, 6)
    (100, 1.0)
    """
    one_of("mode", mode, MODES)
    rho = cdp_rho(epsilon, 1 / len(table) ** 2 if delta is None else delta)
    delta = 1 / len(table) ** 2 if delta is None else delta
    at_least("num_rows", num_rows, 1)
    if largest is not None:
        at_least("largest", largest, 1)
    spent = Ledger() if spent is None else spent
    if spent.neighbors != Ledger().neighbors:
        raise ValueError(f"spent must be for tables with one row replaced: given {spent.neighbors!r}.")
    if not spent.rho < rho:
        raise ValueError(f"spent must have cost less than the budget, a rho of {rho:.4g}: given {spent.rho:.4g}.")
    rho -= spent.rho
    secret, public = jax.random.split(key)
    if len(first) and mode != "hybrid":
        raise ValueError(f"first must only be given for the mode 'hybrid': given {list(first)} for {mode!r}.")
    if mode == "hybrid":
        at_least("The number of workloads in first", len(first), 1)
    shots = list(first) if mode == "hybrid" else None
    later = 0
    if mode != "one_shot":
        at_least("rounds", rounds, 1)
        at_least("per_round", per_round, 1)
        later = rounds * per_round
        left = queries.num_workloads - len(shots or ())
        if later > left:
            raise ValueError(
                f"rounds × per_round must be at most the number of workloads that are left, {left}: given {later}."
            )
    measurements, begin = Measurements.none(queries, spent), mode != "adaptive"
    if begin:
        share = 1.0 if shots is None else len(shots) / (len(shots) + later)
        found = measure_one_shot(jax.random.fold_in(secret, 0), table, queries, share * rho, shots)
        measurements = replace(found, ledger=spent.add(*found.ledger.releases))
        rho -= share * rho
    rows = queries.domain.uniform(jax.random.fold_in(public, 0), (num_rows,))
    searches: list[Found] = []
    for i in range(int(begin) + (rounds if later else 0)):
        if i or not begin:
            synthetic = Table(rows, queries.domain)
            look = jax.random.fold_in(secret, i + 1)
            measurements = select_and_measure(look, table, measurements, synthetic, rho / rounds, per_round)
        cut = 1 if largest is None else np.asarray(measurements.largest(largest))
        found = genetic_search(
            jax.random.fold_in(public, i + 1),
            queries,
            measurements.targets(project),
            num_rows,
            generations,
            weights=measurements.weights * cut,
            init=rows,
            operators=operators,
            stop=stop,
        )
        searches.append(found)
        rows = found.rows
    return Fit(Table(rows, queries.domain), measurements, tuple(searches), float(delta))
