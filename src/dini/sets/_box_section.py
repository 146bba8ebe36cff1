"""The section of a box by a hyperplane."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.records import record
from ..checks.settings import known, require_ordered
from ..explanations import ends
from ..numerics.separable import leaves_like, map_with, require_broadcast, smallest
from ..status import SolveError, Status
from ..trees import Tree
from ._base import Set, believed, require_real


def _digits(y: jax.Array, value: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Return the sizes of the numbers that a point of the box is made of: rounding errors are in units of these."""
    free = (low < value) & (value < high)
    return jnp.where(free, jnp.maximum(jnp.abs(y), jnp.abs(value)), jnp.abs(value))


@jax.jit
def _multiplier(y: jax.Array, low: jax.Array, high: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    r"""Return a root of :math:`\phi(\tau) = a \cdot \mathrm{clip}(y + \tau a, l, u) - b`, which is nondecreasing.

    The function is piecewise linear. Newton's method is kept in a bracket; from a flat piece it continues from the next
    kink, and after a step that did not halve the error to the middle of the bracket. Elements with :math:`a_i = 0` have
    no part in it.
    """
    inf = jnp.asarray(jnp.inf, y.dtype)
    eps = jnp.finfo(y.dtype).eps

    def beyond_flat(v: Tree, tau: Any, phi: Any) -> Any:
        """Return where the piece after the next kink vanishes, if it were unbounded."""
        # elements at the bound that they leave as the multiplier grows
        rise = phi < 0
        up = (a > 0) == rise
        resting = (a != 0) & jnp.where(up, v <= low, v >= high)
        kinks = (jnp.where(up, low, high) - y) / jnp.where(a != 0, a, 1)
        # one that rounding puts behind is here
        far = jnp.where(resting, jnp.maximum(jnp.where(rise, kinks - tau, tau - kinks), 0), inf)
        next_ = jnp.min(far, initial=jnp.inf)
        slope = jnp.sum(jnp.where(far == next_, a * a, 0))
        return jnp.where(rise, tau + next_, tau - next_) - phi / jnp.where(slope > 0, slope, 1)

    def body(carry: Any) -> Any:
        count, tau, below, above, error, least, _ = carry
        v = y + tau * a
        value = jnp.clip(v, low, high)
        phi = jnp.sum(a * value) - b
        size = jnp.abs(phi)

        def rounding() -> Any:
            return 2 * eps * (jnp.sum(jnp.abs(a) * _digits(y, value, low, high)) + jnp.abs(b))

        # what rounding may leave is looked at where little is left
        small = (count == 0) | (size <= 1e3 * least)
        least = jax.lax.cond(small, rounding, lambda: least)
        rise = phi < 0
        below, above = jnp.where(rise, tau, below), jnp.where(rise, above, tau)
        slope = jnp.sum(jnp.where((low < v) & (v < high), a * a, 0))
        newton = lambda: tau - phi / jnp.where(slope > 0, slope, 1)
        new = jax.lax.cond(slope > 0, newton, lambda: beyond_flat(v, tau, phi))
        middle = 0.5 * (below + above)
        slow = (size > 0.5 * error) & jnp.isfinite(middle) & (count % 2 == 1)
        outside = ~((new > below) & (new < above)) & jnp.isfinite(middle)
        new = jnp.where(slow | outside, middle, new)
        # a flat piece without end: there is no root
        done = (size <= least) & small | ~(jnp.abs(new) < inf) | (new == tau)
        return count + 1, jnp.where(done, tau, new), below, above, size, least, done

    zero = jnp.zeros((), y.dtype)
    start = (jnp.zeros((), jnp.int32), zero, -inf, inf, inf, zero, jnp.asarray(False))
    return jax.lax.while_loop(lambda c: ~c[-1] & (c[0] < 300), body, start)[1]


@record
class BoxSection(Set):
    r"""The section :math:`\{x : l \le x \le u, \langle a, x \rangle = b\}` of a box by a hyperplane.

    Projection :math:`\mathrm{clip}(x + \tau a, l, u)` with the multiplier :math:`\tau` for which the equation holds,
    the root of a piecewise linear function of one variable; Newton's method in a bracket finds it exactly, without
    sorting. With the free elements :math:`I = \{l < p < u\}` the derivative is
    :math:`t_I - a_I \langle a_I, t_I \rangle / \|a_I\|^2` in ``x`` and :math:`\dot b\, a_I / \|a_I\|^2` in ``b``. The
    bounds and ``a`` are differentiated, too.

    Parameters
    ----------
    lower, upper
        Scalars, arrays that broadcast against ``x``, or trees like ``x``; ``None`` for no bound.
    normal
        ``a``, in the same forms.
    offset
        ``b``, a scalar.

    Raises
    ------
    ValueError
        If ``lower`` is above ``upper``, the set is empty (where all is known and has one shape; the projection is
        NaN otherwise), or the shapes do not fit.
    SolveError
        If the elements are so large that the bounds are negligible compared with them (NaN in a compiled function).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import BoxSection
    >>> print(BoxSection(0.0, 1.0, normal=1.0, offset=1.0).project(jnp.array([2.0, 0.5, 0.5])))
    [1. 0. 0.]
    """

    lower: Any = None
    upper: Any = None
    normal: Any = 1.0
    offset: Any = 1.0

    polyhedral = True

    def __post_init__(self) -> None:
        bounds = [self.lower, self.upper]
        if all(bound is None or not isinstance(bound, dict | list | tuple) for bound in bounds):
            low = -np.inf if self.lower is None else self.lower
            high = np.inf if self.upper is None else self.upper
            require_ordered("BoxSection's lower", low, "upper", high)
            # scalars alone do not say how many elements there are
            if known(low, high, self.normal, self.offset) and jnp.ndim(self.normal) > 0:
                self._require_section(*(np.asarray(v, float) for v in (low, high, self.normal)))

    def _require_section(self, low: Any, high: Any, a: Any) -> None:
        least, most = (np.where(a > 0, low, high), np.where(a > 0, high, low))
        with np.errstate(invalid="ignore"):
            least, most = (np.where(a != 0, a * end, 0) for end in (least, most))
        b = float(self.offset)
        # parameters may be in single precision
        slack = 1e-5 * (abs(b) + sum(np.sum(np.abs(end), where=np.isfinite(end)) for end in (least, most)))
        least, most = np.sum(least), np.sum(most)
        if not least - slack <= b <= most + slack:
            raise ValueError(
                f"BoxSection is empty: with x in its bounds, <normal, x> is in [{least}, {most}]: given offset {b}."
            )

    def _flat(self, x: Tree) -> Any:
        """Return everything as vectors, the offset, and the way back."""
        y, unravel = ravel_pytree(x)

        def flat(parameter: Any) -> jax.Array:
            full = map_with(lambda u, v: jnp.broadcast_to(v, u.shape), x, parameter)
            return ravel_pytree(full)[0].astype(y.dtype)

        low = flat(-jnp.inf if self.lower is None else self.lower)
        high = flat(jnp.inf if self.upper is None else self.upper)
        return y, low, high, flat(self.normal), jnp.asarray(self.offset, y.dtype), unravel

    def _solve(self, y: Any, low: Any, high: Any, a: Any, b: Any) -> tuple[jax.Array, ...]:
        """Return the projection, the multiplier, which elements are free, and the squared norm of their normal."""
        tau = jax.lax.stop_gradient(_multiplier(*jax.lax.stop_gradient((y, low, high, a, b))))
        v = y + tau * a
        under, over = v <= low, v >= high
        free = ~(under | over)
        # infinite bounds are never reached: keep them out of the sums
        bound = jnp.where(under, jnp.where(under, low, 0), jnp.where(over, high, 0))
        squared = jnp.sum(jnp.where(free, a * a, 0))
        rest = b - jnp.sum(a * jnp.where(free, y, bound))
        # solved once more on the free elements, where all of it is differentiable
        inverse = jnp.where(squared > 0, 1 / jnp.where(squared > 0, squared, 1), 0)
        tau = jnp.where(squared > 0, rest * inverse, tau)
        p = jnp.where(free, y + tau * a, bound)
        # and once more from there, where large elements have lost the digits of small ones
        p = p + jnp.where(free, a, 0) * (b - jnp.sum(a * p)) * inverse
        rounded = jax.lax.stop_gradient(jnp.clip(p, low, high) - p)
        return p + jnp.where(free, rounded, 0), tau, free, squared

    def project(self, x: Tree) -> Tree:
        """Find the multiplier, then solve for it on the free elements."""
        y, low, high, a, b, unravel = self._flat(x)
        p, *_ = self._solve(y, low, high, a, b)
        scale = jnp.sum(jnp.abs(a * p)) + jnp.abs(b)
        missed = jnp.abs(jnp.sum(a * p) - b)
        inside = jnp.all((low <= high) & (p >= low) & (p <= high))
        eps = jnp.finfo(y.dtype).eps
        # what the correction itself leaves, where all that is left is rounding
        least = 16 * eps**2 * jnp.sum(jnp.abs(a) * _digits(y, p, low, high))
        good = inside & (missed <= jnp.sqrt(eps) * scale + least)
        part = lambda end: jnp.sum(jnp.where(a != 0, a * end, 0))
        empty = ~((part(jnp.where(a > 0, low, high)) <= b) & (b <= part(jnp.where(a > 0, high, low))))
        return unravel(believed(p, (self, x), good, _failure, empty, missed))

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the distance from where an element meets or leaves a bound (exact while an element is free)."""
        y, low, high, a, b, _ = self._flat(x)
        _, tau, free, squared = self._solve(y, low, high, a, b)
        v = y + tau * a
        gap = jnp.where(low < high, jnp.minimum(jnp.abs(v - low), jnp.abs(v - high)), jnp.inf)
        # the multiplier moves by -a t / |a|^2 on the free elements, and not at all where none is free
        share = jnp.where(squared > 0, a * a / jnp.where(squared > 0, squared, 1), 0)
        slope = jnp.where(free, 1 - share, 1 + share)
        # one free element alone is held by the equation
        held = free & (slope <= 16 * jnp.finfo(y.dtype).eps)
        return smallest(jnp.where(held, jnp.inf, gap / jnp.sqrt(jnp.where(held, 1, slope))), x)

    def check(self, x: Tree) -> None:
        """Raise unless the shapes fit, the bounds are ordered and the section is not empty."""
        require_real("BoxSection", x)
        for name in ("lower", "upper", "normal"):
            require_broadcast("BoxSection", name, getattr(self, name), x)
        if jnp.ndim(self.offset) != 0:
            raise ValueError(f"BoxSection's offset must be a scalar: given shape {jnp.shape(self.offset)}.")
        low = -jnp.inf if self.lower is None else self.lower
        high = jnp.inf if self.upper is None else self.upper
        pairs = zip(*(jax.tree.leaves(leaves_like(bound, x)) for bound in (low, high)), strict=True)
        for one, other in pairs:
            require_ordered("BoxSection's lower", one, "upper", other)
        if trees.size(x) and known(low, high, self.normal, self.offset):
            parts = [
                np.concatenate(
                    [
                        np.broadcast_to(v, u.shape).ravel()
                        for v, u in zip(jax.tree.leaves(leaves_like(parameter, x)), jax.tree.leaves(x), strict=True)
                    ]
                )
                for parameter in (low, high, self.normal)
            ]
            self._require_section(*parts)


def _failure(empty: Any, missed: Any) -> Exception:
    if empty:
        return ValueError(
            "BoxSection is empty: no point between the bounds satisfies the equation, or a parameter is NaN."
        )
    remedy = ends.for_precision("scale them down, or compute in float64.", missed.dtype)
    return SolveError(
        f"The projection onto the BoxSection failed: the point violates the equation by {float(missed):.1e}. The "
        f"elements are too large, compared with the bounds, for their precision: {remedy}",
        Status.SINGULAR,
    )
