"""What a convex set gives: its indicator and its support function, and the maximum norm."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.records import record
from ..checks.settings import positive, require_positive
from ..sets import L1Ball, Set, project_simplex
from ..sets._balls import onto_l1_ball
from ..trees import Tree
from ._base import Penalty, require_step, unbounded


class _OfSet(Penalty):
    """A penalty that holds a set."""

    set: Any

    def __post_init__(self) -> None:
        # an empty place, as in a tree of axes for vmap, passes
        if callable(self.set) or isinstance(self.set, Penalty | jax.Array | str):
            raise TypeError(f"{self.name} needs a set of dini.sets: given {self.set!r}.")

    @property
    def elementwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the set is."""
        return self.set.elementwise

    def check(self, x: Tree) -> None:
        """Raise unless the set fits ``x``."""
        if not isinstance(self.set, Set):
            raise TypeError(f"{self.name} needs a set of dini.sets: given {self.set!r}.")
        self.set.check(x)

    def closed(self, x: Tree) -> Any:
        """Return the penalty with everything that the set's functions close over made explicit."""
        return dataclasses.replace(self, set=self.set.closed(x))  # pyright: ignore[reportArgumentType]

    def separates_rows(self, x: jax.Array) -> bool:
        """Return whether the set does."""
        return self.set.separates_rows(x)

    def row(self, i: Any, x: jax.Array) -> Any:
        """Return the penalty of one row."""
        return dataclasses.replace(self, set=self.set.row(i, x))  # pyright: ignore[reportArgumentType]


@record
class Indicator(_OfSet):
    r"""The indicator of a set ``C``: zero on it, infinite elsewhere.

    Proximal operator: the projection onto ``C``, whatever the step size. So a set can stand where a penalty is asked
    for, as a part of :class:`Product` for instance.

    Parameters
    ----------
    set
        A set of :mod:`dini.sets`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini import sets
    >>> from dini.penalties import Indicator
    >>> Indicator(sets.NonNegative()).prox(jnp.array([-1.0, 2.0]), 1.0)
    Array([0., 2.], dtype=float32)
    """

    set: Any

    @property
    def convex(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the set is."""
        return self.set.convex

    def value(self, x: Tree) -> jax.Array:
        """Return zero where ``x`` is in the set up to the root of the rounding unit, infinity elsewhere."""
        near = self.set.residual(x) <= trees.eps(x) ** 0.5 * (1 + trees.norm(x))
        return jnp.where(near, 0, jnp.inf).astype(trees.real_dtype(x))

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the projection."""
        require_step(step_size)
        return self.set.project(x)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the set's distance."""
        del step_size
        return self.set.kink_distance(x)


@record
class SupportFunction(_OfSet):
    r"""The support function :math:`\sigma_C(x) = \sup_{p \in C} \langle p, x \rangle` of a convex set ``C``.

    Proximal operator by Moreau's identity: :math:`x - \eta\,\Pi_C(x/\eta)`; its derivative is :math:`I - P` with the
    derivative ``P`` of the projection. Every norm is one (of the dual norm's unit ball), so is every positively
    homogeneous convex function.

    Parameters
    ----------
    set
        A set of :mod:`dini.sets`. The value needs its ``support``; the proximal operator its projection only.

    Examples
    --------
    The largest element, whose proximal operator lowers the top:

    >>> import jax.numpy as jnp
    >>> from dini import sets
    >>> from dini.penalties import SupportFunction
    >>> largest = SupportFunction(sets.Simplex())
    >>> x = jnp.array([3.0, 1.0, 2.5])
    >>> print(largest.value(x), largest.prox(x, 1.0))
    3.0 [2.25 1.   2.25]
    """

    set: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        if not getattr(self.set, "convex", True):
            raise ValueError(f"SupportFunction needs a convex set: given {self.set.name}.")

    def value(self, x: Tree) -> jax.Array:
        """Return the support function."""
        return self.set.support(x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return what the projection leaves."""
        require_step(step_size)
        return _moreau(self.set, x, jnp.asarray(step_size))

    def _conjugate_prox(self, x: Tree, eta: jax.Array) -> Any:
        """Return the projection."""
        del eta
        return self.set.project(x)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the set's distance, scaled."""
        eta = jnp.asarray(step_size)
        return (eta * self.set.kink_distance(trees.scale(1 / eta, x))).astype(trees.real_dtype(x))


def _moreau(part: Any, x: Tree, eta: jax.Array) -> Any:
    return trees.axpy(-eta, part.project(trees.scale(1 / eta, x)), x)


@record
class LInf(Penalty):
    r"""The maximum norm :math:`\lambda \|x\|_\infty` of the whole unknown.

    Proximal operator by Moreau's identity: ``x`` less its projection onto the 1-norm ball of radius
    :math:`\eta\lambda`, which cuts all elements off at one level :math:`\pm\tau`. With the set ``S`` of those that are
    cut and :math:`\sigma = \mathrm{sign}(x)`, the derivative is the identity outside ``S`` and
    :math:`\sigma_S(\sigma_S \cdot t_S)/|S|` on it, and :math:`-\eta\sigma_S/|S|` in :math:`\lambda`.

    Parameters
    ----------
    strength
        :math:`\lambda \ge 0`, a scalar.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import LInf
    >>> print(LInf(1.0).prox(jnp.array([3.0, -2.5, 1.0]), 1.0))
    [ 2.25 -2.25  1.  ]
    """

    strength: Any = 1.0

    monotone = True

    def __post_init__(self) -> None:
        require_positive("LInf's strength", self.strength, or_zero=True)

    def value(self, x: Tree) -> jax.Array:
        """Return the largest absolute value."""
        return (self.strength * trees.max_abs(x)).astype(trees.real_dtype(x))

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return ``x`` cut off at a level."""
        require_step(step_size)
        flat, unravel = ravel_pytree(x)
        if not flat.size:
            return x
        radius = (jnp.asarray(step_size) * positive(self.strength, or_zero=True)).astype(flat.dtype)
        sign = jax.lax.stop_gradient(jnp.sign(flat))
        size = sign * flat
        inside = jnp.sum(size) <= radius
        return unravel(jnp.where(inside, jnp.zeros((), flat.dtype), sign * (size - project_simplex(size, radius))))

    def _conjugate_prox(self, x: Tree, eta: jax.Array) -> Any:
        """Return the projection onto the 1-norm ball."""
        del eta
        return onto_l1_ball(x, positive(self.strength, or_zero=True))

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance from where another element is cut off (exact)."""
        radius = jnp.asarray(step_size) * self.strength
        positive = radius > 0
        distance = L1Ball(jnp.where(positive, radius, 1)).kink_distance(x)
        return jnp.where(positive, distance, unbounded(x))

    def check(self, x: Tree) -> None:
        """Raise unless the strength is a scalar."""
        del x
        if jnp.ndim(self.strength) != 0:
            raise ValueError(f"LInf's strength must be a scalar: given shape {jnp.shape(self.strength)}.")
