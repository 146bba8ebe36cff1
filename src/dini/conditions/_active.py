"""The equations of the active constraints of a nonlinear program."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp

from .. import trees
from ._base import Condition


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    return a / jnp.where(b > 0, b, 1)


def margins(problem: Any, x: Any, units: Any, *args: Any) -> tuple[Any, Any, Any]:
    r"""Return how far each inequality, lower and upper bound is active (positive) or inactive (negative).

    The multiplier, as a share of the largest force, less the slack, as a share of the point's size: of the two, one is
    zero at a solution. ``units`` are what :func:`units_at` says.
    """
    force, size, rows = units
    primal, dual = x.primal, x.dual
    lower, upper = problem.bounds(primal)
    inequality = problem.constraints(primal, *args)[1]
    general = None
    if inequality is not None:
        one = lambda m, g, row: m * row / force.astype(m.dtype) + _ratio(g, row) / size.astype(g.dtype)
        general = jax.tree.map(one, dual.inequality, inequality, rows)
    # of a bound that is infinite, any distance will do that is finite
    beyond = lambda m, gap: m / force.astype(m.dtype) + jnp.where(jnp.isfinite(gap), gap / size.astype(m.dtype), -1)
    low = None if lower is None else jax.tree.map(lambda m, u, b: beyond(m, b - u), dual.lower, primal, lower)
    high = None if upper is None else jax.tree.map(lambda m, u, b: beyond(m, u - b), dual.upper, primal, upper)
    return general, low, high


def units_at(problem: Any, x: Any, *args: Any) -> Any:
    """Return the largest force, the size of the point, and the norms of the inequalities' gradients.

    They are constants of differentiation.
    """
    x, problem, args = jax.lax.stop_gradient((x, problem, args))
    primal, dual = x.primal, x.dual
    flat, unravel = jax.flatten_util.ravel_pytree(primal)
    forces = [trees.max_abs(problem.pulled(primal, jax.tree.map(jnp.zeros_like, dual), *args)[0])]
    forces += [trees.max_abs(bound) for bound in dual[2:] if bound is not None]
    rows = None
    if problem.inequality is not None:
        jacobian = jax.jacfwd(lambda u: problem.constraints(unravel(u), *args)[1])(flat)
        rows = jax.tree.map(lambda j: jnp.sqrt(jnp.sum(jnp.square(j), axis=-1)), jacobian)
        forces.append(trees.max_abs(jax.tree.map(jnp.multiply, rows, dual.inequality)))
    force, size = jnp.max(jnp.stack([f.astype(flat.dtype) for f in forces])), trees.max_abs(primal)
    return jnp.where(force > 0, force, 1), jnp.where(size > 0, size, 1), rows


@trees.register
@dataclass(frozen=True)
class ActiveConstraints(Condition):
    r"""The KKT conditions of a :class:`dini.NonlinearProgram`, with its inequalities sorted into active and inactive.

    With :math:`a_j = 1` for an active inequality or bound and zero for another, and the Lagrangian's gradient
    :math:`\nabla_1 L = \nabla_1 f + (\partial_1 h)^\top \nu + (\partial_1 g)^\top (a \circ \lambda) - a \circ z_l +
    a \circ z_u`,

    .. math:: F = \bigl(\nabla_1 L,\; h,\; a \circ g + (1 - a) \circ \lambda,\; a \circ (l - x) + (1 - a) \circ z_l,\;
              a \circ (x - u) + (1 - a) \circ z_u\bigr) .

    Its derivative is symmetric, and invertible where the gradients of the active constraints are independent and the
    Hessian of the Lagrangian is definite on their tangent space. A constraint is active where its multiplier, as a
    share of the largest force on ``x``, is more than its slack, as a share of the size of ``x``; where both vanish, the
    solution has one-sided derivatives only. What is active at ``x`` is held fixed around it.
    """

    active: Any = None
    step_size: Any = None

    def at(self, problem: Any, x: Any, *args: Any) -> ActiveConstraints:
        """Return the condition with the active constraints and the units of their margins settled."""
        units = units_at(problem, x, *args)
        above = jax.lax.stop_gradient(margins(problem, x, units, *args))
        general, low, high = jax.tree.map(lambda m: m > 0, above)
        if low is not None and high is not None:
            lower, upper = problem.bounds(x.primal)
            # of two bounds that are one, either holds the element, and not both
            low = jax.tree.map(lambda a, b, lo, hi: a | ((lo == hi) & ~b), low, high, lower, upper)
            high = jax.tree.map(lambda a, b: b & ~a, low, high)
        return dataclasses.replace(self, active=(general, low, high), step_size=units)

    def settled_like(self, other: ActiveConstraints) -> ActiveConstraints:
        """Return this condition with the active constraints of ``other``."""
        return dataclasses.replace(self, active=other.active, step_size=other.step_size)

    def structure(self, problem: Any) -> Any:
        """Return that the derivative is symmetric."""
        del problem
        return "symmetric"

    def __call__(self, problem: Any, x: Any, *args: Any) -> Any:
        """Return the residuals, a tree like ``x``."""
        if self.active is None:
            return self.at(problem, x, *args)(problem, x, *args)
        general, low, high = self.active
        primal, dual = x.primal, x.dual
        lower, upper = problem.bounds(primal)
        keep = lambda active, m: None if m is None else jax.tree.map(lambda a, v: jnp.where(a, v, 0), active, m)
        held = dual._replace(inequality=keep(general, dual.inequality))
        gradient, (equal, values) = problem.pulled(primal, held, *args)
        choose = lambda active, slack, m: jax.tree.map(jnp.where, active, slack, m)
        rest: dict[str, Any] = {"equality": equal, "inequality": None, "lower": None, "upper": None}
        if values is not None:
            rest["inequality"] = choose(general, values, dual.inequality)
        if lower is not None:
            gradient = trees.sub(gradient, keep(low, dual.lower))
            # an infinite bound is never active: a difference with it must not be formed, its derivative is NaN
            gap = jax.tree.map(lambda a, b, u: jnp.where(a, b, u) - u, low, lower, primal)
            rest["lower"] = choose(low, gap, dual.lower)
        if upper is not None:
            gradient = trees.add(gradient, keep(high, dual.upper))
            gap = jax.tree.map(lambda a, b, u: u - jnp.where(a, b, u), high, upper, primal)
            rest["upper"] = choose(high, gap, dual.upper)
        return x._replace(primal=gradient, dual=dual._replace(**rest))

    def error(self, problem: Any, x: Any, *args: Any) -> jax.Array:
        r"""Return the largest violation of the conditions, relative to the force and the size of the point.

        Unlike the norm of ``F``, it sees an inequality that is violated, and a multiplier with the wrong sign.
        """
        settled = self.at(problem, x, *args)
        force, size, rows = settled.step_size
        left = settled(problem, x, *args)
        primal, dual = x.primal, x.dual
        equal, values = problem.constraints(primal, *args)
        flat, unravel = jax.flatten_util.ravel_pytree(primal)
        parts = [trees.max_abs(left.primal) / force]
        if equal is not None:
            jacobian = jax.jacfwd(lambda u: problem.constraints(unravel(u), *args)[0])(flat)
            slopes = jax.tree.map(lambda j: jnp.sqrt(jnp.sum(jnp.square(j), axis=-1)), jacobian)
            parts.append(trees.max_abs(jax.tree.map(_ratio, equal, slopes)) / size)
        if values is not None:
            over = jax.tree.map(lambda g, row: _ratio(jnp.maximum(g, 0), row), values, rows)
            slack = jax.tree.map(lambda a, g, row: jnp.where(a, _ratio(g, row), 0), settled.active[0], values, rows)
            parts += [trees.max_abs(over) / size, trees.max_abs(slack) / size]
            wrong = jax.tree.map(
                lambda a, m, row: jnp.where(a, jnp.minimum(m, 0), m) * row, settled.active[0], dual.inequality, rows
            )
            parts.append(trees.max_abs(wrong) / force)
        for bound, m, active, sign in zip(problem.bounds(primal), dual[2:], settled.active[1:], (1, -1), strict=True):
            if bound is None:
                continue
            gap = jax.tree.map(lambda b, u, sign=sign: sign * (b - u), bound, primal)
            over = jax.tree.map(lambda a, g: jnp.where(a, g, jnp.maximum(g, 0)), active, gap)
            wrong = jax.tree.map(lambda a, v: jnp.where(a, jnp.minimum(v, 0), v), active, m)
            parts += [trees.max_abs(over) / size, trees.max_abs(wrong) / force]
        return jnp.max(jnp.stack(parts))
