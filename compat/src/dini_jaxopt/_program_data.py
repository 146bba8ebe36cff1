r"""JAXopt's parameters of a quadratic program as a :class:`dini.QuadraticProgram`, and how one is solved for it.

An unknown of JAXopt's is a tree; its matrices are trees as well, whose leaves act on the unknown's leaves, or are known
by products ``matvec(params, x)``, or stand in a function that is quadratic. A program of dini's has vectors.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import dini
from dini import SolveError, SolveWarning, Status
from dini.extend import default_solver, dot, trees, untraced

from ._base import KKTSolution, WarnedImplicit
from .tree_util import tree_dot

#: statuses of JAXopt's, whose numbers are reported
UNSOLVED, SOLVED, DUAL_INFEASIBLE, PRIMAL_INFEASIBLE = range(4)
#: ends of a solve at which there is no point
_NOWHERE = (Status.PRIMAL_INFEASIBLE, Status.DUAL_INFEASIBLE, Status.NOT_CONVEX)
#: JAXopt's number of each status
_CODES = np.full(len(Status), UNSOLVED, np.int32)
_CODES[Status.CONVERGED] = SOLVED
_CODES[Status.DUAL_INFEASIBLE] = DUAL_INFEASIBLE
_CODES[Status.PRIMAL_INFEASIBLE] = PRIMAL_INFEASIBLE


def flat(tree: Any) -> Any:
    """Return a tree as a vector, and nothing as nothing."""
    return None if tree is None else ravel_pytree(tree)[0]


class Vectors(NamedTuple):
    """A tree as a vector, and the way back."""

    flat: jax.Array
    unravel: Callable[[jax.Array], Any]

    @classmethod
    def of(cls, tree: Any) -> Vectors:
        """Return the vector of a tree, in floating-point numbers."""
        return cls(*ravel_pytree(trees.inexact(tree)))

    @property
    def tree(self) -> Any:
        """The tree."""
        return self.unravel(self.flat)


def matrix(owner: str, matvec: Callable[..., Any] | None, params: Any, like: Vectors) -> Any:
    """Return a matrix of vectors: an array for arrays that act on vectors, a function for everything else."""
    leaves, x = jax.tree.leaves(params), like.tree
    if matvec is None:
        if params is None:
            raise ValueError(f"{owner} needs a tree of matrices, or its matvec: given None.")
        if jax.tree.structure(params) != jax.tree.structure(x):
            raise ValueError(
                f"{owner} needs a matrix for each leaf of the unknown: given {trees.describe(params)} for "
                f"{trees.describe(x)}."
            )
        if all(jnp.ndim(leaf) == 2 for leaf in leaves) and all(u.ndim == 1 for u in jax.tree.leaves(x)):
            return jnp.asarray(leaves[0]) if len(leaves) == 1 else jax.scipy.linalg.block_diag(*leaves)
    product = tree_dot if matvec is None else matvec
    return lambda v: flat(product(params, like.unravel(v)))


def pair(owner: str, name: str, letters: str, given: Any) -> Any:
    """Return a pair of parameters, or raise."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ValueError(f"{owner}'s {name} must be a pair ({letters[0]}, {letters[1]}): given {given!r}.")
    return given


def objective(owner: str, fun: Any, matvec: Any, params_obj: Any, x: Any) -> tuple[Any, jax.Array, Vectors]:
    """Return ``Q``, ``c`` and the unknown's vectors; ``x`` is a tree like the unknown, where one is known."""
    if fun is None:
        params_Q, c = pair(owner, "params_obj", "Qc", params_obj)
        like = Vectors.of(c)
        return matrix(f"{owner}'s Q", matvec, params_Q, like), like.flat, like
    if x is None:
        raise ValueError(
            f"{owner} needs init_params (of init_params(x, ...)) if fun is given: only they define the unknown."
        )
    like = Vectors.of(x)
    slope = lambda v: flat(jax.grad(fun)(like.unravel(v), params_obj))
    c = slope(jnp.zeros_like(like.flat))
    return lambda v: slope(v) - c, c, like


def require_one_objective(owner: str, fun: Any, matvec_Q: Any) -> None:
    """Raise where the objective is given twice."""
    if fun is not None and matvec_Q is not None:
        raise ValueError(f"{owner} takes fun or matvec_Q, not both, since each defines the objective: given both.")


def start_of(owner: str, fun: Any, init_x: Any, params_obj: Any) -> Any:
    """Return ``init_x``, or zero for ``None``."""
    if init_x is None and fun is not None:
        raise ValueError(f"{owner}.init_params needs init_x if fun is given: only init_x defines x.")
    return trees.zeros_like(trees.inexact(params_obj[1])) if init_x is None else init_x


class End(NamedTuple):
    """The solution of a program, and how the solve ended."""

    primal: jax.Array
    dual: Any
    status: jax.Array
    steps: Any
    error: jax.Array


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a program is solved."""

    owner: str
    maxiter: int = 4000  # as OSQP's default is
    implicit_diff_solve: Any = None
    weight: Any = 0.1
    relaxation: float = 1.6
    #: whether a program without a solution raises where that is known
    raises: bool = False
    #: whether the caller looks at the status, and need not be warned of such a program
    checks_status: bool = False


def solved(settings: Settings, problem: Any, primal: Any = None, multipliers: Any = None) -> End:
    """Solve a program: where there is no solution, all of it is NaN."""
    start = problem.start(primal, multipliers)
    solver = default_solver(problem, start)
    if isinstance(solver, dini.OperatorSplitting):
        steps = math.ceil(settings.maxiter / solver.block)
        solver = dataclasses.replace(solver, weight=settings.weight, relaxation=settings.relaxation, max_steps=steps)
    else:
        solver = dataclasses.replace(solver, max_steps=min(settings.maxiter, solver.max_steps))
    mode = WarnedImplicit(linear_solver=settings.implicit_diff_solve)
    found = dini.solve(problem, solver, start, differentiation=mode, on_failure="ignore")
    nowhere = jnp.isin(found.status, jnp.asarray(_NOWHERE))
    # by a product: the derivative of a point that is none is NaN, too
    x, dual = jax.tree.map(lambda u: u * jnp.where(nowhere, jnp.nan, 1).astype(u.dtype), tuple(found.x))
    if untraced():
        _warn_unless_solved(settings, Status(int(np.max(np.asarray(found.status)))))
    return End(x, dual, jnp.asarray(_CODES)[found.status], found.stats.steps, _error(problem, x, dual))


def _warn_unless_solved(settings: Settings, status: Status) -> None:
    """Raise or warn where a program has no solution, or none was found."""
    if status == Status.CONVERGED:
        return
    text = f"jaxopt.{settings.owner} found no solution ({status.name}): {status.explanation}"
    if status not in _NOWHERE:
        warnings.warn(f"{text} The last point is returned.", SolveWarning, stacklevel=4)
    elif settings.raises:
        raise ValueError(text) from SolveError(text, status)
    elif not settings.checks_status or status == Status.NOT_CONVEX:
        warnings.warn(f"{text} The returned point is NaN.", SolveWarning, stacklevel=4)


def residuals(problem: Any, x: Any, equality: Any, inequality: Any) -> tuple[Any, Any, Any]:
    """Return stationarity, the equations' residuals, and the products of the inequalities' with their multipliers."""
    stationarity = problem.gradient(x)
    missed = slack = None
    if problem.A is not None:
        stationarity = stationarity + dot(problem.A.T, equality)
        missed = dot(problem.A, x) - problem.b
    if problem.G is not None:
        stationarity = stationarity + dot(problem.G.T, inequality)
        beyond = dot(problem.G, x) - problem.h
        # an inequality without a bound has no multiplier
        slack = jnp.where(jnp.isinf(beyond), 0, beyond) * inequality
    return stationarity, missed, slack


def _error(problem: Any, x: Any, dual: Any) -> jax.Array:
    """Return the largest residual of stationarity and of the constraints, which is JAXopt's error."""
    x, dual = jax.lax.stop_gradient((x, dual))
    stationarity, missed, _ = residuals(problem, x, dual.equality, dual.inequality)
    parts = [jnp.abs(stationarity if dual.bounds is None else stationarity + dual.bounds)]
    if missed is not None:
        parts.append(jnp.abs(missed))
    if problem.G is not None:
        parts.append(jnp.maximum(dot(problem.G, x) - problem.h, 0))
    if problem.lower is not None:
        parts += [jnp.maximum(problem.lower - x, 0), jnp.maximum(x - problem.upper, 0)]
    return jnp.max(jnp.concatenate(parts))


def general(owner: str, maps: Any, params_obj: Any, params_eq: Any, params_ineq: Any, x: Any) -> tuple[Any, Vectors]:
    """Return the program of ``(Q, c)``, ``(A, b)`` and ``(G, h)``; ``maps`` are ``fun`` and the three products."""
    fun, matvec_Q, matvec_A, matvec_G = maps
    Q, c, like = objective(owner, fun, matvec_Q, params_obj, x)
    parts: dict[str, Any] = {}
    for given, name, matvec, letters in (
        (params_eq, "params_eq", matvec_A, "Ab"),
        (params_ineq, "params_ineq", matvec_G, "Gh"),
    ):
        if given is not None:
            of_matrix, offset = pair(owner, name, letters, given)
            parts[letters[0]] = matrix(f"{owner}'s {letters[0]}", matvec, of_matrix, like)
            parts[letters[1]] = Vectors.of(offset).flat
    return dini.QuadraticProgram(Q=Q, c=c, **parts), like


def kkt(end: End, like: Vectors, params_eq: Any, params_ineq: Any) -> KKTSolution:
    """Return a solution in JAXopt's form."""
    duals = zip((params_eq, params_ineq), (end.dual.equality, end.dual.inequality), strict=True)
    back = [None if given is None else Vectors.of(given[1]).unravel(dual) for given, dual in duals]
    return KKTSolution(like.unravel(end.primal), *back)


def kkt_residual(problem: Any, params: KKTSolution) -> KKTSolution:
    """Return the optimality conditions of a program in the structure of its solution."""
    parts = zip(params, residuals(problem, *map(flat, params)), strict=True)
    return KKTSolution(*(None if tree is None else Vectors.of(tree).unravel(part) for tree, part in parts))
