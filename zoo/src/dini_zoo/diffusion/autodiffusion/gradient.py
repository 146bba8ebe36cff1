r"""Steps learned by the gradient of the distance, through the sampler: the continuous counterpart of the search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least, positive


def increasing_times(logits: Float[Array, " K1"], last: Any = 1.0) -> Float[Array, " K"]:
    r"""Times :math:`0 < t_1 < \dots < t_K <` `last` from one more number than there are times: sums of a softmax."""
    positive("last", last)
    return last * jnp.cumsum(jax.nn.softmax(logits))[:-1]


def logits_of(times: Float[Array, " K"], last: Any = 1.0) -> Float[Array, " K1"]:
    """Numbers that :func:`increasing_times` makes these times of; `ValueError` unless they rise between the ends."""
    ends = jnp.concatenate([jnp.zeros(1), jnp.asarray(times) / last, jnp.ones(1)])
    gaps = jnp.diff(ends)
    if not bool(jnp.all(gaps > 0)):
        raise ValueError(f"times must rise strictly between 0 and {last}: given {times}.")
    return jnp.log(gaps)


@dataclass(frozen=True)
class LearnedTimes:
    """Where the gradient led."""

    times: Array
    value: float
    start: float
    """The value at the start."""
    steps: int
    status: Any
    """The solver's."""


def learn_times(
    value: Callable[[Array], Array], times: Float[Array, " K"], *, last: Any = 1.0, max_steps: int = 30
) -> LearnedTimes:
    """Improve times, which stay in order, by quasi-Newton steps on a differentiable value of them.

    Parameters
    ----------
    value
        Of rising times, such as the Fréchet distance of what a sampler draws on them.
    times
        Where to start, rising between 0 and `last`.
    max_steps
        At most so many steps.

    Raises
    ------
    FloatingPointError
        Where the value or its gradient is not finite.
    ValueError
        Unless the times rise strictly between 0 and `last`, and for less than one step.

    Examples
    --------
    >>> found = learn_times(lambda t: jnp.sum((t - jnp.array([0.2, 0.5])) ** 2), jnp.array([0.4, 0.8]))
    >>> print(", ".join(f"{t:.2f}" for t in found.times))
    0.20, 0.50
    """
    at_least("max_steps", max_steps, 1)
    start = logits_of(times, last)
    objective = jax.jit(lambda logits: value(increasing_times(logits, last)))
    found = dini.minimize(objective, start, solver=dini.BFGS(max_steps=max_steps), on_failure="ignore")
    # the limit on steps is the caller's own, but a value without a derivative is a fault
    if int(found.status) == dini.Status.NONFINITE:
        raise FloatingPointError(
            "learn_times met a value or a gradient that is not finite: `value` must have a derivative at the "
            "times where it starts and at those on the way."
        )
    return LearnedTimes(
        increasing_times(found.x, last),
        float(objective(found.x)),
        float(objective(start)),
        int(found.stats.steps),
        found.status,
    )
