r"""How a packing moves with the diameter of half of its disks: four ways to :math:`\partial x^\star(\theta)`.

At a minimum of the energy the forces vanish, :math:`F(x, \theta) = \nabla_1 E(x, \theta) = 0`, and along the minima
:math:`\nabla_1^2 E\; \partial x = -\partial_\theta \nabla_1 E`. The matrix is singular: moving all disks alike, or a
rattler, costs no energy. The right-hand side does no work along such motions, so the system has solutions; the shortest
has none of them in it. Krylov methods that start at zero find that one, since they never leave the matrix's range.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import positive
from dini_zoo.kit.modes import distance

from .packing import energy, overlaps, packing

Disks = Float[np.ndarray, "n 2"]

#: The derivative by the implicit function theorem, its singular system solved by BiCGStab from zero.
IMPLICIT = dini.Implicit(linear_solver=dini.linear.BiCGStab(rtol=1e-10))

#: Eigenvalues of the Hessian below it count as zero. The smallest others are near 1e-3, those of rounding near 1e-16.
ZERO = 1e-9


@jax.jit
def implicit(
    start: Float[Array, "n 2"], theta: Float[Array, ""] | float, side: float, solver: dini.Solver
) -> tuple[dini.Solution, Float[Array, "n 2"]]:
    """Pack from a start; the solution and its derivative in `theta`. A solve of either that fails raises."""

    def solve(theta: Array) -> tuple[Array, dini.Solution]:
        solution = dini.solve(packing, solver, start, theta, side, differentiation=IMPLICIT)
        return solution.x, solution

    _, dx, solution = jax.jvp(solve, (jnp.asarray(theta),), (jnp.ones(()),), has_aux=True)
    return solution, dx


def minimum_norm(x: Disks, theta: float, side: float) -> tuple[Disks, Float[np.ndarray, " 2n"]]:
    """The shortest solution of the linear system, from NumPy and all of the Hessian, and its eigenvalues."""
    positive("theta", theta)
    positive("side", side)
    hessian, mixed = _derivatives(x, theta, side)
    values, vectors = np.linalg.eigh(np.asarray(hessian).reshape(x.size, x.size))
    kept = np.abs(values) > ZERO
    along = vectors[:, kept].T @ np.asarray(mixed).ravel() / values[kept]
    return -(vectors[:, kept] @ along).reshape(x.shape), values


@jax.jit
def _derivatives(x: Array, theta: float, side: float) -> tuple[Array, Array]:
    return jax.hessian(energy)(x, theta, side), jax.jacfwd(jax.grad(energy), argnums=1)(x, jnp.asarray(theta), side)


def central_difference(x: Disks, theta: float, side: float, solver: dini.Solver, width: float) -> Disks:
    """By packing again from `x` with other diameters. What all disks do alike is taken out."""
    there, back = (np.asarray(_pack(x, theta + h, side, solver)) for h in (width, -width))
    dx = (there - back) / (2 * width)
    return dx - dx.mean(axis=0)


@jax.jit
def _pack(start: Array, theta: float, side: float, solver: dini.Solver) -> Array:
    return dini.solve(packing, solver, start, theta, side).x


class Unrolled(NamedTuple):
    """The derivative of a solver's points, after the last step, and its size and that of the force along the way."""

    dx: Disks
    sizes: Float[np.ndarray, " steps"]
    """Sums of the absolute values."""
    forces: Float[np.ndarray, " steps"]


def unroll(start: Disks, theta: float, side: float, solver: dini.Solver, steps: int) -> Unrolled:
    """Differentiate so many steps of a solver."""
    return Unrolled(*map(np.asarray, _unroll(start, theta, side, solver, steps)))


@partial(jax.jit, static_argnames="steps")
def _unroll(start: Array, theta: float, side: float, solver: dini.Solver, steps: int) -> tuple[Array, Array, Array]:
    def step(carry: tuple[Array, NamedTuple], theta: Array) -> tuple[Array, NamedTuple]:
        return solver.step(packing, *carry, theta, side)

    one = jnp.ones(())
    theta = jnp.asarray(theta)
    begin = lambda theta: (start, solver.init(packing, start, theta, side))

    def advance(both: tuple[tuple, tuple], _: None) -> tuple[tuple, tuple[Array, Array]]:
        # the steps' derivatives beside the steps: the same as to differentiate the whole loop, with a view inside
        (x, state), (dx, dstate) = jax.jvp(step, (both[0], theta), (both[1], one))
        return ((x, state), (dx, dstate)), (jnp.sum(jnp.abs(dx)), state.error)

    (_, (dx, _)), (sizes, forces) = jax.lax.scan(advance, jax.jvp(begin, (theta,), (one,)), None, length=steps)
    return dx, sizes, forces


class Start(NamedTuple):
    """What was found from one start."""

    x: Disks
    steps: int
    error: float
    """The norm of the force at `x`."""
    rattlers: Float[np.ndarray, " n"]
    """Whether each disk touches no other."""
    zero_modes: int
    """Motions without a cost: two for all disks together, two for each rattler."""
    implicit: Disks
    minimum_norm: Disks
    difference: Disks
    unrolled: Unrolled

    @property
    def to_minimum_norm(self) -> float:
        """The relative distance of the implicit derivative from the dense one."""
        return distance(self.implicit, self.minimum_norm)

    @property
    def to_difference(self) -> float:
        """The relative distance of the central difference from the implicit derivative."""
        return distance(self.difference, self.implicit)

    @property
    def unrolled_error(self) -> float:
        """The relative distance of the unrolled derivative from the implicit one."""
        return distance(self.unrolled.dx, self.implicit)

    @property
    def unrolled_excess(self) -> float:
        """By how much the size of the unrolled derivative is off, relative to that of the implicit one."""
        return abs(size(self.unrolled.dx) / size(self.implicit) - 1)


def size(dx: Disks) -> float:
    """The sum of the absolute values."""
    return float(np.abs(dx).sum())


def examine(start: Disks, theta: float, side: float, solver: dini.Solver, steps: int, width: float) -> Start:
    """Pack from a start, and take all four derivatives."""
    solution, dx = implicit(start, theta, side, solver)
    x = np.asarray(solution.x)
    dense, values = minimum_norm(x, theta, side)
    return Start(
        x=x,
        steps=int(solution.stats.steps),
        error=float(solution.stats.error),
        rattlers=~np.asarray(overlaps(x, theta, side) > 0).any(axis=1),
        zero_modes=int(np.sum(np.abs(values) < ZERO)),
        implicit=np.asarray(dx),
        minimum_norm=dense,
        difference=central_difference(x, theta, side, solver, width),
        unrolled=unroll(start, theta, side, solver, steps),
    )
