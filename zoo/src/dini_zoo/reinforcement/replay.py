"""A replay buffer as arrays, for learners that are one scan."""

from __future__ import annotations

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from dini_zoo.kit.checking import at_least, one_length


class Replay[T](eqx.Module):
    """The last `capacity` items that were seen, each a tree of arrays.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> replay = Replay.like({"reward": jnp.zeros(())}, capacity=3)
    >>> for reward in (1.0, 2.0, 3.0, 4.0):
    ...     replay = replay.add({"reward": jnp.asarray(reward)})
    >>> print(replay.items["reward"], int(replay.count))
    [4. 2. 3.] 3
    >>> replay.sample(jax.random.key(0), 5)["reward"].shape
    (5,)
    """

    items: T
    """The items, `capacity` rows; those that were not written yet are zero."""
    written: Int[Array, ""]
    """How many were ever added."""

    @classmethod
    def like(cls, item: T, capacity: int) -> Self:
        """An empty one for items of the shape of `item`; raises `ValueError` for a capacity below one."""
        at_least("capacity", capacity, 1)
        empty = lambda leaf: jnp.zeros((capacity, *jnp.shape(leaf)), jnp.result_type(leaf))
        return cls(jax.tree.map(empty, item), jnp.zeros((), jnp.int32))

    @property
    def capacity(self) -> int:
        """The number of rows."""
        return one_length("items", self.items)

    @property
    def count(self) -> Int[Array, ""]:
        """How many items are there."""
        return jnp.minimum(self.written, self.capacity)

    def add(self, item: T) -> Self:
        """With one item more, in place of the oldest where it is full.

        Raises `ValueError` for an item of another shape, and `TypeError` for fractions where whole numbers are stored.
        """
        place = self.written % self.capacity
        items = jax.tree.map(lambda rows, leaf: rows.at[place].set(_as_stored(leaf, rows, 0)), self.items, item)
        return type(self)(items, self.written + 1)

    def extend(self, items: T) -> Self:
        """With several more, in their order; raises `ValueError` for more than there is room for."""
        count = one_length("items", items)
        if count > self.capacity:
            raise ValueError(f"items must be at most the capacity, {self.capacity}: given {count}.")
        places = (self.written + jnp.arange(count)) % self.capacity
        found = jax.tree.map(lambda rows, leaf: rows.at[places].set(_as_stored(leaf, rows, 1)), self.items, items)
        return type(self)(found, self.written + count)

    def sample(self, key: Key[Array, ""], size: int) -> T:
        """A batch, drawn with replacement. Of an empty buffer it is the zeros that it was made with."""
        at_least("size", size, 1)
        chosen = jax.random.randint(key, (size,), 0, jnp.maximum(self.count, 1))
        return jax.tree.map(lambda rows: rows[chosen], self.items)

    def sample_runs(self, key: Key[Array, ""], size: int, length: int) -> Any:
        """Runs of successive items, `(size, length, ...)`, none of which passes from the newest item to the oldest.

        For returns over several steps. Raises `ValueError` for a length beyond the capacity; a buffer with fewer items
        than that gives runs that begin with its first and end in zeros.
        """
        if not 1 <= length <= self.capacity:
            raise ValueError(f"length must be from 1 to the capacity, {self.capacity}: given {length}.")
        oldest = jnp.where(self.written > self.capacity, self.written % self.capacity, 0)
        starts = jax.random.randint(key, (size,), 0, jnp.maximum(self.count - length + 1, 1))
        chosen = (oldest + starts[:, None] + jnp.arange(length)) % self.capacity
        return jax.tree.map(lambda rows: rows[chosen], self.items)


def _as_stored(leaf: Any, rows: Array, axes: int) -> Array:
    """What is added, in the kind that is stored, where it has the shape and loses nothing by it."""
    leaf = jnp.asarray(leaf)
    if leaf.shape[axes:] != rows.shape[1:]:
        raise ValueError(f"An item must have the shape {rows.shape[1:]} of what is stored: given {leaf.shape[axes:]}.")
    if jnp.issubdtype(leaf.dtype, jnp.inexact) and not jnp.issubdtype(rows.dtype, jnp.inexact):
        raise TypeError(
            f"An item must be of whole numbers, as the buffer was made for, {rows.dtype}: given {leaf.dtype}. Make it "
            "with Replay.like of an item of floats."
        )
    return leaf.astype(rows.dtype)
