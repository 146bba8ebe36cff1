"""Sets of matrices that are given by eigenvalues or singular values.

Each projection thresholds the spectrum. Its divided differences are written without differences of nearby numbers, so
that they are right, to the last digits, where eigenvalues or singular values are equal or nearly so.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import field
from typing import Any, Literal

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ..checks.records import record
from ..checks.settings import positive, require_choice, require_positive
from ..deferred import Array, Float
from ..numerics.separable import smallest
from ..numerics.spectral import clip_singular_values, singular_adaptive, symmetric_adaptive, symmetric_function
from ..trees import Tree
from ._base import Set, require_real
from ._cones import Cone
from ._simplex import project_simplex, support_distances


def _excess(values: jax.Array, level: Any) -> jax.Array:
    """Return what is above a threshold; at the threshold itself with the derivative from below."""
    return jnp.where(values <= level, 0, values - level)


def _excess_divided(a: jax.Array, b: jax.Array, level: Any) -> jax.Array:
    """Return the divided difference: 1 for two numbers above the threshold, 0 for two below."""
    above = _excess(a, level) + _excess(b, level)
    total = above + _excess(level - a, 0) + _excess(level - b, 0)
    return above / jnp.where(total > 0, total, 1)


def svec(x: Float[Array, "n n"]) -> Float[Array, " m"]:
    r"""Return the scaled vector of a symmetric matrix.

    It is the lower triangle by columns, with the elements off the diagonal multiplied by :math:`\sqrt2`. Inner
    products of scaled vectors are those of the matrices. SCS and diffcp use the same order.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import svec
    >>> print(svec(jnp.array([[1.0, 2.0], [2.0, 3.0]])).round(3))
    [1.    2.828 3.   ]
    """
    rows, columns = np.triu_indices(x.shape[-1])
    scale = np.where(rows == columns, 1.0, math.sqrt(2)).astype(x.dtype)
    return 0.5 * (x[rows, columns] + x[columns, rows]) * scale


def smat(v: Float[Array, " m"]) -> Float[Array, "n n"]:
    """Return the symmetric matrix of a scaled vector; see :func:`svec`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import smat, svec
    >>> print(smat(svec(jnp.array([[1.0, 2.0], [2.0, 3.0]]))).round(3))
    [[1. 2.]
     [2. 3.]]
    """
    n = _order(v.shape[0])
    rows, columns = np.triu_indices(n)
    scale = np.where(rows == columns, 1.0, math.sqrt(0.5)).astype(v.dtype)
    place = np.zeros((n, n), int)
    place[rows, columns] = place[columns, rows] = np.arange(rows.size)
    return (v * scale)[place]


def _order(size: int) -> int:
    n = (math.isqrt(8 * size + 1) - 1) // 2
    if size == 0 or n * (n + 1) // 2 != size:
        raise ValueError(f"A scaled vector of a triangle has n (n + 1) / 2 elements: given {size}.")
    return n


def _check_array(owner: str, x: Tree) -> None:
    if not hasattr(x, "ndim"):
        raise ValueError(f"{owner} needs an unknown that is one array: given {jax.tree.structure(x)}.")


def _check_matrix(owner: str, x: Tree, *, square: bool = False) -> None:
    _check_array(owner, x)
    require_real(owner, x)
    if x.ndim != 2 or 0 in x.shape or (square and x.shape[0] != x.shape[1]):
        raise ValueError(f"{owner} needs a {'square ' if square else ''}matrix: given shape {x.shape}.")


def _check_symmetric(owner: str, x: Tree, symmetrize: bool) -> None:
    _check_matrix(owner, x, square=True)
    if symmetrize or isinstance(x, jax.core.Tracer):
        return
    value = np.asarray(x)
    gap, size = np.max(np.abs(value - value.T)), np.max(np.abs(value))
    if gap > np.sqrt(np.finfo(value.dtype).eps) * size:
        raise ValueError(
            f"{owner} needs a symmetric matrix: given one with max |X - X^T| = {gap:.2e} beside max |X| = {size:.2e}. "
            "Pass symmetrize=True to take the symmetric part."
        )


def _check_scalar(name: str, value: Any) -> None:
    if jnp.ndim(value) != 0:
        raise ValueError(f"{name} must be a scalar: given shape {jnp.shape(value)}.")


# The threshold is kept as the largest value plus what is left of it, with a minus: below the largest value, a threshold
# has the digits of the total, also where the values are much larger.


def _lowered(values: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the largest eigenvalue, which always stays, and the threshold less it."""
    return values[..., -1:], -project_simplex(values, total)[..., -1:]


def _shrinkage(values: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the largest singular value and the threshold less it; their sum is below zero inside of the ball."""
    return values[..., :1], -project_simplex(values, total)[..., :1]


def _above(values: jax.Array, top: jax.Array, level: jax.Array) -> jax.Array:
    return _excess(values - top, level)


def _above_divided(a: jax.Array, b: jax.Array, top: jax.Array, level: jax.Array) -> jax.Array:
    return _excess_divided(a - top, b - top, level)


def _shrunk(values: jax.Array, top: jax.Array, level: jax.Array) -> jax.Array:
    """Return singular values above the threshold, as an odd function."""
    return jnp.sign(values) * _above(jnp.abs(values), top, level)


def _shrunk_divided(a: jax.Array, b: jax.Array, top: jax.Array, level: jax.Array) -> jax.Array:
    """Return the divided difference; of numbers of different signs it is a ratio of sums of their sizes."""
    size_a, size_b = jnp.abs(a), jnp.abs(b)
    apart = size_a + size_b
    across = (_above(size_a, top, level) + _above(size_b, top, level)) / jnp.where(apart > 0, apart, 1)
    return jnp.where(jnp.sign(a) * jnp.sign(b) < 0, across, _above_divided(size_a, size_b, top, level))


def _positive_part(x: jax.Array) -> jax.Array:
    return symmetric_function(_excess, x, 0.0, divided=_excess_divided)


@record
class PositiveSemidefinite(Cone):
    r"""The cone of symmetric positive semidefinite matrices; its own dual.

    The projection sets the negative eigenvalues to zero, :math:`U \max(\Lambda, 0) U^\top`. With
    :math:`B_{ij} = (\lambda_i^+ - \lambda_j^+)/(\lambda_i - \lambda_j)`, and :math:`1[\lambda_i > 0]` for equal
    eigenvalues, its derivative along ``T`` is :math:`U (B \circ (U^\top T U)) U^\top`.

    Parameters
    ----------
    form
        ``"matrix"``: the unknown is a symmetric matrix. ``"vector"``: the scaled vector of its triangle (:func:`svec`),
        as in conic programs.
    symmetrize
        Whether to accept a matrix that is not symmetric and project its symmetric part. Traced matrices cannot be
        looked at; there the symmetric part is projected in any case.

    Raises
    ------
    ValueError
        If the unknown is not a symmetric matrix, or a vector whose length is not that of a triangle.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import PositiveSemidefinite
    >>> print(PositiveSemidefinite().project(jnp.array([[0.0, 1.0], [1.0, 0.0]])).round(3))
    [[0.5 0.5]
     [0.5 0.5]]
    """

    form: Literal["matrix", "vector"] = field(default="matrix", metadata={"static": True})
    symmetrize: bool = field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        require_choice("PositiveSemidefinite's form", self.form, ("matrix", "vector"))

    @property
    def dual(self) -> Any:
        """The cone itself."""
        return self

    def project(self, x: Tree) -> Tree:
        """Set the negative eigenvalues to zero."""
        self.check(x)
        if self.form == "vector":
            return svec(_positive_part(smat(x)))
        return _positive_part(x)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the smallest absolute eigenvalue: the distance to the nearest singular matrix."""
        self.check(x)
        return jnp.min(jnp.abs(jnp.linalg.eigvalsh(smat(x) if self.form == "vector" else x)))

    def on_vector(self, size: int) -> tuple[Any, tuple[int, ...]]:
        """Return the cone for a block of a vector, and the shape in which it takes the block."""
        _order(size)
        return dataclasses.replace(self, form="vector"), (size,)

    def check(self, x: Tree) -> None:
        """Raise unless ``x`` is a symmetric matrix, or the scaled vector of one."""
        if self.form == "matrix":
            return _check_symmetric("PositiveSemidefinite", x, self.symmetrize)
        _check_array("PositiveSemidefinite", x)
        if x.ndim != 1:
            raise ValueError(f'PositiveSemidefinite with form="vector" needs a vector: given shape {x.shape}.')
        _order(x.shape[0])


@record
class Spectrahedron(Set):
    r"""The symmetric positive semidefinite matrices of trace ``s``, :math:`\{X \succeq 0 : \mathrm{tr} X = s\}`.

    The projection is :math:`U \max(\Lambda - t, 0) U^\top`: the eigenvalues are projected onto the simplex. Beside the
    derivative of :class:`PositiveSemidefinite`, shifted by ``t``, there is that of the threshold, :math:`\dot t =
    (\sum_{i \in S} (U^\top T U)_{ii} - \dot s)/|S|` over the eigenvalues ``S`` above it.

    Parameters
    ----------
    trace
        ``s``, positive.
    symmetrize
        See :class:`PositiveSemidefinite`.

    Raises
    ------
    ValueError
        If the trace is not a positive scalar, or the unknown not a symmetric matrix.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Spectrahedron
    >>> print(Spectrahedron(1.0).project(jnp.array([[2.0, 0.0], [0.0, 0.0]])))
    [[1. 0.]
     [0. 0.]]
    """

    trace: Any = 1.0
    symmetrize: bool = field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        require_positive("Spectrahedron's trace", self.trace)

    def project(self, x: Tree) -> Tree:
        """Project the eigenvalues onto the simplex."""
        self.check(x)
        # one decomposition: two at once are twice the work
        return symmetric_adaptive(_above, _lowered, x, positive(self.trace), divided=_above_divided)[0]

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the distance at which an eigenvalue crosses the threshold."""
        self.check(x)
        values = jnp.linalg.eigvalsh(x)
        return smallest(support_distances(values, project_simplex(values, self.trace)), x)

    def support(self, direction: Tree) -> jax.Array:
        """Return ``s`` times the largest eigenvalue of the direction."""
        self.check(direction)
        return self.trace * jnp.linalg.eigvalsh(direction)[-1]

    def check(self, x: Tree) -> None:
        """Raise unless the trace is a scalar and ``x`` a symmetric matrix."""
        _check_symmetric("Spectrahedron", x, self.symmetrize)
        _check_scalar("Spectrahedron's trace", self.trace)


class _SingularValueBall(Set):
    """Base of the balls whose norm is one of the singular values."""

    radius: Any

    def __post_init__(self) -> None:
        require_positive(f"{self.name}'s radius", self.radius)

    def check(self, x: Tree) -> None:
        """Raise unless the radius is a scalar and ``x`` a matrix."""
        _check_matrix(self.name, x)
        _check_scalar(f"{self.name}'s radius", self.radius)


@record
class SpectralNormBall(_SingularValueBall):
    r"""The matrices whose singular values are at most ``r``, :math:`\{X : \|X\|_2 \le r\}`; any shape.

    The projection clips the singular values, :math:`U \min(\Sigma, r) V^\top`.

    Raises
    ------
    ValueError
        If the radius is not a positive scalar, or the unknown not a matrix.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import SpectralNormBall
    >>> print(SpectralNormBall(1.0).project(jnp.array([[3.0, 0.0], [0.0, 0.5]])))
    [[1.  0. ]
     [0.  0.5]]
    """

    radius: Any = 1.0

    def project(self, x: Tree) -> Tree:
        """Clip the singular values."""
        self.check(x)
        return clip_singular_values(x, positive(self.radius))

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the distance of the nearest singular value from the radius."""
        self.check(x)
        return jnp.min(jnp.abs(jnp.linalg.svd(x, compute_uv=False) - self.radius))

    def support(self, direction: Tree) -> jax.Array:
        """Return the radius times the nuclear norm of the direction."""
        self.check(direction)
        return self.radius * jnp.sum(jnp.linalg.svd(direction, compute_uv=False))


@record
class NuclearNormBall(_SingularValueBall):
    r"""The matrices whose singular values sum to at most ``r``, :math:`\{X : \|X\|_* \le r\}`; any shape.

    Outside, the projection is :math:`U \max(\Sigma - t, 0) V^\top` with ``t`` such that the singular values sum to
    ``r``. Its derivative splits :math:`M = U^\top T V` into its symmetric and skew parts, which are multiplied by
    :math:`(\sigma_i^+ - \sigma_j^+)/(\sigma_i - \sigma_j)` and :math:`(\sigma_i^+ + \sigma_j^+)/(\sigma_i + \sigma_j)`
    with :math:`\sigma^+ = \max(\sigma - t, 0)`; what leaves the range of ``U`` is multiplied by
    :math:`\sigma_j^+/\sigma_j`, and :math:`\dot t = (\sum_{i \in S} M_{ii} - \dot r)/|S|` over the singular values
    ``S`` above the threshold.

    Raises
    ------
    ValueError
        If the radius is not a positive scalar, or the unknown not a matrix.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import NuclearNormBall
    >>> print(NuclearNormBall(1.0).project(jnp.array([[3.0, 0.0], [0.0, 0.5]])))
    [[1. 0.]
     [0. 0.]]
    """

    radius: Any = 1.0

    def project(self, x: Tree) -> Tree:
        """Soft-threshold the singular values to the radius."""
        self.check(x)
        shrunk, (top, level) = singular_adaptive(_shrunk, _shrinkage, x, positive(self.radius), divided=_shrunk_divided)
        return jnp.where(top <= -level, x, shrunk)

    def kink_distance(self, x: Tree) -> jax.Array:
        """Return the distance to the sphere, or at which a singular value crosses the threshold."""
        self.check(x)
        values = jnp.linalg.svd(x, compute_uv=False)
        excess = jnp.sum(values) - self.radius
        sphere = jnp.abs(excess) / math.sqrt(min(x.shape))
        crossing = jnp.min(support_distances(values, project_simplex(values, self.radius)))
        return jnp.where(excess > 0, jnp.minimum(sphere, crossing), sphere)

    def support(self, direction: Tree) -> jax.Array:
        """Return the radius times the largest singular value of the direction."""
        self.check(direction)
        return self.radius * jnp.linalg.svd(direction, compute_uv=False)[0]
