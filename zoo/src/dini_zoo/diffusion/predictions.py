r"""What a network may predict, converted: noise, data, score, velocity.

With :math:`x = \alpha x_0 + \sigma \varepsilon` each of these gives all others, for any process:

.. math::
    \varepsilon = (x - \alpha x_0) / \sigma, \qquad \nabla \log p = -\varepsilon / \sigma, \qquad
    v = -\sin\varphi\; x_0 + b \cos\varphi\; \varepsilon, \qquad \varphi = \arctan\big(\sigma / (b \alpha)\big).

:math:`b` is the noise's standard deviation at the end of the process: 1, if it preserves the variance.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import not_negative, one_of

from .processes import Field, Process, beside

PREDICTIONS = ("noise", "data", "score", "velocity")


def convert(
    value: Float[Array, "n ..."],
    x: Float[Array, "n ..."],
    alpha: Any,
    sigma: Any,
    source: str,
    target: str,
    *,
    bound: Any = 1.0,
) -> Float[Array, "n ..."]:
    r"""One kind of prediction from another.

    Parameters
    ----------
    value
        What was predicted at `x`.
    alpha, sigma
        :math:`\alpha > 0` and :math:`\sigma > 0`: numbers, or one for each point.
    source, target
        `"noise"`, `"data"`, `"score"` or `"velocity"`; `ValueError` else.
    bound
        :math:`b`, which only a velocity depends on.

    Examples
    --------
    >>> x0, noise = jnp.array([[1.0]]), jnp.array([[2.0]])
    >>> convert(noise, 0.6 * x0 + 0.8 * noise, 0.6, 0.8, "noise", "data")
    Array([[1.]], dtype=float32)
    """
    one_of("source", source, PREDICTIONS)
    one_of("target", target, PREDICTIONS)
    not_negative("alpha", alpha)
    not_negative("sigma", sigma)
    if source == target:
        return value
    a, s = beside(alpha, x), beside(sigma, x)
    # the point in the coordinates in which signal and noise turn into one another
    length = jnp.sqrt(a**2 + (s / bound) ** 2)
    cos, sin, y = a / length, s / bound / length, x / length
    if source == "score":
        value, source = -s * value, "noise"
    if source == "velocity":
        data, noise = cos * y - sin * value, (sin * y + cos * value) / bound
    elif source == "noise":
        data, noise = (x - s * value) / a, value
    else:
        data, noise = value, (x - a * value) / s
    match target:
        case "data":
            return data
        case "noise":
            return noise
        case "score":
            return -noise / s
        case _:
            return bound * cos * noise - sin * data


def converted(model: Field, process: Process, source: str, target: str, *, bound: Any = 1.0) -> Field:
    """A model that predicts one thing, as a function `(x, t)` that predicts another."""
    one_of("source", source, PREDICTIONS)
    one_of("target", target, PREDICTIONS)
    return lambda x, t: convert(model(x, t), x, process.alpha(t), process.sigma(t), source, target, bound=bound)
