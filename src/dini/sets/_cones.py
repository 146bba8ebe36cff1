"""Convex cones, their duals, and products of cones over one vector."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import trees
from ..checks.records import record
from ..checks.settings import require_count
from ..trees import Tree
from ._base import Set, require_real
from ._bounds import NonNegative
from ._scalar import norm, unit_and_size


class Cone(Set):
    r"""Base of the closed convex cones.

    A cone ``K`` has a ``dual`` :math:`K^* = \{y : \langle x, y\rangle \ge 0 \text{ for all } x \in K\}`, and every
    point splits into orthogonal parts, :math:`x = \Pi_K(x) - \Pi_{K^*}(-x)` (Moreau).
    """

    @property
    def dual(self) -> Any:
        """The dual cone."""
        return DualCone(self)

    def support(self, direction: Tree) -> jax.Array:
        """Return 0 for a direction in the polar cone (to rounding), infinity for any other."""
        along, size = norm(self.project(direction)), norm(direction)
        return jnp.where(along <= 100 * trees.eps(direction) * size, 0.0, jnp.inf).astype(size.dtype)


@record
class Zero(Cone):
    """The cone that holds only zero; as the cone of a constraint, an equality. Its dual is :class:`Free`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Zero
    >>> Zero().project(jnp.array([-1.0, 2.0]))
    Array([0., 0.], dtype=float32)
    """

    elementwise = True
    polyhedral = True

    @property
    def dual(self) -> Any:
        """The whole space."""
        return Free()

    def project(self, x: Tree) -> Tree:
        """Return zero."""
        return trees.zeros_like(x)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return infinity: the projection is linear."""
        return jnp.full((), jnp.inf, trees.real_dtype(x))


@record
class Free(Cone):
    """The whole space: no constraint. Its dual is :class:`Zero`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Free
    >>> Free().project(jnp.array([-1.0, 2.0]))
    Array([-1.,  2.], dtype=float32)
    """

    elementwise = True
    polyhedral = True

    @property
    def dual(self) -> Any:
        """The cone of zero alone."""
        return Zero()

    def project(self, x: Tree) -> Tree:
        """Return ``x``."""
        return x

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return infinity: the projection is linear."""
        return jnp.full((), jnp.inf, trees.real_dtype(x))


class VectorCone(Cone):
    """Base of the cones of vectors: of the unknown, or of each slice along ``axis`` of an unknown of several axes."""

    axis: int | None
    #: the length of the vectors, where the cone fixes it
    length: int | None = None

    def _project(self, v: jax.Array) -> jax.Array:
        """Return the projection of one vector."""
        raise NotImplementedError

    def _kink_distance(self, v: jax.Array) -> jax.Array:
        """Return the distance of one vector to the nearest kink, or a lower bound."""
        raise NotImplementedError

    def _each(self, fun: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
        """Apply ``fun`` to each vector; what it returns for one stands where the vector stood."""
        self.check(x)
        if x.ndim == 1:
            return fun(x)
        rows = jnp.moveaxis(x, -1 if self.axis is None else self.axis, -1)
        out = jax.vmap(fun)(rows.reshape(-1, rows.shape[-1]))
        return out.reshape(rows.shape[:-1] + out.shape[1:])

    def project(self, x: Tree) -> Tree:
        """Return the projection of each vector."""
        out = self._each(self._project, x)
        return out if x.ndim == 1 else jnp.moveaxis(out, -1, -1 if self.axis is None else self.axis)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return a lower bound of the distance from ``x`` to the nearest point without a derivative."""
        return jnp.min(self._each(self._kink_distance, x))

    def separates_rows(self, x: jax.Array) -> bool:
        """Return whether the rows of ``x`` are in cones of their own."""
        return self.axis is not None and x.ndim > 1 and self.axis % x.ndim > 0

    def row(self, i: Any, x: jax.Array) -> Any:
        """Return the cone of one row."""
        del i
        assert self.axis is not None
        return dataclasses.replace(self, axis=self.axis % x.ndim - 1)  # pyright: ignore

    def on_vector(self, size: int) -> tuple[Any, tuple[int, ...]]:
        """Return the cone for a block of a vector, and the shape in which it takes the block."""
        if self.length is None:
            return self, (size,)
        if size % self.length:
            raise ValueError(f"{self.name} needs a block of a multiple of {self.length} elements: given {size}.")
        return dataclasses.replace(self, axis=-1), (size // self.length, self.length)  # pyright: ignore

    def check(self, x: Tree) -> None:
        """Raise unless ``x`` is one vector, or an array with the axis, of the cone's length."""
        if not hasattr(x, "ndim"):
            raise ValueError(f"{self.name} needs an unknown that is one array: given {jax.tree.structure(x)}.")
        require_real(self.name, x)
        if self.axis is None and x.ndim != 1:
            raise ValueError(
                f"{self.name} needs axis=... for an unknown that is not one-dimensional (axis=-1: each row is in a "
                f"cone): given shape {x.shape}."
            )
        if self.axis is not None and not -x.ndim <= self.axis < x.ndim:
            raise ValueError(f"{self.name}'s axis must be one of the unknown's {x.ndim} axes: given {self.axis}.")
        size = x.shape[-1 if self.axis is None else self.axis]
        if size == 0 or (self.length is not None and size != self.length):
            needed = "at least one element" if self.length is None else f"{self.length} elements"
            raise ValueError(f"{self.name} needs vectors of {needed}: given shape {x.shape}.")


@record
class SecondOrder(VectorCone):
    r"""The second-order cone :math:`\{(\tau, x) : \|x\|_2 \le \tau\}` of vectors whose first element is :math:`\tau`.

    The projection is the point itself inside, zero where :math:`\|x\| \le -\tau`, and
    :math:`\tfrac12 (1 + \tau/\|x\|)(\|x\|, x)` between. There, with :math:`\hat x = x/\|x\|` and
    :math:`\rho = \tau/\|x\|`, the Jacobian is :math:`\tfrac12 [[1, \hat x^\top], [\hat x, (1 + \rho) I - \rho \hat x
    \hat x^\top]]`. The cone is its own dual.

    Parameters
    ----------
    axis
        Each slice along this axis is in a cone. May be left out for a one-dimensional unknown.

    Raises
    ------
    ValueError
        If the unknown is not one array, or has several axes and ``axis`` is not given.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import SecondOrder
    >>> print(SecondOrder().project(jnp.array([0.0, 3.0, 4.0])))
    [2.5 1.5 2. ]
    """

    axis: int | None = field(default=None, metadata={"static": True})

    @property
    def dual(self) -> Any:
        """The cone itself."""
        return self

    def _project(self, v: jax.Array) -> jax.Array:
        unit, scale = unit_and_size(v)
        top, size = unit[0], trees.norm(unit[1:])
        inside, polar = size <= top, size <= -top
        outside = ~(inside | polar)
        # where it is not taken, the branch between is kept away from 0/0
        factor = 0.5 * (1 + jnp.where(outside, top, 1) / jnp.where(outside, size, 1))
        factor = jnp.where(inside, 1, jnp.where(polar, 0, factor))
        first = jnp.where(inside, v[0], jnp.where(polar, 0, 0.5 * scale * (size + top)))
        return jnp.concatenate([first[None], factor * v[1:]])

    def _kink_distance(self, v: jax.Array) -> jax.Array:
        return jnp.abs(norm(v[1:]) - jnp.abs(v[0])) / math.sqrt(2)


@record
class DualCone(Cone):
    r"""The dual of a cone; :math:`\Pi_{K^*}(x) = x + \Pi_K(-x)`.

    ``cone.dual`` gives it, or a plainer cone where there is one.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Exponential
    >>> print(Exponential().dual.project(jnp.array([-1.0, 1.0, -1.0])).round(2))
    [-0.77  1.09  0.07]
    """

    cone: Any

    @property
    def polyhedral(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the cone is a polyhedron: its dual is, too."""
        return self.cone.polyhedral

    @property
    def dual(self) -> Any:
        """The cone whose dual this is."""
        return self.cone

    def project(self, x: Tree) -> Tree:
        """Return ``x`` plus the projection of ``-x`` onto the cone."""
        return trees.add(x, self.cone.project(trees.neg(x)))

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the distance of ``-x`` from the kinks of the projection onto the cone."""
        return self.cone.kink_distance(trees.neg(x))

    def check(self, x: Tree) -> None:
        """Raise unless the cone fits ``x``."""
        self.cone.check(x)


def dual(cone: Any) -> Any:
    """Return the dual of a cone, :class:`NonNegative` included."""
    if isinstance(cone, NonNegative):
        return cone
    if isinstance(cone, Cone):
        return cone.dual
    raise TypeError(f"A cone is needed (of dini.sets: NonNegative, Zero, SecondOrder, ...): given {cone!r}.")


def _equal(one: Any, other: Any) -> bool:
    """Return whether two cones are the same for certain: equal settings, and the same arrays."""
    (leaves, structure), (others, other_structure) = map(jax.tree.flatten, (one, other))
    same = lambda a, b: a is b or (isinstance(a, int | float) and isinstance(b, int | float) and a == b)
    return structure == other_structure and all(map(same, leaves, others))


def _each(function: Callable[[Any], jax.Array], rows: jax.Array) -> jax.Array:
    """Return what a function makes of each row, as one program where there are several."""
    return function(rows[0])[None] if len(rows) == 1 else jax.vmap(function)(rows)


@record
class ConeProduct(Cone):
    r"""The product :math:`K_1 \times \dots \times K_k` over consecutive blocks of one vector.

    Parameters
    ----------
    cones
        A sequence of cones. A cone of vectors of fixed length (:class:`Exponential`, :class:`Power`) takes a block of a
        multiple of its length, cut into vectors of that length. :class:`PositiveSemidefinite` takes the scaled vector
        of a triangle, see :func:`svec`.
    sizes
        The length of each block.

    Raises
    ------
    ValueError
        If the blocks do not fit their cones, or do not add up to the unknown.
    TypeError
        If something else than a cone is given.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import ConeProduct, NonNegative, SecondOrder
    >>> cones = ConeProduct([NonNegative(), SecondOrder()], [2, 3])
    >>> print(cones.project(jnp.array([-1.0, 1.0, 0.0, 3.0, 4.0])))
    [0.  1.  2.5 1.5 2. ]
    """

    cones: Any
    sizes: tuple[int, ...] = field(metadata={"static": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "cones", tuple(self.cones))
        object.__setattr__(self, "sizes", tuple(self.sizes))
        for size in self.sizes:
            require_count("ConeProduct's sizes", size, 0)
        if len(self.cones) != len(self.sizes):
            raise ValueError(
                f"ConeProduct needs one size for each cone: given {len(self.cones)} cones and sizes {self.sizes}."
            )
        for cone, size in zip(self.cones, self.sizes, strict=True):
            dual(cone)  # raises for what is no cone
            self._block(cone, size)

    @property
    def polyhedral(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all of the cones are polyhedra."""
        return all(cone.polyhedral for cone in self.cones)

    @property
    def dual(self) -> Any:
        """The product of the duals."""
        return ConeProduct([dual(cone) for cone in self.cones], self.sizes)

    @staticmethod
    def _block(cone: Any, size: int) -> tuple[Any, tuple[int, ...]]:
        """Return the cone that acts on a block, and the shape in which it takes the block."""
        inner = cone.cone if isinstance(cone, DualCone) else cone
        adapt = getattr(inner, "on_vector", None)
        inner, shape = (inner, (size,)) if adapt is None or size == 0 else adapt(size)
        return (DualCone(inner) if isinstance(cone, DualCone) else inner), shape

    def _parts(self, x: jax.Array) -> list[tuple[Any, jax.Array]]:
        """Return each cone with its elements; of equal cones behind each other one, with a row for each."""
        self.check(x)
        runs: list[tuple[Any, tuple[int, ...], int]] = []
        for cone, size in zip(self.cones, self.sizes, strict=True):
            block, shape = self._block(cone, size)
            if size and runs and shape == runs[-1][1] and _equal(block, runs[-1][0]):
                runs[-1] = (*runs[-1][:2], runs[-1][2] + 1)
            elif size:
                runs.append((block, shape, 1))
        ends = np.cumsum([count * math.prod(shape) for _, shape, count in runs])
        rows = [x[end - count * math.prod(shape) : end].reshape(count, *shape)
                for (_, shape, count), end in zip(runs, ends.tolist(), strict=True)]  # fmt: skip
        return [(block, part) for (block, _, _), part in zip(runs, rows, strict=True)]

    def project(self, x: Tree) -> Tree:
        """Project each block onto its cone."""
        done = [_each(cone.project, part).reshape(-1) for cone, part in self._parts(x)]
        return jnp.concatenate(done) if done else x

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the smallest distance of a block from its cone's kinks."""
        distances = [jnp.min(_each(cone.kink_distance, part)) for cone, part in self._parts(x)]
        return jnp.min(jnp.stack(distances)) if distances else jnp.full((), jnp.inf, trees.real_dtype(x))

    def check(self, x: Tree) -> None:
        """Raise unless ``x`` is one vector of the blocks' total length."""
        shape = getattr(x, "shape", None)
        if shape != (sum(self.sizes),):
            raise ValueError(
                f"ConeProduct of sizes {self.sizes} needs a vector of {sum(self.sizes)} elements: "
                f"given {shape if shape is not None else jax.tree.structure(x)}."
            )
