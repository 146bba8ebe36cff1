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
from ..loop import met
from ..trees import Scalar, Tree
from ..trees.products import dot
from ._base import Solver, infinity, running, solver
from .shared import _scales
from .shared._acceptance import PATIENCE, kept_value, relative_rounding, shown_by_gradients
from .shared._definite import model_positive
from .shared._lengths import natural_length


class State(NamedTuple):
    """Carried from step to step: the accepted point's value and gradient, the model, the two legs, the move.

    ``ledger`` holds the radius, the smallest error so far and the number of accepted points since the last gain.
    """

    error: Scalar
    value: Any
    gradient: Tree
    hessian: Any
    steepest: Any
    newton: Any
    move: Tree
    ledger: Any
    count: Any
    scales: Any
    status: Any


@solver
class Dogleg(Solver):
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

    monotone = True
    # the path has kinks and a square root at its ends
    differentiable = False

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_choice("Dogleg's hessian", self.hessian, ("exact", "bfgs"))
        require_positive("Dogleg's radius", self.radius)

    def init(self, problem: Any, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        inf = infinity(x)
        zero = jnp.zeros_like(ravel_pytree(x)[0].astype(inf.dtype))
        ledger = jnp.stack([inf, inf, jnp.zeros_like(inf)])
        hessian = jnp.eye(zero.size, dtype=inf.dtype)
        return State(
            inf, inf, zero, hessian, zero, zero, zero, ledger, jnp.zeros((), jnp.int32), _scales.unknown(x), running()
        )

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Try one move."""
        radius, best, idle = state.ledger
        dtype = radius.dtype
        flat_x, unravel = ravel_pytree(x)
        trial = unravel(flat_x + state.move.astype(flat_x.dtype))
        value, gradient = problem.value_and_gradient(trial, *args)
        value, gradient = value.astype(dtype), ravel_pytree(gradient)[0].astype(dtype)
        size, length = jnp.linalg.norm(gradient), trees.norm(state.move)
        first, eps = jnp.isinf(state.value), trees.eps(x)
        slack = jnp.where(first, 0, relative_rounding(state.value))
        slope = dot(state.gradient, state.move)
        # (3): p = state.move, B = state.hessian
        predicted = -(slope + dot(0.5 * state.move, dot(state.hessian, state.move)))
        # near the rounding error of the values the ratio tends to one
        actual = state.value - value
        ratio = (actual + slack) / jnp.maximum(predicted + slack, jnp.finfo(dtype).tiny)
        shown = ~first & shown_by_gradients(state.value, value, predicted, state.error, size)
        ratio = jnp.where(shown, jnp.maximum(ratio, 1), ratio)
        finite = jnp.isfinite(value) & jnp.isfinite(size)
        accept = first | (finite & (ratio > 1e-4))
        error = jnp.where(first & ~finite, jnp.nan, jnp.where(accept, size, state.error))
        grown = jnp.where(length > 0.9 * radius, 2.5 * radius, radius)
        radius = jnp.where(accept & (ratio > 0.75), grown, jnp.where(ratio >= 0.25, radius, 0.25 * length))
        # a first move to zero would end where an even function is stationary, be it a maximum
        extent, y = _scales.norm(trial).astype(dtype), gradient - state.gradient
        start = 0.93 * natural_length(value, extent, size) if self.radius is None else jnp.asarray(self.radius, dtype)
        radius = jax.lax.stop_gradient(jnp.where(first, start, radius)).astype(dtype)
        pair = length**2, jnp.where(first, 0, dot(y, y))
        scales = _scales.learned(
            state.scales, accept, *pair, extent, size, eps, dot(state.move, y), leaps=self.hessian == "bfgs"
        )

        hessian, count = state.hessian, state.count
        if self.hessian == "bfgs":
            # the first move is a length in the units of the unknown
            bend = size / natural_length(value, extent, size)
            hessian = jnp.where(first & (bend > 0) & jnp.isfinite(bend), bend, 1) * hessian
            hessian, count = _bfgs(hessian, count, state.move, y, accept & ~first)

        def renew() -> tuple[Any, Any, Any]:
            if self.hessian == "exact":
                exact = linear.Linearized(lambda u: problem.gradient(u, *args), trial)
                model, newton = model_positive(materialize(exact, x)[0].astype(dtype), gradient)
            else:
                model, newton = hessian, jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(hessian), gradient)
            # (1): p^U = steepest, p^B = -newton
            steepest = -(size**2) / dot(gradient, dot(model, gradient)) * gradient
            return model, steepest, -newton

        needed = accept & ~met(self, x, error, scales)
        model, steepest, newton = jax.lax.cond(needed, renew, lambda: (hessian, state.steepest, state.newton))
        # a model that has lost its definiteness to rounding leaves the gradient
        lost = ~jnp.all(jnp.isfinite(newton))
        gain = (actual > slack) | (size < 0.99 * best)
        idle = jnp.where(accept, jnp.where(gain, 0, idle + 1), idle)
        best = jnp.where(accept, jnp.minimum(best, size), best)
        tiny = ~accept & (length <= 1e-2 * eps * trees.norm(flat_x))
        ends = {"status": state.status, "accept": accept, "stalled": idle >= PATIENCE, "tiny": tiny}
        status = _scales.ending(scales, (value, extent, error), eps, **ends)
        new = State(
            error,
            jnp.where(accept, kept_value(state.value, value, slack), state.value),
            jnp.where(accept, gradient, state.gradient),
            jnp.where(lost, jnp.eye(flat_x.size, dtype=dtype), model),
            steepest,
            newton,
            _path(steepest, jnp.where(lost, steepest, newton), radius),
            jnp.stack([radius, best, idle]),
            count,
            scales,
            status.astype(jnp.int32),
        )
        return trees.where(accept, trial, x), new


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
