"""What stochastic solvers share."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...protocols import AnyProblem, Composed, Minimization
from ...trees import Scalar, Tree
from .._base import Solver, infinity
from ..judge._lengths import proximal_residual


class Stochastic(Solver):
    """Base of the solvers that take a batch a step and project onto constraints."""

    composite = True
    error_before_step = True

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Raise for a penalty: steps of this kind have no proximal operator."""
        super().check(problem, x)
        penalty = problem.penalty
        if penalty is not None:
            raise TypeError(
                f"{self.name} takes constraints, by projection, but no penalties: given {penalty.name}. Add a smooth "
                "one to fun, or use ProximalGradient."
            )


class MomentumState(NamedTuple):
    """Carried from step to step: the size and the direction of the last move.

    ``value`` and ``aux`` are those of the last step's batch, at the point before the step like the error; ``steps``
    counts the steps.
    """

    error: Scalar
    step_size: Scalar
    velocity: Tree
    value: Any
    aux: Any
    steps: Scalar
    scales: Any

    @classmethod
    def first(cls, problem: AnyProblem, x: Tree, args: tuple[Tree, ...], step_size: Scalar | float) -> MomentumState:
        """Return the state before the first step."""
        inf = infinity(x)
        seen = unseen(problem, x, args)
        return cls(inf, jnp.asarray(step_size, inf.dtype), trees.zeros_like(x), *seen)


def unseen(problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> tuple[Any, Any, Any, Any]:
    """Return value, auxiliary output, number of steps and scales before the first step: infinity, and zeros."""
    shapes = jax.eval_shape(problem.aux, x, *args) if problem.has_aux else None
    aux = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return infinity(x), aux, jnp.zeros((), jnp.int32), jnp.zeros(2, trees.real_dtype(x))


def evaluate(problem: Minimization, x: Tree, args: tuple[Tree, ...]) -> tuple[Any, Any, Any]:
    """Return the objective, its gradient and the auxiliary output, of one evaluation."""
    if not problem.has_aux:
        return *problem.value_and_gradient(x, *args), None
    value, gradient = problem.value_and_gradient(x, *args)
    # the same program once more, which XLA recognises
    return value, gradient, jax.tree.map(jnp.asarray, problem.aux(x, *args))


def steepest(scales: jax.Array, error: Scalar) -> jax.Array:
    """Return what the error is compared with: a tenth of the largest one so far.

    Gradients on batches differ by more than the steps between them: no curvature is to be learned from that.
    """
    error = jax.lax.stop_gradient(error).astype(scales.dtype)
    return scales.at[0].max(jnp.where(jnp.isfinite(error), 0.1 * error, 0))


def optimality(problem: Composed, x: Tree, value: Any, gradient: Tree) -> jax.Array:
    """Return the norm of the gradient, or the residual of the proximal gradient step where there is a constraint.

    NaN where the objective is not finite, which its gradient need not show.
    """
    composite = problem.composite
    error = proximal_residual(problem, x, gradient) if composite else trees.norm(gradient)
    return jnp.where(jnp.isfinite(value), error, jnp.nan)
