r"""Linear maps on the nodes of a graph that cannot expand.

The map of one head adds up, at each node, what comes in along its edges,

.. math:: (A x)_i = \sum_{e : d_e = i} w_e\, x_{s_e},

with weights that are bounded whatever the logits :math:`a_e` are. With :math:`c_e = \min(\max(a_e, 0), 1)`, or
:math:`c_e = 1 / (1 + e^{-a_e})`, and the degrees of the nodes,

.. math::
    w_e = \frac{c_e}{\deg^-(d_e)} \ \text{(row)}, \qquad
    w_e = \frac{c_e}{\deg^+(s_e)} \ \text{(column)}, \qquad
    w_e = \frac{e^{a_e}}{\sum_{f : d_f = d_e} e^{a_f}} \ \text{(softmax)} .

Rows, or columns, then sum to at most one: :math:`\|A\|_\infty \le 1`, or :math:`\|A\|_1 \le 1`, and :math:`x =
\gamma A x + b` has one solution for :math:`0 \le \gamma < 1`. A node without edges has a row of zeros. Parallel edges
add up.

References
----------
Park, Choo, Park, "Convergent Graph Solvers", ICLR 2022 (arXiv 2106.01680).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, within

Normalization = Literal["row", "column", "softmax"]
Squash = Literal["clip", "sigmoid"]


class ContractiveOperator(lx.AbstractLinearOperator):
    r"""The linear map of a graph, on one number a node or, head by head, on `M` numbers a node.

    It maps arrays of shape `(n,)`, with weights of shape `(E,)`, or of shape `(n, M)`, with weights of shape `(E, M)`.
    An edge with an index of `n` is left out.
    """

    weights: Float[Array, E * M]
    rows: Int[Array, " E"]
    """Where each edge arrives."""
    columns: Int[Array, " E"]
    """Where each edge comes from."""
    size: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        at_least("size", self.size, 1)
        within("rows", self.rows, self.size + 1)
        within("columns", self.columns, self.size + 1)

    def mv(self, vector: Float[Array, n * M]) -> Float[Array, n * M]:
        """The product with a vector, edge by edge."""
        return added(self.weights * taken(vector, self.columns), self.rows, self.size)

    def dense(self) -> Float[Array, "*M n n"]:
        """The matrix, one for each head."""
        weights = jnp.moveaxis(self.weights, 0, -1)
        empty = jnp.zeros((*weights.shape[:-1], self.size, self.size), weights.dtype)
        return empty.at[..., self.rows, self.columns].add(weights, mode="drop")

    def as_matrix(self) -> Float[Array, "a a"]:
        """The matrix of the map on flat arrays: with heads, a block for each pair of nodes, diagonal in the heads."""
        if self.weights.ndim == 1:
            return self.dense()
        heads = self.weights.shape[1]
        blocks = jnp.einsum("mij,mk->imjk", self.dense(), jnp.eye(heads, dtype=self.weights.dtype))
        return blocks.reshape(self.size * heads, self.size * heads)

    def transpose(self) -> ContractiveOperator:
        """The transposed map: every edge the other way."""
        return ContractiveOperator(self.weights, self.columns, self.rows, self.size)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of what it maps."""
        return jax.ShapeDtypeStruct((self.size, *self.weights.shape[1:]), self.weights.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of what it maps to."""
        return self.in_structure()


def _no(operator: ContractiveOperator) -> bool:
    del operator
    return False


# what lineax asks of an operator
for _ask in (
    lx.is_symmetric,
    lx.is_diagonal,
    lx.is_tridiagonal,
    lx.is_lower_triangular,
    lx.is_upper_triangular,
    lx.is_positive_semidefinite,
    lx.is_negative_semidefinite,
    lx.has_unit_diagonal,
):
    _ask.register(ContractiveOperator, _no)
lx.linearise.register(ContractiveOperator, lambda operator: operator)
lx.conj.register(ContractiveOperator, lambda operator: operator)
lx.materialise.register(ContractiveOperator, lambda operator: lx.MatrixLinearOperator(operator.as_matrix()))
lx.diagonal.register(ContractiveOperator, lambda operator: jnp.diagonal(operator.as_matrix()))


def contractive_operator(
    logits: Float[Array, E * M],
    senders: Int[Array, " E"],
    receivers: Int[Array, " E"],
    size: int,
    normalization: Normalization = "row",
    squash: Squash = "clip",
) -> ContractiveOperator:
    r"""The map :math:`A` of a graph with `size` nodes, of norm at most one for any logits.

    Parameters
    ----------
    logits
        :math:`a_e`, one for each edge, or one for each edge and head.
    senders, receivers
        :math:`s_e` and :math:`d_e`; `size` at edges of the padding.
    size
        The number of rows for nodes.
    normalization
        `"row"` divides by the number of edges that enter a node, `"column"` by the number of those that leave it,
        `"softmax"` shares out one among the edges that enter a node.
    squash
        How logits get into the unit interval where they are divided by a degree: `"clip"` has no gradient outside of
        it, `"sigmoid"` has one everywhere. Softmax uses neither.

    Raises
    ------
    ValueError
        For shapes that do not fit, an unknown name, and logits that are not finite (where they are known; under
        `jax.jit` they make the fixed point NaN, which shows there).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> A = contractive_operator(jnp.array([2.0, 0.5, -1.0]), jnp.array([0, 1, 0]), jnp.array([1, 1, 0]), 2)
    >>> print(A.as_matrix())
    [[0.   0.  ]
     [0.5  0.25]]
    """
    for name, value, choices in (
        ("normalization", normalization, get_args(Normalization)),
        ("squash", squash, get_args(Squash)),
    ):
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}: given {value!r}.")
    shape = jnp.shape(logits)
    if len(shape) not in (1, 2) or jnp.shape(senders) != shape[:1] or jnp.shape(receivers) != shape[:1]:
        raise ValueError(
            "contractive_operator needs logits of shape (edges,) or (edges, heads) with as many senders and receivers: "
            f"given {shape}, {jnp.shape(senders)} and {jnp.shape(receivers)}."
        )
    if not isinstance(logits, jax.core.Tracer) and not np.all(np.isfinite(logits)):
        raise ValueError(f"logits must be finite: given {int(np.sum(~np.isfinite(logits)))} that are not.")
    if normalization == "softmax":
        return ContractiveOperator(segment_softmax(logits, receivers, size), receivers, senders, size)
    share = jnp.clip(logits, 0, 1) if squash == "clip" else jax.nn.sigmoid(logits)
    ends = receivers if normalization == "row" else senders
    degree = added(jnp.ones(shape[0], share.dtype), ends, size)
    # every edge's end has at least this edge
    share = share / jnp.maximum(taken(degree, ends), 1).reshape(-1, *(1 for _ in shape[1:]))
    return ContractiveOperator(share, receivers, senders, size)


def taken(values: Array, index: Int[Array, " E"]) -> Array:
    """The rows of `values` at the index; an edge of the padding gets some row, which is never used."""
    return jnp.asarray(values).at[index].get(mode="clip")


def added(values: Array, index: Int[Array, " E"], size: int) -> Array:
    """The sum of the rows of `values` that have the same index; those of the padding are left out."""
    empty = jnp.zeros((size, *jnp.shape(values)[1:]), values.dtype)
    return empty.at[index].add(values, mode="drop")


def segment_softmax(logits: Any, index: Int[Array, " E"], size: int) -> Any:
    """The softmax among the edges with the same index."""
    top = jnp.full((size, *jnp.shape(logits)[1:]), -jnp.inf, logits.dtype)
    top = jax.lax.stop_gradient(top.at[index].max(logits, mode="drop"))
    # rows without edges, which only padding looks at
    top = jnp.where(jnp.isfinite(top), top, 0)
    # an edge of the padding looks at some row, whose top may be far below it: what it gets must stay finite
    real = (index < size).reshape(-1, *(1 for _ in jnp.shape(logits)[1:]))
    exponential = jnp.exp(jnp.where(real, logits - taken(top, index), 0))
    total = taken(added(exponential, index, size), index)
    return exponential / jnp.where(total > 0, total, 1)
