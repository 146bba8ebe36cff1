r"""What a claim of a minimum must stand: the one look at the objective where a run ends.

A solver stops where what it sees is small: a gradient beside the curvature of its steps. Two things it cannot see, and
they are looked for here, once, at the point that it is about to call a minimum.

**Unlike units.** A gradient sees little of an element whose unit is a millionth of the others', and steps along the
gradient show nothing of its curvature. Let :math:`w_i` be the curvature of each element beside all others, the row norm
that a symmetric scaling makes equal,

.. math:: \sum_j (H_{ij})^2 / (w_i w_j) = 1 , \qquad (1)

which a few products of the Hessian with random signs find (Bradley and Murray). A few steps of conjugate gradients on

.. math:: H p = -g , \qquad (2)

preconditioned by the :math:`w_i`, do not depend on the units of the elements. If :math:`x + p`, or an eighth of that
step, is lower than ``x`` by more than

.. math:: \text{rtol} \cdot \max\big(f(x_0) - f(x),\; \min(|f(x)|, e)\big) + 10\, \text{rtol}^2 e, \qquad
          e = \tfrac{1}{2} \sum_i w_i x_i^2 , \qquad (3)

what the run has gained, what the value itself is worth to a start beside the solution, and what an error of the point
within its tolerance weighs, then ``x`` is no minimum. Of residuals, whose value counts from zero, a hundredth of the
value is too much as well. Neither is a point a minimum where the one found is lower at all, and farther away than any
tolerance allows, :math:`\|p\| > 10^{-2} \|x\|`: steps may not have seen the softest direction of a narrow valley. Since
a lower point is shown, no solution is refused by an estimate that is off.

**No minimum.** A function that falls for ever, as :math:`e^{-x}` does, has a gradient that vanishes as well. Let
:math:`v = x - x_0` be the way from the start, and ``q`` its elements that nothing holds any more,
:math:`|v_i (H v)_i| \le \delta (f(x_0) - f(x))`, where :math:`\delta` is rtol, but from :math:`10^{-4}` to
:math:`10^{-2}`. Where the way of these elements was worth something,
:math:`\Delta = f(x - q) - f(x)`, the objective is no higher at :math:`x + q`, and a Newton step along the way is a part
of it that shows, :math:`-g \cdot q \ge \eta\, q \cdot H q` (at a minimum it is as short as the tolerance is small;
that of :math:`e^{-x}` has the length one wherever it is taken), the way is looked at: an end that is reached at
:math:`t_e` is approached as :math:`(t_e - t)^k`, so that the last hundredth and the last ten-thousandth of the gain are
left at nearly the same place. Of a function that only tends to its bound, the second lies farther out by a factor: 2
for an exponential, 1.4 for a Gaussian, 100 for :math:`1/x`.

References
----------
Bradley and Murray, "Matrix-free approximate equilibration", 2011.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp

from . import trees
from .functions.costs import cost
from .problems import LeastSquares, Minimize
from .protocols import AnyProblem, Composed
from .sets._boxes import bounds_of, has_bounds
from .status import Status
from .trees import Tree

#: products that find the units: each takes the square root of what is wrong with them, and 24 decades become a third
ROUNDS = 6
#: the share of a gain that counts as nothing
NOTHING = 1e-4
#: the power of rounding that is the shortest Newton step, as a share of the way, of a function that falls for ever
SHORTEST = 0.25
#: the factor of an element that no product has reached: a number that none has by itself
_FRESH = 1.2345
#: steps of conjugate gradients
STEPS = 8
#: a lower point that is farther away than this share of the size of the point, and so many tolerances, is another one
FAR, TOLERANCES = 1e-2, 100
#: a difference of two values is known to so many units of rounding
ROUNDING = 32
#: what is left of a gain at the two places that are compared, and the factor between these
LEFT = (1e-2, 1e-4)
FARTHER = 1.35
#: halvings, on a logarithmic scale of the way, that find a place; where the search begins
_HALVINGS, _NEAREST = 12, 1e-9

#: where the objective is asked: at the start, the point, both ends of the way that nothing holds, and twice on the step
#: down; as shares of the way from the start, of that step, and of the way that nothing holds
_SHARES = ((-1, 0, 0), (0, 0, 0), (0, 0, -1), (0, 0, 1), (0, 1, 0), (0, 1 / 8, 0))
_START, _HERE, _BEFORE, _BEYOND, _DOWN, _EIGHTH = range(len(_SHARES))


def status(problem: AnyProblem, solver: Any, rtol: Any, start: Tree, end: Any, args: tuple[Tree, ...]) -> Any:
    """Return the status of an end, where ``CONVERGED`` stays only where the claim stands.

    ``NO_MINIMUM`` takes its place where a step in the elements' own units leads further down, ``DIVERGED`` where the
    function has no minimum where it was followed. Of objectives that have no products with their Hessian, or that hold
    a loop of unknown length (a solve, say), nothing is seen. Solvers of residuals have a test of their own, of what a
    Gauss-Newton step promises.
    """
    if not isinstance(problem, Minimize | LeastSquares) or Minimize not in solver.solves:
        return end.status
    if problem.penalty is not None:
        return end.status
    if problem.constraint is not None and not has_bounds(problem.constraint):
        return end.status
    x, start, args = jax.lax.stop_gradient((end.x, start, args))
    program = linearized(lambda u: problem.gradient(u, *args), x)
    if program is None:
        return end.status
    claimed = (end.status == Status.CONVERGED) & trees.all_finite(x)
    fine = lambda: jnp.asarray(Status.CONVERGED, jnp.int32)
    seen = jax.lax.cond(claimed, lambda: _seen(problem, program, rtol, start, x, args), fine)
    return jnp.where(claimed, seen, end.status).astype(jnp.int32)


def linearized(fun: Any, x: Tree, *, at_any_price: bool = False) -> Any:
    """Return a function and its derivative's product as one program, unless there is none or it is too dear."""
    try:
        both, shape = jax.make_jaxpr(lambda u, v: jax.jvp(fun, (u,), (v,)), return_shape=True)(x, x)
    except Exception:  # no forward mode: a call of the host, say, or a rule for reverse mode only
        return None
    if not at_any_price and cost(both.jaxpr, [True] * len(both.jaxpr.invars)).unbounded:
        return None
    tree = jax.tree.structure(shape)
    return lambda *at: jax.tree.unflatten(tree, jax.core.eval_jaxpr(both.jaxpr, both.consts, *jax.tree.leaves(at)))


class _Curvature(NamedTuple):
    """What products with the Hessian have shown; a loop's carry."""

    #: (1), as the factors of a scaling, `_FRESH` where no product has reached
    scales: Tree
    #: the solution of (2), the next direction, what is left of the right-hand side, and its square
    step: Tree
    along: Tree
    left: Tree
    square: Any
    #: the last product, at the end that with the way from the start, and the gradient; times that way after the loop
    parts: Tree
    slopes: Tree


def _curvature(program: Any, x: Tree, way: Tree, bounds: Any) -> _Curvature:
    """Return what products with random signs, those of conjugate gradients and one along the way show.

    They are steps of one loop, since a program is compiled as often as it is written down.
    """
    dtype = trees.real_dtype(x)
    last = ROUNDS + min(STEPS, trees.size(x))

    def fit(s: Any, v: Any) -> Any:
        row = s * jnp.abs(v).astype(dtype)
        known = (row > 0) & jnp.isfinite(row)
        return jnp.where(known, s * jax.lax.rsqrt(jnp.where(known, row, 1)), s)

    def free(r: Any, u: Any, low: Any, high: Any) -> Any:
        return jnp.where(((u <= low) & (r < 0)) | ((u >= high) & (r > 0)), 0, r)

    def one(k: Any, now: _Curvature) -> _Curvature:
        learns, begins = k < ROUNDS, k == ROUNDS - 1
        signs = jax.tree.map(lambda s, z, u: (s * z).astype(u.dtype), now.scales, _signs(x, k), x)
        along = trees.where(learns, signs, trees.where(k < last, now.along, way))
        gradient, product = program(x, along)
        scales = trees.where(learns, jax.tree.map(fit, now.scales, product), now.scales)

        bend = trees.vdot(along, product)
        # where the curvature is not positive, the first step is one in the elements' own units, and the last
        length = jnp.where(bend > 0, now.square / jnp.where(bend > 0, bend, 1), 1)
        length = jnp.where(learns, 0, length)
        step = trees.where(k < last, trees.axpy(length, along, now.step), now.step)
        rest = trees.neg(gradient) if bounds is None else jax.tree.map(free, trees.neg(gradient), x, *bounds)
        left = trees.where(begins, rest, trees.axpy(-length, product, now.left))
        if bounds is not None:  # what a bound holds stays
            left = jax.tree.map(lambda r, g: jnp.where(g == 0, 0, r), left, rest)
        units = jax.tree.map(lambda r, s: jnp.where(s == _FRESH, 0, r * jnp.square(s)).astype(r.dtype), left, scales)
        square = jnp.where(begins | (bend > 0), trees.vdot(left, units), 0)
        turn = jnp.where(begins | (now.square <= 0), 0, square / jnp.where(now.square > 0, now.square, 1))
        return _Curvature(scales, step, trees.axpy(turn, along, units), left, square, product, gradient)

    zero = trees.zeros_like(x)
    fresh = jax.tree.map(lambda u: jnp.full(u.shape, _FRESH, dtype), x)
    start = _Curvature(fresh, zero, zero, zero, jnp.zeros((), dtype), zero, zero)
    end = jax.lax.fori_loop(0, last + 1, one, start)
    parts, slopes = (jax.tree.map(jnp.multiply, way, by) for by in (end.parts, end.slopes))
    return end._replace(parts=parts, slopes=slopes)


def _signs(x: Tree, k: Any) -> Any:
    """Return a vector of plus and minus ones like ``x``, another one for each ``k``."""

    def one(u: Any) -> jax.Array:
        i = jnp.arange(1, u.size + 1, dtype=jnp.uint32).reshape(u.shape) * jnp.uint32(2654435761)
        i = (i ^ (i >> 15) ^ (jnp.asarray(k, jnp.uint32) * jnp.uint32(40503))) * jnp.uint32(2246822519)
        return jnp.where((i ^ (i >> 13)) >> 31, -1.0, 1.0)

    return jax.tree.map(one, x)


def _seen(problem: Composed, program: Any, rtol: Any, start: Tree, x: Tree, args: tuple[Tree, ...]) -> Any:
    """Return the status that the curvature at a point leaves, and values of the objective at a few others."""
    bounds = None if problem.constraint is None else bounds_of(problem.constraint, x)
    back = trees.sub(x, start)
    way = _way(x, back, bounds)
    found = _curvature(program, x, way, bounds)
    dtype = trees.real_dtype(x)

    def value(loose: Tree, ways: Any, along: Any) -> Any:
        point = trees.axpy(ways[0], back, trees.axpy(ways[1], found.step, x))
        point = trees.axpy(along, loose, point)
        point = point if bounds is None else jax.tree.map(jnp.clip, point, *bounds)
        return problem.value(point, *args).astype(dtype)

    told = _values(value, lambda f: _loose(f, way, found, rtol), lambda f, loose: _unheld(f, loose, found), x, dtype)
    f = told.f
    gain = f[_HERE] - jnp.minimum(f[_DOWN], f[_EIGHTH]) - _blur(f)
    more = gain > _nothing(f, found, x, rtol, isinstance(problem, LeastSquares))
    far = (gain > 0) & (trees.norm(found.step) > jnp.maximum(TOLERANCES * rtol, FAR) * trees.norm(x))
    seen = jnp.where((more | far) & (rtol > 0), Status.NO_MINIMUM, Status.CONVERGED)
    endless = told.follows & (told.far > FARTHER * told.first)
    return jnp.where(endless, Status.DIVERGED, seen).astype(jnp.int32)


def _way(x: Tree, back: Tree, bounds: Any) -> Tree:
    """Return the way from the start but for the elements that a bound stops, which need nothing else to hold them."""
    if bounds is None:
        return back
    ahead = jax.tree.map(jnp.clip, trees.add(x, back), *bounds)
    return jax.tree.map(lambda v, a, u: jnp.where(jnp.abs(a - u) >= 0.5 * jnp.abs(v), v, 0), back, ahead, x)


class _Places(NamedTuple):
    """What values of the objective have shown; a loop's carry."""

    k: Any
    f: Any
    #: the elements that nothing holds, where `f` knows the start and the point, and whether their way is followed
    loose: Tree
    follows: Any
    #: on the way that nothing holds, between which shares of it the place lies that is sought, and the first one found
    near: Any
    far: Any
    first: Any


def _values(value: Any, loose: Any, unheld: Any, x: Tree, dtype: Any) -> _Places:
    """Return the objective at the places of :data:`_SHARES`, and where what is left of the gain comes to `LEFT`.

    These are sought, by halvings, only where they may show something. One loop, with the objective written down once.
    """
    count = len(_SHARES)
    place = jnp.arange(count, dtype=jnp.int32)
    shares = jnp.asarray(_SHARES, dtype)

    def step(now: _Places) -> _Places:
        halves, second = now.k >= count, now.k >= count + _HALVINGS
        middle = jnp.sqrt(now.near * now.far)
        here = place == now.k
        ways = jnp.sum(jnp.where(here[:, None], shares, 0), axis=0)
        f_k = value(now.loose, ways, jnp.where(halves, middle - 1, ways[2]))
        f = jnp.where(here, f_k, now.f)
        loosened = loose(f)
        left = jnp.where(second, LEFT[1], LEFT[0])
        above = f_k - f[_HERE] > left * (f[_BEFORE] - f[_HERE])
        near, far = (jnp.where(halves & at, middle, end) for at, end in ((above, now.near), (~above, now.far)))
        turns = now.k == count + _HALVINGS - 1
        return _Places(
            now.k + 1,
            f,
            loosened,
            unheld(f, loosened),
            jnp.where(turns, _NEAREST, near).astype(dtype),
            jnp.where(turns, 1, far).astype(dtype),
            jnp.where(turns, near, now.first),
        )

    def going(now: _Places) -> Any:
        return (now.k < count) | ((now.k < count + 2 * _HALVINGS) & now.follows)

    scalar = lambda v: jnp.asarray(v, dtype)
    start = jnp.zeros((), jnp.int32), jnp.zeros(count, dtype), trees.zeros_like(x), jnp.zeros((), bool)
    return jax.lax.while_loop(going, step, _Places(*start, scalar(_NEAREST), scalar(1), scalar(_NEAREST)))


def _blur(f: Any) -> Any:
    return ROUNDING * jnp.finfo(f.dtype).eps * jnp.maximum(jnp.abs(f[_START]), jnp.abs(f[_HERE]))


def _loose(f: Any, way: Tree, found: _Curvature, rtol: Any) -> Tree:
    """Return the elements of the way that nothing holds, and zeros.

    What a solver may leave by its tolerance holds nothing: in single precision that is more than :data:`NOTHING`.
    """
    nothing = jnp.clip(rtol, NOTHING, LEFT[0]) * (f[_START] - f[_HERE])
    return jax.tree.map(lambda v, part: jnp.where(jnp.abs(part) <= nothing, v, 0), way, found.parts)


def _unheld(f: Any, loose: Tree, found: _Curvature) -> Any:
    """Return whether the way of the loose elements was worth something, leads no higher, and does not end here."""
    worth = f[_BEFORE] - f[_HERE]
    # an element of the way that is zero has parts that are
    some = lambda parts: [
        jnp.sum(jnp.where(v == 0, 0, part)) for v, part in zip(*map(jax.tree.leaves, (loose, parts)), strict=True)
    ]
    slope, bend = (trees.total(some(parts)) for parts in (found.slopes, found.parts))
    ends = (bend > _blur(f)) & (-slope < jnp.finfo(f.dtype).eps ** SHORTEST * bend)
    return (worth > _blur(f) / LEFT[1]) & (f[_BEYOND] - f[_HERE] <= LEFT[0] * worth) & ~ends


def _nothing(f: Any, found: _Curvature, x: Tree, rtol: Any, from_zero: bool) -> Any:
    """Return the decrease (3) that is none, of values that may count from zero."""
    weigh = lambda s, u: jnp.sum(jnp.square(jnp.where(s == _FRESH, 0, u.astype(f.dtype) / s)))
    own = 0.5 * trees.total(jax.tree.leaves(jax.tree.map(weigh, found.scales, x)))
    here = jnp.abs(f[_HERE])
    nothing = rtol * jnp.maximum(f[_START] - f[_HERE], jnp.minimum(own, here)) + 10 * rtol**2 * own
    return jnp.minimum(nothing, jnp.maximum(jnp.maximum(FAR, rtol) * here, rtol**2 * own)) if from_zero else nothing
