"""Private descents on a problem, one setting each, over seeds of the noise: one compiled program for all settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from .budget import Noise, calibrate
from .clipping import Clients
from .estimator import diff2_estimator
from .loops import diff2_gd
from .poisson import dp_sgd
from .problems import Problem, penalty_gradient, record_gradient, value

DP_GD, DIFF2 = "DP-GD", "DIFF2"
#: :math:`C_2`, a third of the smoothness of a record's gradient.
DIFFERENCE_CLIP = 0.05


@dataclass(frozen=True)
class Setting:
    """Of one private descent."""

    epsilon: float
    rounds: int
    restart_every: int
    """:math:`T`; 1 for DP-GD."""
    gradient_clip: float
    """:math:`C_1`."""
    learning_rate: float = 5.0

    @property
    def method(self) -> str:
        """Whose it is."""
        return DP_GD if self.restart_every == 1 else DIFF2

    @property
    def name(self) -> str:
        """For a random key."""
        return f"{self.epsilon}/{self.rounds}/{self.restart_every}/{self.gradient_clip}/{self.learning_rate}"


@dataclass(frozen=True)
class Outcome:
    """What a setting led to, seed by seed."""

    setting: Setting
    gradient: list[float]
    """The mean of the gradient's squared norm over the last tenth of the rounds."""
    gap: list[float]
    """The last iterate's value above the least one."""
    clipped: list[float]
    """The share of records' vectors that were shortened, over all rounds."""
    curve: Float[np.ndarray, "seeds points"]
    """The gradient's squared norm at some rounds."""
    at: list[int]
    """Which rounds."""


@partial(jax.jit, static_argnames="rounds")
def _descend(key: Array, numbers: Any, start: Any, clients: Clients, rounds: int) -> Any:
    clip, restart_every, noise, learning_rate = numbers
    estimator = diff2_estimator(
        record_gradient,
        gradient_clip=clip,
        difference_clip=DIFFERENCE_CLIP,
        restart_every=restart_every,
        noise=noise,
    )
    options = {"rounds": rounds, "public": penalty_gradient, "observe": lambda w: w}
    found = diff2_gd(estimator, optax.sgd(learning_rate), start, clients, key, **options)
    return found.observed, jnp.mean(found.clipped)


@jax.jit
def squared_norms(path: Any, a: Any, b: Any) -> Float[Array, " points"]:
    """The squared norms of the gradient along a path."""
    return jax.lax.map(lambda w: jnp.sum(jax.grad(value)(w, a, b) ** 2), path)


def descent(problem: Problem, setting: Setting, keys: Sequence[Array], *, delta: float, points: int = 60) -> Outcome:
    """Run one setting with the noise of each key, by the paper's closed form; all but the value in single precision."""
    a, b = problem.records
    clients = Clients.equal((a, b))
    noise = calibrate(
        setting.epsilon,
        delta,
        rounds=setting.rounds,
        restart_every=setting.restart_every,
        sizes=clients.sizes,
    )
    numbers = (setting.gradient_clip, setting.restart_every, Noise(*map(jnp.float32, noise)), setting.learning_rate)
    run = lambda key: _descend(key, numbers, problem.start, clients, setting.rounds)
    return _judged(problem, setting, [run(key) for key in keys], points)


@partial(jax.jit, static_argnames=("rounds", "rate"))
def _sample(key: Array, numbers: Any, start: Any, records: Any, rounds: int, rate: float) -> Any:
    clip, multiplier, learning_rate = numbers
    options = {"rounds": rounds, "rate": rate, "clip": clip, "multiplier": multiplier}
    options |= {"public": penalty_gradient, "observe": lambda w: w}
    found = dp_sgd(record_gradient, optax.sgd(learning_rate), start, records, key, **options)
    return found.observed, jnp.mean(found.clipped)


def poisson(
    problem: Problem, setting: Setting, keys: Sequence[Array], *, rate: float, multiplier: float, points: int = 60
) -> Outcome:
    """DP-SGD with Poisson's batches in place of all records."""
    numbers = (setting.gradient_clip, jnp.float32(multiplier), setting.learning_rate)
    run = lambda key: _sample(key, numbers, problem.start, problem.records, setting.rounds, rate)
    return _judged(problem, setting, [run(key) for key in keys], points)


def _judged(problem: Problem, setting: Setting, runs: Sequence[tuple[Any, Any]], points: int) -> Outcome:
    a, b = problem.records
    tail = max(1, setting.rounds // 10)
    at = np.unique(np.linspace(1, setting.rounds, min(points, setting.rounds)).round().astype(int))
    finite = [bool(jnp.all(jnp.isfinite(path[-1]))) for path, _ in runs]
    of_tail = [squared_norms(path[-tail:], a, b) for path, _ in runs]
    return Outcome(
        setting,
        # what diverged is no small number that was not measured
        gradient=[float(jnp.mean(one)) if ok else np.inf for one, ok in zip(of_tail, finite, strict=True)],
        gap=[_gap(problem, path[-1]) if ok else np.inf for (path, _), ok in zip(runs, finite, strict=True)],
        clipped=[float(share) for _, share in runs],
        curve=np.stack([np.asarray(squared_norms(path[at - 1], a, b)) for path, _ in runs]),
        at=[int(i) for i in at],
    )


def _gap(problem: Problem, w: Any) -> float:
    """In double precision: it is a small difference of two values."""
    with jax.enable_x64(True):
        whole = np.asarray(w, float)
        return float(value(jnp.asarray(whole), jnp.asarray(problem.a), jnp.asarray(problem.b))) - problem.least
