r"""How far a prediction moves with its noise, and a penalty on moving by more or less than a running mean.

For a prediction :math:`\hat x(\varepsilon)` and a random direction :math:`y` of about unit length in its space, the
variation norm is

.. math::
    v = s\, \| J^\top y \|, \qquad J = \frac{d \hat x}{d \varepsilon}, \qquad y \sim N(0, I) / \sqrt D, \qquad
    E_y\, v^2 = s^2 \|J\|_F^2 / D.

It is one product with the transposed Jacobian. Training differentiates it again. Where :math:`v` is the same for all
noises and directions, :math:`J` is an orthogonal map times a number, and equal steps of the noise are equal steps of
the prediction. In a diffusion :math:`\hat x` is the data prediction at a step of the chain, through the point
:math:`x_i = \sqrt{\bar\alpha_i}\, x_0 + \sqrt{1 - \bar\alpha_i}\, \varepsilon` into the network and through the point
itself, and :math:`s = \sqrt{1 - \bar\alpha_i}`.

References
----------
Guo, Xu, Pu, Ni, Wang, Vasu, Song, Huang and Shi, "Smooth Diffusion: crafting smooth latent spaces in diffusion models",
CVPR 2024 (arXiv 2312.04410). Karras, Laine, Aittala, Hellsten, Lehtinen and Aila, "Analyzing and improving the image
quality of StyleGAN", CVPR 2020 (arXiv 1912.04958), for the penalty of a generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dini_zoo.diffusion.chains import Chain, root
from dini_zoo.diffusion.predictions import convert
from dini_zoo.diffusion.processes import Field, beside
from dini_zoo.kit.checking import holds, not_negative, one_of, same_shape, taken

#: What a network that is trained by :func:`smooth_loss` may predict.
PREDICTIONS = ("noise", "velocity", "data")


def _wide(x: Array) -> Array:
    """In single precision at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def variation_norm(
    predict: Callable[[Any], Any],
    noise: Float[Array, "n ..."],
    key: Array | None = None,
    scale: Any = 1.0,
    *,
    direction: Array | None = None,
    has_aux: bool = False,
) -> Any:
    r""":math:`v = s\, \|J^\top y\|` for each point of a batch, in single precision at least.

    Parameters
    ----------
    predict
        A function of noises `(n, ...)`: predictions `(n, ...)`, of any shape a point. Each must depend on its own noise
        alone: all are differentiated at once, and what mixes the batch, as batch normalization does, adds their slopes.
    noise
        Where the Jacobian is taken.
    key
        Of the directions.
    scale
        :math:`s`, a number or one for each point.
    direction
        :math:`y`, in place of what the key draws: of the predictions' shape.
    has_aux
        Whether `predict` returns a pair of the predictions and something else, which is handed on.

    Returns
    -------
    Array
        :math:`v`, of shape `(n,)`; with `has_aux` the pair of it and the rest. It can be differentiated again; where
        :math:`J^\top y` is zero, as behind rectifiers that are shut, its derivative is zero.

    Raises
    ------
    ValueError
        Without a key and directions, and where the shapes do not fit.

    Examples
    --------
    Of an orthogonal map the norm is the direction's length, wherever it is taken:

    >>> turn = lambda z: jnp.stack([-z[:, 1], z[:, 0]], axis=1)
    >>> variation_norm(turn, jnp.zeros((2, 2)), scale=2.0, direction=jnp.array([[3.0, 4.0], [0.0, 1.0]]))
    Array([10.,  2.], dtype=float32)
    """
    predicted, pull, *rest = jax.vjp(predict, noise, has_aux=has_aux)
    n = len(noise)
    if jnp.ndim(predicted) < 1 or len(predicted) != n:
        raise ValueError(f"predict must return one prediction a noise, {n}: given shape {jnp.shape(predicted)}.")
    if jnp.shape(scale) not in ((), (n,)):
        raise ValueError(f"scale must be a number, or one for each of the {n} noises: given shape {jnp.shape(scale)}.")
    if direction is None:
        if key is None:
            raise ValueError("Directions are drawn: give a key, or the directions themselves.")
        direction = jax.random.normal(key, predicted.shape, predicted.dtype) / np.sqrt(np.prod(predicted.shape[1:]))
    same_shape("direction", direction, "the predictions", predicted.shape)
    (slope,) = pull(jnp.asarray(direction, predicted.dtype))
    slope = _wide(slope)
    v = root(jnp.sum((beside(scale, slope) * slope) ** 2, axis=tuple(range(1, slope.ndim))))
    return (v, *rest) if has_aux else v


class VariationEMA(eqx.Module):
    """The running mean of variation norms, which is the penalty's target. It is a state of the training: keep it.

    Parameters
    ----------
    mean
        To begin with. From 0, the published start, the first hundred steps or so pull all norms together; `None` begins
        with the mean of the first batch.
    """

    mean: Float[Array, ""]
    started: Bool[Array, ""]

    def __init__(self, mean: Any = 0.0):
        not_negative("mean", mean)
        self.mean = _wide(jnp.asarray(0.0 if mean is None else mean, float))
        self.started = jnp.asarray(mean is not None)


def variation_penalty(
    v: Float[Array, " n"],
    state: VariationEMA,
    decay: Any = 0.01,
    *,
    stop_gradient_target: bool = True,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], VariationEMA]:
    r"""The mean square of norms less their running mean, and the next state.

    .. math:: a' = a + \rho (\bar v - a), \qquad \frac1n \sum_i (v_i - a')^2.

    Parameters
    ----------
    v
        Variation norms of a batch.
    state
        :math:`a`.
    decay
        :math:`\rho`, the share of the new mean.
    stop_gradient_target
        Whether :math:`a'` counts as a constant. The published code differentiates it, which changes the slope by a part
        of the order of :math:`\rho`. The state has no derivative in either case.
    axis_name
        Of a mapped axis over which the batch is divided: :math:`\bar v` is that of all of it. Without it each part of
        the batch has a running mean of its own, as in the published code.

    Raises
    ------
    ValueError
        For a `decay` outside (0, 1], and norms that are no vector.

    Examples
    --------
    >>> loss, state = variation_penalty(jnp.array([1.0, 3.0]), VariationEMA(2.0))
    >>> print(loss, state.mean)
    1.0 2.0
    """
    holds(
        decay,
        lambda decay: (decay > 0) & (decay <= 1),
        lambda: f"decay must be above 0 and at most 1, the share of the new mean: given {decay}.",
    )
    if jnp.ndim(v) != 1 or not len(v):
        raise ValueError(f"v must be a vector of norms, one or more: given shape {jnp.shape(v)}.")
    v = _wide(jnp.asarray(v))
    mean = jnp.mean(v)
    if axis_name is not None:
        mean = jax.lax.pmean(mean, axis_name)
    target = jnp.where(state.started, state.mean + decay * (mean - state.mean), mean)
    following = VariationEMA(jax.lax.stop_gradient(target).astype(state.mean.dtype))
    if stop_gradient_target:
        target = jax.lax.stop_gradient(target)
    return jnp.mean((v - target) ** 2), following


def data_of_noise(
    model: Field, chain: Chain, x0: Float[Array, "n ..."], i: Any, *, predicts: str = "noise"
) -> Callable[[Array], tuple[Array, Array]]:
    r"""The data prediction at a step as a function of the noise, :math:`\varepsilon \mapsto \hat x(x_i(\varepsilon))`.

    `i` is an index, or one for each point. The function returns the pair of :math:`\hat x` and what the model says:
    what `variation_norm` takes with `has_aux`. Where an offset is added to the noise, it is the sum that it takes.
    """
    level = jnp.broadcast_to(taken("i", chain.alpha_bar, i), (len(x0),))
    alpha, sigma = (jnp.sqrt(one).astype(x0.dtype) for one in (level, 1 - level))

    def predicted(noise: Array) -> tuple[Array, Array]:
        x = beside(alpha, x0) * x0 + beside(sigma, x0) * noise
        said = model(x, jnp.broadcast_to(chain.times[i], (len(x0),)))
        same_shape("What the model returns", said, "x0", x0.shape)
        return convert(said, x, alpha, sigma, predicts, "data"), said

    return predicted


class Parts(NamedTuple):
    """What a loss is made of."""

    base: Float[Array, ""]
    penalty: Float[Array, ""]
    mean: Float[Array, ""]
    """Of the batch's variation norms."""
    std: Float[Array, ""]


def smooth_loss(
    model: Field,
    chain: Chain,
    x0: Float[Array, "n ..."],
    key: Array,
    state: VariationEMA,
    *,
    weight: Any = 1.0,
    predicts: str = "noise",
    decay: Any = 0.01,
    stop_gradient_target: bool = True,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], tuple[VariationEMA, Parts]]:
    r"""The squared error of what a diffusion predicts, plus the penalty on its variation.

    .. math:: E\, \|e_\theta(x_i, t_i) - \varepsilon\|^2 + \lambda\, E\, (v - a')^2

    with a mean over numbers in the first, and steps drawn uniformly. At the last steps an error of
    the model counts :math:`(1 - \bar\alpha) / \sqrt{\bar\alpha}` times in :math:`v`: 15 times with
    :func:`~dini_zoo.diffusion.chains.scaled_linear_betas`, 157 times with
    :func:`~dini_zoo.diffusion.chains.linear_betas`, where they are all that counts. Train on
    `chain.respaced(jnp.arange(m))` then, without the last ones.

    Parameters
    ----------
    model
        A function `(x, times)` of points and a time for each.
    chain
        The levels.
    x0
        Data.
    state
        The running mean, from step to step.
    weight
        :math:`\lambda`, zero or more.
    predicts
        What the model returns, in which its error is taken: `"noise"`, `"velocity"` or `"data"`.
    decay, stop_gradient_target, axis_name
        Of :func:`variation_penalty`.

    Returns
    -------
    tuple
        The loss, and the pair of the next state and of the loss's parts: what
        :class:`dini_zoo.kit.training.Trainer` takes with `carries` and `aux`.

    Raises
    ------
    ValueError
        For a weight below zero, another prediction, and a model whose result has another shape.
    """
    not_negative("weight", weight)
    one_of("predicts", predicts, PREDICTIONS)
    for_steps, for_noise, for_direction = jax.random.split(key, 3)
    i = jax.random.randint(for_steps, (len(x0),), 0, len(chain))
    noise = jax.random.normal(for_noise, x0.shape, x0.dtype)
    predicted = data_of_noise(model, chain, x0, i, predicts=predicts)
    level = chain.alpha_bar[i]
    v, said = variation_norm(predicted, noise, for_direction, jnp.sqrt(1 - level), has_aux=True)
    penalty, state = variation_penalty(v, state, decay, stop_gradient_target=stop_gradient_target, axis_name=axis_name)
    x = chain.noised(x0, noise, i)
    wanted = convert(noise, x, jnp.sqrt(level), jnp.sqrt(1 - level), "noise", predicts)
    base = jnp.mean((_wide(said) - _wide(wanted)) ** 2)
    parts = Parts(base, penalty, jnp.mean(v), jnp.std(v))
    return base + weight * penalty, (state, parts)
