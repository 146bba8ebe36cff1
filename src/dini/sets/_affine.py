"""Sets of linear equations, and the half-space."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.records import record
from ..checks.settings import known
from ..deferred import Array, Float
from ..numerics.separable import smallest
from ..trees import Tree
from ..trees.products import dot
from ._base import Set, believed, hold_arrays, require_real
from ._scalar import unit_and_size

#: matrices with up to this many elements are examined when a set is made
EXAMINED = 100_000


def gram_factor(C: Float[Array, "m n"], extra: Any = 0.0) -> Float[Array, "m m"]:
    """Return the Cholesky factor of the Gram matrix of the rows, plus a diagonal; a tiny ridge bears dependent rows."""
    m = C.shape[0]
    gram = dot(C, C.T)
    ridge = 32 * max(m, 1) * jnp.finfo(C.dtype).eps * jnp.maximum(jnp.max(jnp.diagonal(gram), initial=0), 1)
    return jax.lax.linalg.cholesky(gram + jnp.diag(jnp.broadcast_to(extra + ridge, (m,))), symmetrize_input=False)


def gram_solve(factor: Float[Array, "m m"], r: Float[Array, "m ..."]) -> Float[Array, "m ..."]:
    """Solve with a factor of :func:`gram_factor`."""
    return jax.scipy.linalg.cho_solve((factor, True), r, check_finite=False)


def onto_affine(
    C: Float[Array, "m n"], c: Float[Array, " m"], y: Float[Array, " n"], size: Any = 0.0
) -> Float[Array, " n"]:
    r"""Project onto :math:`\{x : C x = c\}`, whose rows may be dependent and may be zero.

    The step :math:`x - C^\top (C C^\top + \varepsilon I)^{-1} (C x - c)` is repeated. Each repetition shrinks the error
    that the ridge makes by :math:`\varepsilon / (\sigma^2 + \varepsilon)` for a singular value :math:`\sigma`, and
    dependent rows leave no trace. All of it is differentiable. It starts where :func:`_approach` has come to, which
    looks at the size of ``c``, or the one given.
    """
    if not C.shape[0]:
        return y
    length = jax.lax.stop_gradient(jnp.sqrt(jnp.sum(C * C, axis=1)))
    scale = jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
    C, c = scale[:, None] * C, scale * c
    factor = gram_factor(C)
    near, multipliers = _approach(*jax.lax.stop_gradient((C, c, y, factor, size)))
    # where that is, with the derivative of a point that is moved by these multiples of the rows
    x = near + (y - jax.lax.stop_gradient(y)) - dot((C - jax.lax.stop_gradient(C)).T, multipliers)
    for _ in range(3):
        x = x - dot(C.T, gram_solve(factor, dot(C, x) - c))
    return x


@jax.jit
def _approach(C: jax.Array, c: jax.Array, y: jax.Array, factor: jax.Array, size: Any) -> tuple[jax.Array, jax.Array]:
    """Return a point near the equations, from a point that may be far away, and by which multiples of the rows it went.

    A step leaves rounding errors of the point's size: from 1e20 it takes several to come to 1. From a point that is
    near already, none is taken; and a subspace looks alike from everywhere.
    """
    reach = jnp.maximum(jnp.max(jnp.abs(c)), size)
    limit = reach / jnp.sqrt(jnp.finfo(y.dtype).eps)

    def body(carry: Any) -> Any:
        count, x, multipliers, r = carry
        step = gram_solve(factor, r)
        x = x - dot(C.T, step)
        return count + 1, x, multipliers + step, dot(C, x) - c

    def far(carry: Any) -> jax.Array:
        count, _, _, r = carry
        return (count < 8) & (reach > 0) & (jnp.max(jnp.abs(r)) > limit)

    start = (jnp.zeros((), jnp.int32), y, jnp.zeros_like(c), dot(C, y) - c)
    return jax.lax.while_loop(far, body, start)[1:3]


def _along(normal: Any, offset: Any, x: Tree) -> tuple[Any, jax.Array, jax.Array]:
    """Return the normal in the dtypes of ``x``, how far ``x`` is beyond the offset along it, and its squared norm.

    All are in units of the normal's largest element, whose square may underflow or overflow.
    """
    a, unit = unit_and_size(jax.tree.map(lambda part, u: jnp.asarray(part, u.dtype), normal, x))
    return a, trees.vdot(a, x) - offset / unit, trees.vdot(a, a)


def _check_normal(owner: str, normal: Any, offset: Any, x: Tree) -> None:
    require_real(owner, x)
    if jax.tree.structure(normal) != jax.tree.structure(x) or any(
        jnp.shape(a) != u.shape for a, u in zip(jax.tree.leaves(normal), jax.tree.leaves(x), strict=True)
    ):
        raise ValueError(
            f"{owner}'s normal must have the structure and shapes of the unknown x: given {trees.describe(normal)}, "
            f"needed {trees.describe(x)}."
        )
    if jnp.ndim(offset) != 0:
        raise ValueError(f"{owner}'s offset must be a scalar: given shape {jnp.shape(offset)}.")


def _require_nonzero(owner: str, normal: Any) -> None:
    if known(normal) and not any(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(normal)):
        raise ValueError(f"{owner}'s normal must not be zero: given {normal}.")


@record
class Hyperplane(Set):
    r"""The hyperplane :math:`\{x : \langle a, x \rangle = b\}`.

    Projection :math:`x - a (\langle a, x \rangle - b)/\|a\|^2`; derivative :math:`t - a \langle a, t\rangle/\|a\|^2` in
    ``x`` and :math:`a\, \dot b/\|a\|^2` in ``b``. The normal is differentiated, too.

    Parameters
    ----------
    normal
        ``a``, a tree like ``x``, not zero.
    offset
        ``b``, a scalar.

    Raises
    ------
    ValueError
        If ``normal`` is zero or does not have the shapes of ``x``, or ``offset`` is no scalar.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Hyperplane
    >>> print(Hyperplane(jnp.array([1.0, 1.0]), 1.0).project(jnp.array([2.0, 1.0])))
    [1. 0.]
    """

    normal: Any
    offset: Any = 0.0

    polyhedral = True

    def __post_init__(self) -> None:
        _require_nonzero("Hyperplane", self.normal)

    def project(self, x: Tree) -> Tree:
        """Remove what sticks out along the normal."""
        normal, excess, squared = _along(self.normal, self.offset, x)
        return trees.axpy(-excess / squared, normal, x)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return infinity: the projection is affine."""
        return smallest((), x)

    def check(self, x: Tree) -> None:
        """Raise unless the normal is like ``x`` and the offset a scalar."""
        _check_normal("Hyperplane", self.normal, self.offset, x)


@record
class Halfspace(Set):
    r"""The half-space :math:`\{x : \langle a, x \rangle \le b\}`.

    Projection :math:`x - a \max(\langle a, x \rangle - b, 0)/\|a\|^2`: outside it is that of :class:`Hyperplane`.

    Parameters
    ----------
    normal
        ``a``, a tree like ``x``, not zero.
    offset
        ``b``, a scalar.

    Raises
    ------
    ValueError
        If ``normal`` is zero or does not have the shapes of ``x``, or ``offset`` is no scalar.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Halfspace
    >>> print(Halfspace(jnp.array([1.0, 0.0]), 1.0).project(jnp.array([3.0, 2.0])))
    [1. 2.]
    """

    normal: Any
    offset: Any = 0.0

    polyhedral = True

    def __post_init__(self) -> None:
        _require_nonzero("Halfspace", self.normal)

    def project(self, x: Tree) -> Tree:
        """Remove what sticks out along the normal, if it does."""
        normal, excess, squared = _along(self.normal, self.offset, x)
        return trees.axpy(-jnp.where(excess <= 0, 0, excess) / squared, normal, x)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the distance from the boundary (exact)."""
        _, excess, squared = _along(self.normal, self.offset, x)
        return (jnp.abs(excess) / jnp.sqrt(squared)).astype(trees.real_dtype(x))

    def check(self, x: Tree) -> None:
        """Raise unless the normal is like ``x`` and the offset a scalar."""
        _check_normal("Halfspace", self.normal, self.offset, x)


def check_rows(owner: str, name: str, matrix: Any, bound_name: str, bound: Any, x: Tree) -> None:
    """Raise unless a matrix acts on the raveled unknown and has one bound a row."""
    size = trees.size(x)
    shape = jnp.shape(matrix)
    if len(shape) != 2 or shape[1] != size:
        raise ValueError(
            f"{owner}'s {name} must have a column for each of the {size} elements of the unknown: given shape {shape}."
        )
    if jnp.shape(bound) != shape[:1]:
        raise ValueError(
            f"{owner}'s {bound_name} must have an element for each row of {name}: given shape {jnp.shape(bound)}, "
            f"needed {shape[:1]}."
        )


def require_solvable(owner: str, equations: str, matrix: Any, offset: Any) -> None:
    """Raise where known equations, if they are not large, have no solution."""
    if known(matrix, offset) and jnp.ndim(matrix) == 2 and jnp.size(matrix) <= EXAMINED:
        A, b = np.asarray(matrix), np.asarray(offset)
        if np.isnan(A).any() or np.isnan(b).any():
            raise ValueError(f"A parameter of {owner} is NaN.")
        if A.size and b.shape == A.shape[:1]:
            gap = np.abs(A @ np.linalg.lstsq(A, b, rcond=None)[0] - b).max()
            if not gap <= 1e-4 * (1 + np.abs(b).max()):
                raise ValueError(f"{owner} is empty: {equations} has no solution (it is missed by {gap:.2e}).")


@record
class Affine(Set):
    r"""The affine set :math:`\{x : A x = b\}`.

    Projection :math:`x - A^\top (A A^\top)^+ (A x - b)`; derivative :math:`t - A^\top (A A^\top)^+ A t` in ``x`` and
    :math:`A^\top (A A^\top)^+ \dot b` in ``b``. The matrix is differentiated, too. Dependent rows are allowed as long
    as the equations have a solution. Cost: a Cholesky factorization of :math:`A A^\top`.

    Parameters
    ----------
    matrix
        ``A``, with a column for each element of the unknown (of a tree: in the order of
        :func:`jax.flatten_util.ravel_pytree`).
    offset
        ``b``, with an element for each row of ``A``.

    Raises
    ------
    ValueError
        If the equations have no solution (where they are known and not large; the projection is NaN otherwise), or
        the shapes do not fit.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Affine
    >>> print(Affine(jnp.array([[1.0, 1.0, 1.0]]), jnp.array([3.0])).project(jnp.zeros(3)).round(3))
    [1. 1. 1.]
    """

    matrix: Any
    offset: Any

    polyhedral = True

    def __post_init__(self) -> None:
        hold_arrays(self, "matrix", "offset")
        require_solvable("Affine", "A x = b", self.matrix, self.offset)

    def project(self, x: Tree) -> Tree:
        """Solve for the multipliers of the equations."""
        y, unravel = ravel_pytree(x)
        A, b = jnp.asarray(self.matrix, y.dtype), jnp.asarray(self.offset, y.dtype)
        p = onto_affine(A, b, y)
        missed = jnp.max(jnp.abs(dot(A, p) - b), initial=0)
        eps = jnp.finfo(y.dtype).eps
        # the point itself counts with the rounding errors that it leaves only, where its projection is zero
        size = jnp.max(jnp.abs(p), initial=0) + eps * jnp.max(jnp.abs(y), initial=0)
        scale = jnp.max(jnp.abs(b), initial=0) + jnp.max(jnp.sum(jnp.abs(A), axis=1), initial=0) * size
        good = missed <= jnp.sqrt(eps) * scale
        return unravel(believed(p, (self, x), good, lambda: ValueError("Affine is empty: A x = b has no solution.")))

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return infinity: the projection is affine."""
        return smallest((), x)

    def check(self, x: Tree) -> None:
        """Raise unless the shapes fit."""
        require_real("Affine", x)
        check_rows("Affine", "matrix", self.matrix, "offset", self.offset, x)
