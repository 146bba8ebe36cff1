r"""Masked diffusion of sequences: noise hides tokens, and the reverse fills them in.

At level :math:`i` of :math:`T` each token is hidden with probability :math:`m_i`, independently of the others. A
denoiser says for each position how probable each token is, given what is not hidden. A hidden position stays so with
probability :math:`m_{i-1} / m_i` on the way to level :math:`i - 1`, and else takes a token by those probabilities.

References
----------
Sahoo, Arriola, Schiff, Gokaslan, Marroquin, Chiu, Rush and Kuleshov, "Simple and effective masked diffusion language
models", NeurIPS 2024 (arXiv 2406.07524).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, inside, known, positive

from .processes import Field

#: The probability of a mask at a time, from 0 at time 0 to 1 at time 1.
type Curve = Callable[[Any], Any]


def linear_mask(t: Any) -> Any:
    r""":math:`m(t) = t`."""
    return t


def cosine_mask(t: Any) -> Any:
    r""":math:`m(t) = \sin(\pi t / 2)`: the reverse reveals few tokens at first, and most of them late."""
    return jnp.sin(0.5 * jnp.pi * t)


def power_mask(power: float) -> Curve:
    r""":math:`m(t) = t^p`."""
    positive("power", power)
    return lambda t: t**power


def masks_of(curve: Curve, steps: int) -> Float[Array, " T1"]:
    """Probabilities of a mask at levels 0 to `steps`, whose times are in equal steps from 0 to 1."""
    at_least("steps", steps, 1)
    return curve(jnp.linspace(0.0, 1.0, steps + 1))


def linear_masks(steps: int, *, highest: float = 1.0) -> Float[Array, " T1"]:
    """Probabilities of a mask at levels 0 to `steps`, in equal steps from zero to `highest`."""
    at_least("steps", steps, 1)
    return jnp.linspace(0.0, highest, steps + 1)


def token_probabilities(
    logits: Float[Array, "... L K"], x: Int[Array, "... L"], *, mask: int
) -> Float[Array, "... L K"]:
    """The law of each token of the clean sequence: by the logits where it is hidden, certain where it is seen.

    Raises `ValueError` for numbers that are no tokens; where they are traced, their law is NaN.
    """
    at_least("mask", mask, 0)
    x = x if known(x) else jnp.asarray(x)
    hidden = x == mask
    right = inside("x", np.where(hidden, 0, x) if known(x) else jnp.where(hidden, 0, x), logits.shape[-1])
    seen = jax.nn.one_hot(x, logits.shape[-1], dtype=logits.dtype)
    found = jnp.where(hidden[..., None], jax.nn.softmax(logits, axis=-1), seen)
    return found if right is True else jnp.where(right[..., None], found, jnp.nan)


def filled(
    x: Int[Array, "... L"], probabilities: Float[Array, "... L K"], *, mask: int, key: Array | None = None
) -> Int[Array, "... L"]:
    """The sequence with each hidden token replaced: by the most probable one, or with a key by a random one.

    Where probabilities are not finite the token stays hidden.
    """
    if key is None:
        tokens = jnp.argmax(probabilities, axis=-1)
    else:
        tokens = jax.random.categorical(key, jnp.log(probabilities), axis=-1)
    return jnp.where((x == mask) & jnp.all(jnp.isfinite(probabilities), axis=-1), tokens.astype(x.dtype), x)


def revealed(
    uniform: Float[Array, "... L"],
    x: Int[Array, "... L"],
    probabilities: Float[Array, "... L K"],
    stay: Any,
    *,
    mask: int,
) -> Int[Array, "... L"]:
    """One step of the reverse: a hidden token stays so with probability `stay`, else it is drawn.

    `uniform` are uniform random numbers, one for each token; `x` and `probabilities` broadcast against them. Where
    probabilities are not finite the token stays hidden, also in the last step: a mask in a result is no number to use.
    """
    reach = jnp.cumsum(probabilities, axis=-1)
    # what is left of the number that decided on the mask is uniform again
    within = (uniform - stay) / jnp.maximum(1 - stay, jnp.finfo(uniform.dtype).tiny)
    token = jnp.sum(within[..., None] * reach[..., -1:] >= reach[..., :-1], axis=-1).astype(x.dtype)
    return jnp.where((x == mask) & (uniform >= stay) & jnp.isfinite(reach[..., -1]), token, x)


def masked_loss(
    denoise: Field, x0: Int[Array, "n L"], key: Array, *, mask: int, first: float = 1e-3, curve: Curve = linear_mask
) -> Float[Array, ""]:
    r"""A bound of the negative log-likelihood of a sequence, a mean over sequences, for masks with chance :math:`m(t)`.

    .. math:: E_{t}\; \frac{m'(t)}{m(t)} \sum_{l:\, x_t^l \text{ hidden}} -\log p_\theta(x_0^l \mid x_t)

    Its value does not depend on the curve, the variance of its estimate does.

    Parameters
    ----------
    denoise
        A function `(x, m)` of sequences `(n, L)` with masks and the probabilities `(n,)` of one: logits `(n, L, K)`.
    x0
        Tokens from 0 to `K - 1`.
    key
        Of the times, stratified in `(first, 1)`, and of the masks.
    mask
        The number of a hidden token, `K`.
    curve
        :math:`m`, rising from 0 to 1: :func:`linear_mask`, :func:`cosine_mask`, :func:`power_mask` or another one.

    Raises
    ------
    ValueError
        For a curve that is not 0 and 1 at the ends.

    Examples
    --------
    >>> x0 = jnp.zeros((4000, 3), int)
    >>> loss = masked_loss(lambda x, t: jnp.zeros((*x.shape, 4)), x0, jax.random.key(0), mask=4)
    >>> bool(abs(loss - 3 * jnp.log(4.0)) < 0.1)  # uniform guesses: log 4 for each of three tokens
    True
    """
    positive("first", first)
    n = len(x0)
    at_least("the number of sequences", n, 1)
    with jax.ensure_compile_time_eval():
        ends = [float(curve(jnp.asarray(end))) for end in (0.0, 1.0)]
    if not np.allclose(ends, (0.0, 1.0), atol=1e-3):
        raise ValueError(f"curve must be the chance of a mask, 0 at time 0 and 1 at time 1: given {ends}.")
    for_times, for_masks = jax.random.split(key)
    t = first + (1 - first) * (jnp.arange(n) + jax.random.uniform(for_times)) / n
    m, slope = jax.jvp(curve, (t,), (jnp.ones_like(t),))
    hidden = jax.random.uniform(for_masks, x0.shape) < m[:, None]
    logits = denoise(jnp.where(hidden, mask, x0), m)
    of_token = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), x0[..., None], axis=-1)[..., 0]
    return -jnp.mean(jnp.sum(jnp.where(hidden, of_token, 0.0), axis=-1) * slope / m)
