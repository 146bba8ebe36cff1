"""Newton's method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from .. import linear, trees
from ..linear._dense import materialize
from ..linear._krylov import wrap_linear_solver
from ..loop import tolerance
from ..problems import FixedPoint, LeastSquares, Minimize, Root
from ..status import Status
from ._base import Solver, infinity, relative_rounding, running


class State(NamedTuple):
    """Carried from step to step: the accepted point's merit, the Newton direction and the next trial step along it."""

    error: Any
    step_size: Any
    merit: Any
    direction: Any
    slope: Any
    steps: Any
    status: Any


@register_dataclass
@dataclass(frozen=True)
class Newton(Solver):
    r"""Newton's method with backtracking, for minima, roots and fixed points.

    Roots: :math:`x \leftarrow x - t\, [\partial F(x)]^{-1} F(x)` with the merit :math:`\tfrac12\|F\|^2`. Minima: the
    same with :math:`F = \nabla f` and the merit ``f``; where the Hessian is not positive definite, the absolute
    values of its eigenvalues are used, so that the direction descends. The step ``t`` starts at one and is halved
    until the merit decreases sufficiently; each trial is one step. The error is :math:`\|F\|_2`.

    Parameters
    ----------
    linear_solver
        One of :mod:`dini.linear`, a Lineax solver or a function ``solve(matvec, b)``, used for the Newton system.
        Default: dense factorization for small problems, a Krylov method for large ones.
    tol
        Tolerance on the error. Default: the square root of the unit roundoff.
    max_steps
        Limit on the number of steps.

    Examples
    --------
    >>> import dini
    >>> float(dini.solve(dini.Root(lambda x, a: x**3 + x - a), dini.Newton(), 1.0, 10.0).x)
    2.0
    """

    linear_solver: Any = None
    tol: Any = None
    max_steps: int = field(default=100, metadata={"static": True})

    solves = (Minimize, LeastSquares, Root, FixedPoint)
    superlinear = True
    monotone = True

    def __post_init__(self) -> None:
        self._check_settings()
        object.__setattr__(self, "linear_solver", wrap_linear_solver(self.linear_solver))

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        inf = infinity(x)
        zero = jnp.zeros_like(inf)
        return State(inf, zero, inf, trees.zeros_like(x), zero, jnp.zeros((), jnp.int32), running())

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Try one step."""
        minimum = isinstance(problem, Minimize | LeastSquares)
        dtype = state.error.dtype
        trial = trees.axpy(state.step_size, state.direction, x)
        if minimum:
            merit, residual = problem.value_and_gradient(trial, *args)
            size = trees.norm(residual)
        else:
            residual = problem.residual(trial, *args)
            size = trees.norm(residual)
            merit = 0.5 * size**2
        merit, size = merit.astype(dtype), size.astype(dtype)
        first = state.steps == 0
        # at a minimum the merit's decrease drowns in its rounding error, while a residual's does not
        slack = relative_rounding(state.merit) if minimum else 0.0
        bound = state.merit + 1e-4 * state.step_size * state.slope + slack
        finite = jnp.isfinite(merit) & jnp.isfinite(size)
        accept = first | (finite & (merit <= bound))
        error = jnp.where(first & ~finite, jnp.nan, jnp.where(accept, size, state.error))

        def renew(_: Any) -> tuple[Any, Any, Any]:
            direction = self._direction(problem, trial, residual, args)
            slope = trees.vdot(residual, direction).astype(dtype) if minimum else -(size**2)
            return direction, slope, jnp.ones((), dtype)

        def shrink(_: Any) -> tuple[Any, Any, Any]:
            return state.direction, state.slope, (0.5 * state.step_size).astype(dtype)

        needed = accept & ~(error <= tolerance(self, x))
        direction, slope, step_size = jax.lax.cond(needed, renew, shrink, None)
        status = jnp.where(trees.all_finite(direction), state.status, Status.SINGULAR)
        moved = trees.norm(state.direction) * state.step_size
        tiny = ~accept & (moved <= 1e-2 * trees.eps(x) * (1 + trees.norm(x)))
        status = jnp.where(tiny, Status.STEP_TOO_SMALL, status).astype(jnp.int32)
        new = State(error, step_size, jnp.where(accept, merit, state.merit), direction, slope, state.steps + 1, status)
        return trees.where(accept, trial, x), new

    def _direction(self, problem: Any, x: Any, residual: Any, args: tuple[Any, ...]) -> Any:
        minimum = isinstance(problem, Minimize | LeastSquares)
        function = problem.gradient if minimum else problem.residual
        matvec = linear.Linearized(lambda u: function(u, *args), x)
        if minimum and self.linear_solver is None and trees.size(x) <= linear.DENSE_LIMIT:
            return _descend(matvec, residual)
        structure = problem.structure
        solution = linear.solve(
            matvec, trees.neg(residual), structure=structure, solver=self.linear_solver, on_failure="ignore"
        )
        if not minimum:
            return solution
        descends = trees.all_finite(solution) & (trees.vdot(residual, solution) < 0)
        return trees.where(descends, solution, trees.neg(residual))

    def differentiable_step(self, problem: Any, x: Any, state: State, *args: Any) -> Any:
        """Return one full Newton step."""
        del state
        function = problem.gradient if isinstance(problem, Minimize | LeastSquares) else problem.residual
        matvec = linear.Linearized(lambda u: function(u, *args), x)
        name = f"the Newton step of {problem.name}"
        step = linear.solve(matvec, matvec.value, structure=problem.structure, solver=self.linear_solver, name=name)
        return trees.sub(x, step)


def _descend(matvec: Any, gradient: Any) -> Any:
    """Return the Newton direction of a minimum, made a descent direction where the Hessian is indefinite."""
    hessian, flat, unravel = materialize(matvec, gradient)
    return unravel(-solve_positive(hessian, flat))


def solve_positive(hessian: jax.Array, b: jax.Array) -> jax.Array:
    """Solve with a symmetric matrix, with the absolute values of its eigenvalues where it is not positive definite."""
    hessian = 0.5 * (hessian + hessian.T)
    factor = jnp.linalg.cholesky(hessian, symmetrize_input=False)

    def plain(_: Any) -> jax.Array:
        return jax.scipy.linalg.cho_solve((factor, True), b)

    def modified(_: Any) -> jax.Array:
        # far from a solution only: what this direction is does not matter to a derivative
        values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(hessian))
        size = jnp.abs(values)
        floor = jnp.finfo(size.dtype).eps ** 0.5 * jnp.maximum(jnp.max(size), jnp.finfo(size.dtype).tiny)
        return vectors @ ((vectors.T @ b) / jnp.maximum(size, floor))

    return jax.lax.cond(jnp.all(jnp.isfinite(factor)), plain, modified, None)
