"""Any solver of Optimistix."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from ..checks.records import record
from ..checks.settings import require_count
from ..problems import FixedPoint, LeastSquares, Minimize, Root
from ..protocols import AnyProblem
from ..status import Status
from ..trees import Tree
from ._adapter import Adapter, frozen_options, package
from ._conversation import Found


class _Rebuild(NamedTuple):
    """Makes a solver of its arrays: all else that it is made of is compared."""

    treedef: Any
    rest: tuple[Any, ...]

    def __call__(self, arrays: list[Any]) -> Any:
        given = iter(arrays)
        return jax.tree.unflatten(self.treedef, [next(given) if leaf is _ARRAY else leaf for leaf in self.rest])


_ARRAY = "an array stands here"


@record
class Optimistix(Adapter):
    r"""A solver object of Optimistix: a minimiser, a solver of least squares, a root or fixed-point finder.

    What Optimistix offers for a kind of problem is offered here: least squares by minimisers, equations by solvers of
    least squares and minimisers, fixed points by all. Constraints, penalties and robust losses are none of its (a
    minimiser takes a loss). Its point is checked by the problem's own condition, and differentiated by dini: in
    closures, with failures reported, and to every order.

    Parameters
    ----------
    solver
        ``optimistix.BFGS(rtol=1e-8, atol=1e-8)``, say; its tolerances are what it stops by.
    options
        Optimistix's ``options`` of a solve (the ends of an interval for ``Bisection``), as a dictionary.
    max_steps
        Limit on the number of its steps.
    rtol
        How well the problem's condition must hold at the point that comes back, see :class:`dini.solvers.Function`.
    atol, tol
        See :class:`dini.Solver`.

    Raises
    ------
    ImportError
        If Optimistix is not installed.
    TypeError
        If ``solver`` is none of Optimistix's, or does not solve the problem.

    References
    ----------
    Rader, Lyons, Kidger, "Optimistix: modular optimisation in JAX and Equinox", 2024 (arXiv 2402.09983).

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp, optimistix
    >>> solver = dini.adapters.Optimistix(optimistix.Newton(rtol=1e-6, atol=1e-6))
    >>> cube_root = lambda a: dini.root(lambda x, a: x**3 - a, 1.0, a, solver=solver).x
    >>> round(float(jax.grad(cube_root)(8.0)), 4)
    0.0833
    """

    solver: Any
    options: Any = field(default=None, metadata={"static": True})
    max_steps: int = field(default=1000, metadata={"static": True}, kw_only=True)

    solves = (Minimize, LeastSquares, Root, FixedPoint)
    composite: ClassVar[bool] = False

    def __post_init__(self, tol: Any = None) -> None:
        package("Optimistix", "optimistix")
        object.__setattr__(self, "options", frozen_options("Optimistix", self.options))
        if not isinstance(self.solver, Partial):
            object.__setattr__(self, "solver", self._taken_apart())
        self._check_settings(tol)
        require_count("Optimistix's max_steps", self.max_steps)

    def _taken_apart(self) -> Partial:
        """Return the solver as its arrays and a function that makes it of them."""
        if not isinstance(self.solver, self._kinds["every"]):
            given = f"the class {self.solver.__name__}" if isinstance(self.solver, type) else repr(self.solver)
            raise TypeError(
                "Optimistix's solver must be an object of optimistix's solvers, such as optimistix.BFGS(rtol=1e-8, "
                f"atol=1e-8): given {given}."
            )
        leaves, treedef = jax.tree.flatten(self.solver)
        is_array = [isinstance(leaf, jax.Array) or not isinstance(leaf, Hashable) for leaf in leaves]
        rest = tuple(_ARRAY if array else leaf for leaf, array in zip(leaves, is_array, strict=True))
        arrays = [jnp.asarray(leaf) for leaf, array in zip(leaves, is_array, strict=True) if array]
        return Partial(_Rebuild(treedef, rest), arrays)

    @property
    def name(self) -> str:
        """The name for messages."""
        return f"Optimistix({type(self.solver()).__name__})"

    @property
    def _kinds(self) -> dict[Any, tuple[type, ...]]:
        """Which solvers Optimistix takes for what."""
        optx = package("Optimistix", "optimistix")
        minimisers: tuple[type, ...] = (optx.AbstractMinimiser,)
        residuals = (optx.AbstractLeastSquaresSolver, *minimisers)
        roots = (optx.AbstractRootFinder, *residuals)
        every = (optx.AbstractFixedPointSolver, *roots)
        return {Minimize: minimisers, LeastSquares: residuals, Root: roots, FixedPoint: every, "every": every}

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Raise unless the solver solves the problem."""
        super().check(problem, x)
        kinds = self._kinds
        able = kinds[Minimize] if getattr(problem, "loss", None) is not None else kinds[type(problem)]
        if not isinstance(self.solver(), able):
            names = ", ".join(kind.__name__ for kind in able)
            raise TypeError(f"{self.name} does not solve {problem.name}: of optimistix's solvers these do: {names}.")

    def found(self, problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> tuple[Any, Found]:
        """Solve by Optimistix."""
        optx, given = package("Optimistix", "optimistix"), (problem, args)
        run, fun = optx.minimise, lambda y, given: given[0].value(y, *given[1])
        if isinstance(problem, LeastSquares) and problem.loss is None:
            run, fun = optx.least_squares, lambda y, given: given[0].residuals(y, *given[1])
        elif isinstance(problem, Root):
            run, fun = optx.root_find, lambda y, given: given[0].residual(y, *given[1])
        elif isinstance(problem, FixedPoint):
            run, fun = optx.fixed_point, lambda y, given: given[0].map(y, *given[1])
        options = dict(self.options) or None
        end = run(fun, self.solver(), x, given, options, max_steps=self.max_steps, throw=False)
        out_of_steps = end.result == optx.RESULTS.nonlinear_max_steps_reached
        status = jnp.where(out_of_steps, Status.MAX_STEPS, Status.STALLED)
        status = jnp.where(end.result == optx.RESULTS.successful, Status.RUNNING, status).astype(jnp.int32)
        return end.value, Found(end.value, end.stats["num_steps"], status)
