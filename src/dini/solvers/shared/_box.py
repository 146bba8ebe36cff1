"""What solvers for bounds on each element share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ... import scaling, trees
from ...protocols import AnyProblem, Composed, Minimization
from ...sets._boxes import bounds_of, has_bounds
from ...trees import Tree
from .._base import Solver
from ._line_method import LineMethod, State


class Box(NamedTuple):
    """The bounds of an unknown that is seen as one vector, and the way back to its tree."""

    lower: Any
    upper: Any
    unravel: Callable[[Any], Any]

    def project(self, x: Tree) -> Any:
        """Clip a vector to the bounds; NaN passes, from the point as from the bounds."""
        inside = jnp.where(x < self.upper, x, self.upper)
        return jnp.where(x != x, x, jnp.where(x > self.lower, inside, self.lower))

    def longest(self, x: Tree, direction: Tree) -> Any:
        """Return the longest step along a direction that keeps the bounds (infinity if all do)."""
        room = jnp.where(direction > 0, self.upper - x, self.lower - x)
        moves = direction != 0
        return jnp.min(jnp.where(moves, room / jnp.where(moves, direction, 1), jnp.inf), initial=jnp.inf)


def projected_gradient(x: Tree, gradient: Tree, lower: Any, upper: Any, curvature: Any) -> Any:
    """Return the negative gradient with each element cut off at the room that there is for it.

    What counts of the room is how much the gradient can change on the way: in units of the gradient, the room times the
    curvature. Near a bound in small units every point is near a solution, and yet its gradient need not be small.
    An infinite curvature, where none is known, lets only a bound itself stop the gradient.
    """
    # a measure, a constant of differentiation: zero times infinity would be NaN there
    x, gradient, lower, upper, curvature = jax.lax.stop_gradient((x, gradient, lower, upper, curvature))
    up, down = upper - x, lower - x
    up, down = (jnp.where(room == 0, 0, room * curvature) for room in (up, down))
    # NaN passes
    return jnp.where(-gradient > up, up, jnp.where(-gradient < down, down, -gradient))


def box_of(problem: AnyProblem, x: Tree) -> Box:
    """Return the bounds of a problem, as vectors."""
    lower, upper = bounds_of(problem.constraint, x)
    flat, unravel = ravel_pytree(x)
    dtype = trees.real_dtype(x)
    down = lambda w: unravel(w.astype(flat.dtype))
    low, high = (ravel_pytree(bound)[0].astype(dtype) for bound in (lower, upper))
    # where traced bounds cross, the box is empty
    return Box(jnp.where(low <= high, low, jnp.nan), high, down)


def flatten(x: Tree) -> jax.Array:
    """Return a tree as one vector of at least single precision."""
    return ravel_pytree(x)[0].astype(trees.real_dtype(x))


class BoxSolver(Solver):
    """Base of the solvers for smooth functions with bounds, which see the unknown as one vector."""

    composite = True
    monotone = True

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Raise unless the problem's constraint, if it has one, is a box."""
        super().check(problem, x)
        constraint, penalty = problem.constraint, problem.penalty
        if penalty is not None:
            raise TypeError(
                f"{self.name} takes bounds and no penalty: given {penalty.name} of {problem.name}. "
                "Use ProximalGradient or BlockCoordinateDescent."
            )
        if constraint is not None and not has_bounds(constraint):
            raise TypeError(
                f"{self.name} takes bounds on each element (dini.sets Box, NonNegative, Hypercube, LInfBall, and "
                f"products of them): given {constraint.name} of {problem.name}. Use ProjectedGradient."
            )


class BoxLineMethod(BoxSolver, LineMethod):
    """Base of the methods that search along directions within bounds."""

    def begin(self, problem: Minimization, x: Tree, scales: Tree | None, args: tuple[Tree, ...]) -> Any:
        """Return the state before the first step; scales are powers of two, so that bounds are met exactly."""
        return super().begin(problem, x, None if scales is None else scaling.evened(scales), args)

    def trial(self, problem: Minimization, x: Tree, state: State, share: Any) -> tuple[Tree, Tree]:
        """Return the point at a multiple of the direction, within the bounds, and the move in scaled variables."""
        box, d = box_of(problem, x), flatten(state.scaling)
        point = box.unravel(box.project(flatten(x) + d * (share * flatten(state.direction))))
        return point, jax.tree.map(lambda new, u, c: (new - u) / c, point, x, state.scaling)

    def forces(self, problem: Composed, x: Tree, state: State) -> tuple[Tree, Tree]:
        """Return what the bounds leave of the gradient, in both units."""
        box, d = box_of(problem, x), flatten(state.scaling)
        inside = flatten(x) / d, d * flatten(state.gradient), box.lower / d, box.upper / d
        left = -projected_gradient(*inside, 1.0)
        return box.unravel(left / d), box.unravel(left)
