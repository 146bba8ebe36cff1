"""One pair of Gaussians on a line: the bias of the published rule, and the coupling beside an optimal transport."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import integrate, stats

from dini.sets import TransportationPolytope

from .acceptance import MAX_PROPOSALS
from .gaussians import Gaussian, log_ratio, reflected
from .heads import LastStep
from .verification import Rule

#: Mean and standard deviation of draft and target.
DRAFT, TARGET = (0.0, 1.0), (0.6, 0.8)


@dataclass(frozen=True)
class Law:
    """What a rule does to draws of the draft."""

    acceptance: float
    mean: float
    std: float


@dataclass(frozen=True)
class Tried:
    """A rule and what came of it."""

    sigma: float
    """The published rule's factor, 1 for the exact one."""
    relax: float
    ours: Law
    predicted: Law
    proposals: float
    """For each token, on average."""


def published_law(sigma: float) -> Law:
    """By quadrature, of the formula."""
    x = np.linspace(-12, 12, 200_001)
    q, p = stats.norm.pdf(x, *DRAFT), stats.norm.pdf(x, *TARGET)
    least = np.minimum(q, sigma * p)
    accepted = integrate.simpson(least, x=x)
    law = least * (sigma - 1) / (sigma - accepted) + p * sigma * (1 - accepted) / (sigma - accepted)
    mean = integrate.simpson(law * x, x=x)
    return Law(float(accepted), float(mean), float(np.sqrt(integrate.simpson(law * (x - mean) ** 2, x=x))))


def program() -> Callable[[Array, Any, Any], tuple[Array, Array, Array]]:
    """Of many keys, the published rule's factor and `relax`: tokens, whether they are drafts, and proposals."""

    def tokens(keys: Array, sigma: Any, relax: Any) -> tuple[Array, Array, Array]:
        rule = Rule("published", "rejection", MAX_PROPOSALS, relax)
        q, p = (LastStep(jnp.array([mean]), jnp.array([std]), jnp.zeros(())) for mean, std in (DRAFT, TARGET))
        q = q._replace(log_scale=jnp.log(sigma))

        def token(key: Array) -> tuple[Array, Array, Array]:
            for_draft, for_rule = jax.random.split(key)
            return rule(for_rule, Gaussian(q.mean, q.std).sample(for_draft), q, p)

        return jax.lax.map(token, keys, batch_size=min(2000, len(keys)))

    return jax.jit(tokens)


def tried(program: Callable[..., Any], key: Array, sigma: float, relax: float, draws: int, times: int) -> Tried:
    """So many draws of the draft, so many times, tested by a rule."""
    parts = [program(jax.random.split(one, draws), sigma, relax) for one in jax.random.split(key, times)]
    x, accepted, proposals = (
        np.concatenate([np.asarray(one, float) for one in row]) for row in zip(*parts, strict=True)
    )
    found = Law(float(accepted.mean()), float(x.mean()), float(x.std()))
    # flattened so far, every draft is accepted that the scales alone do not refuse
    predicted = published_law(sigma) if relax == 1 else Law(1.0, *DRAFT)
    return Tried(sigma, relax, found, predicted, float(proposals.mean()))


def on_a_grid(distance: float, points: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The probabilities of a standard normal law cut down to a grid, and the grid: symmetric about `distance / 2`."""
    grid = np.linspace(-4, 4 + distance, points)
    law = stats.norm.pdf(grid)
    return law / law.sum(), grid


def reflection_plan(law: Float[np.ndarray, " n"], grid: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
    """What acceptance and reflection make of a law on a grid: probabilities of a draft and the token it becomes."""
    with jax.enable_x64(True):
        q, p = (Gaussian(np.array([mean]), np.ones(1)) for mean in (0.0, grid[0] + grid[-1]))
        accepted = np.exp(np.minimum(jax.vmap(lambda x: log_ratio(q, p, x))(grid[:, None]), 0.0))
        images = np.asarray(jax.vmap(lambda x: reflected(q, p, x))(grid[:, None]))[:, 0]
    plan = np.diag(law * accepted)
    places = np.argmin(np.abs(images[:, None] - grid), axis=1)
    plan[np.arange(len(grid)), places] += law * (1 - accepted)
    return plan


def transport_plan(law: Float[np.ndarray, " n"], grid: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
    r"""The optimal transport of a law on a grid to its mirror image for the cost :math:`|x - y|^{1/2}`, by dini.

    For a cost that is strictly concave in the distance what two laws have in common stays, and on a line the rest is
    carried across: the plan is unique. It is the projection of :math:`-C / \epsilon` onto the couplings, which for a
    small :math:`\epsilon` is a solution of the linear program itself.
    """
    with jax.enable_x64(True):
        cost = np.sqrt(np.abs(grid[:, None] - grid))
        couplings = TransportationPolytope(jnp.asarray(law), jnp.asarray(law[::-1]))
        return np.asarray(couplings.project(jnp.asarray(-300.0 * cost)))
