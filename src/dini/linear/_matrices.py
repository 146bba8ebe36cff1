"""The matrices of a program: dense arrays, sparse ones of JAX's, and linear maps of which only products are known.

All of them take ``dot(matrix, x)`` and have ``matrix.T`` and ``matrix.shape``; what is asked beside products stands
here. Of a map, the size of a row is estimated by products with random vectors.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .. import trees
from ..checks.records import record
from ..deferred import deferred
from ..functions import as_function, close
from ..trees.products import dot

#: how many random vectors estimate the sizes of a map's rows
_PROBES = 6


@record
class _OfOperator:
    """The product of a Lineax operator."""

    operator: Any

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the operator's product with a vector."""
        return self.operator.mv(x)


@record
class LinearMap:
    """A linear function of vectors as a matrix, from vectors of ``shape[1]`` elements to ones of ``shape[0]``."""

    fun: Any
    size: tuple[int, int] = field(metadata={"static": True})
    dtype: Any = field(metadata={"static": True})
    flipped: bool = field(default=False, metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""
        rows, columns = self.size
        return (columns, rows) if self.flipped else (rows, columns)

    @property
    def T(self) -> LinearMap:
        """The transposed map."""
        return LinearMap(self.fun, self.size, self.dtype, not self.flipped)

    def __matmul__(self, x: jax.Array) -> jax.Array:
        """Return the product with a vector."""
        if not self.flipped:
            return self.fun(x)
        like = jax.ShapeDtypeStruct((self.size[1],), self.dtype)
        return jax.linear_transpose(self.fun, like)(x)[0]

    def closed(self) -> LinearMap:
        """Return the map with everything that its function closes over made explicit."""
        like = jnp.zeros(self.size[1], self.dtype)
        return LinearMap(close(self.fun, like), self.size, self.dtype, self.flipped)


@record
class Weighted:
    """A matrix with weights of its rows and columns."""

    rows: jax.Array
    matrix: Any
    columns: jax.Array

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""
        return self.matrix.shape

    @property
    def dtype(self) -> Any:
        """The type of the elements."""
        return self.rows.dtype

    @property
    def T(self) -> Weighted:
        """The transposed matrix."""
        return Weighted(self.columns, self.matrix.T, self.rows)

    def __matmul__(self, x: jax.Array) -> jax.Array:
        """Return the product with a vector."""
        return self.rows * dot(self.matrix, self.columns * x)


@record
class SymmetricPart:
    """The symmetric part of a square matrix."""

    matrix: Any

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""
        return self.matrix.shape

    @property
    def dtype(self) -> Any:
        """The type of the elements."""
        return self.matrix.dtype

    @property
    def T(self) -> SymmetricPart:
        """The matrix itself."""
        return self

    def __matmul__(self, x: jax.Array) -> jax.Array:
        """Return the product with a vector."""
        return 0.5 * (dot(self.matrix, x) + dot(self.matrix.T, x))


@record
class Stacked:
    """Two matrices, one above the other or, flipped, side by side."""

    first: Any
    second: Any
    flipped: bool = field(default=False, metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""
        (a, b), (c, d) = self.first.shape, self.second.shape
        return (a, b + d) if self.flipped else (a + c, b)

    @property
    def dtype(self) -> Any:
        """The type of the elements."""
        return self.first.dtype

    @property
    def T(self) -> Stacked:
        """The transposed matrix."""
        return Stacked(self.first.T, self.second.T, not self.flipped)

    def __matmul__(self, x: jax.Array) -> jax.Array:
        """Return the product with a vector."""
        if self.flipped:
            split = self.first.shape[1]
            return dot(self.first, x[:split]) + dot(self.second, x[split:])
        return jnp.concatenate([dot(self.first, x), dot(self.second, x)])


def is_dense(matrix: Any) -> bool:
    """Return whether a matrix is an array."""
    return isinstance(matrix, jax.Array | np.ndarray)


def is_sparse(matrix: Any) -> bool:
    """Return whether a matrix is one of JAX's sparse ones, a ``BCOO``."""
    return hasattr(matrix, "indices") and hasattr(matrix, "todense")


def has_map(matrix: Any) -> bool:
    """Return whether products are all that is known of a part of a matrix."""
    return any(isinstance(part, LinearMap) for part in jax.tree.leaves(matrix, is_leaf=_is_map))


def _is_map(part: Any) -> bool:
    return isinstance(part, LinearMap)


def as_matrix(name: str, value: Any) -> Any:
    """Return a sparse matrix, an operator of Lineax or a function in the form that the rest takes; an array as it is.

    A function is returned as it is: its shape must come from elsewhere, see :func:`as_map`.
    """
    if hasattr(value, "to_bcoo"):  # BCSR
        value = value.to_bcoo()
    elif hasattr(value, "tocoo"):  # SciPy's
        value = deferred("jax.experimental.sparse").BCOO.from_scipy_sparse(value)
    if is_sparse(value) and not is_dense(value):
        if value.n_batch or value.n_dense or value.ndim != 2:
            raise TypeError(
                f"{name} must be a sparse matrix without batch or dense dimensions: given {value!r}. Use vmap for a "
                "batch of programs."
            )
        if not jnp.issubdtype(value.dtype, jnp.floating):
            if jnp.iscomplexobj(value.data):
                raise TypeError(f"{name} must have real elements: given {trees.describe(value.data)}.")
            value = value.astype(float)
    return value


def is_function(value: Any) -> bool:
    """Return whether a part of the data is a function or an operator of Lineax."""
    return not isinstance(value, LinearMap) and (hasattr(value, "mv") or callable(value))


def as_map(name: str, value: Any, shape: tuple[int, int], dtype: Any) -> LinearMap:
    """Return a function or an operator of Lineax as a matrix of a shape, or raise where it is not one."""
    fun = _OfOperator(value) if hasattr(value, "mv") else as_function(value, name)
    like = jax.ShapeDtypeStruct((shape[1],), dtype)
    try:
        out = jax.eval_shape(fun, like)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must map vectors of {shape[1]} elements to vectors of {shape[0]}: called with one, it raised "
            f"{error}"
        ) from error
    if getattr(out, "shape", None) != (shape[0],) or out.dtype != dtype:
        raise ValueError(
            f"{name} must map {trees.describe(like)} to a vector of {shape[0]} elements of the same type: given "
            f"{trees.describe(out)}."
        )
    return LinearMap(_linear(name, fun, like), shape, jnp.dtype(dtype))


@record
class _IfLinear:
    """A function times one, or NaN where it is not linear."""

    fun: Any
    one: Any

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the product."""
        return self.one * self.fun(x)


def _linear(name: str, fun: Any, like: Any) -> Any:
    """Return a function, or raise where it is not linear; where only a program's values tell, its products are NaN."""
    try:
        jax.eval_shape(lambda x: jax.linear_transpose(fun, x)(fun(x)), like)
    except (AssertionError, NotImplementedError) as error:
        raise TypeError(
            f"{name} must be a linear function, made of operations that JAX can transpose: it is not ({error}). For "
            "nonlinear equations and inequalities use dini.minimize(fun, x0, equality=..., inequality=...)."
        ) from error
    offset = jnp.max(jnp.abs(fun(jnp.zeros(like.shape, like.dtype))), initial=0)
    if isinstance(offset, jax.core.Tracer):
        return _IfLinear(fun, jnp.where(offset == 0, 1, jnp.nan).astype(like.dtype))
    if offset != 0:
        raise ValueError(
            f"{name} must be a linear function: its value at zero has elements of size {float(offset):.1e}. Move terms "
            "that do not depend on the unknown to the right-hand side."
        )
    return fun


def nothing(rows: int, columns: int, dtype: Any) -> Any:
    """Return a sparse matrix without elements."""
    empty = jnp.zeros(0, dtype), jnp.zeros((0, 2), jnp.int32)
    return deferred("jax.experimental.sparse").BCOO(empty, shape=(rows, columns))


def _with(matrix: Any, data: jax.Array) -> Any:
    """Return a sparse matrix with other elements."""
    return type(matrix)((data, matrix.indices), shape=matrix.shape)


def symmetric(matrix: Any) -> Any:
    """Return the symmetric part of a matrix."""
    if is_dense(matrix):
        return 0.5 * (matrix + matrix.T)
    if not is_sparse(matrix):
        return SymmetricPart(matrix)
    data = 0.5 * jnp.concatenate([matrix.data, matrix.data])
    indices = jnp.concatenate([matrix.indices, matrix.indices[:, ::-1]])
    return type(matrix)((data, indices), shape=matrix.shape)


def stacked(first: Any, second: Any) -> Any:
    """Return two matrices, one above the other."""
    if is_dense(first) and is_dense(second):
        return jnp.concatenate([first, second])
    if not (is_sparse(first) and is_sparse(second)):
        return Stacked(first, second)
    (m, n), (p, _) = first.shape, second.shape
    data = jnp.concatenate([first.data, second.data])
    below = second.indices + jnp.array([[m, 0]], second.indices.dtype)
    # what pads a matrix has an index past its end, which would be a row of the other
    pad = (first.indices >= jnp.array([[m, n]], first.indices.dtype)).any(1)
    own = jnp.where(pad[:, None], jnp.array([[m + p, n]], first.indices.dtype), first.indices)
    return type(first)((data, jnp.concatenate([own, below])), shape=(m + p, n))


def weighted(rows: jax.Array, matrix: Any, columns: jax.Array) -> Any:
    """Return a matrix with weights of its rows and columns."""
    if is_dense(matrix):
        return rows[:, None] * matrix * columns[None, :]
    if is_sparse(matrix):
        i, j = matrix.indices[:, 0], matrix.indices[:, 1]
        share = rows.at[i].get(mode="fill", fill_value=0) * columns.at[j].get(mode="fill", fill_value=0)
        return _with(matrix, matrix.data * share)
    return Weighted(rows, matrix, columns)


def absolute(matrix: Any, x: jax.Array) -> jax.Array:
    r"""Return :math:`\sum_j |M_{ij}| |x_j|`; of a map an estimate of :math:`(\sum_j M_{ij}^2 x_j^2)^{1/2}`."""
    x = jnp.abs(x)
    if is_dense(matrix):
        return dot(jnp.abs(matrix), x)
    if is_sparse(matrix):
        return dot(_with(matrix, jnp.abs(matrix.data)), x)
    return _estimated(matrix, x)


def largest_terms(matrix: Any, x: jax.Array) -> jax.Array:
    r"""Return :math:`\max_j |M_{ij}| |x_j|`; of a map the estimate of :func:`absolute`."""
    x = jnp.abs(x)
    if is_dense(matrix):
        return jnp.max(jnp.abs(matrix) * x[None, :], axis=1, initial=0)
    if not is_sparse(matrix):
        return _estimated(matrix, x)
    i, j = matrix.indices[:, 0], matrix.indices[:, 1]
    terms = jnp.abs(matrix.data) * x.at[j].get(mode="fill", fill_value=0)
    return jnp.zeros(matrix.shape[0], terms.dtype).at[i].max(terms, mode="drop")


def _estimated(matrix: Any, x: jax.Array) -> jax.Array:
    signs = jax.random.normal(jax.random.key(0), (_PROBES, x.size), x.dtype)
    # one after the other: a function of the user's need not know batches
    images = jax.lax.map(lambda probe: dot(matrix, probe * x), signs)
    return jnp.sqrt(jnp.mean(jnp.square(images), axis=0))


def column_squares(matrix: Any, weights: jax.Array) -> jax.Array:
    r"""Return :math:`\sum_i w_i M_{ij}^2` for non-negative weights; of a map an estimate."""
    if is_dense(matrix):
        return dot(jnp.square(matrix).T, weights)
    if is_sparse(matrix):
        return dot(_with(matrix, jnp.square(matrix.data)).T, weights)
    return jnp.square(_estimated(matrix.T, jnp.sqrt(weights)))


def diagonal(matrix: Any) -> jax.Array:
    """Return the diagonal of a square matrix; of a map the estimated sizes of its rows, which are no smaller."""
    if is_dense(matrix):
        return jnp.diagonal(matrix)
    if not is_sparse(matrix):
        return _estimated(matrix, jnp.ones(matrix.shape[1], matrix.dtype))
    i, j = matrix.indices[:, 0], matrix.indices[:, 1]
    return jnp.zeros(matrix.shape[0], matrix.dtype).at[i].add(jnp.where(i == j, matrix.data, 0), mode="drop")


def densified(matrix: Any, dtype: Any) -> Any:
    """Return a matrix as an array; of a map by its products with all unit vectors, one after the other."""
    if matrix is None or is_dense(matrix):
        return matrix
    if is_sparse(matrix):
        return matrix.todense()
    rows, columns = matrix.shape
    if rows < columns:
        return jax.lax.map(lambda e: dot(matrix.T, e), jnp.eye(rows, dtype=dtype))
    return jax.lax.map(lambda e: dot(matrix, e), jnp.eye(columns, dtype=dtype)).T
