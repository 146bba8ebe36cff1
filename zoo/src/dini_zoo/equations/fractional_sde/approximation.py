r"""Fractional Brownian motion by a few Ornstein-Uhlenbeck processes that share one Brownian motion.

With :math:`x_+ = \max(x, 0)`, fractional Brownian motion of Hurst index :math:`0 < H < 1` is

.. math::
    B_I(t) = \tfrac{1}{\Gamma(H + 1/2)} \int_{-\infty}^t \big[(t - s)_+^{H - 1/2} - (-s)_+^{H - 1/2}\big] dW_s, \qquad
    B_{II}(t) = \tfrac{1}{\Gamma(H + 1/2)} \int_0^t (t - s)^{H - 1/2} dW_s,

with stationary increments (type I) or from nothing at time 0 (type II). Neither has variance one at time 1. Both are
approximated by

.. math::
    \hat B(t) = \sum_{k=1}^K \omega_k \big(Y_k(t) - Y_k(0)\big), \qquad dY_k = -\gamma_k Y_k\, dt + dW,

where :math:`Y(0)` has the stationary law (type I) or is zero (type II). The weights minimise
:math:`\int_0^T E (B - \hat B)^2 dt`: they solve :math:`A \omega = b(H)`, both known in closed form.

References
----------
Daems, Opper, Crevecoeur and Birdal, "Variational inference for SDEs driven by fractional noise", ICLR 2024 (arXiv
2310.12975). Harms and Stefanovits, "Affine representations of fractional processes with applications in mathematical
finance", Stochastic Processes and their Applications 129 (2019).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import special

from dini_zoo.kit.checking import at_least, known, not_negative, one_of, positive

type Kind = Literal["I", "II"]

KINDS = ("I", "II")
#: The Hurst indices of a `WeightTable`, and the degree of its polynomials plus one.
LOWEST, HIGHEST, NODES = 0.02, 0.98, 24
#: Eigenvalues of the scaled system below this share of the greatest are noise.
CUT_OFF = 1e-13
#: What rounding may take a relative error below zero.
NEGATIVE = 1e-8


def ou_speeds(count: int, fastest: float = 20.0, slowest: float | None = None) -> tuple[float, ...]:
    r"""Speeds :math:`\gamma_1 < \dots < \gamma_K` in geometric steps, from `slowest` to `fastest`.

    `slowest` is `1 / fastest` if it is not given; one speed alone is their geometric mean. Times are in units in which
    the horizon is about 1: for another horizon divide both by it.

    Raises `ValueError` for `count` below 1 and unless :math:`0 < \text{slowest} < \text{fastest}`.

    Examples
    --------
    >>> print([round(speed, 3) for speed in ou_speeds(3, 20.0)])
    [0.05, 1.0, 20.0]
    """
    at_least("count", count, 1)
    positive("fastest", fastest)
    slowest = 1 / fastest if slowest is None else slowest
    positive("slowest", slowest)
    if count > 1 and not slowest < fastest:
        raise ValueError(f"fastest must be more than slowest, {slowest:g}: given {fastest:g}.")
    if count == 1:
        return (float(np.sqrt(slowest * fastest)),)
    return tuple(map(float, np.geomspace(slowest, fastest, count)))


def optimal_weights(
    speeds: Sequence[float], hurst: float, horizon: float, kind: Kind = "II"
) -> Float[np.ndarray, " K"]:
    r"""The weights :math:`\omega` that minimise :math:`\int_0^T E (B - \hat B)^2 dt`, in double precision.

    Parameters
    ----------
    speeds
        :math:`\gamma`, positive and different.
    hurst
        :math:`H` in (0, 1).
    horizon
        :math:`T`.
    kind
        `"I"` or `"II"`.

    Raises
    ------
    ValueError
        For arguments outside these ranges.

    Examples
    --------
    >>> weights = optimal_weights(ou_speeds(5), 0.25, 1.0)
    >>> print([round(float(weight), 1) for weight in weights])
    [44.2, -60.9, 21.0, -3.7, 2.7]
    """
    gamma, hurst, horizon = _checked(speeds, hurst, horizon, kind), float(hurst), float(horizon)
    return _solve(normal_matrix(gamma, horizon, kind), normal_vector(gamma, hurst, horizon, kind))


def relative_error(speeds: Sequence[float], hurst: float, horizon: float, kind: Kind = "II") -> float:
    r"""What the optimal weights leave: :math:`\int_0^T E (B - \hat B)^2 dt \,/ \int_0^T E B^2 dt`.

    It is a difference of nearly equal numbers where the approximation is good: below about 1e-10 it is rounding. It is
    NaN where the numbers are so bad that it is below zero by more.

    Examples
    --------
    >>> print(f"{relative_error(ou_speeds(5), 0.7, 1.0, 'I'):.3f} {relative_error(ou_speeds(5), 0.7, 1.0):.0e}")
    0.098 1e-04
    """
    gamma, hurst, T = _checked(speeds, hurst, horizon, kind), float(hurst), float(horizon)
    A, b = normal_matrix(gamma, T, kind), normal_vector(gamma, hurst, T, kind)
    omega = _solve(A, b)
    whole = variance_scale(hurst, kind) * T ** (2 * hurst + 1) / (2 * hurst + 1)
    found = (whole - 2 * b @ omega + omega @ A @ omega) / whole
    return float(found) if found > -NEGATIVE else float("nan")


def variance_scale(hurst: Any, kind: Kind) -> Any:
    r""":math:`E B(1)^2`, so that :math:`E B(t)^2` is this times :math:`t^{2H}`.

    Type I: :math:`1 / (\Gamma(2H + 1) \sin \pi H)`. Type II: :math:`1 / (2H\, \Gamma(H + 1/2)^2)`. A function of JAX if
    `hurst` is one of its arrays, else a number in double precision.
    """
    if kind == "I":
        if isinstance(hurst, Array):
            return jnp.exp(-jax.lax.lgamma(2 * hurst + 1)) / jnp.sin(jnp.pi * hurst)
        return 1 / (special.gamma(2 * hurst + 1) * np.sin(np.pi * hurst))
    if isinstance(hurst, Array):
        return jnp.exp(-2 * jax.lax.lgamma(hurst + 0.5)) / (2 * hurst)
    return 1 / (2 * hurst * special.gamma(hurst + 0.5) ** 2)


def _checked(speeds: Sequence[float], hurst: Any, horizon: Any, kind: str) -> np.ndarray:
    """The speeds as an array, when all that is given is right."""
    one_of("kind", kind, KINDS)
    positive("horizon", horizon)
    gamma = np.asarray(speeds, np.float64)
    at_least("the number of speeds", gamma.size, 1)
    positive("speeds", gamma)
    if gamma.ndim != 1 or len(np.unique(gamma)) < len(gamma):
        raise ValueError(f"speeds must be a list of different numbers: given {speeds}.")
    if not 0 < hurst < 1:
        raise ValueError(f"hurst must be between 0 and 1: given {hurst}.")
    return gamma


def _solve(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The solution of a positive system in the units in which its diagonal is one, without directions of rounding."""
    scale = 1 / np.sqrt(np.diagonal(A))
    values, vectors = np.linalg.eigh(scale[:, None] * A * scale)
    inverse = np.where(values > CUT_OFF * values[-1], 1 / np.maximum(values, CUT_OFF * values[-1]), 0.0)
    return scale * (vectors @ (inverse * (vectors.T @ (scale * b))))


def _bent(x: np.ndarray) -> np.ndarray:
    """`x - 1 + exp(-x)` for `x ≥ 0`, without cancellation."""
    small = x < 1e-2
    y = np.where(small, x, 0.0)
    series = y**2 / 2 * (1 - y / 3 * (1 - y / 4 * (1 - y / 5 * (1 - y / 6 * (1 - y / 7)))))
    return np.where(small, series, x + np.expm1(-x))


def normal_matrix(gamma: np.ndarray, horizon: float, kind: Kind) -> Float[np.ndarray, "K K"]:
    r""":math:`A_{ij} = \int_0^T E (Y_i(t) - Y_i(0)) (Y_j(t) - Y_j(0))\, dt`."""
    total = gamma[:, None] + gamma
    if kind == "I":
        each = _bent(gamma * horizon) / gamma
        return (each[:, None] + each) / total
    return _bent(total * horizon) / total**2


def normal_vector(gamma: np.ndarray, hurst: float, horizon: float, kind: Kind) -> Float[np.ndarray, " K"]:
    r""":math:`b_k = \int_0^T E B(t) (Y_k(t) - Y_k(0))\, dt`."""
    a, x = hurst + 0.5, gamma * horizon
    # in units in which the speed is one; P and Q are the regularised incomplete gamma functions
    scale = gamma ** -(a + 1)
    if kind == "I":
        return scale * _correlated(a, x)
    return scale * (x * special.gammainc(a, x) - a * special.gammainc(a + 1, x))


def _correlated(a: float, x: np.ndarray) -> np.ndarray:
    r""":math:`2x - x^a / \Gamma(a + 1) + e^{-x} - e^x Q(a, x)`, by a series where that cancels."""
    far = np.maximum(x, 1.0)
    value = 2 * far - far**a / special.gamma(a + 1) + np.exp(-far) - scaled_upper_gamma(a, far)
    # eˣ P(a, x) = xᵃ Σ xⁿ / Γ(a + 1 + n), whose first term is the power; what else there is makes 2 (x - sinh x)
    near = np.minimum(x, 1.0)
    rest = sum(near**n / special.gamma(a + 1 + n) for n in range(1, 20))
    odd = sum(near ** (2 * k + 1) / special.factorial(2 * k + 1) for k in range(1, 10))
    return np.where(x < 1, near**a * rest - 2 * odd, value)


def scaled_upper_gamma(a: float, x: np.ndarray) -> np.ndarray:
    r""":math:`e^x\, Q(a, x)`, by Lentz' continued fraction where that is a product of a large and a small one."""
    x = np.asarray(x, np.float64)
    near = np.minimum(x, 30.0)
    direct = special.gammaincc(a, near) * np.exp(near)
    far = np.maximum(x, 30.0)
    # Γ(a, x) eˣ = xᵃ / (x + 1 - a - 1 (1 - a) / (x + 3 - a - 2 (2 - a) / (x + 5 - a - ...)))
    b = far + 1 - a
    c, d = np.full_like(far, np.inf), 1 / b
    fraction = d
    for i in range(1, 200):
        term = -i * (i - a)
        b = b + 2
        d = 1 / (term * d + b)
        c = b + term / c
        fraction = fraction * c * d
        if np.all(np.abs(c * d - 1) < 1e-16):
            break
    return np.where(x < 30.0, direct, far**a * fraction / special.gamma(a))


@dataclass(frozen=True)
class WeightTable:
    r"""The weights as a function of the Hurst index: polynomials through 24 exact solutions, in any precision.

    The linear system is too badly conditioned for single precision, and for type II at times for double. It is solved
    in double precision at the Chebyshev points of [0.02, 0.98]; the polynomial and its derivatives in `hurst` follow by
    a recurrence, in the precision of `hurst`.

    Parameters
    ----------
    speeds, horizon, kind
        As for :func:`optimal_weights`, with the same errors.

    Examples
    --------
    >>> import jax
    >>> table = WeightTable(ou_speeds(5), 1.0, "II")
    >>> print(jax.jit(table)(0.25).round(1))
    [ 44.2 -60.9  21.   -3.7   2.7]
    """

    speeds: tuple[float, ...]
    horizon: float = 1.0
    kind: Kind = "II"

    def __post_init__(self) -> None:
        _checked(self.speeds, 0.5, self.horizon, self.kind)

    @property
    def coefficients(self) -> Float[np.ndarray, "n K"]:
        """Of the Chebyshev polynomials."""
        return _coefficients(self)

    def __call__(self, hurst: Float[Array, ""]) -> Float[Array, " K"]:
        """The weights. They are NaN for an index that is outside of the table and not known in time; else it raises."""
        if known(hurst) and not LOWEST <= hurst <= HIGHEST:
            raise ValueError(
                f"hurst must be from {LOWEST} to {HIGHEST}: given {hurst}. Take `optimal_weights` for others."
            )
        hurst = jnp.asarray(hurst, jnp.result_type(hurst, jnp.float32))
        z = (2 * hurst - (LOWEST + HIGHEST)) / (HIGHEST - LOWEST)
        found = jnp.asarray(self.coefficients, z.dtype)
        one, other = jnp.zeros_like(found[0]), jnp.zeros_like(found[0])
        for c in found[:0:-1]:
            one, other = c + 2 * z * one - other, one
        return jnp.where(jnp.abs(z) <= 1 + 1e-6, found[0] + z * one - other, jnp.nan)


@functools.cache
def _coefficients(table: WeightTable) -> np.ndarray:
    z = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    nodes = 0.5 * ((HIGHEST - LOWEST) * z + LOWEST + HIGHEST)
    values = [optimal_weights(table.speeds, hurst, table.horizon, table.kind) for hurst in nodes]
    return np.polynomial.chebyshev.chebfit(z, np.stack(values), NODES - 1)


def fbm_covariance(hurst: float, s: Any, t: Any, kind: Kind = "II") -> Float[np.ndarray, ...]:
    r""":math:`E B(s) B(t)` of fractional Brownian motion, in double precision.

    Type I: :math:`\tfrac{v}{2} (s^{2H} + t^{2H} - |t - s|^{2H})`. Type II, with :math:`s \le t`:
    :math:`\frac{s^{H + 1/2} t^{H - 1/2}}{(H + 1/2)\, \Gamma(H + 1/2)^2}\, {}_2F_1(1/2 - H, 1; H + 3/2; s/t)`.

    Raises `ValueError` for an index outside (0, 1), another `kind`, and times below zero.

    Examples
    --------
    >>> print(fbm_covariance(0.5, 0.3, [0.2, 0.7], "I"), fbm_covariance(0.5, 0.3, [0.2, 0.7], "II"))
    [0.2 0.3] [0.2 0.3]
    """
    _checked((1.0,), hurst, 1.0, kind)
    not_negative("s", s)
    not_negative("t", t)
    s, t = np.asarray(s, np.float64), np.asarray(t, np.float64)
    if kind == "I":
        powers = s ** (2 * hurst) + t ** (2 * hurst) - np.abs(t - s) ** (2 * hurst)
        return 0.5 * variance_scale(hurst, kind) * powers
    early, late = np.minimum(s, t), np.maximum(s, t)
    safe = np.where(late > 0, late, 1.0)
    a = hurst + 0.5
    series = special.hyp2f1(0.5 - hurst, 1.0, a + 1, early / safe)
    return early**a * safe ** (hurst - 0.5) / (a * special.gamma(a) ** 2) * series


def ma_covariance(
    speeds: Float[Array, " K"], weights: Float[Array, " K"], s: Any, t: Any, kind: Kind = "II"
) -> Float[Array, ...]:
    r""":math:`E \hat B(s) \hat B(t)`, a function of JAX that is differentiable in the weights.

    It is a sum of products of weights: where these are large and of both signs, take double precision. A speed of zero
    is that of Brownian motion itself (type II).

    Examples
    --------
    >>> print(ma_covariance([0.0], jnp.array([1.0]), 0.3, jnp.array([0.2, 0.7])))
    [0.2 0.3]
    """
    one_of("kind", kind, KINDS)
    not_negative("s", s)
    not_negative("t", t)
    weights = jnp.asarray(weights)
    s, t = jnp.broadcast_arrays(jnp.asarray(s, weights.dtype), jnp.asarray(t, weights.dtype))
    gamma = jnp.asarray(speeds, weights.dtype)
    early, late = jnp.minimum(s, t)[..., None, None], jnp.maximum(s, t)[..., None, None]
    # of the earlier time the first index, of the later the second: their sum does not care
    i, j = gamma[:, None], gamma[None, :]
    total = i + j
    safe = jnp.where(total > 0, total, 1.0)
    if kind == "II":
        both = jnp.where(total > 0, -jnp.expm1(-safe * early) / safe, early)
        found = jnp.exp(-j * (late - early)) * both
    else:
        found = (jnp.expm1(-j * (late - early)) - jnp.expm1(-i * early) - jnp.expm1(-j * late)) / safe
    return jnp.einsum("i,...ij,j->...", weights, found, weights)
