r"""The error or stiffness estimate of one step at a random time as a penalty, beside a solve that stays a black box.

At a point :math:`(t_*, z_*)` of the solution, which is a constant, one embedded Runge-Kutta step of constant length
:math:`h_*` is taken. Its estimates :math:`E` and :math:`S` (:mod:`dini_zoo.equations.estimates`) are penalized:

.. math:: r = h_* E \qquad\text{or}\qquad r = S / \text{(stability limit)}, \qquad
          \text{loss} = \text{task} + \lambda r .

Only that step is differentiated for it. Where :math:`t_*` is uniform in :math:`[t_0, t_1]`, the mean of :math:`r` is
the mean over time of what the global penalty sums over steps; uniform over the accepted steps, it is dense where the
dynamics are hard.

References
----------
Pal, Edelman, Rackauckas, "Locally regularized neural differential equations: some black boxes were meant to remain
closed!", ICML 2023 (arXiv 2303.02262).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ...kit.checking import known, one_of, positive
from ..arguments import interval, tolerances
from ..estimates import (
    Norm,
    initial_step,
    rms,
    scaled_error,
    stability_size,
    stage_stiffness,
    stiffness_is_known,
    tableau_of,
)
from ..wrappers import with_state, without_state
from .sampling import SampledStep, SamplingSolver, constant, sample_time

KINDS = ("error", "stiffness")
MODES = ("none", "unbiased", "biased")
STEPS = ("controller", "initial", "solver")

#: Trial steps by which the length is found, without and with noise.
TRIALS, NOISY_TRIALS = 2, 3
#: As diffrax's controllers have them.
SAFETY, LEAST_FACTOR, GREATEST_FACTOR = 0.9, 0.2, 10.0

Kind = Literal["error", "stiffness"]
Mode = Literal["none", "unbiased", "biased"]

#: What a solve saves, how it is differentiated, and by what a step is taken, if nothing else is asked for.
AT_END, THROUGH_STEPS, TSIT5 = diffrax.SaveAt(t1=True), diffrax.RecursiveCheckpointAdjoint(), diffrax.Tsit5()


class LocalStep(NamedTuple):
    """One step for a penalty."""

    penalty: Float[Array, ""]
    length: Float[Array, ""]
    """That it took: what grows as dynamics become easy, while the penalty may not fall."""


class Regularised(NamedTuple):
    """A solve and its penalty."""

    solution: diffrax.Solution
    """As `diffrax.diffeqsolve` returns it."""
    penalty: Float[Array, ""]
    time: Float[Array, ""]
    """Where the step was taken."""
    length: Float[Array, ""]
    """Of the step."""
    evaluations: int | None
    """Of the vector field for the penalty, beyond the solve's; `None` where the step is implicit."""


def _is_path(leaf: Any) -> bool:
    return isinstance(leaf, diffrax.AbstractBrownianPath)


def _with_noise(terms: Any, t: Array, end: Array, key: Array | None) -> Any:
    """The terms with fresh noise between two times."""
    number = 0

    def fresh(leaf: Any) -> Any:
        nonlocal number
        if not _is_path(leaf):
            return leaf
        number += 1
        of_path = jax.random.fold_in(key, number)
        return diffrax.VirtualBrownianTree(t, end, (end - t) / 8, leaf.shape, of_path, levy_area=leaf.levy_area)

    return jax.tree.map(fresh, terms, is_leaf=_is_path)


def _noisy(terms: Any) -> bool:
    return any(map(_is_path, jax.tree.leaves(terms, is_leaf=_is_path)))


def _evaluations(solver: diffrax.AbstractSolver[Any]) -> int | None:
    """Of the vector field, or of the drift, in a step that knows nothing of one before."""
    if isinstance(solver, diffrax.HalfSolver) and type(solver) is diffrax.HalfSolver:
        one = _evaluations(solver.solver)
        return None if one is None else 3 * one
    tableau = tableau_of(solver)
    if tableau is not None:
        return tableau.num_stages
    stochastic = getattr(solver, "tableau", None)
    return len(stochastic.b_sol) if isinstance(stochastic, diffrax.StochasticButcherTableau) else None


def penalty_evaluations(
    solver: diffrax.AbstractSolver[Any], step: Any, *, noisy: bool = False, kind: Kind = "error"
) -> int | None:
    """Evaluations of the vector field, or of the drift, that a penalty costs; `None` where a step is implicit.

    Those of the step itself are differentiated, the others not.

    Examples
    --------
    >>> [penalty_evaluations(diffrax.Tsit5(), step) for step in ("controller", "initial", "solver")]
    [23, 9, 7]
    """
    one = _evaluations(solver)
    if one is None:
        return None
    trials = 0 if step != "controller" else NOISY_TRIALS if noisy else TRIALS
    start = 2 if step in ("controller", "initial") and not noisy else 0
    return start + (1 + trials) * one + (2 if noisy and kind == "stiffness" else 0)


def _checked(solver: Any, terms: Any, kind: str, step: Any, steps: tuple[str, ...], key: Any) -> None:
    one_of("kind", kind, KINDS)
    if isinstance(step, str):
        one_of("step", step, steps)
    else:
        positive("step", step)
    if not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            f"The step of a penalty needs an error estimate: {type(solver).__name__} has none. "
            f"diffrax.HalfSolver({type(solver).__name__}()) makes one from half steps."
        )
    if kind == "stiffness":
        stiffness_is_known(solver, terms)
    if _noisy(terms):
        if key is None:
            raise ValueError("key must be given where the terms have noise: a penalty's step draws its own.")
        if step == "initial":
            raise ValueError(
                "step 'initial' is the rule for the first step of an ODE, and the terms have noise: use 'controller', "
                "'solver' or a number."
            )


def local_step(
    terms: Any,
    z: PyTree,
    t: Any,
    t1: Any,
    args: PyTree = None,
    *,
    rtol: Any,
    atol: Any,
    kind: Kind = "error",
    step: Any = "controller",
    solver: diffrax.AbstractSolver[Any] = TSIT5,
    key: Array | None = None,
    norm: Norm = rms,
) -> LocalStep:
    """As :func:`local_penalty`, with the length of the step beside it."""
    interval(t, t1)
    tolerances(rtol, atol)
    _checked(solver, terms, kind, step, STEPS[:2], key)
    z, t, t1 = constant((z, t, t1))
    z = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf, float)), z)
    t, t1 = (jnp.asarray(one, jnp.result_type(t, t1, float)) for one in (t, t1))
    noisy = _noisy(terms)
    if noisy and known(t) and known(t1) and t1 < t:
        raise ValueError(f"t1 must be after t where the terms have noise: given {t1} and {t}.")
    direction, left = jnp.where(t < t1, 1, -1).astype(t.dtype), jnp.abs(t1 - t)

    def estimates(terms: Any, args: Any, h: Array, number: int) -> tuple[Array, Array | None]:
        end = t + direction * h
        if noisy:
            assert key is not None
            terms = _with_noise(terms, t, end, jax.random.fold_in(key, number))
        state = solver.init(terms, t, end, z, args)
        z1, error, dense, _, _ = solver.step(terms, t, end, z, args, state, False)
        if kind == "stiffness" and not number:
            return h, stage_stiffness(solver, terms, t, end, z, z1, error, dense, args, norm)
        return scaled_error(error, z, z1, rtol=rtol, atol=atol, norm=norm), None

    still_terms, still_args = constant((terms, args))
    order = solver.error_order(terms)
    if not isinstance(step, str):
        h = jnp.asarray(constant(step), t.dtype)
    elif noisy:
        h = 0.01 * left
    else:
        f = lambda t, z, args: solver.func(still_terms, t, z, args)
        h = initial_step(f, t, z, still_args, rtol, atol, order, direction=direction, norm=norm).astype(t.dtype)
    if step == "controller":
        for number in range(1, 1 + (NOISY_TRIALS if noisy else TRIALS)):
            h = jnp.minimum(h, left)
            E, _ = estimates(still_terms, still_args, h, number)
            # E may be zero, or infinite
            raw = SAFETY * jnp.where(E > 0, E, 1) ** (-1 / order)
            h = h * jnp.where(E > 0, jnp.clip(raw, LEAST_FACTOR, GREATEST_FACTOR), GREATEST_FACTOR).astype(h.dtype)
    h = jax.lax.stop_gradient(jnp.minimum(h, left))
    E, S = estimates(terms, args, h, 0)
    if S is None:
        return LocalStep(h * E, h)
    return LocalStep(S if isinstance(terms, diffrax.MultiTerm) else S / stability_size(solver), h)


def local_penalty(
    terms: Any,
    z: PyTree,
    t: Any,
    t1: Any,
    args: PyTree = None,
    *,
    rtol: Any,
    atol: Any,
    kind: Kind = "error",
    step: Any = "controller",
    solver: diffrax.AbstractSolver[Any] = TSIT5,
    key: Array | None = None,
    norm: Norm = rms,
) -> Float[Array, ""]:
    r"""The penalty of one step from a point. Its derivative goes to `args` and to what `terms` hold, to nothing else.

    Parameters
    ----------
    terms, args
        As in `diffrax.diffeqsolve`.
    z, t
        The point.
    t1
        The end of the solve, over which the step does not go.
    rtol, atol
        In units of these the error is measured: those of the solve.
    kind
        `"error"` or `"stiffness"`.
    step
        Its length. `"controller"`: what a step size controller would take here, found by trial steps, so that
        :math:`E` is about a half. `"initial"`: what a solve that began here would take first, as in the paper's code;
        it is so careful that errors are tiny, and the penalty has no effect unless they are rounding. A number: so
        much.
    solver
        That takes the step; any with an error estimate. With noise it must be one for that.
    key
        Of the noise, which is fresh; needed where the terms have any.
    norm
        Of errors and stages.

    Returns
    -------
    array
        :math:`r`. It need not fall as dynamics become easy, since then the step is longer.

    Raises
    ------
    ValueError
        If a word is none of these, a number out of its range, `t = t1`, the solver has no estimate of this kind, or
        the key is missing.

    Examples
    --------
    >>> term = diffrax.ODETerm(lambda t, z, rate: -rate * z)
    >>> @jax.jit
    ... @jax.value_and_grad
    ... def penalty(rate):
    ...     return local_penalty(term, jnp.ones(2), 0.0, 1.0, rate, rtol=1e-4, atol=1e-4, step=0.1)
    >>> value, slope = penalty(4.0)
    >>> print(f"{value:.4f} {slope:.4f}")
    0.0025 0.0032
    """
    found = local_step(
        terms, z, t, t1, args, rtol=rtol, atol=atol, kind=kind, step=step, solver=solver, key=key, norm=norm
    )
    return found.penalty


def locally_regularised_solve(
    key: Array,
    terms: Any,
    solver: diffrax.AbstractSolver[Any],
    t0: Any,
    t1: Any,
    dt0: Any,
    y0: PyTree,
    args: PyTree = None,
    *,
    rtol: Any,
    atol: Any,
    mode: Mode = "unbiased",
    kind: Kind = "error",
    step: Any = "controller",
    local_solver: diffrax.AbstractSolver[Any] | None = None,
    saveat: diffrax.SaveAt = AT_END,
    stepsize_controller: diffrax.AbstractStepSizeController[Any, Any] | None = None,
    adjoint: diffrax.AbstractAdjoint = THROUGH_STEPS,
    norm: Norm = rms,
    **options: Any,
) -> Regularised:
    """`diffrax.diffeqsolve`, and the penalty of one step at a random time beside the solution.

    Parameters
    ----------
    key
        Of the time, and of the step's noise. Take another one in each step of training. Under `jax.vmap`, one a lane.
    terms, solver, t0, t1, dt0, y0, args, saveat, adjoint, options
        As in `diffrax.diffeqsolve`; any of its adjoints. The solution is the same, bit by bit.
    rtol, atol
        Tolerances: of the controller, and the units of the error.
    mode
        `"unbiased"`: the time is uniform between `t0` and `t1`. `"biased"`: it is the start of an accepted step, each
        with the same probability. `"none"`: no penalty, for a model in use.
    kind, step, norm
        See :func:`local_penalty`. `step` may be `"solver"`, too: the length of the accepted step that has the time
        in it.
    local_solver
        That takes the step for the penalty; `solver` if none is given.
    stepsize_controller
        `diffrax.PIDController(rtol, atol)` if none is given.

    Raises
    ------
    ValueError
        As :func:`local_penalty`, and if the mode is none of these.

    Examples
    --------
    >>> term = diffrax.ODETerm(lambda t, z, rate: -rate * z)
    >>> @jax.jit
    ... @jax.grad
    ... def loss(rate, key):
    ...     found = locally_regularised_solve(
    ...         key, term, diffrax.Tsit5(), 0.0, 1.0, None, jnp.ones(2), rate, rtol=1e-4, atol=1e-4,
    ...         adjoint=diffrax.BacksolveAdjoint(),
    ...     )
    ...     return jnp.sum(found.solution.ys**2) + 0.5 * found.penalty
    >>> bool(jnp.isfinite(loss(4.0, jax.random.key(0))))
    True
    """
    one_of("mode", mode, MODES)
    interval(t0, t1)
    tolerances(rtol, atol)
    taken_by = solver if local_solver is None else local_solver
    _checked(taken_by, terms, kind, step, STEPS, key)
    controller = diffrax.PIDController(rtol=rtol, atol=atol) if stepsize_controller is None else stepsize_controller
    problem = {"t0": t0, "t1": t1, "dt0": dt0, "stepsize_controller": controller, **options}
    if mode == "none":
        solution = diffrax.diffeqsolve(terms, solver, y0=y0, args=args, saveat=saveat, adjoint=adjoint, **problem)
        zero, start = jnp.zeros(()), jnp.asarray(t0, jnp.result_type(t0, float))
        return Regularised(solution, zero, start, jnp.zeros_like(start), 0)
    of_time, of_noise = jax.random.split(key)
    direction = jnp.where(jnp.asarray(t0) < jnp.asarray(t1), 1, -1)
    # the solver's loop runs forward, whichever way time does
    if mode == "unbiased":
        sampling = SamplingSolver(solver, time=direction * sample_time(of_time, t0, t1))
    else:
        sampling = SamplingSolver(solver, key=of_time)
    if isinstance(adjoint, diffrax.BacksolveAdjoint):
        adjoint = diffrax.BacksolveAdjoint(**{"solver": solver, **adjoint.kwargs})
    if isinstance(adjoint, diffrax.ImplicitAdjoint):
        # it gives the end alone: the point is of another solve
        solution = diffrax.diffeqsolve(terms, solver, y0=y0, args=args, saveat=saveat, adjoint=adjoint, **problem)
        again = diffrax.diffeqsolve(
            constant(terms),
            sampling,
            y0=constant(y0),
            args=constant(args),
            saveat=with_state(AT_END),
            adjoint=THROUGH_STEPS,
            **problem,
        )
        _, point = without_state(again, AT_END)
    else:
        solution = diffrax.diffeqsolve(
            terms, sampling, y0=y0, args=args, saveat=with_state(saveat), adjoint=adjoint, **problem
        )
        solution, point = without_state(solution, saveat)
    point = SampledStep(*constant(tuple(point)))
    t = direction * point.t
    found = local_step(
        terms,
        point.z,
        t,
        t1,
        args,
        rtol=rtol,
        atol=atol,
        kind=kind,
        step=point.h if isinstance(step, str) and step == "solver" else step,
        solver=taken_by,
        key=of_noise,
        norm=norm,
    )
    calls = penalty_evaluations(taken_by, step, noisy=_noisy(terms), kind=kind)
    return Regularised(solution, found.penalty, t, found.length, calls)
