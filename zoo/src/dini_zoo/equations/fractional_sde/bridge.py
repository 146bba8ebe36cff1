"""Bridges of which the exact control is known: how far the bound is from the evidence, by steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .approximation import Kind, ma_covariance, optimal_weights, ou_speeds
from .equation import FractionalSDE, Path
from .noise import FractionalNoise, gaussian_bridge_control

HORIZON, TARGET, STD = 2.0, 1.0, 0.3


@dataclass(frozen=True)
class Bridge:
    """Estimates with the exact control, and what they should be."""

    kind: Kind
    hurst: float
    steps: int
    exact: float
    estimate: float
    """Of low variance."""
    error: float
    """Its standard error."""
    bound: float
    """Without the term of mean zero."""
    bound_error: float
    variance: float
    """Of the posterior, at half of the time."""
    exact_variance: float | None

    @property
    def gap(self) -> float:
        """The estimate's distance from the exact value."""
        return abs(self.estimate - self.exact)


def exact(kind: Kind, hurst: float) -> tuple[float, float | None]:
    """The evidence, and the posterior's variance at half of the time.

    Of type I it is the evidence given the start of the noise's processes, in the mean over it: that start keeps its
    prior law. The variance is then another one than the prior's covariance says.
    """
    speeds = ou_speeds(5)
    omega, gamma = optimal_weights(speeds, hurst, HORIZON, kind), np.asarray(speeds)
    decay, total = np.exp(-gamma * HORIZON), gamma[:, None] + gamma
    c = omega * (decay - 1)
    ahead = omega @ ((1 - np.outer(decay, decay)) / total) @ omega + STD**2
    start = c @ (1 / total) @ c if kind == "I" else 0.0
    value = -0.5 * np.log(2 * np.pi * ahead) - 0.5 * (TARGET**2 + start) / ahead
    if kind == "I":
        return float(value), None
    with jax.enable_x64(True):
        ts = np.array([HORIZON / 2, HORIZON])
        C = np.asarray(ma_covariance(speeds, jnp.asarray(omega), ts[:, None], ts, kind))
    return float(value), float(C[0, 0] - C[0, 1] ** 2 / (C[1, 1] + STD**2))


def build(kind: Kind, hurst: Any) -> FractionalSDE:
    """Noise alone, with the exact control."""
    noise = FractionalNoise(hurst, kind=kind, horizon=HORIZON)

    def control(x: Array, y: Array, t: Any, _: Any) -> Array:
        return gaussian_bridge_control(noise, x, y, HORIZON - t, TARGET, STD)

    return FractionalSDE(lambda x, t: jnp.zeros_like(x), lambda x, t: jnp.ones_like(x), noise, control)


@eqx.filter_jit
def _paths(sde: FractionalSDE, keys: Array, steps: int) -> Path:
    ts = jnp.array([0.0, HORIZON / 2, HORIZON])
    return jax.vmap(lambda key: sde.sample(key, jnp.zeros(1), ts, steps=steps // 2, posterior=True))(keys)


def cross(kind: Kind, hurst: float, steps: int, paths: int, key: Array) -> Bridge:
    """Many bridges by Euler's method."""
    path = jax.tree.map(np.asarray, _paths(build(kind, hurst), jax.random.split(key, paths), steps))
    log_p = -0.5 * np.log(2 * np.pi * STD**2) - 0.5 * (TARGET - path.x[:, -1, 0].astype(float)) ** 2 / STD**2
    bound = log_p - path.kl
    value, variance = exact(kind, hurst)
    mean = lambda values: (float(np.mean(values)), float(np.std(values) / np.sqrt(paths)))
    low = mean(bound - path.martingale)
    return Bridge(kind, hurst, steps, value, *low, *mean(bound), float(np.var(path.x[:, 1, 0])), variance)
