r"""Bins of real columns that follow the data, chosen by noisy counts alone.

A column's range, whose bounds are public, is halved, and halves are halved again as long as their share of the rows is
large. Level `l` of this tree has :math:`2^l` nodes of equal width. Nodes of one level are disjoint. When one row is
replaced, one of the counts of a level falls by one and another rises by one: they move by :math:`\sqrt 2` at most in
the Euclidean norm, and shares of `n` rows by :math:`\Delta = \sqrt 2 / n`. This bound holds whichever of the nodes are
looked at, and so it holds where the noisy shares of the levels above choose them. With normal noise of

.. math:: \sigma = \frac{\Delta}{\sqrt{2 \rho / (r L)}}

on each of `L` levels of `r` columns the levels cost :math:`\rho / (r L)` each, by adaptive composition :math:`\rho`
together. All `L` are paid for, even if no node of the last ones is looked at: what is paid must not depend on the data.

Noisy counts are rounded to whole rows, or to a power of two of rows of which the noise has some thousand. Normal
numbers of single precision have gaps: the last bits of a sum with one would tell which counts are possible (Mironov,
"On significance of the least significant bits for differential privacy", CCS 2012).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, finite, positive, same_shape, scalar, traced

from ..accounting import gaussian_sigma, probability
from ..ledger import GaussianRelease, Ledger
from .domains import Domain, Real, Table
from .queries import Marginals, subsets_of

#: The narrowest bin is this power of one half of the range: its edges are numbers of single precision.
DEEPEST = 20
#: Noisy counts are multiples of this part of the noise, or of one row. Normal numbers of single precision lie less than
#: a thousandth apart, up to four standard deviations.
_GRID = 2.0**-10
#: So many standard deviations of noise must the share of a node have to be divided: one in 740 empty ones has it.
CERTAIN = 3.0


@dataclass(frozen=True)
class Bins:
    """Bins of the real columns of a domain, and what they cost."""

    domain: Domain
    edges: Mapping[str, Float[np.ndarray, " b+1"]]
    """Of each real column, scaled to `[0, 1]` as rows of a `Table` are: from 0 to 1, multiples of a power of one
    half."""
    shares: Mapping[str, Float[np.ndarray, " b"]]
    """The noisy share of rows of each bin, as released; 1 where a column has a single bin."""
    sigma: float
    """The noise's standard deviation in all of them."""
    ledger: Ledger
    """The release of all levels of all columns."""

    def __post_init__(self) -> None:
        """Raises `ValueError` where edges do not rise from 0 to 1, shares do not fit, or the ledger is empty."""
        if set(self.edges) != set(self.shares) or set(self.edges) != {self.domain.names[j] for j in self.domain.real}:
            raise ValueError(
                f"edges and shares must be of the real columns: given {list(self.edges)} and {list(self.shares)}."
            )
        for name, edges in self.edges.items():
            same_shape(f"shares[{name!r}]", self.shares[name], "its bins", (len(_checked(name, edges)) - 1,))
        finite("shares", dict(self.shares))
        positive("sigma", self.sigma)
        if not any(release.count for release in self.ledger.releases):
            raise ValueError("ledger must have the release of the counts: given none, as if they were free.")

    @property
    def values(self) -> dict[str, Float[np.ndarray, " b+1"]]:
        """The edges in each column's own units."""
        columns = dict(self.domain.columns)
        found = {}
        for name, edges in self.edges.items():
            column = columns[name]
            assert isinstance(column, Real)
            found[name] = column.low + (column.high - column.low) * edges
        return found


def private_bins(key: jax.Array, table: Table, rho: float, *, share: float = 1 / 16, depth: int = 8) -> Bins:
    r"""Choose bins of the real columns of a sensitive table, for `rho` of zero-concentrated privacy in all.

    Each column is halved; a node is halved again as long as its noisy share of the rows is above `share` and above
    three standard deviations of the noise, at most `depth` times. Without noise each bin has at most `share` of the
    rows, unless it is :math:`2^{-L}` of the range wide, and the two halves of a node together have more.

    Parameters
    ----------
    key
        For the noise. It must be secret, and used for nothing else.
    table
        The sensitive one. The bounds of its columns must not come from the data.
    rho
        The budget. Each of the `r` real columns has `rho / r`, see `bins_share`, and each level of a column the same
        part of that.
    share
        Between 0 and 1: the share of the rows above which a node is halved.
    depth
        `L`, how often at most, from 1 to 20. More levels leave less of the budget for each.

    Returns
    -------
    Bins
        The edges, with the noisy shares and the ledger: give it to `fit_private_gsd` as `spent`.

    Raises
    ------
    ValueError
        Where `rho` is not positive, or so large that the noise vanishes in double precision; `share` is not between 0
        and 1; `depth` is out of its range; or there is no real column.
    TypeError
        Where `table` or `rho` is traced: the number of bins depends on the noise.

    Examples
    --------
    >>> from dini_zoo.privacy.private_gsd import Domain, Real
    >>> domain = Domain.of({"income": Real(0, 64_000)})
    >>> table = Table(jnp.linspace(0, 1, 4000)[:, None] ** 4, domain)
    >>> bins = private_bins(jax.random.key(0), table, 0.5, share=0.3, depth=6)
    >>> print(bins.values["income"], round(bins.ledger.rho, 6))
    [    0.  1000.  2000.  4000.  8000. 16000. 32000. 64000.] 0.5
    """
    scalar("rho", rho)
    if traced((rho, table.rows)):
        raise TypeError("rho and table must be known, as the number of bins depends on them: given traced values.")
    positive("rho", rho)
    probability("share", share)
    at_least("depth", depth, 1)
    if depth > DEEPEST:
        raise ValueError(f"depth must be at most {DEEPEST}: given {depth}.")
    domain, n = table.domain, len(table)
    if not domain.real:
        raise ValueError("table must have a real column, else there is nothing to cut: given none.")
    releases = len(domain.real) * depth
    sigma = gaussian_sigma(float(rho) / releases, math.sqrt(2) / n)
    least = float(np.finfo(float).eps)
    if sigma < least:
        raise ValueError(
            f"rho must leave noise of {least:.2g} at least, else it vanishes beside shares in double precision: given "
            f"{rho}, whose noise is {sigma:.2g}."
        )
    edges, shares = {}, {}
    for i, j in enumerate(domain.real):
        at = np.minimum(np.floor(np.asarray(table.rows[:, j], float) * 2**depth).astype(int), 2**depth - 1)
        finest = np.bincount(at, minlength=2**depth)
        name = domain.names[j]
        edges[name], shares[name] = _tree(jax.random.fold_in(key, i), finest, sigma, max(share, CERTAIN * sigma))
    release = GaussianRelease("bins", math.sqrt(releases / (2 * float(rho))), releases)
    return Bins(domain, edges, shares, sigma, Ledger((release,)))


def _tree(key: jax.Array, finest: np.ndarray, sigma: float, above: float) -> tuple[np.ndarray, np.ndarray]:
    """The edges and noisy shares of a tree's leaves, of the exact counts of the finest nodes."""
    depth, n = int(math.log2(len(finest))), int(finest.sum())
    # the root has all of the rows, and no noise: their number is public
    noisy, divided = np.ones(1), np.ones(1) > above
    starts, leaves = [np.zeros(1)[~divided]], [noisy[~divided]]
    for level in range(1, depth + 1):
        # whole numbers are added: the last digit of a sum of fractions would tell where in a node its rows are
        exact = finest.reshape(2**level, -1).sum(axis=1)
        noise = np.asarray(jax.random.normal(jax.random.fold_in(key, level), exact.shape), float)
        answers = _answers(exact, sigma * n, noise) / n
        there = np.repeat(divided, 2)
        # of what no node above asks for, nothing is used
        noisy = np.where(there, answers, 0)
        divided = there & (noisy > above) & (level < depth)
        leaf = there & ~divided
        starts.append(np.flatnonzero(leaf) / 2**level)
        leaves.append(noisy[leaf])
    order = np.argsort(np.concatenate(starts))
    return np.append(np.concatenate(starts)[order], 1.0), np.concatenate(leaves)[order]


def _answers(counts: np.ndarray, sigma: float, noise: np.ndarray) -> np.ndarray:
    """Noisy counts, rounded to whole rows or coarser, of normal numbers and their factor in rows."""
    grid = max(1.0, 2.0 ** math.ceil(math.log2(_GRID * sigma)))
    return np.round((counts + sigma * noise) / grid) * grid


def bins_share(domain: Domain, workloads: int) -> float:
    r"""The share of a budget for bins if each real column gets as much as each of the workloads: `r / (r + m)`.

    It is proportional to the number of real columns, `r`, beside `m` workloads to be measured.

    Raises
    ------
    ValueError
        Where `workloads` is less than one.

    Examples
    --------
    >>> from dini_zoo.privacy.private_gsd import Categorical, Domain, Real
    >>> bins_share(Domain.of({"age": Categorical(3), "income": Real(), "rent": Real()}), 6)
    0.25
    """
    at_least("workloads", workloads, 1)
    return len(domain.real) / (len(domain.real) + workloads)


class BinnedMarginals(Marginals):
    """Cells of subsets of `k` columns, whose real ones are cut at given edges; see `binned_marginals`.

    Bins are half-open, `[e_i, e_(i+1))`, the last one closed.
    """

    inner: Float[Array, "d E"]
    """Of each column the edges but the first, with infinite ones behind the last."""

    def __init__(
        self,
        domain: Domain,
        columns: Sequence[Sequence[int]],
        edges: Mapping[str, Float[np.ndarray, " b+1"]],
        workloads: Sequence[int],
    ):
        checked = {domain.index(name): _checked(name, given) for name, given in edges.items()}
        if set(checked) != set(domain.real):
            raise ValueError(
                f"edges must be of the real columns {[domain.names[j] for j in domain.real]}: given {list(edges)}."
            )
        count = lambda j: domain.sizes[j] or len(checked[j]) - 1
        super().__init__(domain, columns, [[count(j) for j in one] for one in columns], workloads)
        inner = np.full((len(domain.columns), max(map(len, checked.values()), default=1)), np.inf)
        for j, one in checked.items():
            inner[j, : len(one) - 1] = one[1:]
        self.inner = jnp.asarray(inner)

    def cell_index(self, rows: Float[Array, "*batch d"]) -> Int[Array, "*batch L"]:
        """The cell of each level, which every row has. Raises `ValueError` where a number of `rows` is not finite."""
        finite("rows", rows)
        real = np.array(self.domain.sizes) == 0
        # by column, of which there are fewer than levels
        number = jnp.where(real, jnp.sum(rows[..., None] >= self.inner, axis=-1), rows.astype(jnp.int32))
        digits = jnp.clip(number[..., self.columns], 0, self.bins - 1)
        return jnp.sum(digits * self.strides, axis=-1, dtype=jnp.int32)

    def edge(self, column: Int[Array, " q"], bins: Int[Array, " q"], digit: Int[Array, " q"]) -> Float[Array, " q"]:
        """Where bin number `digit` of a real column begins."""
        return jnp.where(digit > 0, self.inner[column, jnp.maximum(digit - 1, 0)], 0)


def binned_marginals(domain: Domain, edges: Mapping[str, Float[np.ndarray, " b+1"]], k: int = 2) -> BinnedMarginals:
    """All cells of every subset of `k` columns with a real one among them, real columns cut at given edges.

    Each subset is a workload of one level, of sensitivity `sqrt(2)/n`. `mixed_marginals` has bins of equal width.

    Parameters
    ----------
    domain
        The columns.
    edges
        Of each real column by name: numbers that rise from 0 to 1, the bounds to which rows are scaled. They must not
        depend on the data but through `private_bins`, whose `edges` these are.
    k
        In a subset.

    Raises
    ------
    ValueError
        Where there is no such subset, a real column has no edges or another one has some, or edges do not rise from 0
        to 1.

    Examples
    --------
    >>> from dini_zoo.privacy.private_gsd import Categorical, Domain, Real
    >>> domain = Domain.of({"married": Categorical(2), "income": Real(0, 50_000)})
    >>> queries = binned_marginals(domain, {"income": np.array([0, 0.1, 0.3, 1])})
    >>> print(queries.cell_index(jnp.array([[0, 0.0], [0, 0.1], [1, 0.2], [1, 1.0]])).ravel())
    [0 1 4 5]
    """
    both = subsets_of(tuple(range(len(domain.columns))), k, "columns")
    chosen = [one for one in both if not all(domain.sizes[j] for j in one)]
    if not chosen:
        raise ValueError("domain must have a real column, else there is no binned marginal: given none.")
    return BinnedMarginals(domain, chosen, edges, range(len(chosen)))


def _checked(name: str, edges: Float[np.ndarray, " b+1"]) -> np.ndarray:
    """Edges that rise from 0 to 1."""
    given = np.asarray(edges, float)
    if given.ndim != 1 or len(given) < 2 or given[0] != 0 or given[-1] != 1 or not np.all(np.diff(given) > 0):
        raise ValueError(f"edges of the column {name!r} must rise from 0 to 1: given {edges}.")
    return given
