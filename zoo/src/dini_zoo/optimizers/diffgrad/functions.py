"""The paper's functions of one variable, with minima of several depths or a sharp valley, and descent on all at once.

`F2` falls steeply and then waves; its values jump by 0.0147 at -0.9, where its two formulas meet.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


def first(x: Array) -> Array:
    """`F1`: two parabolas. The minimum at -0.3 has the value 0, the one at 0.2 has 0.05."""
    return jnp.where(x <= 0, (x + 0.3) ** 2, (x - 0.2) ** 2 + 0.05)


def first_slope(x: Array) -> Array:
    """The derivative of `F1`; at 0 that from the left."""
    return jnp.where(x <= 0, 2 * x + 0.6, 2 * x - 0.4)


def second(x: Array) -> Array:
    """`F2`: a steep line, then waves. The deep minimum is at -0.6429186; at 0 is a stationary point of value 0.85."""
    return jnp.where(x <= -0.9, -40 * x - 35.15, x**3 + x * jnp.sin(8 * x) + 0.85)


def second_slope(x: Array) -> Array:
    """The derivative of `F2`; at -0.9 that of the line."""
    return jnp.where(x <= -0.9, -40.0, 3 * x**2 + jnp.sin(8 * x) + 8 * x * jnp.cos(8 * x))


def second_slope_as_published(x: Array) -> Array:
    """What the paper's program takes for the derivative of `F2`: the factor 8 of the chain rule is not in it."""
    return jnp.where(x <= -0.9, -40.0, 3 * x**2 + jnp.sin(8 * x) + x * jnp.cos(8 * x))


def third(x: Array) -> Array:
    """`F3`: a kink at the minimum, 0, between two other ones, and parabolas outside."""
    a = jnp.abs(x)
    return jnp.where(a <= 0.4, 7 * a / 8, jnp.where(a <= 0.5, 0.75 - a, x**2))


def third_slope(x: Array) -> Array:
    """The derivative of `F3`; where it has none, that from the left."""
    inside = jnp.where(x <= -0.4, 1.0, jnp.where(x <= 0, -7 / 8, jnp.where(x <= 0.4, 7 / 8, -1.0)))
    return jnp.where((x <= -0.5) | (x > 0.5), 2 * x, inside)


#: Values and slopes by name. The third has the values of `F2` and not quite its slopes.
FUNCTIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "F1": (first, first_slope),
    "F2": (second, second_slope),
    "F2, published slope": (second, second_slope_as_published),
    "F3": (third, third_slope),
}


def descend(optimizer: optax.GradientTransformation, start: float, steps: int) -> Float[Array, "steps+1 4"]:
    """Points of the descent on each of `FUNCTIONS`, a column each, the start first.

    They are the coordinates of one unknown: the optimizer must treat each by itself.
    """
    slopes = [slope for _, slope in FUNCTIONS.values()]

    def step(carried: tuple[Array, optax.OptState], _: None) -> tuple[tuple[Array, optax.OptState], Array]:
        x, state = carried
        updates, state = optimizer.update(jnp.stack([slope(x[i]) for i, slope in enumerate(slopes)]), state, x)
        x = x + jnp.asarray(updates)
        return (x, state), x

    x = jnp.full(len(slopes), start)
    _, points = jax.lax.scan(step, (x, optimizer.init(x)), length=steps)
    return jnp.concatenate([x[None], points])
