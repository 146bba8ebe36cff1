"""Newton's method in a trust region, by conjugate gradients."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_positive
from ..trees import Scalar, Tree
from ._base import Solver, infinity, running, solver
from .shared import _scales
from .shared._acceptance import PATIENCE, kept_value, relative_rounding, shown_by_gradients
from .shared._lengths import natural_length


class State(NamedTuple):
    """Carried from step to step: the accepted point's value and gradient, the conjugate gradients, the radius.

    ``ledger`` holds the radius, the squared norm of the residual, the number of products in this iteration, the
    smallest error so far and the number of accepted points since the last gain, as one vector.
    """

    error: Scalar
    value: Any
    gradient: Tree
    solving: Any
    move: Tree
    residual: Tree
    direction: Tree
    ledger: Any
    scales: Any
    status: Any


@solver
class TrustRegionNewtonCG(Solver):
    r"""Newton's method in a trust region, by truncated conjugate gradients (Steihaug).

    .. math::
        \begin{aligned}
        \min_z\ & m(z) = g^\top z + \tfrac12 z^\top H z \quad \text{over} \quad \|z\|_2 \le \Delta, \qquad (1) \\
        z &\leftarrow z + \alpha d, \quad r \leftarrow r + \alpha H d, \quad d \leftarrow -r + \beta d, \quad
        \alpha = \frac{r^\top r}{d^\top H d}, \quad \beta = \frac{r^\top r}{r_{\text{last}}^\top r_{\text{last}}},
        \qquad (2) \\
        \|r\| &= \|Hz + g\| \le \min\bigl(0.5, \sqrt{\|g\| / G}\bigr)\,\|g\|, \qquad (3) \\
        \varrho &= \frac{f(x) - f(x + z)}{-m(z)}, \qquad (4) \\
        z &\leftarrow \tau z, \qquad \tau = \frac{-g^\top z}{2 (f(x + z) - f(x) - g^\top z)} \qquad (5)
        \end{aligned}

    The move minimizes the model (1) by conjugate gradients (2), which stop at (3), with the largest norm ``G`` of a
    gradient so far, at the boundary, or along a direction of negative curvature there. The radius follows the ratio (4)
    of actual to predicted decrease; a move that is rejected is shortened (5), to a half or less but a tenth at least,
    which needs no new products. Only Hessian-vector products are computed. A step of the solver is one product or one
    evaluation of function and gradient. The error is :math:`\|\nabla f\|_2`.

    Parameters
    ----------
    radius
        The first :math:`\Delta`.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps, that is of products and evaluations together.

    References
    ----------
    Steihaug, "The conjugate gradient method and trust regions in large scale optimization", SIAM J. Numer. Anal. 1983;
    Nocedal and Yuan, "Combining trust region and line search techniques", 1998.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> rosenbrock = dini.Minimize(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    >>> print(dini.solve(rosenbrock, dini.TrustRegionNewtonCG(), jnp.zeros(2)).x.round(2))
    [1. 1.]
    """

    radius: Any = None
    max_steps: int = field(default=5000, metadata={"static": True})

    superlinear = True
    monotone = True
    adaptive = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("TrustRegionNewtonCG's radius", self.radius)

    def init(self, problem: Any, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        inf, zero = infinity(x), trees.zeros_like(x)
        ledger = jnp.stack([inf, *[jnp.zeros_like(inf)] * 2, inf, jnp.zeros_like(inf)])
        return State(inf, inf, zero, jnp.zeros((), bool), zero, zero, zero, ledger, _scales.unknown(x), running())

    def step(self, problem: Any, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Compute one product of the conjugate gradients, or evaluate the function at the move that they found."""
        return jax.lax.cond(
            state.solving,
            lambda: (x, self._product(problem, x, state, args)),
            lambda: self._evaluate(problem, x, state, args),
        )

    def _product(self, problem: Any, x: Tree, state: State, args: tuple[Tree, ...]) -> State:
        """Take one iteration of the conjugate gradients."""
        radius, squared, count, *rest = state.ledger
        d, z = state.direction, state.move
        product = jax.jvp(lambda u: problem.gradient(u, *args), (x,), (d,))[1]
        finite = trees.all_finite(product)
        product = trees.where(finite, product, trees.zeros_like(product))
        dot = lambda a, b: trees.vdot(a, b).astype(radius.dtype)
        curvature, zd, dd, zz = dot(d, product), dot(z, d), dot(d, d), dot(z, z)
        bends = curvature > 0
        # how far it is along d to the boundary
        room = jnp.maximum(radius**2 - zz, 0)
        reach = room / (zd + jnp.sqrt(jnp.maximum(zd**2 + dd * room, jnp.finfo(radius.dtype).tiny)))
        reach = jnp.where(dd > 0, reach, 0)
        # (2): alpha = plain, r'r = squared
        plain = squared / jnp.where(bends, curvature, 1)
        boundary = ~bends | (plain >= reach)
        # As in other methods the coefficients are constants of differentiation: the derivative follows the recurrence.
        length = jax.lax.stop_gradient(jnp.where(boundary, reach, plain))
        move, residual = trees.axpy(length, d, z), trees.axpy(length, product, state.residual)
        new = dot(residual, residual)
        size = jnp.sqrt(dot(state.gradient, state.gradient))
        # (3): as exactly as the gradient is small beside the largest one, so that convergence is superlinear
        steepest = _scales.Scales(*state.scales).steepest
        share = jnp.sqrt(size / jnp.where(steepest > 0, steepest, 1))
        done = boundary | (jnp.sqrt(new) <= jnp.minimum(0.5, share) * size) | (count + 1 >= trees.size(x))
        # (2): beta = growth
        growth = jax.lax.stop_gradient(new / jnp.where(squared > 0, squared, 1))
        return state._replace(
            solving=~done,
            move=move,
            residual=residual,
            direction=trees.axpy(growth, d, trees.neg(residual)),
            ledger=jnp.stack([radius, new, count + 1, *rest]),
        )

    def _evaluate(self, problem: Any, x: Tree, state: State, args: tuple[Tree, ...]) -> tuple[Any, State]:
        """Judge the move, and begin the next conjugate gradients or shorten it."""
        radius, squared, count, best, idle = state.ledger
        dtype = radius.dtype
        dot = lambda a, b: trees.vdot(a, b).astype(dtype)
        trial = trees.add(x, state.move)
        value, gradient = problem.value_and_gradient(trial, *args)
        value, new = value.astype(dtype), dot(gradient, gradient)
        size = trees.sqrt(new)
        first, eps = jnp.isinf(state.value), trees.eps(x)
        slack = jnp.where(first, 0, relative_rounding(state.value))
        slope = dot(state.gradient, state.move)
        change = trees.sub(state.residual, state.gradient)
        # (4): -m(z) = predicted, H z = change
        predicted = -(slope + 0.5 * dot(state.move, change))
        # near the rounding error of the values the ratio tends to one
        actual = state.value - value
        ratio = (actual + slack) / jnp.maximum(predicted + slack, jnp.finfo(dtype).tiny)
        shown = ~first & shown_by_gradients(state.value, value, predicted, state.error, size)
        ratio = jnp.where(shown, jnp.maximum(ratio, 1), ratio)
        finite = jnp.isfinite(value) & jnp.isfinite(size)
        accept = first | (finite & (ratio > 1e-4))
        length = trees.norm(state.move).astype(dtype)
        grown = jnp.where(length > 0.9 * radius, 2.5 * radius, radius)
        # (5): a rejected move is shortened to the minimizer of a parabola; NaN and infinity give a tenth
        parabola = -0.5 * slope / (value - state.value - slope)
        shorter = jnp.where((parabola > 0.1) & (parabola < 0.5), parabola, jnp.where(parabola >= 0.5, 0.5, 0.1))
        shorter = jax.lax.stop_gradient(shorter)
        radius = jnp.where(ratio > 0.75, grown, jnp.where(ratio < 0.25, 0.5 * length, radius))
        radius = jnp.where(accept, radius, shorter * length)
        extent = _scales.norm(trial).astype(dtype)
        # a first move to zero would end where an even function is stationary, be it a maximum
        start = 0.93 * natural_length(value, extent, size) if self.radius is None else jnp.asarray(self.radius, dtype)
        radius = jax.lax.stop_gradient(jnp.where(first, start, radius)).astype(dtype)
        y = trees.sub(gradient, state.gradient)
        pair = length**2, jnp.where(first, 0, dot(y, y))
        each = _scales.elements(trial, gradient, state.move, y)
        scales = _scales.learned(state.scales, accept, *pair, extent, size, eps, dot(state.move, y), each=each)

        gain = (actual > slack) | (size < 0.99 * best)
        idle = jnp.where(accept, jnp.where(gain, 0, idle + 1), idle)
        best = jnp.where(accept, jnp.minimum(best, size), best)
        error = jnp.where(accept, size, state.error)
        tiny = ~accept & (length <= 1e-2 * eps * trees.norm(x))
        ends = {"status": state.status, "accept": accept, "stalled": idle >= PATIENCE, "tiny": tiny}
        status = _scales.ending(scales, (value, extent, error), eps, **ends)
        kept = State(
            jnp.where(first & ~finite, jnp.nan, error),
            jnp.where(accept, kept_value(state.value, value, slack), state.value),
            trees.where(accept, gradient, state.gradient),
            accept,
            trees.where(accept, trees.zeros_like(x), trees.scale(shorter, state.move)),
            trees.where(accept, gradient, trees.axpy(shorter, change, state.gradient)),
            trees.where(accept, trees.neg(gradient), state.direction),
            jnp.stack([radius, jnp.where(accept, new, squared), jnp.where(accept, 0, count), best, idle]),
            scales,
            status.astype(jnp.int32),
        )
        return trees.where(accept, trial, x), kept
