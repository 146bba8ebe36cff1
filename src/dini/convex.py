"""The verb for quadratic programs."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import register_pytree_with_keys  # pyright: ignore[reportUnknownVariableType]

from .conditions._program import active_rows
from .defaults import Default
from .differentiation import Differentiation, Implicit
from .functions.compiled import compiled
from .linear._matrices import has_map
from .nearest_programs import Nearest, Shift, nearest, second
from .problems import QuadraticProgram
from .solution import Solution, flatten, flatten_with_keys
from .solvers import Solver
from .solving import solve
from .status import OnFailure, Status
from .trees import Tree
from .trees.products import dot

_IMPLICIT, _DEFAULT = Implicit(), Default()


class Rows(NamedTuple):
    """One entry for each inequality, and for the upper and the lower bound of each unknown; ``None`` for none."""

    inequality: Any
    upper: Any
    lower: Any


class ProgramParts(NamedTuple):
    """What a solution of a program has besides ``x`` and its multipliers."""

    slacks: Rows
    active: Rows
    shift: Shift | None = None


class ProgramSolution(Solution):
    r"""The solution of a quadratic program: a :class:`dini.Solution` with multipliers, slacks and active constraints.

    ``x`` is the point, ``value`` the objective, and ``status`` how the solve ended. Where there is no solution (seen
    with ``on_failure="ignore"``, or in a lane under ``vmap``) the certificate stands in its place: with the status
    ``PRIMAL_INFEASIBLE`` the multipliers are such that :math:`A^\top y + G^\top z + \mu = 0` and the right-hand sides
    weighted by them sum up to less than zero; with ``DUAL_INFEASIBLE`` the point is a ray along which the objective
    decreases without bound (:attr:`ray`).

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> solution = dini.quadratic_program(Q=jnp.eye(2), c=jnp.array([-2.0, 0.5]), lower=0.0, upper=1.0)
    >>> print(solution.x.round(3), solution.multipliers.bounds, solution.active.upper, solution.slacks.lower)
    [1. 0.] [ 1.  -0.5] [ True False] [1. 0.]
    """

    @property
    def slacks(self) -> Rows:
        """:math:`h - Gx`, :math:`u - x` and :math:`x - l`, as ``inequality``, ``upper`` and ``lower``."""
        return self.aux.slacks

    @property
    def active(self) -> Rows:
        """Which inequalities and bounds hold with equality: those whose multipliers are larger than their slacks."""
        return self.aux.active

    @property
    def shift(self) -> Shift | None:
        """By how much ``b`` and ``h`` were moved, with ``nearest_feasible=True``; ``None`` without."""
        return self.aux.shift

    @property
    def shifted(self) -> Any:
        """Whether they were moved: whether this is the solution of another program, since the given one has none."""
        shift = self.aux.shift
        none = jnp.zeros(jnp.shape(self.status), bool)
        return none if shift is None else shift.size > 0

    @property
    def ray(self) -> Any:
        """The ray along which the objective decreases without bound, NaN where none was found."""
        found = jnp.asarray(self.status == Status.DUAL_INFEASIBLE)
        return jnp.where(found[..., None], self.x, jnp.nan)


def _unflatten(aux: None, children: Any) -> ProgramSolution:
    del aux
    solution = object.__new__(ProgramSolution)
    solution.__dict__.update(zip(("x", "figures", "aux", "state", "history", "multipliers"), children, strict=True))
    return solution


register_pytree_with_keys(ProgramSolution, flatten_with_keys, _unflatten, flatten)


def _parts(problem: QuadraticProgram, x: Tree) -> ProgramParts:
    """Return what a solution has besides its point."""
    point = x.primal
    inequality = None if problem.G is None else problem.h - dot(problem.G, point)
    upper = None if problem.upper is None else problem.upper - point
    lower = None if problem.lower is None else point - problem.lower
    held = active_rows(problem, jax.lax.stop_gradient(x))
    known = lambda slack, active: None if slack is None else active
    active = Rows(held.inequality, known(upper, held.upper), known(lower, held.lower))
    return ProgramParts(Rows(inequality, upper, lower), active)


_compiled_parts = compiled(_parts)


def quadratic_program(
    *,
    Q: Any = None,
    c: Any = None,
    A: Any = None,
    b: Any = None,
    G: Any = None,
    h: Any = None,
    lower: Any = None,
    upper: Any = None,
    x0: Any = None,
    multipliers: Any = None,
    solver: Solver | None = None,
    differentiation: Differentiation = _IMPLICIT,
    on_failure: OnFailure = "raise",
    nearest_feasible: bool = False,
) -> ProgramSolution:
    r"""Minimize a convex quadratic function under linear constraints.

    .. math:: \min_x \tfrac12 x^\top Q x + c^\top x \quad \text{subject to} \quad Ax = b,\; Gx \le h,\; l \le x \le u

    Every part may be missing: without ``Q`` this is a linear program, without inequalities and bounds one linear
    system. The solution is a differentiable function of all data, in every mode and order; see
    :class:`dini.QuadraticProgram` for the data and :func:`dini.solve` for the rest. Without ``solver``, it is
    :class:`dini.ActiveSet` for up to 64 unknowns, and 64 inequalities and bounds, :class:`dini.InteriorPoint` for more;
    for more than 512 unknowns or rows with a matrix that is sparse or a linear map,
    :class:`dini.OperatorSplitting`. ``solution.solver`` says which. ``x0`` and ``multipliers``, those of a program
    nearby, are where the latter starts; the others have a start of their own.

    With ``nearest_feasible=True``, a program that no point satisfies is replaced by the nearest one that has a
    solution: ``b`` and ``h`` are moved by the shift of least length, in their own units, with which some point
    satisfies all rows and the bounds (these are kept), and the objective is minimized on those points,

    .. math:: (t_b, t_h) = \arg\min \|t\|^2 \;\text{over}\; Ax = b + t_b,\; Gx \le h + t_h,\; l \le x \le u .

    ``solution.shift`` says by how much, ``solution.shifted`` whether at all. It is differentiated with the shift; in
    the matrices that is right as long as their rank does not change: where dependent rows contradict one another, a
    derivative in these rows does not exist, which forward mode sees.

    Returns
    -------
    ProgramSolution
        With ``x``, ``multipliers``, ``slacks``, ``active``, ``value``, ``status``.

    Raises
    ------
    SolveError
        If no point satisfies the constraints (``PRIMAL_INFEASIBLE``), the objective decreases without bound
        (``DUAL_INFEASIBLE``), ``Q`` is not positive semidefinite (``NOT_CONVEX``) or the solve failed.
    TypeError, ValueError
        For data that do not fit.

    Examples
    --------
    The projection of a point onto the simplex, and its Jacobian:

    >>> import dini, jax, jax.numpy as jnp
    >>> def project(y):
    ...     return dini.quadratic_program(Q=jnp.eye(3), c=-y, A=jnp.ones((1, 3)), b=jnp.ones(1), lower=0.0).x
    >>> y = jnp.array([0.9, 0.5, -1.0])
    >>> print(jax.jacobian(project)(y).round(3))
    [[ 0.5 -0.5  0. ]
     [-0.5  0.5  0. ]
     [ 0.   0.   0. ]]

    Two demands that contradict one another, ``x >= 2`` and ``x <= 1``, and what is nearest to both:

    >>> G, h = jnp.array([[-1.0], [1.0]]), jnp.array([-2.0, 1.0])
    >>> middle = dini.quadratic_program(Q=jnp.eye(1), G=G, h=h, nearest_feasible=True)
    >>> print(middle.x, middle.shift.inequality, middle.shifted)
    [1.5] [0.5 0.5] True
    """
    problem = QuadraticProgram(Q, c, A, b, G, h, lower, upper)
    start = problem.start(x0, multipliers)
    first: Nearest | None = None
    if nearest_feasible:
        first = nearest(problem, differentiation, on_failure)
        problem, differentiation = first.problem, second(first, differentiation)
        solver = first.solver if solver is None else solver
    found = solve(
        problem,
        _DEFAULT if solver is None else solver,
        start,
        differentiation=differentiation,
        on_failure=on_failure,
    )
    # a function of the user's is one of its own at each call
    parts = _parts if has_map(problem) else _compiled_parts
    aux, figures = parts(problem, found.x), found.figures
    if first is not None:
        aux, figures = aux._replace(shift=first.shift), first.judged(figures)
    return ProgramSolution(found.x.primal, figures, aux, multipliers=found.x.dual)
