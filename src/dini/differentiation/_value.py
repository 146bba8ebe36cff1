"""The objective at a solution, as a function of what the problem depends on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ._engine import moving_places, rederived


def objective_at(problem: Any, x: Any, args: tuple[Any, ...], known: Any = None) -> Any:
    r"""Return :math:`f(x, \theta)` of a closed problem.

    Its derivative is :math:`\partial_1 f\,\dot x + \partial_2 f\,\dot\theta`. With ``known``, the steps have left the
    value behind. The derivative is computed where it is asked for: for the backward pass of a loss that does not look
    at the value, it keeps nothing but the point and the parameters. NaN where the problem cannot tell its value.
    """
    leaves, treedef = jax.tree.flatten((x, problem, args))

    def objective(leaves: list[Any]) -> Any:
        x, problem, args = jax.tree.unflatten(treedef, leaves)
        return problem.objective(x, *args)

    if not all(getattr(getattr(problem, part, None), "valued", True) for part in ("penalty", "outer")):
        return jnp.full((), jnp.nan, trees.real_dtype(x))
    try:
        value = objective(jax.lax.stop_gradient(leaves)) if known is None else known
    except NotImplementedError:  # a penalty of a user's own class, without a value
        return jnp.full((), jnp.nan, trees.real_dtype(x))

    def derive(primals: Any, tangents: Any) -> Any:
        value, leaves = primals
        moving = moving_places(tangents[1])
        if not moving:
            return tangents[0]
        some, dots = [leaves[i] for i in moving], [tangents[1][i] for i in moving]

        def moved(some: list[Any]) -> Any:
            full = list(leaves)
            for i, leaf in zip(moving, some, strict=True):
                full[i] = leaf
            return objective(full)

        def along(some: list[Any], dots: list[Any]) -> Any:
            if trees.hoist(moved, some).calls("custom_vjp_call"):  # such functions have no forward mode
                return trees.vdot(jax.grad(moved)(some), dots)
            return jax.jvp(moved, (some,), (dots,))[1]

        return jax.checkpoint(along)(some, dots).astype(value.dtype)

    return rederived(jax.lax.stop_gradient(value), leaves, derive)
