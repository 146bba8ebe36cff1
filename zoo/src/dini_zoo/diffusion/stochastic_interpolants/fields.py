r"""The fields of an interpolant, whichever of them was learned: velocity and score.

.. math:: b = v + \dot\gamma \eta = v - \gamma \dot\gamma s, \qquad s = -\eta / \gamma .
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from dini_zoo.kit.checking import not_negative

from ..interpolants import Interpolant, LinearInterpolant
from ..processes import Field, beside


class Fields(eqx.Module):
    r"""The velocity :math:`b` and the score :math:`s` along an interpolant.

    Made by one of the class methods, from what was learned. `score` is none where there is none: then only the flow can
    be sampled.
    """

    velocity: Field
    score: Field | None = None

    @classmethod
    def of_velocity(cls, interpolant: Interpolant, velocity: Field, noise: Field | None = None) -> Fields:
        r"""From :math:`b` and, where there is a score, :math:`\eta`.

        For a one-sided interpolant :math:`\eta` is that of :math:`x_0`, which the velocity alone gives.
        """
        if isinstance(interpolant, LinearInterpolant) and interpolant.one_sided:
            return cls(velocity, _one_sided_score(interpolant, velocity))
        return cls(velocity, None if noise is None else _score(interpolant, noise))

    @classmethod
    def of_drift(cls, interpolant: Interpolant, drift: Field, noise: Field) -> Fields:
        r"""From :math:`v` and :math:`\eta`."""
        score = _score(interpolant, noise)

        def velocity(x: Array, t: Any) -> Array:
            return drift(x, t) - beside(interpolant.gamma_at(t)[1], x) * score(x, t)

        return cls(velocity, score)

    @classmethod
    def of_noise(cls, interpolant: LinearInterpolant, noise: Field) -> Fields:
        r"""From :math:`\eta` alone, where that is enough: one-sided interpolants, with :math:`\eta = E[x_0 \mid x_t]`,
        and the mirror.

        Raises `ValueError` for another interpolant.
        """
        if interpolant.mirror:
            zero = lambda x, t: jnp.zeros_like(x)
            return cls.of_drift(interpolant, zero, noise)
        if not interpolant.one_sided:
            raise ValueError(
                "of_noise needs a one-sided interpolant or the mirror: given another one, whose velocity is not a "
                "function of the noise alone."
            )

        def velocity(x: Array, t: Any) -> Array:
            at = interpolant.at(t)
            ratio = at.beta_dot / at.beta
            return beside(ratio, x) * x + beside(at.alpha_dot - at.alpha * ratio, x) * noise(x, t)

        return cls(velocity, lambda x, t: -noise(x, t) / beside(interpolant.at(t).alpha, x))

    def forward(self, eps: Any) -> Field:
        r"""The drift :math:`b + \epsilon s` of the SDE with noise :math:`\sqrt{2 \epsilon}\, dW`."""
        return self._drift(eps, 1.0)

    def backward(self, eps: Any) -> Field:
        r"""The drift :math:`b - \epsilon s` of the SDE that runs from time 1 to 0."""
        return self._drift(eps, -1.0)

    def _drift(self, eps: Any, sign: float) -> Field:
        if self.score is None:
            raise ValueError("An SDE needs a score, and an interpolant with gamma = 0 has none: sample the flow.")
        not_negative("eps", eps)
        score = self.score
        return lambda x, t: self.velocity(x, t) + sign * eps * score(x, t)


def _score(interpolant: Interpolant, noise: Field) -> Field:
    return lambda x, t: -noise(x, t) / beside(interpolant.gamma_at(t)[0], x)


def _one_sided_score(interpolant: LinearInterpolant, velocity: Field) -> Field:
    r"""From :math:`b = (\dot\beta / \beta) x + (\dot\alpha - \alpha \dot\beta / \beta) \eta`."""

    def score(x: Array, t: Any) -> Array:
        at = interpolant.at(t)
        noise = (beside(at.beta, x) * velocity(x, t) - beside(at.beta_dot, x) * x) / beside(
            at.alpha_dot * at.beta - at.alpha * at.beta_dot, x
        )
        return -noise / beside(at.alpha, x)

    return score
