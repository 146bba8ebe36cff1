"""Newton's method: the solver, and its steps to minima; those for equations are in ``_newton_equations.py``."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp

from .. import linear, trees
from ..linear._krylov import wrap_linear_solver
from ..linear._materialize import materialize
from ..linear._reused import CholeskyFactor, Reused, SparseFactor
from ..linear._solve import solve_known
from ..problems import FixedPoint, LeastSquares, Minimize, Root
from ..protocols import AnyProblem, Composed
from ..trees import Tree
from . import _newton_equations
from ._base import solver
from .shared._definite import FEW, Factor, descent, solve_positive, sparse_descent
from .shared._second_order import SecondOrder

#: From this size on, a few products with the Hessian cost less than assembling and factorizing it.
_WORTHWHILE = 96

#: Up to so many products, a sparse Hessian is formed as soon as the last one is found to be near: that takes four, and
#: two or three steps of conjugate gradients.
_FEW_COLORS = 8


def _minimizes(problem: AnyProblem) -> bool:
    return isinstance(problem, Minimize | LeastSquares)


@solver
class Newton(SecondOrder):
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
    Hessian is not positive definite, the absolute values of its eigenvalues are used, so that the direction descends,
    in units of the unknowns in which its rows have largest elements of one (a sparse one is moved by a diagonal until
    it is positive definite; above 512 unknowns, and with another ``linear_solver``, the direction is turned around
    where it ascends). The step ``t`` starts at one and is halved until (3) holds. Each trial is one step. The error is
    :math:`\|F\|_2`, of minima :math:`\|\nabla f\|_2`; the length of the last step, relative to the point, and how much
    it has reduced the gradient say how far a minimum is.

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
    tests_elements = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        object.__setattr__(self, "linear_solver", wrap_linear_solver(self.linear_solver))

    def begin(self, problem: Any, x: Tree, scales: Tree | None, args: tuple[Tree, ...]) -> Any:
        """Return the state before the first step."""
        return super().begin(problem, x, scales, args) if _minimizes(problem) else _newton_equations.start(x)

    def init(self, problem: Any, x: Tree, *args: Tree) -> Any:
        """Return the state before the first step, with the scales of the unknowns of a minimum."""
        return super().init(problem, x, *args) if _minimizes(problem) else _newton_equations.start(x)

    def step(self, problem: Any, x: Tree, state: Any, *args: Tree) -> tuple[Any, Any]:
        """Try one step."""
        if _minimizes(problem):
            return super().step(problem, x, state, *args)
        return _newton_equations.advance(self, problem, x, state, args)

    def matrix(self, problem: AnyProblem, x: Tree) -> Factor | None:
        """Return the factor of no Hessian."""
        size, dtype = trees.size(x), trees.single(jax.flatten_util.ravel_pytree(x)[0].dtype)
        if self._factorizes(problem, x) and size > FEW:
            return Factor(jnp.zeros((size, size), dtype), jnp.zeros((), bool))
        if self._by_nonzeros:
            return Factor(jnp.zeros(self.linear_solver.pattern.count, dtype), jnp.zeros((), bool))
        return None

    def direction(self, problem: Composed, x: Tree, state: Any, args: tuple[Tree, ...]) -> Any:
        """Return Newton's direction (2)."""
        step, factor, exact = self._direction(problem, x, state.gradient, args)
        return step, trees.vdot(state.gradient, step), exact, factor

    def _factorizes(self, problem: AnyProblem, x: Tree) -> bool:
        return _minimizes(problem) and self.linear_solver is None and trees.size(x) <= linear.DENSE_LIMIT

    @property
    def _by_nonzeros(self) -> bool:
        """Whether Hessians are sparse matrices with a declared pattern."""
        return getattr(self.linear_solver, "by_nonzeros", False)

    def _direction(self, problem: Composed, x: Tree, residual: Tree, args: tuple[Tree, ...]) -> tuple[Any, Any, Any]:
        matvec = linear.Linearized(lambda u: problem.gradient(u, *args), x)
        if self._factorizes(problem, x):
            # (2)
            hessian, flat, unravel = materialize(matvec, residual)
            solution, factor, definite = solve_positive(hessian, flat)
            return unravel(-solution), factor, definite
        if self._by_nonzeros:
            pattern = self.linear_solver.pattern
            pattern.require_square(trees.size(x), type(self.linear_solver).__name__)
            nonzeros = self._nonzeros(problem, x, residual, args)
            step, factor = sparse_descent(matvec, residual, self.linear_solver, nonzeros)
            return step, factor, factor.known
        return descent(matvec, residual, problem.structure, self.linear_solver), None, True

    def _nonzeros(self, problem: Any, x: Tree, residual: Tree, args: tuple[Tree, ...]) -> Any:
        """Return the Hessian's nonzeros as the objective gives them, ``None`` if it does not."""
        own = getattr(problem, "hessian_nonzeros", None)
        values = None if own is None else own(x, *args)
        if values is not None:
            shape, dtype = (self.linear_solver.pattern.count,), jax.flatten_util.ravel_pytree(residual)[0].dtype
            given = getattr(values, "shape", None), getattr(values, "dtype", None)
            if given != (shape, dtype):
                raise ValueError(
                    "hessian_nonzeros must return one number for each nonzero of the linear solver's pattern, of "
                    f"shape {shape} and type {dtype}: given {trees.describe(values)}."
                )
        return values

    def last_value(self, problem: AnyProblem, state: Any) -> Any:
        """Return the objective at the last accepted point, of a root half the squared norm of the residual."""
        return super().last_value(problem, state) if _minimizes(problem) else 0.5 * jnp.square(state.error)

    def derivative_solver(self, problem: AnyProblem, x: Tree, state: Any) -> Any:
        """Return a solver that refines with the last Hessian's factor, where assembling another is expensive."""
        if not _minimizes(problem):
            return None
        factor = state.model.matrix
        if self._by_nonzeros:
            expensive = self.linear_solver.pattern.coloring[0] > _FEW_COLORS
            sparse = SparseFactor(factor.numbers, self.linear_solver)
            return Reused(sparse, factor.known) if expensive else self.linear_solver
        if not self._factorizes(problem, x) or trees.size(x) < _WORTHWHILE:
            return None
        return Reused(CholeskyFactor(factor.numbers), factor.known)

    def differentiable_step(self, problem: Any, x: Tree, state: Any, *args: Tree) -> Any:
        """Return one full Newton step."""
        del state
        minimum = _minimizes(problem)
        function = problem.gradient if minimum else problem.residual
        matvec = linear.Linearized(lambda u: function(u, *args), x)
        name = f"the Newton step of {problem.name}"
        # (1), or (2) with t = 1; what is known of a root's Jacobian is a user's word
        solve = solve_known if minimum else linear.solve
        step = solve(matvec, matvec.value, structure=problem.structure, solver=self.linear_solver, name=name)
        return trees.sub(x, step)
