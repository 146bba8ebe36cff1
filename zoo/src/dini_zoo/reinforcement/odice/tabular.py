r"""The dual of a problem with finitely many states, solved to the end and differentiated through its solution.

With data frequencies :math:`d(s, a)`, :math:`y = r + \gamma P V - V`, weights :math:`u = w(y)` and

.. math::

    g_f = -\lambda \sum_a d(\cdot, a)\, u(\cdot, a), \qquad
    g_b = \lambda \eta \gamma \sum_{s, a} d(s, a)\, u(s, a)\, P(\cdot | s, a),

the solution is that of

* ``"true"``: :math:`\min_V (1 - \lambda) E_d[V] + \lambda E_d[f^*(y)]`, convex, by Newton's method. It satisfies the
  Bellman flow :math:`\sum_a d u = \frac{1 - \lambda}{\lambda} d + \gamma \sum d u P`;
* ``"semi"``: :math:`(1 - \lambda) d + g_f = 0`, a root, where the mean weight of each state is
  :math:`(1 - \lambda) / \lambda`;
* ``"orthogonal"``: a root of the update of `dice_gradients` with :math:`\bar V = V`, and the minimizer of nothing.

A state that occurs only as a next state has no term of the first two kinds, and its value would be any: each state must
be left in the data. Where `P` is random, the residual is the expected one, as in the dual; a loss of sampled triples is
larger than that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import finite, known, marked, not_negative, one_of, same_shape

from ..gradient_surgery import combine
from ..grids import DecisionProblem, policy_values, probabilities
from .conjugates import Divergence, Weight, action_weights, conjugate_f
from .gradients import Mode, trade_off

SOLVED = ("orthogonal", "semi", "true")


class Dual(NamedTuple):
    """A solution of the dual."""

    values: Float[Array, " S"]
    """:math:`V`."""
    weights: Float[Array, "S A"]
    """:math:`u`, the ratio of the policy's occupancy to the data's; zero where there is no data."""
    residuals: Float[Array, "S A"]
    """:math:`y`."""


def _checked(problem: DecisionProblem, d: Array, lam: Any, eta: Any, mode: str) -> Array:
    """The frequencies, with sum one."""
    one_of("mode", mode, SOLVED)
    trade_off("lam", lam)
    not_negative("eta", eta)
    same_shape("d", d, "the states and actions", np.shape(problem.rewards))
    finite("d", d)
    not_negative("d", d)
    d = jnp.asarray(d, jnp.result_type(float))
    if known(d):
        missing = np.flatnonzero(np.asarray(d).sum(axis=1) == 0)
        if len(missing):
            raise ValueError(
                f"d must hold data of every state: given none of {missing.tolist()}. The value of a state that is only "
                "a next state is not unique: leave out the moves into it, or descend with `dice_gradients`."
            )
    return d / jnp.sum(d)


def _residuals(values: Array, problem: DecisionProblem) -> Array:
    return problem.backup(values) - values[:, None]


def _fields(
    values: Array, problem: DecisionProblem, d: Array, lam: Any, eta: Any, divergence: Divergence
) -> tuple[Array, Array, Array]:
    """The gradient of the first term, the forward and the backward one."""
    carried = lam * d * conjugate_f(divergence).weight(_residuals(values, problem))
    flow = problem.discount * jnp.einsum("sa,sat->t", carried, problem.transitions)
    return (1 - lam) * jnp.sum(d, axis=1), -jnp.sum(carried, axis=1), eta * flow


def solve_dice_tabular(
    P: Float[Array, "S A S"],
    r: Float[Array, "S A"],
    d: Float[Array, "S A"],
    lam: Float[Array, ""] | float,
    gamma: Float[Array, ""] | float,
    mode: Mode = "orthogonal",
    *,
    eta: Float[Array, ""] | float = 1.0,
    divergence: Divergence = "pearson_chi2",
    start: Float[Array, " S"] | None = None,
) -> Dual:
    r"""Solve the dual by `dini.minimize` or `dini.root`: derivatives in all arrays and numbers are implicit.

    Parameters
    ----------
    P
        Transitions; a sum below one is an end of the episode, see `DecisionProblem`.
    r, d
        Rewards, and frequencies of the data up to a factor.
    lam, gamma, eta
        :math:`\lambda, \gamma, \eta`.
    mode
        ``"orthogonal"``, ``"semi"`` or ``"true"``.
    divergence
        See `conjugate_f`.
    start
        Where the solver begins; by default where every weight is positive, and for ``"orthogonal"`` at the solution of
        ``"semi"``.

    Raises
    ------
    ValueError
        For arrays that do not fit, probabilities that are none, numbers out of their range, or a state without data.
    dini.SolveError
        Where there is no solution, or it is not found.

    Examples
    --------
    Two states in turn, without rewards: the orthogonal solution is that of the semi-gradient.

    >>> import jax.numpy as jnp
    >>> turn = jnp.array([[[0.0, 1.0]], [[1.0, 0.0]]])
    >>> for mode in ("semi", "orthogonal"):
    ...     print(solve_dice_tabular(turn, jnp.zeros((2, 1)), jnp.ones((2, 1)), 0.4, 0.9, mode).weights.ravel())
    [1.5 1.5]
    [1.5 1.5]
    """
    problem = DecisionProblem(jnp.asarray(P, float), jnp.asarray(r, float), gamma)
    d = _checked(problem, d, lam, eta, mode)
    given = (problem, d, lam, eta)

    def semi(values: Array, problem: DecisionProblem, d: Array, lam: Any, eta: Any) -> Array:
        level, forward, _ = _fields(values, problem, d, lam, eta, divergence)
        return level + forward

    def orthogonal(values: Array, problem: DecisionProblem, d: Array, lam: Any, eta: Any) -> Array:
        level, forward, backward = _fields(values, problem, d, lam, eta, divergence)
        return level + combine(forward, backward).gradient

    def objective(values: Array, problem: DecisionProblem, d: Array, lam: Any, eta: Any) -> Array:
        conjugate = conjugate_f(divergence).value(_residuals(values, problem))
        return (1 - lam) * jnp.sum(d * values[:, None]) + lam * jnp.sum(d * conjugate)

    if start is None:
        # a level at which residuals are one at least, so that every weight is positive
        level = jnp.minimum(jnp.min(problem.rewards) - 1.0, 0.0) / (1 - gamma)
        start = jnp.broadcast_to(jax.lax.stop_gradient(level), np.shape(d)[:1])
        if mode == "orthogonal":
            start = jax.lax.stop_gradient(dini.root(semi, start, *given).x)
    if mode == "true":
        values = dini.minimize(objective, start, *given, solver=dini.Newton()).x
    else:
        values = dini.root(orthogonal if mode == "orthogonal" else semi, start, *given).x
    residuals = _residuals(values, problem)
    return Dual(values, jnp.where(d > 0, conjugate_f(divergence).weight(residuals), 0.0), residuals)


def weighted_policy(d: Float[Array, "S A"], weights: Float[Array, "S A"]) -> Float[Array, "S A"]:
    r"""Behavior cloning in closed form, :math:`\pi(a | s) \propto d(s, a)\, w(s, a)`.

    Where all weights of a state vanish it is the behavior, and without data any action. Raises `ValueError` for
    frequencies and weights that are negative or not finite; where these are traced the policy is NaN.

    Examples
    --------
    >>> print(weighted_policy(jnp.array([[0.5, 0.5], [0.0, 0.0]]), jnp.array([[1.0, 3.0], [1.0, 1.0]])))
    [[0.25 0.75]
     [0.5  0.5 ]]
    """
    right = not_negative("d", d), not_negative("weights", weights)
    found = d * weights
    for fallback in (d, jnp.ones_like(d)):
        found = jnp.where(jnp.sum(found, axis=1, keepdims=True) > 0, found, fallback)
    return marked(found / jnp.sum(found, axis=1, keepdims=True), *right)


class Sensitivity(NamedTuple):
    """The return of the cloned policy, and its derivatives."""

    value: Float[Array, ""]
    """The discounted return from the start, with the rewards of the evaluation."""
    rewards: Float[Array, "S A"]
    """By each *recorded* reward."""
    data: Float[Array, "S A"]
    """By each frequency: a record more, in units of all data, changes the return by so much."""


def return_sensitivity(
    P: Float[Array, "S A S"],
    r: Float[Array, "S A"],
    d: Float[Array, "S A"],
    start: Float[Array, " S"],
    lam: Float[Array, ""] | float,
    gamma: Float[Array, ""] | float,
    mode: Mode = "orthogonal",
    *,
    eta: Float[Array, ""] | float = 1.0,
    weight: Weight = "conjugate",
    divergence: Divergence = "pearson_chi2",
    evaluation: Float[Array, "S A"] | None = None,
) -> Sensitivity:
    r"""How the return of the policy depends on what was recorded: through the dual's solution, implicitly.

    The policy :math:`\pi \propto d\, w(y)` is evaluated exactly in the problem itself. Frequencies are taken up to a
    factor, so that the derivatives by them add up to zero when each is weighted by its frequency. Where a weight is at
    its kink there is no derivative, and this is one of two sides.

    Parameters
    ----------
    P, r, d, lam, gamma, mode, eta, divergence
        See `solve_dice_tabular`.
    start
        The probability of each first state.
    weight
        Of actions, see `action_weights`.
    evaluation
        Rewards that count; by default `r`, which is then held where the return is taken.

    Raises
    ------
    ValueError, dini.SolveError
        See `solve_dice_tabular`.
    """
    probabilities("start", start)
    r, d = jnp.asarray(r, float), jnp.asarray(d, float)
    counted = r if evaluation is None else jnp.asarray(evaluation, float)

    def value(r: Array, d: Array) -> Array:
        dual = solve_dice_tabular(P, r, d, lam, gamma, mode, eta=eta, divergence=divergence)
        policy = weighted_policy(d, action_weights(dual.residuals, weight, divergence))
        return jnp.sum(start * policy_values(DecisionProblem(jnp.asarray(P, float), counted, gamma), policy))

    found, (by_rewards, by_data) = jax.value_and_grad(value, argnums=(0, 1))(r, d / jnp.sum(d))
    return Sensitivity(found, by_rewards, by_data)
