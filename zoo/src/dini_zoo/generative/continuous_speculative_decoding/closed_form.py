"""Heads without a network: the exact predictor of a mixture on a line whose means follow the context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.diffusion.chains import Chain
from dini_zoo.diffusion.mixtures import GaussianMixture

from .decoding import Model
from .heads import GaussianHead


class Line(NamedTuple):
    r"""The law :math:`\sum_k w_k N(a y + b_k, s^2)` of a token after the number :math:`y`."""

    weights: tuple[float, ...]
    slope: float
    offsets: tuple[float, ...]
    std: float

    def mixture(self, y: Array) -> GaussianMixture:
        """At a context `(1,)`."""
        means = self.slope * y + jnp.array(self.offsets)[:, None]
        return GaussianMixture(self.weights, means, [self.std**2] * len(self.weights))


TARGET = Line((0.6, 0.4), 0.6, (1.0, -1.0), 0.3)
DRAFT = Line((0.55, 0.45), 0.55, (0.95, -1.05), 0.33)


def chain() -> Chain:
    """Ten steps."""
    return Chain.of_betas(jnp.asarray(np.linspace(0.02, 0.5, 10), jnp.result_type(float)))


def head(line: Line, between: float | None = None) -> GaussianHead:
    r"""The exact head of a law, with variances :math:`\beta_t^v \tilde\beta_t^{1 - v}` if `between`, :math:`v`, is
    given."""
    levels = chain()

    def predict(u: Array, i: Any, y: Array) -> Any:
        level = levels.alpha_bar[i]
        weights, means, _ = line.mixture(y).posterior(u, jnp.sqrt(level), jnp.sqrt(1 - level))
        data = weights @ means
        return data if between is None else (data, between)

    return GaussianHead(levels, predict, 1)


def model(line: Line) -> Model:
    """A sequence each of whose tokens is drawn after the one before it."""
    return Model(shifted, head(line))


def shifted(tokens: Float[Array, "L 1"]) -> Float[Array, "L 1"]:
    """Of each position the token before it."""
    return jnp.concatenate([jnp.zeros_like(tokens[:1]), tokens[:-1]])


#: Averages over the positions of sequences `(n, L)`: one number for each sequence.
STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "x": lambda x: x.mean(axis=1),
    "square": lambda x: ((x - 0.5) ** 2).mean(axis=1),
    **{f"lag {k}": (lambda x, k=k: ((x[:, :-k] - 0.5) * (x[:, k:] - 0.5)).mean(axis=1)) for k in range(1, 5)},
}


def scores(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Differences of the statistics of two independent sets of sequences, over their standard errors."""
    found = {}
    for name, statistic in STATISTICS.items():
        one, other = statistic(x), statistic(y)
        error = np.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
        found[name] = float((one.mean() - other.mean()) / error)
    return found
