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
from ..protocols import AnyProblem, Composed, Minimization
from ..status import Status
from ..trees import Scalar, Tree
from ._base import Solver, infinity, running, solver
from ._gradient_descent import schedule_value
from .judge import _units
from .judge._bound import At, accepted_by_bound, begun, shortened, unmoved
from .judge._lengths import contracting_length, is_rounding, natural_length, probe_length
from .judge._margins import LONG, ROUNDING, SHORT, gradient_rounding, relative_rounding


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


class Taken(NamedTuple):
    """What becomes of a step: whether it is taken, whether it may have been too long, whether the error is known."""

    accept: Any
    unsure: Any
    known: Any
    error: Any
    step_size: Any
    status: Any


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

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> State:
        """Return the state before the first step."""
        del problem, args
        inf = infinity(x)
        one = jnp.ones_like(inf)
        last, unsure = (x, trees.zeros_like(x)), jnp.zeros((), bool)
        return State(inf, one, one, x, jnp.zeros((), jnp.int32), _units.Units.unknown(x), running(), last, unsure)

    def step(self, problem: Minimization, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Try one step."""
        valued, dtype = self.step_size is None, state.error.dtype
        at = begun(problem, state.extrapolated, state.last, state.steps == 0, args, valued=valued)
        y, eps = at.y, trees.eps(x)
        eta, steep = self._length(problem, at, state, args)
        # (1): x^+ = new
        forward = trees.axpy(-eta, at.gradient, y)
        new = problem.prox(forward, eta)
        move, lost_to_rounding = trees.sub(new, y), unmoved(y, forward, new, at.gradient)
        squared, lost = (trees.vdot(v, v).astype(dtype) for v in (move, lost_to_rounding))
        error = trees.sqrt(squared / eta**2 + lost)
        taken = Taken(jnp.asarray(True), state.unsure, jnp.asarray(True), error, eta, state.status)
        if valued:
            taken = self._tested(problem, at, new, eta, squared, error, steep, x, state, args)
        accept, error = taken.accept, taken.error
        left = jax.tree.map(lambda m, g: jnp.abs(m / eta) + jnp.abs(g), move, lost_to_rounding)
        each = _units.elements(y, left, at.apart, at.change)
        # where the error stays, so does what goes with it
        each = each._replace(slope=jnp.where(taken.known, each.slope, _units.Units.of(state.scales).slope))
        scales = at.learned(state.scales, jnp.isfinite(error), error, at.rise, each)
        # of a function without curvature nothing but the set says where rounding begins: where a step that would be
        # long moves the point by no more
        stiff = _units.Units.of(scales).stiff
        straight = (stiff == 0) & (state.steps > 1) & (eta * at.slope >= LONG * at.size)
        scales = _units.with_rounding(scales, jnp.where(straight, ROUNDING * eps * trees.norm(new) / eta, 0))
        extrapolated, momentum = self._extrapolated(x, y, new, accept, state.momentum)
        if valued:
            # the curvature may show that the start was a solution: the point goes back to it, or stays
            solved = (state.steps == 1) & met(self, x, state.error, scales)
            new, accept = trees.where(solved, state.last[0], new), accept | solved
            # a hair less than before: the loop takes the point whose error has fallen, and not the one that only probed
            error = jnp.where(solved, (1 - eps) * state.error, error)
            extrapolated = trees.where(solved, new, extrapolated)
            new = trees.where(at.first & met(self, x, error, scales), x, new)
        return trees.where(accept, new, x), State(
            error.astype(dtype), taken.step_size.astype(dtype), momentum.astype(dtype),
            trees.where(accept, extrapolated, y), state.steps + 1, scales, taken.status, at.last, taken.unsure,
        )  # fmt: skip

    def _length(self, problem: Minimization, at: At, state: State, args: tuple[Tree, ...]) -> tuple[Any, Any]:
        """Return the step size, and whether the last one has turned out to be too long.

        The first step only probes the curvature, the second one fits it. All step sizes that a search finds are
        constants of differentiation.
        """
        dtype = state.error.dtype
        if self.step_size is not None:
            return jnp.asarray(schedule_value(self.step_size, state.steps), dtype), state.unsure
        eps, seen = trees.eps(at.y), jax.lax.stop_gradient(at.value)
        slopes = _units.slope_of_elements(*at.last)
        probe = probe_length(seen, at.size, at.slope, eps, slopes).astype(dtype)
        measurable = (at.rise > 0) & (at.changed > (gradient_rounding(eps) * at.slope) ** 2)
        whole = natural_length(seen, at.size, at.slope) / jnp.where(at.slope > 0, at.slope, 1)
        whole = jnp.where(at.slope > 0, whole, state.step_size)
        fitted = jnp.where(measurable, at.room / jnp.where(measurable, at.rise, 1), whole)
        still = is_rounding(at.room, at.size, eps) & (not self.stops)
        if not self.stops:
            # of a point at rest, which a set or a penalty may hold against any gradient, the curvature alone is known
            rests = still & (state.steps == 1)
            begins, length = at.first | rests, jnp.where(at.first, probe, whole.astype(dtype))
            probe = contracting_length(problem, *at.last, args, begins, length)
            fitted = jnp.where(rests, probe, fitted)
        eta = jnp.where(at.first, probe, jnp.where(state.steps == 1, fitted, state.step_size))
        eta = jax.lax.stop_gradient(eta).astype(dtype)
        return shortened(eta, state.unsure & (state.steps > 1) & ~still, at.rise, at.room)

    def _tested(
        self,
        problem: Minimization,
        at: At,
        new: Tree,
        eta: Any,
        squared: Any,
        error: Any,
        steep: Any,
        x: Tree,
        state: State,
        args: tuple[Tree, ...],
    ) -> Taken:
        """Return what the bound (4) says of a step to ``new``, whose squared length is ``squared``."""
        value, first = at.value, at.first
        new_value = problem.value(new, *args)
        gap = squared / (2 * eta)
        # (4), which holds where excess <= 0; gap is the last term
        excess = new_value - (value + trees.vdot(at.gradient, trees.sub(new, at.y)) + gap)
        accept, tested = accepted_by_bound(excess, gap, value, jnp.isinf(state.error))
        # the first step is short, whatever rounding makes of its value, or brings the start into the set
        accept |= first & jnp.isfinite(new_value)
        # a test that drowns in rounding says nothing about a longer step
        step_size = jnp.where(accept, jnp.where(tested & (squared > 0), 1.1, 1.0) * eta, 0.5 * eta)
        # a step that fails a test which asks for nothing has met rounding, not curvature
        short = jnp.sqrt(squared) <= SHORT * trees.eps(x) * at.size
        tiny = ~accept & (short | (gap <= 1e-3 * relative_rounding(value)))
        stuck = accept & (squared == 0) & (error > threshold(self, x, state.scales)) & ~first
        status = jnp.where(tiny | stuck, Status.STALLED, state.status).astype(jnp.int32)
        # a finite point has a finite image unless the constraint or penalty itself is undefined
        lost = ~jnp.isfinite(value) | ~trees.all_finite(at.gradient) | jnp.isnan(squared)
        # after a step that was too long, the point is worse than the error says
        known = accept & (tested | (state.unsure & ~steep) | first)
        error = jnp.where(lost, jnp.nan, jnp.where(known, error, state.error))
        return Taken(accept, accept & ~tested, known, error, step_size, status)

    def _extrapolated(self, x: Tree, y: Tree, new: Tree, accept: Any, momentum: Any) -> tuple[Any, Any]:
        """Return where the next step begins (2), and the momentum's counter."""
        if not self.acceleration:
            return new, momentum
        step = trees.sub(new, x)
        # (3): t = momentum
        uphill = trees.vdot(trees.sub(y, new), step) > 0
        t = jnp.where(uphill, 1.0, momentum)
        # (2): t^+ = grown
        grown = 0.5 * (1 + jnp.sqrt(1 + 4 * t**2))
        factor = jnp.where(uphill, 0.0, (t - 1) / grown)
        return trees.axpy(factor, step, new), jnp.where(accept, grown, momentum)

    def differentiable_step(self, problem: Composed, x: Tree, state: State, *args: Tree) -> Any:
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

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Raise unless the problem has a constraint."""
        super().check(problem, x)
        if problem.constraint is None:
            raise TypeError(
                f"ProjectedGradient needs a problem with a constraint; {problem.name} has none. Give "
                "Minimize(constraint=...), or use ProximalGradient, LBFGS or GradientDescent."
            )
