r"""Young's modulus and Poisson's ratio of a jelly from one motion: by gradients, by least squares, by evolution.

The unknowns are :math:`\theta = (\log E, \operatorname{logit} 2\nu)`, free of bounds. The residuals are the positions
of all particles at all steps; the loss is :math:`10^4` times their mean square.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cma
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import finite, positive, same_shape
from dini_zoo.kit.training import Trainer

from ..materials import jelly
from ..mpm import MPMConfig, MPMState, Particles
from .training import LOSS_SCALE, roll


def unknowns(E: float, nu: float) -> np.ndarray:
    """The unknowns of two moduli, with `0 < nu < 1/2`."""
    positive("E", E)
    if not 0 < nu < 0.5:
        raise ValueError(f"nu must be above 0 and below 1/2: given {nu}.")
    return np.array([np.log(E), np.log(2 * nu / (1 - 2 * nu))])


def moduli(theta: Float[Array, " 2"]) -> tuple[Array, Array]:
    """Young's modulus and Poisson's ratio of the unknowns."""
    return jnp.exp(theta[0]), jax.nn.sigmoid(theta[1]) / 2


class Observed:
    """A motion of a jelly that was seen, and what a pair of moduli leaves unexplained of it.

    Parameters
    ----------
    config, particles, state
        The simulator, and the state at the start.
    positions
        Of all particles after each step, of shape `(steps, particles, dim)`.
    """

    def __init__(
        self, config: MPMConfig, particles: Particles, state: MPMState, positions: Float[Array, "steps p dim"]
    ):
        if np.ndim(positions) != 3 or np.shape(positions)[1:] != np.shape(state.x):
            raise ValueError(
                f"positions must have the shape (steps, *{np.shape(state.x)}), of the particles: given "
                f"{np.shape(positions)}."
            )
        finite("positions", positions)
        self.config, self.particles, self.state, self.positions = config, particles, state, positions

    def residuals(self, theta: Float[Array, " 2"], positions: Float[Array, "steps p dim"]) -> Array:
        """How far the simulated positions are from `positions`."""
        steps = len(self.positions)
        same_shape("positions", positions, "those that were observed", np.shape(self.positions))
        return roll(self.config, self.particles, self.state, jelly(*moduli(theta)), steps).recorded - positions

    def loss(self, theta: Float[Array, " 2"]) -> Array:
        r""":math:`10^4` times the mean square of the residuals."""
        return LOSS_SCALE * jnp.mean(self.residuals(theta, self.positions) ** 2)


@dataclass(frozen=True)
class Found:
    """What a method found, and how many simulations it took."""

    name: str
    E: float
    nu: float
    simulations: int
    """Simulations, each counted as one with its derivative or without."""
    loss: float


def _found(name: str, theta: Any, simulations: int, observed: Observed, loss: Callable[..., Any]) -> Found:
    E, nu = moduli(jnp.asarray(theta))
    return Found(name, float(E), float(nu), simulations, float(loss(theta)))


def by_adam(observed: Observed, start: np.ndarray, *, only_E: bool, steps: int = 40, rate: float = 0.2) -> Found:
    """Adam with a rate that falls to zero by a cosine; with `only_E` Poisson's ratio stays as it is."""
    whole = lambda free: jnp.concatenate([free, jnp.asarray(start[1:])]) if only_E else free
    trainer = Trainer(
        lambda free, data, key: observed.loss(whole(free)),
        optax.adam(optax.cosine_decay_schedule(rate, steps)),
        steps=steps,
    )
    course = trainer(jnp.asarray(start[:1] if only_E else start), key=jax.random.key(0))
    name = f"Adam, {'E' if only_E else 'E and ν'}"
    return _found(name, whole(course.model), steps, observed, jax.jit(observed.loss))


def by_least_squares(observed: Observed, start: np.ndarray) -> tuple[Found, Any]:
    """`dini.least_squares` for both moduli, and its solution."""
    solution = dini.least_squares(observed.residuals, jnp.asarray(start), observed.positions)
    # at the start and after each step
    count = int(solution.stats.steps) + 1
    return _found("dini.least_squares, E and ν", solution.x, count, observed, jax.jit(observed.loss)), solution.x


def by_evolution(
    observed: Observed, start: np.ndarray, counts: tuple[int, ...], *, seed: int, spread: float = 0.3
) -> list[Found]:
    """CMA-ES with its own settings, by the package `cma`: the best of so many first simulations, for each count.

    A simulation that is not finite is as bad as any can be.
    """
    loss = jax.jit(observed.loss)
    strategy = cma.CMAEvolutionStrategy(start, spread, {"seed": seed + 1, "verbose": -9})
    tried, losses = [], []
    while len(tried) < max(counts) and not strategy.stop():
        asked = strategy.ask()
        found = [float(loss(jnp.asarray(one))) for one in asked]
        strategy.tell(asked, [value if np.isfinite(value) else np.finfo(float).max for value in found])
        tried += asked
        losses += found
    best = [tried[int(np.nanargmin(losses[:count]))] for count in counts]
    return [
        _found("CMA-ES, E and ν", one, min(count, len(tried)), observed, loss)
        for one, count in zip(best, counts, strict=True)
    ]


def modulus_error(observed: Observed, theta: Array, noise: float) -> tuple[float, float]:
    r"""The relative standard error of :math:`E` for positions with independent errors of size `noise`, in two ways.

    The identified modulus is a function of the observed positions by an implicit derivative,
    :math:`\sigma_E / E = \sigma\, \|\partial \log E^\star / \partial x^\text{ref}\|`: by dini, through the solution of
    :func:`by_least_squares`. In closed form it is :math:`\sigma \sqrt{(J^\top J)^{-1}_{11}}` with the Jacobian of
    the residuals, exact where these vanish.
    """

    def identified(positions: Array) -> Array:
        return dini.least_squares(observed.residuals, theta, positions).x[0]

    slope = jax.grad(identified)(observed.positions)
    J = jax.jacfwd(lambda theta: observed.residuals(theta, observed.positions))(theta).reshape(-1, 2)
    closed = jnp.sqrt(jnp.linalg.inv(J.T @ J)[0, 0])
    return float(noise * jnp.linalg.norm(slope)), float(noise * closed)
