"""Unrolled derivatives that have not converged.

A solver that fits its step sizes or its model of the Hessian to the way that it takes need not contract in directions
that it has never seen. Its point converges without them. A parameter whose influence on the way is zero (a coordinate
that stays where it is, a symmetry, a start near the solution) moves the solution in such a direction, and its
derivative may grow without bound, step by step. The condition at the solution tells: its derivative along a tangent
vanishes where the point's has converged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..functions import hoist
from ..status import DerivativeError, OnFailure, Status, guard
from ..trees import Tree
from ._linearization import Parameters, instantiated, linearize
from ._rules import rederived

#: What may be left of the equation of a converged point's derivative, over its right-hand side: the derivative's
#: relative error, which is larger than the point's. After a number of steps that was requested, only a divergence
#: is known to be an error.
LEAST, MOST, RUNAWAY = 0.01, 0.1, 10.0


def tested_unrolled(
    x: Tree,
    limits: tuple[jax.Array, jax.Array],
    replay: hoist,
    parameters: tuple[Any, Any, Any, Any],
    *,
    on_failure: OnFailure,
    name: str,
) -> Any:
    """Return the end ``x`` of some steps, with a guarded derivative.

    The derivative of the same steps along a fixed tangent is put into the condition. It takes one more run in forward
    mode, which serves both modes and is made where a derivative is taken.

    Parameters
    ----------
    limits
        The largest residual of the condition's derivative: a share of the right-hand side (infinity where nothing is
        to be tested), and a number besides.
    replay
        The steps, a function of ``parameters``. What has a rule for reverse mode alone is not tested.
    parameters
        The problem, its arguments, the starting point and the solver.
    """
    if replay.calls("custom_vjp_call"):
        return x
    treedef = jax.tree.structure(parameters)

    def derive(primals: Tree, tangents: Tree) -> Any:
        x, ((share, least), consts, leaves) = jax.lax.stop_gradient(primals)
        moved, dots = Parameters.that_move(leaves, tangents[1][2], treedef)
        if not dots:
            return tangents[0]
        again = lambda some: replay(consts, *moved.merge(some))
        figures, sound = _left_over(x, again, moved)
        # where the solution does not move, there is nothing that an error could be a share of
        failed = sound & jnp.isfinite(share) & ~(figures[0] <= share * figures[1] + least)
        # a point that does not move may be wrong as well: what is made of its derivative must reach the parameters
        nothing = functools.reduce(jnp.add, [jnp.sum(jnp.real(dot)) * 0 for dot in dots])
        dx = jax.tree.map(lambda du: du + nothing.astype(du.dtype), instantiated(x, tangents[0]))
        return guard(dx, failed, functools.partial(_failure, name), (figures,), on_failure)

    return rederived(x, (limits, replay.consts, jax.tree.leaves(parameters)), derive)


def _left_over(x: Tree, replay: Callable[[Any], Any], moved: Parameters) -> tuple[jax.Array, jax.Array]:
    """Return the sizes of what the equation of the derivative leaves and of its terms, and whether these are known."""
    some, merge = moved
    along = trees.varied(some)
    dx = jax.jvp(replay, (some,), (along,))[1]
    problem, args, _, _ = merge(some)
    at = linearize(x, (problem, args, problem.condition))

    def condition(u: Tree, some: list[Any]) -> Any:
        problem, args, _, _ = merge(some)
        return at.function(u, (problem, args, problem.condition))

    # what moves the starting point alone must not move the solution
    start = jax.jvp(lambda some: merge(some)[2], (some,), (along,))[1]
    right = jax.jvp(lambda some: condition(x, some), (some,), (along,))[1]
    left = jax.jvp(condition, (x, some), (dx, along))[1]
    rest, size = trees.norm(left), trees.norm(right) + trees.norm(at.matvec(start))
    # where the condition has no derivative itself, it says nothing
    return jnp.stack([rest, size]), jnp.isfinite(size) & (jnp.isfinite(rest) | ~trees.all_finite(dx))


def _failure(name: str, figures: Any) -> DerivativeError:
    return DerivativeError(
        f"The unrolled derivative of {name} has not converged, although the point has: its residual in the "
        f"differentiated optimality condition is {float(figures[0]):.1e}, where zero would leave "
        f"{float(figures[1]):.1e}. Steps that a solver adapts to its own path need not contract in other directions. "
        "Use Implicit(), or a solver whose steps contract (Newton, FixedPointIteration, "
        "GradientDescent(step_size=...)); if the start is near the solution, take more steps. To get this derivative "
        'anyway, pass on_failure="ignore".',
        Status.CONDITION,
    )
