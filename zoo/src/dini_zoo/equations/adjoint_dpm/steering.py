"""Initial noises that raise a loss: ascent in a small box around what was drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, finite, one_of, positive, same_shape


class Ascent(NamedTuple):
    """Where an ascent ended."""

    noise: Float[Array, "n ..."]
    losses: Float[Array, "steps n"]
    """Of each sample, before each step. From one that is not finite on, the sample's noise is NaN."""


def clip_perturbation(noise: Float[Array, "n ..."], center: Float[Array, "n ..."], radius: float) -> Array:
    """The nearest point to `noise` of which no number is further than `radius` from that of `center`.

    Raises `ValueError` for a `radius` that is not positive and for numbers that are not finite, or of unlike shapes.
    """
    positive("radius", radius)
    finite("noise", noise)
    finite("center", center)
    same_shape("noise", noise, "center", np.shape(center))
    return jnp.clip(noise, center - radius, center + radius)


def ascend_noise(
    loss: Callable[[Float[Array, "n ..."]], Float[Array, " n"]],
    noise: Float[Array, "n ..."],
    *,
    steps: int = 30,
    rate: float = 0.05,
    radius: float = 0.3,
    rule: Literal["sign", "normalized"] = "sign",
) -> Ascent:
    r"""Noise near the one that was drawn whose samples have a greater loss.

    .. math:: x \leftarrow \mathrm{clip}\big(x + r\, d(\nabla_x L),\; x_T - \delta,\; x_T + \delta\big)

    Parameters
    ----------
    loss
        Of each sample, a function of the batch of noises: a sampler that can be differentiated, and what judges its
        samples. The samples must not depend on one another.
    rate, radius
        :math:`r` and :math:`\delta`.
    rule
        :math:`d` is the gradient's sign, or the gradient of length one for each sample (a gradient of zero stays).

    Raises
    ------
    ValueError
        Without a step, for a `rate` or `radius` that is not positive, another `rule`, a NaN or an infinity in `noise`,
        and where `loss` does not return one number for each sample.

    Examples
    --------
    >>> found = ascend_noise(lambda x: -jnp.sum((x - 1) ** 2, axis=1), jnp.zeros((1, 2)), radius=0.5)
    >>> print(found.noise)
    [[0.5 0.5]]
    """
    at_least("steps", steps, 1)
    positive("rate", rate)
    one_of("rule", rule, ("sign", "normalized"))
    finite("noise", noise)

    def step(x: Array, _: Any) -> tuple[Array, Array]:
        losses, pull = jax.vjp(loss, x)
        if jnp.shape(losses) != (len(x),):
            raise ValueError(
                f"loss must return one number for each of the {len(x)} samples: given shape {jnp.shape(losses)}."
            )
        (slope,) = pull(jnp.ones_like(losses))
        if rule == "sign":
            direction = jnp.sign(slope)
        else:
            length = jnp.sqrt(jnp.sum(slope**2, axis=tuple(range(1, x.ndim)), keepdims=True))
            direction = slope / jnp.where(length > 0, length, 1.0)
        # there is no way up from a loss that is no number, though its gradient may be some
        each = (slice(None), *(None,) * (x.ndim - 1))
        direction = jnp.where(jnp.isfinite(losses)[each], direction, jnp.nan)
        return clip_perturbation(x + rate * direction, noise, radius), losses

    return Ascent(*jax.lax.scan(step, noise, length=steps))
