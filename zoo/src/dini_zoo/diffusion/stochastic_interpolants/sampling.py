r"""Samples and densities of an interpolant's generative models, with any level of noise.

.. math:: dX = b\, dt, \qquad dX = (b + \epsilon s)\, dt + \sqrt{2 \epsilon}\, dW \quad (X_0 \sim \rho_0), \qquad
          dX = (b - \epsilon s)\, dt + \sqrt{2 \epsilon}\, dW_B \quad (X_1 \sim \rho_1).

All have the law of the interpolant at every time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, known, not_negative, one_of, positive

from ..flows import carried_log_density, integrate, signs, with_divergence
from ..processes import Field
from .fields import Fields

#: How far from the ends integration stays: a score made from noise is not defined there.
MARGIN = 1e-3


def sample_ode(
    velocity: Field, x: Float[Array, "n ..."], *, start: Any = MARGIN, end: Any = 1 - MARGIN, **options: Any
) -> Float[Array, "n ..."]:
    """Carry points along the flow; `options` are those of :func:`dini_zoo.diffusion.flows.integrate`.

    With `steps`, Heun's rule if no `solver` is given.
    """
    if "steps" in options:
        options.setdefault("solver", diffrax.Heun())
    return integrate(velocity, x, start, end, **options)


def sample_sde(
    key: Array,
    fields: Fields,
    x: Float[Array, "n ..."],
    eps: Any | Callable[[Any], Any],
    *,
    steps: int,
    direction: Literal["forward", "backward"] = "forward",
    margin: float = MARGIN,
    path: bool = False,
) -> Float[Array, "n ..."]:
    r"""Carry points along the SDE with noise :math:`\epsilon` by Heun's rule, in steps of one size.

    .. math:: x' = x + \tfrac{h}{2} \big(b_F(x, t) + b_F(x + h\, b_F(x, t) + \xi, t + h)\big) + \xi, \qquad
              \xi \sim N(0, 2 \epsilon h),

    of weak order two, as the noise does not depend on the point. Large :math:`\epsilon` needs small steps.

    Parameters
    ----------
    key
        Of the noise.
    fields
        Velocity and score.
    x
        Points of :math:`\rho_0`, or of :math:`\rho_1` for `direction="backward"`.
    eps
        :math:`\epsilon \ge 0`, or a function of the time.
    steps
        From `margin` to `1 - margin`.
    direction
        `"forward"` from time 0 to 1, or `"backward"`.
    path
        Whether to return the points of all times, with `x` in front.

    Raises
    ------
    ValueError
        For another direction, fewer than one step, a negative :math:`\epsilon`, and one that is positive where there is
        no score.
    """
    one_of("direction", direction, ("forward", "backward"))
    at_least("steps", steps, 1)
    positive("margin", margin)
    varies = callable(eps)
    if not varies:
        not_negative("eps", eps)
    quiet = not varies and known(eps) and float(eps) == 0
    sign = 1.0 if direction == "forward" else -1.0
    level = eps if varies else (lambda t: eps)

    def drift(x: Array, t: Any) -> Array:
        if quiet:
            return fields.velocity(x, t)
        e = level(t)
        return (fields.forward(e) if sign > 0 else fields.backward(e))(x, t)

    h = (1 - 2 * margin) / steps
    first = margin if sign > 0 else 1 - margin

    def step(x: Array, given: Any) -> Any:
        i, key = given
        here, there = first + sign * i * h, first + sign * (i + 1) * h
        noise = 0.0
        if not quiet:
            spread = jnp.sqrt(h * (level(here) + level(there)))
            noise = spread * jax.random.normal(key, x.shape, x.dtype)
        one = drift(x, here)
        two = drift((x + sign * h * one + noise).astype(x.dtype), there)
        x = (x + 0.5 * sign * h * (one + two) + noise).astype(x.dtype)
        return x, x if path else None

    given = (jnp.arange(steps), jax.random.split(key, steps))
    last, found = jax.lax.scan(step, x, given)
    return jnp.concatenate([x[None], found]) if path else last


def log_density_ode(
    velocity: Field,
    log_rho0: Callable[[Array], Array],
    x: Float[Array, "n ..."],
    *,
    start: Any = 0.0,
    end: Any = 1.0,
    key: Array | None = None,
    probes: int = 1,
    **options: Any,
) -> Float[Array, " n"]:
    r"""The log density of the flow's law at time `end`.

    .. math:: \log \rho_1(x) = \log \rho_0(X_0) - \int_0^1 \mathrm{div}\, b(X_t, t)\, dt, \qquad X_1 = x .

    The divergence is exact, or with a `key` estimated with so many `probes`.
    """
    chosen = None if key is None else signs(key, probes, x.shape, x.dtype)
    first, change = carried_log_density(velocity, x, end, start, probes=chosen, **options)
    return log_rho0(first) + change


def log_density_sde(
    key: Array,
    drift: Field,
    log_rho0: Callable[[Array], Array],
    x: Float[Array, "n ..."],
    eps: Any,
    *,
    paths: int,
    steps: int,
    start: Any = 0.0,
    end: Any = 1.0,
) -> Float[Array, " n"]:
    r"""The log density at time `end` of the forward SDE with the drift :math:`b_F = b + \epsilon s`.

    .. math:: \rho_1(x) = E\big[e^{-\int_0^1 \mathrm{div}\, b_F(Y_t, t)\, dt}\, \rho_0(Y_0)\big], \qquad
              dY = b_F\, dt + \sqrt{2 \epsilon}\, dW_B, \quad Y_1 = x,

    with an average over `paths` that run backward in Euler steps. The logarithm of an average is too small on average:
    take many paths. Raises `ValueError` unless :math:`\epsilon` is positive.
    """
    positive("eps", eps)
    at_least("paths", paths, 1)
    at_least("steps", steps, 1)
    both, h = with_divergence(drift), (end - start) / steps

    def one(key: Array) -> Array:
        def step(carried: Any, given: Any) -> Any:
            y, total = carried
            i, key = given
            value, divergence = both(y, end - i * h)
            y = y - h * value + jnp.sqrt(2 * eps * h) * jax.random.normal(key, y.shape, y.dtype)
            return (y, total - h * divergence), None

        given = (jnp.arange(steps), jax.random.split(key, steps))
        (y, total), _ = jax.lax.scan(step, (x, jnp.zeros(len(x), x.dtype)), given)
        return total + log_rho0(y)

    values = jax.lax.map(one, jax.random.split(key, paths), batch_size=min(paths, 64))
    return jax.nn.logsumexp(values, axis=0) - jnp.log(paths)
