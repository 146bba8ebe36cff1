"""The Levenberg-Marquardt method."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_choice, require_positive
from ..protocols import AnyProblem
from ..trees import Scalar, Tree
from ._base import solver
from .shared._residual_model import Model, Space
from .shared._residual_solver import Region, ResidualSolver, State, gauss_newton_step
from .shared._structured_secant import Secant


class Control(NamedTuple):
    """The damping, its growth after a failure and the model's curvature along the last step (Nielsen), the region."""

    damping: Scalar
    growth: Any
    curvature: Any
    region: Region


@solver
class LevenbergMarquardt(ResidualSolver):
    r"""Levenberg-Marquardt, for least squares with or without bounds, roots, and fixed points.

    .. math::
        \begin{aligned}
        (J^\top J + \mu D^2)\,p &= -J^\top r, \qquad (1) \\
        \mu &\leftarrow \mu \max\bigl(\tfrac13, 1 - (2\varrho - 1)^3\bigr), \quad \nu \leftarrow 2, \qquad
        \text{or after a failure} \quad \mu \leftarrow \mu\nu, \quad \nu \leftarrow 2\nu, \qquad (2) \\
        \mu &\leftarrow \mu + \frac{\|q\| - \Delta}{\Delta}\, \frac{\|q\|^2}{q^\top A^{-1} q}, \qquad q = D p, \quad
        A = D^{-1} J^\top J D^{-1} + \mu I, \qquad (3) \\
        (J^\top J + \mu D^2)\,a &= -\tfrac12 J^\top r''(p, p) \qquad (4)
        \end{aligned}

    A step ``p`` solves (1), where ``D`` holds the norms of the Jacobian's columns, or 0.95 of their last value where
    that is more; those within a factor of ten of their geometric mean are replaced by it. (2) and (3) are the two
    strategies for :math:`\mu`, (4) is the geodesic acceleration, which is added to ``p``. Each trial is one step. The
    error is :math:`\|J^\top r\|_2`; with bounds that of the projected gradient
    :math:`x - \mathrm{proj}(x - J^\top r)`; of a root :math:`\|F\|_2`.

    With bounds, unknowns that lie on one and would leave are held, and the step of the others is clipped.

    Parameters
    ----------
    damping
        The initial :math:`\mu` of Nielsen's strategy: more stays nearer to the start, and takes more steps.
    strategy
        ``"nielsen"``, (2): :math:`\mu` follows the ratio :math:`\varrho` of actual to predicted decrease, clipped to
        [0, 1]; after a failure it is at least the model's curvature along the step, :math:`p^\top B p / \|D p\|^2`.
        ``"trust region"``: :math:`\mu` is such that :math:`\|D p\|` is the radius :math:`\Delta` of a trust region, or
        zero where the Gauss-Newton step lies inside (Moré); two Newton iterations (3) on that equation, which start at
        the last :math:`\mu`, are made in a step. ``"levenberg"``: (2) as published, with one ``D`` for all unknowns
        and steps, the largest norm of a column at the start; the units of the unknowns count.
    linear_solver
        ``"cholesky"`` of the normal equations; ``"qr"`` of the damped Jacobian, twice the cost, which does not square
        the condition number; ``"cg"``, conjugate gradients on the normal equations with products alone. Default,
        ``"auto"``: Cholesky up to 2048 unknowns, then conjugate gradients.
    hessian
        ``"secant"``: what the last steps show of the residuals' second order is used, with Cholesky only. An estimate
        of :math:`\sum_i r_i \nabla^2 r_i`, learned from the change of the Jacobian (NL2SOL), is added to
        :math:`J^\top J` wherever it predicts better, so that problems with large residuals take few steps too; and
        :math:`r''(p, p)` in (4) is that along the last step, :math:`2 (r(x + s) - r(x) - J s)`, as far as ``p`` is
        parallel to it (not with a robust loss), so that narrow curved valleys do as well. ``"gauss-newton"``: neither.
    geodesic
        Whether :math:`r''(p, p)` is evaluated, for twice the derivatives of the residuals a step and fewer steps in
        curved valleys.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Madsen, Nielsen, Tingleff, "Methods for non-linear least squares problems", 2004. Moré, "The Levenberg-Marquardt
    algorithm: implementation and theory", Numerical Analysis, 1978. Dennis, Gay, Welsch, "An adaptive nonlinear
    least-squares algorithm", ACM Trans. Math. Softw. 1981. Transtrum, Sethna, "Improvements to the
    Levenberg-Marquardt algorithm for nonlinear least-squares minimization", 2012 (arXiv 1201.5885). Kanzow, Yamashita,
    Fukushima, "Levenberg-Marquardt methods with strong local convergence properties for solving nonlinear equations
    with convex constraints", J. Comput. Appl. Math. 2004.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.LeastSquares(lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    >>> print(dini.solve(problem, dini.LevenbergMarquardt(), jnp.array([-1.2, 1.0])).x.round(3))
    [1. 1.]

    With bounds:

    >>> import dataclasses
    >>> bounded = dataclasses.replace(problem, constraint=dini.sets.Box(upper=0.5))
    >>> print(dini.solve(bounded, dini.LevenbergMarquardt(), jnp.array([-1.2, 0.5])).x.round(3))
    [0.5  0.25]
    """

    damping: Any = 1e-3
    strategy: Literal["nielsen", "trust region", "levenberg"] = field(default="nielsen", metadata={"static": True})
    linear_solver: Literal["auto", "cholesky", "qr", "cg"] = field(default="auto", metadata={"static": True})
    hessian: Literal["gauss-newton", "secant"] = field(default="secant", metadata={"static": True})
    geodesic: bool = field(default=False, metadata={"static": True})
    max_steps: int = field(default=500, metadata={"static": True})

    monotone = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("LevenbergMarquardt's damping", self.damping)
        require_choice("LevenbergMarquardt's hessian", self.hessian, ("gauss-newton", "secant"))
        require_choice("LevenbergMarquardt's strategy", self.strategy, ("nielsen", "trust region", "levenberg"))

    @property
    def _nielsen(self) -> bool:
        return self.strategy != "trust region"

    def _scale(self, scale: Any, norms: Any, accept: Any, first: Any) -> Any:
        if self.strategy == "levenberg":
            return jnp.where(first, jnp.max(norms), scale)
        return super()._scale(scale, norms, accept, first)

    def _start(self, dtype: Any) -> Control:
        zero = jnp.zeros((), dtype)
        return Control(jnp.asarray(self.damping, dtype) if self._nielsen else zero, zero + 2, zero, Region(zero, zero))

    def readings(self, x: Tree, state: Any) -> dict[str, Any]:
        r"""Return what all tell, :math:`\mu` as ``damping`` and :math:`\nu` as ``growth``."""
        control = state.control
        return super().readings(x, state) | {"damping": control.damping, "growth": control.growth}

    def _judged(self, control: Control, accept: Any, ratio: Any, state: State) -> Control:
        if self._nielsen:
            # (2): varrho = ratio, nu = growth
            shrink = jnp.maximum(1 / 3, 1 - (2 * jnp.clip(ratio, 0, 1) - 1) ** 3)
            # after many successes the damping is so small that doubling it does not shorten a step: as much as the
            # model's curvature along it halves it
            least = 0 if self.strategy == "levenberg" else control.curvature
            grown = jnp.maximum(control.damping * control.growth, least)
            damping = jnp.where(accept, control.damping * shrink, grown)
            return control._replace(damping=damping, growth=jnp.where(accept, 2.0, 2 * control.growth))
        region, factor = control.region.accepted_by_bound(ratio, state, control.damping == 0)
        # a larger region asks for less damping
        return control._replace(region=region, damping=control.damping / factor)

    def _propose(
        self, control: Control, model: Model, space: Space, u: Tree, first: Any, learned: Secant | None
    ) -> tuple[Any, Any, Control]:
        if self._nielsen:
            # (1): mu = damping, D p = step
            step, solve = model.step(control.damping)
            squared = jnp.sum(step**2)
            curve = -jnp.sum(model.slope * step) / jnp.where(squared > 0, squared, 1) - control.damping
            curve = jnp.where(jnp.isfinite(curve) & (squared > 0), jnp.maximum(curve, 0), 0)
            control = control._replace(curvature=jax.lax.stop_gradient(curve))
        else:
            step, solve, control = _in_region(control, model, u, first)
        move = model.inverse_scale * step
        # r''(p, p), times the transposed Jacobian
        if self.geodesic:
            bend = space.bend(u, move)
        elif learned is not None:
            bend = learned.bend_along(move, model.scale)
        else:
            return move, move, control
        # (4): a = correction
        correction = -0.5 * model.inverse_scale * solve(model.masked(bend) * model.inverse_scale)
        # where the correction is large, the second-order model of the path is not to be trusted
        small = jnp.sum((model.scale * correction) ** 2) <= 0.375**2 * jnp.sum((model.scale * move) ** 2)
        return move, jnp.where(small, move + correction, move), control

    def differentiable_step(self, problem: AnyProblem, x: Tree, state: State, *args: Tree) -> Any:
        """Return one Gauss-Newton step."""
        return gauss_newton_step(self, problem, x, state, args)


def _in_region(control: Control, model: Model, u: Tree, first: Any) -> tuple[Any, Any, Control]:
    """Return the step on the boundary of the trust region or the Gauss-Newton step inside, and its solver."""
    region = control.region.first(model, u, first)
    radius = region.radius
    # with more damping than this no step leaves the region
    top = jnp.sqrt(jnp.sum(model.slope**2)) / radius
    newton, _ = model.step(jnp.zeros_like(radius))
    inside = jnp.sqrt(jnp.sum(newton**2)) <= 1.1 * radius
    damping = jnp.where(control.damping > 0, jnp.minimum(control.damping, top), 1e-3 * top)
    for _ in range(2):
        q, solve = model.step(damping)
        length = jnp.sqrt(jnp.sum(q**2))
        excess = length - radius
        # (3), Newton's method on 1 / radius - 1 / length, which is almost linear in the damping
        curve = jnp.sum(q * solve(q)) / jnp.where(length > 0, length, 1)
        change = excess / radius * length / jnp.where(curve > 0, curve, 1)
        damping = jnp.clip(damping + jnp.where(jnp.abs(excess) <= 0.1 * radius, 0, change), 0.1 * damping, top)
    damping = jax.lax.stop_gradient(jnp.where(inside, 0, damping))
    # (1)
    step, solve = model.step(damping)
    length = trees.norm(jax.lax.stop_gradient(step))
    long = length > 1.5 * radius
    step = jnp.where(long, step * (radius / jnp.where(long, length, 1)), step)
    return step, solve, control._replace(damping=damping, region=region.walked(step, first))
