"""Projected Newton: two metrics, one for the free coordinates and one for those at their bounds."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import linear
from ..linear._krylov import wrap_linear_solver
from ..linear._materialize import materialize
from ..protocols import AnyProblem, Composed
from ..trees import Tree
from ..trees.products import dot
from ._base import solver
from .shared._box import Box, BoxLineMethod, box_of, flatten, projected_gradient
from .shared._definite import descent, solve_positive
from .shared._line_method import State
from .shared._second_order import SecondOrder

#: coordinates within this share of their root mean square of a bound may be active
NEAR = 1e-3


@solver
class ProjectedNewton(BoxLineMethod, SecondOrder):
    r"""Projected Newton for smooth functions with bounds :math:`l \le x \le u`.

    .. math::
        \begin{aligned}
        A &= \{i : x_i \le l_i + \epsilon,\ g_i > 0\} \cup \{i : x_i \ge u_i - \epsilon,\ g_i < 0\}, \qquad (1) \\
        H_{FF}\, d_F &= -g_F, \qquad d_A = -\eta g_A, \qquad (2) \\
        x(t) &= P(x + t d), \qquad (3) \\
        f(x(t)) &\le f(x) + 10^{-4} \Bigl(t \sum_{i \in F} g_i d_i + \sum_{i \in A} g_i (x_i(t) - x_i)\Bigr) \qquad (4)
        \end{aligned}

    Coordinates that are close to a bound towards which the function falls are active, ``A``; the others are free,
    ``F``. The variables are :math:`u_i = x_i / d_i`, with the scales of :class:`LBFGS`, rounded to powers of two: the
    room :math:`\epsilon` is :math:`\|P(u - \nabla_u f) - u\|`, or a thousandth of the coordinates' root mean square, if
    that is less. The direction solves the Newton system of the free coordinates (with the absolute eigenvalues where it
    is indefinite) and is a gradient step in the active ones, :math:`\eta = 1`. Trials are (3) with ``t`` halved from
    one until (4) holds; each trial is one step. At a nondegenerate solution the active set becomes constant and the
    convergence is quadratic. The error is the norm of :math:`(P(u - \nabla_u f) - u) / d`, what the bounds leave of the
    gradient; the length of the last step says how far the point is from the solution.

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

    def matrix(self, problem: AnyProblem, x: Tree) -> Any:
        """Return which coordinates are free: all."""
        del problem
        return jnp.ones(flatten(x).shape, bool)

    def moved(self, problem: Composed, x: Tree, step: Tree) -> Tree:
        """Return what the bounds leave of a step."""
        box, flat = box_of(problem, x), flatten(x)
        return box.unravel(box.project(flat + flatten(step)) - flat)

    def direction(self, problem: Composed, x: Tree, state: State, args: tuple[Tree, ...]) -> Any:
        """Return the direction (2), and the slope of the free and the active coordinates along it (4)."""
        box, d = box_of(problem, x), flatten(state.scaling)
        place, gradient = flatten(x), flatten(state.gradient)
        point, slope = jax.lax.stop_gradient((place / d, d * gradient))
        near = jnp.linalg.norm(projected_gradient(point, slope, box.lower / d, box.upper / d, 1.0))
        near = d * jnp.minimum(near, NEAR * jnp.linalg.norm(point) / place.size**0.5)
        # (1): epsilon = near; ~free is A
        low, high = place <= box.lower + near, place >= box.upper - near
        free = ~((low & (gradient > 0)) | (high & (gradient < 0)))
        step, exact = self._direction(problem, box, place, gradient, free, d, args)
        along = jnp.where(free, step, box.project(place + step) - place)
        return box.unravel(step), dot(gradient, along), exact, free

    def _direction(
        self,
        problem: Composed,
        box: Box,
        x: jax.Array,
        gradient: jax.Array,
        free: jax.Array,
        d: jax.Array,
        args: tuple[Tree, ...],
    ) -> tuple[jax.Array, Any]:
        # (2): in scaled variables curvatures are about one, eta = 1
        slopes = lambda u: d * flatten(problem.gradient(box.unravel(d * u), *args))
        hessian, scaled = linear.Linearized(slopes, x / d), d * gradient
        if self.linear_solver is None and x.size <= linear.DENSE_LIMIT:
            matrix = materialize(hessian, x)[0]
            both = free[:, None] & free[None, :]
            held = jnp.where(both, matrix, jnp.eye(x.size, dtype=x.dtype))
            solution, _, definite = solve_positive(held, scaled)
            # of a Hessian that is zero, or not finite, the gradient is left
            known = jnp.all(jnp.isfinite(solution))
            return -d * jnp.where(free & known, solution, scaled), definite & known
        reduced = lambda v: jnp.where(free, hessian(jnp.where(free, v, 0)), v)
        step = descent(reduced, jnp.where(free, scaled, 0), "positive definite", self.linear_solver)
        return d * jnp.where(free, step, -scaled), True
