"""What a verb chooses where no solver is given: by what the trace of the problem shows.

Everything is decided while a problem is traced, from shapes and from the programs of its functions: how many unknowns
there are, whether the objective is quadratic, which elements of a Jacobian can be nonzero, and what products with
matrices cost beside the solver's own work.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax

from . import linear, trees
from .checks.records import record
from .differentiation import Implicit
from .functions.costs import Cost, cost, reached
from .linear._matrices import is_dense
from .linear._sparse import narrow
from .linear._sparsity_rules import sparse_only
from .problems import (
    Composite,
    ConeProgram,
    FixedPoint,
    LeastSquares,
    Minimize,
    NonlinearProgram,
    QuadraticProgram,
    Root,
    VariationalInequality,
)
from .protocols import AnyProblem, AnySolver
from .sets._boxes import has_bounds
from .solvers import (
    BFGS,
    LBFGS,
    LBFGSB,
    ActiveSet,
    Anderson,
    AugmentedLagrangian,
    CondatVu,
    ConicInteriorPoint,
    GaussNewton,
    InteriorPoint,
    LevenbergMarquardt,
    Newton,
    NonlinearInteriorPoint,
    OperatorSplitting,
    ProjectedNewton,
    ProximalGradient,
    SemismoothNewton,
    Solver,
)
from .solvers.shared._first_then import FirstThen
from .solvers.shared._quadratic_step import QuadraticStep
from .solvers.shared._resumed import Counted, Resumed
from .trees import Tree

#: a minimum of up to this many unknowns keeps a dense inverse Hessian
_DENSE_INVERSE = 32
#: with bounds, the Hessian of up to this many is computed
_SMALL_HESSIAN = 32
#: of up to so many unknowns a Jacobian is as quick to factorize as to look at
_FULL = 32
#: a pattern is looked for in Jacobians of up to so many unknowns
_LARGEST_PATTERN = 20_000
#: the largest array in a program whose derivative is a narrow band has no more elements for each unknown
_LARGEST_SPARSE = 130
#: the gradient costs so much more than an update of the inverse Hessian that the Hessian itself is worth its price
_EXPENSIVE = 16
#: elements of the largest array of a Hessian that is computed as one batch
_LARGEST_BATCH = 2**25
#: least squares of up to so many unknowns take full steps first
_TINY = 8
_FULL_STEPS = 100
#: where so many steps may be wasted, residuals are no larger arrays than this, and have no loops
_CHEAP = 256
#: of programs with up to so many unknowns, and inequalities and bounds, the face is found by pivots: f4 of benchmarks/
_PIVOTED = 64
#: a program of up to so many unknowns and rows is solved with arrays for its matrices
_SMALL_PROGRAM = 512
_ONE_FACTORIZATION = "one factorization by Sparse(), or else LBFGS()"


class Choice(NamedTuple):
    """A solver, its name in :data:`dini.solution.CHOICES`, and the linear solver of the derivative (``None``: any)."""

    solver: Solver
    name: str
    linear_solver: Any = None


_BFGS = Choice(BFGS(), "BFGS()")
_BFGS_FROM_HESSIAN = Choice(BFGS(start="hessian"), 'BFGS(start="hessian")')
_LBFGS = Choice(LBFGS(), "LBFGS()")
_NEWTON = Choice(Newton(), "Newton()")
_PROJECTED_NEWTON = Choice(ProjectedNewton(), "ProjectedNewton()")
_LBFGSB = Choice(LBFGSB(), "LBFGSB()")
_PROXIMAL_GRADIENT = Choice(ProximalGradient(), "ProximalGradient()")
_LEVENBERG_MARQUARDT = Choice(LevenbergMarquardt(), "LevenbergMarquardt()")
_QUICK_STEPS = Choice(
    FirstThen(GaussNewton(patience=None, max_steps=_FULL_STEPS), LevenbergMarquardt()),
    "GaussNewton(patience=None), or else LevenbergMarquardt()",
)
_CONDAT_VU = Choice(CondatVu(), "CondatVu()")
_ANDERSON = Choice(Anderson(), "Anderson()")
_SEMISMOOTH_NEWTON = Choice(SemismoothNewton(), "SemismoothNewton()")
_NONLINEAR_INTERIOR_POINT = Choice(NonlinearInteriorPoint(), "NonlinearInteriorPoint()")
_AUGMENTED_LAGRANGIAN = Choice(AugmentedLagrangian(), "AugmentedLagrangian()")
_ACTIVE_SET = Choice(ActiveSet(), "ActiveSet()")
_INTERIOR_POINT = Choice(InteriorPoint(), "InteriorPoint()")
_CONIC_INTERIOR_POINT = Choice(ConicInteriorPoint(), "ConicInteriorPoint()")
_OPERATOR_SPLITTING = Choice(OperatorSplitting(), "OperatorSplitting()")


@record
class Default(Solver):
    """The choice of a verb, which is made where the problem is traced."""

    solves = (
        Minimize,
        LeastSquares,
        Root,
        FixedPoint,
        VariationalInequality,
        Composite,
        NonlinearProgram,
        QuadraticProgram,
        ConeProgram,
    )
    composite = True
    max_steps: ClassVar[int] = 0  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def name(self) -> str:
        """What stands in messages until a choice is made."""
        return "the default solver"

    def chosen(self, problem: AnyProblem, x: Tree, args: tuple[Tree, ...], *, plain: bool = False) -> Choice:
        """Return the choice for a problem; a ``plain`` one takes steps, which have a state and may be watched."""
        if isinstance(problem, Minimize):
            return _minimizer(problem, x, args, plain)
        if isinstance(problem, LeastSquares):
            return _least_squares(problem, x, args, plain)
        if isinstance(problem, Root):
            return _root(problem, x, args)
        if isinstance(problem, NonlinearProgram):
            return _NONLINEAR_INTERIOR_POINT if problem.part is None else _AUGMENTED_LAGRANGIAN
        if isinstance(problem, QuadraticProgram):
            return _program(problem)
        if isinstance(problem, ConeProgram):
            return _CONIC_INTERIOR_POINT
        if isinstance(problem, VariationalInequality):
            return _SEMISMOOTH_NEWTON
        return _ANDERSON if isinstance(problem, FixedPoint) else _CONDAT_VU


def resolved(
    solver: AnySolver, differentiation: Any, problem: AnyProblem, x: Tree, args: tuple[Tree, ...], *, plain: bool
) -> tuple[Any, Any, str]:
    """Return the solver, how to differentiate, and the name of what was chosen, if something was."""
    if isinstance(solver, Resumed | Counted):
        inner, differentiation, name = resolved(solver.solver, differentiation, problem, x, args, plain=True)
        return (dataclasses.replace(solver, solver=inner) if name else solver), differentiation, name
    if not isinstance(solver, Default):
        return solver, differentiation, ""
    implicit = isinstance(differentiation, Implicit)
    choice = solver.chosen(problem, x, args, plain=plain or not implicit)
    own = implicit and differentiation.linear_solver is None and differentiation.condition is None
    if choice.linear_solver is not None and own:
        differentiation = dataclasses.replace(differentiation, linear_solver=choice.linear_solver)
    return choice.solver, differentiation, choice.name


def _minimizer(problem: Minimize, x: Tree, args: tuple[Tree, ...], plain: bool) -> Choice:
    size = trees.size(x)
    if problem.penalty is None and problem.constraint is not None and has_bounds(problem.constraint):
        return _PROJECTED_NEWTON if size <= _SMALL_HESSIAN else _LBFGSB
    if problem.composite:
        return _PROXIMAL_GRADIENT
    if size > _LARGEST_PATTERN:
        return _LBFGS
    gradient = lambda u: problem.gradient(u, *args)
    seen = _derivative(gradient, x)
    if seen is not None:
        solver = _sparse(gradient, x, seen.cost) if seen.constant and not plain else None
        if solver is not None:
            return Choice(FirstThen(QuadraticStep(solver), _LBFGS.solver), _ONE_FACTORIZATION, solver)
        expensive = seen.constant or seen.cost.products >= _EXPENSIVE * size**2
        # what a loop keeps for its way back is not seen
        small = size <= linear.DENSE_LIMIT and size * seen.cost.largest <= _LARGEST_BATCH and not seen.cost.loops
        if expensive and small and _batches(gradient, x):
            return _BFGS_FROM_HESSIAN
    return _BFGS if size <= _DENSE_INVERSE else _LBFGS


def _least_squares(problem: LeastSquares, x: Tree, args: tuple[Tree, ...], plain: bool) -> Choice:
    if problem.constraint is not None and not problem.constraint.elementwise:
        return _PROXIMAL_GRADIENT
    if plain or problem.constraint is not None or problem.loss is not None or trees.size(x) > _TINY:
        return _LEVENBERG_MARQUARDT
    seen = _derivative(lambda u: problem.residuals(u, *args), x)
    cheap = seen is not None and seen.cost.largest <= _CHEAP and not seen.cost.loops
    return _QUICK_STEPS if cheap else _LEVENBERG_MARQUARDT


def _root(problem: Root, x: Tree, args: tuple[Tree, ...]) -> Choice:
    if not _FULL < trees.size(x) <= _LARGEST_PATTERN:
        return _NEWTON
    residual = lambda u: problem.residual(u, *args)
    seen = _derivative(residual, x)
    solver = _sparse(residual, x, seen.cost) if seen else None
    if solver is None:
        return _NEWTON
    return Choice(Newton(linear_solver=solver), "Newton(linear_solver=Sparse())", solver)


def _program(problem: QuadraticProgram) -> Choice:
    parts = [part for part in (problem.Q, problem.A, problem.G) if part is not None]
    rows = sum(part.shape[0] for part in (problem.A, problem.G) if part is not None)
    bounds = sum(problem.c.size for part in (problem.lower, problem.upper) if part is not None)
    pairs = bounds + (0 if problem.G is None else problem.G.shape[0])
    if max(problem.c.size, pairs) <= _PIVOTED:
        return _ACTIVE_SET
    # a matrix that is small enough costs less as an array than a hundred steps without it
    small = max(problem.c.size, rows) <= _SMALL_PROGRAM
    return _INTERIOR_POINT if small or all(map(is_dense, parts)) else _OPERATOR_SPLITTING


class _Seen(NamedTuple):
    """Whether a derivative is the same everywhere, and what a product with it costs."""

    constant: bool
    cost: Cost


def _derivative(fun: Any, x: Tree) -> _Seen | None:
    """Return what the program of a function's derivative shows; nothing where it has none in forward mode."""
    try:
        jaxpr = jax.make_jaxpr(lambda u, w: jax.jvp(fun, (u,), (w,))[1])(x, x).jaxpr
    except Exception:  # an error in the function itself is reported where it is called
        return None
    half = len(jaxpr.invars) // 2
    point = [i < half for i in range(2 * half)]
    return _Seen(not any(reached(jaxpr, point)), cost(jaxpr, [not at for at in point]))


def _sparse(fun: Any, x: Tree, costs: Cost) -> Any:
    """Return the linear solver for the pattern of the derivative, where that is a narrow band or can be made one."""
    size = trees.size(x)
    if size <= _FULL or costs.products >= size**2 or costs.largest > _LARGEST_SPARSE * size or not _batches(fun, x):
        return None
    try:
        with sparse_only():
            pattern = linear.sparsity(fun, x)
    except linear.NotSparse:
        return None
    return linear.Sparse(pattern, check=False) if narrow(pattern) else None


def _batches(fun: Any, x: Tree) -> bool:
    """Return whether products with a derivative can be computed side by side, as a matrix is."""
    try:
        jax.eval_shape(jax.vmap(lambda w: jax.jvp(fun, (x,), (w,))[1]), jax.tree.map(lambda u: u[None], x))
    except Exception:  # a call of the host, say, that knows no batches
        return False
    return True
