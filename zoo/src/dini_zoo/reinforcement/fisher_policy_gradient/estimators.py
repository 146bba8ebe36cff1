r"""Estimates of the gradient and of Hessian-vector products of the expected return, from one trajectory.

Of a trajectory :math:`\tau` of a policy :math:`\pi_\theta`, with reward sums that are constants,

.. math:: \Phi(\tau, \theta) = \sum_{t<H} \Bigl(\sum_{h=t}^{H-1} \gamma^h r_h - b(t, s_t)\Bigr)
          \log \pi_\theta(a_t \mid s_t), \qquad
          S = \sum_{t<H} \nabla \log \pi_\theta(a_t \mid s_t),

.. math:: g = \nabla \Phi, \qquad B u = (\nabla^2 \Phi)\, u + g\, \langle S, u \rangle, \qquad
          \mathbb{E}\, g = \nabla J, \quad \mathbb{E}\, B u = \nabla^2 J\, u .

A trajectory is a :class:`dini_zoo.reinforcement.trajectories.Trajectory`, or anything with its fields `observation`,
`action`, `reward` and `mask`, each with time as the first axis; `mask` says which steps were played. Of several
trajectories these functions are mapped by `jax.vmap`, and the mean is taken afterwards: a mean of products is no
product of means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import known, returned, trainable

from ..trajectories import discounted_returns
from .score import score_hvp

LogProb = Callable[[Any, Any, Any], Any]
"""`log_prob(params, observation, action)`, of one step."""
Baseline = Callable[[Any, Any], Any]
"""`baseline(t, observation)`, of one step."""


def rewards_to_go(
    traj: Any,
    *,
    discount: Any,
    discount_from: Literal["start", "step"] = "start",
    bootstrap: Callable[[Any], Any] | None = None,
) -> Float[Array, " T"]:
    r"""The sums :math:`\sum_{h \ge t} \gamma^h r_h` of what was played, or :math:`\sum_{h \ge t} \gamma^{h-t} r_h`.

    Parameters
    ----------
    traj
        One trajectory.
    discount
        :math:`\gamma`, above 0 and at most 1.
    discount_from
        From the first step on, or from each step itself.
    bootstrap
        As in :func:`policy_gradient`.

    Raises
    ------
    ValueError
        Where the discount is none, or the trajectory has no steps or several axes in its rewards.
    """
    _check(traj, discount)
    value = 0.0
    if bootstrap is not None:
        # a trajectory that was over before, or with its last step, has nothing to come
        open_ended = traj.mask[-1] & ~traj.terminal[-1]
        last = jax.tree.map(lambda leaf: jnp.where(open_ended, leaf[-1], 0), traj.next_observation)
        value = jnp.where(open_ended, returned("bootstrap", bootstrap(last), ()), 0)
    return discounted_returns(
        jnp.asarray(traj.reward), discount, mask=traj.mask, discount_from=discount_from, bootstrap=value
    )


def log_likelihood(log_prob: LogProb, params: Any, traj: Any) -> Float[Array, ""]:
    r"""The part of a trajectory's log-density that depends on the policy: :math:`\sum_t \log \pi_\theta(a_t \mid s_t)`.

    Steps that were not played do not count, whatever their observations hold.
    """
    return jnp.sum(_log_probs(log_prob, params, traj))


def log_weight(log_prob: LogProb, params: Any, drawn_at: Any, traj: Any) -> Float[Array, ""]:
    r""":math:`\log p(\tau \mid \theta) - \log p(\tau \mid \theta')` of a trajectory that was drawn at `drawn_at`."""
    traj = jax.lax.stop_gradient(traj)
    return jnp.sum(_log_probs(log_prob, params, traj) - _log_probs(log_prob, drawn_at, traj))


def policy_gradient(
    log_prob: LogProb,
    params: Any,
    traj: Any,
    *,
    baseline: Baseline | None = None,
    discount: Any,
    discount_from: Literal["start", "step"] = "start",
    bootstrap: Callable[[Any], Any] | None = None,
) -> Any:
    r"""The estimate :math:`g = \nabla \Phi(\tau, \theta)` of the gradient of the expected discounted return.

    Parameters
    ----------
    log_prob
        :math:`\log \pi_\theta(a \mid s)` as `log_prob(params, observation, action)`, of one step.
    params
        :math:`\theta`, a tree of arrays, with which the trajectory was drawn.
    traj
        One trajectory of :math:`H` steps; a constant in all derivatives.
    baseline
        :math:`b(t, s)` as `baseline(t, observation)`, in the units of the rewards to go; none by default. It must not
        be fitted on the same trajectory, nor depend on :math:`\theta`.
    discount
        :math:`\gamma`, above 0 and at most 1.
    discount_from
        Discount from the first step, which makes the estimate one of :math:`\nabla J`; or from each step, as most
        programs do, which weighs late steps as early ones and estimates the gradient of no function.
    bootstrap
        The value :math:`v(s_H)` of what comes after the clock struck, a fixed function of an observation. It counts
        where the last step was played and not terminal. Without it the objective ends with the horizon.

    Returns
    -------
    A tree like `params`.

    Raises
    ------
    TypeError
        Where `params` holds anything but floats.
    ValueError
        Where the discount is none, or the trajectory has no steps or several axes in its rewards.
    """
    trainable("params", params)
    return jax.grad(_surrogate(log_prob, traj, baseline, discount, discount_from, bootstrap))(params)


def policy_hvp(
    log_prob: LogProb,
    params: Any,
    traj: Any,
    tangent: Any,
    *,
    baseline: Baseline | None = None,
    discount: Any,
    discount_from: Literal["start", "step"] = "start",
    bootstrap: Callable[[Any], Any] | None = None,
) -> Any:
    r"""The estimate :math:`B u = (\nabla^2 \Phi)\, u + g\, \langle S, u \rangle` of the Hessian of `J` times a vector.

    One derivative of a gradient along :math:`u`, and one inner product. Its variance grows with the square of the
    horizon times that of the return, so that a baseline is needed in practice.

    Parameters
    ----------
    log_prob, params, traj, baseline, discount, discount_from, bootstrap
        As in :func:`policy_gradient`.
    tangent
        :math:`u`, a tree like `params`.

    Returns
    -------
    A tree like `params`.

    Raises
    ------
    TypeError
        Where `params` holds anything but floats.
    ValueError
        As :func:`policy_gradient` does, and where `tangent` is no tree like `params`.
    """
    traj = jax.lax.stop_gradient(traj)
    surrogate = _surrogate(log_prob, traj, baseline, discount, discount_from, bootstrap)
    return score_hvp(jax.grad(surrogate), lambda theta: log_likelihood(log_prob, theta, traj), params, tangent)


def _surrogate(
    log_prob: LogProb,
    traj: Any,
    baseline: Baseline | None,
    discount: Any,
    discount_from: Literal["start", "step"],
    bootstrap: Callable[[Any], Any] | None,
) -> Callable[[Any], Array]:
    """The function of the parameters that is differentiated."""
    traj = jax.lax.stop_gradient(traj)
    gains = rewards_to_go(traj, discount=discount, discount_from=discount_from, bootstrap=bootstrap)
    gains = jax.lax.stop_gradient(gains)
    if baseline is not None:
        expected = lambda t, seen: returned("baseline", baseline(t, seen), ())
        gains = gains - jax.lax.stop_gradient(jax.vmap(expected)(jnp.arange(len(gains)), _played(traj)[0]))
    gains = jnp.where(traj.mask, gains, 0)
    return lambda params: jnp.sum(gains * _log_probs(log_prob, params, traj))


def _log_probs(log_prob: LogProb, params: Any, traj: Any) -> Float[Array, " T"]:
    one = lambda observation, action: returned("log_prob", log_prob(params, observation, action), ())
    found = jax.vmap(one)(*_played(traj))
    return jnp.where(traj.mask, found, 0)


def _played(traj: Any) -> tuple[Any, Any]:
    """Observations and actions, with the first step's in place of those that were not played.

    What stands there may be no number, and the derivative of a choice is not finite where that of either side is not.
    """

    def first(leaf: Any) -> Array:
        played = traj.mask.reshape(traj.mask.shape + (1,) * (jnp.ndim(leaf) - 1))
        return jnp.where(played, leaf, leaf[:1])

    return jax.tree.map(first, traj.observation), jax.tree.map(first, traj.action)


def _check(traj: Any, discount: Any) -> None:
    if known(discount) and not 0 < float(discount) <= 1:
        raise ValueError(f"discount must be above 0 and at most 1: given {discount}.")
    shape = np.shape(traj.reward)
    if len(shape) != 1 or shape != np.shape(traj.mask) or not shape[0]:
        raise ValueError(
            "traj must be one trajectory of at least one step, whose rewards and mask have time as their only axis: "
            f"given {shape} and {np.shape(traj.mask)}. Of several trajectories, map with jax.vmap."
        )
