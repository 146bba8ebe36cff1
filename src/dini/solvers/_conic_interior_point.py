"""A primal-dual interior point method for cone programs, with last steps onto the solution."""

from __future__ import annotations

import functools
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..linear._reused import Reused
from ..loop import accuracy
from ..problems import ConeProgram
from ..protocols import Conic
from ..status import Status
from ..trees import Scalar, Tree
from ..trees.products import dot, vdot
from ._base import Solver, solver
from .interior._cone_layout import Layout
from .interior._cone_path import Central, Newton, System
from .interior._cone_system import cone_solver
from .interior._face_step import convex_up_to_rounding
from .interior._margins import EARLY, GAIN
from .interior._path_pace import Pace, at_rest, paced, runs_on
from .interior._program_tests import certified, verdict
from .interior._scaled_cones import ConePoint, ScaledCones, scaled_cones

#: by how much better the point must be for Newton's method to be tried again
_BETTER = 1e-2
#: how many of its steps are taken in one trial, each of which leaves at most this share of the error
_NEWTON, _FALLS = 8, 0.5
#: the shift of the path's matrix beside the complementarity, and of the natural map's beside the residual
_BELOW_PATH, _OF_RESIDUAL = 0.01, 0.1
#: a point whose error is below so many units in the last place is exact
_EXACT = 1e3
#: how many tolerances the natural residual may be where Newton's method does not converge: at degenerate solutions
_LOOSE = 100
#: after so many steps without gain the method has stalled
_PATIENCE = 40


class Trial(NamedTuple):
    """Newton's method on the natural map: whether it continues, from where, and at which error it is tried next."""

    on: Any
    count: Any
    x: Any
    v: Any
    error: Any
    bar: Any
    #: what the program saw of the last step
    step: Any


class State(NamedTuple):
    """What the method carries from step to step; all in the program's own units."""

    error: Scalar
    status: Any
    data: ScaledCones
    central: Central
    #: the central point's error, its natural residual, and how far it is from the two certificates
    far: Any
    convex: Any
    #: the least error or distance of a certificate so far, and the complementarity when it last counted
    least: Any
    whole: Any
    idle: Scalar
    trial: Trial
    pace: Pace


class Plan(NamedTuple):
    """Whether a step is one of Newton's method on the natural map, from where, and what that leaves there."""

    face: Any
    x: Any
    v: Any
    left: Any


class Judged(NamedTuple):
    """The checks of the points of a step: which is accepted, and whether Newton's method continues."""

    accepted: Any
    inside: Any
    going: Any
    #: what the program sees of the step of Newton's method
    step: Any
    pace: Pace


@solver
class ConicInteriorPoint(Solver):
    r"""A primal-dual interior point method for :class:`dini.ConeProgram`.

    The path of centers of the homogeneous embedding is followed by a predictor and a corrector. The embedding,

    .. math::
        \begin{aligned}
        P x + A^\top y + c \tau &= 0, & A x + s &= b \tau, & s &\in K, & y &\in K^*, \\
        \kappa + x^\top P x / \tau + c^\top x + b^\top y &= 0, & s^\top y &= 0, & \tau \kappa &= 0,
        \end{aligned}

    has a solution for every program: with :math:`\tau > 0` the program's own, otherwise a certificate that no point is
    feasible (``PRIMAL_INFEASIBLE``: the multipliers are the certificate), or a ray along which the objective falls
    without bound (``DUAL_INFEASIBLE``: ``x.primal`` is the ray). Steps are scaled as Nesterov and Todd's in
    non-negative, second-order and semidefinite cones, and as Dahl and Andersen's in exponential and power cones. Near
    the end, Newton's method on :math:`s = \Pi_K(s - y)` is tried; where it converges, the point is exact to rounding.
    Its matrix is regularized in proportion to the residual, so that it converges also where solutions or multipliers
    are not unique.

    One step factorizes one matrix of the size of ``x`` and ``y`` together. The data are scaled inside by powers of two.
    The error is the largest residual of the optimality conditions, relative to their terms. Where Newton's method does
    not converge, which happens at degenerate solutions, a point of the path is returned once its error is below the
    tolerance: slacks and multipliers are in their cones then, and :math:`s = \Pi_K(s - y)` holds to a hundred
    tolerances.

    Parameters
    ----------
    rtol, atol, tol
        See :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Goulart and Chen, "Clarabel: an interior-point solver for conic programs with quadratic objectives", 2024 (arXiv
    2405.12762). Dahl and Andersen, "A primal-dual interior-point algorithm for nonsymmetric exponential-cone
    optimization", Math. Program. 2022. Busseti, Moursi, Boyd, "Solution refinement at regular points of conic
    problems", Computational Optimization and Applications, 2019. Yamashita and Fukushima, "The proximal point algorithm
    with genuine superlinear convergence for the monotone complementarity problem", SIAM J. Optim. 2001.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> from dini.sets import Exponential
    >>> A, b = jnp.array([[-1.0, 0.0], [0.0, 0.0], [0.0, -1.0]]), jnp.array([1.0, 1.0, 0.0])
    >>> problem = dini.ConeProgram(P=jnp.eye(2), A=A, b=b, cone=Exponential())  # exp(x + 1) <= y
    >>> solution = dini.solve(problem, dini.ConicInteriorPoint(), problem.start())
    >>> print(solution.x.primal.round(3))
    [-1.  1.]
    """

    max_steps: int = field(default=100, metadata={"static": True})

    solves = (ConeProgram,)
    composite = True
    superlinear = True
    differentiable = False
    monotone = True

    def init(self, problem: Conic, x: Tree, *args: Tree) -> State:
        """Return the state before the first step: the method has a starting point of its own."""
        del x, args
        layout = _layout(problem)
        data = scaled_cones(problem, layout)
        n, dtype = data.n, data.c.dtype
        one, zero = jnp.ones((), dtype), jnp.zeros((), jnp.int32)
        center = layout.center(dtype)
        central = Central(jnp.zeros(n, dtype), center, center, one, one)
        infinity = jnp.full((), jnp.inf, dtype)
        bar = jnp.full((), EARLY, dtype)
        seen = data.seen(central.x)
        trial = Trial(zero > 0, zero, central.x, central.s, infinity, bar, jnp.full_like(seen, jnp.inf))
        running, pace = zero + Status.RUNNING, at_rest(seen)
        far = jnp.full(4, jnp.where(trees.all_finite((data.P, data.c, data.A, data.b)), infinity, jnp.nan))
        convex = convex_up_to_rounding(data.P)
        return State(infinity, running, data, central, far, convex, infinity, infinity, zero, trial, pace)

    def step(self, problem: Conic, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Take one step: along the central path, or of Newton's method on the natural map."""
        del x, args
        layout, data, central, trial = _layout(problem), state.data, state.central, state.trial
        dtype = data.c.dtype
        tol = jnp.asarray(accuracy(self, data.c), dtype)
        away, _, empty, unbounded = state.far
        plan = _planned(data, layout, state)
        moved, reach, found = _stepped(data, layout, central, plan)
        face, fine = plan.face, trees.all_finite(moved) & (reach > 0)

        # the point to which the step led is measured once
        scale = jnp.where(face, 1, moved.tau)
        point = ConePoint.of(data, *trees.where(face, found, (moved.x, moved.z, moved.s)))
        miss = point.error(data, layout, scale)
        far = jnp.stack([miss, point.natural(layout, scale), *point.certificates(data)])
        judged = _judged(layout, state, plan, found[0], miss, tol)

        gains, nearer, whole = _gains(layout, state, face)
        pace = judged.pace
        gains = gains & ~pace.refused
        idle = jnp.where(gains, 0, state.idle + 1)
        failed = jnp.where(pace.refused, Status.DIVERGED, Status.STALLED)
        status = jnp.where((idle >= _PATIENCE) | ~(fine | face), failed, Status.RUNNING)
        # beside a solution nearby, a contradiction or a ray is one of rounding
        status = certified(status, central.tau < central.kappa, (empty, unbounded))
        result = verdict(data, state.convex, judged.accepted, judged.inside, (miss, away), tol, status)

        shown = (central.x / central.tau, central.z / central.tau)
        shown = trees.where(result.exact, found[:2], shown)
        proof = jnp.where(jnp.any(data.impossible), data.impossible.astype(dtype), central.z)
        shown = _or_ray(central.x, proof, shown, result.status)
        stays = face | ~fine
        state = state._replace(
            error=result.error,
            status=result.status,
            central=trees.where(stays, central, moved),
            far=jnp.where(stays, state.far, far),
            least=jnp.minimum(state.least, jnp.min(state.far[jnp.array([0, 2, 3])])),
            whole=jnp.where(nearer, whole, state.whole),
            idle=idle,
            trial=_next_trial(trial, plan, judged, found, miss, away),
            pace=pace,
        )
        return data.point(layout, *shown), state

    def accepts_state(self, problem: Conic, x: Tree, state: State, *args: Tree) -> jax.Array:
        """Return whether the state is one of this program: it holds the data."""
        del x, args
        own = scaled_cones(problem, _layout(problem))
        same = [jnp.all(a == b) for a, b in zip(*map(jax.tree.leaves, (own, state.data)), strict=True)]
        return functools.reduce(jnp.logical_and, same)

    def derivative_solver(self, problem: Conic, x: Tree, state: State) -> Reused:
        """Return a linear solver in the program's own units."""
        del state
        return cone_solver(problem)


def _layout(problem: Conic) -> Layout:
    return Layout(problem.cone, problem.b.size)


def _natural_residual(data: ScaledCones, layout: Layout, x: jax.Array, v: jax.Array) -> jax.Array:
    """Return what the natural map leaves at a point, with the slacks less the multipliers."""
    s = layout.project(v)
    return jnp.concatenate([dot(data.P, x) + data.c + dot(data.A.T, s - v), dot(data.A, x) + s - data.b])


def _planned(data: ScaledCones, layout: Layout, state: State) -> Plan:
    """Return what the next step is for."""
    central, trial = state.central, state.trial
    face = trial.on | (state.far[0] <= trial.bar)
    x = jnp.where(trial.on, trial.x, central.x / central.tau)
    v = jnp.where(trial.on, trial.v, (central.s - central.z) / central.tau)
    return Plan(face, x, v, _natural_residual(data, layout, x, v))


def _stepped(
    data: ScaledCones, layout: Layout, central: Central, plan: Plan
) -> tuple[Central, jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """Return the next point of the path and how far it is, and the one of the natural map, by one factorization."""
    dtype, eps, n = data.c.dtype, jnp.finfo(data.c.dtype).eps, data.n
    newton = Newton.of(data, layout, central, ConePoint.of(data, central.x, central.z, central.s))
    eye = jnp.eye(layout.size, dtype=dtype)

    def natural() -> jax.Array:
        return eye - layout.dense(layout.projection_blocks(plan.v), dtype)

    E = jax.lax.cond(plan.face, natural, lambda: layout.dense(newton.blocks(layout), dtype))
    # well below the path's own small singular values, which fall with the mean complementarity
    shift = jnp.clip(_BELOW_PATH * _mean(layout, central), eps**0.8, eps**0.6)
    # where the solution or its multipliers are not unique, the natural map's matrix is singular: moved apart by a
    # share of the residual, a step is no longer than the way to a solution, and converges as fast
    shift = jnp.where(plan.face, jnp.clip(_OF_RESIDUAL * trees.max_abs(plan.left), eps**0.8, eps**0.4), shift)
    system = System.of(data, E, eye - E, shift)
    rounds = 2 if dtype == jnp.float64 else 3
    moved, reach = newton.step(layout, system, rounds)
    step, _ = system.solve(-plan.left[:, None], rounds)
    x, v = plan.x + step[:n, 0], plan.v - step[n:, 0]
    s = layout.project(v)
    return moved, reach, (x, s - v, s)


def _mean(layout: Layout, at: Central) -> jax.Array:
    """Return the mean complementarity of the point that a central one stands for."""
    return vdot(at.s, at.z) / ((layout.degree + 1) * at.tau**2)


def _judged(layout: Layout, state: State, plan: Plan, x: jax.Array, miss: jax.Array, tol: jax.Array) -> Judged:
    """Return what is thought of a point ``x`` of the natural map with the error ``miss``, and of the path's own."""
    data, central, trial, face = state.data, state.central, state.trial, plan.face
    away, bent = state.far[0], state.far[1]
    late = away <= tol
    pace = paced(state.pace, data.seen(central.x / central.tau), _mean(layout, central), away <= EARLY)
    # a step that is as long as the last one leads to no solution, however small an error is there
    last = jnp.where(trial.on, trial.step, pace.move)
    step = data.seen(x - plan.x)
    stays = ~runs_on(step, last, data.seen(x))
    accepted = face & state.convex & (miss <= jnp.minimum(_EXACT * jnp.finfo(miss.dtype).eps, tol)) & stays
    going = face & ~accepted & (trial.count + 1 < _NEWTON) & (miss <= _FALLS * trial.error)
    # where Newton's method ends above the tolerance of an exact point, the better of the two is taken
    ended = face & ~accepted & ~going & state.convex
    good = ended & (miss <= tol) & (late | (miss <= away)) & stays
    # where cones are curved, a small gap says that the point is good to its root: it must be good itself
    inside = (ended | ~face) & (trial.bar < EARLY) & late & ~(accepted | good) & (bent <= _LOOSE * tol)
    pace = pace._replace(refused=pace.refused | ((inside | good) & pace.drifts))
    # a path that diverged may be slower by chance: only an exact point is believed then
    return Judged(accepted | (good & ~pace.refused), inside & ~pace.refused, going, step, pace)


def _gains(layout: Layout, state: State, face: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return whether a step counts as one that gains, whether the complementarity has fallen, and what it is."""
    central = state.central
    # along a long path errors fall last, complementarity first
    whole = (vdot(central.s, central.z) + central.tau * central.kappa) / (layout.degree + 1)
    nearer = (whole < _FALLS * state.whole) & (whole > jnp.finfo(whole.dtype).eps ** 2)
    gain = jnp.min(state.far[jnp.array([0, 2, 3])])
    return (gain < GAIN * state.least) | nearer | face, nearer, whole


def _next_trial(trial: Trial, plan: Plan, judged: Judged, found: Any, miss: jax.Array, away: jax.Array) -> Trial:
    """Return where Newton's method continues, or at which error it is tried next."""
    (x, z, s), going = found, judged.going
    bar = jnp.where(plan.face & ~going, jnp.minimum(_BETTER * away, trial.bar), trial.bar)
    count = jnp.where(going, trial.count + 1, jnp.zeros_like(trial.count))
    return Trial(going, count, x, s - z, jnp.where(going, miss, jnp.inf).astype(miss.dtype), bar, judged.step)


def _or_ray(x: jax.Array, z: jax.Array, shown: tuple[jax.Array, jax.Array], status: Any) -> tuple[jax.Array, jax.Array]:
    """Return the point to show: a certificate where there is no solution."""
    primal, dual = status == Status.PRIMAL_INFEASIBLE, status == Status.DUAL_INFEASIBLE
    ray = jnp.where(dual, x, 0), jnp.where(primal, z, 0)
    top = trees.max_abs(ray)
    return trees.where(primal | dual, trees.scale(1 / jnp.where(top > 0, top, 1), ray), shown)
