"""Cone programs by solvers on the host."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..checks.settings import require_choice
from ..functions.host import call_on_host
from ..linear._reused import Reused
from ..problems import ConeProgram, PrimalDual
from ..protocols import Conic, Quadratic
from ..sets._blocks import Block, blocks
from ..status import Status
from ..trees import Scalar, Tree
from ._base import Solver, solver
from .interior._cone_system import cone_solver


class State(NamedTuple):
    """The error of the last point, and how the solver ended."""

    error: Scalar
    status: Any


@solver
class HostConeSolver(Solver):
    """A solver on the host for :class:`dini.ConeProgram`: Clarabel or SCS, behind a callback.

    It works under ``jit``, ``grad`` and ``vmap`` (one program after another), and is differentiated as every solver
    is. The point is tested by the program's own conditions; where they do not hold, the solve has failed. Cones that
    the solver does not have are refused: duals of exponential and power cones. Derivatives are those at its point,
    which in curved cones is often right to four or five digits only; :class:`dini.ConicInteriorPoint` gives all.

    Parameters
    ----------
    method
        ``"clarabel"`` or ``"scs"``, which must be installed.
    accuracy
        What the solver is asked for.
    rtol
        How large the error of the program's conditions may be at the point that comes back, relative to their terms.
    atol, tol
        See :class:`dini.Solver`.

    Raises
    ------
    ImportError
        If the solver is not installed.

    References
    ----------
    Goulart and Chen, "Clarabel: an interior-point solver for conic programs with quadratic objectives", 2024 (arXiv
    2405.12762). O'Donoghue, Chu, Parikh, Boyd, "Conic optimization via operator splitting and homogeneous self-dual
    embedding", J. Optim. Theory Appl. 2016.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> from dini.sets import NonNegative
    >>> bounds = {"A": -jnp.eye(2), "b": -jnp.array([1.0, 2.0]), "cone": NonNegative()}
    >>> print(dini.cone_program(c=jnp.ones(2), **bounds, solver=dini.HostConeSolver("clarabel")).x.round(3))
    [1. 2.]
    """

    method: Literal["clarabel", "scs"] = field(default="clarabel", metadata={"static": True})
    accuracy: float = field(default=1e-9, metadata={"static": True})
    # what solvers on the host reach of these conditions, which are not those that they stop by
    rtol: Any = field(default=1e-5, kw_only=True)
    max_steps: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]

    solves = (ConeProgram,)
    composite = True
    superlinear = True
    differentiable = False

    def __post_init__(self, tol: Any = None) -> None:
        self._check_settings(tol)
        require_choice("HostConeSolver's method", self.method, ("clarabel", "scs"))
        if importlib.util.find_spec(self.method) is None:
            raise ImportError(
                f"HostConeSolver({self.method!r}) needs the package {self.method}, which is not installed."
            )

    def check(self, problem: Conic, x: Tree) -> None:
        """Raise unless the solver can solve the problem."""
        super().check(problem, x)
        if any(block.dual for block in blocks(problem.cone, problem.b.size)):
            raise TypeError("HostConeSolver has no duals of exponential or power cones. Use ConicInteriorPoint.")

    def init(self, problem: Quadratic, x: Tree, *args: Tree) -> State:
        """Return the state before the one step."""
        del x, args
        return State(jnp.full((), jnp.inf, problem.c.dtype), jnp.asarray(Status.RUNNING, jnp.int32))

    def step(self, problem: Conic, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Solve the program on the host."""
        del x, state, args
        dtype = problem.c.dtype
        parts = blocks(problem.cone, problem.b.size)
        exponents = [block.cone.alpha for block in parts if block.kind == "power"]
        P = jnp.zeros((problem.c.size,) * 2, dtype) if problem.P is None else 0.5 * (problem.P + problem.P.T)
        like = lambda shape, kind: jax.ShapeDtypeStruct(shape, kind)
        out = like(problem.c.shape, dtype), like(problem.b.shape, dtype), like((), jnp.int32)
        forms = tuple(block._replace(cone=None) for block in parts)
        run = _Run(self.method, self.accuracy, forms)
        # of a row that is no constraint, 0 <= 1 is solved
        A, b = jnp.where(problem.live[:, None], problem.A, 0), jnp.where(problem.live, problem.b, 1)
        data = P, problem.c, A, b, [jnp.asarray(alpha, dtype) for alpha in exponents]
        point, dual, status = call_on_host(run, out, *data)
        found = PrimalDual(point, dual)
        error = problem.condition.error(problem, found)
        failed = (status == Status.PRIMAL_INFEASIBLE) | (status == Status.DUAL_INFEASIBLE) | ~jnp.isfinite(error)
        status = jnp.where(failed, status, Status.RUNNING).astype(jnp.int32)
        return found, State(jnp.where(failed, jnp.ones((), dtype), error), status)

    def derivative_solver(self, problem: Conic, x: Tree, state: State) -> Reused:
        """Return a linear solver in the program's own units."""
        del x, state
        return cone_solver(problem)


class _Run(NamedTuple):
    """A call of a solver on the host."""

    method: str
    accuracy: float
    parts: tuple[Block, ...]

    def __call__(self, P: Any, c: Any, A: Any, b: Any, exponents: Any) -> tuple[Any, Any, Any]:
        P, c, A, b = (np.asarray(part, np.float64) for part in (P, c, A, b))
        lost = np.full(c.shape, np.nan), np.full(b.shape, np.nan), int(Status.NONFINITE)
        never = [part.first for part in self.parts if part.kind == "nonnegative" and b[part.first] == -np.inf]
        if never:  # a row that no point satisfies is the proof alone
            return np.zeros(c.shape), np.eye(b.size)[never[0]], int(Status.PRIMAL_INFEASIBLE)
        if not all(np.isfinite(part).all() for part in (P, c, A, b)):
            return lost
        order = _order(self.parts)
        alphas = [float(alpha) for alpha in exponents]
        call: Callable[..., Any] = _clarabel if self.method == "clarabel" else _scs
        x, y, status = call(P, c, A, b, order, alphas, self.accuracy)
        return x, y, int(status)


def _order(parts: tuple[Block, ...]) -> list[Block]:
    """Return the cones in the order that SCS needs, and Clarabel takes."""
    kinds = ("zero", "nonnegative", "second-order", "semidefinite", "exponential", "power")
    return [part for kind in kinds for part in parts if part.kind == kind]


def _places(part: Block, *, by_columns: bool) -> list[int]:
    """Return the rows of a cone; of a matrix's upper triangle ``by_columns``, or of its lower one."""
    where = np.arange(part.first, part.first + part.size)
    if part.kind == "semidefinite" and by_columns:
        n = int((8 * part.size + 1) ** 0.5) // 2
        place = np.zeros((n, n), int)
        place[np.triu_indices(n)] = where
        where = np.array([place[i, j] for j in range(n) for i in range(j + 1)])
    return [int(i) for i in where]


def _clarabel(P: Any, c: Any, A: Any, b: Any, order: Any, alphas: Any, accuracy: float) -> Any:
    clarabel: Any = importlib.import_module("clarabel")
    sp: Any = importlib.import_module("scipy.sparse")
    exponent = iter(alphas)
    make = {
        "zero": clarabel.ZeroConeT,
        "nonnegative": clarabel.NonnegativeConeT,
        "second-order": clarabel.SecondOrderConeT,
        "semidefinite": lambda size: clarabel.PSDTriangleConeT(int((8 * size + 1) ** 0.5) // 2),
        "exponential": lambda size: clarabel.ExponentialConeT(),
        "power": lambda size: clarabel.PowerConeT(next(exponent)),
    }
    rows = [i for part in order for i in _places(part, by_columns=True)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = accuracy
    cones = [make[part.kind](part.size) for part in order]
    found = clarabel.DefaultSolver(
        sp.csc_matrix(np.triu(P)), c, sp.csc_matrix(A[rows]), b[rows], cones, settings
    ).solve()
    ends = {"PrimalInfeasible": Status.PRIMAL_INFEASIBLE, "DualInfeasible": Status.DUAL_INFEASIBLE}
    return _ended(np.array(found.x), np.array(found.z), rows, b, ends.get(str(found.status), Status.RUNNING))


def _scs(P: Any, c: Any, A: Any, b: Any, order: Any, alphas: Any, accuracy: float) -> Any:
    scs: Any = importlib.import_module("scs")
    sp: Any = importlib.import_module("scipy.sparse")
    rows = [i for part in order for i in _places(part, by_columns=False)]
    count = lambda kind: sum(part.kind == kind for part in order)
    cones = {
        "z": count("zero"),
        "l": count("nonnegative"),
        "q": [part.size for part in order if part.kind == "second-order"],
        "s": [int((8 * part.size + 1) ** 0.5) // 2 for part in order if part.kind == "semidefinite"],
        "ep": count("exponential"),
        "p": alphas,
    }
    data = {"P": sp.csc_matrix(np.triu(P)), "A": sp.csc_matrix(A[rows]), "b": b[rows], "c": c}
    found = scs.SCS(data, cones, eps_abs=accuracy, eps_rel=accuracy, max_iters=100_000, verbose=False).solve()
    ends = {-2: Status.PRIMAL_INFEASIBLE, -1: Status.DUAL_INFEASIBLE}
    end = ends.get(found["info"]["status_val"], Status.RUNNING)
    return _ended(np.asarray(found["x"]), np.asarray(found["y"]), rows, b, end)


def _ended(x: np.ndarray, z: np.ndarray, rows: list[int], b: np.ndarray, status: Status) -> Any:
    y = np.zeros(b.shape)
    y[rows] = z
    scale = lambda v: v / max(float(np.abs(v).max(initial=0)), 1e-300) if status != Status.RUNNING else v
    return scale(x), scale(y), status
