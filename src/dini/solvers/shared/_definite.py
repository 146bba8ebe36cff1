"""Symmetric matrices taken for positive definite: where one is not, the absolute values of its eigenvalues are used.

For up to ``FEW`` unknowns no step calls LAPACK: XLA compiles a loop without such calls into one function, and a batch
would call for each of its members.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from ... import trees, xla
from ...linear import Banded, Dense, Sparse, SparseDirect
from ...linear._dense import even_scales, symmetric_scales
from ...linear._protocol import Structure
from ...linear._small import eliminated, product
from ...linear._solve import solve_known
from ...trees import Tree
from ...trees.products import dot

#: From seven unknowns on, what is written out takes longer to compile than LAPACK's calls, and a batch gains nothing.
FEW = xla.up_to(6, "elimination")

#: What factorizes a definite matrix by Cholesky, or says that it is none.
_DIRECT = (Banded, Dense, Sparse, SparseDirect)


#: What is first added to the diagonal of an indefinite sparse matrix whose rows have largest elements of one; by what
#: that grows until the sum is positive definite; and where it ends: by then it outweighs rows of some hundred elements.
_FIRST_SHIFT, _GROWTH, _LAST_SHIFT = 1e-3, 4.0, 300.0


class Factor(NamedTuple):
    """The Cholesky factor of a matrix, or its nonzeros, and whether it is positive definite."""

    numbers: jax.Array
    known: jax.Array


def solve_positive(matrix: jax.Array, b: jax.Array) -> tuple[jax.Array, Factor | None, jax.Array]:
    """Solve with a symmetric matrix; return its factor too, where LAPACK made one, and if no eigenvalue is negative."""
    matrix = 0.5 * (matrix + matrix.T)
    definite, solve, factor = _factorized(matrix)

    def modified(_: Any) -> tuple[jax.Array, jax.Array]:
        _, solve, semidefinite = _modified(~definite, matrix)
        return solve(b), semidefinite

    solution, semidefinite = jax.lax.cond(definite, lambda _: (solve(b), definite), modified, None)
    return solution, factor, semidefinite


def descent(matvec: Any, gradient: Tree, structure: Structure, solver: Any) -> Any:
    """Return Newton's direction by a linear solver, turned around where it ascends, or else the steepest."""
    if isinstance(solver, Sparse | SparseDirect):
        solver = solver.prepared(matvec, gradient)
        if solver.by_nonzeros:
            return sparse_descent(matvec, gradient, solver)[0]
    how: dict[str, Any] = {"solver": solver, "on_failure": "ignore"}
    step = solve_known(matvec, trees.neg(gradient), structure=structure, **how)
    if isinstance(solver, _DIRECT):
        # an indefinite matrix has no Cholesky factor, but a solution
        general = lambda _: solve_known(matvec, trees.neg(gradient), structure="symmetric", **how)
        step = jax.lax.cond(trees.all_finite(step), lambda _: step, general, None)
    return _descending(step, gradient)


def _descending(step: Tree, gradient: Tree) -> Tree:
    """Return a step turned around where it ascends; the steepest descent where it is none, or not finite."""
    slope = trees.vdot(gradient, step)
    step = trees.where(slope > 0, trees.neg(step), step)
    return trees.where(trees.all_finite(step) & (slope != 0), step, trees.neg(gradient))


def sparse_descent(matvec: Any, gradient: Tree, solver: Any, nonzeros: Any = None) -> tuple[Tree, Factor]:
    r"""Return Newton's direction by the nonzeros of the Hessian, and these; if not given, products find them.

    Where the Hessian ``H`` is not positive definite, :math:`H + \tau D` is factorized in its place, with the least
    :math:`\tau` of a geometric series that makes it so (Nocedal and Wright, "Numerical optimization", 2006, algorithm
    3.3). The diagonal ``D`` is what the rows and columns are to be divided by for largest elements of one, so that
    units of the unknowns do not matter. (The absolute values of the eigenvalues, which dense matrices take, are too
    expensive here. There they are better: 2240 steps compared with 2773 on Moré, Garbow and Hillstrom's functions.)
    """
    pattern = solver.pattern
    # of half precision, the factorization is in single precision
    values = pattern.values(matvec, gradient) if nonzeros is None else nonzeros.astype(trees.single(nonzeros.dtype))
    values = jax.lax.stop_gradient(values)
    weighed = lambda t: jnp.zeros_like(t).at[pattern.rows].max(jnp.abs(values) * t[pattern.columns])
    sizes = even_scales(weighed, jnp.ones(pattern.shape[0], values.dtype)) ** 2
    added = jnp.where(pattern.rows == pattern.columns, sizes[pattern.rows], 0)

    def solved(_: Any, b: Tree) -> tuple[Tree, jax.Array]:
        def attempt(shift: Any) -> tuple[Tree, jax.Array]:
            return solver.with_nonzeros(values + shift * added, b, "positive definite")

        def renew(now: tuple[Any, Tree, jax.Array]) -> tuple[Any, Tree, jax.Array]:
            shift = jnp.where(now[0] == 0, _FIRST_SHIFT, _GROWTH * now[0])
            return shift, *attempt(shift)

        step, bad = attempt(0.0)
        unfinished = lambda now: now[2] & (now[0] < _LAST_SHIFT)
        return jax.lax.while_loop(unfinished, renew, (jnp.zeros((), values.dtype), step, bad))[1], ~bad

    found: Any = jax.lax.custom_linear_solve(matvec, trees.neg(gradient), solved, solved, symmetric=True, has_aux=True)
    step, known = found
    return _descending(step, gradient), Factor(values, known)


def inverse_positive(matrix: jax.Array) -> jax.Array:
    """Return the inverse of a symmetric matrix."""
    matrix = 0.5 * (matrix + matrix.T)
    definite = _definite(jnp.linalg.cholesky(jax.lax.stop_gradient(matrix), symmetrize_input=False))
    # of a branch that is not taken, a derivative must not become NaN
    safe = jnp.where(definite, matrix, jnp.eye(len(matrix), dtype=matrix.dtype))
    factor = jnp.linalg.cholesky(safe, symmetrize_input=False)

    def plain(_: Any) -> jax.Array:
        half = jax.scipy.linalg.solve_triangular(factor, jnp.eye(matrix.shape[0], dtype=matrix.dtype), lower=True)
        return dot(half.T, half)

    def modified(_: Any) -> jax.Array:
        values, vectors, scales, _ = _constants(_spectra)(~definite, matrix)
        rows = vectors / scales[:, None]
        return dot(rows / values[None, :], rows.T)

    inverse = jax.lax.cond(definite, plain, modified, None)
    return 0.5 * (inverse + inverse.T)


def model_positive(matrix: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return a matrix, changed where it is not definite, what it maps to ``b``, and if no eigenvalue was negative."""
    matrix = 0.5 * (matrix + matrix.T)
    definite, solve, _ = _factorized(matrix)

    def modified(_: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        absolute, solve, semidefinite = _modified(~definite, matrix)
        return absolute, solve(b), semidefinite

    return jax.lax.cond(definite, lambda _: (matrix, solve(b), definite), modified, None)


def _factorized(matrix: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], jax.Array], Factor | None]:
    """Return whether a matrix is positive definite, a solver that needs it to be, and the Cholesky factor, if any."""
    constant = jax.lax.stop_gradient(matrix)
    if len(matrix) <= FEW:
        solve, pivots = eliminated(constant)
        stacked = jnp.stack(pivots)
        definite = jnp.all((stacked > 0) & jnp.isfinite(stacked))
        return definite, _linear(matrix, definite, solve), None
    cholesky = jnp.linalg.cholesky(constant, symmetrize_input=False)
    definite = _definite(cholesky)
    solve = lambda b: jax.scipy.linalg.cho_solve((cholesky, True), b)
    return definite, _linear(matrix, definite, solve), Factor(cholesky, definite)


def _linear(
    matrix: jax.Array, definite: jax.Array, solve: Callable[[jax.Array], jax.Array]
) -> Callable[[jax.Array], jax.Array]:
    """Return a solver whose derivative is that of the linear system, not of the elimination."""
    # a batch differentiates the branch that is not taken as well, where a NaN times zero would be one
    backwards = lambda _, b: jnp.where(definite, solve(b), 0)
    return lambda b: jax.lax.custom_linear_solve(lambda v: dot(matrix, v), b, backwards, symmetric=True)


def _definite(cholesky: jax.Array) -> jax.Array:
    """Return whether a Cholesky factorization has succeeded."""
    # each entry of a row goes into its diagonal element, NaN and infinity as well
    return jnp.all(jnp.isfinite(jnp.diagonal(cholesky)))


def _modified(needed: jax.Array, matrix: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], jax.Array], jax.Array]:
    """Return the matrix with absolute eigenvalues, none near zero, its solver, and if no eigenvalue was negative.

    Far from a solution only is a matrix indefinite: what a direction is there does not matter to a derivative.
    """
    if len(matrix) <= FEW:
        absolute, semidefinite = _constants(_absolute)(needed, matrix)
        return absolute, _linear(absolute, jnp.asarray(True), eliminated(absolute)[0]), semidefinite
    values, vectors, scales, semidefinite = _constants(_spectra)(needed, matrix)
    rows = vectors * scales[:, None]
    half = lambda b: dot(vectors.T, b / scales) / values
    return dot(rows * values[None, :], rows.T), lambda b: dot(vectors, half(b)) / scales, semidefinite


def _even(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the matrix of unknowns that are divided by scales, so that rows have largest elements of one, and these.

    Eigenvalues depend on the units of the unknowns: in others, curvature along some of them would be no more than
    rounding beside that along others, and what is negative of it would be replaced by a trace that is far larger.
    """
    known = jnp.any(matrix != 0, axis=1)
    scales = jnp.where(known, symmetric_scales(matrix), 0)
    # the unit of an unknown without any curvature is that of the others
    scales = jnp.where(known, scales, jnp.maximum(jnp.max(scales), jnp.finfo(scales.dtype).tiny ** 0.5))
    return matrix / scales[:, None] / scales[None, :], scales


def _spectra(matrix: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return absolute eigenvalues, none near zero, eigenvectors, scales of the unknowns, and if none was negative."""
    unit, scales = _even(matrix)
    values, vectors = jnp.linalg.eigh(unit)
    trace = jnp.finfo(values.dtype).eps ** 0.5
    return jnp.maximum(jnp.abs(values), trace), vectors, scales, jnp.all(values > -trace)


def _absolute(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Return :math:`A \operatorname{sign}(A)` and a trace of the identity, by Newton and Schulz's iteration.

    :math:`X \leftarrow \tfrac12 X (3 I - X^2)` takes each eigenvalue to its sign (Higham, "Functions of matrices",
    2008, chapter 5); those nearer to zero than the trace need not get there. Also return if no eigenvalue is
    negative, by more than a trace.
    """
    eps = float(jnp.finfo(matrix.dtype).eps)
    unit, scales = _even(matrix)
    eye = jnp.eye(len(matrix), dtype=matrix.dtype)

    def step(now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        x, _, count = now
        left = eye - product(x, x)
        return x + 0.5 * product(left, x), jnp.max(jnp.abs(left)), count + 1

    # each step multiplies a small eigenvalue by 1.5
    limit = int(np.ceil(np.log(len(matrix) / eps**0.5) / np.log(1.5)))
    more = lambda now: (now[1] > len(matrix) * eps) & (now[2] < limit)
    start = (unit / len(matrix), jnp.ones((), matrix.dtype), jnp.zeros((), jnp.int32))
    absolute = product(jax.lax.while_loop(more, step, start)[0], unit)
    semidefinite = jnp.max(jnp.abs(absolute - unit)) < eps**0.5
    absolute = (0.5 * (absolute + absolute.T) + eps**0.5 * eye) * scales[:, None] * scales[None, :]
    return absolute, semidefinite


def _constants(function: Callable[[jax.Array], Any]) -> Callable[[jax.Array, jax.Array], Any]:
    """Return a function's values as constants of differentiation; a batch computes them if one element needs them."""

    @custom_vmap
    def either(needed: jax.Array, matrix: jax.Array) -> Any:
        # without a batch, the caller's condition has asked already
        if needed.ndim == 0:
            return function(matrix)
        each = function
        for _ in needed.shape:
            each = jax.vmap(each)
        nothing = lambda m: jax.tree.map(lambda a: jnp.ones(a.shape, a.dtype), jax.eval_shape(each, m))
        return jax.lax.cond(jnp.any(needed), each, nothing, matrix)

    @either.def_vmap
    def _(size: int, batched: list[bool], needed: jax.Array, matrix: jax.Array) -> tuple[Any, Any]:
        spread = lambda array, is_batched: array if is_batched else jnp.broadcast_to(array, (size, *array.shape))
        out = either(spread(needed, batched[0]), spread(matrix, batched[1]))
        return out, jax.tree.map(lambda _: True, out)

    return lambda needed, matrix: either(jax.lax.stop_gradient(needed), jax.lax.stop_gradient(matrix))
