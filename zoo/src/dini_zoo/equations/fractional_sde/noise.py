r"""Noise with memory: what an equation needs to know of it, its exact samples, and its law from now to a later time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import increasing, known, not_negative, one_of, positive

from .approximation import HIGHEST, KINDS, LOWEST, Kind, WeightTable, ma_covariance, ou_speeds, variance_scale


class MarkovNoise(eqx.Module):
    r""":math:`\hat B(t) = \sum_k \omega_k (Y_k(t) - Y_k(0))` with :math:`dY_k = -\gamma_k Y_k\, dt + dW`.

    What differs is where `speeds`, `weights` and `kind` come from.
    """

    @property
    @abstractmethod
    def speeds(self) -> tuple[float, ...]:
        r""":math:`\gamma`."""

    @property
    @abstractmethod
    def weights(self) -> Float[Array, " K"]:
        r""":math:`\omega`."""

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """`"I"`: the processes are stationary; `"II"`: they start at zero."""

    def covariance(self, s: Any, t: Any) -> Float[Array, ...]:
        r""":math:`E \hat B(s) \hat B(t)`; see :func:`ma_covariance`."""
        return ma_covariance(self.speeds, self.weights, s, t, self.kind)

    def start(self, key: Array, dims: int, dtype: Any = None) -> Float[Array, "D K"]:
        r""":math:`Y(0)` of each dimension: zero (type II), or of covariance :math:`1 / (\gamma_i + \gamma_j)`."""
        dtype = jnp.result_type(float) if dtype is None else dtype
        shape = (dims, len(self.speeds))
        if self.kind == "II":
            return jnp.zeros(shape, dtype)
        gamma = np.asarray(self.speeds)
        root = _root(1 / (gamma[:, None] + gamma))
        return jax.random.normal(key, shape, dtype) @ jnp.asarray(root.T, dtype)

    def paths(self, key: Array, ts: Float[np.ndarray, " n"], dims: int) -> Float[Array, "n D"]:
        r"""Exact samples of :math:`\hat B` at times that rise from 0 on, one for each dimension.

        Raises `ValueError` for other times. They must be known when the function is traced.
        """
        ts = np.asarray(ts, np.float64)
        increasing("ts", ts)
        not_negative("ts", ts)
        for_start, for_steps = jax.random.split(key)
        start = self.start(for_start, dims)
        steps = [exact_ou_step(self.speeds, h) for h in np.diff(ts, prepend=0.0)]
        decays, _, roots = (jnp.asarray(np.stack(parts), start.dtype) for parts in zip(*steps, strict=True))

        def step(y: Array, given: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            decay, root, key = given
            y = decay * y + jax.random.normal(key, y.shape, y.dtype) @ root.T
            return y, y

        _, ys = jax.lax.scan(step, start, (decays, roots, jax.random.split(for_steps, len(ts))))
        return (ys - start) @ self.weights.astype(start.dtype)

    def ahead(self, tau: Any) -> tuple[Float[Array, " K"], Float[Array, ""], Float[Array, ""]]:
        r"""The law of :math:`\hat B(t + \tau) - \hat B(t)` given :math:`Y(t)`.

        Its mean is :math:`\sum_k c_k Y_k(t)` with :math:`c_k = \omega_k (e^{-\gamma_k \tau} - 1)`. Returns :math:`c`,
        the weight :math:`\kappa(\tau) = \sum_k \omega_k e^{-\gamma_k \tau}` of a shock at `t`, and the variance
        :math:`V = \int_0^\tau \kappa(s)^2 ds`. The integral is a quadrature of 40 points, dense where the fastest
        process decays: its terms are positive, where the double sum of exponentials would cancel.
        """
        omega = self.weights
        tau = jnp.asarray(tau, omega.dtype)
        gamma = jnp.asarray(self.speeds, omega.dtype)
        fastest = max(self.speeds) or 1.0
        nodes, shares = np.polynomial.legendre.leggauss(40)
        v, shares = jnp.asarray(0.5 * (nodes + 1), tau.dtype), jnp.asarray(0.5 * shares, tau.dtype)
        c = jnp.log1p(fastest * tau)
        s, ds = jnp.expm1(c * v) / fastest, c * jnp.exp(c * v) / fastest
        kernel = jnp.exp(-gamma * s[:, None]) @ omega
        decay = jnp.exp(-gamma * tau)
        return omega * jnp.expm1(-gamma * tau), omega @ decay, jnp.sum(shares * ds * kernel**2)


class FixedNoise(MarkovNoise):
    """Noise of given speeds and weights.

    Raises `ValueError` unless there is a weight for each speed, and for a negative speed; with type I for zero, too.
    """

    given_speeds: tuple[float, ...] = eqx.field(static=True)
    given_weights: tuple[float, ...] = eqx.field(static=True)
    given_kind: Kind = eqx.field(static=True, default="II")

    def __check_init__(self) -> None:
        one_of("kind", self.given_kind, KINDS)
        not_negative("speeds", self.given_speeds)
        if self.given_kind == "I":
            positive("speeds of type I", self.given_speeds)
        if len(self.given_speeds) != len(self.given_weights):
            raise ValueError(
                f"speeds and weights must be as many: given {len(self.given_speeds)} and {len(self.given_weights)}."
            )

    @property
    def speeds(self) -> tuple[float, ...]:
        return self.given_speeds

    @property
    def weights(self) -> Float[Array, " K"]:
        return jnp.asarray(self.given_weights, jnp.result_type(float))

    @property
    def kind(self) -> Kind:
        return self.given_kind


def white_noise() -> FixedNoise:
    """Brownian motion: one process of speed zero and weight one."""
    return FixedNoise((0.0,), (1.0,))


class FractionalNoise(MarkovNoise):
    r"""Fractional noise whose Hurst index is a parameter: :math:`H = 0.02 + 0.96\, \mathrm{sigmoid}(\text{raw})`.

    Parameters
    ----------
    hurst
        Where it starts, between 0.02 and 0.98.
    kind
        `"I"` has stationary increments; `"II"` starts at time 0, and is approximated better by few processes.
    speeds
        As of :func:`ou_speeds`; five from 1/20 to 20 if they are not given. Type I needs more of them, over a wider
        range, for indices below 0.2 and above 0.6: see `relative_error`.
    horizon
        The time over which the approximation is best.
    unit_variance
        Whether to divide by the standard deviation of fractional Brownian motion at time 1, which is not one.

    Raises
    ------
    ValueError
        For a `hurst` out of range, and as :class:`WeightTable` does.

    Examples
    --------
    >>> noise = FractionalNoise(0.7, horizon=2.0)
    >>> print(f"{noise.hurst:.2f} {noise.covariance(1.0, 1.0):.3f}")
    0.70 0.847
    """

    raw: Float[Array, ""]
    """The parameter: all that an optimizer sees."""
    table: WeightTable = eqx.field(static=True)
    unit_variance: bool = eqx.field(static=True)

    def __init__(
        self,
        hurst: Any = 0.5,
        *,
        kind: Kind = "II",
        speeds: tuple[float, ...] | None = None,
        horizon: float = 1.0,
        unit_variance: bool = False,
    ):
        if known(hurst) and not np.all((np.asarray(hurst) > LOWEST) & (np.asarray(hurst) < HIGHEST)):
            raise ValueError(f"hurst must be between {LOWEST} and {HIGHEST}: given {hurst}.")
        share = (jnp.asarray(hurst, jnp.result_type(float)) - LOWEST) / (HIGHEST - LOWEST)
        self.raw = jnp.log(share) - jnp.log1p(-share)
        self.table = WeightTable(ou_speeds(5) if speeds is None else tuple(map(float, speeds)), float(horizon), kind)
        self.unit_variance = unit_variance

    @property
    def hurst(self) -> Float[Array, ""]:
        """:math:`H`."""
        return LOWEST + (HIGHEST - LOWEST) * jax.nn.sigmoid(self.raw)

    @property
    def speeds(self) -> tuple[float, ...]:
        return self.table.speeds

    @property
    def weights(self) -> Float[Array, " K"]:
        omega = self.table(self.hurst)
        return omega / jnp.sqrt(variance_scale(self.hurst, self.kind)) if self.unit_variance else omega

    @property
    def kind(self) -> Kind:
        return self.table.kind


def exact_ou_step(speeds: Any, h: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""The exact transition of the processes over a time `h`, in double precision.

    .. math:: Y(t + h) = d\, Y(t) + g\, u + L n, \qquad d = e^{-\gamma h}, \quad g = (1 - e^{-\gamma h}) / \gamma,

    with a constant :math:`u` added to the noise, :math:`n` standard normal, and :math:`L L^\top` of entries
    :math:`(1 - e^{-(\gamma_i + \gamma_j) h}) / (\gamma_i + \gamma_j)`. Returns `d`, `g` and `L`. There is no limit on
    `h`. One Brownian motion drives all: for a small `h` the covariance has nearly rank one, so that `L` comes from its
    eigenvalues, those that are rounding set to zero.

    Raises `ValueError` for a negative `h` or speed.
    """
    not_negative("speeds", speeds)
    not_negative("h", h)
    gamma = np.asarray(speeds, np.float64)
    return np.exp(-gamma * h), _decayed(gamma, h), _root(_decayed(gamma[:, None] + gamma, h))


def _decayed(gamma: np.ndarray, h: float) -> np.ndarray:
    """`(1 - exp(-γ h)) / γ`."""
    safe = np.where(gamma > 0, gamma, 1.0)
    return np.where(gamma > 0, -np.expm1(-safe * h) / safe, h)


def _root(covariance: np.ndarray) -> np.ndarray:
    """`L` with `L Lᵀ` the covariance, however low its rank."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def gaussian_bridge_control(
    noise: MarkovNoise, x: Float[Array, " D"], y: Float[Array, "D K"], tau: Any, target: Any, std: Any
) -> Float[Array, " D"]:
    r"""The exact control of :math:`dX = d\hat B` towards one observation :math:`o \sim N(X(t + \tau), s^2)`.

    .. math:: u^\star = \kappa\, \frac{o - x - \sum_k c_k y_k}{V + s^2}

    with the numbers of :meth:`MarkovNoise.ahead`. With it the evidence bound is tight.

    Parameters
    ----------
    x, y
        The state now.
    tau
        The time until then, positive if `std` is zero.
    target, std
        :math:`o` and :math:`s`.
    """
    c, kappa, variance = noise.ahead(tau)
    c, kappa, variance = (one.astype(x.dtype) for one in (c, kappa, variance))
    return kappa * (target - x - y @ c) / (variance + jnp.asarray(std, x.dtype) ** 2)
