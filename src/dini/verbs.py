"""The verbs in front: a problem, a solver that fits it and a solve, in one call."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from .defaults import Default
from .differentiation import Differentiation, Implicit
from .explanations import explained
from .linear._wrappers import UniquePart
from .monitors import Monitor
from .penalties import Penalty
from .penalties._constrained import constrained
from .problems import Composite, FixedPoint, LeastSquares, Minimize, NonlinearProgram, Root, check_unknown
from .problems._minimize import check_part
from .sets import Set
from .sets._boxes import bounds_of, has_bounds
from .solution import Solution
from .solvers import Function, Solver
from .solving import solve
from .status import OnFailure
from .trees import Tree

_IMPLICIT, _DEFAULT, _UNIQUE_PART = Implicit(), Default(), UniquePart()


def _splits(constraint: Any, penalty: Any, solver: Solver | Callable[..., Any] | None) -> bool:
    """Return whether a constraint and a penalty are split: for a solver that does it, or where nothing else can be."""
    for what, part, kind in (("constraint", constraint, Set), ("penalty", penalty, Penalty)):
        check_part("Minimize", what, part, kind)
    if isinstance(solver, Solver) and not isinstance(solver, Function) and Composite in solver.solves:
        return True
    known = constrained(penalty, constraint) is not None
    if known or not (penalty.convex and constraint.convex):
        return False
    return solver is None or isinstance(solver, Solver)


def _beside(constraint: Any, penalty: Any, x0: Tree) -> dict[str, Any]:
    """Return the bounds, or the set and the penalty, beside constraints that are functions."""
    if constraint is not None:
        check_part("minimize", "constraint", constraint, Set)
        constraint.check(check_unknown(x0))
        if penalty is None and has_bounds(constraint):
            lower, upper = bounds_of(constraint, check_unknown(x0))
            return {"lower": lower, "upper": upper}
    return {"constraint": constraint, "penalty": penalty}


@functools.partial(explained, solver="BFGS")
def minimize(
    fun: Callable[..., Any],
    x0: Tree,
    *args: Tree,
    constraint: Any = None,
    equality: Callable[..., Any] | None = None,
    inequality: Callable[..., Any] | None = None,
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

    Without ``solver``, one is chosen by what the problem's trace shows; ``solution.solver`` says which:

    * :class:`dini.BFGS` for at most 32 unknowns, :class:`dini.LBFGS` for more;
    * ``BFGS(start="hessian")`` for at most 512 unknowns, where ``fun`` is quadratic or a gradient costs much more than
      the solver's own work, as in a regression (and the Hessian is no larger than its data);
    * one factorization by :class:`dini.linear.Sparse` for a quadratic of more than 32 unknowns whose Hessian is a
      narrow band, and ``LBFGS`` where that is not positive definite;
    * with bounds :class:`dini.ProjectedNewton` for at most 32 unknowns and :class:`dini.LBFGSB` for more;
    * with another constraint or a penalty :class:`dini.ProximalGradient`;
    * with ``equality`` or ``inequality`` :class:`dini.NonlinearInteriorPoint`, and :class:`dini.AugmentedLagrangian`
      with a penalty, or a constraint that is not made of bounds, beside them.

    ``equality(x, *args)`` must vanish and ``inequality(x, *args)`` must not be positive: functions that return arrays
    or trees of them, beside which there may be a constraint and a penalty (a :class:`dini.NonlinearProgram`). Their
    multipliers are ``solution.multipliers``.

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

    The point of a circle that is nearest to (3, 4), and by how much the circle's radius squared lowers the value:

    >>> solution = dini.minimize(
    ...     lambda x: jnp.sum((x - jnp.array([3.0, 4.0])) ** 2), jnp.ones(2), equality=lambda x: jnp.sum(x**2) - 1.0
    ... )
    >>> print(solution.x.round(3), solution.multipliers.equality.round(3))
    [0.6 0.8] 4.0
    """
    how: dict[str, Any] = {"on_failure": on_failure, "monitor": monitor, "return_state": return_state, "state": state}
    how |= {"time_limit": time_limit, "steps": steps}
    if equality is not None or inequality is not None:
        beside = _beside(constraint, penalty, x0)
        program = NonlinearProgram(fun, equality, inequality, has_aux=has_aux, **beside)
        start = program.start(check_unknown(x0), *args)
        pair = solve(program, solver or _DEFAULT, start, *args, differentiation=differentiation, **how)
        return dataclasses.replace(pair, x=pair.x.primal, multipliers=pair.x.dual)
    if constraint is not None and penalty is not None and _splits(constraint, penalty, solver):
        split = Composite(fun, penalty, constraint=constraint, has_aux=has_aux)
        if isinstance(differentiation, Implicit) and differentiation.linear_solver is None:
            differentiation = dataclasses.replace(differentiation, linear_solver=_UNIQUE_PART)
        start = split.start(check_unknown(x0), *args)
        pair = solve(split, solver or _DEFAULT, start, *args, differentiation=differentiation, **how)
        return dataclasses.replace(pair, x=pair.x.primal)
    problem = Minimize(fun, constraint, penalty, has_aux)
    return solve(problem, _DEFAULT if solver is None else solver, x0, *args, differentiation=differentiation, **how)


@functools.partial(explained, solver="LevenbergMarquardt")
def least_squares(
    fun: Callable[..., Any],
    x0: Tree,
    *args: Tree,
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

    With a ``constraint`` over a set, with a robust ``loss`` in place of the square. Without ``solver``, it is
    :class:`dini.LevenbergMarquardt`; for at most 8 unknowns without constraint and loss, whose residuals cost next to
    nothing, full steps of :class:`dini.GaussNewton` first (at most 100), and ``LevenbergMarquardt`` from the start
    where these fail or end above it; with a constraint that is not made of bounds, :class:`dini.ProximalGradient`.
    ``solution.solver`` says which.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> t = jnp.array([0.0, 1.0, 2.0])
    >>> round(float(dini.least_squares(lambda rate: jnp.exp(-rate * t) - jnp.exp(-0.5 * t), 1.0).x), 3)
    0.5
    """
    problem = LeastSquares(fun, has_aux, constraint, loss)
    return solve(
        problem,
        _DEFAULT if solver is None else solver,
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
    x0: Tree,
    *args: Tree,
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
    """Solve ``fun(x, *args) = 0``, starting at ``x0``; see :class:`dini.Root` and :func:`dini.solve`.

    Default solver: :class:`dini.Newton`; for more than 32 unknowns whose Jacobian is a narrow band, in their order or
    another, with :class:`dini.linear.Sparse`, which then solves for the derivative as well.

    Examples
    --------
    >>> import dini, jax
    >>> round(float(jax.grad(lambda a: dini.root(lambda x, a: x**3 + x - a, 1.0, a).x)(10.0)) * 13, 3)
    1.0
    """
    problem = Root(fun, has_aux)
    return solve(
        problem,
        _DEFAULT if solver is None else solver,
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
    x0: Tree,
    *args: Tree,
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
        _DEFAULT if solver is None else solver,
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
