r"""Low-rank adapters: a module with frozen weights, and small factors beside its matrices that are trained.

.. math:: W = W_0 + s\, B A, \qquad A \in \mathbb{R}^{r \times n}, \quad B \in \mathbb{R}^{m \times r}.

:math:`A` is normal and :math:`B` zero at first, so that the start is the module itself. The adapters are a tree in the
form of the module: what an optimizer, a trainer or a moving average takes.

References
----------
Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang and Chen, "LoRA: low-rank adaptation of large language models", ICLR 2022
(arXiv 2106.09685).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .checking import at_least, positive


class Adapter(eqx.Module):
    """The two factors beside a matrix."""

    down: Float[Array, "r n"]
    """:math:`A`, on the side of the inputs."""
    up: Float[Array, "m r"]
    """:math:`B`."""


def is_matrix(leaf: Any) -> bool:
    """Whether a leaf is a matrix of floats."""
    return eqx.is_inexact_array(leaf) and leaf.ndim == 2


def init[M](
    key: Array,
    module: M,
    rank: int,
    *,
    where: Callable[[Any], bool] = is_matrix,
    std: float | None = None,
) -> M:
    r"""Adapters for some of the matrices of a module.

    Parameters
    ----------
    key
        Of the factors :math:`A`.
    module
        An Equinox module, or any tree of arrays; a matrix has a row for each output.
    rank
        :math:`r`.
    where
        Of a leaf: whether it gets an adapter. All matrices of floats, if it is not given; for those of some layers
        alone, make adapters for these layers and put them together by `eqx.tree_at`.
    std
        The standard deviation of :math:`A`: one over the rank, if it is not given.

    Returns
    -------
    M
        The module's tree with an :class:`Adapter` in place of these matrices, and `None` elsewhere.

    Raises
    ------
    ValueError
        For a rank below one or above the smaller side of a matrix, a leaf that is no matrix of floats, and a module in
        which nothing was chosen.

    Examples
    --------
    >>> layer = eqx.nn.Linear(6, 4, key=jax.random.key(0))
    >>> adapters = init(jax.random.key(1), layer, 2)
    >>> adapters.weight.down.shape, adapters.weight.up.shape, adapters.bias
    ((2, 6), (4, 2), None)
    >>> bool(jnp.all(apply(layer, adapters).weight == layer.weight))
    True
    """
    at_least("rank", rank, 1)
    std = 1 / rank if std is None else std
    positive("std", std)
    leaves, structure = jax.tree_util.tree_flatten_with_path(module)
    keys = jax.random.split(key, max(len(leaves), 1))
    made: list[Any] = []
    for (path, leaf), key in zip(leaves, keys, strict=False):
        if not where(leaf):
            made.append(None)
            continue
        name = jax.tree_util.keystr(path)
        if not is_matrix(leaf):
            raise ValueError(f"An adapter needs a matrix of floats: {name} is {np.shape(leaf)}.")
        m, n = leaf.shape
        if rank > min(m, n):
            raise ValueError(f"rank must be at most {min(m, n)}, the smaller side of {name}: given {rank}.")
        made.append(Adapter(std * jax.random.normal(key, (rank, n), leaf.dtype), jnp.zeros((m, rank), leaf.dtype)))
    if not any(isinstance(one, Adapter) for one in made):
        raise ValueError("No leaf of the module gets an adapter: where must be true of a matrix of floats.")
    return jax.tree.unflatten(structure, made)


def _leaf(one: Any) -> bool:
    return one is None or isinstance(one, Adapter)


def merge[M](module: M, adapters: M, scale: Any = 1.0) -> M:
    """The module with :math:`W_0 + s B A` in place of its matrices: an ordinary module, as fast as it was.

    Raises `ValueError` for adapters of a module of another form.
    """

    def merged(adapter: Any, leaf: Any) -> Any:
        if adapter is None:
            return leaf
        product = adapter.up @ adapter.down
        if np.shape(leaf) != product.shape:
            raise ValueError(f"An adapter of {product.shape} does not fit what the module has: {np.shape(leaf)}.")
        return leaf + jnp.asarray(scale, leaf.dtype) * product

    if jax.tree.structure(adapters, is_leaf=_leaf) != jax.tree.structure(module, is_leaf=lambda one: one is None):
        raise ValueError("The adapters are those of a module of another form: make them by init from this one.")
    return jax.tree.map(merged, adapters, module, is_leaf=_leaf)


def apply[M](module: M, adapters: M, scale: Any = 1.0) -> M:
    """The module with its adapters, for training: only these have a derivative, the module's own arrays are frozen."""
    frozen = jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, module)
    return merge(frozen, adapters, scale)
