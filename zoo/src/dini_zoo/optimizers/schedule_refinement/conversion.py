r"""From regret to the last iterate: the theorem behind the schedules, for any base optimizer.

An online learner that plays :math:`z_1, \dots, z_T` against the losses :math:`w_t \langle g_t, \cdot \rangle` makes

.. math:: x_1 = z_1, \qquad x_{t+1} = x_t + \frac{\sum_{p > t} w_p}{\sum_p w_p} (z_{t+1} - z_t), \qquad
          \mathbb{E}[F(x_T) - F(u)] \le \mathbb{E}\, \frac{\sum_t w_t \langle g_t, z_t - u \rangle}{\sum_t w_t}

with the gradients :math:`g_t` taken at :math:`x_t`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ...kit.checking import trainable
from .checking import positive


def _tails(w: Any) -> Any:
    """What comes after each weight, as a share of all."""
    xp = jnp if isinstance(w, jax.Array) else np
    sums = xp.cumsum(w[::-1])[::-1]
    return xp.concatenate([sums[1:], xp.zeros_like(sums[:1])]) / sums[0]


def last_iterate_weights(w: Any) -> Float[Any, " T"]:
    r"""The steps :math:`\eta_t = w_t \sum_{p>t} w_p / \sum_p w_p` of gradient descent: its last iterate has the bound.

    Parameters
    ----------
    w
        Positive weights, one a step. Those of NumPy are summed in their own precision, which for very long runs
        should be double.

    Raises
    ------
    ValueError
        If `w` is no row of at least one positive number.

    Examples
    --------
    >>> print(last_iterate_weights([0.25, 0.5, 1.0, 1.0, 0.5]).round(3))
    [0.231 0.385 0.462 0.154 0.   ]
    """
    positive("w", w, 1)
    w = w if isinstance(w, jax.Array) else np.asarray(w, float)
    return w * _tails(w)


class LastIterateState(NamedTuple):
    """The state of :func:`last_iterate_transform`."""

    count: Int[Array, ""]
    z: optax.Params
    """What the base learner plays."""
    base: optax.OptState


def last_iterate_transform(base: optax.GradientTransformation, weights: Any) -> optax.GradientTransformationExtraArgs:
    r"""Any optimizer as a learner whose last iterate is as good as its regret is small.

    The base is given the gradients :math:`w_t g_t` and its own points :math:`z_t` as parameters; of each of its moves
    only the share :math:`\sum_{p>t} w_p / \sum_p w_p` is made. With `optax.sgd(1.0)` as the base, this is gradient
    descent with the steps of :func:`last_iterate_weights`. From step :math:`T` on nothing moves.

    Parameters
    ----------
    base
        An optax transformation whose updates are moves, so with its learning rate.
    weights
        :math:`w_1, \dots, w_T`, positive.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        Its state is a :class:`LastIterateState`: a copy of the parameters, and the base's. `update` must be given the
        parameters if the base is.

    Raises
    ------
    ValueError
        If `weights` is no row of at least one positive number.

    Examples
    --------
    >>> optimizer = last_iterate_transform(optax.sgd(1.0), [1.0, 1.0, 1.0, 1.0])
    >>> x = jnp.zeros(())
    >>> state = optimizer.init(x)
    >>> for _ in range(4):
    ...     update, state = optimizer.update(jnp.ones(()), state, x)
    ...     print(update)
    -0.75
    -0.5
    -0.25
    -0.0
    """
    positive("weights", weights, 1)
    inner = optax.with_extra_args_support(base)
    w = jnp.asarray(weights, jnp.result_type(float))
    shares = jnp.asarray(_tails(weights if isinstance(weights, jax.Array) else np.asarray(weights, float)), w.dtype)

    def init(params: optax.Params) -> LastIterateState:
        trainable("params", params)
        # a copy: a program may be given the parameters' memory and the state's to write over
        return LastIterateState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.array, params), inner.init(params))

    def update(
        updates: optax.Updates, state: LastIterateState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, LastIterateState]:
        del params
        at = jnp.minimum(state.count, len(w) - 1)
        weight, share = w[at], jnp.where(state.count < len(w), shares[at], 0)
        scaled = jax.tree.map(lambda g: weight.astype(g.dtype) * g, updates)
        moves, base_state = inner.update(scaled, state.base, state.z, **extra)
        z = optax.apply_updates(state.z, moves)
        made = jax.tree.map(lambda move: share.astype(move.dtype) * move, moves)
        return made, LastIterateState(optax.safe_increment(state.count), z, base_state)

    return optax.GradientTransformationExtraArgs(init, update)
