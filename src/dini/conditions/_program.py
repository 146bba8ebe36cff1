"""The Karush-Kuhn-Tucker conditions of a quadratic program, with the constraints that are active at a point."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..linear._matrices import absolute, is_dense, is_sparse, largest_terms
from ..protocols import Quadratic
from ..trees import Tree
from ..trees.products import dot
from ._activity import active
from ._base import Condition

#: a multiplier of fewer units in the last place of the gradient's terms is what rounding leaves of zero
_ROUNDING = 16


class _Active(NamedTuple):
    """Which constraints hold with equality: of the inequalities, of the upper and of the lower bounds."""

    inequality: Any
    upper: Any
    lower: Any


@record
class ProgramKKT(Condition):
    r"""The KKT conditions of a :class:`dini.QuadraticProgram`.

    The unknown is the pair of ``x`` and the multipliers :math:`(y, z, \mu)` of equalities, inequalities and bounds;
    :math:`\mu` is positive at an upper bound and negative at a lower one. With ``a`` the indicator of the active
    inequalities, and :math:`\beta` that of the active bounds :math:`x_\text{b}`,

    .. math::
        F = \begin{pmatrix} Q x + c + A^\top y + G^\top (a \circ z) + \beta \circ \mu \\ A x - b \\
        a \circ (G x - h) + (1 - a) \circ z \\ \beta \circ (x - x_\text{b}) + (1 - \beta) \circ \mu \end{pmatrix} .

    Its derivative is symmetric, and regular at a nondegenerate solution: the gradients of the active constraints are
    independent, and ``Q`` is positive definite on what they leave free. An inequality is active where its multiplier
    is larger than its slack, each relative to what is large in the program: at a solution one of them is zero.
    """

    def __call__(self, problem: Quadratic, x: Tree, *args: Tree) -> Tree:
        """Return the residual, a tree like ``x``."""
        del args
        point, dual = x
        active = self.active(problem, jax.lax.stop_gradient(x))
        stationary = problem.gradient(point)
        equal, left, at_bounds = None, None, None
        if problem.A is not None:
            stationary = stationary + dot(problem.A.T, dual.equality)
            equal = dot(problem.A, point) - problem.b
        if problem.G is not None:
            a, z = active.inequality, dual.inequality
            stationary = stationary + dot(problem.G.T, jnp.where(a, z, 0))
            left = jnp.where(a, dot(problem.G, point) - _finite(a, problem.h), z)
        if dual.bounds is not None:
            held = jnp.zeros(point.shape, bool)
            at_bounds = dual.bounds
            for bound, holds in ((problem.upper, active.upper), (problem.lower, active.lower)):
                if bound is not None:
                    held = held | holds
                    at_bounds = jnp.where(holds, point - _finite(holds, bound), at_bounds)
            stationary = stationary + jnp.where(held, dual.bounds, 0)
        return type(x)(stationary, type(dual)(equal, left, at_bounds))

    def active(self, problem: Quadratic, x: Tree) -> _Active:
        """Return which inequalities and bounds hold with equality at a point."""
        return active_rows(problem, x)

    def structure(self, problem: Quadratic) -> Any:
        """Return what is known: the derivative is symmetric."""
        del problem
        return "symmetric"

    def error(self, problem: Quadratic, x: Tree, *args: Tree) -> jax.Array:
        """Return the largest residual relative to the program's size: in units of the unknown, or of the gradient.

        A row is divided by its largest element; the multiplier of one that is not active is a force, and measured as
        one. So neither units nor the size of a row decide. Nor do units of single elements: a row is relative to its
        own terms as well, and what a force that is left does where its element moves by its size, or a multiplier over
        its slack, beside the largest term of the gradient times its element.
        """
        stationary, (equal, left, at_bounds) = self(problem, x, *args)
        units, active, point = units_of(problem, x), self.active(problem, x), x.primal
        work = _work(problem, x, units)
        largest = [trees.max_abs(stationary) / units.slope, trees.max_abs(stationary * point) / work]
        if equal is not None:
            largest.append(trees.max_abs(equal / _lengths(problem.A, problem.b, units, point)))
        if left is not None:
            lengths, forces = _lengths(problem.G, problem.h, units, point), units.slope / _row_sizes(problem.G)
            largest.append(trees.max_abs(left / jnp.where(active.inequality, lengths, forces)))
            beyond = _beyond(dot(problem.G, point), problem.h)
            largest.append(trees.max_abs(x.dual.inequality * beyond) / work)
        if at_bounds is not None:
            held = active.upper | active.lower
            # an element at its bound is as large as that; of a bound that is zero, what is small is not known
            own = jnp.where(point != at_bounds, jnp.abs(point - at_bounds), units.length)
            own = jnp.clip(own, trees.eps(point) ** 0.25 * units.length, units.length)
            largest.append(trees.max_abs(at_bounds / jnp.where(held, own, units.slope)))
            mu = x.dual.bounds
            beyond = jnp.where(mu > 0, _beyond(point, problem.upper), _beyond(point, problem.lower))
            largest.append(trees.max_abs(mu * beyond) / work)
        return functools.reduce(jnp.maximum, largest)


@record
class HeldKKT(ProgramKKT):
    """The same conditions where it is known of some inequalities that they hold with equality, and go on to do so."""

    held: Any

    def active(self, problem: Quadratic, x: Tree) -> _Active:
        """Return which inequalities and bounds hold with equality at a point."""
        active = active_rows(problem, x)
        return active if self.held is None else active._replace(inequality=active.inequality | self.held)


def _finite(use: jax.Array, bound: Any) -> jax.Array:
    """Return a bound where it is used, and zero elsewhere: an infinite one would spoil derivatives."""
    return jnp.where(use, bound, 0)


class _Units(NamedTuple):
    """What is large in a program: elements of the unknown, and terms of the gradient."""

    length: jax.Array
    slope: jax.Array


def units_of(problem: Quadratic, x: Tree) -> _Units:
    """Return what is large in a program at a point."""
    point, dual = x
    slope = trees.max_abs((problem.gradient(jnp.zeros_like(point)), problem.gradient(point)))
    if problem.A is not None:
        slope = jnp.maximum(slope, trees.max_abs(dot(problem.A.T, dual.equality)))
    if dual.bounds is not None:
        slope = jnp.maximum(slope, trees.max_abs(dual.bounds))
    length = trees.max_abs(point)
    if problem.A is not None:
        # a point of zero is wrong by what it is to be
        length = jnp.where(length > 0, length, jnp.max(jnp.abs(problem.b) / _row_sizes(problem.A), initial=0))
    for bound in (problem.lower, problem.upper):
        if bound is not None:
            least = jnp.min(jnp.where(jnp.isfinite(bound) & (bound != 0), jnp.abs(bound), jnp.inf))
            length = jnp.where(length > 0, length, jnp.where(jnp.isfinite(least), least, 0))
    if problem.G is not None:
        rows = _row_sizes(problem.G)
        slope = jnp.maximum(slope, jnp.max(rows * jnp.abs(dual.inequality), initial=0))
        own = jnp.where(jnp.isfinite(problem.h) & (problem.h != 0), jnp.abs(problem.h), jnp.inf) / rows
        least = jnp.min(own, initial=jnp.inf)
        length = jnp.where(length > 0, length, jnp.where(jnp.isfinite(least), least, 0))
    one = lambda size: jnp.where(size > 0, size, 1)
    return _Units(one(length), one(slope))


def _lengths(matrix: Any, side: Any, units: _Units, point: jax.Array) -> jax.Array:
    """Return the scale of each row: its own terms at a point; of one without elements, its right-hand side."""
    size = _largest_elements(matrix)
    whole = size * units.length
    terms = absolute(matrix, point) + jnp.where(jnp.isfinite(side), jnp.abs(side), 0)
    # where all of its elements are to be zero, a row is wrong by little
    terms = jnp.clip(terms, trees.eps(point) ** 0.25 * whole, whole)
    return jnp.where(size > 0, terms, jnp.where(side != 0, jnp.abs(side), 1))


def _beyond(value: jax.Array, bound: Any) -> jax.Array:
    """Return how far values are beyond bounds, zero where there is none."""
    if bound is None:
        return jnp.zeros_like(value)
    there = jnp.isfinite(bound)
    return jnp.where(there, value - _finite(there, bound), 0)


def _work(problem: Quadratic, x: Tree, units: _Units) -> jax.Array:
    """Return the largest term of the gradient times the element that it pulls at."""
    point, dual = x
    terms = jnp.abs(problem.c)
    if problem.Q is not None:
        terms = jnp.maximum(terms, absolute(problem.Q, point))
    for matrix, multipliers in ((problem.A, dual.equality), (problem.G, dual.inequality)):
        if matrix is not None:
            terms = jnp.maximum(terms, absolute(matrix.T, multipliers))
    if dual.bounds is not None:
        terms = jnp.maximum(terms, jnp.abs(dual.bounds))
    whole = units.slope * units.length
    return jnp.clip(trees.max_abs(terms * point), trees.eps(point) ** 0.5 * whole, whole)


def _row_sizes(matrix: Any) -> jax.Array:
    size = _largest_elements(matrix)
    return jnp.where(size > 0, size, 1)


def _largest_elements(matrix: Any) -> jax.Array:
    if is_dense(matrix):
        size = jnp.max(jnp.abs(matrix), axis=1, initial=0)
    else:
        size = largest_terms(matrix, jnp.ones(matrix.shape[1], matrix.dtype))
    return size


def _pairs(problem: Quadratic, x: Tree) -> _Active:
    """Return the multipliers and the slacks of all constraints that can change, both in the units of the unknown.

    A slack is infinite where there is no bound; so is the multiplier of an unknown that equal bounds hold.
    """
    point, dual = x
    units = units_of(problem, x)
    share = units.length / units.slope
    free = jnp.zeros_like(point), jnp.full_like(point, jnp.inf)
    inequality, upper, lower = None, free, free
    if problem.G is not None:
        rows = _row_sizes(problem.G)
        inequality = dual.inequality * rows * share, (problem.h - dot(problem.G, point)) / rows
    if dual.bounds is not None:
        both = problem.upper is not None and problem.lower is not None
        pushed = lambda w: jnp.where(problem.upper == problem.lower, jnp.inf, w) if both else w
        if problem.upper is not None:
            upper = pushed(dual.bounds * share), problem.upper - point
        if problem.lower is not None:
            lower = pushed(-dual.bounds * share), point - problem.lower
    return _Active(inequality, upper, lower)


def active_rows(problem: Quadratic, x: Tree) -> _Active:
    """Return which inequalities and bounds hold with equality at a point, up to rounding; see :func:`active`."""
    units, (of_rows, of_bounds) = units_of(problem, x), _rounding(problem, x)
    share, eps = units.length / units.slope, jnp.finfo(x.primal.dtype).eps
    if problem.G is not None and of_rows is not None:
        of_rows = of_rows * _row_sizes(problem.G) * share
    of_bounds = None if of_bounds is None else of_bounds * share
    least = 0 if of_bounds is None else _ROUNDING * eps * units.length
    # where rounding is not known, any multiplier counts

    def known(pair: Any, noise: Any) -> Any:
        if pair is None:
            return None
        multiplier, slack = pair
        return active(multiplier, slack, -jnp.inf if noise is None else noise, least)

    inequality, upper, lower = _pairs(problem, x)
    return _Active(known(inequality, of_rows), known(upper, of_bounds), known(lower, of_bounds))


def _rounding(problem: Quadratic, x: Tree) -> tuple[Any, Any]:
    """Return what rounding may leave of multipliers of inequalities and bounds; ``None`` for maps, whose terms hide.

    Each is what the gradient's terms leave in the elements that the multiplier pulls at. An element whose terms are
    multipliers alone may hold nothing but rounding errors, and is not informative about a row; a bound that balances
    rows which are rounding is one, too.
    """
    point, dual = x
    matrices = [matrix for matrix in (problem.Q, problem.A, problem.G) if matrix is not None]
    if not all(is_dense(matrix) or is_sparse(matrix) for matrix in matrices):
        return None, None
    given = jnp.abs(problem.c)
    if problem.Q is not None:
        given = given + 0.5 * (absolute(problem.Q, point) + absolute(problem.Q.T, point))
    pulls = given if dual.bounds is None else given + jnp.abs(dual.bounds)
    rows = [(M, w) for M, w in ((problem.A, dual.equality), (problem.G, dual.inequality)) if M is not None]
    for matrix, own in rows:
        pulls = pulls + absolute(matrix.T, own)
    noise = _ROUNDING * jnp.finfo(pulls.dtype).eps * pulls
    inverse = lambda size: jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
    weights = jnp.where(given > 0, inverse(noise), 0)
    of_rows = [inverse(largest_terms(matrix, weights)) for matrix, _ in rows]
    balanced = jnp.zeros_like(noise)
    for (matrix, own), least in zip(rows, of_rows, strict=True):
        balanced = balanced + absolute(matrix.T, jnp.where(jnp.abs(own) <= least, own, 0))
    return (None if problem.G is None else of_rows[-1]), noise + 2 * balanced


def margins(problem: Quadratic, x: Tree) -> jax.Array:
    """Return the multipliers less the slacks of all constraints that can change, in the units of the unknown."""
    pairs = [pair for pair in _pairs(problem, x) if pair is not None]
    excess = jnp.concatenate([multiplier - slack for multiplier, slack in pairs])
    return jnp.where(jnp.isfinite(excess), excess, units_of(problem, x).length)
