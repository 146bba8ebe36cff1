"""Linear solvers made of others: a ridge, iterative refinement, the shortest of many solutions."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.records import record
from ..checks.settings import require_count, require_positive
from ..trees import Tree
from ..trees.products import dot
from ._dense import Dense, symmetric_scales
from ._krylov import LSMR, closed_solver, wrap_linear_solver
from ._materialize import materialize
from ._protocol import Matvec, Structure
from ._system import DENSE_LIMIT, System

#: corrections of what is found by singular vectors
_CORRECTIONS = 2


class _Shifted:
    """The map ``w -> A w + strength w``."""

    def __init__(self, matvec: Matvec, strength: Any):
        self._matvec, self._strength = matvec, strength

    def tangent(self, w: Tree) -> Any:
        """Return the product by a program that contains all of the function, as :class:`Linearized` does."""
        return trees.axpy(self._strength, w, getattr(self._matvec, "tangent", self._matvec)(w))

    def __call__(self, w: Tree) -> Any:
        return trees.axpy(self._strength, w, self._matvec(w))


@record
class Ridge:
    r"""Solve :math:`(A + \rho I) w = b` in place of :math:`A w = b`.

    A singular or nearly singular system becomes solvable, and the derivative is another one: that of a problem with
    a Tikhonov term, of relative size :math:`\rho \|(A + \rho I)^{-1}\|` away. The residual is that of the
    changed system, so nothing warns of the change. It is for systems whose singular directions are known to be of no
    interest; for the shortest of many derivatives use :class:`MinimumNorm`.

    Parameters
    ----------
    strength
        The number :math:`\rho`, in the units of the condition's derivative. It is a constant of differentiation.
    solver
        The solver of the changed system. Default: by size and structure.

    Raises
    ------
    ValueError
        If the strength is negative.

    Examples
    --------
    The minimum of :math:`\frac12 (w_1 + w_2 - \theta)^2` is not unique:

    >>> import dini, jax, jax.numpy as jnp
    >>> from dini import linear
    >>> problem = dini.Minimize(lambda w, t: 0.5 * (w[0] + w[1] - t) ** 2)
    >>> how = dini.Implicit(linear_solver=linear.Ridge(1e-2))
    >>> solve = lambda t: dini.solve(problem, dini.BFGS(), jnp.zeros(2), t, differentiation=how).x
    >>> print(jax.jacobian(solve)(1.0).round(3))
    [0.498 0.498]
    """

    strength: Any
    solver: Any = None

    def __post_init__(self) -> None:
        require_positive("Ridge's strength", self.strength, or_zero=True)
        object.__setattr__(self, "solver", wrap_linear_solver(self.solver))

    def modified(self, matvec: Matvec) -> tuple[Matvec, Any]:
        """Return the changed map, and its solver."""
        return _Shifted(matvec, lax.stop_gradient(jnp.asarray(self.strength))), self.solver

    def closed(self, like: Tree) -> Ridge:
        """Return the solver with everything that it closes over made explicit."""
        return dataclasses.replace(self, solver=closed_solver(self.solver, like))

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the solution of the changed system and whether its matrix looks singular."""
        shifted, solver = self.modified(matvec)
        w, _, flagged = System(shifted, b, structure, None, solver).solve(b)
        return w, flagged

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375 if self.solver is None else self.solver.accept(eps)


@record
class Refined:
    r"""Iterative refinement: solve in low precision, and correct by the residual in the unknown's own.

    :math:`w \leftarrow w + \tilde A^{-1} (b - A w)`, where :math:`\tilde A^{-1}` is the given solver in float32, say.
    Each step multiplies the error by about the condition number times the low precision's unit roundoff; a step
    that does not reduce the residual is not taken. A dense matrix is factorized once, at half the memory and time of
    float64. Unknowns of the low precision are refined in their own, which helps solvers that are not
    backward stable.

    Parameters
    ----------
    solver
        What is run in low precision: one of :mod:`dini.linear`.
    steps
        Number of corrections.
    dtype
        The low precision.

    References
    ----------
    N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 2002, chapter 12.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini import linear
    >>> A = jnp.array([[4.0, 1.0], [1.0, 3.0]])
    >>> print(linear.solve(lambda w: A @ w, jnp.array([6.0, 7.0]), solver=linear.Refined()))
    [1. 2.]
    """

    solver: Any = field(default_factory=Dense)
    steps: int = field(default=3, metadata={"static": True})
    dtype: str = field(default="float32", metadata={"static": True})

    def __post_init__(self) -> None:
        require_count("Refined's steps", self.steps)
        if not jnp.issubdtype(jnp.dtype(self.dtype), jnp.floating):
            raise ValueError(f"Refined's dtype must be a floating-point type: given {self.dtype!r}.")
        object.__setattr__(self, "solver", wrap_linear_solver(self.solver))

    def prepared(self, matvec: Matvec, like: Tree) -> Refined:
        """Return the solver with what its inner one finds out about a map."""
        inner = self.solver
        return dataclasses.replace(self, solver=inner.prepared(matvec, like)) if hasattr(inner, "prepared") else self

    def transposed(self) -> Refined:
        """Return the solver of the transposed system."""
        inner = self.solver
        return dataclasses.replace(self, solver=inner.transposed()) if hasattr(inner, "transposed") else self

    def closed(self, like: Tree) -> Refined:
        """Return the solver with everything that it closes over made explicit."""
        return dataclasses.replace(self, solver=closed_solver(self.solver, like))

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return ``w`` with ``matvec(w) = b`` and whether the matrix looks singular in the low precision."""

        def low(tree: Tree) -> Any:
            narrow = jnp.dtype(self.dtype)
            return jax.tree.map(lambda x: x.astype(narrow) if x.dtype.itemsize > narrow.itemsize else x, tree)

        def high(tree: Tree) -> Any:
            return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, b)

        system = System(lambda w: low(matvec(high(w))), low(b), structure, None, self.solver)
        if system.dense:
            _ = system.factor  # before the loop

        def correct(carry: tuple[Any, Any, jax.Array, jax.Array], _: Any) -> tuple[Any, None]:
            w, r, size, flagged = carry
            dw, _, bad = system.solve(low(r))
            new = trees.add(w, high(dw))
            left = trees.sub(b, matvec(new))
            better = trees.norm(left) < size
            kept = trees.where(better, (new, left), (w, r))
            return (*kept, jnp.where(better, trees.norm(left), size), flagged | bad), None

        start = trees.zeros_like(b), b, jnp.asarray(jnp.inf, trees.real_dtype(b)), jnp.asarray(False)
        (w, _, size, flagged), _ = lax.scan(correct, start, None, length=self.steps + 1)
        return w, flagged | ~jnp.isfinite(size)

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return self.solver.accept(eps)


@record
class MinimumNorm:
    r"""The shortest solution, for singular systems that have solutions.

    At a degenerate point (a minimum that is not unique, an object that may rotate) the equation
    :math:`A \dot x = -B\dot\theta` of the derivative has many solutions or none. In forward mode this solver returns
    the shortest, :math:`A^+ b`; where there is none, which the residual shows, it counts as failed. Reverse mode is the
    transpose of that, :math:`-B^\top (A^+)^\top v`. It ignores the part of a cotangent that no motion of the solution
    feels, and does not see whether the equation has a solution: a check in forward mode does. Up to 512 unknowns
    the solver takes the singular value decomposition; above, :class:`LSMR`.

    Parameters
    ----------
    cutoff
        Singular values below this multiple of the largest count as zero (dense matrices only); by default the number
        of unknowns times the unit roundoff.

    Examples
    --------
    The minimum of :math:`\frac12 (w_1 + w_2 - \theta)^2` is not unique:

    >>> import dini, jax, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda w, t: 0.5 * (w[0] + w[1] - t) ** 2)
    >>> how = dini.Implicit(linear_solver=dini.linear.MinimumNorm())
    >>> solve = lambda t: dini.solve(problem, dini.BFGS(), jnp.zeros(2), t, differentiation=how).x
    >>> print(jax.jacobian(solve)(1.0).round(3))
    [0.5 0.5]
    """

    cutoff: float | None = field(default=None, metadata={"static": True})

    def __post_init__(self) -> None:
        if self.cutoff is not None:
            require_positive("MinimumNorm's cutoff", self.cutoff)

    def transposed(self) -> MinimumNorm:
        """Return the solver of the transposed system, whose right-hand side may lie outside of the range."""
        return _LeastSquares(self.cutoff)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the shortest ``w`` with the least residual, and whether it is finite."""
        if trees.size(b) > DENSE_LIMIT:
            return LSMR()(matvec, b, structure)
        matrix, flat, unravel = materialize(matvec, b)
        left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
        cutoff = flat.size * jnp.finfo(matrix.dtype).eps if self.cutoff is None else self.cutoff
        kept = values > cutoff * values[0]
        w = dot(right.T, jnp.where(kept, 1 / jnp.where(kept, values, 1), 0) * dot(left.T, flat))
        return unravel(w), ~jnp.all(jnp.isfinite(w))

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375


@record
class _LeastSquares(MinimumNorm):
    """The same for a right-hand side that may lie outside of the range; only the rest of its residual is looked at."""

    least_squares = True

    def transposed(self) -> MinimumNorm:
        return MinimumNorm(self.cutoff)


@record
class UniquePart(MinimumNorm):
    r"""The shortest solution of a system of which only the first part of the unknown, ``w[0]``, must be unique.

    So are systems of a primal variable with multipliers that are not unique: any of them will do, and the shortest are
    taken. It is no convention, since the system counts as singular where the null space of :math:`A` moves the first
    part: by the singular vectors of a dense matrix, and above 512 unknowns by what :class:`LSMR` leaves of one vector.

    With ``balanced``, a symmetric matrix is scaled before, each row and its column by one power of two, and residuals
    are measured so: for data of unlike units, where no element is what rounding has left of others. ``scales`` are
    these, once they are known.
    """

    balanced: bool = field(default=False, metadata={"static": True})
    scales: Any = None
    back: bool = field(default=False, metadata={"static": True})

    singular = "singular: the solution is not unique"

    def transposed(self) -> MinimumNorm:
        """Return the solver of the transposed system, of the same null space."""
        return dataclasses.replace(self, back=not self.back)

    def prepared(self, matvec: Matvec, like: Tree) -> UniquePart:
        """Return the solver with the scales of a map that is to be balanced."""
        if not self.balanced or self.scales is not None or trees.size(like) > DENSE_LIMIT:
            return self
        sizes = symmetric_scales(materialize(matvec, like)[0])
        powers = jnp.round(jnp.log2(sizes)).astype(jnp.int32)
        return dataclasses.replace(self, scales=jnp.ldexp(jnp.ones_like(sizes), -powers))

    def relative(self, left: Any, b: Any, w: Tree) -> jax.Array:
        """Return the size of a residual relative to a right-hand side of unit norm, in the scales where there are some.

        There, rounding errors of a large solution count as none.
        """
        if self.scales is None:
            return trees.norm(left)
        size = lambda tree, weights: jnp.max(jnp.abs(weights * ravel_pytree(tree)[0]), initial=0)
        beside = jnp.maximum(size(b, self.scales), trees.eps(b) ** 0.5 * size(w, 1 / self.scales))
        return size(left, self.scales) / jnp.where(beside > 0, beside, 1)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return the shortest ``w``, and whether its first part is not unique."""
        if self.balanced and self.scales is None and trees.size(b) <= DENSE_LIMIT:
            return self.prepared(matvec, b)(matvec, b, structure)
        first = trees.size(b[0])
        if trees.size(b) > DENSE_LIMIT:
            w, flagged = LSMR()(matvec, b, structure)
            there = (lambda w: jax.linear_transpose(matvec, b)(w)[0]) if self.back else matvec
            # what of a vector lies in the null space is orthogonal to all rows
            probe = trees.varied(b)
            rest = trees.sub(probe, LSMR()(there, there(probe), structure)[0])
            left = trees.norm(rest[0]) / trees.norm(probe[0])
            return w, flagged | ~(left <= trees.eps(b) ** 0.25)
        matrix, flat, unravel = materialize(matvec, b)
        scales = jnp.ones_like(flat) if self.scales is None else self.scales
        matrix = scales[:, None] * matrix * scales[None, :]
        left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
        cutoff = flat.size * jnp.finfo(matrix.dtype).eps if self.cutoff is None else self.cutoff
        kept = values > cutoff * values[0]
        inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
        shortest = lambda side: dot(right.T, inverse * dot(left.T, side))
        side = scales * flat
        w = shortest(side)
        # singular vectors are exact beside the largest elements alone
        for _ in range(_CORRECTIONS):
            w = w + shortest(side - dot(matrix, w))
        null = left.T if self.back else right
        moved = jnp.max(jnp.where(kept[:, None], 0, jnp.abs(null[:, :first])), initial=0)
        return unravel(scales * w), ~(jnp.all(jnp.isfinite(w)) & (moved <= jnp.finfo(matrix.dtype).eps ** 0.5))
