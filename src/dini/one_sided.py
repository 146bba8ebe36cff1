r"""One-sided derivatives of solutions at kinks.

Where a solution sits at a kink, its directional derivative exists (for a strongly convex smooth part) but is not linear
in the direction.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from . import trees
from .conditions import ProximalGradient
from .entry import Problem
from .problems import FixedPoint, NonlinearProgram, check_unknown
from .protocols import AnyProblem, Composed
from .solvers import Newton
from .solving import solve
from .status import OnFailure
from .trees import Tree

__all__ = ["one_sided_jvp"]


def one_sided_jvp(
    problem: Problem,
    x: Tree,
    args: tuple[Tree, ...],
    tangents: tuple[Any, ...],
    *,
    max_steps: int = 200,
    on_failure: OnFailure = "raise",
) -> Any:
    r"""Return the one-sided derivative of a solution along tangents of the problem's arguments.

    For a problem with a constraint or penalty, whose solution is the fixed point :math:`x = T(x, \theta)` of the
    proximal gradient map, the directional derivative :math:`d = \lim_{s \downarrow 0} (x(\theta + s t) - x(\theta)) /
    s` is the fixed point of

    .. math:: d = T'\bigl((x, \theta);\, (d, t)\bigr) .

    The gradient step inside ``T`` is differentiated as it is. The one-sided derivative of the proximal operator at its
    argument ``v`` is its derivative at :math:`v + s \dot v` along :math:`\dot v`, on the side of the kink to which the
    argument moves, with ``s`` small compared with what is known of ``v`` (exact for piecewise linear operators: bounds,
    simplices, the 1-norm). The equation is piecewise linear and is solved by Newton's method. Where the solution is
    differentiable, this is the ordinary derivative.

    Parameters
    ----------
    problem
        A :class:`dini.Minimize`.
    x
        A solution.
    args, tangents
        The problem's arguments and their tangents. The opposite tangents give the derivative from the other side.
    max_steps
        Of Newton's method: the pieces that it goes through.
    on_failure
        What to do where it does not converge.

    Returns
    -------
    Any
        A tree like ``x``. It is not itself differentiable.

    Raises
    ------
    SolveError
        If Newton's method does not converge, as where the derivative is not unique.
    TypeError
        If the problem is not a minimization.

    References
    ----------
    Bolte, Le, Pauwels, Silveti-Falls, "Nonsmooth Implicit Differentiation for Machine Learning and Optimization",
    NeurIPS 2021 (arXiv 2106.04350).

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, p: jnp.sum((x - p) ** 2), constraint=dini.sets.NonNegative())
    >>> at = (jnp.zeros(1), (jnp.zeros(1),))
    >>> print(dini.one_sided_jvp(problem, *at, (jnp.ones(1),)), -dini.one_sided_jvp(problem, *at, (-jnp.ones(1),)))
    [1.] [0.]
    """
    if not hasattr(problem, "prox"):
        raise TypeError(
            f"one_sided_jvp needs a minimization: given {problem.name}. Roots and fixed points have no prox."
        )
    if isinstance(problem, NonlinearProgram):
        raise TypeError(f"one_sided_jvp takes no nonlinear programs yet: given {problem.name}.")
    x = check_unknown(x, "x")
    along = trees.tangents_of(args, tangents)
    # the derivative is positively homogeneous: with unit tangents, tolerances mean the same for all of them
    size = trees.max_abs(along)
    unit = jnp.where(size > 0, size, 1)
    solver = Newton(tol=trees.eps(x) ** 0.75, max_steps=max_steps)
    given = (problem, x, _step_size(problem, x, args), args, trees.scale(1 / unit, along))
    d = solve(FixedPoint(_directional), solver, trees.zeros_like(x), *given, on_failure=on_failure).x
    return trees.scale(unit, d)


@jax.jit
def _step_size(problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> jax.Array:
    return ProximalGradient().at(problem.closed(x, *args), x, *args).step_size


def _directional(d: Any, problem: Composed, x: Tree, eta: Any, args: tuple[Tree, ...], along: list[Any]) -> Any:
    """Return the one-sided derivative of the proximal gradient map at ``(x, args)`` along ``(d, along)``."""
    moving, merge = trees.parted(args, trees.is_inexact)
    v, dv = jax.jvp(lambda u, some: problem.prox_argument(u, eta, *merge(some)), (x, moving), (d, along))
    reach, speed = trees.max_abs(v), trees.max_abs(dv)
    # further than the rounding errors of the argument, and otherwise as near as possible
    near = trees.eps(x) ** (2 / 3) * jnp.where(reach > 0, reach, 1) / jnp.where(speed > 0, speed, 1)
    beside = trees.axpy(jax.lax.stop_gradient(near), dv, v)
    return jax.jvp(lambda y: problem.prox(y, eta), (beside,), (dv,))[1]
