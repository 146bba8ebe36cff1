"""The equations of the active rows of a sparse quadratic program, factorized on the host by SuperLU through SciPy."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from ...functions.host import call_on_host
from ...linear._matrices import is_sparse
from ..interior._scaled_program import Scaled

#: what takes the place of zero on the diagonal, and how often what that changed is taken away
_SOFT, _ROUNDS = 1e-10, 12


def on_host(data: Scaled) -> bool:
    """Return whether the matrices are sparse, so that the host can factorize their elements."""
    return is_sparse(data.quadratic) and is_sparse(data.matrix)


def solve_on_host(data: Scaled, active: jax.Array, right: jax.Array) -> jax.Array:
    """Solve the equations of the active rows for some columns; rows that are not active are zero on both sides.

    They are factorized in float64, regularized by a small number on the diagonal, whose effect refinement takes away:
    where rows depend on one another, one of the solutions is found. The columns of a batch share a factorization.
    """
    run = functools.partial(_solved, data.n, data.matrix.shape[0], tuple(data.signs))
    blocks = [(part.data, part.indices) for part in (data.quadratic, data.matrix)]

    def call(blocks: Any, active: jax.Array, right: jax.Array) -> jax.Array:
        return call_on_host(run, jax.ShapeDtypeStruct(right.shape, right.dtype), *blocks, active, right)

    together = custom_vmap(call)

    @together.def_vmap
    def _(size: int, batched: Any, blocks: Any, active: jax.Array, right: jax.Array) -> tuple[Any, bool]:
        if any(jax.tree.leaves(batched[:2])):
            axes = jax.tree.map(lambda one: 0 if one else None, tuple(batched))
            return jax.vmap(call, in_axes=axes)(blocks, active, right), True
        columns = jnp.moveaxis(right, 0, 1).reshape(right.shape[1], -1)
        found = together(blocks, active, columns).reshape(right.shape[1], size, -1)
        return jnp.moveaxis(found, 1, 0), True

    return together(blocks, active, right)


def _solved(
    n: int, first: int, signs: tuple[int, ...], quadratic: Any, matrix: Any, active: np.ndarray, right: np.ndarray
) -> np.ndarray:
    (q, at_q), (c, at_c) = quadratic, matrix
    q, c, right = (part.astype(np.float64) for part in (q, c, right))
    keep = np.concatenate([np.ones(n, bool), active])
    found = np.zeros_like(right)
    system = _system(n, first, signs, keep, (q, at_q), (c, at_c))
    found[keep] = _refined(system, n, right[keep])
    return found


def _system(
    n: int, first: int, signs: tuple[int, ...], keep: np.ndarray, quadratic: tuple[Any, Any], matrix: tuple[Any, Any]
) -> Any:
    """Return the matrix of the active rows."""
    sparse = importlib.import_module("scipy.sparse")
    place = np.cumsum(keep) - 1
    (q, at_q), (c, at_c) = quadratic, matrix
    inside = (at_q < n).all(1)
    rows, columns, values = [at_q[inside, 0]], [at_q[inside, 1]], [q[inside]]
    inside = (at_c[:, 0] < first) & (at_c[:, 1] < n)
    at_c, c = at_c[inside], c[inside]
    held = keep[n + at_c[:, 0]]
    sides = [(n + at_c[held, 0], at_c[held, 1], c[held])]
    for i, sign in enumerate(signs):
        start = n + first + i * n
        own = np.flatnonzero(keep[start : start + n])
        sides.append((start + own, own, np.full(own.size, float(sign))))
    for row, column, value in sides:
        rows += [place[row], place[column]]
        columns += [place[column], place[row]]
        values += [value, value]
    size = int(keep.sum())
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csc_matrix(entries, (size, size))


def _refined(system: Any, n: int, right: np.ndarray) -> np.ndarray:
    """Return the solution for some columns, as good as refinement makes it."""
    sparse, linalg = map(importlib.import_module, ("scipy.sparse", "scipy.sparse.linalg"))
    if not np.isfinite(system.data).all() or not np.isfinite(right).all():
        return np.full_like(right, np.nan)
    soft = np.full(system.shape[0], -_SOFT)
    soft[:n] = _SOFT
    factor = linalg.splu((system + sparse.diags(soft)).tocsc())
    found, left = np.zeros_like(right), right
    for _ in range(_ROUNDS):
        better = found + factor.solve(left)
        rest = right - system.dot(better)
        if not np.abs(rest).max(initial=0) < np.abs(left).max(initial=0):
            break
        done = np.abs(rest).max(initial=0) > 0.5 * np.abs(left).max(initial=0)
        found, left = better, rest
        if done:
            break
    return found
