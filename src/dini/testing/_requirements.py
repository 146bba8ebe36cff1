"""Which requirement of a solver a failing check shows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import trees
from ..differentiation import OneStep, Unrolled
from ..solving import solve
from ..status import Status
from ._registry import Case

#: a point so near to the closed form, relatively, is a solution for which the solver has only no end
_NEAR = 1e-3


def kind(x: Any) -> str:
    """Return in words what unknowns of a case are."""
    leaves, whole = jax.tree.leaves(x), "complex" if trees.has_complex(x) else "real"
    if not jax.tree_util.all_leaves([x]):
        return f"pytrees ({len(leaves)} {whole} arrays)"
    return f"{whole} scalars" if jnp.ndim(x) == 0 else f"{whole} arrays"


def requirement(solver: Any, case: Case, differentiation: Any, transformation: str, rtol: float) -> str:
    """Return what the solver must do, and does not do on this case, in a sentence."""
    dtype = jnp.float32 if transformation == "float32" else jax.dtypes.canonicalize_dtype(jnp.float64)
    init, theta = case.arrays(dtype)
    problem, args = case.make(theta)
    broken = _contract(solver, problem, init, args) if solver.takes_steps else None
    if broken is not None:
        return broken
    try:
        solution = solve(problem, solver, init, *args, on_failure="ignore")
    except Exception as error:
        return f"a solve must run on {kind(init)}: {type(error).__name__}, {_first_line(error)}"
    return _end(solution, case.solution(theta), init, rtol) or _derivative(differentiation, transformation)


def _contract(solver: Any, problem: Any, init: Any, args: tuple[Any, ...]) -> str | None:
    """Return what `init` or `step` does not do, found by their shapes alone."""
    given = f"unknowns that are {kind(init)}"
    try:
        state = jax.eval_shape(lambda: solver.init(problem, init, *args))
    except Exception as error:
        return f"`init` must accept {given}: {_cause(error)}"
    if not hasattr(state, "error"):
        return f"the state must have a field `error`: given {type(state).__name__} without one"
    if jnp.shape(state.error) != ():
        return f"the state's `error` must be one number, also for {given}: given shape {jnp.shape(state.error)}"
    try:
        out = jax.eval_shape(lambda: solver.step(problem, init, _zeros(state), *args))
    except Exception as error:
        return f"`step` must accept {given}: {_cause(error)}"
    if not isinstance(out, tuple) or len(out) != 2:
        return f"`step` must return the pair (x, state): given {type(out).__name__}"
    for what, new, old in (("point", out[0], init), ("state", out[1], state)):
        if trees.describe(new) != trees.describe(old):
            return (
                f"`step` must return a {what} of the structure, shapes and dtypes that it was given, for {given}: "
                f"given {trees.describe(old)}, returned {trees.describe(new)}"
            )
    return None


def _zeros(state: Any) -> Any:
    """Return a state of zeros of the given shapes."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)


def _end(solution: Any, closed: Any, init: Any, rtol: float) -> str | None:
    """Return what is wrong with where a solve ended, if anything is."""
    got, want = (np.asarray(ravel_pytree(trees.to_real(tree))[0]) for tree in (solution.x, closed))
    away = float(np.linalg.norm(got - want) / max(np.linalg.norm(want), 1.0))
    status = Status(int(solution.status))
    if status == Status.CONVERGED:
        if away <= rtol:
            return None
        return (
            f"the state's `error` must be above the tolerance away from a solution: it was not at a point that is "
            f"{away:.0e} from it, relatively (or the tolerance is too loose for {rtol:.0e})"
        )
    after = f"{status.name} after {int(solution.stats.steps)} steps"
    if away <= _NEAR and status in (Status.MAX_STEPS, Status.STALLED):
        return (
            f"the state's `error` must fall below `rtol` at a solution: {after}, {away:.0e} from it, with an error of "
            f"{float(solution.stats.error):.0e}"
        )
    return (
        f"steps must lead to a solution of {kind(init)}: {after}, {away:.0e} from it, relatively. Another setting may "
        "help (a step size, `max_steps`); a problem that the method cannot solve goes into `without`"
    )


def _derivative(differentiation: Any, transformation: str) -> str:
    """Return what a right solution with a wrong derivative, or a failure under a transformation, shows."""
    if isinstance(differentiation, OneStep):
        return "`differentiable_step` must be exact to first order, as `superlinear` declares"
    if isinstance(differentiation, Unrolled):
        return "steps must depend smoothly on the parameters, as `differentiable` declares (JAX must see all of them)"
    return {
        "vmap": "`step` must run in a batch: of each element, what it would be alone",
        "float32": "`step` must work in single precision, with the default tolerance",
        "closure": "`init` and `step` must take the parameters from the problem and `args`, and store none of them",
    }.get(transformation, "the solution must be as exact as the check asks: a smaller `rtol` of the solver may help")


def _cause(error: Exception) -> str:
    """Return an error in short, with the remedy where a value decides in Python."""
    said = f"{type(error).__name__}, {_first_line(error)}"
    if isinstance(error, jax.errors.ConcretizationTypeError | jax.errors.TracerArrayConversionError):
        return f"{said}. Values of traced arrays cannot decide in Python: use jnp.where or lax.cond, and no NumPy"
    return said


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
