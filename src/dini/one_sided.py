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
from .problems import FixedPoint, check_unknown
from .solve import Problem, solve
from .solvers import FixedPointIteration
from .status import OnFailure

__all__ = ["one_sided_jvp"]


def one_sided_jvp(
    problem: Problem,
    x: Any,
    args: tuple[Any, ...],
    tangents: tuple[Any, ...],
    *,
    max_steps: int = 10_000,
    on_failure: OnFailure = "raise",
) -> Any:
    r"""Return the one-sided derivative of a solution along tangents of the problem's arguments.

    For a problem with a constraint or penalty, whose solution is the fixed point :math:`x = T(x, \theta)` of the
    proximal gradient map, the directional derivative :math:`d = \lim_{s \downarrow 0} (x(\theta + s t) - x(\theta)) /
    s` is the fixed point of

    .. math:: d = T'\bigl((x, \theta);\, (d, t)\bigr),

    with the one-sided derivative of the map on the right, taken by a difference quotient with the step
    :math:`\sqrt\epsilon` (exact up to rounding for piecewise linear operators: bounds, simplices, the 1-norm). The
    equation is iterated. Where the solution is differentiable, this is the ordinary derivative.

    Parameters
    ----------
    problem
        A :class:`dini.Minimize`.
    x
        A solution.
    args, tangents
        The problem's arguments and their tangents. The opposite tangents give the derivative from the other side.
    max_steps
        Of the iteration, which converges like the proximal gradient method.
    on_failure
        What to do where the iteration does not converge.

    Returns
    -------
    Any
        A tree like ``x``, correct to about :math:`\sqrt\epsilon`. It is not itself differentiable.

    Raises
    ------
    SolveError
        Where the iteration does not converge.
    TypeError
        Where the problem is not a minimization.

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
    x = check_unknown(x, "x")
    if jax.tree.structure(args) != jax.tree.structure(tangents):
        raise TypeError(
            f"tangents must have the structure of args: given {jax.tree.structure(tangents)}, "
            f"needed {jax.tree.structure(args)}."
        )
    problem = problem.closed(x, *args)
    condition = ProximalGradient().at(problem, x, *args)
    root = trees.eps(x) ** 0.5
    size = jnp.maximum(trees.norm([jnp.asarray(t) for t in jax.tree.leaves(tangents) if trees.is_inexact(t)]), root)
    step = root / size

    def moved(d: Any, s: Any) -> Any:
        along = jax.tree.map(
            lambda a, t: a + (s * jnp.asarray(t)).astype(jnp.asarray(a).dtype) if trees.is_inexact(a) else a,
            args,
            tangents,
        )
        u = trees.axpy(s, d, x)
        return trees.sub(u, condition(problem, u, *along))

    def directional(d: Any) -> Any:
        change = trees.sub(moved(d, step), moved(d, 0.0))
        return trees.scale(1 / step, change)

    # the difference quotient is known to about this much
    tol = 30 * root * jnp.maximum(size, 1)
    solver = FixedPointIteration(tol=tol, max_steps=max_steps)
    return solve(FixedPoint(directional), solver, trees.zeros_like(x), on_failure=on_failure).x
