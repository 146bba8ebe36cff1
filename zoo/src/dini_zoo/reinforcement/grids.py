r"""Decision problems with finitely many states, and grid worlds: exact values and occupancies, no sample anywhere.

A problem has transitions :math:`P(s' | s, a)`, expected rewards :math:`r(s, a)` and a discount :math:`\gamma`. Where
:math:`\sum_{s'} P(s' | s, a) < 1`, the rest is the probability that the episode *ends* there: a terminal state has no
row and no value. A record that a logger cut is no end: its next state keeps its place in :math:`P`.

Of a policy :math:`\pi(a | s)` the values solve :math:`V = r_\pi + \gamma P_\pi V`, the discounted occupancies
:math:`d(s) = (1 - \gamma) \mu(s) + \gamma \sum_{s_0} d(s_0) P_\pi(s | s_0)`: a linear system each. The optimal values
are a root of :math:`V - \max_a (r + \gamma P V)`, by Newton's method, whose steps are those of policy iteration.
"""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import dataclass
from functools import cached_property

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

import dini
from dini_zoo.kit.checking import at_least, finite, holds, known, same_shape

#: Up, down, left, right, as changes of (row, column).
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


def probabilities(name: str, value: Array, axis: int | None = -1, *, at_most: bool = False) -> None:
    """Raise `ValueError` unless an array that is known holds distributions along an axis; or parts of one."""
    if not known(value):
        return
    value = np.asarray(value)
    sums = value.sum(axis=axis)
    slack = 1e-9 if value.dtype == np.float64 else 1e-4
    whole = np.all(sums <= 1 + slack) if at_most else np.all(np.abs(sums - 1) <= slack)
    if not (np.all(value >= 0) and whole):
        most = "at most one" if at_most else "one"
        raise ValueError(
            f"{name} must be probabilities that add up to {most}: given entries from {value.min():g} to "
            f"{value.max():g} with sums from {np.min(sums):g} to {np.max(sums):g}."
        )


def discount_factor(name: str, value: Array | float) -> None:
    """Raise `ValueError` unless a number that is known is in [0, 1); a traced one makes the result NaN."""
    holds(value, lambda given: (given >= 0) & (given < 1), lambda: f"{name} must be in [0, 1): given {value}.")


class DecisionProblem(eqx.Module):
    """A decision problem of `S` states and `A` actions; raises `ValueError` for what is none."""

    transitions: Float[Array, "S A S"]
    rewards: Float[Array, "S A"]
    discount: Float[Array, ""] | float

    def __check_init__(self) -> None:
        shape = np.shape(self.transitions)
        if len(shape) != 3 or shape[0] != shape[2]:
            raise ValueError(f"transitions must have the shape (S, A, S): given {shape}.")
        same_shape("rewards", self.rewards, "the states and actions", shape[:2])
        finite("rewards", self.rewards)
        probabilities("transitions", self.transitions, at_most=True)
        discount_factor("discount", self.discount)

    def backup(self, values: Float[Array, " S"]) -> Float[Array, "S A"]:
        r"""The values of actions, :math:`r + \gamma P V`."""
        return self.rewards + self.discount * self.transitions @ values


def chain(transitions: Float[Array, "S A S"], policy: Float[Array, "S A"]) -> Float[Array, "S S"]:
    r"""The transitions :math:`P_\pi(s' | s)` of the states under a policy."""
    same_shape("policy", policy, "the states and actions", np.shape(transitions)[:2])
    probabilities("policy", policy)
    return jnp.einsum("sa,sat->st", policy, transitions)


def policy_values(problem: DecisionProblem, policy: Float[Array, "S A"]) -> Float[Array, " S"]:
    r"""The exact values of a policy, :math:`(I - \gamma P_\pi)^{-1} r_\pi`."""
    moves = chain(problem.transitions, policy)
    return jnp.linalg.solve(jnp.eye(len(moves)) - problem.discount * moves, jnp.sum(policy * problem.rewards, axis=1))


def discounted_occupancy(
    problem: DecisionProblem, policy: Float[Array, "S A"], start: Float[Array, " S"]
) -> Float[Array, "S A"]:
    r"""How often states and actions come, discounted and times :math:`1 - \gamma`; of endless episodes the sum is one.

    With rewards :math:`r` the policy's return is :math:`\sum d r / (1 - \gamma)`.
    """
    probabilities("start", start)
    moves = chain(problem.transitions, policy)
    visits = jnp.linalg.solve(jnp.eye(len(moves)) - problem.discount * moves.T, (1 - problem.discount) * start)
    return visits[:, None] * policy


def optimal_values(problem: DecisionProblem) -> Float[Array, " S"]:
    r"""The root of :math:`V - \max_a (r + \gamma P V)`; differentiable where the best action is the only one."""
    # below every policy's values, from where Newton's steps only rise
    least = jnp.minimum(jnp.min(problem.rewards), 0) / (1 - problem.discount)
    start = jnp.broadcast_to(least, problem.rewards.shape[:1])
    return dini.root(lambda v, problem: v - jnp.max(problem.backup(v), axis=1), start, problem).x


def propagated(
    transitions: Float[Array, "S A S"], policy: Float[Array, "S A"], start: Float[Array, " S"], steps: int
) -> Float[Array, "steps+1 S"]:
    """The probability of each state after 0, 1, ... steps; what is missing in a sum is in episodes that have ended."""
    at_least("steps", steps, 0)
    probabilities("start", start)
    moves = chain(transitions, policy)
    return _powers(moves, jnp.asarray(start, moves.dtype), steps)


@functools.partial(jax.jit, static_argnums=2)
def _powers(moves: Array, start: Array, steps: int) -> Array:
    """The start times each power of a matrix."""
    last, before = jax.lax.scan(lambda now, _: (now @ moves, now), start, length=steps)
    return jnp.concatenate([before, last[None]])


def visits(
    transitions: Float[Array, "S A S"], policy: Float[Array, "S A"], start: Float[Array, " S"], steps: int
) -> Float[Array, "S A"]:
    """The expected number of times that an action is taken in a state within so many steps."""
    at_least("steps", steps, 1)
    return jnp.sum(propagated(transitions, policy, start, steps)[:-1], axis=0)[:, None] * policy


# grid worlds


@dataclass(frozen=True)
class Grid:
    """Cells in rows and columns; a move into a wall or off the grid stays, and a trap cannot be left.

    Cells are numbered row by row, walls among them. Raises `ValueError` for a start or goal off the grid or in a wall.
    """

    height: int
    width: int
    start: tuple[int, int]
    goal: tuple[int, int]
    walls: frozenset[tuple[int, int]] = frozenset()
    traps: frozenset[tuple[int, int]] = frozenset()

    def __post_init__(self) -> None:
        at_least("height", self.height, 1)
        at_least("width", self.width, 1)
        for name in ("start", "goal"):
            cell = getattr(self, name)
            if not self.free(*cell):
                raise ValueError(f"{name} must be a cell of the grid that is no wall: given {cell}.")

    def free(self, row: int, column: int) -> bool:
        """Whether it is a cell of the grid and no wall."""
        return 0 <= row < self.height and 0 <= column < self.width and (row, column) not in self.walls

    def cell(self, row: int, column: int) -> int:
        """A cell's number."""
        return row * self.width + column

    @property
    def count(self) -> int:
        """Of cells, walls among them."""
        return self.height * self.width

    @cached_property
    def places(self) -> Int[np.ndarray, "S 2"]:
        """Row and column of each cell."""
        return np.stack(np.divmod(np.arange(self.count), self.width), axis=1)

    @cached_property
    def next_cell(self) -> Int[np.ndarray, "S 4"]:
        """Where each move leads; walls and traps stay where they are."""
        found = np.repeat(np.arange(self.count)[:, None], len(MOVES), axis=1)
        for row, column in self.places.tolist():
            if self.free(row, column) and (row, column) not in self.traps:
                for i, (down, right) in enumerate(MOVES):
                    if self.free(row + down, column + right):
                        found[self.cell(row, column), i] = self.cell(row + down, column + right)
        return found

    @cached_property
    def distance(self) -> Float[np.ndarray, " S"]:
        """Moves to the goal, infinite where no way leads to it: a breadth-first search."""
        sources = [set[int]() for _ in range(self.count)]
        for cell, targets in enumerate(self.next_cell.tolist()):
            for target in targets:
                sources[target].add(cell)
        found = np.full(self.count, np.inf)
        found[self.cell(*self.goal)] = 0
        waiting = deque([self.cell(*self.goal)])
        while waiting:
            here = waiting.popleft()
            for cell in sources[here]:
                if np.isinf(found[cell]):
                    found[cell] = found[here] + 1
                    waiting.append(cell)
        return found

    @cached_property
    def nearer(self) -> Bool[np.ndarray, "S 4"]:
        """Which moves lead nearer to the goal."""
        return self.distance[self.next_cell] < self.distance[:, None]

    @property
    def first(self) -> Float[np.ndarray, " S"]:
        """All probability in the start."""
        return np.eye(self.count)[self.cell(*self.start)]

    def mask(self, cells: frozenset[tuple[int, int]]) -> Bool[np.ndarray, " S"]:
        """Which cells are among these."""
        return np.array([tuple(place) in cells for place in self.places.tolist()])

    def transitions(self, ends: Bool[np.ndarray, " S"] | None = None) -> Float[np.ndarray, "S 4 S"]:
        """Probabilities of next cells; a move into one of `ends`, by default the goal alone, ends the episode."""
        stops = self.mask(frozenset([self.goal])) if ends is None else ends
        return np.eye(self.count)[self.next_cell] * ~stops

    def problem(self, discount: float, step: float = -1.0, goal: float = 0.0) -> DecisionProblem:
        """A reward for each step, and another for the one into the goal, which ends the episode."""
        rewards = np.where(self.next_cell == self.cell(*self.goal), goal, step)
        return DecisionProblem(jnp.asarray(self.transitions()), jnp.asarray(rewards, float), discount)


def toward_goal(grid: Grid, greedy: float) -> Float[np.ndarray, "S 4"]:
    """A policy that takes one of the moves nearer to the goal with probability `greedy`, and else any move."""
    if not 0 <= greedy <= 1:
        raise ValueError(f"greedy must be in [0, 1]: given {greedy}.")
    good = np.where(grid.nearer.any(axis=1, keepdims=True), grid.nearer, True)
    return (1 - greedy) / len(MOVES) + greedy * good / good.sum(axis=1, keepdims=True)
