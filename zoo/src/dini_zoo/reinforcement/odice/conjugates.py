r"""Regularizers :math:`D_f`, as what the dual needs of them: the conjugate of :math:`f` on :math:`x \ge 0`, its slope.

.. math:: f^*(y) = \max_{x \ge 0}\, x y - f(x), \qquad w(y) = f^{*\prime}(y) \ge 0.

The slope is the optimal ratio of the policy's occupancy to the data's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import one_of

type Divergence = Literal["pearson_chi2", "reverse_kl"]
r""":math:`f(x) = (x - 1)^2`, whose weights are zero from :math:`y = -2` down, or :math:`f(x) = x \log x`."""
DIVERGENCES: tuple[str, ...] = get_args(Divergence.__value__)

type Weight = Literal["relu", "conjugate", "uniform"]
r"""Of actions in behavior cloning: :math:`\max(y, 0)`, as the published code has it, :math:`w(y)`, as the paper, or one
for all, which is plain behavior cloning."""
WEIGHTS: tuple[str, ...] = get_args(Weight.__value__)


class Conjugate(NamedTuple):
    """The conjugate and its slope, functions of an array, element by element."""

    value: Callable[[Array], Array]
    weight: Callable[[Array], Array]


def _chi2_weight(y: Array) -> Array:
    return jnp.maximum(y / 2 + 1, 0.0)


def _chi2_value(y: Array) -> Array:
    w = _chi2_weight(y)
    return y * w - (w - 1) ** 2


def _kl(y: Array) -> Array:
    return jnp.exp(y - 1)


_CONJUGATES = {"pearson_chi2": Conjugate(_chi2_value, _chi2_weight), "reverse_kl": Conjugate(_kl, _kl)}


def conjugate_f(name: Divergence) -> Conjugate:
    r"""The conjugate of a regularizer and its slope.

    ``"pearson_chi2"``: :math:`w = \max(y / 2 + 1, 0)` and :math:`f^* = y w - (w - 1)^2`. ``"reverse_kl"``:
    :math:`f^* = w = e^{y - 1}`, which overflows where residuals are large.

    Raises
    ------
    ValueError
        For another name.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(conjugate_f("pearson_chi2").value(jnp.array([-3.0, 0.0, 2.0])))
    [-1.  0.  3.]
    """
    one_of("name", name, DIVERGENCES)
    return _CONJUGATES[name]


def action_weights(
    residuals: Float[Array, "*n"], weight: Weight = "relu", divergence: Divergence = "pearson_chi2"
) -> Float[Array, "*n"]:
    r"""What each recorded action counts in behavior cloning, from :math:`y = r + \gamma V(s') - V(s)`.

    Raises
    ------
    ValueError
        For another name; and for ``"relu"`` with a regularizer other than Pearson's, whose weights never vanish.
    """
    one_of("weight", weight, WEIGHTS)
    conjugate = conjugate_f(divergence)
    if weight == "uniform":
        return jnp.ones_like(residuals)
    if weight == "conjugate":
        return conjugate.weight(residuals)
    if divergence != "pearson_chi2":
        raise ValueError(
            f"weight='relu' is a form of the weights of 'pearson_chi2': given divergence={divergence!r}. Its weights "
            "are weight='conjugate'."
        )
    return jnp.maximum(residuals, 0.0)
