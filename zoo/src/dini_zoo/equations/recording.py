r"""Sums of a solver's error and stiffness estimates over its accepted steps, to be differentiated and penalized.

With :math:`E_j` and :math:`S_j` of :mod:`.estimates`, and :math:`\hat S_j` the stiffness as a share of the solver's
stability limit (:func:`.estimates.stability_size`),

.. math:: R_E = \sum_j E_j |h_j|, \qquad R_{E^2} = \sum_j E_j^2 |h_j|, \qquad R_S = \sum_j \hat S_j .

Step lengths are constants of the derivative, as everywhere in diffrax: less error at the same lengths, and the
controller then takes longer steps.

References
----------
Pal, Ma, Shah, Rackauckas, "Opening the blackbox: accelerating neural differential equations by regularizing internal
solver heuristics", ICML 2021 (arXiv 2105.03918).
"""

from __future__ import annotations

from typing import Any, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..kit.checking import known, one_of
from .arguments import interval, tolerances
from .estimates import (
    Norm,
    equal_stages,
    rms,
    scaled_error,
    stability_size,
    stage_stiffness,
    stiffness_is_known,
)
from .wrappers import WatchingSolver, with_state, without_state

#: What a solve saves, and how it is differentiated, if nothing else is asked for.
AT_END, THROUGH_STEPS = diffrax.SaveAt(t1=True), diffrax.RecursiveCheckpointAdjoint()


class SolverHeuristics(eqx.Module):
    """Sums and greatest values of a solver's estimates over its accepted steps.

    Numbers; under `jax.vmap`, one for each lane.
    """

    error: Float[Array, ""]
    r"""The sum of :math:`E_j |h_j|`."""
    error_sq: Float[Array, ""]
    r"""The sum of :math:`E_j^2 |h_j|`."""
    stiffness: Float[Array, ""] | None
    r"""The sum of :math:`S_j`; `None` where stiffness was not asked for."""
    error_max: Float[Array, ""]
    error_sq_max: Float[Array, ""]
    stiffness_max: Float[Array, ""] | None
    """The greatest of the terms of each sum."""
    steps: Int[Array, ""]
    """How many steps were accepted."""
    stability: float = eqx.field(static=True, default=1.0)
    """What stiffness is divided by to be penalized: :func:`.estimates.stability_size`, or 1 with noise."""


class RecordingSolver(WatchingSolver):
    """Wraps a diffrax solver and keeps its estimates: its state is the pair of the solver's and `SolverHeuristics`.

    Its solutions are those of the solver, bit by bit. Use it through :func:`solve_recorded`, or by itself, with
    `SaveAt(solver_state=True)`.

    Parameters
    ----------
    solver
        Any with an error estimate: an embedded Runge-Kutta method, `diffrax.SPaRK`, a `diffrax.HalfSolver`.
    rtol, atol
        In units of these errors are measured: those of the controller, for which a step is good if it is below 1.
    stiffness
        Whether to estimate stiffness, for which an explicit solver needs two stages at the same time. With noise it
        takes two more evaluations of the drift.
    norm
        Of errors and stages. Where a state is divided among devices, one that sums over them.

    Raises
    ------
    ValueError
        If the solver has no error estimate, or a tolerance is negative, or, when it is used, stiffness is asked of a
        solver that does not show it.
    """

    solver: diffrax.AbstractSolver[Any]
    rtol: Any
    atol: Any
    stiffness: bool = eqx.field(static=True, default=True)
    norm: Norm = eqx.field(static=True, default=rms)

    def __check_init__(self) -> None:
        tolerances(self.rtol, self.atol)
        if not isinstance(self.solver, diffrax.AbstractAdaptiveSolver):
            raise ValueError(
                f"solver must have an error estimate to record: {type(self.solver).__name__} has none. "
                f"diffrax.HalfSolver({type(self.solver).__name__}()) makes one from half steps."
            )

    def start(self, terms: Any, t0: Any, y0: Any, args: Any) -> SolverHeuristics:
        """Zeros."""
        del t0, args
        stability = 1.0
        if self.stiffness:
            stiffness_is_known(self.solver, terms)
            if not isinstance(terms, diffrax.MultiTerm) and equal_stages(self.solver):
                stability = stability_size(self.solver)
        zero = jnp.zeros((), jnp.finfo(jnp.result_type(*jax.tree.leaves(y0))).dtype)
        maybe = zero if self.stiffness else None
        return SolverHeuristics(zero, zero, maybe, zero, zero, maybe, jnp.zeros((), jnp.int32), stability)

    def watch(
        self, kept: SolverHeuristics, terms: Any, t0: Any, t1: Any, y0: Any, y1: Any, error: Any, dense: Any, args: Any
    ) -> SolverHeuristics:
        """One more step's estimates."""
        h = t1 - t0
        E = scaled_error(error, y0, y1, rtol=self.rtol, atol=self.atol, norm=self.norm)
        plain, squared = E * h, E**2 * h
        S = None
        if self.stiffness:
            S = stage_stiffness(self.solver, terms, t0, t1, y0, y1, error, dense, args, self.norm)
        add = lambda total, term: None if total is None else total + jnp.asarray(term, total.dtype)
        most = lambda most, term: None if most is None else jnp.maximum(most, jnp.asarray(term, most.dtype))
        return SolverHeuristics(
            error=add(kept.error, plain),
            error_sq=add(kept.error_sq, squared),
            stiffness=add(kept.stiffness, S),
            error_max=most(kept.error_max, plain),
            error_sq_max=most(kept.error_sq_max, squared),
            stiffness_max=most(kept.stiffness_max, S),
            steps=kept.steps + 1,
            stability=kept.stability,
        )


def solve_recorded(
    terms: Any,
    solver: diffrax.AbstractSolver[Any],
    t0: Any,
    t1: Any,
    dt0: Any,
    y0: Any,
    args: Any = None,
    *,
    rtol: Any,
    atol: Any,
    stiffness: bool = True,
    saveat: diffrax.SaveAt = AT_END,
    stepsize_controller: diffrax.AbstractStepSizeController[Any, Any] | None = None,
    adjoint: diffrax.AbstractAdjoint = THROUGH_STEPS,
    norm: Norm = rms,
    **options: Any,
) -> tuple[diffrax.Solution, SolverHeuristics]:
    """`diffrax.diffeqsolve`, with the solver's estimates beside the solution.

    Parameters
    ----------
    terms, solver, t0, t1, dt0, y0, args, saveat, adjoint, options
        As in `diffrax.diffeqsolve`. The adjoint differentiates the solver's steps:
        `RecursiveCheckpointAdjoint`, `DirectAdjoint` or `ForwardMode`.
    rtol, atol
        Tolerances: of the controller, and the units of errors.
    stiffness
        Whether to estimate stiffness, too; see :class:`RecordingSolver`.
    stepsize_controller
        `diffrax.PIDController(rtol, atol)` if none is given.
    norm
        See :class:`RecordingSolver`.

    Returns
    -------
    solution, heuristics
        The solution that `diffrax.diffeqsolve` returns for the same arguments, and a :class:`SolverHeuristics`.

    Raises
    ------
    ValueError
        If the adjoint knows nothing of steps, as those do that solve another equation for the derivative; the local
        regularizer serves these. If the solver has no estimates, an end or a tolerance is no number, or `t0 = t1`.

    Examples
    --------
    >>> term = diffrax.ODETerm(lambda t, y, args: -args * y)
    >>> @jax.jit
    ... @jax.value_and_grad
    ... def penalty(rate):
    ...     _, heuristics = solve_recorded(
    ...         term, diffrax.Tsit5(), 0.0, 1.0, None, jnp.ones(2), rate, rtol=1e-4, atol=1e-4
    ...     )
    ...     return heuristic_penalty(heuristics, "stiffness", agg="max") * heuristics.stability
    >>> value, slope = penalty(3.0)
    >>> print(f"{value:.3f} {slope:.3f}")
    3.000 1.000
    """
    interval(t0, t1)
    if isinstance(adjoint, diffrax.BacksolveAdjoint | diffrax.ImplicitAdjoint):
        raise ValueError(
            f"adjoint must differentiate the solver's steps, whose estimates are penalized: given "
            f"{type(adjoint).__name__}. Use RecursiveCheckpointAdjoint(), or, with this adjoint, the penalty of one "
            "step: dini_zoo.equations.locally_regularised_ndes."
        )
    if stiffness:
        stiffness_is_known(solver, terms)
    recording = RecordingSolver(solver, rtol, atol, stiffness, norm)
    controller = diffrax.PIDController(rtol=rtol, atol=atol) if stepsize_controller is None else stepsize_controller
    solution = diffrax.diffeqsolve(
        terms,
        recording,
        t0,
        t1,
        dt0,
        y0,
        args,
        saveat=with_state(saveat),
        stepsize_controller=controller,
        adjoint=adjoint,
        **options,
    )
    return without_state(solution, saveat)


KINDS = ("error", "error_sq", "stiffness", "error+stiffness")
AGGREGATES = ("sum", "mean", "max")

#: The weight of the stiffness in `"error+stiffness"`.
SHARE = 0.1


def heuristic_penalty(
    heuristics: SolverHeuristics,
    kind: Literal["error", "error_sq", "stiffness", "error+stiffness"] = "error",
    agg: Literal["sum", "mean", "max"] = "mean",
) -> Float[Array, ""]:
    r"""The number to add to a loss, times a weight.

    Parameters
    ----------
    heuristics
        What :func:`solve_recorded` returned. Of several solves side by side there is a number for each: average them.
    kind
        `"error"`: :math:`E_j |h_j|`; `"error_sq"`: :math:`E_j^2 |h_j|`; `"stiffness"`: :math:`\hat S_j`;
        `"error+stiffness"`: the first and a tenth of the third.
    agg
        Over accepted steps: their sum, their mean, or the greatest. A sum of stiffness gains by fewer, longer steps
        alone.

    Raises
    ------
    ValueError
        If a word is none of these, or stiffness was not recorded.
    """
    one_of("kind", kind, KINDS)
    one_of("agg", agg, AGGREGATES)
    if "stiffness" in kind and heuristics.stiffness is None:
        raise ValueError(f"kind {kind!r} needs a solve that recorded stiffness: give it stiffness=True.")

    def total(name: str) -> Array:
        found = getattr(heuristics, f"{name}_max" if agg == "max" else name)
        found = found / heuristics.stability if name == "stiffness" else found
        return found / jnp.maximum(heuristics.steps, 1) if agg == "mean" else found

    if kind == "error+stiffness":
        return total("error") + SHARE * total("stiffness")
    return total(kind)


def steer_end_time(key: Array, t1: Any, b: float, t0: Any = 0.0) -> Float[Array, ""]:
    r"""A random end for a solve in training, uniform in :math:`(t_1 - b, t_1 + b)`.

    The other way to dynamics that are easy to solve: a flow whose end is not known cannot afford to be quick.

    Raises
    ------
    ValueError
        If `b` is not positive, or so large that the solve could end before `t0`.

    References
    ----------
    Ghosh, Behl, Dupont, Torr, Namboodiri, "STEER: simple temporal regularization for neural ODEs", NeurIPS 2020.

    Examples
    --------
    >>> ends = jax.vmap(lambda key: steer_end_time(key, 1.0, 0.5))(jax.random.split(jax.random.key(0), 1000))
    >>> bool(ends.min() > 0.5), bool(ends.max() < 1.5), round(float(ends.mean()), 1)
    (True, True, 1.0)
    """
    if not 0 < b < np.inf:
        raise ValueError(f"b must be positive and finite: given {b}.")
    if known(t0) and known(t1) and not b < abs(np.asarray(t1) - np.asarray(t0)):
        raise ValueError(f"b must be less than the length of the solve, {abs(t1 - t0)}: given {b}.")
    t1 = jnp.asarray(t1, jnp.result_type(float))
    return t1 + b * jax.random.uniform(key, dtype=t1.dtype, minval=-1.0, maxval=1.0)
