r"""Decoding by soft values: of several candidates of each reverse step, one is kept.

The law :math:`p^{(a)}(x_0) \propto p(x_0)\, e^{r(x_0) / a}` is that of a chain with the kernel

.. math:: p^*(x_{t-1} \mid x_t) \propto p(x_{t-1} \mid x_t)\, e^{v_{t-1}(x_{t-1}) / a},

which is approached by importance resampling of :math:`M` candidates from :math:`p`: exactly as :math:`M \to \infty`, if
the value is the soft one.

References
----------
Li, Zhao, Wang, Scalia, Eraslan, Nair, Biancalani, Ji, Regev, Levine and Uehara, "Derivative-free guidance in continuous
and discrete diffusion models with soft value-based decoding", 2024 (arXiv 2408.08252).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import at_least, not_negative, one_of, positive

from ..kernels import Kernel, start_key_of
from .guided import Guided
from .values import PosteriorMean, Value

type Invalid = Literal["raise", "reject"]


class Selected(NamedTuple):
    """What one step keeps."""

    x: Array
    values: Float[Array, " n"]
    chosen: Int[Array, " n"]
    """Which of the candidates."""
    invalid: Int[Array, " n"]
    """How many candidates of each point had a value that is not a number, or infinite."""


class Decoded(NamedTuple):
    """Samples, and how they came to be."""

    x: Array
    values: Float[Array, " n"]
    """Of the samples: their rewards, if the value is the reward at level 0."""
    invalid: Int[Array, ""]
    """How many values on the way were not a number, or infinite."""


def checked(values: Array, invalid: Invalid) -> tuple[Array, Bool[Array, ...]]:
    """Values that can be compared: minus infinity where they are not numbers, or an error; and where that is."""
    wrong = jnp.isnan(values) | (values == jnp.inf)
    if invalid == "raise":
        values = eqx.error_if(
            values,
            jnp.any(wrong),
            "A value or reward is NaN or +inf. Mend it, or give `invalid='reject'`, with which such candidates are not "
            "chosen where there is another one (minus infinity is allowed, and means never).",
        )
    return jnp.where(wrong, -jnp.inf, values), wrong


def log_weights(values: Array, temperature: Any) -> Array:
    """Values over the temperature, of differences from the greatest along the last axis."""
    most = jnp.max(values, axis=-1, keepdims=True)
    away = values - jnp.where(jnp.isfinite(most), most, 0.0)
    cold = temperature == 0
    return jnp.where(cold, away, away / jnp.where(cold, 1.0, temperature))


def svdd_step(
    key: Array,
    x: Array,
    draw: Callable[[Array, Array, int], Array],
    value: Callable[[Array], Float[Array, "n m"]],
    temperature: Any,
    candidates: int,
    *,
    log_ratio: Callable[[Array], Float[Array, "n m"]] | None = None,
    select_key: Array | None = None,
    invalid: Invalid = "raise",
) -> Selected:
    r"""Draw :math:`M` candidates of each point's successor, and keep one with weight :math:`e^{v / a}`.

    Parameters
    ----------
    key
        Of the candidates; `select_key`, if it is not given, is made from it.
    x
        A batch of points.
    draw
        `draw(key, x, m)`: candidates `(n, m, ...)`.
    value
        Of all candidates.
    temperature
        :math:`a`; with 0 the candidate of the greatest value is kept.
    candidates
        :math:`M`. With 1 this is a step of the kernel.
    log_ratio
        The log density of the kernel less that of what `draw` draws from, where that is another one. With temperature 0
        only the values' order counts.
    invalid
        What happens where a value is not a number or infinite: `"raise"`, or `"reject"`, which counts it.

    Raises
    ------
    ValueError
        For a negative temperature, and less than one candidate.
    """
    not_negative("temperature", temperature)
    at_least("candidates", candidates, 1)
    one_of("invalid", invalid, ("raise", "reject"))
    drawn = draw(key, x, candidates)
    values, wrong = checked(value(drawn), invalid)
    logs = log_weights(values, temperature)
    if log_ratio is not None:
        logs = logs + jnp.where(temperature == 0, 0.0, log_ratio(drawn))
    if candidates > 1:
        select_key = jax.random.fold_in(key, candidates) if select_key is None else select_key
        # the greatest of weights with Gumbel noise is a draw by the weights
        noise = jax.random.gumbel(select_key, logs.shape, logs.dtype)
        logs = logs + jnp.where(temperature == 0, 0.0, noise)
    chosen = jnp.argmax(logs, axis=1)
    return Selected(pick(drawn, chosen), pick(values, chosen), chosen, jnp.sum(wrong, axis=1))


def pick(tree: Any, chosen: Int[Array, " n"]) -> Any:
    """Of arrays with axes for points and candidates, the candidate chosen for each point."""
    return jax.tree.map(lambda leaf: leaf[jnp.arange(len(chosen)), chosen], tree)


def replaced(key: Array, values: Float[Array, " n"], fraction: float, temperature: Any) -> Int[Array, " n"]:
    """Whom each point is replaced by: the lowest values' by draws from the rest, all others by themselves."""
    n = len(values)
    few = int(fraction * n)
    order = jnp.argsort(values)
    low, rest = order[:few], order[few:]
    draws = jax.random.categorical(key, log_weights(values[rest], temperature), shape=(few,))
    return jnp.arange(n).at[low].set(rest[draws])


def svdd_sample(
    key: Array,
    kernel: Kernel,
    value: Value,
    *,
    batch: int,
    candidates: int,
    temperature: Any,
    proposal: Guided | None = None,
    select_start: bool = False,
    resample_fraction: float = 0.0,
    resample_every: int = 1,
    resample_temperature: Any = None,
    invalid: Invalid = "raise",
) -> Decoded:
    r"""Sample a frozen diffusion, tilted to a reward by :func:`svdd_step` in every step.

    Each step calls the network once for the points and, with a :class:`PosteriorMean` of this kernel as value, once for
    each candidate; the prediction for the one that is kept serves the next step.

    Parameters
    ----------
    key
        Of everything random. The kernel's draws are those of :func:`sample` with this key.
    kernel
        The reverse of the diffusion.
    value
        `value(x, t)` of points `(n, ...)` at level `t`, one number each; at level 0 the reward.
    batch
        How many samples, independent of each other unless a fraction is resampled.
    candidates, temperature
        :math:`M` and :math:`a`; they may not be traced, and may be, respectively.
    proposal
        A :class:`Guided` kernel to draw candidates from; they are weighed accordingly.
    select_start
        Whether the first points are chosen from candidates as well. Where they are random, the law is exact only so.
    resample_fraction, resample_every, resample_temperature
        After every so many steps but the last one this fraction of the batch, that of the lowest values, is replaced by
        draws from the rest, weighed by :math:`e^{v / b}` with this temperature, :math:`a` by default (SVDD-R). Samples
        then depend on each other, and may be equal.
    invalid
        See :func:`svdd_step`.

    Returns
    -------
    Decoded
        The samples, their values, and how many values were invalid.

    Raises
    ------
    ValueError
        For settings out of range, and for several candidates of a kernel without noise, which are all alike.

    Examples
    --------
    >>> from dini_zoo.diffusion.chains import Chain
    >>> from dini_zoo.diffusion.svdd import GaussianReverse, PosteriorMean
    >>> chain = Chain.of_betas(jnp.linspace(0.001, 0.3, 40))
    >>> exact = lambda x, i: jnp.sqrt(chain.alpha_bar[i]) * x  # of standard normal data
    >>> kernel = GaussianReverse(chain, exact, (1,))
    >>> value = PosteriorMean(kernel, lambda x: jnp.floor(x[:, 0]))  # no gradient
    >>> found = svdd_sample(jax.random.key(0), kernel, value, batch=500, candidates=8, temperature=0.5)
    >>> bool(found.values.mean() > 0.5)  # -0.5 without guidance
    True
    """
    at_least("batch", batch, 1)
    at_least("candidates", candidates, 1)
    at_least("resample_every", resample_every, 1)
    not_negative("temperature", temperature)
    if not 0 <= resample_fraction < 1:
        raise ValueError(f"resample_fraction must be from 0 to less than 1: given {resample_fraction}.")
    spread = temperature if resample_temperature is None else resample_temperature
    not_negative("resample_temperature", spread)
    if candidates > 1 and not getattr(kernel, "random", True):
        raise ValueError(
            "The kernel has no noise, so that all candidates of a step are alike and nothing can be chosen: give it a "
            "positive `eta`, or candidates=1."
        )
    if proposal is not None:
        positive("temperature", temperature)
    source = kernel if proposal is None else proposal
    shares = proposal is None and isinstance(value, PosteriorMean) and value.kernel is kernel
    T = kernel.steps
    # the kernel's keys are the first T that split from the key: others are made from what follows them
    keys = jax.random.split(key, T)
    extra = jax.random.split(jax.random.fold_in(key, T), (T + 1, 2))

    def evaluated(x: Array, t: Any) -> tuple[Array, Any]:
        """Values of candidates and, where they are needed for these, predictions."""
        flat = x.reshape(-1, *x.shape[2:])
        if not shares:
            return value(flat, t).reshape(x.shape[:2]), ()
        assert isinstance(value, PosteriorMean)
        predicted = kernel.predict(flat, t)
        apart = jax.tree.map(lambda leaf: leaf.reshape(*x.shape[:2], *leaf.shape[1:]), predicted)
        return value.of(flat, predicted, t).reshape(x.shape[:2]), apart

    def chosen_from(key: Array, select_key: Array, x: Array, draw: Any, t: Any, log_ratio: Any) -> tuple[Selected, Any]:
        kept: list[Any] = []

        def valued(drawn: Array) -> Array:
            values, predicted = evaluated(drawn, t)
            kept.append(predicted)
            return values

        found = svdd_step(
            key, x, draw, valued, temperature, candidates, log_ratio=log_ratio, select_key=select_key, invalid=invalid
        )
        return found, pick(kept[0], found.chosen)

    def step(carried: Any, given: Any) -> Any:
        x, predicted, wrong = carried
        t, key, (select_key, resample_key) = given
        if not shares:
            predicted = source.predict(x, t)
        ratio = None
        if proposal is not None:
            ratio = lambda drawn: proposal.log_ratio(x, predicted, drawn, t)
        draw = lambda key, x, m: source.draw(key, x, predicted, t, m)
        found, after = chosen_from(key, select_key, x, draw, t - 1, ratio)
        new, values = found.x, found.values
        if int(resample_fraction * batch):
            due = (t > 1) & ((T + 1 - t) % resample_every == 0)
            other = replaced(resample_key, values, resample_fraction, spread)
            other = jnp.where(due, other, jnp.arange(batch))
            new, values, after = jax.tree.map(lambda leaf: leaf[other], (new, values, after))
        return (new, after, wrong + jnp.sum(found.invalid)), values

    start_key = start_key_of(key, T)
    if select_start and candidates > 1:
        draw = lambda key, x, m: kernel.start(key, batch * m).reshape(batch, m, *x.shape[1:])
        like = kernel.start(start_key, batch)
        found, predicted = chosen_from(start_key, extra[T, 0], like, draw, T, None)
        x, wrong = found.x, jnp.sum(found.invalid)
    else:
        x, wrong = kernel.start(start_key, batch), jnp.array(0)
        predicted = kernel.predict(x, T) if shares else ()
    levels = jnp.arange(T, 0, -1)
    (x, _, wrong), values = jax.lax.scan(step, (x, predicted, wrong), (levels, keys, extra[:T]))
    return Decoded(x, values[-1], wrong)
