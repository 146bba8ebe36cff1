"""SciPy's solvers."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import require_choice, require_count
from ..problems import FixedPoint, LeastSquares, Minimize, NonlinearProgram, QuadraticProgram, Root
from ..protocols import AnyProblem, Residuals
from ..solvers.interior._scaled_program import power
from ..trees import Tree
from . import _scipy_routines as routines
from ._adapter import Adapter, flattened, frozen_options, package, raveled, require_bounds
from ._conversation import Found, converse
from ._linear_programs import linear_program
from ._views import View

#: for each kind of problem its methods, by SciPy's names in lower case
MINIMIZE = (
    *("nelder-mead", "powell", "cg", "bfgs", "newton-cg", "l-bfgs-b", "tnc", "cobyla", "cobyqa", "slsqp"),
    *("trust-constr", "dogleg", "trust-ncg", "trust-exact", "trust-krylov"),
)
SCALAR = ("brent", "bounded", "golden")
ROOT = (
    *("hybr", "lm", "broyden1", "broyden2", "anderson", "linearmixing", "diagbroyden", "excitingmixing", "krylov"),
    "df-sane",
)
LEAST_SQUARES = ("trf", "dogbox", "lm")
LINEAR = ("highs", "highs-ds", "highs-ipm")
#: of the methods that minimize: those that take bounds, constraints, no gradients, products with the Hessian, or it
_BOUNDED = ("nelder-mead", "powell", "l-bfgs-b", "tnc", "cobyla", "cobyqa", "slsqp", "trust-constr")
_CONSTRAINED = ("cobyla", "cobyqa", "slsqp", "trust-constr")
_VALUES = ("nelder-mead", "powell", "cobyla", "cobyqa")
_PRODUCTS = ("newton-cg", "trust-ncg", "trust-krylov")
_MATRICES = ("dogleg", "trust-exact", "trust-constr")


@record
class SciPy(Adapter):
    r"""SciPy's solvers, for problems of dini's.

    The function is SciPy's to call, but computed by JAX in the compiled program: the solve works under ``jit``,
    ``vmap`` (lane by lane, each with a state of its own) and on accelerators, and is differentiated as every other.
    Gradients, Jacobians, Hessians and products with Hessians are JAX's, and given to each method that takes them.

    ======================================================= ========================================================
    problem                                                 methods
    ======================================================= ========================================================
    :class:`dini.Minimize`                                  ``"bfgs"``, ``"cg"``, ``"newton-cg"``, ``"dogleg"``,
                                                            ``"trust-ncg"``, ``"trust-exact"``, ``"trust-krylov"``;
                                                            with bounds as well ``"l-bfgs-b"``, ``"tnc"``,
                                                            ``"slsqp"``, ``"trust-constr"``; without gradients
                                                            ``"nelder-mead"``, ``"powell"``, ``"cobyla"``,
                                                            ``"cobyqa"``
    the same, of one unknown                                ``"brent"``, ``"golden"``; ``"bounded"`` in an interval
    :class:`dini.NonlinearProgram`                          ``"slsqp"``, ``"trust-constr"``, ``"cobyqa"``,
                                                            ``"cobyla"``
    :class:`dini.LeastSquares`                              ``"trf"``, ``"dogbox"`` (with bounds and losses),
                                                            ``"lm"``
    :class:`dini.Root`, :class:`dini.FixedPoint`            ``"hybr"``, ``"lm"``, ``"broyden1"``, ``"broyden2"``,
                                                            ``"anderson"``, ``"krylov"``, ``"df-sane"``, ...
    :class:`dini.QuadraticProgram` without ``Q``            ``"highs"``, ``"highs-ds"``, ``"highs-ipm"``
    ======================================================= ========================================================

    What SciPy returns must satisfy the problem's own condition, whatever SciPy says of it; multipliers of nonlinear
    programs are found by least squares at its point.

    Parameters
    ----------
    method
        By SciPy's name; upper and lower case are the same.
    options
        SciPy's options of the method (of ``least_squares`` its keywords), as a dictionary. Without any, dini asks for
        as much as can be had, and hands the problem over in units that its start shows: the unknown divided by its
        size, the objective and the constraints by their slopes (powers of two), so that SciPy's absolute numbers
        (first steps, radii, tolerances) have no units. With options, the problem is handed over as it is.
    rtol
        How well the problem's condition must hold at the point that comes back, see :class:`dini.solvers.Function`.
        Default: the fourth root of the unit roundoff.
    atol, tol
        See :class:`dini.Solver`.
    max_steps
        Limit on the number of evaluations.

    Raises
    ------
    ImportError
        If SciPy is not installed.
    TypeError, ValueError
        For a method that SciPy has not, or a problem that the method cannot solve.

    References
    ----------
    Virtanen et al., "SciPy 1.0: fundamental algorithms for scientific computing in Python", Nature Methods 2020.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> solver = dini.adapters.SciPy("bfgs")
    >>> loss = lambda x, a: jnp.sum(jnp.cosh(x) - a * x)
    >>> minimum = lambda a: dini.minimize(loss, jnp.zeros(2), a, solver=solver).x
    >>> print(jax.jit(jax.jacobian(minimum))(jnp.array([0.0, 1.0])).round(3))
    [[1.    0.   ]
     [0.    0.707]]
    """

    method: str = field(metadata={"static": True})
    options: Any = field(default=None, metadata={"static": True})
    max_steps: int = field(default=10_000, metadata={"static": True}, kw_only=True)

    solves = (Minimize, LeastSquares, Root, FixedPoint, NonlinearProgram, QuadraticProgram)

    def __post_init__(self, tol: Any = None) -> None:
        self._check_settings(tol)
        require_count("SciPy's max_steps", self.max_steps)
        if not isinstance(self.method, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"SciPy's method must be a name: given {self.method!r}.")
        object.__setattr__(self, "method", self.method.lower())
        known = dict.fromkeys((*MINIMIZE, *SCALAR, *ROOT, *LEAST_SQUARES, *LINEAR))
        require_choice("SciPy's method", self.method, tuple(known))
        object.__setattr__(self, "options", frozen_options("SciPy", self.options))
        package("SciPy", "scipy")

    @property
    def name(self) -> str:
        """The name for messages."""
        return f"SciPy({self.method!r})"

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Raise unless the method solves the problem."""
        super().check(problem, x)
        able = self._able(problem, x)
        if self.method not in able:
            raise TypeError(f"{self.name} does not solve {problem.name}: the methods that do are {', '.join(able)}.")
        require_bounds(self.name, problem)

    def _able(self, problem: AnyProblem, x: Tree) -> tuple[str, ...]:
        """Return the methods for a problem."""
        bounded = problem.constraint is not None
        if isinstance(problem, Minimize):
            scalar = (("bounded",) if bounded else ("brent", "golden")) if trees.size(x) == 1 else ()
            return (*(_BOUNDED if bounded else MINIMIZE), *scalar)
        if isinstance(problem, NonlinearProgram):
            constrained = problem.equality is not None or problem.inequality is not None
            return _CONSTRAINED if constrained else _BOUNDED if problem.bounded else MINIMIZE
        if isinstance(problem, LeastSquares):
            return ("trf", "dogbox") if bounded or problem.loss is not None else LEAST_SQUARES
        if isinstance(problem, QuadraticProgram):
            if problem.Q is not None and self.method in LINEAR:
                raise TypeError(
                    f"{self.name} solves linear programs: given one with Q. Use QPSolvers or InteriorPoint."
                )
            return LINEAR
        return ROOT

    @property
    def _settings(self) -> tuple[str, Any, int]:
        return self.method, self.options, self.max_steps

    def found(self, problem: Any, x: Tree, args: tuple[Tree, ...]) -> tuple[Any, Found]:
        """Solve by SciPy."""
        if isinstance(problem, QuadraticProgram):
            return linear_program(problem, x, self.method, self.options, self.max_steps)
        if isinstance(problem, LeastSquares):
            return self._least_squares(problem, x, args)
        if isinstance(problem, Minimize | NonlinearProgram):
            return self._minimum(View.of(problem, x, args, scaled=not self.options))
        flat, unravel = flattened(x)
        length = power(trees.max_abs(flat)) if not self.options else jnp.ones((), flat.dtype)
        residual = lambda v: raveled(problem.residual(unravel(v * length), *args), flat.dtype)
        kinds = (residual, lambda v: jnp.ravel(jax.jacfwd(residual)(v)))
        routine = routines.Root(*self._settings, _accuracy(flat))
        found = converse(routine, kinds, flat.size, self.max_steps, flat / length)
        return unravel(found.vector * length), found

    def _minimum(self, view: View) -> tuple[Any, Found]:
        n, given = view.start.size, (view.start, view.lower, view.upper)
        if self.method in SCALAR:
            scalar = routines.MinimizeScalar(*self._settings, view.accuracy)
            found = converse(scalar, (view.values,), n, self.max_steps, *given)
            return view.solution(found.vector), found
        order = self.method not in _VALUES
        kinds, width, second = [view.first if order else view.values], n, None
        if self.method in _PRODUCTS:
            kinds, width, second = [*kinds, view.product], 2 * n, "product"
        elif self.method in _MATRICES and not sum(view.counts):
            kinds, second = [*kinds, view.hessian], "matrix"
        elif self.method in _MATRICES:
            kinds, width, second = [*kinds, view.lagrangian], n + 1 + sum(view.counts), "lagrangian"
        routine = routines.Minimize(*self._settings, view.accuracy, order, second, view.bounded, *view.counts)
        found = converse(routine, kinds, width, self.max_steps, *given, view.slope)
        return view.solution(found.vector), found

    def _least_squares(self, problem: Residuals, x: Tree, args: tuple[Tree, ...]) -> tuple[Any, Found]:
        flat, unravel = flattened(x)
        residuals = lambda v: raveled(problem.residuals(unravel(v), *args), flat.dtype)
        view, loss = View.of(problem, x, args, scaled=False), problem.loss

        def first(v: jax.Array) -> jax.Array:
            found = residuals(v)
            if loss is None:
                return found
            squares, ones = jnp.square(found), jnp.ones_like(found)
            slopes = lambda s: jax.jvp(loss, (s,), (ones,))
            (rho, slope), (_, curved) = jax.jvp(slopes, (squares,), (ones,))
            return jnp.concatenate([found, rho, slope, curved])

        rows = jax.eval_shape(residuals, flat).size
        jacobian = jax.jacfwd(residuals) if flat.size <= rows else jax.jacrev(residuals)
        kinds = (first, lambda v: jnp.ravel(jacobian(v)))
        routine = routines.LeastSquares(*self._settings, _accuracy(flat), rows, loss is not None)
        found = converse(routine, kinds, flat.size, self.max_steps, flat, view.lower, view.upper, view.slope)
        return unravel(found.vector), found


def _accuracy(x: jax.Array) -> float:
    """Return the relative accuracy that is asked of SciPy."""
    return float(jnp.finfo(x.dtype).eps) ** 0.625
