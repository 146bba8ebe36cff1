"""Gradient descent."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..protocols import Minimization
from ..status import Status
from ..trees import Scalar, Tree
from ._base import Solver, infinity, running, solver
from .judge import _units
from .shared._line_search import Halving, LineSearch
from .shared._quasi_newton import Pair, QuasiNewton, softest, softest_step


class Secant(NamedTuple):
    """The step size of the secant condition, and whether it has met a curvature (zero or more).

    ``soft`` is the largest inverse curvature of the last steps.
    """

    step_size: Any
    soft: Any
    count: Any


class Given(NamedTuple):
    """Carried from step to step of given length."""

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


@solver
class GradientDescent(QuasiNewton):
    r"""Gradient descent.

    .. math::
        \begin{aligned}
        x &\leftarrow x - \eta g, \qquad g = \nabla f(x), \qquad (1) \\
        \eta &= \frac{s^\top s}{s^\top y}, \qquad s = x - x_{\text{last}}, \quad y = g - g_{\text{last}}, \qquad (2) \\
        f(x - \eta g) &\le f(x) - 10^{-4} \eta \|g\|^2 \qquad (3)
        \end{aligned}

    Without ``step_size``, the Barzilai-Borwein step (2) is tried and halved until the sufficient-decrease (Armijo)
    condition (3) holds; each trial is one step. The error is :math:`\|\nabla f\|_2`.

    Without ``step_size``, steps are taken in the variables :math:`x_i / d_i`, in which each element has a curvature of
    about one: the scales :math:`d` are estimated once, when the solve starts, by ten products with the Hessian (where
    there are none, as of a call of the host or another solve, they are one, and the first step is short).

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

    @property
    def line_search(self) -> LineSearch:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The search of condition (3)."""
        return Halving()

    def init(self, problem: Minimization, x: Tree, *args: Tree) -> Any:
        """Return the state before the first step."""
        if self.step_size is None:
            return super().init(problem, x, *args)
        inf = infinity(x)
        none, zero = jnp.zeros((), jnp.int32), trees.zeros_like(x)
        return Given(inf, jnp.zeros_like(inf), inf, zero, none, _units.Units.unknown(x), running())

    def begin(self, problem: Minimization, x: Tree, scales: Tree | None, args: tuple[Tree, ...]) -> Any:
        """Return the state before the first step, with scales of the unknowns where step sizes are adaptive."""
        adaptive = self.step_size is None
        return super().begin(problem, x, scales, args) if adaptive else self.init(problem, x, *args)

    def step(self, problem: Minimization, x: Tree, state: Any, *args: Tree) -> tuple[Any, Any]:
        """Try one step, or take one of given length."""
        adaptive = self.step_size is None
        return super().step(problem, x, state, *args) if adaptive else self._given(problem, x, state, args)

    def _given(self, problem: Minimization, x: Tree, state: Given, args: tuple[Tree, ...]) -> tuple[Any, Given]:
        eps = trees.eps(x)
        value, gradient = problem.value_and_gradient(x, *args)
        error, size = (norm.astype(state.error.dtype) for norm in trees.norms(gradient, x))
        eta = jnp.asarray(schedule_value(self.step_size, state.steps), state.step_size.dtype)
        value = value.astype(state.value.dtype)
        change = trees.sub(gradient, state.gradient)
        # the last step is known from its size and gradient
        known = state.steps > 0
        squared = jnp.where(known, (state.step_size * jnp.where(known, state.error, 0)) ** 2, 0)
        along = -state.step_size * trees.vdot(state.gradient, change)
        last = trees.scale(jnp.where(known, -state.step_size, 0), state.gradient)
        each = _units.elements(x, gradient, last, change)
        pair = squared, trees.vdot(change, change)
        scales = _units.learned(state.scales, True, *pair, size, error, eps, along, leaps=True, each=each)
        status = jnp.where(_units.diverging(scales, size, error, eps), Status.DIVERGED, state.status)
        new = Given(error, eta, value, gradient, state.steps + 1, scales, status.astype(jnp.int32))
        # (1)
        return trees.axpy(-eta, gradient, x), new

    def empty(self, x: Tree, dtype: Any) -> Secant:
        """Return no secant."""
        del x
        return Secant(jnp.ones((), dtype), jnp.ones((), dtype), jnp.zeros((), jnp.int32))

    def forget(self, model: Secant, forget: Any) -> Secant:
        """Return no secant where ``forget`` holds."""
        return model._replace(count=jnp.where(forget, 0, model.count))

    def take_in(self, model: Secant, pair: Pair, old: Tree, keep: Any, accept: Any) -> tuple[Secant, Any, Any]:
        """Return minus the gradient, and the step that fits the secant condition (2) best."""
        del old
        products, last = pair.products, pair.last.trial
        # growth is limited where the curvature is not positive; what drowns in rounding says nothing
        fresh = jnp.where(keep, products.ss / jnp.where(keep, products.sy, 1), 4 * last)
        shown = accept & pair.informative & ~pair.first
        # A constant of differentiation: as functions of the parameters, Barzilai-Borwein steps are chaotic. With
        # constant steps the derivative of the iterates converges as they do.
        step_size = jax.lax.stop_gradient(jnp.where(shown, fresh, jnp.where(accept, last, model.step_size)))
        soft = softest(model.soft, products, keep)
        known = Secant(step_size, soft, model.count + (shown | keep).astype(jnp.int32))
        return known, trees.neg(pair.gradient), -products.gg

    def first_trial(self, old: Any, model: Secant, slope: Scalar) -> Any:
        """Return the step size (2)."""
        del old, slope
        return model.step_size

    def newton_step(self, model: Secant, direction: Tree, pair: Pair, gradient: Tree) -> Tree:
        """Return the estimate of the error by the largest inverse curvature of the last steps."""
        del direction
        return softest_step(model.soft, pair, gradient)

    def readings(self, x: Tree, state: Any) -> dict[str, Any]:
        """Return the objective, its gradient and the next step size."""
        return super().readings(x, state) if self.step_size is None else Solver.readings(self, x, state)

    def last_value(self, problem: Minimization, state: Any) -> Any:
        """Return the objective at the last accepted point."""
        return super().last_value(problem, state) if self.step_size is None else None

    def differentiable_step(self, problem: Minimization, x: Tree, state: Any, *args: Tree) -> Any:
        """Return one plain gradient step."""
        eta = self.readings(x, state)["step_size"]
        return trees.axpy(-eta, problem.gradient(x, *args), x)
