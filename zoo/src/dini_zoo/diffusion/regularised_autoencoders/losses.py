r"""Two objectives for a reconstruction, and the score that it tells.

.. math::
    \text{denoising:} \quad E \| r(x + s e) - x \|^2, \qquad
    \text{contractive:} \quad E\big[ \| r(x) - x \|^2 + s^2 \| J_r(x) \|_F^2 \big].

The first has the optimum :math:`r(x) = x + s^2 \nabla \log p_s(x)`, with :math:`p_s` the density of the noisy data; of
both :math:`(r(x) - x) / s^2 \to \nabla \log p(x)` as :math:`s \to 0`.

References
----------
Alain and Bengio, "What regularized auto-encoders learn from the data-generating distribution", JMLR 15 (2014, arXiv
1211.4246). Vincent, "A connection between score matching and denoising autoencoders", 2011.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, positive

#: A function of a batch `(n, d)`.
type Reconstruction = Callable[[Array], Array]


def reconstructed(r: Reconstruction, x: Array) -> Array:
    """The reconstruction of a batch; `ValueError` if it has another shape."""
    found = r(x)
    if jnp.shape(found) != x.shape:
        raise ValueError(f"r must return points of the shape that it is given, {x.shape}: returned {jnp.shape(found)}.")
    return found


def _batch(x: Any) -> Array:
    x = jnp.asarray(x)
    if x.ndim != 2:
        raise ValueError(f"x must be a batch of points (n, d): given shape {x.shape}.")
    at_least("the number of points", len(x), 1)
    return x


def dae_loss(
    r: Reconstruction, x: Float[Array, "n d"], s: Any, key: Array, *, antithetic: bool = True
) -> Float[Array, ""]:
    r"""The denoising objective over :math:`s^2`, a mean over points.

    Without the division its gradients vanish with :math:`s`.

    Parameters
    ----------
    r
        A function of a batch.
    x
        Points of the data.
    s
        The noise's standard deviation, positive.
    key
        Of the noise.
    antithetic
        Whether each point is seen with a noise and with the opposite one, which lowers the variance.

    Raises
    ------
    ValueError
        For an `s` that is not positive, points that are no batch, and a reconstruction of another shape.

    Examples
    --------
    >>> x = jax.random.normal(jax.random.key(0), (4000, 3))
    >>> best = dae_loss(lambda x: x / 1.25, x, 0.5, jax.random.key(1))  # of normal data
    >>> bool(best < dae_loss(lambda x: x, x, 0.5, jax.random.key(1)))
    True
    """
    positive("s", s)
    x = _batch(x)
    noise = s * jax.random.normal(key, x.shape, x.dtype)
    loss = lambda noise: jnp.mean(jnp.sum((reconstructed(r, x + noise) - x) ** 2, axis=-1))
    return ((loss(noise) + loss(-noise)) / 2 if antithetic else loss(noise)) / s**2


def squared_jacobian(r: Reconstruction, x: Float[Array, "n d"], *, key: Array | None = None, probes: int = 0) -> Array:
    r""":math:`\|J_r(x)\|_F^2` at each point: by :math:`d` tangents, or with `probes` an estimate without bias.

    The estimate is the mean of :math:`\|J^\top v\|^2` over so many normal :math:`v`, one product each.
    """
    x = _batch(x)
    if not probes:
        tangents = jnp.broadcast_to(jnp.eye(x.shape[1], dtype=x.dtype)[:, None], (x.shape[1], *x.shape))
        columns = jax.vmap(lambda v: jax.jvp(lambda x: reconstructed(r, x), (x,), (v,))[1])(tangents)
        return jnp.sum(columns**2, axis=(0, 2))
    if key is None:
        raise ValueError(f"An estimate of the Jacobian needs a key: given none, and probes {probes}.")
    _, pull = jax.vjp(lambda x: reconstructed(r, x), x)
    rows = jax.vmap(lambda v: pull(v)[0])(jax.random.normal(key, (probes, *x.shape), x.dtype))
    return jnp.sum(jnp.mean(rows**2, axis=0), axis=1)


def rcae_loss(
    r: Reconstruction, x: Float[Array, "n d"], s: Any, *, key: Array | None = None, probes: int = 0
) -> Float[Array, ""]:
    r"""The contractive objective over :math:`s^2`, a mean over points: the whole Jacobian of `r` is penalised.

    Parameters
    ----------
    r, x, s
        As in :func:`dae_loss`.
    key, probes
        0: the exact Jacobian, by as many tangents as there are dimensions; else how many random products estimate it.

    Raises
    ------
    ValueError
        As :func:`dae_loss`, and for `probes` without a key.

    Examples
    --------
    >>> x = jax.random.normal(jax.random.key(0), (4000, 3))
    >>> best = rcae_loss(lambda x: x / 1.25, x, 0.5)
    >>> bool(best < rcae_loss(lambda x: x, x, 0.5)), bool(best < rcae_loss(lambda x: x / 1.4, x, 0.5))
    (True, True)
    """
    positive("s", s)
    at_least("probes", probes, 0)
    x = _batch(x)
    error = jnp.sum((reconstructed(r, x) - x) ** 2, axis=-1)
    return jnp.mean(error) / s**2 + jnp.mean(squared_jacobian(r, x, key=key, probes=probes))


def score_from_reconstruction(r: Reconstruction, s: Float[Array, ""] | float) -> Reconstruction:
    r""":math:`(r(x) - x) / s^2`, as a function of a batch; `ValueError` for an `s` that is not positive."""
    positive("s", s)
    return lambda x: (reconstructed(r, x) - x) / s**2


def jacobian_asymmetry(r: Reconstruction, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    r""":math:`\|J - J^\top\|_F / \|J\|_F` at each point: zero where the displacement is a gradient."""
    J = jax.vmap(jax.jacfwd(lambda x: reconstructed(r, x[None])[0]))(_batch(x))
    return jnp.linalg.norm(J - J.mT, axis=(1, 2)) / jnp.linalg.norm(J, axis=(1, 2))
