"""The objective at a solution, as a function of what the problem depends on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..functions import hoist
from ..protocols import AnyProblem
from ..trees import Tree
from ._linearization import Parameters
from ._rules import rederived


def objective_at(problem: AnyProblem, x: Tree, args: tuple[Tree, ...], known: Any = None) -> Any:
    r"""Return :math:`f(x, \theta)` of a closed problem.

    Its derivative is :math:`\partial_1 f\,\dot x + \partial_2 f\,\dot\theta`. With ``known``, the steps have left the
    value behind. The derivative is computed where it is asked for: for the backward pass of a loss that does not look
    at the value, it keeps nothing but the point and the parameters. NaN where the problem cannot tell its value.
    """
    leaves, treedef = jax.tree.flatten((x, problem, args))

    def objective(parts: Any) -> Any:
        x, problem, args = parts
        return problem.objective(x, *args)

    if not problem.valued:
        return jnp.full((), jnp.nan, trees.real_dtype(x))
    try:
        value = objective(jax.lax.stop_gradient((x, problem, args))) if known is None else known
    except NotImplementedError:  # a penalty of a user's own class, without a value
        return jnp.full((), jnp.nan, trees.real_dtype(x))

    def derive(primals: Tree, tangents: Tree) -> Any:
        value, leaves = primals
        moved, dots = Parameters.that_move(leaves, tangents[1], treedef)
        if not dots:
            return tangents[0]
        at = lambda some: objective(moved.merge(some))

        def along(some: list[Any], dots: list[Any]) -> Any:
            if hoist(at, some).calls("custom_vjp_call"):  # such functions have no forward mode
                return trees.vdot(jax.grad(at)(some), dots)
            return jax.jvp(at, (some,), (dots,))[1]

        return jax.checkpoint(along)(moved.moving, dots).astype(value.dtype)

    return rederived(jax.lax.stop_gradient(value), leaves, derive)
