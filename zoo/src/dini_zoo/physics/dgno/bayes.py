"""What an inversion does not know: laws of the latent, how much the residuals' weight matters, and the noise, tuned.

All of it in double precision, with centers that stay, from a trained model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini

from ..hyperparameters import evidence, inner_problem, tune
from ..posteriors import Gaussian, Samples, laplace, mean_field, nuts
from .generative import GenerativeOperator
from .inversion import LatentProblem, Observations
from .measures import Cases, Found, Inverted, candidate, judged
from .two_phase import Located, TwoPhase

LAPLACE, VARIATIONAL, NUTS = "Laplace", "mean field", "NUTS"


class Task(NamedTuple):
    """Inverse problems of one model, side by side."""

    located: Located
    model: GenerativeOperator
    x: Float[Array, "m p 1"]
    u: Float[Array, "m p"]
    noise: Float[Array, " m"]

    @classmethod
    def of(cls, model: GenerativeOperator, flow: TwoPhase, given: Cases, key: Array) -> Task:
        """In double precision; the centers are one draw."""
        double = lambda leaf: jnp.asarray(leaf, float) if eqx.is_inexact_array(leaf) else leaf
        model, flow = jax.tree.map(double, (model, flow))
        x = jnp.asarray(given.which / given.a.shape[1], float)[..., None]
        u, noise = jnp.asarray(given.observed, float), jnp.asarray(given.noise, float)
        return cls(Located(flow, model, flow.draw(key)), model, x, u, noise)

    def first(self, count: int) -> Task:
        """So many of them."""
        return self._replace(x=self.x[:count], u=self.u[:count], noise=self.noise[:count])

    def problem(self, x: Array, u: Array, noise: Any, weight: Any = 1.0) -> LatentProblem:
        """One of them, with the residuals' energy times `weight`."""
        virtual = lambda beta: jnp.sqrt(weight) * self.located.virtual(beta)
        return LatentProblem(self.model, Observations(x, u), noise, virtual)

    def fields(self, z: Float[Array, "m d"]) -> tuple[Array, Array]:
        """The medium in the cells and the pressure at their ends."""
        return jax.vmap(lambda z: candidate(self.model, self.located.flow, z, self.located.centers)[:2])(z)


@eqx.filter_jit
def _most_probable(task: Task, start: Array, weight: Array) -> tuple[Array, Array]:
    def one(x: Array, u: Array, noise: Array, start: Array) -> tuple[Array, Array]:
        residual = task.problem(x, u, noise, weight).residual
        found = dini.least_squares(lambda z: residual(z), start, solver=dini.LevenbergMarquardt(), on_failure="ignore")
        return found.x, found.status

    return jax.vmap(one)(task.x, task.u, task.noise, start)


@eqx.filter_jit
def _laws(task: Task, z: Array, key: Array, fit: Callable[[Any, Any, Array], Any]) -> Any:
    def one(x: Array, u: Array, noise: Array, z: Array, key: Array) -> Any:
        energy = task.problem(x, u, noise).energy
        return fit(energy, laplace(energy, z), key)

    return jax.vmap(one)(task.x, task.u, task.noise, z, jax.random.split(key, len(z)))


@eqx.filter_jit
def _drawn(task: Task, law: Any, key: Array, count: int) -> tuple[Array, Array]:
    z = jax.vmap(lambda law, key: law.draw(key, count))(law, jax.random.split(key, len(task.x)))
    return jax.vmap(task.fields)(z)


@eqx.filter_jit
def _fields(task: Task, z: Array) -> tuple[Array, Array]:
    return task.fields(z)


@dataclass(frozen=True)
class Budget:
    """Of the laws: cases, steps of variational inference, and of NUTS."""

    cases: int
    variational: int
    warmup: int
    draws: int
    chains: int
    tuned: int
    """Cases whose noise is tuned, and in how many steps."""
    tuning: int


@dataclass(frozen=True)
class Law:
    """Of a method, means over cases."""

    method: str
    mean: Inverted
    """Of the mean of its draws."""
    covered: float
    """The share of nodes, of those that were not observed, whose true pressure is within 95 percent of the draws."""
    brier: float
    """The mean square of what the probability of the cells' phase is off."""
    rhat: float | None = None
    """The worst of all latents and cases, of NUTS."""
    divergent: float | None = None
    gradients: float | None = None
    """For a draw."""


@dataclass(frozen=True)
class Bayes:
    """What was found of one seed."""

    most_probable: Inverted
    converged: float
    """The share of cases whose least squares did."""
    weights: dict[float, Inverted]
    """Most probable media by the residuals' weight."""
    laws: list[Law]
    bands: dict[str, tuple[np.ndarray, np.ndarray]]
    """For a picture: of the first case by method the mean medium and pressure's quantiles, `(n,)` and `(2, n+1)`."""
    noise: float
    """The tuned noise over the true one."""
    slope: float
    """The criterion's derivative there, by the logarithm."""


def subset(given: Cases, count: int) -> Cases:
    """The first few."""
    return Cases(given.a[:count], given.u[:count], given.which[:count], given.observed[:count], given.noise[:count])


def tuned(task: Task, size: int, steps: int) -> tuple[float, float]:
    """One noise for all cases, relative to the root of the mean square of what was observed, by the evidence."""
    unit = jnp.sqrt(jnp.mean(task.u**2, axis=1))

    def residual(z: Array, theta: Array, data: Any) -> Array:
        x, u, unit = data
        return task.problem(x, u, jnp.exp(theta) * unit).residual(z)

    data, count = (task.x, task.u, unit), task.x.shape[1]
    criterion = evidence(residual, lambda theta: count * theta, data)
    start = jnp.log(0.2)
    found = tune(criterion, inner_problem(residual, data), start, jnp.zeros((len(unit), size)), steps=steps)
    return float(jnp.mean(jnp.exp(found.theta) * unit / task.noise)), float(found.gradient)


def law(task: Task, given: Cases, method: str, found: Any, key: Array) -> tuple[Law, tuple[np.ndarray, np.ndarray]]:
    """Figures of a law, by draws."""
    a, u = map(np.asarray, _drawn(task, found, key, 200))
    flow = task.located.flow
    band = np.quantile(u, (0.025, 0.975), axis=1)
    hidden = np.ones(given.u.shape, bool)
    np.put_along_axis(hidden, given.which, False, axis=1)
    hidden[:, [0, -1]] = False
    inside = (given.u >= band[0]) & (given.u <= band[1])
    phase = (a.mean(1) - flow.low) / (flow.high - flow.low)
    true = (given.a - flow.low) / (flow.high - flow.low)
    chains = isinstance(found, Samples)
    posterior = Law(
        method,
        judged(Found(a.mean(1), u.mean(1)), given, flow),
        float(inside[hidden].mean()),
        float(np.mean((phase - true) ** 2)),
        float(np.max(found.rhat)) if chains else None,
        float(np.mean(found.divergent)) if chains else None,
        float(np.mean(found.gradients)) if chains else None,
    )
    return posterior, (a.mean(1)[0], band[:, 0])


def study(
    model: GenerativeOperator,
    flow: TwoPhase,
    given: Cases,
    key: Array,
    *,
    size: int,
    budget: Budget,
    weights: tuple[float, ...],
    advance: Callable[[int], None],
) -> Bayes:
    """All of it for one trained model."""
    with jax.enable_x64(True):
        keys = jax.random.split(key, 4)
        task = Task.of(model, flow, given, keys[0])
        zero = jnp.zeros((len(given.a), size))
        points = {w: _most_probable(task, zero, jnp.asarray(w, float)) for w in (1.0, *weights)}
        inverted = {w: judged(Found(*map(np.asarray, _fields(task, z))), given, flow) for w, (z, _) in points.items()}
        z, status = points[1.0]
        advance(1)
        few, short = subset(given, budget.cases), task.first(budget.cases)
        ways: dict[str, Callable[[Any, Gaussian, Array], Any]] = {
            LAPLACE: lambda energy, start, key: start,
            VARIATIONAL: lambda energy, start, key: mean_field(energy, start, key, steps=budget.variational).law,
            NUTS: lambda energy, start, key: nuts(
                energy, start, key, warmup=budget.warmup, draws=budget.draws, chains=budget.chains
            ),
        }
        laws, bands = [], {}
        for method, fit in ways.items():
            found = _laws(short, z[: budget.cases], keys[1], fit)
            posterior, bands[method] = law(short, few, method, found, keys[2])
            laws.append(posterior)
            advance(1)
        noise, slope = tuned(task.first(budget.tuned), size, budget.tuning)
        advance(1)
        return Bayes(
            inverted[1.0],
            float(np.mean(np.asarray(status) == dini.Status.CONVERGED)),
            {w: inverted[w] for w in weights},
            laws,
            bands,
            noise,
            slope,
        )
