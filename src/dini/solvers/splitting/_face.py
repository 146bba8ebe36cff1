"""The equations of the active rows of a large quadratic program: factorized on the host, or solved by MINRES."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ... import trees
from ...checks.records import record
from ...conditions._program import active_rows
from ...linear import MINRES, ritz_values
from ...linear._matrices import column_squares, diagonal
from ...linear._reused import Reused
from ...protocols import Quadratic
from ...trees import Tree
from ...trees.products import dot
from ..interior._face_factor import left_behind
from ..interior._scaled_program import Scaled
from ._face_on_host import on_host, solve_on_host

#: the accuracy of one solve by MINRES, and how often what it leaves is solved for again
_RTOL, _ROUNDS = 1e-8, 3
_RTOL_SINGLE = 1e-4
#: steps of MINRES at most, for each unknown and altogether
_STEPS, _MOST = 10, 20_000
#: a negative curvature beside the largest one, and the number of products that look for one
_NEGATIVE, _LOOK = 1e-6, 30


def _minres(size: int, dtype: Any, precondition: Any) -> MINRES:
    rtol = _RTOL if dtype == jnp.float64 else _RTOL_SINGLE
    return MINRES(rtol=rtol, max_steps=min(_STEPS * size + 100, _MOST), preconditioner=precondition)


def _preconditioner(data: Scaled, active: jax.Array) -> Any:
    """Return the inverse of the diagonal of the quadratic term with the squares of the rows, and of what is left."""
    held = active.astype(data.offset.dtype)
    first, n = data.matrix.shape[0], data.n
    weights = held[:first]
    bounds = sum((held[i : i + n] for i in data.ends[:-1]), jnp.zeros(n, held.dtype))
    own = jnp.maximum(diagonal(data.quadratic), 0) + column_squares(data.matrix, weights) + bounds
    own = jnp.where(own > 0, own, 1)
    rows = jnp.concatenate([column_squares(data.matrix.T, 1 / own), *(1 / own for _ in data.signs)])
    scales = jnp.concatenate([own, jnp.where(rows > 0, rows, 1)])
    return lambda r: r / scales


def on_face(data: Scaled, active: jax.Array, right: jax.Array) -> jax.Array:
    """Solve the equations of the active rows once; rows that are not active are zero on both sides."""
    if on_host(data):
        return solve_on_host(data, active, right[:, None])[:, 0]
    keep = jnp.concatenate([jnp.ones(data.n, bool), active])
    matvec = lambda v: jnp.where(keep, data.product(jnp.where(keep, v, 0)), 0)
    solver = _minres(right.size, right.dtype, _preconditioner(data, active))
    top = trees.max_abs(right)
    unit = jnp.where(top > 0, top, 1)
    return unit * solver(matvec, jnp.where(keep, right, 0) / unit, "symmetric")[0]


def _rounds(data: Scaled) -> int:
    """Return how often what is left of the equations is solved for: a factorization has been refined already."""
    return 2 if on_host(data) else _ROUNDS


def face_point(data: Scaled, active: jax.Array, base: jax.Array) -> jax.Array:
    """Return the point where the active rows hold with equality, from one nearby on."""
    keep = jnp.concatenate([jnp.ones(data.n, bool), active])

    def refine(_: Any, v: jax.Array) -> jax.Array:
        left = jnp.where(keep, data.offset - data.product(v), 0)
        return v + on_face(data, active, left)

    return jax.lax.fori_loop(0, _rounds(data), refine, jnp.where(keep, base, 0))


def concave(data: Scaled) -> jax.Array:
    """Return whether a direction of negative curvature was found, by the values of Lanczos' method."""
    values = ritz_values(lambda v: dot(data.quadratic, v), jnp.zeros(data.n, data.offset.dtype), _LOOK)
    least = _NEGATIVE if values.dtype == jnp.float64 else _NEGATIVE**0.5
    return values[0] < -least * jnp.max(jnp.abs(values))


@record
class Face:
    """The active rows of a large program, whose equations are solved each time: without a matrix, or on the host."""

    data: Scaled
    active: Any
    otherwise = None

    def solve(self, r: jax.Array) -> jax.Array:
        """Return the solution of the equations of the active rows."""
        return self.data.parted(on_face(self.data, self.active, self.data.joined(r)), r, self.active)


def face_solver(problem: Quadratic, x: Tree, data: Scaled) -> Reused:
    """Return the linear solver of the derivative at a point, with the active rows of the problem's condition."""
    held = active_rows(problem, x)
    ends = ((held.inequality, problem.G), (held.upper, problem.upper), (held.lower, problem.lower))
    parts = [part for part, there in ends if there is not None]
    equalities = data.fixed[: data.fixed.size - sum(part.size for part in parts)]
    # of two bounds that are one, the upper one is a row
    active = jnp.concatenate([equalities, *parts]) & data.used
    return left_behind(data, x, Face(data, active), jnp.ones((), bool))
