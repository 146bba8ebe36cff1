"""Newton's method: the solver, and its steps to minima; those for equations are in ``_newton_equations.py``."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp

from .. import linear, trees
from ..linear._krylov import wrap_linear_solver
from ..linear._materialize import materialize
from ..linear._reused import CholeskyFactor, Reused, SparseFactor
from ..linear._solve import solve_known
from ..loop import met
from ..problems import FixedPoint, LeastSquares, Minimize, Root
from ..status import Status
from ..trees import Scalar, Tree
from . import _newton_equations
from ._base import Solver, infinity, running, solver
from .shared import _scales
from .shared._acceptance import kept_value, relative_rounding, shown_by_gradients
from .shared._definite import FEW, Factor, descent, solve_positive, sparse_descent

#: From this size on, a few products with the Hessian cost less than assembling and factorizing it.
_WORTHWHILE = 96

#: Up to so many products, a sparse Hessian is formed as soon as the last one is found to be near: that takes four, and
#: two or three steps of conjugate gradients.
_FEW_COLORS = 8


class State(NamedTuple):
    """Carried from step to step: the accepted point's merit, gradient and Newton direction, and the next trial step."""

    error: Scalar
    step_size: Scalar
    merit: Scalar
    gradient: Tree
    direction: Tree
    slope: Scalar
    steps: Scalar
    scales: Any
    status: Any
    factor: Any = None


@solver
class Newton(Solver):
    r"""Newton's method, globally convergent, for minima, roots and fixed points.

    .. math::
        \begin{aligned}
        x &\leftarrow x - [\partial F(x)]^{-1} F(x), \qquad (1) \\
        x &\leftarrow x + t d, \qquad \nabla^2 f(x)\, d = -\nabla f(x), \qquad (2) \\
        f(x + t d) &\le f(x) + 10^{-4}\, t\, \nabla f(x)^\top d \qquad (3)
        \end{aligned}

    Roots: (1) where that step reduces :math:`\|F\|`. Where it does not, or the Jacobian is singular, a path is followed
    that bends from the Newton step to steepest descent of :math:`\|F\|^2` (Powell's dogleg) inside a region that
    shrinks and grows; the products with the Jacobian that this needs are computed only then. Minima: (2); where the
    Hessian is not positive definite, the absolute values of its eigenvalues are used, so that the direction descends
    (a sparse one is moved by a diagonal until it is positive definite; above 512 unknowns, and with another
    ``linear_solver``, the direction is turned around where it ascends). The step ``t`` starts at one and is halved
    until (3) holds. Each trial is one step. The error is :math:`\|F\|_2`, of minima :math:`\|\nabla f\|_2`.

    Parameters
    ----------
    linear_solver
        One of :mod:`dini.linear`, a Lineax solver or a function ``solve(matvec, b)``, used for the Newton system.
        Default: dense factorization for small problems, a Krylov method for large ones. Where it is
        :class:`dini.linear.Sparse` or :class:`dini.linear.SparseDirect` with a declared pattern, the derivative of a
        minimum uses it too, with the factor of the last step.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Powell, "A hybrid method for nonlinear equations", Numerical Methods for Nonlinear Algebraic Equations, 1970.

    Examples
    --------
    >>> import dini
    >>> float(dini.solve(dini.Root(lambda x, a: x**3 + x - a), dini.Newton(rtol=1e-6), 1.0, 10.0).x)
    2.0
    """

    linear_solver: Any = None
    max_steps: int = field(default=100, metadata={"static": True})

    solves = (Minimize, LeastSquares, Root, FixedPoint)
    superlinear = True
    monotone = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        object.__setattr__(self, "linear_solver", wrap_linear_solver(self.linear_solver))

    def init(self, problem: Any, x: Tree, *args: Tree) -> Any:
        """Return the state before the first step, which only evaluates the function."""
        del args
        if not isinstance(problem, Minimize | LeastSquares):
            return _newton_equations.start(x)
        inf = infinity(x)
        zero = jnp.zeros_like(inf)
        factor, size, dtype = None, trees.size(x), trees.single(jax.flatten_util.ravel_pytree(x)[0].dtype)
        if self._factorizes(problem, x) and size > FEW:
            factor = Factor(jnp.zeros((size, size), dtype), jnp.zeros((), bool))
        elif self._by_nonzeros:
            factor = Factor(jnp.zeros(self.linear_solver.pattern.count, dtype), jnp.zeros((), bool))
        nothing, steps = trees.zeros_like(x), jnp.zeros((), jnp.int32)
        return State(inf, zero, inf, nothing, nothing, zero, steps, _scales.unknown(x), running(), factor)

    def step(self, problem: Any, x: Tree, state: Any, *args: Tree) -> tuple[Any, Any]:
        """Try one step."""
        if isinstance(problem, Minimize | LeastSquares):
            return self._descend(problem, x, state, args)
        return _newton_equations.advance(self, problem, x, state, args)

    def _descend(self, problem: Any, x: Tree, state: State, args: tuple[Tree, ...]) -> tuple[Any, State]:
        dtype = state.error.dtype
        # (2): t = step_size, d = direction
        trial = trees.axpy(state.step_size, state.direction, x)
        merit, gradient = problem.value_and_gradient(trial, *args)
        merit, size = merit.astype(dtype), trees.norm(gradient).astype(dtype)
        first, eps = state.steps == 0, trees.eps(x)
        # (3); near a minimum the decrease drowns in its rounding error
        bound = state.merit + 1e-4 * state.step_size * state.slope + relative_rounding(state.merit)
        finite = jnp.isfinite(merit) & jnp.isfinite(size)
        promised = -state.step_size * state.slope
        shown = shown_by_gradients(state.merit, merit, promised, state.error, size)
        accept = first | (finite & ((merit <= bound) | shown))
        # what the step promised is rounding of the merit, and the gradient is no shorter: it is rounding as well
        stalled = accept & ~first & (promised <= relative_rounding(state.merit)) & ~(size < 0.5 * state.error)
        accept &= ~(stalled & (size > state.error))
        error = jnp.where(first & ~finite, jnp.nan, jnp.where(accept, size, state.error))
        s, y = trees.sub(trial, x), trees.sub(gradient, state.gradient)
        pair, extent = (trees.vdot(s, s), jnp.where(first, 0, trees.vdot(y, y))), _scales.norm(trial)
        scales = _scales.learned(state.scales, accept, *pair, extent, size, eps, trees.vdot(s, y))

        def renew(_: Any) -> tuple[Any, Any, Any, Any]:
            direction, factor = self._direction(problem, trial, gradient, args)
            return direction, trees.vdot(gradient, direction).astype(dtype), jnp.ones((), dtype), factor

        def shrink(_: Any) -> tuple[Any, Any, Any, Any]:
            return state.direction, state.slope, (0.5 * state.step_size).astype(dtype), state.factor

        # of a fixed number of steps, those that move nothing but the derivative are taken as well
        needed = accept & ~(stalled & self.stops) & ~met(self, x, error, scales)
        direction, slope, step_size, factor = jax.lax.cond(needed, renew, shrink, None)
        status = jnp.where(trees.all_finite(direction), state.status, Status.SINGULAR)
        moved = trees.norm(state.direction) * state.step_size
        tiny = ~accept & (moved <= 1e-2 * eps * trees.norm(x))
        ends = {"status": status, "accept": accept, "stalled": stalled, "tiny": tiny}
        status = _scales.ending(scales, (jnp.where(first, merit, state.merit), extent, error), eps, **ends)
        merit = jnp.where(accept, kept_value(state.merit, merit, relative_rounding(state.merit)), state.merit)
        gradient = trees.where(accept, gradient, state.gradient)
        new = State(error, step_size, merit, gradient, direction, slope, state.steps + 1, scales, status, factor)
        return trees.where(accept, trial, x), new

    def _factorizes(self, problem: Any, x: Tree) -> bool:
        minimum = isinstance(problem, Minimize | LeastSquares)
        return minimum and self.linear_solver is None and trees.size(x) <= linear.DENSE_LIMIT

    @property
    def _by_nonzeros(self) -> bool:
        """Whether Hessians are sparse matrices with a declared pattern."""
        return getattr(self.linear_solver, "by_nonzeros", False)

    def _direction(self, problem: Any, x: Tree, residual: Tree, args: tuple[Tree, ...]) -> tuple[Any, Any]:
        matvec = linear.Linearized(lambda u: problem.gradient(u, *args), x)
        if self._factorizes(problem, x):
            # (2)
            hessian, flat, unravel = materialize(matvec, residual)
            solution, factor = solve_positive(hessian, flat)
            return unravel(-solution), factor
        if self._by_nonzeros:
            self.linear_solver.pattern.require_square(trees.size(x), type(self.linear_solver).__name__)
            return sparse_descent(matvec, residual, self.linear_solver)
        return descent(matvec, residual, problem.structure, self.linear_solver), None

    def last_value(self, problem: Any, state: Any) -> Any:
        """Return half the squared norm of the residual at the last accepted point; of a minimum, nothing."""
        return None if isinstance(problem, Minimize | LeastSquares) else 0.5 * jnp.square(state.error)

    def derivative_solver(self, problem: Any, x: Tree, state: Any) -> Any:
        """Return a solver that refines with the last Hessian's factor, where assembling another is dear."""
        if not isinstance(problem, Minimize | LeastSquares):
            return None
        if self._by_nonzeros:
            dear = self.linear_solver.pattern.coloring[0] > _FEW_COLORS
            factor = SparseFactor(state.factor.numbers, self.linear_solver)
            return Reused(factor, state.factor.known) if dear else self.linear_solver
        if not self._factorizes(problem, x) or trees.size(x) < _WORTHWHILE:
            return None
        return Reused(CholeskyFactor(state.factor.numbers), state.factor.known)

    def differentiable_step(self, problem: Any, x: Tree, state: Any, *args: Tree) -> Any:
        """Return one full Newton step."""
        del state
        minimum = isinstance(problem, Minimize | LeastSquares)
        function = problem.gradient if minimum else problem.residual
        matvec = linear.Linearized(lambda u: function(u, *args), x)
        name = f"the Newton step of {problem.name}"
        # (1), or (2) with t = 1; what is known of a root's Jacobian is a user's word
        solve = solve_known if minimum else linear.solve
        step = solve(matvec, matvec.value, structure=problem.structure, solver=self.linear_solver, name=name)
        return trees.sub(x, step)
