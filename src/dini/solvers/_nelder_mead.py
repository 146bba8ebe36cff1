"""The simplex method of Nelder and Mead."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_count, require_positive
from ..loop import threshold
from ..protocols import AnyProblem, Composed
from ..status import Status
from ..trees import Scalar, Tree
from ._base import infinity, running, solver
from .shared._box import BoxSolver, box_of, flatten

#: what the next evaluation is for
_FILL, _REFLECT, _EXPAND, _OUTSIDE, _INSIDE = range(5)


class State(NamedTuple):
    """Carried from step to step: the vertices, best first, their values, and what the next evaluation is for."""

    error: Scalar
    simplex: Any
    values: Any
    phase: Any
    vertex: Any
    reflected: Any
    restarts: Any
    before: Any
    extents: Any
    status: Any
    flat: Any


@solver
class NelderMead(BoxSolver):
    r"""The simplex method of Nelder and Mead, for few unknowns and functions without a useful gradient.

    .. math::
        \begin{aligned}
        x_{d+1} &\leftarrow \bar x + \kappa (\bar x - x_{d+1}), \qquad \kappa \in \{1, \beta, \gamma, -\gamma\},
        \qquad (1) \\
        x_i &\leftarrow x_1 + \delta (x_i - x_1), \qquad (2) \\
        \beta &= 1 + 2/d, \qquad \gamma = 3/4 - 1/(2d), \qquad \delta = 1 - 1/d \qquad (3)
        \end{aligned}

    The worst of ``d + 1`` vertices is reflected in the centroid :math:`\bar x` of the others, then the simplex expands
    or contracts (1), outside or inside, or shrinks (2), with the coefficients of Gao and Han, which depend on the
    dimension. Only values are used; where they are NaN, they count as infinite. Bounds are kept by clipping. Each
    evaluation is one step. The error is the largest distance of a vertex from the best one, beside the size of the
    point, or the largest difference of their values, beside the value (and beside the root of the unit roundoff of the
    largest difference so far). Where it falls below the tolerance, the method starts again from a fresh, smaller
    simplex, ``restarts`` times, since simplices can collapse before a minimum (at a bound, say), and again for as long
    as that finds better points.

    The points do not depend smoothly on parameters, so there is no unrolling; the implicit derivative of the solution
    needs a gradient there.

    Parameters
    ----------
    size
        Edges of the first simplex, relative to the larger of the coordinate and the root mean square of all (one where
        all are zero).
    restarts
        Number of fresh simplices after the first.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps, that is of function evaluations.

    References
    ----------
    Nelder and Mead, "A simplex method for function minimization", Computer Journal 1965; Gao and Han, "Implementing
    the Nelder-Mead simplex algorithm with adaptive parameters", Comput. Optim. Appl. 2012.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> kinked = lambda x: jnp.abs(x[0] - 1.0) + 2 * jnp.abs(x[1] + x[0])
    >>> print(dini.minimize(kinked, jnp.zeros(2), solver=dini.NelderMead(tol=1e-4)).x.round(2))
    [ 1. -1.]
    """

    size: Any = 0.1
    restarts: int = field(default=1, metadata={"static": True})
    max_steps: int = field(default=5000, metadata={"static": True})

    differentiable = False

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("NelderMead's size", self.size)
        require_count("NelderMead's restarts", self.restarts, 0)

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, which evaluates the function at the first vertex."""
        del args
        inf, zero = infinity(x), jnp.zeros((), jnp.int32)
        simplex = self._fresh(box_of(problem, x), flatten(x))
        values, wide = jnp.full(simplex.shape[0], inf), jnp.any(simplex != simplex[:1])
        none = jnp.zeros(2, inf.dtype)
        return State(inf, simplex, values, zero + _FILL, zero, inf, zero, inf, none, running(), wide)

    def _fresh(self, box: Any, x: jax.Array, share: float = 1.0) -> jax.Array:
        """Return a simplex around a point, along the coordinates, to the side where there is more room."""
        x = box.project(x)
        typical = jnp.sqrt(jnp.mean(x * x))
        edge = share * jnp.asarray(self.size, x.dtype) * jnp.maximum(jnp.abs(x), jnp.where(typical > 0, typical, 1))
        up, down = jnp.minimum(edge, box.upper - x), jnp.minimum(edge, x - box.lower)
        edge = jnp.where((up < edge) & (down > up), -down, up)
        return jax.vmap(box.project)(jnp.concatenate([x[None, :], x[None, :] + jnp.diag(edge)]))

    def step(self, problem: Composed, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Evaluate the function at one point."""
        box = box_of(problem, x)
        simplex, values, phase, vertex = state.simplex, state.values, state.phase, state.vertex
        d = simplex.shape[1]
        # (3): beta, gamma, delta
        expand, contract, shrink = (1 + 2 / d, 0.75 - 0.5 / d, 1 - 1 / d) if d > 1 else (2.0, 0.5, 0.5)
        center = jnp.mean(simplex[:-1], 0)
        away = center - simplex[-1]
        # (1): kappa = reach
        reach = jnp.asarray([0.0, 1.0, expand, contract, -contract], simplex.dtype)[phase]
        fill = phase == _FILL
        point = jnp.where(fill, simplex[vertex], box.project(center + reach * away))
        value = problem.value(box.unravel(point), *args).astype(values.dtype)
        value = jnp.where(jnp.isnan(value), jnp.inf, value)

        best, second, worst, reflected = values[0], values[-2], values[-1], state.reflected
        reflecting = phase == _REFLECT
        # a better point than the best asks for an expansion, a worse one than the second worst for a contraction
        follow = jnp.where(value < best, _EXPAND, jnp.where(value < worst, _OUTSIDE, _INSIDE))
        again = reflecting & ((value < best) | (value >= second))
        expanding = phase == _EXPAND
        back = expanding & (value >= reflected)
        point = jnp.where(back, box.project(center + away), point)
        value_kept = jnp.where(back, reflected, value)
        contracting = (phase == _OUTSIDE) | (phase == _INSIDE)
        poor = contracting & (value >= jnp.where(phase == _OUTSIDE, reflected, worst))
        replace = (reflecting & ~again) | expanding | (contracting & ~poor)

        last = jnp.arange(d + 1, dtype=jnp.int32) == d
        here = (jnp.arange(d + 1, dtype=jnp.int32) == vertex) & fill
        simplex = jnp.where((last & replace)[:, None], point[None, :], simplex)
        values = jnp.where((last & replace) | here, value_kept, values)
        # (2)
        shrunk = jax.vmap(box.project)(simplex[:1] + shrink * (simplex - simplex[:1]))
        simplex = jnp.where(poor, shrunk, simplex)
        values = jnp.where(poor & (jnp.arange(d + 1, dtype=jnp.int32) > 0), jnp.inf, values)
        filled = fill & (vertex == d)
        complete = filled | replace
        order = jnp.where(complete, jnp.argsort(values).astype(jnp.int32), jnp.arange(d + 1, dtype=jnp.int32))
        simplex, values = simplex[order], values[order]

        size = jnp.max(jnp.linalg.norm(simplex - simplex[:1], axis=1))
        # a vertex outside of the function's domain is no reason to call the error unknown
        spread = jnp.minimum(values[-1] - values[0], jnp.finfo(values.dtype).max)
        spread = jnp.where(jnp.isfinite(values[0]), spread, jnp.inf)
        eps = trees.eps(x)
        extent = jnp.maximum(state.extents[0], jnp.max(jnp.linalg.norm(simplex, axis=1)))
        widest = jnp.maximum(
            state.extents[1], jnp.where(jnp.isfinite(values[-1] - values[0]), values[-1] - values[0], 0)
        )
        length = jnp.maximum(trees.norm(simplex[0]), eps**0.25 * extent)
        height = jnp.maximum(jnp.where(jnp.isfinite(values[0]), jnp.abs(values[0]), 0), eps**0.5 * widest)
        share = lambda part, whole: part / jnp.where(whole > 0, whole, 1)
        relative = lambda size, spread: jnp.maximum(share(size, length), share(spread, height))
        error = jnp.where(complete, relative(size, spread), state.error)
        tol = threshold(self, x)
        # values that have all been the same, and whose rounding exceeds the tolerance, may hide every difference
        flat = state.flat & ((value == best) | jnp.isinf(best))
        stuck = flat & complete & (error <= tol) & (values[0] != 0)
        # a fresh simplex that has found a better point says that the last one had collapsed: another one, uncounted
        better = (state.restarts > 0) & (values[0] < state.before - tol * height)
        restart = complete & (error <= tol) & ((state.restarts < self.restarts) | better)
        before = jnp.where(restart, values[0], state.before)
        simplex = jnp.where(restart, self._fresh(box, simplex[0], 0.1), simplex)
        values = jnp.where(restart & (jnp.arange(d + 1, dtype=jnp.int32) > 0), jnp.inf, values)
        # until the fresh simplex is filled, its size stands for the error
        edges = jnp.max(jnp.linalg.norm(simplex - simplex[:1], axis=1))
        error = jnp.where(restart | stuck, jnp.maximum(share(edges, length), 2 * jnp.asarray(tol, edges.dtype)), error)
        phase = jnp.where(poor | restart | (fill & ~filled), _FILL, jnp.where(again, follow, _REFLECT))
        vertex = jnp.where(poor | restart, 1, jnp.where(fill, vertex + 1, 0))
        kept = State(
            error.astype(state.error.dtype),
            simplex,
            values,
            phase.astype(jnp.int32),
            vertex.astype(jnp.int32),
            jnp.where(reflecting, value, reflected),
            state.restarts + restart.astype(jnp.int32),
            before,
            jnp.stack([extent, widest]),
            jnp.where(stuck, Status.STALLED, state.status).astype(jnp.int32),
            flat,
        )
        found = jnp.argmin(values)
        return trees.where(jnp.isfinite(values[found]), box.unravel(simplex[found]), x), kept
