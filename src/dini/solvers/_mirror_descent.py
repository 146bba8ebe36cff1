"""Mirror descent."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_positive
from ..conditions import KL
from ..functions import as_function
from ..loop import met
from ..protocols import AnyProblem, Composed, Minimization
from ..status import Status
from ..trees import Scalar, Tree
from ._base import Solver, infinity, running, solver
from ._gradient_descent import schedule_value
from .judge import _units
from .judge._bound import At, accepted_by_bound, begun, shortened
from .judge._lengths import proximal_residual


class State(NamedTuple):
    """Carried from step to step.

    ``last`` is the point before, with its gradient; ``unsure`` says that the values could
    not tell whether the last one was too long.
    """

    error: Scalar
    step_size: Scalar
    steps: Scalar
    scales: Any
    status: Any
    last: Any
    unsure: Any


@solver
class MirrorDescent(Solver):
    r"""Mirror descent.

    .. math::
        \begin{aligned}
        x^+ &= \mathrm{proj}^\varphi_C(\nabla\varphi(x) - \eta\nabla f(x)), \qquad (1) \\
        f(x^+) &\le f(x) + \langle\nabla f(x), x^+ - x\rangle + D_\varphi(x^+, x)/\eta \qquad (2)
        \end{aligned}

    The geometry includes the constraint: with :class:`dini.conditions.KL` (the default) and a constraint
    :class:`dini.sets.Simplex` this is the exponentiated-gradient method. Without ``step_size`` the step is found by
    backtracking on (2); where rounding hides whether that holds, the step is halved where the next gradient shows more
    curvature.
    The error is the Euclidean residual :math:`\|x - \mathrm{proj}_C(x - \eta \nabla f(x))\|_2 / \eta` of the problem's
    own condition, with :math:`\eta = \|x\| / \|\nabla f\|`, so slow convergence towards the boundary shows.

    Parameters
    ----------
    geometry
        A geometry of :mod:`dini.conditions`, or an object with ``step(x, g, step_size, constraint)`` and
        ``divergence(x, y)``.
    step_size
        A constant, or a function of the number of the step, used without any test. Default: adaptive.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Beck and Teboulle, "Mirror descent and nonlinear projected subgradient methods", Oper. Res. Lett. 2003.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, c: x @ c + jnp.sum(x**2), constraint=dini.sets.Simplex())
    >>> x = dini.solve(problem, dini.MirrorDescent(), jnp.ones(2) / 2, jnp.array([0.0, 1.0])).x
    >>> round(float(x[0]), 3)
    0.75
    """

    geometry: Any = field(default_factory=KL)
    step_size: Any = None
    max_steps: int = field(default=2000, metadata={"static": True})

    composite = True
    error_before_step = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("MirrorDescent's step_size", self.step_size)
        if callable(self.step_size):
            object.__setattr__(self, "step_size", as_function(self.step_size, "step_size"))

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Raise unless the problem has a constraint."""
        super().check(problem, x)
        if problem.constraint is None:
            raise TypeError(
                f"MirrorDescent needs a problem with a constraint, the domain of its geometry; {problem.name} has "
                "none. Give for example Minimize(constraint=dini.sets.Simplex())."
            )

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
        last, none = (x, trees.zeros_like(x)), jnp.zeros((), jnp.int32)
        return State(inf, jnp.ones_like(inf), none, _units.Units.unknown(x), running(), last, jnp.zeros((), bool))

    def step(self, problem: Minimization, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Try one step."""
        dtype, valued = state.error.dtype, self.step_size is None
        at = begun(problem, x, state.last, state.steps == 0, args, valued=valued)
        eta = self._length(at, state) if valued else jnp.asarray(schedule_value(self.step_size, state.steps), dtype)
        # (1)
        new = self.geometry.step(x, at.gradient, eta, problem.constraint)
        accept, step_size, unsure, status = jnp.asarray(True), eta, state.unsure, state.status
        if valued:
            new_value = problem.value(new, *args)
            slope = trees.vdot(at.gradient, trees.sub(new, x))
            gap = self.geometry.divergence(new, x) / eta
            # (2), which holds where excess <= 0; gap = D / eta
            enough, tested = accepted_by_bound(new_value - (at.value + slope + gap), gap, at.value, at.first)
            # a test that drowns in rounding says nothing about a longer step
            unsure = enough & ~tested
            step_size = jnp.where(enough, jnp.where(tested, 1.5, 1.0) * eta, 0.5 * eta)
            # the first step also brings a start with the wrong sum into the set, whatever that does to the objective
            accept = enough | (at.first & jnp.isfinite(new_value))
            status = jnp.where(eta < jnp.finfo(dtype).tiny * 1e6, Status.STALLED, status).astype(jnp.int32)
        error = proximal_residual(problem, x, at.gradient).astype(dtype)
        scales = at.learned(state.scales, jnp.isfinite(error), error, at.rise)
        # the error is that of x: a point that meets the test is the one to return, unless it is a start, which may lie
        # outside of the set
        keep = ~accept | (met(self, x, error, scales) & ~at.first)
        return trees.where(keep, x, new), State(
            error, step_size.astype(dtype), state.steps + 1, scales, status, at.last, unsure
        )

    def _length(self, at: At, state: State) -> Any:
        """Return the step size, a constant of differentiation as all that a search finds."""
        dtype = state.error.dtype
        top = trees.max_abs(at.gradient).astype(dtype)
        first = 1 / jnp.where(top > 0, top, 1)
        eta = jax.lax.stop_gradient(jnp.where(at.first, first, state.step_size))
        now, before = at.last[0], state.last[0]
        room = self.geometry.divergence(now, before) + self.geometry.divergence(before, now)
        return shortened(eta, state.unsure, at.rise, room.astype(dtype))[0]

    def differentiable_step(self, problem: Composed, x: Tree, state: State, *args: Tree) -> Any:
        """Return one plain mirror step."""
        return self.geometry.step(x, problem.gradient(x, *args), state.step_size, problem.constraint)
