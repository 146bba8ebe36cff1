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
from ..status import Status
from ..trees import Scalar, Tree
from ._base import Solver, solver
from .interior._central_path import Central, Newton, solved
from .interior._face_factor import FaceFactor, left_behind
from .interior._program_tests import Point, certificates, or_certificate
from .interior._scaled_program import Factor, Scaled, scaled

#: the error at which the active set is guessed for the first time, how often it is then, and altogether
_EARLY, _FIRST, _GUESSES = 1e-3, 3, 9
#: a guess whose error is below so many units in the last place is exact
_EXACT = 1e4
#: after so many steps without gain the method has stalled
_PATIENCE = 15


class Guess(NamedTuple):
    """How often active rows were tried, whether that goes on, and where it led."""

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
    convex: Any
    least: Any
    idle: Scalar
    guess: Guess


@solver
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

    def init(self, problem: Any, x: Tree, *args: Tree) -> State:
        """Return the state before the first step: the method has a starting point of its own."""
        del x, args
        data = scaled(problem.dense)
        n, dtype = data.n, data.offset.dtype
        one, zero = jnp.ones((), dtype), jnp.zeros((), jnp.int32)
        v = jnp.concatenate([jnp.zeros(n, dtype), data.live.astype(dtype)])
        central = Central(v, jnp.where(data.fixed, 0, one), one, one)
        # up to rounding
        shift = jnp.finfo(dtype).eps ** 0.75 * jnp.eye(n, dtype=dtype)
        convex = jax.lax.linalg.cholesky(data.quadratic + shift, symmetrize_input=False)
        convex = jnp.all(jnp.isfinite(convex)) | ~jnp.all(jnp.isfinite(data.quadratic))
        factor = Factor(jnp.zeros((n, n), dtype), jnp.zeros_like(central.s), jnp.zeros_like(central.s))
        guess = Guess(~jnp.any(data.live), zero, data.fixed, factor, zero > 0)
        infinity = jnp.full((), jnp.inf, dtype)
        return State(infinity, zero + Status.RUNNING, data, central, convex, infinity, zero, guess)

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Take one step: along the central path, or onto the active set."""
        del problem, x, args
        data, central, guess = state.data, state.central, state.guess
        dtype, n = data.offset.dtype, data.n
        tol = jnp.asarray(accuracy(self, data.offset), dtype)

        # rows whose multipliers are larger than their slacks are tried as equations
        active = jnp.where(guess.on, guess.active, jnp.where(data.live, central.v[n:] > central.s, data.fixed))
        if len(data.signs) == 2:
            up, low = data.ends[0], data.ends[1]
            d = central.v[n:] - central.s
            both = active[up:low] & active[low:] & ~data.fixed[up:low]
            higher = d[up:low] >= d[low:]
            active = active.at[low:].set(active[low:] & ~(both & higher))
            active = active.at[up:low].set(active[up:low] & ~(both & ~higher))
        base = central.v / central.tau
        base = jnp.concatenate([base[:n], jnp.where(active, base[n:], 0)])
        point, (forces,) = Point.of(data, central.v, jnp.where(data.live, central.s, 0), base[n:])
        away = point.error(data, central.tau)
        late = away <= tol
        # before it gives up: of a solution whose elements vanish one faster than the other, or whose system is nearly
        # singular, the active rows may be plain where the point's own residuals stay
        last = state.idle >= _PATIENCE - 1
        trials = jnp.where(late | last, _GUESSES, _FIRST)
        face = guess.on | (((away <= jnp.maximum(_EARLY, tol)) | last) & (guess.count < trials))

        newton = Newton.of(data, central, point)
        rows = jnp.where(face, active, data.used)
        factor = Factor.of(data, jnp.where(face, 0, newton.ratio), rows)
        image = jnp.concatenate([point.curved / central.tau + forces, point.image[n:] / central.tau])
        side = data.offset - image
        side = jnp.concatenate([side[:n], jnp.where(active, side[n:], 0)])
        single = dtype != jnp.float64
        to, reach, onto = solved(newton, factor, face, side, 2 if single else 0)
        onto = factor.refined(data, side, onto, face, 3 if single else 2)
        moved = newton.moved(to, reach)
        fine = trees.all_finite(moved)
        found = base + onto
        for sign, first in zip(data.signs, data.ends[:-1], strict=True):
            here = active[first : first + n]
            found = found.at[:n].set(jnp.where(here, sign * data.offset[n + first : 2 * n + first], found[:n]))
        slack = jnp.where(active, 0, data.offset[n:] - data.rows(found[:n]))
        end, _ = Point.of(data, found, jnp.where(data.live, jnp.maximum(slack, 0), 0))
        miss = end.error(data)

        accepted = face & ((miss <= jnp.minimum(_EXACT * jnp.finfo(dtype).eps, tol)) | (late & (miss <= tol)))
        accepted = accepted & state.convex
        # a point inside is as good as it gets where no active set is right
        inside = ~face & late & state.convex
        empty, endless = certificates(data, point)
        gain = functools.reduce(jnp.minimum, (away, empty, endless))
        idle = jnp.where((gain < 0.9 * state.least) | (face & ~last), 0, jnp.where(face, state.idle, state.idle + 1))
        status = jnp.where((idle >= _PATIENCE) | ~(fine | face), Status.STALLED, Status.RUNNING)
        # beside a solution nearby, a contradiction or a ray is one of rounding
        lost, least = central.tau < central.kappa, 0.1 * jnp.finfo(dtype).eps ** 0.5
        status = jnp.where(lost & (endless <= least), Status.DUAL_INFEASIBLE, status)
        status = jnp.where(lost & (empty <= least), Status.PRIMAL_INFEASIBLE, status)
        status = jnp.where(state.convex, status, Status.NOT_CONVEX)
        status = jnp.where(accepted | inside, Status.RUNNING, status)
        contradiction = jnp.any(data.impossible)
        status = jnp.where(contradiction, Status.PRIMAL_INFEASIBLE, status).astype(jnp.int32)
        accepted, inside = accepted & ~contradiction, inside & ~contradiction
        error = jnp.where(accepted, miss, jnp.where(inside, away, jnp.maximum(away, 2 * tol)))

        shown = jnp.where(accepted, found, central.v / central.tau)
        shown = jnp.concatenate([shown[:n], jnp.where(data.live, jnp.maximum(shown[n:], 0), shown[n:])])
        shown = or_certificate(data, shown, central.v, status)
        central = trees.where(face | inside | ~fine, central, moved)
        # the next trial takes what is violated for active, and lets go what pulls
        again = face & ~accepted & (guess.count + 1 < trials)
        active = jnp.where(again, jnp.where(data.live, found[n:] > slack, data.fixed), active)
        guess = Guess(again, guess.count + face, active, factor, accepted)
        least = jnp.minimum(state.least, gain)
        return data.point(shown), State(error, status, data, central, state.convex, least, idle, guess)

    def accepts_state(self, problem: Any, x: Tree, state: State, *args: Tree) -> jax.Array:
        """Return whether the state is one of this program: it holds the data."""
        del x, args
        same = [
            jnp.all(a == b) for a, b in zip(*map(jax.tree.leaves, (scaled(problem.dense), state.data)), strict=True)
        ]
        return functools.reduce(jnp.logical_and, same)

    def derivative_solver(self, problem: Any, x: Tree, state: State) -> Reused:
        """Return a linear solver that holds the factor of the step onto the active set."""
        del problem
        data, guess = state.data, state.guess
        return left_behind(data, x, FaceFactor(data, guess.factor), guess.known)
