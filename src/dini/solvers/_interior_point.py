"""A primal-dual interior point method for quadratic programs, with a last step onto the active set."""

from __future__ import annotations

import functools
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..linear._reused import Reused
from ..loop import accuracy
from ..problems import QuadraticProgram
from ..protocols import AnyProblem, Quadratic
from ..status import Status
from ..trees import Scalar, Tree
from ._base import Solver, solver
from .interior._central_path import Central, Newton, solved
from .interior._face_factor import FaceFactor, left_behind
from .interior._face_step import convex_up_to_rounding, exact_enough, on_bounds
from .interior._margins import EARLY, GAIN
from .interior._program_tests import Point, certificates, certified, or_certificate, verdict
from .interior._scaled_program import Factor, Scaled, scaled

#: how often the active set is guessed where that is tried for the first time, and altogether
_FIRST, _GUESSES = 3, 9
#: after so many steps without gain the method has stalled
_PATIENCE = 15
#: rounds of refinement of the path's systems and of the face's, in double and in single precision
_ROUNDS, _ONTO = (0, 2), (2, 3)


class Guess(NamedTuple):
    """How often active rows were tried, whether that continues, and where it led."""

    on: Any
    count: Any
    active: Any
    #: the system of the last step, and whether it was that of the active rows
    factor: Factor
    known: Any


class State(NamedTuple):
    """What the method carries from step to step; all in the program's own units."""

    error: Scalar
    status: Any
    data: Scaled
    central: Central
    #: the central point's error, and how far it is from the two certificates
    far: Any
    convex: Any
    least: Any
    idle: Scalar
    guess: Guess


class Plan(NamedTuple):
    """Whether a step goes onto a face, on which rows, in how many trials, and whether that is a last try."""

    face: Any
    active: Any
    trials: Any
    last: Any


@solver
class InteriorPoint(Solver):
    r"""A primal-dual interior point method for :class:`dini.QuadraticProgram`.

    The path of centers of the homogeneous embedding is followed by Mehrotra's predictor and corrector. The embedding,

    .. math::
        \begin{aligned}
        Q x + A^\top y + G^\top z + c \tau &= 0, & A x &= b \tau, & G x + s &= h \tau, \\
        \kappa + x^\top Q x / \tau + c^\top x + b^\top y + h^\top z &= 0, & s \circ z &= 0, & \tau \kappa &= 0,
        \end{aligned}

    has a solution for every program: with :math:`\tau > 0` the program's own, otherwise a certificate that no point is
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

    def init(self, problem: Quadratic, x: Tree, *args: Tree) -> State:
        """Return the state before the first step: the method has a starting point of its own."""
        del x, args
        data = scaled(problem.dense)
        n, dtype = data.n, data.offset.dtype
        one, zero = jnp.ones((), dtype), jnp.zeros((), jnp.int32)
        v = jnp.concatenate([jnp.zeros(n, dtype), data.live.astype(dtype)])
        central = Central(v, jnp.where(data.fixed, 0, one), one, one)
        factor = Factor(jnp.zeros((n, n), dtype), jnp.zeros_like(central.s), jnp.zeros_like(central.s))
        guess = Guess(~jnp.any(data.live), zero, data.fixed, factor, zero > 0)
        infinity = jnp.full((), jnp.inf, dtype)
        finite = trees.all_finite((data.quadratic, data.matrix, data.offset))
        far = jnp.full(3, jnp.where(finite, infinity, jnp.nan))
        convex = convex_up_to_rounding(data.quadratic)
        return State(infinity, zero + Status.RUNNING, data, central, far, convex, infinity, zero, guess)

    def step(self, problem: AnyProblem, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Take one step: along the central path, or onto the active set."""
        del problem, x, args
        data, central = state.data, state.central
        away, empty, unbounded = state.far
        tol = jnp.asarray(accuracy(self, data.offset), data.offset.dtype)
        plan = self._planned(state, tol)
        face, late = plan.face, away <= tol
        moved, found, factor = _stepped(state, plan)
        fine = trees.all_finite(moved)

        # the point to which the step led is measured once
        slack = jnp.where(plan.active, 0, data.offset[data.n :] - data.rows(found[: data.n]))
        end = found, jnp.maximum(slack, 0), jnp.ones_like(central.tau)
        v, s, tau = trees.where(face, end, (moved.v, moved.s, moved.tau))
        point = Point.of(data, v, jnp.where(data.live, s, 0))
        miss, far = point.error(data, tau), certificates(data, point)
        exact = face & exact_enough(miss, late, tol) & state.convex
        # a point inside is as good as it gets where no active set is right
        inside = ~face & late & state.convex

        gain = functools.reduce(jnp.minimum, (away, empty, unbounded))
        gains = (gain < GAIN * state.least) | (face & ~plan.last)
        idle = jnp.where(gains, 0, jnp.where(face, state.idle, state.idle + 1))
        status = jnp.where((idle >= _PATIENCE) | ~(fine | face), Status.STALLED, Status.RUNNING)
        # beside a solution nearby, a contradiction or a ray is one of rounding
        lost = central.tau < central.kappa
        status = certified(status, lost, (empty, unbounded))
        result = verdict(data, state.convex, exact, inside, (miss, away), tol, status)

        shown = or_certificate(data, jnp.where(result.exact, found, central.v / central.tau), central.v, result.status)
        stays = face | inside | ~fine
        # the next trial takes what is violated for active, and lets go what pulls
        again = face & ~result.exact & (state.guess.count + 1 < plan.trials)
        active = jnp.where(again, data.active(found[data.n :], slack), plan.active)
        return data.point(shown), State(
            result.error,
            result.status,
            data,
            trees.where(stays, central, moved),
            jnp.where(stays, state.far, jnp.stack([miss, *far])),
            state.convex,
            jnp.minimum(state.least, gain),
            idle,
            Guess(again, state.guess.count + face, active, factor, result.exact),
        )

    def _planned(self, state: State, tol: jax.Array) -> Plan:
        """Return what the next step is for."""
        central, guess, error = state.central, state.guess, state.far[0]
        active = jnp.where(guess.on, guess.active, state.data.active(central.v[state.data.n :], central.s))
        # before it gives up: of a solution whose elements vanish one faster than the other, or whose system is nearly
        # singular, the active rows may be plain where the point's own residuals stay
        last = state.idle >= _PATIENCE - 1
        trials = jnp.where((error <= tol) | last, _GUESSES, _FIRST)
        due = (error <= jnp.maximum(EARLY, tol)) | last
        return Plan(guess.on | (due & (guess.count < trials)), active, trials, last)

    def accepts_state(self, problem: Quadratic, x: Tree, state: State, *args: Tree) -> jax.Array:
        """Return whether the state is one of this program: it holds the data."""
        del x, args
        same = [
            jnp.all(a == b) for a, b in zip(*map(jax.tree.leaves, (scaled(problem.dense), state.data)), strict=True)
        ]
        return functools.reduce(jnp.logical_and, same)

    def derivative_solver(self, problem: AnyProblem, x: Tree, state: State) -> Reused:
        """Return a linear solver that holds the factor of the step onto the active set."""
        del problem
        data, guess = state.data, state.guess
        return left_behind(data, x, FaceFactor(data, guess.factor), guess.known)


def _stepped(state: State, plan: Plan) -> tuple[Central, jax.Array, Factor]:
    """Return the next point of the path, the point on the face, and the factor of the one system of both.

    That has the rows of the path with their weights, or the active ones as equations.
    """
    data, central, (face, active, *_) = state.data, state.central, plan
    n, single = data.n, data.offset.dtype != jnp.float64
    newton = Newton.of(data, central, Point.of(data, central.v, central.s))
    factor = Factor.of(data, jnp.where(face, 0, newton.ratio), jnp.where(face, active, data.used))
    keep = jnp.concatenate([jnp.ones(n, bool), active])
    base = jnp.where(keep, central.v / central.tau, 0)
    side = jnp.where(keep, data.offset - data.product(base), 0)
    to, reach, onto = solved(newton, factor, face, side, _ROUNDS[single])
    onto = factor.refined(data, side, onto, face, _ONTO[single])
    return newton.moved(to, reach), on_bounds(data, active, base + onto), factor
