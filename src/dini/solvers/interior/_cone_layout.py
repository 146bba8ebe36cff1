r"""The order in which the interior point method for cone programs keeps the rows: cones of one kind side by side.

The dual of an exponential or power cone is the cone itself in other coordinates, :math:`T K^* = K`: rows are multiplied
by ``T``, multipliers are those of ``K`` times :math:`T^\top`. Rows without a constraint are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...sets._blocks import Block, blocks
from ._barrier_cones import ExponentialCone, PowerCone
from ._symmetric_cones import NonNegativeCone, SecondOrderCone, SemidefiniteCone

_CONES: dict[str, Any] = {
    "nonnegative": NonNegativeCone(),
    "second-order": SecondOrderCone(),
    "semidefinite": SemidefiniteCone(),
    "exponential": ExponentialCone(),
    "power": PowerCone(),
}
_ORDER = ("zero", "nonnegative", "second-order", "semidefinite", "exponential", "power")


class Group:
    """Cones of one kind and size, as rows of one array of shape ``(count, size)``."""

    def __init__(self, first: int, members: list[Block]):
        self.first, self.kind, self.size, self.count = first, members[0].kind, members[0].size, len(members)
        self.dual, self.set = members[0].dual, members[0].cone
        self.cone: Any = _CONES.get(self.kind)
        exponents = [block.cone.alpha for block in members] if self.kind == "power" else [0.5] * len(members)
        self.alpha = jnp.stack([jnp.asarray(alpha, float) for alpha in exponents])

    @property
    def last(self) -> int:
        """The end of the group's rows."""
        return self.first + self.count * self.size

    @property
    def degree(self) -> int:
        """The parameter of the barrier."""
        return 0 if self.cone is None else self.count * self.cone.degree(self.size)

    def of(self, v: jax.Array) -> jax.Array:
        """Return the group's part of a vector, a row for each cone."""
        return v[self.first : self.last].reshape(self.count, self.size)

    def each(self, fun: Callable[..., Any], *arrays: Any) -> Any:
        """Apply a function of one cone's vectors, with its exponent at last, to all."""
        return jax.vmap(fun)(*arrays, self.alpha.astype(arrays[-1].dtype))

    def project(self, v: jax.Array, alpha: jax.Array) -> jax.Array:
        """Return the projection of one vector onto one cone."""
        if self.kind == "zero":
            return jnp.zeros_like(v)
        if self.kind == "power":
            return type(self.set)(alpha).project(v)
        if self.kind == "semidefinite":
            return self.set.on_vector(self.size)[0].project(v)
        return type(self.set)().project(v)

    def inward(self, rows: jax.Array, alpha: jax.Array) -> jax.Array:
        """Return the rows of one dual cone in the coordinates of the cone."""
        u, v, w = rows
        if self.kind == "exponential":
            return jnp.stack([u - v, -u, w])
        return jnp.stack([u / alpha, v / (1 - alpha), w])

    def outward(self, z: jax.Array, alpha: jax.Array) -> jax.Array:
        """Return the multipliers of one dual cone."""
        x, y, w = z
        if self.kind == "exponential":
            return jnp.stack([x - y, -x, w])
        return jnp.stack([x / alpha, y / (1 - alpha), w])


class Layout:
    """The groups of a cone's elementary cones; only the exponents of power cones are arrays."""

    def __init__(self, cone: Any, size: int):
        found: dict[Any, list[Block]] = {}
        for block in blocks(cone, size):
            if block.kind != "free":
                found.setdefault((_ORDER.index(block.kind), block.size, block.dual), []).append(block)
        self.given, self.groups = size, list[Group]()
        order: list[int] = []
        for key in sorted(found):
            self.groups.append(Group(len(order), found[key]))
            order += [block.first + i for block in found[key] for i in range(block.size)]
        self.order = np.array(order, int)
        sizes = [group.size for group in self.groups for _ in range(group.count)]
        self.ids = np.repeat(np.arange(len(sizes)), sizes) if sizes else np.zeros(0, int)

    @property
    def size(self) -> int:
        """The number of rows that are constrained."""
        return len(self.order)

    @property
    def degree(self) -> int:
        """The parameter of the barrier of all cones."""
        return sum(group.degree for group in self.groups)

    @property
    def cones(self) -> list[Group]:
        """The groups of cones with an interior: all but equations."""
        return [group for group in self.groups if group.cone is not None]

    def together(self, rows: jax.Array) -> jax.Array:
        """Return the largest element of each cone, in all of its places."""
        if self.size == 0 or self.ids[-1] + 1 == self.size:
            return rows
        return jax.ops.segment_max(rows, self.ids, int(self.ids[-1]) + 1)[self.ids]

    def join(self, parts: list[jax.Array], like: jax.Array) -> jax.Array:
        """Return a vector of the parts of all groups."""
        return jnp.concatenate([part.reshape(-1) for part in parts]) if parts else jnp.zeros(0, like.dtype)

    def inward(self, rows: jax.Array) -> jax.Array:
        """Return rows (of a matrix or a vector) in the order and coordinates of the groups."""
        return self._turned(rows[self.order], lambda group: group.inward)

    def outward(self, z: jax.Array) -> jax.Array:
        """Return multipliers in the order and coordinates of the program; zero where nothing is constrained."""
        return jnp.zeros(self.given, z.dtype).at[self.order].set(self._turned(z, lambda group: group.outward))

    def _turned(self, rows: jax.Array, turn: Callable[[Group], Callable[..., jax.Array]]) -> jax.Array:
        # concatenated again: XLA's CPU compiler may write an update into the rows that it still reads (openxla/xla
        # issue 49176), and then the cone is another one
        parts = [rows[group.first : group.last] for group in self.groups]
        for i, group in enumerate(self.groups):
            if group.dual:
                each = group.each(turn(group), parts[i].reshape(group.count, 3, *rows.shape[1:]))
                parts[i] = each.reshape(parts[i].shape)
        return jnp.concatenate(parts) if parts else rows

    def dense(self, blocks_of: list[jax.Array], dtype: Any) -> jax.Array:
        """Return a block-diagonal matrix from the blocks of each group, of shape ``(count, size, size)``."""
        matrix = jnp.zeros((self.size, self.size), dtype)
        for group, block in zip(self.groups, blocks_of, strict=True):
            rows = group.first + np.arange(group.count * group.size).reshape(group.count, group.size)
            matrix = matrix.at[rows[:, :, None], rows[:, None, :]].set(block)
        return matrix

    def center(self, dtype: Any) -> jax.Array:
        """Return the point whose barrier has the gradient minus itself; zero for equations."""
        parts: list[jax.Array] = []
        for group in self.groups:
            if group.cone is None:
                parts.append(jnp.zeros((group.count, group.size), dtype))
            else:
                one = lambda alpha, group=group: group.cone.center(group.size, dtype, alpha)
                parts.append(jax.vmap(one)(group.alpha.astype(dtype)))
        return self.join(parts, jnp.zeros(0, dtype))

    def project(self, v: jax.Array) -> jax.Array:
        """Return the projection onto the product of the cones."""
        return self.join([group.each(group.project, group.of(v)) for group in self.groups], v)

    def projection_blocks(self, v: jax.Array) -> list[jax.Array]:
        """Return the derivatives of the projections, of shape ``(count, size, size)`` for each group."""
        return [group.each(jax.jacfwd(group.project), group.of(v)) for group in self.groups]
