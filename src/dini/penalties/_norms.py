"""Norm penalties."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import positive, require_all_positive
from ..numerics.separable import map_with, smallest
from ..sets._balls import onto_ball
from ..trees import Tree
from ._base import Penalty, gap_at, prox_map, require_broadcast, require_step, total, unbounded


def _soft_threshold(u: jax.Array, threshold: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(u) <= threshold, jnp.zeros((), u.dtype), u - jnp.sign(u) * threshold)


@record
class L1(Penalty):
    r"""The Lasso penalty :math:`\sum_i \lambda_i |x_i|`.

    Proximal operator: :math:`\mathrm{sign}(x) \max(|x| - \eta\lambda, 0)`; on its support the derivative is one in
    ``x`` and :math:`-\eta\,\mathrm{sign}(x)` in :math:`\lambda`.

    Parameters
    ----------
    strength
        :math:`\lambda \ge 0`: a scalar, an array that broadcasts against ``x``, or a tree like ``x``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import L1
    >>> L1(1.0).prox(jnp.array([3.0, -0.5]), 1.0)
    Array([2., 0.], dtype=float32)
    """

    strength: Any = 1.0

    elementwise = True
    monotone = True

    def __post_init__(self) -> None:
        require_all_positive("L1's strength", self.strength, or_zero=True)

    def value(self, x: Tree) -> jax.Array:
        """Return the weighted sum of absolute values."""
        return total(map_with(lambda u, s: s * jnp.abs(u), x, self.strength), x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the soft-thresholded ``x``."""
        strength = positive(self.strength, or_zero=True)
        return prox_map(lambda u, s, eta: _soft_threshold(u, eta * s), x, strength, step_size=step_size)

    def _conjugate_prox(self, x: Tree, eta: jax.Array) -> Any:
        """Return ``x`` clipped to the strengths."""
        del eta
        clip = lambda u, s: jnp.where(jnp.abs(u) <= s, u, jnp.sign(u) * s)
        return map_with(clip, x, positive(self.strength, or_zero=True))

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance of the nearest element from its threshold."""
        gaps = map_with(lambda u, s, eta: gap_at(jnp.abs(u), eta * s), x, self.strength, step_size)
        return smallest(gaps, x)

    def check(self, x: Tree) -> None:
        """Raise unless the strength broadcasts against ``x``."""
        require_broadcast("L1", "strength", self.strength, x)


@record
class ElasticNet(Penalty):
    r"""The elastic net :math:`\sum_i \lambda_i (|x_i| + \tfrac12 \gamma_i x_i^2)`.

    Proximal operator: :math:`\mathrm{sign}(x)\max(|x| - \eta\lambda, 0) / (1 + \eta\lambda\gamma)`.

    Parameters
    ----------
    strength
        :math:`\lambda \ge 0`, as in :class:`L1`.
    ratio
        :math:`\gamma \ge 0`, likewise.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import ElasticNet
    >>> ElasticNet(1.0, 1.0).prox(jnp.array([3.0, -0.5]), 1.0)
    Array([1., 0.], dtype=float32)
    """

    strength: Any = 1.0
    ratio: Any = 1.0

    elementwise = True
    monotone = True

    def __post_init__(self) -> None:
        require_all_positive("ElasticNet's strength", self.strength, or_zero=True)
        require_all_positive("ElasticNet's ratio", self.ratio, or_zero=True)

    def value(self, x: Tree) -> jax.Array:
        """Return the penalty."""
        terms = map_with(lambda u, s, r: s * (jnp.abs(u) + 0.5 * r * u * u), x, self.strength, self.ratio)
        return total(terms, x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the soft-thresholded and shrunk ``x``."""
        return prox_map(
            lambda u, s, r, eta: _soft_threshold(u, eta * s) / (1 + eta * s * r),
            x,
            positive(self.strength, or_zero=True),
            positive(self.ratio, or_zero=True),
            step_size=step_size,
        )

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance of the nearest element from its threshold."""
        gaps = map_with(lambda u, s, eta: gap_at(jnp.abs(u), eta * s), x, self.strength, step_size)
        return smallest(gaps, x)

    def check(self, x: Tree) -> None:
        """Raise unless the parameters broadcast against ``x``."""
        require_broadcast("ElasticNet", "strength", self.strength, x)
        require_broadcast("ElasticNet", "ratio", self.ratio, x)


@record
class Ridge(Penalty):
    r"""The ridge penalty :math:`\tfrac12 \sum_i \lambda_i x_i^2` (note the half).

    Proximal operator: :math:`x / (1 + \eta\lambda)`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import Ridge
    >>> Ridge(1.0).prox(jnp.array([3.0]), 0.5)
    Array([2.], dtype=float32)
    """

    strength: Any = 1.0

    elementwise = True
    monotone = True

    def __post_init__(self) -> None:
        require_all_positive("Ridge's strength", self.strength, or_zero=True)

    def value(self, x: Tree) -> jax.Array:
        """Return half the weighted sum of squares."""
        return 0.5 * total(map_with(lambda u, s: s * u * u, x, self.strength), x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return the shrunk ``x``."""
        strength = positive(self.strength, or_zero=True)
        return prox_map(lambda u, s, eta: u / (1 + eta * s), x, strength, step_size=step_size)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return infinity: the operator is linear."""
        del step_size
        return unbounded(x)

    def check(self, x: Tree) -> None:
        """Raise unless the strength broadcasts against ``x``."""
        require_broadcast("Ridge", "strength", self.strength, x)


@record
class GroupLasso(Penalty):
    r"""The group lasso :math:`\lambda \sum_j \|x_j\|_2`.

    Proximal operator of one group: :math:`\max(1 - \eta\lambda/\|x_j\|, 0)\, x_j`. For an active group, with
    :math:`\hat x = x_j/\|x_j\|`, its derivative is :math:`(1 - \eta\lambda/\|x_j\|) t + (\eta\lambda/\|x_j\|) \hat x
    \hat x^\top t` in ``x`` and :math:`-\eta\hat x` in :math:`\lambda`; it is zero (not NaN) at :math:`x_j = 0`.

    Parameters
    ----------
    strength
        :math:`\lambda \ge 0`, a scalar.
    axis
        The axis (of every leaf) along which the elements of a group lie, or ``"all"``: the whole unknown is one group.
        Default: the whole unknown, of vectors and scalars only; for an array with several axes it must be given.

    Raises
    ------
    ValueError
        If no axis is given and the unknown has an array with several axes.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.penalties import GroupLasso
    >>> print(GroupLasso(2.5).prox(jnp.array([3.0, 4.0]), 1.0))
    [1.5 2. ]
    >>> rows = jnp.array([[3.0, 4.0], [0.6, 0.8]])
    >>> print(GroupLasso(2.5, axis=1).prox(rows, 1.0))
    [[1.5 2. ]
     [0.  0. ]]
    """

    strength: Any = 1.0
    axis: int | Literal["all"] | None = field(default=None, metadata={"static": True})

    monotone = True

    def __post_init__(self) -> None:
        require_all_positive("GroupLasso's strength", self.strength, or_zero=True)
        if self.axis not in (None, "all") and not isinstance(self.axis, int):
            raise ValueError(f'GroupLasso\'s axis must be an integer, "all" or None: given {self.axis!r}.')

    def _along(self, x: Tree) -> int | None:
        """Return the axis of groups, or ``None`` where the whole unknown is one."""
        if self.axis is not None:
            return None if self.axis == "all" else self.axis
        for leaf in jax.tree.leaves(x):
            if jnp.ndim(leaf) > 1:
                raise ValueError(
                    f"GroupLasso needs an axis for an array of shape {jnp.shape(leaf)}: with axis=1 the rows "
                    'of a matrix are groups, with axis=0 its columns, and with axis="all" all elements are one group.'
                )
        return None

    def _norms(self, x: Tree) -> Any:
        axis = self._along(x)
        if axis is None:
            size = trees.norm(x)
            return jax.tree.map(lambda _: size, x)

        def one(u: jax.Array) -> jax.Array:
            squared = jnp.sum(u * u, axis=axis, keepdims=True)
            positive = squared > 0
            return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), 0)

        return jax.tree.map(one, x)

    def value(self, x: Tree) -> jax.Array:
        """Return the sum of the groups' norms."""
        if self._along(x) is None:
            return self.strength * trees.norm(x)
        return self.strength * total(self._norms(x), x)

    def prox(self, x: Tree, step_size: Any) -> Tree:
        """Return ``x`` with each group shrunk towards zero."""
        require_step(step_size)
        threshold = jnp.asarray(step_size) * positive(self.strength, or_zero=True)

        def one(u: jax.Array, size: jax.Array) -> jax.Array:
            active = ~(size <= threshold)
            shrink = jnp.where(active, 1 - threshold / jnp.where(active, size, 1), 0)
            return u * shrink.astype(u.dtype)

        return jax.tree.map(one, x, self._norms(x))

    def _conjugate_prox(self, x: Tree, eta: jax.Array) -> Any:
        """Return ``x`` with each group projected onto the ball of the strength's radius."""
        del eta
        radius = positive(self.strength, or_zero=True)
        if (axis := self._along(x)) is None:
            return onto_ball(x, radius)
        # one ball for each group: the axis is mapped over last
        each = lambda u: jax.vmap(onto_ball, (0, None))(u.reshape(-1, u.shape[-1]), radius).reshape(u.shape)
        return jax.tree.map(lambda u: jnp.moveaxis(each(jnp.moveaxis(u, axis, -1)), -1, axis), x)

    def kink_distance(self, x: Tree, step_size: Any) -> jax.Array:
        """Return the distance of the nearest group from the sphere on which it vanishes."""
        threshold = jnp.asarray(step_size) * self.strength
        gaps = jax.tree.map(lambda size, u: gap_at(size, threshold) if u.size else u, self._norms(x), x)
        return smallest(gaps, x)

    def check(self, x: Tree) -> None:
        """Raise unless the strength is a scalar and every leaf has the axis."""
        if jnp.ndim(self.strength) != 0:
            raise ValueError(f"GroupLasso's strength must be a scalar: given shape {jnp.shape(self.strength)}.")
        for leaf in jax.tree.leaves(x):
            axis = self._along(x)
            if axis is not None and not -leaf.ndim <= axis < leaf.ndim:
                raise ValueError(
                    f"GroupLasso's axis must be an axis of every leaf: given {self.axis} for {leaf.shape}."
                )

    def separates_rows(self, x: jax.Array) -> bool:
        """Return whether no group spans several rows."""
        return isinstance(self.axis, int) and x.ndim > 1 and self.axis % x.ndim > 0

    def row(self, i: Any, x: jax.Array) -> GroupLasso:
        """Return the penalty of one row."""
        del i
        assert isinstance(self.axis, int)
        return GroupLasso(self.strength, axis=self.axis % x.ndim - 1)
