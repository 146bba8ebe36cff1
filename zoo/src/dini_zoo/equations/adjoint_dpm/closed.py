r"""Normal data, of which the flow is known: the clock :math:`\rho` beside the time, fixed steps and adaptive ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.diffusion.processes import VPSDE, Process, beside
from dini_zoo.kit.modes import distance

from .sampling import Predictor, sample_pf_ode
from .schedules import time_grid

MEAN, NOISE, FIRST = (1.0, -2.0), (0.7, -1.1), 1e-3


def predict(params: tuple[Any, Any], x: Array, t: Any, _: Any) -> Array:
    r"""The exact noise :math:`\sigma (x - \alpha m) / (\alpha^2 s^2 + \sigma^2)`, with parameters `(m, s)`."""
    m, s = params
    alpha, sigma = VPSDE().alpha(t), VPSDE().sigma(t)
    return sigma * (x - alpha * m) / (alpha**2 * s**2 + sigma**2)


def flow(noise: Any, m: Any, s: Any, first: float = FIRST) -> Array:
    """Where the flow leads."""
    process = VPSDE()
    a, b, c, d = process.alpha(first), process.sigma(first), process.alpha(1.0), process.sigma(1.0)
    return a * m + jnp.sqrt((a**2 * s**2 + b**2) / (c**2 * s**2 + d**2)) * (noise - c * m)


def sample_in_time(
    predict: Predictor, params: Any, noise: Float[Array, "n ..."], process: Process, times: Float[Array, " N1"]
) -> Float[Array, "n ..."]:
    r"""The flow :math:`dx/dt = f x + g^2 \varepsilon / (2 \sigma)` in its own time, by Heun's method."""

    def velocity(s: Any, x: Array, params: Any) -> Array:
        t = -s
        pull = process.diffusion(t) ** 2 / (2 * process.sigma(t))
        return -(process.drift(x, t) + beside(pull, x) * predict(params, x, t, None))

    grid = -times
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        diffrax.Heun(),
        grid[0],
        grid[-1],
        None,
        noise,
        params,
        stepsize_controller=diffrax.StepTo(ts=grid),
        adjoint=diffrax.BacksolveAdjoint(stepsize_controller=diffrax.StepTo(ts=grid[::-1])),
        max_steps=len(grid) - 1,
    )
    return found.ys[0]


@dataclass(frozen=True)
class Fixed:
    """Errors of one spread of the data and number of steps, in the clock and in the time."""

    spread: float
    steps: int
    sample: tuple[float, float]
    """The largest error of a number of the sample."""
    gradient: tuple[float, float]
    """The relative error of the derivative in the noise."""


@dataclass(frozen=True)
class Closed:
    """What was found with normal data."""

    fixed: list[Fixed]
    adaptive: dict[float, float]
    """By spread: the largest relative error of the derivatives in noise, mean and spread."""


def measure(spreads: tuple[float, ...], counts: tuple[int, ...]) -> Closed:
    """Compare, in double precision."""
    with jax.enable_x64(True):
        process, m, noise = VPSDE(), jnp.array([MEAN]), jnp.array([NOISE])
        square = lambda x: (jnp.sum(x**2), x)
        exact = jax.jit(jax.value_and_grad(lambda *of: square(flow(*of)), argnums=(0, 1, 2), has_aux=True))
        fixed, adaptive = [], {}

        def in_clock(noise: Array, m: Array, s: Any, times: Array, **options: Any) -> Any:
            return square(sample_pf_ode(predict, (m, s), None, noise, process, times, **options))

        def in_time(noise: Array, m: Array, s: Any, times: Array) -> Any:
            return square(sample_in_time(predict, (m, s), noise, process, times))

        clock, time = (jax.jit(jax.value_and_grad(fun, has_aux=True)) for fun in (in_clock, in_time))
        tight = jax.jit(
            jax.grad(lambda *of: in_clock(*of, rtol=1e-6, atol=1e-8, solver=diffrax.Tsit5())[0], argnums=(0, 1, 2))
        )
        for spread in map(float, spreads):
            (_, x), slopes = exact(noise, m, spread)
            for steps in counts:
                grids = (time_grid(process, steps, first=FIRST, kind=kind) for kind in ("logsnr", "time"))
                both = [fun(noise, m, spread, grid) for fun, grid in zip((clock, time), grids, strict=True)]
                errors = [(float(np.max(np.abs(found - x))), distance(slope, slopes[0])) for (_, found), slope in both]
                fixed.append(Fixed(spread, steps, *zip(*errors, strict=True)))
            ends = time_grid(process, 1, first=FIRST)
            found = tight(noise, m, spread, ends)
            adaptive[spread] = max(distance(one, truth) for one, truth in zip(found, slopes, strict=True))
        return Closed(fixed, adaptive)
