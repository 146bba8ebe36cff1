"""How far a point is from a solution of a quadratic program in its own units, and whether there is one."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from ..products import vdot
from ._scaled_program import Scaled


def _largest(v: Any) -> Any:
    return jnp.max(jnp.abs(v), initial=0)


class Point(NamedTuple):
    r"""A point ``v``, the product :math:`S v` and that of ``Q`` with ``x``."""

    v: Any
    image: Any
    curved: Any

    @classmethod
    def of(cls, data: Scaled, *points: Any) -> list[Point]:
        """Evaluate some points with one product."""
        n = data.n
        lone = [jnp.concatenate([v[:n], jnp.zeros_like(v[n:])]) for v in points]
        images = data.product(jnp.stack([*points, *lone], axis=1))
        return [cls(v, images[:, i], images[:n, len(points) + i]) for i, v in enumerate(points)]

    def left(self, data: Scaled, scale: Any = 1) -> Any:
        """Return what the conditions leave, with dead rows left out."""
        left = self.image - scale * data.offset
        return jnp.concatenate([left[: data.n], jnp.where(data.used, left[data.n :], 0)])

    def _stationarity(self, data: Scaled, left: Any) -> Any:
        """Return the residual of stationarity beside its terms."""
        n, eps = data.n, jnp.finfo(left.dtype).eps
        terms = jnp.maximum(_largest(self.curved), _largest(data.offset[:n]))
        terms = jnp.maximum(terms, _largest(self.image[:n] - self.curved))
        # multipliers that cancel leave rounding errors of their own
        many = jnp.maximum(1, _largest(jnp.where(data.used, self.v[n:], 0)))
        return _largest(left[:n]) / jnp.maximum(terms, eps**0.5 * many)

    def _beside(self, data: Scaled, violation: Any) -> Any:
        """Return the largest violation of a row, each beside its own terms."""
        n, eps = data.n, jnp.finfo(violation.dtype).eps
        size = jnp.maximum(jnp.abs(self.image[n:]), jnp.abs(data.offset[n:]))
        return _largest(violation / jnp.maximum(size, jnp.maximum(_largest(self.v[:n]), eps**0.5)))

    def central_error(self, data: Scaled, slack: Any) -> Any:
        """Return the error of a point inside of the inequalities, with the duality gap."""
        n, eps = data.n, jnp.finfo(slack.dtype).eps
        left = self.left(data)
        gap = vdot(jnp.where(data.live, slack, 0), jnp.where(data.live, self.v[n:], 0))
        value = jnp.maximum(jnp.abs(vdot(self.v[:n], self.curved)), jnp.abs(vdot(data.offset[:n], self.v[:n])))
        gap = gap / jnp.maximum(value, eps**0.5)
        rows = self._beside(data, left[n:] + jnp.where(data.live, slack, 0))
        return jnp.maximum(jnp.maximum(self._stationarity(data, left), rows), gap)

    def vertex_error(self, data: Scaled, active: Any) -> Any:
        """Return the error of a point on the face where some inequalities hold with equality."""
        n, eps = data.n, jnp.finfo(self.v.dtype).eps
        left = self.left(data)
        broken = jnp.where(active | data.fixed, left[n:], jnp.maximum(left[n:], 0))
        wrong = jnp.where(data.live, jnp.maximum(-self.v[n:], 0), 0)
        size = jnp.maximum(_largest(self.v[n:]), jnp.maximum(_largest(data.offset[:n]), eps**0.5))
        error = jnp.maximum(self._stationarity(data, left), self._beside(data, broken))
        return jnp.maximum(error, _largest(wrong) / size)


def certificates(data: Scaled, at: Point) -> tuple[Any, Any]:
    r"""Return whether ``w`` shows that no point is feasible, and ``x`` that the objective falls without bound.

    The first has :math:`C^\top w = 0` and :math:`h^\top w < 0`, the second is a ray, :math:`Qx = 0` and
    :math:`Cx \le 0` (zero for equalities), with :math:`c^\top x < 0`; each up to a small multiple of the number that
    is negative.
    """
    n = data.n
    tol = 0.1 * jnp.finfo(at.v.dtype).eps ** 0.5
    contradiction = -vdot(jnp.where(data.used, data.offset[n:], 0), at.v[n:])
    primal = (contradiction > 0) & (_largest(at.image[:n] - at.curved) <= tol * contradiction)
    fall, rows = vdot(data.offset[:n], at.v[:n]), at.image[n:]
    rows = jnp.where(data.live, jnp.maximum(rows, 0), jnp.where(data.fixed, rows, 0))
    return primal, (fall > 0) & (jnp.maximum(_largest(at.curved), _largest(rows)) <= tol * fall)
