"""Derivatives of what a population does in its controls: through a corrected mean field, straight through, by scores.

A population's steps are draws of whole numbers, which have no derivative. Three estimators of the derivative of an
expected cost are here: :func:`corrected_rollout` (of little variance, as biased as the Jacobian of a mean field is
wrong), :func:`straight_through` (its elementary step, for any rounded number), and :func:`score_function_loss`
(unbiased, of a large variance).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, same_shape

from .agents import ABM, Policy, Trajectory, check_horizon, step_keys

MeanFieldMap = Callable[[Float[Array, " k"], Float[Array, " m"]], Float[Array, " k"]]
"""`g(x, u)`: about the mean of the counts after a step."""


def straight_through(value: Any, surrogate: Any) -> Any:
    """`value`, with the derivative of `surrogate`.

    It is `sg(value) + (surrogate - sg(surrogate))`, with `sg` for "no derivative": the bracket is zero exactly, and so
    the value is the value bit for bit, whatever finite number the surrogate is. (`surrogate + sg(value - surrogate)`
    rounds.) The share `u` of `x` agents, say, is a whole number of them: `straight_through(round(u x), u x)`.

    Raises `ValueError` where the shapes differ.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> removed = lambda u: straight_through(jnp.round(u * 7), u * 7)
    >>> float(removed(0.5)), float(jax.grad(removed)(0.5))
    (4.0, 7.0)
    """
    same_shape("value", value, "the surrogate", jnp.shape(surrogate))
    surrogate = jnp.asarray(surrogate)
    value = jax.lax.stop_gradient(jnp.asarray(value)).astype(surrogate.dtype)
    return value + (surrogate - jax.lax.stop_gradient(surrogate))


def corrected_rollout(
    abm: ABM, g: MeanFieldMap, policy: Policy, key: Array, steps: int, *, window: int | None = None
) -> Trajectory:
    r"""Simulate a population, with the derivative of a mean field along its own trajectory.

    The values are those of :func:`~dini_zoo.physics.agents.simulate`. Their derivative is that of

    .. math:: \tilde x_{t+1} = \mathrm{sg}(o(s_{t+1})) + \bigl(g(\tilde x_t, u_t) - \mathrm{sg}(g(\tilde x_t, u_t))
              \bigr), \quad u_t = \pi(\tilde x_t, t), \quad s_{t+1} = A(s_t, \mathrm{sg}(u_t)),

    which chains the Jacobians of `g` at the counts that the population really has. It is biased by the error of these
    Jacobians alone, and exact where the mean of a step is linear in the counts and `g` is that mean.

    Parameters
    ----------
    abm
        The population.
    g
        `g(x, u)`: about the mean of the counts after a step. Only its Jacobian counts: it may miss by a constant.
    policy
        `policy(x, t)`, differentiated in what it holds.
    key
        The same key gives the same trajectory as in `simulate`.
    steps
        How many.
    window
        After so many steps the derivative restarts: the product of many Jacobians of a `g` that oscillates explodes.
        Without it, it goes back to the start.

    References
    ----------
    Böttcher, Fonseca and Laubenbacher, "Control of medical digital twins with artificial neural networks",
    arXiv 2403.13851, has the idea; the estimator is that of this library's specification.
    """
    check_horizon(policy, steps)
    if window is not None:
        at_least("window", window, 1)
    stop = jax.lax.stop_gradient
    start, of_step = step_keys(key)
    state = abm.init(start)

    def tick(carried: Any, t: Array) -> Any:
        state, x = carried
        if window is not None:
            x = jnp.where(t % window == 0, stop(x), x)
        u = policy(x, t)
        # what is drawn has no derivative: neither has its control
        state = abm.step(state, stop(u), of_step(t))
        after = straight_through(abm.observe(state), g(x, u))
        return (state, after), (after, u)

    x0 = abm.observe(state)
    (state, _), (x, u) = jax.lax.scan(tick, (state, x0), jnp.arange(steps))
    return Trajectory(jnp.concatenate([x0[None], x]), u, state)


def mean_field_rollout(
    g: MeanFieldMap, policy: Policy, x0: Float[Array, " k"], steps: int
) -> tuple[Float[Array, "T+1 k"], Float[Array, "T m"]]:
    """The counts and controls of a mean field under a policy, from `x0` on."""
    check_horizon(policy, steps)

    def tick(x: Array, t: Array) -> Any:
        u = policy(x, t)
        after = g(x, u)
        return after, (after, u)

    _, (x, u) = jax.lax.scan(tick, x0, jnp.arange(steps))
    return jnp.concatenate([x0[None], x]), u


def score_function_loss(
    abm: Any, policy: Policy, cost: Callable[[Array, Array], Array], key: Array, steps: int, runs: int
) -> Float[Array, ""]:
    r"""The mean cost of `runs` simulations, whose derivative is the score-function estimate with a baseline.

    .. math:: \nabla \approx \frac1n \sum_r \bigl(J_r - b_r\bigr) \nabla \log p_r + \nabla_u J_r,

    where `log p_r` is the sum of `abm.log_probability` over the steps of a run, and the baseline `b_r` the mean cost of
    the other runs: with it the estimate is unbiased. Counts have no derivative here, the policy is given them as data.

    Parameters
    ----------
    abm
        A population with `log_probability(state, control, after)`.
    policy
        `policy(x, t)`, differentiated in what it holds.
    cost
        `cost(x, u)`, of the counts after each step and the controls.
    key, steps
        As in `simulate`.
    runs
        At least two.
    """
    at_least("runs", runs, 2)
    check_horizon(policy, steps)
    if not hasattr(abm, "log_probability"):
        raise TypeError(f"abm must have log_probability(state, control, after): given a {type(abm).__name__}.")
    stop = jax.lax.stop_gradient

    def one(key: Array) -> tuple[Array, Array]:
        start, of_step = step_keys(key)
        state = abm.init(start)

        def tick(carried: Any, t: Array) -> Any:
            state, score = carried
            u = policy(abm.observe(state), t)
            after = abm.step(state, stop(u), of_step(t))
            return (after, score + abm.log_probability(state, u, after)), (abm.observe(after), u)

        (_, score), (x, u) = jax.lax.scan(tick, (state, jnp.zeros(())), jnp.arange(steps))
        return cost(x, u), score

    costs, scores = jax.vmap(one)(jax.random.split(key, runs))
    baseline = (jnp.sum(costs) - costs) / (runs - 1)
    score = scores - stop(scores)
    return jnp.mean(costs + stop(costs - baseline) * score)


def binomial_log_probability(
    drawn: Int[Array, " m"], trials: Int[Array, " m"], probability: Float[Array, " m"]
) -> Float[Array, ""]:
    r"""Of independent draws, `drawn` of `trials` each: :math:`\sum_i n_i \log p_i + (N_i - n_i) \log(1 - p_i)`.

    It is that of one order of them; what never happened has the logarithm 0, and a slope of 0.
    """
    missed = trials - drawn
    yes = drawn * jnp.log(jnp.where(drawn > 0, probability, 1.0))
    no = missed * jnp.log1p(-jnp.where(missed > 0, probability, 0.0))
    return jnp.sum(yes + no)
