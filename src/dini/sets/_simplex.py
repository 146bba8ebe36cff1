"""The simplex."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float

from ..settings import require_positive
from ._base import Set


@partial(jax.custom_jvp, nondiff_argnums=(2,))
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
    radius = jnp.asarray(radius, y.dtype)
    # below the largest element, where the threshold is in [-radius, 0]
    top = jnp.max(y, axis=axis, keepdims=True)
    below = y - top

    def body(carry: Any) -> Any:
        tau, _ = carry
        above = below > tau
        count = jnp.maximum(jnp.sum(above, axis=axis, keepdims=True), 1).astype(y.dtype)
        new = (jnp.sum(jnp.where(above, below, 0), axis=axis, keepdims=True) - radius) / count
        # it rises strictly until it ends: in rounding errors, too, so that it cannot go round in circles
        return jnp.maximum(new, tau), jnp.any(new > tau)

    # the lower bound "the largest element alone"; the first step from it is above the mean, the other natural start
    start = jnp.zeros_like(top) - radius
    tau, _ = jax.lax.while_loop(lambda carry: carry[1], body, (start, jnp.asarray(True)))
    return jnp.maximum(below - tau, 0)


@project_simplex.defjvp
def _(axis: int, primals: Any, tangents: Any) -> Any:
    y, radius = primals
    dy, ds = tangents
    p = project_simplex(y, radius, axis)
    support = (p > 0).astype(p.dtype)
    count = jnp.maximum(jnp.sum(support, axis=axis, keepdims=True), 1)
    shift = (jnp.asarray(ds, p.dtype) - jnp.sum(support * dy, axis=axis, keepdims=True)) / count
    return p, support * (dy + shift)


@register_dataclass
@dataclass(frozen=True)
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
        Where ``radius`` is not positive, the unknown is not one array, or has several axes and ``axis`` is not given.

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

    def __post_init__(self) -> None:
        require_positive("Simplex's radius", self.radius)

    def project(self, x: Any) -> Any:
        """Return the projection along the axis."""
        return project_simplex(x, self.radius, -1 if self.axis is None else self.axis)

    def check(self, x: Any) -> None:
        """Raise unless ``x`` is one array with the axis."""
        if not isinstance(x, jax.Array):
            raise ValueError(
                "Simplex needs an unknown that is one array; for a tree, use dini.sets.Product with a Simplex for the "
                f"part that is in one: given {jax.tree.structure(x)}."
            )
        if self.axis is None and x.ndim != 1:
            raise ValueError(
                "Simplex needs axis=... for an unknown that is not one-dimensional (axis=-1: each row is in a "
                f"simplex): given shape {x.shape}."
            )
        if self.axis is not None and not -x.ndim <= self.axis < x.ndim:
            raise ValueError(f"Simplex's axis must be one of the unknown's {x.ndim} axes: given {self.axis}.")
        if jnp.ndim(self.radius) != 0:
            raise ValueError(f"Simplex's radius must be a scalar: given shape {jnp.shape(self.radius)}.")
        if x.shape[-1 if self.axis is None else self.axis] == 0:
            raise ValueError("Simplex of no elements is empty: the unknown has no element along the axis.")

    def separates_rows(self, x: jax.Array) -> bool:
        """Return whether the rows of ``x`` are in simplices of their own."""
        return self.axis is not None and x.ndim > 1 and self.axis % x.ndim > 0

    def row(self, i: Any, x: jax.Array) -> Simplex:
        """Return the simplex of one row."""
        del i
        assert self.axis is not None
        return Simplex(self.radius, axis=self.axis % x.ndim - 1)
