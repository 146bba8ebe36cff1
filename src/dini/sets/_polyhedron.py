r"""Polyhedra: inequalities and equations together.

The dual method of Goldfarb and Idnani finds the face: it starts at the point itself and takes up violated inequalities
one after the other, dropping those whose multiplier falls to zero. Every step raises the distance to the point, so it
ends, with the projection or with the proof that there is none. On the face, the projection is one onto an affine set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..checks.records import record
from ..checks.settings import known
from ..deferred import Array, Bool, Float, Int
from ..explanations import ends
from ..numerics.separable import smallest
from ..status import SolveError, Status
from ..trees import Tree
from ..trees.products import dot
from ._affine import check_rows, gram_factor, gram_solve, onto_affine, require_solvable
from ._base import Set, believed, hold_arrays, require_real

_RUNNING, _FOUND, _EMPTY, _LOST = 0, 1, 2, 3
#: the inverse Gram matrix, which each step updates, is recomputed after so many steps
_FRESH = 64


class _Face(NamedTuple):
    """Rows that hold with equality at the projection, linearly independent, in slots of a fixed number."""

    rows: Int[Array, " k"]
    held: Bool[Array, " k"]
    point: Float[Array, " n"]
    outcome: Int[Array, ""]


def _normals(A: jax.Array, rows: jax.Array, held: jax.Array) -> jax.Array:
    return jnp.where(held[:, None], A[rows], 0)


def _fresh(A: jax.Array, rows: jax.Array, held: jax.Array) -> jax.Array:
    """Return the inverse of the Gram matrix of the held rows, zero elsewhere."""
    N = _normals(A, rows, held)
    gram = dot(N, N.T) + jnp.diag(jnp.where(held, 0, 1).astype(A.dtype))
    inverse = jnp.linalg.inv(gram)
    return jnp.where(held[:, None] & held[None, :], 0.5 * (inverse + inverse.T), 0)


class _Search(NamedTuple):
    """Where the search for a face stands.

    ``held`` says which of ``rows`` are held, ``H`` is the inverse of their Gram matrix and ``u`` their multipliers;
    ``entering`` is the row that is being taken up, or the number of rows, with its multiplier ``u_a``; ``free`` are the
    rows that are looked at, and ``lost`` says that a row was too nearly dependent to tell.
    """

    steps: jax.Array
    rows: jax.Array
    held: jax.Array
    H: jax.Array
    u: jax.Array
    entering: jax.Array
    u_a: jax.Array
    free: jax.Array
    lost: jax.Array
    outcome: jax.Array


@jax.jit
def _nearest_face(A: Float[Array, "m n"], r: Float[Array, " m"], tolerance: Float[Array, " m"]) -> _Face:
    r"""Return the face of :math:`\{w : A w \le r\}` with its point nearest to zero; the rows of ``A`` are unit or zero.

    With the multipliers ``u`` of the held rows ``N`` and :math:`u_a` of a row ``a`` that is being taken up, the point
    is :math:`w = -N^\top u - u_a a`. As :math:`u_a` grows by ``t``, ``u`` falls by :math:`t (N N^\top)^{-1} N a`, so
    that the held rows stay equalities, until ``a`` is one, too, or a multiplier has come to zero.

    When no row is violated any more, rows that are touched and independent of those held are taken up with multiplier
    zero: then the face is the smallest that contains the point, whatever the multipliers.
    """
    m, n = A.shape
    k = min(m, n)

    def refreshed(now: _Search) -> _Search:
        H = _fresh(A, now.rows, now.held)
        N = _normals(A, now.rows, now.held)
        shift = jnp.where(now.entering < m, now.u_a, 0) * dot(N, A[jnp.minimum(now.entering, m - 1)])
        u = jnp.where(now.held, jnp.maximum(-dot(H, jnp.where(now.held, r[now.rows], 0) + shift), 0), 0)
        start = now._replace(steps=jnp.zeros((), jnp.int32), H=H, u=u)
        inner = jax.lax.while_loop(
            lambda c: (c.steps < _FRESH) & (c.outcome == _RUNNING), lambda c: _face_step(A, r, tolerance, c), start
        )
        return inner._replace(steps=now.steps + inner.steps)

    zero = jnp.zeros((), jnp.int32)
    start = _Search(
        zero,
        jnp.zeros(k, jnp.int32),
        jnp.zeros(k, bool),
        jnp.zeros((k, k), A.dtype),
        jnp.zeros(k, A.dtype),
        jnp.full((), m, jnp.int32),
        jnp.zeros((), A.dtype),
        jnp.ones(m, bool),
        jnp.zeros((), bool),
        zero,
    )
    limit = 10 * m + 100
    end = jax.lax.while_loop(lambda c: (c.steps < limit) & (c.outcome == _RUNNING), refreshed, start)
    outcome = jnp.where(end.lost & (end.outcome != _RUNNING), _LOST, end.outcome)
    return _Face(end.rows, end.held, -dot(_normals(A, end.rows, end.held).T, end.u), outcome)


def _face_step(A: jax.Array, r: jax.Array, tolerance: jax.Array, now: _Search) -> _Search:
    """Take up a row, or drop one that is in its way."""
    m, n = A.shape
    eps = jnp.finfo(A.dtype).eps
    N = _normals(A, now.rows, now.held)
    pending = now.entering < m
    w = -dot(N.T, now.u) - jnp.where(pending, now.u_a, 0) * A[jnp.minimum(now.entering, m - 1)]
    excess = dot(A, w) - r
    score = jnp.where(now.free, excess / tolerance, -jnp.inf)
    a_row = jnp.where(pending, now.entering, jnp.argmax(score).astype(jnp.int32))
    violated = pending | (score[a_row] > 1)
    touched = ~violated & (score[a_row] >= -1)
    # the part of the row that is orthogonal to those held; the second pass makes up for cancellation in the first
    along = dot(now.H, dot(N, A[a_row]))
    z = A[a_row] - dot(N.T, along)
    again = dot(now.H, dot(N, z))
    z, along = z - dot(N.T, again), along + again
    squared = dot(z, z)
    room = ~jnp.all(now.held)
    independent = (squared > jnp.where(violated, 64 * eps, jnp.sqrt(eps))) & room
    # how far until the row is an equality, and until a multiplier is zero
    reach = jnp.where(independent, excess[a_row] / jnp.where(independent, squared, 1), jnp.inf)
    falls = now.held & (along > 16 * eps)
    ratios = jnp.where(falls, now.u / jnp.where(falls, along, 1), jnp.inf)
    leaving = jnp.argmin(ratios)
    block = ratios[leaving]
    add = jnp.where(violated, independent & (reach <= block), touched & independent)
    drop = violated & ~add & jnp.isfinite(block)
    empty = violated & ~add & ~drop
    t = jnp.where(violated & ~empty, jnp.minimum(reach, block), 0)
    u = jnp.where(now.held, jnp.maximum(now.u - t * along, 0), 0)
    u_a = jnp.where(pending, now.u_a, 0) + t
    # a row more or less changes the inverse by a matrix of rank one
    slot = jnp.argmin(now.held)
    place = jnp.where(add, slot, leaving)
    v = jnp.where(add, along.at[slot].set(-1), now.H[leaving])
    pivot = jnp.where(drop, -now.H[leaving, leaving], squared)
    changed = add | drop
    H = now.H + jnp.where(changed, 1 / jnp.where(changed, pivot, 1), 0) * jnp.outer(v, v)
    held = jnp.where(changed, now.held.at[place].set(add), now.held)
    # a row that is held, or touched and dependent, is not looked at again
    free = jnp.where(add | (touched & ~independent), now.free.at[a_row].set(False), now.free)
    return _Search(
        now.steps + 1,
        jnp.where(add, now.rows.at[slot].set(a_row), now.rows),
        held,
        jnp.where(held[:, None] & held[None, :], H, 0),
        jnp.where(changed, u.at[place].set(jnp.where(add, u_a, 0)), u),
        jnp.where(drop, a_row, jnp.full((), m, jnp.int32)),
        u_a,
        jnp.where(drop, free.at[now.rows[leaving]].set(True), free),
        # a row at a small angle to those held is neither independent nor known to be dependent
        now.lost | (violated & ~independent & room & (squared > n * (8 * eps) ** 2)),
        jnp.where(empty, _EMPTY, jnp.where(violated | touched, _RUNNING, _FOUND)).astype(jnp.int32),
    )


class _Reduced(NamedTuple):
    """A polyhedron seen from a point of its equations: unit normals, what is left until a bound, rounding errors."""

    normals: Float[Array, "m n"]
    left: Float[Array, " m"]
    tolerance: Float[Array, " m"]


def _reduce(A: jax.Array, b: jax.Array, E: jax.Array, x0: jax.Array) -> _Reduced:
    eps = jnp.finfo(A.dtype).eps
    size = jnp.sqrt(jnp.sum(A * A, axis=1))
    along = A
    if E.shape[0]:
        e = jnp.sqrt(jnp.sum(E * E, axis=1))
        E = jnp.where(e > 0, 1 / jnp.where(e > 0, e, 1), 0)[:, None] * E
        factor = gram_factor(E)
        for _ in range(3):
            along = along - dot(gram_solve(factor, dot(E, along.T)).T, E)
    length = jnp.sqrt(jnp.sum(along * along, axis=1))
    # a row without a part along the equations says that they meet the bound, or not
    moving = length > 64 * eps * size
    unbounded = b == jnp.inf
    scale = jnp.where(moving & ~unbounded, 1 / jnp.where(moving, length, 1), 0)
    left = jnp.where(unbounded, 1, b - dot(A, x0))
    unit = jnp.where(scale > 0, scale, 1)
    # points on the way to the projection are about as large as this
    reach = jnp.max(jnp.abs(x0), initial=0) + jnp.max(-unit * left, initial=0)
    rounding = 32 * eps * (jnp.where(unbounded, 0, jnp.abs(b)) + dot(jnp.abs(A), jnp.abs(x0)) + size * reach)
    tolerance = jnp.maximum(unit * rounding, jnp.finfo(A.dtype).tiny)
    return _Reduced(scale[:, None] * along, unit * left, tolerance)


#: a point further away than ``eps**-_FAR`` times the size of the projection is moved closer, to ``_NEAR`` times
_FAR, _NEAR = 0.4, 64


def _own_size(A: jax.Array, b: jax.Array) -> jax.Array:
    """Return a size of the polyhedron, for where its projection is zero; a cone has none."""
    length = jnp.sqrt(jnp.sum(A * A, axis=1))
    bounds = jnp.abs(b) / jnp.where(length > 0, length, 1)
    own = jnp.min(jnp.where((bounds > 0) & jnp.isfinite(bounds), bounds, jnp.inf), initial=jnp.inf)
    return jnp.where(jnp.isfinite(own), own, 0)


@jax.jit
def _projected_face(A: jax.Array, b: jax.Array, E: jax.Array, d: jax.Array, y: jax.Array) -> _Face:
    r"""Return the face with the projection of ``y``, and that projection.

    Rounding errors are in units of ``y``. So far away the face is looked for from a closer point, :math:`x + t (y - x)`
    with the projection ``x`` that was found, until none is found any more that differs: at the projection, all points
    of this ray have the same.
    """
    eps = jnp.finfo(y.dtype).eps
    own = _own_size(A, b)
    cone = (own == 0) & ~jnp.any(d != 0)

    def body(carry: Any) -> Any:
        count, target, last, _ = carry
        x0 = onto_affine(E, d, target)
        face = _nearest_face(*_reduce(A, b, E, x0))
        x = x0 + face.point
        size = lambda v: jnp.max(jnp.abs(v))
        reach = jnp.maximum(size(x) + 4 * eps * size(target - x), own)
        moved = (count > 0) & (size(x - last.point) > 1e3 * eps * reach)
        again = (size(target - x) > eps**-_FAR * reach) | moved
        away = size(y - x)
        target = x + jnp.minimum(1, _NEAR * reach / jnp.where(away > 0, away, 1)) * (y - x)
        return count + 1, target, face._replace(point=x), again & ~cone & (face.outcome == _FOUND)

    k = min(A.shape)
    nothing = _Face(jnp.zeros(k, jnp.int32), jnp.zeros(k, bool), jnp.zeros_like(y), jnp.zeros((), jnp.int32))
    start = (jnp.zeros((), jnp.int32), y, nothing, jnp.asarray(True))
    return jax.lax.while_loop(lambda c: c[-1] & (c[0] < 12), body, start)[2]


@record
class Polyhedron(Set):
    r"""The polyhedron :math:`\{x : A x \le b, E x = d\}`.

    The projection is that of ``x`` onto the affine hull of a face,
    :math:`x - C^\top (C C^\top)^+ (C x - c)`, with the equations and the inequalities that hold with equality there as
    ``C`` and ``c``. An active-set method (Goldfarb and Idnani 1983) finds the face, with a step for each inequality
    that is taken up or dropped. The derivative is :math:`t - C^\top (C C^\top)^+ C t` in ``x`` and
    :math:`C^\top (C C^\top)^+ \dot c` in ``c``; the matrices are differentiated, too. Where more inequalities meet
    than the face needs, a derivative in the parameters is that of as many as are independent.

    Cost of a step: a product with ``A``, and :math:`k^2` operations with the smaller number ``k`` of rows and columns.

    Parameters
    ----------
    matrix
        ``A``, with a column for each element of the unknown (of a tree: in the order of
        :func:`jax.flatten_util.ravel_pytree`).
    offset
        ``b``, with an element for each row of ``A``, infinite where there is no bound.
    equality_matrix, equality_offset
        ``E`` and ``d``; dependent rows are allowed.

    Raises
    ------
    ValueError
        If the equations have no solution (where they are known and not large), a known bound on zero is negative,
        or the shapes do not fit. The projection raises where it finds that the set is empty, or is NaN where it cannot
        raise (in a compiled or transformed function).
    SolveError
        If the projection did not end in :math:`10 m + 100` steps or lost its digits (NaN likewise).

    References
    ----------
    Goldfarb and Idnani, "A numerically stable dual method for solving strictly convex quadratic programs",
    Mathematical Programming, 1983.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Polyhedron
    >>> triangle = Polyhedron(jnp.array([[1.0, 2.0], [-1.0, 0.0], [0.0, -1.0]]), jnp.array([2.0, 0.0, 0.0]))
    >>> print(triangle.project(jnp.array([3.0, 0.5])))
    [2. 0.]
    """

    matrix: Any
    offset: Any
    equality_matrix: Any = None
    equality_offset: Any = None

    polyhedral = True

    def __post_init__(self) -> None:
        hold_arrays(self, "matrix", "offset", "equality_matrix", "equality_offset")
        if (self.equality_matrix is None) != (self.equality_offset is None):
            raise ValueError("Polyhedron's equality_matrix and equality_offset must be given together.")
        if self.equality_matrix is not None:
            require_solvable("Polyhedron", "E x = d", self.equality_matrix, self.equality_offset)
        if known(self.matrix, self.offset) and jnp.ndim(self.matrix) == 2:
            A, b = np.asarray(self.matrix), np.asarray(self.offset)
            if b.shape == A.shape[:1] and np.any((b < 0) & ~A.any(axis=1)):
                row = int(np.argmax((b < 0) & ~A.any(axis=1)))
                raise ValueError(f"Polyhedron is empty: row {row} of the inequalities says that 0 <= {b[row]}.")

    def _parts(self, y: jax.Array) -> tuple[jax.Array, ...]:
        """Return all parameters in the dtype of the unknown."""
        E = jnp.zeros((0, y.size)) if self.equality_matrix is None else self.equality_matrix
        d = jnp.zeros(0) if self.equality_offset is None else self.equality_offset
        return tuple(jnp.asarray(part, y.dtype) for part in (self.matrix, self.offset, E, d))

    def _solve(self, y: jax.Array) -> tuple[jax.Array, _Face]:
        """Return the projection of a vector and the face."""
        A, b, E, d = self._parts(y)
        face = _projected_face(*jax.lax.stop_gradient((A, b, E, d, y)))
        rows = jnp.where(face.held, face.rows, 0)
        C = jnp.concatenate([E, _normals(A, rows, face.held)])
        c = jnp.concatenate([d, jnp.where(face.held, b[rows], 0)])
        return onto_affine(C, c, y, _own_size(A, b)), face

    def project(self, x: Tree) -> Tree:
        """Find the face, then project onto its affine hull."""
        y, unravel = ravel_pytree(x)
        A, b, E, d = self._parts(y)
        if not A.size:
            p = onto_affine(E, d, y)
            face = _Face(jnp.zeros(0, int), jnp.zeros(0, bool), p, jnp.asarray(_FOUND))
        else:
            p, face = self._solve(y)
        eps, reach = jnp.finfo(y.dtype).eps, jnp.max(jnp.abs(y), initial=0)
        # the point itself counts with the rounding errors that it leaves only
        size = jnp.max(jnp.abs(p), initial=0) + eps * reach

        def relative(violation: jax.Array, M: jax.Array, v: jax.Array) -> jax.Array:
            """Return the largest violation of a row, each in units of its own terms."""
            scale = jnp.where(jnp.isfinite(v), jnp.abs(v), 0) + size * jnp.sum(jnp.abs(M), axis=1)
            return jnp.max(violation / jnp.where(scale > 0, scale, 1), initial=0)

        missed = jnp.maximum(relative(dot(A, p) - b, A, b), relative(jnp.abs(dot(E, p) - d), E, d))
        apart = jnp.max(jnp.abs(p - face.point), initial=0) / jnp.where(size + reach > 0, size + reach, 1)
        missed = jnp.maximum(missed, apart)
        good = (face.outcome == _FOUND) & (missed <= jnp.sqrt(eps))
        return unravel(believed(p, (self, x), good, _failure, face.outcome, missed))

    def kink_distance(self, x: Tree) -> jax.Array:
        r"""Return the distance from where an inequality becomes active or its multiplier zero.

        It is exact where the active inequalities are independent. Where they are not, the multipliers are not unique;
        the distance of the shortest is a lower bound.
        """
        y, _ = ravel_pytree(x)
        if not jnp.size(self.matrix):
            return smallest((), x)
        p, _ = self._solve(y)
        A, b, E, d = self._parts(y)
        x0 = onto_affine(E, d, y)
        normals, left, tolerance = _reduce(*jax.lax.stop_gradient((A, b, E, x0)))
        slack = left - dot(normals, p - jax.lax.stop_gradient(x0))
        active = jax.lax.stop_gradient(slack <= 8 * tolerance)
        N = jnp.where(active[:, None], normals, 0)
        inverse = jnp.linalg.pinv(dot(N.T, N), rtol=y.size * jnp.finfo(y.dtype).eps, hermitian=True)
        back = dot(N, inverse)
        multiplier, slope = dot(back, x0 - p), jnp.sqrt(jnp.sum(back * back, axis=1))
        moving = normals - dot(dot(normals, dot(N.T, N)), inverse)
        change = jnp.sqrt(jnp.sum(moving * moving, axis=1))
        eps = jnp.sqrt(jnp.finfo(y.dtype).eps)
        leave = jnp.where(active & (slope > 0), jnp.maximum(multiplier, 0) / jnp.where(slope > 0, slope, 1), jnp.inf)
        enter = jnp.where(~active & (change > eps), slack / jnp.where(change > eps, change, 1), jnp.inf)
        return smallest((leave, enter), x)

    def check(self, x: Tree) -> None:
        """Raise unless the shapes fit."""
        require_real("Polyhedron", x)
        check_rows("Polyhedron", "matrix", self.matrix, "offset", self.offset, x)
        if self.equality_matrix is not None:
            check_rows(
                "Polyhedron", "equality_matrix", self.equality_matrix, "equality_offset", self.equality_offset, x
            )


def _failure(outcome: Any, missed: Any) -> Exception:
    if outcome == _EMPTY:
        return ValueError("Polyhedron is empty: no point satisfies all of its inequalities and equations.")
    remedy = ends.for_precision("drop them, or compute in float64.", missed.dtype)
    return SolveError(
        f"The projection onto the Polyhedron failed: the point violates its constraints by {float(missed):.1e} "
        f"(relative). Nearly parallel rows may have been left out: {remedy}",
        Status.MAX_STEPS if outcome == _RUNNING else Status.SINGULAR,
    )
