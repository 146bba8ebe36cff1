r"""Verify a minimum of a smooth objective, with bounds or without: a result is refused only with evidence.

A solver stops where what it sees is small. Products with the Hessian at the point, taken in variables in which its rows
are even (:mod:`dini.scaling`), show what a run of the solver may have missed:

**A lower point.** The Lanczos process with :math:`H` from the gradient, to which a little of a random vector is added,
gives directions :math:`z_j` with :math:`z_i^\top H z_j = 0` for unlike ones, at most :data:`LANCZOS`. As long as the
curvatures :math:`\delta_j = z_j^\top H z_j` are positive,

.. math:: p = -\sum_j \frac{z_j^\top g}{\delta_j} z_j \qquad (1)

is the Newton step in their space. If :math:`x + p` is lower than ``x`` by more than the rounding of the values, or
:math:`x + 16^{-k} p` with ``k`` up to :data:`SHORTER`, and ``p`` is longer than the tolerance by a factor of
:data:`MISSED` in some element, then ``x`` is no minimum to that tolerance.

**Negative curvature.** The space has a direction of negative curvature if and only if a :math:`\delta_j` is negative
(Sylvester's law of inertia). The smallest Ritz value of :math:`z_{j-1}` and the next vector of the Lanczos process is
then negative as well. Where it is below :math:`-\epsilon^{2/3}` times the norm of ``H``, and some point along its
vector is lower, ``x`` is a saddle point. The random vector is for gradients that do not see it.

**An unbounded direction.** A function that has its infimum at infinity, such as :math:`e^{-x}`, has a gradient that
vanishes as well. Let :math:`v = x - x_0` be the way from the start, and ``q`` its elements without positive curvature,
:math:`v_i (H v)_i \le \delta (f(x_0) - f(x))`, where :math:`\delta` is ten times rtol, but from :math:`10^{-4}` to
:math:`10^{-2}`. Where the way of these elements has lowered the objective by :math:`\Delta = f(x - q) - f(x)`, and the
objective is no higher at :math:`x + q`, and a Newton step along ``q`` is a visible part of it,
:math:`-g \cdot q \ge \epsilon^{1/4} q \cdot H q` (at a minimum it is as short as the tolerance is small), the way is
looked at. It has to be doubled :data:`DOUBLINGS` times without a rise beyond rounding. Where the objective falls on
that way, it has no lower bound there, or one that is far away. Where it falls no more, an end that is reached at
:math:`t_e` is approached as :math:`(t_e - t)^k`, so that the last hundredth and the last ten-thousandth of the gain are
left at nearly the same place; of a function that only tends to its bound, the second lies farther out by a factor: 2
for an exponential, 1.4 for a Gaussian, 100 for :math:`1/x`.

The rounding of the values is measured: by moves of a few units in the last place of ``x``. Where it exceeds all that
the run has gained, at a point farther out than the start, the run has left every minimum behind.

References
----------
Conn, Gould, Toint, "Trust-region methods", 2000, section 5.2 (the Lanczos process and conjugate directions).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import scaling, trees
from ..problems import LeastSquares, Minimize
from ..protocols import AnyProblem
from ..sets._boxes import bounds_of, has_bounds
from ..trees import Tree

#: products of the Lanczos process
LANCZOS = 10
#: the share of a random vector in its start
RANDOM = 0.1
#: a Newton step that is longer than the tolerance by this factor shows that a solver has stopped too early
MISSED = 10.0
#: the factor by which the Newton step is shortened, and how often: far from the minimum of a barrier it leads out of
#: the domain, and in a bent valley only a small part of it is lower
SHORT, SHORTER = 16.0, 6
#: the power of rounding that is the share of the largest curvature below which one is negative, and not rounding
NEGATIVE = 2 / 3
#: a difference of two values is known to so many units of rounding
ROUNDING = 32
#: units in the last place of ``x`` by which moves show the rounding of the values
NUDGE = 4.0
#: how often the way is doubled
DOUBLINGS = 24
#: the share of a gain that counts as nothing
NOTHING = 1e-4
#: the power of rounding that is the least size of an element, as a share of the largest that it has been: of a stopping
#: test, and of evidence, which is to show a start that was too large
SMALL, VERIFIED = 0.25, 0.5
#: a Newton step that is a larger part of an element may lead to zero
LEAVES = 0.1
#: the power of rounding that is the shortest Newton step, as a share of the way, of a function that decreases without
#: bound
SHORTEST = 0.25
#: what is left of a gain at the two places that are compared, and the factor between these
LEFT = (1e-2, 1e-4)
FARTHER = 1.35
#: halvings, on a logarithmic scale of the way, that find a place; where the search begins
_HALVINGS, _NEAREST = 12, 1e-9

#: where the objective is asked, as shares of the way from the start, of the Newton step, of the elements without
#: curvature, of the direction of the smallest Ritz value, and of rounding in ``x``
_SHARES = (
    (-1, 0, 0, 0, 0),
    (0, 0, 0, 0, 0),
    (0, 0, -1, 0, 0),
    (0, 0, 1, 0, 0),
    *((0, SHORT**-k, 0, 0, 0) for k in range(1 + SHORTER)),
    (0, 0, 0, 0, 1),
    (0, 0, 0, 0, -1),
    *((0, 0, 0, side * 10.0**-k, 0) for k in range(5) for side in (1, -1)),
)
_START, _HERE, _BEFORE, _BEYOND, _DOWN = range(5)
_NUDGED, _BACK, _ASIDE = (_DOWN + 1 + SHORTER + k for k in range(3))
_COUNT = len(_SHARES)


class Finding(NamedTuple):
    """What is found at a point: the scales there, a lower point and whether there is one, and whether ``f`` falls on.

    ``lower`` is evidence that the point is no minimum, ``unbounded`` that there is none in the direction of the run.
    ``missed`` is by how much the Newton step is longer than the tolerance, where that is the evidence; else it is zero.
    """

    scales: Tree
    point: Tree
    lower: Any
    missed: Any
    unbounded: Any


def examiner(problem: AnyProblem, rtol: Any, start: Tree, args: tuple[Tree, ...]) -> Callable[..., Finding] | None:
    """Return a function of a point that examines it, or ``None`` where nothing can be seen.

    That is so for other kinds of problems, for penalties and for sets that are not bounds, and for objectives that have
    no products with their Hessian, or that hold a loop of unknown length (a solve, say).

    The function takes the point, whether everything is to be looked at, the way from the start alone, or no more than
    the scales, and the largest that the elements have been, or ``None`` where the solver does not know it.
    """
    if not isinstance(problem, Minimize | LeastSquares) or problem.penalty is not None:
        return None
    if problem.constraint is not None and not has_bounds(problem.constraint):
        return None
    start, args = jax.lax.stop_gradient((start, args))
    program = scaling.linearized(lambda u: problem.gradient(u, *args), start)
    if program is None:
        return None

    def examine(x: Tree, everything: Any, alone: Any, scales: Any, largest: Any) -> Finding:
        x, largest = jax.lax.stop_gradient((x, start if largest is None else largest))
        return _examined(problem, program, rtol, start, x, largest, args, everything, alone, scales)

    return examine


class _Curvature(NamedTuple):
    """What products with the Hessian have shown; a loop's carry. Vectors but the first two are in scaled variables."""

    estimate: scaling.Estimate
    #: the gradient, and the product with the way from the start
    gradient: Tree
    along: Tree
    #: the last two vectors of the Lanczos process, the last conjugate direction, the Newton step (1)
    vector: Tree
    before: Tree
    conjugate: Tree
    step: Tree
    #: the direction of the most negative curvature
    aside: Tree
    #: the last norm, the last curvature and squared length of a conjugate direction, the smallest Ritz value, the
    #: largest norm of a product, and whether all curvatures have been positive
    figures: Any


def _curvature(
    program: Any, x: Tree, start: Tree, way: Tree, free: Callable[[Tree, Tree], Tree], count: Any
) -> _Curvature:
    """Return what products with random signs, with the way, and with the vectors of the Lanczos process show.

    They are steps of one loop, since a program is compiled as often as it is written down.
    """
    dtype, eps = trees.real_dtype(x), trees.eps(x)
    few = scaling.PRODUCTS
    scaled = lambda scales, v: jax.tree.map(jnp.multiply, scales, v)

    def one(k: Any, now: _Curvature) -> _Curvature:
        learns, starts, goes = k < few, k == few, k > few
        norm, curvature, squared, lowest, top, positive = now.figures
        vector = scaled(now.estimate.scales, trees.where(learns, scaling.signs(x, k), now.vector))
        vector = trees.where(starts, way, vector)
        gradient, product = program(x, vector)
        estimate = scaling.corrected(now.estimate, product, k)
        estimate = jax.tree.map(lambda a, b: jnp.where(learns, a, b), estimate, now.estimate)
        force = free(scaled(estimate.scales, gradient), gradient)
        image = free(scaled(estimate.scales, product), gradient)
        # the conjugate direction of this vector, z = q - l z, and its curvature: elimination in a tridiagonal matrix
        aligned = trees.vdot(now.vector, image).astype(dtype)
        share = jnp.where(curvature != 0, norm / jnp.where(curvature != 0, curvature, 1), 0)
        z = trees.axpy(-share, now.conjugate, now.vector)
        bend = jnp.where(goes, aligned - share * norm, curvature)
        slope, length, size = trees.vdot(z, force), trees.vdot(z, z).astype(dtype), trees.norm(force)
        positive = jnp.where(goes & ~(bend > 0), 0, positive)
        move = jnp.where(goes & (positive > 0), -slope / jnp.where(bend > 0, bend, 1), 0)
        # the smallest Ritz value of the last conjugate direction and this vector, which is orthogonal to it
        some = squared > 0
        root = jnp.sqrt(jnp.where(some, squared, 1))
        other, cross = jnp.where(some, curvature / root**2, aligned), jnp.where(some, norm / root, 0)
        half = (other - aligned) / 2
        ritz = (other + aligned) / 2 - jnp.sqrt(half**2 + cross**2)
        weights = jnp.where(some, -cross / root, 0), jnp.where(some, half + jnp.sqrt(half**2 + cross**2), 1)
        lower = goes & (ritz < lowest) & (length > 0)
        lowest_vector = trees.axpy(weights[0], now.conjugate, trees.scale(weights[1], now.vector))
        # the next vector; the first one is the gradient and a little of a random vector
        rest = trees.axpy(-aligned, now.vector, trees.axpy(-norm, now.before, image))
        weight = jnp.where(size > 0, RANDOM * size / trees.size(x) ** 0.5, 1)
        rest = trees.where(goes, rest, trees.axpy(weight, free(scaling.random(x, k), gradient), force))
        left = trees.norm(rest).astype(dtype)
        top = jnp.maximum(top, jnp.where(goes, jnp.sqrt(aligned**2 + norm**2 + left**2), 0))
        left = jnp.where(left > 100 * eps * top, left, 0)
        following = trees.scale(jnp.where(left > 0, 1 / jnp.where(left > 0, left, 1), 0), rest)
        figures = (
            jnp.where(goes, left, 0),
            bend,
            jnp.where(goes, length, squared),
            jnp.where(lower, ritz, lowest),
            top,
            positive,
        )
        return _Curvature(
            estimate,
            gradient,
            trees.where(starts, product, now.along),
            following,
            trees.where(goes, now.vector, now.before),
            trees.where(goes, z, now.conjugate),
            trees.axpy(move, z, now.step),
            trees.where(lower, lowest_vector, now.aside),
            jnp.stack([figure.astype(dtype) for figure in figures]),
        )

    zero = trees.zeros_like(x)
    figures = jnp.asarray([0.0, 0, 0, 0, 0, 1], dtype)
    # at a solution that is zero the elements are rounding errors, in whose ratios the terms of a row may cancel
    sizes = jax.tree.map(lambda u, s: jnp.fmax(jnp.abs(u), eps**VERIFIED * jnp.abs(s)), x, start)
    begin = _Curvature(scaling.begun(sizes), zero, zero, zero, zero, zero, zero, zero, figures)
    return jax.lax.fori_loop(0, count, one, begin)


def _examined(
    problem: Any,
    program: Any,
    rtol: Any,
    start: Tree,
    x: Tree,
    largest: Tree,
    args: tuple[Tree, ...],
    everything: Any,
    alone: Any,
    only_scales: Any,
) -> Finding:
    bounds = None if problem.constraint is None else bounds_of(problem.constraint, x)
    dtype, back = trees.real_dtype(x), trees.sub(x, start)
    way = _way(x, back, bounds)

    def free(vector: Tree, gradient: Tree) -> Tree:
        """Return a vector without the elements that a bound holds."""
        if bounds is None:
            return vector
        held = lambda v, u, g, low, high: jnp.where(((u <= low) & (g > 0)) | ((u >= high) & (g < 0)), 0, v)
        return jax.tree.map(held, vector, x, gradient, *bounds)

    few = scaling.PRODUCTS
    count = jnp.where(alone, few + 1, jnp.where(only_scales, few, 0))
    count = jnp.where(everything, few + 1 + min(LANCZOS, trees.size(x)), count)
    seen = _curvature(program, x, start, way, free, count)
    scales = scaling.completed(seen.estimate, x, seen.gradient)
    # squares of a gradient far out may be infinite: then there is no step, and the way is looked at all the same
    scaled = lambda v: jax.tree.map(lambda d, u: jnp.where(jnp.isfinite(u), d * u, 0), seen.estimate.scales, v)
    _, _, _, lowest, top, _ = seen.figures
    bent = lowest < -(trees.eps(x) ** NEGATIVE) * top
    size = jnp.maximum(*(trees.norm(jax.tree.map(jnp.divide, v, seen.estimate.scales)) for v in (x, back)))
    step, aside = scaled(seen.step), seen.aside
    length = trees.norm(aside)
    size = jnp.where(size > 0, size, 1) / jnp.where(length > 0, length, 1)
    aside = trees.scale(size, scaled(aside))
    # an element whose Newton step is a large part of it may be on its way to zero; another one has its own size
    leaves = lambda p, u: jnp.abs(p) > LEAVES * jnp.abs(u)
    extent = jax.tree.map(lambda p, u, most: jnp.where(leaves(p, u), jnp.abs(most), 0), step, x, largest)
    missed = relative(step, x, extent, scales, VERIFIED) / jnp.where(rtol > 0, rtol, jnp.inf)
    parts = jax.tree.map(jnp.multiply, way, seen.along)
    slopes = jax.tree.map(jnp.multiply, way, seen.gradient)
    nudge = jax.tree.map(lambda u, z: NUDGE * trees.eps(x) * u * z, x, scaling.signs(x, 78))
    clipped = lambda point: point if bounds is None else jax.tree.map(jnp.clip, point, *bounds)

    def value(loose: Tree, shares: Any, along: Any) -> Any:
        point = trees.axpy(along, loose, _at(shares, x, back, step, aside, nudge))
        return problem.value(clipped(point), *args).astype(dtype)

    asked = _values(
        value,
        lambda f: _loose(f, way, parts, rtol),
        lambda f, loose: _unheld(f, loose, slopes, parts),
        x,
        everything,
        alone,
        bent,
        missed > MISSED,
    )
    f = asked.f
    noise = jnp.maximum(jnp.abs(f[_NUDGED] - f[_HERE]), jnp.abs(f[_BACK] - f[_HERE]))
    noise = 4 * jnp.where(jnp.isfinite(noise), noise, 0)
    # far out, rounding that exceeds all that the run has gained leaves nothing of the value
    gained = jnp.maximum(jnp.abs(f[_START] - f[_HERE]), jnp.abs(f[_START]))
    grown = trees.norm(x) > 2 * trees.norm(start)
    lost = everything & grown & (noise > gained)
    noise = jnp.maximum(ROUNDING * jnp.finfo(dtype).eps * jnp.abs(f[_HERE]), noise)
    lower = everything & (asked.least < f[_HERE] - noise)
    point = clipped(_at(asked.best, x, back, step, aside, nudge))
    deeper = asked.last < f[_HERE] - ROUNDING * jnp.finfo(dtype).eps * jnp.abs(f[_HERE])
    falls_on = asked.follows & asked.falls & (deeper | (asked.far > FARTHER * asked.first))
    unbounded = ((everything | alone) & falls_on) | lost
    missed = jnp.where(lower & (asked.best[3] == 0), missed, 0)
    return Finding(scales, trees.where(lower, point, x), lower, missed, unbounded)


def _at(shares: Any, x: Tree, back: Tree, step: Tree, aside: Tree, nudge: Tree) -> Tree:
    """Return the point at the given shares of the way, the Newton step, the lowest curvature, and rounding."""
    point = trees.axpy(shares[0], back, trees.axpy(shares[1], step, x))
    return trees.axpy(shares[3], aside, trees.axpy(shares[4], nudge, point))


def relative(step: Tree, x: Tree, extent: Tree, scales: Tree, power: float = SMALL) -> Any:
    r"""Return the largest element of a step relative to the size of that element of the point.

    The size of an element that is zero, or nearly, is a ``power`` of the unit roundoff times its ``extent``, the
    largest that it has been, or :math:`\sqrt\epsilon` of the size that the others give it by their scales.
    """
    eps = trees.eps(x)
    whole = trees.norm(jax.tree.map(jnp.divide, x, scales))

    def one(p: Any, u: Any, most: Any, d: Any) -> Any:
        size = jnp.maximum(jnp.maximum(jnp.abs(u), eps**power * most), eps**0.5 * whole.astype(d.dtype) * d)
        return jnp.max(jnp.where(p == 0, 0, jnp.abs(p) / size), initial=0)

    parts = jax.tree.map(one, step, x, extent, scales)
    return functools.reduce(jnp.maximum, [part.astype(trees.real_dtype(x)) for part in jax.tree.leaves(parts)])


def _way(x: Tree, back: Tree, bounds: Any) -> Tree:
    """Return the way from the start but for the elements that a bound stops."""
    if bounds is None:
        return back
    ahead = jax.tree.map(jnp.clip, trees.add(x, back), *bounds)
    return jax.tree.map(lambda v, a, u: jnp.where(jnp.abs(a - u) >= 0.5 * jnp.abs(v), v, 0), back, ahead, x)


class _Places(NamedTuple):
    """What values of the objective have shown; a loop's carry."""

    k: Any
    f: Any
    #: the elements without curvature, where `f` knows the start and the point, and whether their way is followed
    loose: Tree
    follows: Any
    #: on that way, between which shares of it the place lies that is sought, and the first one found
    near: Any
    far: Any
    first: Any
    #: the last value on the doubled way, and whether none has been higher than the one before
    last: Any
    falls: Any
    #: the least value where that is evidence, and the shares of its place
    least: Any
    best: Any


def _values(
    value: Any, loose: Any, unheld: Any, x: Tree, everything: Any, alone: Any, bent: Any, missed: Any
) -> _Places:
    """Return the objective at the places of :data:`_SHARES`, and what is seen along the way.

    Where what is left of the gain comes to `LEFT` is sought by halvings, only where that may show something. One loop,
    with the objective written down once.
    """
    dtype = trees.real_dtype(x)
    place = jnp.arange(_COUNT, dtype=jnp.int32)
    shares = jnp.asarray((*_SHARES, (0,) * 5), dtype)
    doubled = _COUNT + 2 * _HALVINGS
    end = doubled + DOUBLINGS

    def step(now: _Places) -> _Places:
        k = now.k
        halves, doubles, second = (k >= _COUNT) & (k < doubled), k >= doubled, k >= _COUNT + _HALVINGS
        middle = jnp.sqrt(now.near * now.far)
        here = place == k
        at = shares[jnp.minimum(k, _COUNT)]
        along = jnp.where(doubles, jnp.exp2((k - doubled).astype(dtype)), jnp.where(halves, middle - 1, at[2]))
        f_k = value(now.loose, at, along)
        f = jnp.where(here, f_k, now.f)
        loosened = loose(f)
        left = jnp.where(second, LEFT[1], LEFT[0])
        above = f_k - f[_HERE] > left * (f[_BEFORE] - f[_HERE])
        near, far = (jnp.where(halves & side, middle, end) for side, end in ((above, now.near), (~above, now.far)))
        turns = k == _COUNT + _HALVINGS - 1
        # what is no number is higher
        before = jnp.where(k == doubled, f[_HERE], now.last)
        own = ROUNDING * jnp.finfo(dtype).eps * jnp.maximum(jnp.abs(f_k), jnp.abs(before))
        falls = now.falls & (~doubles | (f_k - before <= own) | (f_k == -jnp.inf))
        # what is no number is never the least
        counts = ((k >= _DOWN) & (k < _NUDGED) & missed) | ((k >= _ASIDE) & (k < _COUNT))
        least = counts & (f_k < now.least)
        # directions of negative curvature are looked along only where there is one
        skips = ((k == _ASIDE - 1) & ~bent) | ((k == _DOWN - 1) & ~everything)
        after = jnp.where(skips, _COUNT, k + 1)
        return _Places(
            after.astype(jnp.int32),
            f,
            loosened,
            unheld(f, loosened),
            jnp.where(turns, _NEAREST, near).astype(dtype),
            jnp.where(turns, 1, far).astype(dtype),
            jnp.where(turns, near, now.first),
            jnp.where(doubles, f_k, now.last),
            falls,
            jnp.where(least, f_k, now.least),
            jnp.where(least, at, now.best),
        )

    def going(now: _Places) -> Any:
        return (everything | alone) & ((now.k < _COUNT) | ((now.k < end) & now.follows & now.falls))

    scalar = lambda v: jnp.asarray(v, dtype)
    start = jnp.zeros((), jnp.int32), jnp.zeros(_COUNT, dtype), trees.zeros_like(x), jnp.zeros((), bool)
    near = scalar(_NEAREST), scalar(1), scalar(_NEAREST)
    rest = scalar(0), jnp.ones((), bool), scalar(jnp.inf), jnp.zeros(5, dtype)
    return jax.lax.while_loop(going, step, _Places(*start, *near, *rest))


def _blur(f: Any) -> Any:
    return ROUNDING * jnp.finfo(f.dtype).eps * jnp.maximum(jnp.abs(f[_START]), jnp.abs(f[_HERE]))


def _loose(f: Any, way: Tree, parts: Tree, rtol: Any) -> Tree:
    """Return the elements of the way without curvature, and zeros.

    What a solver may leave by its tolerance is none: in single precision that is more than :data:`NOTHING`.
    """
    nothing = jnp.clip(MISSED * rtol, NOTHING, LEFT[0]) * (f[_START] - f[_HERE])
    return jax.tree.map(lambda v, part: jnp.where(part <= nothing, v, 0), way, parts)


def _unheld(f: Any, loose: Tree, slopes: Tree, parts: Tree) -> Any:
    """Return whether the path of the loose elements has lowered the objective, does not rise, and continues."""
    worth = f[_BEFORE] - f[_HERE]
    # an element of the way that is zero has parts that are
    some = lambda parts: [
        jnp.sum(jnp.where(v == 0, 0, part)) for v, part in zip(*map(jax.tree.leaves, (loose, parts)), strict=True)
    ]
    slope, bend = (trees.total(some(parts)) for parts in (slopes, parts))
    ends = (bend > _blur(f)) & (-slope < jnp.finfo(f.dtype).eps ** SHORTEST * bend)
    return (worth > _blur(f) / LEFT[1]) & (f[_BEYOND] - f[_HERE] <= LEFT[0] * worth) & ~ends
