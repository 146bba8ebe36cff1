"""Data in numbered batches, for methods that remember what they have seen of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import trees
from ..checks.records import record
from ..checks.settings import known, require_count
from ..trees import Tree


@record(init=False)
class Batches:
    r"""Data that are split into batches, by their leading axis and in their order.

    Where the size divides the number of samples ``n``, all batches are as large. Where it does not, there are as few
    batches as can be of at most that size, as even as can be: of one size, or of two that differ by one (442 samples
    by 30 are 7 batches of 30 and 8 of 29). Nothing is left out and nothing counts twice: with :math:`n_i` samples in
    batch ``i``, an objective that is the mean over all samples is

    .. math:: g(x, \theta) = \sum_i \frac{n_i}{n}\, g_i(x, \theta) ,

    the mean over batches that are drawn with the probabilities :math:`n_i / n`. So :meth:`draw` draws them, so the
    estimators weigh them, and a step on a batch that was drawn is unbiased. (One after another, in epochs, each has the
    same weight, and samples of the smaller ones a little more. Two sizes are two programs of the objective, of which
    each step runs one, and of lanes under ``vmap`` both.)

    Parameters
    ----------
    data
        A tree of arrays with a leading axis of the samples.
    size
        Samples in a batch, at most.

    Raises
    ------
    TypeError, ValueError, IndexError
        If the data have no common leading axis, or fewer samples than a batch should have; of ``batches[number]``,
        where a number is no integer, or there is no such batch.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> batches = dini.bilevel.Batches((jnp.arange(6.0), jnp.ones((6, 2))), 2)
    >>> batches.count, batches[1].data[0]
    (3, Array([2., 3.], dtype=float32))
    >>> batches.draw(jax.random.key(0)).data[1].shape
    (2, 2)
    >>> [len(batch.data) for batch in dini.bilevel.Batches(jnp.arange(11.0), 4)]
    [4, 4, 3]
    """

    data: Any
    size: int = field(metadata={"static": True})
    rest: Any = None

    def __init__(self, data: Tree, size: int) -> None:
        require_count("Batches' size", size)
        leaves = jax.tree.leaves(data)
        lengths = {jnp.shape(leaf)[:1] for leaf in leaves}
        if len(lengths) != 1 or lengths == {()}:
            given = trees.describe(data) if leaves else "no arrays"
            raise TypeError(f"Batches' data must be arrays with one leading axis, that of the samples: given {given}.")
        (samples,) = lengths.pop()
        if samples < size:
            raise ValueError(
                f"Batches' size must be at most the number of samples: given size={size} and {samples} samples."
            )
        count = -(-samples // size)
        size, smaller = -(-samples // count), -samples % count
        whole = (count - smaller) * size
        split = lambda leaf, size: jnp.reshape(leaf, (-1, size, *jnp.shape(leaf)[1:]))
        first = jax.tree.map(lambda leaf: split(jnp.asarray(leaf)[:whole], size), data)
        last = jax.tree.map(lambda leaf: split(jnp.asarray(leaf)[whole:], size - 1), data) if smaller else None
        for name, value in (("data", first), ("size", size), ("rest", last)):
            object.__setattr__(self, name, value)

    @property
    def count(self) -> int:
        """The number of batches."""
        return sum(jax.tree.leaves(piece)[0].shape[0] for piece, _ in self.pieces)

    @property
    def pieces(self) -> list[tuple[Any, float]]:
        """The batches of each size, along a leading axis, and the share of the samples that such a batch has."""
        pieces = [self.data] if self.rest is None else [self.data, self.rest]
        shapes = [jax.tree.leaves(piece)[0].shape[:2] for piece in pieces]
        samples = sum(count * size for count, size in shapes)
        return [(piece, size / samples) for piece, (_, size) in zip(pieces, shapes, strict=True)]

    def share(self, number: Any) -> Any:
        """Return the share of the samples that a batch has."""
        if self.rest is None:
            return 1 / self.count
        (first, larger), (_, smaller) = self.pieces
        return jnp.where(number < jax.tree.leaves(first)[0].shape[0], larger, smaller)

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        """Return the batches one by one."""
        return (self[number] for number in range(self.count))

    def __getitem__(self, number: Any) -> Batch:
        """Return a batch, or several for a vector of numbers; negative ones count from the end."""
        known_now = known(number)
        given = np.asarray(number) if known_now else number
        if not np.issubdtype(given.dtype, np.integer):
            raise TypeError(f"Batches are numbered by integers, or a vector of them: given {number!r}.")
        if known_now:
            if np.any((given < -self.count) | (given >= self.count)):
                raise IndexError(f"There are {self.count} batches, from number 0: given {number}.")
            given = given % self.count
        return Batch(jnp.asarray(given, jnp.int32), self)

    def draw(self, key: Any, count: int | None = None) -> Batch:
        """Return a batch at random, or ``count`` independent ones, which the parts of a step use in turn."""
        shape = () if count is None else (count,)
        if self.rest is None:
            return self[jax.random.randint(key, shape, 0, self.count)]
        # the batch of a sample that is drawn
        first, last = (jax.tree.leaves(piece)[0].shape[:2] for piece, _ in self.pieces)
        whole = first[0] * first[1]
        sample = jax.random.randint(key, shape, 0, whole + last[0] * last[1])
        return self[jnp.where(sample < whole, sample // first[1], first[0] + (sample - whole) // last[1])]


@record
class Batch:
    """A batch of :class:`Batches`, which knows its number and where it comes from.

    Attributes
    ----------
    number
        Its number, or a vector of numbers.
    source
        All batches.
    """

    number: Any
    source: Any

    @property
    def data(self) -> Any:
        """Its samples.

        Raises
        ------
        TypeError
            If the batches have two sizes, and the number is a vector, or not known while JAX traces a program:
            :meth:`given_to` works then.
        """
        if self.source.rest is None:
            return _rows(self.source.data, self.number)
        if not known(self.number) or np.ndim(self.number):
            raise TypeError(
                "The batches have two sizes, because the given size does not divide the number of samples, and the "
                "size of this batch is not known while JAX traces a program (or these are several batches). Use "
                "batch.given_to(function), or a size that divides the number of samples."
            )
        number, whole = int(self.number), jax.tree.leaves(self.source.data)[0].shape[0]
        return _rows(self.source.data, number) if number < whole else _rows(self.source.rest, number - whole)

    def given_to(self, fun: Callable[[Any], Any]) -> Any:
        """Return a function of its samples, whose result has one shape whatever the size; also where that is traced."""
        source = self.source
        if source.rest is None or (known(self.number) and not np.ndim(self.number)):
            return fun(self.data)
        whole = jax.tree.leaves(source.data)[0].shape[0]
        larger, smaller = lambda i: fun(_rows(source.data, i)), lambda i: fun(_rows(source.rest, i - whole))
        return jax.lax.cond(self.number < whole, larger, smaller, self.number)


def _rows(piece: Tree, number: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[number], piece)


def on_batch(fun: Callable[..., Any], batch: Any) -> Any:
    """Return a function of what the user's functions get of a batch."""
    if batch is None:
        return fun()
    return batch.given_to(fun) if isinstance(batch, Batch) else fun(batch)


def arguments(batch: Any) -> tuple[Any, ...]:
    """Return what the user's functions get of a batch."""
    if batch is None:
        return ()
    return (batch.data if isinstance(batch, Batch) else batch,)


def example(batch: Any) -> tuple[Any, ...]:
    """Return arguments of the shapes that the user's functions get, for checks."""
    return (_rows(batch.source.data, 0),) if isinstance(batch, Batch) else arguments(batch)


def part(batch: Any, turn: Any) -> Any:
    """Return the batch for one part of a step: one of several in turn, or the same for all."""
    if isinstance(batch, Batch) and jnp.ndim(batch.number) == 1:
        return Batch(batch.number[turn % batch.number.shape[0]], batch.source)
    return batch
