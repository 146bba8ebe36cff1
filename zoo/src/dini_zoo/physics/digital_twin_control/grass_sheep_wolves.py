"""Grass, sheep and wolves on a torus: the standard predators and prey, all of whom act at once.

The rules are those of Wilensky's model; conflicts over a cell are decided by the lowest index.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, not_negative, same_shape

from ..agents import AgentArrays, first_in_cell
from ..estimators import binomial_log_probability


class Animals(NamedTuple):
    """What a sheep or a wolf is."""

    position: Int[Array, "n 2"]
    """Row and column."""
    energy: Float[Array, " n"]


class Events(NamedTuple):
    """What a step did, of sheep and of wolves."""

    removed: Int[Array, " 2"]
    """By the control."""
    starved: Int[Array, " 2"]
    eaten: Int[Array, " 2"]
    """No wolf is."""
    born: Int[Array, " 2"]


class Meadow(NamedTuple):
    """A state."""

    sheep: AgentArrays[Animals]
    wolves: AgentArrays[Animals]
    countdown: Int[Array, " cells"]
    """Steps until the grass of a cell, row by row, is grown; 0 where it is."""
    events: Events
    """Of the last step."""
    overflow: Int[Array, ""]
    """Births so far for which there was no slot."""


def _array(value: Any) -> Array:
    return jnp.asarray(value, float)


class GrassSheepWolves(eqx.Module):
    """Grass, sheep and wolves on a torus of `side × side` cells. Controls: the shares of sheep and wolves removed.

    A step, in this order: each sheep and wolf is removed with the probabilities `u`; all move by a uniform step in
    `{-1, 0, 1}²`, and pay an energy of 1; on each grown cell the sheep of lowest index eats, the cell then takes
    `regrowth` steps, and all other countdowns fall by 1; sheep of negative energy die; on each cell that has both, the
    wolf of lowest index eats the sheep of lowest index; wolves of negative energy die; each animal divides with a
    probability, its energy halved between the two.

    The counts are those of sheep, wolves and grown cells.

    Parameters
    ----------
    side
        Cells along each axis.
    sheep, wolves
        How many there are at the start.
    capacity
        Slots for sheep and for wolves. Births beyond them do not happen: `overflow` of the state counts them.
    food
        Energy that a sheep gets of a cell, and a wolf of a sheep.
    birth
        Probabilities with which a sheep and a wolf divide.
    regrowth
        Steps that eaten grass takes to grow.
    start_energy
        At the start energies are uniform from 0 to these numbers.

    Raises
    ------
    ValueError
        Where the animals of the start have no room.

    Examples
    --------
    >>> import jax
    >>> from dini_zoo.physics.agents import simulate
    >>> from dini_zoo.physics.policies import constant
    >>> meadow = GrassSheepWolves(side=12, sheep=30, wolves=5, capacity=(150, 80))
    >>> path = simulate(meadow, constant([0.0, 0.5], 10), jax.random.key(0), 10)
    >>> path.x.shape, int(path.state.overflow), bool(path.x[-1, 1] < 3)
    ((11, 3), 0, True)
    """

    side: int = eqx.field(static=True, default=40)
    sheep: int = eqx.field(static=True, default=300)
    wolves: int = eqx.field(static=True, default=30)
    capacity: tuple[int, int] = eqx.field(static=True, default=(1536, 768))
    food: Float[Array, " 2"] = eqx.field(converter=_array, default=(4.0, 20.0))
    birth: Float[Array, " 2"] = eqx.field(converter=_array, default=(0.04, 0.05))
    regrowth: int = eqx.field(static=True, default=10)
    start_energy: Float[Array, " 2"] = eqx.field(converter=_array, default=(8.0, 40.0))

    def __check_init__(self) -> None:
        at_least("side", self.side, 1)
        at_least("regrowth", self.regrowth, 1)
        not_negative("birth", self.birth)
        not_negative("start_energy", self.start_energy)
        for name, count, slots in zip(("sheep", "wolves"), (self.sheep, self.wolves), self.capacity, strict=True):
            at_least(name, count, 0)
            if count > slots:
                raise ValueError(f"capacity must have slots for all {count} {name} of the start: given {slots}.")

    def init(self, key: Array) -> Meadow:
        """Animals anywhere, every other cell grown, the others at any stage."""
        counts, cells, none = (self.sheep, self.wolves), self.side**2, jnp.zeros(2, int)
        # one draw for all, as in a step
        chance = jax.random.uniform(key, (3 * sum(counts) + 2 * cells,))
        for_animals, for_grass = chance[: 3 * sum(counts)].reshape(3, -1), chance[3 * sum(counts) :].reshape(2, -1)
        stage = 1 + (self.regrowth * for_grass[1]).astype(int)
        return Meadow(
            self._animals(for_animals[:, : self.sheep], 0),
            self._animals(for_animals[:, self.sheep :], 1),
            jnp.where(for_grass[0] < 0.5, 0, stage),
            Events(none, none, none, none),
            jnp.zeros((), int),
        )

    def _animals(self, chance: Float[Array, "3 n"], kind: int) -> AgentArrays[Animals]:
        position = (self.side * chance[:2].T).astype(int)
        return AgentArrays.of(Animals(position, self.start_energy[kind] * chance[2]), self.capacity[kind])

    def observe(self, state: Meadow) -> Float[Array, " 3"]:
        """The numbers of sheep, wolves and grown cells."""
        counts = (state.sheep.count, state.wolves.count, jnp.sum(state.countdown == 0))
        return jnp.stack(counts).astype(float)

    def step(self, state: Meadow, control: Float[Array, " 2"], key: Array) -> Meadow:
        """One step, with probabilities of removal as the control."""
        same_shape("control", control, "the controls", (2,))
        # one draw for all: each program of random bits costs a second to compile
        chance = jax.random.uniform(key, (3, sum(self.capacity)))
        for_sheep, for_wolves = chance[:, : self.capacity[0]], chance[:, self.capacity[0] :]
        sheep, cull_sheep = self._walk(state.sheep, control[0], for_sheep)
        wolves, cull_wolves = self._walk(state.wolves, control[1], for_wolves)
        sheep_at, wolves_at = self._cell(sheep), self._cell(wolves)
        cells = self.side**2

        grown = state.countdown == 0
        first, grazed = first_in_cell(sheep_at, sheep.alive, cells)
        sheep = self._fed(sheep, first & grown[sheep_at], 0)
        countdown = jnp.where(grown & grazed, self.regrowth, jnp.maximum(state.countdown - 1, 0))
        sheep, starved_sheep = self._starve(sheep)

        prey, has_sheep = first_in_cell(sheep_at, sheep.alive, cells)
        hunter, has_wolf = first_in_cell(wolves_at, wolves.alive, cells)
        wolves = self._fed(wolves, hunter & has_sheep[wolves_at], 1)
        caught = prey & has_wolf[sheep_at]
        sheep = sheep.remove(caught)
        wolves, starved_wolves = self._starve(wolves)

        sheep, born_sheep, lost_sheep = self._divide(sheep, self.birth[0], for_sheep)
        wolves, born_wolves, lost_wolves = self._divide(wolves, self.birth[1], for_wolves)
        events = Events(
            jnp.stack([cull_sheep, cull_wolves]),
            jnp.stack([starved_sheep, starved_wolves]),
            jnp.stack([jnp.sum(caught), 0]),
            jnp.stack([born_sheep, born_wolves]),
        )
        return Meadow(sheep, wolves, countdown, events, state.overflow + lost_sheep + lost_wolves)

    def log_probability(self, state: Meadow, control: Float[Array, " 2"], after: Meadow) -> Float[Array, ""]:
        """The logarithm of the probability that these were removed, of those that there were."""
        before = jnp.stack([state.sheep.count, state.wolves.count])
        return binomial_log_probability(after.events.removed, before, control)

    def _walk(self, animals: AgentArrays[Animals], share: Array, chance: Array) -> tuple[AgentArrays[Animals], Array]:
        """Remove a share, move the others, and take their energy; also how many were removed."""
        culled = animals.alive & (chance[0] < share)
        # one of nine cells, in single precision up to a bias of 1e-6
        move = (9 * chance[1]).astype(int)
        where = (animals.values.position + jnp.stack([move // 3, move % 3], axis=1) - 1) % self.side
        return animals.remove(culled).replace(Animals(where, animals.values.energy - 1)), jnp.sum(culled)

    def _cell(self, animals: AgentArrays[Animals]) -> Int[Array, " n"]:
        position = animals.values.position
        return position[:, 0] * self.side + position[:, 1]

    def _fed(self, animals: AgentArrays[Animals], mask: Array, kind: int) -> AgentArrays[Animals]:
        """Those of a mask have eaten."""
        gain = jnp.where(mask, self.food[kind], 0.0)
        return animals.replace(animals.values._replace(energy=animals.values.energy + gain))

    @staticmethod
    def _starve(animals: AgentArrays[Animals]) -> tuple[AgentArrays[Animals], Array]:
        """Remove those of negative energy; also how many."""
        starved = animals.alive & (animals.values.energy < 0)
        return animals.remove(starved), jnp.sum(starved)

    @staticmethod
    def _divide(
        animals: AgentArrays[Animals], probability: Array, chance: Array
    ) -> tuple[AgentArrays[Animals], Array, Array]:
        """Divide with a probability; also how many were born, and how many had no slot."""
        parents = animals.alive & (chance[2] < probability)
        half = animals.values._replace(energy=animals.values.energy / 2)
        grown, placed = animals.spawn(half, parents)
        # who has no slot for another keeps all energy
        energy = jnp.where(placed, half.energy, grown.values.energy)
        born = jnp.sum(placed)
        return grown.replace(grown.values._replace(energy=energy)), born, jnp.sum(parents) - born
