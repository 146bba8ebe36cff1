"""Sets that are moved or scaled."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import positive, require_positive
from ..numerics.separable import map_with, require_broadcast
from ..trees import Tree
from ._base import Set


def _require_set(owner: str, base: Any) -> None:
    if not isinstance(base, Set):
        raise TypeError(f"{owner} needs a set of dini.sets as its base: given {base!r}.")


class _Moved(Set):
    """A set made of another, its ``base``, with the base's properties."""

    base: Any

    @property
    def elementwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the base treats each element of the unknown on its own."""
        return self.base.elementwise

    @property
    def convex(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the base is convex."""
        return self.base.convex

    @property
    def polyhedral(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the base is a polyhedron."""
        return self.base.polyhedral

    def closed(self, x: Tree) -> Any:
        """Return the set with a closed base."""
        return dataclasses.replace(self, base=self.base.closed(x))  # pyright: ignore[reportArgumentType]


@record
class Shifted(_Moved):
    r"""The set ``base`` moved by ``center``, :math:`c + C = \{c + p : p \in C\}`.

    Projection :math:`c + \Pi_C(x - c)`; derivative :math:`\Pi_C' t` in ``x`` and :math:`(I - \Pi_C')\,\dot c` in the
    center.

    Parameters
    ----------
    base
        A set.
    center
        A scalar or array that broadcasts against ``x``, or a tree like ``x``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import L2Ball, Shifted
    >>> print(Shifted(L2Ball(1.0), jnp.array([1.0, 0.0])).project(jnp.array([5.0, 0.0])))
    [2. 0.]
    """

    base: Any
    center: Any

    def __post_init__(self) -> None:
        _require_set("Shifted", self.base)

    def _back(self, x: Tree) -> Any:
        return map_with(lambda u, c: u - c, x, self.center)

    def project(self, x: Tree) -> Tree:
        """Project about the center."""
        return map_with(lambda u, c: u + c, self.base.project(self._back(x)), self.center)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the base's distance of the point seen from the center."""
        return self.base.kink_distance(self._back(x))

    def support(self, direction: Tree) -> jax.Array:
        r"""Return :math:`\langle c, d \rangle + \sigma_C(d)`."""
        along = map_with(lambda d, c: jnp.broadcast_to(c, d.shape), direction, self.center)
        return trees.vdot(along, direction) + self.base.support(direction)

    def check(self, x: Tree) -> None:
        """Raise unless the center broadcasts against ``x`` and the base fits."""
        require_broadcast("Shifted", "center", self.center, x)
        self.base.check(x)


@record
class Scaled(_Moved):
    r"""The set ``base`` scaled about zero, :math:`s C = \{s p : p \in C\}` with a positive number ``s``.

    Projection :math:`s\, \Pi_C(x/s)`; derivative :math:`\Pi_C' t` in ``x`` and
    :math:`\Pi_C(x/s) - \Pi_C'\, x / s` in the factor.

    Parameters
    ----------
    base
        A set.
    factor
        ``s``, a positive scalar.

    Raises
    ------
    ValueError
        If ``factor`` is not positive or not a scalar.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Scaled, Simplex
    >>> print(Scaled(Simplex(), 2.0).project(jnp.array([3.0, 1.0])))
    [2. 0.]
    """

    base: Any
    factor: Any

    def __post_init__(self) -> None:
        _require_set("Scaled", self.base)
        require_positive("Scaled's factor", self.factor)

    def project(self, x: Tree) -> Tree:
        """Project at the scale of the base."""
        factor = positive(self.factor)
        return trees.scale(factor, self.base.project(trees.scale(1 / factor, x)))

    def project_kl(self, logits: Any) -> Tree:
        r"""Return :math:`s` times the base's projection of :math:`y - \log s`."""
        factor = positive(self.factor)
        shifted = map_with(lambda y, s: y - jnp.log(s), logits, factor)
        return trees.scale(factor, self.base.project_kl(shifted))

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the base's distance, scaled."""
        far = self.base.kink_distance(trees.scale(1 / self.factor, x))
        return jnp.asarray(self.factor).astype(far.dtype) * far

    def support(self, direction: Tree) -> jax.Array:
        r"""Return :math:`s\, \sigma_C(d)`."""
        return jnp.asarray(self.factor).astype(trees.real_dtype(direction)) * self.base.support(direction)

    def check(self, x: Tree) -> None:
        """Raise unless the factor is a scalar and the base fits."""
        if jnp.ndim(self.factor) != 0:
            raise ValueError(f"Scaled's factor must be a scalar: given shape {jnp.shape(self.factor)}.")
        self.base.check(x)
