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
from ._margins import CANCELED, LONG, PROBE, ROUNDING, STIFF, UNSEEN, drowning_share, off


class Units(NamedTuple):
    """What is known of a problem's units; carried from step to step as one small array, a constant of differentiation.

    The loop looks at ``scale``, which ``rtol`` multiplies, and at ``floor``, below which an error counts as zero. A
    method learns from pairs of differences (this file) or from Newton steps (`_newton_steps.py`), and leaves the fields
    of the other way as they are.
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
    #: the length of the last step; where Newton steps tell, in units of the point's elements
    moved: Any
    #: the smallest error so far
    least: Any
    #: in each element's own unit, the curvature of moves and their slope at the last point
    work: Any
    slope: Any
    #: the relative error of the point as a Newton step tells it, infinity where none does; the error in units of its
    #: rounding
    measure: Any
    noise: Any
    #: the relative length of the next step, and how much longer the one to the minimum along it is
    length: Any
    stretch: Any
    #: the decrease that is left
    hidden: Any
    #: how far what is not an unknown of the steps is from where it belongs
    astray: Any
    #: the value of the first point
    start: Any

    @classmethod
    def of(cls, array: jax.Array) -> Units:
        """Return the fields of an array by their names."""
        return cls(*array)

    @classmethod
    def unknown(cls, x: Tree) -> jax.Array:
        """Return what is known before the first evaluation."""
        return jnp.zeros(len(cls._fields), trees.real_dtype(x))

    def packed(self, dtype: Any) -> jax.Array:
        """Return one array."""
        return jax.lax.stop_gradient(jnp.stack([jnp.asarray(part, dtype) for part in self]))


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
    old = Units.of(scales)
    given = jax.lax.stop_gradient((squared, changed, size, error))
    squared, changed, size, error = (jnp.asarray(v, scales.dtype) for v in given)
    told, known, soft, stiff = _curvatures(accept, squared, changed, error, eps, along)
    finite = accept & jnp.isfinite(size) & jnp.isfinite(error)
    falls = accept & jnp.isfinite(error) & ((error < old.least) | (old.least == 0))
    share = jnp.where(falls & (old.least > 0), (error / jnp.where(old.least > 0, old.least, 1)) ** 0.25, 1)
    share = jnp.ones_like(share) if off("forgetting") else share
    # a start at zero is left by a probe, which is short, or by a step, of which this makes more than it is
    origin = jnp.where(squared > 0, size / eps**PROBE, size)
    new = old._replace(
        soft=jnp.where(told, jnp.maximum(soft, share * old.soft), share * old.soft),
        stiff=jnp.where(known, jnp.maximum(stiff, STIFF * old.stiff), old.stiff),
        extent=jnp.where(finite, jnp.maximum(old.extent, size), old.extent),
        steepest=jnp.where(finite, jnp.maximum(old.steepest, error), old.steepest),
        origin=jnp.where(finite & (old.origin == 0), origin, old.origin),
        moved=jnp.where(accept, jnp.sqrt(squared), old.moved),
        least=jnp.where(falls, error, old.least),
        work=share * old.work,
        slope=jnp.zeros_like(old.slope),
    )
    scale, floor = _asked(new, size, error, eps, leaps=leaps)
    if each is not None and not off("unlike_elements"):
        slope, seen = (jnp.asarray(v, scales.dtype) for v in jax.lax.stop_gradient(each))
        work = jnp.where(known & jnp.isfinite(seen), jnp.maximum(seen, new.work), new.work)
        # as bounds of the error: it is as much smaller as the slope must be
        allowed = jnp.where((work > 0) & (slope > 0), work / jnp.where(slope > 0, slope, 1) * error, jnp.inf)
        scale, floor = jnp.minimum(scale, allowed), jnp.minimum(floor, ROUNDING * eps * allowed)
        new = new._replace(work=work, slope=jnp.where(accept, slope, old.slope))
    scale, floor = jnp.where(accept, scale, old.scale), jnp.where(accept, floor, old.floor)
    return new._replace(scale=scale, floor=floor).packed(scales.dtype)


def _curvatures(
    accept: Any, squared: Any, changed: Any, error: Scalar, eps: Any, along: Any
) -> tuple[Any, Any, Any, Any]:
    """Return whether a step shows curvatures at all, and beyond rounding; the inverse of the least, and the largest."""
    # a change that drowns in rounding is no larger than that: the curvature is at most so much
    drowned = (drowning_share(eps) * error) ** 2
    moves = accept & (squared > 0) & jnp.isfinite(changed) & jnp.isfinite(error)
    known = moves & (changed > drowned)
    changed = jnp.maximum(changed, drowned)
    moves &= changed > 0
    inverse = jnp.sqrt(jnp.where(moves, squared, 1)) / jnp.sqrt(jnp.where(moves, changed, 1))
    longest = inverse
    if along is not None and not off("along"):
        along = jnp.asarray(jax.lax.stop_gradient(along), squared.dtype)
        rayleigh = squared / jnp.where(along > 0, along, 1)
        longest = jnp.where(known & (along > 0), jnp.minimum(rayleigh, CANCELED * inverse), inverse)
    return moves, known, longest, 1 / inverse


def _asked(now: Units, size: Any, error: Scalar, eps: Any, *, leaps: bool) -> tuple[Any, Any]:
    """Return the scale and the floor of rounding at a point, as far as its norm tells."""
    here = jnp.maximum(size, eps**0.25 * now.extent)
    unseen = 1.0 if off("unseen") else UNSEEN
    scale = jnp.where(now.soft > 0, unseen * here / jnp.where(now.soft > 0, now.soft, 1), 0)
    # what rounding leaves says nothing about a point from which the next step would still be long, or the last was
    short = now.moved <= LONG * here
    floor = jnp.where(short & (now.soft * error <= LONG * here), ROUNDING * eps * now.stiff * size, 0)
    floor = jnp.zeros_like(floor) if off("floor") else floor
    return (jnp.where(short, scale, 0) if leaps and not off("leaps") else scale), floor


def run_away(scales: jax.Array, size: Any, error: Scalar, eps: Any) -> Any:
    """Return whether the iterates run away from a point of norm ``size``, where the norm of ``g`` is ``error``."""
    if off("run_away"):
        return jnp.zeros((), bool)
    now = Units.of(scales)
    long = (now.soft * error > LONG * size) & (now.moved > LONG * size)
    vanished = (error <= 2 * eps * now.steepest) & long
    farthest = (size >= 0.99 * now.extent) & (size > 0)
    return farthest & (vanished | ((now.origin > 0) & (eps**2 * size > now.origin)))


def settled(scales: jax.Array, value: Any, error: Scalar) -> Any:
    r"""Return whether the decrease that is left, :math:`\tau \|g\|^2 / 2`, drowns in the rounding of the value.

    What a long step would gain is not known by :math:`\tau`.
    """
    if off("settled"):
        return jnp.zeros((), bool)
    now = Units.of(scales)
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
    old = Units.of(learned(scales, True, squared, changed, size, error, eps))
    size, error = (jnp.asarray(v, scales.dtype) for v in jax.lax.stop_gradient((size, error)))
    start = jnp.where(jnp.isfinite(error), jnp.maximum(size, error), 0)
    origin = jnp.where(Units.of(scales).origin == 0, start, Units.of(scales).origin)
    here = jnp.minimum(jnp.maximum(size, eps**0.25 * old.extent), eps**-0.25 * origin)
    # a residual of zero is one below the rounding of the point
    near = old.soft * jnp.maximum(error, eps * size) <= LONG * here
    known = jnp.where(near, here, 0)
    new = old._replace(scale=known, floor=ROUNDING * eps * known, origin=origin)
    return new.packed(scales.dtype)


def evened(sizes: Tree) -> Tree:
    """Return powers of two near the sizes of elements, by which no division rounds."""
    return jax.tree.map(lambda c: jnp.exp2(jnp.round(jnp.log2(c))), sizes)


def units_of(sizes: Tree) -> Tree:
    """Return the units of scaled variables: ones where no sizes are known."""
    return jax.tree.map(lambda c: jnp.where(c > 0, c, 1), sizes)


def of_elements(scales: jax.Array, residual: Tree, sizes: Tree, error: Scalar, eps: Any) -> jax.Array:
    """Return what :func:`of_point` has found in scaled variables, where every element of the residual counts by itself.

    That is so where the sizes of elements are known: in scaled variables, these are one.
    """
    old, top = Units.of(scales), trees.max_abs(jax.lax.stop_gradient(residual)).astype(scales.dtype)
    known = (trees.max_abs(sizes) > 0) & (top > 0)
    own = jnp.where(known, jax.lax.stop_gradient(error) / jnp.where(known, top, 1), jnp.inf)
    new = old._replace(scale=jnp.minimum(own, old.scale), floor=jnp.minimum(ROUNDING * eps * own, old.floor))
    return new.packed(scales.dtype)


def of_parts(scales: jax.Array, size: Any, eps: Any) -> jax.Array:
    """Return what is known after an evaluation, where the error is a sum of parts that cancel at a solution.

    Such are the gradients of the parts of a saddle point. ``size`` is the norm of the largest of them; where all vanish
    at the solution, the way to it says what is small.
    """
    old = Units.of(scales)
    size = jnp.asarray(jax.lax.stop_gradient(size), scales.dtype)
    steepest = jnp.where(jnp.isfinite(size), jnp.maximum(old.steepest, size), old.steepest)
    here = jnp.maximum(size, eps**0.25 * steepest)
    known = UNSEEN * here
    new = old._replace(scale=known, floor=ROUNDING * eps * here, steepest=steepest)
    return new.packed(scales.dtype)


def with_floor(scales: jax.Array, floor: Any) -> jax.Array:
    """Return what is known, where an error of ``floor`` counts as zero as well."""
    old = Units.of(scales)
    return jnp.stack(old._replace(floor=jnp.maximum(old.floor, floor))).astype(scales.dtype)


def norm(x: Tree) -> Any:
    """Return the norm of a point, a constant of differentiation."""
    return trees.norm(jax.lax.stop_gradient(x))
