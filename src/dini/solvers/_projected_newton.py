"""Projected Newton: two metrics, one for the free coordinates and one for those at their bounds."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import linear, trees
from ..linear._krylov import wrap_linear_solver
from ..linear._materialize import materialize
from ..loop import met
from ..status import Status
from ..trees import Scalar, Tree
from ..trees.products import dot, squares
from ._base import infinity, running, solver
from .shared import _scales
from .shared._acceptance import kept_value, relative_rounding, shown_by_gradients
from .shared._box import Box, BoxSolver, box_of, flatten, secant_curvature, value_and_gradient
from .shared._definite import descent, solve_positive
from .shared._lengths import cold_length, natural_length


class State(NamedTuple):
    """Carried from step to step: the accepted point's value and gradient, the direction and the next trial step."""

    error: Scalar
    step_size: Scalar
    value: Any
    gradient: Tree
    direction: Tree
    free: Any
    steps: Scalar
    scales: Any
    status: Any


@solver
class ProjectedNewton(BoxSolver):
    r"""Projected Newton for smooth functions with bounds :math:`l \le x \le u`.

    .. math::
        \begin{aligned}
        A &= \{i : x_i \le l_i + \epsilon,\ g_i > 0\} \cup \{i : x_i \ge u_i - \epsilon,\ g_i < 0\}, \qquad (1) \\
        H_{FF}\, d_F &= -g_F, \qquad d_A = -\eta g_A, \qquad (2) \\
        x(t) &= P(x + t d), \qquad (3) \\
        f(x(t)) &\le f(x) + 10^{-4} \Bigl(t \sum_{i \in F} g_i d_i + \sum_{i \in A} g_i (x_i(t) - x_i)\Bigr) \qquad (4)
        \end{aligned}

    Coordinates that are close to a bound towards which the function falls are active, ``A``; the others are free,
    ``F``. The room :math:`\epsilon` is a thousandth of the coordinates' root mean square, or :math:`\tau\|P(x - \nabla
    f) - x\|` if that is less, with the largest inverse curvature :math:`\tau` of the last steps. The direction solves
    the Newton system of the free coordinates (with the absolute eigenvalues where it is indefinite) and is a gradient
    step in the active ones. Trials are (3) with ``t`` halved from one until (4) holds; each trial is one step. At a
    nondegenerate solution the active set settles and the convergence is quadratic. The error is :math:`\|P(x - \nabla
    f) - x\|_2`, where the room to a bound counts in units of the gradient: times the curvature, if that is more than
    one.

    Parameters
    ----------
    linear_solver
        One of :mod:`dini.linear`, a Lineax solver or a function ``solve(matvec, b)``, used for the Newton system.
        Default: dense factorization for small problems, a Krylov method for large ones.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Bertsekas, "Projected Newton methods for optimization problems with simple constraints", SIAM J. Control Optim.
    1982.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> problem = dini.Minimize(rosenbrock, constraint=dini.sets.Box(-2.0, jnp.array([0.5, 2.0])))
    >>> print(dini.solve(problem, dini.ProjectedNewton(), jnp.zeros(2)).x.round(2))
    [0.5  0.25]
    """

    linear_solver: Any = None
    max_steps: int = field(default=200, metadata={"static": True})

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        object.__setattr__(self, "linear_solver", wrap_linear_solver(self.linear_solver))

    def init(self, problem: Any, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        inf, zero = infinity(x), jnp.zeros_like(flatten(x))
        steps = jnp.zeros((), jnp.int32)
        return State(inf, jnp.zeros_like(inf), inf, zero, zero, zero == 0, steps, _scales.unknown(x), running())

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Try one step."""
        box, flat = box_of(problem, x), flatten(x)
        # (3): t = step_size
        trial = box.project(flat + state.step_size * state.direction)
        value, gradient = value_and_gradient(problem, box, trial, args)
        s, y = trial - flat, gradient - state.gradient
        first, eps = state.steps == 0, trees.eps(x)
        ss, yy = squares(s, y)
        curvature = secant_curvature(s, y, gradient, ss, yy)
        left = box.projected_gradient(trial, gradient, curvature)
        size = trees.norm(left)
        # (4): what the free coordinates promise along the line, and the active ones along the bent path
        free = state.step_size * jnp.where(state.free, state.gradient * state.direction, 0)
        promise = jnp.sum(jnp.where(state.free, free, state.gradient * (trial - flat)))
        slack = relative_rounding(state.value)
        finite = jnp.isfinite(value) & jnp.isfinite(size)
        shown = shown_by_gradients(state.value, value, -promise, state.error, size)
        accept = first | (finite & ((value <= state.value + 1e-4 * promise + slack) | shown))
        error = jnp.where(first & ~finite, jnp.nan, jnp.where(accept, size, state.error))
        extent = trees.norm(trial)
        pair, each = (ss, jnp.where(first, 0, yy)), _scales.elements(trial, left, s, y)
        scales = _scales.learned(state.scales, accept, *pair, extent, size, eps, dot(s, y), each=each)

        def renew() -> tuple[Any, Any, Any]:
            length = cold_length(_scales.Scales(*scales), extent, size)
            length = jnp.where(first, natural_length(value, extent, size) / jnp.where(size > 0, size, 1), length)
            # active is what lies within the next step of a bound, and a thousandth of the point
            near, soft = 1e-3 * extent / flat.size**0.5, _scales.Scales(*scales).soft
            near = jnp.where(soft > 0, jnp.minimum(near, soft * size), near)
            # (1): epsilon = near; ~free is A
            low, high = trial <= box.lower + near, trial >= box.upper - near
            free = ~((low & (gradient > 0)) | (high & (gradient < 0)))
            return self._direction(problem, box, trial, gradient, free, length, args), free, jnp.ones_like(value)

        def shrink() -> tuple[Any, Any, Any]:
            return state.direction, state.free, 0.5 * state.step_size

        needed = accept & ~met(self, x, error, scales)
        direction, free, step_size = jax.lax.cond(needed, renew, shrink)
        status = jnp.where(jnp.all(jnp.isfinite(direction)), state.status, Status.SINGULAR)
        moved = state.step_size * trees.norm(state.direction)
        tiny = ~accept & (moved <= 1e-2 * eps * trees.norm(flat))
        # a step that rounding swallows is the next one as well
        tiny |= accept & ~first & jnp.all(trial == flat)
        ends = {"status": status, "accept": accept, "stalled": False, "tiny": tiny, "held": box.holds(gradient)}
        status = _scales.ending(scales, (jnp.where(accept, value, state.value), extent, error), eps, **ends)
        new = State(
            error,
            step_size,
            jnp.where(accept, kept_value(state.value, value, slack), state.value),
            jnp.where(accept, gradient, state.gradient),
            direction,
            free,
            state.steps + 1,
            scales,
            status.astype(jnp.int32),
        )
        return trees.where(accept, box.unravel(trial), x), new

    def _direction(
        self,
        problem: Any,
        box: Box,
        x: jax.Array,
        gradient: jax.Array,
        free: jax.Array,
        length: Any,
        args: tuple[Tree, ...],
    ) -> jax.Array:
        hessian = linear.Linearized(lambda u: flatten(problem.gradient(box.unravel(u), *args)), x)
        if self.linear_solver is None and x.size <= linear.DENSE_LIMIT:
            matrix = materialize(hessian, x)[0]
            # (2): the active coordinates keep the scale of the others, eta = 1 / scale
            scale = jnp.max(jnp.abs(jnp.diagonal(matrix)))
            scale = jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1)
            both = free[:, None] & free[None, :]
            held = jnp.where(both, matrix, 0) + jnp.diag(jnp.where(free, 0, scale))
            step = -solve_positive(held, gradient)[0]
            # of a Hessian that is zero, or not finite, the gradient is left
            return jnp.where(jnp.all(jnp.isfinite(step)), step, -length * gradient)
        # (2): eta = length
        reduced = lambda v: jnp.where(free, hessian(jnp.where(free, v, 0)), v)
        step = descent(reduced, jnp.where(free, gradient, 0), "positive definite", self.linear_solver)
        return jnp.where(free, step, -length * gradient)
