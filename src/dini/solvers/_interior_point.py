"""A primal-dual interior point method for quadratic programs, with a last step onto the active set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..loop import accuracy
from ..problems import QuadraticProgram
from ..status import Status
from ._base import Solver
from ._central_path import Central, Newton, Onto
from ._program_tests import Point, certificates
from ._scaled_program import Factor, Scaled, scaled

#: the error at which the active set is guessed for the first time, and how often it is at the end
_EARLY, _GUESSES = 1e-4, 6
#: a guess whose error is below so many units in the last place is exact
_EXACT = 1e4
#: after so many steps without gain the method has stalled
_PATIENCE = 15


class Guess(NamedTuple):
    """The active rows that are tried, whether the next step is onto them, and how many were tried."""

    on: Any
    count: Any
    active: Any
    point: Point
    #: the system of the last step, and whether it was that of the active rows, and regular
    factor: Factor
    known: Any


class State(NamedTuple):
    """What the method carries from step to step; all in the program's own units."""

    error: Any
    status: Any
    data: Scaled
    central: Central
    point: Point
    convex: Any
    least: Any
    idle: Any
    guess: Guess


@trees.register
@dataclass(frozen=True, kw_only=True)
class InteriorPoint(Solver):
    r"""A primal-dual interior point method for :class:`dini.QuadraticProgram`.

    The path of centers of the homogeneous embedding is followed by Mehrotra's predictor and corrector. The embedding,

    .. math::
        \begin{aligned}
        Q x + A^\top y + G^\top z + c \tau &= 0, & A x &= b \tau, & G x + s &= h \tau, \\
        \kappa + x^\top Q x / \tau + c^\top x + b^\top y + h^\top z &= 0, & s \circ z &= 0, & \tau \kappa &= 0,
        \end{aligned}

    has a solution for every program: with :math:`\tau > 0` the program's own, and else a certificate that no point is
    feasible (``PRIMAL_INFEASIBLE``: the multipliers are the certificate), or a ray along which the objective falls
    without bound (``DUAL_INFEASIBLE``: ``x.primal`` is the ray). Near the end the inequalities whose multipliers are
    larger than their slacks are taken for equations; where the solution of these is one of the program, it is returned,
    exact to rounding, and its factorization serves the derivative.

    One step factorizes one matrix of the size of ``x``. The data are scaled inside by powers of two. The error is the
    largest residual of the optimality conditions, relative to their terms.

    Parameters
    ----------
    rtol, atol, tol
        See :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Mehrotra, "On the implementation of a primal-dual interior point method", SIAM J. Optim. 1992. Goulart and Chen,
    "Clarabel: an interior-point solver for conic programs with quadratic objectives", 2024 (arXiv 2405.12762). Schwan,
    Jiang, Kuhn, Jones, "PIQP: a proximal interior-point quadratic programming solver", 2023 (arXiv 2304.00290).

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.QuadraticProgram(c=jnp.array([-1.0, -2.0]), G=jnp.ones((1, 2)), h=jnp.ones(1), lower=0.0)
    >>> solution = dini.solve(problem, dini.InteriorPoint(), problem.start())
    >>> print(solution.x.primal)
    [0. 1.]
    """

    max_steps: int = field(default=100, metadata={"static": True})

    solves = (QuadraticProgram,)
    composite = True
    superlinear = True
    differentiable = False
    monotone = True

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """Return the state before the first step: the method has a starting point of its own."""
        del x, args
        data = scaled(problem)
        n, dtype = data.n, data.offset.dtype
        one, zero = jnp.ones((), dtype), jnp.zeros((), jnp.int32)
        v = jnp.concatenate([jnp.zeros(n, dtype), data.live.astype(dtype)])
        central = Central(v, jnp.where(data.fixed, 0, one), one, one)
        at, origin = Point.of(data, v, jnp.zeros_like(v))
        # up to rounding
        shift = jnp.finfo(dtype).eps ** 0.75 * jnp.eye(n, dtype=dtype)
        convex = jax.lax.linalg.cholesky(data.system[:n, :n] + shift, symmetrize_input=False)
        convex = jnp.all(jnp.isfinite(convex)) | ~jnp.all(jnp.isfinite(data.system))
        factor = Factor(jnp.zeros((n, n), dtype), jnp.zeros_like(data.offset[n:]), jnp.zeros_like(data.offset[n:]))
        guess = Guess(~jnp.any(data.live), zero, data.fixed, origin, factor, zero > 0)
        infinity = jnp.full((), jnp.inf, dtype)
        return State(infinity, zero + Status.RUNNING, data, central, at, convex, infinity, zero, guess)

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Take one step: along the central path, or onto the active set."""
        del problem, x, args
        data, central, guess = state.data, state.central, state.guess
        dtype, n = data.offset.dtype, data.n
        tol = jnp.asarray(accuracy(self, data.offset), dtype)
        rounds = 1 if dtype == jnp.float64 else 3
        pick = lambda onto, newton: trees.where(guess.on, onto, newton)

        newton, onto = Newton.of(data, central, state.point), Onto.of(data, guess.active, guess.point)
        factor = Factor.of(data, pick(jnp.zeros_like(newton.ratio), newton.ratio), pick(guess.active, data.used))
        first = factor.solve(data, pick(onto.first(factor), newton.first()), rounds)
        newton, onto = newton.predicted(first), onto.moved(factor, first)
        second = factor.solve(data, pick(onto.second(), newton.second()), rounds)
        moved, found = newton.moved(second), onto.v + second[:, 0]
        fine = trees.all_finite(moved)
        central = pick(central, trees.where(fine, moved, central))

        inner, end = Point.of(data, central.v, found)
        at = trees.scale(1 / central.tau, inner)
        away = at.central_error(data, central.s / central.tau)
        miss = end.vertex_error(data, guess.active)
        late = away <= tol
        accepted = guess.on & ((miss <= jnp.minimum(_EXACT * jnp.finfo(dtype).eps, tol)) | (late & (miss <= tol)))
        # a point inside is as good as it gets where no active set is right
        inside = ~guess.on & late & (guess.count >= _GUESSES)
        idle = jnp.where((away < 0.9 * state.least) | guess.on, 0, state.idle + 1)
        status = self._status(data, central, inner, fine | guess.on, idle, state.convex)
        error = jnp.where(accepted, miss, jnp.where(inside, away, jnp.maximum(away, 2 * tol)))
        convex = state.convex
        error = jnp.where(convex, error, jnp.maximum(error, 2 * tol))
        own = jnp.where((accepted | inside) & convex, Status.RUNNING, status).astype(jnp.int32)

        on = jnp.where(guess.on, late, jnp.where(guess.count == 0, away <= jnp.maximum(_EARLY, tol), late))
        on = on & (guess.count + guess.on < _GUESSES) & ~accepted
        again = guess.on & on
        following = trees.where(guess.on & (on | accepted), end, at)
        slack = jnp.where(again, -end.left(data)[n:], central.s / central.tau)
        active = jnp.where(data.live, following.v[n:] > slack, data.fixed)
        active = jnp.where(accepted, guess.active, active)
        following = _on_face(data, active, following)
        guess = Guess(on, guess.count + guess.on, active, following, factor, accepted & onto.regular(first))
        shown = _shown(data, central, jnp.where(accepted, following.v, at.v), own)
        least = jnp.minimum(state.least, away)
        return data.point(shown), State(error, own, data, central, inner, convex, least, idle, guess)

    def _status(self, data: Scaled, central: Central, at: Point, fine: Any, idle: Any, convex: Any) -> Any:
        """Return how the steps have ended, if they have."""
        primal, dual = certificates(data, at)
        status = jnp.where((idle >= _PATIENCE) | ~fine, Status.STALLED, Status.RUNNING)
        # beside a solution nearby, a contradiction or a ray is one of rounding
        lost = central.tau < central.kappa
        status = jnp.where(dual & lost, Status.DUAL_INFEASIBLE, status)
        status = jnp.where(primal & lost, Status.PRIMAL_INFEASIBLE, status)
        return jnp.where(convex, status, Status.NOT_CONVEX)


def _on_face(data: Scaled, active: Any, at: Point) -> Point:
    """Return a point with zero for the multipliers of rows that are not active, and none that is negative."""
    n = data.n
    multipliers = jnp.where(data.live, jnp.maximum(at.v[n:], 0), at.v[n:])
    v = jnp.concatenate([at.v[:n], jnp.where(active, multipliers, 0)])
    return Point.of(data, v)[0]


def _shown(data: Scaled, central: Central, v: Any, status: Any) -> Any:
    """Return the point to show: a certificate where there is no solution."""
    n = data.n
    primal, dual = status == Status.PRIMAL_INFEASIBLE, status == Status.DUAL_INFEASIBLE
    ray = jnp.where(jnp.concatenate([jnp.broadcast_to(dual, (n,)), primal & data.used]), central.v, 0)
    top = trees.max_abs(ray)
    return jnp.where(primal | dual, ray / jnp.where(top > 0, top, 1), v)
