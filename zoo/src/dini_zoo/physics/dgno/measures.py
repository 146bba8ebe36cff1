"""Figures of the experiment: forward errors, and inversions by several methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..layered import solve_layered
from .generative import GenerativeOperator, code
from .inversion import descend, relative_misfit
from .training import SOURCE, Data
from .two_phase import TwoPhase


def relative(found: Any, true: Any) -> np.ndarray:
    r""":math:`\|\cdot\| / \|\text{true}\|`, row by row."""
    return np.linalg.norm(np.asarray(found) - true, axis=-1) / np.linalg.norm(true, axis=-1)


def nodes(n: int) -> Float[Array, "n+1 1"]:
    """Ends of the cells, as points."""
    return jnp.linspace(0.0, 1.0, n + 1)[:, None]


@dataclass(frozen=True)
class Found:
    """A medium, between the phases, and the pressure, in rows."""

    a: Float[np.ndarray, "m n"]
    u: Float[np.ndarray, "m n+1"]


@dataclass(frozen=True)
class Forward:
    """Means over the media to test with."""

    u: float
    accuracy: float | None
    """The share of cells whose phase is decoded right; `None` where no medium is decoded."""
    mean_field: float
    """The error of the mean of the pressures of the media to train with."""


@eqx.filter_jit
def _decoded(model: GenerativeOperator, flow: TwoPhase, a: Array) -> tuple[Array, Array]:
    beta = model.encode(a)
    u = model.decode("u", nodes(a.shape[1]), beta)
    return flow.relaxed(model, beta)(flow.mesh) if "logit" in model.decoders else a, u


def decoded(model: GenerativeOperator, data: Data, flow: TwoPhase) -> Found:
    """The media to test with and their pressures, as a model has them; media as they are, where it decodes none."""
    return Found(*map(np.asarray, _decoded(model, flow, jnp.asarray(data.test))))


def forward(model: GenerativeOperator, data: Data, flow: TwoPhase) -> Forward:
    """Errors of a trained model."""
    found, middle = decoded(model, data, flow), (flow.low + flow.high) / 2
    mean = np.asarray(solve_layered(jnp.asarray(data.train), SOURCE).u).mean(0)
    return Forward(
        float(relative(found.u, data.u).mean()),
        float(np.mean((found.a > middle) == (data.test > middle))) if "logit" in model.decoders else None,
        float(relative(mean, data.u).mean()),
    )


@dataclass(frozen=True)
class Cases:
    """Inverse problems: media, their pressures, and noisy values at some nodes, in rows."""

    a: Float[np.ndarray, "m n"]
    u: Float[np.ndarray, "m n+1"]
    which: np.ndarray
    """Nodes that are observed, `(m, p)`."""
    observed: Float[np.ndarray, "m p"]
    noise: Float[np.ndarray, " m"]
    """Its deviation."""


def cases(data: Data, count: int, observations: int, snr: float, random: np.random.Generator) -> Cases:
    """The first media to test with, at interior nodes that are drawn; noise in decibels below the pressure."""
    a, u = data.test[:count], data.u[:count]
    which = np.stack([np.sort(random.choice(np.arange(1, a.shape[1]), observations, False)) for _ in a])
    noise = np.sqrt(np.mean(u**2, axis=1)) * 10 ** (-snr / 20)
    observed = np.take_along_axis(u, which, 1) + noise[:, None] * random.normal(size=which.shape)
    return Cases(a, u, which, observed.astype(a.dtype), noise)


@dataclass(frozen=True)
class Inverted:
    """Means over cases."""

    a: float
    accuracy: float
    u: float


def judged(found: Found, given: Cases, flow: TwoPhase) -> Inverted:
    """The errors of what was found."""
    middle = (flow.low + flow.high) / 2
    right = (found.a > middle) == (given.a > middle)
    return Inverted(
        float(relative(found.a, given.a).mean()), float(right.mean()), float(relative(found.u, given.u).mean())
    )


def candidate(
    model: GenerativeOperator | None, flow: TwoPhase, v: Float[Array, " d"], centers: Float[Array, "j 1"]
) -> tuple[Float[Array, " n"], Float[Array, " n+1"], Float[Array, " r"]]:
    """The medium in the cells, the pressure at their ends and the weighted residuals of an unknown.

    The unknown is the latent of a generative model; else a logit in each cell, for a model whose codes are media or,
    without a model, for the exact solver.
    """
    ends = nodes(flow.shape[0])
    if model is not None and "logit" in model.decoders:
        beta = code(v)[None]
        a, u = flow.relaxed(model, beta)(flow.mesh)[0], model.decode("u", ends, beta)[0]
        return a, u, flow.virtual_relaxed(model, beta, centers)[0]
    a = flow.low + (flow.high - flow.low) * jax.nn.sigmoid(v)
    if model is None:
        return a, solve_layered(a, SOURCE).u, jnp.zeros(1, a.dtype)
    beta = model.encode(a[None])
    return a, model.decode("u", ends, beta)[0], flow.virtual(model, beta, centers, flow.medium(a[None]))[0]


@eqx.filter_jit
def _descended(
    model: GenerativeOperator | None, flow: TwoPhase, which: Array, observed: Array, key: Array, size: int, steps: int
) -> tuple[Array, Array]:
    def one(which: Array, observed: Array, key: Array) -> tuple[Array, Array]:
        def objective(v: Array, key: Array) -> Array:
            _, u, rows = candidate(model, flow, v, flow.draw(key))
            return 25 * relative_misfit(u[which], observed) + 0.5 * jnp.sum(rows**2) + 1e-3 * jnp.sum(v**2)

        v, _ = descend(objective, jnp.zeros(size, observed.dtype), key, steps=steps)
        return candidate(model, flow, v, flow.draw(key))[:2]

    return jax.vmap(one)(which, observed, jax.random.split(key, len(which)))


def descended(
    model: GenerativeOperator | None, flow: TwoPhase, given: Cases, key: Array, size: int, steps: int
) -> Found:
    """The published procedure for all cases: Adam on the relative misfit, residuals at fresh centers, and a small norm.

    The unknowns, so many as `size`, are those of :func:`candidate`.
    """
    found = _descended(model, flow, jnp.asarray(given.which), jnp.asarray(given.observed), key, size, steps)
    return Found(*map(np.asarray, found))
