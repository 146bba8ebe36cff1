r"""A stochastic bilevel problem whose data depend on what is sought: where measurements are to be made, and how smooth.

A learner is given some measurements, at sites that are drawn with probabilities :math:`p_k \propto e^{\theta_k}`, and
fits a line to them by ridge regression with the strength :math:`e^\lambda`. Sought are the :math:`\theta_k` and
:math:`\lambda` for which the line is good at all sites, in the mean over what is drawn:

.. math:: J = \mathbb{E}_{z \sim p_\theta} \Bigl[ \tfrac{1}{K} \sum_k (\phi_k^\top w^\star - y_k)^2 \Bigr]
          + c \bigl(\|\theta\|^2 + \lambda^2\bigr), \qquad
          w^\star = \arg\min_w \tfrac{1}{n} \sum_{i \le n} (\phi_{z_i}^\top w - y_{z_i})^2 + e^\lambda \|w\|^2 .

There are few outcomes, so that the mean, its gradient and its curvature are known exactly.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import dini

from .tasks import ScoreTask

SITES, RESPONSES = np.array([-1.5, -0.5, 0.5, 1.5]), np.array([1.2, -0.4, 0.3, 2.5])
MEASUREMENTS, TOLL = 3, 0.01
FEATURES = np.stack([np.ones_like(SITES), SITES], axis=1)
OUTCOMES = np.array(list(itertools.product(range(len(SITES)), repeat=MEASUREMENTS)))
"""All that may be drawn."""


def start() -> dict[str, Array]:
    """All sites alike, and a strength of one."""
    return {"logits": jnp.zeros(len(SITES)), "penalty": jnp.zeros(())}


def _misfit(w: Array, theta: dict[str, Array], z: Int[Array, " n"]) -> Array:
    X, y = jnp.asarray(FEATURES)[z], jnp.asarray(RESPONSES)[z]
    return jnp.mean((X @ w - y) ** 2) + jnp.exp(theta["penalty"]) * jnp.sum(w**2)


def _loss(w: Array, theta: dict[str, Array]) -> Array:
    toll = TOLL * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(theta))
    return jnp.mean((jnp.asarray(FEATURES) @ w - jnp.asarray(RESPONSES)) ** 2) + toll


LEARNER = dini.Minimize(_misfit)


def value_and_grad(theta: dict[str, Array], z: Int[Array, " n"]) -> tuple[Array, dict[str, Array]]:
    """The loss of a learner with given measurements, and its hypergradient, by `dini.bilevel`."""
    at = dini.bilevel.value_and_hypergradient(
        _loss, LEARNER, theta, jnp.zeros(2), inner_args=(z,), solver=dini.Newton(), on_failure="nan"
    )
    return at.value, at.gradient


def log_density(theta: dict[str, Array], z: Int[Array, " n"]) -> Array:
    """Of the sites that were drawn, in their order."""
    return jnp.sum(jax.nn.log_softmax(theta["logits"])[z])


def draw(key: Array, theta: dict[str, Array]) -> Int[Array, " n"]:
    """The sites of some measurements."""
    return jax.random.categorical(key, theta["logits"], shape=(MEASUREMENTS,))


TASK = ScoreTask(draw, value_and_grad, log_density)


def objective(theta: dict[str, Array]) -> Float[Array, ""]:
    """`J`, by all outcomes, with the learner as an inner problem that dini differentiates."""

    def one(z: Any) -> Array:
        w = dini.solve(LEARNER, dini.Newton(), jnp.zeros(2), theta, z, on_failure="nan").x
        return jnp.exp(log_density(theta, z)) * _loss(w, theta)

    return jnp.sum(jax.vmap(one)(jnp.asarray(OUTCOMES)))


def best() -> float:
    """The least `J`, by dini's minimization of the mean over all outcomes."""
    return float(dini.minimize(objective, start(), solver=dini.BFGS(tol=1e-8)).value)
