r"""One choice with two values, estimated in several ways, beside the exact gradient.

:math:`b \sim` Bernoulli of :math:`p = 1/(1 + e^{-t})`, :math:`x \sim N(t, 1)` if b, else :math:`N(-2t, 1)`; the value
is :math:`\sin x + 3` if b, else :math:`x^2`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .distributions import Bernoulli, Normal
from .expectation import expectation
from .sites import sample
from .strategies import Strategy, enumerate_, measure_valued, reinforce

AT = 0.4
STRATEGIES: dict[str, Strategy] = {
    "enumeration": enumerate_(),
    "REINFORCE": reinforce(),
    "measures": measure_valued(),
}


def program(strategy: Strategy) -> Callable[[Array], Array]:
    """The program, with a strategy for b; x is reparametrized."""

    def value(t: Array) -> Array:
        b = sample(Bernoulli(strategy), jax.nn.sigmoid(t), address="b")
        x = sample(Normal(), jnp.where(b, t, -2 * t), 1.0, address="x")
        return jnp.where(b, jnp.sin(x) + 3, x**2)

    return value


def exact(t: float) -> tuple[float, float]:
    """The expectation and its derivative."""
    p = 1 / (1 + np.exp(-t))
    slope, half = p * (1 - p), np.exp(-0.5)
    value = p * (np.sin(t) * half + 3) + (1 - p) * (4 * t**2 + 1)
    gradient = slope * (np.sin(t) * half + 3 - 4 * t**2 - 1) + p * np.cos(t) * half + 8 * t * (1 - p)
    return float(value), float(gradient)


@dataclass(frozen=True)
class Estimator:
    """Many estimates by one strategy."""

    name: str
    value: float
    value_error: float
    """Standard error."""
    gradient: float
    gradient_error: float
    spread: float
    """Standard deviation of one gradient."""


def measured(name: str, key: Array, n: int) -> Estimator:
    """The means of n estimates."""
    estimates = jax.jit(jax.vmap(expectation(program(STRATEGIES[name])).value_and_grad_estimate, (0, None)))
    values, gradients = (np.asarray(one, float) for one in estimates(jax.random.split(key, n), AT))
    return Estimator(
        name,
        float(values.mean()),
        float(values.std() / np.sqrt(n)),
        float(gradients.mean()),
        float(gradients.std() / np.sqrt(n)),
        float(gradients.std()),
    )
