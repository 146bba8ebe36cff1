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
from ..status import Status
from ..trees import Scalar, Tree
from ..trees.products import dot, vdot
from ._base import Solver, solver
from .interior._cone_layout import Layout
from .interior._cone_path import Central, Newton, System
from .interior._cone_system import cone_solver
from .interior._path_pace import Pace, at_rest, paced, runs_on
from .interior._scaled_cones import ConePoint, ScaledCones, scaled_cones

#: at which error Newton's method is tried for the first time, and by how much better the point must be for the next
_EARLY, _BETTER = 1e-3, 1e-2
#: how many of its steps are taken in one trial
_NEWTON = 8
#: a point whose error is below so many units in the last place is exact
_EXACT = 1e3
#: how many tolerances the natural residual may be where Newton's method does not converge: at degenerate solutions
_LOOSE = 100
#: after so many steps without gain the method has stalled
_PATIENCE = 40


class Trial(NamedTuple):
    """Newton's method on the natural map: whether it goes on, from where, and at which error it is tried next."""

    on: Any
    count: Any
    x: Any
    v: Any
    error: Any
    bar: Any
    #: the last step of the unknown
    step: Any


class State(NamedTuple):
    """What the method carries from step to step; all in the program's own units."""

    error: Scalar
    status: Any
    data: ScaledCones
    central: Central
    convex: Any
    #: the least error or distance of a certificate so far, and the complementarity when it last counted
    least: Any
    whole: Any
    idle: Scalar
    trial: Trial
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

    has a solution for every program: with :math:`\tau > 0` the program's own, and else a certificate that no point is
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

    def init(self, problem: Any, x: Tree, *args: Tree) -> State:
        """Return the state before the first step: the method has a starting point of its own."""
        del x, args
        layout = _layout(problem)
        data = scaled_cones(problem, layout)
        n, dtype = data.n, data.c.dtype
        one, zero = jnp.ones((), dtype), jnp.zeros((), jnp.int32)
        center = layout.center(dtype)
        central = Central(jnp.zeros(n, dtype), center, center, one, one)
        # up to rounding
        shift = jnp.finfo(dtype).eps ** 0.75 * jnp.eye(n, dtype=dtype)
        convex = jax.lax.linalg.cholesky(data.P + shift, symmetrize_input=False)
        convex = jnp.all(jnp.isfinite(convex)) | ~jnp.all(jnp.isfinite(data.P))
        infinity = jnp.full((), jnp.inf, dtype)
        bar = jnp.full((), _EARLY, dtype)
        trial = Trial(zero > 0, zero, central.x, central.s, infinity, bar, jnp.full_like(central.x, jnp.inf))
        running, pace = zero + Status.RUNNING, at_rest(central.x)
        return State(infinity, running, data, central, convex, infinity, infinity, zero, trial, pace)

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Take one step: along the central path, or of Newton's method on the natural map."""
        del x, args
        layout, data, central, trial = _layout(problem), state.data, state.central, state.trial
        dtype, eps = data.c.dtype, jnp.finfo(data.c.dtype).eps
        tol = jnp.asarray(accuracy(self, data.c), dtype)
        exact = jnp.minimum(_EXACT * eps, tol)

        point = ConePoint.of(data, central.x, central.z, central.s)
        away = point.error(data, layout, central.tau)
        late = away <= tol
        face = trial.on | (away <= trial.bar)
        start_x = jnp.where(trial.on, trial.x, central.x / central.tau)
        start_v = jnp.where(trial.on, trial.v, (central.s - central.z) / central.tau)

        # where the next point is looked for: the map of the natural residual, or that of the path
        newton = Newton.of(data, layout, central, point)
        eye = jnp.eye(layout.size, dtype=dtype)

        def natural() -> jax.Array:
            return eye - layout.dense(layout.projection_blocks(start_v), dtype)

        E = jax.lax.cond(face, natural, lambda: layout.dense(newton.blocks(layout), dtype))
        single = dtype != jnp.float64
        # well below the path's own small singular values, which fall with the mean complementarity
        mean = vdot(central.s, central.z) / ((layout.degree + 1) * central.tau**2)
        pace = paced(state.pace, central.x / central.tau, mean, away <= _EARLY)
        shift = jnp.clip(0.01 * mean, eps**0.8, eps**0.6)
        # where the solution or its multipliers are not unique, the natural map's matrix is singular: moved apart by a
        # share of the residual, a step is no longer than the way to a solution, and converges as fast
        left = _natural_residual(data, layout, start_x, start_v)
        shift = jnp.where(face, jnp.clip(0.1 * trees.max_abs(left), eps**0.8, eps**0.4), shift)
        system = System.of(data, E, eye - E, shift)
        rounds = 3 if single else 2
        moved, reach = newton.step(layout, system, rounds)
        found, miss = _onto(data, layout, system, (start_x, start_v), left, rounds)

        fine = trees.all_finite(moved) & (reach > 0)
        # a step that is as long as the last one leads to no solution, however small an error is there
        last = jnp.where(trial.on, trial.step, pace.move)
        stays = ~runs_on(found.x - start_x, last, found.x)
        accepted = face & state.convex & (miss <= exact) & stays
        going = face & ~accepted & (trial.count + 1 < _NEWTON) & (miss <= 0.5 * trial.error)
        # where Newton's method ends above the tolerance of an exact point, the better of the two is taken
        ended = face & ~accepted & ~going & state.convex
        good = ended & (miss <= tol) & (late | (miss <= away)) & stays
        # where cones are curved, a small gap says that the point is good to its root: it must be good itself
        bent = point.natural(layout, central.tau)
        inside = (ended | ~face) & (trial.bar < _EARLY) & late & ~(accepted | good) & (bent <= _LOOSE * tol)
        pace = pace._replace(refused=pace.refused | ((inside | good) & pace.drifts))
        # a path that ran away may be slower by chance: only an exact point is believed then
        accepted, inside = accepted | (good & ~pace.refused), inside & ~pace.refused

        empty, endless = point.certificates(data)
        gain = functools.reduce(jnp.minimum, (away, empty, endless))
        # along a long path errors fall last, complementarity first
        whole = (vdot(central.s, central.z) + central.tau * central.kappa) / (layout.degree + 1)
        nearer = (whole < 0.5 * state.whole) & (whole > eps**2)
        gains = ((gain < 0.9 * state.least) | nearer | face) & ~pace.refused
        idle = jnp.where(gains, 0, state.idle + 1)
        failed = jnp.where(pace.refused, Status.DIVERGED, Status.STALLED)
        status = jnp.where((idle >= _PATIENCE) | ~(fine | face), failed, Status.RUNNING)
        # beside a solution nearby, a contradiction or a ray is one of rounding
        lost, least = central.tau < central.kappa, 0.1 * eps**0.5
        status = jnp.where(lost & (endless <= least), Status.DUAL_INFEASIBLE, status)
        status = jnp.where(lost & (empty <= least), Status.PRIMAL_INFEASIBLE, status)
        status = jnp.where(state.convex, status, Status.NOT_CONVEX)
        alone = jnp.any(data.impossible)
        accepted, inside = accepted & ~alone, inside & ~alone
        status = jnp.where(accepted | inside, Status.RUNNING, status)
        status = jnp.where(alone, Status.PRIMAL_INFEASIBLE, status).astype(jnp.int32)
        error = jnp.where(accepted, miss, jnp.where(inside, away, jnp.maximum(away, 2 * tol)))

        shown = (central.x / central.tau, central.z / central.tau)
        shown = trees.where(accepted, (found.x, found.z), shown)
        proof = jnp.where(alone, data.impossible.astype(dtype), central.z)
        shown = _or_ray(central.x, proof, shown, status)
        central = trees.where(face | ~fine, central, moved)
        bar = jnp.where(face & ~going, jnp.minimum(_BETTER * away, trial.bar), trial.bar)
        zero = jnp.zeros_like(trial.count)
        trial = Trial(
            going,
            jnp.where(going, trial.count + 1, zero),
            found.x,
            found.s - found.z,
            jnp.where(going, miss, jnp.inf).astype(dtype),
            bar,
            found.x - start_x,
        )
        state = state._replace(error=error, status=status, central=central, idle=idle, trial=trial, pace=pace)
        least, whole = jnp.minimum(state.least, gain), jnp.where(nearer, whole, state.whole)
        return data.point(layout, *shown), state._replace(least=least, whole=whole)

    def accepts_state(self, problem: Any, x: Tree, state: State, *args: Tree) -> jax.Array:
        """Return whether the state is one of this program: it holds the data."""
        del x, args
        own = scaled_cones(problem, _layout(problem))
        same = [jnp.all(a == b) for a, b in zip(*map(jax.tree.leaves, (own, state.data)), strict=True)]
        return functools.reduce(jnp.logical_and, same)

    def derivative_solver(self, problem: Any, x: Tree, state: State) -> Reused:
        """Return a linear solver in the program's own units."""
        del state
        return cone_solver(problem)


def _layout(problem: Any) -> Layout:
    return Layout(problem.cone, problem.b.size)


def _natural_residual(data: ScaledCones, layout: Layout, x: jax.Array, v: jax.Array) -> jax.Array:
    """Return what the natural map leaves at a point, with the slacks less the multipliers."""
    s = layout.project(v)
    return jnp.concatenate([dot(data.P, x) + data.c + dot(data.A.T, s - v), dot(data.A, x) + s - data.b])


def _onto(
    data: ScaledCones, layout: Layout, system: System, at: tuple[jax.Array, jax.Array], left: jax.Array, rounds: int
) -> tuple[ConePoint, jax.Array]:
    """Return the point after one step of Newton's method on the natural map, and its error."""
    n, (x, v) = data.n, at
    step, _ = system.solve(-left[:, None], rounds)
    x, v = x + step[:n, 0], v - step[n:, 0]
    s = layout.project(v)
    found = ConePoint.of(data, x, s - v, s)
    return found, found.error(data, layout)


def _or_ray(x: jax.Array, z: jax.Array, shown: tuple[jax.Array, jax.Array], status: Any) -> tuple[jax.Array, jax.Array]:
    """Return the point to show: a certificate where there is no solution."""
    primal, dual = status == Status.PRIMAL_INFEASIBLE, status == Status.DUAL_INFEASIBLE
    ray = jnp.where(dual, x, 0), jnp.where(primal, z, 0)
    top = trees.max_abs(ray)
    return trees.where(primal | dual, trees.scale(1 / jnp.where(top > 0, top, 1), ray), shown)
