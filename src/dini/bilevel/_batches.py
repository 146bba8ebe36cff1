"""Data in numbered batches, for methods that remember what they have seen of each."""

from __future__ import annotations

from collections.abc import Iterator
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
    r"""Data that are split into batches of one size, by their leading axis.

    An objective that is the mean over all samples is then the mean over the batches,

    .. math:: g(x, \theta) = \frac1n \sum_{i=1}^n g_i(x, \theta) .

    Parameters
    ----------
    data
        A tree of arrays with a leading axis of the samples.
    size
        Samples in a batch; it divides their number.

    Raises
    ------
    TypeError, ValueError, IndexError
        Where the data have no common leading axis, or the size does not divide it; of ``batches[number]``, where a
        number is no integer, or there is no such batch.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> batches = dini.bilevel.Batches((jnp.arange(6.0), jnp.ones((6, 2))), 2)
    >>> batches.count, batches[1].data[0]
    (3, Array([2., 3.], dtype=float32))
    >>> batches.draw(jax.random.key(0)).data[1].shape
    (2, 2)
    """

    data: Any
    size: int = field(metadata={"static": True})

    def __init__(self, data: Tree, size: int) -> None:
        require_count("Batches' size", size)
        leaves = jax.tree.leaves(data)
        lengths = {jnp.shape(leaf)[:1] for leaf in leaves}
        if len(lengths) != 1 or lengths == {()}:
            given = trees.describe(data) if leaves else "no arrays"
            raise TypeError(f"Batches' data must be arrays with one leading axis, that of the samples: given {given}.")
        (samples,) = lengths.pop()
        if samples == 0 or samples % size:
            raise ValueError(
                f"Batches' size must divide the number of samples, so that all count alike: given size={size} and "
                f"{samples} samples. Take another size, or leave {samples % size} samples out."
            )
        split = lambda leaf: jnp.reshape(jnp.asarray(leaf), (samples // size, size, *jnp.shape(leaf)[1:]))
        object.__setattr__(self, "data", jax.tree.map(split, data))
        object.__setattr__(self, "size", size)

    @property
    def count(self) -> int:
        """The number of batches."""
        return jax.tree.leaves(self.data)[0].shape[0]

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
        return self[jax.random.randint(key, () if count is None else (count,), 0, self.count)]


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
        """Its samples."""
        return jax.tree.map(lambda leaf: leaf[self.number], self.source.data)


def arguments(batch: Any) -> tuple[Any, ...]:
    """Return what the user's functions get of a batch."""
    if batch is None:
        return ()
    return (batch.data if isinstance(batch, Batch) else batch,)


def part(batch: Any, turn: Any) -> Any:
    """Return the batch for one part of a step: one of several in turn, or the same for all."""
    if isinstance(batch, Batch) and jnp.ndim(batch.number) == 1:
        return Batch(batch.number[turn % batch.number.shape[0]], batch.source)
    return batch
