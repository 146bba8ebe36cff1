r"""A baseline that is linear in features of time and observation, fitted on trajectories of the past by dini.

.. math:: w = \arg\min_w \sum_i (\phi_i^\top w - R_i)^2 + \rho \|w\|^2

over the steps that were played, with the discounted rewards to go :math:`R_i`: the linear system
:math:`(\Phi^\top \Phi + \rho I) w = \Phi^\top R`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least, positive

from .estimators import rewards_to_go

Features = Callable[[Any, Any], Any]
"""`features(t, observation)`, a vector."""


class LinearBaseline(eqx.Module):
    r""":math:`b(t, s) = \langle w, \phi(t, s) \rangle`, which is called as `baseline(t, observation)`."""

    weights: Float[Array, " k"]
    features: Features = eqx.field(static=True)

    def __call__(self, t: Any, observation: Any) -> Array:
        """The value of a step."""
        return self.features(t, observation) @ self.weights


def quadratic_features(horizon: int, discount: float) -> Features:
    r"""Features :math:`\gamma^t\, (1, s_1^2, s_1 s_2, \ldots) \otimes (1, t/H, t^2/H^2)` for quadratic rewards.

    Parameters
    ----------
    horizon
        :math:`H`.
    discount
        :math:`\gamma`, above 0 and at most 1: the scale of what is left when discounted from the start.
    """
    at_least("horizon", horizon, 1)
    positive("discount", discount)

    def features(t: Any, observation: Any) -> Array:
        s = jnp.atleast_1d(observation)
        products = jnp.outer(s, s)[jnp.triu_indices(len(s))]
        time = (jnp.asarray(t, s.dtype) / horizon) ** jnp.arange(3)
        return discount**t * jnp.outer(jnp.concatenate([jnp.ones(1, s.dtype), products]), time).ravel()

    return features


def fit_baseline(
    features: Features,
    trajs: Any,
    *,
    discount: Any,
    discount_from: Literal["start", "step"] = "start",
    bootstrap: Callable[[Any], Any] | None = None,
    ridge: Any = 1e-2,
) -> Float[Array, " k"]:
    r"""The weights :math:`w` of a ridge regression of rewards to go on features.

    Parameters
    ----------
    features
        :math:`\phi` as `features(t, observation)`.
    trajs
        Trajectories, mapped along their first axis. They must not be those that the baseline is then used for.
    discount, discount_from, bootstrap
        As in :func:`rewards_to_go`.
    ridge
        :math:`\rho`, positive.

    Raises
    ------
    ValueError
        Where `ridge` is not positive, or there are no trajectories of one axis more than one has.
    """
    positive("ridge", ridge)

    def sums(traj: Any) -> tuple[Array, Array]:
        gains = rewards_to_go(traj, discount=discount, discount_from=discount_from, bootstrap=bootstrap)
        phi = jax.vmap(features)(jnp.arange(len(gains)), traj.observation)
        phi = jnp.where(traj.mask[:, None], phi, 0)
        return phi.T @ phi, phi.T @ gains

    gram, moment = jax.tree.map(lambda parts: jnp.sum(parts, axis=0), jax.vmap(sums)(trajs))
    return dini.linear.solve(
        lambda w: gram @ w,
        moment,
        structure="positive definite",
        solver=dini.linear.Ridge(ridge),
        on_failure="nan",
        name="the baseline's ridge regression",
    )
