r"""Conditions put into an unconditional score: classes, known coordinates, linear measurements.

.. math:: \nabla \log p_t(x \mid y) = \nabla \log p_t(x) + \nabla \log p_t(y \mid x).

References
----------
Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021 (arXiv 2011.13456).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dini_zoo.kit.checking import known

from ..predictor_corrector import Project
from ..processes import Field, Process


def guided_score(score: Field, log_likelihood: Callable[[Array, Any], Float[Array, " n"]], scale: Any = 1.0) -> Field:
    r"""The score plus `scale` times the gradient of :math:`\log p_t(y \mid x)`.

    Parameters
    ----------
    score
        Unconditional.
    log_likelihood
        Of a batch and a time, a number for each point: of a classifier that knows noisy points, say.
    scale
        1 is Bayes' formula, more sharpens.

    Examples
    --------
    >>> both = guided_score(lambda x, t: -x, lambda x, t: -0.5 * jnp.sum((1.0 - x) ** 2, axis=1))
    >>> both(jnp.array([[0.5]]), 0.1)  # the posterior's mean
    Array([[0.]], dtype=float32)
    """

    def guided(x: Array, t: Any) -> Array:
        return score(x, t) + scale * jax.grad(lambda x: jnp.sum(log_likelihood(x, t)))(x)

    return guided


def observe_mask(process: Process, mask: Bool[Array, ...], y: Float[Array, ...]) -> Project:
    r"""Some coordinates are known: after every update they become :math:`\alpha_t y + \sigma_t z`.

    The method is approximate: without correctors, the unknown coordinates hardly learn of the known ones.

    Parameters
    ----------
    process
        That is being reversed.
    mask
        True where `y` is known, of the shape of a point or of a batch.
    y
        What is known, of the same shape; the other numbers in it are not used.

    Returns
    -------
    The `project` of :func:`..predictor_corrector.pc_sample`, whose mean has :math:`\alpha_t y`.

    Raises
    ------
    ValueError
        For a mask that is not of the shape of `y`, or of whose shape the points are not.
    """
    mask, y = jnp.asarray(mask), jnp.asarray(y)
    if mask.shape != y.shape:
        raise ValueError(f"mask must have the shape of y, {y.shape}: given {mask.shape}.")

    def project(key: Array, x: Array, mean: Array, t: Any) -> tuple[Array, Array]:
        if mask.shape != x.shape[x.ndim - mask.ndim :]:
            raise ValueError(
                f"mask must have the shape of points or of a batch of them, {x.shape}: given {mask.shape}."
            )
        center = process.alpha(t) * y
        noisy = center + process.sigma(t) * jax.random.normal(key, x.shape, x.dtype)
        return jnp.where(mask, noisy, x), jnp.where(mask, center, mean)

    return project


def observe_linear(process: Process, Q: Float[Array, "d d"], y: Float[Array, "... m"]) -> Project:
    r"""Known linear measurements :math:`y = Q_1^\top x` with the first columns of an orthonormal :math:`Q`.

    In the coordinates :math:`Q^\top x` the first `m` are known, as with :func:`observe_mask`. Colours of a grey image:
    three channels, and a `Q` whose first column is :math:`(1, 1, 1) / \sqrt 3`.

    Raises `ValueError` for a `Q` that is known and not orthonormal, and for more measurements than it has columns.
    """
    y = jnp.asarray(y)
    if known(Q):
        given = np.asarray(Q)
        square = given.ndim == 2 and given.shape[0] == given.shape[1]
        if not square or np.max(np.abs(given.T @ given - np.eye(len(given)))) > 1e-4:
            raise ValueError(f"Q must be a square matrix with orthonormal columns: given one of shape {given.shape}.")
    Q = jnp.asarray(Q)
    d, m = len(Q), y.shape[-1]
    if m > d:
        raise ValueError(f"y must have at most {d} measurements of each point: given {m}.")
    whole = jnp.concatenate([y, jnp.zeros((*y.shape[:-1], d - m), y.dtype)], axis=-1)
    first = observe_mask(process, jnp.broadcast_to(jnp.arange(d) < m, whole.shape), whole)

    def project(key: Array, x: Array, mean: Array, t: Any) -> tuple[Array, Array]:
        x, mean = first(key, x @ Q, mean @ Q, t)
        return x @ Q.T, mean @ Q.T

    return project
