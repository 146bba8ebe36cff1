"""Total variation in one dimension."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from ..checks.records import record
from ..checks.settings import positive, require_positive
from ..deferred import Array, Float
from ..numerics.separable import smallest
from ..trees import Tree
from ._base import Penalty, require_step, total


@record
class TotalVariation(Penalty):
    r"""The total variation :math:`\lambda \sum_i |x_{i+1} - x_i|` along an axis: piecewise constant solutions.

    Proximal operator (the fused-lasso signal approximator): exact, in linear time for each slice, by dynamic
    programming (Johnson 2013). On each block ``B`` of equal elements it is :math:`\mathrm{mean}(y_B) + \eta\lambda(s_r
    - s_l)/|B|`, with the signs of the jumps out of the block on its right and into it on its left (zero at the ends).
    So the derivative is the mean over blocks in ``x``, and :math:`\eta(s_r - s_l)/|B|` in :math:`\lambda`.

    Parameters
    ----------
    strength
        :math:`\lambda \ge 0`, a scalar.
    axis
        The axis of every leaf along which differences are taken.

    Notes
    -----
    The steps along one slice are sequential; several slices, and lanes of ``jax.vmap``, go side by side. Measured
    on one core of a CPU in float64: 0.1 ms for 1,000 elements, 16 ms for 100,000, 26 ms for 64 slices of 1,000. (On a
    CPU, XLA copies the arrays of a batch in each step: for a few very long signals, ``jax.lax.map`` is faster.)

    References
    ----------
    Johnson, "A dynamic programming algorithm for the fused lasso and L0-segmentation", JCGS 2013.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import TotalVariation
    >>> print(TotalVariation(1.0).prox(jnp.array([0.0, 0.5, 4.0]), 1.0))
    [0.75 0.75 3.  ]
    """

    strength: Any = 1.0
    axis: int = field(default=-1, metadata={"static": True})

    def __post_init__(self) -> None:
        require_positive("TotalVariation's strength", self.strength, or_zero=True)

    def value(self, x: Tree) -> jax.Array:
        """Return the total variation."""
        return self.strength * total(jax.tree.map(lambda u: jnp.abs(jnp.diff(u, axis=self.axis)), x), x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the denoised ``x``."""
        require_step(step_size)
        threshold = jnp.asarray(step_size) * positive(self.strength, or_zero=True)

        def one(u: jax.Array) -> jax.Array:
            if u.size == 0 or u.shape[self.axis] == 1:
                return u
            slices, restore = _slices(u, self.axis)
            return restore(jax.vmap(_denoise, (0, None))(slices, threshold.astype(u.dtype)))

        return jax.tree.map(one, x)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance from where two blocks merge or one splits (exact)."""
        threshold = jnp.asarray(step_size) * self.strength

        def one(u: jax.Array) -> jax.Array:
            if u.size == 0 or u.shape[self.axis] == 1:
                return jnp.full((1,), jnp.inf, u.dtype)
            return jax.vmap(_distance, (0, None))(_slices(u, self.axis)[0], threshold.astype(u.dtype))

        return smallest(jax.tree.map(one, x), x)

    def check(self, x: Tree) -> None:
        """Raise unless the strength is a scalar and every leaf has the axis."""
        if jnp.ndim(self.strength) != 0:
            raise ValueError(f"TotalVariation's strength must be a scalar: given shape {jnp.shape(self.strength)}.")
        for leaf in jax.tree.leaves(x):
            if not -leaf.ndim <= self.axis < leaf.ndim:
                raise ValueError(
                    f"TotalVariation's axis must be an axis of every leaf: given {self.axis} for {leaf.shape}."
                )

    def separates_rows(self, x: jax.Array) -> bool:
        """Return whether differences are taken within rows only."""
        return x.ndim > 1 and self.axis % x.ndim > 0

    def row(self, i: Any, x: jax.Array) -> TotalVariation:
        """Return the penalty of one row."""
        del i
        return TotalVariation(self.strength, axis=self.axis % x.ndim - 1)


def _slices(u: jax.Array, axis: int) -> tuple[jax.Array, Any]:
    moved = jnp.moveaxis(u, axis, -1)
    return moved.reshape(-1, moved.shape[-1]), lambda flat: jnp.moveaxis(flat.reshape(moved.shape), -1, axis)


@jax.jit
def _solve(y: Float[Array, " n"], threshold: Float[Array, ""]) -> Float[Array, " n"]:
    r"""Return the minimizer of :math:`\tfrac12\|x - y\|^2 + t \sum_i |x_{i+1} - x_i|`.

    Let :math:`D_i(b)` be the derivative of the least objective over the first ``i`` elements with the last one fixed at
    ``b``. Then :math:`D_1(b) = b - y_1` and :math:`D_{i+1}(b) = \mathrm{clip}(D_i(b), -t, t) + b - y_{i+1}`: increasing
    and piecewise linear. Clipping drops knots at both ends and adds one at each, so that all steps together drop less
    than :math:`2n`. The last element is the root of :math:`D_n`; each earlier one is the later one clipped to the
    interval on which :math:`|D_i| \le t`.

    All this is one loop of a fixed number of turns, each of which drops one knot or fixes one end. So under ``vmap``
    no lane holds a copy of its arrays to wait for another one.
    """
    n = y.shape[0]
    one = jnp.ones((), y.dtype)
    # knots, from the middle outwards: place, and what slope and offset of D gain there; the last row takes no knot
    knots = jnp.zeros((2 * n + 1, 3), y.dtype)
    intervals = jnp.zeros((n, 2), y.dtype)
    middle = jnp.asarray(n, jnp.int32)
    start = (knots, intervals, jnp.zeros_like(middle), jnp.asarray(True), middle, middle, one, -y[0], one, -y[0], -one)

    def turn(_: Any, carry: Any) -> Any:
        knots, intervals, i, left, low, high, slope, offset, slope_left, offset_left, bottom = carry
        last = i == n - 1
        level = jnp.where(last, 0, jnp.where(left, -threshold, threshold))
        # read by a gather: after a dynamic slice, XLA would copy the knots before it writes
        place, gain, shift = knots.reshape(-1)[3 * jnp.where(left, low, high - 1) + jnp.arange(3)]
        here = slope * place + offset
        drop = (low < high) & jnp.where(left, here < level, here > level)
        # where D takes the level, if no knot is dropped
        crossing = (level - offset) / slope
        intervals = jax.lax.dynamic_update_index_in_dim(intervals, jnp.stack([bottom, crossing]), i, 0)
        push = ~drop & ~left
        for at, row in (
            (low - 1, [bottom, slope_left, offset_left + threshold]),
            (high, [crossing, -slope, threshold - offset]),
        ):
            at = jnp.where(push, at, 2 * n)
            knots = jax.lax.dynamic_update_index_in_dim(knots, jnp.stack(row), at, 0)
        sign = jnp.where(left, 1, -1).astype(y.dtype)
        left_done = ~drop & left
        coming = y[jnp.minimum(i + 1, n - 1)]
        # the right end begins with the rightmost line, the next element with the leftmost one
        right_line = jnp.where(i == 0, 0, threshold) - y[i]
        return (
            knots,
            intervals,
            i + push,
            jnp.where(drop | last, left, ~left),
            jnp.where(drop & left, low + 1, jnp.where(push, low - 1, low)),
            jnp.where(drop & ~left, high - 1, jnp.where(push, high + 1, high)),
            jnp.where(drop, slope + sign * gain, jnp.where(last, slope, one)),
            jnp.where(
                drop,
                offset + sign * shift,
                jnp.where(last, offset, jnp.where(left_done, right_line, -threshold - coming)),
            ),
            jnp.where(left_done, slope, slope_left),
            jnp.where(left_done, offset, offset_left),
            jnp.where(left_done, crossing, bottom),
        )

    _, intervals, _, _, _, _, slope, offset, *_ = jax.lax.fori_loop(0, 4 * n, turn, start)
    last = -offset / slope

    def backward(later: jax.Array, interval: jax.Array) -> Any:
        here = jnp.clip(later, interval[0], interval[1])
        return here, here

    _, earlier = jax.lax.scan(backward, last, intervals[:-1], reverse=True)
    return jnp.append(earlier, last)


def _blocks(y: jax.Array, threshold: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the number of each element's block and the signs of the jumps: constants of differentiation."""
    y, threshold = jax.lax.stop_gradient((y, threshold))
    # centered, for the offsets are sums of many elements
    jumps = jnp.sign(jnp.diff(_solve(y - jnp.mean(y), threshold)))
    numbers = jnp.cumsum(jnp.append(0, jumps != 0))
    return numbers, jax.lax.stop_gradient(jumps)


def _sums(v: jax.Array, numbers: jax.Array) -> jax.Array:
    return jax.ops.segment_sum(v, numbers, v.shape[0], indices_are_sorted=True)


def _denoise(y: jax.Array, threshold: jax.Array) -> jax.Array:
    numbers, jumps = _blocks(y, threshold)
    counts = jnp.maximum(_sums(jnp.ones_like(y), numbers), 1)
    pull = threshold * jnp.diff(jumps, prepend=0, append=0)
    # center the blocks' sums: their rounding is then relative to the spread and not to the level
    level = jax.lax.stop_gradient(jnp.mean(y))
    return (_sums(y - level + pull, numbers) / counts)[numbers] + level


def _distance(y: jax.Array, threshold: jax.Array) -> jax.Array:
    """Return the distance to the nearest of the planes that bound the region of this division into blocks.

    Two blocks merge where their means meet: the difference of the means has a gradient of norm sqrt(1/m + 1/m'). A
    block splits after its k-th of m elements where the multiplier, a sum of residuals, meets the threshold; its
    gradient has the norm sqrt(k (m - k) / m).
    """
    numbers, jumps = _blocks(y, threshold)
    x = _denoise(y, threshold)
    counts = _sums(jnp.ones_like(y), numbers)[numbers]
    merge = jnp.abs(jnp.diff(x)) / jnp.sqrt(1 / counts[1:] + 1 / counts[:-1])
    multipliers = jnp.cumsum(y - x)[:-1]
    places = jnp.arange(y.shape[0], dtype=y.dtype)
    starts = jax.ops.segment_min(places, numbers, y.shape[0], indices_are_sorted=True)[numbers]
    k, m = (places - starts + 1)[:-1], counts[:-1]
    inside = jumps == 0
    norm = jnp.sqrt(jnp.where(inside, k * (m - k) / m, 1))
    split = jnp.maximum(threshold - jnp.abs(multipliers), 0) / norm
    return jnp.where(threshold > 0, jnp.min(jnp.where(inside, split, merge)), jnp.inf)
