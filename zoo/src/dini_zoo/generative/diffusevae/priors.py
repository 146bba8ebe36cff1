r"""A law of codes that is fitted after training: what an autoencoder's codes are, in place of what they should be.

The codes of data are not :math:`N(0, I)`, which the bound only pulls them towards. A mixture of normal laws fitted to
them is a better prior, without any training.

References
----------
Ghosh, Sajjadi, Vergari, Black and Schölkopf, "From variational to deterministic autoencoders", ICLR 2020
(arXiv 1903.12436), for density estimation afterwards.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Float
from sklearn import mixture

from dini_zoo.diffusion.mixtures import GaussianMixture
from dini_zoo.kit.checking import at_least, finite, positive


def fit_latent_mixture(
    z: Float[Array, "n k"], components: int = 30, *, ridge: float = 1e-3, seed: int = 0
) -> GaussianMixture:
    r"""A mixture of normal laws with full covariances for codes, by scikit-learn's expectation maximization.

    Parameters
    ----------
    z
        Codes `(n, k)`, one drawn for each image.
    components
        How many.
    ridge
        Added to the variances, in the codes' squared units.
    seed
        Of the start.

    Raises
    ------
    ValueError
        For codes that are no matrix or not finite, fewer of them than components, and a ridge that is not positive.

    Examples
    --------
    >>> import jax
    >>> z = jax.random.normal(jax.random.key(0), (200, 2))
    >>> fit_latent_mixture(z, 3).sample(jax.random.key(1), 5).shape
    (5, 2)
    """
    z = np.asarray(z, float)
    if z.ndim != 2:
        raise ValueError(f"z must be codes in rows: given shape {z.shape}.")
    finite("z", z)
    positive("ridge", ridge)
    at_least("components", components, 1)
    at_least("the number of codes", len(z), components)
    found = mixture.GaussianMixture(components, reg_covar=ridge, random_state=seed).fit(z)
    return GaussianMixture(found.weights_, found.means_, found.covariances_)
