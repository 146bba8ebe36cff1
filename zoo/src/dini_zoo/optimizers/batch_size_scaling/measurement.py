"""The Hessian of a classifier: its largest eigenvalue, of all data and of batches, and the noise of single examples."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.data import Sample

from .. import classifiers
from ..curvature import hessian_operator
from ..lanczos import extremes, random_direction
from .eigenvalues import hessian_noise


def _example_loss(model: Any, one: Sample) -> Array:
    return classifiers.loss(model, jax.tree.map(lambda leaf: leaf[None], one))


def _top_and_noise(model: Any, data: Sample, key: Array, steps: int, probes: int) -> tuple[Array, Array, Array]:
    """The largest eigenvalue for all data, the noise along its vector, and along random directions."""
    # one vector of all weights: a quarter of the program that a tree of four arrays makes
    flat, back = jax.flatten_util.ravel_pytree(model)
    start, around = jax.random.split(key)
    product = hessian_operator(lambda v: classifiers.loss(back(v), data), flat)
    first = extremes(product, random_direction(start, flat), steps).largest
    random = jax.vmap(lambda key: random_direction(key, flat))(jax.random.split(around, probes))
    directions = jnp.concatenate([first.vector[None], random])
    loss = lambda v, one: _example_loss(back(v), one)
    noise = jax.lax.map(lambda v: hessian_noise(loss, flat, data, v, micro_batch=600), directions)
    return first.value, noise[0], jnp.mean(noise[1:])


top_and_noise = jax.jit(_top_and_noise, static_argnums=(3, 4))


def _tops(
    model: Any,
    data: Sample,
    drawn: Int[Array, "draws longest"],
    live: Bool[Array, " longest"],
    keys: Array,
    steps: int,
) -> Float[Array, " draws"]:
    """The largest eigenvalue for each of some batches, whose examples are those that are live."""
    flat, back = jax.flatten_util.ravel_pytree(model)

    def batch_loss(v: Array, batch: Sample) -> Array:
        losses = jax.vmap(_example_loss, (None, 0))(back(v), batch)
        return jnp.sum(jnp.where(live, losses, 0)) / jnp.sum(live)

    def one(given: Any) -> Array:
        indices, key = given
        batch = jax.tree.map(lambda leaf: leaf[indices], data)
        product = hessian_operator(batch_loss, flat, batch)
        return extremes(product, random_direction(key, flat), steps).largest.value

    return jax.lax.map(one, (drawn, keys))


tops = jax.jit(_tops, static_argnums=5)
