"""A mixture in the plane, whose network is known in closed form: how fast each rule converges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..exponential import Rule, multistep_rule
from ..flows import integrate
from ..mean_reverting import MeanRevertingSDE, constant
from ..mixtures import GaussianMixture
from ..predictions import convert
from .method import Model, run_rule, time_grid

MEAN = (0.3, -0.2)
END = 1e-3

#: By name: order, what is interpolated, what the network says.
RULES = {
    "order 1": (1, "data", "noise"),
    "order 1, noise": (1, "noise", "noise"),
    "order 2": (2, "data", "noise"),
    "order 2, noise": (2, "noise", "noise"),
    "order 3": (3, "data", "noise"),
    "order 3, noise": (3, "noise", "noise"),
}
PUBLISHED = "order 3, as published"
EULER = "Euler in time"


def process() -> MeanRevertingSDE:
    """The process of this comparison."""
    return constant(0.7, 0.005)


def mixture() -> GaussianMixture:
    """Three components in the plane."""
    return GaussianMixture([0.5, 0.3, 0.2], [[1.5, 0.0], [-1.0, 1.0], [0.0, -1.5]], [0.05, 0.1, 0.2])


def exact_model(sde: MeanRevertingSDE, data: GaussianMixture, mu: Array, target: str) -> Model:
    """What a perfect network says: the means of all points are equal here."""

    def model(x: Array, _: Array, t: Any) -> Array:
        a, s = sde.alpha(t), sde.sigma(t)
        score = data.diffused(a, s, (1 - a) * mu).score(x)
        said = convert(score, x - mu, a, s, "score", target, bound=sde.s_inf)
        return said + mu if target == "data" else said

    return model


@dataclass(frozen=True)
class Convergence:
    """Root mean square errors by rule and number of calls."""

    calls: tuple[int, ...]
    errors: dict[str, list[float]]
    """The median over draws of the starts."""
    worst: dict[str, list[float]]
    """The largest over draws: near a border between two modes a small error decides where a point ends."""
    velocity_gap: float
    """The largest difference of samples by a velocity network and by a data network."""
    paths: np.ndarray
    """Of the reference, for the picture: points at the start and at the end."""


def converge(key: Array, calls: tuple[int, ...], extra: tuple[int, ...], points: int, draws: int) -> Convergence:
    """Errors of the flow's rules with so many calls, for some draws of `points`; of Euler's rule also with `extra`."""
    sde, data, mu = process(), mixture(), jnp.array(MEAN)
    model = exact_model(sde, data, mu, "noise")
    whole = jnp.broadcast_to(mu, (draws * points, 2))
    start = sde.prior_around(key, whole)
    drift = sde.reverse_around(lambda x, t: -model(x, whole, t) / sde.sigma(t), whole, ode=True)
    reference = jax.jit(lambda x: integrate(drift, x, 1.0, END, rtol=1e-10, atol=1e-10, max_steps=20_000))(start)

    def error(x: Array) -> tuple[float, float]:
        """Root mean squares over the points of a draw: the median draw's and the worst one's."""
        squares = (np.asarray(x) - np.asarray(reference)) ** 2
        of_draws = np.sqrt(squares.reshape(draws, -1).mean(axis=1))
        return float(np.median(of_draws)), float(of_draws.max())

    def sampler(solve: str, target: str) -> Callable[[Array, Array, Rule], Array]:
        exact = exact_model(sde, data, mu, target)
        run = lambda x, times, rule: whole + run_rule(None, x - whole, whole, exact, sde, times, rule, target, solve)
        return jax.jit(run)

    samplers = {pair: sampler(*pair) for pair in (("data", "noise"), ("noise", "noise"))}
    samplers |= {pair: sampler(*pair) for pair in (("data", "velocity"), ("data", "data"))}

    def sample(n: int, order: int, solve: Any, target: str = "noise", published: bool = False) -> Array:
        times = time_grid("linear-lambda", n, sde, end=END)
        a, s = sde.alpha(times), sde.sigma(times)
        rule = multistep_rule(a, s, order=order, solve=solve, published_third_order=published)
        return samplers[solve, target](start, times, rule)

    @jax.jit
    def euler(x: Array, times: Array) -> Array:
        def step(x: Array, pair: Array) -> Any:
            return x + (pair[1] - pair[0]) * drift(x, pair[0]), None

        return jax.lax.scan(step, x, jnp.stack([times[:-1], times[1:]], axis=1))[0]

    found: dict[str, list[tuple[float, float]]] = {}
    for name, (order, solve, target) in RULES.items():
        found[name] = [error(sample(n, order, solve, target)) for n in calls]
    found[PUBLISHED] = [error(sample(n, 3, "data", published=True)) for n in calls]
    found[EULER] = [error(euler(start, jnp.linspace(1.0, END, n + 1))) for n in (*calls, *extra)]
    gap = jnp.max(jnp.abs(sample(10, 2, "data", "velocity") - sample(10, 2, "data", "data")))
    errors, worst = ({name: [pair[i] for pair in pairs] for name, pairs in found.items()} for i in (0, 1))
    return Convergence(calls, errors, worst, float(gap), np.stack([start[:points], reference[:points]]))
