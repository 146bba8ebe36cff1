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

from dini import trees
from dini.defaults import Default
from dini.functions.traces import untraced
from dini.problems import QuadraticProgram
from dini.solve import solve
from dini.solvers import OperatorSplitting
from dini.status import SolveError, SolveWarning, Status
from dini.trees import Tree
from dini.trees.products import dot

from ._base import KKTSolution, WarnedImplicit
from .tree_util import tree_dot

#: states of JAXopt's, by whose numbers they are told
UNSOLVED, SOLVED, DUAL_INFEASIBLE, PRIMAL_INFEASIBLE = range(4)
#: ends of a solve at which there is no point
_NOWHERE = (Status.PRIMAL_INFEASIBLE, Status.DUAL_INFEASIBLE, Status.NOT_CONVEX)


class Vectors(NamedTuple):
    """A tree as a vector, and the way back."""

    flat: jax.Array
    unravel: Callable[[jax.Array], Any]

    @classmethod
    def of(cls, tree: Tree) -> Vectors:
        """Return the vector of a tree, in floating-point numbers."""
        return cls(*ravel_pytree(trees.inexact(tree)))


def matrix(owner: str, matvec: Callable[..., Any] | None, params: Any, like: Vectors) -> Any:
    """Return a matrix of vectors: an array for arrays that act on vectors, a function for everything else."""
    leaves = jax.tree.leaves(params)
    x = like.unravel(like.flat)
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
    return lambda v: ravel_pytree(product(params, like.unravel(v)))[0]


def objective(
    owner: str, fun: Callable[..., Any] | None, matvec: Any, params_obj: Any, x: Any
) -> tuple[Any, jax.Array, Vectors]:
    """Return ``Q``, ``c`` and the unknown's vectors; ``x`` is a tree like the unknown, where one is known."""
    if fun is None:
        if not isinstance(params_obj, tuple | list) or len(params_obj) != 2:
            raise ValueError(f"{owner}'s params_obj must be a pair (Q, c): given {params_obj!r}.")
        params_Q, c = params_obj
        like = Vectors.of(c)
        return matrix(f"{owner}'s Q", matvec, params_Q, like), like.flat, like
    if x is None:
        raise ValueError(
            f"{owner} needs init_params (of init_params(x, ...)) where fun is given: only they say what the unknown is."
        )
    like = Vectors.of(x)
    slope = lambda v: ravel_pytree(jax.grad(fun)(like.unravel(v), params_obj))[0]
    c = slope(jnp.zeros_like(like.flat))
    return lambda v: slope(v) - c, c, like


def require_one_objective(owner: str, fun: Any, matvec_Q: Any) -> None:
    """Raise where the objective is given twice."""
    if fun is not None and matvec_Q is not None:
        raise ValueError(f"{owner} takes fun or matvec_Q, which both say what the objective is: given both.")


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
    maxiter: int
    implicit_diff_solve: Any = None
    weight: Any = 0.1
    relaxation: float = 1.6
    #: whether a program without a solution raises where that is known
    raises: bool = False
    #: whether the caller looks at the status, and need not be warned of such a program
    told: bool = False


def solved(settings: Settings, problem: QuadraticProgram, primal: Any = None, multipliers: Any = None) -> End:
    """Solve a program: where there is no solution, all of it is NaN."""
    start = problem.start(primal, multipliers)
    solver: Any = Default().chosen(problem, start, ()).solver
    if isinstance(solver, OperatorSplitting):
        steps = math.ceil(settings.maxiter / solver.block)
        solver = dataclasses.replace(solver, weight=settings.weight, relaxation=settings.relaxation, max_steps=steps)
    else:
        solver = dataclasses.replace(solver, max_steps=min(settings.maxiter, solver.max_steps))
    differentiation = WarnedImplicit(linear_solver=settings.implicit_diff_solve)
    found = solve(problem, solver, start, differentiation=differentiation, on_failure="ignore")
    status = found.status
    nowhere = jnp.isin(status, jnp.asarray(_NOWHERE))
    # by a product: the derivative of a point that is none is NaN, too
    x, dual = jax.tree.map(lambda u: u * jnp.where(nowhere, jnp.nan, 1).astype(u.dtype), tuple(found.x))
    if untraced():
        _told(settings, Status(int(np.max(np.asarray(status)))))
    end = End(x, dual, jnp.asarray(_CODES)[status], found.stats.steps, jnp.zeros((), x.dtype))
    return end._replace(error=_error(problem, end))


#: JAXopt's number of each status
_CODES = np.full(len(Status), UNSOLVED, np.int32)
_CODES[[Status.CONVERGED, Status.DUAL_INFEASIBLE, Status.PRIMAL_INFEASIBLE]] = (
    SOLVED,
    DUAL_INFEASIBLE,
    PRIMAL_INFEASIBLE,
)


def _told(settings: Settings, status: Status) -> None:
    """Raise or warn where a program has no solution, or none was found."""
    if status == Status.CONVERGED:
        return
    text = f"jaxopt.{settings.owner} found no solution ({status.name}): {status.explanation}"
    if status not in _NOWHERE:
        warnings.warn(f"{text} The last point is returned.", SolveWarning, stacklevel=4)
    elif settings.raises:
        raise ValueError(text) from SolveError(text, status)
    elif not settings.told or status == Status.NOT_CONVEX:
        warnings.warn(f"{text} The returned point is NaN.", SolveWarning, stacklevel=4)


def residuals(problem: QuadraticProgram, x: Any, equality: Any, inequality: Any) -> tuple[Any, Any, Any]:
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


def _error(problem: QuadraticProgram, end: End) -> jax.Array:
    """Return the largest residual of stationarity and of the constraints, which is JAXopt's error."""
    x, dual = jax.lax.stop_gradient((end.primal, end.dual))
    stationarity, missed, _ = residuals(problem, x, dual.equality, dual.inequality)
    if dual.bounds is not None:
        stationarity = stationarity + dual.bounds
    parts = [jnp.abs(stationarity)]
    if missed is not None:
        parts.append(jnp.abs(missed))
    if problem.G is not None:
        parts.append(jnp.maximum(dot(problem.G, x) - problem.h, 0))
    if problem.lower is not None:
        parts += [jnp.maximum(problem.lower - x, 0), jnp.maximum(x - problem.upper, 0)]
    return jnp.max(jnp.concatenate(parts))


def unraveled(tree: Tree | None, flat: Any) -> Any:
    """Return a vector in the structure of a tree, or ``None`` for no tree."""
    return None if tree is None else Vectors.of(tree).unravel(flat)


def general(
    owner: str,
    maps: tuple[Any, Any, Any, Any],
    params_obj: Any,
    params_eq: Any,
    params_ineq: Any,
    x: Any = None,
) -> tuple[QuadraticProgram, Vectors]:
    """Return the program of ``(Q, c)``, ``(A, b)`` and ``(G, h)``; ``maps`` are ``fun`` and the three products."""
    fun, matvec_Q, matvec_A, matvec_G = maps
    Q, c, like = objective(owner, fun, matvec_Q, params_obj, x)
    parts: dict[str, Any] = {}
    for given, name, matvec, letters in ((params_eq, "A", matvec_A, "Ab"), (params_ineq, "G", matvec_G, "Gh")):
        if given is not None:
            if not isinstance(given, tuple | list) or len(given) != 2:
                kind = "params_eq" if name == "A" else "params_ineq"
                raise ValueError(f"{owner}'s {kind} must be a pair ({letters[0]}, {letters[1]}): given {given!r}.")
            parts[letters[0]] = matrix(f"{owner}'s {name}", matvec, given[0], like)
            parts[letters[1]] = Vectors.of(given[1]).flat
    return QuadraticProgram(Q=Q, c=c, **parts), like


def kkt(end: End, like: Vectors, params_eq: Any, params_ineq: Any) -> KKTSolution:
    """Return a solution in JAXopt's form."""
    offsets = [None if given is None else given[1] for given in (params_eq, params_ineq)]
    duals = zip(offsets, (end.dual.equality, end.dual.inequality), strict=True)
    return KKTSolution(like.unravel(end.primal), *(unraveled(offset, dual) for offset, dual in duals))
