"""A nonlinear program on vectors, in units of its own start."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ... import trees
from ...problems import Multipliers, PrimalDual
from ...protocols import Constrained
from ...trees import Tree
from ...trees.products import dot


class Units(NamedTuple):
    """What one is: a length of the unknown, and what the objective and the constraints are multiplied by.

    At the start the unknown is of size one, and so are the gradients of the objective and of each constraint.
    """

    length: Any
    objective: Any
    constraints: Any

    def weights(self) -> jax.Array:
        """Return the factors of the objective and the constraints, one vector."""
        return jnp.concatenate([self.objective[None], self.constraints])


class Derivatives(NamedTuple):
    """The objective and the constraints at a point, with their gradients and the Lagrangian's Hessian.

    The objective comes first, then the equalities, then the inequalities.
    """

    values: Any
    jacobian: Any
    hessian: Any

    @property
    def constraints(self) -> jax.Array:
        """The constraints."""
        return self.values[1:]

    @property
    def gradient(self) -> jax.Array:
        """The objective's gradient."""
        return self.jacobian[0]

    @property
    def slopes(self) -> jax.Array:
        """The constraints' gradients, as rows."""
        return self.jacobian[1:]


class View:
    """A program as functions of a vector; an object lives within one trace."""

    def __init__(self, problem: Constrained, x: PrimalDual, args: tuple[Tree, ...]):
        self._problem, self._args = problem, args
        flat, self._unravel = ravel_pytree(x.primal)
        self._like = flat.dtype
        self.dtype = trees.single(flat.dtype)
        self.start = flat.astype(self.dtype)
        self._dual = x.dual
        equality, back_equality = ravel_pytree(x.dual.equality)
        inequality, back_inequality = ravel_pytree(x.dual.inequality)
        self._equality = lambda part: back_equality(part.astype(equality.dtype))
        self._inequality = lambda part: back_inequality(part.astype(inequality.dtype))
        self.unknowns, self.equalities, self.inequalities = flat.size, equality.size, inequality.size
        self.lower, self.upper = (ravel_pytree(bound)[0].astype(self.dtype) for bound in problem.bounds(x.primal))

    @property
    def rows(self) -> int:
        """The number of constraints, without the bounds."""
        return self.equalities + self.inequalities

    @property
    def part(self) -> Any:
        """The set or the penalty besides the functions, or ``None``."""
        return self._problem.part

    def prox(self, x: jax.Array, step_size: Any) -> jax.Array:
        """Return the projection or the proximal point of a vector, in the problem's own units."""
        return self.flat(self._problem.part_prox(self._unravel(x.astype(self._like)), step_size.astype(self._like)))

    def snapped(self, x: jax.Array, y: jax.Array, units: Units, step_size: Any) -> jax.Array:
        """Return a point whose elements are those of its proximal point, where that is next to them.

        So a kink of the penalty is met to the last digit; a point beside the set is projected.
        """
        if self._problem.constraint is not None:
            return self.prox(x, step_size)
        lagrangian = lambda v: dot(jnp.concatenate([jnp.ones(1, x.dtype), y]), self.values(v / units.length, units))
        near = self.prox(x - step_size / units.objective * jax.grad(lagrangian)(x), step_size)
        size = jnp.max(jnp.abs(x), initial=0)
        return jnp.where(jnp.abs(near - x) <= 100 * jnp.finfo(x.dtype).eps * size, near, x)

    def _vector(self, u: jax.Array) -> jax.Array:
        x = self._unravel(u.astype(self._like))
        values = (self._problem.value(PrimalDual(x, None), *self._args), *self._problem.constraints(x, *self._args))
        return jnp.concatenate([ravel_pytree(part)[0].astype(self.dtype) for part in values])

    def flat(self, x: Tree) -> jax.Array:
        """Return an unknown of the problem as a vector."""
        return ravel_pytree(x)[0].astype(self.dtype)

    def values(self, u: jax.Array, units: Units) -> jax.Array:
        """Return the objective and the constraints."""
        return self._vector(units.length * u) * units.weights()

    def jacobian(self, u: jax.Array, units: Units) -> jax.Array:
        """Return the derivative of :meth:`values`, a row each."""
        transform = jax.jacrev if self.rows + 1 < self.unknowns else jax.jacfwd
        return transform(self._vector)(units.length * u) * units.weights()[:, None] * units.length

    def hessian(self, u: jax.Array, units: Units, weight: jax.Array, y: jax.Array) -> jax.Array:
        """Return the Hessian of the objective times a weight, and the constraints times multipliers."""
        weights = jnp.concatenate([weight[None], y]) * units.weights()
        matrix = jax.hessian(lambda v: dot(weights, self._vector(v)))(units.length * u) * units.length**2
        return 0.5 * (matrix + matrix.T)

    def tree(self, u: jax.Array, units: Units, y: jax.Array, bounds: jax.Array) -> PrimalDual:
        """Return a point and its multipliers in the units of the problem."""
        y = y * units.constraints / units.objective
        equality, inequality = y[: self.equalities], jnp.maximum(y[self.equalities :], 0)
        back = lambda w: self._unravel(w.astype(self._like))
        dual = Multipliers(
            None if self._dual.equality is None else self._equality(equality),
            None if self._dual.inequality is None else self._inequality(inequality),
            None if self._dual.bounds is None else back(bounds / (units.objective * units.length)),
        )
        return PrimalDual(back(units.length * u), dual)

    def scales(self, like: PrimalDual, units: Units) -> tuple[PrimalDual, PrimalDual]:
        """Return the units of a point and its multipliers, and what residuals of its conditions are multiplied by."""
        fill = lambda part, value: jax.tree.map(lambda leaf: jnp.full_like(leaf, value), part)
        rows = units.constraints / units.objective
        dual = Multipliers(
            None if like.dual.equality is None else self._equality(rows[: self.equalities]),
            None if like.dual.inequality is None else self._inequality(rows[self.equalities :]),
            fill(like.dual.bounds, 1 / (units.objective * units.length)),
        )
        right = PrimalDual(fill(like.primal, units.length), dual)
        return right, jax.tree.map(lambda unit: units.objective.astype(unit.dtype) * unit, right)


def start_length(view: View) -> jax.Array:
    """Return the size of the start or, where that is zero, of its bounds; zero where nothing shows a length."""
    size = jnp.max(jnp.abs(view.start), initial=0)
    spread = lambda b: jnp.max(jnp.where(jnp.isfinite(b), jnp.abs(b), 0), initial=0)
    return jnp.where(size > 0, size, jnp.maximum(spread(view.lower), spread(view.upper)))


def first_units(values: jax.Array, jacobian: jax.Array, length: jax.Array) -> Units:
    """Return the units at a start, from the values and gradients in the problem's own.

    Where no length is known, it is the largest distance in which a constraint would vanish along its gradient, or else
    the objective. A gradient that is zero shows no unit; the value does.
    """
    slopes = jnp.sqrt(jnp.sum(jnp.square(jacobian), axis=1))
    ahead = jnp.where(slopes > 0, jnp.abs(values) / jnp.where(slopes > 0, slopes, 1), 0)
    far = jnp.max(ahead[1:], initial=0)
    far = jnp.where(far > 0, far, ahead[0])
    length = jnp.where(length > 0, length, jnp.where((far > 0) & jnp.isfinite(far), far, 1))
    size = slopes * length
    size = jnp.where(size > 0, size, jnp.where(values != 0, jnp.abs(values), 1))
    size = jnp.where(jnp.isfinite(size), size, 1)
    return Units(length, 1 / size[0], 1 / size[1:])
