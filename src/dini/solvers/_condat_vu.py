"""Primal-dual splitting: Condat-Vu and Chambolle-Pock."""

from __future__ import annotations

import functools
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_positive
from ..conditions import curvature
from ..problems import Composite, PrimalDual
from ..trees import Scalar, Tree
from ._base import Solver, infinity, solver
from .judge import _units

#: a step size below the bound of theory by this much
_SAFE = 0.99
#: power iterations see the norm from below
_MARGIN = 1.02


class State(NamedTuple):
    """Carried from step to step: products at the point, the two constants, and the balance of the step sizes."""

    error: Scalar
    gradient: Tree
    adjoint: Any
    image: Any
    norm: Any
    smoothness: Any
    dual_step: Any
    change: Any
    scales: Any


def saddle_scales(
    scales: jax.Array, gradients: tuple[Any, ...], bottom: Any, below: Any, apart: Any, eps: Any
) -> tuple[jax.Array, Any]:
    """Return the scales of a saddle point's residuals, and their norm in units of a gradient.

    ``below`` is the residual of the gradients, which is relative to the largest of them, ``apart`` that of the images
    of the operator, which is relative to its norm times that of the point, ``bottom``: the image itself may vanish.
    """
    top = functools.reduce(jnp.maximum, [_units.norm(part) for part in gradients])
    scales, bottom = _units.of_parts(scales, top, eps), jax.lax.stop_gradient(bottom)
    top = 10 * scales[0]
    weight = jnp.where((top > 0) & (bottom > 0), top / jnp.where(bottom > 0, bottom, 1), 1)
    return scales, jnp.sqrt(below**2 + (weight.astype(apart.dtype) * apart) ** 2)


def operator_norm(problem: Composite, x: Tree, *args: Tree) -> jax.Array:
    """Estimate the norm of the operator by power iteration; a constant of differentiation."""
    square = lambda u: problem.adjoint(problem.image(u, *args), x, *args)
    offset = square(trees.zeros_like(x))
    top = curvature(lambda u: trees.sub(square(u), offset), x, iterations=30)
    return jnp.sqrt(_MARGIN * top)


@solver
class CondatVu(Solver):
    r"""The primal-dual method of Condat and Vũ for :math:`f(x) + g(x) + h(Kx)`, a :class:`dini.Composite`.

    .. math::
        \begin{aligned}
        x^+ &= \mathrm{prox}_{\tau g}\bigl(x - \tau(\nabla f(x) + K^\top y)\bigr), \qquad (1) \\
        y^+ &= \mathrm{prox}_{\sigma h^*}\bigl(y + \sigma K(2x^+ - x)\bigr), \qquad (2) \\
        1/\tau &= L/2 + \sigma\|K\|^2, \qquad (3)
        \end{aligned}

    (3) with a margin. :math:`\|K\|` is found by power iteration; :math:`L` starts as the curvature of ``f`` at the
    start and is raised where the gradient turns out to change faster; :math:`\sigma` moves until primal and dual
    residuals are of one size, relative to the gradients and the point, by less and less. The step leaves the
    subgradients

    .. math::
        \begin{aligned}
        \tfrac1\tau(x - x^+) - \nabla f(x) + \nabla f(x^+) - K^\top(y - y^+)
        &\in \partial g(x^+) + \nabla f(x^+) + K^\top y^+, \qquad (4) \\
        \tfrac1\sigma(y - y^+) - K(x - x^+) &\in \partial h^*(y^+) - Kx^+ . \qquad (5)
        \end{aligned}

    The error is the norm of (4) and ``w`` times (5) together, where ``w`` is the size of the gradients over that of
    :math:`Kx`, so that both are in units of a gradient. Its scale is the size of the gradients.

    A step costs one gradient of ``f``, one product with ``K`` and one with its adjoint, and no linear system.

    Parameters
    ----------
    dual_step
        :math:`\sigma` at the start. Default: :math:`L / \|K\|^2` with the curvature of ``f``, :math:`1/\|K\|` without.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Condat, "A primal-dual splitting method for convex optimization involving Lipschitzian, proximable and linear
    composite terms", J. Optim. Theory Appl. 2013; Vũ, "A splitting algorithm for dual monotone inclusions involving
    cocoercive operators", Adv. Comput. Math. 2013; Goldstein, Li, Yuan, "Adaptive primal-dual splitting methods",
    NeurIPS 2015 (the balance).

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Composite(
    ...     lambda x, a: 0.5 * jnp.sum((x - a) ** 2), dini.penalties.L1(0.5), jnp.array([[1.0, -1.0]])
    ... )
    >>> a = jnp.array([0.0, 3.0])
    >>> print(dini.solve(problem, dini.CondatVu(), problem.start(a, a), a).x.primal.round(3))
    [0.5 2.5]
    """

    dual_step: Any = None
    max_steps: int = field(default=20000, metadata={"static": True})

    solves = (Composite,)
    composite = True
    gradient_only = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive(f"{self.name}'s dual_step", self.dual_step)

    def init(self, problem: Composite, x: PrimalDual, *args: Tree) -> State:
        """Return the state before the first step."""
        inf = infinity(x)
        primal = x.primal
        norm = operator_norm(problem, primal, *args).astype(inf.dtype)
        smoothness = jnp.zeros_like(inf)
        if problem.smooth:
            smoothness = curvature(lambda u: problem.smooth_gradient(u, *args), primal).astype(inf.dtype)
        # in units of the dual over those of the operator's image
        flat = 1 / jnp.where(norm > 0, norm, 1)
        sigma = jnp.where(smoothness > 0, smoothness * flat**2, flat) if self.dual_step is None else self.dual_step
        return State(
            inf,
            problem.smooth_gradient(primal, *args),
            problem.adjoint(x.dual, primal, *args),
            problem.image(primal, *args),
            norm,
            _MARGIN * smoothness,
            jnp.asarray(sigma, inf.dtype),
            jnp.full_like(inf, 0.5),
            _units.Units.unknown(x),
        )

    def step(self, problem: Composite, x: PrimalDual, state: State, *args: Tree) -> tuple[PrimalDual, State]:
        """Take one step."""
        dtype = state.error.dtype
        sigma, smoothness = state.dual_step, state.smoothness
        # (3): L = smoothness, |K| = norm
        tau = _SAFE / jnp.maximum(smoothness / 2 + sigma * state.norm**2, jnp.finfo(dtype).tiny)
        slope = trees.add(state.gradient, state.adjoint)
        # (1): x^+ = primal
        primal = problem.inner_prox(trees.axpy(-tau, slope, x.primal), tau)
        image = problem.image(primal, *args)
        # (2): K (2 x^+ - x) = ahead, y^+ = dual
        ahead = trees.sub(trees.scale(2, image), state.image)
        dual = problem.conjugate_prox(trees.axpy(sigma, ahead, x.dual), sigma)

        gradient = problem.smooth_gradient(primal, *args)
        adjoint = problem.adjoint(dual, primal, *args)
        move, change = trees.sub(x.primal, primal), trees.sub(state.gradient, gradient)
        # (4) = left, (5) = below
        left = trees.sub(trees.scale(1 / tau, move), trees.add(change, trees.sub(state.adjoint, adjoint)))
        below = trees.sub(trees.scale(1 / sigma, trees.sub(x.dual, dual)), trees.sub(state.image, image))
        p, d = trees.norm(left).astype(dtype), trees.norm(below).astype(dtype)

        distance = trees.norm(move)
        seen = jnp.where(distance > 0, trees.norm(change) / jnp.where(distance > 0, distance, 1), 0)
        # changes as small as rounding say nothing about a curvature
        seen = jnp.where(distance > 1e2 * trees.eps(primal) * trees.norm(primal), seen, 0)
        smoothness = jnp.where(seen > smoothness, _MARGIN * seen, smoothness)
        # relative to the sizes of the gradients and of the point, so that units do not count
        norm = jnp.where(state.norm > 0, state.norm, 1)
        top, bottom = jnp.maximum(trees.norm(gradient) / norm, trees.norm(dual)), trees.norm(primal)
        known = (top > 0) & (bottom > 0)
        scale = jnp.where(known, top / jnp.where(known, bottom, 1), norm)
        primal_large, dual_large = p > 2 * d * scale, d * scale > 2 * p
        # where the curvature of f is what bounds the primal step, a shorter dual one does not lengthen it
        primal_large = primal_large & (sigma * state.norm**2 > 0.1 * smoothness)
        factor = jnp.where(primal_large, 1 - state.change, jnp.where(dual_large, 1 / (1 - state.change), 1))
        shrink = jnp.where(primal_large | dual_large, 0.95, 1.0)
        constants = jax.lax.stop_gradient(
            (
                state.norm,
                smoothness.astype(dtype),
                (sigma * factor).astype(dtype),
                (state.change * shrink).astype(dtype),
            )
        )
        scales, error = saddle_scales(
            state.scales, (gradient, adjoint), norm * trees.norm(primal), p, d, trees.eps(primal)
        )
        return PrimalDual(primal, dual), State(error.astype(dtype), gradient, adjoint, image, *constants, scales)

    def differentiable_step(self, problem: Composite, x: PrimalDual, state: State, *args: Tree) -> PrimalDual:
        """Return one plain step."""
        slope, image = problem.smooth_gradient(x.primal, *args), problem.image(x.primal, *args)
        here = state._replace(gradient=slope, adjoint=problem.adjoint(x.dual, x.primal, *args), image=image)
        return self.step(problem, x, here, *args)[0]


@solver
class ChambollePock(CondatVu):
    r"""The primal-dual method of Chambolle and Pock for :math:`g(x) + h(Kx)`.

    This is :class:`CondatVu` for problems without a smooth part, ``dini.Composite(None, ...)``.

    References
    ----------
    Chambolle and Pock, "A first-order primal-dual algorithm for convex problems with applications to imaging", J. Math.
    Imaging Vis. 2011.

    Examples
    --------
    The point of a segment with the smallest 1-norm of :math:`x - a`:

    >>> import dini, jax.numpy as jnp
    >>> distance = dini.penalties.Shifted(dini.penalties.L1(1.0), jnp.array([2.0, 1.0]))
    >>> problem = dini.Composite(None, distance, constraint=dini.sets.Box(0.0, 0.5))
    >>> print(dini.solve(problem, dini.ChambollePock(), problem.start(jnp.zeros(2))).x.primal)
    [0.5 0.5]
    """

    def check(self, problem: Composite, x: Tree) -> None:
        """Raise unless the problem has no smooth part."""
        super().check(problem, x)
        if problem.smooth:
            raise TypeError(f"ChambollePock has no step for the smooth part of {problem.name}. Use CondatVu.")
