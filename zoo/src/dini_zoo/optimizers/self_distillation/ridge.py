r"""Kernel ridge regression, solved and differentiated by dini.

.. math:: \beta = \arg\min_\beta \; \tfrac12 \|Y - K\beta\|^2 + \tfrac\lambda2 \operatorname{tr}(\beta^\top K \beta)
          = (K + \lambda I)^{-1} Y .

With weights :math:`w_i > 0` on the squared errors of the points and :math:`R = \operatorname{diag}(\sqrt w)`, it is
:math:`\beta = R (R K R + \lambda I)^{-1} R Y`.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini

from ...kit.checking import not_negative

Scalar = Float[Array, ""] | float
#: Of each point one number or a row of them.
Targets = Float[Array, "n *c"]

_CHOLESKY = dini.linear.Dense("cholesky")


class KernelRidgeFit(eqx.Module):
    r"""A function :math:`f(x) = k(x, X) \beta` that was fitted to targets."""

    dual_coef: Targets
    r""":math:`\beta`."""
    fitted: Targets
    r"""Its values at the training points, :math:`K \beta`."""

    def predict(self, K_new: Float[Array, "m n"]) -> Float[Array, m * c]:
        """Its values at other points; the rows of `K_new` are these, its columns the training points."""
        return jnp.asarray(K_new) @ self.dual_coef


def kernel_ridge_fit(
    K: Float[Array, "n n"],
    Y: Targets,
    ridge: Scalar,
    weights: Float[Array, " n"] | None = None,
    *,
    linear_solver: Any = None,
) -> KernelRidgeFit:
    r"""Fit targets by kernel ridge regression.

    The solve is :func:`dini.linear.solve`: the fit is differentiable in all of its arguments, of any order and in both
    modes, and raises where the system was not solved.

    Parameters
    ----------
    K
        The kernel between the training points, symmetric and positive semidefinite.
    Y
        A number or a row of numbers for each training point.
    ridge
        :math:`\lambda`. It is not divided by the number of points.
    weights
        :math:`w`, of the squared errors; ones if they are not given.
    linear_solver
        One of :mod:`dini.linear`'s for each column; Cholesky's factorization if it is not given. For very many points
        take `dini.linear.CG()`: then no factorization says whether `K` is semidefinite, but that two points alone must
        be.

    Raises
    ------
    ValueError
        If shapes do not fit, `K` is not symmetric or not positive semidefinite, so that the problem has no minimum,
        `ridge` is negative, or is zero where `K` is singular, or a weight is not positive. Values are looked at where
        they are known: outside of `jit`, and not under a derivative. Elsewhere the fit to a `K` that is no kernel is
        not a number.
    DerivativeError
        If the system was not solved, as with a negative `ridge` under `jit`.

    Examples
    --------
    >>> import jax
    >>> x = jax.numpy.linspace(0.0, 1.0, 5)[:, None]
    >>> value = lambda ridge: kernel_ridge_fit(gaussian_kernel(x, x, 2.0), x[:, 0], ridge).fitted[-1]
    >>> print(f"{value(0.1):.3f} {jax.grad(value)(0.1):.3f}")
    0.897 -0.667
    """
    K, Y, ridge, weights = checked(K, Y, ridge, weights)
    sound = _minors(K) if linear_solver is not None else _semidefinite(K)
    if (known := values(sound)) is not None and not known:
        d = np.linalg.eigvalsh(np.asarray(K))
        raise ValueError(f"K must be positive semidefinite: its eigenvalues are from {d[0]:.1e} to {d[-1]:.1e}.")
    if linear_solver is None:
        _require_regular(K, ridge)
    root = square_root(weights, Y)
    solver = _CHOLESKY if linear_solver is None else linear_solver

    def column(y: Float[Array, " n"]) -> Float[Array, " n"]:
        rows = jnp.ones_like(y) if weights is None else jnp.sqrt(weights)
        matvec = lambda w: rows * (K @ (rows * w)) + ridge * w
        how: dict[str, Any] = {"structure": "positive definite", "solver": solver}
        return dini.linear.solve(matvec, y, **how, name="kernel ridge regression")

    solve = column if Y.ndim == 1 else jax.vmap(column, in_axes=1, out_axes=1)
    # under jit no error can be raised: a wrong result is NaN, and so are its derivatives
    dual_coef = root * solve(root * Y) * jnp.where(sound, 1.0, jnp.nan).astype(Y.dtype)
    return KernelRidgeFit(dual_coef, K @ dual_coef)


def squared_distances(X: Float[Array, "m p"], Z: Float[Array, "n p"]) -> Float[Array, "m n"]:
    r""":math:`\|x_i - z_j\|^2`, never negative."""
    X, Z = jnp.asarray(X), jnp.asarray(Z)
    if X.ndim != 2 or Z.ndim != 2 or X.shape[1] != Z.shape[1]:
        raise ValueError(f"X and Z must have points of one dimension in rows: given {X.shape} and {Z.shape}.")
    middle = jnp.mean(Z, axis=0)  # so that little cancels
    X, Z = X - middle, Z - middle
    return jnp.maximum(jnp.sum(X**2, axis=1)[:, None] + jnp.sum(Z**2, axis=1) - 2 * X @ Z.T, 0.0)


def gaussian_kernel(X: Float[Array, "m p"], Z: Float[Array, "n p"], gamma: Scalar) -> Float[Array, "m n"]:
    r""":math:`k(x, z) = \exp(-\gamma \|x - z\|^2)` for the rows of `X` and of `Z`.

    Raises `ValueError` for a negative `gamma`, with which it is no kernel, and for points of unlike dimensions.
    """
    not_negative("gamma", gamma)
    return jnp.exp(-gamma * squared_distances(X, Z))


def checked(K: Any, Y: Any, ridge: Any, weights: Any) -> tuple[Array, Array, Array, Array | None]:
    """The arguments of a fit as arrays of one precision, or `ValueError`."""
    kind = jnp.result_type(float, *(one for one in (K, Y, weights) if one is not None and hasattr(one, "dtype")))
    K, Y, ridge = (jnp.asarray(one, kind) for one in (K, Y, ridge))
    if K.ndim != 2 or K.shape[0] != K.shape[1] or not K.size:
        raise ValueError(f"K must be a square matrix, the kernel between the training points: given {K.shape}.")
    if Y.ndim not in (1, 2) or len(Y) != len(K):
        raise ValueError(f"Y must have a number or a row for each of the {len(K)} training points: given {Y.shape}.")
    if ridge.ndim:
        raise ValueError(f"ridge must be one number: given an array of shape {ridge.shape}.")
    if (known := values(K)) is not None:
        apart, size = np.max(np.abs(known - known.T)), np.max(np.abs(known))
        if not apart <= asymmetry(kind) * size:
            raise ValueError(f"K must be symmetric and finite: it and its transpose differ by {apart:.1e}.")
    if (known := values(ridge)) is not None and not known >= 0:
        raise ValueError(f"ridge must not be negative: given {known}.")
    if weights is not None:
        weights = jnp.asarray(weights, kind)
        if weights.shape != (len(K),):
            raise ValueError(f"weights must have a number for each of the {len(K)} points: given {weights.shape}.")
        if (known := values(weights)) is not None and not np.all(known > 0):
            raise ValueError(f"weights must be positive: the least is {np.min(known)}.")
    return K, Y, ridge, weights


def values(x: Any) -> np.ndarray | None:
    """The numbers of an array, or `None` while it is traced."""
    return None if isinstance(x, jax.core.Tracer) else np.asarray(x)


def square_root(weights: Array | None, like: Array) -> Array:
    """The square roots of the weights, to be multiplied with the rows of targets."""
    if weights is None:
        return jnp.ones((), like.dtype)
    return jnp.sqrt(weights).reshape(-1, *(1,) * (like.ndim - 1))


def asymmetry(kind: Any) -> float:
    """By how much of its size a kernel may differ from its transpose: by rounding."""
    return max(1e-8, 4 * float(jnp.finfo(kind).eps))


def rounding(K: Array) -> Array:
    """By how much an eigenvalue of a kernel may be below zero, relative to the greatest: its rounding error."""
    return max(10, len(K)) * float(jnp.finfo(K.dtype).eps)


@jax.jit
def _semidefinite(K: Array) -> Array:
    """Whether a matrix is symmetric and has no eigenvalue below zero, both up to rounding."""
    K = jax.lax.stop_gradient(K)
    size = jnp.max(jnp.sum(jnp.abs(K), axis=1))
    # of a matrix of zeros the shift must not be zero
    shift = jnp.where(size > 0, rounding(K) * size, 1.0)
    factor = jnp.linalg.cholesky(K + shift * jnp.eye(len(K), dtype=K.dtype))
    return jnp.all(jnp.isfinite(factor)) & _symmetric(K)


@jax.jit
def _minors(K: Array) -> Array:
    """Whether a matrix is symmetric and semidefinite on each pair of points: what that takes of all, not enough."""
    K = jax.lax.stop_gradient(K)
    d = jnp.diag(K)
    bounds = (1 + rounding(K)) * jnp.outer(d, d)
    return jnp.all(d >= 0) & jnp.all((bounds >= K**2) | jnp.eye(len(K), dtype=bool)) & _symmetric(K)


def _symmetric(K: Array) -> Array:
    return jnp.max(jnp.abs(K - K.T)) <= asymmetry(K.dtype) * jnp.max(jnp.abs(K))


def _require_regular(K: Array, ridge: Array) -> None:
    """Raise where there is no ridge and `K` is singular, as far as both are known."""
    known, strength = values(K), values(ridge)
    if known is None or strength is None or strength > 0:
        return
    d = np.linalg.eigvalsh(known)
    if not d[0] > len(known) * np.finfo(known.dtype).eps * d[-1]:
        raise ValueError(
            f"ridge must be positive where K is singular: given {strength}, and the eigenvalues of K are from "
            f"{d[0]:.1e} to {d[-1]:.1e}."
        )
