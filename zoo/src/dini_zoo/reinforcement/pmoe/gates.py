r"""The gate's gradient by frequencies: which component's sample is best, and how often.

For each state one action of each component is drawn, :math:`v_i = 1` for the one with the largest value and zero for
the others. The gate is regressed on this indicator,

.. math:: L = \mathrm{mean}_s\; \frac1K \sum_i \bigl(w_i(s) - v_i\bigr)^2,

whose expectation is least where :math:`w_i` is :math:`P(i\text{ is best})`. That point is also the root of the expected
gradient, which dini solves for and differentiates.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import finite, known, one_of, positive, same_shape

GateLoss = Literal["squared", "cross-entropy"]


def win_shares(q_values: Float[Array, "*axes K"]) -> Float[Array, "*axes K"]:
    r""":math:`v`: one for the largest value, zero for the others, without a derivative.

    Values that are equally large share the one among them: this is the expectation of a tie broken at random. A value
    that is not a number makes all of its state's shares so.
    """
    q_values = jax.lax.stop_gradient(jnp.asarray(q_values))
    best = jnp.max(q_values, axis=-1, keepdims=True)
    # a compiler may recompute the values beside their maximum, rounded otherwise, and equal to it nowhere
    first = jax.nn.one_hot(jnp.argmax(q_values, axis=-1), q_values.shape[-1], dtype=q_values.dtype)
    wins = jnp.maximum(first, (q_values == best).astype(q_values.dtype))
    return jnp.where(jnp.isnan(best), jnp.nan, wins / jnp.sum(wins, axis=-1, keepdims=True))


def frequency_gate_loss(
    logits: Float[Array, "*axes K"], q_values: Float[Array, "*axes K"], *, kind: GateLoss = "squared"
) -> Float[Array, ""]:
    r"""The gate's loss, the mean over states and components of :math:`(w_i - v_i)^2`.

    Parameters
    ----------
    logits
        Of the gate, :math:`w = \mathrm{softmax}`.
    q_values
        Of one sample of each component: no derivative goes through them.
    kind
        `"cross-entropy"` is :math:`-\sum_i v_i \log w_i`, averaged over states: the same minimizer, and a gradient that
        does not vanish where the gate is sure and wrong.

    Raises
    ------
    ValueError
        If shapes differ, a logit that is known is not finite, or the kind has another name.
    """
    one_of("kind", kind, ("squared", "cross-entropy"))
    same_shape("q_values", q_values, "logits", np.shape(logits))
    finite("logits", logits)
    shares = win_shares(q_values)
    if kind == "cross-entropy":
        return -jnp.mean(jnp.sum(shares * jax.nn.log_softmax(logits, axis=-1), axis=-1))
    return jnp.mean((jax.nn.softmax(logits, axis=-1) - shares) ** 2)


def expected_gate_loss(logits: Float[Array, " K"], win_probability: Float[Array, " K"]) -> Float[Array, ""]:
    r"""The expectation of `frequency_gate_loss` over samples: :math:`\frac1K \sum_i [w_i^2 - 2 w_i P_i + P_i]`.

    :math:`P_i` is the probability that component i is best, and so the mean of :math:`v_i` and of its square.

    Examples
    --------
    >>> print(expected_gate_loss(jnp.zeros(2), jnp.array([0.5, 0.5])))
    0.25
    """
    w = jax.nn.softmax(logits)
    return jnp.mean(w**2 - 2 * w * win_probability + win_probability)


def gate_fixed_point(
    win_probability: Float[Array, " K"], logits: Float[Array, " K"] | None = None
) -> Float[Array, " K"]:
    r"""The gate's logits where the expected gradient of its loss vanishes; their mean is zero.

    The root of :math:`\mathrm{diag}(w)^{-1} \nabla_\ell\, E L(\ell) + \bar\ell\, 1`. The gradient has a factor
    :math:`w_i` in each entry, without which the logits of rare wins are found as well as others. It has no part along
    the ones, by which the weights do not change; the second term fixes that. At the root :math:`w = P`. The derivative
    in :math:`P`, and in all that it is computed from, is the implicit function theorem's.

    Parameters
    ----------
    win_probability
        :math:`P`, which must be positive and sum to one: `win_probability` has it for normal values.
    logits
        Where the search starts; at equal weights if it is not given.

    Raises
    ------
    ValueError
        If probabilities that are known are not positive, or do not sum to one.
    dini.SolveError
        If no root is found.

    Examples
    --------
    >>> print(jax.nn.softmax(gate_fixed_point(jnp.array([0.5, 0.25, 0.25]))).round(3))
    [0.5  0.25 0.25]
    """
    P = jnp.asarray(win_probability)
    if P.ndim != 1:
        raise ValueError(f"win_probability must have one axis, of components: given shape {P.shape}.")
    if known(P):
        positive("win_probability", P)
        if abs(float(jnp.sum(P)) - 1) > 100 * float(jnp.finfo(P.dtype).eps) ** 0.75:
            raise ValueError(f"win_probability must sum to one: given {float(jnp.sum(P))!r}.")
    start = jnp.zeros_like(P) if logits is None else jnp.asarray(logits, P.dtype)
    same_shape("logits", start, "win_probability", P.shape)

    def residual(logits: Array, P: Array) -> Array:
        return jax.grad(expected_gate_loss)(logits, P) / jax.nn.softmax(logits) + jnp.mean(logits)

    return dini.root(residual, start, P).x


#: Nodes of a panel, and panels on each side of a mean in units of its deviation.
_NODES, _PANELS = 16, 9


def win_probability(mean: Float[Array, " K"], std: Float[Array, " K"]) -> Float[Array, " K"]:
    r"""The probability of each of several independent normal numbers to be the largest.

    .. math:: P_i = \int N(x; \mu_i, \sigma_i) \prod_{j \ne i} \Phi\Bigl(\frac{x - \mu_j}{\sigma_j}\Bigr)\, dx.

    For values that are affine in a one-dimensional action, :math:`q a + b`, they are those of :math:`q \mu_i` and
    :math:`|q| \sigma_i`. Panels of Gauss and Legendre's rule end at whole deviations from each mean, so that deviations
    may differ by any factor; two numbers have the closed form
    :math:`\Phi((\mu_1 - \mu_2) / \sqrt{\sigma_1^2 + \sigma_2^2})`.

    Raises
    ------
    ValueError
        If shapes differ, or a mean or deviation that is known is not finite or not positive.
    """
    dtype = jnp.result_type(mean, std, jnp.float32)
    mean, std = jnp.asarray(mean, dtype), jnp.asarray(std, dtype)
    if mean.ndim != 1 or mean.shape[0] < 1:
        raise ValueError(f"mean must have one axis, of at least one number: given shape {mean.shape}.")
    same_shape("std", std, "mean", mean.shape)
    finite("mean", mean)
    positive("std", std)
    # the rule is exact to rounding wherever the panels end, and so the ends need no derivative
    ends = mean[:, None] + std[:, None] * jnp.arange(-_PANELS, _PANELS + 1, dtype=mean.dtype)
    ends = jax.lax.stop_gradient(jnp.sort(ends.reshape(-1)))
    nodes, weights = (jnp.asarray(one, mean.dtype) for one in np.polynomial.legendre.leggauss(_NODES))
    half = jnp.diff(ends)[:, None] / 2
    x = ends[:-1, None] + half * (1 + nodes)
    z = (x - mean[:, None, None]) / std[:, None, None]
    below: Any = jax.scipy.stats.norm.logcdf(z)
    density = jax.scipy.stats.norm.logpdf(z) - jnp.log(std)[:, None, None]
    others = jnp.sum(below, axis=0) - below
    return jnp.sum(half * weights * jnp.exp(density + others), axis=(1, 2))
