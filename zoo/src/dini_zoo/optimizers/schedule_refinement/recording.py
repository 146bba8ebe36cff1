"""Gradient norms of a run, one a step, kept in the optimizer's state."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from .checking import whole


class GradNormState(NamedTuple):
    """The state of :func:`record_grad_norm`."""

    count: Int[Array, ""]
    """Steps so far."""
    norms: Float[Array, " size"]
    """That of step `t`, counted from zero, is at `t % size`."""


def record_grad_norm(ord: Literal[1, 2] = 2, *, size: int) -> optax.GradientTransformation:
    r"""Keep the norm of each step's gradient, and change nothing.

    It stands first in a chain, before clipping and weight decay, so that it sees the gradients of the mini-batches.
    With several devices the gradients must already be the mean over them, as they are where a compiled program computes
    the loss of sharded data; inside of `jax.shard_map`, average before. A step that accumulates several gradients
    counts as one if this stands inside of `optax.MultiSteps`.

    Parameters
    ----------
    ord
        2 for :math:`\|g\|_2`, for schedules of SGD; 1 for :math:`\|g\|_1`, for those of Adam. Over all parameters.
    size
        How many norms are kept, the last ones. A refined schedule needs those of the whole run.

    Returns
    -------
    optax.GradientTransformation
        Its state is a :class:`GradNormState`, of one number a step.

    Raises
    ------
    ValueError
        If `ord` is neither, or `size` no positive whole number.

    Examples
    --------
    >>> optimizer = optax.chain(record_grad_norm(size=100), optax.sgd(0.1))
    >>> state = optimizer.init(jnp.zeros(2))
    >>> for gradient in (jnp.array([3.0, 4.0]), jnp.array([0.0, 2.0])):
    ...     _, state = optimizer.update(gradient, state)
    >>> print(recorded_grad_norms(state))
    [5. 2.]
    """
    if ord not in (1, 2):
        raise ValueError(f"ord must be 1 or 2: given {ord!r}.")
    count = whole("size", size, 1)

    def init(params: optax.Params) -> GradNormState:
        del params
        return GradNormState(jnp.zeros([], jnp.int32), jnp.zeros(count))

    def update(
        updates: optax.Updates, state: GradNormState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, GradNormState]:
        del params
        total = jnp.zeros((), state.norms.dtype)
        for leaf in jax.tree.leaves(updates):
            # half precision would overflow, and lose small numbers
            absolute = jnp.abs(leaf).astype(state.norms.dtype)
            total += jnp.sum(absolute if ord == 1 else absolute**2)
        norm = total if ord == 1 else jnp.sqrt(total)
        return updates, GradNormState(state.count + 1, state.norms.at[state.count % count].set(norm))

    return optax.GradientTransformation(init, update)


def recorded_grad_norms(state: Any) -> Float[np.ndarray, " steps"]:
    """The norms that :func:`record_grad_norm` keeps in an optimizer's state, in the order of their steps.

    Of optimizers that were run side by side, by `jax.vmap`, there is a row each.

    Raises
    ------
    ValueError
        If there is none in the state, or more than one.
    """
    is_one = lambda part: isinstance(part, GradNormState)
    found = [part for part in jax.tree.leaves(state, is_leaf=is_one) if is_one(part)]
    if len(found) != 1:
        raise ValueError(f"The state must have one record of gradient norms in it: there are {len(found)}.")
    norms, counts = np.asarray(found[0].norms), np.unique(found[0].count)
    if len(counts) != 1:
        raise ValueError(f"All optimizers must have made as many steps: given {counts.tolist()}.")
    steps, size = int(counts[0]), norms.shape[-1]
    return norms[..., :steps] if steps <= size else np.roll(norms, -steps, axis=-1)
