"""Estimates of a bilevel problem's directions from batches: plain ones, and ones whose variance vanishes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import require_count
from ._batches import Batch
from ._checks import require_share
from ._problem import Bilevel, Point


class Terms(NamedTuple):
    """Some of the directions as sums over two kinds of batches.

    ``parts`` names the directions: ``"x"``, ``"v"``, ``"theta"``.
    """

    problem: Bilevel
    parts: tuple[str, ...]

    @property
    def halves(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """What the outer batch gives, and what the inner one gives, as functions of a point and a batch."""
        return self._outer, self._inner

    def _outer(self, point: Point, batch: Any) -> Any:
        if self.parts == ("x",):
            return {}
        terms = self.problem.outer_terms(point, batch)
        return {name: terms[name] for name in self.parts if name in terms}

    def _inner(self, point: Point, batch: Any) -> Any:
        whole = self.problem.inner_gradient if self.parts == ("x",) else self.problem.inner_terms
        terms = whole(point, batch)
        return {name: terms[name] for name in self.parts}

    def on(self, point: Point, outer: Any, inner: Any) -> Any:
        """Return the directions on one batch of each kind."""
        return joined(self._outer(point, outer), self._inner(point, inner))

    def everywhere(self, point: Point, outer: Any, inner: Any) -> Any:
        """Return the directions on all data."""
        pairs = zip(self.halves, (outer, inner), strict=True)
        return joined(*(_mean(lambda b, half=half: half(point, b), batch) for half, batch in pairs))


def joined(outer: Any, inner: Any) -> Any:
    """Return the sum of what two batches give."""
    return {name: trees.add(outer[name], value) if name in outer else value for name, value in inner.items()}


def _mean(half: Callable[[Any], Any], batch: Any) -> Any:
    """Return the mean over all batches of a source."""
    if not isinstance(batch, Batch):
        return half(batch)

    def share(piece: Any, share: float) -> Any:
        add = lambda total, data: (trees.add(total, half(data)), None)
        shapes = jax.eval_shape(half, jax.tree.map(lambda leaf: leaf[0], piece))
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return trees.scale(share, jax.lax.scan(add, zero, piece)[0])

    return _sum([share(*piece) for piece in batch.source.pieces])


def _sum(parts: list[Any]) -> Any:
    return functools.reduce(trees.add, parts)


def _require_numbered(name: str, *batches: Any) -> None:
    for which, batch in zip(("outer", "inner"), batches, strict=True):
        if batch is not None and not isinstance(batch, Batch):
            raise TypeError(
                f"{name} stores a value for each batch and needs numbered batches: pass dini.bilevel.Batches(data, "
                f"size) as the {which} batch, or None for an objective without batches. Given {trees.describe(batch)}."
            )


def _require_table(table: Any, batch: Batch) -> None:
    """Raise unless a table has a row for each batch."""
    rows, count = jax.tree.leaves(table)[0].shape[0], batch.source.count
    if rows != count:
        raise ValueError(
            f"SAGA stores a value for each of the {rows} batches that init was given: a step was given one of {count}. "
            "Pass batches of the same dini.bilevel.Batches to init and to step, or call init again."
        )


class Estimator:
    """Base of the estimators; subclasses stand under the decorator ``record``."""

    def init(self, terms: Terms, point: Point, outer: Any, inner: Any) -> Any:
        """Return what is remembered at the start."""
        raise NotImplementedError

    def estimate(self, terms: Terms, memory: Any, point: Point, outer: Any, inner: Any) -> tuple[Any, Any]:
        """Return the directions, and what is remembered next."""
        raise NotImplementedError


@record
class SGD(Estimator):
    """The directions on the step's own batches: unbiased, with a variance that stays.

    Examples
    --------
    >>> import dini
    >>> dini.bilevel.SGD()
    SGD()
    """

    def init(self, terms: Terms, point: Point, outer: Any, inner: Any) -> Any:
        """Return nothing."""
        del terms, point, outer, inner
        return ()

    def estimate(self, terms: Terms, memory: Any, point: Point, outer: Any, inner: Any) -> tuple[Any, Any]:
        """Return the directions on the batches."""
        return terms.on(point, outer, inner), memory


@record
class SAGA(Estimator):
    r"""The directions on the batches, corrected by what the same batches gave when they came last.

    With :math:`D_i` the term of batch ``i`` and :math:`w_i` the point where it was last seen,

    .. math:: D_i(u) - D_i(w_i) + \sum_j p_j D_j(w_j) ,

    where :math:`p_j` is the share of the samples in batch ``j``, which is unbiased, and exact in the limit. The first
    table is of the starting point, by one pass over all batches. The batches must be numbered (:class:`Batches`); the
    table holds a direction for each.

    References
    ----------
    Defazio, Bach, Lacoste-Julien, "SAGA: a fast incremental gradient method", NeurIPS 2014 (arXiv 1407.0202).

    Examples
    --------
    >>> import dini
    >>> dini.bilevel.SAGA()
    SAGA()
    """

    def init(self, terms: Terms, point: Point, outer: Any, inner: Any) -> Any:
        """Return a table and its mean for each kind of batches."""
        _require_numbered("SAGA", outer, inner)

        def half(fun: Callable[..., Any], batch: Any) -> Any:
            if batch is None:
                return ()
            pieces = batch.source.pieces
            tables = [jax.lax.map(lambda data: fun(point, data), piece) for piece, _ in pieces]
            totals = [jax.tree.map(lambda rows: jnp.sum(rows, axis=0), table) for table in tables]
            mean = _sum([trees.scale(share, total) for total, (_, share) in zip(totals, pieces, strict=True)])
            return jax.tree.map(lambda *rows: jnp.concatenate(rows), *tables), mean

        return tuple(half(fun, batch) for fun, batch in zip(terms.halves, (outer, inner), strict=True))

    def estimate(self, terms: Terms, memory: Any, point: Point, outer: Any, inner: Any) -> tuple[Any, Any]:
        """Return the corrected directions."""
        _require_numbered("SAGA", outer, inner)

        def half(fun: Callable[..., Any], batch: Any, memory: Any) -> tuple[Any, Any]:
            new = fun(point, batch)
            if batch is None:
                return new, memory
            table, mean = memory
            if jax.tree.leaves(table):
                _require_table(table, batch)
            old = jax.tree.map(lambda rows: rows[batch.number], table)
            change = trees.sub(new, old)
            table = jax.tree.map(lambda rows, row: rows.at[batch.number].set(row), table, new)
            return trees.add(change, mean), (
                table,
                trees.axpy(jnp.asarray(batch.source.share(batch.number)), change, mean),
            )

        pairs = zip(terms.halves, (outer, inner), memory, strict=True)
        (a, first), (b, second) = (half(*given) for given in pairs)
        return joined(a, b), (first, second)


class _Path(NamedTuple):
    """What is remembered of a path."""

    point: Point
    directions: Any
    count: Any


@record
class SPIDER(Estimator):
    r"""Directions that are followed along the path, by differences on the same batches, from exact ones now and then.

    .. math:: D^k = D_i(u^k) - D_i(u^{k-1}) + D^{k-1} ,

    and every ``period`` steps :math:`D^k` is the direction on all data.

    Parameters
    ----------
    period
        Steps from one pass over all batches to the next.

    References
    ----------
    Fang, Li, Lin, Zhang, "SPIDER: near-optimal non-convex optimization via stochastic path-integrated differential
    estimator", NeurIPS 2018 (arXiv 1807.01695).

    Examples
    --------
    >>> import dini
    >>> dini.bilevel.SPIDER(period=64)
    SPIDER(period=64)
    """

    period: int = field(default=64, metadata={"static": True})

    def __post_init__(self) -> None:
        require_count("SPIDER's period", self.period)

    def init(self, terms: Terms, point: Point, outer: Any, inner: Any) -> Any:
        """Return the start of a path, before its first pass."""
        _require_numbered("SPIDER", outer, inner)
        shape = jax.eval_shape(terms.on, point, outer, inner)
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
        return _Path(point, zero, jnp.zeros((), jnp.int32))

    def estimate(self, terms: Terms, memory: Any, point: Point, outer: Any, inner: Any) -> tuple[Any, Any]:
        """Return the directions, followed or exact."""
        _require_numbered("SPIDER", outer, inner)

        def follow() -> Any:
            change = trees.sub(terms.on(point, outer, inner), terms.on(memory.point, outer, inner))
            return trees.add(memory.directions, change)

        exact = lambda: terms.everywhere(point, outer, inner)
        directions = jax.lax.cond(memory.count % self.period == 0, exact, follow)
        return directions, _Path(point, directions, memory.count + 1)


@record
class STORM(Estimator):
    r"""Directions with a momentum that is corrected along the path, without passes over all data.

    .. math:: D^k = D_i(u^k) + (1 - \eta)\,(D^{k-1} - D_i(u^{k-1})) .

    Parameters
    ----------
    eta
        :math:`\eta`, in (0, 1]; one forgets.

    References
    ----------
    Cutkosky, Orabona, "Momentum-based variance reduction in non-convex SGD", NeurIPS 2019 (arXiv 1905.10018).

    Examples
    --------
    >>> import dini
    >>> dini.bilevel.STORM(eta=0.1)
    STORM(eta=0.1)
    """

    eta: Any = 0.1

    def __post_init__(self) -> None:
        require_share("STORM's eta", self.eta)

    def init(self, terms: Terms, point: Point, outer: Any, inner: Any) -> Any:
        """Return the start of a path."""
        shape = jax.eval_shape(terms.on, point, outer, inner)
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
        return _Path(point, zero, jnp.zeros((), jnp.int32))

    def estimate(self, terms: Terms, memory: Any, point: Point, outer: Any, inner: Any) -> tuple[Any, Any]:
        """Return the directions with their momentum."""
        now, before = terms.on(point, outer, inner), terms.on(memory.point, outer, inner)
        kept = jnp.where(memory.count == 0, 0, 1 - jnp.asarray(self.eta))
        directions = trees.axpy(kept, trees.sub(memory.directions, before), now)
        return directions, _Path(point, directions, memory.count + 1)
