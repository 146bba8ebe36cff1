r"""A dictionary learned for the task: its codes are the features of logistic regression, and both learn together.

With codes :math:`z_i = z^\star(x_i, D)` the loss on :math:`m` patients with labels :math:`y_i \in \{0, 1\}` is

.. math:: \frac1m \sum_i \left(\log(1 + e^{s_i}) - y_i s_i\right) + \frac{\mu}{m} \|w\|^2, \qquad s_i = w^\top z_i + b ,

to be minimized over :math:`(D, w, b)`, where the atoms have norms of at most one. Its gradient in ``D`` passes through
the codes, which minimize a function of ``D`` themselves.

References
----------
Mairal, Bach, Ponce, "Task-driven dictionary learning", IEEE TPAMI 2012 (arXiv 1009.5358).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

import dini

from .coding import Atoms, SparseCoding
from .data import Cohort


class Params(NamedTuple):
    """What is learned: `k` atoms, and a weight for each, with the intercept."""

    D: Atoms
    w: Float[Array, " k"]
    b: Float[Array, ""]


def bounded(D: Float[Array, "*b k p"]) -> Float[Array, "*b k p"]:
    """Divide each atom (a row of the last two axes) by its norm where that is above one.

    Examples
    --------
    >>> print(bounded(jnp.array([[3.0, 4.0], [0.5, 0.0]])).round(1))
    [[0.6 0.8]
     [0.5 0. ]]
    """
    return D / jnp.maximum(1.0, jnp.linalg.norm(D, axis=-1, keepdims=True))


def classify(
    params: Params, X: Float[Array, "m p"], coding: SparseCoding, differentiation: dini.Differentiation | None = None
) -> tuple[Float[Array, " m"], dini.Solution]:
    """Return the scores, the logarithms of the odds of label 1, and the codes behind them."""
    codes = coding.encode(X, bounded(params.D), differentiation)
    return codes.x @ params.w + params.b, codes


def loss(
    params: Params,
    cohort: Cohort,
    coding: SparseCoding,
    decay: float,
    differentiation: dini.Differentiation | None = None,
) -> tuple[Float[Array, ""], dini.Solution]:
    """Return the loss, and the codes; `decay` is the factor `μ` of the squared weights.

    Raises
    ------
    ValueError
        Where there is not one label for each patient.
    """
    if jnp.shape(cohort.y) != (len(cohort.X),):
        raise ValueError(
            f"cohort.y must have one label for each of the {len(cohort.X)} rows of cohort.X: given shape "
            f"{jnp.shape(cohort.y)}."
        )
    scores, codes = classify(params, cohort.X, coding, differentiation)
    logistic = jnp.mean(jax.nn.softplus(scores) - cohort.y * scores)
    return logistic + decay * jnp.sum(params.w**2) / len(scores), codes


class Course(NamedTuple):
    """What training came by, a row for each step; the first row is that before training."""

    params: Params
    loss: Float[Array, " n"]
    error: Float[Array, " n"]
    """The largest error of a code, as the solver measures it."""


def train(
    params: Params, cohort: Cohort, coding: SparseCoding, *, decay: float, learning_rate: float, steps: int
) -> Course:
    """Take so many steps of Adam on all patients at once. To be compiled."""
    if steps < 1:
        raise ValueError(f"steps must be at least one: given {steps!r}.")
    optimizer = optax.adam(learning_rate)
    slope = jax.value_and_grad(lambda params: loss(params, cohort, coding, decay), has_aux=True)

    def step(carry: tuple[Params, optax.OptState], _: None) -> tuple[tuple[Params, optax.OptState], Course]:
        params, state = carry
        (value, codes), gradient = slope(params)
        updates, state = optimizer.update(gradient, state)
        return (jax.tree.map(jnp.add, params, updates), state), Course(params, value, jnp.max(codes.stats.error))

    # what the last step would lead to is not asked for
    return jax.lax.scan(step, (params, optimizer.init(params)), length=steps + 1)[1]
