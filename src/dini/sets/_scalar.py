"""Safeguarded equations in one unknown, for the projections that come down to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..trees import Tree

_STEPS = 200  # bisection alone needs about 110 in float64; Newton's method takes a handful


def bracketed_root(
    fun: Callable[[jax.Array], tuple[jax.Array, jax.Array]], low: jax.Array, high: jax.Array
) -> jax.Array:
    """Return the root of an increasing function, given with its derivative, between ``low`` and ``high``.

    Newton's method; the midpoint of the bracket wherever its step leaves the bracket or does not halve the step before.
    """
    eps = jnp.finfo(low.dtype).eps

    def body(carry: Any) -> Any:
        k, low, high, x, last, _ = carry
        value, slope = fun(x)
        low, high = jnp.where(value < 0, x, low), jnp.where(value < 0, high, x)
        step = -value / slope
        newton = (x + step > low) & (x + step < high) & (jnp.abs(step) <= 0.5 * jnp.abs(last))
        new = jnp.where(newton, x + step, 0.5 * (low + high))
        done = (value == 0) | (jnp.abs(new - x) <= 2 * eps * jnp.abs(x)) | (high - low <= 2 * eps * jnp.abs(x))
        return k + 1, low, high, jnp.where(value == 0, x, new), new - x, done

    start = (0, low, high, 0.5 * (low + high), high - low, jnp.asarray(False))
    return jax.lax.while_loop(lambda carry: (carry[0] < _STEPS) & ~carry[5], body, start)[3]


def largest(inside: Callable[[jax.Array], jax.Array], high: jax.Array) -> jax.Array:
    """Return, by bisection, the largest number up to ``high`` with a property that holds of all smaller ones."""

    def body(_: Any, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        good = inside(middle)
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    return jax.lax.fori_loop(0, 30, body, (jnp.zeros_like(high), high))[0]


def unit_and_size(x: Tree) -> tuple[Any, jax.Array]:
    """Return a tree over a power of two near its largest absolute value, and that: a constant of differentiation.

    Squares of what is left neither overflow nor, where it matters, underflow; and a power of two changes no digit.
    """
    top = 0.5 * jax.lax.stop_gradient(trees.max_abs(x))
    top = jax.lax.reduce_precision(top, exponent_bits=jnp.finfo(top.dtype).nexp, mantissa_bits=0)
    top = jnp.where((top > 0) & jnp.isfinite(top), top, 1)
    # not a product with the inverse, which may underflow
    return jax.tree.map(lambda u: u / top.astype(u.dtype), x), top


def norm(x: Tree) -> jax.Array:
    """Return the Euclidean norm of a tree whose squares may overflow or underflow."""
    unit, size = unit_and_size(x)
    return size * trees.norm(unit)


def scaled(v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return ``v`` over its largest element, and that element."""
    size = jnp.max(jnp.abs(v))
    size = jnp.where(size > 0, size, 1)
    return v / size, size
