"""The sorted 1-norm (SLOPE)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..checks.records import record
from ..checks.settings import positive, require_all_positive, require_ordered
from ..numerics.isotonic import isotonic_regression
from ..numerics.separable import smallest
from ..sets._base import hold_arrays
from ..sets._order import onto_permutahedron
from ..trees import Tree
from ._base import Penalty, require_step, unbounded


@record
class SortedL1(Penalty):
    r"""The sorted 1-norm (SLOPE, OWL) :math:`\sum_i \lambda_i |x|_{(i)}`, with the largest :math:`|x|_{(1)}` first.

    Elements of like size get equal absolute values. Equal strengths give :class:`L1`, a first one alone gives
    :class:`LInf`.

    Proximal operator: the isotonic regression of the sorted :math:`|x| - \eta\lambda`, its positive part, back in place
    and with the signs of ``x`` (Bogdan et al. 2015). With a block ``B`` of equal positive values and the signs
    :math:`\sigma`, the derivative is :math:`\sigma_B (\sigma_B \cdot t_B)/|B|` in ``x`` and :math:`-\eta\,
    \mathrm{mean}(\dot\lambda_B)\,\sigma_B` in :math:`\lambda`.

    Parameters
    ----------
    strength
        :math:`\lambda_1 \ge \dots \ge \lambda_n \ge 0`: one number for each of the unknown's elements, or one for all.

    Raises
    ------
    ValueError
        If the strengths are negative, rise, or are not as many as the unknown's elements.

    References
    ----------
    Bogdan, van den Berg, Sabatti, Su, Candès, "SLOPE: adaptive variable selection via convex optimization", Annals of
    Applied Statistics 2015.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import SortedL1
    >>> print(SortedL1(jnp.array([2.0, 1.0, 0.5])).prox(jnp.array([-2.5, 4.0, 3.5]), 1.0))
    [-2.   2.25  2.25]
    """

    strength: Any

    monotone = True

    def __post_init__(self) -> None:
        hold_arrays(self, "strength")
        require_all_positive("SortedL1's strength", self.strength, or_zero=True)
        if isinstance(self.strength, jax.Array | np.ndarray) and self.strength.ndim == 1:
            require_ordered(
                "An element of SortedL1's strength", self.strength[1:], "the one before", self.strength[:-1]
            )

    def _sorted(self, x: Tree) -> Any:
        """Return sizes from the largest, their places and signs, the strengths, and the way back."""
        flat, unravel = ravel_pytree(x)
        sign = jax.lax.stop_gradient(jnp.sign(flat))
        size = sign * flat
        order = jnp.argsort(-size)
        strength = jnp.broadcast_to(jnp.asarray(positive(self.strength, or_zero=True), flat.dtype), flat.shape)
        # where the strengths are traced, rising ones show as NaN
        strength = strength * jnp.where(jnp.all(strength[1:] <= strength[:-1]), 1, jnp.nan).astype(flat.dtype)
        return size[order], order, sign, strength, unravel

    def value(self, x: Tree) -> jax.Array:
        """Return the weighted sum of the sorted sizes."""
        size, _, _, strength, _ = self._sorted(x)
        return jnp.sum(size * strength).astype(unbounded(x).dtype)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return ``x`` with its sizes lowered and pooled."""
        require_step(step_size)
        size, order, sign, strength, unravel = self._sorted(x)
        lowered = size - jnp.asarray(step_size, size.dtype) * strength
        pooled = isotonic_regression(lowered, increasing=False)
        left = jnp.where(pooled <= 0, jnp.zeros((), pooled.dtype), pooled)
        return unravel(sign * jnp.zeros_like(size).at[order].set(left))

    def _conjugate_prox(self, x: Tree, eta: jax.Array) -> Any:
        """Return the projection onto the ball of the dual norm: what the proximal operator of step one takes off.

        What is left of large elements is as onto the permutahedron of the strengths; nothing is taken off small ones.
        """
        del eta
        size, order, sign, strength, unravel = self._sorted(x)
        pooled = isotonic_regression(jax.lax.stop_gradient(size - strength), increasing=False)
        left = jnp.where(pooled <= 0, size, onto_permutahedron(size, strength))
        return unravel(sign * jnp.zeros_like(size).at[order].set(left))

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance from where blocks merge, split, vanish or appear, or a pooled element changes sign.

        A sum of the k largest of some elements has a gradient of norm sqrt(k); the mean of m elements one of norm
        1/sqrt(m). So each event has a plane and a distance from it.
        """
        size, _, _, strength, _ = self._sorted(x)
        n = size.shape[0]
        if n == 0:
            return unbounded(x)
        threshold = jnp.asarray(step_size, size.dtype) * strength
        lowered = size - threshold
        v = isotonic_regression(lowered, increasing=False)
        alive = v > 0
        numbers = jnp.cumsum(jnp.append(0, v[1:] != v[:-1]))
        sums = lambda u: jax.ops.segment_sum(u, numbers, n, indices_are_sorted=True)[numbers]
        m = sums(jnp.ones_like(v))
        vanish = jnp.where(alive, jnp.minimum(v * jnp.sqrt(m), size), jnp.inf)
        # the largest of the dead together, for every k of them
        dead = jnp.cumsum(jnp.where(alive, 0, 1))
        total = jnp.cumsum(jnp.where(alive, 0, lowered))
        appear = jnp.where(alive, jnp.inf, -total / jnp.sqrt(jnp.maximum(dead, 1)).astype(v.dtype))
        # elements of one strength that are alone pass each other as they please
        free = (m[1:] == 1) & (m[:-1] == 1) & (threshold[1:] == threshold[:-1])
        apart = (v[:-1] - v[1:]) / jnp.sqrt(1 / m[1:] + 1 / m[:-1])
        inside = v[1:] == v[:-1]
        places = jnp.arange(n, dtype=v.dtype)
        starts = jax.ops.segment_min(places, numbers, n, indices_are_sorted=True)[numbers]
        k = (places - starts + 1)[:-1]
        before = jnp.cumsum(lowered - v)[:-1]
        norm = jnp.sqrt(jnp.where(inside, k * (m[:-1] - k) / m[:-1], 1))
        within = jnp.maximum(-before, 0) / norm
        between = jnp.where(alive[1:], jnp.where(inside, within, jnp.where(free, jnp.inf, apart)), jnp.inf)
        kinks = smallest((vanish, appear, between), x)
        return jnp.where(jnp.all(threshold == 0), unbounded(x), kinks)

    def check(self, x: Tree) -> None:
        """Raise unless there is one strength for each element, or one for all."""
        n, shape = ravel_pytree(x)[0].shape[0], jnp.shape(self.strength)
        if shape not in ((), (n,)):
            raise ValueError(
                f"SortedL1's strength must be a scalar or one number for each of the {n} elements: given shape {shape}."
            )
