"""The derivative at a point that somebody hands in: a solution from anywhere."""

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
    """Returns the starting point, if the problem's condition holds there."""

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
        return "the point that was handed in"

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
    r"""Return a solution of a problem that was found anywhere as a differentiable function of the problem's parameters.

    Nothing is solved: ``solution.x`` is ``x``, with the derivative that the implicit function theorem gives it,

    .. math:: \partial x = -(\partial_1 F)^{-1}\, \partial_2 F ,

    in what :func:`dini.solve` would differentiate: ``args``, arrays in the problem, values that its functions close
    over. It does not matter how ``x`` was found, nor whether it was computed outside of JAX. What is handed in is held
    against the problem's condition first, as what a solver returns is: a point that is no solution fails with
    ``Status.CONDITION`` and has no derivative. For an estimate of the derivative's error take
    ``differentiation=dini.Implicit(certify=True)``, or the functions of :mod:`dini.certified` at the same point.

    Parameters
    ----------
    problem
        The problem that ``x`` solves.
    x
        The solution. Of a :class:`dini.NonlinearProgram` or :class:`dini.QuadraticProgram` the primal variable alone;
        of these and others whose unknown is a pair, it may be the whole :class:`dini.problems.PrimalDual`.
    args
        The problem's arguments.
    multipliers
        Of a program, where they are known: a :class:`dini.problems.Multipliers` (those of a cone program are an array
        and must be known). Default: those that leave least of the Lagrangian's gradient, see
        :class:`dini.problems.Multipliers` for their signs.
    differentiation
        :class:`dini.Implicit`, with a condition and a linear solver.
    rtol
        How well the condition must hold: its residual must be at most ``rtol`` times that of a point that is wrong by
        the size of ``x`` (of programs, relative to the condition's own terms). Default: the fourth root of the unit
        roundoff, or zero where ``atol`` is given.
    atol
        A residual of this size is always good enough. Default: zero.
    on_failure
        As in :func:`dini.solve`.

    Returns
    -------
    Solution
        With ``x``, ``value``, ``status``, and ``multipliers`` of a program whose primal variable was given.

    Raises
    ------
    SolveError
        Where ``x`` is no solution.
    TypeError
        Where ``x``, the arguments or the multipliers do not fit the problem, or for another mode of differentiation.

    Examples
    --------
    SciPy has found a minimum; its derivative in the parameter:

    >>> import dini, jax, jax.numpy as jnp, numpy as np, scipy.optimize
    >>> problem = dini.Minimize(lambda x, a: jnp.sum(jnp.cosh(x) - a * x))
    >>> a = jnp.array([0.0, 1.0])
    >>> x = scipy.optimize.minimize(lambda x: np.sum(np.cosh(x)) - x[1], [0.0, 0.0], tol=1e-9).x
    >>> print(jax.jacobian(lambda a: dini.differentiate(problem, jnp.asarray(x), a).x)(a).round(3))
    [[1.    0.   ]
     [0.    0.707]]

    A point that is none:

    >>> dini.Status(int(dini.differentiate(problem, jnp.ones(2), a, on_failure="ignore").status)).name
    'CONDITION'
    """
    if not isinstance(differentiation, Implicit):
        raise TypeError(
            "differentiate takes Implicit(), since there are no steps that led to the point: given "
            f"{differentiation!r}."
        )
    programs = NonlinearProgram, QuadraticProgram
    if multipliers is not None and not isinstance(problem, (*programs, ConeProgram)):
        raise TypeError(f"multipliers belong to a program: given {multipliers!r} with {problem!r}.")
    whole = isinstance(x, PrimalDual)
    if whole and multipliers is not None:
        raise TypeError("x is a pair that has multipliers: give the pair or multipliers, not both.")
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
        # the size and the kind are told as a solve tells them
        problem.start(x, *args)
        return recovered(problem, x, *args)
    multipliers = Multipliers(*multipliers) if isinstance(multipliers, tuple) else multipliers
    return PrimalDual(x, jax.tree.map(jnp.asarray, multipliers))
