r"""Speculative decoding of sequences of vectors: a draft of several tokens by a small model, one check by a large one.

With independent acceptances of probability :math:`a` a call of the target makes :math:`(1 - a^{\gamma + 1}) / (1 - a)`
tokens, and with a draft that costs the share :math:`c` of the target that over :math:`\gamma c + 1` is the speed-up.

References
----------
Wang, Zhang, Ding, Yang, Li and Xiang, "Continuous speculative decoding for autoregressive image generation", 2024
(arXiv 2411.11925).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, known, one_length, one_of, positive

from .acceptance import FAILED, MAX_PROPOSALS, OnFailure, constant
from .heads import GaussianHead, Head, LastStep
from .verification import Rule, at, in_place, left_to_right


class Model(NamedTuple):
    """An autoregressive model of vectors: a trunk that reads what is there, and a head that draws the next token."""

    trunk: Callable[[Float[Array, "L d"]], Any]
    """Contexts of all positions of a sequence at once, trees of arrays `(L, ...)`. That of position `i` may depend on
    the tokens before `i` alone: those from `i` on are not yet known, and what stands there means nothing."""
    head: Head


class SpeculativeStats(NamedTuple):
    """How a sequence came to be: a pytree of whole numbers."""

    accepted: Int[Array, ""]
    """Drafts that were kept."""
    tested: Int[Array, ""]
    """Drafts that were tested: those after the first rejection are not."""
    proposals: Int[Array, ""]
    """Draws of the rejection loops."""
    target_calls: Int[Array, ""]
    """Of the target's trunk: once for each token that it draws first, and once a check."""
    failed: Int[Array, ""]
    """Tokens that could not be drawn."""


class Decoded(NamedTuple):
    """A sequence, its prefix in front, and how it came to be."""

    tokens: Float[Array, "L d"]
    stats: SpeculativeStats


def speculative_decode(
    key: Array,
    draft: Model,
    target: Model,
    prefix: Float[Array, "k d"],
    length: int,
    *,
    gamma: int = 4,
    prefill: float = 0.05,
    rule: Literal["exact", "published"] = "exact",
    relax: Any = 1.0,
    residual: Literal["rejection", "reflection"] = "rejection",
    aligned: bool = True,
    verification: Literal["left to right", "in place"] = "left to right",
    max_proposals: int = MAX_PROPOSALS,
    on_failure: OnFailure = "raise",
) -> Decoded:
    r"""Draw a sequence of the target's law, with fewer calls of its trunk than tokens.

    In turns the draft draws :math:`\gamma` tokens, and one call of the target checks them from left to right. The first
    that is rejected is replaced by a draw of the residual, and those after it are dropped; where none is, the target
    adds a token of its own.

    For one sequence: `jax.vmap` over keys and prefixes draws many, each at its own pace. Derivatives are zero.

    Parameters
    ----------
    key
        Of everything random.
    draft, target
        Models whose heads have one number of steps, schedule and temperature.
    prefix
        What is there already, `k` tokens; `k` may be zero.
    length
        Of the whole sequence, at least `k`.
    gamma
        Tokens in a draft, :math:`\gamma`.
    prefill
        The share :math:`\rho` of the new tokens, rounded up, that the target draws alone before the first draft.
    rule
        `"exact"`, or `"published"` for that of the paper, whose law is the target's only where the heads' variances are
        equal.
    relax
        Divides the exponents of the densities by its square. Above 1 more is accepted, and the law is not the target's.
    residual
        `"rejection"`, or `"reflection"`, which needs no loop: for heads with one standard deviation in the last step,
        and the exact rule.
    aligned
        Whether the heads share their noise. Otherwise the law is the same, and little is accepted.
    verification
        `"in place"`: as published code has it, all drafts are tested, each that is rejected is replaced, and those
        after it are kept, although their context has changed. The law is not the target's.
    max_proposals, on_failure
        As :func:`.accept_resample` has them.

    Returns
    -------
    Decoded
        The tokens `(length, d)`, and statistics.

    Raises
    ------
    ValueError
        For settings out of range, and heads that do not fit each other.
    jax.errors.JaxRuntimeError
        Where a token could not be drawn, also under `jit`; for a reflection with two standard deviations, and schedules
        that differ.

    Examples
    --------
    >>> from dini_zoo.diffusion.chains import Chain
    >>> from dini_zoo.generative.continuous_speculative_decoding import GaussianHead, Model
    >>> chain = Chain.of_betas(jnp.array([0.1, 0.3, 0.5]))
    >>> shift = lambda tokens: jnp.concatenate([jnp.zeros((1, 1)), tokens[:-1]])
    >>> model = lambda slope: Model(shift, GaussianHead(chain, lambda u, t, c: slope * c, 1))
    >>> draw = lambda key: speculative_decode(key, model(0.5), model(0.6), jnp.ones((1, 1)), 12, residual="reflection")
    >>> found = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 100))
    >>> found.tokens.shape, bool(found.stats.target_calls.mean() < 6)
    ((100, 12, 1), True)
    """
    prefix = jnp.asarray(prefix, jnp.result_type(prefix, float))
    _check(target.head, prefix, length)
    at_least("gamma", gamma, 1)
    at_least("max_proposals", max_proposals, 1)
    one_of("rule", rule, ("exact", "published"))
    one_of("residual", residual, ("rejection", "reflection"))
    one_of("verification", verification, ("left to right", "in place"))
    one_of("on_failure", on_failure, ("raise", "nan"))
    positive("relax", relax)
    if not 0 <= prefill <= 1:
        raise ValueError(f"prefill must be a share, from 0 to 1: given {prefill}.")
    if residual == "reflection" and (rule == "published" or not known(relax) or np.any(np.asarray(relax) != 1)):
        raise ValueError(
            "A reflection draws the residual of the exact rule alone, with relax 1: take the rejection loop."
        )
    draft, target, prefix = constant((draft, target, prefix))
    for_prefill, for_turns = jax.random.split(key)
    there = len(prefix)
    first = there + int(np.ceil(prefill * (length - there)))
    begun = _fitting(draft.head, target.head, sequential_decode(for_prefill, target, prefix, length, until=first))
    test = Rule(rule, residual, max_proposals, relax)
    check = left_to_right if verification == "left to right" else in_place

    def turn(carried: Any) -> Any:
        i, tokens, stats = carried
        for_noise, for_draft, for_other, for_check = jax.random.split(jax.random.fold_in(for_turns, i), 4)
        shape = (gamma + 1, *target.head.noise_shape)
        noise = jax.random.normal(for_noise, shape, tokens.dtype)
        q, drafts, tokens = _drawn(for_draft, draft, tokens, i, noise[:-1])
        if not aligned:
            noise = jax.random.normal(for_other, shape, tokens.dtype)
        contexts = _contexts(target, tokens)
        law = lambda xi, j: LastStep(*target.head.last_step(xi, at(contexts, j)))
        p = jax.vmap(law)(noise, i + jnp.arange(gamma + 1))
        found = check(for_check, test, q, p, drafts, tokens, i, jnp.minimum(gamma, length - i - 1))
        more = SpeculativeStats(found.accepted, found.tested, found.proposals, none + 1, none)
        return i + found.taken, found.tokens, jax.tree.map(jnp.add, stats, more)

    none = jnp.zeros((), int)
    stats = SpeculativeStats(none, none, none, none + first - there, none)
    start = (none + first, begun, stats)
    _, tokens, stats = jax.lax.while_loop(lambda carried: carried[0] < length, turn, start)
    stats = stats._replace(failed=jnp.sum(jnp.any(jnp.isnan(tokens), axis=1)))
    if on_failure == "raise":
        tokens = eqx.error_if(tokens, stats.failed > 0, FAILED)
    return Decoded(tokens, stats)


def sequential_decode(
    key: Array, model: Model, prefix: Float[Array, "k d"], length: int, *, until: int | None = None
) -> Float[Array, "L d"]:
    """Draw a sequence token by token, with one call of the trunk for each; zeros are left from `until` on, if given.

    Examples
    --------
    >>> from dini_zoo.diffusion.chains import Chain
    >>> from dini_zoo.generative.continuous_speculative_decoding import GaussianHead, Model
    >>> head = GaussianHead(Chain.of_betas(jnp.array([0.1, 0.5])), lambda u, t, c: c * jnp.ones_like(u), 2)
    >>> found = sequential_decode(jax.random.key(0), Model(lambda tokens: tokens[:, 0], head), jnp.ones((1, 2)), 3)
    >>> found.shape
    (3, 2)
    """
    prefix = jnp.asarray(prefix, jnp.result_type(prefix, float))
    _check(model.head, prefix, length)
    model = constant(model)
    until = length if until is None else until
    at_least("until", until, len(prefix))
    at_least("length - until", length - until, 0)
    count = until - len(prefix)
    tokens = jnp.zeros((length, prefix.shape[1]), prefix.dtype).at[: len(prefix)].set(prefix)
    if not count:
        return tokens
    for_noise, for_tokens = jax.random.split(key)
    noise = jax.random.normal(for_noise, (count, *model.head.noise_shape), tokens.dtype)
    return _drawn(for_tokens, model, tokens, len(prefix), noise)[2]


def _drawn(
    key: Array, model: Model, tokens: Array, start: Any, noise: Float[Array, "n T d"]
) -> tuple[LastStep, Array, Array]:
    """Draw tokens one after the other: their laws, they, and the sequence with them. What is beyond its end is lost."""

    def step(tokens: Array, given: Any) -> Any:
        j, xi, last = given
        law = LastStep(*model.head.last_step(xi, at(_contexts(model, tokens), j)))
        x = law.mean + law.std * last
        return tokens.at[j].set(x, mode="drop"), (law, x)

    last = jax.random.normal(key, (len(noise), tokens.shape[1]), tokens.dtype)
    tokens, (laws, drawn) = jax.lax.scan(step, tokens, (start + jnp.arange(len(noise)), noise, last))
    return laws, drawn, tokens


def _contexts(model: Model, tokens: Array) -> Any:
    """Of each token the trunk's, of which there must be one for each."""
    contexts = model.trunk(tokens)
    count = one_length("What a trunk returns", contexts)
    if count != len(tokens):
        raise ValueError(f"A trunk must return a context for each of {len(tokens)} tokens: given {count}.")
    return contexts


def _check(head: Head, prefix: Array, length: int) -> None:
    size = head.noise_shape[1]
    if prefix.ndim != 2 or prefix.shape[1] != size:
        raise ValueError(f"prefix must have shape (k, {size}), the head's size: given {prefix.shape}.")
    at_least("length", length, len(prefix))


def _fitting(draft: Head, target: Head, tokens: Array) -> Array:
    """The tokens, with an error where the heads' schedules are traced and differ."""
    if draft.noise_shape != target.noise_shape:
        raise ValueError(
            f"The heads of draft and target share their noise, (steps, size): given {draft.noise_shape} and "
            f"{target.noise_shape}."
        )
    if not (isinstance(draft, GaussianHead) and isinstance(target, GaussianHead)):
        return tokens
    for name, one, other in (
        ("schedules", draft.chain.alpha_bar, target.chain.alpha_bar),
        ("temperatures", draft.temperature, target.temperature),
    ):
        differ = ~jnp.all(jnp.abs(jnp.asarray(one) - other) <= 1e-5 * jnp.abs(other))
        text = f"The {name} of draft and target must be one: their noise is matched step by step."
        if known(differ):
            if differ:
                raise ValueError(f"{text} Given {one} and {other}.")
        else:
            tokens = eqx.error_if(tokens, differ, text)
    return tokens
