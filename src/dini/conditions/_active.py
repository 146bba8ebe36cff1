"""The equations of the active constraints of a nonlinear program."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..linear import DENSE_LIMIT
from ..protocols import Constrained
from ..trees import Tree
from ..trees.products import dot
from ._activity import active
from ._base import Condition


def _nonzero(a: jax.Array) -> jax.Array:
    return jnp.where(a > 0, a, 1)


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    return a / _nonzero(b)


def margins(problem: Constrained, x: Tree, units: Any, *args: Tree) -> tuple[Any, Any, Any]:
    r"""Return how far each inequality, lower and upper bound is active (positive) or inactive (negative).

    The multiplier, as a share of the largest force, less the slack, as a share of the point's size: of the two, one is
    zero at a solution. ``units`` are what :func:`units_at` says.
    """
    force, size, rows = units
    primal, dual = x.primal, x.dual
    inequality = problem.constraints(primal, *args)[1]
    general = None
    if inequality is not None:
        one = lambda m, g, row: m * row / force.astype(m.dtype) + _ratio(g, row) / size.astype(g.dtype)
        general = jax.tree.map(one, dual.inequality, inequality, rows)
    if dual.bounds is None:
        return general, None, None
    lower, upper = problem.bounds(primal)
    # of a bound that is infinite, any distance will do that is finite
    slack = lambda gap: jnp.where(jnp.isfinite(gap), gap / size.astype(gap.dtype), -1)
    low = jax.tree.map(lambda w, u, b: slack(b - u) - w / force.astype(w.dtype), dual.bounds, primal, lower)
    high = jax.tree.map(lambda w, u, b: slack(u - b) + w / force.astype(w.dtype), dual.bounds, primal, upper)
    return general, low, high


def units_at(problem: Constrained, x: Tree, *args: Tree) -> Any:
    """Return the largest force, the size of the point, and the norms of the inequalities' gradients.

    They are constants of differentiation.
    """
    x, problem, args = jax.lax.stop_gradient((x, problem, args))
    primal, dual = x.primal, x.dual
    flat, unravel = jax.flatten_util.ravel_pytree(primal)
    forces = [trees.max_abs(problem.pulled(primal, jax.tree.map(jnp.zeros_like, dual), *args)[0])]
    if dual.bounds is not None:
        forces.append(trees.max_abs(dual.bounds))
    rows = None
    if problem.inequality is not None:
        jacobian = jax.jacfwd(lambda u: problem.constraints(unravel(u), *args)[1])(flat)
        rows = jax.tree.map(lambda j: jnp.sqrt(jnp.sum(jnp.square(j), axis=-1)), jacobian)
        forces.append(trees.max_abs(jax.tree.map(jnp.multiply, rows, dual.inequality)))
    if problem.part is not None:
        # what a set or a penalty holds, the gradients of the constraints push against
        forces.append(trees.max_abs(problem.pulled(primal, dual, *args)[0]))
    size = trees.max_abs(primal)
    size = jnp.where(size > 0, size, 1)
    # where no force is left, that of a point which is wrong by its own size
    along = trees.scale(size, trees.scattered(primal))
    curved = jax.jvp(lambda u: problem.pulled(u, dual, *args)[0], (primal,), (along,))[1]
    forces.append(trees.max_abs(curved))
    force = jnp.max(jnp.stack([f.astype(flat.dtype) for f in forces]))
    return jnp.where(force > 0, force, 1), size, rows


def step_of(units: Any) -> Any:
    """Return the step size of a proximal step in which the largest force moves the point by its own size."""
    force, size, _ = units
    return size / force


@record
class ActiveConstraints(Condition):
    r"""The KKT conditions of a :class:`dini.NonlinearProgram`, with its inequalities sorted into active and inactive.

    With :math:`a_j = 1` for an active inequality or bound and zero for another, and the Lagrangian's gradient
    :math:`\nabla_1 L = \nabla_1 f + (\partial_1 h)^\top \nu + (\partial_1 g)^\top (a \circ \lambda) + a \circ w`,

    .. math:: F = \bigl(\nabla_1 L,\; h,\; a \circ g + (1 - a) \circ \lambda,\; a \circ (x - b) + (1 - a) \circ w\bigr)

    where :math:`b` is the bound that is active. With a set or a penalty in place of bounds, the first part is
    :math:`\eta^{-1} (x - \mathrm{prox}_{\eta g}(x - \eta \nabla_1 L))`, where :math:`\eta` is the size of ``x``
    over the largest force.

    Its derivative is symmetric (with a set or a penalty it is not), and invertible where the gradients of the active
    constraints are independent and the Hessian of the Lagrangian is definite on their tangent space. A constraint is
    active where its multiplier, as a share of the largest force on ``x``, is more than its slack, as a share of the
    size of ``x``; where both vanish, the solution has one-sided derivatives only. What is active at ``x`` is held fixed
    around it.
    """

    active: Any = None
    step_size: Any = None

    def at(self, problem: Constrained, x: Tree, *args: Tree) -> ActiveConstraints:
        """Return the condition with the active constraints and the units of their margins fixed."""
        units = units_at(problem, x, *args)
        above = jax.lax.stop_gradient(margins(problem, x, units, *args))
        general, low, high = jax.tree.map(lambda m: active(m, 0, -jnp.inf), above)
        if low is not None:
            lower, upper = problem.bounds(x.primal)
            # of two bounds that are one, either holds the element, and not both
            low = jax.tree.map(lambda a, b, lo, hi: a | ((lo == hi) & ~b), low, high, lower, upper)
            high = jax.tree.map(lambda a, b: b & ~a, low, high)
        return dataclasses.replace(self, active=(general, low, high), step_size=units)

    def settled_like(self, other: ActiveConstraints) -> ActiveConstraints:
        """Return this condition with the active constraints of ``other``."""
        return dataclasses.replace(self, active=other.active, step_size=other.step_size)

    def structure(self, problem: Constrained) -> Any:
        """Return that the derivative is symmetric, where nothing is projected."""
        return "symmetric" if problem.part is None else None

    def __call__(self, problem: Constrained, x: Tree, *args: Tree) -> Tree:
        """Return the residuals, a tree like ``x``."""
        if self.active is None:
            return self.at(problem, x, *args)(problem, x, *args)
        general, low, high = self.active
        primal, dual = x.primal, x.dual
        keep = lambda active, m: jax.tree.map(lambda a, v: jnp.where(a, v, 0), active, m)
        choose = lambda active, slack, m: jax.tree.map(jnp.where, active, slack, m)
        held = dual if general is None else dual._replace(inequality=keep(general, dual.inequality))
        gradient, (equal, values) = problem.pulled(primal, held, *args)
        rest: dict[str, Any] = {"equality": equal}
        if general is not None:
            rest["inequality"] = choose(general, values, dual.inequality)
        if low is not None:
            lower, upper = problem.bounds(primal)
            either = jax.tree.map(jnp.logical_or, low, high)
            gradient = trees.add(gradient, keep(either, dual.bounds))
            # an infinite bound is never active: a difference with it must not be formed, its derivative is NaN
            bound = jax.tree.map(
                lambda a, b, lo, hi, u: jnp.where(a, lo, jnp.where(b, hi, u)), low, high, lower, upper, primal
            )
            rest["bounds"] = choose(either, trees.sub(primal, bound), dual.bounds)
        if problem.part is not None:
            eta = step_of(self.step_size)
            gradient = trees.scale(
                1 / eta, trees.sub(primal, problem.part_prox(trees.axpy(-eta, gradient, primal), eta))
            )
        return x._replace(primal=gradient, dual=dual._replace(**rest))

    def sound(self, problem: Constrained, x: Tree, *args: Tree) -> Any:
        r"""Return whether the Hessian of the Lagrangian is positive definite on the active constraints' tangent space.

        With the projector :math:`P` onto it, and a positive :math:`\sigma`, where :math:`P H P + \sigma (I - P)` is.
        Above the sizes at which matrices are made, and with a set or a penalty, there is no such check.
        """
        if problem.part is not None or trees.size(x) > DENSE_LIMIT:
            return True
        general, low, high = self.active
        x, problem, args = jax.lax.stop_gradient((x, problem, args))
        flat, unravel = jax.flatten_util.ravel_pytree(x.primal)
        ravel = lambda tree: jax.flatten_util.ravel_pytree(tree)[0].astype(flat.dtype)
        hessian = jax.jacfwd(lambda u: ravel(problem.pulled(unravel(u), x.dual, *args)[0]))(flat)
        rows = jax.jacfwd(lambda u: ravel(problem.constraints(unravel(u), *args)))(flat)
        equalities = rows.shape[0] - ravel(general).size
        tight = jnp.concatenate([jnp.ones(equalities, bool), ravel(general) > 0])
        pins = jnp.zeros(flat.size, bool) if low is None else (ravel(low) > 0) | (ravel(high) > 0)
        # units of the unknown in which rows of the Hessian are of one size
        size = jnp.max(jnp.abs(hessian), axis=1, initial=0)
        unit = 1 / jnp.sqrt(jnp.where(size > 0, size, jnp.where(jnp.max(size) > 0, jnp.max(size), 1)))
        hessian = hessian * unit[:, None] * unit[None, :]
        rows = jnp.where(tight[:, None] & ~pins[None, :], rows * unit[None, :], 0)
        rows = rows / _nonzero(jnp.sqrt(jnp.sum(jnp.square(rows), axis=1)))[:, None]
        # an orthonormal basis of the gradients, up to those that are dependent: these make the system singular
        values, vectors = jnp.linalg.eigh(dot(rows.T, rows))
        kept = values > flat.size * trees.eps(flat) * _nonzero(jnp.max(values, initial=0))
        normal = jnp.where(kept[None, :], vectors, 0)
        tangent = jnp.diag(jnp.where(pins, 0, 1).astype(flat.dtype)) - dot(normal, normal.T)
        sigma = _nonzero(jnp.max(jnp.abs(hessian), initial=0))
        matrix = dot(dot(tangent, 0.5 * (hessian + hessian.T)), tangent) + sigma * (
            jnp.eye(flat.size, dtype=flat.dtype) - tangent
        )
        return jnp.all(jnp.isfinite(jnp.linalg.cholesky(matrix))) | ~jnp.all(jnp.isfinite(matrix))

    def error(self, problem: Constrained, x: Tree, *args: Tree) -> jax.Array:
        r"""Return the largest violation of the conditions, relative.

        That of a constraint is relative to its own terms, :math:`\sum_i |\partial_i c| |x_i|`, a force relative to the
        largest, and what it does where its element moves by its own size, beside the largest force times its element.

        Unlike the norm of ``F``, it sees an inequality that is violated, and a multiplier with the wrong sign.
        """
        fixed = self.at(problem, x, *args)
        force, size, rows = fixed.step_size
        left = fixed(problem, x, *args)
        primal, dual = x.primal, x.dual
        equal, values = problem.constraints(primal, *args)
        flat, unravel = jax.flatten_util.ravel_pytree(primal)
        work = _work(problem, x, fixed.step_size, *args)
        own = jax.tree.map(lambda f, u: f * u, left.primal, primal)
        parts = [trees.max_abs(left.primal) / force, trees.max_abs(own) / work]
        jacobian = jax.jacfwd(lambda u: problem.constraints(unravel(u), *args))(flat)
        least = trees.eps(primal) ** 0.5 * size

        def beside(c: jax.Array, slopes: jax.Array) -> jax.Array:
            """Return a violation relative to the terms of its own constraint."""
            row = jnp.sqrt(jnp.sum(jnp.square(slopes), axis=-1))
            return _ratio(c, jnp.maximum(dot(jnp.abs(slopes), jnp.abs(flat)), least * row))

        if equal is not None:
            parts.append(trees.max_abs(jax.tree.map(beside, equal, jacobian[0])))
        if values is not None:
            over = jax.tree.map(
                lambda g, a, j: beside(jnp.where(a, g, jnp.maximum(g, 0)), j), values, fixed.active[0], jacobian[1]
            )
            parts.append(trees.max_abs(over))
            wrong = jax.tree.map(
                lambda a, m, row: jnp.where(a, jnp.minimum(m, 0), m) * row, fixed.active[0], dual.inequality, rows
            )
            parts.append(trees.max_abs(wrong) / force)
            idle = jax.tree.map(lambda a, m, g: jnp.where(a, 0, m * g), fixed.active[0], dual.inequality, values)
            parts.append(trees.max_abs(idle) / work)
        if dual.bounds is not None:
            lower, upper = problem.bounds(primal)
            over = jax.tree.map(lambda lo, hi, u: jnp.maximum(jnp.maximum(lo - u, u - hi), 0), lower, upper, primal)
            held = jax.tree.map(
                lambda a, b, w: jnp.where(a, jnp.maximum(w, 0), jnp.where(b, jnp.minimum(w, 0), w)),
                *fixed.active[1:],
                dual.bounds,
            )
            # an element without room may be pushed to either side
            wrong = jax.tree.map(lambda lo, hi, w: jnp.where(lo == hi, 0, w), lower, upper, held)
            tight = jax.tree.map(lambda a, b, gap: jnp.where(a | b, gap, 0), *fixed.active[1:], left.dual.bounds)
            parts += [trees.max_abs(over) / size, trees.max_abs(tight) / size, trees.max_abs(wrong) / force]
        return jnp.max(jnp.stack(parts))


def _work(problem: Constrained, x: Tree, units: Any, *args: Tree) -> jax.Array:
    """Return the largest force times the element that it pulls at."""
    force, size, _ = units
    primal, dual, eps = x.primal, x.dual, trees.eps(x.primal)
    own = jax.tree.map(lambda u: jnp.maximum(jnp.abs(u), eps * size), primal)
    along = jax.tree.map(jnp.multiply, own, trees.scattered(primal))
    free = jax.tree.map(jnp.zeros_like, dual)
    forces = [
        problem.pulled(primal, free, *args)[0],
        jax.jvp(lambda u: problem.pulled(u, dual, *args)[0], (primal,), (along,))[1],
    ]
    forces += [] if dual.bounds is None else [dual.bounds]
    most = [trees.max_abs(jax.tree.map(jnp.multiply, each, own)) for each in forces]
    return jnp.clip(jnp.max(jnp.stack(most)), eps * force * size, force * size)
