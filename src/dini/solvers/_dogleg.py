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
from ._base import solver
from .shared._definite import model_positive
from .shared._line_method import Aim, Outcome, Pair, State
from .shared._second_order import SecondOrder
from .shared._trust_region import TrustRegion


class Legs(NamedTuple):
    """The model of the Hessian in scaled variables, its number of pairs, and the two legs of the path."""

    hessian: Any
    count: Any
    steepest: Any
    newton: Any


@solver
class Dogleg(TrustRegion, SecondOrder):  # pyright: ignore[reportIncompatibleVariableOverride]
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

    All of this is in the variables :math:`x_i / d_i`, with the scales of :class:`LBFGS` (ones, if a ``radius`` is
    given). The radius :math:`\Delta` follows the ratio :math:`\rho` of actual to predicted decrease; a rejected move is
    replaced by one on the same path. ``B`` is kept dense, so that this is for small unknowns. Each trial is one step.
    The error is :math:`\|\nabla f\|_2`.

    Parameters
    ----------
    hessian
        ``"exact"``: the Hessian, with the absolute values of its eigenvalues where it is not positive definite;
        ``"bfgs"``: its BFGS approximation, from gradients alone,
        :math:`B \leftarrow B - B s s^\top B / s^\top B s + y y^\top / s^\top y`, (4).
    radius
        The first radius, in the units of the unknown. Default: the norm of the start, or the distance at which the
        value would vanish along the gradient.
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
    def quadratic(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the legs are those of the Hessian."""
        return self.hessian == "exact"

    def matrix(self, problem: AnyProblem, x: Tree) -> Legs:
        """Return the identity, and legs of no length."""
        del problem
        dtype = trees.real_dtype(x)
        zero = jnp.zeros(trees.size(x), dtype)
        return Legs(jnp.eye(zero.size, dtype=dtype), jnp.zeros((), jnp.int32), zero, zero)

    def trial(self, problem: Composed, x: Tree, state: State, share: Any) -> tuple[Tree, Tree]:
        """Return where the path leaves the region (2), and the move to it in scaled variables."""
        legs, region = state.model.matrix, self.bracket(state)
        move = ravel_pytree(x)[1](_path(legs.steepest, legs.newton, region.radius).astype(ravel_pytree(x)[0].dtype))
        move = trees.where(share > 0, move, trees.zeros_like(x))
        return jax.tree.map(lambda u, d, s: u + d * s, x, state.scaling, move), move

    def predicted(self, state: State, move: Tree) -> Any:
        """Return the decrease that the model predicts, the denominator of (3)."""
        legs = state.model.matrix
        p, g = (ravel_pytree(v)[0].astype(legs.newton.dtype) for v in (move, self.scaled_gradient(state)))
        return -(dot(g, p) + dot(0.5 * p, dot(legs.hessian, p)))

    def full(self, state: State, pair: Pair) -> Any:
        """Return whether the trial was the Newton point."""
        newton = state.model.matrix.newton
        return dot(newton, newton) <= pair.last.radius**2

    def aim(self, problem: Composed, x: Tree, state: State, pair: Pair, now: Outcome, args: tuple[Tree, ...]) -> Aim:
        """Return the model, which takes in a pair (4) where it is that of BFGS."""
        if self.hessian == "bfgs":
            legs = state.model.matrix
            s, y = (ravel_pytree(v)[0].astype(legs.newton.dtype) for v in (pair.move, pair.change))
            hessian, count = _bfgs(legs.hessian, legs.count, s, y, now.keep)
            state = state._replace(model=state.model._replace(matrix=legs._replace(hessian=hessian, count=count)))
        return super().aim(problem, x, state, pair, now, args)

    def direction(self, problem: Composed, x: Tree, state: State, args: tuple[Tree, ...]) -> Any:
        """Return the Newton point of the path (1)."""
        legs, dtype = state.model.matrix, state.model.matrix.newton.dtype
        gradient, d = (ravel_pytree(v)[0].astype(dtype) for v in (self.scaled_gradient(state), state.scaling))
        if self.hessian == "exact":
            exact = linear.Linearized(lambda u: problem.gradient(u, *args), x)
            matrix = materialize(exact, x)[0].astype(dtype) * d[:, None] * d[None, :]
            model, newton, exact = model_positive(matrix, gradient)
        else:
            model, exact = legs.hessian, jnp.ones((), bool)
            newton = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(model), gradient)
        # a model that has lost its definiteness to rounding leaves the gradient
        lost = ~jnp.all(jnp.isfinite(newton))
        model = jnp.where(lost, jnp.eye(len(newton), dtype=dtype), model)
        newton = jnp.where(lost, gradient, newton)
        # (1): p^U = steepest, p^B = -newton
        bend = dot(gradient, dot(model, gradient))
        steepest = -(dot(gradient, gradient) / jnp.where(bend > 0, bend, 1)) * gradient
        step = ravel_pytree(x)[1]((-d * newton).astype(ravel_pytree(x)[0].dtype))
        return step, -dot(gradient, newton), exact & ~lost, Legs(model, legs.count, steepest, -newton)


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
    # lengths in units of the radius, whose squares neither overflow nor underflow
    unit = jax.lax.stop_gradient(jnp.where(radius > 0, radius, 1))
    start, leg = steepest / unit, (newton - steepest) / unit
    short, cross, long = dot(start, start), dot(start, leg), dot(leg, leg)
    room = jnp.maximum(1 - short, 0)
    # (2): t = room / (cross + root), the positive root of |steepest + t leg| = radius
    root = jnp.sqrt(jnp.maximum(cross**2 + long * room, jnp.finfo(radius.dtype).tiny))
    along = steepest + jax.lax.stop_gradient(room / (cross + root)) * (newton - steepest)
    cut = jax.lax.stop_gradient(1 / jnp.sqrt(jnp.maximum(short, jnp.finfo(radius.dtype).tiny))) * steepest
    inside = dot(newton / unit, newton / unit) <= 1
    return jnp.where(inside, newton, jnp.where(short >= 1, cut, along))
