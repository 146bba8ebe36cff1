"""Operator splitting for large quadratic programs, with a last step onto the active set."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..checks.settings import require_between, require_count, require_positive
from ..linear import DENSE_LIMIT
from ..linear._matrices import is_dense
from ..linear._reused import Reused
from ..loop import accuracy
from ..problems import QuadraticProgram
from ..protocols import AnyProblem, Quadratic
from ..status import Status
from ..trees import Scalar, Tree
from ._base import Solver, solver
from .interior._face_factor import FaceFactor, left_behind
from .interior._face_step import by_factor, convex_up_to_rounding, exact_enough, on_bounds
from .interior._program_tests import Point, certified, or_certificate, verdict
from .interior._scaled_program import Factor, Scaled, scaled
from .splitting._certificates import proofs
from .splitting._face import concave, face_point, face_solver
from .splitting._split_rows import Intervals, Iterate, advanced, image, of_intervals, of_rows, residuals
from .splitting._split_systems import system_of

#: the relative error below which the active rows are tried, and how much less it must be for the same rows again
_TRY, _AGAIN, _TRIALS = 1e-2, 0.1, 3
#: most rounds of refinement on a face, in double and in single precision
_ROUNDS = 2, 3
#: the balance of the residuals that calls for another weight, and the range of weights
_UNBALANCED, _WEIGHTS = 5.0, 1e6


class Face(NamedTuple):
    """The active rows: at the last step, and those tried last with the error at that time; the factor of these."""

    active: Any
    tried: Any
    error: Any
    factor: Any
    known: Any


class State(NamedTuple):
    """Carried from step to step; all in the program's own units."""

    error: Scalar
    status: Any
    data: Scaled
    at: Iterate
    rho: Scalar
    system: Any
    convex: Any
    face: Face


class _Trial(NamedTuple):
    count: Any
    active: Any
    v: Any
    error: Any
    factor: Any


@solver
class OperatorSplitting(Solver):
    r"""The alternating direction method of multipliers for :class:`dini.QuadraticProgram`, as in OSQP.

    For large programs whose matrices are sparse or known by their products. With the constraints as
    :math:`l \le Bx \le u`, weights :math:`R = \mathrm{diag}(r)` (:math:`\rho` for inequalities and a thousand times
    that for equalities), :math:`\sigma = 10^{-6}` and relaxation :math:`\alpha`,

    .. math::
        \begin{aligned}
        (Q + \sigma I + B^\top R B) \tilde x &= \sigma x - c + B^\top (R z - y), \qquad (1) \\
        v &= \alpha B \tilde x + (1 - \alpha) z, \qquad (2) \\
        z &\leftarrow \min(\max(v + R^{-1} y, l), u), \qquad (3) \\
        y &\leftarrow y + R (v - z), \quad x \leftarrow \alpha \tilde x + (1 - \alpha) x. \qquad (4)
        \end{aligned}

    One step of the solver is ``block`` of these. After it, :math:`\rho` is changed where one residual is more than five
    times the other (each relative to its terms); changes of ``x`` and ``y`` that prove that there is no solution end
    the solve with ``DUAL_INFEASIBLE`` or ``PRIMAL_INFEASIBLE``; and where the active rows no longer change, the
    equations that they make are solved: if the solution is one of the program, it is returned, exact to rounding.

    (1) is factorized where all matrices are arrays or there are at most ``dense_limit`` unknowns. Otherwise it is
    solved by conjugate gradients from the last solution on. The equations of the active rows and the system of the
    derivative are then factorized on the host, by SuperLU, where all matrices are sparse; where one is a linear map no
    matrix is made, and they are solved by MINRES, whose number of steps grows with the condition number. The data are
    scaled by powers of two, those of linear maps by estimates from products with random vectors. A negative curvature
    of ``Q`` is looked for by Lanczos' method, which sees large ones only.

    Where to start matters: ``x`` and the multipliers of a program nearby save steps.

    Parameters
    ----------
    weight
        :math:`\rho` at the start, in the program's own units.
    relaxation
        :math:`\alpha`, in (0, 2).
    block
        How many iterations are one step.
    dense_limit
        Largest number of unknowns for which matrices that are none are made arrays.
    rtol, atol, tol
        See :class:`dini.Solver`; the error is the largest residual of the optimality conditions, relative to their
        terms.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Stellato, Banjac, Goulart, Bemporad, Boyd, "OSQP: an operator splitting solver for quadratic programs",
    Mathematical Programming Computation 2020 (arXiv 1711.08013). Schubiger, Banjac, Lygeros, "GPU acceleration of ADMM
    for large-scale quadratic programming", 2020 (arXiv 1912.04263). Banjac, Goulart, Stellato, Boyd, "Infeasibility
    detection in the alternating direction method of multipliers for convex optimization", 2019.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> from jax.experimental.sparse import BCOO
    >>> total = BCOO.fromdense(jnp.ones((1, 3)))
    >>> problem = dini.QuadraticProgram(
    ...     Q=lambda x: 2 * x, c=jnp.array([-1.0, 0.0, 1.0]), A=total, b=jnp.ones(1), lower=0.0
    ... )
    >>> print(dini.solve(problem, dini.OperatorSplitting(dense_limit=0), problem.start()).x.primal.round(3))
    [0.75 0.25 0.  ]
    """

    weight: Any = 0.1
    relaxation: float = field(default=1.6, metadata={"static": True})
    block: int = field(default=20, metadata={"static": True})
    dense_limit: int = field(default=DENSE_LIMIT, metadata={"static": True})
    max_steps: int = field(default=1000, metadata={"static": True})

    solves = (QuadraticProgram,)
    composite = True
    differentiable = False
    #: what stands in the last point, also where there is no solution, is what is shown
    monotone = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("OperatorSplitting's weight", self.weight)
        require_between("OperatorSplitting's relaxation", self.relaxation, 0, 2)
        require_count("OperatorSplitting's block", self.block)
        require_count("OperatorSplitting's dense_limit", self.dense_limit, 0)

    def _data(self, problem: Quadratic) -> Scaled:
        """Return the program in its own units, in arrays where these are there or small."""
        parts = [part for part in (problem.Q, problem.A, problem.G) if part is not None]
        small = problem.c.size <= self.dense_limit or all(map(is_dense, parts))
        return scaled(problem.dense if small else problem)

    def readings(self, x: Tree, state: State) -> dict[str, Any]:
        r"""Return what all tell, and :math:`\rho` as ``weight``."""
        return super().readings(x, state) | {"weight": state.rho}

    def init(self, problem: Quadratic, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, at ``x`` and its multipliers."""
        del args
        data = self._data(problem)
        n, dtype = data.n, data.offset.dtype
        start = data.vector(x)
        first, rows = start[:n], Intervals.of(data)
        at = Iterate(first, rows.project(image(data, first)), of_intervals(data, start[n:]), first)
        rho = jnp.asarray(self.weight, dtype)
        system = system_of(data, rows.weights(rho))
        if data.base is None:
            factor, convex = None, ~concave(data)
        else:
            zero = jnp.zeros_like(data.offset[n:])
            factor = Factor(jnp.zeros((n, n), dtype), zero, zero)
            convex = convex_up_to_rounding(data.quadratic)
        no = jnp.zeros_like(data.live)
        infinity = jnp.full((), jnp.inf, dtype)
        face = Face(no, no, infinity, factor, jnp.asarray(False))
        running = jnp.asarray(Status.RUNNING, jnp.int32)
        return State(infinity, running, data, at, rho, system, convex, face)

    def step(self, problem: AnyProblem, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Take a block of iterations, and try the active rows where they no longer change."""
        del problem, x, args
        data, n = state.data, state.data.n
        tol = jnp.asarray(accuracy(self, data.offset), data.offset.dtype)
        rows = Intervals.of(data)
        weights = rows.weights(state.rho)
        solve = lambda right, start: state.system.solve(data, weights, right, start)
        one = lambda _, at: advanced(data, rows, weights, self.relaxation, solve, at)
        before = jax.lax.fori_loop(0, self.block - 1, one, state.at)
        at = one(0, before)

        point = self._point(data, at.x, at.y)
        away = point.error(data)
        active = data.active(point.v[n:], point.s)
        change = jnp.concatenate([at.x - before.x, of_rows(data, at.y - before.y)])
        proof, empty, unbounded = proofs(data, change)

        # rows with negligible terms say little about the distance
        primal, dual = residuals(data, at)
        rough, late = jnp.maximum(primal, dual), away <= tol
        stable = jnp.all(active == state.face.active) & (rough <= _TRY)
        new = jnp.any(active != state.face.tried) | (rough <= _AGAIN * state.face.error)
        due = late | (stable & new)
        trial = self._tried(data, point.v, active, due, tol, late)
        exact = due & exact_enough(trial.error, late, tol) & state.convex
        # along a ray the objective decreases without bound where a point satisfies the constraints
        feasible = primal <= jnp.finfo(away.dtype).eps ** 0.25
        status = certified(Status.RUNNING, True, (empty, jnp.where(feasible, unbounded, jnp.inf)))
        result = verdict(data, state.convex, exact, late & state.convex, (trial.error, away), tol, status)
        shown = or_certificate(data, jnp.where(result.exact, trial.v, point.v), proof, result.status)

        ratio = primal / jnp.maximum(dual, jnp.finfo(dual.dtype).tiny)
        far = (ratio > _UNBALANCED) | (ratio * _UNBALANCED < 1)
        change = far & jnp.isfinite(ratio) & (ratio > 0)
        rho = jnp.clip(state.rho * jnp.sqrt(ratio), 1 / _WEIGHTS, _WEIGHTS)
        rho = jnp.where(change, rho, state.rho)
        system = jax.lax.cond(change, lambda: system_of(data, rows.weights(rho)), lambda: state.system)
        face = Face(
            active,
            jnp.where(due, active, state.face.tried),
            jnp.where(due, rough, state.face.error),
            trial.factor,
            result.exact,
        )
        return data.point(shown), State(result.error, result.status, data, at, rho, system, state.convex, face)

    def _point(self, data: Scaled, x: jax.Array, y: jax.Array) -> Point:
        """Return a point with the slacks that its rows have."""
        v = jnp.concatenate([x, of_rows(data, y)])
        return Point.of(data, v, data.slacks(x))

    def _tried(self, data: Scaled, v: jax.Array, active: jax.Array, due: Any, tol: Any, late: Any) -> _Trial:
        """Solve the equations of the active rows, and of those that their solution shows, where it is due."""
        n = data.n

        def one(now: _Trial) -> _Trial:
            base = jnp.concatenate([now.v[:n], jnp.where(now.active, now.v[n:], 0)])
            if data.base is None:
                factor, found = None, face_point(data, now.active, base)
            else:
                factor, found = by_factor(data, now.active, base, _ROUNDS)
            found = on_bounds(data, now.active, found)
            slack = jnp.where(now.active, 0, data.offset[n:] - data.rows(found[:n]))
            error = Point.of(data, found, jnp.where(data.live, jnp.maximum(slack, 0), 0)).error(data)
            following = jnp.where(exact_enough(error, late, tol), now.active, data.active(found[n:], slack))
            return _Trial(now.count + 1, following, found, error, factor)

        def going(now: _Trial) -> jax.Array:
            return due & (now.count < _TRIALS) & ~exact_enough(now.error, late, tol)

        zero, rows = jnp.zeros((), jnp.int32), data.offset[n:]
        factor = None
        if data.base is not None:
            factor = Factor(jnp.zeros((n, n), v.dtype), jnp.zeros_like(rows), jnp.zeros_like(rows))
        start = _Trial(zero, active, v, jnp.full((), jnp.inf, v.dtype), factor)
        return jax.lax.while_loop(going, one, start)

    def accepts_state(self, problem: Quadratic, x: Tree, state: State, *args: Tree) -> jax.Array:
        """Return whether the state is one of this program: it holds the data."""
        del x, args
        both = map(jax.tree.leaves, (self._data(problem), state.data))
        same = [jnp.all(a == b) for a, b in zip(*both, strict=True)]
        return jnp.all(jnp.stack(same))

    def derivative_solver(self, problem: Quadratic, x: Tree, state: State) -> Reused:
        """Return a linear solver for the equations of the active rows: with their factor, or a new one."""
        data, face = state.data, state.face
        if data.base is None:
            return face_solver(problem, x, data)
        return left_behind(data, x, FaceFactor(data, face.factor), face.known)
