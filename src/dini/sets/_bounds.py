"""Bounds on each element."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import known, positive, require_ordered, require_positive
from ..numerics.separable import leaves_like, map_with, require_broadcast, smallest
from ..trees import Tree
from ._base import Set, require_real


@record
class NonNegative(Set):
    r"""The nonnegative orthant :math:`\{x : x_i \ge 0\}`; projection :math:`\max(x, 0)`, derivative :math:`1[x > 0]`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import NonNegative
    >>> NonNegative().project(jnp.array([-1.0, 2.0]))
    Array([0., 2.], dtype=float32)
    """

    elementwise = True
    polyhedral = True

    def project(self, x: Tree) -> Tree:
        """Return ``max(x, 0)``."""
        return jax.tree.map(lambda u: jnp.where(u <= 0, jnp.zeros((), u.dtype), u), x)

    def project_kl(self, logits: Any) -> Tree:
        r"""Return :math:`e^{y}`."""
        return jax.tree.map(jnp.exp, logits)

    def bounds(self, x: Tree) -> tuple[Any, Any]:
        """Return zero and infinity in the shapes of ``x``."""
        return trees.zeros_like(x), jax.tree.map(lambda u: jnp.full_like(u, jnp.inf), x)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the smallest absolute value."""
        return smallest(jax.tree.map(jnp.abs, x), x)

    def support(self, direction: Tree) -> jax.Array:
        """Return zero for a direction without positive element, else infinity."""
        return jnp.where(-smallest(jax.tree.map(jnp.negative, direction), direction) > 0, jnp.inf, 0.0).astype(
            trees.real_dtype(direction)
        )

    def check(self, x: Tree) -> None:
        """Raise unless ``x`` is real."""
        require_real("NonNegative", x)


@record
class Box(Set):
    r"""The box :math:`\{x : l \le x \le u\}`.

    Projection :math:`\min(\max(x, l), u)`; its derivative is :math:`1[l < x < u]` in ``x``, :math:`1[x \le l]` in
    ``l``, :math:`1[x \ge u]` in ``u``.

    Parameters
    ----------
    lower, upper
        Scalars, arrays that broadcast against ``x``, or trees like ``x``; ``None`` for no bound.

    Raises
    ------
    ValueError
        If ``lower`` is above ``upper``, or a bound does not fit ``x``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Box
    >>> Box(0.0, 1.0).project(jnp.array([-1.0, 0.5, 2.0]))
    Array([0. , 0.5, 1. ], dtype=float32)
    """

    lower: Any = None
    upper: Any = None

    elementwise = True
    polyhedral = True

    def __post_init__(self) -> None:
        lower, upper = jax.tree.leaves(self.lower), jax.tree.leaves(self.upper)
        if len(lower) == len(upper):
            for low, high in zip(lower, upper, strict=True):
                require_ordered("Box's lower", low, "upper", high)

    def project(self, x: Tree) -> Tree:
        """Clip ``x`` to the bounds."""
        # comparisons with NaN are false: it has to pass, from the point as from the bounds
        p = x
        if self.lower is not None:
            p = map_with(lambda u, low: jnp.where((u > low) | (u != u), u, low), p, self.lower)
        if self.upper is not None:
            p = map_with(lambda u, high: jnp.where((u < high) | (u != u), u, high), p, self.upper)
        if self.lower is not None and self.upper is not None and not known(self.lower, self.upper):
            # below the lower bound is a point of an empty box only
            p = map_with(lambda u, low: jnp.where((u < low), jnp.nan, u), p, self.lower)
        return p

    def project_kl(self, logits: Any) -> Tree:
        r"""Clip :math:`e^{y}` to the bounds."""
        return self.project(jax.tree.map(jnp.exp, logits))

    def bounds(self, x: Tree) -> tuple[Any, Any]:
        """Return the lower and upper bounds in the shapes of ``x``, infinite where there is none."""
        full = lambda bound, missing: map_with(
            lambda u, b: jnp.broadcast_to(b, u.shape), x, missing if bound is None else bound
        )
        return full(self.lower, -jnp.inf), full(self.upper, jnp.inf)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the smallest distance of an element from a bound; where both bounds are equal there is no kink."""
        one = lambda u, low, high: jnp.where(low < high, jnp.minimum(jnp.abs(u - low), jnp.abs(u - high)), jnp.inf)
        return smallest(jax.tree.map(one, x, *self.bounds(x)), x)

    def support(self, direction: Tree) -> jax.Array:
        r"""Return :math:`\sum_i \max(l_i d_i, u_i d_i)`."""

        def one(d: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
            # zero times a bound that may be infinite: any point between them will do, and is the derivative there
            bound = jnp.where(d > 0, high, jnp.where(d < 0, low, jnp.clip(0, low, high)))
            return jnp.sum(d * bound)

        parts = jax.tree.leaves(jax.tree.map(one, direction, *self.bounds(direction)))
        return trees.total(parts) if parts else jnp.zeros((), trees.real_dtype(direction))

    def check(self, x: Tree) -> None:
        """Raise unless the bounds broadcast against ``x`` and are ordered."""
        require_real("Box", x)
        require_broadcast("Box", "lower", self.lower, x)
        require_broadcast("Box", "upper", self.upper, x)
        if self.lower is not None and self.upper is not None:
            pairs = zip(*(jax.tree.leaves(leaves_like(b, x)) for b in (self.lower, self.upper)), strict=True)
            for low, high in pairs:
                require_ordered("Box's lower", low, "upper", high)


class _ScalarBox(Set):
    """A box whose bounds come from one scalar."""

    elementwise = True
    polyhedral = True

    def _box(self) -> Box:
        raise NotImplementedError

    def project(self, x: Tree) -> Tree:
        """Clip ``x`` to the bounds."""
        return self._box().project(x)

    def project_kl(self, logits: Any) -> Tree:
        r"""Clip :math:`e^{y}` to the bounds."""
        return self._box().project_kl(logits)

    def bounds(self, x: Tree) -> tuple[Any, Any]:
        """Return the lower and upper bounds in the shapes of ``x``."""
        return self._box().bounds(x)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the smallest distance of an element from a bound (exact)."""
        return self._box().kink_distance(x)

    def support(self, direction: Tree) -> jax.Array:
        """Return the support function of the box."""
        return self._box().support(direction)


@record
class LInfBall(_ScalarBox):
    r"""The ball :math:`\{x : |x_i| \le r\}` of the largest absolute value.

    Projection: clip to :math:`[-r, r]`; derivative :math:`1[|x| < r]` in ``x``, :math:`\mathrm{sign}(x)` outside in
    ``r``.

    Raises
    ------
    ValueError
        If ``radius`` is not positive or not a scalar.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import LInfBall
    >>> print(LInfBall(1.0).project(jnp.array([-3.0, 0.5])))
    [-1.   0.5]
    """

    radius: Any = 1.0

    def __post_init__(self) -> None:
        require_positive("LInfBall's radius", self.radius)

    def _box(self) -> Box:
        radius = positive(self.radius)
        return Box(-radius, radius)

    def check(self, x: Tree) -> None:
        """Raise unless the radius is a scalar and ``x`` is real."""
        require_real("LInfBall", x)
        if jnp.ndim(self.radius) != 0:
            raise ValueError(f"LInfBall's radius must be a scalar: given shape {jnp.shape(self.radius)}.")


@record
class Hypercube(_ScalarBox):
    r"""The hypercube :math:`\{x : 0 \le x_i \le s\}`.

    Projection: clip to :math:`[0, s]`; derivative :math:`1[0 < x < s]` in ``x``, :math:`1[x > s]` in ``s``.

    Raises
    ------
    ValueError
        If ``side`` is not positive or not a scalar.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Hypercube
    >>> print(Hypercube().project(jnp.array([-3.0, 0.5, 2.0])))
    [0.  0.5 1. ]
    """

    side: Any = 1.0

    def __post_init__(self) -> None:
        require_positive("Hypercube's side", self.side)

    def _box(self) -> Box:
        return Box(0.0, positive(self.side))

    def check(self, x: Tree) -> None:
        """Raise unless the side is a scalar and ``x`` is real."""
        require_real("Hypercube", x)
        if jnp.ndim(self.side) != 0:
            raise ValueError(f"Hypercube's side must be a scalar: given shape {jnp.shape(self.side)}.")
