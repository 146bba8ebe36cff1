"""Direct solvers of sparse systems: diagonal, banded, general."""

from __future__ import annotations

import functools
import importlib
from dataclasses import field, replace
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from .. import trees
from ..checks.records import record
from ..checks.settings import require_count
from ._banded import Bands, solve_bands
from ._dense import Dense
from ._pattern import Pattern
from ._protocol import Matvec, Structure
from ._sparsity import detect

_DENSE_SIZE = 32  # up to here a dense factorization is faster than anything that looks at the pattern
_WIDEST_BAND = 64  # above, a factorization that orders the unknowns freely is faster (measured: docs/linear-solvers.md)


class _Direct:
    """What the direct solvers share."""

    check: bool

    @property
    def singular(self) -> str:
        """What a failure may mean."""
        declared = ", or has elements outside of the declared pattern (check=False trusts it)"
        return "singular to working precision" + (declared if self.check else "")

    def accept(self, eps: float) -> float:
        """Return the relative residual up to which a solution is believed."""
        return eps**0.375


def _flat(b: Any, dtype: Any) -> tuple[jax.Array, Any]:
    flat, unravel = jax.flatten_util.ravel_pytree(b)
    return flat.astype(dtype), lambda w: unravel(w.astype(flat.dtype))


@record
class Diagonal(_Direct):
    """Division by the diagonal, for maps that couple no two unknowns. One product finds it.

    The solve is called failed where one product more shows that the map is not diagonal.

    Parameters
    ----------
    check
        Whether to compute that product.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini import linear
    >>> linear.solve(lambda w: jnp.array([2.0, 4.0]) * w, jnp.ones(2), solver=linear.Diagonal())
    Array([0.5 , 0.25], dtype=float32)
    """

    check: bool = field(default=True, metadata={"static": True})

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return ``w`` with ``matvec(w) = b``, and whether an element of the diagonal is zero or others are not."""
        return Banded(0, check=self.check)(matvec, b, structure)


@record
class Banded(_Direct):
    """Direct solution where each equation couples neighbors only, in the order of the raveled unknown.

    The bands cost ``lower + upper + 1`` products, formed as one batch. A tridiagonal system is solved by JAX's own
    solver; a wider one by Cholesky where the map is positive definite, else by Gaussian elimination with partial
    pivoting, in blocks of the band's width: about ``d * width**2`` operations. The solve is called failed when a pivot
    is zero to working precision (as for :class:`Dense`) or, for tridiagonal systems, when inverse iteration finds
    the matrix as close to a singular one as rounding; and when one product more shows elements outside of the band.

    Parameters
    ----------
    lower, upper
        Numbers of diagonals below and above the main one; ``upper`` is ``lower`` by default.
    check
        Whether to compute that product.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini import linear
    >>> def second_difference(w):
    ...     y = jnp.pad(w, 1)
    ...     return 2 * w - y[:-2] - y[2:]
    >>> w = linear.solve(second_difference, jnp.ones(3), solver=linear.Banded(1))
    >>> print(w.round(4))
    [1.5 2.  1.5]
    """

    lower: int = field(default=1, metadata={"static": True})
    upper: int | None = field(default=None, metadata={"static": True})
    check: bool = field(default=True, metadata={"static": True})

    def __post_init__(self) -> None:
        require_count("Banded's lower", self.lower, 0)
        if self.upper is None:
            object.__setattr__(self, "upper", self.lower)
        require_count("Banded's upper", self.upper, 0)

    def transposed(self) -> Banded:
        """Return the solver of the transposed system."""
        return Banded(self.upper or 0, self.lower, self.check)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return ``w`` with ``matvec(w) = b`` and whether the matrix looks singular."""
        widest = max(trees.size(b) - 1, 0)
        pattern = Pattern.banded(trees.size(b), min(self.lower, widest), min(self.upper or 0, widest))
        return _solve_banded(pattern, None, matvec, b, structure, self.check)


def _values(pattern: Pattern, matvec: Matvec, b: Any, check: bool) -> tuple[jax.Array, Any]:
    """Return the nonzeros of a map, and whether it is known to have others."""
    values = pattern.values(matvec, b)
    return values, ~pattern.explains(matvec, b, values) if check else False


def _solve_banded(
    pattern: Pattern, order: np.ndarray | None, matvec: Matvec, b: Any, structure: Structure, check: bool
) -> tuple[Any, jax.Array]:
    """Solve with a pattern that is banded, or that is so in another order of the unknowns."""
    values, missed = _values(pattern, matvec, b, check)
    flat, unravel = _flat(b, values.dtype)
    bands, lower, upper = _bands(pattern, order, values)
    if order is None:
        w, flagged = solve_bands(bands, lower, upper, flat, structure == "positive definite")
        return unravel(w), flagged | missed
    w, flagged = solve_bands(bands, lower, upper, flat[order], structure == "positive definite")
    return unravel(w[np.argsort(order)]), flagged | missed


def _bands(pattern: Pattern, order: np.ndarray | None, values: jax.Array) -> tuple[Bands, int, int]:
    d = pattern.shape[0]
    place = np.arange(d) if order is None else np.argsort(order)
    rows, columns = place[pattern.rows], place[pattern.columns]
    lower, upper = max(int((rows - columns).max(initial=0)), 0), max(int((columns - rows).max(initial=0)), 0)
    bands = jnp.zeros(((lower + upper + 1) * d,), values.dtype)
    return bands.at[(columns - rows + lower) * d + rows].set(values).reshape(-1, d), lower, upper


@functools.lru_cache(maxsize=64)
def _narrow(pattern: Pattern) -> tuple[int, np.ndarray | None]:
    """Return the width of the band, and the order of the unknowns that makes it so (``None``: as they are).

    The order is that of Cuthill and McKee, reversed; it is taken where it at least halves the band.
    """
    width = max(pattern.bandwidth)
    if width <= 2:
        return width, None
    graph = importlib.import_module("scipy.sparse.csgraph")
    both = (pattern.csr + pattern.csr.T).tocsr()
    order = np.asarray(graph.reverse_cuthill_mckee(both, symmetric_mode=True), np.int64)
    place = np.argsort(order)
    narrow = int(np.abs(place[pattern.rows] - place[pattern.columns]).max())
    return (narrow, order) if 2 * narrow <= width else (width, None)


def narrow(pattern: Pattern) -> bool:
    """Return whether a band around the diagonal, in some order of the unknowns, holds all nonzeros and little else."""
    width = _narrow(pattern)[0]
    return width <= _WIDEST_BAND // 2 and 8 * width <= pattern.shape[0]


@record
class Sparse(_Direct):
    """Direct solution by the pattern of the nonzeros, which is declared or read off the program.

    The matrix costs as many products as its pattern has colors (columns of one color share no row), formed as one
    batch. Then a diagonal matrix is divided by; one with at most 64 diagonals on either side, as it stands or after
    reordering by Cuthill and McKee, is solved like :class:`Banded`; any other by :class:`SparseDirect`. At most 32
    unknowns, or a pattern more than a quarter full, go to :class:`Dense`.

    Parameters
    ----------
    pattern
        A :class:`Pattern` of the matrix in the order of the raveled unknown, for example from :func:`sparsity`. By
        default it is detected while the solve is traced, which costs no numbers. Where one product more shows a nonzero
        outside of a declared pattern, the solve counts as failed.
    check
        Whether to compute that product for a declared pattern.

    Raises
    ------
    NotSparse
        A ``ValueError``: where detection finds more than a million nonzeros, and more than 128 in each row on average.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> def equation(x, a):
    ...     y = jnp.pad(x, 1)
    ...     return (3 - 2 * x) * x - y[:-2] - 2 * y[2:] + a
    >>> sparse = dini.linear.Sparse()
    >>> how = dini.Implicit(linear_solver=sparse)
    >>> solver = dini.Newton(linear_solver=sparse)
    >>> solution = dini.solve(dini.Root(equation), solver, -jnp.ones(1000), 1.0, differentiation=how)
    >>> bool(abs(equation(solution.x, 1.0)).max() < 1e-4)
    True
    """

    pattern: Pattern | None = field(default=None, metadata={"static": True})
    check: bool = field(default=True, metadata={"static": True})

    def __post_init__(self) -> None:
        _check_pattern("Sparse", self.pattern)

    def prepared(self, matvec: Matvec, b: Any) -> Any:
        """Return the solver with the pattern of this map."""
        return _prepared(self, matvec, b)

    def transposed(self) -> Sparse:
        """Return the solver of the transposed system."""
        return self if self.pattern is None else Sparse(self.pattern.transposed, self.check)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return ``w`` with ``matvec(w) = b`` and whether the matrix looks singular."""
        if self.pattern is None:
            return self.prepared(matvec, b)(matvec, b, structure)
        pattern, size = self.pattern, trees.size(b)
        diagonal = pattern.bandwidth == (0, 0)
        if not diagonal and (size <= _DENSE_SIZE or 4 * pattern.count > size**2):
            return Dense()(matvec, b, structure)
        width, order = _narrow(pattern)
        if width <= _WIDEST_BAND:
            return _solve_banded(pattern, order, matvec, b, structure, self.check)
        return SparseDirect(pattern, self.check)(matvec, b, structure)


@record
class SparseDirect(_Direct):
    """Sparse LU factorization on the host, by SuperLU through SciPy.

    The matrix is formed like that of :class:`Sparse`. The factorization runs in a callback, so the values of the
    nonzeros and the right-hand side travel to the host and the solution back; several right-hand sides of one matrix
    share a factorization. It works in float32 and in float64. A positive definite map is factorized without row
    exchanges, which shows whether it is positive definite.

    Parameters
    ----------
    pattern, check
        As for :class:`Sparse`.

    References
    ----------
    X. S. Li, An overview of SuperLU, ACM Transactions on Mathematical Software 31, 2005.
    """

    pattern: Pattern | None = field(default=None, metadata={"static": True})
    check: bool = field(default=True, metadata={"static": True})

    def __post_init__(self) -> None:
        _check_pattern("SparseDirect", self.pattern)

    def prepared(self, matvec: Matvec, b: Any) -> Any:
        """Return the solver with the pattern of this map."""
        return _prepared(self, matvec, b)

    def transposed(self) -> SparseDirect:
        """Return the solver of the transposed system."""
        return self if self.pattern is None else SparseDirect(self.pattern.transposed, self.check)

    def __call__(self, matvec: Matvec, b: Any, structure: Structure) -> tuple[Any, jax.Array]:
        """Return ``w`` with ``matvec(w) = b`` and whether the matrix looks singular."""
        if self.pattern is None:
            return self.prepared(matvec, b)(matvec, b, structure)
        pattern = self.pattern
        values, missed = _values(pattern, matvec, b, self.check)
        flat, unravel = _flat(b, values.dtype)
        # as bits: a callback runs in a thread of its own, where JAX may take the numbers for float32
        bits = jax.lax.bitcast_convert_type(flat, jnp.uint32)
        out = jax.ShapeDtypeStruct(bits.shape, jnp.uint32), jax.ShapeDtypeStruct((), np.bool_)
        run = functools.partial(_on_host, pattern, structure == "positive definite", np.dtype(flat.dtype))
        values = jax.lax.bitcast_convert_type(values, jnp.uint32)
        w, flagged = jax.pure_callback(run, out, values, bits, vmap_method="expand_dims")
        return unravel(jax.lax.bitcast_convert_type(w, flat.dtype)), flagged | missed


def _check_pattern(name: str, pattern: Any) -> None:
    # JAX rebuilds solvers from arbitrary static values, which are those of a solver that passed this check
    if pattern is not None and not isinstance(pattern, Pattern):
        raise TypeError(f"{name}'s pattern must be a dini.linear.Pattern: given {type(pattern).__name__}.")


def _prepared(solver: Any, matvec: Matvec, b: Any) -> Any:
    size = trees.size(b)
    if solver.pattern is None:
        return replace(solver, pattern=detect(matvec, b), check=False)
    solver.pattern.require_square(size, type(solver).__name__)
    return solver


@functools.lru_cache(maxsize=64)
def _columnwise(pattern: Pattern) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order of the nonzeros by columns, their rows, and where columns start."""
    order = np.lexsort((pattern.rows, pattern.columns))
    starts = np.concatenate([[0], np.cumsum(np.bincount(pattern.columns, minlength=pattern.shape[1]))])
    return order, pattern.rows[order].astype(np.int32), starts.astype(np.int32)


def _on_host(pattern: Pattern, definite: bool, dtype: np.dtype, values: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    def floats(bits: Any) -> np.ndarray:
        array = np.ascontiguousarray(bits).view(dtype)
        return array[..., 0] if dtype.itemsize > 4 else array

    w, bad = _factorize(pattern, definite, floats(values), floats(b))
    bits = np.ascontiguousarray(w)[..., None].view(np.uint32) if dtype.itemsize > 4 else w.view(np.uint32)
    return bits, bad


def _factorize(pattern: Pattern, definite: bool, values: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Solve on the host, with any leading axes; a matrix without such axes is factorized once."""
    values, b = np.asarray(values), np.asarray(b)
    batch = np.broadcast_shapes(values.shape[:-1], b.shape[:-1])
    if values.size == values.shape[-1]:
        w, bad = _solve_one(pattern, definite, values.ravel(), b.reshape(-1, b.shape[-1]).T)
        w = np.broadcast_to(w.T.reshape(b.shape), (*batch, b.shape[-1]))
        return np.array(w, b.dtype), np.full(batch, bad)
    many = np.broadcast_to(values, (*batch, values.shape[-1])).reshape(-1, values.shape[-1])
    sides = np.broadcast_to(b, (*batch, b.shape[-1])).reshape(-1, b.shape[-1])
    pairs = [_solve_one(pattern, definite, *pair) for pair in zip(many, sides, strict=True)]
    w = np.stack([w for w, _ in pairs]).astype(b.dtype)
    return w.reshape(*batch, b.shape[-1]), np.asarray([bad for _, bad in pairs]).reshape(batch)


def _solve_one(pattern: Pattern, definite: bool, values: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, bool]:
    sparse, linalg = map(importlib.import_module, ("scipy.sparse", "scipy.sparse.linalg"))
    d = pattern.shape[0]
    order, rows, starts = _columnwise(pattern)
    floor = d * np.finfo(values.dtype).eps
    scale = np.ones(d, values.dtype)
    if not definite:
        np.maximum.at(scale := np.zeros(d, values.dtype), pattern.rows, np.abs(values))
        scale[scale == 0] = 1
        values = values / scale[pattern.rows]
        b = b / (scale if b.ndim == 1 else scale[:, None])
    matrix = sparse.csc_matrix((values[order], rows, starts), (d, d))
    nan = np.full(b.shape, np.nan, values.dtype)
    if not np.all(np.isfinite(values)):
        return nan, True
    how = {"diag_pivot_thresh": 0.0, "permc_spec": "MMD_AT_PLUS_A", "options": {"SymmetricMode": True}}
    try:
        factor = linalg.splu(matrix, **(how if definite else {}))
    except RuntimeError:  # a pivot is exactly zero
        return nan, True
    pivots = factor.U.diagonal()
    if definite:
        left = pivots / matrix.diagonal()[np.argsort(factor.perm_c)]
        bad = not np.array_equal(factor.perm_r, factor.perm_c) or not left.min() > floor
    else:
        bad = not np.abs(pivots).min() > floor * np.abs(pivots).max()
    return factor.solve(b), bool(bad)
