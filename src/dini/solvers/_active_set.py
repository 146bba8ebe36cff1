"""A dual active-set method for small dense quadratic programs, many at once."""

from __future__ import annotations

import functools
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..linear._reused import Reused
from ..loop import accuracy
from ..numerics.dual_pivots import dual_pivots
from ..problems import QuadraticProgram
from ..protocols import Quadratic
from ..status import Status
from ..trees import Scalar, Tree
from ..trees.products import dot
from ._base import Solver, solver
from .interior._face_factor import FaceFactor, left_behind
from .interior._face_step import by_factor, convex_up_to_rounding, exact_enough, on_bounds
from .interior._margins import GAIN
from .interior._program_tests import Point, certificates, certified, or_certificate, verdict
from .interior._scaled_program import Factor, Scaled, regularization, scaled

#: after so many steps without gain the method has stalled
_PATIENCE = 8
#: most rounds of refinement on a face, in double and in single precision
_ROUNDS = 10, 40
#: pivots of one step: for each row, and beside
_PIVOTS, _MORE = 10, 100


class State(NamedTuple):
    """What the method carries from step to step; all in the program's own units."""

    error: Scalar
    status: Any
    data: Scaled
    #: the center of the next step, with the multipliers of all rows
    center: Any
    #: the inverse factor of the quadratic term with the equalities, the rows in its units, and their products
    inverse: Any
    rows: Any
    products: Any
    convex: Any
    least: Any
    idle: Scalar
    #: the system of the last face, and whether it is that of the solution
    factor: Factor
    known: Any


@solver
class ActiveSet(Solver):
    r"""A dual active-set method for :class:`dini.QuadraticProgram`: for small dense programs, many at once.

    One step solves the program with a proximal term around the last point :math:`(\bar x, \bar y, \bar z)`,

    .. math::
        \min_x\; \tfrac12 x^\top Q x + c^\top x + \tfrac\rho2 \|x - \bar x\|^2
        + \tfrac1{2\delta} \|A x - b + \delta \bar y\|^2 + \tfrac1{2\delta} \|(G x - h + \delta \bar z)_+\|^2 ,

    exactly, by the dual method of Goldfarb and Idnani: violated inequalities are taken up one after the other, the one
    that is furthest first, and dropped where their multiplier falls to zero
    (:func:`dini.numerics.dual_pivots.dual_pivots`). Then the inequalities that are held are taken for equations of the
    program itself. Where the solution of these is one of the program, it is returned, exact to rounding, and its
    factorization serves the derivative; as a rule that is so after the first step, since :math:`\rho` and
    :math:`\delta` are small (:math:`4 \sqrt{n \epsilon}` in the program's own units). Otherwise the step's end is the
    next center. This is the proximal method of multipliers: it converges for semidefinite ``Q`` and linear programs as
    well, with dependent rows. Where there is no solution its steps tend to a certificate that no point is feasible
    (``PRIMAL_INFEASIBLE``: the multipliers are the certificate), or to a ray along which the objective falls without
    bound (``DUAL_INFEASIBLE``: ``x.primal`` is the ray).

    A pivot costs :math:`p^2` operations with ``p`` inequalities and bounds, and there are about as many as constraints
    in the end active: for large programs take :class:`dini.InteriorPoint`. The error is the largest residual of the
    optimality conditions, relative to their terms.

    Parameters
    ----------
    rtol, atol, tol
        See :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Goldfarb and Idnani, "A numerically stable dual method for solving strictly convex quadratic programs",
    Mathematical Programming, 1983. Arnström, Bemporad, Axehill, "A dual active-set solver for embedded quadratic
    programming using recursive LDL\ :sup:`T` updates", 2022 (arXiv 2103.16236). Rockafellar, "Augmented Lagrangians and
    applications of the proximal point algorithm in convex programming", 1976.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.QuadraticProgram(Q=jnp.eye(2), c=jnp.array([-1.0, -2.0]), G=jnp.ones((1, 2)), h=jnp.ones(1))
    >>> solution = dini.solve(problem, dini.ActiveSet(), problem.start())
    >>> print(solution.x.primal, solution.x.dual.inequality, solution.stats.steps)
    [0. 1.] [1.] 1
    """

    max_steps: int = field(default=50, metadata={"static": True})

    solves = (QuadraticProgram,)
    composite = True
    superlinear = True
    differentiable = False
    monotone = True

    def init(self, problem: Quadratic, x: Tree, *args: Tree) -> State:
        """Return the state before the first step: it begins at zero, in the units that the program shows."""
        del x, args
        data = scaled(problem.dense)
        dtype, zero = data.offset.dtype, jnp.zeros((), jnp.int32)
        first = _first(data)
        own = Factor.of(data, jnp.zeros_like(data.offset[data.n :]), data.fixed)
        rows = data.rows(own.inverse.T)[first:]
        products = dot(rows, rows.T) + regularization(data.n, dtype) * jnp.eye(rows.shape[0], dtype=dtype)
        infinity = jnp.full((), jnp.inf, dtype)
        return State(
            infinity,
            zero + Status.RUNNING,
            data,
            jnp.zeros_like(data.offset),
            own.inverse,
            rows,
            products,
            convex_up_to_rounding(data.quadratic),
            infinity,
            zero,
            own,
            zero > 0,
        )

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Find the face of the program around the last point, and go onto it."""
        del problem, x, args
        data, n = state.data, state.data.n
        tol = jnp.asarray(accuracy(self, data.offset), data.offset.dtype)
        new = _proximal(state)
        active = data.active(new[n:], data.slacks(new[:n]))
        base = jnp.concatenate([new[:n], jnp.where(active, new[n:], 0)])
        factor, found = by_factor(data, active, base, _ROUNDS)
        found = on_bounds(data, active, found)
        proof = _proof(data, factor, active, new - state.center)

        def judged(v: jax.Array) -> tuple[Any, Any]:
            point = Point.of(data, v, data.slacks(v[:n]))
            return point.error(data), certificates(data, point)

        # three points by one program, which compiles once
        (away, miss, _), proofs = jax.vmap(judged)(jnp.stack([new, found, proof]))
        empty, unbounded = (far[2] for far in proofs)

        late = away <= tol
        exact = exact_enough(miss, late, tol) & state.convex
        gain = functools.reduce(jnp.minimum, (away, miss, empty, unbounded))
        idle = jnp.where(gain < GAIN * state.least, 0, state.idle + 1)
        status = certified(jnp.where(idle >= _PATIENCE, Status.STALLED, Status.RUNNING), True, (empty, unbounded))
        result = verdict(data, state.convex, exact, late & state.convex, (miss, away), tol, status)
        shown = jnp.where(state.convex, jnp.where(result.exact, found, new), state.center)
        return data.point(or_certificate(data, shown, proof, result.status)), state._replace(
            # a term that is not convex may have no factor
            error=jnp.where(state.convex, result.error, jnp.inf),
            status=result.status,
            center=new,
            least=jnp.minimum(state.least, gain),
            idle=idle,
            factor=factor,
            known=result.exact,
        )

    def accepts_state(self, problem: Quadratic, x: Tree, state: State, *args: Tree) -> jax.Array:
        """Return whether the state is one of this program: it holds the data."""
        del x, args
        both = map(jax.tree.leaves, (scaled(problem.dense), state.data))
        return functools.reduce(jnp.logical_and, [jnp.all(a == b) for a, b in zip(*both, strict=True)])

    def derivative_solver(self, problem: Quadratic, x: Tree, state: State) -> Reused:
        """Return a linear solver that holds the factor of the step onto the face."""
        del problem
        return left_behind(state.data, x, FaceFactor(state.data, state.factor), state.known)


def _first(data: Scaled) -> int:
    """Return how many rows are equalities, whatever the data: these come first."""
    return 0 if data.equalities is None else data.equalities.shape[0]


def _proof(data: Scaled, factor: Factor, active: jax.Array, change: jax.Array) -> jax.Array:
    """Return the certificate that the change of steps without end comes to."""
    n = data.n
    change = data.signed(change)
    top = trees.max_abs(change)
    proof = change / jnp.where(top > 0, top, 1)
    # multipliers that only just add up to nothing: the face's system takes away what is left of their forces
    forces = jnp.concatenate([-data.back(proof[n:]), jnp.zeros_like(proof[n:])])
    mended = data.signed(proof + factor.rough(data, forces[:, None])[:, 0])
    return jnp.concatenate([proof[:n], jnp.where(active, mended[n:], proof[n:])])


def _proximal(state: State) -> jax.Array:
    r"""Return the solution of the program with its proximal term, around the center.

    With :math:`K = Q + \rho I + A^\top A / \delta`, the gradient ``g`` of the objective with the equalities' term, and
    :math:`w \ge 0` the multipliers of the other rows ``C``,

    .. math:: x = \bar x - K^{-1} (g + C^\top w), \qquad
              s = h - C \bar x + C K^{-1} g - \delta \bar w + (C K^{-1} C^\top + \delta I) w \ge 0 .
    """
    data, n, first = state.data, state.data.n, _first(state.data)
    delta = regularization(n, data.offset.dtype)
    x, w = state.center[:n], state.center[n:]
    equal = jnp.where(data.fixed, w + (data.rows(x) - data.offset[n:]) / delta, 0)
    g = dot(state.inverse, dot(data.quadratic, x) - data.offset[:n] + data.back(equal))
    live = data.live[first:]
    r = (data.offset[n:] - data.rows(x))[first:] + dot(state.rows, g) - delta * w[first:]
    end = dual_pivots(state.products, r, live, _PIVOTS * r.size + _MORE)
    x = x - dot(state.inverse.T, g + dot(state.rows.T, end.w))
    w = jnp.concatenate([w[:first], end.w])
    return jnp.concatenate([x, jnp.where(data.fixed, state.center[n:] + (data.rows(x) - data.offset[n:]) / delta, w)])
