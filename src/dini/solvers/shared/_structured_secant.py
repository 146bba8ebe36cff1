"""The second order of residuals, learned from the steps: that of the Hessian, as in NL2SOL, and that of a path."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...trees.products import dot


class Secant(NamedTuple):
    r"""An estimate ``S`` of :math:`\sum_i r_i \nabla^2 r_i`, and what the last step shows of the residuals' path.

    ``used`` tells whether the last step was made with ``S``, ``other`` what the model that was not used predicted.
    ``jacobian``, transposed, and ``residuals`` are those of the accepted point. ``bend`` is :math:`J^\top r''(s, s)`
    along the last step ``s``, whether it was taken or not, ``moved``: from the residuals at both of its ends and the
    Jacobian at one,

    .. math:: r''(s, s) \approx 2 (r(x + s) - r(x) - J(x) s) \approx 2 (r(x) - r(x + s) + J(x + s) s) .
    """

    matrix: Any
    jacobian: Any
    used: Any
    other: Any
    residuals: Any
    bend: Any
    moved: Any

    @classmethod
    def empty(cls, size: int, outputs: int, dtype: Any) -> Secant:
        """Return the estimate zero."""
        zeros = jnp.zeros((size, size), dtype), jnp.zeros((size, outputs), dtype)
        none = jnp.zeros(outputs, dtype), jnp.zeros(size, dtype), jnp.zeros(size, dtype)
        return cls(*zeros, jnp.zeros((), bool), jnp.zeros((), dtype), *none)

    def bend_along(self, move: Any, scale: Any) -> Any:
        r"""Return :math:`J^\top r''(p, p)` along a step, of which the part along the last one is known.

        In the scaled unknowns that part is :math:`\alpha s`. In a valley one step is nearly parallel to the next.
        """
        s, p = scale * self.moved, scale * move
        squared = jnp.sum(s * s)
        share = jnp.sum(s * p) / jnp.where(squared > 0, squared, 1)
        return jax.lax.stop_gradient(jnp.where(squared > 0, share**2, 0)) * self.bend

    def chosen(self, actual: Any, predicted: Any) -> Any:
        """Return whether the next model has the estimate: it changes where the other predicts clearly better."""
        own, other = jnp.abs(actual - predicted), jnp.abs(actual - self.other)
        return jnp.where((1.5 * other < own) & (own > 0.25 * jnp.abs(actual)), ~self.used, self.used)

    def updated(self, s: Any, change: Any, wanted: Any) -> Any:
        r"""Return ``S`` after a step ``s`` with a change of the gradient, such that ``S s`` is what is wanted.

        ``S`` is first shrunk to the size of what it should be, for it vanishes where residuals do, and changes least
        in the norm that the Hessian scales.
        """
        # of unit vectors, products do not underflow, and nor do their derivatives
        length, s = _unit(s)
        _, change = _unit(change)
        image, wanted = dot(self.matrix, s), wanted / length
        size, target = jnp.sum(s * image), jnp.sum(s * wanted)
        shrink = jnp.minimum(1, jnp.abs(target) / jnp.where(size != 0, jnp.abs(size), 1))
        shrink = jnp.where(size != 0, shrink, 1)
        left = wanted - shrink * image
        v = jnp.where(jnp.sum(s * change) > 1e-8, change, s)
        along = jnp.sum(s * v)
        v = v / jnp.where(along != 0, along, 1)
        cross = left[:, None] * v[None, :]
        return shrink * self.matrix + cross + cross.T - jnp.sum(s * left) * v[:, None] * v[None, :]


def _unit(a: Any) -> tuple[Any, Any]:
    """Return the length of a vector (one of the vector zero), and the vector of unit length."""
    length = trees.norm(a)
    length = jnp.where(length > 0, length, 1)
    return length, a / length
