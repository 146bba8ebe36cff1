"""Families of statistical queries, as the cells into which rows fall.

A query is the share of rows in a cell. Cells of one *level* are disjoint, such as all cells of one marginal: a row is
in one of them or in none. A *workload* is measured as one, and has one level or several. Everything after this module
needs of a row only the cell of each level.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import at_least, finite, marked, traced, within

from .domains import Domain

#: So many rows are looked at together: more take more memory, and are no faster.
CHUNK = 2048


class Relaxed(NamedTuple):
    """Rows that are no rows yet: a law over the categories of each column, and real values."""

    probabilities: tuple[Float[Array, "m _"], ...]
    """Of each categorical column, rows in the simplex."""
    reals: Float[Array, "m r"]
    """Of the real columns, in `[0, 1]`."""


class Queries(eqx.Module):
    """Workloads of queries over a domain: `L` levels, of which some may belong to one workload."""

    domain: Domain = eqx.field(static=True)
    sizes: tuple[int, ...] = eqx.field(static=True)
    """Cells of each level."""
    workloads: tuple[int, ...] = eqx.field(static=True)
    """Of each level the number of its workload: from zero, in order."""

    def __check_init__(self) -> None:
        """Raises `ValueError` where workloads are not numbered so: their sensitivities would be those of others."""
        for size in self.sizes:
            at_least("sizes", size, 1)
        steps = np.diff((-1, *self.workloads))
        if len(steps) != len(self.sizes) or not len(steps) or steps[0] != 1 or not np.isin(steps, (0, 1)).all():
            raise ValueError(
                f"workloads must be numbers from zero, in order, one for each of the {len(self.sizes)} levels: given "
                f"{self.workloads}."
            )

    @abc.abstractmethod
    def cell_index(self, rows: Float[Array, "*batch d"]) -> Int[Array, "*batch L"]:
        """The cell of each level that a row is in; a level's size where it is in none."""

    @abc.abstractmethod
    def soft(self, table: Relaxed, sharpness: Float[Array, ""] | float) -> Float[Array, "m q"]:
        r"""How much a relaxed row is in each cell, differentiably.

        A condition `x < t` on a real value is the sigmoid of `sharpness * (t - x)`, one on a category its probability,
        and conditions are multiplied. As the sharpness grows this tends to the truth wherever no value is on an edge.
        """

    def soft_answers(self, table: Relaxed, sharpness: Float[Array, ""] | float) -> Float[Array, " q"]:
        """The mean of `soft` over the relaxed rows."""
        return jnp.mean(self.soft(table, sharpness), axis=0)

    @property
    def partitions(self) -> tuple[bool, ...]:
        """Of each level whether every row is in a cell."""
        return (True,) * len(self.sizes)

    @property
    def num_queries(self) -> int:
        """`q`, of all levels."""
        return sum(self.sizes)

    @property
    def num_workloads(self) -> int:
        """How many can be measured."""
        return self.workloads[-1] + 1

    @property
    def offsets(self) -> Int[np.ndarray, " L"]:
        """Where each level's cells begin among all queries."""
        return np.cumsum((0, *self.sizes[:-1]))

    @property
    def level_of(self) -> Int[np.ndarray, " q"]:
        """The level of each query."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @property
    def workload_of(self) -> Int[np.ndarray, " q"]:
        """The workload of each query."""
        return np.repeat(self.workloads, self.sizes)

    def l2_sensitivity(self, n: int) -> Float[np.ndarray, " w"]:
        r"""How far the answers of each workload can move, in the Euclidean norm, when one of `n` rows is replaced.

        Of a level with disjoint cells, a row adds $1/n$ to one answer or to none. A replacement takes that away and
        adds the like elsewhere: the squares of a level add up to $2/n^2$ at most, and over the `k` levels of a workload
        to $2k/n^2$, so that the bound is $\sqrt{2k}/n$. It is attained where both rows are in different cells of every
        level.
        """
        at_least("n", n, 1)
        return np.sqrt(2 * np.bincount(self.workloads)) / n

    def flat_index(self, rows: Float[Array, "*batch d"]) -> Int[Array, "*batch L"]:
        """The query of each level that a row answers, among all of them; `num_queries` where it is none."""
        cells = self.cell_index(rows)
        return jnp.where(cells < np.array(self.sizes), cells + self.offsets, self.num_queries)

    @jax.jit
    def counts(self, rows: Float[Array, "n d"]) -> Int[Array, " q+1"]:
        """How many rows answer each query. The last number counts levels without a cell, and means nothing."""
        q, chunk = self.num_queries, min(CHUNK, len(rows))
        short = -len(rows) % chunk
        chunks = jnp.pad(rows, ((0, short), (0, 0))).reshape(-1, chunk, rows.shape[1])
        real = (jnp.arange(len(rows) + short) < len(rows)).reshape(-1, chunk, 1)

        def add(counts: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            return counts.at[jnp.where(part[1], self.flat_index(part[0]), q)].add(1), None

        return jax.lax.scan(add, jnp.zeros(q + 1, jnp.int32), (chunks, real))[0]

    def answers(self, rows: Float[Array, "n d"]) -> Float[Array, " q"]:
        """The share of rows in each cell."""
        if jnp.ndim(rows) != 2 or rows.shape[1] != len(self.domain.columns) or not len(rows):
            raise ValueError(
                f"rows must have shape (n, {len(self.domain.columns)}) with at least one row: given {jnp.shape(rows)}."
            )
        rows = jnp.asarray(rows)
        finite("rows", rows)
        # half precision has no counts above 2048
        dtype = jnp.promote_types(rows.dtype, jnp.float32)
        shares = self.counts(rows)[:-1].astype(dtype) / len(rows)
        return marked(shares, jnp.all(jnp.isfinite(rows)) if traced(rows) else True)


class Marginals(Queries):
    """Cells of subsets of `k` columns: of a categorical column its categories, of a real one half-open bins.

    Bins are of equal width, `[i/b, (i+1)/b)`, the last one closed. Use `categorical_marginals` or `mixed_marginals`.
    """

    columns: Int[Array, "L k"]
    bins: Int[Array, "L k"]

    def __init__(
        self,
        domain: Domain,
        columns: Sequence[Sequence[int]],
        bins: Sequence[Sequence[int]],
        workloads: Sequence[int],
    ):
        super().__init__(domain, tuple(math.prod(one) for one in bins), tuple(workloads))
        self.columns, self.bins = (
            jnp.asarray(np.array(one, np.int32).reshape(len(columns), -1)) for one in (columns, bins)
        )
        if self.columns.shape != self.bins.shape or len(self.columns) != len(self.sizes):
            raise ValueError(
                f"bins must be one number for each column of each level: given {self.bins.shape} for columns of "
                f"{self.columns.shape}."
            )
        within("columns", self.columns, len(domain.columns))
        if self.num_queries >= 2**31:
            raise ValueError(f"There must be fewer than 2^31 queries: given {self.num_queries}.")

    @property
    def strides(self) -> Int[Array, "L k"]:
        """What a step in each column's bin adds to a cell's number."""
        return jnp.cumprod(self.bins[:, ::-1], axis=1, dtype=jnp.int32)[:, ::-1] // self.bins

    def cell_index(self, rows: Float[Array, "*batch d"]) -> Int[Array, "*batch L"]:
        """The cell of each level, which every row has."""
        real = jnp.array(self.domain.sizes)[self.columns] == 0
        x = rows[..., self.columns]
        digits = jnp.clip(jnp.floor(jnp.where(real, x * self.bins, x)).astype(jnp.int32), 0, self.bins - 1)
        return jnp.sum(digits * self.strides, axis=-1, dtype=jnp.int32)

    def edge(self, column: Int[Array, " q"], bins: Int[Array, " q"], digit: Int[Array, " q"]) -> Float[Array, " q"]:
        """Where bin number `digit` of `bins` of a real column begins."""
        return digit / bins

    def soft(self, table: Relaxed, sharpness: Float[Array, ""] | float) -> Float[Array, "m q"]:
        """Products of the columns' probabilities, and for bins of differences of sigmoids."""
        sizes = np.array(self.domain.sizes)
        starts, order = np.cumsum(sizes) - sizes, np.cumsum(sizes == 0) - 1
        level = self.level_of
        cell = np.arange(self.num_queries) - self.offsets[level]
        m = len(table.reals)
        product = jnp.ones((m, self.num_queries), table.reals.dtype)
        width = sum(self.domain.sizes)
        onehot = jnp.concatenate([*table.probabilities, jnp.zeros((m, 1), table.reals.dtype)], axis=1)
        for j in range(self.columns.shape[1]):
            column, bins = self.columns[level, j], self.bins[level, j]
            digit = cell // self.strides[level, j] % bins
            categorical = jnp.asarray(sizes)[column] > 0
            factor = onehot[:, jnp.where(categorical, jnp.asarray(starts)[column] + digit, width)]
            if self.domain.real:
                x = table.reals[:, jnp.maximum(jnp.asarray(order)[column], 0)]
                first, last = self.edge(column, bins, digit), self.edge(column, bins, digit + 1)
                below = jnp.where(digit > 0, jax.nn.sigmoid(sharpness * (first - x)), 0)
                above = jnp.where(digit < bins - 1, jax.nn.sigmoid(sharpness * (last - x)), 1)
                factor = jnp.where(categorical, factor, above - below)
            product = product * factor
        return product


class Predicates(Queries):
    """The cells of a marginal of categorical columns, for those rows alone for which a condition on real values
    holds."""

    cells: Marginals

    def __init__(self, cells: Marginals):
        super().__init__(cells.domain, cells.sizes, cells.workloads)
        self.cells = cells

    @property
    def partitions(self) -> tuple[bool, ...]:
        """None is."""
        return (False,) * len(self.sizes)

    @abc.abstractmethod
    def holds(self, reals: Float[Array, "*batch r"]) -> Bool[Array, "*batch L"]:
        """Whether each level's condition holds for the real values of a row."""

    @abc.abstractmethod
    def softly(self, reals: Float[Array, "m r"], sharpness: Float[Array, ""] | float) -> Float[Array, "m L"]:
        """How much it holds."""

    def cell_index(self, rows: Float[Array, "*batch d"]) -> Int[Array, "*batch L"]:
        """The cell of the marginal, where the condition holds."""
        holds = self.holds(rows[..., np.array(self.domain.real)])
        return jnp.where(holds, self.cells.cell_index(rows), np.array(self.sizes, np.int32))

    def soft(self, table: Relaxed, sharpness: Float[Array, ""] | float) -> Float[Array, "m q"]:
        """The condition's sigmoids times the categories' probabilities."""
        return self.softly(table.reals, sharpness)[:, self.level_of] * self.cells.soft(table, sharpness)

    def soft_answers(self, table: Relaxed, sharpness: Float[Array, ""] | float) -> Float[Array, " q"]:
        """The mean of `soft`; with cells of one column as a product of matrices, whose derivatives are cheap."""
        if self.cells.columns.shape[1] != 1:
            return super().soft_answers(table, sharpness)
        sizes = np.array(self.domain.sizes)
        onehot = jnp.concatenate(table.probabilities, axis=1)
        each = self.softly(table.reals, sharpness).T @ onehot / len(onehot)
        cell = np.arange(self.num_queries) - self.offsets[self.level_of]
        starts = jnp.asarray(np.cumsum(sizes) - sizes)[self.cells.columns[:, 0]]
        return each[self.level_of, starts[self.level_of] + cell]


class Prefixes(Predicates):
    """Categorical cells of rows whose real values are below thresholds; see `prefix_queries`."""

    columns: Int[Array, "L k"]
    """Among the real columns."""
    thresholds: Float[Array, "L k"]

    def __init__(self, cells: Marginals, columns: Int[Array, "L k"], thresholds: Float[Array, "L k"]):
        super().__init__(cells)
        within("columns", columns, len(self.domain.real))
        self.columns, self.thresholds = columns, thresholds

    def holds(self, reals: Float[Array, "*batch r"]) -> Bool[Array, "*batch L"]:
        """Whether all of them are."""
        return jnp.all(reals[..., self.columns] < self.thresholds, axis=-1)

    def softly(self, reals: Float[Array, "m r"], sharpness: Float[Array, ""] | float) -> Float[Array, "m L"]:
        """The product of sigmoids."""
        # a product with unit vectors in place of an index, whose derivative would be a slow scatter
        pick = jax.nn.one_hot(self.columns, reals.shape[1], dtype=reals.dtype)
        below = (
            jax.nn.sigmoid(sharpness * (self.thresholds[:, j] - reals @ pick[:, j].T)) for j in range(pick.shape[1])
        )
        return math.prod(below, start=jnp.ones(()))


class HalfSpaces(Predicates):
    """Categorical cells of rows whose real values are beyond a hyperplane; see `half_space_queries`."""

    normals: Float[Array, "L r"]
    heights: Float[Array, " L"]

    def __init__(self, cells: Marginals, normals: Float[Array, "L r"], heights: Float[Array, " L"]):
        super().__init__(cells)
        self.normals, self.heights = normals, heights

    def holds(self, reals: Float[Array, "*batch r"]) -> Bool[Array, "*batch L"]:
        """Whether `<h, x> > b`."""
        return self._beyond(reals) > 0

    def softly(self, reals: Float[Array, "m r"], sharpness: Float[Array, ""] | float) -> Float[Array, "m L"]:
        """The sigmoid of the distance."""
        return jax.nn.sigmoid(sharpness * (reals @ self.normals.T - self.heights))

    def _beyond(self, reals: Float[Array, "*batch r"]) -> Float[Array, "*batch L"]:
        # term by term: a product of matrices rounds otherwise for one row than for many
        terms = (reals[..., j, None] * self.normals[:, j] for j in range(self.normals.shape[1]))
        return sum(terms, -self.heights)


class Union(Queries):
    """Several families over one domain, one after the other.

    Raises
    ------
    ValueError
        Where there is none, or they are over different domains.
    """

    parts: tuple[Queries, ...]

    def __init__(self, *parts: Queries):
        if not parts or any(one.domain != parts[0].domain for one in parts):
            raise ValueError(f"parts must be families over one domain: given {[one.domain for one in parts]}.")
        starts = np.cumsum([0, *(one.num_workloads for one in parts)])
        super().__init__(
            parts[0].domain,
            tuple(size for one in parts for size in one.sizes),
            tuple(int(start) + w for start, one in zip(starts, parts, strict=False) for w in one.workloads),
        )
        self.parts = parts

    @property
    def partitions(self) -> tuple[bool, ...]:
        """Those of the parts, one after the other."""
        return tuple(one for part in self.parts for one in part.partitions)

    def cell_index(self, rows: Float[Array, "*batch d"]) -> Int[Array, "*batch L"]:
        """Those of all parts."""
        return jnp.concatenate([one.cell_index(rows) for one in self.parts], axis=-1)

    def soft(self, table: Relaxed, sharpness: Float[Array, ""] | float) -> Float[Array, "m q"]:
        """Those of all parts."""
        return jnp.concatenate([one.soft(table, sharpness) for one in self.parts], axis=-1)

    def soft_answers(self, table: Relaxed, sharpness: Float[Array, ""] | float) -> Float[Array, " q"]:
        """Those of all parts."""
        return jnp.concatenate([one.soft_answers(table, sharpness) for one in self.parts])


def categorical_marginals(domain: Domain, k: int = 2) -> Marginals:
    """All cells of every subset of `k` categorical columns, each subset a workload of sensitivity `sqrt(2)/n`.

    Raises
    ------
    ValueError
        Where there are fewer than `k` categorical columns: there would be nothing to measure.

    Examples
    --------
    >>> from dini_zoo.privacy.private_gsd import Categorical, Domain, Real
    >>> domain = Domain.of({"married": Categorical(2), "age": Categorical(3), "income": Real(0, 50_000)})
    >>> categorical_marginals(domain).num_queries
    6
    """
    subsets = subsets_of(domain.categorical, k, "categorical columns")
    bins = [[domain.sizes[j] for j in one] for one in subsets]
    return Marginals(domain, subsets, bins, range(len(subsets)))


def mixed_marginals(
    domain: Domain, k: int = 2, bins: Sequence[int] = (2, 4, 8, 16, 32), *, separate: bool = False
) -> Marginals:
    """All cells of every subset of `k` columns with a real one among them, real columns cut in as many bins as `bins`
    says.

    Parameters
    ----------
    domain
        The columns.
    k
        In a subset.
    bins
        One level for each number.
    separate
        Whether each level is a workload of its own, of sensitivity `sqrt(2)/n`, or (the default, a binary tree) all of
        a subset's levels are one, of sensitivity `sqrt(2 len(bins))/n`.

    Raises
    ------
    ValueError
        Where there is no such subset, no level, or one without a bin.
    """
    if not bins:
        raise ValueError("bins must have at least one number: given none.")
    for b in bins:
        at_least("bins", b, 1)
    both = subsets_of(tuple(range(len(domain.columns))), k, "columns")
    subsets = [one for one in both if not all(domain.sizes[j] for j in one)]
    if not subsets:
        raise ValueError("domain must have a real column, else there is no mixed marginal: given none.")
    levels = [(one, b) for one in subsets for b in bins]
    workloads = range(len(levels)) if separate else [i // len(bins) for i in range(len(levels))]
    return Marginals(
        domain, [one for one, _ in levels], [[domain.sizes[j] or b for j in one] for one, b in levels], workloads
    )


def prefix_queries(key: jax.Array, domain: Domain, count: int, *, k: int = 2, categorical: int = 1) -> Prefixes:
    """`count` conditions that `k` real values are below thresholds, each with all cells of some categorical columns.

    The columns of a condition are drawn with replacement, thresholds are uniform. The key must not depend on the data.

    Raises
    ------
    ValueError
        Where `count` or `k` is less than one, or the domain has no real column, or fewer than `categorical` others.

    Examples
    --------
    >>> from dini_zoo.privacy.private_gsd import Categorical, Domain, Real
    >>> domain = Domain.of({"married": Categorical(2), "income": Real(0, 50_000)})
    >>> prefix_queries(jax.random.key(0), domain, 5, k=1).num_queries
    10
    """
    at_least("k", k, 1)
    cells, draws, limits = _with_cells(key, domain, count, categorical)
    columns = jax.random.randint(draws, (count, k), 0, len(domain.real))
    return Prefixes(cells, columns, jax.random.uniform(limits, (count, k)))


def half_space_queries(
    key: jax.Array, domain: Domain, count: int, *, spread: float = 1.0, categorical: int = 1
) -> HalfSpaces:
    """`count` conditions `<h, x> > b` on the `r` real values, each with all cells of some categorical columns.

    `h` is normal with variance `1/r`, `b` normal with standard deviation `spread`. The key must not depend on the data.

    Raises
    ------
    ValueError
        As `prefix_queries` does.
    """
    cells, draws, limits = _with_cells(key, domain, count, categorical)
    r = len(domain.real)
    normals = jax.random.normal(draws, (count, r)) / np.sqrt(r)
    return HalfSpaces(cells, normals, spread * jax.random.normal(limits, (count,)))


def subsets_of(columns: tuple[int, ...], k: int, what: str) -> list[tuple[int, ...]]:
    """All of `k` columns, of which there is at least one."""
    at_least("k", k, 1)
    if k > len(columns):
        raise ValueError(f"domain must have at least k = {k} {what}: given {len(columns)}.")
    return list(itertools.combinations(columns, k))


def _with_cells(key: jax.Array, domain: Domain, count: int, categorical: int) -> tuple[Marginals, jax.Array, jax.Array]:
    """A random subset of categorical columns for each of `count` conditions, and two keys for these."""
    at_least("count", count, 1)
    if not domain.real:
        raise ValueError("domain must have a real column for conditions on real values: given none.")
    subsets = subsets_of(domain.categorical, categorical, "categorical columns") if categorical else [()]
    pick, draws, limits = jax.random.split(key, 3)
    chosen = [subsets[i] for i in np.asarray(jax.random.randint(pick, (count,), 0, len(subsets)))]
    bins = [[domain.sizes[j] for j in one] for one in chosen]
    return Marginals(domain, chosen, bins, range(count)), draws, limits
