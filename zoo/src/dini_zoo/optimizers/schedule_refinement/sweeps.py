"""Stochastic descent with many schedules and learning rates side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from .recording import record_grad_norm, recorded_grad_norms
from .schedules import array_schedule

#: An optimizer from its schedule.
Kind = Callable[[optax.Schedule], optax.GradientTransformation]


@dataclass(frozen=True)
class Task:
    """What is minimized: subgradients at a point for what a step is given, and what the last iterate is worth."""

    start: Array
    gradient: Callable[[Array, Any], Array]
    """`gradient(x, given)`."""
    excess: Callable[[Array], Array]
    """The function minus its least value."""
    given: Any
    """For each run and step: a tree of arrays with these two axes in front."""

    def runs(
        self, kind: Kind, values: Float[np.ndarray, "lanes runs T"], rates: Float[np.ndarray, " lanes"], order: Any
    ) -> tuple[Float[np.ndarray, "lanes runs"], Float[np.ndarray, "lanes runs T"]]:
        """The excess of the last iterate, and the norms of the gradients, for schedules with their learning rates."""

        def one(values: Array, rate: Array, given: Any) -> tuple[Array, optax.OptState]:
            recording = record_grad_norm(order, size=len(values))
            optimizer = optax.chain(recording, kind(array_schedule(values, rate)))

            def step(carried: tuple[Array, optax.OptState], given: Any) -> tuple[tuple[Array, optax.OptState], None]:
                x, state = carried
                updates, state = optimizer.update(self.gradient(x, given), state, x)
                return (x + jnp.asarray(updates), state), None

            (x, state), _ = jax.lax.scan(step, (self.start, optimizer.init(self.start)), given)
            return self.excess(x), state[0]

        # every lane of a run sees what the others see
        lanes = jax.vmap(one, in_axes=(0, 0, None))
        program = jax.jit(jax.vmap(lanes, in_axes=(1, None, 0), out_axes=1))
        excess, state = program(values, rates, self.given)
        return np.asarray(excess), recorded_grad_norms(state)


@dataclass(frozen=True)
class Swept:
    """One schedule with every learning rate."""

    values: Float[np.ndarray, " T"]
    rates: Float[np.ndarray, " rates"]
    excess: Float[np.ndarray, "rates seeds"]
    norms: Float[np.ndarray, "rates seeds T"] | None
    """Of the gradients, step by step, as long as they are needed."""

    @property
    def means(self) -> Float[np.ndarray, " rates"]:
        """Over the seeds; infinite where a run diverged."""
        return np.where(np.isfinite(self.excess), self.excess, np.inf).mean(axis=1)

    @property
    def best(self) -> int:
        """The learning rate of the least mean, as an index."""
        return int(np.argmin(self.means))

    @property
    def least(self) -> float:
        """The mean excess at that rate."""
        return float(self.means[self.best])

    @property
    def inside(self) -> bool:
        """Whether there are rates on both sides of the best one."""
        return 0 < self.best < len(self.rates) - 1


def sweep(
    task: Task,
    kind: Kind,
    shapes: Mapping[str, Float[np.ndarray, "groups T"]],
    rates: Float[np.ndarray, " rates"],
    order: Any,
) -> list[dict[str, Swept]]:
    """Every schedule with every learning rate, for each group of a task's runs.

    A schedule has a row for each group; the runs of a group stand together.
    """
    groups = len(next(iter(shapes.values())))
    runs = len(jax.tree.leaves(task.given)[0]) // groups
    values = np.repeat(np.stack(list(shapes.values())), len(rates), axis=0)
    excess, norms = task.runs(kind, np.repeat(values, runs, axis=1), np.tile(rates, len(shapes)), order)
    found: list[dict[str, Swept]] = [{} for _ in range(groups)]
    for i, (name, rows) in enumerate(shapes.items()):
        lanes = slice(i * len(rates), (i + 1) * len(rates))
        for j, row in enumerate(rows):
            own = slice(j * runs, (j + 1) * runs)
            found[j][name] = Swept(row, rates, excess[lanes, own], norms[lanes, own])
    return found
