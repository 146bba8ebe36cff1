"""What stochastic solvers share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import trees


def require_set(solver: Any, problem: Any) -> None:
    """Raise unless what is not smooth in the problem is a set to project onto."""
    penalty = getattr(problem, "penalty", None)
    if penalty is not None:
        raise TypeError(
            f"{solver.name} projects onto constraints and takes no penalties: {penalty.name} given. Put a smooth one "
            "into fun, or use ProximalGradient."
        )


def optimality(problem: Any, x: Any, value: Any, gradient: Any) -> jax.Array:
    """Return the norm of the gradient, or of the projected gradient step's move where there is a constraint.

    NaN where the objective is not finite, which its gradient need not show.
    """
    move = gradient
    if getattr(problem, "composite", False):
        move = trees.sub(x, problem.prox(trees.sub(x, gradient), 1.0))
    return jnp.where(jnp.isfinite(value), trees.norm(move), jnp.nan)
