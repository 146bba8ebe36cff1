r"""How learning rates change with the batch size.

Gradient descent is stable in the sharpest direction of a batch while :math:`\alpha < 2 / \lambda_1(H_b)`. Where the
noise prevails, :math:`b \ll b^* = P \sigma^2 / \lambda_1^2`, the largest rate grows linearly with the batch; beyond, it
saturates at :math:`2 / \lambda_1`. Adaptive methods equalize the sharp directions, and the edge of the noise's bulk,
:math:`2 \sigma \sqrt{P / b}`, is what limits them: their rate grows with the root of the batch.

A caution: :math:`b < b^*` is where the spike is lost in isotropic noise, and the edge of its bulk would give a root law
for SGD as well. The linear law is that of the spike's expression outside of its range, which noise with directions
follows. The functions here always take that expression; :func:`batch_extreme_eigenvalues` switches to the edge.
"""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array

from .eigenvalues import Number, effective_batch_size, not_negative, number, positive


def critical_batch_size(largest: Number, noise: Number) -> Array:
    r"""The batch :math:`b^* = P \sigma^2 / \lambda_1^2` up to which SGD's rate grows.

    Examples
    --------
    >>> print(critical_batch_size(2.0, 12.0))
    3.0
    """
    largest, noise = (
        number("largest", largest, positive, "positive"),
        number("noise", noise, not_negative, "at least 0"),
    )
    return noise / largest**2


def max_learning_rate(largest: Number, noise: Number, batch_size: Number, num_data: Number | None = None) -> Array:
    r"""SGD's largest stable rate, :math:`\alpha = 2 / (\lambda_1 + P \sigma^2 / (b_{eff} \lambda_1))`.

    Parameters
    ----------
    largest
        :math:`\lambda_1`, positive.
    noise
        :math:`P \sigma^2`, or :math:`V_1` along the first eigenvector (:func:`hessian_noise`).
    batch_size, num_data
        As in :func:`effective_batch_size`.

    Raises
    ------
    ValueError
        For a `largest` that is not positive, a negative noise, a batch smaller than one or larger than the data.

    Examples
    --------
    >>> print([f"{max_learning_rate(2.0, 12.0, b):.3f}" for b in (1, 3, 300)])
    ['0.250', '0.500', '0.990']
    """
    largest, noise = (
        number("largest", largest, positive, "positive"),
        number("noise", noise, not_negative, "at least 0"),
    )
    return 2 / (largest + noise / (effective_batch_size(batch_size, num_data) * largest))


def scale_learning_rate(
    learning_rate: Number,
    old_batch_size: Number,
    new_batch_size: Number,
    kind: Literal["sgd", "adaptive"] = "sgd",
    *,
    largest: Number | None = None,
    noise: Number | None = None,
) -> Array:
    r"""A learning rate for another batch size.

    For SGD the ratio of the largest stable rates,

    .. math:: \frac{\alpha'}{\alpha} = \frac{\lambda_1^2 + P \sigma^2 / b}{\lambda_1^2 + P \sigma^2 / b'} ,

    which is :math:`b' / b` where the noise prevails, and one where it does not; for adaptive methods
    :math:`\sqrt{b' / b}`.

    Parameters
    ----------
    learning_rate
        That of the old batch size.
    old_batch_size, new_batch_size
        :math:`b` and :math:`b'`, both drawn with replacement or small beside the data.
    kind
        `"sgd"`, or `"adaptive"` for Adam and similar ones.
    largest, noise
        :math:`\lambda_1` and :math:`P \sigma^2`, both or none: without them SGD's rule is the linear one, which holds
        below the critical batch size and diverges beyond.

    Raises
    ------
    ValueError
        For another `kind`, one of `largest` and `noise` without the other or for adaptive methods, and numbers out of
        range.

    Examples
    --------
    >>> known = {"largest": 2.0, "noise": 12.0}
    >>> print(f"{scale_learning_rate(0.1, 32, 128):.2f} {scale_learning_rate(0.1, 32, 128, **known):.2f}")
    0.40 0.11
    >>> print(scale_learning_rate(0.1, 32, 128, "adaptive"))
    0.2
    """
    if kind not in ("sgd", "adaptive"):
        raise ValueError(f"kind must be 'sgd' or 'adaptive': given {kind!r}.")
    if (largest is None) != (noise is None):
        raise ValueError("scale_learning_rate needs both largest and noise, or none of them.")
    if kind == "adaptive" and largest is not None:
        raise ValueError("largest and noise are of SGD's rule: that of adaptive methods has no use for them.")
    old, new = effective_batch_size(old_batch_size), effective_batch_size(new_batch_size)
    rate = number("learning_rate", learning_rate, positive, "positive")
    if kind == "adaptive":
        return rate * jnp.sqrt(new / old)
    if largest is None or noise is None:
        return rate * new / old
    return rate * max_learning_rate(largest, noise, new) / max_learning_rate(largest, noise, old)
