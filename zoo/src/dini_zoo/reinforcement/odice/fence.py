r"""The fenced grid: exact frequencies of recorded moves, and what becomes of a policy behind the fence.

A room of 9 × 9 cells with a wall across, from (8, 4) to (0, 4), 16 steps to the left or to the right of the wall. The
log of an episode stops where it enters the columns from 6 on: that move is recorded, and *not* terminal, and the cells
that it enters are never left in the data; they *dangle*. In truth these columns are mud, which cannot be left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import one_of

from ..grids import Grid, propagated, toward_goal, visits
from .conjugates import Weight, action_weights
from .gradients import Transitions
from .tabular import weighted_policy

SIZE, SEEN = 9, 6
START, GOAL = (8, 4), (0, 4)
WALL = frozenset((4, column) for column in range(1, 8))
MUD = frozenset((row, column) for row in range(SIZE) for column in range(SEEN, SIZE))
STEPS, GREEDY, GAMMA = 60, 0.4, 0.95

type Fence = Literal["cut", "dropped", "none"]
"""Moves into the columns that the log does not see: recorded as the last ones, left out, or such that they stay."""


class Compact(NamedTuple):
    """Recorded cells as a decision problem of their own."""

    cells: Int[np.ndarray, " S"]
    transitions: Float[np.ndarray, "S 4 S"]
    rewards: Float[np.ndarray, "S 4"]
    frequencies: Float[np.ndarray, "S 4"]
    start: Float[np.ndarray, " S"]


class Outcome(NamedTuple):
    """What a policy does in the true world within `STEPS` steps."""

    success: float
    mud: float
    """The probability of having been caught."""
    steps: float
    """The mean number of steps to the goal, `STEPS` for those who do not arrive."""
    cells: Float[np.ndarray, " S"]
    """The expected number of times in each cell, and in the goal at the end."""


@dataclass(frozen=True)
class Fenced:
    """The grid, and what is recorded of the behavior in it."""

    fence: Fence = "cut"

    def __post_init__(self) -> None:
        one_of("fence", self.fence, ("cut", "dropped", "none"))

    @cached_property
    def world(self) -> Grid:
        """With the mud as traps."""
        return Grid(SIZE, SIZE, START, GOAL, WALL, MUD)

    @cached_property
    def open(self) -> Grid:
        """As the behavior sees it: it knows nothing of the mud."""
        return Grid(SIZE, SIZE, START, GOAL, WALL)

    @cached_property
    def behavior(self) -> Float[np.ndarray, "S 4"]:
        """The recorded policy."""
        return toward_goal(self.open, GREEDY)

    @cached_property
    def crossing(self) -> Bool[np.ndarray, "S 4"]:
        """Which moves lead to where the log does not see."""
        return self.open.mask(MUD)[self.open.next_cell]

    @cached_property
    def frequencies(self) -> Float[np.ndarray, "S 4"]:
        """Of each cell and recorded move, with sum one."""
        goal = self.open.mask(frozenset([GOAL]))
        if self.fence == "none":
            moves = Grid(SIZE, SIZE, START, GOAL, WALL | MUD).transitions(goal)
        else:
            moves = self.open.transitions(goal | self.open.mask(MUD))
        found = np.asarray(visits(jnp.asarray(moves), jnp.asarray(self.behavior), jnp.asarray(self.open.first), STEPS))
        if self.fence != "cut":
            found = np.where(self.crossing, 0.0, found)
        return found / found.sum()

    def records(self, scale: float = 1.0) -> Transitions:
        """Each recorded triple once, with its frequency; a step costs `scale`, the one into the goal nothing.

        The observation is the number of a cell.
        """
        cells, moves = np.nonzero(self.frequencies)
        after = self.open.next_cell[cells, moves]
        arrived = after == self.open.cell(*GOAL)
        reward = np.where(arrived, 0.0, -scale)
        weight = self.frequencies[cells, moves]
        return Transitions(*map(jnp.asarray, (cells, moves, reward, after, arrived, weight)))

    @cached_property
    def left(self) -> Bool[np.ndarray, " S"]:
        """The cells that are left in the data."""
        return self.frequencies.sum(axis=1) > 0

    @cached_property
    def dangling(self) -> Bool[np.ndarray, " S"]:
        """The cells that are entered in the data, never left, and are not the end."""
        entered = np.bincount(self.open.next_cell[self.frequencies > 0], minlength=self.open.count) > 0
        return entered & ~self.left & ~self.open.mask(frozenset([GOAL]))

    def truth(self, scale: float = 1.0, *, through_mud: bool = False) -> Float[np.ndarray, " n"]:
        """The values of the shortest way for each cell that is left in the data, in the true world or without mud."""
        way = (self.open if through_mud else self.world).distance[self.left]
        return -scale * (1 - GAMMA ** (way - 1)) / (1 - GAMMA)

    def error(self, values: Array, scale: float = 1.0, *, through_mud: bool = False) -> float:
        """Root mean square, over the cells that are left in the data; a regularizer's bias is part of it."""
        off = np.asarray(values)[self.left] - self.truth(scale, through_mud=through_mud)
        return float(np.sqrt(np.mean(off**2)))

    def compact(self, scale: float = 1.0, *, endless: bool = False) -> Compact:
        """The recorded cells alone as a decision problem; `endless`: from the goal on to the start, and so forever.

        A move that was not recorded stays, and has no frequency. Raises `ValueError` where cells dangle.
        """
        if self.dangling.any():
            raise ValueError(f"fence must leave no cell dangling for a problem of its own: given {self.fence!r}.")
        cells = np.flatnonzero(self.left)
        after = np.where(self.frequencies > 0, self.open.next_cell, np.arange(self.open.count)[:, None])[cells]
        arrived = after == self.open.cell(*GOAL)
        start = self.open.first[cells]
        transitions = (after[..., None] == cells) + (arrived[..., None] * start if endless else 0.0)
        rewards = np.where(arrived, 0.0, -scale)
        return Compact(cells, transitions.astype(float), rewards, self.frequencies[cells], start)

    def policy(self, residuals: Array, weight: Weight = "conjugate") -> Float[np.ndarray, "S 4"]:
        """Weighted behavior cloning in closed form, from the residual of each record; see `weighted_policy`."""
        weights = np.zeros_like(self.frequencies)
        weights[self.frequencies > 0] = action_weights(jnp.asarray(residuals), weight)
        return np.asarray(weighted_policy(jnp.asarray(self.frequencies), jnp.asarray(weights)))

    def outcome(self, policy: Float[np.ndarray, "S 4"]) -> Outcome:
        """Exact propagation in the true world."""
        world = self.world
        goal = world.cell(*GOAL)
        # the goal keeps who has arrived
        stays = np.where(np.arange(world.count)[:, None] == goal, goal, world.next_cell)
        moves = jnp.eye(world.count)[stays]
        path = np.asarray(propagated(moves, jnp.asarray(policy), jnp.asarray(world.first), STEPS))
        success = float(path[-1, goal])
        # a step is taken as long as the goal is not reached
        steps = float(np.sum(1 - path[:-1, goal]))
        cells = path.sum(axis=0)
        cells[goal] = success
        return Outcome(success, float(path[-1, world.mask(MUD)].sum()), steps, cells)
