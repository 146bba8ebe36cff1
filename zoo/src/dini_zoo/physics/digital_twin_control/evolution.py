"""Separable CMA-ES on the weights of a policy: what one does without any derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cma
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree


def evolve(
    policy: Any,
    costs: Callable[[list[Any], int], Any],
    *,
    sigma: float,
    generations: int,
    population: int = 16,
    seed: int = 0,
) -> Any:
    """Improve a policy by separable CMA-ES; returns the one of the last mean of the weights.

    Parameters
    ----------
    policy
        An Equinox module, whose weights are where the search begins.
    costs
        `costs(policies, generation)`: the costs of `population` policies.
    sigma
        The standard deviation of the first generation's weights.
    generations, population, seed
        Of the search.
    """
    arrays, static = eqx.partition(policy, eqx.is_inexact_array)
    flat, restore = ravel_pytree(arrays)
    made = lambda weights: eqx.combine(restore(jnp.asarray(weights, flat.dtype)), static)
    # 0 would be a seed of the clock
    options = {"CMA_diagonal": True, "popsize": population, "seed": seed + 1, "verbose": -9}
    search = cma.CMAEvolutionStrategy(np.asarray(flat, np.float64), sigma, options)
    for generation in range(generations):
        asked = search.ask()
        found = np.asarray(costs([made(weights) for weights in asked], generation), np.float64)
        search.tell(asked, found.tolist())
    return made(search.result.xfavorite)
