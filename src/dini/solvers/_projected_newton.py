"""Projected Newton: two metrics, one for the free coordinates and one for those at their bounds."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import linear, trees
from ..linear._krylov import wrap_linear_solver
from ..linear._materialize import materialize
from ..protocols import AnyProblem, Minimization
from ..trees import Tree
from ._base import solver
from .judge import _units
from .judge._descent import Proposal, Ruling, Trial, Verdict, armijo
from .judge._lengths import cold_length, natural_length
from .shared._box import Box, BoxSolver, box_of, flatten
from .shared._definite import descent, solve_positive
from .shared._halving import Halving, Way


@solver
class ProjectedNewton(BoxSolver, Halving):
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
    nondegenerate solution the active set becomes constant and the convergence is quadratic. The error is :math:`\|P(x -
    \nabla f) - x\|_2`, where the room to a bound counts in units of the gradient: times the curvature, if that is more
    than one.

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

    def remember(self, problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> Way:
        """Return a way of no length, on which all coordinates are free."""
        del problem, args
        zero = jnp.zeros_like(flatten(x))
        return self.way(zero, zero == 0)

    def trial(self, problem: AnyProblem, x: Tree, state: Any) -> tuple[Tree, Tree]:
        """Return the next point on the path (3), and the move to it."""
        box, memory = box_of(problem, x), state.memory
        # (3): t = step_size
        point = box.unravel(box.project(flatten(x) + memory.step_size * memory.direction))
        return point, trees.sub(point, x)

    def judge(self, memory: Way, trial: Trial) -> Ruling:
        """Return whether the decrease (4) is what the free and the active coordinates predict along the line."""
        gradient, move = flatten(trial.before.gradient), flatten(trial.move)
        along = jnp.where(memory.model, memory.step_size * memory.direction, move)
        # (4)
        fits = armijo(trial, jnp.sum(gradient * along))
        # a step that rounding swallows is the next one as well, and still moves the derivative of steps by number
        swallowed = fits & ~trial.first & (trial.products.ss == 0) & self.stops
        return Ruling(fits & ~swallowed, memory._replace(step_size=0.5 * memory.step_size), swallowed)

    def propose(
        self, problem: Minimization, memory: Way, trial: Trial, verdict: Verdict, args: tuple[Tree, ...]
    ) -> Proposal:
        """Return the direction (2) from a new point, or half the step along the old one."""
        box, size = box_of(problem, trial.x), verdict.error
        scales = _units.Units.of(verdict.scales)

        def fresh() -> Way:
            place, gradient = flatten(trial.point), flatten(trial.gradient)
            length = cold_length(scales, trial.extent, size)
            whole = natural_length(trial.value, trial.extent, size) / jnp.where(size > 0, size, 1)
            # active is what lies within the next step of a bound, and a thousandth of the point
            near = 1e-3 * trial.extent / place.size**0.5
            near = jnp.where(scales.soft > 0, jnp.minimum(near, scales.soft * size), near)
            # (1): epsilon = near; ~free is A
            low, high = place <= box.lower + near, place >= box.upper - near
            free = ~((low & (gradient > 0)) | (high & (gradient < 0)))
            length = jnp.where(trial.first, whole, length)
            direction = self._direction(problem, box, place, gradient, free, length, args)
            return Way(direction, jnp.ones_like(memory.step_size), free)

        memory = jax.lax.cond(verdict.needed, fresh, lambda: memory)
        return Proposal(memory, verdict.exhausted, jnp.all(jnp.isfinite(memory.direction)))

    def readings(self, x: Tree, state: Any) -> dict[str, Any]:
        """Return the objective, its gradient, the direction and the next trial's share of it."""
        values = super().readings(x, state)
        return values | {"direction": ravel_pytree(x)[1](values["direction"])}

    def _direction(
        self,
        problem: Minimization,
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
