r"""Bounds on the last iterate of stochastic gradient descent, and the steps that minimize one.

All are for a convex function, expected norms :math:`G_t` of the gradients and the distance :math:`D` of the first
iterate from a solution.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini
from dini_zoo.kit import checking
from dini_zoo.kit.checking import marked

from .checking import positive


def _tail_sums(a: Array) -> Array:
    return jnp.cumsum(a[::-1])[::-1]


def conversion_bound(w: Float[Array, " T"], G: Float[Array, " T"] | float, D: Any) -> Float[Array, ""]:
    r"""The bound for the steps that :func:`last_iterate_weights` makes of the weights `w`.

    .. math:: \frac{D^2 + \sum_t w_t^2 G_t^2}{2 \sum_t w_t}

    It is least, :math:`D / \sqrt{\sum_t G_t^{-2}}`, at :math:`w_t = D \, G_t^{-2} / \sqrt{\sum_p G_p^{-2}}`.

    Examples
    --------
    >>> G = jnp.array([4.0, 2.0, 1.0, 1.0, 2.0])
    >>> w = G**-2 / jnp.sqrt(jnp.sum(G**-2))
    >>> print(conversion_bound(w, G, 1.0).round(4), (1 / jnp.sqrt(jnp.sum(G**-2))).round(4))
    0.6247 0.6247
    """
    right = checking.positive("D", D), checking.not_negative("G", G)
    w, G = jnp.asarray(w), jnp.asarray(G)
    return marked((D**2 + jnp.sum((w * G) ** 2)) / (2 * jnp.sum(w)), *right)


def general_bound(eta: Float[Array, " T"], G: Float[Array, " T"] | float, D: Any) -> Float[Array, ""]:
    r"""The bound for any positive steps, about twice as large.

    With :math:`\eta_{a:b} = \sum_{t=a}^b \eta_t`,

    .. math:: \frac{D^2 + \sum_t \eta_t^2 G_t^2}{2 \, \eta_{1:T}} + \frac12 \sum_{k=1}^{T-1}
              \frac{\eta_k \sum_{t=k}^T \eta_t^2 G_t^2}{\eta_{k+1:T} \; \eta_{k:T}} .

    `G` is a row like `eta`, or one number for all steps.

    Examples
    --------
    >>> print(general_bound(jnp.array([0.5, 0.5]), 1.0, 1.0))
    1.0
    """
    right = checking.positive("D", D), checking.not_negative("G", G)
    eta, G = jnp.asarray(eta), jnp.asarray(G)
    sums, squares = _tail_sums(eta), _tail_sums((eta * G) ** 2)
    last = jnp.sum(eta[:-1] * squares[:-1] / (sums[1:] * sums[:-1]))
    return marked((D**2 + squares[0]) / (2 * sums[0]) + last / 2, *right)


def _objective(u: Array, G: Array, D: Array) -> Array:
    return jnp.log(general_bound(jnp.exp(u), G, D))


_BEST = dini.Minimize(_objective)


def optimize_schedule(
    G: Any,
    D: Any = 1.0,
    *,
    solver: dini.Solver | None = None,
    differentiation: dini.Differentiation | None = None,
) -> Float[Array, " T"]:
    r"""The steps of gradient descent whose :func:`general_bound` is least.

    The unknowns are their logarithms. The result is differentiable in `G` and `D`, by the implicit function theorem.

    Parameters
    ----------
    G
        Positive norms of the gradients, one a step, at least two; smooth them first.
    D
        The distance from a solution. It scales the steps and nothing else.
    solver, differentiation
        L-BFGS, to a relative tolerance of 1e-8 in double precision, and implicit differentiation if they are not given.

    Raises
    ------
    ValueError
        If `G` is no row of at least two positive numbers, or `D` is not positive.
    dini.SolveError
        If the solver does not reach its tolerance.

    Examples
    --------
    >>> print((optimize_schedule(jnp.ones(5)) * 5**0.5).round(1))
    [0.6 0.6 0.5 0.4 1. ]
    """
    positive("G", G, 2)
    if not isinstance(D, jax.core.Tracer) and not 0 < float(D) < np.inf:
        raise ValueError(f"D must be finite and positive: given {D}.")
    G, D = jnp.asarray(G, jnp.result_type(float)), jnp.asarray(D, jnp.result_type(float))
    if solver is None:
        double = G.dtype == jnp.float64
        solver = dini.LBFGS(rtol=1e-8 if double else 1e-3, history=20, max_steps=5000)
    # linear decay for these norms, which must not end at zero
    w = G**-2 / jnp.sqrt(jnp.sum(G**-2))
    start = jnp.log(w * _tail_sums(w) / jnp.sum(w))
    # in units of D the problem is the same for all
    mode = dini.Implicit() if differentiation is None else differentiation
    u = dini.solve(_BEST, solver, jax.lax.stop_gradient(start), G, jnp.ones_like(D), differentiation=mode).x
    return D * jnp.exp(u)
