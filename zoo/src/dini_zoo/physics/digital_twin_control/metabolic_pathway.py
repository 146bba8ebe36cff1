"""A metabolic pathway of single molecules whose end product inhibits its first step."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, known, not_negative, positive, same_shape

from ..agents import AgentArrays
from ..estimators import binomial_log_probability

#: Species of a chain.
SPECIES = 4


def _array(value: Any) -> Array:
    return jnp.asarray(value, float)


def advances(x: Float[Array, " 4"], rates: Float[Array, " 4"], constant: Any, power: Any, dt: float) -> Array:
    """The probability with which a molecule of each species advances in a step: `1 - exp(-k_i(x) dt)`."""
    free = jnp.concatenate([jnp.reciprocal(1 + (x[3:] / constant) ** power), jnp.ones(SPECIES - 1, x.dtype)])
    return -jnp.expm1(-rates * free * dt)


class Cell(NamedTuple):
    """A state."""

    molecules: AgentArrays[Int[Array, " n"]]
    """The species of each, from 1 to 4."""
    entered: Int[Array, ""]
    """In the last step."""
    overflow: Int[Array, ""]
    """Molecules so far that had no slot."""


class MetabolicPathway(eqx.Module):
    r"""Molecules that go through the species 1 to 4, one after the other, in a well mixed cell. Control: the inflow.

    In a step of time `dt` a molecule of species `i` advances to the next one, or leaves from the last, with the
    probability

    .. math:: 1 - e^{-k_i \, dt}, \quad k_1 = \frac{k_0}{1 + (x_4 / K)^h},

    `x` being the counts before the step. As many molecules of species 1 enter as of `draws` independent draws of the
    probability `u dt / draws` succeed; they do not advance in the same step. At the start there are none.

    Parameters
    ----------
    rates
        `(k_0, k_2, k_3, k_4)`, in one over time.
    inhibition
        `K`, a count. With an infinite one there is no inhibition.
    power
        `h`.
    dt
        The time of a step.
    capacity
        Slots for molecules. Those that find none do not enter: `overflow` of the state counts them.
    draws
        The most that can enter in a step: `u dt` must not be more.

    Examples
    --------
    >>> import jax
    >>> from dini_zoo.physics.agents import simulate
    >>> from dini_zoo.physics.policies import constant
    >>> path = simulate(MetabolicPathway(), constant([30.0], 5), jax.random.key(0), 5)
    >>> path.x.shape, bool(path.x[-1].sum() > 3)
    ((6, 4), True)
    """

    rates: Float[Array, " 4"] = eqx.field(converter=_array, default=(1.0, 0.5, 0.5, 0.3))
    inhibition: Float[Array, ""] = eqx.field(converter=_array, default=150.0)
    power: float = eqx.field(static=True, default=2.0)
    dt: float = eqx.field(static=True, default=0.1)
    capacity: int = eqx.field(static=True, default=768)
    draws: int = eqx.field(static=True, default=64)

    def __check_init__(self) -> None:
        at_least("capacity", self.capacity, 1)
        at_least("draws", self.draws, 1)
        positive("dt", self.dt)
        not_negative("rates", self.rates)
        if known(self.inhibition) and not self.inhibition > 0:
            raise ValueError(f"inhibition must be positive: given {self.inhibition}.")
        if self.rates.shape[-1:] != (SPECIES,):
            raise ValueError(f"rates must be {SPECIES} numbers: given the shape {self.rates.shape}.")

    def init(self, key: Array) -> Cell:
        """An empty cell, whatever the key."""
        del key
        molecules = AgentArrays(jnp.zeros(self.capacity, bool), jnp.zeros(self.capacity, int))
        return Cell(molecules, jnp.zeros((), int), jnp.zeros((), int))

    def observe(self, state: Cell) -> Float[Array, " 4"]:
        """The number of molecules of each species."""
        species = jnp.where(state.molecules.alive, state.molecules.values, 0)
        return jnp.sum(species == jnp.arange(1, SPECIES + 1)[:, None], axis=1).astype(float)

    def step(self, state: Cell, control: Float[Array, " 1"], key: Array) -> Cell:
        """One step, with the inflow in molecules per time as the control."""
        same_shape("control", control, "the inflow", (1,))
        chance = jax.random.uniform(key, (self.capacity + self.draws,))
        x, molecules = self.observe(state), state.molecules
        pace = advances(x, self.rates, self.inhibition, self.power, self.dt)
        species = molecules.values
        goes = chance[: self.capacity] < pace.at[species - 1].get(mode="clip")
        moved = molecules.replace(species + goes).remove(goes & (species == SPECIES))
        entering = chance[self.capacity :] < control[0] * self.dt / self.draws
        moved, placed = moved.spawn(jnp.ones(self.draws, species.dtype), entering)
        entered = jnp.sum(entering)
        return Cell(moved, entered, state.overflow + entered - jnp.sum(placed))

    def log_probability(self, state: Cell, control: Float[Array, " 1"], after: Cell) -> Float[Array, ""]:
        """The logarithm of the probability that so many entered, but for a constant."""
        del state
        chance = control * self.dt / self.draws
        return binomial_log_probability(after.entered[None], jnp.array([self.draws]), chance)

    @property
    def mean_field(self) -> PathwayMap:
        """The conditional mean of a step."""
        return PathwayMap(self.rates, self.inhibition, self.power, self.dt)


class PathwayMap(eqx.Module):
    """`E[x' | x, u]` of a pathway, exactly: `x - c + (u dt, c_1, c_2, c_3)` with `c_i = x_i (1 - exp(-k_i(x) dt))`."""

    rates: Float[Array, " 4"]
    inhibition: Float[Array, ""]
    power: float = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, " 4"], u: Float[Array, " 1"]) -> Float[Array, " 4"]:
        """The mean after a step."""
        gone = x * advances(x, self.rates, self.inhibition, self.power, self.dt)
        return x - gone + jnp.concatenate([u * self.dt, gone[:-1]])
