r"""What a claim to have solved a least-squares problem must stand, whatever the solver: a step of Gauss and Newton.

From a point ``x`` with the residuals ``r`` and their Jacobian ``J`` it promises the decrease

.. math:: \tfrac12 \|P r\|^2, \qquad P = J (J^\top J)^{-1} J^\top ,

whatever the units of unknowns and residuals are. The gradient, :math:`J^\top r`, can be small beside everything that a
method of gradients sees, and this be nearly all of the value: in the valley of Meyer's problem, say.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from . import trees
from .linear._materialize import images
from .linear._small import positive_definite_solver
from .problems import LeastSquares, Minimize
from .protocols import AnyProblem, AnySolver
from .scaling import linearized
from .sets._boxes import bounds_of, has_bounds
from .status import Status
from .trees import Tree
from .trees.products import dot, summed

#: units of rounding that a step may promise from a point that is a solution, and from one where steps fail
NEARLY_NOTHING, PROMISE = 5, 10
#: unknowns of so many numbers are looked at with a matrix
FEW = 64


def promised_beyond(u: Tree, start: Any, promised: Any, norms: Any, value: Any, rtol: Any) -> Any:
    r"""Return what a Gauss-Newton step still promises: its length in residuals, in units of their rounding.

    Whatever the units of unknowns and residuals are, the step promises to take a share of the value that is the square
    of the cosine between the residuals and the range of the Jacobian. A share of ``rtol`` is nothing, so that it is
    zero. Residuals that vanish are in that range to the end, until they are rounding: :math:`\epsilon` times what they
    are made of, the sizes of the unknowns times the ``norms`` of the columns. So is what is left of the residuals of
    the ``start`` (a value), of which the Jacobian may have lost sight at a singular solution. In place of
    :math:`\epsilon` stands the square of ``rtol`` where that is more: by so much a step is off from a point that is off
    by ``rtol``. Nothing here grows with the error on the way: a scale that does forgives anything.
    """
    u, start, promised, norms, value = jax.lax.stop_gradient((u, start, promised, norms, value))
    eps = jnp.finfo(u.dtype).eps
    digits = jnp.maximum(eps, rtol**2)
    unit = digits * jnp.sqrt(summed((norms * u) ** 2))
    length = jnp.sqrt(2 * jnp.maximum(promised, 0))
    units = jnp.where(unit > 0, length / jnp.where(unit > 0, unit, 1), jnp.inf)
    nothing = jnp.maximum(jnp.maximum(rtol, eps) * value, digits**2 * jnp.abs(start))
    return jnp.where(promised <= nothing, 0, units).astype(u.dtype)


def status(
    problem: AnyProblem, solver: AnySolver, rtol: Any, start: Tree, x: Tree, claimed: Any, args: tuple[Tree, ...]
) -> Any:
    """Return the status of an end at ``x``: ``NO_MINIMUM`` in place of a claim from where a step promises more.

    Solvers of residuals ask the same at every claim on their way. Of sums of a robust loss, of sets that are not
    bounds, of many unknowns, and of residuals without forward mode or with a loop of unknown length nothing is seen.
    """
    if not isinstance(problem, LeastSquares) or Minimize not in solver.solves:
        return claimed
    flat, unravel = ravel_pytree(x)
    bounded = problem.constraint is not None
    if problem.loss is not None or flat.size > FEW or not jnp.isrealobj(flat):
        return claimed
    if bounded and not has_bounds(problem.constraint):
        return claimed
    start, u, args = jax.lax.stop_gradient((start, flat, args))

    def residuals(v: Any) -> Any:
        return jnp.asarray(ravel_pytree(problem.residuals(unravel(v), *args))[0], u.dtype)

    if linearized(residuals, u) is None:
        return claimed

    def left() -> Any:
        r, push = jax.linearize(residuals, u)
        columns = images(push, u)
        gradient = dot(columns, r)
        if bounded:  # what a bound stops promises nothing
            low, high = (ravel_pytree(bound)[0] for bound in bounds_of(problem.constraint, x))
            columns = jnp.where((((u <= low) & (gradient > 0)) | ((u >= high) & (gradient < 0)))[:, None], 0, columns)
        norms = jnp.sqrt(jnp.sum(columns**2, axis=1))
        columns = columns / jnp.where(norms > 0, norms, 1)[:, None]
        # directions of which the Jacobian knows nothing stay where they are
        shift = (u.size + 1) * jnp.finfo(u.dtype).eps * jnp.eye(u.size, dtype=u.dtype)
        slope = dot(columns, r)
        step = positive_definite_solver(dot(columns, columns.T) + shift)(slope)
        first = problem.value(start, *args).astype(u.dtype)
        return promised_beyond(u, first, 0.5 * dot(slope, step), norms, 0.5 * summed(r**2), rtol)

    asks = (claimed == Status.CONVERGED) & trees.all_finite(x) & (jnp.asarray(rtol) > 0)
    more = ~(jax.lax.cond(asks, left, lambda: jnp.zeros((), u.dtype)) <= PROMISE)
    return jnp.where(asks & more, Status.NO_MINIMUM, claimed).astype(jnp.int32)
