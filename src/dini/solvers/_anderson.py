"""Anderson acceleration."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from .. import scaling, trees
from ..checks.settings import require_all_above, require_choice, require_count, require_positive
from ..linear._small import positive_definite_solver
from ..loop import met
from ..problems import FixedPoint
from ..protocols import AnyProblem
from ..trees import Scalar, Tree
from ._base import Solver, infinity, solver
from .judge import _units
from .shared import _stored


class State(NamedTuple):
    """Carried from step to step: the last differences of points and residuals, the best point, the mixing's factor.

    ``gram`` holds the inner products of the differences against which the residual is made small (of residuals in type
    II, of points in type I) with those of residuals, ``squares`` the squared lengths of both, in type I. All vectors
    are in scaled variables, whose units are ``sizes``, zero where they are not known.
    """

    error: Scalar
    points: Any
    residuals: Any
    gram: Any
    squares: Any
    point: Tree
    residual: Tree
    best_point: Any
    best_residual: Any
    best: Any
    factor: Any
    count: Any
    sizes: Tree
    scales: Any


@solver
class Anderson(Solver):
    r"""Anderson acceleration of :math:`x = T(x)`, types I and II.

    With the differences :math:`\Delta X` of points and :math:`\Delta R` of residuals in the last ``history`` steps,

    .. math::
        \begin{aligned}
        r_k &= T(x_k) - x_k, \qquad (1) \\
        \gamma &= \arg\min_\gamma \|r_k - \Delta R\gamma\| \quad\text{(type II)}, \qquad (2) \\
        0 &= \Delta X^\top (r_k - \Delta R\gamma) \quad\text{(type I, as Broyden's good method)}, \qquad (3) \\
        x_{k+1} &= x_k + \beta r_k - (\Delta X + \beta \Delta R)\gamma . \qquad (4)
        \end{aligned}

    The differences are scaled to unit length, and in type II directions that are dependent to working precision are
    left out of the small least-squares problem, so that no ridge blurs it.

    Where the residual is not finite or exceeds ``growth`` times the smallest so far, the differences are dropped, the
    method goes back to the best point, and mixes with half the :math:`\beta` from there. The error is :math:`\|T(x) -
    x\|_2` at the point before the step. If it meets the test although an element is wrong relative to its own size, the
    method starts again in variables of unit size, and the error is measured in these.

    Parameters
    ----------
    history
        Number of differences that are kept.
    mixing
        :math:`\beta > 0`.
    type
        1 or 2.
    growth
        How much the residual may grow before the method starts again, above one.
    restart
        Drop the differences after so many of them, to start afresh; by default the oldest one gives way.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Walker and Ni, "Anderson acceleration for fixed-point iterations", SIAM J. Numer. Anal. 2011. Fang and Saad, "Two
    classes of multisecant methods for nonlinear acceleration", Numer. Linear Algebra Appl. 2009. Zhang, O'Donoghue,
    Boyd, "Globally convergent type-I Anderson acceleration for nonsmooth fixed-point iterations", SIAM J. Optim. 2020.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.FixedPoint(lambda x: jnp.cos(x))
    >>> round(float(dini.solve(problem, dini.Anderson(), 1.0).x), 3)
    0.739
    """

    history: int = field(default=5, metadata={"static": True})
    mixing: Any = 1.0
    type: Literal[1, 2] = field(default=2, metadata={"static": True})
    growth: Any = 100.0
    restart: int | None = field(default=None, metadata={"static": True})
    max_steps: int = field(default=1000, metadata={"static": True})

    solves = (FixedPoint,)
    error_before_step = True
    adaptive = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_count("Anderson's history", self.history)
        require_positive("Anderson's mixing", self.mixing)
        require_choice("Anderson's type", self.type, (1, 2))
        require_all_above("Anderson's growth", self.growth, 1)
        if self.restart is not None:
            require_count("Anderson's restart", self.restart)

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> State:
        """Return the state before the first step."""
        return self.begin(problem, x, None, args)

    def begin(self, problem: AnyProblem, x: Tree, scales: Tree | None, args: tuple[Tree, ...]) -> State:
        """Return the state before the first step, where the sizes of elements are known or not."""
        del problem, args
        sizes = trees.zeros_like(x) if scales is None else scaling.evened(scales)
        start = jax.tree.map(jnp.divide, x, _units.units_of(sizes))
        store, inf, zero = _stored.empty(self.history, x), infinity(x), trees.zeros_like(x)
        gram = jnp.zeros((self.history, self.history), inf.dtype)
        squares = jnp.zeros((2, self.history), inf.dtype) if self.type == 1 else None
        count = jnp.zeros((), jnp.int32)
        return State(
            inf, store, store, gram, squares, start, zero, start, zero, inf, jnp.ones_like(inf), count, sizes,
            _units.Units.unknown(x),
        )  # fmt: skip

    def step(self, problem: FixedPoint, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Apply the map once and mix."""
        units = _units.units_of(state.sizes)
        inside = lambda v: jax.tree.map(jnp.divide, v, units)
        # (1): r_k = residual; from here on all vectors are in scaled variables
        at, residual = x, inside(trees.sub(problem.map(x, *args), x))
        x, dtype = inside(x), state.error.dtype
        error = trees.norm(residual).astype(dtype)
        lost = ~(error <= self.growth * state.best) & jnp.isfinite(state.best)
        better = error < state.best
        best_point, best_residual = trees.where(better, (x, residual), (state.best_point, state.best_residual))
        # the first differences are known at the second step
        slot = (state.count - 1) % self.history
        known = (state.count > 0) & ~lost
        move, change = trees.sub(x, state.point), trees.sub(residual, state.residual)
        pair = trees.vdot(move, move), jnp.where(state.count > 0, trees.vdot(change, change), 0)
        scales = _units.of_point(state.scales, *pair, _units.norm(x), error, trees.eps(x))
        scales = _units.of_elements(scales, residual, state.sizes, error, trees.eps(x))
        factor = jax.lax.stop_gradient(jnp.where(lost, 0.5 * state.factor, state.factor))
        beta = (factor * jnp.asarray(self.mixing, dtype)).astype(dtype)
        if self.type == 2:
            # what (4) takes of a difference; the factor changes only where all of them are forgotten
            move = trees.axpy(beta, change, move)
        points = _stored.put(state.points, slot, move, known)
        residuals = _stored.put(state.residuals, slot, change, known)
        full = False if self.restart is None else state.count >= self.restart
        here = known & (jnp.arange(self.history, dtype=jnp.int32) == slot)
        gram, squares = self._products(state, points, residuals, (move, change), here)
        used = jnp.arange(self.history, dtype=jnp.int32) < jnp.where(lost | full, 0, state.count)
        right = _stored.products(residuals if self.type == 2 else points, residual)
        # (2): gram = dR'dR, right = dR'r_k; (3): gram = dX'dR, right = dX'r_k
        gamma = self._weights(gram, squares, right, used).astype(dtype)

        # (4): taken = (dX + beta dR) gamma; in type II points holds dX + beta dR, in type I dX
        taken = _stored.combine(points, gamma, x)
        if self.type == 1:
            taken = trees.axpy(beta, _stored.combine(residuals, gamma, x), taken)
        mixed = trees.sub(trees.axpy(beta, residual, x), taken)
        back = trees.axpy(beta, state.best_residual, state.best_point)
        # a residual that was lost is not this method's end: the error of the best point stands for it
        shown = jnp.where(lost, state.best, error)
        # after a return the next difference would be that to a point which is not on the way
        count = jnp.where(lost | full, 1, state.count + 1)
        last, last_residual = trees.where(lost, (state.best_point, state.best_residual), (x, residual))
        best = jnp.where(jnp.isnan(error), state.best, jnp.minimum(error, state.best))
        new = State(
            shown, points, residuals, gram, squares, last, last_residual, best_point, best_residual, best,
            factor.astype(dtype), count, state.sizes, scales,
        )  # fmt: skip
        # the point that is returned in the end is the one whose error is known
        done = met(self, x, error, scales)
        moved = jax.tree.map(jnp.multiply, trees.where(lost, back, mixed), units)
        return trees.where(done & ~lost, at, moved), new

    def _products(
        self, state: State, points: Any, residuals: Any, new: tuple[Tree, Tree], here: Any
    ) -> tuple[Any, Any]:
        """Return the matrix of (2) or (3) and the differences' squares, with the ``new`` ones ``here``."""
        move, change = new
        row = column = _stored.products(residuals, change)
        squares = state.squares
        if self.type == 1:
            row, column = _stored.products(residuals, move), _stored.products(points, change)
            lengths = jnp.stack([trees.vdot(move, move), trees.vdot(change, change)])
            squares = jnp.where(here, lengths[:, None], squares)
        gram = jnp.where(here[None, :], column[:, None], jnp.where(here[:, None], row, state.gram))
        return gram.astype(state.gram.dtype), squares

    def _weights(self, gram: Any, squares: Any, right: Any, used: Any) -> Any:
        """Return the weights of the differences that are in use, zero for the others."""
        gram, right = jnp.where(used[:, None] & used[None, :], gram, 0), jnp.where(used, right, 0)
        sizes = jnp.diagonal(gram) if self.type == 2 else jnp.where(used, squares[1], 0)
        scale = jnp.where(sizes > 0, jax.lax.rsqrt(jnp.where(sizes > 0, sizes, 1)), 0)
        if self.type == 2:
            # (2), its normal equations with columns of length one
            return scale * _least_norm(gram * scale[None, :] * scale[:, None], right * scale)
        lengths = jnp.where(used, squares[0], 0)
        rows = jnp.where(lengths > 0, jax.lax.rsqrt(jnp.where(lengths > 0, lengths, 1)), 0)
        matrix = gram * rows[:, None] * scale[None, :]
        used = (sizes > 0) & (lengths > 0)
        # signed like the diagonal, so that the shift does not cancel it
        shift = _shift(matrix) * jnp.where(jnp.diagonal(matrix) < 0, -1, 1)
        matrix = matrix + jnp.diag(jnp.where(used, shift, 1.0)).astype(matrix.dtype)
        # (3)
        return scale * jnp.linalg.solve(matrix, jnp.where(used, right * rows, 0))

    def differentiable_step(self, problem: FixedPoint, x: Tree, state: State, *args: Tree) -> Any:
        """Return the map's value."""
        del state
        return problem.map(x, *args)


def _shift(matrix: jax.Array) -> float:
    """Return what is added to a diagonal of ones.

    Where columns depend on each other, the weights are known up to rounding over the shift. Their sum hardly notices,
    but the derivative of unrolled steps does: a shift of the size of rounding costs it half of its digits.
    """
    return float(jnp.finfo(matrix.dtype).eps) ** (2 / 3)


def _least_norm(gram: jax.Array, right: jax.Array) -> jax.Array:
    """Solve a small positive semidefinite system with unit diagonal; dependent directions get nothing.

    Cholesky with a small shift: where a column depends on those before it, its pivot is of the size of the shift and
    the solution stays bounded. Its derivative exists at repeated and zero eigenvalues too, which that of an eigenvalue
    decomposition does not. Of a short history it is eliminated by hand: with a library's call in it, the loop would be
    compiled operation by operation, in three times the time.
    """
    shift = _shift(gram)
    used = jnp.diagonal(gram) > 0
    regular = gram + jnp.diag(jnp.where(used, shift, 1.0)).astype(gram.dtype)
    return positive_definite_solver(regular)(jnp.where(used, right, 0))
