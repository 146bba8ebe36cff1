r"""Means of clipped vectors over clients: of each record's gradient, or of its difference at two points in one pass.

Clients :math:`p = 1, \dots, P` hold :math:`n_p` records each. For a function :math:`g(x, z)` of parameters and one
record with values in a vector space, such as the gradient of a loss,

.. math::

    u(x) = \frac1P \sum_p \frac1{n_p} \sum_{z \in D_p} \operatorname{clip}\bigl(g(x, z), C\bigr), \qquad
    \operatorname{clip}(g, C) = g\, \min\bigl(1, C / \|g\|\bigr)

with the Euclidean norm over the whole tree of a record's vector.

**Sensitivity.** Neighbors differ in one record, replaced by any other, of one client :math:`p`. One term of the sum
changes, by at most :math:`2 C` since both of its values lie in the ball of radius :math:`C`; its weight is
:math:`1 / (P n_p)`. So :math:`\|u - u'\| \le 2 C / (P \min_p n_p)`, for any function :math:`g` at all, and the bound
is attained by two opposite vectors longer than :math:`C` in the smallest client. It needs that the weights do not
depend on how records fall into chunks: sums are divided once, by :math:`n_p`. A vector whose norm is no finite number
counts as zero, which lies in the ball; so does one that is longer than the radius by 37 orders of magnitude in single
precision, where the quotient of the two is no ordinary number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from dini_zoo.kit.checking import Right, at_least, known, marked, of_length, one_length, scalar, traced, trainable

type Vectors = Callable[[Any, Any], Any]
"""`g(parameters, record)`, a tree of arrays of floats: `jax.grad(loss)`, say."""


def check_sizes(sizes: Any) -> tuple[int, ...]:
    """The sizes of clients; raises `ValueError` unless they are whole numbers, one each, of one record at least."""
    if (
        np.ndim(sizes) != 1
        or not len(sizes)
        or not all(isinstance(one, int | np.integer) and one >= 1 for one in sizes)
    ):
        raise ValueError(
            f"sizes must be those of clients with a record each at least, a sequence of whole numbers: given {sizes}."
        )
    return tuple(map(int, sizes))


class Clients(eqx.Module):
    """Records of several clients, one behind the other."""

    data: PyTree[Array, " T"] = eqx.field(converter=lambda data: jax.tree.map(jnp.asarray, data))
    """Arrays with an axis of all `n` records in front."""
    sizes: tuple[int, ...] = eqx.field(static=True)
    r""":math:`n_p`, public numbers."""

    def __check_init__(self) -> None:
        n = one_length("data", self.data)
        check_sizes(self.sizes)
        if sum(self.sizes) != n:
            raise ValueError(f"sizes must add up to the {n} records of data: given {self.sizes}.")

    @classmethod
    def of(cls, parts: Sequence[Any]) -> Self:
        """Of one tree of arrays for each client."""
        if not parts:
            raise ValueError("parts must have a client at least: given none.")
        sizes = tuple(one_length(f"parts[{i}]", part) for i, part in enumerate(parts))
        return cls(jax.tree.map(lambda *leaves: jnp.concatenate([*map(jnp.asarray, leaves)]), *parts), sizes)

    @classmethod
    def equal(cls, data: Any, count: int = 1) -> Self:
        """Of `count` clients with as many records each, in order; raises `ValueError` where they do not divide."""
        n = one_length("data", data)
        at_least("count", count, 1)
        if n % count:
            raise ValueError(f"count must divide the {n} records: given {count}. Clients.of takes unequal ones.")
        return cls(jax.tree.map(jnp.asarray, data), (n // count,) * count)

    @property
    def smallest(self) -> int:
        r""":math:`\min_p n_p`."""
        return min(self.sizes)

    @property
    def effective(self) -> int:
        r""":math:`P \min_p n_p`: two over it is the sensitivity of a mean of vectors clipped to norm one."""
        return len(self.sizes) * self.smallest

    @property
    def weights(self) -> Float[np.ndarray, " n"]:
        r""":math:`1 / (P n_p)` of each record."""
        return np.repeat([1 / (len(self.sizes) * size) for size in self.sizes], self.sizes)

    @property
    def offsets(self) -> Int[np.ndarray, " P"]:
        """Where each client's records begin."""
        return np.concatenate([[0], np.cumsum(self.sizes)[:-1]])


class Clipped(NamedTuple):
    """A mean of clipped vectors. Before noise is added to `mean` nothing of it is private; the rest never is."""

    mean: Any
    clipped: Float[Array, ""]
    """The share of the records whose vector was shortened."""
    lost: Int[Array, ""]
    """How many had a vector that is not finite, and count as zero."""


def tree_norm(tree: Any) -> Array:
    """The Euclidean norm over all of a tree's leaves, without squares that overflow or vanish.

    Numbers are scaled by one of three powers of two and not by the largest of them: its reciprocal may be so small that
    a processor takes it for zero. A norm beyond the largest number is infinite.
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    dtype = jnp.promote_types(jnp.result_type(*leaves), jnp.float32)
    leaves = [leaf.astype(dtype) for leaf in leaves]
    most = jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in leaves]).max()
    border, power = (2.0**400, 2.0**600) if dtype == jnp.float64 else (2.0**40, 2.0**90)
    scale = jnp.where(most > border, 1 / power, jnp.where(most < 1 / border, power, 1.0)).astype(dtype)
    back = jnp.where(most > border, power, jnp.where(most < 1 / border, 1 / power, 1.0)).astype(dtype)
    return back * jnp.sqrt(sum(jnp.sum((leaf * scale) ** 2) for leaf in leaves))


def _factor(vector: Any, max_norm: Any) -> tuple[Any, Array, Array, Array]:
    """One record's vector, what shortens it, whether it is shortened, and whether it was lost and is zero now."""
    norm = tree_norm(vector)
    factor = max_norm / jnp.where(norm > max_norm, norm, 1)
    # so much longer than the radius that their quotient is no ordinary number: it might be taken for zero
    vast = (norm > max_norm) & (max_norm > 0) & (factor < jnp.finfo(norm.dtype).tiny)
    lost = ~jnp.isfinite(norm) | vast
    long = (norm > max_norm) & ~lost
    return (
        jax.tree.map(lambda leaf: jnp.where(lost, 0, leaf), vector),
        jnp.where(long, factor, 1).astype(norm.dtype),
        long,
        lost,
    )


def clip_per_example(vectors: Any, max_norm: Any) -> tuple[Any, Array, Array]:
    r"""Each record's vector :math:`g \min(1, C / \|g\|)`, of a tree with an axis of records in front.

    Parameters
    ----------
    vectors
        A tree of arrays `(n, ...)`; the norm of a record is over all of its leaves together.
    max_norm
        :math:`C \ge 0`; infinite for none.

    Returns
    -------
    tuple
        The clipped vectors, which of them were shortened, and which were not finite and are zero now.

    Raises
    ------
    ValueError
        For a `max_norm` that is negative or not a number, and leaves of different lengths.

    Examples
    --------
    >>> clipped, shortened, lost = clip_per_example(jnp.array([[3.0, 4.0], [1.0, 0.0], [jnp.nan, 1.0]]), 2.5)
    >>> print(clipped, shortened, lost)
    [[1.5 2. ]
     [1.  0. ]
     [0.  0. ]] [ True False False] [False False  True]
    """
    right = _radius("max_norm", max_norm)
    one_length("vectors", vectors)
    trainable("vectors", vectors)
    kept, factor, long, lost = jax.vmap(_factor, in_axes=(0, None))(vectors, max_norm)
    shortened = jax.tree.map(lambda leaf: jax.vmap(jnp.multiply)(leaf, factor.astype(leaf.dtype)), kept)
    return marked(shortened, right), long, lost


def _radius(name: str, value: Any) -> Right:
    """Raise `ValueError` for a radius that is known and none; it may be infinite."""
    scalar(name, value)
    if known(value) and not np.all(np.asarray(value) >= 0):
        raise ValueError(f"{name} must be zero or more: given {value}.")
    return jnp.all(jnp.asarray(value) >= 0) if traced(value) else True


def weighted_sum(
    vector: Callable[[Any], Any], data: Any, weights: Any, max_norm: Any, microbatch: int | None
) -> Clipped:
    r""":math:`\sum_z w_z \operatorname{clip}(g(z), C)` over records, in chunks of `microbatch` of them.

    Memory is that of one chunk's vectors. What fills the last chunk up has weight zero, and is counted nowhere. The sum
    is in single precision at least: half precision would round it by more than a record's share. A radius that is
    traced, and negative or NaN, makes it NaN.
    """
    right = _radius("max_norm", max_norm)
    n = one_length("data", data)
    of_length("weights", weights, "records", n)
    size = n if microbatch is None else microbatch
    at_least("microbatch", size, 1)
    size = min(size, n)
    chunks = -(-n // size)
    fill = chunks * size - n
    one = jax.eval_shape(vector, jax.tree.map(lambda leaf: leaf[0], data))
    trainable("the vector of a record", one)
    wide = lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
    dtype = jnp.promote_types(jnp.result_type(*jax.tree.leaves(one)), jnp.float32)
    whole = jnp.asarray(weights, dtype)

    def total(chunk: Any, weight: Any, real: Any) -> Clipped:
        kept, factor, long, lost = jax.vmap(lambda record: _factor(jax.tree.map(wide, vector(record)), max_norm))(chunk)
        # the factor goes into the weight: one pass less through the vectors
        summed = jax.tree.map(lambda leaf: jnp.tensordot((weight * factor).astype(leaf.dtype), leaf, 1), kept)
        return Clipped(summed, jnp.sum(jnp.where(real, long, False)) / n, jnp.sum(jnp.where(real, lost, False)))

    marks = lambda found: found._replace(mean=marked(found.mean, right))
    if chunks == 1:
        return marks(total(data, whole, jnp.ones(n, bool)))
    pad = lambda leaf: jnp.concatenate([leaf, jnp.broadcast_to(leaf[:1], (fill, *leaf.shape[1:]))]) if fill else leaf
    cut = lambda leaf: leaf.reshape(chunks, size, *leaf.shape[1:])
    parts = (
        jax.tree.map(lambda leaf: cut(pad(jnp.asarray(leaf))), data),
        cut(jnp.concatenate([whole, jnp.zeros(fill, dtype)])),
        cut(jnp.arange(chunks * size) < n),
    )
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(total, *_first(parts)))
    step = lambda so_far, part: (jax.tree.map(jnp.add, so_far, total(*part)), None)
    return marks(jax.lax.scan(step, start, parts)[0])


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)


def clipped_mean(
    fun: Vectors, params: Any, clients: Clients, max_norm: Any, *, microbatch: int | None = None
) -> Clipped:
    r"""The mean over clients of the means of :math:`\operatorname{clip}(g(x, z), C)` over their records.

    Parameters
    ----------
    fun
        :math:`g(x, z)` of parameters and one record.
    params
        :math:`x`, a tree of arrays.
    clients
        The records.
    max_norm
        :math:`C`. A neighbor's mean differs by at most `2 C / clients.effective`.
    microbatch
        So many records at a time; all at once if it is not given. The result is the same up to rounding.

    Raises
    ------
    ValueError
        For a `max_norm` that is negative or not a number, and a `microbatch` below one.

    Examples
    --------
    >>> clients = Clients.of([jnp.array([4.0, 0.5]), jnp.array([-1.0])])
    >>> print(clipped_mean(lambda x, z: z - x, 0.0, clients, 1.0).mean)
    -0.125
    """
    return weighted_sum(lambda record: fun(params, record), clients.data, clients.weights, max_norm, microbatch)


def clipped_difference_mean(
    fun: Vectors, params: Any, previous: Any, clients: Clients, max_norm: Any, *, microbatch: int | None = None
) -> Clipped:
    r"""As `clipped_mean`, of the differences :math:`g(x, z) - g(x', z)`, both taken of a record in one pass.

    Each record's difference is clipped, not the mean's: only so is the sensitivity proportional to `max_norm`.
    At :math:`x = x'` the differences are exactly zero, and a `max_norm` of zero is right.

    Examples
    --------
    >>> clients = Clients.of([jnp.array([4.0, 0.5]), jnp.array([-1.0])])
    >>> print(clipped_difference_mean(lambda x, z: z * x, 2.0, 1.0, clients, 1.0).mean)
    -0.125
    """
    difference = lambda record: jax.tree.map(jnp.subtract, fun(params, record), fun(previous, record))
    return weighted_sum(difference, clients.data, clients.weights, max_norm, microbatch)
