"""Behavior cloning: a policy that repeats the expert's actions, by regression."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ...kit.checking import at_least
from .learner import Demonstrations


def clone(
    key: Array,
    actor: Any,
    demonstrations: Demonstrations,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch: int = 64,
) -> Any:
    r"""An actor after so many steps on :math:`\mathbb{E} |\mu(s) - a|^2` over the demonstrations that are shown.

    Raises `ValueError` for demonstrations without actions, fewer than one step, and an empty batch.
    """
    if demonstrations.action is None:
        raise ValueError("The demonstrations must have actions to be cloned: given states alone.")
    at_least("steps", steps, 1)
    at_least("batch", batch, 1)
    params, static = eqx.partition(actor, eqx.is_inexact_array)

    def step(carry: Any, key: Array) -> tuple[Any, None]:
        params, memory = carry
        states, actions = demonstrations.sample(key, batch)
        loss = lambda params: jnp.mean((jax.vmap(eqx.combine(params, static))(states) - actions) ** 2)
        updates, memory = optimizer.update(jax.grad(loss)(params), memory, params)
        return (optax.apply_updates(params, updates), memory), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, steps))
    return eqx.combine(params, static)
