"""Isotonic regression: pooling adjacent violators, by halves."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ..checks.settings import positive, require_all_positive
from ..deferred import Array, Float
from ..trees import Tree


def isotonic_regression(
    y: Float[Array, "*shape"], weights: Any = None, *, increasing: bool = True, axis: int = -1
) -> Float[Array, "*shape"]:
    r"""Return the closest monotone sequence, :math:`\arg\min_{v_1 \le \dots \le v_n} \sum_i w_i (v_i - y_i)^2`.

    The solution is constant on blocks of neighbors, where it is the (weighted) mean of ``y``. It is found by halves:
    the solutions of two neighboring segments are joined by pooling the end of the left one with the beginning of the
    right one at one level :math:`c`, which clips the left from above and the right from below. The level is the root
    of the decreasing, piecewise linear function :math:`\sum_{\text{left}} w_i (v_i - c)_+ - \sum_{\text{right}}
    w_i (c - v_i)_+`, found by a bracketed Newton method for all pairs of segments at once. Nothing is sorted, and the
    cost is :math:`O(n \log n)` in vectorized operations.

    **Derivative.** On a block ``B``: :math:`\dot v_B = \sum_B (w_i \dot y_i + \dot w_i (y_i - v_B)) / \sum_B w_i`.

    Parameters
    ----------
    y
        The sequence, or an array of sequences along ``axis``.
    weights
        Positive, broadcast against ``y``; equal by default. Traced ones that are not positive give NaN.
    increasing
        Whether the result rises (or falls) along the axis.
    axis
        The axis of the sequence.

    Raises
    ------
    ValueError
        If a weight is not positive, or the weights do not broadcast against ``y``.
    TypeError
        If ``y`` is complex.

    References
    ----------
    Best and Chakravarti, "Active set algorithms for isotonic regression", 1990. The KL variant of Blondel et al.,
    "Fast differentiable sorting and ranking", 2020, is the logarithm of the regression on :math:`e^{y - w}` with
    weights :math:`e^{w}`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.numerics.isotonic import isotonic_regression
    >>> print(isotonic_regression(jnp.array([1.0, 3.0, 2.0, 4.0])))
    [1.  2.5 2.5 4. ]
    """
    y = jnp.asarray(y)
    if jnp.iscomplexobj(y):
        raise TypeError(f"isotonic_regression orders real numbers: given {y.dtype}.")
    if not jnp.issubdtype(y.dtype, jnp.floating):
        y = y.astype(float)
    require_all_positive("isotonic_regression's weights", weights)
    w = jnp.ones((), y.dtype) if weights is None else jnp.asarray(positive(weights), y.dtype)
    if w.ndim > y.ndim or any(own not in (1, n) for own, n in zip(w.shape[::-1], y.shape[::-1], strict=False)):
        raise ValueError(f"isotonic_regression's weights of shape {w.shape} must broadcast against y: {y.shape}.")
    if not y.size:
        return y
    w = jnp.moveaxis(jnp.broadcast_to(w, y.shape), axis, -1)
    sign = 1 if increasing else -1
    return jnp.moveaxis(sign * _regression(sign * jnp.moveaxis(y, axis, -1), w), -1, axis)


#: segments of up to this length are solved by the min-max formula
_BASE = 16


def _by_minmax(y: jax.Array, w: jax.Array) -> jax.Array:
    r"""Return the regression of each row, :math:`v_i = \max_{j \le i} \min_{k \ge i} \mathrm{mean}(y_j \dots y_k)`."""
    valid = jnp.tri(y.shape[-1], dtype=bool).T
    # a sum for each first element: a difference of two sums would lose a segment of small terms behind a large one
    between = lambda u: jnp.cumsum(jnp.where(valid, u[..., None, :], 0), axis=-1)
    mean = between(w * y) / jnp.where(valid, between(w), 1)
    least = jax.lax.cummin(jnp.where(valid, mean, jnp.inf), axis=y.ndim, reverse=True)
    return jnp.max(jnp.where(valid, least, -jnp.inf), axis=-2)


def _join(x: jax.Array, w: jax.Array, levels: int) -> jax.Array:
    """Return the solution of the whole from the solutions of its rows, which ``2**levels`` are.

    One loop takes a Newton step for each pair of segments; when all have arrived, segments are twice as long.
    """
    rows, last = x.shape[0], x.shape[1] - 1
    row, pair = jnp.arange(rows), jnp.arange(rows // 2)
    rounding, tiny = 4 * jnp.finfo(x.dtype).eps, jnp.finfo(x.dtype).tiny

    def ends(k: Any, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Return the start of the search: the level, its bracket, and where there is nothing to pool."""
        first = jnp.minimum((2 * pair + 1) << k, rows - 1)
        low, high = x[first, 0], x[first - 1, last]
        arrived = ~(high > low) | (pair >= rows >> (k + 1))
        return jnp.where(arrived, high, 0.5 * low + 0.5 * high), low, high, arrived

    def sums(k: Any, parts: jax.Array) -> jax.Array:
        """Return the sums over each pair of segments, by doubling: see :func:`_block_sums`."""

        def step(j: Any, t: jax.Array) -> jax.Array:
            longer = jax.lax.dynamic_slice(jnp.concatenate([t, jnp.zeros_like(t)], axis=1), (0, 1 << j), t.shape)
            return jnp.where(j <= k, t + longer, t)

        return jax.lax.fori_loop(0, levels, step, parts)[:, jnp.minimum(pair << (k + 1), rows - 1)]

    def body(carry: Any) -> Any:
        k, count, x, level, low, high, done = carry
        right = ((row >> k) & 1 == 1)[:, None]
        own = level[row >> (k + 1)][:, None]
        pooled = jnp.where(jnp.where(right, x < own, x > own), w, 0)
        weighted = pooled * x
        parts = jnp.stack([jnp.sum(u, axis=1) for u in (pooled, weighted, jnp.abs(weighted))])
        mass, total, size = sums(k, parts)
        # the mean of what is pooled at this level is the Newton step, and this is how well it is known (above zero for
        # the tiniest elements, too: a bracket of two neighbouring numbers cannot be halved)
        mass = jnp.where(mass > 0, mass, 1)
        mean, tolerance = total / mass, jnp.maximum(rounding * size / mass, tiny)
        low, high = jnp.where(mean > level, level, low), jnp.where(mean > level, high, level)
        # (a NaN ends its search, too, and so does a bracket that rounding errors have closed)
        arrived = done | ~(jnp.abs(mean - level) > tolerance) | ~(high - low > tolerance)
        # now and then a bisection, so that the bracket is sure to shrink
        inside = (mean > low) & (mean < high) & (count % 4 < 3)
        level = jnp.where(done, level, jnp.where(inside | arrived, mean, 0.5 * low + 0.5 * high))
        finished = jnp.all(arrived)
        own = level[row >> (k + 1)][:, None]
        x = jnp.where(finished, jnp.where(right, jnp.maximum(x, own), jnp.minimum(x, own)), x)
        k = k + finished
        again = ends(k, x)
        level, low, high, arrived = (
            jnp.where(finished, new, old) for new, old in zip(again, (level, low, high, arrived), strict=True)
        )
        return k, jnp.where(finished, 0, count + 1), x, level, low, high, arrived

    start = (jnp.zeros((), int), jnp.zeros((), int), x, *ends(jnp.zeros((), int), x))
    return jax.lax.while_loop(lambda carry: carry[0] < levels, body, start)[2]


def _one(y: jax.Array, w: jax.Array) -> jax.Array:
    """Return the increasing regression of one sequence."""
    n = y.shape[0]
    if n <= _BASE:
        return _by_minmax(y, w)
    levels = math.ceil(math.log2(n / _BASE))
    # what is added at the end is no smaller than anything before it, and so is never pooled
    pad = (0, _BASE * 2**levels - n)
    y, w = jnp.pad(y, pad, mode="maximum"), jnp.pad(w, pad, constant_values=1)
    y, w = (u.reshape(2**levels, _BASE) for u in (y, w))
    return _join(_by_minmax(y, w), w, levels).reshape(-1)[:n]


@jax.custom_jvp
@jax.jit
def _regression(y: jax.Array, w: jax.Array) -> jax.Array:
    """Return the increasing regression along the last axis."""
    if y.ndim == 1:
        return _one(y, w)
    rows = (-1, y.shape[-1])
    return jax.vmap(_one)(y.reshape(rows), w.reshape(rows)).reshape(y.shape)


@_regression.defjvp
def _(primals: Tree, tangents: Tree) -> Any:
    y, w = primals
    dy, dw = tangents
    v = _regression(y, w)
    means = block_means(v, w)
    return v, means(dy + dw / w * (y - v))


@partial(jax.jit, static_argnums=2)
def _block_sums(u: jax.Array, start: jax.Array, longest: int) -> jax.Array:
    r"""Return for each element the sum over its block, given the place of the block's first element.

    After ``j`` steps of doubling, an element holds the sum of itself and those behind it in its block, :math:`2^j` at
    most. So a sum has an error of :math:`O(\log n)` roundings, where terms that are added one after another have as
    many as there are terms, and no sum sees what is large in another block.
    """
    behind = lambda u, shift: jax.lax.dynamic_slice(jnp.concatenate([u, jnp.zeros_like(u)]), (shift,), u.shape)

    def step(j: Any, t: jax.Array) -> jax.Array:
        # (what is behind the last element is zero, and belongs to the first block at most)
        return t + jnp.where(behind(start, 1 << j) == start, behind(t, 1 << j), 0)

    return jax.lax.fori_loop(0, (longest - 1).bit_length(), step, u)[start]


def block_means(v: jax.Array, w: jax.Array) -> Any:
    """Return the linear map to the means with weights ``w`` over the blocks on which ``v`` is constant."""
    first = jnp.concatenate([jnp.ones((*v.shape[:-1], 1), bool), v[..., 1:] != v[..., :-1]], axis=-1).reshape(-1)
    start = jax.lax.cummax(jnp.where(first, jnp.arange(v.size), 0))

    def total(u: jax.Array) -> jax.Array:
        # The map is its own transpose, which JAX would not see: it would transpose the copying of a sum to its block
        # by adding one after another. A symmetric "solve" is the one linear map that JAX both batches and
        # transposes as specified; the matrix is used only for what it depends on, which is nothing.
        solve = lambda _, b: _block_sums(b, start, v.shape[-1])
        return jax.lax.custom_linear_solve(lambda x: x, u.reshape(-1), solve, symmetric=True).reshape(v.shape)

    mass = total(w)
    return lambda u: total(w * u) / mass
