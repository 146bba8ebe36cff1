r"""A penalty on a set: pairs whose sum has a proximal operator that is known exactly.

The proximal point of :math:`g + \iota_C` is the point :math:`p` with :math:`x - p \in \eta\,\partial g(p) + N_C(p)`.
Where one operator after the other finds it follows from one remark (Yu, theorem 1): with :math:`q = \mathrm{prox}_f(x)`
and :math:`p = \mathrm{prox}_h(q)`, the optimality of both is :math:`x - q \in \partial f(q)` and :math:`q - p \in
\partial h(p)`. Their sum is the optimality of ``p`` for :math:`f + h`, if :math:`\partial f(q) \subset \partial f(p)`.

**Projection after the proximal operator**, :math:`f = \eta g`, :math:`h = \iota_C`:

- ``g`` and ``C`` elementwise: of one variable, :math:`\varphi(p) = \tfrac12 (p - x)^2 + \eta g(p)` falls up to its
  minimizer and rises from there, so the nearest point of an interval is the minimizer on it. (This is no case of the
  inclusion.)
- ``C`` the ball around zero and ``g`` positively homogeneous: ``p`` is a positive multiple of ``q`` (the radius is
  positive) or both are zero, and :math:`\partial g(cq) = \partial g(q)`.
- :math:`g = \tfrac\lambda2 \|\cdot\|^2` with a scalar :math:`\lambda` and any ``C``: the square is completed,
  :math:`\tfrac12 \|p - x\|^2 + \tfrac{\eta\lambda}2 \|p\|^2` is :math:`\tfrac{1 + \eta\lambda}2 \|p - x/(1 +
  \eta\lambda)\|^2` up to a constant. For the sum of it and a homogeneous function (the elastic net) on the ball, take
  :math:`h = \iota_C + \tfrac{\eta\lambda}2 \|\cdot\|^2`, which shrinks ``q`` by a factor.
- ``g`` the total variation and ``C`` one interval for all elements: clipping keeps the signs of differences, or makes
  them zero, where every subgradient of an absolute value remains one.

**Projection before it**, :math:`f = \iota_C`, :math:`h = \eta g`:

- ``C`` a cone and :math:`g = \lambda\|\cdot\|_2`: ``p`` is a multiple :math:`c \ge 0` of ``q``, and :math:`N_C(q)
  \subset N_C(cq)`.
- ``C`` the nonnegative orthant, ``g`` of absolute values: :class:`NonNegative`.

**A multiplier**: ``g`` elementwise, ``C`` the points of a box with :math:`\langle a, p\rangle = b`; the simplex is one.
With the multiplier :math:`\tau` of the equation, ``p`` is the proximal point of :math:`x + \tau a` on the box, which is
of the first kind, and :math:`\langle a, p(\tau)\rangle` is nondecreasing: a root of one variable. Its derivative is
that of an implicit function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..numerics.separable import leaves_like, smallest
from ..sets import Box, BoxSection, Cone, Hypercube, L2Ball, LInfBall, Set, Simplex
from ..sets import NonNegative as Orthant
from ..sets import Product as Sets
from ..sets._base import believed
from ..status import SolveError, Status
from ..trees import Tree
from ._barriers import Entropy, LogBarrier
from ._base import Penalty, require_step
from ._from_sets import LInf, SupportFunction
from ._huber import Huber
from ._norms import L1, ElasticNet, GroupLasso, Ridge
from ._nuclear_norm import NuclearNorm
from ._sorted_l1 import SortedL1
from ._total_variation import TotalVariation
from ._wrappers import NonNegative, Orthogonal, Product, Scaled

_HOMOGENEOUS = (L1, GroupLasso, LInf, SortedL1, NuclearNorm, TotalVariation, SupportFunction)
_ROUNDS = 300


def _sets(constraint: Any) -> list[Any]:
    return jax.tree.leaves(constraint.sets, is_leaf=_is_set) if isinstance(constraint, Sets) else [constraint]


def _is_set(node: Any) -> bool:
    return isinstance(node, Set)


def _is_penalty(node: Any) -> bool:
    return isinstance(node, Penalty)


def _scalar(*parameters: Any) -> bool:
    return all(jax.tree_util.treedef_is_leaf(jax.tree.structure(p)) and jnp.ndim(p) == 0 for p in parameters)


def _intervals(constraint: Any) -> bool:
    """Return whether a set is an interval for each element."""
    return all(part.elementwise and part.convex for part in _sets(constraint))


def _one_interval(constraint: Any) -> bool:
    """Return whether it is the same interval for all elements."""
    if isinstance(constraint, Box):
        return _scalar(*(bound for bound in (constraint.lower, constraint.upper) if bound is not None))
    return isinstance(constraint, Orthant | LInfBall | Hypercube)


def _homogeneous(penalty: Any) -> bool:
    """Return whether a penalty is positively homogeneous."""
    if isinstance(penalty, Product):
        return all(map(_homogeneous, jax.tree.leaves(penalty.penalties, is_leaf=_is_penalty)))
    if isinstance(penalty, NonNegative | Scaled | Orthogonal):
        return _homogeneous(penalty.penalty)
    return isinstance(penalty, _HOMOGENEOUS)


def _route(penalty: Any, constraint: Any) -> str | None:
    """Return how the proximal point is found, or ``None``."""
    if isinstance(penalty, Ridge) and _scalar(penalty.strength):
        return "after"
    if not (penalty.convex and constraint.convex):
        return None
    if penalty.elementwise and _intervals(constraint):
        return "after"
    if isinstance(constraint, L2Ball):
        mixed = isinstance(penalty, ElasticNet) and _scalar(penalty.strength, penalty.ratio)
        return "after" if mixed or _homogeneous(penalty) else None
    if isinstance(penalty, TotalVariation) and _one_interval(constraint):
        return "after"
    if isinstance(penalty, GroupLasso) and not isinstance(penalty.axis, int) and isinstance(constraint, Cone | Orthant):
        return "before"
    if penalty.elementwise and isinstance(constraint, Simplex | BoxSection):
        return "multiplier"
    return None


def constrained(penalty: Any, constraint: Any) -> Penalty | None:
    """Return a penalty on a set as one penalty, or ``None`` where their sum has no proximal operator that is known."""
    if isinstance(constraint, Orthant) and penalty.monotone:
        return NonNegative(penalty)
    if _route(penalty, constraint) is not None:
        return Constrained(penalty, constraint)
    parts = None
    if isinstance(penalty, Product) and isinstance(constraint, Sets):
        trees_of = [jax.tree.structure(tree, is_leaf=leaf) for tree, leaf in _places(penalty, constraint)]
        if trees_of[0] == trees_of[1]:
            parts = jax.tree.map(constrained, penalty.penalties, constraint.sets, is_leaf=_is_penalty)
    elif isinstance(constraint, Sets) and penalty.elementwise and _scalar(*jax.tree.leaves(penalty)):
        parts = jax.tree.map(lambda part: constrained(penalty, part), constraint.sets, is_leaf=_is_set)
    elif isinstance(penalty, Product) and _one_interval(constraint):
        parts = jax.tree.map(lambda part: constrained(part, constraint), penalty.penalties, is_leaf=_is_penalty)
    if parts is None or None in jax.tree.leaves(parts, is_leaf=lambda node: node is None or _is_penalty(node)):
        return None
    return Product(parts)


def _places(penalty: Product, constraint: Sets) -> list[Any]:
    return [(penalty.penalties, _is_penalty), (constraint.sets, _is_set)]


@record
class Constrained(Penalty):
    r"""A penalty on a set: :math:`g(x)` for ``x`` in ``C``, infinite elsewhere.

    What :class:`dini.Minimize` makes of a ``penalty`` and a ``constraint`` together. The proximal operator is exact,
    for these pairs and for trees of them in products:

    - bounds with elementwise convex penalties; scalar bounds with :class:`TotalVariation`;
    - :class:`dini.sets.NonNegative` with ``monotone`` penalties, which is :class:`NonNegative`;
    - :class:`dini.sets.L2Ball` with positively homogeneous penalties, such as :class:`L1`, :class:`GroupLasso` and
      :class:`NuclearNorm`, and with :class:`ElasticNet` of scalar strengths;
    - cones with the :class:`GroupLasso` of the whole unknown;
    - :class:`dini.sets.Simplex` and :class:`dini.sets.BoxSection` with elementwise convex penalties, such as
      :class:`Entropy`;
    - every set with :class:`Ridge` of a scalar strength.

    Parameters
    ----------
    penalty
        ``g``: a penalty.
    set
        ``C``: a set of :mod:`dini.sets`.

    Raises
    ------
    ValueError
        For a pair whose proximal operator is not known; :func:`dini.minimize` splits it.
    SolveError
        If the penalty is infinite on all of the set (NaN in a compiled function).

    References
    ----------
    Yu, "On decomposing the proximal map", NeurIPS 2013.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini import penalties, sets
    >>> capped = penalties.Constrained(penalties.L1(1.0), sets.Box(0.0, 1.0))
    >>> print(capped.prox(jnp.array([3.0, 1.5, 0.5, -2.0]), 1.0))
    [1.  0.5 0.  0. ]
    """

    penalty: Any
    set: Any

    def __post_init__(self) -> None:
        # an empty place, as in a tree of axes for vmap, passes
        if isinstance(self.penalty, Penalty) and _is_set(self.set) and _route(self.penalty, self.set) is None:
            raise ValueError(no_operator(self.penalty, self.set))

    @property
    def convex(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether both are."""
        return self.penalty.convex and self.set.convex

    @property
    def elementwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether both are."""
        return self.penalty.elementwise and _intervals(self.set)

    @property
    def valued(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the penalty is."""
        return self.penalty.valued

    def within(self, x: Tree) -> Any:
        """Return the projection onto the set."""
        return self.set.project(x)

    def value(self, x: Tree) -> jax.Array:
        """Return the penalty; outside of the set infinity (of sets that are no bounds, up to rounding)."""
        away = trees.norm(trees.sub(x, self.set.project(x)))
        slack = 0 if self.elementwise else trees.eps(x) ** 0.5 * (1 + trees.norm(x))
        outside = jax.lax.stop_gradient(~(away <= slack))
        return jnp.where(outside, jnp.inf, self.penalty.value(x))

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the proximal point of the sum."""
        require_step(step_size)
        route = _route(self.penalty, self.set)
        if route == "before":
            return self.penalty.prox(self.set.project(x), step_size)
        if route == "multiplier":
            return _Section(self.penalty, self.set).prox(x, step_size)
        p = self.set.project(self.penalty.prox(x, step_size))
        if not self.elementwise or isinstance(self.penalty, L1 | ElasticNet | Ridge | Huber):
            return p
        # a penalty that is infinite somewhere may be so on all of the set; a point that is NaN is no news
        value, finite = jax.lax.stop_gradient((self.penalty.value(p), trees.all_finite(p)))
        return believed(p, (self, x), ~jnp.isinf(value) | ~finite, _empty)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return a lower bound: both operators are nonexpansive, so that what they are given moves no farther.

        Of bounds, only elements that move with ``x`` count; with a multiplier, nothing is known.
        """
        route = _route(self.penalty, self.set)
        if route == "before":
            first, q = self.set.kink_distance(x), self.set.project(x)
            return jnp.minimum(first, self.penalty.kink_distance(q, step_size))
        if route == "multiplier":
            smooth = isinstance(self.penalty, Entropy | LogBarrier) and isinstance(self.set, Simplex)
            return jnp.full((), jnp.inf if smooth else jnp.nan, trees.real_dtype(x))
        first = self.penalty.kink_distance(x, step_size)
        q = self.penalty.prox(x, step_size)
        if not (self.elementwise and all(hasattr(part, "bounds") for part in _sets(self.set))):
            return jnp.minimum(first, self.set.kink_distance(q))
        ones = jax.tree.map(jnp.ones_like, x)
        slopes = jax.jvp(lambda u: self.penalty.prox(u, step_size), (x,), (ones,))[1]

        def gap(u: jax.Array, slope: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
            near = jnp.minimum(jnp.abs(u - low), jnp.abs(u - high))
            return jnp.where((slope == 0) | (low == high), jnp.inf, near)

        return jnp.minimum(first, smallest(jax.tree.map(gap, q, slopes, *_bounds(self.set, q)), x))

    def check(self, x: Tree) -> None:
        """Raise unless both fit ``x``."""
        if not isinstance(self.penalty, Penalty) or not _is_set(self.set):
            raise TypeError(
                f"Constrained needs a penalty of dini.penalties and a set of dini.sets: given {self.penalty!r} and "
                f"{self.set!r}."
            )
        self.penalty.check(x)
        self.set.check(x)

    def closed(self, x: Tree) -> Constrained:
        """Return the penalty with everything that the functions of both close over made explicit."""
        return Constrained(self.penalty.closed(x), self.set.closed(x))

    def separates_rows(self, x: jax.Array) -> bool:
        """Return whether both do."""
        return self.penalty.separates_rows(x) and self.set.separates_rows(x)

    def row(self, i: Any, x: jax.Array) -> Constrained:
        """Return the penalty of one row."""
        return Constrained(self.penalty.row(i, x), self.set.row(i, x))


def no_operator(penalty: Any, constraint: Any) -> str:
    """Return the message for a pair whose proximal operator is not known."""
    if not (penalty.convex and constraint.convex):
        part = penalty if not penalty.convex else constraint
        return (
            f"A constraint and a penalty together must be convex (or the penalty monotone, on nonnegative numbers): "
            f"{part.name} is not. Given {penalty.name} on {constraint.name}."
        )
    return (
        f"The proximal operator of {penalty.name} on {constraint.name} is not known. dini.minimize(fun, x0, "
        "constraint=..., penalty=...) splits the two, as dini.Composite(fun, penalty, constraint=constraint) with "
        "CondatVu or DouglasRachford does."
    )


def _bounds(constraint: Any, x: Tree) -> tuple[Any, Any]:
    """Return the bounds of a set of intervals as two trees like ``x``."""
    if not isinstance(constraint, Sets):
        return constraint.bounds(x)
    side = lambda i: jax.tree.map(lambda part, u: part.bounds(u)[i], constraint.sets, x, is_leaf=_is_set)
    return side(0), side(1)


def _empty() -> Exception:
    return SolveError("The penalty is infinite at every point of the constraint set.", Status.NONFINITE)


@dataclass(frozen=True)
class _Section:
    r"""The proximal operator of an elementwise penalty on :math:`\{l \le p \le u, \langle a, p\rangle = b\}`."""

    penalty: Any
    set: Any

    def _parts(self, x: Tree) -> tuple[Any, Any, Any]:
        """Return the box, the normal like ``x``, and the offset."""
        if isinstance(self.set, Simplex):
            return Orthant(), jax.tree.map(jnp.ones_like, x), jnp.asarray(self.set.radius, trees.real_dtype(x))
        normal = jax.tree.map(
            lambda u, a: jnp.broadcast_to(jnp.asarray(a, u.dtype), u.shape), x, leaves_like(self.set.normal, x)
        )
        return Box(self.set.lower, self.set.upper), normal, jnp.asarray(self.set.offset, trees.real_dtype(x))

    def _sum(self, tree: Tree) -> jax.Array:
        """Return the sum of all elements, or that of each slice of a product of simplices."""
        if isinstance(self.set, Simplex):
            return jnp.sum(tree, axis=self.set.summed_axis, keepdims=True)
        return trees.total([jnp.sum(leaf) for leaf in jax.tree.leaves(tree)])

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Find the multiplier, where its derivative is that of an implicit function."""
        self.set.check(x)
        box, normal, offset = self._parts(x)
        if isinstance(self.set, Simplex):
            # relative to the largest element, which then costs no digits
            x = x - jax.lax.stop_gradient(jnp.max(x, axis=self.set.summed_axis, keepdims=True))

        def point(tau: jax.Array) -> Any:
            return box.project(self.penalty.prox(jax.tree.map(lambda u, a: u + tau * a, x, normal), step_size))

        def excess(tau: jax.Array) -> jax.Array:
            return self._sum(jax.tree.map(jnp.multiply, normal, point(tau))) - offset

        start = jnp.zeros_like(self._sum(x))
        tau = jax.lax.custom_root(excess, start, _increasing_root, _divide)
        p = point(tau)
        terms = self._sum(jax.tree.map(lambda a, u: jnp.abs(a * u), normal, p))
        left = jnp.abs(self._sum(jax.tree.map(jnp.multiply, normal, p)) - offset)
        good = jnp.all(left <= trees.eps(x) ** 0.5 * (terms + jnp.abs(offset)))
        return believed(p, (self.penalty, self.set, x), good, _missed)


def _missed() -> Exception:
    return SolveError(
        "No point of the constraint set with a finite penalty satisfies the equation, or the numbers are too large for "
        "their precision.",
        Status.SINGULAR,
    )


def _divide(slope: Any, y: jax.Array) -> jax.Array:
    # each slice has a multiplier of its own; where none of its elements moves, nothing does
    size = slope(jnp.ones_like(y))
    return jnp.where(size > 0, y / jnp.where(size > 0, size, 1), 0)


def _increasing_root(fun: Any, start: jax.Array) -> jax.Array:
    """Return a root of each element of an elementwise nondecreasing function.

    Doubling finds a bracket. Newton's method is kept in it, and every third step goes to its middle.
    """
    ones = jnp.ones_like(start)

    def widen(carry: Any) -> Any:
        count, low, high, _ = carry
        below, above = fun(low) > 0, fun(high) < 0
        low, high = jnp.where(below, 4 * low, low), jnp.where(above, 4 * high, high)
        return count + 1, low, high, jnp.any(below | above)

    _, low, high, _ = jax.lax.while_loop(
        lambda c: c[-1] & (c[0] < _ROUNDS), widen, (0, start - ones, start + ones, jnp.asarray(True))
    )

    def body(carry: Any) -> Any:
        count, tau, low, high, _ = carry
        value, slope = jax.jvp(fun, (tau,), (ones,))
        low, high = jnp.where(value <= 0, tau, low), jnp.where(value >= 0, tau, high)
        newton = tau - value / jnp.where(slope > 0, slope, 1)
        middle = low + 0.5 * (high - low)
        outside = ~((newton > low) & (newton < high)) | (slope <= 0) | (count % 3 == 2)
        new = jnp.where(value == 0, tau, jnp.where(outside, middle, newton))
        return count + 1, new, low, high, jnp.any((new != tau) & (low < high))

    return jax.lax.while_loop(
        lambda c: c[-1] & (c[0] < _ROUNDS), body, (0, 0.5 * (low + high), low, high, jnp.asarray(True))
    )[1]
