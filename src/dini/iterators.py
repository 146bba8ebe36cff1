"""Solving on a stream of batches, from a Python iterator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import jax
import jax.core
import jax.numpy as jnp

from . import trees
from .differentiation._value import objective_at
from .entry import Problem, as_solver, explain, on_reals
from .loop import threshold
from .problems import check_unknown
from .protocols import AnyProblem, AnySolver
from .solution import Solution, failure
from .solvers import Solver
from .solvers.shared._resumed import fitting, running
from .status import Status
from .trees import Tree


@jax.jit
def _start(problem: AnyProblem, solver: AnySolver, x: Tree, args: tuple[Tree, ...]) -> Any:
    problem, x = on_reals(problem, x)
    closed = problem.closed(x, *args)
    solver.check(closed, x)
    return solver.init(closed, x, *args)


@jax.jit
def _step(
    problem: AnyProblem, solver: AnySolver, x: Tree, state: Any, args: tuple[Tree, ...]
) -> tuple[Any, Any, Any, Any]:
    complex_unknown = trees.has_complex(x)
    problem, x = on_reals(problem, x)
    new, after = solver.step(problem.closed(x, *args), x, state, *args)
    error = after.error
    lost = ~jnp.isfinite(error) | ~trees.all_finite(new)
    status = getattr(after, "status", jnp.asarray(Status.RUNNING))
    status = jnp.where(lost, Status.NONFINITE, status)
    tol = threshold(solver, x, getattr(after, "scales", None))
    # a batch without a gradient (all its hinges are zero, say) is not the end of a run without a test
    met = (error <= tol) & (tol > 0)
    new, after = trees.where(lost, (x, state), (new, after))
    code = jnp.where(met, Status.CONVERGED, status).astype(jnp.int32)
    return trees.from_real(new) if complex_unknown else new, after, jnp.stack([error, tol.astype(error.dtype)]), code


@jax.jit
def _value(problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> Any:
    problem, x = on_reals(problem, x)
    return objective_at(problem.closed(x, *args), x, args)


def _require_concrete(*values: Any) -> None:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values)):
        raise TypeError(
            "run_iterator is a Python loop that reads the error of each step: call it outside of jit, vmap and "
            "grad. For a derivative, attach dini.custom_root and the condition on all data to the solution."
        )


def _check(solver: AnySolver, on_failure: str) -> None:
    if on_failure not in ("raise", "ignore"):
        raise ValueError(f"run_iterator's on_failure must be 'raise' or 'ignore': given {on_failure!r}.")
    if not solver.takes_steps:
        raise TypeError(f"run_iterator needs a solver that takes steps; {solver.name} is a function.")
    if solver.max_steps < 1:
        raise ValueError(f"run_iterator needs a solver with max_steps of at least 1: given {solver.max_steps}.")


def run_iterator(
    problem: Problem,
    solver: Solver | Callable[..., Any],
    init: Tree,
    iterator: Iterable[Any],
    *args: Tree,
    on_failure: Literal["raise", "ignore"] = "raise",
    state: Any = None,
) -> Solution:
    """Take one step of a solver on each item of an iterator.

    The item (a batch, any pytree of arrays) is the last argument of the problem's functions: ``fun(x, *args, batch)``.
    Batches of one shape share one compiled step. The run ends with the iterator, after ``solver.max_steps`` items, when
    the error on a batch is at most the solver's tolerance, or when a step fails. With ``atol=0`` there is no test:
    every step is taken, also past a batch whose gradient vanishes.

    The result is no function of the parameters that a derivative could be taken of; differentiate a solution found so
    with :func:`dini.custom_root` and the condition on all data.

    Parameters
    ----------
    problem, solver, init, *args
        As for :func:`dini.solve`.
    iterator
        Of batches.
    on_failure
        What to do where a step fails: ``"raise"``; or ``"ignore"``, and look at ``solution.status``.
    state
        The ``state`` of an earlier run of the same problem and solver: the run continues from there, with ``init`` its
        last point. States are pytrees of arrays, to be saved as such; ``solver.max_steps`` counts from there.

    Returns
    -------
    Solution
        With ``x``, the solver's last ``state``, the ``value`` at ``x`` on the last batch, and the figures of the run;
        where a step failed, ``x`` and ``state`` are those before it. Its status is ``CONVERGED`` where the test was
        met, and ``MAX_STEPS``, which is no failure here, at the end of the iterator.

    Raises
    ------
    SolveError
        If a step makes the objective or the point not finite, or the solver says that it failed.
    ValueError
        If the iterator is empty.
    TypeError
        If the problem, the solver, the start, a batch or the state is not what is needed here, or is traced.

    Examples
    --------
    >>> import dini, jax.numpy as jnp, numpy as np
    >>> def loss(w, batch):
    ...     X, y = batch
    ...     return jnp.mean((X @ w - y) ** 2)
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(64, 2))
    >>> y = X @ np.array([1.0, -2.0])
    >>> batches = ((X[i : i + 8], y[i : i + 8]) for epoch in range(20) for i in range(0, 64, 8))
    >>> solution = dini.run_iterator(dini.Minimize(loss), dini.ArmijoSGD(atol=0.0), jnp.zeros(2), batches)
    >>> print(solution.x.round(3))
    [ 1. -2.]
    """
    solver = as_solver(solver)
    _check(solver, on_failure)
    x, error, steps, status = check_unknown(init), None, 0, Status.RUNNING
    given = args
    for batch in iterator:
        given = (*args, batch)
        try:
            if steps == 0 and state is not None:
                state = running(fitting(state, jax.eval_shape(_start, problem, solver, x, given), solver))
            elif steps == 0:
                state = _start(problem, solver, x, given)
            x, state, error, code = _step(problem, solver, x, state, given)
            _require_concrete(x, state, error, code)
        except TypeError as misfit:
            explain(misfit, problem, args)
            explain(misfit, problem, batch, name="run_iterator's batch")
            raise
        steps, status = steps + 1, Status(int(code))
        if status != Status.RUNNING or steps >= solver.max_steps:
            break
    if error is None:
        raise ValueError("run_iterator needs at least one batch: the iterator gave none.")
    status = Status.MAX_STEPS if status == Status.RUNNING else status
    dtype = trees.real_dtype(x)
    (error, tol), value = jnp.asarray(error, dtype), _value(problem, x, given)
    solution = Solution.of(x, jnp.asarray(status, jnp.int32), steps, error, tol, value, state=state)
    if status not in (Status.CONVERGED, Status.MAX_STEPS) and on_failure != "ignore":
        raise failure(solution.figures, problem=problem.name, solver=solver.name)
    return solution
