r"""The validation loss as a function of the regularization, and its gradient.

The regularization is :math:`\theta = e^\lambda`, since only its order of magnitude matters. With the dual solution
:math:`x^\star(\theta)`, the outer problem minimizes :math:`\ell(X_{val} W(x^\star(\theta), \theta), Y_{val})` over
:math:`\lambda`, one number or one a class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.data import Sample

from .machine import center, dual, weights

Loss = Callable[[Float[Array, "m k"], Float[Array, "m k"]], Array]


def squared_error(scores: Float[Array, "m k"], Y: Float[Array, "m k"]) -> Array:
    r"""The paper's outer loss, :math:`\tfrac12 \|S - Y\|^2` of the scores themselves.

    Examples
    --------
    >>> print(squared_error(jnp.array([[1.0, 1.0]]), jnp.array([[1.0, 0.0]])))
    0.5
    """
    return 0.5 * jnp.sum((scores - Y) ** 2)


def squared_hinge(scores: Float[Array, "m k"], Y: Float[Array, "m k"]) -> Array:
    r"""The mean of :math:`\max(0, 1 - \mu_i)^2`, with the margin :math:`\mu_i = S_{i y_i} - \max_{c \ne y_i} S_{ic}`.

    A score matters only beside the other scores of its point, as in the machine itself.

    Examples
    --------
    >>> print(squared_hinge(jnp.array([[1.0, 0.5], [0.0, 2.0]]), jnp.eye(2)))
    0.125
    """
    margin = jnp.sum(scores * Y, axis=1) - jnp.max(jnp.where(Y > 0, -jnp.inf, scores), axis=1)
    return jnp.mean(jnp.maximum(0, 1 - margin) ** 2)


def name_of(loss: Loss) -> str:
    """The loss in words."""
    return loss.__name__.replace("_", " ")


def validation_loss(
    log_theta: Array,
    train: Sample,
    validation: Sample,
    solver: dini.Solver,
    start: Array | None = None,
    *,
    loss: Loss = squared_error,
    differentiation: dini.Differentiation | None = None,
    on_failure: Any = "raise",
) -> tuple[Array, dini.Solution]:
    """Train at a regularization and return the loss on the validation sample, and the solution of the dual."""
    theta = jnp.exp(log_theta)
    init = center(train.Y) if start is None else start
    mode = dini.Implicit() if differentiation is None else differentiation
    solution = dini.solve(dual, solver, init, theta, *train, differentiation=mode, on_failure=on_failure)
    return loss(validation.X @ weights(solution.x, theta, train), validation.Y), solution


#: Takes the arguments of `validation_loss` to `((loss, solution), derivative in log_theta)`.
hypergradient = jax.jit(jax.value_and_grad(validation_loss, has_aux=True), static_argnames=("loss", "on_failure"))
