"""What a user would try first: NumPyro's objectives for the mean-field guide of the cone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import optax
from jax import Array
from numpyro import distributions as dist
from numpyro.infer import RenyiELBO, Trace_ELBO

from .cone import OBSERVED, SCALE


def model() -> None:
    """The cone."""
    x = numpyro.sample("x", dist.Normal(0.0, SCALE))
    y = numpyro.sample("y", dist.Normal(0.0, SCALE))
    r = x**2 + y**2
    numpyro.sample("z", dist.Normal(r, 0.1 + r / 100), obs=OBSERVED)


def guide() -> None:
    """The mean-field guide, with the parameters of `cone.mean_field`."""
    params = numpyro.param("params", jnp.zeros(4))
    numpyro.sample("x", dist.Normal(params[0], jnp.exp(params[2])))
    numpyro.sample("y", dist.Normal(params[1], jnp.exp(params[3])))


#: NumPyro's objectives by the names of ours.
OBJECTIVES = {"ELBO": Trace_ELBO(), "IWELBO(5)": RenyiELBO(alpha=0, num_particles=5)}


def estimate(name: str) -> Callable[[Array, Array], Array]:
    """One estimate of an objective, of a key and parameters."""
    return lambda key, params: -OBJECTIVES[name].loss(key, {"params": params}, model, guide)


def fit(name: str, start: Array, *, key: Array, steps: int, num_samples: int, rate: float) -> Array:
    """The parameters after as many steps of gradient ascent as ours, with as many samples each."""
    mean = lambda params, keys: jnp.mean(jax.vmap(estimate(name), (0, None))(keys, params))
    optimizer = optax.sgd(rate)

    def step(carry: Any, key: Array) -> Any:
        params, state = carry
        gradient = jax.grad(mean)(params, jax.random.split(key, num_samples))
        change, state = optimizer.update(-gradient, state)
        return (optax.apply_updates(params, change), state), None

    (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), jax.random.split(key, steps))
    return params
