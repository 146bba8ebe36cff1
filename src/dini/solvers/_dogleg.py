"""Powell's dogleg for minimization."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import linear, trees
from ..checks.settings import require_choice, require_positive
from ..linear._materialize import materialize
from ..protocols import AnyProblem, Composed
from ..trees import Tree
from ..trees.products import dot
from ._base import infinity, solver
from .judge._descent import Descent, Proposal, Ruling, State, Trial, Verdict, ratio
from .judge._lengths import natural_length
from .judge._margins import DECREASE
from .shared._definite import model_positive


class Legs(NamedTuple):
    """What is remembered: the model, its number of pairs, the two legs, the move along them, and the radius."""

    hessian: Any
    count: Any
    steepest: Any
    newton: Any
    move: Tree
    radius: Any


@solver
class Dogleg(Descent):
    r"""Powell's dogleg: a trust region along the path over the steepest-descent to the Newton point.

    With a positive definite model ``B`` of the Hessian, the path leads from the point to the minimizer :math:`p^U`
    along the gradient and on to the Newton point :math:`p^B`; the move ``p`` is where it leaves the trust region, or
    its end:

    .. math::
        \begin{aligned}
        p^U &= -\frac{g^\top g}{g^\top B g} g, \quad p^B = -B^{-1} g, \qquad (1) \\
        p &= p^U + t (p^B - p^U), \quad \|p\| = \Delta, \qquad (2) \\
        \rho &= \frac{f(x) - f(x + p)}{-g^\top p - \tfrac12 p^\top B p} . \qquad (3)
        \end{aligned}

    The radius :math:`\Delta` follows the ratio :math:`\rho` of actual to predicted decrease; a rejected move is
    replaced by one on the same path. ``B`` is kept dense, so that this is for small unknowns. Each trial is one step.
    The error is :math:`\|\nabla f\|_2`.

    Parameters
    ----------
    hessian
        ``"exact"``: the Hessian, with the absolute values of its eigenvalues where it is not positive definite;
        ``"bfgs"``: its BFGS approximation, from gradients alone,
        :math:`B \leftarrow B - B s s^\top B / s^\top B s + y y^\top / s^\top y`, (4).
    radius
        The first radius. Default: the norm of the start, or a length that its value and gradient show.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps, that is of function evaluations.

    References
    ----------
    Powell, "A new algorithm for unconstrained optimization", 1970; Nocedal and Wright, "Numerical optimization", 2006,
    chapter 4.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> rosenbrock = dini.Minimize(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    >>> print(dini.solve(rosenbrock, dini.Dogleg(), jnp.zeros(2)).x.round(2))
    [1. 1.]
    """

    hessian: str = field(default="exact", metadata={"static": True})
    radius: Any = None
    max_steps: int = field(default=1000, metadata={"static": True})

    # the path has kinks and a square root at its ends
    differentiable = False

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_choice("Dogleg's hessian", self.hessian, ("exact", "bfgs"))
        require_positive("Dogleg's radius", self.radius)

    @property
    def first_order(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether curvatures are learned from steps."""
        return self.hessian == "bfgs"

    def remember(self, problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> Legs:
        """Return a move of no length: the first trial is the start itself."""
        del problem, args
        inf = infinity(x)
        zero = jnp.zeros_like(ravel_pytree(x)[0].astype(inf.dtype))
        return Legs(jnp.eye(zero.size, dtype=inf.dtype), jnp.zeros((), jnp.int32), zero, zero, zero, inf)

    def trial(self, problem: AnyProblem, x: Tree, state: State) -> tuple[Tree, Tree]:
        """Return the end of the move."""
        del problem
        flat, unravel = ravel_pytree(x)
        move = unravel(state.memory.move.astype(flat.dtype))
        return trees.add(x, move), move

    def judge(self, memory: Legs, trial: Trial) -> Ruling:
        """Return whether the decrease is what the model predicts (3); the radius follows."""
        gradient, length = ravel_pytree(trial.before.gradient)[0].astype(memory.move.dtype), jnp.sqrt(trial.products.ss)
        # (3): p = own.move, B = own.hessian
        rho = ratio(trial, -(dot(gradient, memory.move) + dot(0.5 * memory.move, dot(memory.hessian, memory.move))))
        fits = rho > DECREASE
        grown = jnp.where(length > 0.9 * memory.radius, 2.5 * memory.radius, memory.radius)
        radius = jnp.where(fits & (rho > 0.75), grown, jnp.where(rho >= 0.25, memory.radius, 0.25 * length))
        return Ruling(fits, memory._replace(radius=jax.lax.stop_gradient(radius)))

    def propose(
        self, problem: Composed, memory: Legs, trial: Trial, verdict: Verdict, args: tuple[Tree, ...]
    ) -> Proposal:
        """Return the path (1) from a new point, and where it leaves the region (2)."""
        dtype = memory.move.dtype
        gradient = ravel_pytree(trial.gradient)[0].astype(dtype)
        length = natural_length(trial.value, trial.extent, trial.size)
        # a first move to zero would end where an even function is stationary, be it a maximum
        start = 0.93 * length if self.radius is None else self.radius
        start = jax.lax.stop_gradient(jnp.asarray(start, dtype))
        radius = jnp.where(trial.first, start, memory.radius)
        hessian, count = memory.hessian, memory.count
        if self.hessian == "bfgs":
            # the first move is a length in the units of the unknown
            bend = trial.size / length
            hessian = jnp.where(trial.first & (bend > 0) & jnp.isfinite(bend), bend, 1) * hessian
            s, y = (ravel_pytree(v)[0].astype(dtype) for v in (trial.move, trial.change))
            hessian, count = _bfgs(hessian, count, s, y, verdict.accept & ~trial.first)

        def fresh() -> tuple[Any, Any, Any]:
            if self.hessian == "exact":
                exact = linear.Linearized(lambda u: problem.gradient(u, *args), trial.point)
                model, newton = model_positive(materialize(exact, trial.point)[0].astype(dtype), gradient)
            else:
                model, newton = hessian, jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(hessian), gradient)
            # (1): p^U = steepest, p^B = -newton
            steepest = -(trial.size**2) / dot(gradient, dot(model, gradient)) * gradient
            return model, steepest, -newton

        model, steepest, newton = jax.lax.cond(verdict.needed, fresh, lambda: (hessian, memory.steepest, memory.newton))
        # a model that has lost its definiteness to rounding leaves the gradient
        lost = ~jnp.all(jnp.isfinite(newton))
        model = jnp.where(lost, jnp.eye(len(newton), dtype=dtype), model)
        move = _path(steepest, jnp.where(lost, steepest, newton), radius)
        return Proposal(Legs(model, count, steepest, newton, move, radius), verdict.exhausted)


def _bfgs(
    hessian: jax.Array, count: jax.Array, s: jax.Array, y: jax.Array, accept: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Take in a pair of positive curvature; the first one scales the identity."""
    sy, yy = dot(s, y), dot(y, y)
    keep = accept & (sy > jnp.finfo(s.dtype).eps * jnp.sqrt(dot(s, s) * yy))
    fresh = yy / jnp.where(keep, sy, 1) * jnp.eye(len(s), dtype=hessian.dtype)
    hessian = jnp.where(keep & (count == 0), fresh, hessian)
    # (4): B = hessian, B s = hs
    hs = dot(hessian, s)
    shs = dot(s, hs)
    rank_two = y[:, None] * y[None, :] / jnp.where(keep, sy, 1) - hs[:, None] * hs[None, :] / jnp.where(keep, shs, 1)
    return jnp.where(keep, hessian + rank_two, hessian), count + keep.astype(count.dtype)


def _path(steepest: jax.Array, newton: jax.Array, radius: jax.Array) -> jax.Array:
    """Return where the path over both points leaves the ball, or its end."""
    leg = newton - steepest
    short, cross, long = dot(steepest, steepest), dot(steepest, leg), dot(leg, leg)
    room = jnp.maximum(radius**2 - short, 0)
    # (2): t = room / (cross + root), the positive root of |steepest + t leg| = radius
    root = jnp.sqrt(jnp.maximum(cross**2 + long * room, jnp.finfo(radius.dtype).tiny))
    along = steepest + jax.lax.stop_gradient(room / (cross + root)) * leg
    cut = jax.lax.stop_gradient(radius / jnp.sqrt(jnp.maximum(short, jnp.finfo(radius.dtype).tiny))) * steepest
    inside = dot(newton, newton) <= radius**2
    return jnp.where(inside, newton, jnp.where(short >= radius**2, cut, along))
