"""How a batch grows: its size from step to step, its examples, the shape of its arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import at_least

from .sizes import concrete


class Control(NamedTuple):
    """What a controller carries."""

    size: Int[Array, ""]
    """Of the next batch."""
    steps: Int[Array, ""]
    """Taken so far."""
    sound: Bool[Array, ""]
    """Whether all that tests asked for were numbers."""


@dataclass(frozen=True)
class BatchSizeController:
    """The size of the next batch from what a test asks for: it grows to that, and never shrinks.

    Parameters
    ----------
    initial
        The first batch's size, at least two: one estimate has no variance.
    largest
        No batch is larger. Once it is reached, nothing is tested any more: where it is the whole data set, the mean is
        exact.
    every
        A test each so many steps.
    multiple_of
        Sizes are rounded up to a multiple of this: of the number of devices times that of examples in a micro-batch.

    Raises
    ------
    ValueError
        For an initial size below two or above the largest, and for sizes that are no multiples.

    Examples
    --------
    >>> controller = BatchSizeController(8, 1000)
    >>> state = controller.init()
    >>> for required in (7.3, 30.2, 12.0, 5000.0):
    ...     state = controller.update(state, required)
    ...     print(state.size, bool(controller.due(state)))
    8 True
    31 True
    31 True
    1000 False
    """

    initial: int
    largest: int
    every: int = 1
    multiple_of: int = 1

    def __post_init__(self) -> None:
        if self.initial < 2:
            raise ValueError(f"initial must be at least 2, else there is no variance to test: given {self.initial}.")
        if self.largest < self.initial:
            raise ValueError(f"largest must be at least initial, {self.initial}: given {self.largest}.")
        for name in ("every", "multiple_of"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1: given {getattr(self, name)}.")
        for name in ("initial", "largest"):
            if getattr(self, name) % self.multiple_of:
                raise ValueError(
                    f"{name} must be a multiple of multiple_of, {self.multiple_of}: given {getattr(self, name)}."
                )

    def init(self) -> Control:
        """The state before the first step."""
        return Control(jnp.asarray(self.initial, jnp.int32), jnp.zeros((), jnp.int32), jnp.ones((), bool))

    def due(self, state: Control) -> Bool[Array, ""]:
        """Whether the batch of this step is to be tested."""
        return ((state.steps + 1) % self.every == 0) & (state.size < self.largest)

    def update(self, state: Control, required: Float[Array, ""] | float) -> Control:
        """The state after a step; what the test asks for counts where it was due.

        NaN, which is what comes of estimates that are not finite, raises `ValueError`. Where it cannot be seen, inside
        of `jax.jit`, the batch becomes the largest and the state says that it is not `sound`.
        """
        if concrete(required, state) and bool(jnp.isnan(required)) and bool(self.due(state)):
            raise ValueError("required must be a number: given NaN. Some estimate is not finite.")
        required = jnp.asarray(required)
        unknown = jnp.isnan(required)
        # what is larger than any batch is cut off before it becomes an integer
        wanted = jnp.where(unknown, self.largest, jnp.clip(required, 0, self.largest))
        wanted = -(-jnp.ceil(wanted).astype(jnp.int32) // self.multiple_of) * self.multiple_of
        due = self.due(state)
        size = jnp.where(due, jnp.maximum(state.size, wanted), state.size)
        return Control(size, state.steps + 1, state.sound & ~(due & unknown))


def padded_size(size: int) -> int:
    """The next power of two: the length of the arrays that hold a batch, so that few programs are compiled.

    Examples
    --------
    >>> [padded_size(size) for size in (1, 8, 9, 1500)]
    [1, 8, 16, 2048]
    """
    if size < 1:
        raise ValueError(f"size must be at least 1: given {size}.")
    return 1 << (size - 1).bit_length()


class Batches:
    """Examples for batches whose size changes, without replacement inside of a pass through the data.

    A pass goes through the data in an order of its own and ends where fewer examples are left than are asked for.

    Parameters
    ----------
    count
        The number of examples that there are.
    random
        NumPy's generator.
    fresh
        Whether every batch is a new sample from all examples, in place of passes.
    length
        That of the arrays of every batch. One program then serves all sizes; with a `micro_batch` a small batch costs
        little. If it is not given, it is a power of two that follows the size.

    Examples
    --------
    >>> import numpy as np
    >>> batches = Batches(10, np.random.default_rng(0))
    >>> indices, weights = batches.draw(6)
    >>> indices.shape, weights, len(set(indices[:6]))
    ((8,), array([1., 1., 1., 1., 1., 1., 0., 0.]), 6)
    """

    def __init__(self, count: int, random: np.random.Generator, *, fresh: bool = False, length: int | None = None):
        at_least("count", count, 1)
        self.count, self.random, self.fresh, self.length = count, random, fresh, length
        self._order, self._used = np.empty(0, int), 0

    def draw(self, size: int) -> tuple[Int[np.ndarray, " padded"], Float[np.ndarray, " padded"]]:
        """Indices of the next `size` examples, and weights: one for each, zero for what fills up the arrays."""
        if not 0 < size <= self.count:
            raise ValueError(f"size must be from 1 to {self.count}, the number of examples: given {size}.")
        length = padded_size(size) if self.length is None else self.length
        if size > length:
            raise ValueError(f"size must be at most {length}, the arrays' length: given {size}.")
        indices, weights = np.zeros(length, int), np.zeros(length)
        indices[:size] = self._drawn(size)
        weights[:size] = 1
        return indices, weights

    def _drawn(self, size: int) -> np.ndarray:
        if self.fresh:
            return self.random.choice(self.count, size, replace=False)
        if self._used + size > len(self._order):
            self._order, self._used = self.random.permutation(self.count), 0
        self._used += size
        return self._order[self._used - size : self._used]
