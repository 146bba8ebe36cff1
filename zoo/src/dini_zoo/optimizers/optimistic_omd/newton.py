r"""The optimistic online Newton step, for losses that are exp-concave.

.. math:: H_t = \big(1 + \tfrac{\beta G^2}{2}\big) I + \frac\beta2 \sum_{s<t} g_s g_s^\top, \qquad
          \beta = \tfrac12 \min\big(\tfrac{1}{4 G D}, \alpha\big)

takes the place of the step size: both steps of a round are projections in the norm of :math:`H_t`. The regret grows
like the logarithm of noise and drift, once the gradients have filled :math:`H_t`: with the :math:`\beta` of the theory
that may take a hundred thousand rounds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .geometry import QuadraticNorm, inside
from .learner import Flags, Learner, check_set, checked, floating, kept, no_flags
from .steps import require_positive


class NewtonState(NamedTuple):
    """Carried from round to round."""

    center: Any
    last: Any
    matrix: Float[Array, "d d"]
    inverse: Float[Array, "d d"]
    count: Array
    flags: Flags


def optimistic_online_newton(
    constraint: Any,
    *,
    D: Any,
    G: Any,
    alpha: Any = None,
    beta: Any = None,
    optimism: bool = True,
    refresh: int = 1000,
) -> Learner:
    r"""The optimistic online Newton step on a set.

    Parameters
    ----------
    constraint
        A convex set of dini, or `None`. Onto balls the projections are nearly in closed form, onto others quadratic
        programs.
    D, G
        The set's diameter, and a bound on the norms of gradients.
    alpha
        Of the losses' exp-concavity: :math:`e^{-\alpha f}` is concave.
    beta
        :math:`\beta`, in place of `alpha`.
    optimism
        Whether the last gradient is the guess; without, it is the online Newton step.
    refresh
        Rounds after which :math:`H^{-1}`, which each gradient changes by a matrix of rank one, is recomputed.

    Raises
    ------
    ValueError
        Where a setting is out of its range, or not one of `alpha` and `beta` is given.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> from dini_zoo.optimizers.optimistic_omd import follow
    >>> learner = optimistic_online_newton(dini.sets.L2Ball(1.0), D=2.0, G=2.0, beta=1.0)
    >>> points, _ = jax.jit(lambda a: follow(learner, lambda x, a: x - a, a, jnp.zeros(2)))(jnp.ones((60, 2)) / 2)
    >>> print(points[-1].round(2))
    [0.5 0.5]
    """
    check_set(constraint)
    require_positive(D=D, G=G)
    if (alpha is None) == (beta is None):
        raise ValueError("Exactly one of alpha and beta must be given.")
    require_positive(**({"alpha": alpha} if beta is None else {"beta": beta}))
    if refresh < 1:
        raise ValueError(f"refresh must be at least 1: given {refresh}.")
    b = 0.5 * jnp.minimum(1 / (4 * G * D), alpha) if beta is None else beta

    def init(x: Any) -> NewtonState:
        start = inside(constraint, floating(x))
        flat, _ = ravel_pytree(start)
        size = jnp.asarray(1 + b * G**2 / 2, flat.dtype)
        eye = jnp.eye(len(flat), dtype=flat.dtype)
        nothing = jax.tree.map(jnp.zeros_like, start)
        return NewtonState(start, nothing, size * eye, eye / size, jnp.zeros((), jnp.int32), no_flags())

    def step(state: NewtonState, g: Any) -> Any:
        return QuadraticNorm(state.matrix, state.inverse).step(state.center, g, 1.0, constraint)

    def play(state: NewtonState) -> Any:
        return step(state, state.last) if optimism else state.center

    def update(state: NewtonState, gradient: Any) -> NewtonState:
        g, flags = checked(gradient, state.center, state.flags, G)
        v, _ = ravel_pytree(g)
        matrix = state.matrix + b / 2 * jnp.outer(v, v)
        # the inverse of a matrix with one more outer product (Sherman and Morrison)
        w = state.inverse @ v
        inverse = state.inverse - b / 2 * jnp.outer(w, w) / (1 + b / 2 * v @ w)
        count = state.count + 1
        anew = lambda: jnp.linalg.inv(matrix)
        inverse = jax.lax.cond(count % refresh == 0, anew, lambda: inverse)
        return kept(NewtonState(step(state, g), g, matrix, inverse, count, flags), state, gradient)

    return Learner(init, play, update)
