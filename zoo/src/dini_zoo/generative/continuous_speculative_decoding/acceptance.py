r"""Accept or resample: a draw of one law becomes a draw of another, and stays the same as often as is possible.

A draft :math:`x \sim q` is accepted with probability :math:`\min(1, p(x) / q(x))`; else a draw of the residual
:math:`\max(0, p - q) / Z` takes its place. What is returned has the law :math:`p`.

References
----------
Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding", ICML 2023 (arXiv 2211.17192).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import at_least, known, one_of, returned, same_shape, taken

from .gaussians import Gaussian, equal_scales, log_ratio, reflected

type OnFailure = Literal["raise", "nan"]

#: A residual of two nearly equal laws is rarely hit, and rarely needed: the number of proposals has a heavy tail.
MAX_PROPOSALS = 100_000

FAILED = (
    "A token could not be drawn: its density ratio is NaN (is the standard deviation of the last step zero, or a mean "
    "not finite?), or no proposal for the residual was accepted. The published rule rejects drafts for which there is "
    "no residual; with the exact rule, raise `max_proposals`. `on_failure='nan'` returns NaN there and counts."
)
UNEQUAL = "A reflection needs equal standard deviations of draft and target: take the rejection loop instead."


class Resampled(NamedTuple):
    """A draw, and how it came to be: a pytree of arrays."""

    x: Array
    accepted: Bool[Array, ""]
    """Whether it is the draft."""
    proposals: Int[Array, ""]
    """How many draws the rejection loop took, 0 for an accepted draft and where there is no loop."""
    failed: Bool[Array, ""]
    """Whether there is no draw: the ratio is NaN, or no proposal was accepted."""


def accept_resample(
    key: Array,
    x: Array,
    log_q: Callable[[Array], Array] | Float[Array, " K"],
    log_p: Callable[[Array], Array] | Float[Array, " K"],
    sample_p: Callable[[Array], Array] | None = None,
    *,
    method: Literal["rejection", "reflection"] | None = None,
    max_proposals: int = MAX_PROPOSALS,
    on_failure: OnFailure = "raise",
) -> Resampled:
    r"""Make of a draw of :math:`q` one of :math:`p`, and keep it with the greatest possible probability.

    For a single draw: `jax.vmap` maps over many. Derivatives of what is returned are zero: an acceptance has none.

    Parameters
    ----------
    key
        Of the test and of the residual: another one than that of the draft.
    x
        The draft, :math:`x \sim q`: an array, or the number of a token for logits.
    log_q, log_p
        Logarithms of the densities as functions of a draw, in the same measure, normalized; or logits, unnormalized.
    sample_p
        `sample_p(key)` draws from :math:`p`; that of a :class:`Gaussian` is known.
    method
        How the residual is drawn. `"rejection"`, the default: draws of :math:`p` are proposed until one is accepted,
        with probability :math:`\max(0, 1 - q / p)`. A token takes one proposal on average, whatever the laws are.
        `"reflection"`, for two instances of :class:`Gaussian` with one covariance, needs no loop. For logits there is
        no choice: the residual is a law of finitely many probabilities.
    max_proposals
        After which the loop gives up.
    on_failure
        Whether a token that could not be drawn raises, or is NaN and marked as failed.

    Raises
    ------
    ValueError
        For laws that do not fit the method, or each other.
    jax.errors.JaxRuntimeError
        Where a token could not be drawn, and for a reflection with two covariances; also under `jit`.

    Examples
    --------
    >>> q, p = Gaussian(jnp.zeros(1), jnp.ones(1)), Gaussian(jnp.array([0.6]), jnp.array([0.8]))
    >>> def token(key):
    ...     draft, test = jax.random.split(key)
    ...     return accept_resample(test, q.sample(draft), q, p)
    >>> found = jax.vmap(token)(jax.random.split(jax.random.key(0), 10_000))
    >>> bool(abs(found.x.mean() - 0.6) < 0.03), bool(abs(found.accepted.mean() - 0.7258) < 0.02)
    (True, True)
    >>> found = accept_resample(jax.random.key(0), jnp.array([0.5]), q, p, method="rejection", max_proposals=50)
    >>> found.x.shape
    (1,)
    >>> other = accept_resample(jax.random.key(0), jnp.array(2), jnp.zeros(3), jnp.array([0.0, 0.0, -9.0]))
    >>> bool(other.accepted), bool(other.x < 2)
    (False, True)
    """
    at_least("max_proposals", max_proposals, 1)
    one_of("method", method, ("rejection", "reflection", None))
    one_of("on_failure", on_failure, ("raise", "nan"))
    x, log_q, log_p = constant((x, log_q, log_p))
    if not callable(log_q) and not callable(log_p):
        if method is not None or sample_p is not None:
            raise ValueError("Logits have an exact residual: neither `method` nor `sample_p` applies to them.")
        return raised(_of_logits(key, jnp.asarray(x), jnp.asarray(log_q), jnp.asarray(log_p)), on_failure)
    if not (callable(log_q) and callable(log_p)):
        raise ValueError("log_q and log_p must both be functions, or both be logits: given one of each.")
    for_test, for_residual = jax.random.split(key)
    gaussian = isinstance(log_q, Gaussian) and isinstance(log_p, Gaussian)
    ratio = (lambda y: log_ratio(log_q, log_p, y)) if gaussian else (lambda y: log_p(y) - log_q(y))
    if gaussian:
        same_shape("x", x, "the means of log_q and log_p", log_q.mean.shape)
    found = jax.lax.stop_gradient(returned("log_p(x) - log_q(x)", ratio(x), ()))
    accepted = accepts(for_test, found)
    if method == "reflection":
        if not gaussian:
            raise ValueError("A reflection needs log_q and log_p to be instances of Gaussian.")
        other, draws, failed = reflection(log_q, log_p, x)
    else:
        if sample_p is None and isinstance(log_p, Gaussian):
            sample_p = log_p.sample
        if sample_p is None:
            raise ValueError("A rejection loop needs sample_p, a function of a key that draws from p: given none.")
        other, draws, failed = rejection(for_residual, ratio, sample_p, ~accepted, max_proposals)
    failed = ~accepted & (failed | jnp.isnan(found))
    kept = jnp.where(failed, jnp.nan, jnp.where(accepted, x, other))
    return raised(Resampled(kept, accepted, draws, failed), on_failure)


def accepts(key: Array, log_ratio: Float[Array, ""]) -> Bool[Array, ""]:
    r"""True with probability :math:`\min(1, r)`; never for NaN."""
    # the number drawn is in [0, 1), so equal densities accept with certainty
    return jnp.log(jax.random.uniform(key, dtype=log_ratio.dtype)) < log_ratio


def rejection(
    key: Array,
    ratio: Callable[[Array], Array],
    sample_p: Callable[[Array], Array],
    needed: Bool[Array, ""],
    max_proposals: int,
) -> tuple[Array, Int[Array, ""], Bool[Array, ""]]:
    """A draw of the residual, the number of proposals, and whether it failed; no proposal where it is not needed."""

    def go_on(carried: Any) -> Array:
        _, count, taken, bad = carried
        return ~taken & ~bad & (count < max_proposals)

    def propose(carried: Any) -> Any:
        _, count, *_ = carried
        for_draw, for_test = jax.random.split(jax.random.fold_in(key, count))
        y = jax.lax.stop_gradient(sample_p(for_draw))
        found = jax.lax.stop_gradient(ratio(y))
        taken = jax.random.uniform(for_test, dtype=found.dtype) < -jnp.expm1(-found)
        # to go on after a NaN could end with a draw, of some other law
        return y, count + 1, taken, jnp.isnan(found)

    none = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), jax.eval_shape(sample_p, key))
    start = (none, jnp.zeros((), int), ~needed, jnp.zeros((), bool))
    y, count, taken, _ = jax.lax.while_loop(go_on, propose, start)
    return y, count, ~taken


def reflection(q: Gaussian, p: Gaussian, x: Array) -> tuple[Array, Int[Array, ""], Bool[Array, ""]]:
    """A draw of the residual made of a rejected one; it raises where the covariances are not one."""
    equal = equal_scales(q, p)
    if known(equal) and not equal:
        raise ValueError(f"{UNEQUAL} Given {q.std} and {p.std}.")
    y = eqx.error_if(reflected(q, p, x), ~equal, UNEQUAL)
    return y, jnp.zeros((), int), jnp.zeros((), bool)


def _of_logits(key: Array, x: Array, log_q: Array, log_p: Array) -> Resampled:
    """Of laws on 0, ..., K - 1."""
    if x.ndim or not jnp.issubdtype(x.dtype, jnp.integer):
        raise ValueError(f"With logits x must be the number of a token: given {x.dtype} of shape {x.shape}.")
    if log_q.ndim != 1:
        raise ValueError(f"Logits must be a vector: given shape {log_q.shape}; `jax.vmap` maps over more of them.")
    same_shape("log_p", log_p, "log_q", log_q.shape)
    for_test, for_residual = jax.random.split(key)
    log_q, log_p = jax.nn.log_softmax(log_q), jax.nn.log_softmax(log_p)
    found = taken("x", log_p, x) - taken("x", log_q, x)
    accepted = accepts(for_test, found)
    rest = jnp.maximum(jnp.exp(log_p) - jnp.exp(log_q), 0.0)
    # equal up to rounding: a draw of p itself
    rest = jnp.where(jnp.any(rest > 0), jnp.log(rest), log_p)
    other = jax.random.categorical(for_residual, rest).astype(x.dtype)
    failed = jnp.isnan(found) | jnp.any(jnp.isnan(rest))
    # a whole number cannot be NaN: -1 is no token
    kept = jnp.where(failed, -1, jnp.where(accepted, x, other))
    return Resampled(kept, accepted, jnp.zeros((), int), failed)


def constant[T](tree: T) -> T:
    """The same, with derivatives of zero."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, tree)


def raised(found: Resampled, on_failure: OnFailure) -> Resampled:
    """The same, or an error where it failed."""
    if on_failure == "nan":
        return found
    return found._replace(x=eqx.error_if(found.x, found.failed, FAILED))
