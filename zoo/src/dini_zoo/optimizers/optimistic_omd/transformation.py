"""The algorithm without a set, as an optimizer of optax."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ...kit.checking import trainable
from .steps import adaptive_variation


class OptimisticState(NamedTuple):
    """Carried from step to step."""

    rule: Any
    last: Any
    count: Array


def optimistic_adaptive_gd(scale: Any, G: Any, L: Any) -> optax.GradientTransformation:
    r"""Optimistic gradient descent whose step size follows how much the gradients change.

    It is `optimistic_mirror_descent` with `adaptive_variation` in the whole space: the parameters are what is played.
    They move by

    .. math:: x_{t+1} - x_t = -(\eta_t + \eta_{t+1}) g_t + \eta_t g_{t-1}, \qquad
              \eta_t = \frac{s}{\sqrt{10 s^2 L^2 + 4 G^2 + \sum_{r<t} \|g_r - g_{r-1}\|^2}} .

    Unlike `optax.optimistic_gradient_descent`, it has no step size to tune: in games of two such optimizers the mean of
    their points comes to an equilibrium as fast as :math:`1/T`.

    Parameters
    ----------
    scale
        :math:`s`, about the distance that the parameters have to go.
    G, L
        About the largest norm of a gradient, and the curvature.

    Raises
    ------
    ValueError
        Where one is not positive.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, optax
    >>> optimizer = optimistic_adaptive_gd(scale=1.0, G=2.0, L=1.0)
    >>> x, state = jnp.array([2.0]), optimizer.init(jnp.array([2.0]))
    >>> for _ in range(100):
    ...     updates, state = optimizer.update(x - 1.0, state)
    ...     x = optax.apply_updates(x, updates)
    >>> print(x.round(3))
    [1.]
    """
    rule = adaptive_variation(scale, G, L)

    def init(params: Any) -> OptimisticState:
        trainable("params", params)
        nothing = jax.tree.map(jnp.zeros_like, params)
        return OptimisticState(rule.init(params), nothing, jnp.zeros((), jnp.int32))

    def update(updates: Any, state: OptimisticState, params: Any = None) -> tuple[Any, OptimisticState]:
        del params
        after = rule.update(state.rule, updates)
        eta, following = rule.step_size(state.rule), rule.step_size(after)
        moves = jax.tree.map(lambda g, last: (eta * last - (eta + following) * g).astype(g.dtype), updates, state.last)
        return moves, OptimisticState(after, updates, optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)
