"""Restarted GMRES: a Krylov method for general maps."""

from __future__ import annotations

import math
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .. import trees
from ..checks.records import record
from ..checks.settings import require_count
from ..trees import Tree
from ..trees.products import dot, tensordot
from ._krylov import Krylov
from ._protocol import Matvec, Structure

#: vectors of the basis that a new one is made orthogonal to at once; only the blocks in use are read
_BLOCK = 8
#: cycles without a gain of a hundredth after which a map is given up
_PATIENCE = 20


class _Cycle(NamedTuple):
    r"""The products between two restarts, :math:`A V_k = V_{k+1} H_k`.

    ``H`` is the row of its first elements, above the upper triangular ``triangle``. Its least-squares problem with the
    right-hand side :math:`\beta e_1` has the residual :math:`\beta (1, -u) / (1 + u^\top u)`, where ``u`` solves
    ``triangle.T u = first row``: one element more for each product.
    """

    basis: Any
    triangle: Any
    u: Tree
    rest: Any  # the norm of the residual, by that formula
    count: Any
    exhausted: Any  # the last product brought no new direction


class _State(NamedTuple):
    """Carried from cycle to cycle."""

    x: Tree
    r: Any  # true residual
    rest: Any
    basis: Any
    idle: Any
    cycles: Any


@record
class GMRES(Krylov):
    """Restarted GMRES, for general maps.

    Each step costs one product and minimizes the residual over one more dimension of the Krylov space, whose orthogonal
    basis is kept; the method starts again where that is full. It stops at the true residual, also with a
    preconditioner, which is applied from the right. Called directly it has no derivative in reverse mode;
    :func:`solve` has.

    Parameters
    ----------
    rtol, x0, x0_transposed
        As for :class:`CG`.
    restart
        Number of products between restarts, and of vectors that are kept.
    max_steps
        Limit on the number of restarts; by default ten times the number of unknowns, and 100. It also ends where 20
        restarts in a row have not made the residual smaller by a hundredth.
    preconditioner
        A :class:`Preconditioner`, a linear function ``r -> P r`` close to the inverse of the map, or an object with
        that function and ``transposed``. It is transposed for the transposed system.

    References
    ----------
    Y. Saad, M. H. Schultz, GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems,
    SIAM J. Sci. Stat. Comput. 7, 1986. The residual without rotations: E. H. Ayachour, A fast implementation for GMRES
    method, J. Comput. Appl. Math. 159, 2003.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini import linear
    >>> A = lambda w: 3 * w + jnp.roll(w, 1)
    >>> w = linear.solve(A, jnp.ones(1000), solver=linear.GMRES())
    >>> bool(jnp.abs(A(w) - 1).max() < 1e-4)
    True
    """

    rtol: float | None = field(default=None, metadata={"static": True})
    restart: int = field(default=30, metadata={"static": True})
    max_steps: int | None = field(default=None, metadata={"static": True})
    preconditioner: Any = None
    x0: Tree = None
    x0_transposed: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("GMRES's restart", self.restart)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution and whether it is not finite."""
        del structure
        x, r = self.start(matvec, b)
        m, target, most = min(self.restart, trees.size(b)), self.target(b), self.steps(b)
        if m == 0:
            return x, jnp.asarray(False)

        def running(s: _State) -> jax.Array:
            return (s.rest > target) & jnp.isfinite(s.rest) & (s.cycles < most) & (s.idle < _PATIENCE)

        def cycle(s: _State) -> _State:
            end = self._cycle(matvec, s, m, target)
            x = trees.add(s.x, self.precondition(_combine(end.basis, _weights(end, s.rest))))
            r = trees.sub(b, matvec(x))
            rest = trees.norm(r).astype(s.rest.dtype)
            # rounding may make a point worse where the map is nearly singular
            better = rest < s.rest
            idle = jnp.where(rest < 0.99 * s.rest, 0, s.idle + 1)
            idle = jnp.where(better, idle, _PATIENCE)
            x, r, rest = trees.where(better, (x, r, rest), (s.x, s.r, s.rest))
            return _State(x, r, rest, end.basis, idle, s.cycles + 1)

        rows = _BLOCK * math.ceil((m + 1) / _BLOCK)
        basis = jax.tree.map(lambda leaf: jnp.zeros((rows, *leaf.shape), leaf.dtype), b)
        none = jnp.zeros((), jnp.int32)
        start = _State(x, r, trees.norm(r).astype(target.dtype), basis, none, none)
        x = lax.while_loop(running, cycle, start).x
        return x, ~trees.all_finite(x)

    def _cycle(self, matvec: Matvec, state: _State, m: int, target: jax.Array) -> _Cycle:
        """Make up to ``m`` products, beginning with the residual."""
        length, dtype = state.rest, target.dtype
        eps = trees.eps(state.r)

        def going(c: _Cycle) -> jax.Array:
            return (c.count < m) & (c.rest > target) & ~c.exhausted & jnp.isfinite(c.rest)

        def step(c: _Cycle) -> _Cycle:
            vector = jax.tree.map(lambda rows: lax.dynamic_index_in_dim(rows, c.count, keepdims=False), c.basis)
            image = matvec(self.precondition(vector))
            size = trees.norm(image).astype(dtype)
            weights, left = _orthogonalized(c.basis, image, c.count, size)
            height = trees.norm(left).astype(dtype)
            # the pivot of a space that is exhausted is rounding
            pivot = jnp.maximum(height, eps * size)
            pivot = jnp.where(pivot > 0, pivot, 1)
            here = jnp.arange(m) == c.count
            below = weights[1 : m + 1]
            last = (weights[0] - dot(below, c.u)) / pivot
            u = jnp.where(here, last, c.u)
            triangle = jnp.where(here[None, :], jnp.where(here, pivot, below)[:, None], c.triangle)
            basis = _put(c.basis, c.count + 1, trees.scale(1 / pivot, left))
            rest = length / jnp.sqrt(1 + dot(u, u))
            return _Cycle(basis, triangle, u, rest, c.count + 1, height <= 10 * eps * size)

        first = trees.scale(1 / jnp.where(length > 0, length, 1), state.r)
        none, nothing = jnp.zeros((), jnp.int32), jnp.zeros(m, dtype)
        basis = _put(state.basis, none, first)
        return lax.while_loop(
            going, step, _Cycle(basis, jnp.eye(m, dtype=dtype), nothing, length, none, jnp.asarray(False))
        )


def _orthogonalized(basis: Any, vector: Any, count: Any, size: Any) -> tuple[jax.Array, Any]:
    """Return a vector's coefficients in the basis up to row ``count``, and what is left of it.

    Block by block, which is the modified Gram-Schmidt method between blocks; and once more where much has cancelled.
    """
    rows = jax.tree.leaves(basis)[0].shape[0]
    index = jnp.arange(rows)

    def block(k: Any, carry: Any) -> Any:
        weights, vector = carry
        part = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, k * _BLOCK, _BLOCK), basis)
        products = _products(part, vector).astype(weights.dtype)
        # rows that are not used yet hold vectors of an earlier cycle
        products = jnp.where(k * _BLOCK + jnp.arange(_BLOCK) <= count, products, 0)
        vector = trees.sub(vector, _combine(part, products))
        return lax.dynamic_update_slice_in_dim(weights, products, k * _BLOCK, 0), vector

    def once(carry: Any) -> Any:
        weights, vector, before, _, passes = carry
        more, vector = lax.fori_loop(0, count // _BLOCK + 1, block, (jnp.zeros_like(weights), vector))
        after = trees.norm(vector).astype(before.dtype)
        return weights + more, vector, after, after < 0.1 * before, passes + 1

    start = (jnp.zeros_like(index, size.dtype), vector, size, jnp.asarray(True), 0)
    weights, vector, *_ = lax.while_loop(lambda c: c[3] & (c[4] < 2), once, start)
    return weights, vector


def _weights(end: _Cycle, length: jax.Array) -> jax.Array:
    """Return the coefficients of the correction, one for each row of the basis."""
    m = end.u.size
    right = length * end.u / (1 + dot(end.u, end.u))

    def row(k: Any, y: jax.Array) -> jax.Array:
        i = m - 1 - k
        line = end.triangle[i]
        return y.at[i].set((right[i] - dot(line, y)) / line[i])

    y = lax.fori_loop(0, m, row, jnp.zeros_like(right))
    return jnp.pad(y, (0, jax.tree.leaves(end.basis)[0].shape[0] - m))


def _products(rows: Any, vector: Any) -> jax.Array:
    """Return the inner products of rows with a vector."""
    pairs = zip(jax.tree.leaves(rows), jax.tree.leaves(vector), strict=True)
    return trees.total([dot(r.reshape(r.shape[0], -1), v.ravel()) for r, v in pairs])


def _combine(rows: Any, weights: jax.Array) -> Any:
    """Return the sum of rows times weights."""
    return jax.tree.map(lambda r: tensordot(weights.astype(r.dtype), r, 1), rows)


def _put(rows: Any, slot: Any, vector: Any) -> Any:
    return jax.tree.map(lambda r, v: lax.dynamic_update_index_in_dim(r, v, slot, 0), rows, vector)
