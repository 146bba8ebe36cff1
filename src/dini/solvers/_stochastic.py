"""What stochastic solvers share."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ._base import Solver, infinity, proximal_residual


class Stochastic(Solver):
    """Base of the solvers that take a batch a step and project onto constraints."""

    composite = True
    lags = True

    def check(self, problem: Any, x: Any) -> None:
        """Raise for a penalty: steps of this kind have no proximal operator."""
        super().check(problem, x)
        penalty = getattr(problem, "penalty", None)
        if penalty is not None:
            raise TypeError(
                f"{self.name} projects onto constraints and takes no penalties: {penalty.name} given. Put a smooth one "
                "into fun, or use ProximalGradient."
            )


class MomentumState(NamedTuple):
    """Carried from step to step."""

    error: Any
    step_size: Any
    velocity: Any
    scales: Any

    @classmethod
    def first(cls, x: Any, step_size: Any) -> MomentumState:
        """Return the state before the first step."""
        inf = infinity(x)
        return cls(inf, jnp.asarray(step_size, inf.dtype), trees.zeros_like(x), no_scales(x))


def no_scales(x: Any) -> jax.Array:
    """Return what is known of the problem's units before the first step."""
    return jnp.zeros(2, trees.real_dtype(x))


def steepest(scales: jax.Array, error: Any) -> jax.Array:
    """Return what the error is compared with: a tenth of the largest one so far.

    Gradients on batches differ by more than the steps between them: no curvature is to be learned from that.
    """
    error = jax.lax.stop_gradient(error).astype(scales.dtype)
    return scales.at[0].max(jnp.where(jnp.isfinite(error), 0.1 * error, 0))


def optimality(problem: Any, x: Any, value: Any, gradient: Any) -> jax.Array:
    """Return the norm of the gradient, or the residual of the proximal gradient step where there is a constraint.

    NaN where the objective is not finite, which its gradient need not show.
    """
    composite = getattr(problem, "composite", False)
    error = proximal_residual(problem, x, gradient) if composite else trees.norm(gradient)
    return jnp.where(jnp.isfinite(value), error, jnp.nan)
