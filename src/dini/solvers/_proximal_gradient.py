"""Proximal gradient and projected gradient."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_positive
from ..functions import as_function
from ..loop import met, threshold
from ..status import Status
from ..trees import Scalar, Tree
from ._base import Solver, infinity, running, solver
from ._gradient_descent import at_rest, schedule_value
from .judge import _units
from .judge._bound import accepted_by_bound, shortened, unmoved
from .judge._lengths import natural_length, probe_length
from .judge._margins import LONG, ROUNDING, drowning_share, relative_rounding


class State(NamedTuple):
    """Carried from step to step: the extrapolated point, the momentum's counter and the step size.

    ``last`` is the extrapolated point before, with its gradient; ``unsure`` says that
    the values could not tell whether the last one was too long.
    """

    error: Scalar
    step_size: Scalar
    momentum: Any
    extrapolated: Any
    steps: Scalar
    scales: Any
    status: Any
    last: Any
    unsure: Any


@solver
class ProximalGradient(Solver):
    r"""Proximal gradient, accelerated.

    .. math::
        \begin{aligned}
        x^+ &= \mathrm{prox}_{\eta g}(y - \eta \nabla f(y)), \qquad (1) \\
        y^+ &= x^+ + \frac{t - 1}{t^+} (x^+ - x), \qquad t^+ = \tfrac12 \bigl(1 + \sqrt{1 + 4 t^2}\bigr), \qquad (2) \\
        (y - x^+)^\top (x^+ - x) &> 0 \quad \Rightarrow \quad t = 1, \qquad (3) \\
        f(x^+) &\le f(y) + \nabla f(y)^\top (x^+ - y) + \frac{1}{2\eta} \|x^+ - y\|^2 \qquad (4)
        \end{aligned}

    ``y`` is the point extrapolated by Nesterov's momentum (FISTA), restarted (3) where the momentum points uphill.
    Without ``step_size`` it is found by backtracking: it grows by a tenth after each accepted trial and is halved
    after a trial where the quadratic upper bound (4) fails; each trial is one step. Where rounding hides whether it
    does, the trial is accepted, and the step is halved where the next gradient shows more curvature. The error is
    :math:`\|y - x\| / \eta`, which bounds the norm of the gradient mapping at the returned point.

    Parameters
    ----------
    step_size
        A constant, or a function of the number of the step, used without any test. Default: adaptive.
    acceleration
        Whether to use momentum.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sci. 2009; O'Donoghue and
    Candès, "Adaptive restart for accelerated gradient schemes", Found. Comput. Math. 2015.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, a: 0.5 * jnp.sum((x - a) ** 2), penalty=dini.penalties.L1(1.0))
    >>> print(dini.solve(problem, dini.ProximalGradient(), jnp.zeros(2), jnp.array([3.0, 0.5])).x.round(3))
    [2. 0.]
    """

    step_size: Any = None
    acceleration: bool = field(default=True, metadata={"static": True})
    max_steps: int = field(default=2000, metadata={"static": True})

    composite = True
    error_before_step = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive(f"{self.name}'s step_size", self.step_size)
        if callable(self.step_size):
            object.__setattr__(self, "step_size", as_function(self.step_size, "step_size"))

    @property
    def adaptive(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the step sizes are."""
        return self.step_size is None

    @property
    def gradient_only(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether only gradients decide."""
        return self.step_size is not None

    def init(self, problem: Any, x: Tree, *args: Tree) -> State:
        """Return the state before the first step."""
        del problem, args
        inf = infinity(x)
        one = jnp.ones_like(inf)
        last, unsure = (x, trees.zeros_like(x)), jnp.zeros((), bool)
        return State(inf, one, one, x, jnp.zeros((), jnp.int32), _units.Units.unknown(x), running(), last, unsure)

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Try one step."""
        y = state.extrapolated
        dtype = state.error.dtype
        first, eps = state.steps == 0, trees.eps(x)
        if self.step_size is not None:
            value, gradient = None, problem.gradient(y, *args)
        else:
            value, gradient = problem.value_and_gradient(y, *args)
        last = jax.lax.stop_gradient((y, gradient))
        apart, change = trees.sub(last, state.last)
        rise, room, changed = (
            trees.vdot(*pair).astype(dtype) for pair in ((apart, change), (apart, apart), (change, change))
        )
        changed = jnp.where(first, 0, changed)
        size, slope = trees.norms(*last)
        if self.step_size is not None:
            eta, steep = jnp.asarray(schedule_value(self.step_size, state.steps), dtype), state.unsure
        else:
            # the first step only probes the curvature, the second one fits it; both are constants of differentiation,
            # as all step sizes that a search finds
            value_seen = jax.lax.stop_gradient(value)
            probe = probe_length(value_seen, size, slope, eps, _units.slope_of_elements(*last)).astype(dtype)
            if not self.stops:
                probe = at_rest(problem, y, args, first & (slope == 0), probe)
            told = (rise > 0) & (changed > (drowning_share(eps) * slope) ** 2)
            whole = natural_length(value_seen, size, slope) / jnp.where(slope > 0, slope, 1)
            whole = jnp.where(slope > 0, whole, state.step_size)
            fitted = jnp.where(told, room / jnp.where(told, rise, 1), whole)
            eta = jnp.where(first, probe, jnp.where(state.steps == 1, fitted, state.step_size))
            eta, steep = shortened(
                jax.lax.stop_gradient(eta).astype(dtype), state.unsure & (state.steps > 1), rise, room
            )
        # (1): x^+ = new
        forward = trees.axpy(-eta, gradient, y)
        new = problem.prox(forward, eta)
        move = trees.sub(new, y)
        squared = trees.vdot(move, move).astype(dtype)
        lost_to_rounding = unmoved(y, forward, new, gradient)
        error = trees.sqrt(squared / eta**2 + trees.vdot(lost_to_rounding, lost_to_rounding).astype(dtype))

        if value is None:
            accept, unsure, known = jnp.asarray(True), state.unsure, jnp.asarray(True)
            step_size, status = eta, state.status
        else:
            new_value = problem.value(new, *args)
            gap, slack = squared / (2 * eta), relative_rounding(value)
            # (4), which holds where excess <= 0; gap is the last term
            excess = new_value - (value + trees.vdot(gradient, move) + gap)
            accept, tested = accepted_by_bound(excess, gap, value, jnp.isinf(state.error))
            # the first step is short, whatever rounding makes of its value, or brings the start into the set
            accept |= first & jnp.isfinite(new_value)
            # a test that drowns in rounding says nothing about a longer step
            unsure = accept & ~tested
            step_size = jnp.where(accept, jnp.where(tested & (squared > 0), 1.1, 1.0) * eta, 0.5 * eta)
            # a step that fails a test which asks for nothing has met rounding, not curvature
            tiny = ~accept & ((jnp.sqrt(squared) <= 1e-2 * eps * size) | (gap <= 1e-3 * slack))
            stuck = accept & (squared == 0) & (error > threshold(self, x, state.scales)) & ~first
            status = jnp.where(tiny | stuck, Status.STALLED, state.status).astype(jnp.int32)
            # a finite point has a finite image unless the constraint or penalty itself is undefined
            lost = ~jnp.isfinite(value) | ~trees.all_finite(gradient) | jnp.isnan(squared)
            # after a step that was too long, the point is worse than the error says
            known = accept & (tested | (state.unsure & ~steep) | first)
            error = jnp.where(lost, jnp.nan, jnp.where(known, error, state.error))

        left = jax.tree.map(lambda m, g: jnp.abs(m / eta) + jnp.abs(g), move, lost_to_rounding)
        each = _units.elements(y, left, apart, change)
        # where the error stays, so does what goes with it
        each = each._replace(slope=jnp.where(known, each.slope, _units.Units.of(state.scales).slope))
        seen = state.scales, jnp.isfinite(error), room, changed, size, error, eps, rise
        scales = _units.learned(*seen, leaps=True, each=each)
        # of a function without curvature nothing but the set says where rounding begins: where a step that would be
        # long moves the point by no more
        straight = (_units.Units.of(scales).stiff == 0) & (state.steps > 1) & (eta * slope >= LONG * size)
        scales = _units.with_floor(scales, jnp.where(straight, ROUNDING * eps * trees.norm(new) / eta, 0))
        if self.acceleration:
            step = trees.sub(new, x)
            # (3): t = momentum
            uphill = trees.vdot(trees.sub(y, new), step) > 0
            momentum = jnp.where(uphill, 1.0, state.momentum)
            # (2): t^+ = grown
            grown = 0.5 * (1 + jnp.sqrt(1 + 4 * momentum**2))
            factor = jnp.where(uphill, 0.0, (momentum - 1) / grown)
            extrapolated = trees.axpy(factor, step, new)
            momentum = jnp.where(accept, grown, state.momentum).astype(dtype)
        else:
            extrapolated, momentum = new, state.momentum
        if self.step_size is None:
            # the curvature may show that the start was a solution: the point goes back to it, or stays
            home = (state.steps == 1) & met(self, x, state.error, scales)
            new, accept = trees.where(home, state.last[0], new), accept | home
            # a hair less than before: the loop takes the point whose error has fallen, and not the one that only probed
            error = jnp.where(home, (1 - eps) * state.error, error)
            extrapolated = trees.where(home, new, extrapolated)
            new = trees.where(first & met(self, x, error, scales), x, new)
        x = trees.where(accept, new, x)
        extrapolated = trees.where(accept, extrapolated, y)
        error, step_size = error.astype(dtype), step_size.astype(dtype)
        return x, State(error, step_size, momentum, extrapolated, state.steps + 1, scales, status, last, unsure)

    def differentiable_step(self, problem: Any, x: Tree, state: State, *args: Tree) -> Any:
        """Return one plain proximal gradient step."""
        return problem.prox(trees.axpy(-state.step_size, problem.gradient(x, *args), x), state.step_size)


@solver
class ProjectedGradient(ProximalGradient):
    r"""Projected gradient, :math:`x \leftarrow \mathrm{proj}_C(y - \eta \nabla f(y))`.

    This is :class:`ProximalGradient` for problems with a constraint, its (1) with the projection.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2), constraint=dini.sets.NonNegative())
    >>> print(dini.solve(problem, dini.ProjectedGradient(), jnp.zeros(2), jnp.array([1.0, -1.0])).x.round(3))
    [1. 0.]
    """

    def check(self, problem: Any, x: Tree) -> None:
        """Raise unless the problem has a constraint."""
        super().check(problem, x)
        if getattr(problem, "constraint", None) is None:
            raise TypeError(
                f"ProjectedGradient needs a problem with a constraint; {problem.name} has none. Give "
                "Minimize(constraint=...), or use ProximalGradient, LBFGS or GradientDescent."
            )
