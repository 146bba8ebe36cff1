"""Matrix-free solvers: what Krylov methods share, settings around those of JAX and Lineax, and solvers of the user."""

from __future__ import annotations

import dataclasses
import functools
import sys
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.records import record
from ..deferred import deferred
from ..functions import UserFunction
from ..trees import Tree
from ._nystrom import Nystrom
from ._preconditioner import as_preconditioner, fitted
from ._protocol import Matvec, Structure


def _tags(structure: Structure) -> Any:
    lx = deferred("lineax")
    if structure == "positive definite":
        return lx.symmetric_tag, lx.positive_semidefinite_tag
    return lx.symmetric_tag if structure == "symmetric" else ()


def _tolerances(rtol: float) -> dict[str, Any]:
    # The caller scales the right-hand side to unit norm, so that an absolute tolerance is a relative one. Lineax
    # measures each element on its own scale, which without an absolute part is zero for a zero right-hand side.
    return {"rtol": rtol, "atol": rtol, "norm": trees.norm}


def _norm(a: Any) -> jax.Array:
    """Return the norm in the default precision, in which Lineax writes the numbers that LSMR compares it with."""
    return trees.norm(a).astype(float)


def _run(
    solver: Any, matvec: Matvec, b: Any, structure: Structure, options: dict[str, Any] | None = None
) -> tuple[Any, jax.Array]:
    lx = deferred("lineax")
    operator = lx.FunctionLinearOperator(matvec, jax.eval_shape(lambda: b), _tags(structure))
    # the caller computes the true residual; Lineax's own flag would only repeat its recurrence's opinion
    solution = lx.linear_solve(operator, b, solver, options=options, throw=False)
    return solution.value, ~trees.all_finite(solution.value)


def _in_one_dtype(call: Any) -> Any:
    """Return a method ``__call__`` that solves for one vector where the unknown's leaves differ in precision.

    Methods of other libraries carry numbers of one dtype.
    """

    @functools.wraps(call)
    def run(self: Any, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        if len({leaf.dtype for leaf in jax.tree.leaves(b)}) < 2:
            return call(self, matvec, b, structure)
        flat, unravel = ravel_pytree(b)
        flattened = lambda fun: lambda v: ravel_pytree(fun(unravel(v)))[0].astype(flat.dtype)
        changes: dict[str, Any] = {}
        if not isinstance(getattr(self, "preconditioner", None), Nystrom | None):
            changes["preconditioner"] = flattened(self.preconditioner)
        if getattr(self, "x0", None) is not None:
            changes["x0"] = ravel_pytree(fitted(matvec, self.x0, b))[0].astype(flat.dtype)
        solver = dataclasses.replace(self, **changes)
        w, failed = call(solver, flattened(matvec), flat, structure)
        return unravel(w), failed

    return run


class Krylov:
    """What the iterative solvers share.

    Subclasses are dataclasses with the fields ``rtol`` and ``max_steps`` and, where the method takes them,
    ``preconditioner``, ``x0`` and ``x0_transposed``.
    """

    rtol: float | None
    max_steps: int | None
    preconditioner: Any = None
    x0: Tree = None
    x0_transposed: Any = None

    def __post_init__(self) -> None:
        if self.preconditioner is not None:
            object.__setattr__(self, "preconditioner", as_preconditioner(self.preconditioner))

    def transposed(self) -> Any:
        """Return the solver of the transposed system."""
        changes: dict[str, Any] = {}
        if self.preconditioner is not None:
            changes["preconditioner"] = self.preconditioner.transposed
        if self.x0 is not None or self.x0_transposed is not None:
            changes.update(x0=self.x0_transposed, x0_transposed=self.x0)
        return dataclasses.replace(self, **changes)  # pyright: ignore[reportArgumentType]

    def closed(self, like: Tree) -> Any:
        """Return the solver with everything that its preconditioner closes over made explicit."""
        if self.preconditioner is None:
            return self
        changes: dict[str, Any] = {"preconditioner": self.preconditioner.closed(like)}
        return dataclasses.replace(self, **changes)  # pyright: ignore[reportArgumentType]

    def tolerance(self, b: Any) -> float:
        """Return the relative residual at which to stop: by default three quarters of the digits."""
        # the rest is lost to rounding in long recurrences
        return trees.eps(b) ** 0.65 if self.rtol is None else self.rtol

    def steps(self, b: Any) -> int:
        """Return the limit on the number of steps."""
        return 10 * trees.size(b) + 100 if self.max_steps is None else self.max_steps

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return 100 * (eps**0.65 if self.rtol is None else self.rtol)

    def target(self, b: Any) -> jax.Array:
        """Return the norm of the residual at which to stop."""
        return jnp.asarray(self.tolerance(b), trees.real_dtype(b)) * trees.norm(b)

    def start(self, matvec: Matvec, b: Any) -> tuple[Any, Any]:
        """Return the first iterate and its residual."""
        if self.x0 is None:
            return trees.zeros_like(b), b
        x = fitted(matvec, self.x0, b)
        return x, trees.sub(b, matvec(x))

    def precondition(self, r: Any) -> Any:
        """Apply the preconditioner, where there is one."""
        return r if self.preconditioner is None else self.preconditioner(r)

    def preconditioning(self, matvec: Matvec, b: Any) -> Any:
        """Return the function that applies the preconditioner, where it is made of the map too."""
        own = self.preconditioner
        return own.of(matvec, b) if isinstance(own, Nystrom) else self.precondition

    def _by_lineax(self, method: Any, matvec: Matvec, b: Any, structure: Structure, **settings: Any) -> Any:
        options: dict[str, Any] = {}
        if self.preconditioner is not None:
            like = jax.eval_shape(lambda: b)
            tags = _tags(structure) if structure == "positive definite" else ()
            options["preconditioner"] = deferred("lineax").FunctionLinearOperator(self.preconditioner, like, tags)
        if self.x0 is not None:
            options["y0"] = fitted(matvec, self.x0, b)
        solver = method(**(_tolerances(self.tolerance(b)) | settings), max_steps=self.steps(b))
        return _run(solver, matvec, b, structure, options)


@dataclass(frozen=True)
class ShortRecurrence(Krylov):
    """The settings of the methods that keep a few vectors only."""

    rtol: float | None = field(default=None, metadata={"static": True})
    max_steps: int | None = field(default=None, metadata={"static": True})
    preconditioner: Any = None
    x0: Tree = None
    x0_transposed: Any = None


@record
class BiCGStab(ShortRecurrence):
    """BiCGStab, for general maps in short memory: JAX's, with a test of the true residual after it.

    Parameters
    ----------
    rtol, max_steps, x0, x0_transposed
        As for :class:`CG`.
    preconditioner
        As for :class:`GMRES`.
    """

    @_in_one_dtype
    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether it is not finite."""
        del structure
        x0 = None if self.x0 is None else fitted(matvec, self.x0, b)
        # JAX's own ends where half a step has arrived, as that of a multiple of the identity does
        limits = {"tol": self.tolerance(b), "atol": 0.0, "maxiter": self.steps(b)}
        x = jax.scipy.sparse.linalg.bicgstab(matvec, b, x0, M=self.preconditioner, **limits)[0]
        return x, ~trees.all_finite(x)


@record
class LSMR(Krylov):
    """LSMR, for general maps, also singular ones: of all solutions, or least-squares solutions, the shortest.

    It works with the products of the map and of its transpose, and its steps depend on the square of the condition
    number; so for invertible maps :class:`GMRES` is faster. A right-hand side outside of the range has a
    least-squares solution with a residual that is not small, and counts as failed.

    Parameters
    ----------
    rtol, max_steps
        As for :class:`CG`.

    References
    ----------
    D. Fong, M. Saunders, LSMR: An iterative algorithm for sparse least-squares problems, SIAM J. Sci. Comput. 33, 2011.
    """

    rtol: float | None = field(default=None, metadata={"static": True})
    max_steps: int | None = field(default=None, metadata={"static": True})

    @_in_one_dtype
    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether it is finite."""
        # Lineax's relative tolerance is on the backward error, which a small residual of an ill-conditioned map needs
        # smaller; its absolute one is on ``A.T r`` too, which small singular values make smaller than ``r``.
        eps = trees.eps(b)
        tight = {"rtol": eps, "atol": self.tolerance(b) * eps**0.25, "norm": _norm}
        return self._by_lineax(deferred("lineax").LSMR, matvec, b, structure, conlim=float("inf"), **tight)


@record
class Lineax:
    """Any solver of Lineax, as it is. Its relative tolerance, where it has one, decides what is believed."""

    solver: Any = field(metadata={"static": True})

    @_in_one_dtype
    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether it is finite."""
        return _run(self.solver, matvec, b, structure)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        rtol = getattr(self.solver, "rtol", None)
        return eps**0.375 if rtol is None else 100 * float(rtol)


@record
class Function:
    """A user's own ``solve(matvec, b) -> w``; it gets the transposed products for the transposed system."""

    solve: Any

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether it is finite."""
        del structure
        w = self.solve(matvec, b)
        trees.require_same("The solution of the user's linear solver", w, b, "the right-hand side")
        return w, ~trees.all_finite(w)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375


def as_linear_solver(solver: Any) -> Any:
    """Return a dini linear solver for one of dini's, one of Lineax's or a plain ``solve(matvec, b)``."""
    if isinstance(solver, type):
        raise TypeError(f"linear_solver must be an object, such as {solver.__name__}(): given the class.")
    if hasattr(solver, "accept") or hasattr(solver, "choose"):
        return solver
    if "lineax" in sys.modules and isinstance(solver, deferred("lineax").AbstractLinearSolver):
        return Lineax(solver)
    if callable(solver):
        return Function(UserFunction(solver))
    raise TypeError(
        f"linear_solver must be one of dini.linear's, a Lineax solver or a function solve(matvec, b): given {solver!r}."
    )


def wrap_linear_solver(solver: Any) -> Any:
    """Return a setting as a linear solver, or ``None``."""
    return None if solver is None else as_linear_solver(solver)


def closed_solver(solver: Any, like: Tree) -> Any:
    """Return a linear solver for unknowns like ``like`` with everything that its functions close over made explicit."""
    return solver.closed(jax.eval_shape(trees.to_real, like)) if hasattr(solver, "closed") else solver
