"""Estimates of a linear map's singular values from few products or solves."""

from __future__ import annotations

from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
from jax import lax

from .. import trees
from ..checks.settings import require_count
from ..deferred import Array, Float
from ..trees import Tree
from ..trees.products import dot
from ._dense import symmetric_scales
from ._krylov import Krylov
from ._protocol import Matvec, Structure
from ._system import System

#: products that look for a negative curvature
_LOOKS = 20


def condition_estimate(
    matvec: Matvec, like: Tree, *, structure: Structure = None, solver: Any = None, iterations: int = 10
) -> Float[Array, ""]:
    r"""Estimate the condition number :math:`\|A\|_2 \|A^{-1}\|_2` of a linear map from below.

    With a direct solver, :math:`\|A\|` comes from power iteration with :math:`A^\top A` and :math:`\|A^{-1}\|` from
    the same with solves; a dense matrix is factorized once. The estimate is usually right to a factor of two, however
    large the number is. With a Krylov solver (the default above 512 unknowns) nothing is solved: extreme Ritz values
    of a Lanczos process are compared. They approach the smallest eigenvalues slowly, so a large condition number
    is underestimated unless there are many iterations.

    Parameters
    ----------
    matvec
        A linear function from trees like ``like`` to such trees.
    like
        A tree of the unknown's structure.
    structure
        What is known of the map.
    solver
        One of :mod:`dini.linear`. Default: by size and structure.
    iterations
        Number of iterations, or of Lanczos steps.

    Raises
    ------
    ValueError
        If ``iterations`` is less than two, or ``like`` is empty.

    References
    ----------
    N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 2002, chapter 15.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.linear import condition_estimate
    >>> d = jnp.array([1.0, 10.0, 1000.0])
    >>> round(float(condition_estimate(lambda w: d * w, jnp.ones(3))))
    1000
    """
    require_count("iterations", iterations, 2)
    if trees.size(like) == 0:
        raise ValueError(f"like must hold numbers for a condition number: given {trees.describe(like)}.")
    system = System(matvec, like, structure, None, solver)
    if isinstance(system.solver, Krylov):
        if structure == "positive definite":
            values = jnp.abs(ritz_values(system.product, like, iterations))
        else:
            values = _singular_ritz_values(system.product, system.transposed.product, like, iterations)
        return jnp.max(values) / jnp.min(values)
    if system.dense:
        return system.norm(iterations) * system.inverse_norm(iterations)
    start = trees.varied(like)
    back = system.transposed

    def step(v: Tree, _: Any) -> tuple[Any, jax.Array]:
        w = system.solve(v).w
        size = trees.norm(w)
        v = back.solve(trees.scale(1 / size, w)).w
        return trees.scale(1 / trees.norm(v), v), size

    _, sizes = lax.scan(step, trees.scale(1 / trees.norm(start), start), None, length=iterations)
    return system.norm(iterations) * jnp.max(sizes)


def ritz_values(matvec: Matvec, like: Tree, steps: int = 20) -> Float[Array, " steps"]:
    r"""Return approximations of eigenvalues of a symmetric map, in ascending order.

    They are the eigenvalues of the map on the Krylov space of a fixed start vector (Lanczos, with full
    orthogonalization). All lie between the smallest and the largest eigenvalue, and the extreme ones approach those.

    Parameters
    ----------
    matvec
        A symmetric linear function from trees like ``like`` to such trees.
    like
        A tree of the unknown's structure.
    steps
        Number of products; at most the number of unknowns.

    References
    ----------
    B. N. Parlett, The Symmetric Eigenvalue Problem, SIAM, 1998, chapter 13.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.linear import ritz_values
    >>> d = jnp.linspace(1.0, 10.0, 100)
    >>> values = ritz_values(lambda w: d * w, jnp.ones(100), 20)
    >>> print(values[0].round(1), values[-1].round(1))
    1.0 10.0
    """
    require_count("steps", steps)
    apply, start = _on_vectors(matvec, like)
    steps = min(steps, start.size)

    def step(carry: tuple[jax.Array, jax.Array], k: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        basis, v = carry
        basis = basis.at[k].set(v)
        w = apply(v)
        alpha = dot(v, w)
        v, beta = _next(basis, w, jnp.linalg.norm(w))
        return (basis, v), (alpha, beta)

    empty = jnp.zeros((steps, start.size), start.dtype)
    _, (alpha, beta) = lax.scan(step, (empty, start), jnp.arange(steps))
    # once the space is exhausted, the first Rayleigh quotient stands for what is not there
    done = jnp.cumsum(jnp.concatenate([jnp.zeros(1), (beta == 0).astype(start.dtype)])[:-1]) > 0
    alpha = jnp.where(done, alpha[0], alpha)
    beta = beta[:-1]
    return jnp.linalg.eigvalsh(jnp.diag(alpha) + jnp.diag(beta, 1) + jnp.diag(beta, -1))


def indefinite(system: System, flagged: jax.Array) -> jax.Array:
    """Return whether a map that should be positive definite has a negative curvature beyond rounding.

    It is looked at where the system's solver has ``flagged`` a failure. Of a matrix, rows and columns are scaled, which
    changes the sign of no eigenvalue, so that units hide none.
    """
    if system.structure != "positive definite":
        return jnp.zeros((), bool)
    product, like = system.product, system.like
    if system.dense:
        matrix = system.factor.matrix
        like = lax.cond(flagged, symmetric_scales, lambda m: jnp.ones_like(m[0]), matrix)
        product = lambda w, scales=like: dot(matrix, w / scales) / scales

    def look(like: Tree) -> jax.Array:
        values = ritz_values(product, like, _LOOKS)
        return values[0] < -(trees.eps(like) ** 0.75) * jnp.maximum(values[-1], -values[0])

    return lax.cond(flagged, look, lambda _: jnp.zeros((), bool), like)


def _singular_ritz_values(matvec: Matvec, back: Matvec, like: Tree, steps: int) -> Float[Array, " steps"]:
    """Return approximations of singular values, by Golub and Kahan's bidiagonalization."""
    apply, start = _on_vectors(matvec, like)
    apply_back, _ = _on_vectors(back, like)
    steps = min(steps, start.size)

    def step(carry: tuple[jax.Array, jax.Array, jax.Array], k: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        rights, lefts, v = carry
        rights = rights.at[k].set(v)
        image = apply(v)
        u, alpha = _next(lefts, image, jnp.linalg.norm(image))
        lefts = lefts.at[k].set(u)
        w = apply_back(u)
        v, beta = _next(rights, w, jnp.linalg.norm(w))
        return (rights, lefts, v), (alpha, beta)

    empty = jnp.zeros((steps, start.size), start.dtype)
    _, (alpha, beta) = lax.scan(step, (empty, empty, start), jnp.arange(steps))
    done = jnp.cumsum(jnp.concatenate([jnp.zeros(1), (beta == 0).astype(start.dtype)])[:-1]) > 0
    alpha = jnp.where(done, alpha[0], alpha)
    return jnp.linalg.svd(jnp.diag(alpha) + jnp.diag(beta[:-1], 1), compute_uv=False)


def _on_vectors(matvec: Matvec, like: Tree) -> tuple[Any, jax.Array]:
    """Return a map on vectors, and a unit vector to start from."""
    flat, unravel = jax.flatten_util.ravel_pytree(trees.varied(like))
    dtype = trees.single(flat.dtype)
    apply = lambda v: jax.flatten_util.ravel_pytree(matvec(unravel(v.astype(flat.dtype))))[0].astype(dtype)
    flat = flat.astype(dtype)
    return apply, flat / jnp.linalg.norm(flat)


def _next(basis: jax.Array, w: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the direction of ``w`` apart from a basis and its length, zero where nothing is left but rounding."""
    for _ in range(2):
        w = w - dot(dot(basis, w), basis)
    left = jnp.linalg.norm(w)
    there = left > 100 * jnp.finfo(w.dtype).eps * size
    return jnp.where(there, w / jnp.where(there, left, 1), 0), jnp.where(there, left, 0)
