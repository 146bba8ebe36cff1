"""Choosing the regularization by the validation loss: along a grid, and by hypergradient descent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import dini
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .data import Split
from .dual import accuracy, center, dual, weights
from .hypergradient import Loss, hypergradient
from .modes import PROJECTED

#: Solves the dual for tuning. Started from the solution at a regularization nearby, it takes few steps.
SOLVER = dini.ProjectedGradient(tol=1e-7, max_steps=50_000)


@dataclass(frozen=True)
class Machine:
    """A trained machine: its regularization (one number or one a class), its two solutions and its accuracies."""

    log_theta: np.ndarray
    x: np.ndarray
    W: np.ndarray
    validation: float
    test: float


@dataclass(frozen=True)
class Search:
    """The regularizations that a search tried, in order, with their validation losses, and its time in seconds."""

    tried: np.ndarray
    losses: np.ndarray
    seconds: float

    @property
    def best(self) -> np.ndarray:
        return self.tried[np.argmin(self.losses)]


@jax.jit
def _train(log_theta: jax.Array, split: Split, start: jax.Array) -> tuple[jax.Array, ...]:
    theta = jnp.exp(log_theta)
    x = dini.solve(dual, SOLVER, start, theta, *split.train).x
    W = weights(x, theta, split.train)
    return x, W, accuracy(W, split.validation), accuracy(W, split.test)


def train(
    log_thetas: Iterable[np.ndarray | float], split: Split, advance: Callable[[], None] = lambda: None
) -> list[Machine]:
    """Train a machine for each regularization, each from the dual solution of the one before."""
    x = center(split.train.Y)
    machines = []
    for log_theta in log_thetas:
        x, W, validation, test = _train(jnp.asarray(log_theta, float), split, x)
        machines.append(Machine(np.asarray(log_theta), np.asarray(x), np.asarray(W), float(validation), float(test)))
        advance()
    return machines


def grid_search(
    log_thetas: Iterable[float], split: Split, loss: Loss, advance: Callable[[], None] = lambda: None
) -> Search:
    """Train a machine for each regularization of a grid."""
    tried = np.asarray(list(log_thetas))
    train(tried[:1], split)  # compiles
    start = time.perf_counter()
    machines = train(tried, split, advance)
    losses = [float(loss(split.validation.X @ machine.W, split.validation.Y)) for machine in machines]
    return Search(tried, np.asarray(losses), time.perf_counter() - start)


def hypergradient_descent(
    start: np.ndarray | float, split: Split, loss: Loss, steps: int, advance: Callable[[], None] = lambda: None
) -> Search:
    """Descend the validation loss along its hypergradient.

    Adam with a step that falls from 0.8 to nothing along a cosine: the loss is only piecewise smooth, with its minima
    at kinks as often as not, and there the step must shrink by itself. (The step and the decay rates 0.5 and 0.9 were
    picked among three settings, by validation loss.)
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(0.8, steps), b1=0.5, b2=0.9)
    log_theta = jnp.asarray(start, float)
    state = optimizer.init(log_theta)
    x = center(split.train.Y)

    def evaluate() -> Any:
        return hypergradient(
            log_theta, split.train, split.validation, SOLVER, x, loss=loss, differentiation=PROJECTED
        )

    evaluate()  # compiles
    begin = time.perf_counter()
    tried, losses = [], []
    for _ in range(steps):
        (value, solution), gradient = evaluate()
        tried.append(np.asarray(log_theta))
        losses.append(float(value))
        x = solution.x
        update, state = optimizer.update(gradient, state, log_theta)
        log_theta = optax.apply_updates(log_theta, update)
        advance()
    return Search(np.stack(tried), np.asarray(losses), time.perf_counter() - begin)
