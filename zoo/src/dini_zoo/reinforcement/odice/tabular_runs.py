"""The fenced grid with a table of values: descents side by side, duals solved to the end, imitation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.modes import difference_error

from .conjugates import action_weights
from .descent import Descended, descend
from .fence import GAMMA, Fence, Fenced, Outcome
from .gradients import Mode, Transitions
from .tabular import Sensitivity, return_sensitivity, solve_dice_tabular, weighted_policy

LAM, RESCALED = 0.6, 1 / (2 - GAMMA)
TARGET_RATE, RATE = 0.01, 0.05


@dataclass(frozen=True)
class Setup:
    """One descent."""

    mode: Mode
    scale: float = 1.0
    """What a step costs."""
    start: float = 0.0
    """Of all values."""
    fence: Fence = "cut"
    lam: float = LAM


@dataclass(frozen=True)
class Lane:
    """What one descent found."""

    setup: Setup
    gradient: float
    """The largest entry of the gradient at the end."""
    cosine: float
    values: Float[np.ndarray, " S"]
    dangling: float | None
    """The mean value of the cells that are never left."""
    untouched: bool
    """Whether all of these have the value that they began with, to the last bit."""
    entering: float | None
    """The largest residual of a record that enters one of them."""
    error: float
    """To the distances on the grid without mud, as the specification has it."""
    true_error: float
    paper: Outcome
    """With the paper's weights of actions."""
    code: Outcome
    """With those of the published code."""


def lookup(values: Float[Array, " S"], cells: Array) -> Array:
    """A table as a value function."""
    return values[cells]


def padded(batch: Transitions, count: int) -> Transitions:
    """With records of no weight behind, for lanes of one length."""
    return jax.tree.map(lambda leaf: jnp.pad(leaf, (0, count - len(leaf))), batch)


def descents(setups: Sequence[Setup], steps: int) -> list[Lane]:
    """All setups, those of one mode in one program."""
    fenced = {fence: Fenced(fence) for fence in {setup.fence for setup in setups}}
    found: dict[Setup, Lane] = {}
    for mode in dict.fromkeys(setup.mode for setup in setups):
        mine = [setup for setup in setups if setup.mode == mode]
        records = [fenced[setup.fence].records(setup.scale) for setup in mine]
        longest = max(len(one.reward) for one in records)
        batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(padded(one, longest) for one in records))
        count = fenced[mine[0].fence].open.count

        def one(start: Array, batch: Transitions, lam: Array, rate: Array, mode: Mode = mode) -> Descended:
            options = {"mode": mode, "steps": steps, "target_rate": TARGET_RATE, "gamma": GAMMA}
            return descend(lookup, start, batch, learning_rate=rate, lam=lam, **options)

        starts = jnp.stack([jnp.full(count, setup.start) for setup in mine])
        rates = jnp.array([RATE * max(setup.scale, 1.0) for setup in mine])
        ends = jax.jit(jax.vmap(one))(starts, batch, jnp.array([setup.lam for setup in mine]), rates)
        ends = jax.tree.map(np.asarray, ends)
        for i, setup in enumerate(mine):
            found[setup] = _lane(setup, fenced[setup.fence], jax.tree.map(lambda leaf, i=i: leaf[i], ends))
    return [found[setup] for setup in setups]


def _lane(setup: Setup, grid: Fenced, end: Descended) -> Lane:
    records = grid.records(setup.scale)
    values, residual = end.params, end.aux.residual[: len(records.reward)]
    dangling, entering = grid.dangling, grid.dangling[np.asarray(records.next_observation)]
    return Lane(
        setup,
        float(end.gradient),
        float(end.aux.cosine),
        values,
        float(values[dangling].mean()) if dangling.any() else None,
        bool(np.all(values[dangling] == setup.start)),
        float(residual[entering].max()) if entering.any() else None,
        grid.error(values, setup.scale, through_mud=True),
        grid.error(values, setup.scale),
        grid.outcome(grid.policy(residual, "conjugate")),
        grid.outcome(grid.policy(residual, "relu")),
    )


@dataclass(frozen=True)
class Duals:
    """Solutions to the end, on the records without a fence."""

    distance: dict[str, float]
    """By mode: how far the values that the descent found are from the solver's, at most."""
    sensitivity: Sensitivity
    cells: np.ndarray
    """The grid's cells that the problem's states are."""
    error: float
    """Of the derivatives of the return, relative to central differences."""


def duals(lanes: Sequence[Lane], key: Array) -> Duals:
    """Solve the same duals by dini, and differentiate a policy's return through one."""
    grid = Fenced("none")
    problem = grid.compact()
    arrays = [jnp.asarray(one) for one in (problem.transitions, problem.rewards, problem.frequencies)]
    distance = {}
    for lane in lanes:
        mode, lam = lane.setup.mode, lane.setup.lam
        if lane.setup.fence == "none" and mode in ("orthogonal", "semi", "true"):
            values = solve_dice_tabular(*arrays, lam, GAMMA, mode).values
            distance[mode] = float(np.abs(values - lane.values[problem.cells]).max())
    start = jnp.asarray(problem.start)
    found = return_sensitivity(*arrays, start, LAM, GAMMA)
    recorded = problem.frequencies > 0

    @jax.jit
    def value(at: tuple[Array, Array]) -> Array:
        rewards, weights = at
        spread = jnp.zeros(problem.frequencies.shape).at[recorded].set(weights)
        given = (arrays[0], rewards, spread, start, LAM, GAMMA)
        return return_sensitivity(*given, evaluation=arrays[1]).value

    gradient = (found.rewards, found.data[recorded])
    # a frequency must stay above zero, the least is about 1e-6
    error = difference_error(value, gradient, (arrays[1], arrays[2][recorded]), key=key, width=1e-7)
    return Duals(distance, jax.tree.map(np.asarray, found), problem.cells, error)


@dataclass(frozen=True)
class Imitation:
    """Imitation of the recorded behavior, by table: what a policy differs from plain cloning, at most."""

    behavior: float
    """Success of the behavior itself, without a fence."""
    cloned: dict[str, tuple[float, float]]
    """By mode: the largest difference of a probability, and success."""


def imitation(lam: float = 0.4) -> Imitation:
    """Without rewards and without an end: who is in the goal goes on from the start."""
    grid = Fenced("none")
    problem = grid.compact(endless=True)
    weights = lambda mode: action_weights(
        solve_dice_tabular(
            problem.transitions, np.zeros_like(problem.rewards), problem.frequencies, lam, GAMMA, mode
        ).residuals
    )
    frequencies = jnp.asarray(problem.frequencies)

    def success(policy: np.ndarray) -> float:
        whole = np.full(grid.frequencies.shape, 0.25)
        whole[problem.cells] = policy
        return grid.outcome(whole).success

    behavior = np.asarray(weighted_policy(frequencies, jnp.ones_like(frequencies)))
    found = {}
    for mode in ("semi", "orthogonal"):
        policy = np.asarray(weighted_policy(frequencies, weights(mode)))
        found[mode] = (float(np.abs(policy - behavior).max()), success(policy))
    return Imitation(success(behavior), found)
