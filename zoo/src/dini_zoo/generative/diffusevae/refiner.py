r"""A diffusion that refines what a variational autoencoder decodes, and the noise behind an image, by inversion.

An autoencoder has a code :math:`z` of a few numbers and decodes a blurred image :math:`\hat x = 2 D(z) - 1`. A noise
predictor that is given :math:`\hat x` beside its point restores what is missing. There are two formulations:

1. :math:`\hat x` is an input of the network alone: the chain goes from :math:`x_0` to :math:`N(0, I)`.
2. It also shifts the chain, :math:`x_i = \sqrt{\bar\alpha_i}\, x_0 + \hat x + \sqrt{1 - \bar\alpha_i}\, \varepsilon`,
   which goes to :math:`N(\hat x, I)`: the argument `shift` of chains and samplers.

In both the network may be given the code as well (`z_cond`), which it adds to its features of the step.

Images of autoencoders are in [0, 1], those of diffusions in [-1, 1].

References
----------
Pandey, Mukherjee, Rai and Kumar, "DiffuseVAE: Efficient, controllable and high-fidelity generation from
low-dimensional latents", TMLR 2022 (arXiv 2201.00308). Ho and Salimans, "Classifier-free diffusion guidance", 2022
(arXiv 2207.12598).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.diffusion.chain_sampling import chain_invert, chain_loss, chain_sample
from dini_zoo.diffusion.chains import Chain
from dini_zoo.diffusion.processes import Field
from dini_zoo.kit.checking import holds, known, not_negative, one_of, same_shape

from ..autoencoders import Autoencoder, sample_code

FORMULATIONS = (1, 2)


def unit(x: Any) -> Any:
    """Images in [-1, 1] as images in [0, 1]."""
    return (x + 1) / 2


def centered(x: Any) -> Any:
    """Images in [0, 1] as images in [-1, 1]."""
    return 2 * x - 1


def decoded(vae: Autoencoder, z: Float[Array, "n k"]) -> Float[Array, "n ..."]:
    r""":math:`\hat x = 2 D(z) - 1`: what a diffusion is given of a code."""
    return centered(vae.decode(z))


class Refiner(eqx.Module):
    r"""A noise predictor that is given an image, and how it is given it.

    Parameters
    ----------
    network
        A function `(x, t, condition)` of points, a step of the chain or one for each, and images of the points' shape;
        with `z_cond` a function `(x, t, condition, z)`, where `z` has a code for each point.
    formulation
        1: the image is an input. 2: it shifts the chain, too.
    dropout
        How often the image is left out in training, zeros in its place: guidance needs it. The code is left out with
        the image.
    z_cond
        Whether the network is given the code beside the image: a
        :class:`~dini_zoo.diffusion.networks.StepNetwork` with `code` takes it through its features of the step.

    Raises
    ------
    ValueError
        For another formulation, and a `dropout` that is not in [0, 1).
    TypeError
        For a `z_cond` that is not a Boolean.

    Examples
    --------
    >>> refiner = Refiner(lambda x, t, condition: x - condition, formulation=2)
    >>> refiner.model(jnp.ones((1, 2)))(jnp.zeros((1, 2)), 999)
    Array([[-1., -1.]], dtype=float32)
    >>> refiner = Refiner(lambda x, t, condition, z: x - condition + z, z_cond=True)
    >>> refiner.model(jnp.ones((1, 2)), z=jnp.ones((1, 2)))(jnp.zeros((1, 2)), 999)
    Array([[0., 0.]], dtype=float32)
    """

    network: Callable[..., Any]
    formulation: int = eqx.field(static=True)
    dropout: float = eqx.field(static=True)
    z_cond: bool = eqx.field(static=True)

    def __init__(
        self,
        network: Callable[..., Any],
        *,
        formulation: Literal[1, 2] = 1,
        dropout: float = 0.0,
        z_cond: bool = False,
    ):
        one_of("formulation", formulation, FORMULATIONS)
        if not (known(dropout) and 0 <= dropout < 1):
            raise ValueError(f"dropout must be a probability below 1: given {dropout}.")
        if not isinstance(z_cond, bool):
            raise TypeError(f"z_cond must be True or False: given {z_cond!r}.")
        self.network, self.formulation, self.dropout, self.z_cond = network, formulation, float(dropout), z_cond

    def shift(self, xhat: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        """Of the chain: the image itself in the second formulation, zeros in the first."""
        return xhat if self.formulation == 2 else jnp.zeros_like(xhat)

    def model(self, xhat: Float[Array, "n ..."], guidance: Any = 0.0, *, z: Float[Array, "n k"] | None = None) -> Field:
        r"""The noise predictor `(x, t)` for given images, and with `z_cond` for the code `z` of each.

        With `guidance` :math:`w` it is :math:`(1 + w)\, e(x, t, \hat x, z) - w\, e(x - c, t, 0, 0)`: what was trained
        without an image knows no shift :math:`c` and no code either. A `UserWarning` where nothing was trained without
        one. Raises `ValueError` for a code without `z_cond`, none with it, and another number of codes than of images.
        """
        if (z is not None) != self.z_cond:
            given = "none" if z is None else f"an array of shape {z.shape}"
            raise ValueError(f"z must be given to a refiner with z_cond, and to no other: given {given}.")
        one = (xhat,) if z is None else (xhat, z)
        if known(guidance) and np.all(np.asarray(guidance) == 0):
            return lambda x, t: self.network(x, t, *one)
        if not self.dropout:
            warnings.warn(
                "guidance compares with a network that is given no image, and this one was never trained so: train it "
                f"with dropout, such as 0.1. Given guidance {guidance} and dropout 0.",
                UserWarning,
                stacklevel=2,
            )
        nothing, shift = [jnp.zeros_like(given) for given in one], self.shift(xhat)
        return lambda x, t: (1 + guidance) * self.network(x, t, *one) - guidance * self.network(x - shift, t, *nothing)


def refiner_loss(
    refiner: Refiner, vae: Autoencoder, chain: Chain, x: Float[Array, "n ..."], key: Array
) -> Float[Array, ""]:
    r"""The squared error of the noise, for images in [-1, 1] and reconstructions of codes that are redrawn.

    The refiner sees reconstructions in training, and what a prior draws afterwards: what the prior lacks, it does not
    mend. With `z_cond` it is given the code that was decoded, and zeros for both where the image is left out. The
    autoencoder is only used: differentiate in the refiner. Raises `ValueError` where known images leave [-1, 1], and
    where the autoencoder's have another shape.
    """
    holds(
        x,
        lambda x: abs(x) <= 1 + 1e-6,
        lambda: f"x must be images in [-1, 1]: given numbers from {np.min(x):g} to {np.max(x):g}.",
    )
    for_code, for_dropout, for_loss = jax.random.split(key, 3)
    z = sample_code(for_code, *vae.encode(unit(x)))
    xhat = decoded(vae, z)
    same_shape("The autoencoder's reconstruction", xhat, "x", x.shape)
    if refiner.dropout:
        kept = jax.random.bernoulli(for_dropout, 1 - refiner.dropout, (len(x), *[1] * (x.ndim - 1)))
        xhat = jnp.where(kept, xhat, 0.0)
        z = jnp.where(kept.reshape(-1, 1), z, 0.0)
    model = refiner.model(xhat, z=z if refiner.z_cond else None)
    return chain_loss(model, chain, x, for_loss, shift=refiner.shift(xhat))


def refine(
    key: Array | None,
    z: Float[Array, "n k"],
    vae: Autoencoder,
    refiner: Refiner,
    chain: Chain,
    *,
    start: Float[Array, "n ..."] | None = None,
    temperature: Any = 1.0,
    guidance: Any = 0.0,
    shared: bool = False,
    clip: tuple[Any, Any] | None = (-1.0, 1.0),
    **options: Any,
) -> Float[Array, "n ..."]:
    r"""Images in [-1, 1] of codes: decoded, then refined by the reverse of a chain.

    Parameters
    ----------
    key
        Of the start and of the noise; `None` goes with a start that is given, and no noise or noise that is given.
    z
        Codes: of a prior, or of images.
    vae, refiner, chain
        What decodes, what refines, and the steps: a few of a long chain are :meth:`Chain.respaced`.
    start
        Standard normal numbers of the last level in place of the key's: what :func:`recover` finds.
    temperature
        Multiplies the start; it is around :math:`\hat x` in the second formulation.
    guidance
        See :meth:`Refiner.model`.
    shared
        Whether the key draws one start and one noise for all codes, so that the image is a function of the code.
    clip
        Bounds of the predicted data; `None` for none.
    options
        Of :func:`~dini_zoo.diffusion.chain_sampling.chain_sample`: `eta`, `large`, `renew`, `last_noise`, `noise`.

    Raises
    ------
    ValueError
        For a negative temperature, a start without a key and none given, one of another shape, and what
        `chain_sample` refuses.

    Examples
    --------
    >>> from dini_zoo.diffusion.chains import linear_betas, spaced
    >>> from dini_zoo.diffusion.networks import StepNetwork
    >>> from dini_zoo.generative.autoencoders import VAE
    >>> vae, refiner = VAE(64, 8, key=jax.random.key(0)), Refiner(StepNetwork(64, condition=64, key=jax.random.key(1)))
    >>> chain = Chain.of_betas(linear_betas(1000)).respaced(spaced(1000, 10))
    >>> refine(jax.random.key(2), jnp.zeros((5, 8)), vae, refiner, chain).shape
    (5, 64)
    """
    not_negative("temperature", temperature)
    xhat = decoded(vae, z)
    shift, for_noise = refiner.shift(xhat), None
    if key is not None:
        for_start, for_noise = jax.random.split(key)
        one = (1, *xhat.shape[1:])
        if start is None:
            start = jax.random.normal(for_start, one if shared else xhat.shape, xhat.dtype)
            start = jnp.broadcast_to(start, xhat.shape)
        if shared and options.get("noise") is None:
            options["noise"] = jax.random.normal(for_noise, (len(chain), *one), xhat.dtype)
    if start is None:
        raise ValueError("The start is random: give a key, or the start itself.")
    same_shape("start", start, "the decoded images", xhat.shape)
    model = refiner.model(xhat, guidance, z=z if refiner.z_cond else None)
    x = shift + temperature * start
    return chain_sample(for_noise, x, chain, model, predicts="noise", shift=shift, clip=clip, **options)


def recover(
    x: Float[Array, "n ..."],
    z: Float[Array, "n k"],
    vae: Autoencoder,
    refiner: Refiner,
    chain: Chain,
    *,
    method: Literal["one step", "fixed point"] = "fixed point",
    **options: Any,
) -> Float[Array, "n ..."]:
    r"""The start from which :func:`refine`, without noise and without clipping, leads to given images.

    With the code it is a second one, of the details: :math:`(z, x_T)` is the image, up to the error of the inversion.

    Parameters
    ----------
    x
        Images in [-1, 1].
    z
        A code of each: the mean that the autoencoder's encoder says, for instance.
    vae, refiner, chain
        As :func:`refine` has them.
    method, options
        Of :func:`~dini_zoo.diffusion.chain_sampling.chain_invert`: `"one step"` is the usual inversion; `"fixed point"`
        solves for each step with dini, and is differentiated implicitly.

    Raises
    ------
    ValueError
        For images of another shape than the decoded ones, and what `chain_invert` refuses.
    jax.errors.JaxRuntimeError
        Where a fixed point is not found.
    """
    xhat = decoded(vae, z)
    same_shape("x", x, "the decoded images", xhat.shape)
    shift = refiner.shift(xhat)
    model = refiner.model(xhat, z=z if refiner.z_cond else None)
    found = chain_invert(x, chain, model, predicts="noise", shift=shift, method=method, **options)
    return found - shift
