"""The nuclear norm."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import positive, require_positive
from ..numerics.separable import smallest
from ..numerics.spectral import clip_singular_values, soft_threshold
from ..trees import Tree
from ._base import Penalty, gap_at, require_step, total


@record
class NuclearNorm(Penalty):
    r"""The nuclear norm :math:`\lambda \sum_i \sigma_i(X)`, the sum of singular values: matrices of low rank.

    Proximal operator: the singular values are soft-thresholded, :math:`U \max(\Sigma - \eta\lambda, 0) V^\top`. The
    derivative uses divided differences (:func:`dini.numerics.spectral.singular_function`) and is finite where singular
    values tie or vanish.

    Each leaf is a matrix, or a batch of matrices in its last two axes.

    Parameters
    ----------
    strength
        :math:`\lambda \ge 0`, a scalar.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import NuclearNorm
    >>> print(NuclearNorm(1.0).prox(jnp.array([[0.0, 3.0], [0.5, 0.0]]), 1.0).round(3))
    [[0. 2.]
     [0. 0.]]
    """

    strength: Any = 1.0

    def __post_init__(self) -> None:
        require_positive("NuclearNorm's strength", self.strength, or_zero=True)

    def value(self, x: Tree) -> jax.Array:
        """Return the sum of the singular values."""
        return self.strength * total(jax.tree.map(_singular_values, x), x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return ``x`` with its singular values soft-thresholded."""
        require_step(step_size)
        threshold = jnp.asarray(step_size) * positive(self.strength, or_zero=True)
        return jax.tree.map(lambda u: soft_threshold(u, threshold), x)

    def _conjugate_prox(self, x: Tree, eta: jax.Array) -> Any:
        """Return ``x`` with its singular values cut off at the strength."""
        del eta
        strength = positive(self.strength, or_zero=True)
        return jax.tree.map(lambda u: clip_singular_values(u, strength), x)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance of the nearest singular value from its threshold (exact)."""
        threshold = jnp.asarray(step_size) * self.strength
        return smallest(jax.tree.map(lambda u: gap_at(_singular_values(u), threshold), x), x)

    def check(self, x: Tree) -> None:
        """Raise unless the strength is a scalar and every leaf a matrix."""
        if jnp.ndim(self.strength) != 0:
            raise ValueError(f"NuclearNorm's strength must be a scalar: given shape {jnp.shape(self.strength)}.")
        for leaf in jax.tree.leaves(x):
            if leaf.ndim < 2:
                raise ValueError(f"NuclearNorm needs matrices: given a leaf of shape {leaf.shape}.")

    def separates_rows(self, x: jax.Array) -> bool:
        """Return whether the rows of ``x`` are matrices of their own."""
        return x.ndim > 2

    def row(self, i: Any, x: jax.Array) -> NuclearNorm:
        """Return the penalty of one row."""
        del i, x
        return self


def _singular_values(u: jax.Array) -> jax.Array:
    if not u.size:
        return jnp.zeros((0,), u.dtype)
    wide = u.astype(trees.single(u.dtype))
    return jnp.linalg.svd(wide, compute_uv=False).astype(u.dtype)
