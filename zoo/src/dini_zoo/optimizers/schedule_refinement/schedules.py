r"""Schedules: linear decay, and one refined by the gradient norms of an earlier run.

For stochastic subgradients :math:`g_t` of a convex function, :math:`t = 1, \dots, T`, and weights :math:`w_t > 0`,
the steps

.. math:: \eta_t = w_t \, \frac{\sum_{p > t} w_p}{\sum_p w_p} \qquad\text{give}\qquad
          \mathbb{E}[F(x_T) - F_\star] \le \mathbb{E}\,
          \frac{\|x_1 - x_\star\|^2 + \sum_t w_t^2 \|g_t\|^2}{2 \sum_t w_t} .

Constant weights, best where only a bound on the norms is known, make :math:`\eta_t` fall linearly to zero. For known
norms the bound is least at :math:`w_t \propto \|g_t\|^{-2}`.

References
----------
Defazio, Cutkosky, Mehta, Mishchenko, "Optimal linear decay learning rate schedules and further refinements", 2023
(arXiv 2310.07831).
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from scipy import ndimage, optimize

from dini_zoo.kit.checking import not_negative

from .checking import positive, whole

#: A run whose least smoothed norm is below this share of its greatest has no schedule to learn from. On digits without
#: noise, where refined schedules are ten times worse than linear decay, the share is 0.0006 to 0.0014, depending on the
#: batches; where they are better, it is 0.019 or more.
DEGENERATE = 3e-3


def linear_decay_schedule(peak: Any, total_steps: int, warmup: int = 0) -> optax.Schedule:
    r"""Linear decay to zero, after a linear rise if one is needed.

    Step :math:`t = 1, \dots, T`, whose count in optax is :math:`t - 1`, has the learning rate
    :math:`\text{peak} \cdot \min\{t / m, \; (T - t) / (T - m)\}` with a warm-up of :math:`m` steps. The last step's is
    zero, as in the theorem, which bounds the iterate before it; so are later ones.

    Parameters
    ----------
    peak
        The greatest learning rate.
    total_steps
        :math:`T`, at least 2.
    warmup
        :math:`m`, in steps, less than `total_steps`.

    Raises
    ------
    ValueError
        If a number of steps is out of its range, or the peak is negative or not finite.

    Examples
    --------
    >>> schedule = linear_decay_schedule(1.0, 5)
    >>> print([round(float(schedule(count)), 2) for count in range(6)])
    [0.8, 0.6, 0.4, 0.2, 0.0, 0.0]
    """
    not_negative("peak", peak)
    total, rise = whole("total_steps", total_steps, 2), whole("warmup", warmup, 0)
    if rise >= total:
        raise ValueError(f"warmup must be less than total_steps, {total}: given {rise}.")

    def schedule(count: Any) -> Array:
        t = jnp.asarray(count) + 1
        falling = jnp.maximum((total - t) / (total - rise), 0)
        return peak * (jnp.minimum(t / rise, falling) if rise else falling)

    return schedule


def array_schedule(values: Any, scale: Any = 1.0) -> optax.Schedule:
    """The schedule whose learning rate at count `i` is `scale * values[i]`, and zero beyond the end.

    Both may be what a compiled program computes: under `jax.vmap`, one schedule a lane.

    Parameters
    ----------
    values
        A row of numbers, such as :func:`refine_schedule` returns.
    scale
        The base learning rate. A refined schedule fixes the shape only: sweep the rate again on a coarse grid.

    Raises
    ------
    ValueError
        If `values` is no row of at least one number, or the scale is negative or not finite.

    Examples
    --------
    >>> schedule = array_schedule([1.0, 0.5], scale=0.1)
    >>> print([round(float(schedule(count)), 3) for count in range(3)])
    [0.1, 0.05, 0.0]
    """
    not_negative("scale", scale)
    shape = np.shape(values)
    if len(shape) != 1 or not shape[0]:
        raise ValueError(f"values must be a row of at least 1 number: given the shape {shape}.")

    def schedule(count: Any) -> Array:
        row = jnp.asarray(values, jnp.result_type(float))
        return scale * jnp.where(jnp.asarray(count) < len(row), row[jnp.clip(count, 0, len(row) - 1)], 0)

    return schedule


def smoothed(norms: Float[np.ndarray, " T"], smoothing: float) -> Float[np.ndarray, " T"]:
    r"""The running median of norms over :math:`2 \lfloor \tau T / 2 \rfloor + 1` steps.

    A mean would be ruled by single spikes. Beyond the end, where norms may rise, they are taken as reflected; before
    the start as constant.
    """
    width = 2 * int(smoothing * len(norms) / 2) + 1
    padded = np.pad(norms, (0, 2 * width), mode="reflect")
    return ndimage.median_filter(padded, size=width, mode="nearest")[: len(norms)]


def refine_schedule(
    grad_norms: Any,
    *,
    power: float = 2.0,
    smoothing: float = 0.1,
    total_steps: int | None = None,
    floor: float = 0.0,
) -> Float[np.ndarray, " T"]:
    r"""The schedule for the next run, from the gradient norms of a finished one.

    With the running median :math:`\hat G_t` of the norms, and weights :math:`w_t = \hat G_t^{-p}`,

    .. math:: s_t \propto w_t \sum_{u = t + 1}^{T} w_u , \qquad \max_t s_t = 1 .

    It rises where norms fall, so it has its own warm-up, and falls to zero at the end. Multiply it by a learning rate
    (:func:`array_schedule`) and sweep that again.

    Parameters
    ----------
    grad_norms
        One norm for each step of any reasonable run, linear decay best: of the mini-batch gradients that were used,
        before clipping and weight decay, over all devices; see :func:`record_grad_norm`.
    power
        :math:`p`: 2 with norms :math:`\|g\|_2` for SGD with or without momentum, 1 with :math:`\|g\|_1` for Adam and
        others that normalize each coordinate.
    smoothing
        :math:`\tau` in (0, 1]: the share of the run over which the median is taken.
    total_steps
        The length of the next run, if another. The smoothed norms are interpolated, not the schedule.
    floor
        Smoothed norms below this share of their greatest count as so much.

    Returns
    -------
    array
        Of shape `(total_steps,)`, in double precision. The last number is zero.

    Raises
    ------
    ValueError
        If norms are not finite and positive, or fewer than two, or another argument is out of its range.

    Warns
    -----
    UserWarning
        If the least smoothed norm is below 0.003 of the greatest: where a model learns its data exactly, norms go to
        zero, and all of the schedule would lie in the last steps. Linear decay is returned. `floor` avoids this.

    Examples
    --------
    >>> print(refine_schedule([4.0, 2.0, 1.0, 1.0, 2.0]).round(3))
    [0.125 0.45  1.    0.2   0.   ]

    Norms that do not change give linear decay:

    >>> print(refine_schedule([3.0] * 5).round(2))
    [1.   0.75 0.5  0.25 0.  ]
    """
    if isinstance(grad_norms, jax.core.Tracer):
        raise ValueError("grad_norms must be known: refine a schedule between runs, not inside of a compiled program.")
    positive("grad_norms", grad_norms, 2)
    norms = np.asarray(grad_norms, float)
    steps = len(norms) if total_steps is None else whole("total_steps", total_steps, 2)
    for name, value, holds, needed in (
        ("power", power, 0 < power < np.inf, "finite and positive"),
        ("smoothing", smoothing, 0 < smoothing <= 1, "in (0, 1]"),
        ("floor", floor, 0 <= floor <= 1, "in [0, 1]"),
    ):
        if not holds:
            raise ValueError(f"{name} must be {needed}: given {value}.")
    typical = smoothed(norms, smoothing)
    typical = np.maximum(typical / typical.max(), floor)
    if steps != len(norms):
        typical = np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, len(norms)), typical)
    if typical.min() < DEGENERATE:
        warnings.warn(
            f"The gradient norms fall to {typical.min():.0e} of their greatest: a schedule refined by them would have "
            "all of its steps at the end. Linear decay is returned in its place; `floor` limits the fall.",
            stacklevel=2,
        )
        typical = np.ones(steps)
    # no weight above 1, whatever the power
    w = (typical / typical.min()) ** -power
    tail = np.append(np.cumsum(w[:0:-1])[::-1], 0.0)
    return w * tail / np.max(w * tail)


class Fit(NamedTuple):
    """A schedule that rises linearly and then falls as a power of the steps that are left."""

    warmup: float
    """The share of the run in which it rises."""
    power: float
    """Of the fall: 1 is linear."""
    error: float
    """The root of the mean squared distance from the schedule that it stands for."""


def fit_schedule(values: Any) -> Fit:
    r"""The simple schedule nearest to a refined one.

    At :math:`u = t / T` it is :math:`u / m` up to the warm-up :math:`m`, then :math:`((1 - u) / (1 - m))^p`.

    Parameters
    ----------
    values
        A schedule whose greatest value is one, of at least three steps.

    Raises
    ------
    ValueError
        If it is no row of at least three finite numbers.

    Examples
    --------
    >>> u = np.arange(1, 101) / 100
    >>> fit = fit_schedule(np.minimum(u / 0.2, ((1 - u) / 0.8) ** 1.5))
    >>> print(round(fit.warmup, 3), round(fit.power, 3))
    0.2 1.5
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) < 3 or not np.isfinite(values).all():
        raise ValueError(f"values must be a row of at least 3 finite numbers: given the shape {values.shape}.")
    u = np.arange(1, len(values) + 1) / len(values)

    def error(warmup: float, power: float) -> float:
        rise = u / warmup if warmup else np.ones_like(u)
        model = np.where(u < warmup, rise, ((1 - u) / (1 - warmup)) ** power)
        return float(np.sqrt(np.mean((model - values) ** 2)))

    def fitted(warmup: float) -> Fit:
        found = optimize.minimize_scalar(lambda power: error(warmup, power), bounds=(0.1, 10), method="bounded")
        return Fit(warmup, float(found.x), float(found.fun))

    return min(map(fitted, np.linspace(0, 0.8, 81)), key=lambda fit: fit.error)
