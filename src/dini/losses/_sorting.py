"""Soft sorting and ranking: projections onto the permutahedron (Blondel et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import positive, require_choice, require_positive
from ..deferred import Array, Float
from ..numerics.isotonic import block_means, isotonic_regression


def _on_permutahedron(z: jax.Array, w: jax.Array, difference: jax.Array) -> jax.Array:
    r"""Project ``z`` onto the convex hull of the permutations of ``w``; both fall.

    With the isotonic regression ``v`` of their difference, needed up to a constant, it is :math:`z - v`. On the blocks
    of ``v`` that is :math:`z - \mathrm{mean}(z) + \mathrm{mean}(w)`, which is exact also where ``z`` is much
    larger than ``w``.
    """
    v = jax.lax.stop_gradient(isotonic_regression(jax.lax.stop_gradient(difference), increasing=False))
    means = block_means(v, jnp.ones_like(v))
    return z - means(z) + means(w)


def _closer(falling: jax.Array, strength: jax.Array) -> jax.Array:
    """Return falling values over the strength, up to a constant, with those that do not compete closer together.

    By how much two neighbors are apart does not matter beyond what all others, which fall by less than one, could make
    up for. So the digits of small differences are kept beside large values, and infinite ones have a place.
    """
    apart = falling[:-1] - falling[1:]
    # equal ones are, also where they are infinite; what is not a number comes last, and far away
    apart = jnp.where(falling[:-1] == falling[1:], 0, jnp.where(jnp.isnan(apart), jnp.inf, apart)) / strength
    limit = 2 + jnp.sum(jnp.maximum(1 - apart, 0))
    steps = jnp.minimum(apart, limit)
    together = jnp.append(jnp.cumsum(steps[::-1])[::-1], jnp.zeros((), steps.dtype))
    return jnp.where(jnp.all(apart <= limit), (falling - falling[-1]) / strength, together)


def _along(fun: Callable[..., Any], owner: str, values: Any, strength: Any, axis: int, direction: str) -> jax.Array:
    """Apply an ascending ``fun(vector, strength)`` along an axis; descending is ascending of the negative."""
    values = jnp.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(f"{owner} needs real floating-point values: given {values.dtype.name}.")
    if not -values.ndim <= axis < values.ndim:
        raise ValueError(f"{owner}'s axis must be an axis of the values: given {axis} for shape {values.shape}.")
    require_positive(f"{owner}'s strength", strength)
    if jnp.ndim(strength) != 0:
        raise ValueError(f"{owner}'s strength must be a scalar: given shape {jnp.shape(strength)}.")
    require_choice(f"{owner}'s direction", direction, ("ascending", "descending"))
    if not values.size:
        return values
    moved = jnp.moveaxis(values, axis, -1)
    rows = moved.reshape(-1, moved.shape[-1])
    sign = 1 if direction == "ascending" else -1
    dtype = trees.single(values.dtype)  # of places, half precision holds few
    result = jax.vmap(fun, (0, None))(sign * rows.astype(dtype), jnp.asarray(positive(strength), dtype))
    return jnp.moveaxis(result.reshape(moved.shape), -1, axis).astype(values.dtype)


def soft_sort(
    values: Float[Array, "*shape"], strength: Any = 1.0, *, axis: int = -1, direction: str = "ascending"
) -> Float[Array, "*shape"]:
    r"""Return a continuous, piecewise linear version of sorting.

    The projection of :math:`(1, \dots, n)/\varepsilon` onto the convex hull of all orders of the values: the sorted
    values for small :math:`\varepsilon` (as soon as neighbors are closer than :math:`1/\varepsilon`), their mean for
    large.

    **Derivative.** In the values, means over blocks of the sorted: on a block ``B``, each output moves with
    :math:`\mathrm{mean}_B(\dot\theta)`. In :math:`\varepsilon` it moves with the places in the block, centered.

    Parameters
    ----------
    values
        :math:`\theta`.
    strength
        :math:`\varepsilon > 0`, a scalar, differentiable. One that is traced and not positive gives NaN.
    axis
        The axis to sort along.
    direction
        ``"ascending"`` or ``"descending"``.

    Raises
    ------
    ValueError, TypeError
        If the strength is not a positive scalar, ``axis`` or ``direction`` is unknown, or the values are not real
        floating-point numbers.

    References
    ----------
    Blondel, Teboul, Berthet, Djolonga, "Fast differentiable sorting and ranking", ICML 2020 (arXiv 2002.08871).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.losses import soft_sort
    >>> values = jnp.array([3.0, 1.0, 4.0])
    >>> print(soft_sort(values, 0.1), soft_sort(values, 1.0))
    [1. 3. 4.] [1.6666666 2.6666667 3.6666667]
    """

    def ascending(theta: jax.Array, strength: jax.Array) -> jax.Array:
        n = theta.shape[0]
        z, falling = jnp.arange(n, 0, -1, dtype=theta.dtype) / strength, jnp.sort(-theta)[::-1]
        middle = falling[n // 2]
        return -_on_permutahedron(z, falling, z - (falling - jnp.where(jnp.isfinite(middle), middle, 0)))

    result = _along(ascending, "soft_sort", values, strength, axis, direction)
    return result if direction == "ascending" else -result


def soft_rank(
    values: Float[Array, "*shape"], strength: Any = 1.0, *, axis: int = -1, direction: str = "ascending"
) -> Float[Array, "*shape"]:
    r"""Return a continuous, piecewise linear version of ranks, from 1 for the smallest (or largest) to ``n``.

    The projection of :math:`\theta/\varepsilon` onto the convex hull of all orders of :math:`(1, \dots, n)`: the ranks
    for small :math:`\varepsilon` (as soon as neighbors are apart by more than :math:`\varepsilon`),
    :math:`(n + 1)/2` for large.

    **Derivative.** On a block ``B`` of values that compete: :math:`(\dot\theta_B - \mathrm{mean}_B(\dot\theta)) /
    \varepsilon`; zero where a value is alone.

    Parameters
    ----------
    values, strength, axis, direction
        As for :func:`soft_sort`.

    Raises
    ------
    ValueError, TypeError
        As for :func:`soft_sort`.

    References
    ----------
    Blondel, Teboul, Berthet, Djolonga, "Fast differentiable sorting and ranking", ICML 2020 (arXiv 2002.08871).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.losses import soft_rank
    >>> values = jnp.array([3.0, 1.0, 3.5])
    >>> print(soft_rank(values, 0.1), soft_rank(values, 1.0))
    [2. 1. 3.] [2.25 1.   2.75]
    """

    def ascending(theta: jax.Array, strength: jax.Array) -> jax.Array:
        n = theta.shape[0]
        order = jnp.argsort(-theta)
        falling, w = theta[order], jnp.arange(n, 0, -1, dtype=theta.dtype)
        # the point as a constant, which has the derivative of the values over the strength
        held, fixed = jax.lax.stop_gradient((strength, falling))
        place = _closer(fixed, held)
        moved = jnp.where(jnp.isfinite(fixed), falling - fixed, jnp.where(jnp.isnan(fixed), jnp.nan, 0))
        z = place * (held / strength) + moved / strength
        projected = _on_permutahedron(z, w, place - w)
        return jnp.zeros_like(theta).at[order].set(projected)

    return _along(ascending, "soft_rank", values, strength, axis, direction)
