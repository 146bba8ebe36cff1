"""Problems of minimization as functions of one vector, whose values a solver on the host asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..problems import NonlinearProgram
from ..problems._recovered import recovered
from ..protocols import AnyProblem
from ..sets._boxes import bounds_of
from ..solvers.interior._scaled_program import power
from ..trees import Tree
from ..trees.products import vdot
from ._adapter import flattened, raveled
from ._faces import on_face


class View(NamedTuple):
    """A problem with bounds, and with equalities and inequalities where it is a nonlinear program.

    The unknown is divided by ``length``, the objective by ``weight``, the constraints by ``rows``: so a solver's
    absolute numbers (a first step, a radius, a tolerance) have the meaning that its author had in mind. ``slope`` is
    the size of a gradient that is not small, ``counts`` are the numbers of equalities and inequalities.
    """

    problem: Any
    args: tuple[Tree, ...]
    start: jax.Array
    unravel: Callable[[jax.Array], Any]
    lower: jax.Array
    upper: jax.Array
    length: jax.Array
    weight: jax.Array
    rows: tuple[Any, Any]
    slope: jax.Array
    counts: tuple[int, int]

    @classmethod
    def of(cls, problem: AnyProblem, x: Tree, args: tuple[Tree, ...], *, scaled: bool) -> View:
        """Return a problem's view at a starting point; ``scaled`` in units that this shows, or else in its own."""
        program = isinstance(problem, NonlinearProgram)
        point = x.primal if program else x
        flat, unravel = flattened(point)
        both = problem.bounds(point) if program else bounds_of(problem.constraint, point)
        lower, upper = (flattened(bound)[0].astype(flat.dtype) for bound in both)
        one = jnp.ones((), flat.dtype)
        length = power(trees.max_abs(flat)) if scaled else one
        inside = lambda v: unravel(v * length)
        ends = (part / length for part in (flat, lower, upper))
        start, low, high = ends
        view = cls(problem, args, start, inside, low, high, length, one, (one, one), one, (0, 0))
        equality, inequality = jax.eval_shape(view.constraints, flat)
        # at the start, or by its change along it
        first, change = jax.jvp(view.gradient, (start,), (start,))
        slope = trees.max_abs((first, change))
        weight = power(slope) if scaled else one
        view = view._replace(weight=weight, slope=slope / weight, counts=(equality.size, inequality.size))
        return view._replace(rows=view._row_sizes()) if scaled and sum(view.counts) else view

    def _row_sizes(self) -> Any:
        """Return the sizes of the constraints and of their gradients at the start, powers of two."""
        values = self.constraints(self.start)
        sizes = lambda value, jacobian: power(jnp.maximum(jnp.abs(value), jnp.max(jnp.abs(jacobian), axis=1)))
        return tuple(map(sizes, values, self._jacobians(self.start)))

    def _jacobians(self, v: jax.Array) -> Any:
        """Return the Jacobians of the constraints."""
        return (jax.jacrev if sum(self.counts) < v.size else jax.jacfwd)(self.constraints)(v)

    @property
    def bounded(self) -> bool:
        """Whether there are bounds."""
        if isinstance(self.problem, NonlinearProgram):
            return self.problem.bounded
        return self.problem.constraint is not None

    def _unknown(self, v: jax.Array) -> Any:
        """Return the problem's unknown at a vector; that of a nonlinear program without its multipliers."""
        point = self.unravel(v)
        return _Primal(point) if isinstance(self.problem, NonlinearProgram) else point

    def value(self, v: jax.Array) -> jax.Array:
        """Return the objective."""
        return self.problem.value(self._unknown(v), *self.args).astype(v.dtype) / self.weight

    def value_and_gradient(self, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the objective and its gradient."""
        if isinstance(self.problem, NonlinearProgram):
            return jax.value_and_grad(self.value)(v)
        value, gradient = self.problem.value_and_gradient(self.unravel(v), *self.args)
        return value.astype(v.dtype) / self.weight, raveled(gradient, v.dtype) * (self.length / self.weight)

    def gradient(self, v: jax.Array) -> jax.Array:
        """Return the gradient of the objective."""
        return self.value_and_gradient(v)[1]

    def constraints(self, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the equalities and the inequalities."""
        if not isinstance(self.problem, NonlinearProgram):
            nothing = jnp.zeros(0, v.dtype)
            return nothing, nothing
        equality, inequality = self.problem.constraints(self.unravel(v), *self.args)
        first, second = self.rows
        return raveled(equality, v.dtype) / first, raveled(inequality, v.dtype) / second

    def first(self, v: jax.Array) -> jax.Array:
        """Return the objective and the constraints, their gradient and their Jacobians."""
        v = v[: self.start.size]
        value, gradient = self.value_and_gradient(v)
        parts = [value[None], *self.constraints(v), gradient]
        if sum(self.counts):
            parts += map(jnp.ravel, self._jacobians(v))
        return jnp.concatenate(parts)

    def values(self, v: jax.Array) -> jax.Array:
        """Return the objective and the constraints."""
        v = v[: self.start.size]
        return jnp.concatenate([self.value(v)[None], *self.constraints(v)])

    def product(self, v: jax.Array) -> jax.Array:
        """Return the product of the objective's Hessian at the first half of a vector with the second."""
        n = self.start.size
        return jax.jvp(self.gradient, (v[:n],), (v[n : 2 * n],))[1]

    def hessian(self, v: jax.Array) -> jax.Array:
        """Return the objective's Hessian."""
        return jnp.ravel(jax.jacfwd(self.gradient)(v[: self.start.size]))

    def lagrangian(self, v: jax.Array) -> jax.Array:
        """Return the Hessian of the Lagrangian for a point, the objective's weight and multipliers in one vector."""
        n = self.start.size
        weight, multipliers = v[n], v[n + 1 : n + 1 + sum(self.counts)]
        weighted = lambda u: weight * self.value(u) + vdot(multipliers, jnp.concatenate(self.constraints(u)))
        return jnp.ravel(jax.hessian(weighted)(v[:n]))

    @property
    def accuracy(self) -> float:
        """The relative accuracy that is asked of a solver."""
        return float(jnp.finfo(self.start.dtype).eps) ** 0.625

    def solution(self, vector: jax.Array) -> Any:
        """Return the problem's unknown for what was found.

        Of a nonlinear program that is with multipliers, after a step onto the active constraints, which methods that
        keep inside of them only approach.
        """
        point = self.unravel(vector[: self.start.size])
        if not isinstance(self.problem, NonlinearProgram):
            return point
        return on_face(self.problem, recovered(self.problem, point, *self.args), *self.args)


class _Primal(NamedTuple):
    """The part of a nonlinear program's unknown that its objective depends on."""

    primal: Any
