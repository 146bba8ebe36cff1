"""The simplex."""

from __future__ import annotations

from dataclasses import field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import positive, require_positive
from ..deferred import Array, Float
from ..numerics.separable import smallest
from ..trees import Tree
from ._base import Set, require_real


@partial(jax.jit, static_argnums=2)
def _threshold(y: jax.Array, radius: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Return the elements less the largest, among which the threshold is in ``[-radius, 0]``, and that threshold."""
    top = jnp.max(y, axis=axis, keepdims=True)
    below = (y - top).astype(trees.single(y.dtype))
    radius = jnp.asarray(radius, below.dtype)
    nothing = jnp.zeros((), jnp.int32), jnp.zeros((), below.dtype)

    def body(carry: Any) -> Any:
        tau, _ = carry
        above = below > tau
        # one reduction of a pair: XLA then makes one pass over memory, where it makes four for two sums
        pair = above.astype(jnp.int32), jnp.where(above, below, 0)
        count, total = jax.lax.reduce(pair, nothing, lambda a, b: (a[0] + b[0], a[1] + b[1]), (axis % y.ndim,))
        new = (total - radius) / jnp.maximum(count, 1).astype(below.dtype)
        new = jnp.expand_dims(new, axis % y.ndim)
        # it rises strictly until it ends: in rounding errors, too, so that it cannot go round in circles
        return jnp.maximum(new, tau), jnp.any(new > tau)

    # the lower bound "the largest element alone"; the first step from it is above the mean, the other natural start
    start = jnp.zeros_like(top, below.dtype) - radius
    return below, jax.lax.while_loop(lambda carry: carry[1], body, (start, jnp.asarray(True)))[0]


def project_simplex(
    y: Float[Array, "*shape"], radius: Float[Array, ""] | float = 1.0, axis: int = -1
) -> Float[Array, "*shape"]:
    r"""Project onto the simplex :math:`\{p \ge 0, \sum_i p_i = s\}` along ``axis``.

    The projection is :math:`\max(y - \tau, 0)` with :math:`\tau` such that it sums to the radius ``s``. The threshold
    is the root of a convex, decreasing, piecewise linear function, so Newton's method from a lower bound rises to it
    and ends exactly, after finitely many steps (a handful in practice); nothing is sorted (Michelot 1986; Condat
    2016). It works below the largest element, so that large elements cost no digits.

    **Derivative.** On the support ``S``: :math:`\dot p_S = \dot y_S - \mathrm{mean}(\dot y_S) + \dot s / |S|`, zero
    elsewhere.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import project_simplex
    >>> print(project_simplex(jnp.array([1.0, 0.5, -0.5])))
    [0.75 0.25 0.  ]
    """
    return _project_simplex(trees.inexact(y), radius, axis)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _project_simplex(y: jax.Array, radius: Any, axis: int) -> jax.Array:
    below, tau = _threshold(y, jnp.asarray(radius), axis)
    return jnp.maximum(below - tau, 0).astype(y.dtype)


@_project_simplex.defjvp
def _(axis: int, primals: Tree, tangents: Tree) -> Any:
    y, radius = primals
    dy, ds = tangents
    p = _project_simplex(y, radius, axis)
    support = jnp.where(p > 0, 1, 0 * p)  # NaN where the projection is
    count = jnp.maximum(jnp.sum(support, axis=axis, keepdims=True), 1)
    shift = (jnp.asarray(ds, p.dtype) - jnp.sum(support * dy, axis=axis, keepdims=True)) / count
    return p, support * (dy + shift)


def support_distances(y: Float[Array, "*shape"], p: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    r"""Return, for each element, the distance of ``y`` from where the element enters or leaves the support.

    ``p`` is the projection of ``y`` onto the simplex. While the support ``S`` stays, the threshold
    :math:`\tau = (\sum_S y_i - s)/|S|` is affine, and :math:`y_i - \tau` has a gradient of norm
    :math:`\sqrt{1 - 1/|S|}` for ``i`` in ``S`` and :math:`\sqrt{1 + 1/|S|}` for others. An element that is alone in the
    support never leaves it.
    """
    inside = p > 0
    count = jnp.maximum(jnp.sum(inside, axis=axis, keepdims=True), 1).astype(y.dtype)
    tau = jnp.sum(jnp.where(inside, y - p, 0), axis=axis, keepdims=True) / count
    leave = jnp.where(count > 1, p / jnp.sqrt(1 - 1 / jnp.maximum(count, 2)), jnp.inf)
    return jnp.where(inside, leave, (tau - y) / jnp.sqrt(1 + 1 / count))


@record
class Simplex(Set):
    r"""The simplex :math:`\{x \ge 0, \sum_i x_i = s\}`, or a product of simplices along an axis of an array.

    Parameters
    ----------
    radius
        ``s``, positive.
    axis
        Each slice along this axis is in a simplex. May be left out for a one-dimensional unknown.

    Raises
    ------
    ValueError
        If ``radius`` is not positive, the unknown is not one array, or has several axes and ``axis`` is not given.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Simplex
    >>> print(Simplex(axis=-1).project(jnp.array([[1.0, 1.0], [3.0, 0.0]])))
    [[0.5 0.5]
     [1.  0. ]]
    """

    radius: Any = 1.0
    axis: int | None = field(default=None, metadata={"static": True})

    polyhedral = True

    def __post_init__(self) -> None:
        require_positive("Simplex's radius", self.radius)

    def project(self, x: Tree) -> Tree:
        """Return the projection along the axis."""
        self.check(x)
        return project_simplex(x, positive(self.radius), self.summed_axis)

    @property
    def summed_axis(self) -> int:
        """The axis along which elements sum to the radius."""
        return -1 if self.axis is None else self.axis

    def project_kl(self, logits: Any) -> Tree:
        r"""Return :math:`s\, \mathrm{softmax}(y)`."""
        return jnp.asarray(positive(self.radius), logits.dtype) * jax.nn.softmax(logits, axis=self.summed_axis)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the distance from where the support changes (exact)."""
        return smallest(support_distances(x, self.project(x), self.summed_axis), x)

    def support(self, direction: Tree) -> jax.Array:
        r"""Return :math:`s \max_i d_i`, summed over the slices."""
        return (self.radius * jnp.sum(jnp.max(direction, axis=self.summed_axis))).astype(trees.real_dtype(direction))

    def check(self, x: Tree) -> None:
        """Raise unless ``x`` is one array with the axis."""
        if not isinstance(x, jax.Array):
            raise ValueError(
                "Simplex needs an unknown that is one array; for a tree, use dini.sets.Product with a Simplex for the "
                f"part that is in one: given {jax.tree.structure(x)}."
            )
        require_real("Simplex", x)
        if self.axis is None and x.ndim != 1:
            raise ValueError(
                "Simplex needs axis=... for an unknown that is not one-dimensional (axis=-1: each row is in a "
                f"simplex): given shape {x.shape}."
            )
        if self.axis is not None and not -x.ndim <= self.axis < x.ndim:
            raise ValueError(f"Simplex's axis must be one of the unknown's {x.ndim} axes: given {self.axis}.")
        if jnp.ndim(self.radius) != 0:
            raise ValueError(f"Simplex's radius must be a scalar: given shape {jnp.shape(self.radius)}.")
        if x.shape[self.summed_axis] == 0:
            raise ValueError("Simplex of no elements is empty: the unknown has no element along the axis.")

    def separates_rows(self, x: jax.Array) -> bool:
        """Return whether the rows of ``x`` are in simplices of their own."""
        return self.axis is not None and x.ndim > 1 and self.axis % x.ndim > 0

    def row(self, i: Any, x: jax.Array) -> Simplex:
        """Return the simplex of one row."""
        del i
        assert self.axis is not None
        return Simplex(self.radius, axis=self.axis % x.ndim - 1)
