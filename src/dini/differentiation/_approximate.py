"""Modes that replace the linear solve by a Neumann series, where that is enough or cheaper."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax

from .. import conditions, linear, trees
from ..checks.records import record
from ..checks.settings import require_count, require_positive
from ..linear._krylov import wrap_linear_solver
from ..loop import Outcome
from ..protocols import AnyProblem, AnySolver
from ..status import OnFailure
from ..trees import Tree
from ._linearization import linearize
from ._modes import Differentiation, Implicit


def _as_fixed_point(condition: Any, problem: AnyProblem, x: Tree, args: tuple[Tree, ...], mode: str) -> Any:
    """Return a condition of the form ``x - T(x)``, or raise."""
    if condition is not None:
        condition = conditions.as_condition(condition).closed(x, *args)
    elif problem.condition.is_fixed_point(problem):
        condition = problem.condition
    elif hasattr(problem, "gradient"):
        condition = conditions.ProximalGradient()  # without a penalty, gradient descent
    if condition is None or not condition.is_fixed_point(problem):
        raise ValueError(
            f"{mode} needs a fixed point x = T(x); the condition of {problem.name} is not one. Use Implicit(), or pass "
            "condition=dini.conditions.fixed_point(T) with a map T whose fixed point is the solution."
        )
    return condition


@record
class Neumann(Differentiation):
    r"""Differentiate a fixed point with a truncated Neumann series instead of a linear solve.

    .. math:: \partial x \approx \lambda \sum_{i<k} (I - \lambda (I - \partial_1 T))^i\, \partial_2 T .

    An approximation, whose error falls like the ``k``-th power of the contraction factor; it is the derivative of ``k``
    more (damped) steps of the map from the solution. With ``damping`` below one it is the phantom gradient of Geng et
    al., which stays stable where the map itself is barely a contraction. Minima are differentiated as the fixed point
    of gradient descent (with step size :math:`1/L`) or of proximal gradient descent.

    To know how far it is off at a solution, see :func:`dini.certified.value_and_grad`.

    Parameters
    ----------
    terms
        ``k``.
    damping
        :math:`\lambda`, in (0, 1].
    condition
        A fixed-point condition. Default: the problem's own.

    References
    ----------
    Geng, Zhang, Bai, Wang, Lin, "On Training Implicit Models", NeurIPS 2021 (arXiv 2111.05177).

    Examples
    --------
    >>> import dini, jax
    >>> solve = lambda a, k: dini.fixed_point(
    ...     lambda x, a: 0.5 * x + a, 1.0, a, differentiation=dini.Neumann(terms=k)
    ... ).x
    >>> [float(jax.grad(solve)(1.0, k)) for k in (1, 2, 3)]
    [1.0, 1.5, 1.75]
    """

    terms: int = field(default=10, metadata={"static": True})
    damping: Any = 1.0
    condition: Any = None

    def __post_init__(self) -> None:
        require_count("Neumann's terms", self.terms)
        require_positive("Neumann's damping", self.damping)

    def run(
        self,
        problem: AnyProblem,
        solver: AnySolver,
        x: Tree,
        args: tuple[Tree, ...],
        monitor: Any,
        on_failure: OnFailure,
    ) -> Outcome:
        """Solve, and attach the derivative."""
        condition = _as_fixed_point(self.condition, problem, x, args, "Neumann")
        series = linear.Series(self.terms, self.damping)
        return Implicit(condition, series).run(problem, solver, x, args, monitor, on_failure)


@record
class JacobianFree(Differentiation):
    r"""Differentiate a fixed point as if the map did not depend on its point: :math:`\partial x \approx \partial_2 T`.

    The first term of the Neumann series. No linear system and no product with :math:`\partial_1 T`; the gradient has
    a positive inner product with the exact one if the map contracts strongly enough.

    References
    ----------
    Fung, Heaton, Li, McKenzie, Osher, Yin, "JFB: Jacobian-Free Backpropagation for Implicit Networks", AAAI 2022 (arXiv
    2103.12803).

    Examples
    --------
    >>> import dini, jax
    >>> solve = lambda a: dini.fixed_point(
    ...     lambda x, a: 0.5 * x + a, 1.0, a, differentiation=dini.JacobianFree()
    ... ).x
    >>> float(jax.grad(solve)(1.0))
    1.0
    """

    condition: Any = None

    def run(
        self,
        problem: AnyProblem,
        solver: AnySolver,
        x: Tree,
        args: tuple[Tree, ...],
        monitor: Any,
        on_failure: OnFailure,
    ) -> Outcome:
        """Solve, and attach the derivative."""
        condition = _as_fixed_point(self.condition, problem, x, args, "JacobianFree")
        return Implicit(condition, linear.Series(terms=1)).run(problem, solver, x, args, monitor, on_failure)


class Choice(NamedTuple):
    """What :class:`Auto` does at a point, and why.

    Attributes
    ----------
    method
        The name of the method.
    reason
        The figures that decided, in words.
    contraction
        Contraction factor of the fixed-point map along the series, NaN where there is none.
    condition
        Estimate of the condition number of the linear system.
    """

    method: str
    reason: str
    contraction: float
    condition: float


@record
class Auto(Differentiation):
    """Differentiate exactly, by the cheapest method that the solution allows, measured where it is needed.

    Small systems are factorized. A larger fixed point gets the Neumann series, whose convergence is watched; where
    the map does not contract fast enough, the series is given up for a Krylov method. Everything else, and
    everything with a definite matrix, goes to :class:`Implicit`'s own choice. All of them solve to the same tolerance:
    only the cost differs. :meth:`explain` says what is chosen at a point, and why.

    Parameters
    ----------
    max_terms
        Number of terms with which a series is no longer worthwhile.
    dense_limit
        Systems of up to this many unknowns are factorized.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> problem = dini.FixedPoint(lambda x, a: 0.1 * jnp.roll(x, 1) + a)
    >>> auto = dini.Auto(dense_limit=10)
    >>> x = dini.solve(problem, dini.Anderson(), jnp.zeros(20), jnp.ones(20), differentiation=auto).x
    >>> choice = auto.explain(problem, x, jnp.ones(20))
    >>> choice.method, round(choice.contraction, 2)
    ('Neumann series', 0.1)
    """

    max_terms: int = field(default=60, metadata={"static": True})
    dense_limit: int = field(default=linear.DENSE_LIMIT, metadata={"static": True})
    condition: Any = None
    linear_solver: Any = None

    def __post_init__(self) -> None:
        require_count("Auto's max_terms", self.max_terms)
        require_count("Auto's dense_limit", self.dense_limit, 0)
        if callable(self.condition):
            object.__setattr__(self, "condition", conditions.as_condition(self.condition))
        object.__setattr__(self, "linear_solver", wrap_linear_solver(self.linear_solver))

    def _implicit(self, problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> tuple[Implicit, str]:
        condition = problem.condition if self.condition is None else self.condition.closed(x, *args)
        size = trees.size(x)
        if self.linear_solver is not None:
            return Implicit(condition, self.linear_solver), "the linear solver was given"
        by_size = linear.Auto(self.dense_limit)
        if size <= self.dense_limit:
            return Implicit(condition, by_size), f"{size} unknowns are not more than dense_limit={self.dense_limit}"
        reducible = condition.structure(problem) is not None or isinstance(condition, conditions.ProximalGradient)
        if reducible or not condition.is_fixed_point(problem):
            what = "is definite or has a definite reduction" if reducible else "is not a fixed point"
            return Implicit(condition, by_size), f"the condition {what}"
        return Implicit(condition, linear.SeriesFirst(by_size, self.max_terms)), ""

    def run(
        self,
        problem: AnyProblem,
        solver: AnySolver,
        x: Tree,
        args: tuple[Tree, ...],
        monitor: Any,
        on_failure: OnFailure,
    ) -> Outcome:
        """Solve, and attach the derivative."""
        return self._implicit(problem, x, args)[0].run(problem, solver, x, args, monitor, on_failure)

    def explain(self, problem: AnyProblem, x: Tree, *args: Tree) -> Choice:
        """Return what is chosen at a solution, and why; measured on a fixed right-hand side, outside ``jit``."""
        problem = problem.closed(x, *args)
        implicit, reason = self._implicit(problem, x, args)
        at = linearize(x, (problem, args, implicit.condition))
        system = at.system(implicit.linear_solver)
        b = trees.scale(1 / trees.norm(trees.varied(x)), trees.varied(x))
        series = implicit.linear_solver
        contraction = float("nan")
        if isinstance(series, linear.SeriesFirst):
            _, residual, terms = jax.jit(lambda b: series.series(at.matvec, b))(b)
            contraction = float(residual) ** (1 / max(int(terms), 1))
            if float(residual) <= series.tolerance(b):
                reason = f"the map contracts by {contraction:.2g} a step: {int(terms)} terms reach the tolerance"
                return Choice("Neumann series", reason, contraction, _condition(system, b))
            reason = (
                f"the first {int(terms)} terms of the series shrink its residual by {contraction:.2g} each on average: "
                f"too slowly for {self.max_terms} terms, if the map contracts at all"
            )
            system = at.system(series.fallback)
        return Choice(type(system.solver).__name__, reason, contraction, _condition(system, b))


def _condition(system: linear.System, b: Any) -> float:
    """Estimate a condition number from below: of a factor by inverse iteration, else by one solve."""
    inverse = system.inverse_norm() if system.dense else trees.norm(system.solve(b).w)
    return max(float(system.norm() * inverse), 1.0)
