r"""Stopping tests that do not depend on units: the scale of the error is estimated from the steps so far.

A test that compares a gradient with a fixed number has another result where the unknown or the function is in other
units. The test here is about the relative error of the solution, whose size is :math:`X`:

.. math:: \|x - x^\star\| \le \text{rtol} \cdot X .

Let ``g`` be zero at a solution: a gradient, a projected gradient, or a residual. Let ``y`` be its change along a step
``s``. At a point with an error of size :math:`X`, :math:`\|g\| \approx X \|y\| / \|s\|`. So the test is

.. math:: \|g\| \le \text{rtol} \cdot \tfrac{1}{10} X / \tau, \qquad \tau = \max \|s\| / \|y\| ,

where the maximum is over the steps: it estimates the inverse of the smallest curvature, along which a gradient is small
although the error is large. Old estimates are discounted by the fourth root of the ratio by which the smallest error so
far has decreased, since they are from points farther away. The factor 1/10 is a margin, since no step may be along the
smallest curvature. Multiplying the function or the unknown by a constant multiplies both sides by the same number.

**Size of the solution**: :math:`X = \max(\|x\|, \epsilon^{1/4} \max_k \|x_k\|)`. Where the solution is zero, the
iterates determine it.

**Rounding**: a change of ``x`` by a few units in the last place changes ``g`` by about
:math:`\epsilon \|x\| \max \|y\| / \|s\|`. An error below this cannot be reduced, and counts as converged.

**Elements in different units**: where one element is a million times as large as another, norms do not contain the
smaller one, and the test above is met although that one is wrong. For a gradient, the sum
:math:`\sum_i |g_i x_i|` does not depend on the units of the elements: it is the first-order decrease of the function
where each element moves by its own size. It must be small as well, relative to the curvature of such moves,

.. math:: \sum_i |g_i x_i| \le \text{rtol} \cdot W, \qquad
          W = \max \frac{(\sum_i |y_i x_i|)^2}{\sum_i |y_i s_i|} ,

with the maximum over the steps, discounted as above. For one element ``W`` is :math:`|y_i / s_i|\, x_i^2`; elements
that are zero do not count. Where all elements have the same units, this test is not stricter than the first one.

**Divergence**: where the infimum of a function is not attained, as for an exponential or the likelihood of separable
classes, its gradient tends to zero as well, but its steps do not. The iterates diverge where ``g`` has decreased by a
factor of :math:`\epsilon`, the point is the largest one so far, and the last step and the next one,
:math:`\tau \|g\|`, are both longer than a hundredth of ``X``. They also diverge where ``x`` has grown by a factor of
:math:`\epsilon^{-2}`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...trees import Scalar, Tree
from ...trees.products import inner_products, vdot
from ._margins import CANCELED, LONG, PROBE, ROUNDING, STIFF, UNSEEN, gradient_rounding, off


class Units(NamedTuple):
    """Estimates of the scales of a problem; one small array in the state of a solver, a constant of differentiation.

    The stopping test uses ``scale``, which ``rtol`` multiplies, and ``rounding``, below which an error counts as zero.
    A method estimates them from pairs of differences (this file) or from Newton steps (`_newton_steps.py`), and does
    not change the fields of the other way.
    """

    scale: Any
    rounding: Any
    #: the largest inverse curvature of the last steps, and the largest curvature
    soft: Any
    stiff: Any
    #: the largest norm of a point so far, and the largest error
    extent: Any
    steepest: Any
    #: the norm of the start, or, where that is zero, of a move from there
    origin: Any
    #: the length of the last step; for estimates from Newton steps, relative to the elements of the point
    moved: Any
    #: the smallest error so far
    least: Any
    #: the curvature of moves by each element's own size, and their slope at the last point
    work: Any
    slope: Any
    #: the relative error of the point by a Newton step, infinity where there is none; the error in units of rounding
    measure: Any
    noise: Any
    #: the relative length of the next step, and the ratio of the step to the minimum along it to that length
    length: Any
    stretch: Any
    #: the predicted decrease from the point
    decrease: Any
    #: the relative error of the unknowns that are eliminated from the steps
    rest_error: Any
    #: the value of the first point
    start: Any

    @classmethod
    def of(cls, array: jax.Array) -> Units:
        """Return the fields of an array by their names."""
        return cls(*array)

    @classmethod
    def unknown(cls, x: Tree) -> jax.Array:
        """Return the estimates before the first evaluation."""
        return jnp.zeros(len(cls._fields), trees.real_dtype(x))

    def packed(self, dtype: Any) -> jax.Array:
        """Return one array."""
        return jax.lax.stop_gradient(jnp.stack([jnp.asarray(part, dtype) for part in self]))


class Elements(NamedTuple):
    """The slope and the curvature of moves by each element's own size."""

    slope: Any
    work: Any


def slope_of_elements(x: Tree, gradient: Tree) -> jax.Array:
    r"""Return :math:`\sum_i |g_i x_i|`."""
    dtype = trees.real_dtype(x)
    parts = jax.tree.map(lambda u, g: jnp.sum(jnp.abs(g).astype(dtype) * jnp.abs(u).astype(dtype)), x, gradient)
    return trees.total([jnp.zeros((), dtype), *jax.tree.leaves(parts)])


def elements(x: Tree, gradient: Tree, s: Tree, y: Tree) -> Elements:
    r"""Return :math:`\sum_i |g_i x_i|`, and ``W`` of the last step (see above), zero where there is no curvature.

    The size of an element is the larger one of those before and after the step.
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
    r"""Return the estimates after an evaluation.

    Parameters
    ----------
    scales
        The estimates before.
    accept
        Whether the point is accepted: other points do not change the estimates.
    squared, changed
        The squared norms of the step ``s`` and of the change ``y``, both zero at the first point.
    size, error
        The norms of the point and of ``g`` there.
    eps
        The unit roundoff of the unknown.
    along
        The inner product of ``s`` and ``y``, for a gradient: where it is positive, :math:`\|s\|^2 / s^\top y` is a
        better estimate of the inverse of the smallest curvature than :math:`\|s\| / \|y\|`.
    leaps
        Whether a step may be much longer than a model of the curvature predicts: it may end where an unbounded function
        has become flat. Then the stopping test waits for a further step after a long one.
    each
        The slope and the curvature by each element's own size, for a gradient.
    """
    old = Units.of(scales)
    given = jax.lax.stop_gradient((squared, changed, size, error))
    squared, changed, size, error = (jnp.asarray(v, scales.dtype) for v in given)
    moves, known, soft, stiff = _curvatures(accept, squared, changed, error, eps, along)
    finite = accept & jnp.isfinite(size) & jnp.isfinite(error)
    falls = accept & jnp.isfinite(error) & ((error < old.least) | (old.least == 0))
    share = jnp.where(falls & (old.least > 0), (error / jnp.where(old.least > 0, old.least, 1)) ** 0.25, 1)
    share = jnp.ones_like(share) if off("forgetting") else share
    # the first step from zero is very short, or a usual one, whose length is overestimated here
    origin = jnp.where(squared > 0, size / eps**PROBE, size)
    new = old._replace(
        soft=jnp.where(moves, jnp.maximum(soft, share * old.soft), share * old.soft),
        stiff=jnp.where(known, jnp.maximum(stiff, STIFF * old.stiff), old.stiff),
        extent=jnp.where(finite, jnp.maximum(old.extent, size), old.extent),
        steepest=jnp.where(finite, jnp.maximum(old.steepest, error), old.steepest),
        origin=jnp.where(finite & (old.origin == 0), origin, old.origin),
        moved=jnp.where(accept, jnp.sqrt(squared), old.moved),
        least=jnp.where(falls, error, old.least),
        work=share * old.work,
        slope=jnp.zeros_like(old.slope),
    )
    scale, rounding = _scale_and_rounding(new, size, error, eps, leaps=leaps)
    if each is not None and not off("unlike_elements"):
        slope, seen = (jnp.asarray(v, scales.dtype) for v in jax.lax.stop_gradient(each))
        work = jnp.where(known & jnp.isfinite(seen), jnp.maximum(seen, new.work), new.work)
        # as a bound of the error: error and slope have to decrease by the same factor
        allowed = jnp.where((work > 0) & (slope > 0), work / jnp.where(slope > 0, slope, 1) * error, jnp.inf)
        scale, rounding = jnp.minimum(scale, allowed), jnp.minimum(rounding, ROUNDING * eps * allowed)
        new = new._replace(work=work, slope=jnp.where(accept, slope, old.slope))
    scale, rounding = jnp.where(accept, scale, old.scale), jnp.where(accept, rounding, old.rounding)
    return new._replace(scale=scale, rounding=rounding).packed(scales.dtype)


def _curvatures(
    accept: Any, squared: Any, changed: Any, error: Scalar, eps: Any, along: Any
) -> tuple[Any, Any, Any, Any]:
    """Return whether a step bounds curvatures, whether it is above rounding, 1 / the smallest and the largest one."""
    # a change below rounding gives an upper bound of the curvature
    drowned = (gradient_rounding(eps) * error) ** 2
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


def _scale_and_rounding(now: Units, size: Any, error: Scalar, eps: Any, *, leaps: bool) -> tuple[Any, Any]:
    """Return the scale and the rounding at a point, by its norm."""
    here = jnp.maximum(size, eps**0.25 * now.extent)
    unseen = 1.0 if off("unseen") else UNSEEN
    scale = jnp.where(now.soft > 0, unseen * here / jnp.where(now.soft > 0, now.soft, 1), 0)
    # the rounding of an error is meaningless where the next step would still be long, or the last one was long
    short = now.moved <= LONG * here
    rounding = jnp.where(short & (now.soft * error <= LONG * here), ROUNDING * eps * now.stiff * size, 0)
    rounding = jnp.zeros_like(rounding) if off("rounding") else rounding
    return (jnp.where(short, scale, 0) if leaps and not off("leaps") else scale), rounding


def diverging(scales: jax.Array, size: Any, error: Scalar, eps: Any) -> Any:
    """Return whether the iterates diverge, at a point of norm ``size`` where the norm of ``g`` is ``error``."""
    if off("diverging"):
        return jnp.zeros((), bool)
    now = Units.of(scales)
    long = (now.soft * error > LONG * size) & (now.moved > LONG * size)
    vanished = (error <= 2 * eps * now.steepest) & long
    farthest = (size >= 0.99 * now.extent) & (size > 0)
    return farthest & (vanished | ((now.origin > 0) & (eps**2 * size > now.origin)))


def of_point(scales: jax.Array, squared: Any, changed: Any, size: Any, error: Scalar, eps: Any) -> jax.Array:
    r"""Return the estimates after an evaluation, where the error is a distance in the units of the unknown.

    An example is the residual :math:`T(x) - x` of a fixed point, whose scale is the size of the point. There is no
    scale where the last steps predict a distance to the solution of more than a hundredth of this size: a map may move
    every point, by less from step to step. The size is at most :math:`\epsilon^{-1/4}` times that of the start or of
    its residual: otherwise a map that moves every point by one would have a fixed point at a large distance.

    Parameters
    ----------
    scales
        The estimates before.
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
    # a residual of zero is only known to be below the rounding of the point
    near = old.soft * jnp.maximum(error, eps * size) <= LONG * here
    known = jnp.where(near, here, 0)
    new = old._replace(scale=known, rounding=ROUNDING * eps * known, origin=origin)
    return new.packed(scales.dtype)


def units_of(sizes: Tree) -> Tree:
    """Return the units of scaled variables: one where no size is known."""
    return jax.tree.map(lambda c: jnp.where(c > 0, c, 1), sizes)


def of_elements(scales: jax.Array, residual: Tree, sizes: Tree, error: Scalar, eps: Any) -> jax.Array:
    """Return the estimates of :func:`of_point` in scaled variables, where each element of the residual is tested.

    This is possible where the sizes of the elements are known: they are one in scaled variables.
    """
    old, top = Units.of(scales), trees.max_abs(jax.lax.stop_gradient(residual)).astype(scales.dtype)
    known = (trees.max_abs(sizes) > 0) & (top > 0)
    own = jnp.where(known, jax.lax.stop_gradient(error) / jnp.where(known, top, 1), jnp.inf)
    new = old._replace(scale=jnp.minimum(own, old.scale), rounding=jnp.minimum(ROUNDING * eps * own, old.rounding))
    return new.packed(scales.dtype)


def of_parts(scales: jax.Array, size: Any, eps: Any) -> jax.Array:
    """Return the estimates after an evaluation, where the error is a sum of terms that cancel at a solution.

    Examples are the gradients of the terms of a saddle point. ``size`` is the norm of the largest of them. Where all
    are zero at the solution, those at earlier iterates determine the scale.
    """
    old = Units.of(scales)
    size = jnp.asarray(jax.lax.stop_gradient(size), scales.dtype)
    steepest = jnp.where(jnp.isfinite(size), jnp.maximum(old.steepest, size), old.steepest)
    here = jnp.maximum(size, eps**0.25 * steepest)
    known = UNSEEN * here
    new = old._replace(scale=known, rounding=ROUNDING * eps * here, steepest=steepest)
    return new.packed(scales.dtype)


def with_rounding(scales: jax.Array, rounding: Any) -> jax.Array:
    """Return the estimates, where an error of ``rounding`` counts as zero as well."""
    old = Units.of(scales)
    return jnp.stack(old._replace(rounding=jnp.maximum(old.rounding, rounding))).astype(scales.dtype)


def norm(x: Tree) -> Any:
    """Return the norm of a point, a constant of differentiation."""
    return trees.norm(jax.lax.stop_gradient(x))
