r"""Rotations and stretches of small matrices, and isotropic functions of them, with derivatives that exist at ties.

A deformation gradient :math:`F = U \Sigma V^\top` starts as the identity, where all its singular values are equal and
:math:`U` and :math:`V` have no derivative. What is built from them here has one: nothing below differentiates them.

References
----------
Papadopoulo and Lourakis, "Estimating the Jacobian of the singular value decomposition", ECCV 2000.

Stomakhin, Howes, Schroeder and Teran, "Energetically consistent invertible elasticity", SCA 2012.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import dini

_SWEEPS = {2: 1, 3: 6}


def require_matrix(name: str, F: Any) -> int:
    """The order of a matrix; raises `ValueError` unless it is 2 by 2 or 3 by 3."""
    if jnp.shape(F) not in ((2, 2), (3, 3)):
        raise ValueError(f"{name} must be a matrix of 2 × 2 or 3 × 3: given shape {jnp.shape(F)}. Use jax.vmap.")
    return jnp.shape(F)[0]


def _turned(columns: list[Any], i: int, j: int, c: Any, s: Any) -> None:
    columns[i], columns[j] = c * columns[i] - s * columns[j], s * columns[i] + c * columns[j]


def _jacobi(F: Any) -> tuple[list[Any], list[Any]]:
    """The columns of `F V`, orthogonal and of falling length, and those of the rotation `V`: one-sided Jacobi."""
    d = F.shape[0]
    pairs = [(i, j) for i in range(d) for j in range(i + 1, d)]

    def sweep(_: Any, state: Any) -> Any:
        B, V = map(list, state)
        for i, j in pairs:
            a, b, c = B[i] @ B[i], B[i] @ B[j], B[j] @ B[j]
            zeta = (c - a) / jnp.where(b == 0, 1, 2 * b)
            # the smaller of two angles
            t = jnp.where(zeta >= 0, 1, -1) / (jnp.abs(zeta) + jnp.sqrt(1 + zeta**2))
            t = jnp.where(b == 0, 0, t)
            cos = 1 / jnp.sqrt(1 + t**2)
            for columns in (B, V):
                _turned(columns, i, j, cos, t * cos)
        return tuple(B), tuple(V)

    identity = jnp.eye(d, dtype=F.dtype) + 0 * F  # as NaN as F is
    state = tuple(F[:, i] for i in range(d)), tuple(identity[:, i] for i in range(d))
    B, V = map(list, jax.lax.fori_loop(0, _SWEEPS[d], sweep, state))
    for i, j in ((0, 1), (1, 2), (0, 1)) if d == 3 else ((0, 1),):
        wrong = jnp.where(B[i] @ B[i] < B[j] @ B[j], 1, 0).astype(F.dtype)
        for columns in (B, V):  # a quarter turn: the determinant stays
            _turned(columns, i, j, 1 - wrong, -wrong)
    return B, V


def _signed(F: Any, B: list[Any]) -> Any:
    lengths = jnp.stack([jnp.sqrt(b @ b) for b in B])
    return lengths.at[-1].multiply(jnp.where(determinant(F) < 0, -1, 1))


@jax.custom_jvp
def svd(F: Float[Array, "d d"]) -> tuple[Float[Array, "d d"], Float[Array, " d"], Float[Array, "d d"]]:
    r"""The decomposition :math:`F = U \operatorname{diag}(\sigma) V^\top` with *rotations* :math:`U` and :math:`V`.

    The absolute values fall, and where :math:`\det F < 0` the last singular value is negative. Where two vanish,
    :math:`U` is not determined and NaN. For matrices of 2 × 2 and 3 × 3; a batch is `jax.vmap`'s affair.

    The derivative of :math:`U` and :math:`V` is infinite or NaN where singular values are equal, as at the identity:
    see :func:`polar`, :func:`singular_values` and :func:`isotropic`.
    """
    d = require_matrix("F", F)
    B, V = _jacobi(F)
    first = B[0] / jnp.sqrt(B[0] @ B[0])
    if d == 2:
        U = [first, jnp.stack([-first[1], first[0]])]
    else:
        second = B[1] - (first @ B[1]) * first
        second = second / jnp.sqrt(second @ second)
        U = [first, second, jnp.cross(first, second)]
    # without this a compiler may compute all of it again for each element of what comes next
    return jax.lax.optimization_barrier((jnp.stack(U, axis=1), _signed(F, B), jnp.stack(V, axis=1)))


@svd.defjvp
def _svd_jvp(primals: Any, tangents: Any) -> Any:
    # with P = Uᵀ dU and Q = Vᵀ dV, both skew: A = Uᵀ dF V = P Σ + dΣ − Σ Q
    (F,), (dF,) = primals, tangents
    U, s, V = found = svd(F)
    A = U.T @ dF @ V
    gap = s[None, :] ** 2 - s[:, None] ** 2 + jnp.diag(jnp.full_like(s, jnp.inf))
    P = (A * s[None, :] + A.T * s[:, None]) / gap
    Q = (A * s[:, None] + A.T * s[None, :]) / gap
    return found, (U @ P, jnp.diagonal(A), V @ Q)


def singular_values(F: Float[Array, "d d"]) -> Float[Array, " d"]:
    r"""The singular values of :func:`svd`, with the derivative :math:`d\sigma_i = u_i^\top\, dF\, v_i`.

    It is finite wherever no two vanish. Where two are equal, a single sorted value has a kink, and this is the
    derivative of one of its smooth branches; every symmetric function of the values has its exact derivative.
    """
    return _values(F, *svd(F))


@jax.custom_jvp
def _values(F: Any, U: Any, s: Any, V: Any) -> Any:
    del F, U, V
    return s


@_values.defjvp
def _values_jvp(primals: Any, tangents: Any) -> Any:
    # the tangents of U and V count in a second derivative, when this is differentiated
    F, U, s, V = primals
    return _values(F, U, s, V), jnp.diagonal(U.T @ tangents[0] @ V)


def determinant(F: Float[Array, "d d"]) -> Float[Array, ""]:
    """The determinant of a matrix of 2 × 2 or 3 × 3, as a polynomial."""
    if require_matrix("F", F) == 2:
        return F[0, 0] * F[1, 1] - F[0, 1] * F[1, 0]
    return F[0] @ jnp.cross(F[1], F[2])


def polar(F: Float[Array, "d d"]) -> Float[Array, "d d"]:
    r"""The rotation :math:`R` of the polar decomposition :math:`F = R S`, with :math:`S` symmetric.

    :math:`R = U V^\top` is the rotation next to :math:`F`; it is proper where :math:`\det F < 0`, too.

    Its derivative is that of the root of :math:`R^\top F - F^\top R = 0` among rotations, by the implicit function
    theorem: :math:`dR = R\, [w]_\times` with

    .. math:: (\operatorname{tr}(S) I - S)\, w = \operatorname{axial}(R^\top dF - dF^\top R), \qquad
        \operatorname{axial}(A) = (A_{32}, A_{13}, A_{21}),

    in the plane :math:`\operatorname{tr}(S)\, \omega = (R^\top dF - dF^\top R)_{21}`. It is smooth at :math:`F = I`, to
    any order, and infinite or NaN where :math:`\sigma_2 + \sigma_3 = 0` and the nearest rotation jumps.

    :func:`polar_root` is the same with dini's derivative.
    """
    return polar_and_values(F)[0]


def polar_and_values(F: Float[Array, "d d"]) -> tuple[Float[Array, "d d"], Float[Array, " d"]]:
    """The rotation of :func:`polar` and the :func:`singular_values`, by one decomposition."""
    U, s, V = svd(F)
    return _rotation(F, U @ V.T), _values(F, U, s, V)


@jax.custom_jvp
def _rotation(F: Any, R: Any) -> Any:
    del F
    return R


@_rotation.defjvp
def _rotation_jvp(primals: Any, tangents: Any) -> Any:
    F, dF = primals[0], tangents[0]
    R = _rotation(*primals)
    S, skew = R.T @ F, R.T @ dF
    skew = skew - skew.T
    if len(F) == 2:
        return R, R @ (skew / jnp.trace(S))
    K = jnp.trace(S) * jnp.eye(3, dtype=S.dtype) - (S + S.T) / 2
    # the inverse by its adjugate: a compiler fuses it, and calls no library for each particle
    cofactors = jnp.stack([jnp.cross(K[1], K[2]), jnp.cross(K[2], K[0]), jnp.cross(K[0], K[1])])
    axial = jnp.stack([skew[2, 1], skew[0, 2], skew[1, 0]])
    w = axial @ cofactors / (K[0] @ cofactors[0])
    return R, jnp.cross(R, w)  # row by row, as R [w]× is


def isotropic(
    values: Callable[..., Float[Array, " d"]], F: Float[Array, "d d"], *parameters: Any
) -> Float[Array, "d d"]:
    r"""The isotropic function :math:`\Phi(F) = U \operatorname{diag}(\varphi(\sigma)) V^\top` of a matrix.

    With :math:`A = U^\top dF\, V` the derivative is :math:`U B V^\top`, where

    .. math:: B_{ii} = \sum_j \partial_j \varphi_i A_{jj}, \qquad
        B_{ij} = \frac{\varphi_i - \varphi_j}{\sigma_i - \sigma_j} \frac{A_{ij} + A_{ji}}{2}
               + \frac{\varphi_i + \varphi_j}{\sigma_i + \sigma_j} \frac{A_{ij} - A_{ji}}{2},

    and near a tie the first quotient is its limit :math:`\partial_i \varphi_i - \partial_i \varphi_j`, by a mean
    over :math:`i` and :math:`j` whose error is of second order in the gap. So it exists at :math:`F = I`, where that of
    :math:`U` and :math:`V` does not. A second derivative exists where singular values differ, and is NaN at ties.

    Parameters
    ----------
    values
        :math:`\varphi(\sigma, *\text{parameters})`: a vector like :math:`\sigma`; when two elements of :math:`\sigma`
        change places, those of the result do. It must not close over values to be differentiated.
    F
        A matrix of 2 × 2 or 3 × 3.
    parameters
        Arrays or numbers that :math:`\varphi` takes, and which are differentiated by.
    """
    require_matrix("F", F)
    return _isotropic(values, F, tuple(map(jnp.asarray, parameters)))


@jax.custom_jvp
def _between(F: Any, U: Any, s: Any, V: Any, phi: Any, jacobian: Any) -> Any:
    """`U diag(φ) Vᵀ` for values that have been computed; the Jacobian is for the derivative alone."""
    del F, s, jacobian
    return (U * phi) @ V.T


@_between.defjvp
def _between_jvp(primals: Any, tangents: Any) -> Any:
    _, U, s, V, phi, J = primals
    dF, *_, dphi, _ = tangents
    A = U.T @ dF @ V
    near = jnp.finfo(s.dtype).eps ** (1 / 3) * jnp.max(jnp.abs(s))
    gap, total = s[:, None] - s[None, :], s[:, None] + s[None, :]
    tie = jnp.abs(gap) <= near
    slope = jnp.diagonal(J)
    limit = (slope[:, None] + slope[None, :] - J - J.T) / 2
    quotient = jnp.where(tie, limit, (phi[:, None] - phi[None, :]) / jnp.where(tie, 1, gap))
    off = 1 - jnp.eye(len(s), dtype=s.dtype)
    mean = (phi[:, None] + phi[None, :]) / jnp.where(off == 0, 1, total)
    B = off * (quotient * (A + A.T) / 2 + mean * (A - A.T) / 2) + jnp.diag(dphi)
    return _between(*primals), U @ B @ V.T


def _isotropic(values: Any, F: Any, parameters: Any) -> Any:
    U, s, V = svd(F)
    of = lambda s: values(s, *parameters)
    phi = of(_values(F, U, s, V))
    if jnp.shape(phi) != jnp.shape(s):
        raise ValueError(f"values must return a vector like sigma, {jnp.shape(s)}: given {jnp.shape(phi)}.")
    return _between(F, U, s, V, phi, jax.jacfwd(of)(s))


def _away_from_polar(R: Any, F: Any) -> Any:
    """Zero where `R` is orthogonal and `Rᵀ F` symmetric: six equations and three, in the two parts of one matrix."""
    C = R.T @ F / jnp.sqrt(jnp.sum(F * F))
    return C - C.T + R.T @ R - jnp.eye(len(F), dtype=F.dtype)


@dini.custom_root(_away_from_polar)
def _polar_root(R: Any, F: Any) -> Any:
    del R
    U, _, V = svd(jax.lax.stop_gradient(F))
    return U @ V.T


def polar_root(F: Float[Array, "d d"]) -> Float[Array, "d d"]:
    r"""The rotation of :func:`polar` with dini's derivative, as the root of

    .. math:: R^\top F - F^\top R + R^\top R - I = 0,

    whose symmetric part says that :math:`R` is orthogonal and whose skew part that :math:`R^\top F` is symmetric. The
    linear system has nine unknowns in place of three.
    """
    require_matrix("F", F)
    return _polar_root(None, F)
