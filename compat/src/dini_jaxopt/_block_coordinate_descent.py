"""Block coordinate descent by JAXopt's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dini import trees
from dini.checks.records import record
from dini.conditions import curvature
from dini.functions import as_function
from dini.penalties import Penalty
from dini.problems import LinearComposite, Minimize
from dini.solvers import BlockCoordinateDescent as Method
from dini.solvers import solver
from dini.solvers._block_coordinate_descent import State, _rows_epoch  # pyright: ignore[reportPrivateUsage]
from dini.trees import Tree
from dini.trees.products import dot

from ._base import AutoOrBoolean, DiniSolver
from ._objective import Given


class BlockCDState(NamedTuple):
    """State of block coordinate descent; an iteration is an epoch."""

    iter_num: Any
    error: Any
    num_fun_eval: Any = 0
    status: Any = None
    solver_state: Any = None


@record
class Blocks(Penalty):
    """A proximal operator ``block_prox(row, hyperparams, scale)`` for each row of the unknown."""

    fun: Any
    hyperparams: Any

    valued = False

    def prox(self, x: Tree, step_size: Any) -> Any:
        """Return the proximal point of each row."""
        return jax.vmap(lambda row: self.fun(row, self.hyperparams, step_size))(x)

    def separates_rows(self, x: jax.Array) -> bool:
        """Return that it does."""
        del x
        return True

    def row(self, i: Any, x: jax.Array) -> Any:
        """Return the penalty of one row."""
        del i, x
        return Row(self.fun, self.hyperparams)


@record
class Row(Penalty):
    """A proximal operator of one row."""

    fun: Any
    hyperparams: Any

    valued = False

    def prox(self, x: Tree, step_size: Any) -> Any:
        """Return the proximal point."""
        return self.fun(x, self.hyperparams, step_size)


@record
class Outer:
    """The function of predictions and unknown of one of JAXopt's composite linear functions."""

    fun: Any

    def __call__(self, z: Any, x: Any, given: Given) -> Any:
        """Return ``subfun(z)`` and the linear term."""
        args, kwargs = given
        value, linear = self.fun(z, *args, **kwargs), self.fun.func.__self__.b(*args, **kwargs)
        return value if linear is None else value + trees.vdot(x, linear)


@record
class Matrix:
    """The transposed matrix of one of JAXopt's composite linear functions."""

    fun: Any

    def __call__(self, given: Given) -> Any:
        """Return the matrix whose rows belong to the blocks."""
        args, kwargs = given
        return self.fun(*args, **kwargs).A.T


@solver
class Epochs(Method):
    """Epochs without a test of the objective, for penalties whose values are not known.

    Step sizes are one over the curvature at the start of an epoch. Where that at its end is more than one and a half
    times as large, they may have been too long: the epoch is undone, and their divisor doubled.
    """

    monotone = False

    def check(self, problem: Any, x: Tree) -> None:
        """Raise unless the unknown is one array with rows."""
        super(Method, self).check(problem, x)
        if not isinstance(x, jax.Array) or x.ndim not in (1, 2):
            raise ValueError(f"BlockCoordinateDescent needs a vector or a matrix: given {trees.describe(x)}.")

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Take one epoch."""
        fun, dtype = problem.fun, state.error.dtype
        matrix = jnp.asarray(fun.matrix(*args))
        steepness = lambda x: curvature(lambda u: jax.grad(fun.outer)(u, x, *args), dot(matrix.T, x))
        new, step_sizes, error, _ = _rows_epoch(problem, x, state.safety, args)
        accept = steepness(new) <= 1.5 * state.safety * steepness(x)
        accept = jax.lax.stop_gradient(accept) | ~jnp.isfinite(error)
        kept = state._replace(
            error=jnp.where(accept, error, state.error).astype(dtype),
            safety=jnp.where(accept, state.safety, 2 * state.safety),
            step_sizes=step_sizes,
            steps=state.steps + 1,
        )
        return trees.where(accept, new, x), kept


@dataclass(eq=False)
class BlockCoordinateDescent(DiniSolver):
    r"""Block coordinate descent, by :class:`dini.BlockCoordinateDescent`; the blocks are the rows of the unknown.

    Parameters
    ----------
    fun
        A function of ``jaxopt.objective``, or an object with its methods ``subfun``, ``make_linop`` and ``b``.
    block_prox
        ``block_prox(row, hyperparams_prox, scale)``, the proximal operator of one block.
    maxiter
        Limit on the number of epochs.
    tol
        Absolute tolerance on the norm of the gradient mapping over an epoch.
    verbose
        Whether to print a line for each epoch.
    implicit_diff
        Whether to differentiate the condition (``True``) or the epochs.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    jit
        Whether to compile; if not, the loop is Python's.
    unroll
        Taken for JAXopt's sake.

    Raises
    ------
    AttributeError
        Where ``fun`` is no composite linear function.
    """

    fun: Any
    block_prox: Callable[..., Any]
    maxiter: int = 500
    tol: Any = 1e-4
    verbose: Any = False
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    state_type = BlockCDState

    def __post_init__(self) -> None:
        missing = [name for name in ("subfun", "make_linop") if not hasattr(self.fun, name)]
        if missing:
            raise AttributeError(
                f"BlockCoordinateDescent's fun must be one of jaxopt.objective's composite linear functions: given "
                f"{self.fun!r}, which has no {' and no '.join(missing)}."
            )
        super().__post_init__()

    def _method(self) -> Any:
        return Epochs(atol=self.tol, max_steps=max(self.maxiter, 1))

    def _stated(self, hyperparams_prox: Any = None, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        outer, matrix = Outer(as_function(self.fun.subfun, "subfun")), Matrix(as_function(self.fun.make_linop, "linop"))
        part = Blocks(as_function(self.block_prox, "block_prox"), hyperparams_prox)
        return Minimize(LinearComposite(outer, matrix), penalty=part), (args, kwargs)

    def optimality_fun(self, params: Any, hyperparams_prox: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the move of a proximal-gradient step of unit size."""
        problem, given = self._stated(hyperparams_prox, *args, **kwargs)
        return trees.sub(problem.prox(trees.sub(params, problem.gradient(params, given)), 1.0), params)
