r"""Exponential integrators: multistep rules of order 1 to 3 for the reverse SDE and the probability flow.

Of both equations the linear part is solved exactly. What is left is an integral of the network's prediction over
:math:`\lambda = \log(\alpha / \sigma)`, in which the last one, two or three predictions are interpolated. With the data
prediction, from :math:`s` to :math:`t` with :math:`h = \lambda_t - \lambda_s`,

.. math::
    x_t = \frac{\sigma_t}{\sigma_s} x_s + \alpha_t \int_0^h e^{u - h} \hat x_0\, du, \qquad
    x_t = \frac{\sigma_t}{\sigma_s} e^{-h} x_s + 2 \alpha_t \int_0^h e^{2 (u - h)} \hat x_0\, du
    + \sigma_t \sqrt{1 - e^{-2h}}\, z.

Every rule is :math:`x_t = c\, x_s + c_0 m_0 + c_1 m_1 + c_2 m_2 + c_z z` with numbers that depend on the grid alone.
The rule of order 1 for the flow is DDIM, that for the SDE the ancestral sampler.

References
----------
Lu, Zhou, Bao, Chen, Li and Zhu, "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2022
(arXiv 2211.01095). Li, Fang, Zhao, Lu, Yang and Xu, "MaRS: a fast sampler for mean reverting diffusion based on ODE and
SDE solvers", ICLR 2025 (arXiv 2502.07856).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, decreasing, known, one_of

from .processes import Field, Process

type Kind = Literal["ode", "sde"]
type Target = Literal["data", "noise"]

#: Below this many steps the order falls towards the end, as it rises from the start.
FEW_STEPS = 15


class Rule(NamedTuple):
    """The numbers of every step, arrays of the grid's length less one."""

    keep: Float[Array, " N"]
    """Of the point."""
    pull: Float[Array, "N 3"]
    """Of the last prediction, the one before, and the one before that."""
    noise: Float[Array, " N"]


def _phi(h: Array, k: int) -> Array:
    r""":math:`\varphi_k(h) = \int_0^1 e^{(1 - u) h} u^{k-1} / (k-1)!\, du`, with a series where the formula cancels."""
    small = jnp.abs(h) < 0.5
    safe = jnp.where(small, 1.0, h)
    value = jnp.expm1(safe) / safe
    for i in range(1, k):
        value = (value - 1 / float(np.prod(range(1, i + 1)))) / safe
    near = jnp.where(small, h, 0.0)
    term, series = jnp.asarray(1 / float(np.prod(range(1, k + 1)))), jnp.zeros_like(h)
    for i in range(16):
        series = series + term
        term = term * near / (k + 1 + i)
    return jnp.where(small, series, value)


def orders(steps: int, order: int, lower_final: bool | None = None) -> list[int]:
    """The order of each step: it rises from 1, and with `lower_final` falls to 1 (by default, below 15 steps)."""
    at_least("steps", steps, 1)
    at_least("order", order, 1)
    lower = steps < FEW_STEPS if lower_final is None else lower_final
    return [min(order, i, steps - i + 1 if lower else order) for i in range(1, steps + 1)]


def multistep_rule(
    alpha: Float[Array, " N1"],
    sigma: Float[Array, " N1"],
    *,
    order: int = 2,
    kind: Kind = "ode",
    solve: Target = "data",
    lower_final: bool | None = None,
    published_third_order: bool = False,
) -> Rule:
    r"""The numbers of every step of a multistep rule on a grid, differentiable in the grid.

    Parameters
    ----------
    alpha, sigma
        Of the grid's times, from noise to data: :math:`\alpha / \sigma` rises strictly. The last :math:`\sigma` may be
        zero with `solve="data"`: then the last step returns the prediction.
    order
        1, 2 or 3 for the flow, 1 or 2 for the SDE.
    kind
        `"ode"`, the probability flow, or `"sde"`.
    solve
        What is interpolated: the `"data"` prediction, which is stable in few steps, or the `"noise"`.
    lower_final
        Whether the order falls to 1 at the end; if it is not given, where there are fewer than 15 steps.
    published_third_order
        Take half of the second difference, as published codes of this rule do. Its order is then two.

    Raises
    ------
    ValueError
        For another `order`, `kind` or `solve`, a grid that does not go from noise to data, and a last :math:`\sigma` of
        zero with the noise prediction.
    """
    one_of("kind", kind, ("ode", "sde"))
    one_of("solve", solve, ("data", "noise"))
    one_of("order", order, (1, 2, 3) if kind == "ode" else (1, 2))
    alpha, sigma = jnp.asarray(alpha), jnp.asarray(sigma)
    if alpha.ndim != 1 or alpha.shape != sigma.shape or len(alpha) < 2:
        raise ValueError(
            f"alpha and sigma must be vectors of one length, 2 or more: given shapes {alpha.shape} and {sigma.shape}."
        )
    decreasing("sigma / alpha of the grid", sigma / alpha if known(sigma) and known(alpha) else None)
    if solve == "noise" and known(sigma) and bool(sigma[-1] == 0):
        raise ValueError('The last sigma must be positive with solve="noise": given 0. Take solve="data".')
    taken = tuple(orders(len(alpha) - 1, order, lower_final))
    return _numbers(alpha, sigma, taken, kind, solve, published_third_order)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _numbers(alpha: Array, sigma: Array, taken: tuple[int, ...], kind: Kind, solve: Target, published: bool) -> Rule:
    """The numbers of a grid, with the order of each step."""
    clean = sigma[-1] == 0
    # where the grid ends at the data, the last step is another formula: its place is taken by any number
    ends = jnp.arange(1, len(alpha)) == jnp.where(clean, len(alpha) - 1, -1)
    safe = sigma.at[-1].set(jnp.where(clean, 0.5 * sigma[-2], sigma[-1]))
    h = jnp.diff(jnp.log(alpha) - jnp.log(safe))
    a_t, s_s, s_t = alpha[1:], safe[:-1], safe[1:]
    # the step as c x + level (φ₁ D₀ + φ₂ D₁ + φ₃ D₂), D the prediction and its divided differences
    rate = 1.0 if kind == "ode" else 2.0
    if solve == "data":
        keep = s_t / s_s * jnp.exp(-(rate - 1) * h)
        level, x = rate * a_t * h, -rate * h
    else:
        keep, level, x = a_t / alpha[:-1], -rate * s_t * h, h
    noise = jnp.zeros_like(h)
    if kind == "sde":
        noise = s_t * jnp.sqrt(-jnp.expm1(-2 * h) if solve == "data" else jnp.expm1(2 * h))
    first, second, third = (level * _phi(x, k) for k in (1, 2, 3))
    order = np.array(taken)[:, None]
    h1, h2 = jnp.roll(h, 1), jnp.roll(h, 2)
    r1, r2 = h1 / h, h2 / h
    pull = jnp.stack([first, jnp.zeros_like(h), jnp.zeros_like(h)], axis=1)
    zero = jnp.zeros_like(h)
    two = jnp.stack([1 / r1, -1 / r1, zero], axis=1)
    one_back = jnp.stack([zero, 1 / r2, -1 / r2], axis=1)
    bend = two - one_back
    three = two + bend * (r1 / (r1 + r2))[:, None]
    curve = bend * ((1.0 if published else 2.0) / (r1 + r2))[:, None]
    pull = pull + second[:, None] * jnp.where(order == 2, two, 0.0)
    pull = pull + jnp.where(order == 3, second[:, None] * three + third[:, None] * curve, 0.0)
    last = jnp.stack([a_t, zero, zero], axis=1)
    return Rule(jnp.where(ends, 0.0, keep), jnp.where(ends[:, None], last, pull), jnp.where(ends, 0.0, noise))


def multistep_sample(
    key: Array | None,
    x: Float[Array, "n ..."],
    predict: Field,
    times: Float[Array, " N1"],
    rule: Rule,
    *,
    path: bool = False,
) -> Array:
    """Take the steps of a rule: one call of `predict(x, t)` a step, none at the last time.

    Parameters
    ----------
    key
        Of the noise; it may be `None` where the rule is that of the flow.
    x
        Points at the first time.
    predict
        Of a batch and a time, what the rule was made for: data or noise.
    times
        One more than there are steps.
    path
        Whether to return the points of all times, those of the first in front.
    """
    steps = len(rule.keep)
    if len(times) != steps + 1:
        raise ValueError(f"times must be one more than the {steps} steps of the rule: given {len(times)}.")
    keys = jax.random.split(jax.random.key(0) if key is None else key, steps)

    def step(carried: Any, given: Any) -> Any:
        x, older, oldest = carried
        t, key, keep, pull, noise = given
        now = predict(x, t)
        new = keep * x + pull[0] * now + pull[1] * older + pull[2] * oldest
        if key is not None:
            new = new + noise * jax.random.normal(key, x.shape, x.dtype)
        new = new.astype(x.dtype)
        return (new, now.astype(x.dtype), older), new if path else None

    given = (jnp.asarray(times)[:-1], None if key is None else keys, *rule)
    (last, _, _), found = jax.lax.scan(step, (x, jnp.zeros_like(x), jnp.zeros_like(x)), given)
    return jnp.concatenate([x[None], found]) if path else last


def exponential_sampler(
    process: Process,
    times: Float[Array, " N1"],
    *,
    order: int = 2,
    kind: Kind = "ode",
    solve: Target = "data",
    lower_final: bool | None = None,
) -> Callable[[Array | None, Array, Field], Array]:
    """A sampler `(key, x, predict) -> x` of a process on a grid of times that falls; see :func:`multistep_rule`."""
    times = jnp.asarray(times)
    decreasing("times", times)
    rule = multistep_rule(
        process.alpha(times), process.sigma(times), order=order, kind=kind, solve=solve, lower_final=lower_final
    )
    return lambda key, x, predict: multistep_sample(key, x, predict, times, rule)


def log_snr_grid(process: Process, steps: int, start: Any = 1.0, end: Any = 1e-3) -> Float[Array, " N1"]:
    r"""Times from `start` to `end` that are equidistant in :math:`\lambda`."""
    inner = process.time_of(jnp.linspace(process.log_snr(start), process.log_snr(end), steps + 1))
    return inner.at[0].set(start).at[-1].set(end)
