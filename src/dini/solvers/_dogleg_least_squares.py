"""Powell's dogleg method for residuals."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

import jax
import jax.numpy as jnp

from .. import trees
from ..protocols import AnyProblem
from ..trees import Tree
from ._base import solver
from .shared._residual_model import Model, Space
from .shared._residual_solver import Region, ResidualSolver, State, gauss_newton_step
from .shared._structured_secant import Secant


@solver
class DoglegLeastSquares(ResidualSolver):
    r"""Powell's dogleg, for least squares with or without bounds, roots, and fixed points.

    The step is the Gauss-Newton step where it lies in the trust region, else the end of the path that leads along the
    gradient to the minimum of the quadratic model there, and from it towards the Gauss-Newton step, at the boundary of
    the region. In the unknowns :math:`q = D p`, with the gradient :math:`g = D^{-1} J^\top r`,

    .. math::
        \begin{aligned}
        q_N &= -(D^{-1} J^\top J D^{-1})^{-1} g, \qquad (1) \\
        q_C &= -\frac{\|g\|^2}{\|J D^{-1} g\|^2} g, \qquad (2) \\
        q &= q_C + t (q_N - q_C), \quad \|q\| = \Delta . \qquad (3)
        \end{aligned}

    One factorization a step, of the undamped matrix. The diagonal ``D`` has the largest norms of the Jacobian's columns
    so far. Each trial is one step. The error is that of :class:`dini.LevenbergMarquardt`, and bounds are kept in the
    same way.

    Parameters
    ----------
    linear_solver
        As in :class:`dini.LevenbergMarquardt`.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Powell, "A hybrid method for nonlinear equations", Numerical Methods for Nonlinear Algebraic Equations, 1970.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.LeastSquares(lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    >>> print(dini.solve(problem, dini.DoglegLeastSquares(), jnp.array([-1.2, 1.0])).x.round(3))
    [1. 1.]
    """

    linear_solver: Literal["auto", "cholesky", "qr", "cg"] = field(default="auto", metadata={"static": True})
    max_steps: int = field(default=500, metadata={"static": True})

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)

    def _start(self, dtype: Any) -> Region:
        return Region(jnp.zeros((), dtype), jnp.zeros((), dtype))

    def _judged(self, control: Region, accept: Any, ratio: Any, state: State) -> Region:
        return control.accepted_by_bound(ratio, state, control.length < control.radius)[0]

    def _propose(
        self, control: Region, model: Model, space: Space, u: Tree, first: Any, learned: Secant | None
    ) -> tuple[Any, Any, Region]:
        del space, learned
        region = control.first(model, u, first)
        radius = region.radius
        # (1): q_N = newton, g = model.slope
        newton, _ = model.step(jnp.zeros_like(radius))
        squared = jnp.sum(model.slope**2)
        # (2): q_C = cauchy
        curve = model.curvature(model.inverse_scale * model.slope)
        cauchy = -squared / jnp.where(curve > 0, curve, 1) * model.slope
        far = trees.norm(cauchy)
        # a matrix that is singular to rounding has no Gauss-Newton step
        usable = jnp.all(jnp.isfinite(newton))
        newton = jnp.where(usable, newton, cauchy)
        along = newton - cauchy
        # (3): |cauchy + t along| = radius, in the form that does not cancel
        a, b, c = jnp.sum(along**2), jnp.sum(cauchy * along), jnp.maximum(radius**2 - far**2, 0)
        root = jnp.sqrt(jnp.maximum(b**2 + a * c, 0))
        t = jnp.where(b > 0, c / jnp.where(b > 0, b + root, 1), (root - b) / jnp.where(a > 0, a, 1))
        bent = cauchy + jax.lax.stop_gradient(jnp.where(a > 0, jnp.clip(t, 0, 1), 0)) * along
        short = -radius / jnp.where(squared > 0, trees.sqrt(squared), 1) * model.slope
        step = jnp.where(far >= radius, short, bent)
        step = jnp.where(jnp.sum(newton**2) <= radius**2, newton, step)
        move = model.inverse_scale * step
        return move, move, region.walked(step, first)

    def differentiable_step(self, problem: AnyProblem, x: Tree, state: State, *args: Tree) -> Any:
        """Return one Gauss-Newton step."""
        return gauss_newton_step(self, problem, x, state, args)
