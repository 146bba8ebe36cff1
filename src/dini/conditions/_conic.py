"""The residual map of a conic program in its homogeneous self-dual embedding."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from ..checks.records import record
from ..sets import ConeProduct
from ..trees import Tree
from ..trees.products import dot, vdot


@record
class ConicResidual:
    r"""The residual map of :math:`\min c^\top x` subject to :math:`Ex + s = d`, :math:`s \in K`.

    The dual is :math:`\max -d^\top y` subject to :math:`E^\top y + c = 0`, :math:`y \in K^*`. At a solution
    :math:`s^\top y = 0`. With :math:`z = (u, v, w)` and :math:`\Pi z = (u, \Pi_{K^*}(v), \max(w, 0))`, a function
    ``F(z, c, E, d)``:

    .. math:: F(z, \Theta) = ((\Theta - I)\Pi + I) z, \qquad
              \Theta = \begin{pmatrix} 0 & E^\top & c \\ -E & 0 & d \\ -c^\top & -d^\top & 0 \end{pmatrix} .

    A solution is :math:`z = (x, y - s, 1)` (:meth:`point`), or any positive multiple; :meth:`solution` goes back. As
    ``F`` is homogeneous, its derivative is singular along ``z``. So by default ``w`` is *pinned*: the last residual,
    which vanishes with the others (:math:`(\Pi z)^\top F = 0`), is dropped to :math:`w` minus its value, and the system
    is as regular as the program. With ``pin=False`` the map is the paper's, and needs a linear solver for singular
    systems that gives the solution of minimum norm, :class:`dini.linear.MinimumNorm`; :meth:`solution` removes the free
    direction, so that both agree.

    Parameters
    ----------
    cones
        A :class:`dini.sets.ConeProduct`, :math:`K`. A semidefinite block takes the scaled vector of a triangle.
    pin
        Whether to keep ``w``.

    Raises
    ------
    TypeError
        If ``cones`` is not a :class:`dini.sets.ConeProduct`, or ``z`` no triple.
    ValueError
        If the shapes of the data do not fit one another.

    References
    ----------
    Busseti, Moursi, Boyd, "Solution refinement at regular points of conic problems", Computational Optimization and
    Applications, 2019. Agrawal, Barratt, Boyd, Busseti, Moursi, "Differentiating through a cone program", Journal of
    Applied and Numerical Optimization, 2019 (arXiv 1904.09043).

    Examples
    --------
    Minimize ``x`` subject to ``x >= b``, which is ``-x + s = -b`` with ``s >= 0``:

    >>> import dini, jax.numpy as jnp
    >>> from dini.sets import ConeProduct, NonNegative
    >>> F = dini.conditions.ConicResidual(ConeProduct([NonNegative()], [1]))
    >>> z = F.point(jnp.array([2.0]), jnp.array([1.0]), jnp.array([0.0]))
    >>> theta = jnp.ones(1), -jnp.ones((1, 1)), -jnp.array([2.0])
    >>> tangents = jnp.zeros(1), jnp.zeros((1, 1)), -jnp.ones(1)
    >>> print(dini.root_jvp(F, z, theta, tangents)[0])
    [1.]
    """

    cones: Any
    pin: bool = field(default=True, metadata={"static": True})

    def __post_init__(self) -> None:
        if not isinstance(self.cones, ConeProduct):
            raise TypeError(f"ConicResidual's cones must be a dini.sets.ConeProduct: given {self.cones!r}.")

    def _dual(self, v: jax.Array) -> jax.Array:
        """Return the projection onto the dual of the cones."""
        return v + self.cones.project(-v)

    def __call__(self, z: Any, c: Any, E: Any, d: Any) -> Tree:
        """Return the residual, a triple like ``z``."""
        u, v, w = _triple(z)
        self.cones.check(v)
        shapes = jnp.shape(c), tuple(E.shape), jnp.shape(d)
        if shapes != (u.shape, (v.size, u.size), v.shape):
            raise ValueError(
                f"c, E and d must have the shapes {u.shape}, {(v.size, u.size)} and {v.shape} for this z: given "
                f"{shapes[0]}, {shapes[1]} and {shapes[2]}."
            )
        y, scale = self._dual(v), jnp.maximum(w, 0)
        last = w - jax.lax.stop_gradient(w) if self.pin else w - scale - vdot(c, u) - vdot(d, y)
        return dot(E.T, y) + scale * c, d * scale - dot(E, u) + v - y, last

    def point(self, x: Tree, y: Any, s: Any) -> tuple[Any, Any, Any]:
        """Return ``z`` for a primal and dual solution."""
        x, y, s = map(jnp.asarray, (x, y, s))
        return x, y - s, jnp.ones((), x.dtype)

    def solution(self, z: Any) -> tuple[Any, Any, Any]:
        """Return the primal and dual solution ``(x, y, s)`` for ``z`` with positive ``w``."""
        u, v, w = _triple(z)
        y = self._dual(v)
        return u / w, y / w, (y - v) / w


def _triple(z: Any) -> tuple[Any, Any, Any]:
    if not (isinstance(z, tuple) and len(z) == 3):
        raise TypeError("The unknown of ConicResidual must be a tuple (u, v, w), see its method point.")
    return z
