r"""A code from which both an equation's input and its solution are generated, trained without a solution.

For a code :math:`\beta = \tanh z` decoders give the input :math:`a(x; \beta)` and the solution :math:`u(x; \beta)`. Of
unlabelled inputs and of residuals :math:`r_j` that were "observed" to be zero, the density is

.. math:: \log p(a, R = 0, z) = \log p(z) + \log p(a \mid \beta) - \tfrac12 \sum_j \lambda_j r_j(\beta)^2 +
\text{const},

and with an encoder for :math:`q(z \mid a)` the bound of the evidence is the loss: a reconstruction and weighted
squares of residuals. With :math:`q` a point, as in the published code, nothing else; with a normal law its divergence
from :math:`N(0, I)` beside them.

References ---------- Zang and Koutsourelakis, "DGenNO: a novel physics-aware neural operator for solving forward and
inverse PDE problems based on deep, generative probabilistic modeling", J. Comput. Phys. 538 (2025), arXiv 2502.06250.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.checking import finite, known, positive, same_shape

from ..operators import MultiONet, Scaled


def code(z: Float[Array, "*d"]) -> Float[Array, "*d"]:
    r""":math:`\beta = \tanh z`, in (-1, 1)."""
    return jnp.tanh(z)


class GenerativeOperator(eqx.Module):
    r"""An encoder of inputs and decoders of fields that share its code.

    Parameters
    ----------
    encoder
        Maps an input `(n,)` to :math:`z` `(d,)`; where `spread`, to means and logarithms of deviations, `(2 d,)`.
    decoders
        By name, each with `grid(x, beta)`: a :class:`..operators.MultiONet` or one that is `Scaled`.
    spread
        Whether :math:`q(z \mid a)` is a normal law and not a point.

    Raises
    ------
    ValueError
        Without a decoder.
    """

    encoder: Callable[[Array], Array]
    decoders: dict[str, MultiONet | Scaled]
    spread: bool = eqx.field(static=True)

    def __init__(
        self, encoder: Callable[[Array], Array], decoders: Mapping[str, MultiONet | Scaled], *, spread: bool = False
    ):
        if not decoders:
            raise ValueError("decoders must be at least one, by name: given none.")
        self.encoder, self.decoders, self.spread = encoder, dict(decoders), spread

    def posterior(self, a: Float[Array, "m n"]) -> tuple[Float[Array, "m d"], Float[Array, "m d"] | None]:
        r"""The mean of :math:`z` for each input, and the logarithm of its deviation or `None`."""
        found = jax.vmap(self.encoder)(a)
        if not self.spread:
            return found, None
        mean, log = jnp.split(found, 2, axis=-1)
        return mean, log

    def encode(self, a: Float[Array, "m n"]) -> Float[Array, "m d"]:
        r"""The code :math:`\beta` of each input; of a normal law that of its mean."""
        return code(self.posterior(a)[0])

    def decode(self, name: str, x: Float[Array, "p dim"], beta: Float[Array, "m d"]) -> Float[Array, "m p *out"]:
        """A field at each point for each code."""
        if name not in self.decoders:
            raise ValueError(f"name must be one of {', '.join(map(repr, self.decoders))}: given {name!r}.")
        return self.decoders[name].grid(x, beta)


class Labels(NamedTuple):
    """Solutions that are known after all, `(m, p)` at points `(p, dim)`, with the deviation of what is observed."""

    field: str
    x: Float[Array, "p dim"]
    u: Float[Array, "m p"]
    deviation: float


class Parts(NamedTuple):
    """The loss by its parts, each a mean over the inputs."""

    reconstruction: Float[Array, ""]
    virtual: Float[Array, ""]
    divergence: Float[Array, ""]
    labels: Float[Array, ""]


def virtual_observable_loss(
    model: GenerativeOperator,
    a: Float[Array, "m n"],
    key: Array,
    *,
    reconstruction: Callable[[GenerativeOperator, Array, Array], Float[Array, " m"]],
    virtual: Callable[[GenerativeOperator, Array, Array], Float[Array, "m r"]],
    labels: Labels | None = None,
) -> tuple[Float[Array, ""], Parts]:
    r"""Minus the bound of the evidence, for a batch of unlabelled inputs: a number, and its parts.

    Parameters
    ----------
    model
        Encoder and decoders.
    a
        Inputs in rows.
    key
        Of the draws of centers, and of codes where the encoder gives a law.
    reconstruction
        :math:`-\log p(a \mid \beta)` of `(model, beta, a)`, one number for each input.
    virtual
        :math:`\sqrt{\lambda_j}\, r_j` of `(model, beta, key)`, a row for each code: half of their squares are summed.
        The centers that its key draws are the same for all inputs.
    labels
        Adds :math:`-\log p(u \mid \beta)`, half the squares of what is off by the deviation.
    """
    for_code, for_centers = jax.random.split(key)
    mean, log = model.posterior(a)
    z = mean if log is None else mean + jnp.exp(log) * jax.random.normal(for_code, mean.shape, mean.dtype)
    beta = code(z)
    misfit = reconstruction(model, beta, a)
    same_shape("reconstruction(model, beta, a)", misfit, "a's rows", (len(a),))
    zero = jnp.zeros((), misfit.dtype)
    divergence = zero if log is None else jnp.mean(divergence_from_normal(mean, log))
    squares = 0.5 * jnp.sum(virtual(model, beta, for_centers) ** 2, axis=-1)
    known_ones = zero
    if labels is not None:
        positive("labels.deviation", labels.deviation)
        off = (model.decode(labels.field, labels.x, beta) - labels.u) / labels.deviation
        known_ones = 0.5 * jnp.mean(jnp.sum(off**2, axis=-1))
    parts = Parts(jnp.mean(misfit), jnp.mean(squares), divergence, known_ones)
    return sum(parts, zero), parts


def divergence_from_normal(mean: Float[Array, "*m d"], log: Float[Array, "*m d"]) -> Float[Array, "*m"]:
    r""":math:`KL(N(m, s^2) \,\|\, N(0, I))`, from means and logarithms of deviations."""
    return jnp.sum(0.5 * (mean**2 + jnp.exp(2 * log) - 1) - log, axis=-1)


def phase_targets(a: Float[Array, "*n"], low: float, high: float) -> Float[Array, "*n"]:
    """0 where a medium is `low`, 1 where it is `high`. Raises `ValueError` for a known value that is neither."""
    if not low < high:
        raise ValueError(f"low must be less than high: given {low} and {high}.")
    finite("a", a)
    misfit = (a - low) / (high - low)
    if known(misfit) and not np.all(np.minimum(np.abs(np.asarray(misfit)), np.abs(np.asarray(misfit) - 1)) < 1e-5):
        raise ValueError(
            f"a must have two values, {low} and {high}: given others, from {np.min(a):g} to {np.max(a):g}."
        )
    return misfit


def phase_loss(logit: Float[Array, "*m n"], target: Float[Array, "*m n"]) -> Float[Array, "*m"]:
    """The mean cross entropy of phases: minus the logarithm of a Bernoulli law, for each point of the mesh."""
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logit, target), axis=-1)


def gaussian_loss(mean: Float[Array, "*m n"], a: Float[Array, "*m n"], deviation: Any) -> Float[Array, "*m"]:
    """The mean of half the squares of what is off by the deviation: of continuous media."""
    positive("deviation", deviation)
    return 0.5 * jnp.mean(((mean - a) / deviation) ** 2, axis=-1)
