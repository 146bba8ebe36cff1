"""Batches of problems that do not wait for their slowest member."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from . import trees
from .checks.records import record
from .checks.settings import require_count
from .differentiation import Differentiation, Implicit
from .differentiation._rules import constant
from .entry import Problem, as_solver, explain
from .functions.compiled import compiled
from .loop import Outcome, Round, begin, conclude, first_round, proceed, verified, verifier
from .problems import check_unknown
from .protocols import AnyProblem, AnySolver
from .solution import Solution
from .solvers import Solver
from .solving import solve
from .status import OnFailure, Status, check_on_failure
from .trees import Tree

_IMPLICIT = Implicit()


@record
class _Found(Solver):
    """A solver that returns what has been found already."""

    outcome: Outcome
    solver: str = field(metadata={"static": True})
    max_steps: int = field(metadata={"static": True})

    @property
    def name(self) -> str:
        return self.solver

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Pass: the solver that found it has been checked."""

    def run(self, problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> Outcome:
        """Return what was found."""
        del problem, x, args
        return self.outcome


class _Pool(NamedTuple):
    """The lanes at work: which problem each has, how far it is, what is next, and the results."""

    lane: jax.Array
    at: Round
    next: jax.Array
    results: Outcome


def batch_solve(
    problem: Problem,
    solver: Solver | Callable[..., Any],
    init: Tree,
    *args: Tree,
    in_axes: Any = None,
    width: int | None = None,
    chunk: int = 8,
    differentiation: Differentiation = _IMPLICIT,
    on_failure: OnFailure = "raise",
) -> Solution:
    r"""Solve a batch of problems, with the result and the derivatives of ``jax.vmap`` of :func:`dini.solve`.

    Under ``vmap`` a loop runs until the last lane has converged, and each step costs as much as one of all lanes. Here
    ``width`` lanes are at work at a time; every ``chunk`` steps, lanes that are done hand in their result and take the
    next problem. The work is about the sum of all steps, not the number of problems times the longest. It is one
    compiled loop, so it works under ``jit`` and inside other transformations.

    Parameters
    ----------
    problem, solver
        As for :func:`dini.solve`.
    init, *args
        With a leading axis for the batch.
    in_axes
        What is batched, ``(problem, init, *args)``: 0 or ``None`` each, or trees of these, as for ``jax.vmap``.
        Default: ``(None, 0, ..., 0)``. For a batch of penalties, say,
        ``(dini.Minimize(fun, penalty=dini.penalties.L1(0)), None, None)``.
    width
        Number of lanes; by default 128, or as many as there are problems.
    chunk
        Number of steps between two looks at which lanes are done.
    differentiation
        An :class:`dini.Implicit`.
    on_failure
        As under ``vmap``: failed lanes are marked in ``solution.status``, and their derivatives are NaN.

    Returns
    -------
    Solution
        Each field with a leading axis.

    Raises
    ------
    ValueError
        If nothing is batched, or the batch's sizes differ.
    TypeError
        For another mode of differentiation, a complex unknown, or a solver that takes no steps.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, a: jnp.sum((x**2 - a) ** 2))
    >>> roots = lambda a: dini.batch_solve(problem, dini.LBFGS(), jnp.ones((3, 1)), a).x[:, 0]
    >>> a = jnp.array([1.0, 4.0, 9.0])
    >>> print(roots(a).round(3), jax.grad(lambda a: roots(a).sum())(a).round(3))
    [1. 2. 3.] [0.5   0.25  0.167]
    """
    solver = as_solver(solver)
    check_on_failure(on_failure)
    require_count("batch_solve's chunk", chunk)
    if width is not None:
        require_count("batch_solve's width", width)
    if not isinstance(differentiation, Implicit):
        raise TypeError(f"batch_solve differentiates by Implicit(): given {differentiation!r}. Use vmap of solve.")
    if not solver.takes_steps:
        raise TypeError(f"batch_solve needs a solver that takes steps; {solver.name} is a function. Use vmap of solve.")
    init = check_unknown(init)
    if trees.has_complex(init):
        raise TypeError("batch_solve takes no complex unknown: use vmap of solve, or real and imaginary parts.")
    operands = (problem, init, args)
    axes = (None, 0, *(0 for _ in args)) if in_axes is None else in_axes
    if not isinstance(axes, tuple | list) or len(axes) != 2 + len(args):
        raise ValueError(
            f"batch_solve's in_axes needs an entry for the problem, for init and for each argument, {2 + len(args)} "
            f"in all: given {axes!r}."
        )
    axes = tuple(axes)
    flags = _flags((axes[0], axes[1], axes[2:]), operands)
    leaves = jax.tree.leaves(operands)
    sizes = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else None for leaf, flag in zip(leaves, flags, strict=True) if flag}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(
            "batch_solve needs arrays with one common leading axis in what in_axes marks by 0: given leading sizes "
            f"{sorted(str(size) for size in sizes)}."
        )
    count = next(size for size in sizes if size is not None)
    lanes = min(count, 128 if width is None else width)
    try:
        return _batch(operands, solver, differentiation, flags, lanes, chunk, on_failure)
    except TypeError as error:
        explain(error, problem, args)
        raise


def _flags(axes: Any, operands: Any) -> tuple[bool, ...]:
    """Return for each leaf whether it is batched."""
    is_none = lambda node: node is None
    flags: list[bool] = []

    def mark(axis: Any, part: Any) -> None:
        if axis not in (0, None) or isinstance(axis, bool):
            raise ValueError(f"batch_solve's in_axes are 0 or None: given {axis!r}.")
        flags.extend([axis == 0] * len(jax.tree.leaves(part)))

    structure = jax.tree.structure(axes, is_leaf=is_none)
    try:
        parts = structure.flatten_up_to(operands)
    except ValueError as error:
        raise ValueError(f"batch_solve's in_axes do not fit (problem, init, *args): {error}") from error
    for axis, part in zip(jax.tree.leaves(axes, is_leaf=is_none), parts, strict=True):
        mark(axis, part)
    return tuple(flags)


@partial(compiled, static_argnums=(3, 4, 5, 6))
def _batch(
    operands: Any,
    solver: AnySolver,
    differentiation: Any,
    flags: tuple[bool, ...],
    width: int,
    chunk: int,
    on_failure: OnFailure,
) -> Solution:
    structure = jax.tree.structure(operands)
    axes = jax.tree.unflatten(structure, [0 if flag else None for flag in flags])
    found = constant(lambda given, solver: _work(given, solver, flags, width, chunk), operands, solver)

    def lane(operands: Any, outcome: Outcome, solver: AnySolver) -> Solution:
        problem, init, args = operands
        known = _Found(
            outcome=outcome, solver=solver.name, max_steps=solver.max_steps, rtol=solver.rtol, atol=solver.atol
        )
        return solve(problem, known, init, *args, differentiation=differentiation, on_failure=on_failure)

    return jax.vmap(lane, in_axes=(axes, 0, None))(operands, found, solver)


def _work(operands: Any, solver: AnySolver, flags: tuple[bool, ...], width: int, chunk: int) -> Outcome:
    """Return the outcomes of all problems."""
    leaves, structure = jax.tree.flatten(operands)
    axes = jax.tree.unflatten(structure, [0 if flag else None for flag in flags])
    count = next(leaf.shape[0] for leaf, flag in zip(leaves, flags, strict=True) if flag)

    def pick(index: jax.Array) -> Any:
        taken = [leaf[index] if flag else leaf for leaf, flag in zip(leaves, flags, strict=True)]
        return jax.tree.unflatten(structure, taken)

    def start(given: Any) -> Round:
        problem, x, args = given
        problem = problem.closed(x, *args)
        solver.check(problem, x)
        return first_round(begin(problem, solver, x, args))

    def step(given: Any, now: Round) -> Round:
        problem, x, args = given
        share = now.share if solver.scales_unknowns else None
        return now._replace(now=proceed(problem.closed(x, *args), solver, now.now, args, share=share))

    def look(given: Any, now: Round) -> Round:
        problem, x, args = given
        problem = problem.closed(x, *args)
        return verified(problem, solver, verifier(problem, solver, x, args), now, args)

    def finish(given: Any, end: Round) -> Outcome:
        problem, x, args = given
        return conclude(problem.closed(x, *args), solver, x, end.now, args)._replace(state=())

    started, stepped = jax.vmap(start, in_axes=(axes,)), jax.vmap(step, in_axes=(axes, 0))
    looked, finished = (jax.vmap(each, in_axes=(axes, 0)) for each in (look, finish))
    some = pick(jnp.zeros(width, jnp.int32))
    empty = lambda shape: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    at = empty(jax.eval_shape(started, some))
    kept = jax.eval_shape(finished, some, at)
    results = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype), kept)
    idle = jnp.full(width, count, jnp.int32)
    none_left = at._replace(now=at.now._replace(status=jnp.full_like(at.now.status, Status.CONVERGED)))
    pool = _Pool(idle, none_left, jnp.zeros((), jnp.int32), results)

    def select(which: jax.Array, a: Any, b: Any) -> Any:
        return jax.tree.map(lambda u, v: jnp.where(which.reshape(-1, *[1] * (u.ndim - 1)), u, v), a, b)

    def refill(pool: _Pool) -> _Pool:
        given = pick(jnp.minimum(pool.lane, count - 1))
        seen = select(pool.at.now.status != Status.RUNNING, looked(given, pool.at), pool.at)
        # a problem whose result is refused continues
        stopped = (seen.now.status != Status.RUNNING) | (pool.lane == count)
        ended = finished(given, seen)
        place = jnp.where(stopped, pool.lane, count)
        results = jax.tree.map(lambda all, one: all.at[place].set(one, mode="drop"), pool.results, ended)
        turn = pool.next + jnp.cumsum(stopped, dtype=jnp.int32) - 1
        lane = jnp.where(stopped, jnp.minimum(turn, count), pool.lane)
        fresh = started(pick(jnp.minimum(lane, count - 1)))
        at = select(stopped, fresh, seen)
        status = jnp.where(lane < count, at.now.status, Status.CONVERGED).astype(jnp.int32)
        taken = jnp.minimum(pool.next + jnp.sum(stopped, dtype=jnp.int32), count)
        return _Pool(lane, at._replace(now=at.now._replace(status=status)), taken, results)

    def advance(pool: _Pool) -> _Pool:
        given = pick(jnp.minimum(pool.lane, count - 1))

        def body(carry: tuple[Any, Round]) -> tuple[Any, Round]:
            done, at = carry
            return done + 1, select(at.now.status == Status.RUNNING, stepped(given, at), at)

        going = lambda carry: (carry[0] < chunk) & jnp.any(carry[1].now.status == Status.RUNNING)
        return pool._replace(at=jax.lax.while_loop(going, body, (jnp.zeros((), jnp.int32), pool.at))[1])

    def body(pool: _Pool) -> _Pool:
        stopped = pool.at.now.status != Status.RUNNING
        change = jnp.any(stopped & ((pool.lane < count) | (pool.next < count)))
        return advance(jax.lax.cond(change, refill, lambda same: same, pool))

    going = lambda pool: (pool.next < count) | jnp.any(pool.lane < count)
    return jax.lax.while_loop(going, body, pool).results
