"""Quadratic programs by the solvers that qpsolvers knows."""

from __future__ import annotations

import importlib
from dataclasses import field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..checks.records import record
from ..problems import QuadraticProgram
from ..status import Status
from ..trees import Tree
from ._adapter import Adapter, frozen_options, package
from ._conversation import Found
from ._faces import face_solver, on_face
from ._program_data import HostSolution, ProgramData, Unpacked, finite_rows, in_units
from ._quiet import quiet

#: the arguments for the accuracy of each solver; others keep their defaults
_ACCURACY = {
    "osqp": ("eps_abs", "eps_rel"),
    "proxqp": ("eps_abs", "eps_rel"),
    "piqp": ("eps_abs", "eps_rel"),
    "qpalm": ("eps_abs", "eps_rel"),
    "scs": ("eps_abs", "eps_rel"),
    "clarabel": ("tol_gap_abs", "tol_gap_rel", "tol_feas"),
    "highs": ("primal_feasibility_tolerance", "dual_feasibility_tolerance"),
}
#: what else they need for that
_MORE = {
    "osqp": {"max_iter": 100_000, "polishing": True},
    "scs": {"max_iters": 100_000},
    "proxqp": {"max_iter": 100_000},
    # or it prints its name
    "highs": {"output_flag": False},
}
#: HiGHS takes no less
_LEAST = {"highs": 1e-10}
#: up to so many unknowns, Q is factorized to see whether it is positive semidefinite
_FACTORIZED = 2000


@record
class QPSolvers(Adapter):
    r"""Solvers of quadratic programs on the host, by the package qpsolvers, for :class:`dini.QuadraticProgram`.

    It works under ``jit``, ``grad`` and ``vmap`` (one program after another) behind a callback. Sparse matrices stay
    sparse. The point and the multipliers that come back are tested by the program's own conditions. Where a solver
    finds nothing, SciPy's ``linprog`` tells whether there is no point that satisfies the constraints
    (``PRIMAL_INFEASIBLE``) or a ray along which the objective falls (``DUAL_INFEASIBLE``); a ``Q`` with a negative
    direction is refused (``NOT_CONVEX``; looked for up to 2000 unknowns).

    These solvers find some digits. Where they show the right active constraints, one step of Newton's method for the
    equations of these finds the rest, and of the derivative as well.

    Parameters
    ----------
    solver
        A name that qpsolvers knows: ``"osqp"``, ``"proxqp"``, ``"highs"``, ``"clarabel"``, ``"scs"``, ``"piqp"``,
        ``"quadprog"``, ... The solver's own package must be installed.
    options
        Settings of the solver, by its names, as a dictionary.
    accuracy
        What the solver is asked for, where it is known how.
    rtol
        How large the error of the program's conditions may be at the point that comes back, relative to their terms.
    atol, tol
        See :class:`dini.Solver`.

    Raises
    ------
    ImportError
        If qpsolvers or the solver's package is not installed.
    ValueError
        For a name that qpsolvers does not know.

    References
    ----------
    Caron et al., "qpsolvers: quadratic programming solvers in Python with a unified API", 2024.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> parts = {"Q": jnp.eye(2), "c": jnp.array([-2.0, 0.0]), "A": jnp.ones((1, 2)), "b": jnp.ones(1), "lower": 0.0}
    >>> solution = dini.quadratic_program(**parts, solver=dini.adapters.QPSolvers("clarabel"))
    >>> print(solution.x.round(3), solution.multipliers.equality.round(3))
    [1. 0.] [1.]
    """

    solver: str = field(metadata={"static": True})
    options: Any = field(default=None, metadata={"static": True})
    accuracy: float = field(default=1e-9, metadata={"static": True}, kw_only=True)
    # what these solvers reach of the conditions, which are not those that they stop by
    rtol: Any = field(default=1e-5, kw_only=True)
    max_steps: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]

    solves = (QuadraticProgram,)

    def __post_init__(self, tol: Any = None) -> None:
        self._check_settings(tol)
        known = package("QPSolvers", "qpsolvers")
        names = importlib.import_module("qpsolvers.solvers").solve_function
        object.__setattr__(self, "options", frozen_options("QPSolvers", self.options))
        if self.solver not in (*names, *known.available_solvers):
            raise ImportError(
                f"QPSolvers({self.solver!r}): qpsolvers finds no solver of this name. Install the solver's package "
                f"(pip install {self.solver!s}, proxsuite for proxqp, highspy for highs); installed are "
                f"{', '.join(known.available_solvers)}."
            )

    @property
    def name(self) -> str:
        """The name for messages."""
        return f"QPSolvers({self.solver!r})"

    def found(self, problem: QuadraticProgram, x: Tree, args: tuple[Tree, ...]) -> tuple[Any, Found]:
        """Solve the program on the host."""
        del args
        form = ProgramData.of(problem)
        point, found = form.called(_Run(form, self.solver, self.options, self.accuracy), problem, x)
        return on_face(problem, point), found

    def derivative_solver(self, problem: QuadraticProgram, x: Tree, state: Any) -> Any:
        """Return a linear solver for the equations of the active rows of a large program."""
        del state
        return face_solver(problem, x)


class _Run(NamedTuple):
    """A call of a solver on the host."""

    form: ProgramData
    solver: str
    options: tuple[tuple[str, Any], ...]
    accuracy: float

    def __call__(self, start: Any, *arrays: Any) -> tuple[Any, ...]:
        data = self.form.unpacked(arrays)
        if not data.finite:
            return self.form.packed(data, HostSolution(status=Status.NONFINITE))
        with quiet():
            return self.form.packed(data, self._solved(data, np.asarray(start, float)))

    def _solved(self, data: Unpacked, start: np.ndarray) -> HostSolution:
        known, sparse = package("QPSolvers", "qpsolvers"), importlib.import_module("scipy.sparse")
        n = data.c.size
        Q = sparse.csc_matrix((n, n)) if data.Q is None else 0.5 * (data.Q + data.Q.T)
        if not _convex(Q):
            return HostSolution(status=Status.NOT_CONVEX)
        # solvers stop by absolute numbers
        data, units = in_units(data._replace(Q=None if data.Q is None else Q))
        Q = Q if data.Q is None else data.Q
        kept, G, h = finite_rows(data)
        matrices: list[Any] = [Q, G, data.A]
        dense = not any(hasattr(part, "tocsc") for part in (data.Q, data.A, data.G))
        if dense and self.solver in known.dense_solvers:
            matrices = [part.toarray() if hasattr(part, "toarray") else part for part in matrices]
        else:
            matrices = [None if part is None else sparse.csc_matrix(part) for part in matrices]
        bounds = (data.lower, data.upper) if self.form.bounded else (None, None)
        problem = known.Problem(matrices[0], data.c, matrices[1], h, matrices[2], data.b, *bounds)
        accuracy = max(self.accuracy, _LEAST.get(self.solver, 0.0))
        settings = dict.fromkeys(_ACCURACY.get(self.solver, ()), accuracy)
        settings |= _MORE.get(self.solver, {}) | dict(self.options)
        found = known.solve_problem(problem, solver=self.solver, initvals=start / units.length, **settings)
        none_found = None if found.found else _nothing(data)
        if none_found is not None and (none_found.status != Status.STALLED or found.x is None):
            return none_found
        z = None
        if data.h is not None:
            z = np.zeros(data.h.size)
            if found.z is not None:
                z[kept] = found.z
        y = None if data.b is None or found.y is None else found.y
        w = np.zeros(n) if found.z_box is None or not np.size(found.z_box) else found.z_box
        end = HostSolution(found.x, y, z, w, 1, Status.RUNNING if found.found else Status.STALLED)
        return units.back(end)


def _convex(Q: Any) -> bool:
    """Return whether a symmetric matrix is positive semidefinite, up to its rounding errors."""
    if hasattr(Q, "nnz") and (not Q.nnz or Q.shape[0] > _FACTORIZED):
        return True
    full = Q.toarray() if hasattr(Q, "toarray") else Q
    largest = np.abs(full).max(initial=0)
    if largest == 0:
        return True
    # in units in which all curvatures are one: a negative one is no rounding error of another that is larger
    diagonal = np.diagonal(full)
    unit = 1 / np.sqrt(np.where(diagonal > 0, diagonal, largest))
    try:
        np.linalg.cholesky(unit[:, None] * full * unit + 1e-11 * len(full) * np.eye(len(full)))
    except np.linalg.LinAlgError:
        return False
    return True


def _nothing(data: Unpacked) -> HostSolution:
    """Tell why a solver found nothing: by a point that satisfies the constraints, or a ray, by linear programs."""
    linprog = importlib.import_module("scipy.optimize").linprog
    _, G, h = finite_rows(data)
    bounds = np.stack([data.lower, data.upper], axis=1)
    there = linprog(np.zeros(data.c.size), A_ub=G, b_ub=h, A_eq=data.A, b_eq=data.b, bounds=bounds)
    if there.status == 2:
        return HostSolution(status=Status.PRIMAL_INFEASIBLE)
    if there.status != 0:
        return HostSolution(status=Status.STALLED)
    sparse = importlib.import_module("scipy.sparse")
    level = [sparse.csr_array(part) for part in (data.Q, data.A) if part is not None]
    ray = np.stack([np.where(np.isfinite(data.lower), 0.0, -1.0), np.where(np.isfinite(data.upper), 0.0, 1.0)], axis=1)
    rows = sparse.vstack(level) if level else None
    along = linprog(
        data.c,
        A_ub=G,
        b_ub=None if h is None else np.zeros(h.size),
        A_eq=rows,
        b_eq=None if rows is None else np.zeros(rows.shape[0]),
        bounds=ray,
    )
    if along.status == 0 and along.fun < -1e-9 * np.abs(data.c).max(initial=0):
        return HostSolution(along.x / np.abs(along.x).max(), status=Status.DUAL_INFEASIBLE)
    return HostSolution(status=Status.STALLED)
