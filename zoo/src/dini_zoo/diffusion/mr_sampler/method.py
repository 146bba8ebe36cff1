r"""Samplers of mean-reverting diffusions with few calls of the network.

The reverse of :math:`y = x - \mu` is solved by the multistep rules of :mod:`dini_zoo.diffusion.exponential`: exact in
the linear part, of order 1 to 3 in the network's predictions, for the probability flow and for the SDE. No training.

References
----------
Li, Fang, Zhao, Lu, Yang and Xu, "MaRS: a fast sampler for mean reverting diffusion based on ODE and SDE solvers", ICLR
2025 (arXiv 2502.07856).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, decreasing, one_of, same_shape

from ..exponential import Kind, Rule, Target, multistep_rule, multistep_sample
from ..mean_reverting import MeanRevertingSDE
from ..predictions import convert
from ..processes import beside

#: A network: `model(x, mu, t)`, of points and their means `(n, ...)` and a time.
type Model = Callable[[Array, Array, Any], Array]

TARGETS = ("noise", "data", "velocity")
GRIDS = ("uniform", "leading", "trailing", "karras-n", "karras-t", "linear-lambda")


def time_grid(
    name: str,
    steps: int,
    sde: MeanRevertingSDE,
    *,
    start: Any = None,
    end: Any = 0.0,
    lambda_min: float | None = None,
    rho: float = 7.0,
) -> Float[Array, " N1"]:
    r"""Times of so many steps, falling from `start` to `end`.

    Parameters
    ----------
    name
        `"uniform"` in time; `"leading"` and `"trailing"`, equidistant times of one more step that leave out the first
        or the last; `"karras-n"`, equidistant powers :math:`1 / \rho` of :math:`\sigma / \alpha`; `"karras-t"`, of the
        time; `"linear-lambda"`, equidistant in :math:`\lambda = \log(\alpha / \sigma)`.
    steps
        Calls of the network.
    start
        The horizon if it is not given.
    end
        Where there must still be noise, except for grids in time.
    lambda_min
        Start no later than where :math:`\lambda` is this.
    rho
        :math:`\rho`.

    Raises
    ------
    ValueError
        For another name, fewer than one step, and times that do not fall.

    Examples
    --------
    >>> from dini_zoo.diffusion.mr_sampler import constant
    >>> print(*(f"{t:.2f}" for t in time_grid("linear-lambda", 3, constant(0.5), end=0.01)))
    1.00 0.60 0.21 0.01
    """
    one_of("name", name, GRIDS)
    at_least("steps", steps, 1)
    first = sde.horizon if start is None else start
    if lambda_min is not None:
        first = jnp.minimum(first, sde.time_of(lambda_min))
    first, end = (jnp.asarray(one, jnp.result_type(float)) for one in (first, end))
    if name == "uniform":
        times = jnp.linspace(first, end, steps + 1)
    elif name == "leading":
        times = jnp.linspace(first, end, steps + 2)[1:]
    elif name == "trailing":
        times = jnp.linspace(first, end, steps + 2)[:-1]
    elif name == "karras-t":
        roots = jnp.linspace(first ** (1 / rho), end ** (1 / rho), steps + 1)
        times = (roots**rho).at[0].set(first).at[-1].set(end)
    else:
        ends = sde.log_snr(first), sde.log_snr(end)
        if name == "linear-lambda":
            levels = jnp.linspace(*ends, steps + 1)
        else:
            levels = -rho * jnp.log(jnp.linspace(*(jnp.exp(-one / rho) for one in ends), steps + 1))
        times = sde.time_of(levels).at[0].set(first).at[-1].set(end)
    decreasing(f"times of the grid {name!r}", times)
    return times


def threshold(x0: Float[Array, "n ..."], share: float = 0.995, low: float = 1.0, high: float = 1.5) -> Array:
    """Clip each predicted point to a quantile of its own absolute values, and scale it by that: at least `low`, at most
    `high`."""
    flat = x0.reshape(len(x0), -1)
    bound = beside(jnp.clip(jnp.quantile(jnp.abs(flat), share, axis=1), low, high), x0)
    return jnp.clip(x0, -bound, bound) / bound


def mr_sampler(
    sde: MeanRevertingSDE,
    grid: Float[Array, " N1"],
    *,
    order: int = 2,
    kind: Kind = "ode",
    solve: Target = "data",
    target: Literal["noise", "data", "velocity"] = "noise",
    lower_final: bool | None = None,
    denoise_last: bool = False,
    published_third_order: bool = False,
    clip: Callable[[Array], Array] | None = None,
) -> Callable[..., Array]:
    r"""A sampler `(key, mu, model, start=None) -> x` that calls `model(x, mu, t)` once for each step of a grid.

    It begins with :math:`\mu` and noise, or at `start`.

    Parameters
    ----------
    sde
        Of the process.
    grid
        Times that fall, one more than there are calls; see :func:`time_grid`.
    order, kind, solve, lower_final, published_third_order
        As in :func:`dini_zoo.diffusion.exponential.multistep_rule`: 1 to 3 for `"ode"`, 1 or 2 for `"sde"`; the
        prediction of the `"data"` or of the `"noise"` is interpolated.
    target
        What the model was trained to say: `"noise"`, `"data"` (not shifted), or `"velocity"`.
    denoise_last
        Whether the last step returns the data that the model predicts.
    clip
        A function of predicted data, such as :func:`threshold`.

    Raises
    ------
    ValueError
        For choices that are not there, and a grid that does not go from noise to data.

    Examples
    --------
    Data that are all zero, whose noise is known:

    >>> from dini_zoo.diffusion.mr_sampler import constant
    >>> process = constant(0.5)
    >>> sample = mr_sampler(process, time_grid("linear-lambda", 5, process, end=1e-4))
    >>> mu = jnp.ones((1, 2))
    >>> x = sample(jax.random.key(0), mu, lambda x, mu, t: (x - (1 - process.alpha(t)) * mu) / process.sigma(t))
    >>> bool(jnp.abs(x).max() < 0.1)
    True
    """
    one_of("target", target, TARGETS)
    grid = jnp.asarray(grid)
    decreasing("grid", grid)
    alpha, sigma = sde.alpha(grid), sde.sigma(grid)
    if denoise_last:
        alpha, sigma = alpha.at[-1].set(1.0), sigma.at[-1].set(0.0)
    rule = multistep_rule(
        alpha,
        sigma,
        order=order,
        kind=kind,
        solve=solve,
        lower_final=lower_final,
        published_third_order=published_third_order,
    )

    def sample(key: Array, mu: Array, model: Model, start: Array | None = None) -> Array:
        first, rest = jax.random.split(key)
        y = sde.prior_around(first, mu) - mu if start is None else start - mu
        return mu + run_rule(rest, y, mu, model, sde, grid, rule, target, solve, clip)

    return sample


def run_rule(
    key: Array | None,
    y: Array,
    mu: Array,
    model: Model,
    sde: MeanRevertingSDE,
    times: Array,
    rule: Rule,
    target: str,
    solve: str,
    clip: Callable[[Array], Array] | None = None,
) -> Array:
    """The steps of any affine rule on `y = x - mu`; the rule's numbers may be arguments of a compiled program."""
    same_shape("mu", mu, "the points", y.shape)

    def predict(y: Array, t: Any) -> Array:
        said = model(y + mu, mu, t)
        a, s = sde.alpha(t), sde.sigma(t)
        if target == "data":
            said = said - mu
        if clip is not None:
            data = clip(convert(said, y, a, s, target, "data", bound=sde.s_inf) + mu) - mu
            return convert(data, y, a, s, "data", solve, bound=sde.s_inf)
        return convert(said, y, a, s, target, solve, bound=sde.s_inf)

    return multistep_sample(key, y, predict, times, rule)


def mr_loss(
    model: Model,
    sde: MeanRevertingSDE,
    x0: Float[Array, "n ..."],
    mu: Float[Array, "n ..."],
    key: Array,
    *,
    target: Literal["noise", "data", "velocity"] = "noise",
    whole_steps: bool = False,
    first: float | None = None,
) -> Float[Array, ""]:
    r"""The squared error of what the model says at a random time, a mean over numbers.

    Parameters
    ----------
    model
        Of points, means and a time for each point.
    target
        What it is to say.
    whole_steps
        Draw whole times 0, 1, …, as in :func:`dini_zoo.diffusion.mean_reverting.table`.
    first
        Else times are uniform from here to the horizon; 1e-3 of the horizon if it is not given.

    Raises
    ------
    ValueError
        For another target, and means that are not of the shape of the points.
    """
    one_of("target", target, TARGETS)
    same_shape("mu", mu, "x0", jnp.shape(x0))
    for_times, for_noise = jax.random.split(key)
    n = len(x0)
    if whole_steps:
        t = jax.random.randint(for_times, (n,), 0, round(sde.horizon) + 1).astype(x0.dtype)
    else:
        least = 1e-3 * sde.horizon if first is None else first
        t = jax.random.uniform(for_times, (n,), x0.dtype, least, sde.horizon)
    x, noise = sde.sample_around(for_noise, x0, mu, t)
    wanted = x0
    if target != "data":
        wanted = convert(noise, x - mu, sde.alpha(t), sde.sigma(t), "noise", target, bound=sde.s_inf)
    return jnp.mean((model(x, mu, t) - wanted) ** 2)
