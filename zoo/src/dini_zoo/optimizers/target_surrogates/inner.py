"""Inner steps on a surrogate: by any solver of dini, any optimizer of optax, or descent with Armijo's search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

import dini

from .checks import known, require_positive
from .surrogate import Surrogate

#: Above what any step size is.
_LONG = 1e12

#: So many looks and trials before anything moves are enough to halve a step until it changes no number.
_LOOKS = 64


@dataclass(frozen=True)
class Armijo:
    r"""Gradient descent that backtracks until :math:`q(x - \alpha g) \le q(x) - c \alpha \|g\|^2`, dini's `ArmijoSGD`.

    Parameters
    ----------
    first
        The first trial of the first step; each set of inner steps begins with it again.
    expansion
        The factor from a step's :math:`\alpha` to the next one's first trial; the paper's code takes
        :math:`2^{1/\text{batches in an epoch}}`.
    factor
        Of each trial to the one before.
    sufficient
        :math:`c`.
    """

    first: float = 10.0
    expansion: float = 2.0
    factor: float = 0.9
    sufficient: float = 0.1

    def __post_init__(self) -> None:
        require_positive("Armijo's first", self.first)
        self.solver  # noqa: B018  # it checks the other settings

    @property
    def solver(self) -> dini.ArmijoSGD:
        """The solver that takes the steps."""
        return dini.ArmijoSGD(
            atol=0.0,
            max_step_size=_LONG,
            aggressiveness=self.sufficient,
            decrease=self.factor,
            growth=self.expansion,
        )


class Inner(NamedTuple):
    """What the inner steps did."""

    steps: Int[Array, ""]
    """How many were taken, from the one on that moved the parameters first."""
    evaluations: Int[Array, ""]
    """Evaluations of the model, with or without its derivative: a step each, and the trials of a search within it.

    The trials of a search without success, where rounding is all there is, are not known.
    """
    error: Float[Array, ""]
    """The solver's own measure of how far from a minimum it was when it took its last step."""
    moved: Bool[Array, ""]
    """Whether the parameters are others than before: not so at a minimum, and where every trial was without success."""


def as_solver(inner: Any) -> dini.Solver:
    """The solver that is meant by a solver of dini, an optimizer of optax, or `Armijo`."""
    if isinstance(inner, Armijo):
        return inner.solver
    if isinstance(inner, dini.PolyakSGD) and known(inner.lower_bound) and not inner.lower_bound < 0:
        raise ValueError(
            "PolyakSGD's lower_bound must be below zero, which is a surrogate's value where the steps begin: given "
            f"{inner.lower_bound}. It would not move."
        )
    if isinstance(inner, dini.Solver) and inner.takes_steps:
        return inner
    if isinstance(inner, optax.GradientTransformation):
        return dini.OptaxSolver(inner, atol=0.0)
    raise TypeError(
        "The inner solver must be one of dini's that takes steps, such as dini.LBFGS(), an optimizer of optax, or "
        f"Armijo(): given {inner!r}."
    )


def carries(solver: dini.Solver) -> bool:
    """Whether a solver's state may go on with another function: those that take a stream of batches."""
    return isinstance(solver, dini.OptaxSolver | dini.ArmijoSGD | dini.PolyakSGD)


def begin(inner: Any, problem: Any, x: Any) -> Any:
    """The state of an inner solver before its first step on a problem."""
    state: Any = as_solver(inner).init(problem, x)
    if isinstance(inner, Armijo):
        # the solver's first trial is larger than its last step by the expansion
        state = state._replace(step_size=jnp.full_like(state.step_size, inner.first / inner.expansion))
    return state


def stated(surrogate: Callable[[Any], Any], solver: dini.Solver) -> Any:
    """The problem of dini that a surrogate is for a solver: least squares, if the solver takes nothing else."""
    if dini.Minimize in solver.solves:
        return dini.Minimize(surrogate)
    if not isinstance(surrogate, Surrogate) or not surrogate.quadratic:
        raise TypeError(
            f"{solver.name} solves problems of least squares, which a surrogate is if its metric is Euclidean or "
            "Diagonal and covers the batch alone. Take a solver of dini.Minimize, such as dini.LBFGS()."
        )
    return dini.LeastSquares(surrogate.residuals)


def minimize_surrogate(
    surrogate: Callable[[Any], Any], params: Any, inner: Any, steps: Any, *, tol: Any = 0.0, state: Any = None
) -> tuple[Any, Any, Inner]:
    r"""Take some steps of a solver on a surrogate.

    Parameters
    ----------
    surrogate
        A function of the parameters; a `Surrogate` with a quadratic metric serves solvers of least squares, too.
    params
        A tree of arrays, where to begin.
    inner
        A solver of dini, an optimizer of optax, or `Armijo`. A step of most solvers of dini is one trial of their line
        search, and the first one only looks.
    steps
        How many at most, counted from the one that moves the parameters first; the number may be known only when the
        program runs. Where a method builds a model of the curvature, as L-BFGS does, that one is a short probe of it:
        give these three or more.
    tol
        The steps end where the solver's error, the norm of the gradient for most, was at most this.
    state
        Of the solver, if it goes on.

    Returns
    -------
    tuple
        The parameters, the solver's state, and what was done, an `Inner`.
    """
    solver = as_solver(inner)
    problem = stated(surrogate, solver)
    first = begin(inner, problem, params) if state is None else state
    none = jnp.zeros((), jnp.int32)

    def going(now: Any) -> Array:
        return (now[0] < steps) & ((now[0] > 0) | (now[1] < _LOOKS)) & ~(now[4].error <= tol)

    def step(now: Any) -> Any:
        count, looks, evaluations, x, before = now
        new, after = solver.step(problem, x, before)
        begun = (count > 0) | _moved(new, x)
        return (
            count + begun.astype(count.dtype),
            looks + 1 - begun.astype(looks.dtype),
            evaluations + evaluated(solver, before, after),
            new,
            after,
        )

    count, _, evaluations, x, last = jax.lax.while_loop(going, step, (none, none, none, params, first))
    return x, last, Inner(count, evaluations, last.error, _moved(x, params))


def _moved(new: Any, old: Any) -> Bool[Array, ""]:
    """Whether two trees of arrays differ."""
    differ = [jnp.any(one != other) for one, other in zip(*map(jax.tree.leaves, (new, old)), strict=True)]
    return jnp.any(jnp.stack(differ))


def evaluated(solver: dini.Solver, before: Any, after: Any) -> Array:
    """How often a step evaluated the function: Armijo's search tells by the step size how many trials it made."""
    if not isinstance(solver, dini.ArmijoSGD):
        return jnp.ones((), jnp.int32)
    start = jnp.minimum(solver.growth * before.step_size, solver.max_step_size)
    trials = jnp.round(jnp.log(after.step_size / start) / np.log(solver.decrease))
    return (2 + trials).astype(jnp.int32)


def armijo_gradient_descent(
    fun: Callable[[Any], Any], params: Any, steps: int, *, tol: float = 1e-6, **settings: float
) -> tuple[Any, Inner]:
    """Take some steps of gradient descent with Armijo's search on any function.

    Parameters
    ----------
    fun
        Of the parameters; a scalar.
    params
        A tree of arrays, where to begin.
    steps
        How many at most.
    tol
        The steps end where the norm of the gradient was at most this.
    **settings
        Those of `Armijo`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x, done = armijo_gradient_descent(lambda x: jnp.sum((x - 1.0) ** 2), jnp.zeros(2), 100)
    >>> print(x.round(3), bool(done.steps < 100))
    [1. 1.] True
    """
    x, _, done = minimize_surrogate(fun, params, Armijo(**settings), steps, tol=tol)
    return x, done
