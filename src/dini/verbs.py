"""The verbs in front: a problem, a solver that fits it and a solve, in one call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .differentiation import Differentiation, Implicit
from .hints import explained
from .monitors import Monitor
from .problems import FixedPoint, LeastSquares, Minimize, Root
from .solution import Solution
from .solve import solve
from .solvers import (
    BFGS,
    LBFGS,
    LBFGSB,
    Anderson,
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
) -> Solution:
    """Minimize ``fun(x, *args)``, starting at ``x0``; see :class:`dini.Minimize` and :func:`dini.solve`.

    Default solvers: :class:`dini.BFGS` for at most 128 unknowns, :class:`dini.LBFGS` for more; with bounds
    :class:`dini.ProjectedNewton` for at most 32 unknowns and :class:`dini.LBFGSB` for more; with another constraint or
    a penalty :class:`dini.ProximalGradient`.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> center = lambda a: dini.minimize(lambda x, a: jnp.sum((x - a) ** 2), jnp.zeros(2), a).x
    >>> print(jax.jacobian(center)(jnp.ones(2)))
    [[1. 0.]
     [0. 1.]]
    """
    problem = Minimize(fun, constraint, penalty, has_aux)
    solver = default_minimizer(x0, problem) if solver is None else solver
    return solve(problem, solver, x0, *args, differentiation=differentiation, on_failure=on_failure, monitor=monitor)


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
    return solve(problem, solver, x0, *args, differentiation=differentiation, on_failure=on_failure, monitor=monitor)


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
    return solve(problem, solver, x0, *args, differentiation=differentiation, on_failure=on_failure, monitor=monitor)


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
    return solve(problem, solver, x0, *args, differentiation=differentiation, on_failure=on_failure, monitor=monitor)
