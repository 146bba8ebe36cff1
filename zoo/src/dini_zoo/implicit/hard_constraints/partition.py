"""The split of a mesh into equal boxes, one an expert."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class DomainPartition:
    """Equal boxes of a mesh that do not overlap.

    Parameters
    ----------
    experts
        The number of boxes along each axis of the mesh, such as `(1, 4)`: four along the second.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_zoo.implicit.hard_constraints import DomainPartition
    >>> boxes = DomainPartition((1, 2)).split(jnp.arange(8).reshape(2, 4))
    >>> print(boxes.shape, boxes[0].ravel())
    (2, 2, 2) [0 1 4 5]
    """

    experts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.experts or not all(isinstance(k, int) and k > 0 for k in self.experts):
            raise ValueError(
                f"DomainPartition's experts must be positive integers, one an axis of the mesh: given {self.experts!r}."
            )

    @property
    def count(self) -> int:
        """The number of experts."""
        return math.prod(self.experts)

    def split(self, tree: Any) -> Any:
        """Arrays of shape `(*mesh, ...)` as arrays of shape `(experts, *box, ...)`.

        Raises `ValueError` where the number of points on an axis is not a multiple of that of experts.
        """
        return jax.tree.map(self._split, tree)

    def merge(self, tree: Any) -> Any:
        """The inverse of `split`: arrays of shape `(experts, *box, ...)` as arrays of shape `(*mesh, ...)`."""
        return jax.tree.map(self._merge, tree)

    def _split(self, leaf: Any) -> Any:
        axes = len(self.experts)
        mesh = leaf.shape[:axes]
        if len(mesh) < axes or any(n % k for n, k in zip(mesh, self.experts, strict=True)):
            raise ValueError(
                f"DomainPartition's experts {self.experts} must divide the mesh: given an array of shape {leaf.shape}, "
                f"whose first {axes} axes are the mesh."
            )
        pairs = [size for n, k in zip(mesh, self.experts, strict=True) for size in (k, n // k)]
        order = [*range(0, 2 * axes, 2), *range(1, 2 * axes, 2)]
        order += range(2 * axes, axes + leaf.ndim)
        boxes = jnp.transpose(leaf.reshape(*pairs, *leaf.shape[axes:]), order)
        return boxes.reshape(self.count, *boxes.shape[axes:])

    def _merge(self, leaf: Any) -> Any:
        axes = len(self.experts)
        if leaf.ndim <= axes or leaf.shape[0] != self.count:
            raise ValueError(
                f"DomainPartition with experts {self.experts} merges arrays of shape ({self.count}, *box, ...), a box "
                f"of {axes} axes: given shape {leaf.shape}."
            )
        box, rest = leaf.shape[1 : axes + 1], leaf.shape[axes + 1 :]
        boxes = leaf.reshape(*self.experts, *box, *rest)
        order = [i for axis in range(axes) for i in (axis, axes + axis)]
        order += range(2 * axes, boxes.ndim)
        mesh = [k * n for k, n in zip(self.experts, box, strict=True)]
        return jnp.transpose(boxes, order).reshape(*mesh, *rest)
