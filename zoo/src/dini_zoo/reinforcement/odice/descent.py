"""Adam along a mode's gradient, on all records at once: nothing in it is random, and settings may be arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, between, marked, not_negative

from ..grids import discount_factor
from ..policies import polyak
from .gradients import Aux, Mode, Transitions, dice_gradients, trade_off


class Descended(NamedTuple):
    """Where a descent ended."""

    params: Any
    target: Any
    gradient: Float[Array, ""]
    """The largest entry of the mode's gradient there, by magnitude."""
    aux: Aux
    """Of the last point."""


def descend(
    value_fn: Callable[[Any, Any], Array],
    params: Any,
    batch: Transitions,
    *,
    mode: Mode,
    steps: int,
    learning_rate: Any,
    target_rate: Any,
    lam: Any,
    gamma: Any,
    eta: Any = 1.0,
    decay: bool = True,
) -> Descended:
    """Full-batch Adam with a step size that falls linearly to zero, or stays; `target_rate` is of the slow copy."""
    at_least("steps", steps, 1)
    trade_off("lam", lam)
    discount_factor("gamma", gamma)
    right = not_negative("learning_rate", learning_rate), between("target_rate", target_rate, 0, 1)
    learning_rate = marked(learning_rate, *right)
    adam = optax.scale_by_adam()

    @jax.jit  # traced once, though it is called in two places
    def slope(params: Any, target: Any) -> tuple[Any, Aux]:
        return dice_gradients(value_fn, params, target, batch, mode=mode, lam=lam, gamma=gamma, eta=eta)

    def step(carried: Any, number: Array) -> tuple[Any, None]:
        params, target, state = carried
        gradient, _ = slope(params, target)
        updates, state = adam.update(gradient, state)
        rate = learning_rate * (1 - number / steps if decay else 1.0)
        params = jax.tree.map(lambda p, u: p - (rate * u).astype(p.dtype), params, updates)
        return (params, polyak(target, params, target_rate), state), None

    start = (params, params, adam.init(params))
    (params, target, _), _ = jax.lax.scan(step, start, jnp.arange(steps))
    gradient, aux = slope(params, target)
    largest = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(gradient)]).max()
    return Descended(params, target, largest, aux)
