"""Nonlinear programs by POUNCE or Ipopt."""

from __future__ import annotations

import importlib
from dataclasses import field
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..checks.records import record
from ..checks.settings import require_choice, require_count
from ..problems import Minimize, NonlinearProgram
from ..protocols import AnyProblem
from ..status import Status
from ..trees import Tree
from ._adapter import Adapter, frozen_options, package, require_bounds
from ._conversation import Ask, Found, Stop, converse
from ._scipy_routines import SECOND, Known
from ._views import View

#: Ipopt's statuses that are no success
_ENDS = {
    2: Status.LOCALLY_INFEASIBLE,
    4: Status.DIVERGED,
    -1: Status.MAX_STEPS,
    -13: Status.NONFINITE,
}
#: bounds from here on are none
_NONE = 1e20


@record
class Pounce(Adapter):
    r"""An interior point method with a filter, for :class:`dini.NonlinearProgram` and :class:`dini.Minimize`.

    By POUNCE, a port of Ipopt to Rust, or by Ipopt itself through cyipopt, which has the same interface. Gradients,
    Jacobians and the Hessian of the Lagrangian are computed in the compiled program, as for
    :class:`dini.adapters.SciPy`. The point is held against the problem's own condition, with multipliers by least
    squares. Matrices are dense.

    Parameters
    ----------
    backend
        ``"pounce"`` (the package pounce-solver) or ``"cyipopt"``.
    options
        Ipopt's options, as a dictionary. Without any, the problem is handed over in units that its start shows.
    max_steps
        Limit on the number of evaluations.
    rtol
        How well the problem's condition must hold at the point that comes back, see :class:`dini.solvers.Function`.
    atol, tol
        See :class:`dini.Solver`.

    Raises
    ------
    ImportError
        If the backend is not installed.

    References
    ----------
    Wächter and Biegler, "On the implementation of an interior-point filter line-search algorithm for large-scale
    nonlinear programming", Math. Programming 2006.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> nearest = {"equality": lambda x: jnp.sum(x**2) - 1.0, "solver": dini.adapters.Pounce()}
    >>> print(dini.minimize(lambda x: jnp.sum((x - jnp.array([3.0, 4.0])) ** 2), jnp.ones(2), **nearest).x.round(3))
    [0.6 0.8]
    """

    backend: Literal["pounce", "cyipopt"] = field(default="pounce", metadata={"static": True})
    options: Any = field(default=None, metadata={"static": True})
    max_steps: int = field(default=10_000, metadata={"static": True}, kw_only=True)

    solves = (NonlinearProgram, Minimize)

    def __post_init__(self, tol: Any = None) -> None:
        self._check_settings(tol)
        require_choice("Pounce's backend", self.backend, ("pounce", "cyipopt"))
        require_count("Pounce's max_steps", self.max_steps)
        object.__setattr__(self, "options", frozen_options("Pounce", self.options))
        package("Pounce", self.backend, "pounce-solver" if self.backend == "pounce" else None)

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Raise unless the problem is one of smooth functions and bounds."""
        super().check(problem, x)
        require_bounds(self.name, problem)

    def found(self, problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> tuple[Any, Found]:
        """Solve by POUNCE."""
        view = View.of(problem, x, args, scaled=not self.options)
        routine = _Run(self.backend, self.options, self.max_steps, *view.counts)
        width = view.start.size + 1 + sum(view.counts)
        given = view.start, view.lower, view.upper, jnp.asarray(view.accuracy, view.start.dtype)
        found = converse(routine, (view.first, view.lagrangian), width, self.max_steps, *given)
        return view.solution(found.vector), found


class _Functions:
    """The callbacks that Ipopt's interface asks for."""

    def __init__(self, ask: Ask, n: int, counts: tuple[int, int]):
        self._asked, self._n = ask, n
        self._known = Known.of(self._ask, n, counts, smooth=True)
        self._rows = sum(counts)

    def _ask(self, kind: int, *parts: Any) -> np.ndarray:
        """Return a reply; no numbers where there is none: an error would be printed and asked again."""
        try:
            return self._asked(kind, *parts)
        except Stop:
            return self._asked.unknown(kind)

    def objective(self, x: Any) -> float:
        """Return the value."""
        return float(self._known(x)[0])

    def gradient(self, x: Any) -> np.ndarray:
        """Return the gradient."""
        return self._known(x)[3].copy()

    def constraints(self, x: Any) -> np.ndarray:
        """Return the equalities and the inequalities."""
        return np.concatenate(self._known(x)[1:3])

    def jacobian(self, x: Any) -> np.ndarray:
        """Return their Jacobian, row by row."""
        return np.concatenate([part.ravel() for part in self._known(x)[4:]])

    def jacobianstructure(self) -> tuple[np.ndarray, np.ndarray]:
        """Return that it is full."""
        rows, columns = np.indices((self._rows, self._n))
        return rows.ravel(), columns.ravel()

    def hessian(self, x: Any, multipliers: Any, weight: float) -> np.ndarray:
        """Return the lower triangle of the Lagrangian's Hessian."""
        full = self._ask(SECOND, x, [weight], multipliers).reshape(self._n, self._n)
        return full[np.tril_indices(self._n)]

    def hessianstructure(self) -> tuple[np.ndarray, ...]:
        """Return that it is full."""
        return np.tril_indices(self._n)

    def intermediate(self, *figures: Any) -> bool:
        """Return whether to continue."""
        del figures
        return self._asked.stopped is None


class _Run(NamedTuple):
    """A call of the solver."""

    backend: str
    options: tuple[tuple[str, Any], ...]
    limit: int
    equalities: int
    inequalities: int

    def __call__(self, ask: Ask, x0: Any, lower: Any, upper: Any, accuracy: Any) -> tuple[Any, int]:
        """Minimize."""
        n, counts = x0.size, (self.equalities, self.inequalities)
        below = np.concatenate([np.zeros(self.equalities), np.full(self.inequalities, -_NONE)])
        program = importlib.import_module(self.backend).Problem(
            n=n,
            m=sum(counts),
            problem_obj=_Functions(ask, n, counts),
            lb=np.maximum(lower, -_NONE),
            ub=np.minimum(upper, _NONE),
            cl=below,
            cu=np.zeros(sum(counts)),
        )
        settings: dict[str, Any] = {"print_level": 0, "sb": "yes", "tol": float(accuracy), "max_iter": self.limit}
        # a point a little outside of its bounds is none that the condition takes for one at them
        settings |= {"bound_relax_factor": 0.0} | dict(self.options)
        for name, setting in settings.items():
            program.add_option(name, setting)
        point, info = program.solve(np.clip(x0, lower, upper))
        status = int(info["status"])
        return point, _ENDS.get(status, Status.RUNNING if status >= 0 else Status.STALLED)
