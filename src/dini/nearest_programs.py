r"""The nearest feasible program: what a quadratic program becomes whose constraints contradict one another.

First the right-hand sides are moved by the shift of least length with which some point satisfies all constraints, by a
program in the unknown and the shift,

.. math:: \min_{x, t_b, t_h} \tfrac12 \|t_b\|^2 + \tfrac12 \|t_h\|^2 \quad \text{subject to} \quad
          Ax - t_b = b,\; Gx - t_h \le h,\; l \le x \le u ,

whose shift is unique and whose ``x`` need not be; then the program is solved with these right-hand sides. The moved
rows hold with equality at every feasible point of the second program, since the forces :math:`A^\top t_b + G^\top t_h`
of the first one are balanced by the bounds, and they are dependent: its multipliers are not unique, and the derivative
is solved for as such. A shift that is all rounding is none, and a point that satisfies all rows up to rounding ends the
search: of a program that has a solution, all forces of the first one are rounding errors. The shift is measured in the
size of the rows, so that their units do not decide.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from . import trees
from .conditions._program import HeldKKT
from .differentiation import Differentiation, Implicit
from .linear import MinimumNorm
from .linear._wrappers import UniquePart
from .problems import QuadraticProgram
from .solvers import ActiveSet, Solver, solver
from .solvers.interior._scaled_program import power
from .solving import solve
from .status import OnFailure, Status
from .trees import Tree
from .trees.products import dot


class Shift(NamedTuple):
    """By how much the right-hand sides of equalities and inequalities were moved; ``None`` for none of these."""

    equality: Any
    inequality: Any

    @property
    def size(self) -> Any:
        """The largest shift."""
        sizes = [jnp.max(jnp.abs(part), axis=-1, initial=0) for part in self if part is not None]
        return jnp.maximum(sizes[0], sizes[-1])


class Nearest(NamedTuple):
    """The program with moved right-hand sides, the shift, which inequalities are moved, and how the search ended."""

    problem: QuadraticProgram
    shift: Shift
    held: Any
    figures: Any
    solver: Solver

    def judged(self, figures: jax.Array) -> jax.Array:
        """Return the figures of the second solve, with the status of the first where that failed."""
        failed = self.figures[0] != Status.CONVERGED
        return jnp.where(failed, figures.at[0].set(self.figures[0]), figures)


@solver
class _LeastShift(ActiveSet):
    """The search for the least shift, which a point that needs none ends."""

    @property
    def name(self) -> str:
        """The name for messages: the method's."""
        return "ActiveSet"

    def step(self, problem: QuadraticProgram, x: Tree, state: Any, *args: Tree) -> tuple[Any, Any]:
        """Take one step; its point without a shift is the solution where it satisfies all rows and bounds."""
        x, state = ActiveSet.step(self, problem, x, state, *args)
        n = problem.c.size - sum(side.size for side in (problem.b, problem.h) if side is not None)
        low = -jnp.inf if problem.lower is None else problem.lower
        high = jnp.inf if problem.upper is None else problem.upper
        point = jnp.clip(x.primal, low, high).at[n:].set(0)
        beyond = [] if problem.A is None else [jnp.abs(dot(problem.A, point) - problem.b)]
        beyond += [] if problem.G is None else [dot(problem.G, point) - problem.h]
        fits = jnp.all(jnp.concatenate(beyond) <= jnp.finfo(point.dtype).eps ** 0.75 * _terms(problem, point))
        fits = fits & jnp.all(low <= high) & jnp.all(jnp.isfinite(point))
        x = trees.where(fits, trees.zeros_like(x)._replace(primal=point), x)
        return x, state._replace(
            error=jnp.where(fits, 0, state.error),
            status=jnp.where(fits, Status.RUNNING, state.status).astype(jnp.int32),
            known=state.known & ~fits,
        )


def nearest(problem: QuadraticProgram, differentiation: Differentiation, on_failure: OnFailure) -> Nearest:
    """Return the nearest feasible program."""
    if problem.A is None and problem.G is None:
        raise TypeError("nearest_feasible=True moves b and h: given neither A nor G. It does not move bounds.")
    if type(differentiation) is not Implicit or differentiation.condition is not None:
        raise ValueError(
            "nearest_feasible=True sets the condition of the derivative and needs differentiation=Implicit() without "
            f"one: given {differentiation!r}."
        )
    problem = problem.dense
    n, dtype = problem.c.size, problem.c.dtype
    unit = power(jnp.max(jnp.stack([jnp.max(jnp.abs(M), initial=0) for M in (problem.A, problem.G) if M is not None])))
    unit = jax.lax.stop_gradient(unit)
    m = 0 if problem.b is None else problem.b.size
    p = 0 if problem.h is None else problem.h.size
    zeros, eye = (lambda *shape: jnp.zeros(shape, dtype)), (lambda k: -jnp.eye(k, dtype=dtype))
    free = jnp.full(m + p, jnp.inf, dtype)
    longer = QuadraticProgram(
        Q=jnp.diag(jnp.concatenate([zeros(n), zeros(m + p) + 1])),
        A=None if problem.A is None else jnp.concatenate([problem.A / unit, eye(m), zeros(m, p)], axis=1),
        b=None if problem.b is None else problem.b / unit,
        G=None if problem.G is None else jnp.concatenate([problem.G / unit, zeros(p, m), eye(p)], axis=1),
        h=None if problem.h is None else problem.h / unit,
        lower=None if problem.lower is None else jnp.concatenate([problem.lower, -free]),
        upper=None if problem.upper is None else jnp.concatenate([problem.upper, free]),
    )
    how = Implicit(linear_solver=MinimumNorm())
    found = solve(longer, _LeastShift(), longer.start(), differentiation=how, on_failure=on_failure)
    x, t = found.x.primal[:n], unit * found.x.primal[n:]
    # what rounding leaves of the rows' own terms is no shift
    size = _terms(problem, jax.lax.stop_gradient(x))
    top, eps = jnp.max(jnp.abs(t), initial=0), jnp.finfo(dtype).eps
    moved = jnp.any(jnp.abs(t) > eps**0.75 * size)
    # a moved inequality is moved as far as its multiplier says
    held = moved & (t[m:] > eps**0.5 * top)
    t = jnp.where(moved & (jnp.abs(t) > eps**0.75 * top), t, 0)
    shift = Shift(None if problem.b is None else t[:m], None if problem.h is None else t[m:])
    add = lambda side, part: None if side is None else side + part
    made = dataclasses.replace(problem, b=add(problem.b, shift.equality), h=add(problem.h, shift.inequality))
    return Nearest(made, shift, None if problem.h is None else held, found.figures, ActiveSet())


def second(first: Nearest, differentiation: Any) -> Implicit:
    """Return how the second program is differentiated."""
    linear_solver = differentiation.linear_solver
    linear_solver = UniquePart(balanced=True) if linear_solver is None else linear_solver
    return dataclasses.replace(differentiation, condition=HeldKKT(first.held), linear_solver=linear_solver)


def _terms(problem: QuadraticProgram, x: jax.Array) -> jax.Array:
    """Return the largest term of each row at a point."""
    parts = [(problem.A, problem.b), (problem.G, problem.h)]
    size = lambda M, v: jnp.maximum(jnp.where(jnp.isfinite(v), jnp.abs(v), 0), dot(jnp.abs(M), jnp.abs(x)))
    return jnp.concatenate([size(M, v) for M, v in parts if M is not None])
