r"""Stochastic interpolants: random paths between two laws, and their velocity, score and density between mixtures.

.. math:: x_t = \alpha(t) x_0 + \beta(t) x_1 + \gamma(t) z, \qquad 0 \le t \le 1, \quad z \sim N(0, I).

The fields that carry the law of :math:`x_t` are conditional means,

.. math::
    b = E[\dot\alpha x_0 + \dot\beta x_1 + \dot\gamma z \mid x_t = x], \qquad
    s = \nabla \log \rho_t = -E[z \mid x_t = x] / \gamma .

References
----------
Albergo, Boffi and Vanden-Eijnden, "Stochastic interpolants: a unifying framework for flows and diffusions", 2023 (arXiv
2303.08797).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import known, positive

from .mixtures import GaussianMixture
from .processes import beside

type Curve = Callable[[Any], Any]


class Coefficients(NamedTuple):
    r"""At one time, or at several: the three coefficients, and derivatives in time.

    :math:`\gamma \dot\gamma` is there in place of :math:`\dot\gamma`, which may be infinite at the ends.
    """

    alpha: Array
    beta: Array
    gamma: Array
    alpha_dot: Array
    beta_dot: Array
    gamma_gamma_dot: Array


class LinearInterpolant(eqx.Module):
    r"""An interpolant :math:`\alpha x_0 + \beta x_1 + \gamma z`.

    Parameters
    ----------
    alpha, beta
        Functions of the time.
    gamma_squared
        :math:`\gamma^2`, which is smooth where :math:`\gamma` is not.
    kinks
        Times at which a derivative jumps, where a grid needs a node.
    one_sided
        Whether :math:`x_0` is normal noise, with :math:`\alpha` in the part of :math:`\gamma`.
    mirror
        Whether both ends are :math:`x_1`, so that nothing is asked of :math:`\alpha` and :math:`\beta`.

    Raises
    ------
    ValueError
        Unless :math:`\alpha, \beta, \gamma` are 1, 0, 0 at time 0 and 0, 1, 0 at time 1.
    """

    alpha: Curve = eqx.field(static=True)
    beta: Curve = eqx.field(static=True)
    gamma_squared: Curve = eqx.field(static=True)
    kinks: tuple[float, ...] = eqx.field(static=True, default=())
    one_sided: bool = eqx.field(static=True, default=False)
    mirror: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        with jax.ensure_compile_time_eval():
            for end, ends in ((0.0, (1.0, 0.0, 0.0)), (1.0, (0.0, 1.0, 0.0))):
                found = [float(curve(jnp.asarray(end))) for curve in (self.alpha, self.beta, self.gamma_squared)]
                wanted = (0.0, 1.0, 0.0) if self.mirror else ends
                if any(abs(a - b) > 1e-3 for a, b in zip(found, wanted, strict=True)):
                    raise ValueError(
                        f"alpha, beta and gamma_squared of an interpolant must be {wanted} at time {end:g}: given "
                        f"{tuple(found)}."
                    )

    @property
    def has_noise(self) -> bool:
        r"""Whether :math:`\gamma` is not zero within, so that there is a score beside that of a normal :math:`x_0`."""
        with jax.ensure_compile_time_eval():
            return bool(self.gamma_squared(jnp.asarray(0.4)) > 0)

    def at(self, t: Any) -> Coefficients:
        """The coefficients at a time or several."""
        t = jnp.asarray(t, jnp.result_type(float))

        def with_slope(curve: Curve) -> tuple[Array, Array]:
            value, slope = jax.jvp(lambda t: jnp.asarray(curve(t), t.dtype) + 0 * t, (t,), (jnp.ones_like(t),))
            return value, slope

        (alpha, alpha_dot), (beta, beta_dot) = with_slope(self.alpha), with_slope(self.beta)
        square, slope = with_slope(self.gamma_squared)
        return Coefficients(alpha, beta, jnp.sqrt(jnp.maximum(square, 0.0)), alpha_dot, beta_dot, 0.5 * slope)

    def gamma_at(self, t: Any) -> tuple[Array, Array]:
        r""":math:`\gamma` and :math:`\gamma \dot\gamma`."""
        at = self.at(t)
        return at.gamma, at.gamma_gamma_dot

    def mean(self, t: Any, x0: Array, x1: Array) -> Array:
        r""":math:`\alpha x_0 + \beta x_1`."""
        at = self.at(t)
        return beside(at.alpha, x0) * x0 + beside(at.beta, x1) * x1

    def mean_dot(self, t: Any, x0: Array, x1: Array) -> Array:
        r""":math:`\dot\alpha x_0 + \dot\beta x_1`."""
        at = self.at(t)
        return beside(at.alpha_dot, x0) * x0 + beside(at.beta_dot, x1) * x1

    def sample(self, t: Any, x0: Array, x1: Array, z: Array) -> Array:
        """The point of the path at a time, for each pair of ends and each noise."""
        return self.mean(t, x0, x1) + beside(self.at(t).gamma, z) * z


def brownian(a: float = 1.0) -> Curve:
    r""":math:`\gamma^2 = a t (1 - t)`."""
    positive("a", a)
    return lambda t: a * t * (1 - t)


def bump(t: Any) -> Any:
    r""":math:`\gamma = t (1 - t)`."""
    return (t * (1 - t)) ** 2


def sine(t: Any) -> Any:
    r""":math:`\gamma = \sin^2 \pi t`."""
    return jnp.sin(jnp.pi * t) ** 4


def sigmoids(f: float = 10.0) -> Curve:
    r"""With :math:`u = t - 1/2` and the logistic function :math:`S`, a bump of sigmoids.

    .. math:: \gamma = S(f u + 1) - S(f u - 1) - S(1 - f/2) + S(-1 - f/2)
    """
    positive("f", f)
    s = jax.nn.sigmoid

    def squared(t: Any) -> Any:
        u = f * (t - 0.5)
        return (s(u + 1) - s(u - 1) - s(1 - f / 2) + s(-1 - f / 2)) ** 2

    return squared


def zero(t: Any) -> Any:
    r""":math:`\gamma = 0`: no noise, and no score."""
    return 0.0 * t


def linear(gamma_squared: Curve | None = None) -> LinearInterpolant:
    r""":math:`(1 - t) x_0 + t x_1 + \gamma z`, with :math:`\gamma^2 = t (1 - t)` if it is not given."""
    return LinearInterpolant(lambda t: 1 - t, lambda t: t, gamma_squared or brownian())


def trig(gamma_squared: Curve | None = None) -> LinearInterpolant:
    r""":math:`\sqrt{1 - \gamma^2} (\cos(\pi t / 2) x_0 + \sin(\pi t / 2) x_1) + \gamma z`, for :math:`\gamma < 1`."""
    square = gamma_squared or brownian()
    return LinearInterpolant(
        lambda t: jnp.sqrt(1 - square(t)) * jnp.cos(0.5 * jnp.pi * t),
        lambda t: jnp.sqrt(1 - square(t)) * jnp.sin(0.5 * jnp.pi * t),
        square,
    )


def encoding_decoding(gamma_squared: Curve | None = None) -> LinearInterpolant:
    r""":math:`\cos^2(\pi t)` of :math:`x_0` to time 1/2, of :math:`x_1` from there on: pure noise in the middle."""
    return LinearInterpolant(
        lambda t: jnp.where(t < 0.5, jnp.cos(jnp.pi * t) ** 2, 0.0),
        lambda t: jnp.where(t > 0.5, jnp.cos(jnp.pi * t) ** 2, 0.0),
        gamma_squared or sine,
        kinks=(0.5,),
    )


def one_sided_linear() -> LinearInterpolant:
    r""":math:`(1 - t) x_0 + t x_1` with normal :math:`x_0`."""
    return LinearInterpolant(lambda t: 1 - t, lambda t: t, zero, one_sided=True)


def one_sided_trig() -> LinearInterpolant:
    r""":math:`\cos(\pi t / 2) x_0 + \sin(\pi t / 2) x_1` with normal :math:`x_0`."""
    return LinearInterpolant(
        lambda t: jnp.cos(0.5 * jnp.pi * t), lambda t: jnp.sin(0.5 * jnp.pi * t), zero, one_sided=True
    )


def one_sided_vp() -> LinearInterpolant:
    r""":math:`\sqrt{1 - t^2}\, x_0 + t x_1` with normal :math:`x_0`: the variance preserving process in reverse."""
    return LinearInterpolant(lambda t: jnp.sqrt(jnp.maximum(1 - t**2, 0.0)), lambda t: t, zero, one_sided=True)


def mirror(a: float = 1.0) -> LinearInterpolant:
    r""":math:`x_1 + \gamma z`, from a law to itself, with :math:`\gamma^2 = a t (1 - t)`."""
    return LinearInterpolant(lambda t: 0.0 * t, lambda t: 1 + 0.0 * t, brownian(a), mirror=True)


class CustomInterpolant(eqx.Module):
    r"""Any path :math:`I(t, x_0, x_1) + \gamma(t) z`, with the derivative of :math:`I` in time by JAX.

    Parameters
    ----------
    path
        `path(t, x0, x1)` of a batch, with a time for each pair of ends or one for all. It may be an Equinox module: it
        is part of the pytree.
    gamma_squared
        :math:`\gamma^2`.

    Raises
    ------
    ValueError
        For a :math:`\gamma` that is not 0 at the ends; where paths are sampled, in a loss for one, for a path that does
        not go from :math:`x_0` to :math:`x_1`.
    """

    path: Callable[[Any, Array, Array], Array]
    gamma_squared: Curve = eqx.field(static=True)

    def __check_init__(self) -> None:
        with jax.ensure_compile_time_eval():
            noise = [float(self.gamma_squared(jnp.asarray(end))) for end in (0.0, 1.0)]
        if max(map(abs, noise)) > 1e-6:
            raise ValueError(f"gamma_squared of an interpolant must be 0 at times 0 and 1: given {noise}.")

    def _check_path(self, x0: Array, x1: Array) -> None:
        """As `check_ends`, with random ends of these shapes, where the path is known while a program is traced."""
        with jax.ensure_compile_time_eval():
            random = np.random.default_rng(0)
            ends = [jnp.asarray(random.normal(size=one.shape), one.dtype) for one in (x0, x1)]
            if all(known(self.path(jnp.full(len(x0), end, x0.dtype), *ends)) for end in (0.0, 1.0)):
                self.check_ends(*ends)

    def check_ends(self, x0: Array, x1: Array) -> None:
        """Raise `ValueError` unless the path goes from `x0` to `x1`, and the noise is zero there."""
        for end, wanted in ((0.0, x0), (1.0, x1)):
            found = self.path(jnp.full(len(x0), end), x0, x1)
            gap, noise = float(jnp.max(jnp.abs(found - wanted))), float(self.gamma_squared(jnp.asarray(end)))
            if gap > 1e-4 * max(1.0, float(jnp.max(jnp.abs(wanted)))) or abs(noise) > 1e-6:
                raise ValueError(
                    f"An interpolant must be x{end:g} at time {end:g}, with no noise: it is {gap:.1e} away, and its "
                    f"gamma_squared is {noise:.1e}."
                )

    def gamma_at(self, t: Any) -> tuple[Array, Array]:
        r""":math:`\gamma` and :math:`\gamma \dot\gamma`."""
        t = jnp.asarray(t, jnp.result_type(float))
        square, slope = jax.jvp(self.gamma_squared, (t,), (jnp.ones_like(t),))
        return jnp.sqrt(jnp.maximum(square, 0.0)), 0.5 * slope

    def mean(self, t: Any, x0: Array, x1: Array) -> Array:
        """:math:`I(t, x_0, x_1)`."""
        return self.path(t, x0, x1)

    def mean_dot(self, t: Any, x0: Array, x1: Array) -> Array:
        r""":math:`\partial I / \partial t`."""
        t = jnp.asarray(t, x0.dtype)
        return jax.jvp(lambda t: self.path(t, x0, x1), (t,), (jnp.ones_like(t),))[1]

    def sample(self, t: Any, x0: Array, x1: Array, z: Array) -> Array:
        """The point of the path at a time, for each pair of ends and each noise."""
        self._check_path(x0, x1)
        return self.mean(t, x0, x1) + beside(self.gamma_at(t)[0], z) * z


type Interpolant = LinearInterpolant | CustomInterpolant


class GaussianMixtureFields(eqx.Module):
    r"""The exact fields between two mixtures with independent :math:`x_0, x_1`.

    A pair of components has the mean :math:`m = \alpha m_i + \beta m_j` and the covariance :math:`C = \alpha^2 C_i +
    \beta^2 C_j + \gamma^2 I`. With its posterior weights :math:`w`,

    .. math:: s = -\sum w\, C^{-1} (x - m), \qquad b = \sum w\, \big(\dot m + \tfrac12 \dot C C^{-1} (x - m)\big).

    Points are `(..., d)`, the time is a number. Both mixtures have one dimension, `ValueError` else.

    Examples
    --------
    >>> ends = GaussianMixture([1.0], [[-1.0]], [0.2]), GaussianMixture([1.0], [[1.0]], [0.2])
    >>> fields = GaussianMixtureFields(linear(), *ends)
    >>> print(fields.velocity(jnp.zeros((1, 1)), 0.5))
    [[2.]]
    """

    interpolant: LinearInterpolant
    start: GaussianMixture
    end: GaussianMixture

    def __check_init__(self) -> None:
        sizes = self.start.means.shape[1], self.end.means.shape[1]
        if sizes[0] != sizes[1]:
            raise ValueError(f"Both mixtures must have points of one dimension: given {sizes[0]} and {sizes[1]}.")

    def _pairs(self, at: Coefficients) -> tuple[Array, Array, Array, Array, Array]:
        """Of all pairs: log weights, means and their slopes, covariances (or their diagonals) and their slopes."""
        one, other = self.start, self.end
        outer = lambda a, b: (a[:, None] + b[None, :]).reshape(-1, *a.shape[1:])
        logs = outer(jnp.log(one.weights), jnp.log(other.weights))
        means = outer(at.alpha * one.means, at.beta * other.means)
        slopes = outer(at.alpha_dot * one.means, at.beta_dot * other.means)
        diagonal = one.vectors is None and other.vectors is None
        C0, C1 = (one.variances, other.variances) if diagonal else (one.covariances, other.covariances)
        unit = jnp.ones(means.shape[1]) if diagonal else jnp.eye(means.shape[1])
        C = outer(at.alpha**2 * C0, at.beta**2 * C1) + at.gamma**2 * unit
        factors = at.alpha * at.alpha_dot, at.beta * at.beta_dot
        C_dot = 2 * (outer(factors[0] * C0, factors[1] * C1) + at.gamma_gamma_dot * unit)
        return logs, means, slopes, C, C_dot

    def law(self, t: Any) -> GaussianMixture:
        """Of the interpolant at a time: a mixture with a component for each pair."""
        logs, means, _, C, _ = self._pairs(self.interpolant.at(t))
        return GaussianMixture(jnp.exp(logs), means, C)

    def both(self, x: Float[Array, "... d"], t: Any) -> tuple[Array, Array]:
        """Velocity and score at once."""
        logs, means, slopes, C, C_dot = self._pairs(self.interpolant.at(t))
        away = x[..., None, :] - means
        if C.ndim == 2:
            pulled = away / C
            moved = C_dot * pulled
            volume = jnp.sum(jnp.log(C), axis=1)
        else:
            inverse = jnp.linalg.inv(C)
            pulled = jnp.einsum("kij,...kj->...ki", inverse, away)
            moved = jnp.einsum("kij,...kj->...ki", C_dot, pulled)
            volume = jnp.linalg.slogdet(C)[1]
        w = jax.nn.softmax(logs - 0.5 * (jnp.sum(away * pulled, axis=-1) + volume), axis=-1)[..., None]
        return jnp.sum(w * (slopes + 0.5 * moved), axis=-2), -jnp.sum(w * pulled, axis=-2)

    def velocity(self, x: Float[Array, "... d"], t: Any) -> Float[Array, "... d"]:
        r""":math:`b(t, x)`."""
        return self.both(x, t)[0]

    def score(self, x: Float[Array, "... d"], t: Any) -> Float[Array, "... d"]:
        r""":math:`\nabla \log \rho_t(x)`."""
        return self.both(x, t)[1]
