r"""Whether a point is a solution of a least-squares problem, whatever the solver: a step of Gauss and Newton.

From a point ``x`` with the residuals ``r`` and their Jacobian ``J`` it predicts the decrease

.. math:: \tfrac12 \|P r\|^2, \qquad P = J (J^\top J)^{-1} J^\top ,

whatever the units of unknowns and residuals are. The gradient, :math:`J^\top r`, can be small compared with everything
that a method of gradients sees, and this be nearly all of the value: in the valley of Meyer's problem, say.

A prediction is no proof: of residuals that vanish it is all that is left of the value, however right the point is. A
point is refused where two things hold. The step ``p`` is longer than the tolerance, in units :math:`c_i`, the norms of
the Jacobian's columns, in which it does not matter how unknowns are measured,

.. math:: \max_i c_i |p_i| > 10\, \text{rtol} \max\bigl(\|c \circ x\|, \epsilon^{1/4} \|c \circ x_0\|\bigr),

with the start :math:`x_0`. And a point on its way, :math:`x + 4^{-k} p`, is lower by a share of ``rtol`` and by more
than the rounding of the value, where residuals are known to :math:`\epsilon \|c \circ x\|`.

**No minimum.** Residuals that level off have a gradient that vanishes, at no minimum. Let ``v`` be the way from the
start of the unknowns that have grown a hundredfold. The sum of squares has no minimum there if it falls along this way
as a whole, to :math:`\epsilon^{5/8}` of that not in its last quarter, and up to rounding

.. math:: f(x + 2^k v) \le f(x), \qquad k = 0, \dots, 23 .

A minimum that is far away has a quarter of the way that leads down to it, or a rise behind it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..linear._materialize import images
from ..linear._small import positive_definite_solver
from ..problems import LeastSquares, Minimize
from ..protocols import AnyProblem, AnySolver
from ..scaling import linearized
from ..sets._boxes import bounds_of, has_bounds
from ..status import Status
from ..trees import Tree
from ..trees.products import dot, summed
from ._minimum import DOUBLINGS, ROUNDING

#: units of rounding that a step may predict from a point that is a solution, and from one where steps fail
NEARLY_NOTHING, PROMISE = 5, 10
#: a step is longer than the tolerance where it is so many times as long
TOLERANCES = 10
#: the residuals of two points differ by so many units of rounding without a meaning
BLUR = 3
#: shares of the step at which the value is asked for
SHARES = tuple(0.25**k for k in range(6))
#: unknowns have grown where they are so many times as large as at the start
GROWN = 100
#: the power of rounding that is the share of a gain that counts as nothing
NOTHING = 0.625
#: unknowns of so many numbers are looked at with a matrix
FEW = 64


def promised_beyond(u: Tree, start: Any, promised: Any, norms: Any, value: Any, rtol: Any) -> Any:
    r"""Return what decrease a Gauss-Newton step still predicts: its length in residuals, in units of their rounding.

    Whatever the units of unknowns and residuals are, the step predicts to take a share of the value that is the square
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
    """Return the status of an end at ``x``.

    In place of ``CONVERGED`` it is ``DIVERGED`` where the residuals level off without a minimum, and ``NO_MINIMUM``
    where a step leads to a lower point. The second is for solvers that see no residuals; the others see it on their
    way. Of sums of a robust loss, of sets that are not bounds, of many unknowns, and of residuals without forward mode
    or with a loop of unknown length a step shows nothing.
    """
    if not isinstance(problem, LeastSquares):
        return claimed
    flat, unravel = ravel_pytree(x)
    bounded = problem.constraint is not None
    if jnp.isrealobj(flat) and not bounded:
        claimed = _with_a_minimum(problem, start, x, claimed, args)
    if Minimize not in solver.solves:
        return claimed
    if problem.loss is not None or flat.size > FEW or not jnp.isrealobj(flat):
        return claimed
    if bounded and not has_bounds(problem.constraint):
        return claimed
    start, u, args = jax.lax.stop_gradient((start, flat, args))

    def residuals(v: Any) -> Any:
        return jnp.asarray(ravel_pytree(problem.residuals(unravel(v), *args))[0], u.dtype)

    if linearized(residuals, u) is None:
        return claimed

    def refused() -> Any:
        r, push = jax.linearize(residuals, u)
        columns = images(push, u)
        gradient = dot(columns, r)
        bounds = None
        if bounded:  # what a bound stops predicts no decrease
            low, high = bounds = tuple(ravel_pytree(bound)[0] for bound in bounds_of(problem.constraint, x))
            columns = jnp.where((((u <= low) & (gradient > 0)) | ((u >= high) & (gradient < 0)))[:, None], 0, columns)
        norms = jnp.sqrt(jnp.sum(columns**2, axis=1))
        columns = columns / jnp.where(norms > 0, norms, 1)[:, None]
        # directions of which the Jacobian knows nothing stay where they are
        shift = (u.size + 1) * jnp.finfo(u.dtype).eps * jnp.eye(u.size, dtype=u.dtype)
        slope = dot(columns, r)
        step = -positive_definite_solver(dot(columns, columns.T) + shift)(slope)
        value = lambda v: problem.value(unravel(v), *args).astype(u.dtype)
        first, here = problem.value(start, *args).astype(u.dtype), 0.5 * summed(r**2)
        units = promised_beyond(u, first, -0.5 * dot(slope, step), norms, here, rtol)
        move = jnp.where(norms > 0, step / jnp.where(norms > 0, norms, 1), 0)
        far = jnp.max(jnp.abs(step), initial=0) > TOLERANCES * rtol * _size(u, ravel_pytree(start)[0], norms)
        return ~(units <= PROMISE) & far & _is_lower(value, u, move, bounds, here, norms, rtol)

    asks = (claimed == Status.CONVERGED) & trees.all_finite(x) & (jnp.asarray(rtol) > 0)
    no = jax.lax.cond(asks, refused, lambda: jnp.zeros((), bool))
    return jnp.where(no, Status.NO_MINIMUM, claimed).astype(jnp.int32)


def _with_a_minimum(problem: LeastSquares, start: Tree, x: Tree, claimed: Any, args: tuple[Tree, ...]) -> Any:
    """Return the status of an end, ``DIVERGED`` where the way that has led there leads on and on without a rise."""
    flat, unravel = ravel_pytree(x)
    u, before, args = jax.lax.stop_gradient((flat, ravel_pytree(start)[0], args))
    eps = jnp.finfo(u.dtype).eps
    size = jnp.where(before != 0, jnp.abs(before), trees.max_abs(before))
    grown = (size > 0) & (jnp.abs(u) > GROWN * size)
    way = jnp.where(grown, u - before, 0)

    def look(now: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
        k, goes, here, whole = now
        share = jnp.where(k == 0, 0, jnp.where(k == 2, -0.25, jnp.exp2((k - 3).astype(u.dtype))))
        point = jnp.where((k == 1) & grown, before, u + jnp.where(k == 1, 0, share) * way)
        f = problem.value(unravel(point), *args).astype(u.dtype)
        here, whole = jnp.where(k == 0, f, here), jnp.where(k == 1, f, whole)
        beside = jnp.maximum(jnp.abs(f), jnp.abs(here))
        nothing = jnp.where(k == 2, eps**NOTHING * (whole - here), ROUNDING * eps * beside)
        rises = ~(f - here <= nothing)  # so does what is no number
        return k + 1, goes & ((k == 0) | (rises == (k == 1))), here, whole

    asks = (claimed == Status.CONVERGED) & jnp.any(grown) & jnp.all(jnp.isfinite(u))
    none = jnp.zeros((), u.dtype)
    begin = jnp.zeros((), jnp.int32), asks, none, none
    _, unbounded, _, _ = jax.lax.while_loop(lambda now: now[1] & (now[0] < DOUBLINGS + 3), look, begin)
    return jnp.where(unbounded, Status.DIVERGED, claimed).astype(jnp.int32)


def _size(u: Any, start: Any, norms: Any) -> Any:
    """Return the size of a point in units of the columns' norms; of one that is zero, a share of the start's."""
    length = lambda v: jnp.sqrt(summed((norms * v) ** 2))
    return jnp.maximum(length(u), jnp.finfo(u.dtype).eps ** 0.25 * length(start))


def _is_lower(value: Any, u: Any, move: Any, bounds: Any, here: Any, norms: Any, rtol: Any) -> Any:
    """Return whether a point on the way of a step is lower by more than the tolerance and the value's rounding."""
    shares = jnp.asarray(SHARES, u.dtype)

    def at(share: Any) -> Any:
        point = u + share * move
        return value(point if bounds is None else jnp.clip(point, *bounds))

    unit = BLUR * jnp.finfo(u.dtype).eps * jnp.sqrt(summed((norms * u) ** 2))
    nothing = rtol * here + unit * (jnp.sqrt(2 * here) + 0.5 * unit)
    # what is no number is not lower, and hides no other
    return jnp.any(here - jax.lax.map(at, shares) > nothing)
