"""Optax transformations: AdaGrad with one step size for all coordinates, and rates that follow the samples seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import above_zero

from ...kit.checking import not_negative, trainable


class AdagradNormState(NamedTuple):
    """What AdaGrad-Norm carries."""

    accumulator: Float[Array, ""]
    """:math:`v`, the sum of squared gradient norms."""


def scale_by_adagrad_norm(initial_accumulator: float = 1e-2) -> optax.GradientTransformation:
    r"""Divide by the root of the sum of all squared gradient norms so far.

    .. math:: v_{k+1} = v_k + \|g_k\|^2, \qquad u_k = g_k / \sqrt{v_{k+1}} .

    Parameters
    ----------
    initial_accumulator
        :math:`v_0`, positive.

    Raises
    ------
    ValueError
        For an `initial_accumulator` that is not positive.
    """
    above_zero("initial_accumulator", initial_accumulator)

    def init(params: Any) -> AdagradNormState:
        trainable("params", params)
        # in at least single precision: in half of it the sum would soon stop growing
        dtype = jnp.result_type(jnp.float32, *(jnp.asarray(leaf).real.dtype for leaf in jax.tree.leaves(params)))
        return AdagradNormState(jnp.asarray(initial_accumulator, dtype))

    def update(updates: Any, state: AdagradNormState, params: Any = None) -> tuple[Any, AdagradNormState]:
        del params
        dtype = state.accumulator.dtype
        squares = [jnp.sum(jnp.square(jnp.abs(leaf).astype(dtype))) for leaf in jax.tree.leaves(updates)]
        accumulator = sum(squares, state.accumulator)
        scale = jax.lax.rsqrt(accumulator)
        return jax.tree.map(lambda leaf: leaf * scale.astype(leaf.dtype), updates), AdagradNormState(accumulator)

    return optax.GradientTransformation(init, update)


def adagrad_norm(
    learning_rate: optax.ScalarOrSchedule, initial_accumulator: float = 1e-2
) -> optax.GradientTransformation:
    r"""AdaGrad-Norm: gradient descent with one step size, which the gradients seen so far make smaller.

    .. math:: v_{k+1} = v_k + \|g_k\|^2, \qquad x_{k+1} = x_k - \frac{\alpha}{\sqrt{v_{k+1}}} \, g_k .

    The norm is that of all parameters together. The state is one number, so parameters may be sharded in any way.

    Parameters
    ----------
    learning_rate
        :math:`\alpha`, or a schedule of it.
    initial_accumulator
        :math:`v_0`, positive.

    Raises
    ------
    ValueError
        For an `initial_accumulator` that is not positive, and a learning rate that is negative or not finite.

    References
    ----------
    R. Ward, X. Wu, L. Bottou, "AdaGrad stepsizes: sharp convergence over nonconvex landscapes", ICML 2019.

    Examples
    --------
    >>> import jax
    >>> optimizer = adagrad_norm(1.0)
    >>> x = 2.0
    >>> state = optimizer.init(x)
    >>> for _ in range(3):
    ...     updates, state = optimizer.update(jax.grad(lambda x: x**2 / 2)(x), state)
    ...     x = optax.apply_updates(x, updates)
    ...     print(f"{x:.5f}")
    1.00125
    0.55403
    0.31382
    """
    if not callable(learning_rate):
        not_negative("learning_rate", learning_rate)
    return optax.chain(
        scale_by_adagrad_norm(initial_accumulator),
        optax.scale_by_learning_rate(learning_rate),
    )


class SamplesState(NamedTuple):
    """What a rate by samples carries."""

    samples: Int[Array, ""]
    """Seen so far."""


def scale_by_samples(schedule: Callable[[Array], Any]) -> optax.GradientTransformationExtraArgs:
    """Scale updates by a schedule of the number of samples seen, not of steps: batches may differ in size.

    Parameters
    ----------
    schedule
        An optax schedule, which is given the number of samples before the step. The last link of a chain scales by the
        negative of a learning rate.

    Examples
    --------
    >>> import jax.numpy as jnp, optax
    >>> schedule = optax.linear_schedule(-1.0, 0.0, 100)
    >>> optimizer = optax.chain(optax.scale_by_rss(), scale_by_samples(schedule))
    >>> state = optimizer.init(jnp.ones(2))
    >>> for size in (20, 60, 20):
    ...     updates, state = optimizer.update(jnp.ones(2), state, batch_size=size)
    >>> print(state[1].samples)
    100
    """

    def init(params: Any) -> SamplesState:
        del params
        return SamplesState(jnp.zeros((), jnp.int32))

    def update(
        updates: Any, state: SamplesState, params: Any = None, *, batch_size: Any = None, **_: Any
    ) -> tuple[Any, SamplesState]:
        del params
        if batch_size is None:
            raise ValueError("scale_by_samples needs the step's batch: `update(updates, state, batch_size=...)`.")
        rate = jnp.asarray(schedule(state.samples))
        scaled = jax.tree.map(lambda leaf: leaf * rate.astype(jnp.asarray(leaf).dtype), updates)
        # after two billions of samples the count stays constant: it does not become negative
        seen = jnp.asarray(batch_size, jnp.int32)
        most = jnp.iinfo(jnp.int32).max
        return scaled, SamplesState(jnp.minimum(state.samples, most - seen) + seen)

    return optax.GradientTransformationExtraArgs(init, update)
