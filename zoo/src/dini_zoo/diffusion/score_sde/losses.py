r"""Denoising score matching.

.. math:: E_{t, x_0, z}\; \lambda(t) \big\| s_\theta(x_t, t) + z / \sigma_t \big\|^2, \qquad
          x_t = \alpha_t x_0 + \sigma_t z .

References
----------
Vincent, "A connection between score matching and denoising autoencoders", 2011. Song et al., "Score-based generative
modeling through stochastic differential equations", ICLR 2021 (arXiv 2011.13456).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, one_of, positive

from ..processes import Field, Process, beside


def dsm_loss(
    score: Field,
    process: Process,
    x0: Float[Array, "n ..."],
    key: Array,
    *,
    weighting: Literal["variance", "likelihood"] = "variance",
    first: float = 1e-5,
) -> Float[Array, ""]:
    r"""The loss of denoising score matching, a mean over numbers; its minimizer is the score.

    Parameters
    ----------
    score
        Of points `(n, ...)` and times `(n,)`.
    process, x0
        Points of the data.
    key
        Of times, uniform in `(first, 1)`, and noise.
    weighting
        :math:`\lambda = \sigma_t^2` (`"variance"`), or :math:`g(t)^2` (`"likelihood"`), with which the loss bounds the
        negative log-likelihood.

    Raises
    ------
    ValueError
        For another weighting, no data, and a `first` time that is not positive: at time 0 there may be no noise.

    Examples
    --------
    >>> from dini_zoo.diffusion.score_sde import VPSDE
    >>> x0 = jax.random.normal(jax.random.key(0), (1000, 2))
    >>> exact = dsm_loss(lambda x, t: -x, VPSDE(), x0, jax.random.key(1))  # normal data stay normal
    >>> wrong = dsm_loss(lambda x, t: -2 * x, VPSDE(), x0, jax.random.key(1))
    >>> bool(exact < wrong)
    True
    """
    one_of("weighting", weighting, ("variance", "likelihood"))
    positive("first", first)
    at_least("the number of points", len(x0), 1)
    for_times, for_noise = jax.random.split(key)
    t = jax.random.uniform(for_times, (len(x0),), x0.dtype, first, 1.0)
    x, z = process.sample(for_noise, x0, t)
    sigma = beside(process.sigma(t), x)
    gap = score(x, t) * sigma + z
    if weighting == "likelihood":
        gap = gap * beside(process.diffusion(t), x) / sigma
    return jnp.mean(gap**2)
