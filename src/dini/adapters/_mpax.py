"""Large linear and quadratic programs by MPAX."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ..checks.records import record
from ..checks.settings import require_choice, require_count, require_positive
from ..linear._matrices import densified, is_sparse
from ..problems import Multipliers, PrimalDual, QuadraticProgram
from ..protocols import Quadratic
from ..status import Status
from ..trees import Tree
from ..trees.products import dot
from ._adapter import Adapter, frozen_options, package
from ._conversation import Found
from ._faces import face_solver, on_face

#: how MPAX ends, by its names
_ENDS = {
    "PRIMAL_INFEASIBLE": Status.PRIMAL_INFEASIBLE,
    "DUAL_INFEASIBLE": Status.DUAL_INFEASIBLE,
    "ITERATION_LIMIT": Status.MAX_STEPS,
    "NUMERICAL_ERROR": Status.STALLED,
}


@record
class MPAX(Adapter):
    r"""Restarted primal-dual hybrid gradient by MPAX, for large linear (and quadratic) programs on the device.

    It needs products with the matrices only, which stay sparse, and runs in JAX: on accelerators, under ``jit`` and
    ``vmap``. First-order methods find a few digits; where they show the right active constraints, one step of Newton's
    method for the equations of these finds the rest. The point is tested by the program's conditions, and
    differentiated through them; where the matrices are sparse, their equations are factorized on the host.

    Parameters
    ----------
    method
        ``"r2hpdhg"``, the reflected restarted Halpern method, or ``"rapdhg"``, the restarted average one. Default: the
        first for linear programs, the second with ``Q``, where the first may stop at points outside of the bounds
        (which the status shows).
    options
        Settings of MPAX's solver, by its names, as a dictionary.
    accuracy
        MPAX's relative and absolute tolerance.
    max_steps
        Limit on the number of its iterations.
    rtol
        How large the error of the program's conditions may be at the point that comes back, relative to their terms.
    atol, tol
        See :class:`dini.Solver`.

    Raises
    ------
    ImportError
        If MPAX is not installed.

    References
    ----------
    Lu, Peng, Yang, "MPAX: Mathematical Programming in JAX", 2024 (arXiv 2412.09734).

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> prices, total = jnp.array([1.0, 2.0, 3.0]), jnp.ones((1, 3))
    >>> solver = dini.adapters.MPAX()
    >>> print(dini.quadratic_program(c=prices, A=total, b=jnp.ones(1), lower=0.0, upper=0.6, solver=solver).x.round(3))
    [0.6 0.4 0. ]
    """

    method: Literal["r2hpdhg", "rapdhg"] | None = field(default=None, metadata={"static": True})
    options: Any = field(default=None, metadata={"static": True})
    accuracy: float = field(default=1e-6, metadata={"static": True}, kw_only=True)
    max_steps: int = field(default=100_000, metadata={"static": True}, kw_only=True)
    rtol: Any = field(default=1e-5, kw_only=True)

    solves = (QuadraticProgram,)

    def __post_init__(self, tol: Any = None) -> None:
        self._check_settings(tol)
        require_choice("MPAX's method", self.method, (None, "r2hpdhg", "rapdhg"))
        require_positive("MPAX's accuracy", self.accuracy)
        require_count("MPAX's max_steps", self.max_steps)
        object.__setattr__(self, "options", frozen_options("MPAX", self.options))
        package("MPAX", "mpax")

    def check(self, problem: Quadratic, x: Tree) -> None:
        """Raise unless the program has rows."""
        super().check(problem, x)
        if problem.A is None and problem.G is None:
            raise TypeError(
                "MPAX needs a program with equalities or inequalities: given one without. Use InteriorPoint."
            )

    def found(self, problem: QuadraticProgram, x: Tree, args: tuple[Tree, ...]) -> tuple[Any, Found]:
        """Solve the program."""
        del args
        mpax, dtype, n = package("MPAX", "mpax"), problem.c.dtype, problem.c.size
        parts = {name: getattr(problem, name) for name in ("Q", "A", "G")}
        parts = {name: part if is_sparse(part) else densified(part, dtype) for name, part in parts.items()}
        sparse = any(map(is_sparse, parts.values()))
        nothing, none = jnp.zeros((0, n), dtype), jnp.zeros(0, dtype)
        full = lambda bound, value: jnp.full(n, value, dtype) if bound is None else bound
        # rows without a bound are rows of zeros
        live = none.astype(bool) if problem.h is None else jnp.isfinite(problem.h)
        G = nothing if problem.G is None else _kept(parts["G"], live)
        h = none if problem.h is None else jnp.where(live, problem.h, 0)
        A, b = (nothing, none) if problem.A is None else (parts["A"], problem.b)
        # MPAX has G x >= h
        rows = A, b, -G, -h, full(problem.lower, -jnp.inf), full(problem.upper, jnp.inf)
        quadratic = problem.Q is not None
        given = (parts["Q"], problem.c, *rows) if quadratic else (problem.c, *rows)
        settings = {"eps_abs": self.accuracy, "eps_rel": self.accuracy, "iteration_limit": self.max_steps}
        settings |= dict(self.options)
        # its programs promote shapes and types silently
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            program = (mpax.create_qp if quadratic else mpax.create_lp)(*given, use_sparse_matrix=sparse)
            # of data that are not known yet, MPAX cannot tell
            program = dataclasses.replace(program, is_lp=not quadratic)
            average = quadratic if self.method is None else self.method == "rapdhg"
            ended = (mpax.raPDHG if average else mpax.r2HPDHG)(**settings).optimize(program)
        primal, dual = ended.primal_solution.astype(dtype), ended.dual_solution.astype(dtype)
        y, z = -dual[: b.size], jnp.maximum(dual[b.size :], 0)
        point = PrimalDual(
            primal, Multipliers(None if problem.A is None else y, None if problem.G is None else z, x.dual.bounds)
        )
        if x.dual.bounds is not None:
            # what the bounds hold is what is left of the gradient
            left = problem.gradient(primal)
            left = left if problem.A is None else left + dot(problem.A.T, y)
            left = left if problem.G is None else left + dot(problem.G.T, z)
            pushes = jnp.where(left < 0, jnp.isfinite(rows[5]), jnp.isfinite(rows[4]))
            point = point._replace(dual=point.dual._replace(bounds=jnp.where(pushes, -left, 0)))
        status = jnp.full((), Status.RUNNING, jnp.int32)
        names = package("MPAX", "mpax.utils").TerminationStatus
        for name, end in _ENDS.items():
            status = jnp.where(ended.termination_status == int(names[name]), end, status)
        return on_face(problem, point), Found(primal, ended.iteration_count, status.astype(jnp.int32))

    def derivative_solver(self, problem: QuadraticProgram, x: Tree, state: Any) -> Any:
        """Return a linear solver for the equations of the active rows of a large program."""
        del state
        return face_solver(problem, x)


def _kept(matrix: Any, rows: jax.Array) -> Any:
    """Return a matrix with zeros for some rows."""
    if not is_sparse(matrix):
        return jnp.where(rows[:, None], matrix, 0)
    there = rows[jnp.minimum(matrix.indices[:, 0], rows.size - 1)]
    return type(matrix)((jnp.where(there, matrix.data, 0), matrix.indices), shape=matrix.shape)
