r"""A sampler that is differentiated by the adjoint equation, in the clock in which its stiff part is gone.

With :math:`y = x / \alpha` and :math:`\rho = \sigma / \alpha` the probability flow of a process is

.. math:: \frac{dy}{d\rho} = \varepsilon_\theta\big(\alpha y, t(\rho), c\big),

from :math:`y_T = x_T / \alpha_T` to :math:`x_0 = \alpha_{t_0} y`. For a loss :math:`L(x_0)` the adjoint
:math:`a = \partial L / \partial y` obeys

.. math::
    \frac{d}{d\rho} (a, a_\theta, a_c) = -\Big(a^\top \frac{\partial \varepsilon}{\partial y},\;
    a^\top \frac{\partial \varepsilon}{\partial \theta},\; a^\top \frac{\partial \varepsilon}{\partial c}\Big), \qquad
    a(\rho_0) = \alpha_{t_0} \frac{\partial L}{\partial x_0},

from :math:`\rho_0` up, while :math:`y` is reconstructed: nothing is stored. Then :math:`\partial L / \partial x_T =
a(\rho_T) / \alpha_T`, and the other two are the derivatives in weights and condition.

References
----------
Pan, Liew, Tan, Feng and Yan, "AdjointDPM: adjoint sensitivity method for gradient backpropagation of diffusion
probabilistic models", ICLR 2024 (arXiv 2307.10711).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.diffusion.processes import Process
from dini_zoo.kit.checking import decreasing, finite, one_of, positive

from .schedules import noise_ratio, time_of_ratio

#: `predict(params, x, t, condition)`, the noise in a batch `x` at a time: a number.
type Predictor = Callable[[Any, Any, Any, Any], Any]
type Adjoint = Literal["backsolve", "checkpoint", "stored", "direct"]

ADJOINTS = ("backsolve", "checkpoint", "stored", "direct")


def sample_pf_ode(
    predict: Predictor,
    params: Any,
    condition: Any,
    noise: Float[Array, "n ..."],
    process: Process,
    times: Float[Array, " N1"],
    *,
    solver: diffrax.AbstractSolver | None = None,
    adjoint: Adjoint | diffrax.AbstractAdjoint = "backsolve",
    rtol: float | None = None,
    atol: float = 1e-8,
    seminorm: bool = False,
    max_steps: int = 4096,
    denoise: bool = False,
) -> Float[Array, "n ..."]:
    r"""Samples of the probability flow, differentiable in `params`, `condition` and `noise`.

    Parameters
    ----------
    predict
        `predict(params, x, t, condition)`, the noise in a batch of points `x` at the time `t`, a number. It must be a
        function: no dropout. See `dini_zoo.diffusion.predictions.converted` for networks that predict something else.
    params, condition
        Trees of arrays of floats. Each of their numbers is a component of the adjoint equation, be its derivative asked
        for or not: what is constant belongs into `predict`, and costs nothing there.
    noise
        :math:`x_T`. Below single precision the flow is in single precision all the same, and `predict` gets what it is
        used to.
    process
        Any linear process with known laws.
    times
        From the noise to :math:`t_0 > 0`, as :func:`time_grid` makes them; with `rtol` only the ends count.
    solver
        One of diffrax' for ordinary equations; `Heun` if it is not given. `Euler` is deterministic DDIM.
    adjoint
        How derivatives are taken. `"backsolve"`: by the adjoint equation, with the same solver on the same grid. It is
        the derivative of the flow, not of the sampler's few steps: the two agree as steps become small.
        `"checkpoint"`: exactly, with about :math:`\log N` states in memory, each step done again. `"stored"`: exactly,
        with all states in memory. `"direct"`: exactly, with all that the network computed in memory. Or one of diffrax'
        adjoints, such as `BacksolveAdjoint` with another solver.
    rtol, atol
        Tolerances of adaptive steps on both ways, in place of the grid.
    seminorm
        Whether the adaptive steps of the way back leave the derivatives in `params` and `condition` out of their error,
        which by their number decide it otherwise.
    max_steps
        Of adaptive steps; more raise diffrax' error.
    denoise
        Whether to end with the prediction of the data at :math:`t_0`, one more call of the network.

    Raises
    ------
    ValueError
        For times that do not fall or do not end above 0, a prediction of another shape than `x`, whole numbers in
        `params` or `condition`, a NaN or an infinity in these or in `noise`, another `adjoint`, `"direct"` with `rtol`
        or an implicit solver, and `rtol` or `atol` that are not positive.

    Examples
    --------
    >>> from dini_zoo.diffusion.processes import VPSDE
    >>> from .schedules import time_grid
    >>> process = VPSDE()
    >>> predict = lambda m, x, t, _: (x - process.alpha(t) * m) * process.sigma(t)  # data N(m, 1)
    >>> times = time_grid(process, 20)
    >>> sample = lambda m: sample_pf_ode(predict, m, None, jnp.zeros((1, 1)), process, times)[0, 0]
    >>> print(f"{sample(2.0):.1f} {jax.grad(sample)(2.0):.1f}")
    2.0 1.0
    """
    times = jnp.asarray(times)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times must be a vector of two or more: given shape {times.shape}.")
    decreasing("times", times)
    positive("times", times)
    noise = _floats("noise", noise)
    params, condition = _floats("params", params), _floats("condition", condition)
    solver = diffrax.Heun() if solver is None else solver
    state = jnp.promote_types(noise.dtype, jnp.float32)

    def velocity(s: Any, y: Array, args: tuple[Any, Any]) -> Array:
        # the solver's time rises: s = -ρ, which keeps the digits of a small ρ
        t = time_of_ratio(process, -s)
        x = (process.alpha(t) * y).astype(noise.dtype)
        found = predict(args[0], x, t.astype(noise.dtype), args[1])
        if jnp.shape(found) != x.shape:
            raise ValueError(f"predict must return the shape of x, {x.shape}: given {jnp.shape(found)}.")
        return -found.astype(state)

    grid = -noise_ratio(process, times).astype(state)
    y = noise.astype(state) / process.alpha(times[0]).astype(state)
    if rtol is not None:
        positive("rtol", rtol)
        positive("atol", atol)
        controller = diffrax.PIDController(rtol=rtol, atol=atol)
        norm = {"norm": diffrax.adjoint_rms_seminorm} if seminorm else {}
        back = diffrax.PIDController(rtol=rtol, atol=atol, **norm)
    else:
        controller, back, max_steps = diffrax.StepTo(ts=grid), diffrax.StepTo(ts=grid[::-1]), len(grid) - 1
    args = (params, condition)
    if adjoint == "direct":
        if rtol is not None:
            raise ValueError('adjoint must be another than "direct" with rtol: adaptive steps have no fixed number.')
        y = _scanned(solver, velocity, grid, y, args)
    else:
        y = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity),
            solver,
            grid[0],
            grid[-1],
            None,
            y,
            args,
            stepsize_controller=controller,
            adjoint=_adjoint(adjoint, back, max_steps),
            max_steps=max_steps,
        ).ys[0]
    end = times[-1]
    if denoise:
        return (y + noise_ratio(process, end).astype(state) * velocity(grid[-1], y, args)).astype(noise.dtype)
    return (process.alpha(end).astype(state) * y).astype(noise.dtype)


def _floats(name: str, tree: Any) -> Any:
    """A tree whose arrays and numbers are floats, as arrays, and finite as far as they are known."""
    finite(name, tree)

    def leaf(value: Any) -> Any:
        if isinstance(value, int | float | complex):
            value = jnp.asarray(value)
        if eqx.is_array_like(value) and not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise ValueError(
                f"{name} must hold floats, by which it can be differentiated: given {jnp.result_type(value)}. "
                "Constants belong into predict."
            )
        return value

    return jax.tree.map(leaf, tree)


def _adjoint(
    adjoint: Adjoint | diffrax.AbstractAdjoint, back: diffrax.AbstractStepSizeController, max_steps: int
) -> diffrax.AbstractAdjoint:
    """One of diffrax' adjoints."""
    if isinstance(adjoint, diffrax.AbstractAdjoint):
        return adjoint
    one_of("adjoint", adjoint, ADJOINTS)
    if adjoint == "backsolve":
        return diffrax.BacksolveAdjoint(stepsize_controller=back)
    return diffrax.RecursiveCheckpointAdjoint(checkpoints=None if adjoint == "checkpoint" else max_steps)


def _scanned(solver: diffrax.AbstractSolver, velocity: Any, grid: Array, y: Array, args: Any) -> Array:
    """The steps of an explicit Runge-Kutta method one after another, as JAX differentiates them by itself.

    diffrax' own steps would keep the stages' values alone, and call the network again on the way back.
    """
    if isinstance(solver, diffrax.Euler):
        nodes, rows, weights = (), (), (1.0,)
    elif isinstance(solver, diffrax.AbstractERK):
        tableau = solver.tableau
        nodes, rows, weights = tuple(tableau.c), tuple(map(tuple, tableau.a_lower)), tuple(tableau.b_sol)
    else:
        raise ValueError(f'solver must be an explicit Runge-Kutta method with adjoint="direct": given {solver}.')

    def moved(y: Array, h: Array, row: Any, slopes: list[Array]) -> Array:
        return y + h * sum(float(a) * slope for a, slope in zip(row, slopes, strict=True) if a)

    def step(y: Array, ends: tuple[Array, Array]) -> tuple[Array, None]:
        start, end = ends
        h = end - start
        slopes = [velocity(start, y, args)]
        for c, row in zip(nodes, rows, strict=True):
            # a last stage is at the end to the last bit
            s = end if c == 1 else start + float(c) * h
            slopes.append(velocity(s, moved(y, h, row, slopes), args))
        return moved(y, h, weights, slopes), None

    return jax.lax.scan(step, y, (grid[:-1], grid[1:]))[0]


def guided(predict: Predictor, weight: Any, unconditional: Any) -> Predictor:
    r"""Guidance without a classifier: :math:`\varepsilon_u + w (\varepsilon_c - \varepsilon_u)`.

    `unconditional` is the condition of :math:`\varepsilon_u`, a constant; the derivative reaches `condition` through
    :math:`\varepsilon_c`.
    """

    def both(params: Any, x: Array, t: Any, condition: Any) -> Array:
        free = predict(params, x, t, unconditional)
        return free + weight * (predict(params, x, t, condition) - free)

    return both
