r"""How far a learned SDE's law is from its target, from the errors of its fields.

.. math::
    \mathrm{KL}(\rho_1 \| \hat\rho_1) \le \frac{1}{4 \epsilon} \int_0^1 E |\hat b_F - b_F|^2 dt
    \le \frac{1}{\epsilon} \Delta L_b + \epsilon\, \Delta L_s ,

with the excess :math:`\Delta L` of each loss over its least value. With losses that have a factor 1/2, as here, the
constants that the paper prints in the last member are too small by a factor of two. For the flow there is no such
bound.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import not_negative, positive


def drift_bound(gap: Any, eps: Any) -> Float[Array, ""]:
    r"""The bound from the mean square error of the drift over time and law, `gap`, for noise `eps` above zero."""
    positive("eps", eps)
    not_negative("gap", gap)
    return jnp.asarray(gap) / (4 * eps)


def loss_bound(velocity_excess: Any, score_excess: Any, eps: Any) -> Float[Array, ""]:
    r"""The bound from the excess of both losses, for noise `eps` above zero."""
    positive("eps", eps)
    not_negative("velocity_excess", velocity_excess)
    not_negative("score_excess", score_excess)
    return jnp.asarray(velocity_excess) / eps + eps * jnp.asarray(score_excess)


def best_noise(velocity_excess: Any, score_excess: Any) -> Float[Array, ""]:
    r"""The noise of the least bound, :math:`\sqrt{\Delta L_b / \Delta L_s}`.

    Examples
    --------
    >>> eps = best_noise(0.02, 0.005)
    >>> print(f"{eps:.2f} {loss_bound(0.02, 0.005, eps):.3f} {loss_bound(0.02, 0.005, 1.0):.3f}")
    2.00 0.020 0.025
    """
    not_negative("velocity_excess", velocity_excess)
    positive("score_excess", score_excess)
    return jnp.sqrt(jnp.asarray(velocity_excess) / score_excess)
