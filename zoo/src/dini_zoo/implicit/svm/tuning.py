"""Choosing the regularization by the validation loss: along a grid, and by hypergradient descent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dini
from dini_zoo.kit.data import Split

from ..support_vectors import PROJECTED, Loss, accuracy, center, dual, hypergradient, name_of, weights

UNTUNED = "untuned"
GRID = "grid search"
DESCENT = "hypergradient descent"
BY_CLASS = "descent, one λ a class"

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


def value_of(loss: Loss, machine: Machine, split: Split) -> float:
    """A trained machine's loss on the validation sample."""
    return float(loss(split.validation.X @ machine.W, split.validation.Y))


def grid_search(
    log_thetas: Iterable[float], split: Split, loss: Loss, advance: Callable[[], None] = lambda: None
) -> Search:
    """Train a machine for each regularization of a grid."""
    tried = np.asarray(list(log_thetas))
    train(tried[:1], split)  # compiles
    start = time.perf_counter()
    machines = train(tried, split, advance)
    losses = [value_of(loss, machine, split) for machine in machines]
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

    @jax.jit
    def step(log_theta: jax.Array, state: Any, x: jax.Array) -> tuple[Any, ...]:
        (value, solution), gradient = hypergradient(
            log_theta, split.train, split.validation, SOLVER, x, loss=loss, differentiation=PROJECTED
        )
        update, state = optimizer.update(gradient, state, log_theta)
        return optax.apply_updates(log_theta, update), state, solution.x, value

    log_theta, x = jnp.asarray(start, float), center(split.train.Y)
    state = optimizer.init(log_theta)
    step(log_theta, state, x)  # compiles
    begin = time.perf_counter()
    tried, losses = [], []
    for _ in range(steps):
        tried.append(np.asarray(log_theta))
        log_theta, state, x, value = step(log_theta, state, x)
        losses.append(float(value))
        advance()
    return Search(np.stack(tried), np.asarray(losses), time.perf_counter() - begin)


@dataclass(frozen=True)
class Tuned:
    """A machine and the search that chose it; an untuned one has none."""

    how: str
    loss: str
    value: float
    """The validation loss."""
    machine: Machine
    search: Search | None


def tune(
    split: Split,
    loss: Loss,
    grid: np.ndarray,
    start: float,
    steps: int,
    class_steps: int = 0,
    advance: Callable[[str], None] = lambda doing: None,
) -> list[Tuned]:
    """The machine with `θ = 1`, and those that a grid search and `steps` of hypergradient descent choose by a loss.

    With `class_steps`, descent goes on from its end with one regularization a class.
    """
    name = name_of(loss)

    def tuned(how: str, log_theta: np.ndarray | float, search: Search | None) -> Tuned:
        (machine,) = train([log_theta], split)
        return Tuned(how, name, value_of(loss, machine, split), machine, search)

    def descend(start: np.ndarray | float, steps: int) -> Search:
        return hypergradient_descent(start, split, loss, steps, lambda: advance(f"{DESCENT}, {name}"))

    searched = grid_search(grid, split, loss, lambda: advance(f"{GRID}, {name}"))
    descended = descend(start, steps)
    found = [
        tuned(UNTUNED, 0.0, None),
        tuned(GRID, searched.best, searched),
        tuned(DESCENT, descended.best, descended),
    ]
    if class_steps:
        by_class = descend(np.full(split.train.Y.shape[1], descended.best), class_steps)
        found.append(tuned(BY_CLASS, by_class.best, by_class))
    return found
