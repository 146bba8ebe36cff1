"""NLopt's algorithms."""

from __future__ import annotations

import importlib
import itertools
from dataclasses import field
from typing import Any, NamedTuple

import numpy as np

from ..checks.records import record
from ..checks.settings import require_count
from ..problems import Minimize, NonlinearProgram
from ..protocols import AnyProblem
from ..status import Status
from ..trees import Tree
from ._adapter import Adapter, frozen_options, package, require_bounds
from ._conversation import Ask, Found, converse
from ._scipy_routines import Known
from ._views import View

#: what takes inequalities, and equalities as well
_INEQUALITIES = ("MMA", "CCSAQ", "ORIG_DIRECT", "ORIG_DIRECT_L", "AGS")
_BOTH = ("SLSQP", "COBYLA", "ISRES", "AUGLAG", "AUGLAG_EQ")
#: methods of NLopt's object that are options here
_OPTIONS = (
    *("ftol_abs", "ftol_rel", "xtol_abs", "xtol_rel", "stopval", "maxtime", "initial_step", "population"),
    *("vector_storage", "param"),
)


@record
class NLopt(Adapter):
    r"""An algorithm of NLopt for :class:`dini.Minimize`, with bounds, and :class:`dini.NonlinearProgram`.

    The objective, the constraints and, for algorithms whose names have a ``D`` (``"LD_SLSQP"``), their derivatives are
    computed in the compiled program, as for :class:`dini.adapters.SciPy`. The point is held against the problem's own
    condition; multipliers are found by least squares. Global algorithms (``"GN_..."``, ``"GD_..."``) need finite bounds
    and find a few digits only: polish their point by a local solver.

    Parameters
    ----------
    algorithm
        NLopt's name, such as ``"LD_LBFGS"``, ``"LD_MMA"``, ``"LN_COBYLA"``, ``"LN_BOBYQA"``.
    options
        NLopt's settings by the names of its ``set_...`` methods, as a dictionary: ``ftol_rel``, ``xtol_rel``,
        ``maxtime``, ``initial_step``, ... Without any, ``xtol_rel`` is as small as makes sense, and the problem is
        handed over in units that its start shows.
    local
        The algorithm inside of ``"AUGLAG"``, ``"MLSL"`` and their like.
    max_steps
        Limit on the number of evaluations.
    rtol
        How well the problem's condition must hold at the point that comes back, see :class:`dini.solvers.Function`.
    atol, tol
        See :class:`dini.Solver`.

    Raises
    ------
    ImportError
        If NLopt is not installed.
    TypeError, ValueError
        For an algorithm that NLopt has not, or constraints that it does not take.

    References
    ----------
    Johnson, "The NLopt nonlinear-optimization package", 2007.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> solver = dini.adapters.NLopt("LD_MMA")
    >>> loss = lambda x, a: jnp.sum(jnp.cosh(x) - a * x)
    >>> print(jax.grad(lambda a: dini.minimize(loss, 0.0, a, solver=solver).x)(0.0).round(3))
    1.0
    """

    algorithm: str = field(metadata={"static": True})
    options: Any = field(default=None, metadata={"static": True})
    local: str | None = field(default=None, metadata={"static": True}, kw_only=True)
    max_steps: int = field(default=10_000, metadata={"static": True}, kw_only=True)

    solves = (Minimize, NonlinearProgram)

    def __post_init__(self, tol: Any = None) -> None:
        self._check_settings(tol)
        require_count("NLopt's max_steps", self.max_steps)
        nlopt = package("NLopt", "nlopt")
        for name in (self.algorithm, self.local):
            if name is not None and not (isinstance(name, str) and name[:3] in _KINDS and hasattr(nlopt, name)):
                known = ", ".join(name for name in dir(nlopt) if name[:3] in _KINDS)
                raise ValueError(f"NLopt's algorithm must be one of {known}: given {name!r}.")
        object.__setattr__(self, "options", frozen_options("NLopt", self.options))
        for name, _ in self.options:
            if name not in _OPTIONS:
                raise ValueError(f"NLopt's options are {', '.join(_OPTIONS)}: given {name!r}.")

    @property
    def name(self) -> str:
        """The name for messages."""
        return f"NLopt({self.algorithm!r})"

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Raise unless the algorithm solves the problem."""
        super().check(problem, x)
        require_bounds(self.name, problem)
        bounded = problem.bounded if isinstance(problem, NonlinearProgram) else problem.constraint is not None
        if self.algorithm[0] == "G" and not bounded:
            raise TypeError(
                f"{self.name} needs bounds on each unknown: given {problem.name} without bounds. Give finite ones, as "
                "constraint= or lower= and upper=, or use a local algorithm (LD_LBFGS)."
            )
        method = self.algorithm.partition("_")[2] if self.algorithm[0] in "GL" else self.algorithm
        for kind, able in (("equality", _BOTH), ("inequality", (*_BOTH, *_INEQUALITIES))):
            if getattr(problem, kind, None) is not None and method not in able and "AUGLAG" not in method:
                raise TypeError(
                    f"{self.name} takes no {kind} constraints: given {problem.name}. Use LD_SLSQP or LN_COBYLA."
                )

    def found(self, problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> tuple[Any, Found]:
        """Solve by NLopt."""
        view = View.of(problem, x, args, scaled=not self.options)
        smooth = "D_" in (self.local or self.algorithm)[:3] or self.algorithm[:3] in ("LD_", "GD_")
        routine = _Run(self.algorithm, self.local, self.options, self.max_steps, view.accuracy, smooth, *view.counts)
        kinds = (view.first if smooth else view.values,)
        found = converse(routine, kinds, view.start.size, self.max_steps, view.start, view.lower, view.upper)
        return view.solution(found.vector), found


_KINDS = ("LD_", "LN_", "GD_", "GN_", "AUG", "G_M")


class _Run(NamedTuple):
    """A call of NLopt."""

    algorithm: str
    local: str | None
    options: tuple[tuple[str, Any], ...]
    limit: int
    accuracy: float
    smooth: bool
    equalities: int
    inequalities: int

    def __call__(self, ask: Ask, x0: Any, lower: Any, upper: Any) -> tuple[Any, int]:
        """Minimize."""
        nlopt: Any = importlib.import_module("nlopt")
        n, counts = x0.size, (self.equalities, self.inequalities)
        known, turn = Known.of(ask, n, counts, self.smooth), itertools.count()

        def value(x: Any, gradient: Any) -> float:
            parts = known(x)
            slope = float(np.abs(parts[3]).max(initial=0)) if self.smooth else 0.0
            ask.note(-next(turn) if sum(counts) else float(parts[0]), x, slope)
            if gradient.size:
                gradient[:] = parts[3]
            return float(parts[0])

        def rows(i: int) -> Any:
            def constraint(result: Any, x: Any, gradient: Any) -> None:
                parts = known(x)
                result[:] = parts[1 + i]
                if gradient.size:
                    gradient[:] = parts[4 + i]

            return constraint

        solver = self._made(nlopt, self.algorithm, n, x0)
        self._give_inner(solver, nlopt, x0)
        solver.set_min_objective(value)
        solver.set_lower_bounds(lower)
        solver.set_upper_bounds(upper)
        solver.set_maxeval(self.limit)
        start = np.clip(x0, lower, upper)
        if self.equalities:
            solver.add_equality_mconstraint(rows(0), self._tolerances(known(start), 0, start))
        if self.inequalities:
            solver.add_inequality_mconstraint(rows(1), self._tolerances(known(start), 1, start))
        try:
            point = solver.optimize(start)
        except (nlopt.RoundoffLimited, nlopt.runtime_error, RuntimeError):  # no step makes it better, or none is found
            return ask.best, Status.STALLED
        except nlopt.invalid_argument as error:
            raise TypeError(
                f"NLopt rejected {self.algorithm} for this problem or these settings ({solver.get_errmsg()}). Global "
                "algorithms need finite bounds, and some algorithms need an inner one (local=)."
            ) from error
        out_of_steps = solver.last_optimize_result() == nlopt.MAXEVAL_REACHED
        return point, Status.MAX_STEPS if out_of_steps else Status.RUNNING

    def _tolerances(self, parts: list[np.ndarray], i: int, start: np.ndarray) -> np.ndarray:
        """Return what counts as satisfied of each constraint: a share of its terms at the start."""
        terms = np.abs(parts[1 + i])
        if self.smooth:
            terms = np.maximum(terms, np.dot(np.abs(parts[4 + i]), np.abs(start)))
        return self.accuracy * terms

    def _give_inner(self, solver: Any, nlopt: Any, x0: Any) -> None:
        """Give an algorithm that calls another one that."""
        if self.local is not None or "AUGLAG" in self.algorithm or "MLSL" in self.algorithm:
            inner = self.local or ("LD_LBFGS" if self.smooth else "LN_SBPLX")
            solver.set_local_optimizer(self._made(nlopt, inner, x0.size, x0))

    def _made(self, nlopt: Any, algorithm: str, n: int, x0: Any) -> Any:
        """Return an object of an algorithm with its settings."""
        solver = nlopt.opt(getattr(nlopt, algorithm), n)
        solver.set_xtol_rel(self.accuracy)
        for name, setting in self.options:
            if name == "param":
                solver.set_param(*setting)
            else:
                getattr(solver, f"set_{name}")(setting)
        return solver
