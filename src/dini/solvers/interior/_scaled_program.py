r"""A quadratic program in units of its own, and the linear systems of its KKT conditions.

Equalities, inequalities and bounds are rows of one list, :math:`C x + s = h`. A row is *live* (with a slack and a
multiplier, both positive), *fixed* (an equality, or equal bounds: no slack) or dead (no bound). With the multipliers
``w`` of all rows, a point is one vector :math:`v = (x, w)`, and its conditions are

.. math:: S v = (-c, h - s), \qquad S = \begin{pmatrix} Q & C^\top \\ C & 0 \end{pmatrix} .

Rows and columns of ``S`` are scaled to about unit largest element (Ruiz 2001), then the unknown and the objective to
the sizes that the right-hand sides show, all by powers of two, which round nothing: with :math:`x = \beta D \hat x`,
rows times ``E`` and the objective times :math:`\varphi`,

.. math:: \hat Q = \varphi \beta^2 D Q D, \quad \hat c = \varphi \beta D c, \quad \hat C = E C D, \quad
          \hat h = E h / \beta, \quad w = E \hat w / (\varphi \beta) .

A system with weights, :math:`S - \mathrm{diag}(0, W)`, is solved by that with :math:`Q + \rho I` and :math:`W +
\delta`, which is regular for any convex program: rows are eliminated, and a matrix of the size of ``x`` is left for
Cholesky's factorization. Refinement with the system itself takes away what that changed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import xla
from ...conditions._activity import active
from ...linear._matrices import (
    absolute,
    is_dense,
    is_sparse,
    largest_terms,
    nothing,
    stacked,
    symmetric,
    weighted,
)
from ...linear._rolled import cholesky, lower_solve
from ...problems._composite import PrimalDual
from ...problems._quadratic_program import Multipliers
from ...protocols import Quadratic
from ...trees.products import dot

#: data whose largest elements are within this factor of one are not scaled further
_EVEN = 4.0
_ROUNDS = 12


class Scaled(NamedTuple):
    """The data in the program's own units; columns stand side by side in products (of arrays)."""

    quadratic: Any
    #: :math:`C` without the rows of bounds
    matrix: Any
    #: :math:`Q + \rho I`, where :math:`Q` is an array
    base: Any
    #: :math:`(-c, h)`
    offset: jax.Array
    live: jax.Array
    fixed: jax.Array
    #: rows that no point satisfies: their right-hand side is minus infinity, or they are bounds that exclude each other
    impossible: jax.Array
    columns: jax.Array
    scales: jax.Array
    length: jax.Array
    objective: jax.Array
    #: an empty tuple where there are such rows, else ``None``: a part of the structure
    equalities: Any
    inequalities: Any
    upper: Any
    lower: Any

    @property
    def n(self) -> int:
        """The number of unknowns."""
        return self.columns.size

    @property
    def used(self) -> jax.Array:
        """Which rows are not dead."""
        return self.live | self.fixed

    @property
    def signs(self) -> list[int]:
        """The signs of the rows of bounds."""
        return [sign for sign, there in ((1, self.upper), (-1, self.lower)) if there is not None]

    @property
    def ends(self) -> list[int]:
        """Where rows of bounds begin among the rows, and where the last ends."""
        first = self.matrix.shape[0]
        return [first + i * self.n for i in range(len(self.signs) + 1)]

    def signed(self, v: jax.Array) -> jax.Array:
        """Return a point whose multipliers of inequalities are not negative."""
        w = v[self.n :]
        return jnp.concatenate([v[: self.n], jnp.where(self.live, jnp.maximum(w, 0), w)])

    def slacks(self, x: jax.Array) -> jax.Array:
        """Return the slacks of live rows that hold, zero for the others."""
        return jnp.where(self.live, jnp.maximum(self.offset[self.n :] - self.rows(x), 0), 0)

    def active(self, w: jax.Array, s: jax.Array) -> jax.Array:
        """Return the rows that are taken for equations; of two bounds of an unknown, the one that is further beyond."""
        rows = jnp.where(self.live, active(w, s), self.fixed)
        if len(self.signs) < 2:
            return rows
        up, low = self.ends[0], self.ends[1]
        both, margin = rows[up:low] & rows[low:], w - s
        higher = (margin[up:low] >= margin[low:]) | self.fixed[up:low]
        # concatenated again: an update in place may be read by the next one (openxla/xla issue 49176)
        return jnp.concatenate([rows[:up], rows[up:low] & ~(both & ~higher), rows[low:] & ~(both & higher)])

    def product(self, v: jax.Array) -> jax.Array:
        """Return ``S v``."""
        x = v[: self.n]
        return jnp.concatenate([dot(self.quadratic, x) + self.back(v[self.n :]), self.rows(x)])

    def rows(self, x: jax.Array) -> jax.Array:
        """Return ``C x``."""
        return jnp.concatenate([dot(self.matrix, x), *(sign * x for sign in self.signs)])

    def back(self, w: jax.Array) -> jax.Array:
        """Return the transposed product."""
        total = dot(self.matrix.T, w[: self.matrix.shape[0]])
        for sign, first in zip(self.signs, self.ends[:-1], strict=True):
            total = total + sign * w[first : first + self.n]
        return total

    def gram(self, weights: jax.Array) -> jax.Array:
        """Return the matrix of :attr:`base` with the weighted squares of the rows."""
        first = self.matrix.shape[0]
        matrix = self.base + dot(self.matrix.T * weights[None, :first], self.matrix)
        if not self.signs:
            return matrix
        return matrix + jnp.diag(sum(weights[i : i + self.n] for i in self.ends[:-1]))  # pyright: ignore

    def point(self, v: jax.Array) -> PrimalDual:
        """Return a point in the user's units."""
        share = self.objective * self.length
        x, w = v[: self.n], v[self.n :]
        many = 0 if self.equalities is None else self.equalities.shape[0]
        rows = w[: self.matrix.shape[0]] * self.scales / share
        bounds = None
        for sign, first in zip(self.signs, self.ends[:-1], strict=True):
            bounds = (0 if bounds is None else bounds) + sign * w[first : first + self.n]
        dual = Multipliers(
            None if self.equalities is None else rows[:many],
            None if self.inequalities is None else rows[many:],
            None if bounds is None else bounds / (self.columns * share),
        )
        return PrimalDual(x * self.columns * self.length, dual)

    def vector(self, point: PrimalDual) -> jax.Array:
        """Return a point of the user's units as a vector; the multiplier of a bound goes to that of its sign."""
        own = jax.tree.map(jnp.divide, point, self.units(point))
        rows = [part for part in (own.dual.equality, own.dual.inequality) if part is not None]
        w = jnp.concatenate([*rows, *(sign * own.dual.bounds for sign in self.signs), jnp.zeros(0, own.primal.dtype)])
        return jnp.concatenate([own.primal, jnp.where(self.fixed, w, jnp.where(self.live, jnp.maximum(w, 0), 0))])

    def units(self, like: PrimalDual) -> PrimalDual:
        r"""Return the units of a point's parts; :math:`\varphi` times these are one over those of residuals."""
        share, many = self.objective * self.length, 0 if self.equalities is None else self.equalities.shape[0]
        rows = self.scales / share
        dual = Multipliers(
            None if like.dual.equality is None else rows[:many],
            None if like.dual.inequality is None else rows[many:],
            None if like.dual.bounds is None else 1 / (self.columns * share),
        )
        return PrimalDual(self.columns * self.length, dual)

    def joined(self, r: jax.Array) -> jax.Array:
        """Return a residual of the program's conditions where all rows hold with equality, in its own units."""
        if not self.signs:
            return r
        first = self.n + self.matrix.shape[0]
        return jnp.concatenate([r[:first], *(sign * r[first:] for sign in self.signs)])

    def parted(self, v: jax.Array, left: jax.Array, active: jax.Array) -> jax.Array:
        """Return a step for the program's conditions, of a residual ``left``.

        That of a row which is not active says that its multiplier is zero: it moves by what was left, which was
        multiplied by the unit of a slack's residual and not by one over a multiplier's own.
        """
        n, first = self.n, self.n + self.matrix.shape[0]
        share = self.objective * self.length
        own = lambda r, units: r / (self.objective * units**2)
        rows = jnp.where(active[: first - n], v[n:first], own(left[n:first], self.scales / share))
        if not self.signs:
            return jnp.concatenate([v[:n], rows])
        sides = [slice(i, i + n) for i in self.ends[:-1]]
        w = jnp.where(active, v[n:], 0)
        held = functools.reduce(jnp.logical_or, [active[side] for side in sides])
        pushes = sum(sign * w[side] for sign, side in zip(self.signs, sides, strict=True))
        bounds = jnp.where(held, pushes, own(left[first:], 1 / (self.columns * share)))
        return jnp.concatenate([v[:n], rows, bounds])


def regularization(size: int, dtype: Any) -> float:
    """Return what takes the place of zero on the diagonal: so large that rounding does not hide it."""
    return 4 * math.sqrt(max(size, 4) * float(jnp.finfo(dtype).eps))


def power(size: jax.Array) -> jax.Array:
    """Return the power of two next to a positive number, one for zero."""
    known = (size > 0) & jnp.isfinite(size)
    power = jnp.round(jnp.log2(jnp.where(known, size, 1))).astype(jnp.int32)
    # the function exp2 is a product of rounded numbers
    return jnp.ldexp(jnp.ones_like(size), power)


def terms_of(matrix: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """Return the function that gives the largest element of each row of a matrix, with weights of the columns."""
    size = abs(matrix)
    return lambda weights: jnp.max(size * weights[None, :], axis=1, initial=0)


def equilibrated(
    terms: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    together: Callable[[jax.Array], jax.Array] = lambda sizes: sizes,
) -> jax.Array:
    """Return the scales of the rows and columns of a symmetric matrix.

    ``terms`` returns the largest element of each row, with weights of the columns; ``together`` gives rows that must
    have one scale one size, the largest.
    """
    largest = lambda scales: together(scales * terms(scales))

    def uneven(now: tuple[Any, Any, Any]) -> jax.Array:
        count, _, sizes = now
        return (count < _ROUNDS) & jnp.any((sizes > 0) & ((sizes > _EVEN) | (sizes * _EVEN < 1)))

    def scale(now: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        count, scales, sizes = now
        scales = scales * power(1 / jnp.sqrt(jnp.where(sizes > 0, sizes, 1)))
        return count + 1, scales, largest(scales)

    return jax.lax.while_loop(uneven, scale, (0, start, largest(start)))[1]


def mean_size(v: jax.Array) -> jax.Array:
    """Return the geometric mean of the finite elements that are not zero; zero where there are none."""
    there = jnp.isfinite(v) & (v != 0)
    logs = jnp.where(there, jnp.log2(jnp.where(there, jnp.abs(v), 1)), 0)
    return jnp.where(jnp.any(there), jnp.exp2(jnp.sum(logs) / jnp.maximum(jnp.sum(there), 1)), 0)


def _assembled(Q: Any, C: Any) -> tuple[jax.Array, Any, Any]:
    """Return the scales of the KKT matrix, and its scaled blocks."""
    n, k = Q.shape[0], C.shape[0]
    if is_dense(Q) and is_dense(C):
        system = jnp.block([[Q, C.T], [C, jnp.zeros((k, k), Q.dtype)]])
        scales = equilibrated(terms_of(system), jnp.ones_like(system[0]))
        system = scales[:, None] * system * scales[None, :]
        return scales, system[:n, :n], system[n:, :n]

    def terms_of_parts(weights: jax.Array) -> jax.Array:
        upper = jnp.maximum(largest_terms(Q, weights[:n]), largest_terms(C.T, weights[n:]))
        return jnp.concatenate([upper, largest_terms(C, weights[:n])])

    scales = equilibrated(terms_of_parts, jnp.ones(n + k, Q.dtype))
    return scales, weighted(scales[:n], Q, scales[:n]), weighted(scales[n:], C, scales[:n])


def scaled(problem: Quadratic) -> Scaled:
    """Return a program in its own units."""
    c, n, dtype = problem.c, problem.c.size, problem.c.dtype
    parts = [part for part in (problem.A, problem.G) if part is not None]
    C = functools.reduce(stacked, parts) if parts else jnp.zeros((0, n), dtype)
    m = 0 if problem.A is None else problem.A.shape[0]
    if problem.Q is not None:
        Q = symmetric(problem.Q)
    else:
        Q = jnp.zeros((n, n), dtype) if is_dense(C) else nothing(n, n, dtype)
    scales, Q, C = _assembled(Q, C)
    D, E = scales[:n], scales[n:]
    h = [part * E[i : i + part.size] for part, i in ((problem.b, 0), (problem.h, m)) if part is not None]
    h += [sign * bound / D for sign, bound in ((1, problem.upper), (-1, problem.lower)) if bound is not None]
    h = jnp.concatenate(h) if h else jnp.zeros(0, dtype)
    # NaN is a bound, which will be seen
    fixed = jnp.arange(h.size) < m
    impossible = (h == -jnp.inf) & ~fixed
    if problem.upper is not None and problem.lower is not None:
        crossed = problem.lower > problem.upper
        impossible = impossible | jnp.concatenate([jnp.zeros(h.size - 2 * n, bool), crossed, crossed])
    live = (h != jnp.inf) & ~fixed & ~impossible
    if problem.upper is not None and problem.lower is not None:
        equal = (problem.upper == problem.lower) & jnp.isfinite(problem.upper)
        fixed = fixed.at[h.size - 2 * n : h.size - n].set(equal)
        live = live & ~jnp.concatenate([jnp.zeros(h.size - 2 * n, bool), equal, equal])
    length, objective = _sizes(Q, D * c, h, live, fixed)
    share = objective * length**2
    Q = share * Q if is_dense(Q) else weighted(jnp.full(n, share), Q, jnp.ones(n, dtype))
    h = jnp.where(live | fixed, h / length, 1)
    base = Q + regularization(n, dtype) * jnp.eye(n, dtype=dtype) if is_dense(Q) else None
    there = lambda part: None if part is None else ()
    made = Scaled(
        Q,
        C,
        base,
        jnp.concatenate([-objective * length * D * c, h]),
        live,
        fixed,
        impossible,
        D,
        E,
        length,
        objective,
        None if problem.b is None else jnp.zeros(m, dtype),
        there(problem.G),
        there(problem.upper),
        there(problem.lower),
    )
    return xla.once(made, "units")


def _largest_element(matrix: Any) -> jax.Array:
    if is_dense(matrix) or is_sparse(matrix):
        return jnp.max(jnp.abs(matrix if is_dense(matrix) else matrix.data), initial=0)
    return jnp.max(absolute(matrix, jnp.ones(matrix.shape[1], matrix.dtype)), initial=0)


def _sizes(Q: Any, c: jax.Array, h: jax.Array, live: jax.Array, fixed: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the size of the unknown, and what the objective is multiplied by.

    What forces the unknown away from zero shows its size: equalities, and inequalities that zero violates. Where
    nothing does, it is that of a step along the gradient or, if that is less, of the inequalities.
    """
    largest = lambda v: jnp.max(jnp.abs(v), initial=0)
    forced = largest(jnp.where(fixed, h, jnp.where(live & jnp.isfinite(h), jnp.minimum(h, 0), 0)))
    away, slope, curved = mean_size(jnp.where(live, h, jnp.inf)), largest(c), _largest_element(Q)
    step = jnp.where(curved > 0, slope / jnp.where(curved > 0, curved, 1), 0)
    step = jnp.where((step > 0) & ((away == 0) | (step < away)), step, away)
    length = power(jnp.where(forced > 0, jnp.maximum(forced, jnp.where(curved > 0, step, 0)), step))
    term = jnp.maximum(curved * length, slope)
    return length, power(1 / jnp.where(term > 0, term * length, 1))


class Factor(NamedTuple):
    """The factorized system of some weights."""

    #: the inverse of Cholesky's factor: products with it are quick in a batch, and little to compile
    inverse: jax.Array
    #: :math:`W` and :math:`1 / (W + \delta)`; both zero for rows that are not in the system
    weights: jax.Array
    shares: jax.Array

    @classmethod
    def of(cls, data: Scaled, weights: jax.Array, rows: jax.Array) -> Factor:
        """Factorize the system with some of the rows."""
        weights = jnp.where(rows, weights, 0)
        shares = jnp.where(rows, 1 / (weights + regularization(data.n, weights.dtype)), 0)
        factor = cholesky(data.gram(shares))
        eye = jnp.eye(data.n, dtype=factor.dtype)
        inverse = lower_solve(factor, eye)
        return cls(inverse, weights, shares)

    def product(self, data: Scaled, v: jax.Array) -> jax.Array:
        """Return the system's product with a vector whose rows that are not in it are zero."""
        image = data.product(v)
        rows = jnp.where(self.shares > 0, image[data.n :] - self.weights * v[data.n :], 0)
        return jnp.concatenate([image[: data.n], rows])

    def rough(self, data: Scaled, r: jax.Array) -> jax.Array:
        """Solve the regularized system for some columns."""
        n, shares = data.n, self.shares[:, None]
        x = dot(self.inverse.T, dot(self.inverse, r[:n] + data.back(shares * r[n:])))
        return jnp.concatenate([x, shares * (data.rows(x) - r[n:])])

    def left(self, data: Scaled, v: jax.Array) -> jax.Array:
        r"""Return what a solution of the regularized system leaves in the system: :math:`(\rho x, -\delta w)`."""
        delta = regularization(data.n, v.dtype)
        return jnp.concatenate([delta * v[: data.n], -delta * v[data.n :]])

    def refined(self, data: Scaled, r: jax.Array, v: jax.Array, needed: jax.Array, rounds: int) -> jax.Array:
        """Return a solution for one right-hand side after rounds of refinement, which are taken where it is needed.

        A batch takes none where no lane needs it.
        """

        def one(now: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            count, v = now
            left = r - self.product(data, v)
            return count + 1, v + self.rough(data, left[:, None])[:, 0]

        return jax.lax.while_loop(lambda now: needed & (now[0] < rounds), one, (jnp.zeros((), jnp.int32), v))[1]
