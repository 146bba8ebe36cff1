r"""What the steps so far show of a problem's units: the one place where the stopping tests get theirs.

A stopping test that compares a gradient with a number takes the answer for one of another problem as soon as somebody
measures in other units. What counts is the error of the solution beside the size of the solution,

.. math:: \|x - x^\star\| \le \text{rtol} \cdot X .

Let ``g`` be what vanishes at a solution: a gradient, a projected one, a residual. With a change ``y`` of it along a
step ``s``, an error of size :math:`X` would show as :math:`\|g\| \approx X \|y\| / \|s\|`. So the test is

.. math:: \|g\| \le \text{rtol} \cdot \tfrac{1}{10} X / \tau, \qquad \tau = \max \|s\| / \|y\| ,

where the maximum over the steps finds the directions of little curvature: there a small gradient means least. It is
forgotten as the fourth root of the smallest error so far falls: what was seen far away means less. The tenth is
a margin: the least curvature may lie along no step. Multiplying the function or the unknown by a constant multiplies
both sides by the same number.

**The size of the solution** is :math:`X = \max(\|x\|, \epsilon^{1/4} \max_k \|x_k\|)`: where the solution is zero, the
way to it says what is small.

**The floor of rounding**: moving ``x`` by a few units in its last place changes ``g`` by about
:math:`\epsilon \|x\| \max \|y\| / \|s\|`. What is below cannot be made smaller, and counts as converged.

**Unlike units**: where a step of the whole point sees nothing of one element, because another is a million times
larger, the test above is met while that one is wrong. What does not depend on the units of the elements is
:math:`\sum_i |g_i x_i|`, of a gradient: what the function loses to first order where elements move by their own size.
It must be small as well, beside the curvature of such moves,

.. math:: \sum_i |g_i x_i| \le \text{rtol} \cdot W, \qquad
          W = \max \frac{(\sum_i |y_i x_i|)^2}{\sum_i |y_i s_i|} ,

with the maximum over the steps, forgotten as above. For one element ``W`` is :math:`|y_i / s_i|\, x_i^2`, and elements
that are zero do not count. In like units it asks for nothing more than the first test.

**No minimum**: where a function falls forever, as an exponential or a likelihood of separable classes does, its
gradient vanishes too. But the steps do not: where ``g`` has fallen by a factor of :math:`\epsilon` and the last step
and the one that it asks for, :math:`\tau \|g\|`, are still beyond a hundredth of ``X``, at the largest point so far,
the iterates run away. So do they where ``x`` has grown by a factor of :math:`\epsilon^{-2}`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...status import Status
from ...trees import Scalar, Tree
from ...trees.products import inner_products, vdot

#: units of rounding below which nothing is asked for
ROUNDING = 10
#: units of rounding of a gradient in which a change of it drowns
BLIND = 64
#: the power of the unit roundoff by which a first step moves the point, to see the curvature: with the square root the
#: difference of two gradients would have lost half of its digits, with this a third
PROBE = 0.4
#: a step that is longer than this share of the point is no step close to a solution
LONG = 1e-2
#: a margin for what is not seen
_MARGIN = 0.1


def drowning_share(eps: Any) -> Any:
    """Return the share of a gradient in which a change of it drowns; no more than a hundredth in half precision."""
    return min(BLIND * eps, 1e-2)


class Scales(NamedTuple):
    """What is known; carried from step to step as one small array, a constant of differentiation.

    The first two are what the loop looks at: ``scale``, which ``rtol`` multiplies, and ``floor``, below which an error
    counts as zero.
    """

    scale: Any
    floor: Any
    #: the largest inverse curvature of the last steps, and the largest curvature
    soft: Any
    stiff: Any
    #: the largest norm of a point so far, and the largest error
    extent: Any
    steepest: Any
    #: the norm of the start, or, where that is zero, of a move from there
    origin: Any
    #: the length of the last step
    moved: Any
    #: the smallest error so far
    least: Any
    #: in each element's own unit, the curvature of moves and their slope at the last point
    work: Any
    slope: Any


class Elements(NamedTuple):
    """What gradients and steps are in each element's own unit: the slope of a move, and a move's curvature."""

    slope: Any
    work: Any


def slope_of_elements(x: Tree, gradient: Tree) -> jax.Array:
    r"""Return :math:`\sum_i |g_i x_i|`."""
    dtype = trees.real_dtype(x)
    parts = jax.tree.map(lambda u, g: jnp.sum(jnp.abs(g).astype(dtype) * jnp.abs(u).astype(dtype)), x, gradient)
    return trees.total([jnp.zeros((), dtype), *jax.tree.leaves(parts)])


def elements(x: Tree, gradient: Tree, s: Tree, y: Tree) -> Elements:
    r"""Return :math:`\sum_i |g_i x_i|`, and the last step's ``W`` of above, zero where it shows none.

    The unit of an element is its size before or after the step, whichever is larger.
    """
    vectors = jax.lax.stop_gradient((x, gradient, s, y))
    dtype = trees.real_dtype(x)
    sums = [[jnp.zeros((), dtype)] * 3]
    for leaves in zip(*map(jax.tree.leaves, vectors), strict=True):
        before = jnp.abs(leaves[0] - leaves[2]).astype(dtype)
        size, g, move, change = (jnp.abs(leaf).astype(dtype) for leaf in leaves)
        sums.append([vdot(g, size), *inner_products([jnp.maximum(size, before), move], change)])
    slope, whole, bend = (trees.total(list(each)) for each in zip(*sums, strict=True))
    return Elements(slope, jnp.where(bend > 0, whole * (whole / jnp.where(bend > 0, bend, 1)), 0))


def unknown(x: Tree) -> jax.Array:
    """Return what is known before the first evaluation."""
    return jnp.zeros(len(Scales._fields), trees.real_dtype(x))


def learned(
    scales: jax.Array,
    accept: Any,
    squared: Any,
    changed: Any,
    size: Any,
    error: Scalar,
    eps: Any,
    along: Any = None,
    *,
    leaps: bool = False,
    each: Elements | None = None,
) -> jax.Array:
    r"""Return what is known after an evaluation.

    Parameters
    ----------
    scales
        What was known.
    accept
        Whether the point is taken: of others nothing is learned.
    squared, changed
        The squared norms of the step ``s`` and of the change ``y``, both zero at the first point.
    size, error
        The norms of the point and of ``g`` there.
    eps
        The unit roundoff of the unknown.
    along
        The inner product of ``s`` and ``y``, for a gradient: where it is positive,
        :math:`\|s\|^2 / s^\top y` sees little curvature better than :math:`\|s\| / \|y\|`.
    leaps
        Whether a step may be much longer than a model of the curvature says: a leap may end where a function that
        falls forever has become flat. After a long step, only a further one shows whether the point is a solution.
    each
        The same in each element's own unit, for a gradient.
    """
    old = Scales(*scales)
    given = jax.lax.stop_gradient((squared, changed, size, error))
    squared, changed, size, error = (jnp.asarray(v, scales.dtype) for v in given)
    # a change that drowns in rounding is no larger than that: the curvature is at most so much
    drowned = (drowning_share(eps) * error) ** 2
    moves = accept & (squared > 0) & jnp.isfinite(changed) & jnp.isfinite(error)
    known = moves & (changed > drowned)
    changed = jnp.maximum(changed, drowned)
    moves &= changed > 0
    inverse = jnp.sqrt(jnp.where(moves, squared, 1)) / jnp.sqrt(jnp.where(moves, changed, 1))
    longest = inverse
    if along is not None:
        along = jnp.asarray(jax.lax.stop_gradient(along), scales.dtype)
        # where curvatures of both signs cancel, this is large without a meaning
        rayleigh = squared / jnp.where(along > 0, along, 1)
        longest = jnp.where(known & (along > 0), jnp.minimum(rayleigh, 30 * inverse), inverse)
    falls = accept & jnp.isfinite(error) & ((error < old.least) | (old.least == 0))
    share = jnp.where(falls & (old.least > 0), (error / jnp.where(old.least > 0, old.least, 1)) ** 0.25, 1)
    least = jnp.where(falls, error, old.least)
    soft = jnp.where(moves, jnp.maximum(longest, share * old.soft), share * old.soft)
    stiff = jnp.where(known, jnp.maximum(1 / inverse, 0.9 * old.stiff), old.stiff)
    finite = accept & jnp.isfinite(size) & jnp.isfinite(error)
    extent = jnp.where(finite, jnp.maximum(old.extent, size), old.extent)
    steepest = jnp.where(finite, jnp.maximum(old.steepest, error), old.steepest)
    # a start at zero is left by a probe, which is short, or by a step, of which this makes more than it is
    origin = jnp.where(finite & (old.origin == 0), jnp.where(squared > 0, size / eps**PROBE, size), old.origin)
    here = jnp.maximum(size, eps**0.25 * extent)
    # curvatures are only those along the steps: the least may be less
    scale = jnp.where(soft > 0, _MARGIN * here / jnp.where(soft > 0, soft, 1), 0)
    moved = jnp.where(accept, jnp.sqrt(squared), old.moved)
    # what rounding leaves says nothing about a point from which the next step would still be long, or the last was
    short = moved <= LONG * here
    floor = jnp.where(short & (soft * error <= LONG * here), ROUNDING * eps * stiff * size, 0)
    if leaps:
        scale = jnp.where(short, scale, 0)
    work, slope = share * old.work, jnp.zeros_like(old.slope)
    if each is not None:
        slope, seen = (jnp.asarray(v, scales.dtype) for v in jax.lax.stop_gradient(each))
        work = jnp.where(known & jnp.isfinite(seen), jnp.maximum(seen, work), work)
        # as bounds of the error: it is as much smaller as the slope must be
        allowed = jnp.where((work > 0) & (slope > 0), work / jnp.where(slope > 0, slope, 1) * error, jnp.inf)
        scale, floor = jnp.minimum(scale, allowed), jnp.minimum(floor, ROUNDING * eps * allowed)
        slope = jnp.where(accept, slope, old.slope)
    scale, floor = jnp.where(accept, scale, old.scale), jnp.where(accept, floor, old.floor)
    new = Scales(scale, floor, soft, stiff, extent, steepest, origin, moved, least, work, slope)
    return jnp.stack(new).astype(scales.dtype)


def run_away(scales: jax.Array, size: Any, error: Scalar, eps: Any) -> Any:
    """Return whether the iterates run away from a point of norm ``size``, where the norm of ``g`` is ``error``."""
    now = Scales(*scales)
    long = (now.soft * error > LONG * size) & (now.moved > LONG * size)
    vanished = (error <= 2 * eps * now.steepest) & long
    farthest = (size >= 0.99 * now.extent) & (size > 0)
    return farthest & (vanished | ((now.origin > 0) & (eps**2 * size > now.origin)))


def settled(scales: jax.Array, value: Any, error: Scalar) -> Any:
    r"""Return whether the decrease that is left, :math:`\tau \|g\|^2 / 2`, drowns in the rounding of the value.

    What a long step would gain is not known by :math:`\tau`.
    """
    now = Scales(*scales)
    drowns = 10 * jnp.finfo(value.dtype).eps * jnp.abs(value)
    known = now.work > 0
    here = jnp.where(known, 0.5 * now.slope * (now.slope / jnp.where(known, now.work, 1)), 0)
    hidden = (0.5 * now.soft * error**2 <= drowns) & (here <= drowns)
    return hidden & (now.soft * error <= LONG * now.extent)


def ending(
    scales: jax.Array,
    point: tuple[Any, Any, Any],
    eps: Any,
    *,
    status: Any,
    accept: Any,
    stalled: Any,
    tiny: Any = False,
    held: Any = False,
) -> jax.Array:
    """Return the status after a step; where bounds have ``held`` the point, it cannot run away.

    ``point`` is the value, the norm and the error of the last accepted point. A method that has ``stalled``, or whose
    step has become ``tiny``, has converged where nothing is left to gain.
    """
    value, size, error = point
    done = settled(scales, value, error)
    status = jnp.where(stalled, jnp.where(done, Status.CONVERGED, Status.STALLED), status)
    status = jnp.where(tiny, jnp.where(done, Status.CONVERGED, Status.STEP_TOO_SMALL), status)
    runs = accept & ~jnp.asarray(held) & run_away(scales, size, error, eps)
    return jnp.where(runs, Status.DIVERGED, status).astype(jnp.int32)


def of_point(scales: jax.Array, squared: Any, changed: Any, size: Any, error: Scalar, eps: Any) -> jax.Array:
    r"""Return what is known after an evaluation, where the error is a distance in the units of the unknown.

    Such is the residual :math:`T(x) - x` of a fixed point, whose scale is the size of the point. But it must be beside
    a solution: where the last steps say that it is more than a hundredth of its size away, as where a map moves every
    point and less from step to step, it is not. And the size is at most :math:`\epsilon^{-1/4}` times that of the start
    or its residual: a map that moves every point by one looks like a fixed point from far away.

    Parameters
    ----------
    scales
        What was known.
    squared, changed
        The squared norms of the last step and of the change of the residual along it.
    size, error
        The norms of the point and of its residual.
    eps
        The unit roundoff of the unknown.
    """
    old = Scales(*learned(scales, True, squared, changed, size, error, eps))
    size, error = (jnp.asarray(v, scales.dtype) for v in jax.lax.stop_gradient((size, error)))
    start = jnp.where(jnp.isfinite(error), jnp.maximum(size, error), 0)
    origin = jnp.where(Scales(*scales).origin == 0, start, Scales(*scales).origin)
    here = jnp.minimum(jnp.maximum(size, eps**0.25 * old.extent), eps**-0.25 * origin)
    # a residual of zero is one below the rounding of the point
    near = old.soft * jnp.maximum(error, eps * size) <= LONG * here
    known = jnp.where(near, here, 0)
    new = old._replace(scale=known, floor=ROUNDING * eps * known, origin=origin)
    return jnp.stack(new).astype(scales.dtype)


def of_parts(scales: jax.Array, size: Any, eps: Any) -> jax.Array:
    """Return what is known after an evaluation, where the error is a sum of parts that cancel at a solution.

    Such are the gradients of the parts of a saddle point. ``size`` is the norm of the largest of them; where all vanish
    at the solution, the way to it says what is small.
    """
    old = Scales(*scales)
    size = jnp.asarray(jax.lax.stop_gradient(size), scales.dtype)
    steepest = jnp.where(jnp.isfinite(size), jnp.maximum(old.steepest, size), old.steepest)
    here = jnp.maximum(size, eps**0.25 * steepest)
    known = _MARGIN * here
    new = old._replace(scale=known, floor=ROUNDING * eps * here, steepest=steepest)
    return jnp.stack(new).astype(scales.dtype)


def with_floor(scales: jax.Array, floor: Any) -> jax.Array:
    """Return what is known, where an error of ``floor`` counts as zero as well."""
    old = Scales(*scales)
    return jnp.stack(old._replace(floor=jnp.maximum(old.floor, floor))).astype(scales.dtype)


def norm(x: Tree) -> Any:
    """Return the norm of a point, a constant of differentiation."""
    return trees.norm(jax.lax.stop_gradient(x))
