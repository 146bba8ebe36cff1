"""The derivative of a solution that another program has computed."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .checks.records import record
from .differentiation import Differentiation, Implicit
from .entry import Problem
from .explanations import explained
from .loop import Outcome
from .problems import (
    Composite,
    ConeProgram,
    FixedPoint,
    LeastSquares,
    Minimize,
    Multipliers,
    NonlinearProgram,
    PrimalDual,
    QuadraticProgram,
    Root,
    VariationalInequality,
    check_unknown,
)
from .problems._recovered import recovered
from .protocols import AnyProblem
from .solution import Solution
from .solvers import Solver
from .solvers.judge._judged import judged
from .solving import solve
from .status import OnFailure
from .trees import Tree, require_same

_IMPLICIT = Implicit()


@record
class _HandedIn(Solver):
    """Returns the starting point, where the problem's condition is tested."""

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
    differentiable = False
    max_steps: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def name(self) -> str:
        """The name for messages."""
        return "the given point"

    def run(self, problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> Outcome:
        """Test the point."""
        return judged(self, problem, x, x, args, 0)


@explained
def differentiate(
    problem: Problem,
    x: Tree,
    *args: Tree,
    multipliers: Any = None,
    differentiation: Differentiation = _IMPLICIT,
    rtol: Any = None,
    atol: Any = None,
    on_failure: OnFailure = "raise",
) -> Solution:
    r"""Return a given solution of a problem, by any method, as a differentiable function of the problem's parameters.

    Nothing is solved: ``solution.x`` is ``x``, with the derivative of the implicit function theorem,

    .. math:: \partial x = -(\partial_1 F)^{-1}\, \partial_2 F ,

    with respect to the parameters, as in :func:`dini.solve`: ``args``, arrays in the problem, and values that its
    functions close over. ``x`` may be computed by any method, also outside of JAX. First the problem's condition is
    tested at ``x``: a point that is no solution fails with ``Status.CONDITION`` and has no derivative. For an estimate
    of the derivative's error use ``differentiation=dini.Implicit(certify=True)``, or the functions of
    :mod:`dini.certified` at the same point.

    Parameters
    ----------
    problem
        The problem that ``x`` solves.
    x
        The solution. For a :class:`dini.NonlinearProgram` or a :class:`dini.QuadraticProgram` it is the primal variable
        alone. For these and other problems whose unknown is a pair, it may also be the
        :class:`dini.problems.PrimalDual`.
    args
        The problem's arguments.
    multipliers
        The multipliers of a program, if they are known: a :class:`dini.problems.Multipliers`, which describes their
        signs. The multipliers of a cone program are an array and are required. Default: those that minimize the norm of
        the Lagrangian's gradient.
    differentiation
        :class:`dini.Implicit`, with a condition and a linear solver.
    rtol
        The tolerance of the condition: its residual must be at most ``rtol`` times that of a point that is wrong by the
        size of ``x``. For programs it is relative to the condition's own terms. Default: the fourth root of the unit
        roundoff, or zero where ``atol`` is given.
    atol
        A residual of this size is always sufficient. Default: zero.
    on_failure
        As in :func:`dini.solve`.

    Returns
    -------
    Solution
        With ``x``, ``value`` and ``status``; for a program whose primal variable was given, with ``multipliers``.

    Raises
    ------
    SolveError
        If ``x`` is no solution.
    TypeError
        If ``x``, the arguments or the multipliers do not fit the problem, or for another mode of differentiation.

    Examples
    --------
    The derivative of a minimum that SciPy has computed, with respect to the parameter:

    >>> import dini, jax, jax.numpy as jnp, numpy as np, scipy.optimize
    >>> problem = dini.Minimize(lambda x, a: jnp.sum(jnp.cosh(x) - a * x))
    >>> a = jnp.array([0.0, 1.0])
    >>> x = scipy.optimize.minimize(lambda x: np.sum(np.cosh(x)) - x[1], [0.0, 0.0], tol=1e-9).x
    >>> print(jax.jacobian(lambda a: dini.differentiate(problem, jnp.asarray(x), a).x)(a).round(3))
    [[1.    0.   ]
     [0.    0.707]]

    A point that is no minimum:

    >>> dini.Status(int(dini.differentiate(problem, jnp.ones(2), a, on_failure="ignore").status)).name
    'CONDITION'
    """
    if not isinstance(differentiation, Implicit):
        raise TypeError(
            "differentiate supports Implicit() only, since there are no steps to differentiate: given "
            f"{differentiation!r}."
        )
    programs = NonlinearProgram, QuadraticProgram
    if multipliers is not None and not isinstance(problem, (*programs, ConeProgram)):
        raise TypeError(f"Only a program has multipliers: given {multipliers!r} with {problem!r}.")
    whole = isinstance(x, PrimalDual)
    if whole and multipliers is not None:
        raise TypeError("x is a pair that contains multipliers: give the pair or multipliers, not both.")
    if not whole and isinstance(problem, ConeProgram):
        if multipliers is None:
            raise TypeError("differentiate needs the multipliers of a cone program: give multipliers=.")
        x = PrimalDual(check_unknown(x, "x"), check_unknown(multipliers, "multipliers"))
    elif not whole and isinstance(problem, programs):
        x = check_unknown(x, "x")
        if isinstance(problem, QuadraticProgram):
            require_same("x", x, problem.c, "the unknown of the program")
        x = _paired(problem, x, args, multipliers)
    how: dict[str, Any] = {"differentiation": differentiation, "on_failure": on_failure}
    found = solve(problem, _HandedIn(rtol=rtol, atol=atol), x, *args, **how)
    if whole or not isinstance(found.x, PrimalDual):
        return found
    return dataclasses.replace(found, x=found.x.primal, multipliers=found.x.dual)


def _paired(
    problem: NonlinearProgram | QuadraticProgram, x: Any, args: tuple[Tree, ...], multipliers: Any
) -> PrimalDual:
    """Return the unknown of a program at a primal variable."""
    if multipliers is None:
        # raises the errors of a solve about the shape and the type of x
        problem.start(x, *args)
        return recovered(problem, x, *args)
    multipliers = Multipliers(*multipliers) if isinstance(multipliers, tuple) else multipliers
    return PrimalDual(x, jax.tree.map(jnp.asarray, multipliers))
