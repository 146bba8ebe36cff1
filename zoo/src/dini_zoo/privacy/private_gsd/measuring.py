r"""Noisy answers of a sensitive table: the only place that looks at it, and the bill for each look.

Neighbors are tables with one row replaced, so that the number of rows `n` is public. Noise comes from the caller's key:
it is as secret as that key, it is drawn by a generator that is not cryptographic, and in floating point, whose gaps can
tell of the exact answer (Mironov, "On significance of the least significant bits for differential privacy", CCS 2012).
The bill is for exact normal noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dini.sets import project_simplex
from dini_zoo.kit.checking import at_least, finite, known, one_of, positive, same_shape, within

from ..accounting import gaussian_sigma
from ..ledger import ConcentratedRelease, GaussianRelease, Ledger
from .domains import Table
from .queries import Queries

type Projection = Literal["clip", "consistent", "none"]

PROJECTIONS: tuple[Projection, ...] = ("clip", "consistent", "none")


@dataclass(frozen=True)
class Measurements:
    """Noisy answers to some workloads, and what they cost."""

    queries: Queries
    noisy: Float[Array, " q"]
    """As measured; zero where nothing was."""
    sigmas: Float[np.ndarray, " w"]
    """The noise's standard deviation by workload, infinite where nothing was measured."""
    ledger: Ledger = field(default_factory=Ledger)

    def __post_init__(self) -> None:
        """Raises `ValueError` where shapes do not fit, or something was measured and the ledger is empty."""
        w, q = self.queries.num_workloads, self.queries.num_queries
        sigmas = np.asarray(self.sigmas)
        if sigmas.shape != (w,) or not np.all(sigmas > 0):
            raise ValueError(
                f"sigmas must be {w} positive numbers, one for each workload, infinite where nothing was measured: "
                f"given {self.sigmas}."
            )
        same_shape("noisy", self.noisy, "the queries", (q,))
        finite("noisy", self.noisy)
        if self.measured.any() and not any(release.count for release in self.ledger.releases):
            raise ValueError(
                f"ledger must have the releases of the {int(self.measured.sum())} workloads that were measured: given "
                "none, as if they were free."
            )

    @classmethod
    def none(cls, queries: Queries, ledger: Ledger | None = None) -> Measurements:
        """Before the first one; `ledger` has what was released by other means."""
        sigmas = np.full(queries.num_workloads, np.inf)
        return cls(queries, jnp.zeros(queries.num_queries), sigmas, Ledger() if ledger is None else ledger)

    @property
    def measured(self) -> Bool[np.ndarray, " w"]:
        """Which workloads were."""
        return np.isfinite(self.sigmas)

    @property
    def weights(self) -> Float[np.ndarray, " q"]:
        """One for each query that was measured, zero for the others."""
        return self.measured[self.queries.workload_of].astype(float)

    def largest(self, count: int) -> Bool[Array, " q"]:
        """Of each level of the measured workloads the `count` cells whose noisy answers are largest, for a search.

        A table of `N` rows is in at most `N` cells of a level. Where a level has more, most are empty, and noise is all
        that is known of them: with `count` of `N` the search follows the others alone. The choice looks at nothing but
        noisy answers, and costs no budget. Rows in cells that are left out count only by their absence elsewhere.

        Parameters
        ----------
        count
            How many, one at least. All cells of a level with no more than these are chosen; of equal answers the first.

        Returns
        -------
        array
            Whether a cell is chosen. Its product with `weights` is what `genetic_search` takes as weights.

        Raises
        ------
        ValueError
            Where `count` is less than one.

        Examples
        --------
        >>> from dini_zoo.privacy.private_gsd import Categorical, Domain, categorical_marginals
        >>> queries = categorical_marginals(Domain.of({"age": Categorical(4)}), 1)
        >>> noisy, bill = jnp.array([0.1, -0.2, 0.7, 0.3]), Ledger((GaussianRelease("measurements", 1.0),))
        >>> print(Measurements(queries, noisy, np.ones(1), bill).largest(2))
        [False False  True  True]
        """
        at_least("count", count, 1)
        level = self.queries.level_of
        order = jnp.lexsort((-self.noisy, jnp.asarray(level)))
        # sorted by level first, the cells of a level stand where they stood, in another order
        rank = jnp.zeros(len(level), int).at[order].set(np.arange(len(level)) - self.queries.offsets[level])
        return (rank < count) & (self.weights > 0)

    def targets(self, project: Projection = "clip") -> Float[Array, " q"]:
        r"""What a synthetic table should answer: the noisy answers, made more plausible without a look at the data.

        Parameters
        ----------
        project
            `"clip"` moves each answer into `[0, 1]`, which biases small cells upwards where there are many. With
            `"consistent"` the answers of each level are the nearest that are not negative and add up to one, by
            `dini.sets.project_simplex`; to at most one where a row may be in no cell. `"none"` leaves them.

        Returns
        -------
        array
            One target for each query; of no meaning where nothing was measured.

        Raises
        ------
        ValueError
            For another `project`.
        """
        one_of("project", project, PROJECTIONS)
        if project == "clip":
            return jnp.clip(self.noisy, 0, 1)
        return self.noisy if project == "none" else _consistent(self.queries, self.noisy)

    def joined(self, other: Measurements) -> Measurements:
        """Both, of which no workload may be measured twice.

        Raises `ValueError` where one is, and where the two are of different queries.
        """
        if not eqx.tree_equal(self.queries, other.queries):
            raise ValueError("other must be of the same queries: given others, whose answers are of something else.")
        twice = np.flatnonzero(self.measured & other.measured)
        if len(twice):
            raise ValueError(f"other must measure workloads that were not yet: given again {twice.tolist()}.")
        sigmas = np.minimum(self.sigmas, other.sigmas)
        return Measurements(self.queries, self.noisy + other.noisy, sigmas, self.ledger.add(*other.ledger.releases))


def _consistent(queries: Queries, noisy: jax.Array) -> jax.Array:
    """Each level's answers on the simplex, or below it."""
    width, sizes = max(queries.sizes), np.array(queries.sizes)
    at = np.minimum(queries.offsets[:, None] + np.arange(width), queries.num_queries - 1)
    cells = np.arange(width) < sizes[:, None]
    # what is far below all others stays at zero
    padded = jnp.where(cells, noisy[at], -jnp.inf)
    below = jnp.maximum(padded, 0)
    free = np.array([not partition for partition in queries.partitions])
    inside = free & (jnp.sum(below, axis=1) <= 1)
    return jnp.where(inside[:, None], below, project_simplex(padded, axis=1))[cells]


def measure_one_shot(
    key: jax.Array, table: Table, queries: Queries, rho: float, workloads: Sequence[int] | None = None
) -> Measurements:
    r"""Measure workloads with normal noise, `rho` divided among them evenly.

    Of `m` workloads each gets noise of standard deviation :math:`\sigma_w = \Delta_w / \sqrt{2 \rho / m}`, with its
    sensitivity :math:`\Delta_w` (`Queries.l2_sensitivity`). Each then is :math:`\rho/m`-zCDP.

    Parameters
    ----------
    key
        For the noise. It must be secret, and used for nothing else.
    table
        The sensitive one.
    queries
        The workloads; they must not depend on the data.
    rho
        The budget of zero-concentrated privacy.
    workloads
        The numbers of those that are measured; all if they are not given.

    Raises
    ------
    ValueError
        Where `rho` is not positive, or so large that the noise vanishes in the table's precision; `workloads` is empty,
        has one twice or one that is none, or the domains differ.
    """
    positive("rho", rho)
    _same_domain(table, queries)
    chosen = np.arange(queries.num_workloads) if workloads is None else np.asarray(workloads)
    same_shape("workloads", chosen, "a list of their numbers", (chosen.size,))
    at_least("The number of workloads", len(chosen), 1)
    within("workloads", chosen, queries.num_workloads)
    if len(np.unique(chosen)) < len(chosen):
        raise ValueError(f"workloads must differ: given {chosen.tolist()}.")
    sensitivity = queries.l2_sensitivity(len(table))
    sigmas = np.full(queries.num_workloads, np.inf)
    sigmas[chosen] = [gaussian_sigma(rho / len(chosen), sensitivity[w]) for w in chosen]
    spread = sigmas[queries.workload_of]
    answers = queries.answers(table.rows)
    least = float(jnp.finfo(answers.dtype).eps)
    if sigmas.min() < least:
        raise ValueError(
            f"rho must leave noise of {least:.2g} at least, else it vanishes beside answers of {answers.dtype}: given "
            f"{rho}, whose noise is {sigmas.min():.2g}. Take a table in double precision."
        )
    noise = jax.random.normal(key, answers.shape, answers.dtype)
    noisy = jnp.where(np.isfinite(spread), answers + noise * np.where(np.isfinite(spread), spread, 0), 0)
    release = GaussianRelease("measurements", math.sqrt(len(chosen) / (2 * rho)), len(chosen))
    return Measurements(queries, noisy, sigmas, Ledger((release,)))


def gumbel_scale(rho: float, count: int, n: int) -> float:
    r"""The scale of Gumbel noise by which the `count` best of scores with sensitivity `1/n` are chosen for `rho` of
    zCDP.

    One after the other, these are `count` choices by exponential mechanisms (Durfee and Rogers, NeurIPS 2019), each of
    which is :math:`\varepsilon_0`-private with noise of scale :math:`2 / (n \varepsilon_0)` and
    :math:`\varepsilon_0^2/8`-zCDP (Cesar and Rogers, ALT 2021): the scale is :math:`\sqrt{k} / (n \sqrt{2 \rho})`.

    Examples
    --------
    >>> gumbel_scale(0.5, 4, 100)
    0.02
    """
    positive("rho", rho)
    at_least("count", count, 1)
    at_least("n", n, 1)
    return math.sqrt(count) / (n * math.sqrt(2 * rho))


def gumbel_top_k(key: jax.Array, scores: Float[Array, " w"], k: int, scale: float) -> Int[Array, " k"]:
    """The numbers of the `k` greatest scores after Gumbel noise was added. Scores of minus infinity come last.

    Where `scale` is traced and not positive, or a score is traced and NaN, they are -1.

    Raises
    ------
    ValueError
        Where `scale` is not positive, a score is NaN, or `k` is less than one or more than there are scores.

    Examples
    --------
    >>> print(gumbel_top_k(jax.random.key(0), jnp.array([0.1, -jnp.inf, 3.0]), 2, 0.01))
    [2 0]
    """
    right = positive("scale", scale)
    at_least("k", k, 1)
    at_least("The number of scores", len(scores), k)
    if known(scores) and np.isnan(np.asarray(scores)).any():
        raise ValueError(f"scores must be numbers, or minus infinity: given {scores}.")
    wide = jnp.asarray(scores, jnp.promote_types(jnp.result_type(scores), jnp.float32))
    chosen = jax.lax.top_k(wide + scale * jax.random.gumbel(key, wide.shape, wide.dtype), k)[1]
    return jnp.where(jnp.asarray(right) & ~jnp.isnan(wide).any(), chosen, -1)


def select_and_measure(
    key: jax.Array, table: Table, measurements: Measurements, synthetic: Table, rho: float, count: int
) -> Measurements:
    r"""Measure the `count` workloads that a synthetic table answers worst, half of `rho` for the choice.

    A workload's score is the largest error of its queries, :math:`\max_q |q(D) - q(X)|`. A replaced row changes each
    answer by :math:`1/n` at most, and so the largest error, too. The choice is `gumbel_top_k` among those that were not
    measured yet; the measurements are those of `measure_one_shot`.

    Parameters
    ----------
    key
        For the choice and the noise. It must be secret, and used for nothing else.
    table
        The sensitive one.
    measurements
        Those of before.
    synthetic
        A table that was made of these and nothing else.
    rho
        The budget of zero-concentrated privacy of both halves.
    count
        How many workloads are measured.

    Returns
    -------
    Measurements
        The old ones and the new ones.

    Raises
    ------
    ValueError
        Where `rho` is not positive, fewer than `count` workloads are left, or the domains differ.

    Examples
    --------
    >>> from dini_zoo.privacy.private_gsd import Categorical, Domain, categorical_marginals
    >>> domain = Domain.of({"married": Categorical(2), "age": Categorical(3)})
    >>> queries = categorical_marginals(domain, 1)
    >>> table, synthetic = (Table(jnp.full((50, 2), one), domain) for one in (1.0, 0.0))
    >>> found = select_and_measure(jax.random.key(0), table, Measurements.none(queries), synthetic, 1.0, 1)
    >>> int(found.measured.sum()), round(found.ledger.rho, 6)
    (1, 1.0)
    """
    positive("rho", rho)
    at_least("count", count, 1)
    queries = measurements.queries
    _same_domain(table, queries)
    _same_domain(synthetic, queries)
    left = int(np.sum(~measurements.measured))
    if count > left:
        raise ValueError(f"count must be at most the number of workloads left, {left}: given {count}.")
    choice, noise = jax.random.split(key)
    scores = jnp.where(measurements.measured, -jnp.inf, errors(queries, table, synthetic))
    chosen = np.asarray(gumbel_top_k(choice, scores, count, gumbel_scale(rho / 2, count, len(table))))
    found = measure_one_shot(noise, table, queries, rho / 2, chosen)
    selection = ConcentratedRelease("selection", rho / 2 / count, count)
    return measurements.joined(
        Measurements(queries, found.noisy, found.sigmas, Ledger((selection,)).add(*found.ledger.releases))
    )


def errors(queries: Queries, table: Table, synthetic: Table) -> Float[Array, " w"]:
    """The largest error of each workload's queries. Not private."""
    apart = jnp.abs(queries.answers(table.rows) - queries.answers(synthetic.rows))
    return jax.ops.segment_max(apart, queries.workload_of, queries.num_workloads)


def _same_domain(table: Table, queries: Queries) -> None:
    if table.domain != queries.domain:
        raise ValueError(f"table must have the domain of queries, {queries.domain}: given {table.domain}.")
