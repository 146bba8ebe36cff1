"""What the interpreter costs: the gradient of the cone's mean-field bound, through it and written by hand."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from dini_zoo.kit import measure

from .cone import OBSERVED, POSTERIOR, SCALE, mean_field
from .expectation import expectation
from .objectives import elbo


@dataclass(frozen=True)
class Overhead:
    """Both programs at one number of samples."""

    samples: int
    times: tuple[float, float]
    """The least of each in seconds, through the interpreter and by hand."""
    difference: float
    """Between the gradients, relative to the largest component."""


def _normal(value: Array, loc: Array | float, scale: Array | float) -> Array:
    return -0.5 * ((value - loc) / scale) ** 2 - jnp.log(jnp.sqrt(2 * jnp.pi) * scale)


def by_hand(key: Array, params: Array) -> Array:
    """One estimate, as one writes it without a library, from the keys that the interpreter takes."""
    key, for_x = jax.random.split(key)
    for_y = jax.random.split(key)[1]
    scales = jnp.exp(params[2:])
    x = params[0] + scales[0] * jax.random.normal(for_x)
    y = params[1] + scales[1] * jax.random.normal(for_y)
    r = x**2 + y**2
    log_p = _normal(x, 0.0, SCALE) + _normal(y, 0.0, SCALE) + _normal(OBSERVED, r, 0.1 + r / 100)
    return log_p - _normal(x, params[0], scales[0]) - _normal(y, params[1], scales[1])


def compare(key: Array, samples: int, rounds: int) -> Overhead:
    """Time both in turns."""
    params = jnp.array((0.0, 2.2225, -1.275, -3.387))
    keys = jax.random.split(key, samples)
    through = expectation(lambda params: elbo(POSTERIOR, mean_field, params)).estimate

    def gradient(estimate):
        return jax.grad(lambda params, keys: jnp.mean(jax.vmap(estimate, (0, None))(keys, params)))

    programs = [measure.compile_program(gradient(one), params, keys) for one in (through, by_hand)]
    ours, theirs = (one() for one in programs)
    mine, hand = measure.fastest(programs, rounds)
    return Overhead(samples, (mine, hand), float(jnp.max(jnp.abs(ours - theirs)) / jnp.max(jnp.abs(theirs))))
