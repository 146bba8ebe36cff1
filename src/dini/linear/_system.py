"""One linear map, prepared once and solved for any number of right-hand sides, in both directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees, xla
from ..checks.records import record
from ..trees import Tree
from ..trees.products import dot
from ._cg import CG
from ._dense import Dense, DenseFactor
from ._gmres import GMRES
from ._krylov import as_linear_solver
from ._protocol import LinearSolver, Matvec, Structure

#: Unknowns of up to this many real numbers are factorized densely by default (measured: benchmarks/dense_limit.py).
DENSE_LIMIT = 512


Direct = Callable[[Any, Callable[[Any], tuple[Any, jax.Array]]], tuple[Any, jax.Array]]


class Reduction(NamedTuple):
    """A positive semidefinite system that stands for a nonsymmetric one.

    ``A w = b`` is solved by ``S v = restrict(b)`` and ``w = extend(v, b)``; the transposed system likewise with the
    last two functions. All maps are linear.
    """

    matvec: Matvec
    restrict: Callable[[Any], Any]
    extend: Callable[[Any, Any], Any]
    restrict_transposed: Callable[[Any], Any]
    extend_transposed: Callable[[Any, Any], Any]
    #: ``direct(b, otherwise)`` solves ``A w = b`` without iteration and says whether it failed; where it cannot it
    #: returns ``otherwise(b)``
    direct: Direct | None = None
    direct_transposed: Direct | None = None

    @property
    def transposed(self) -> Reduction:
        """The reduction of the transposed system."""
        return Reduction(
            self.matvec,
            self.restrict_transposed,
            self.extend_transposed,
            self.restrict,
            self.extend,
            self.direct_transposed,
            self.direct,
        )


@record
class Auto:
    """Choose by size and structure.

    Up to ``dense_limit`` unknowns: :class:`Dense`. Above: :class:`CG` where the map is positive definite or has a
    positive semidefinite reduction (proximal fixed points do), :class:`GMRES` for everything else. The normal
    equations, which square the condition number, are never formed.
    """

    dense_limit: int = field(default=DENSE_LIMIT, metadata={"static": True})

    def choose(self, size: int, structure: Structure) -> LinearSolver:
        """Return the solver for a map of this size and structure."""
        if size <= self.dense_limit:
            return Dense()
        return CG() if structure == "positive definite" else GMRES()


@record
class OnSupport:
    """Factorize the system of the active elements alone, where a reduction offers that; else conjugate gradients."""

    otherwise: CG = field(default_factory=CG)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return what conjugate gradients find."""
        return self.otherwise(matvec, b, structure)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return self.otherwise.accept(eps)


def choose(
    solver: Any, size: int, structure: Structure, reduction: Reduction | None, *, direct: bool = False
) -> tuple[LinearSolver, Reduction | None]:
    """Return the solver of a system, and its reduction where that solver needs it.

    ``direct`` allows a solver that has no factorization of the whole map to show.
    """
    chosen = Auto() if solver is None else as_linear_solver(solver)
    if isinstance(chosen, OnSupport):
        return chosen, reduction
    if direct and isinstance(chosen, Auto) and reduction is not None and reduction.direct is not None:
        return OnSupport(), reduction
    if isinstance(chosen, Auto):
        reducible = reduction is not None and size > chosen.dense_limit
        chosen = chosen.choose(size, "positive definite" if reducible else structure)
    # a direct solver takes the map as it is; of the Krylov methods, CG needs the reduction
    if reduction is not None and isinstance(chosen, CG) and structure != "positive definite":
        return chosen.reduced(), reduction
    return chosen, None


def modified(matvec: Matvec, solver: Any, reduction: Reduction | None) -> tuple[Matvec, Any, Reduction | None]:
    """Return the map, solver and reduction that are meant where a solver solves another system in place of one."""
    while hasattr(solver, "modified"):
        (matvec, solver), reduction = solver.modified(matvec), None
    return matvec, solver, reduction


class Solved(NamedTuple):
    """A solution, its true relative residual, and whether the solver knows that it failed."""

    w: Tree
    residual: jax.Array
    flagged: jax.Array


class Rough(NamedTuple):
    r"""What is asked of a solution ``w`` of which only the leading digits count.

    Its relative residual ``r`` is at most ``rtol``, or ``fine`` where the solution is longer than ``small``, and leaves
    out at most as much as there is, by bounds of the norms of the map and of its inverse: :math:`\|A^{-1}\| \|r\| \le
    \|w\|`.
    """

    rtol: float
    fine: float
    small: Any
    norm: Any
    inverse_norm: Any

    def enough(self, size: Any) -> Callable[[Any, Any], Any]:
        """Return the test of an iterate and its residual's norm, for a right-hand side that was divided by ``size``."""

        def test(w: Tree, rest: Any) -> Any:
            length = trees.norm(w)
            rtol = jnp.where(length * size > self.small, self.fine, self.rtol)
            return (rest <= rtol) & (self.inverse_norm * rest <= length)

        return test

    def tolerance(self, eps: float) -> Any:
        """Return the relative residual that does in any case: no ``w`` is shorter than ``r`` over the map's norm."""
        return jnp.clip(1 / (self.norm * self.inverse_norm), eps, self.fine)


class System:
    """A linear map from trees like ``like`` to such trees, with its solver.

    An object lives within one trace. What is costly (the matrix, the transposed products) is made when it is first
    asked for, and once.
    """

    def __init__(
        self,
        matvec: Matvec,
        like: Tree,
        structure: Structure = None,
        reduction: Reduction | None = None,
        solver: Any = None,
    ):
        self.like = like
        self.structure: Structure = structure
        matvec, solver, reduction = modified(matvec, solver, reduction)
        chosen: Any
        chosen, self.reduction = choose(solver, trees.size(like), structure, reduction)
        self.solver = chosen.prepared(matvec, like) if hasattr(chosen, "prepared") else chosen
        self._matvec = matvec

    @property
    def dense(self) -> bool:
        """Whether the map is factorized."""
        return isinstance(self.solver, Dense)

    @cached_property
    def factor(self) -> DenseFactor:
        """The factorized matrix of a dense system."""
        assert isinstance(self.solver, Dense)
        return self.solver.factorize(self._matvec, self.like, self.structure)

    @cached_property
    def transposed(self) -> System:
        """The transposed system."""
        solver = getattr(self.solver, "transposed", lambda: self.solver)()
        if self.structure is not None and solver is self.solver:
            return self
        other = object.__new__(System)
        other.like, other.structure, other.solver = self.like, self.structure, solver
        other.reduction = None if self.reduction is None else self.reduction.transposed
        other._matvec = self._matvec
        if self.structure is None:
            transpose = jax.linear_transpose(self._matvec, self.like)
            other._matvec = lambda w: transpose(w)[0]
        if self.dense:
            other.factor = self.factor.transposed
        return other

    def prepare(self) -> None:
        """Factorize now: what is made first inside a ``vmap`` belongs to it."""
        if self.dense:
            _ = self.factor, self.transposed

    def product(self, w: Tree) -> Any:
        """Return the map's value, by the matrix where there is one."""
        return self.factor.product(w) if self.dense else self._matvec(w)

    def solve(self, b: Any, rough: Rough | None = None) -> Solved:
        """Solve for one right-hand side.

        It is scaled to unit size before, so that the squares of small numbers do not underflow, and the true residual
        is computed after. ``rough`` asks an iterative solver for the leading digits only. A dense system measures
        sizes by the largest element, of equations of unit size, and by its matrix: to rounding it is the same, and
        nothing more to compile.
        """
        top = trees.max_abs(b)
        unit = jnp.where(top > 0, top, 1)
        b = trees.scale(1 / unit, b)
        if self.dense:
            w = self.factor.solve(b)
            return Solved(trees.scale(unit, w), self.factor.residual(w, b), self.factor.singular)
        # to unit norm, in two steps: the square of a small number underflows
        size = trees.norm(b)
        size = jnp.where(size > 0, size, 1)
        b = trees.scale(1 / size, b)
        solver: Any = self.solver
        if rough is not None and hasattr(solver, "rtol"):
            solver = dataclasses.replace(solver, rtol=rough.tolerance(trees.eps(b)))
        if rough is not None and isinstance(solver, CG) and self.reduction is None:
            w, flagged = solver.until(self._matvec, b, rough.enough(size * unit))
        elif isinstance(solver, OnSupport) and self.reduction is not None and self.reduction.direct is not None:
            w, flagged = self.reduction.direct(b, lambda b: self._apply(solver, b))
        else:
            w, flagged = self._apply(solver, b)
        # some methods divide by the norm of the residual, and some take no step where it is not a number
        unit = jnp.where(jnp.isfinite(top), unit, jnp.nan)
        w, flagged = trees.where(top == 0, trees.zeros_like(w), w), flagged & (top != 0)
        left = trees.sub(self._matvec(w), b)
        residual = self._reachable(left, b) if getattr(solver, "least_squares", False) else trees.norm(left)
        relative = getattr(solver, "relative", None)
        if relative is not None:  # whose parts have units of their own
            residual = relative(left, b, w)
        return Solved(trees.scale(size, trees.scale(unit, w)), residual, flagged)

    def _apply(self, solver: Any, b: Any) -> tuple[Any, jax.Array]:
        if self.reduction is None:
            return solver(self._matvec, b, self.structure)
        v, flagged = solver(self.reduction.matvec, self.reduction.restrict(b), "positive definite")
        return self.reduction.extend(v, b), flagged

    def _reachable(self, left: Any, b: Any) -> jax.Array:
        """Return how much of a residual another solution could remove, relative to the map's size."""
        back = self.transposed.product
        start = trees.varied(b)
        size = trees.norm(back(start)) / trees.norm(start) + trees.norm(back(b))
        return trees.norm(back(left)) / jnp.where(size > 0, size, 1)

    def perturbation(self, w: Tree, signs: Any) -> Any:
        r"""Return what rounding errors of the given signs in the matrix's elements change in a product.

        A definite matrix is taken to be a sum of products, whose terms may cancel: its elements' errors are as
        large as :math:`\sqrt{a_{ii} a_{jj}}`, the bound of an element.
        """
        factor = self.factor
        flat, sign = factor.flat(w), factor.flat(signs)
        if self.structure == "positive definite":
            diagonal = jnp.maximum(jnp.diagonal(factor.matrix), 0)
            size = jnp.sqrt(diagonal * jnp.sum(diagonal * flat**2))
        else:
            squares = factor.matrix**2
            size = jnp.sqrt(dot(flat**2, squares) if factor.flipped else dot(squares, flat**2))
        return factor.unravel(trees.eps(w) * sign * size)

    def norm(self, iterations: int = 2, after: Any = None) -> jax.Array:
        """Estimate the largest singular value from below, by power iteration.

        ``after`` is what the program computes first: on a CPU, threads that wait for each other cost more than products
        of this size (measured: half of a certificate of 100 unknowns).
        """
        start = xla.after(trees.varied(self.like), after, "power iteration")
        return _power(self.product, self.transposed.product, start, iterations)

    def inverse_norm(self, iterations: int = 2, after: Any = None) -> jax.Array:
        """Estimate one over the smallest singular value from below, by inverse iteration (of a dense system).

        ``after``: see :meth:`norm`.
        """
        start = xla.after(trees.varied(self.like), after, "power iteration")
        return _power(self.factor.solve, self.factor.transposed.solve, start, iterations)


def _power(apply: Matvec, back: Matvec, start: Any, iterations: int) -> jax.Array:
    v = apply(trees.scale(1 / trees.norm(start), start))
    for _ in range(iterations - 1):
        v = back(v)
        v = apply(trees.scale(1 / trees.norm(v), v))
    return trees.norm(v)
