r"""The material point method (MLS-MPM with affine transfers) in two and three dimensions, differentiable by JAX.

Particles carry mass and deformation; momentum is balanced on a grid of `n` nodes an axis over the unit cube, node
:math:`i` at :math:`i / n`. One step with quadratic B-splines :math:`w_{ip}` and arms :math:`d_{ip} = x_i - x_p`:

.. math::
    m_i = \sum_p w_{ip} m_p, \qquad
    m_i v_i = \sum_p w_{ip} \big[ m_p v_p + (m_p C_p - \Delta t\, V_p \tfrac{4}{\Delta x^2} \tau_p)\, d_{ip} \big]
              + \Delta t\, m_i g,

.. math::
    v_p = \sum_i w_{ip} v_i, \qquad C_p = \tfrac{4}{\Delta x^2} \sum_i w_{ip} v_i d_{ip}^\top, \qquad
    x_p \leftarrow x_p + \Delta t\, v_p, \qquad F_p \leftarrow (I + \Delta t\, C_p) F_p,

with the Kirchhoff stress :math:`\tau` and the *undeformed* volume :math:`V`. Lengths are in units of the cube, which
the other units must fit: with meters, :math:`\tau` is in pascal and the density in kilograms per cubic meter.

References
----------
Hu et al., "A moving least squares material point method with displacement discontinuity", SIGGRAPH 2018.

Jiang, Schroeder, Selle, Teran and Stomakhin, "The affine particle-in-cell method", SIGGRAPH 2015.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import at_least, finite, known, not_negative, one_of, positive, same_shape


@dataclass(frozen=True)
class MPMConfig:
    """A grid over the unit cube, and how time passes on it.

    Parameters
    ----------
    n
        Nodes an axis.
    dt
        Seconds a step. Elastic waves must not cross a cell in it: see `courant_number` of the rollouts.
    gravity
        The acceleration; its length is the number of dimensions, 2 or 3.
    bound
        Walls are this many cells from the cube's faces; none with 0.
    boundary
        `"slip"`: at a wall, the velocity's component into it vanishes. `"stick"`: the whole velocity does where it goes
        into it.
    eps
        Added to the mass of each node before momentum is divided by it. It takes momentum away; published training code
        has 1e-7. With 0, only nodes whose mass is rounding are left out.
    margin
        Cells from the cube's faces that particles are kept away by.

    Raises
    ------
    ValueError
        For numbers that make no grid.
    """

    n: int
    dt: float
    gravity: tuple[float, ...] = (0.0, -9.8, 0.0)
    bound: int = 3
    boundary: Literal["slip", "stick"] = "slip"
    eps: float = 0.0
    margin: float = 0.5

    def __post_init__(self) -> None:
        at_least("n", self.n, 4)
        positive("dt", self.dt)
        finite("gravity", tuple(map(float, self.gravity)))
        if self.dim not in (2, 3):
            raise ValueError(f"gravity must have 2 or 3 components, one for each dimension: given {self.gravity}.")
        at_least("bound", self.bound, 0)
        if not self.bound < self.n / 2:
            raise ValueError(f"bound must be from 0 to less than half of n = {self.n}: given {self.bound}.")
        one_of("boundary", self.boundary, ("slip", "stick"))
        not_negative("eps", self.eps)
        if not 0 < self.margin < self.n / 2:
            raise ValueError(f"margin must be positive and less than half of n = {self.n}: given {self.margin}.")

    @property
    def dim(self) -> int:
        """The number of dimensions."""
        return len(self.gravity)

    @property
    def dx(self) -> float:
        """The distance of two nodes."""
        return 1 / self.n

    @cached_property
    def offsets(self) -> Int[np.ndarray, "k dim"]:
        """The nodes of a particle's stencil, from its first one."""
        # of one type in either precision: JAX keeps constants of compiled programs by their identity
        return np.array(list(itertools.product(range(3), repeat=self.dim)), np.int32)

    @cached_property
    def walls(self) -> tuple[Bool[np.ndarray, "nodes dim"], Bool[np.ndarray, "nodes dim"]]:
        """Of each node and axis, whether it is at the lower and at the upper wall."""
        index = np.indices((self.n,) * self.dim).reshape(self.dim, -1).T
        return index < self.bound, index > self.n - self.bound


class Particles(NamedTuple):
    """What of particles does not change: numbers for all, or arrays of one for each."""

    volume: Any
    """Of the undeformed body."""
    density: Any
    """Of the undeformed body."""

    @property
    def mass(self) -> Any:
        """Of a particle."""
        return self.volume * self.density


class MPMState(NamedTuple):
    """What of particles changes."""

    x: Float[Array, "p dim"]
    """Positions."""
    v: Float[Array, "p dim"]
    """Velocities."""
    C: Float[Array, "p dim dim"]
    """The affine field around each, nearly the gradient of the velocity."""
    F: Float[Array, "p dim dim"]
    """Deformation gradients."""


def initial_state(
    config: MPMConfig, x: Float[Array, "p dim"], v: Any = 0.0, *, F: Any = None, C: Any = None
) -> MPMState:
    """Particles at `x` with velocities `v`, undeformed if `F` is not given.

    Raises `ValueError` for positions outside of the cube, shapes that do not fit, and what is not finite.
    """
    x = jnp.asarray(x, jnp.result_type(float, x))
    p, d = x.shape if x.ndim == 2 else (0, 0)
    if d != config.dim:
        raise ValueError(f"x must have the shape (particles, {config.dim}): given {x.shape}.")
    if known(x) and not np.all((np.asarray(x) > 0) & (np.asarray(x) < 1)):
        raise ValueError(f"x must be within the unit cube: given {float(jnp.min(x)):.3g} to {float(jnp.max(x)):.3g}.")
    v = jnp.broadcast_to(jnp.asarray(v, x.dtype), x.shape)
    F = jnp.broadcast_to(jnp.eye(d, dtype=x.dtype), (p, d, d)) if F is None else jnp.asarray(F, x.dtype)
    C = jnp.zeros((p, d, d), x.dtype) if C is None else jnp.asarray(C, x.dtype)
    state = MPMState(x, v, C, F)
    for name, value in zip(("C", "F"), (C, F), strict=True):
        same_shape(name, value, "one matrix a particle", (p, d, d))
    finite("the state", state)
    return state


def lattice(
    low: Sequence[float], high: Sequence[float], counts: Sequence[int], *, faces: bool = True
) -> tuple[np.ndarray, float]:
    """Particles in a block, and the volume of each: so many an axis, on its faces too or in the middle of cells."""
    if not len(low) == len(high) == len(counts):
        raise ValueError(f"low, high and counts must be of one length: given {low}, {high} and {counts}.")
    low, high = np.asarray(low, float), np.asarray(high, float)
    positive("high - low", high - low)
    positive("counts", np.asarray(counts))
    if faces:
        axes = [np.linspace(a, b, count) for a, b, count in zip(low, high, counts, strict=True)]
    else:
        axes = [a + (b - a) * (np.arange(count) + 0.5) / count for a, b, count in zip(low, high, counts, strict=True)]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(counts))
    return x, float(np.prod(high - low) / len(x))


class Stencil(NamedTuple):
    """Where particles meet the grid, a row of `3**dim` nodes for each."""

    nodes: Int[Array, "p k"]
    """Flat indices; those beyond the last node are that of the last."""
    weights: Float[Array, "p k"]
    first: Float[Array, "p dim"]
    """From the first node to the particle, in cells: from 1/2 to 3/2."""


def stencil(config: MPMConfig, x: Float[Array, "p dim"]) -> Stencil:
    """The nodes and weights of particles."""
    base = jax.lax.stop_gradient(jnp.floor(x * config.n - 0.5))
    f = x * config.n - base
    axis_weights = jnp.stack([(1.5 - f) ** 2 / 2, 0.75 - (f - 1) ** 2, (f - 0.5) ** 2 / 2], axis=1)
    along = [axis_weights[:, config.offsets[:, a], a] for a in range(config.dim)]
    weights = along[0] * along[1] if config.dim == 2 else along[0] * along[1] * along[2]
    index = jnp.clip(base.astype(jnp.int32)[:, None, :] + config.offsets, 0, config.n - 1)
    strides = config.n ** np.arange(config.dim - 1, -1, -1, dtype=np.int32)
    return Stencil(index @ strides, weights, f)


def beyond_the_grid(config: MPMConfig, x: Float[Array, "p dim"]) -> Int[Array, ""]:
    """How many particles are so near to a face of the cube that nodes of their stencil do not exist."""
    first = jnp.floor(x * config.n - 0.5)
    return jnp.sum(jnp.any((first < 0) | (first > config.n - 3), axis=1))


def to_grid(
    config: MPMConfig, particles: Particles, at: Stencil, state: MPMState, stress: Float[Array, "p dim dim"]
) -> tuple[Float[Array, " nodes"], Float[Array, "nodes dim"]]:
    """Mass and momentum of each node, before gravity."""
    dtype = state.x.dtype
    count = len(state.x)
    mass = jnp.broadcast_to(jnp.asarray(particles.mass, dtype), (count,))
    volume = jnp.broadcast_to(jnp.asarray(particles.volume, dtype), (count,))
    affine = mass[:, None, None] * state.C - (4 * config.dt / config.dx**2) * volume[:, None, None] * stress
    # m v + A (offset - first) dx, affine in the offset, for all nodes of all particles by one product
    at_base = mass[:, None] * state.v - config.dx * jnp.sum(affine * at.first[:, None, :], axis=2)
    momentum = jnp.concatenate([at_base[:, :, None], config.dx * affine], axis=2) @ _affine_basis(config, dtype).T
    both = jnp.concatenate([jnp.broadcast_to(mass[:, None, None], (count, 1, momentum.shape[2])), momentum], axis=1)
    grid = jnp.zeros((config.n**config.dim, 1 + config.dim), dtype).at[at.nodes].add((at.weights[:, None, :] * both).mT)
    return grid[:, 0], grid[:, 1:]


def grid_velocity(
    config: MPMConfig, mass: Float[Array, " nodes"], momentum: Float[Array, "nodes dim"]
) -> Float[Array, "nodes dim"]:
    """Velocities of nodes after gravity and walls."""
    # what has a mass of rounding only is empty: its velocity would be noise, and has no derivative in float32
    empty = mass <= jnp.finfo(mass.dtype).eps ** 2 * jnp.max(mass)
    v = jnp.where(empty[:, None], 0, momentum / jnp.where(empty, 1, mass + config.eps)[:, None])
    v = v + config.dt * jnp.asarray(config.gravity, v.dtype)
    low, high = config.walls
    into = (low & (v < 0)) | (high & (v > 0))
    if config.boundary == "stick":
        into = jnp.any(into, axis=1, keepdims=True)
    return jnp.where(into, 0, v)


def from_grid(
    config: MPMConfig, at: Stencil, grid: Float[Array, "nodes dim"]
) -> tuple[Float[Array, "p dim"], Float[Array, "p dim dim"]]:
    """Velocities and affine fields of particles; exact for an affine field on the nodes."""
    weighted = at.weights[..., None] * grid[at.nodes]
    moments = weighted.mT @ _affine_basis(config, grid.dtype)
    v, by_offset = moments[:, :, 0], moments[:, :, 1:]
    return v, 4 / config.dx * (by_offset - v[:, :, None] * at.first[:, None, :])


def _affine_basis(config: MPMConfig, dtype: Any) -> np.ndarray:
    """One and the offset, for each node of a stencil."""
    return np.column_stack([np.ones(len(config.offsets)), config.offsets]).astype(dtype)


def step(config: MPMConfig, particles: Particles, state: MPMState, stress: Float[Array, "p dim dim"]) -> MPMState:
    """One step under the Kirchhoff `stress` of each particle. Its `F` is the trial: a return map comes after it."""
    at = stencil(config, state.x)
    grid = grid_velocity(config, *to_grid(config, particles, at, state, stress))
    v, C = from_grid(config, at, grid)
    edge = config.margin * config.dx
    x = jnp.clip(state.x + config.dt * v, edge, 1 - edge)
    return MPMState(x, v, C, state.F + config.dt * C @ state.F)


def linear_momentum(particles: Particles, state: MPMState) -> Float[Array, " dim"]:
    """The sum of mass times velocity."""
    return jnp.sum(jnp.asarray(particles.mass)[..., None] * state.v, axis=0)


def angular_momentum(config: MPMConfig, particles: Particles, state: MPMState) -> Array:
    r"""About the origin, with the part of the affine fields, which a step keeps together with the orbital part:

    .. math:: \sum_p m_p \big[ x_p \times v_p
        + \tfrac{\Delta x^2}{4} (C_{32} - C_{23}, C_{13} - C_{31}, C_{21} - C_{12}) \big].

    A vector in space, a number in the plane.
    """
    x, v, C = state.x, state.v, state.C
    if config.dim == 3:
        spin = jnp.stack([C[:, 2, 1] - C[:, 1, 2], C[:, 0, 2] - C[:, 2, 0], C[:, 1, 0] - C[:, 0, 1]], axis=1)
        mass = jnp.asarray(particles.mass)[..., None]
        return jnp.sum(mass * (jnp.cross(x, v) + config.dx**2 / 4 * spin), axis=0)
    spin = C[:, 1, 0] - C[:, 0, 1]
    return jnp.sum(particles.mass * (x[:, 0] * v[:, 1] - x[:, 1] * v[:, 0] + config.dx**2 / 4 * spin))


def spinning(x: Float[Array, "p 3"], linear: Sequence[float], angular: Sequence[float], center: Any) -> np.ndarray:
    """The velocities of a rigid body in space: `linear + angular × (x - center)`."""
    return np.asarray(linear, float) + np.cross(np.asarray(angular, float), np.asarray(x) - np.asarray(center))
