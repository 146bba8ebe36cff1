"""Stochastic ascent of an objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from .expectation import expectation


class Fit(NamedTuple):
    """What an ascent found."""

    params: Any
    """The last ones."""
    history: Array
    """The objective's estimate before each step."""


def fit(
    objective: Callable[[Any], Any],
    params: Any,
    *,
    key: Array,
    steps: int,
    num_samples: int = 1,
    optimizer: optax.GradientTransformation | None = None,
) -> Fit:
    r"""Maximize the expectation of a program, :math:`\max_\theta E[f(\theta)]`, by unbiased estimates of its gradient.

    Parameters
    ----------
    objective
        The program f, of the parameters alone.
    params
        A tree of arrays to start from.
    key
        Of all draws.
    steps
        How many.
    num_samples
        Estimates whose mean is one step's gradient.
    optimizer
        Adam with the rate 0.001 if it is not given. Its steps go up.

    Returns
    -------
    Fit
        It can be compiled and mapped. Where an estimate is not a number, so are all that follow.
    """
    if steps < 1 or num_samples < 1:
        raise ValueError(f"`steps` and `num_samples` must be at least 1: given {steps} and {num_samples}.")
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    estimates = jax.vmap(expectation(objective).value_and_grad_estimate, (0, None))

    def step(carry: Any, key: Array) -> Any:
        params, state = carry
        value, gradient = jax.tree.map(
            lambda one: jnp.mean(one, axis=0), estimates(jax.random.split(key, num_samples), params)
        )
        change, state = optimizer.update(jax.tree.map(jnp.negative, gradient), state, params)
        return (optax.apply_updates(params, change), state), value

    params = jax.tree.map(jnp.asarray, params)
    (params, _), history = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, steps))
    return Fit(params, history)
