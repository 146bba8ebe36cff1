r"""k-means as a fixed point, solved and differentiated by dini, and a codebook's re-building with it.

Lloyd's map takes centers to the means of the features that are nearest to each,

.. math:: T(C, X)_k = \frac{1}{|S_k|} \sum_{i \in S_k} X_i, \qquad S_k = \{i : k = \arg\min_j \|X_i - C_j\|^2\},

and a center that is nearest to none to itself. The sets do not change near a fixed point without ties, so
:math:`\partial T / \partial C = 0` there: the derivative of the centers in the features is that of means, and Newton's
method would be Lloyd's.

References
----------
Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory, 1982. Arthur and Vassilvitskii,
"k-means++: the advantages of careful seeding", SODA 2007. Hu and others, CVPR 2022 (arXiv 2112.01799), for re-building.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from sklearn.cluster import kmeans_plusplus

import dini
from dini_zoo.kit.checking import at_least, finite

from .quantization import nearest


class Clusters(NamedTuple):
    """A fixed point of Lloyd's map."""

    centers: Float[Array, "K d"]
    """With derivatives in the features."""
    labels: Int[Array, " P"]
    """The center that is nearest to each feature."""
    sizes: Int[Array, " K"]
    """How many features each center has; 0 for one that stayed where it began."""
    inertia: Float[Array, ""]
    """The sum of squared distances to the nearest centers."""
    steps: Int[Array, ""]
    """Of the solver."""
    status: Array
    """A `dini.Status`."""


def lloyd_map(centers: Float[Array, "K d"], features: Float[Array, "P d"]) -> Float[Array, "K d"]:
    """The means of the features nearest to each center; a center without features stays."""
    chosen = jax.nn.one_hot(nearest(features, centers), len(centers), dtype=features.dtype)
    sizes = jnp.sum(chosen, axis=0)[:, None]
    # sums of what is far from zero would lose digits
    origin = jax.lax.stop_gradient(jnp.mean(features, axis=0))
    means = chosen.T @ (features - origin) / jnp.maximum(sizes, 1) + origin
    # an empty one is a constant, not a free unknown: it has no derivative, and the map's Jacobian is zero
    return jnp.where(sizes > 0, means, jax.lax.stop_gradient(centers))


def kmeans(
    features: Float[Array, "P d"],
    start: Float[Array, "K d"],
    *,
    max_steps: int = 500,
    differentiation: dini.Differentiation | None = None,
    on_failure: str = "raise",
) -> Clusters:
    """The fixed point of Lloyd's map that its iteration from `start` ends in, with derivatives in the features.

    Parameters
    ----------
    features
        As many as centers or more.
    start
        Where the centers begin. The result depends on it, but has no derivative in it.
    max_steps
        Limit on the iterations: they end by themselves when no feature changes its center.
    differentiation
        `dini.Implicit()` if it is not given.
    on_failure
        As of :func:`dini.fixed_point`: `"raise"`, `"nan"`, `"warn"` or `"ignore"`.

    Raises
    ------
    ValueError
        For fewer features than centers, shapes that do not fit, and numbers that are not finite.

    Examples
    --------
    >>> x = jnp.array([[0.0], [1.0], [10.0], [12.0]])
    >>> centers = lambda x: kmeans(x, jnp.array([[0.0], [9.0]])).centers
    >>> print(centers(x).ravel(), jax.jacobian(centers)(x)[1, 0, :, 0])
    [ 0.5 11. ] [0.  0.  0.5 0.5]
    """
    features, start = jnp.asarray(features), jnp.asarray(start)
    if features.ndim != 2 or start.ndim != 2 or features.shape[1] != start.shape[1]:
        raise ValueError(
            f"features must be of shape (P, d) and start of shape (K, d): given {features.shape} and {start.shape}."
        )
    if len(features) < len(start):
        raise ValueError(f"{len(start)} centers need as many features or more: given {len(features)}.")
    finite("features", features)
    finite("start", start)
    found = dini.fixed_point(
        lloyd_map,
        start,
        features,
        # the iterates end exactly: equal sets have equal means
        solver=dini.FixedPointIteration(rtol=0.0, atol=0.0, max_steps=max_steps),
        differentiation=dini.Implicit() if differentiation is None else differentiation,
        on_failure=on_failure,
    )
    centers = found.x
    labels = nearest(features, jax.lax.stop_gradient(centers))
    sizes = jnp.bincount(labels, length=len(start))
    inertia = jnp.sum((features - centers[labels]) ** 2)
    return Clusters(centers, labels, sizes, inertia, found.stats.steps, found.status)


def kmeans_seeds(key: Array, features: Float[Array, "P d"], codes: int) -> Float[np.ndarray, "K d"]:
    """Features far from one another, by scikit-learn's k-means++ on the host.

    Raises `ValueError` for fewer different features than seeds, and numbers that are not finite.
    """
    at_least("codes", codes, 1)
    finite("features", features)
    given = np.asarray(features)
    different = len(np.unique(given, axis=0))
    if different < codes:
        raise ValueError(f"features must have {codes} different rows or more for as many codes: given {different}.")
    seed = int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))
    return np.asarray(kmeans_plusplus(given, codes, random_state=seed)[0])


def rebuild_codebook(key: Array, features: Float[Array, "P d"], codes: int, *, max_steps: int = 500) -> Clusters:
    """A codebook in which every entry is used: k-means of features from many images, seeded by k-means++.

    The codebook is `rebuild_codebook(...).centers`. The decoder was trained for another one: train it on, with the
    encoder as it is.

    Raises `ValueError` as `kmeans_seeds` does: for fewer different features than codes, and numbers not finite.
    """
    return kmeans(features, jnp.asarray(kmeans_seeds(key, features, codes)), max_steps=max_steps)
