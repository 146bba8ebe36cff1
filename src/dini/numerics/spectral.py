"""Functions of the eigenvalues of a symmetric matrix, or of the singular values of any matrix, with their derivatives.

A decomposition has no derivative where eigenvalues tie, a function of it has. So these are differentiated as one: by
divided differences (Daleckii and Krein 1965; Higham, "Functions of Matrices", 2008, section 3.2), which at a tie become
the derivative of the scalar function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..deferred import Array, Float
from ..trees import Tree
from ..trees.products import dot

Scalar = Callable[..., Any]
Level = Callable[..., tuple[Any, ...]]


def divided_difference(fun: Scalar, a: jax.Array, b: jax.Array, *parameters: Any) -> jax.Array:
    r"""Return :math:`f[a, b] = (f(a) - f(b)) / (a - b)`, the derivative at the midpoint where the two nearly agree.

    Nearly is a relative distance of the cube root of the rounding unit, where cancellation in the quotient costs as
    much as the midpoint's second-order error.
    """
    near = jnp.finfo(a.dtype).eps ** (1 / 3) * jnp.maximum(jnp.abs(a), jnp.abs(b))
    tie = jnp.abs(a - b) <= near
    middle = (a + b) / 2
    slope = jax.jvp(lambda u: fun(u, *parameters), (middle,), (jnp.ones_like(middle),))[1]
    return jnp.where(tie, slope, (fun(a, *parameters) - fun(b, *parameters)) / jnp.where(tie, 1, a - b))


def _divided(fun: Scalar, divided: Scalar | None, a: jax.Array, b: jax.Array, parameters: Any) -> jax.Array:
    """Return the table of divided differences of all pairs of two lists of points."""
    a, b = jnp.broadcast_arrays(a[..., :, None], b[..., None, :])
    parameters = [p[..., None] if jnp.ndim(p) else p for p in parameters]
    return partial(divided_difference, fun)(a, b, *parameters) if divided is None else divided(a, b, *parameters)


def _direction(fun: Scalar, values: jax.Array, parameters: Any, tangents: Tree) -> jax.Array:
    """Return the derivative of the scalar function along its parameters."""
    return jax.jvp(lambda *p: fun(values, *p), tuple(parameters), tuple(tangents))[1]


def _times_diagonal(u: jax.Array, diagonal: jax.Array) -> jax.Array:
    return u * diagonal[..., None, :]


def _diagonal(values: jax.Array) -> jax.Array:
    n = values.shape[-1]
    return values[..., None] * jnp.broadcast_to(jnp.eye(n, dtype=values.dtype), (*values.shape, n))


def _prepare(x: jax.Array, parameters: Any) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Return the operands in a precision that LAPACK knows."""
    dtype = trees.single(x.dtype)
    # LAPACK's iterations need not end where a matrix holds an infinity
    finite = jnp.all(jnp.isfinite(x), axis=(-2, -1), keepdims=True)
    return jnp.where(finite, x, jnp.nan).astype(dtype), tuple(jnp.asarray(p, dtype) for p in parameters)


def _levels(level: Level | None, values: jax.Array, parameters: Any) -> tuple[jax.Array, ...]:
    """Return the parameters of the scalar function, which may depend on the spectrum."""
    return tuple(parameters) if level is None else level(values, *parameters)


def _levels_along(level: Level | None, values: Any, core: Any, parameters: Any, tangents: Tree) -> tuple[Any, Any]:
    """Return the parameters and their derivatives, for the first order of what happens to the spectrum."""
    if level is None:
        return tuple(parameters), tuple(tangents)
    moved = jnp.diagonal(core, axis1=-2, axis2=-1)
    return jax.jvp(lambda v, p: level(v, *p), (values, tuple(parameters)), (moved, tuple(tangents)))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _symmetric(fun: Scalar, divided: Scalar | None, level: Level | None, x: jax.Array, parameters: Any) -> Any:
    values, u = jnp.linalg.eigh(x, symmetrize_input=False)
    levels = _levels(level, values, parameters)
    return dot(_times_diagonal(u, fun(values, *levels)), u.mT), levels


@_symmetric.defjvp
def _(fun: Scalar, divided: Scalar | None, level: Level | None, primals: Tree, tangents: Tree) -> Any:
    x, parameters = primals
    dx, dparameters = tangents
    values, u = jnp.linalg.eigh(x, symmetrize_input=False)
    core = dot(dot(u.mT, dx), u)
    levels, dlevels = _levels_along(level, values, core, parameters, dparameters)
    along = _diagonal(_direction(fun, values, levels, dlevels))
    # what the levels take off again is taken off before a product could round it
    inner = _divided(fun, divided, values, values, levels) * core + along
    return _symmetric(fun, divided, level, x, parameters), (dot(dot(u, inner), u.mT), dlevels)


def symmetric_function(
    fun: Scalar, x: Float[Array, "*batch n n"], *parameters: Any, divided: Scalar | None = None
) -> Float[Array, "*batch n n"]:
    r"""Return :math:`f(X) = U f(\Lambda) U^\top` for the symmetric part :math:`U \Lambda U^\top` of a matrix.

    **Derivative.** :math:`U (D \circ (U^\top \dot X U)) U^\top` with the divided differences :math:`D_{ij} =
    f[\lambda_i, \lambda_j]`, finite also where eigenvalues tie. In a parameter: :math:`U \,\partial_\theta f(\Lambda)\,
    U^\top`. Second derivatives differentiate the decomposition and are NaN at ties.

    Parameters
    ----------
    fun
        ``f(values, *parameters)``, elementwise; a function that stays the same object, for compiled programs.
    x
        A square matrix, or a batch of them.
    parameters
        Scalars.
    divided
        ``f[a, b]`` as a function ``divided(a, b, *parameters)`` where it is known without cancellation; it must return
        the derivative where ``a == b``. Default: :func:`divided_difference`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.numerics.spectral import symmetric_function
    >>> print(symmetric_function(jnp.abs, jnp.array([[0.0, 2.0], [2.0, 0.0]])).round(3))
    [[2. 0.]
     [0. 2.]]
    """
    return symmetric_adaptive(fun, None, x, *parameters, divided=divided)[0]


def symmetric_adaptive(
    fun: Scalar, level: Level | None, x: Float[Array, "*batch n n"], *parameters: Any, divided: Scalar | None = None
) -> tuple[Float[Array, "*batch n n"], tuple[Any, ...]]:
    r"""Return :math:`f(X)` as :func:`symmetric_function` does, for a function that depends on the spectrum itself.

    One decomposition serves both: the eigenvalues decide on the parameters, as in the projection onto the
    spectrahedron, where all are lowered by one threshold. The parameters' derivative follows from that of the
    eigenvalues, :math:`\dot\lambda = \mathrm{diag}(U^\top \dot X U)`; that is right also where eigenvalues tie if
    ``level`` is a smooth symmetric function of them.

    Parameters
    ----------
    fun, x, divided
        As in :func:`symmetric_function`.
    level
        ``level(values, *parameters)`` returns a tuple of the parameters of ``fun``, each of shape ``(*batch, 1)``; the
        eigenvalues are in ascending order. A function that stays the same object.
    parameters
        Scalars.

    Returns
    -------
    tuple
        The matrix and the parameters.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.numerics.spectral import symmetric_adaptive
    >>> divide, largest = lambda values, s: values / s, lambda values: (values[..., -1:],)
    >>> matrix, (scale,) = symmetric_adaptive(divide, largest, jnp.array([[1.0, 2.0], [2.0, 1.0]]))
    >>> print(matrix.round(3), scale)
    [[0.333 0.667]
     [0.667 0.333]] [3.]
    """
    _require_matrix("symmetric_function", x)
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(f"symmetric_function needs square matrices: given shape {x.shape}.")
    if not x.size:
        return x, parameters
    wide, parameters = _prepare((x + x.mT) / 2, parameters)
    matrix, levels = _symmetric(fun, divided, level, wide, parameters)
    return matrix.astype(x.dtype), levels


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _singular(fun: Scalar, divided: Scalar | None, level: Level | None, x: jax.Array, parameters: Any) -> Any:
    u, values, vt = jnp.linalg.svd(x, full_matrices=False)
    levels = _levels(level, values, parameters)
    return dot(_times_diagonal(u, fun(values, *levels)), vt), levels


@_singular.defjvp
def _(fun: Scalar, divided: Scalar | None, level: Level | None, primals: Tree, tangents: Tree) -> Any:
    x, parameters = primals
    dx, dparameters = tangents
    u, values, vt = jnp.linalg.svd(x, full_matrices=False)
    dv = dot(dx, vt.mT)
    core = dot(u.mT, dv)
    levels, dlevels = _levels_along(level, values, core, parameters, dparameters)
    # the eigenvalues of [[0, X], [X^T, 0]] are plus and minus the singular values, and zeros
    same = _divided(fun, divided, values, values, levels)
    opposite = _divided(fun, divided, values, -values, levels)
    lone = _divided(fun, divided, values, jnp.zeros_like(values[..., :1]), levels)[..., 0]
    along = _diagonal(_direction(fun, values, levels, dlevels))
    inner = (same * (core + core.mT) + opposite * (core - core.mT)) / 2 + along
    # what moves out of the spaces of the singular vectors; one of the two is empty
    beyond_u = dot(_times_diagonal(dv - dot(u, core), lone), vt)
    beyond_v = dot(_times_diagonal(u, lone), dot(u.mT, dx) - dot(core, vt))
    change = dot(dot(u, inner), vt) + beyond_u + beyond_v
    return _singular(fun, divided, level, x, parameters), (change, dlevels)


def singular_function(
    fun: Scalar, x: Float[Array, "*batch m n"], *parameters: Any, divided: Scalar | None = None
) -> Float[Array, "*batch m n"]:
    r"""Return :math:`U f(\Sigma) V^\top` for a matrix :math:`U \Sigma V^\top` and an *odd* function ``f``.

    **Derivative.** With :math:`M = U^\top \dot X V`, the inner part is :math:`f[\sigma_i, \sigma_j]` times the
    symmetric part of ``M`` plus :math:`f[\sigma_i, -\sigma_j]` times its antisymmetric part; the parts of
    :math:`\dot X` outside of the spaces of ``U`` and ``V`` are multiplied by :math:`f[\sigma_i, 0]`. Finite where
    singular values tie or vanish. Second derivatives differentiate the decomposition and are NaN at ties.

    Parameters
    ----------
    fun, x, parameters, divided
        As in :func:`symmetric_function`, for matrices of any shape.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.numerics.spectral import singular_function
    >>> print(singular_function(jnp.sign, jnp.array([[0.0, 2.0], [3.0, 0.0]])).round(3))
    [[0. 1.]
     [1. 0.]]
    """
    return singular_adaptive(fun, None, x, *parameters, divided=divided)[0]


def singular_adaptive(
    fun: Scalar, level: Level | None, x: Float[Array, "*batch m n"], *parameters: Any, divided: Scalar | None = None
) -> tuple[Float[Array, "*batch m n"], tuple[Any, ...]]:
    r"""Return what :func:`singular_function` does, and its parameters, which may depend on the singular values.

    Parameters
    ----------
    fun, level, x, parameters, divided
        As in :func:`symmetric_adaptive`; the singular values are in descending order, :math:`\dot\sigma =
        \mathrm{diag}(U^\top \dot X V)`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.numerics.spectral import singular_adaptive
    >>> divide, largest = lambda values, s: values / s, lambda values: (values[..., :1],)
    >>> matrix, (norm,) = singular_adaptive(divide, largest, jnp.array([[0.0, 2.0], [4.0, 0.0]]))
    >>> print(matrix.round(3), norm)
    [[0.  0.5]
     [1.  0. ]] [4.]
    """
    _require_matrix("singular_function", x)
    if not x.size:
        return x, parameters
    wide, parameters = _prepare(x, parameters)
    matrix, levels = _singular(fun, divided, level, wide, parameters)
    return matrix.astype(x.dtype), levels


def _require_matrix(name: str, x: Tree) -> None:
    if jnp.ndim(x) < 2:
        raise ValueError(f"{name} needs a matrix: given shape {jnp.shape(x)}.")
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise TypeError(f"{name} needs a real floating-point matrix: given {jnp.result_type(x).name}.")


def soft_threshold(x: Float[Array, "*batch m n"], threshold: Any) -> Float[Array, "*batch m n"]:
    r"""Return :math:`U \max(\Sigma - t, 0) V^\top`: a matrix with its singular values moved towards zero.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.numerics.spectral import soft_threshold
    >>> print(soft_threshold(jnp.array([[3.0, 0.0], [0.0, 0.5]]), 1.0))
    [[2. 0.]
     [0. 0.]]
    """
    return singular_function(_soft, x, threshold, divided=_soft_divided)


def clip_singular_values(x: Float[Array, "*batch m n"], limit: Any) -> Float[Array, "*batch m n"]:
    r"""Return :math:`U \min(\Sigma, t) V^\top`: a matrix with its singular values cut off at a limit.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.numerics.spectral import clip_singular_values
    >>> print(clip_singular_values(jnp.array([[3.0, 0.0], [0.0, 0.5]]), 1.0))
    [[1.  0. ]
     [0.  0.5]]
    """
    clipped, levels = singular_adaptive(_clipped, _limit_and_largest, x, limit, divided=_clipped_divided)
    if not x.size:
        return x
    limit, largest = levels
    # no rounding of a matrix that is left as it is
    return jnp.where((largest[..., None] <= limit) & (limit > 0), x, clipped)


def _limit_and_largest(values: jax.Array, limit: jax.Array) -> tuple[jax.Array, jax.Array]:
    return limit, values[..., :1]


def _clipped(values: jax.Array, limit: jax.Array, largest: jax.Array) -> jax.Array:
    del largest
    return jnp.clip(values, -limit, limit)


def _clipped_divided(a: jax.Array, b: jax.Array, limit: jax.Array, largest: jax.Array) -> jax.Array:
    """Return the divided differences of clipping: ratios of sums of positive numbers, without cancellation."""
    del largest
    size_a, size_b = jnp.abs(a), jnp.abs(b)
    below = jnp.maximum(limit - size_a, 0) + jnp.maximum(limit - size_b, 0)
    total = below + jnp.maximum(size_a - limit, 0) + jnp.maximum(size_b - limit, 0)
    # at the limit itself with the derivative from below
    alike = jnp.where(total > 0, below / jnp.where(total > 0, total, 1), limit > 0)
    apart = size_a + size_b
    across = (jnp.minimum(size_a, limit) + jnp.minimum(size_b, limit)) / jnp.where(apart > 0, apart, 1)
    return jnp.where(jnp.sign(a) * jnp.sign(b) < 0, across, alike)


def _soft(values: jax.Array, threshold: jax.Array) -> jax.Array:
    return values - jnp.clip(values, -threshold, threshold)


def _soft_divided(a: jax.Array, b: jax.Array, threshold: jax.Array) -> jax.Array:
    """Return the divided differences of the soft threshold without cancellation: those of clipping are exact."""
    tie = a == b
    clipped = jnp.clip(a, -threshold, threshold) - jnp.clip(b, -threshold, threshold)
    return jnp.where(tie, jnp.abs(a) > threshold, 1 - clipped / jnp.where(tie, 1, a - b)).astype(a.dtype)
