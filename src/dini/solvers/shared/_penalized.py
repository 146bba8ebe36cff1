"""The augmented Lagrangian of a nonlinear program, and how far a point is from a solution, without matrices."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ... import trees
from ...checks.records import record
from ...problems import PrimalDual
from ...trees import Scalar, Tree
from ...trees.products import dot
from ..interior._program_view import Units, View

#: how many random vectors estimate the terms of each constraint
_PROBES = 6


@record
class Augmented:
    """The augmented Lagrangian in units of the start, a function of ``(x, *args)``."""

    problem: Any
    units: Units
    y: jax.Array
    rho: jax.Array

    def __call__(self, x: Tree, *args: Tree) -> jax.Array:
        """Return its value."""
        problem, units = self.problem, self.units
        objective = problem.value(PrimalDual(x, None), *args)
        parts = problem.constraints(x, *args)
        first, second = (ravel_pytree(part)[0].astype(self.y.dtype) for part in parts)
        c = jnp.concatenate([first, second]) * units.constraints
        equal = jnp.arange(c.size) < first.size
        pushed = _pushed(c + self.y / self.rho, equal)
        total = objective.astype(c.dtype) * units.objective + 0.5 * self.rho * dot(pushed, pushed)
        return total.astype(objective.dtype)


def _pushed(v: jax.Array, equal: jax.Array) -> jax.Array:
    return jnp.where(equal, v, jnp.maximum(v, 0))


class Measured(NamedTuple):
    """The largest relative error, the violation, how level it is, the bounds' multipliers, and a step size.

    The step size is that of a proximal step in which the largest force moves the point by its own size.
    """

    error: Scalar
    violation: Scalar
    level: Scalar
    bounds: Any
    step_size: Any


class Rows:
    """The objective and the constraints of a program as one vector; an object lives within one trace."""

    def __init__(self, view: View):
        self.view = view
        self.equal = jnp.arange(view.rows) < view.equalities

    def values(self, x: jax.Array) -> jax.Array:
        """Return the objective and the constraints, in the problem's own units."""
        one = jnp.ones((), self.view.dtype)
        return self.view.values(x, Units(one, one, jnp.ones(self.view.rows, self.view.dtype)))

    def pushed(self, v: jax.Array) -> jax.Array:
        """Return what of shifted constraints has a weight: of inequalities, the positive part."""
        return _pushed(v, self.equal)

    def multipliers(self, dual: Any) -> jax.Array:
        """Return the multipliers of the constraints as one vector."""
        both = [ravel_pytree(part)[0].astype(self.view.dtype) for part in (dual.equality, dual.inequality)]
        return jnp.concatenate(both)

    def units(self, x: jax.Array, length: jax.Array) -> Units:
        """Return units in which a move of the whole point by its size changes every function by about one."""
        probe = jnp.where(x != 0, jnp.abs(x), length)
        values, terms = self._terms(x, probe)
        bend = jax.jvp(jax.grad(lambda u: self.values(u)[0]), (x,), (length * trees.scattered(x),))[1]
        curved = length * jnp.max(jnp.abs(bend), initial=0)
        size = terms.at[0].max(jnp.where(jnp.isfinite(curved), curved, 0))
        size = jnp.where(size > 0, size, jnp.where(values != 0, jnp.abs(values), 1))
        size = jnp.where(jnp.isfinite(size), size, 1)
        return Units(length, 1 / size[0], 1 / size[1:])

    def _terms(self, x: jax.Array, along: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the values and an estimate of the size of their terms, for a move of given size."""
        probes = jax.random.normal(jax.random.key(0), (_PROBES, x.size), x.dtype)
        values, push = jax.linearize(self.values, x)
        images = jax.lax.map(lambda probe: push(probe * along), probes)
        return values, jnp.sqrt(jnp.mean(jnp.square(images), axis=0))

    def measured(self, x: jax.Array, y: jax.Array, units: Units) -> Measured:
        """Return how far a point with multipliers (in units of the start) is from a solution."""
        view, eps = self.view, jnp.finfo(x.dtype).eps
        top = lambda v: jnp.max(jnp.abs(v), initial=0)
        values, terms = self._terms(x, jnp.abs(x))
        values, terms = values * units.weights(), terms * units.weights()
        c = values[1:]
        # where all terms vanish with the constraint, a violation is as large as they are: what a move of the whole
        # point by its size does counts a little
        size = jnp.where(top(x) > 0, top(x), units.length)
        # a diverging point is not near a solution, however small its relative errors are
        size = jnp.minimum(size, eps**-0.25 * units.length)
        whole = self._terms(x, jnp.full_like(x, size))[1] * units.weights()
        own = jnp.maximum(jnp.maximum(terms, eps**0.25 * whole)[1:], jnp.finfo(x.dtype).tiny)
        rows = whole[1:] * units.length / size
        over = jnp.where(self.equal, jnp.abs(c), jnp.maximum(c, 0)) / own
        back = jax.vjp(lambda u: self.values(u) * units.weights(), x)[1]
        pull = lambda first, rest: back(jnp.concatenate([jnp.asarray([first], x.dtype), rest]))[0] * units.length
        slope, force = pull(1, jnp.zeros_like(c)), pull(0, y)
        gradient = slope + force
        low, high = x <= view.lower, x >= view.upper
        bounds = jnp.where(low & (gradient > 0), -gradient, jnp.where(high & (gradient < 0), -gradient, 0))
        held = low & high
        free = jnp.where(held, 0, gradient + bounds)
        bounds = jnp.where(held, -gradient, bounds)
        lagrangian = lambda u: dot(jnp.concatenate([jnp.ones(1, x.dtype), y]), self.values(u) * units.weights())
        bend = jax.jvp(jax.grad(lagrangian), (x,), (size * trees.scattered(x),))[1] * units.length
        # where no force is left, that of a point which is wrong by its own size
        most = jnp.max(jnp.stack([top(slope), top(force), top(y * rows), top(bounds), top(bend)]))
        most = jnp.where((most > 0) & jnp.isfinite(most), most, 1)
        # elements of unlike size move by their own: what a force does beside the largest of forces times elements
        each = jnp.maximum(jnp.abs(x), eps * size)
        curves = jax.jvp(jax.grad(lagrangian), (x,), (each * trees.scattered(x),))[1] * units.length
        work = top(jnp.maximum(jnp.maximum(jnp.abs(slope), jnp.abs(curves)), jnp.abs(bounds)) * each)
        work = jnp.where(jnp.isfinite(work), jnp.clip(work, eps * most * size, most * size), most * size)
        eta = units.length * units.objective * size / most
        if view.part is not None:
            # what is left of a force that a set or a penalty holds moves the point by a proximal step
            ahead = view.prox(x - eta / (units.length * units.objective) * gradient, eta)
            free = (x - ahead) / size * most
        products = jnp.where(self.equal, 0, y * c) * units.length
        error = jnp.max(jnp.stack([top(over), top(free) / most, top(free * x) / work, top(products) / work]))
        away = self.pushed(c)
        up = pull(0, away)
        blocked = (low & (up > 0)) | (high & (up < 0))
        steep = jnp.maximum(top(away * rows), jnp.finfo(x.dtype).tiny)
        level = top(jnp.where(blocked, 0, up)) / steep
        if view.part is not None:
            # a penalty alone would never hold a violation: only where it is infinite
            level = top(x - view.prox(x - size / steep * up, jnp.finfo(x.dtype).tiny * eta)) / size
        return Measured(error, top(over), level, bounds, eta)
