"""How many rounds it takes to a small gradient, without noise: one step a round, many local steps, plain local SGD."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from .budget import NONE, LocalNoise, Noise
from .clipping import Clients
from .estimator import diff2_estimator
from .local import diff2_local, local_sgd
from .loops import diff2_gd, round_robin
from .problems import LIPSCHITZ, SMOOTHNESS, Problem, penalty_gradient, record_gradient
from .runs import squared_norms

#: The gradient's squared norm that is to be reached.
TARGET = 1e-8
OPTIONS = {"public": penalty_gradient, "observe": lambda w: w}


@dataclass(frozen=True)
class Path:
    """The gradient's squared norm after each round."""

    norms: list[float]

    @property
    def rounds(self) -> float:
        """The first round with at most the target; infinite if there is none."""
        low = [i + 1 for i, one in enumerate(self.norms) if one <= TARGET]
        return low[0] if low else float("inf")

    @property
    def least(self) -> float:
        """The least of them."""
        return min(self.norms)


def divided(problem: Problem, clients: int, *, by_label: bool) -> Clients:
    """The records in clients of one size: in order, or sorted by their labels."""
    order = np.argsort(problem.b, kind="stable") if by_label else np.arange(len(problem.b))
    a, b = problem.records
    return Clients.equal((a[order], b[order]), clients)


def _exact(restart_every: int, noise: Noise = NONE, clip: float = np.inf, slope: float = np.inf) -> Any:
    return diff2_estimator(
        record_gradient, gradient_clip=clip, difference_clip=slope, restart_every=restart_every, noise=noise
    )


@partial(jax.jit, static_argnames="rounds")
def _gd(key: Array, start: Any, clients: Clients, learning_rate: Any, rounds: int) -> Any:
    found = diff2_gd(_exact(10), optax.sgd(learning_rate), start, clients, key, rounds=rounds, **OPTIONS)
    return squared_norms(found.observed, *clients.data)


@partial(jax.jit, static_argnames=("rounds", "steps", "batch", "plain"))
def _local(
    key: Array, start: Any, clients: Clients, learning_rate: Any, rounds: int, steps: int, batch: int, plain: bool
) -> Any:
    options = {"order": round_robin(len(clients.sizes), rounds), "learning_rate": learning_rate}
    options |= {"steps": steps, "batch": batch, **OPTIONS}
    if plain:
        found = local_sgd(record_gradient, start, clients, key, **options)
    else:
        found = diff2_local(_exact(10), start, clients, key, local_clip=np.inf, **options)
    return squared_norms(found.observed, *clients.data)


def by_gradient(key: Array, start: Any, clients: Clients, learning_rate: float, rounds: int) -> Path:
    """One step a round."""
    return Path([float(one) for one in _gd(key, start, clients, learning_rate, rounds)])


def by_local_steps(
    key: Array,
    start: Any,
    clients: Clients,
    learning_rate: float,
    *,
    rounds: int,
    steps: int,
    batch: int,
    plain: bool = False,
) -> Path:
    """So many local steps a round; plain ones are those of local SGD."""
    return Path([float(one) for one in _local(key, start, clients, learning_rate, rounds, steps, batch, plain)])


@partial(jax.jit, static_argnames=("rounds", "restart_every", "steps", "batch"))
def _private(
    key: Array,
    start: Any,
    clients: Clients,
    learning_rate: Any,
    noise: LocalNoise,
    rounds: int,
    restart_every: int,
    steps: int,
    batch: int,
) -> Any:
    estimator = _exact(restart_every, Noise(noise.restart, noise.difference), LIPSCHITZ, SMOOTHNESS)
    found = diff2_local(
        estimator,
        start,
        clients,
        key,
        order=round_robin(len(clients.sizes), rounds),
        learning_rate=learning_rate,
        steps=steps,
        batch=batch,
        local_clip=SMOOTHNESS,
        local_noise=noise.local,
        **OPTIONS,
    )
    return squared_norms(found.observed, *clients.data)


def privately(
    key: Array,
    start: Any,
    clients: Clients,
    learning_rate: float,
    noise: LocalNoise,
    *,
    rounds: int,
    restart_every: int,
    steps: int,
    batch: int,
) -> Path:
    """Local steps with noise; nothing is clipped, since the radii are the bounds of the problem."""
    single = LocalNoise(*map(jnp.float32, noise))
    found = _private(key, start, clients, learning_rate, single, rounds, restart_every, steps, batch)
    return Path([float(one) for one in found])
