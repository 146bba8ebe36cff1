"""Gradient descent."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees, xla
from ..checks.settings import require_positive
from ..conditions._descent import inverse_curvature
from ..functions import as_function
from ..loop import met
from ..status import Status
from ..trees import Scalar, Tree
from ._base import Solver, infinity, running, solver
from .shared import _scales
from .shared._acceptance import doubtful_difference, relative_rounding
from .shared._lengths import cold_length, probe_length


class State(NamedTuple):
    """Carried from step to step: the accepted point's value and gradient, and the next trial step."""

    error: Scalar
    step_size: Scalar
    value: Any
    gradient: Tree
    steps: Scalar
    scales: Any
    status: Any


def schedule_value(step_size: Scalar, steps: Scalar) -> Any:
    """Return a constant step size, or that of a schedule at a step."""
    return step_size(steps) if callable(step_size) else step_size


def at_rest(problem: Any, x: Tree, args: tuple[Tree, ...], resting: Any, step_size: Scalar) -> Any:
    """Return one over the largest curvature where a point is at rest, elsewhere the step size.

    Where nothing moves, no test tells that a step is too long, and its derivative grows from step to step.
    """
    known = lambda: inverse_curvature(lambda u: problem.gradient(u, *args), x).astype(step_size.dtype)
    return jax.lax.cond(resting, known, lambda: step_size)


@solver
class GradientDescent(Solver):
    r"""Gradient descent.

    .. math::
        \begin{aligned}
        x &\leftarrow x - \eta g, \qquad g = \nabla f(x), \qquad (1) \\
        \eta &= \frac{s^\top s}{s^\top y}, \qquad s = x - x_{\text{last}}, \quad y = g - g_{\text{last}}, \qquad (2) \\
        f(x - \eta g) &\le f(x) - 10^{-4} \eta \|g\|^2 \qquad (3)
        \end{aligned}

    Without ``step_size``, the Barzilai-Borwein step (2) is tried and halved until the sufficient-decrease (Armijo)
    condition (3) holds; each trial is one step. The error is :math:`\|\nabla f\|_2`.

    Parameters
    ----------
    step_size
        A constant, or a function of the number of the step, used without any test. Default: adaptive.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Barzilai and Borwein, "Two-point step size gradient methods", IMA J. Numer. Anal. 1988.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2))
    >>> print(dini.solve(problem, dini.GradientDescent(), jnp.zeros(2), jnp.ones(2)).x)
    [1. 1.]
    """

    step_size: Any = None
    max_steps: int = field(default=2000, metadata={"static": True})

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("GradientDescent's step_size", self.step_size)
        if callable(self.step_size):
            object.__setattr__(self, "step_size", as_function(self.step_size, "step_size"))

    @property
    def monotone(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the steps are tested."""
        return self.step_size is None

    @property
    def adaptive(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the step sizes are."""
        return self.step_size is None

    @property
    def error_before_step(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the gradient is that of the point before the step."""
        return self.step_size is not None

    @property
    def gradient_only(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether only gradients decide."""
        return self.step_size is not None

    def init(self, problem: Any, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        inf = infinity(x)
        zero, none = jnp.zeros_like(inf), jnp.zeros((), jnp.int32)
        return State(inf, zero, inf, trees.zeros_like(x), none, _scales.unknown(x), running())

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Try one step."""
        eps = trees.eps(x)
        if self.step_size is not None:
            value, gradient = problem.value_and_gradient(x, *args)
            error, size = (norm.astype(state.error.dtype) for norm in trees.norms(gradient, x))
            eta = jnp.asarray(schedule_value(self.step_size, state.steps), state.step_size.dtype)
            value = value.astype(state.value.dtype)
            change = trees.sub(gradient, state.gradient)
            # the last step is known from its size and gradient
            known = state.steps > 0
            squared = jnp.where(known, (state.step_size * jnp.where(known, state.error, 0)) ** 2, 0)
            along = -state.step_size * trees.vdot(state.gradient, change)
            changed = trees.vdot(change, change)
            last = trees.scale(jnp.where(known, -state.step_size, 0), state.gradient)
            each = _scales.elements(x, gradient, last, change)
            pair = squared, changed
            scales = _scales.learned(state.scales, True, *pair, size, error, eps, along, leaps=True, each=each)
            status = jnp.where(_scales.run_away(scales, size, error, eps), Status.DIVERGED, state.status)
            new = State(error, eta, value, gradient, state.steps + 1, scales, status.astype(jnp.int32))
            # (1)
            return trees.axpy(-eta, gradient, x), new

        # (1): eta = step_size
        trial = trees.axpy(-state.step_size, state.gradient, x)
        value, gradient = xla.once(problem.value_and_gradient(trial, *args), "gradient descent: value")
        value = value.astype(state.value.dtype)
        # of the start that is the first trial nothing is known
        first = state.steps == 0
        squared = jnp.where(first, 0, state.error**2).astype(value.dtype)
        # (3): squared = ||g||^2
        bound = state.value - 1e-4 * state.step_size * squared + relative_rounding(state.value)
        new_norm, size = trees.norms(gradient, trial)
        finite = jnp.isfinite(value) & jnp.isfinite(new_norm)
        change = trees.sub(gradient, state.gradient)
        # (2): s'y = curvature, with s = -step_size * g_last
        curvature = -state.step_size * trees.vdot(state.gradient, change)
        # where rounding hides the decrease, the slopes at both ends tell it: their mean is that of a parabola
        falls = curvature <= (2 - 2e-4) * state.step_size * squared
        hidden = value <= state.value + doubtful_difference(state.value)
        # the first step only probes the curvature
        probe = state.steps == 1
        accept = first | (finite & ((value <= bound) | (hidden & (falls | probe))))
        seen = jnp.where(first, 0, state.step_size**2 * squared), trees.vdot(change, change)
        each = _scales.elements(trial, gradient, trees.sub(trial, x), change)
        known = state.scales, accept & finite, *seen, size, new_norm, eps, curvature
        scales = _scales.learned(*known, leaps=True, each=each)
        # and may show that the start is a solution
        home = probe & met(self, x, state.error, scales)
        accept = accept & ~home

        # (2): the step that fits the secant condition best; growth is limited where the curvature is not positive
        secant = state.step_size**2 * squared / jnp.where(curvature > 0, curvature, 1)
        # where the gradient vanishes there is nothing to learn: growing on would amplify a derivative's rounding errors
        fresh = jnp.where(curvature > 0, secant, jnp.where(squared > 0, 4, 1) * state.step_size)
        told = (curvature > 0) & (seen[1] > (_scales.drowning_share(eps) * new_norm) ** 2)
        # at rest, changes are rounding and say nothing
        now = _scales.Scales(*scales)
        still = seen[1] <= (_scales.drowning_share(eps) * now.stiff * now.extent) ** 2
        fresh = jnp.where(still & ~probe & (squared > 0), state.step_size, fresh)
        fresh = jnp.where(probe & ~told & (squared > 0), cold_length(_scales.Scales(*scales), size, new_norm), fresh)
        start = probe_length(value, size, new_norm, eps, each.slope)
        if not self.stops:
            start = at_rest(problem, trial, args, first & (new_norm == 0), start)
        # A constant of differentiation: as functions of the parameters, Barzilai-Borwein steps are chaotic. With
        # constant steps the derivative of the iterates converges as they do.
        step_size = jnp.where(accept, jnp.where(first, start, fresh), 0.5 * state.step_size)
        step_size = jax.lax.stop_gradient(step_size).astype(value.dtype)

        error = jnp.where(accept, new_norm, state.error).astype(value.dtype)
        tiny = ~accept & (state.step_size * jnp.sqrt(squared) <= eps * size * 1e-2)
        ends = {"status": state.status, "accept": accept, "stalled": False, "tiny": tiny}
        status = _scales.ending(scales, (jnp.minimum(value, state.value), size, error), eps, **ends)
        error = jnp.where(first & ~finite, jnp.nan, error)
        kept = State(
            error,
            step_size,
            # values that rise by rounding must not add up
            jnp.where(accept, jnp.minimum(value, state.value), state.value),
            trees.where(accept, gradient, state.gradient),
            state.steps + 1,
            scales,
            status.astype(jnp.int32),
        )
        return trees.where(accept, trial, x), kept

    def differentiable_step(self, problem: Any, x: Tree, state: State, *args: Tree) -> Any:
        """Return one plain gradient step."""
        return trees.axpy(-state.step_size, problem.gradient(x, *args), x)
