"""The inexact Newton method with GMRES."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from .. import trees
from ..checks.settings import require_count
from ..loop import met, threshold
from ..problems import FixedPoint, Root
from ..protocols import AnyCondition, AnyProblem, Equations
from ..status import Status
from ..trees import Scalar, Tree
from ..trees.products import dot
from ._base import Solver, infinity, running, solver
from .judge import _newton_steps
from .judge._equations import after_step, before_step, failed_by_rounding, stalled_at_root, stiffer
from .judge._margins import DECREASE, SHORT
from .judge._units import Units
from .shared import _stored

#: the forcing term where nothing is known, and its limits (Eisenstat and Walker)
_FIRST_FORCING, _MOST_FORCING, _GAMMA, _SAFEGUARD = 0.5, 0.9, 0.9, 0.1
#: the range in which a step is cut (Eisenstat and Walker)
_CUT = 0.1, 0.5
#: a direction that leaves more than this leads nowhere
_HOPELESS = 0.9999
#: the share of the residual that a direction may leave to tell how far the point is from the root
_TELLING = 0.1
#: vectors of the basis that every step reads; the others are read where they are in use
_BLOCK = 32
#: corrections of earlier cycles that are kept
_LOOSE = 4
#: the default number of products between restarts: as many as fit in the memory of so many numbers, within limits
_LEAST, _MOST, _NUMBERS = 30, 100, 2**24


class State(NamedTuple):
    """Carried from step to step: the residual, the Krylov basis, what is known of the products, the direction so far.

    ``count`` is the number of products of this cycle; ``step_size`` is zero while products are collected and the next
    trial step along the direction after that. ``restarted`` tells that the next product is with the direction itself.
    ``loose`` are the last corrections, ``kept`` their number so far. ``triangle`` and ``u`` are those of
    :func:`_with_product`.
    """

    error: Scalar
    residual: Tree
    basis: Any
    loose: Any
    kept: Any
    triangle: Any
    u: Tree
    start: Any
    count: Any
    direction: Tree
    step_size: Scalar
    restarted: Any
    cycles: Any
    forcing: Any
    left: Any
    steps: Scalar
    extent: Any
    scales: Any
    status: Any


@solver
class NewtonKrylov(Solver):
    r"""Newton's method with GMRES inside, matrix-free, for large systems of equations and fixed points.

    .. math::
        \begin{aligned}
        x &\leftarrow x + t s, \qquad \lambda \|F(x)\| = \|F(x) + F'(x) s\| \le \eta \|F(x)\|, \qquad (1) \\
        \eta &= 0.9\, \bigl(\|F(x)\| / \|F(x_{\text{last}})\|\bigr)^2, \qquad (2) \\
        \|F(x + t s)\| &\le \bigl(1 - 10^{-4}\, t\, (1 - \lambda)\bigr) \|F(x)\| \qquad (3)
        \end{aligned}

    The Newton system is solved only as far as it pays: to the relative residual (2), Eisenstat and Walker's second
    choice, with their safeguard :math:`\eta \ge 0.9\, \eta_{\text{last}}^2` where that is more than a tenth. One step
    is one product with the Jacobian or one trial along the direction, whose length ``t`` is cut until (3) holds. The
    error is :math:`\|F\|_2`. GMRES that starts again looks along the last four corrections, too (loose GMRES), which
    restarting alone would make again and again.

    For a preconditioner, use :class:`dini.Newton` with ``linear_solver=dini.linear.GMRES(...)``. A discretized
    differential equation, whose Krylov spaces grow with the grid, wants ``Newton(linear_solver=dini.linear.Sparse())``.

    Parameters
    ----------
    restart
        Number of products before GMRES starts again. So many vectors of the unknown's size are kept, and five. More of
        them are what a system that is solved slowly wants. Default: 100, or as many as have :math:`2^{24}` numbers
        together (128 MiB in float64), at least 30. A batch under ``vmap`` passes over all of them at every step: take
        30 there if the systems are solved quickly.
    cycles
        Number of starts of GMRES for one direction, which is then taken as it is.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Eisenstat, Walker, "Choosing the forcing terms in an inexact Newton method", SIAM J. Sci. Comput. 1996. Knoll,
    Keyes, "Jacobian-free Newton-Krylov methods", J. Comput. Phys. 2004. Baker, Jessup, Manteuffel, "A technique for
    accelerating the convergence of restarted GMRES", SIAM J. Matrix Anal. Appl. 2005. The residual without rotations:
    Ayachour, "A fast implementation for GMRES method", J. Comput. Appl. Math. 2003.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> fun = lambda x: x**3 + 0.1 * jnp.roll(x, 1) - 1.0
    >>> x = dini.root(fun, jnp.ones(1000), solver=dini.NewtonKrylov()).x
    >>> bool(jnp.linalg.norm(fun(x)) < 1e-3)
    True
    """

    restart: int | None = field(default=None, metadata={"static": True})
    cycles: int = field(default=4, metadata={"static": True})
    max_steps: int = field(default=2000, metadata={"static": True})

    solves = (Root, FixedPoint)
    adaptive = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        if self.restart is not None:
            require_count("NewtonKrylov's restart", self.restart)
        require_count("NewtonKrylov's cycles", self.cycles)

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, which only evaluates the function."""
        del problem, args
        size = trees.size(x)
        inf, m = infinity(x), min(self.restart or min(max(_LEAST, _NUMBERS // max(size, 1)), _MOST), size)
        zero, nothing, none = trees.zeros_like(x), jnp.zeros_like(inf), jnp.zeros((), jnp.int32)
        no, one = jnp.zeros((), bool), nothing + 1
        near = min(m + 1, _BLOCK)
        basis = tuple(_stored.empty(rows, x) for rows in (near, m + 1 - near) if rows)
        return State(
            inf, zero, basis, _stored.empty(_LOOSE, x), none, jnp.eye(m, dtype=inf.dtype), jnp.zeros(m, inf.dtype),
            nothing, none, zero, one, no, none, nothing + _FIRST_FORCING, one, none, _newton_steps.no_sizes(x),
            Units.unknown(x), running(),
        )  # fmt: skip

    def step(self, problem: Equations, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Take one product with the Jacobian, or try one point."""
        dtype, eps = state.error.dtype, trees.eps(x)
        trying = state.step_size > 0
        # (1): t = step_size, s = direction
        point = trees.axpy(state.step_size, state.direction, x)
        augmented = _augmented(state)
        vector = _next_vector(state, augmented, x)
        residual, image = jax.jvp(lambda u: problem.residual(u, *args), (point,), (vector,))

        trial = self._tried(x, point, residual, state)
        cycle = _grown(state, residual, image, trying & trial.accept, eps)

        # (1): the norm of the linear residual is rest
        target = trial.forcing * trial.error
        done = cycle.grows & ((cycle.rest <= target) | (cycle.full & (cycle.count_of_cycles >= self.cycles)))
        restarted = cycle.grows & cycle.full & ~done
        direction, loose = _gathered(state, cycle, done | restarted, augmented, x)
        shorter = jnp.where(trying & ~trial.accept, trial.shorter, 0.0)
        step_size = jnp.where(done, 1.0, shorter).astype(dtype)
        left = jnp.minimum(cycle.rest / jnp.where(trial.error > 0, trial.error, 1), 1)
        left = jnp.where(done, left, state.left).astype(dtype)

        known = _learned(trial, cycle, direction, done, left, eps)
        status = self._ended(x, state, trial, known, done, (direction, step_size, left))
        here = trees.where(trial.accept, residual, state.residual)
        kept = state.kept + (done | restarted).astype(state.kept.dtype)
        return trial.now, State(
            trial.error, here, cycle.basis, loose, kept, cycle.triangle, cycle.u, cycle.start, cycle.count, direction,
            step_size, restarted, cycle.count_of_cycles, trial.forcing, left, state.steps + 1, trial.extent,
            known.packed(dtype), status,
        )  # fmt: skip

    def _tried(self, x: Tree, point: Tree, residual: Tree, state: State) -> _Trial:
        """Return what a trial along the direction shows; of a product, what was known."""
        dtype, eps = state.error.dtype, trees.eps(x)
        trying, first = state.step_size > 0, state.steps == 0
        size = trees.norm(residual).astype(dtype)
        finite = jnp.isfinite(size)
        # (3): lambda = left
        enough = size <= (1 - DECREASE * state.step_size * (1 - state.left)) * state.error
        accept = trying & (first | (finite & enough))
        lost = trying & first & ~finite
        error = jnp.where(lost, jnp.nan, jnp.where(accept, size, state.error))
        now = trees.where(accept, point, x)
        extent = _newton_steps.extended(state.extent, now, accept)
        units = _newton_steps.sizes(now, extent, eps)
        move = trees.scale(state.step_size, state.direction)
        change = trees.sub(residual, state.residual)
        known, unsure = after_step(
            Units.of(state.scales), accept, first, move, change, units, error, state.error, eps, each=False
        )
        unsure = met(self, x, error, unsure)
        forcing = self._forcing(x, state, accept, size, error, known, unsure)
        cut = jnp.where(finite, 0.5 * state.error / jnp.where(size > 0, size, 1), _CUT[0])
        shorter = jax.lax.stop_gradient(state.step_size * jnp.clip(cut, *_CUT)).astype(dtype)
        return _Trial(now, accept, error, forcing, shorter, extent, units, known)

    def _forcing(
        self, x: Tree, state: State, accept: Any, size: Any, error: Any, known: Units, unsure: Any
    ) -> jax.Array:
        """Return how exactly the next Newton system is solved."""
        first = state.steps == 0
        ratio = jnp.where(accept & ~first, size / jnp.where(state.error > 0, state.error, 1), 0)
        # (2): eta = forcing
        safeguard = _GAMMA * state.forcing**2
        forcing = jnp.maximum(_GAMMA * ratio**2, jnp.where(safeguard > _SAFEGUARD, safeguard, 0))
        # the last digits of a Newton system that is solved to the tolerance anyway are of no use
        apparent = _newton_steps.scale_of(error, known.measure, trees.eps(x)), jnp.zeros_like(error)
        enough_digits = 0.5 * threshold(self, x, apparent) / jnp.where(size > 0, size, 1)
        forcing = jnp.minimum(jnp.maximum(forcing, enough_digits), _MOST_FORCING)
        forcing = jnp.where(first, _FIRST_FORCING, jnp.where(unsure, _TELLING, forcing))
        return jax.lax.stop_gradient(jnp.where(accept, forcing, state.forcing)).astype(state.error.dtype)

    def _ended(
        self, x: Tree, state: State, trial: _Trial, known: Units, done: Any, next_step: tuple[Tree, Any, Any]
    ) -> jax.Array:
        """Return the status after a step, with the direction and the length of the next one, and what that leaves."""
        eps, error, old = trees.eps(x), trial.error, Units.of(state.scales)
        direction, step_size, left = next_step
        hopeless = done & (left > _HOPELESS)
        vanished = error <= 100 * eps * known.steepest
        failed = (state.step_size > 0) & ~trial.accept
        short = _newton_steps.relative_length(trees.scale(step_size, direction), trial.units, direction) <= SHORT * eps
        stalled = jnp.where(stalled_at_root(known, error, eps), Status.CONVERGED, Status.STALLED)
        status = jnp.where(failed & short, stalled, state.status)
        status = jnp.where(failed & failed_by_rounding(old, error, eps), Status.CONVERGED, status)
        status = jnp.where(hopeless, jnp.where(vanished, Status.CONVERGED, Status.SINGULAR), status)
        runs = (
            done
            & (error <= eps * known.steepest)
            & _newton_steps.diverging(trial.now, trial.extent, direction, direction)
        )
        return jnp.where(runs & ~met(self, x, error, known), Status.DIVERGED, status).astype(jnp.int32)


class _Trial(NamedTuple):
    """What a trial shows: the point and its error, how the next Newton system is solved, and what was learned."""

    now: Tree
    accept: Any
    error: Any
    forcing: Any
    shorter: Any
    extent: Any
    units: Any
    known: Units


class _Cycle(NamedTuple):
    """A cycle of GMRES after one product, or at its start; ``rest`` is the norm of what it leaves."""

    #: whether it is the first one of another direction
    again: Any
    basis: Any
    triangle: Any
    u: Tree
    start: Any
    count: Any
    rest: Any
    #: whether this step was a product for the basis, how long that is, and whether no more fit
    grows: Any
    size: Any
    full: Any
    count_of_cycles: Any


def _augmented(state: State) -> jax.Array:
    """Return the number of corrections at the end of a cycle: the first of a system is Krylov's, others have some."""
    some = jnp.minimum(jnp.minimum(state.kept, _LOOSE), state.u.size // 2)
    return jnp.where(state.cycles > 0, some, 0)


def _next_vector(state: State, augmented: jax.Array, like: Tree) -> Tree:
    """Return the vector of the next product: the last of the basis, an earlier correction, or the direction."""
    m = state.u.size
    vector = _taken(state.basis, jnp.minimum(state.count, m - 1), like)
    old = state.count - (m - augmented)
    vector = trees.where(old >= 0, _stored.take(state.loose, jnp.clip(old, 0, _LOOSE - 1), like), vector)
    return trees.where(state.restarted, state.direction, vector)


def _grown(state: State, residual: Tree, image: Tree, again: Any, eps: float) -> _Cycle:
    """Return the cycle: one that starts from what the direction leaves (``again``: from a residual), or has grown."""
    m, trying = state.u.size, state.step_size > 0
    remaining = trees.where(again, residual, trees.add(state.residual, image))
    start_vector = trees.neg(remaining)
    begins = again | (~trying & state.restarted)
    start = jnp.where(begins, trees.norm(start_vector).astype(state.error.dtype), state.start)
    grows = ~trying & ~state.restarted
    column, left_over = _orthogonalized(state.basis, image, state.count)
    height = trees.norm(left_over).astype(state.error.dtype)
    size = trees.norm(jnp.append(column, height))
    # the space is exhausted where the new vector vanishes to rounding
    exhausted = height <= 10 * eps * size
    triangle, u = _with_product(state.triangle, state.u, column, height, size, state.count, grows)
    u = jnp.where(begins, 0, u)
    unit = trees.scale(1 / jnp.where(height > 0, height, 1), left_over)
    fresh = trees.scale(1 / jnp.where(start > 0, start, 1), start_vector)
    # one place: XLA updates the basis without copying it
    slot = jnp.where(begins, 0, jnp.minimum(state.count + 1, m))
    basis = _put(state.basis, slot, trees.where(begins, fresh, unit), begins | grows)
    count = jnp.where(begins, 0, state.count + grows.astype(state.count.dtype))
    full = (count == m) | exhausted
    cycles = jnp.where(again, 0, state.cycles + (grows & full).astype(state.cycles.dtype))
    return _Cycle(again, basis, triangle, u, start, count, start / jnp.sqrt(1 + dot(u, u)), grows, size, full, cycles)


def _gathered(state: State, cycle: _Cycle, ends: Any, augmented: Any, like: Tree) -> tuple[Tree, Any]:
    """Return the direction so far, with the correction of a cycle that ends, and the corrections that are kept."""
    m = state.u.size

    def gather() -> Any:
        y = _weights(cycle.triangle, cycle.u, cycle.start, cycle.count)
        krylov = jnp.where(jnp.arange(m, dtype=jnp.int32) < m - augmented, y, 0)
        index = m - augmented + jnp.arange(_LOOSE, dtype=jnp.int32)
        others = jnp.where(index < m, y[jnp.minimum(index, m - 1)], 0)
        return trees.add(
            _combined(cycle.basis, jnp.append(krylov, 0), like), _stored.combine(state.loose, others, like)
        )

    correction = jax.lax.cond(_in_any_lane(ends), gather, lambda: trees.zeros_like(like))
    length = trees.norm(correction)
    unit = trees.scale(1 / jnp.where(length > 0, length, 1), correction)
    loose = _stored.put(state.loose, state.kept % _LOOSE, unit, ends)
    gathered = trees.add(state.direction, correction)
    return trees.where(ends, gathered, trees.where(cycle.again, trees.zeros_like(like), state.direction)), loose


def _learned(trial: _Trial, cycle: _Cycle, direction: Tree, done: Any, left: Any, eps: float) -> Units:
    """Return what is known with a cycle's product, and with the direction that is ``done``."""
    error, units = trial.error, trial.units
    # the products know more of the Jacobian's size than the steps do
    known = stiffer(trial.known, jnp.where(cycle.grows, cycle.size, 0), units, error, eps)
    ahead = before_step(known, done, direction, units, error, eps)
    # a direction that leaves much of the residual says too little of the point
    vague = done & (left > _TELLING)
    return ahead._replace(
        scale=jnp.where(vague, known.scale, ahead.scale), rounding=jnp.where(vague, known.rounding, ahead.rounding)
    )


@custom_vmap
def _in_any_lane(condition: AnyCondition) -> Any:
    """Return the condition; of a batch, whether it holds in a lane, so that both branches are not computed always."""
    return condition


@_in_any_lane.def_vmap
def _(size: int, batched: Any, condition: Any) -> tuple[Any, bool]:
    del size, batched
    return _in_any_lane(jnp.any(condition)), False


def _taken(blocks: Any, slot: Any, like: Tree) -> Any:
    """Return the vector in a slot of some stores that follow each other."""
    vector = _stored.take(blocks[0], jnp.minimum(slot, _BLOCK - 1), like)
    if len(blocks) == 1:
        return vector
    return trees.where(slot < _BLOCK, vector, _stored.take(blocks[1], jnp.maximum(slot - _BLOCK, 0), like))


def _put(blocks: Any, slot: Any, tree: Tree, condition: AnyCondition) -> Any:
    """Return such stores with a vector in a slot where the condition holds."""
    near = _stored.put(blocks[0], jnp.minimum(slot, _BLOCK - 1), tree, condition & (slot < _BLOCK))
    far = [
        _stored.put(block, jnp.maximum(slot - _BLOCK, 0), tree, condition & (slot >= _BLOCK)) for block in blocks[1:]
    ]
    return (near, *far)


def _combined(blocks: Any, weights: Any, like: Tree) -> Any:
    """Return the sum of the vectors of such stores with weights."""
    total = _stored.combine(blocks[0], weights[:_BLOCK], like)
    for block in blocks[1:]:
        total = trees.add(total, _stored.combine(block, weights[_BLOCK:], like))
    return total


def _orthogonalized(blocks: Any, vector: Any, count: Any) -> tuple[Any, Any]:
    """Return the coefficients of a vector in the first ``count + 1`` of the basis, and what is left of it."""

    def part(k: int, vector: Any) -> tuple[Any, Any]:
        products = _stored.products(blocks[k], vector)
        products = jnp.where(k * _BLOCK + jnp.arange(products.size, dtype=jnp.int32) <= count, products, 0)
        return products, trees.sub(vector, _stored.combine(blocks[k], products, vector))

    # twice is enough for orthogonality to rounding
    def again(vector: Any) -> tuple[Any, ...]:
        second, vector = part(0, vector)
        return second, *(jnp.zeros(rows, second.dtype) for rows in sizes), vector

    def all_again(vector: Any) -> tuple[Any, ...]:
        far, vector = part(1, vector)
        second, vector = part(0, vector)
        more, vector = part(1, vector)
        return second, far + more, vector

    sizes = [jax.tree.leaves(block)[0].shape[0] for block in blocks[1:]]
    first, vector = part(0, vector)
    if sizes:
        second, *far, vector = jax.lax.cond(_in_any_lane(count >= _BLOCK), all_again, again, vector)
    else:
        second, *far, vector = again(vector)
    return jnp.concatenate([first + second, *far]), vector


def _with_product(
    triangle: Any, u: Tree, column: Any, height: Any, size: Any, count: Any, condition: Any
) -> tuple[Any, Any]:
    r"""Return the state of a cycle's least-squares problem with one product more where the condition holds.

    The products have the coefficients :math:`H` in the basis: a row :math:`h`, above an upper triangular :math:`T`,
    which is kept transposed. The least residual :math:`\beta e_1 - H y` is that of

    .. math:: T y = \beta u / (1 + u^\top u), \qquad T^\top u = h, \qquad (4)

    and equal to :math:`\beta (1, -u) / (1 + u^\top u)`: one element of ``u`` more for each product.
    """
    here = jnp.arange(u.size, dtype=jnp.int32) == count
    eps = jnp.finfo(u.dtype).eps
    # the pivot of a space that is exhausted is rounding, and so may be what it divides
    pivot = jnp.maximum(height, eps * size)
    below = column[1:]
    # (4): the new element of u
    last = column[0] - dot(below, u)
    last = jnp.where((height <= 10 * eps * size) & (jnp.abs(last) <= 100 * eps * size), 0, last)
    last = last / jnp.where(pivot > 0, pivot, 1)
    row = jnp.where(here, jnp.where(pivot > 0, pivot, 1), below)
    slot = jnp.minimum(count, u.size - 1)
    triangle = triangle.at[slot].set(jnp.where(condition, row, triangle[slot]))
    return triangle, jnp.where(here & condition, last, u)


def _weights(triangle: Any, u: Tree, start: Any, count: Any) -> Any:
    """Return the weights of the first ``count`` vectors that leave the shortest residual."""
    # the other rows are those of an earlier cycle
    used = (jnp.arange(u.size, dtype=jnp.int32) < count)[:, None]
    matrix = jnp.where(used, triangle, jnp.eye(u.size, dtype=u.dtype))
    # (4): beta = start
    right = start * u / (1 + dot(u, u))
    return jax.scipy.linalg.solve_triangular(matrix, right, trans=1, lower=True, check_finite=False)
