"""The experiment's problem, with everything that is known of it: value, gradient, optimum, stationary gain."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini

from ..linear_quadratic import (
    LinearQuadratic,
    double_integrator,
    environment,
    expected_return,
    riccati_gain,
    spectral_radius,
)
from ..policies import log_normal
from ..trajectories import Trajectory, rollout
from .baselines import quadratic_features
from .tasks import PolicyTask

HORIZON, DISCOUNT = 20, 0.9
MOMENT = 0.25 * np.eye(2)
FEATURES = quadratic_features(HORIZON, DISCOUNT)
START = np.zeros((1, 2))


def problem() -> LinearQuadratic:
    """A mass that is accelerated, with noise in its state, in the precision of the run."""
    return double_integrator(noise=0.01, discount=DISCOUNT)


def log_prob(K: Float[Array, "1 2"], observation: Float[Array, " 2"], action: Float[Array, " 1"]) -> Float[Array, ""]:
    """Of a linear policy with normal noise of variance one."""
    return jnp.sum(log_normal(action, -K @ observation, jnp.zeros(())))


def sample(key: Array, K: Float[Array, "1 2"]) -> Trajectory:
    """One trajectory of the linear policy, from a start of the law `N(0, 0.25 I)`."""
    world = environment(problem(), lambda key: 0.5 * jax.random.normal(key, (2,)), HORIZON)
    return rollout(world, lambda key, seen: -K @ seen + jax.random.normal(key, (1,)), key)


TASK = PolicyTask(sample, log_prob, DISCOUNT, features=FEATURES)


def value(K: Float[Array, "1 2"]) -> Float[Array, ""]:
    """`J`, exactly."""
    return expected_return(problem(), K, jnp.asarray(MOMENT), HORIZON, variance=1.0)


@dataclass(frozen=True)
class Truth:
    """What is known of the problem."""

    optimum: np.ndarray
    best: float
    curvatures: np.ndarray
    """Eigenvalues of the Hessian there, rising."""
    root: np.ndarray
    """Where the gradient is zero, by another solver."""
    stationary: np.ndarray
    """The best gain without a horizon."""
    stationary_gap: float
    """What that gain loses with the horizon."""
    radius: float
    """Of the best loop."""


def truth() -> Truth:
    """The optimum as a minimum and as a root, and the gain without a horizon as a fixed point, all by dini."""
    cost = lambda K: -value(K)
    found = dini.minimize(cost, jnp.asarray(START), solver=dini.Newton(tol=1e-10))
    root = dini.root(jax.grad(cost), jnp.asarray(START))
    hessian = jax.hessian(value)(found.x).reshape(2, 2)
    gain = riccati_gain(problem())
    best = float(value(found.x))
    return Truth(
        np.asarray(found.x[0]),
        best,
        np.linalg.eigvalsh(np.asarray(hessian)),
        np.asarray(root.x[0]),
        np.asarray(gain[0]),
        best - float(value(gain)),
        float(spectral_radius(problem(), found.x)),
    )
