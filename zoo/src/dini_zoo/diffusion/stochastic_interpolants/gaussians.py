"""Schrödinger bridges between normal laws on the line, where the optimum is known."""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from .bridges import gaussian_bridge, optimal_variance_path, path_energy, schrodinger_bridge

#: Variances of both ends and the noise.
CASES = ((1.0, 0.25, 0.5), (0.5, 2.0, 0.2), (1.0, 1.0, 1.0))
NODES = 4001


class Path(eqx.Module):
    """A small network of both ends and the time, zero at first."""

    layer: eqx.nn.Linear
    outlet: eqx.nn.Linear

    def __init__(self, width: int, *, key: Array):
        one, other = jax.random.split(key)
        outlet = eqx.nn.Linear(width, 2, key=other)
        self.layer = eqx.nn.Linear(3, width, key=one)
        self.outlet = eqx.tree_at(
            lambda layer: (layer.weight, layer.bias), outlet, (jnp.zeros_like(outlet.weight), jnp.zeros(2))
        )

    def __call__(self, t: Array, x0: Array, x1: Array) -> Array:
        """What is added to the straight path: a factor for each end."""
        t = jnp.broadcast_to(t, x0.shape[:1])
        h = jnp.stack([t, t**2, jnp.cos(jnp.pi * t)], axis=1)
        factors = jax.vmap(lambda h: self.outlet(jnp.tanh(self.layer(h))))(h)
        return factors[:, :1] * x0 + factors[:, 1:] * x1


def features(x: Array, t: Array) -> Array:
    """The point times Legendre polynomials of the time, and these alone."""
    u = 2 * t - 1
    polynomials = [jnp.ones_like(u), u]
    for k in range(1, 7):
        polynomials.append(((2 * k + 1) * u * polynomials[k] - k * polynomials[k - 1]) / (k + 1))
    scalar = jnp.stack(polynomials)[..., None]
    return jnp.concatenate([scalar * x, scalar * jnp.ones_like(x)])


@dataclass(frozen=True)
class Case:
    """One pair of ends: energies, and the variances in the middle."""

    a: float
    b: float
    eps: float
    independent: float
    """The energy of the straight interpolant of independent ends."""
    optimum: float
    middle: float
    discretized: float
    """Of 65 variances, minimized by dini."""
    discretized_middle: float
    learned: float
    """Of a path learned on samples."""
    learned_middle: float
    curves: np.ndarray
    """Variances at 101 times: independent, optimal, discretized, learned."""


def solve(case: tuple[float, float, float], key: Array, *, nodes: int, steps: int, batch: int, width: int) -> Case:
    """Optimize the path of one pair of ends in both ways."""
    a, b, eps = case
    t = jnp.linspace(0.0, 1.0, NODES)
    straight = (1 - t) ** 2 * a + t**2 * b + 2 * eps * t * (1 - t)
    exact = gaussian_bridge(jnp.array([[a]]), jnp.array([[b]]), eps)
    best = jax.vmap(lambda t: exact(t)[0, 0])(t)
    path = optimal_variance_path(a, b, eps, nodes=nodes)
    for_path, for_samples = jax.random.split(key)
    draw = lambda variance: lambda key, n: jnp.sqrt(variance) * jax.random.normal(key, (n, 1))
    bridge = schrodinger_bridge(
        for_samples,
        draw(a),
        draw(b),
        eps,
        Path(width, key=for_path),
        features,
        optax.adam(optax.cosine_decay_schedule(2e-2, steps)),
        steps=steps,
        batch=batch,
    )
    # the variance of the learned path is that of its factors: for independent ends it needs no samples
    line = jnp.linspace(0.0, 1.0, 1001)
    one, zero = jnp.ones((1001, 1)), jnp.zeros((1001, 1))
    factors = [bridge.interpolant.mean(line, *ends)[:, 0] for ends in ((one, zero), (zero, one))]
    learned = factors[0] ** 2 * a + factors[1] ** 2 * b + 2 * eps * line * (1 - line)
    grid = np.linspace(0, 1, 101)
    on_grid = lambda values: np.interp(grid, np.linspace(0, 1, len(values)), np.asarray(values))
    return Case(
        a,
        b,
        eps,
        float(path_energy(straight, eps)),
        float(path_energy(best, eps)),
        float(best[NODES // 2]),
        float(path_energy(path, eps)),
        float(path[nodes // 2]),
        float(path_energy(learned, eps)),
        float(learned[500]),
        np.stack([on_grid(one) for one in (straight, best, path, learned)]),
    )
