"""The verbs in front: a problem, a solver that fits it and a solve, in one call."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .differentiation import Differentiation, Implicit
from .hints import explained
from .linear._wrappers import UniquePart
from .monitors import Monitor
from .penalties import Penalty
from .penalties._constrained import constrained
from .problems import Composite, FixedPoint, LeastSquares, Minimize, Root, check_unknown
from .problems._minimize import check_part
from .sets import Set
from .solution import Solution
from .solve import solve
from .solvers import (
    BFGS,
    LBFGS,
    LBFGSB,
    Anderson,
    CondatVu,
    Function,
    LevenbergMarquardt,
    Newton,
    ProjectedNewton,
    ProximalGradient,
    Solver,
)
from .solvers._box import has_bounds
from .status import OnFailure

_IMPLICIT = Implicit()
_BFGS, _LBFGS, _LBFGSB, _PROXIMAL_GRADIENT = BFGS(), LBFGS(), LBFGSB(), ProximalGradient()
_PROJECTED_NEWTON = ProjectedNewton()
#: unknowns of up to this many numbers are minimized with a dense inverse Hessian
_SMALL = 128
#: with bounds, the Hessian of up to this many is computed
_SMALL_HESSIAN = 32
_CONDAT_VU, _UNIQUE_PART = CondatVu(), UniquePart()
_LEVENBERG_MARQUARDT, _NEWTON, _ANDERSON = LevenbergMarquardt(), Newton(), Anderson()


def _size(x0: Any) -> int:
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(x0))  # pyright: ignore[reportUnknownMemberType]


def default_minimizer(x0: Any, problem: Minimize) -> Solver:
    """Return the solver that :func:`minimize` picks."""
    if problem.penalty is None and problem.constraint is not None and has_bounds(problem.constraint):
        return _PROJECTED_NEWTON if _size(x0) <= _SMALL_HESSIAN else _LBFGSB
    if problem.composite:
        return _PROXIMAL_GRADIENT
    return _BFGS if _size(x0) <= _SMALL else _LBFGS


def _splits(constraint: Any, penalty: Any, solver: Any) -> bool:
    """Return whether a constraint and a penalty are split: for a solver that does it, or where nothing else can be."""
    for what, part, kind in (("constraint", constraint, Set), ("penalty", penalty, Penalty)):
        check_part("Minimize", what, part, kind)
    if isinstance(solver, Solver) and not isinstance(solver, Function) and Composite in solver.solves:
        return True
    known = constrained(penalty, constraint) is not None
    if known or not (penalty.convex and constraint.convex):
        return False
    return solver is None or isinstance(solver, Solver)


@functools.partial(explained, solver="BFGS")
def minimize(
    fun: Callable[..., Any],
    x0: Any,
    *args: Any,
    constraint: Any = None,
    penalty: Any = None,
    has_aux: bool = False,
    solver: Solver | Callable[..., Any] | None = None,
    differentiation: Differentiation = _IMPLICIT,
    on_failure: OnFailure = "raise",
    monitor: Monitor | None = None,
    return_state: bool = False,
    state: Any = None,
    time_limit: float | None = None,
    steps: int | None = None,
) -> Solution:
    """Minimize ``fun(x, *args)``, starting at ``x0``; see :class:`dini.Minimize` and :func:`dini.solve`.

    Default solvers: :class:`dini.BFGS` for at most 128 unknowns, :class:`dini.LBFGS` for more; with bounds
    :class:`dini.ProjectedNewton` for at most 32 unknowns and :class:`dini.LBFGSB` for more; with another constraint or
    a penalty :class:`dini.ProximalGradient`.

    A constraint and a penalty together: where the proximal operator of their sum is known
    (:class:`dini.penalties.Constrained`), they are one penalty. Other convex pairs are split, with a multiplier for the
    two to agree: the solver is then one of :class:`dini.Composite`, by default :class:`dini.CondatVu`, and the
    derivative that of the saddle point, whose multiplier need not be unique. The returned point is in the set.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> center = lambda a: dini.minimize(lambda x, a: jnp.sum((x - a) ** 2), jnp.zeros(2), a).x
    >>> print(jax.jacobian(center)(jnp.ones(2)))
    [[1. 0.]
     [0. 1.]]
    """
    how: dict[str, Any] = {"on_failure": on_failure, "monitor": monitor, "return_state": return_state, "state": state}
    how |= {"time_limit": time_limit, "steps": steps}
    if constraint is not None and penalty is not None and _splits(constraint, penalty, solver):
        split = Composite(fun, penalty, constraint=constraint, has_aux=has_aux)
        if isinstance(differentiation, Implicit) and differentiation.linear_solver is None:
            differentiation = dataclasses.replace(differentiation, linear_solver=_UNIQUE_PART)
        start = split.start(check_unknown(x0), *args)
        pair = solve(split, solver or _CONDAT_VU, start, *args, differentiation=differentiation, **how)
        return dataclasses.replace(pair, x=pair.x.primal)
    problem = Minimize(fun, constraint, penalty, has_aux)
    solver = default_minimizer(x0, problem) if solver is None else solver
    return solve(problem, solver, x0, *args, differentiation=differentiation, **how)


@functools.partial(explained, solver="LevenbergMarquardt")
def least_squares(
    fun: Callable[..., Any],
    x0: Any,
    *args: Any,
    constraint: Any = None,
    loss: Any = None,
    has_aux: bool = False,
    solver: Solver | Callable[..., Any] | None = None,
    differentiation: Differentiation = _IMPLICIT,
    on_failure: OnFailure = "raise",
    monitor: Monitor | None = None,
    return_state: bool = False,
    state: Any = None,
    time_limit: float | None = None,
    steps: int | None = None,
) -> Solution:
    """Minimize half the squared norm of ``fun(x, *args)``; see :class:`dini.LeastSquares` and :func:`dini.solve`.

    With a ``constraint`` over a set, with a robust ``loss`` in place of the square. Default solver:
    :class:`dini.LevenbergMarquardt`; with a constraint that is not made of bounds, :class:`dini.ProximalGradient`.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> t = jnp.array([0.0, 1.0, 2.0])
    >>> round(float(dini.least_squares(lambda rate: jnp.exp(-rate * t) - jnp.exp(-0.5 * t), 1.0).x), 3)
    0.5
    """
    if solver is None:
        bounds = constraint is None or getattr(constraint, "elementwise", False)
        solver = _LEVENBERG_MARQUARDT if bounds else _PROXIMAL_GRADIENT
    problem = LeastSquares(fun, has_aux, constraint, loss)
    return solve(
        problem,
        solver,
        x0,
        *args,
        differentiation=differentiation,
        on_failure=on_failure,
        monitor=monitor,
        return_state=return_state,
        state=state,
        time_limit=time_limit,
        steps=steps,
    )


@functools.partial(explained, solver="Newton")
def root(
    fun: Callable[..., Any],
    x0: Any,
    *args: Any,
    has_aux: bool = False,
    solver: Solver | Callable[..., Any] = _NEWTON,
    differentiation: Differentiation = _IMPLICIT,
    on_failure: OnFailure = "raise",
    monitor: Monitor | None = None,
    return_state: bool = False,
    state: Any = None,
    time_limit: float | None = None,
    steps: int | None = None,
) -> Solution:
    """Solve ``fun(x, *args) = 0``, starting at ``x0``; see :class:`dini.Root` and :func:`dini.solve`.

    Default solver: :class:`dini.Newton`.

    Examples
    --------
    >>> import dini, jax
    >>> round(float(jax.grad(lambda a: dini.root(lambda x, a: x**3 + x - a, 1.0, a).x)(10.0)) * 13, 3)
    1.0
    """
    problem = Root(fun, has_aux)
    return solve(
        problem,
        solver,
        x0,
        *args,
        differentiation=differentiation,
        on_failure=on_failure,
        monitor=monitor,
        return_state=return_state,
        state=state,
        time_limit=time_limit,
        steps=steps,
    )


@functools.partial(explained, solver="Anderson")
def fixed_point(
    fun: Callable[..., Any],
    x0: Any,
    *args: Any,
    has_aux: bool = False,
    solver: Solver | Callable[..., Any] = _ANDERSON,
    differentiation: Differentiation = _IMPLICIT,
    on_failure: OnFailure = "raise",
    monitor: Monitor | None = None,
    return_state: bool = False,
    state: Any = None,
    time_limit: float | None = None,
    steps: int | None = None,
) -> Solution:
    """Solve ``x = fun(x, *args)``, starting at ``x0``; see :class:`dini.FixedPoint` and :func:`dini.solve`.

    Default solver: :class:`dini.Anderson`.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> round(float(dini.fixed_point(lambda x: jnp.cos(x), 1.0).x), 3)
    0.739
    """
    problem = FixedPoint(fun, has_aux)
    return solve(
        problem,
        solver,
        x0,
        *args,
        differentiation=differentiation,
        on_failure=on_failure,
        monitor=monitor,
        return_state=return_state,
        state=state,
        time_limit=time_limit,
        steps=steps,
    )
