r"""A smooth, nonconvex classification: squares of sigmoids, on data that were generated and on data that were observed.

.. math:: f(w) = \frac1n \sum_i \bigl(\sigma(a_i^\top w) - b_i\bigr)^2 + \frac{\lambda}{2} \|w\|^2, \qquad \|a_i\| = 1.

A record's gradient is at most :math:`\max_s 2 s^2 (1 - s) = 8/27` long, and its smoothness at most .155. Without the
last term, which has no data, descents can diverge to where all gradients vanish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least

#: :math:`\lambda`.
STRENGTH = 1e-3
#: The most that a record's gradient, and the derivative of it, can be: the greatest values of the loss's derivatives in
#: :math:`a^\top w`, :math:`2 s^2 (1 - s)` at :math:`s = 2/3`, and :math:`2 s (1 - s)^2 (3 s - 1)` at its best.
LIPSCHITZ, SMOOTHNESS = 8 / 27, 0.1541


def record_loss(w: Any, record: Any) -> Array:
    """The square of one record, `(a, b)`."""
    a, b = record
    return (jax.nn.sigmoid(a @ w) - b) ** 2


#: One record's gradient, without the penalty's.
record_gradient = jax.grad(record_loss)


def penalty_gradient(w: Any) -> Any:
    """What has no data, and is added after the noise."""
    return STRENGTH * w


@dataclass(frozen=True)
class Problem:
    """Rows of length one with labels, and the least value."""

    name: str
    a: Float[np.ndarray, "n d"]
    b: Float[np.ndarray, " n"]
    least: float
    """:math:`f^*`, by `dini.minimize` from zero in double precision."""

    @property
    def start(self) -> Float[np.ndarray, " d"]:
        """Zero, where :math:`f = 1/4`."""
        return np.zeros(self.a.shape[1], np.float32)

    @property
    def records(self) -> tuple[Array, Array]:
        """In single precision."""
        return jnp.asarray(self.a, jnp.float32), jnp.asarray(self.b, jnp.float32)


def value(w: Any, a: Any, b: Any) -> Array:
    """:math:`f(w)`."""
    return jnp.mean((jax.nn.sigmoid(a @ w) - b) ** 2) + STRENGTH / 2 * jnp.sum(w**2)


def least(a: Any, b: Any) -> float:
    """:math:`f^*`; a solve that does not converge raises."""
    with jax.enable_x64(True):
        found = dini.minimize(value, jnp.zeros(np.shape(a)[1]), jnp.asarray(a), jnp.asarray(b))
        return float(value(found.x, jnp.asarray(a), jnp.asarray(b)))


def generated(n: int = 20_000, d: int = 20, seed: int = 0) -> Problem:
    """Rows of a normal law, scaled to length one, and labels drawn from a logistic model."""
    at_least("n", n, 1)
    random = np.random.RandomState(seed)
    a = random.randn(n, d)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    w = 3 * random.randn(d)
    b = (random.rand(n) < 1 / (1 + np.exp(-a @ w))).astype(float)
    return Problem("generated", a, b, least(a, b))


def health(n: int = 16_000) -> Problem:
    """The RAND health insurance experiment as statsmodels has it: who saw a physician, by nine standardized columns.

    The columns' means and standard deviations are those of all rows, and are taken as public here.
    """
    from statsmodels.datasets import randhie

    frame = randhie.load_pandas()
    x, visits = np.asarray(frame.exog, float), np.asarray(frame.endog, float)
    if not 1 <= n <= len(x):
        raise ValueError(f"n must be from 1 to {len(x)}, the rows of randhie: given {n}.")
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    a = np.column_stack([x, np.ones(len(x))])
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    kept = np.random.RandomState(0).permutation(len(a))[:n]
    a, b = a[kept], (visits[kept] > 0).astype(float)
    return Problem("randhie", a, b, least(a, b))
