r"""A schedule learned by hypergradients: what there is to gain for any schedule, to set beside those that are computed.

The steps are :math:`\eta_t = \bar\eta_t \, e^{u(t / T)}`, with :math:`u` linear between a few knots. The knots minimize
the mean excess of the last iterates of several runs, whose batches stay the same, by the derivative through all steps.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

import dini

from .schedules import array_schedule
from .sweeps import Kind, Task


def with_knots(steps: Float[Array, " T"], u: Float[Array, " knots"]) -> Float[Array, " T"]:
    """The steps times the exponential of `u`, which is linear between its knots."""
    T = len(steps)
    return steps * jnp.exp(jnp.interp(jnp.arange(1, T + 1) / T, jnp.linspace(0, 1, len(u)), u))


def last_excess(u: Float[Array, " knots"], task: Task, kind: Kind, steps: Float[Array, " T"]) -> Float[Array, ""]:
    """The mean excess of the last iterates of a task's runs, with steps that the knots change."""
    values = with_knots(steps, u)

    def one(given: Any) -> Array:
        optimizer = kind(array_schedule(values))

        # only iterates are kept, and each step is made again for its derivative
        @jax.checkpoint
        def step(carried: tuple[Array, optax.OptState], given: Any) -> tuple[tuple[Array, optax.OptState], None]:
            x, state = carried
            updates, state = optimizer.update(task.gradient(x, given), state, x)
            return (x + jnp.asarray(updates), state), None

        return task.excess(jax.lax.scan(step, (task.start, optimizer.init(task.start)), given)[0][0])

    return jnp.mean(jax.vmap(one)(task.given))


def learn_schedule(task: Task, kind: Kind, steps: Float[Array, " T"], *, knots: int, tries: int) -> Float[Array, " T"]:
    """The steps, changed by the knots that L-BFGS finds with so many hypergradients.

    Parameters
    ----------
    task
        Its runs are those that the schedule is learned on.
    kind
        The base optimizer.
    steps
        The steps to begin with, such as linear decay at its best learning rate.
    knots
        How many numbers are learned.
    tries
        Hypergradients.
    """
    start = jnp.asarray(steps)
    solver = dini.LBFGS(max_steps=tries)
    # a few hypergradients: that a minimum is not reached is no failure
    found = dini.minimize(
        lambda u: jnp.log(last_excess(u, task, kind, start)), jnp.zeros(knots), solver=solver, on_failure="ignore"
    )
    return with_knots(start, found.x)
