"""Stochastic gradient descent with an Armijo line search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from .. import trees
from ..loop import tolerance
from ..settings import require_positive
from ._base import Solver, infinity, relative_rounding
from ._stochastic import optimality, require_set


class State(NamedTuple):
    """Carried from step to step."""

    error: Any
    step_size: Any
    velocity: Any


def _require_between(name: str, value: float, low: float, high: float) -> None:
    if not low < value < high:
        raise ValueError(f"{name} must be between {low} and {high}: given {value}.")


@register_dataclass
@dataclass(frozen=True)
class ArmijoSGD(Solver):
    r"""Stochastic gradient descent whose step sizes come from a line search on the batch, with momentum.

    On the batch of the step, :math:`\eta` shrinks from ``growth`` times the last one (at most ``max_step_size``) until

    .. math:: f_b(x^+) \le f_b(x) - \tfrac{c}{\eta}\|x - x^+\|^2, \qquad x^+ = \Pi_C(x - \eta\nabla f_b(x)) ,

    which without constraint is Armijo's condition; then the momentum :math:`\beta v` of the last move is added. Where a
    model can fit all batches at once (interpolation), this converges like gradient descent on all data. The trials of a
    step are made on its batch, in the step. The error is that of :class:`OptaxSolver`, at the point before the step.

    Parameters
    ----------
    max_step_size
        Largest step size, and the first one.
    aggressiveness
        :math:`c`, in (0, 1).
    decrease
        Factor after a failed trial, in (0, 1).
    growth
        Factor between steps, at least one.
    momentum
        :math:`\beta`, in [0, 1).
    tol, max_steps
        As for :class:`OptaxSolver`.

    References
    ----------
    Vaswani, Mishkin, Laradji, Schmidt, Gidel, Lacoste-Julien, "Painless stochastic gradient: interpolation,
    line-search, and convergence rates", NeurIPS 2019.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2))
    >>> print(dini.solve(problem, dini.ArmijoSGD(), jnp.zeros(2), jnp.array([1.5, -1.0])).x.round(3))
    [ 1.5 -1. ]
    """

    max_step_size: Any = 1.0
    aggressiveness: float = field(default=0.1, metadata={"static": True})
    decrease: float = field(default=0.8, metadata={"static": True})
    growth: float = field(default=1.5, metadata={"static": True})
    momentum: float = field(default=0.0, metadata={"static": True})
    tol: Any = None
    max_steps: int = field(default=10000, metadata={"static": True})

    composite = True
    lags = True

    def __post_init__(self) -> None:
        self._check_settings()
        require_positive("ArmijoSGD's max_step_size", self.max_step_size)
        _require_between("ArmijoSGD's aggressiveness", self.aggressiveness, 0, 1)
        _require_between("ArmijoSGD's decrease", self.decrease, 0, 1)
        if not self.growth >= 1:
            raise ValueError(f"ArmijoSGD's growth must be at least 1: given {self.growth}.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"ArmijoSGD's momentum must be in [0, 1): given {self.momentum}.")

    def check(self, problem: Any, x: Any) -> None:
        """Raise for a penalty."""
        super().check(problem, x)
        require_set(self, problem)

    def init(self, problem: Any, x: Any, *args: Any) -> State:
        """Return the state before the first step."""
        del problem, args
        inf = infinity(x)
        return State(inf, jnp.asarray(self.max_step_size, inf.dtype), trees.zeros_like(x))

    def step(self, problem: Any, x: Any, state: State, *args: Any) -> tuple[Any, State]:
        """Take one step."""
        dtype = state.error.dtype
        value, gradient = problem.value_and_gradient(x, *args)
        most = jnp.asarray(self.max_step_size, dtype)
        first = jnp.minimum(self.growth * state.step_size, most)
        eta = self._search(problem, x, value, gradient, first.astype(dtype), args)
        new = problem.prox(trees.axpy(-eta, gradient, x), 1.0)
        if self.momentum:
            new = problem.prox(trees.axpy(self.momentum, state.velocity, new), 1.0)
        error = optimality(problem, x, gradient).astype(dtype)
        new = trees.where(error <= tolerance(self, x), x, new)
        return new, State(error, eta, trees.sub(new, x))

    def _search(self, problem: Any, x: Any, value: Any, gradient: Any, first: Any, args: tuple[Any, ...]) -> Any:
        """Return the step size, a constant of differentiation."""
        x, value, gradient, first = jax.lax.stop_gradient((x, value, gradient, first))
        slack = relative_rounding(value)

        def fails(eta: Any) -> Any:
            new = problem.prox(trees.axpy(-eta, gradient, x), 1.0)
            move = trees.sub(new, x)
            squared = trees.vdot(move, move)
            enough = problem.value(new, *args) <= value - self.aggressiveness * squared / eta + slack
            # where nothing moves any more, or nothing is finite, no shorter step helps
            return ~enough & (squared > 0) & jnp.isfinite(value) & (eta > jnp.finfo(first.dtype).tiny * 1e6)

        eta = jax.lax.while_loop(fails, lambda eta: (self.decrease * eta).astype(eta.dtype), first)
        return jax.lax.stop_gradient(eta)
