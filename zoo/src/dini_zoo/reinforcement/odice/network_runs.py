"""The fenced grid with networks: all records at once, and in batches with a policy that is learned as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ..policies import Network
from .conjugates import Weight
from .descent import descend
from .fence import GAMMA, Fenced, Outcome
from .gradients import Mode, Transitions
from .learning import Learner, odice_step
from .tabular_runs import LAM, TARGET_RATE

HIDDEN = (64, 64)


def single(tree: Any) -> Any:
    """All floats in single precision."""
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, tree
    )


class OnCells:
    """Networks from the place of a cell to some numbers, as functions of parameters: a table of all cells."""

    def __init__(self, grid: Fenced, outputs: int):
        self.sizes = (2, *HIDDEN, outputs)
        self.places = jnp.asarray((grid.open.places - 4) / 4, jnp.float32)
        self.static = eqx.filter(Network(self.sizes, jax.random.key(0)), eqx.is_inexact_array, inverse=True)

    def init(self, key: Array) -> Any:
        """The parameters of a new one."""
        return single(eqx.filter(Network(self.sizes, key), eqx.is_inexact_array))

    def __call__(self, params: Any) -> Float[Array, "S outputs"]:
        """The table."""
        return jax.vmap(eqx.combine(params, self.static))(self.places)

    def values(self, params: Any, cells: Array) -> Array:
        """Of some cells, from the first output."""
        return self(params)[cells, 0]

    def log_prob(self, params: Any, cells: Array, moves: Array) -> Array:
        """Of moves in cells, with the outputs as logits."""
        return jax.nn.log_softmax(self(params))[cells, moves]


@dataclass(frozen=True)
class Trained:
    """A mode's runs, one for each key."""

    mode: Mode
    weight: Weight
    scale: float
    outcomes: list[Outcome]
    dangling: list[float]
    """Mean values of the cells that are never left."""
    error: list[float]


def _trained(grid: Fenced, mode: Mode, weight: Weight, scale: float, policies: Any, values: Any) -> Trained:
    values = np.asarray(values, float)
    return Trained(
        mode,
        weight,
        scale,
        [grid.outcome(policy) for policy in policies],
        [float(one[grid.dangling].mean()) for one in values],
        [grid.error(one, scale, through_mud=True) for one in values],
    )


def whole(mode: Mode, scale: float, keys: Array, steps: int) -> Trained:
    """A value network by full-batch Adam, a lane for each key; policies in closed form, with the code's weights."""
    grid = Fenced()
    network = OnCells(grid, 1)
    batch = single(grid.records(scale))
    numbers = {"learning_rate": 1e-3, "target_rate": TARGET_RATE, "lam": LAM, "gamma": GAMMA}
    options = {name: np.float32(number) for name, number in numbers.items()}

    def one(params: Any) -> tuple[Array, Array]:
        end = descend(network.values, params, batch, mode=mode, steps=steps, decay=False, **options)
        return end.aux.residual, network(end.params)[:, 0]

    residuals, values = jax.jit(jax.vmap(one))(jax.vmap(network.init)(keys))
    policies = [grid.policy(np.asarray(residual, float), "relu") for residual in residuals]
    return _trained(grid, mode, "relu", scale, policies, values)


def batches(
    mode: Mode, weight: Weight, scale: float, keys: Sequence[Array], *, records: int, steps: int, batch: int
) -> Trained:
    """Records drawn by their frequencies, batches of them, and a policy network: the method as one runs it."""
    grid = Fenced()
    values, policies = OnCells(grid, 1), OnCells(grid, 4)
    all_records = single(grid.records(scale))
    numbers = {"lam": LAM, "gamma": GAMMA, "target_rate": 0.005}
    options = {name: np.float32(number) for name, number in numbers.items()}
    adam = optax.adam(1e-3)
    learner = Learner(values.values, policies.log_prob, adam, adam, mode=mode, weight=weight, **options)

    def one(key: Array) -> tuple[Array, Array]:
        for_records, for_values, for_policy, for_steps = jax.random.split(key, 4)
        drawn = jax.random.choice(for_records, len(all_records.reward), (records,), p=all_records.weight)
        data = all_records.rows(drawn)
        data = Transitions(data.observation, data.action, data.reward, data.next_observation, data.terminal)

        def step(state: Any, key: Array) -> tuple[Any, None]:
            return odice_step(learner, state, data.rows(jax.random.randint(key, (batch,), 0, records)))[0], None

        state = learner.init(values.init(for_values), policies.init(for_policy))
        state, _ = jax.lax.scan(step, state, jax.random.split(for_steps, steps))
        return policies(state.policy), values(state.value)[:, 0]

    logits, found = jax.jit(jax.vmap(one))(jnp.stack(keys))
    chosen = np.asarray(jax.nn.softmax(jnp.asarray(logits, float), axis=-1))
    return _trained(grid, mode, weight, scale, chosen, found)
