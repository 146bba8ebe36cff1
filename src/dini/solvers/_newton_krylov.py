"""The inexact Newton method with GMRES."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..loop import tolerance
from ..problems import FixedPoint, Root
from ..products import dot
from ..settings import require_count
from ..status import Status
from . import _stored
from ._base import Solver, infinity, running

#: the forcing term where nothing is known, and its limits (Eisenstat and Walker)
_FIRST_FORCING, _MOST_FORCING, _GAMMA = 0.5, 0.9, 0.9


class State(NamedTuple):
    """Carried from step to step: the residual, the Krylov basis with its Hessenberg matrix, the direction so far.

    ``count`` is the number of products of this cycle; ``step_size`` is zero while products are collected and the next
    trial step along the direction after that. ``restarted`` tells that the next product is with the direction itself.
    """

    error: Any
    residual: Any
    basis: Any
    hessenberg: Any
    start: Any
    count: Any
    direction: Any
    step_size: Any
    restarted: Any
    cycles: Any
    forcing: Any
    left: Any
    steps: Any
    status: Any


@trees.register
@dataclass(frozen=True)
class NewtonKrylov(Solver):
    r"""Newton's method with GMRES inside, matrix-free, for large systems of equations and fixed points.

    The Newton system is solved only as far as it pays: to the relative residual :math:`\eta = 0.9\,(\|F\| /
    \|F_{\text{last}}\|)^2` (Eisenstat and Walker's second choice). One step is one product with the Jacobian or one
    trial along the direction, whose length is cut until :math:`\|F\|` falls sufficiently. The error is
    :math:`\|F\|_2`. For a preconditioner, use :class:`dini.Newton` with ``linear_solver=dini.linear.GMRES(...)``.

    Parameters
    ----------
    restart
        Number of products, and of vectors that are kept, before GMRES starts again.
    cycles
        Number of starts of GMRES for one direction, which is then taken as it is.
    tol
        Tolerance on the error. Default: the square root of the unit roundoff.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Eisenstat, Walker, "Choosing the forcing terms in an inexact Newton method", SIAM J. Sci. Comput. 1996. Knoll,
    Keyes, "Jacobian-free Newton-Krylov methods", J. Comput. Phys. 2004.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> fun = lambda x: x**3 + 0.1 * jnp.roll(x, 1) - 1.0
    >>> x = dini.root(fun, jnp.ones(1000), solver=dini.NewtonKrylov()).x
    >>> bool(jnp.linalg.norm(fun(x)) < 1e-3)
    True
    """

    restart: int = field(default=30, metadata={"static": True})
    cycles: int = field(default=4, metadata={"static": True})
    tol: Any = None
    max_steps: int = field(default=2000, metadata={"static": True})

    solves = (Root, FixedPoint)
    fitted = True

    def __post_init__(self) -> None:
        self._check_settings()
        require_count("NewtonKrylov's restart", self.restart)
        require_count("NewtonKrylov's cycles", self.cycles)

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        inf, m = infinity(x), min(self.restart, trees.size(x))
        zero, nothing, none = trees.zeros_like(x), jnp.zeros_like(inf), jnp.zeros((), jnp.int32)
        hessenberg = jnp.zeros((m + 1, m), inf.dtype)
        no, one = jnp.zeros((), bool), nothing + 1
        basis = _stored.empty(m + 1, x)
        first = nothing + _FIRST_FORCING
        return State(inf, zero, basis, hessenberg, nothing, none, zero, one, no, none, first, one, none, running())

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Take one product with the Jacobian, or try one point."""
        dtype = state.error.dtype
        m = state.hessenberg.shape[1]
        trying = state.step_size > 0
        point = trees.axpy(state.step_size, state.direction, x)
        vector = _stored.take(state.basis, jnp.minimum(state.count, m - 1), x)
        vector = trees.where(state.restarted, state.direction, vector)
        residual, image = jax.jvp(lambda u: problem.residual(u, *args), (point,), (vector,))

        # a trial
        size = trees.norm(residual).astype(dtype)
        first = state.steps == 0
        finite = jnp.isfinite(size)
        enough = size <= (1 - 1e-4 * state.step_size * (1 - state.left)) * state.error
        accept = trying & (first | (finite & enough))
        lost = trying & first & ~finite
        error = jnp.where(lost, jnp.nan, jnp.where(accept, size, state.error))
        ratio = jnp.where(accept & ~first, size / jnp.where(state.error > 0, state.error, 1), 0)
        safeguard = _GAMMA * state.forcing**2
        forcing = jnp.maximum(_GAMMA * ratio**2, jnp.where(safeguard > 0.1, safeguard, 0))
        # the last digits of a Newton system that is solved to the tolerance anyway are of no use
        enough_digits = 0.5 * tolerance(self, x) / jnp.where(size > 0, size, 1)
        forcing = jnp.minimum(jnp.maximum(forcing, enough_digits), _MOST_FORCING)
        forcing = jnp.where(first, _FIRST_FORCING, forcing)
        forcing = jax.lax.stop_gradient(jnp.where(accept, forcing, state.forcing)).astype(dtype)
        cut = jnp.where(finite, 0.5 * state.error / jnp.where(size > 0, size, 1), 0.1)
        shorter = jax.lax.stop_gradient(state.step_size * jnp.clip(cut, 0.1, 0.5)).astype(dtype)

        # a product: GMRES starts again from what the direction leaves, or takes one more vector
        again = trying & accept
        remaining = trees.where(again, residual, trees.add(state.residual, image))
        start_vector = trees.neg(remaining)
        begins = again | (~trying & state.restarted)
        start = jnp.where(begins, trees.norm(start_vector).astype(dtype), state.start)
        grows = ~trying & ~state.restarted
        column, left_over = _orthogonalized(state.basis, image, state.count)
        height = trees.norm(left_over).astype(dtype)
        hessenberg = jnp.where(begins, 0, state.hessenberg)
        rows = jnp.arange(m + 1)
        column = jnp.where(rows == state.count + 1, height, column)
        here = grows & (jnp.arange(m) == state.count)[None, :]
        hessenberg = jnp.where(here, column[:, None].astype(hessenberg.dtype), hessenberg)
        unit = trees.scale(1 / jnp.where(height > 0, height, 1), left_over)
        fresh = trees.scale(1 / jnp.where(start > 0, start, 1), start_vector)
        # one place: XLA updates the basis without copying it
        slot = jnp.where(begins, 0, jnp.minimum(state.count + 1, m))
        basis = _stored.put(state.basis, slot, trees.where(begins, fresh, unit), begins | grows)
        count = jnp.where(begins, 0, state.count + grows)

        weights, left = _least_squares(hessenberg, start, count)
        target = forcing * error
        # the space is exhausted where the new vector vanishes to rounding
        exhausted = height <= 10 * trees.eps(x) * jnp.sqrt(jnp.sum(column**2))
        full = (count == m) | exhausted
        cycles = jnp.where(again, 0, state.cycles + (grows & full))
        done = grows & ((left <= target) | (full & (cycles >= self.cycles)))
        restarted = grows & full & ~done
        gathered = trees.add(state.direction, _stored.combine(basis, jnp.append(weights, 0), x))
        base = trees.where(again, trees.zeros_like(x), state.direction)
        direction = trees.where(done | restarted, gathered, base)
        step_size = jnp.where(done, 1.0, jnp.where(trying & ~accept, shorter, 0.0)).astype(dtype)
        left = jnp.where(done, jnp.minimum(left / jnp.where(error > 0, error, 1), 1), state.left).astype(dtype)

        hopeless = done & (left > 0.9999)
        short = trees.norm(trees.scale(step_size, direction)) <= 1e-2 * trees.eps(x) * (1 + trees.norm(x))
        status = jnp.where(trying & ~accept & short, Status.STALLED, state.status)
        status = jnp.where(hopeless, Status.SINGULAR, status).astype(jnp.int32)
        here = trees.where(accept, residual, state.residual)
        new = State(
            error, here, basis, hessenberg, start, count, direction, step_size, restarted, cycles, forcing, left,
            state.steps + 1, status,
        )  # fmt: skip
        return trees.where(accept, point, x), new


def _orthogonalized(basis: Any, vector: Any, count: Any) -> tuple[Any, Any]:
    """Return the coefficients of a vector in the first ``count + 1`` of the basis, and what is left of it."""
    total = jnp.zeros(())
    for _ in range(2):  # twice is enough for orthogonality to rounding
        products = _stored.products(basis, vector)
        products = jnp.where(jnp.arange(products.size) <= count, products, 0)
        vector = trees.sub(vector, _stored.combine(basis, products, vector))
        total = total + products
    return total, vector


def _least_squares(hessenberg: Any, start: Any, count: Any) -> tuple[Any, Any]:
    """Return the weights of the first ``count`` vectors that leave the shortest residual, and its length."""
    m = hessenberg.shape[1]
    # (a column is zero where the residual was)
    used = (jnp.arange(m) < count) & jnp.any(hessenberg != 0, axis=0)
    # columns that are not used yet get a unit below the others: full rank, and no weight
    spare = jnp.eye(m + 1, m, -1, dtype=hessenberg.dtype)
    matrix = jnp.where(used[None, :], hessenberg, spare)
    q, triangle = jnp.linalg.qr(matrix)
    right = start * q[0]
    diagonal = jnp.diagonal(triangle)
    floor = jnp.finfo(matrix.dtype).eps * jnp.max(jnp.abs(triangle))
    triangle = triangle + jnp.diag(jnp.where(jnp.abs(diagonal) > floor, 0, floor))
    weights = jnp.where(used, jax.scipy.linalg.solve_triangular(triangle, right, check_finite=False), 0)
    left = -dot(matrix, weights)
    left = left.at[0].add(start)
    return weights, trees.norm(left)
