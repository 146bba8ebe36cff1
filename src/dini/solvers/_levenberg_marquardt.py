"""The Levenberg-Marquardt method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.tree_util import register_dataclass

from .. import trees
from ..loop import tolerance
from ..problems import LeastSquares
from ..status import Status
from ._base import Solver, infinity, relative_rounding, running


class State(NamedTuple):
    """Carried from step to step: the Gauss-Newton matrix and gradient, the damping, the next trial."""

    error: Any
    value: Any
    damping: Any
    growth: Any
    gram: Any
    gradient: Any
    move: Any
    steps: Any
    status: Any


@register_dataclass
@dataclass(frozen=True)
class LevenbergMarquardt(Solver):
    r"""Levenberg-Marquardt with Nielsen's damping.

    A step solves :math:`(J^\top J + \mu D)\,\delta = -J^\top r` with :math:`D = \mathrm{diag}(J^\top J)` by a Cholesky
    factorization; the damping :math:`\mu` follows the ratio of actual to predicted decrease. Each trial is one step.
    The error is :math:`\|J^\top r\|_2`.

    Parameters
    ----------
    damping
        The initial :math:`\mu`.
    tol
        Tolerance on the error. Default: the square root of the unit roundoff.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Madsen, Nielsen, Tingleff, "Methods for non-linear least squares problems", 2004.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.LeastSquares(lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    >>> print(dini.solve(problem, dini.LevenbergMarquardt(), jnp.array([-1.2, 1.0])).x.round(3))
    [1. 1.]
    """

    damping: Any = 1e-3
    tol: Any = None
    max_steps: int = field(default=500, metadata={"static": True})

    solves = (LeastSquares,)
    monotone = True

    def __post_init__(self) -> None:
        self._check_settings()

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        inf = infinity(x)
        flat = ravel_pytree(x)[0].astype(inf.dtype)
        zero = jnp.zeros_like(flat)
        return State(
            inf,
            inf,
            jnp.asarray(self.damping, inf.dtype),
            jnp.asarray(2.0, inf.dtype),
            jnp.eye(flat.size, dtype=inf.dtype),
            zero,
            zero,
            jnp.zeros((), jnp.int32),
            running(),
        )

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Try one step."""
        dtype = state.error.dtype
        flat_x, unravel = ravel_pytree(x)
        trial = unravel(flat_x + state.move.astype(flat_x.dtype))
        value, gradient = problem.value_and_gradient(trial, *args)
        value, gradient = value.astype(dtype), ravel_pytree(gradient)[0].astype(dtype)
        first = state.steps == 0
        scale = jnp.diagonal(state.gram)
        predicted = 0.5 * state.move @ (state.damping * scale * state.move - state.gradient)
        actual = state.value - value
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        accept = first | (finite & (actual >= -relative_rounding(value)))
        ratio = jnp.where(predicted > 0, actual / jnp.where(predicted > 0, predicted, 1), 0)
        size = jnp.linalg.norm(gradient)
        # a step whose decrease drowns in rounding is taken only if the gradient shrinks
        accept = accept & (first | (actual > 0) | (size < state.error))
        error = jnp.where(first & ~finite, jnp.nan, jnp.where(accept, size, state.error))

        def renew(_: Any) -> jax.Array:
            residuals = jax.linearize(lambda u: problem.residuals(u, *args), trial)[1]
            eye = jnp.eye(flat_x.size, dtype=flat_x.dtype)
            jacobian = jax.vmap(lambda e: ravel_pytree(residuals(unravel(e)))[0])(eye)  # transposed
            if jnp.iscomplexobj(jacobian):
                jacobian = jnp.concatenate([jacobian.real, jacobian.imag], 1)
            return (jacobian @ jacobian.T).astype(dtype)

        needed = accept & ~(error <= tolerance(self, x))
        gram = jax.lax.cond(needed, renew, lambda _: state.gram, None)
        shrink = jnp.maximum(1 / 3, 1 - (2 * jnp.clip(ratio, 0, 1) - 1) ** 3)
        damping = jnp.where(
            accept, jnp.where(first, state.damping, state.damping * shrink), state.damping * state.growth
        )
        growth = jnp.where(accept, 2.0, 2 * state.growth)
        gradient = jnp.where(accept, gradient, state.gradient)
        move = _damped(gram, damping, gradient)
        status = jnp.where(jnp.all(jnp.isfinite(move)), state.status, Status.SINGULAR)
        tiny = ~accept & (jnp.linalg.norm(state.move) <= 1e-2 * trees.eps(x) * (1 + jnp.linalg.norm(flat_x)))
        status = jnp.where(tiny, Status.STALLED, status).astype(jnp.int32)
        new = State(
            error.astype(dtype),
            jnp.where(accept, value, state.value),
            damping.astype(dtype),
            growth.astype(dtype),
            gram,
            gradient,
            move,
            state.steps + 1,
            status,
        )
        return trees.where(accept, trial, x), new

    def differentiable_step(self, problem: Any, x: Any, state: State, *args: Any) -> Any:
        """Return one Gauss-Newton step with the last matrix."""
        gradient, unravel = ravel_pytree(problem.gradient(x, *args))
        move = _damped(state.gram, jnp.zeros_like(state.damping), gradient.astype(state.error.dtype))
        return trees.add(x, unravel(move.astype(gradient.dtype)))


def _damped(gram: jax.Array, damping: jax.Array, gradient: jax.Array) -> jax.Array:
    """Return the damped step; the matrix is scaled to unit diagonal first."""
    diagonal = jnp.diagonal(gram)
    scale = jnp.where(diagonal > 0, jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1)), 1)
    matrix = gram * scale[None, :] * scale[:, None]
    shift = jnp.where(diagonal > 0, damping, 1.0) + jnp.finfo(gram.dtype).eps
    factor = jax.scipy.linalg.cho_factor(matrix + jnp.diag(shift.astype(gram.dtype)), lower=True)
    return -scale * jax.scipy.linalg.cho_solve(factor, scale * gradient)
