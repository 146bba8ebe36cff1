r"""Samplers of a chain: its reverse from noise to data, DDIM from data to noise, and the loss of a noise predictor.

One step of DDIM from :math:`x_i`, with the noise :math:`e(x)` that a model predicts at its time, leads to

.. math::
    x_{i-1} = \sqrt{b}\, \frac{x_i - \sqrt{1 - a}\, e(x_i)}{\sqrt{a}} + \sqrt{1 - b}\, e(x_i), \qquad
    a = \bar\alpha_i, \quad b = \bar\alpha_{i-1}.

To invert it is to solve this for :math:`x_i`, a fixed point of

.. math:: T(x) = \sqrt{a}\, \frac{x_{i-1} - \sqrt{1 - b}\, e(x)}{\sqrt{b}} + \sqrt{1 - a}\, e(x).

The usual inversion is :math:`T(x_{i-1})`, one evaluation of the map at the point that is there.

References
----------
Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020 (arXiv 2006.11239). Song, Meng and Ermon,
"Denoising diffusion implicit models", ICLR 2021 (arXiv 2010.02502). Pandey, Mukherjee, Rai and Kumar, "DiffuseVAE",
TMLR 2022 (arXiv 2201.00308), for the shift. Pan, Gherardi, Xie and Huang, "Effective real image editing with
accelerated iterative diffusion inversion", ICCV 2023 (arXiv 2309.04907), for the fixed point.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import known, not_negative, one_of, returned

from .chains import Chain, root
from .predictions import PREDICTIONS, convert
from .processes import Field


def _predicted(model: Field, chain: Chain, x: Array, shift: Any, i: Any, predicts: str, target: str) -> Array:
    """What the model says of points less their shift; it sees the points themselves, and the original time."""
    said = model(x + shift, chain.times[i])
    if jnp.shape(said) != x.shape:
        raise ValueError(f"A model must return the shape of its points, {x.shape}: it gave {jnp.shape(said)}.")
    level = chain.alpha_bar[i]
    return convert(said, x, jnp.sqrt(level), jnp.sqrt(1 - level), predicts, target)


def chain_sample(
    key: Array | None,
    x: Float[Array, "n ..."],
    chain: Chain,
    model: Field,
    *,
    predicts: str = "data",
    eta: Any = 0.0,
    shift: Any = 0.0,
    clip: tuple[Any, Any] | None = None,
    renew: bool = True,
    large: bool = False,
    last_noise: bool = False,
    noise: Float[Array, "T ..."] | None = None,
) -> Array:
    r"""Draw :math:`x_0` by the reverse of a chain, one call of the model a step.

    Parameters
    ----------
    key
        Of the noise; `None` goes with `eta` zero, and with noise that is given.
    x
        Points at the chain's last level, around the shift.
    chain
        The levels; see :meth:`Chain.respaced` for some of the steps of a longer one.
    model
        A function `(x, time)` of points and one of `chain.times`, which are the original steps of a respaced chain.
    predicts
        What it returns: `"data"`, `"noise"`, `"score"` or `"velocity"`.
    eta
        0: DDIM, 1: ancestral sampling; above 1 only as far as no step adds more noise than its level has.
    shift
        :math:`c`: the chain of :math:`x - c` is sampled, with a model that sees :math:`x`. What is returned is
        data, without the shift.
    clip
        Bounds of the predicted data.
    renew
        Whether the noise of a step is what the clipped data leave of :math:`x_i`. Otherwise it is the model's own, and
        clipping makes many steps of DDIM worse than few.
    large
        Whether the noise has the variance :math:`\beta_i` in place of :math:`\tilde\beta_i`.
    last_noise
        Whether the step to the data adds noise too: see :meth:`Chain.noise_std`.
    noise
        Standard normal numbers of each step, from the first level up, in place of the key's. With an axis of one for
        the points, all share them, and the result is a function of the model's condition.

    Raises
    ------
    ValueError
        For an `eta` out of range, noise without a key, a model whose result has another shape, and bounds that are no
        interval.

    Examples
    --------
    >>> from dini_zoo.diffusion.chains import linear_betas, spaced
    >>> chain = Chain.of_betas(linear_betas(1000)).respaced(spaced(1000, 10))
    >>> exact = lambda x, t: jnp.full_like(x, 0.25)
    >>> chain_sample(None, jnp.zeros((1, 1)), chain, exact, shift=0.7)
    Array([[0.25]], dtype=float32)
    """
    not_negative("eta", eta)
    one_of("predicts", predicts, PREDICTIONS)
    if clip is not None and known(clip[0]) and known(clip[1]) and not np.all(np.asarray(clip[0]) < np.asarray(clip[1])):
        raise ValueError(f"clip must be a lower and a higher bound: given {clip}.")
    s2 = chain.posterior_std(jnp.arange(len(chain)), eta) ** 2
    if known(s2) and known(chain.alpha_bar) and np.any(np.asarray(s2) > np.asarray(1 - chain.before) * (1 + 1e-3)):
        raise ValueError(f"eta {eta} asks for more noise than there is at some level of the chain: at most 1 is safe.")
    none = key is None and noise is None
    if none and known(eta) and np.any(np.asarray(eta) != 0):
        raise ValueError(f"A sampler with noise needs a key: given none, and eta {eta}.")
    if noise is not None and len(noise) != len(chain):
        raise ValueError(f"noise must have a row for each of the chain's {len(chain)} steps: given {len(noise)}.")
    if noise is not None:
        rows = jnp.shape(noise)[1:]
        if len(rows) != x.ndim or any(size not in (1, whole) for size, whole in zip(rows, x.shape, strict=True)):
            raise ValueError(f"noise must have rows of the shape of x, {x.shape}, or of ones in it: given {rows}.")
    keys = jax.random.split(jax.random.key(0) if key is None else key, len(chain))

    def step(x: Array, given: Any) -> Any:
        i, key_i, noise_i = given
        said = _predicted(model, chain, x, shift, i, predicts, "data")
        data = said if clip is None else jnp.clip(said, *clip)
        level = chain.alpha_bar[i]
        kept = None if renew else (x - jnp.sqrt(level) * said) / jnp.sqrt(1 - level)
        mean, _ = chain.reverse(x, data, i, eta, noise=kept)
        if none:
            return mean.astype(x.dtype), None
        drawn = jax.random.normal(key_i, x.shape, x.dtype) if noise_i is None else noise_i
        return (mean + chain.noise_std(i, eta, large=large, last=last_noise) * drawn).astype(x.dtype), None

    given = (jnp.arange(len(chain)), keys[::-1], noise)
    return jax.lax.scan(step, jnp.broadcast_to(x - shift, jnp.shape(x)), given, reverse=True)[0]


def chain_invert(
    x: Float[Array, "n ..."],
    chain: Chain,
    model: Field,
    *,
    predicts: str = "data",
    shift: Any = 0.0,
    method: Literal["one step", "fixed point"] = "one step",
    **options: Any,
) -> Array:
    r"""Points at the chain's last level from which DDIM leads to the data `x`.

    Parameters
    ----------
    x
        Data, without the shift; what is returned is around the shift.
    chain, model, predicts, shift
        As :func:`chain_sample` has them.
    method
        `"one step"`: the model at the next level's time and the point that is there, one call a step, whose error is
        that of the steps' length. `"fixed point"`: the step that DDIM inverts exactly, solved by
        :func:`dini.fixed_point` and differentiated implicitly.
    options
        Of :func:`dini.fixed_point`: `solver`, `on_failure`, `differentiation`.

    Raises
    ------
    ValueError
        For another method, options where nothing is solved, and a model whose result has another shape.
    jax.errors.JaxRuntimeError
        With the text of :class:`dini.SolveError`, where a fixed point is not found: the map need not contract in long
        steps. Take more steps, or one step. Under `vmap` it is NaN there, unless `on_failure` is `"ignore"`.

    Examples
    --------
    >>> from dini_zoo.diffusion.chains import linear_betas, spaced
    >>> chain = Chain.of_betas(linear_betas(1000)).respaced(spaced(1000, 10))
    >>> noise = lambda x, t: 0.5 * jnp.tanh(x)
    >>> data = jnp.array([[0.3]])
    >>> latent = chain_invert(data, chain, noise, predicts="noise", method="fixed point")
    >>> bool(abs(chain_sample(None, latent, chain, noise, predicts="noise") - data) < 1e-4)
    True
    """
    one_of("predicts", predicts, PREDICTIONS)
    one_of("method", method, ("one step", "fixed point"))
    if method == "one step" and options:
        raise ValueError(f"{', '.join(options)} are of a solver, and one step solves nothing: method 'fixed point'.")

    def advance(x: Array, i: Array) -> Any:
        a, b = chain.alpha_bar[i], chain.before[i]

        def image(y: Array, x: Array) -> Array:
            e = _predicted(model, chain, y, shift, i, predicts, "noise")
            return (jnp.sqrt(a / b) * (x - root(1 - b) * e) + jnp.sqrt(1 - a) * e).astype(x.dtype)

        following = image(x, x)
        if method == "fixed point":
            found = dini.fixed_point(image, following, x, **options)
            # under vmap nothing is raised, and what was not found must not go on as if it had been
            kept = options.get("on_failure") == "ignore"
            following = found.x if kept else jnp.where(found.success, found.x, jnp.nan)
        return following, None

    return jax.lax.scan(advance, jnp.asarray(x), jnp.arange(len(chain)))[0] + shift


def chain_loss(
    predict: Field, chain: Chain, x0: Float[Array, "n ..."], key: Array, *, shift: Any = 0.0
) -> Float[Array, ""]:
    r""":math:`E \|e_\theta(x_i, t_i) - \varepsilon\|^2`, a mean over numbers, at steps that are drawn uniformly.

    `predict` is called with points and a time for each; the `shift` is that of :meth:`Chain.noised`.
    """
    for_steps, for_noise = jax.random.split(key)
    i = jax.random.randint(for_steps, (len(x0),), 0, len(chain))
    noise = jax.random.normal(for_noise, x0.shape, x0.dtype)
    said = returned("predict", predict(chain.noised(x0, noise, i, shift), chain.times[i]), x0.shape)
    return jnp.mean((said - noise) ** 2)
