"""Stochastic gradient descent with an Armijo line search."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_between, require_positive
from ..loop import met
from ..protocols import AnyProblem, Composed, Minimization
from ..trees import Tree
from ._base import solver
from .judge._margins import relative_rounding
from .shared._stochastic import MomentumState, Stochastic, evaluate, optimality, steepest


@solver
class ArmijoSGD(Stochastic):
    r"""Stochastic gradient descent whose step sizes come from a line search on the batch, with momentum.

    On the batch of the step, :math:`\eta` shrinks from ``growth`` times the last one (at most ``max_step_size``) until

    .. math::
        \begin{aligned}
        f_b(x^+) &\le f_b(x) - \tfrac{c}{\eta}\|x - x^+\|^2, \qquad (1) \\
        x^+ &= \Pi_C(x - \eta\nabla f_b(x)) , \qquad (2)
        \end{aligned}

    which without constraint is Armijo's condition (where the two values differ by rounding errors only, the mean of the
    gradients at both ends gives their difference). The new point has the momentum of the last move ``v`` as well,

    .. math:: \Pi_C(x^+ + \beta v) . \qquad (3)

    Where a model can fit all batches at once (interpolation), this converges like gradient descent on all data. The
    trials of a step are made on its batch, in the step. The error is that of :class:`OptaxSolver`, at the point before
    the step.

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
    rtol, atol, max_steps
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
    max_steps: int = field(default=10000, metadata={"static": True})

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("ArmijoSGD's max_step_size", self.max_step_size)
        require_between("ArmijoSGD's aggressiveness", self.aggressiveness, 0, 1)
        require_between("ArmijoSGD's decrease", self.decrease, 0, 1)
        if not self.growth >= 1:
            raise ValueError(f"ArmijoSGD's growth must be at least 1: given {self.growth}.")
        require_between("ArmijoSGD's momentum", self.momentum, 0, 1, or_low=True)

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> MomentumState:
        """Return the state before the first step."""
        return MomentumState.first(problem, x, args, self.max_step_size)

    def step(self, problem: Minimization, x: Tree, state: MomentumState, *args: Tree) -> tuple[Any, MomentumState]:
        """Take one step."""
        dtype = state.error.dtype
        if problem.composite:
            # from a start outside of the set no step is short enough, since all of them lead inside
            inside = lambda x: problem.prox(x, 1.0)
            x = jax.lax.cond(jnp.isinf(state.error), inside, lambda x: x, x)
        value, gradient, aux = evaluate(problem, x, args)
        error = optimality(problem, x, value, gradient).astype(dtype)
        first = jnp.minimum(self.growth * state.step_size, self.max_step_size)
        eta, found = self._search(problem, x, value, gradient, first.astype(dtype), args)
        # (2): x^+ = new
        new = problem.prox(trees.axpy(-eta, gradient, x), 1.0)
        if self.momentum:
            # (3): v = velocity
            new = problem.prox(trees.axpy(self.momentum, state.velocity, new), 1.0)
        scales = steepest(state.scales, error)
        new = trees.where(met(self, x, error, scales), x, new)
        # after a failed search (at a kink, say) the next one starts from the last step size that was good
        seen = value.astype(dtype), aux, state.steps + 1, scales
        return new, MomentumState(error, jnp.where(found, eta, state.step_size), trees.sub(new, x), *seen)

    def _search(
        self, problem: Composed, x: Tree, value: Any, gradient: Tree, first: Any, args: tuple[Tree, ...]
    ) -> tuple[Any, Any]:
        """Return the step size, a constant of differentiation, and whether it meets the condition."""
        x, value, gradient, first = jax.lax.stop_gradient((x, value, gradient, first))
        slack = relative_rounding(value)
        least = jnp.finfo(first.dtype).tiny * 1e6

        def trial(now: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
            eta = now[0]
            # (2): x^+ = new
            new = problem.prox(trees.axpy(-eta, gradient, x), 1.0)
            move = trees.sub(new, x)
            squared = trees.vdot(move, move)
            needed = (self.aggressiveness * squared / eta).astype(value.dtype)

            def slopes() -> jax.Array:
                both = trees.add(gradient, problem.gradient(new, *args))
                return (0.5 * trees.vdot(both, move)).astype(value.dtype)

            # a difference of values that is as small as rounding says nothing; the mean of the slopes does
            change = jax.lax.cond(needed > slack, lambda: problem.value(new, *args) - value, slopes)
            moves = needed > 0
            # (1): change = f_b(x^+) - f_b(x), needed = c |x - x^+|^2 / eta
            enough = (change <= -needed) & moves
            # where nothing moves any more, or nothing is finite, no shorter step helps
            going = ~enough & moves & jnp.isfinite(value) & (eta > least)
            return (self.decrease * eta).astype(eta.dtype), eta, enough, going

        start = first, first, jnp.asarray(False), jnp.asarray(True)
        _, eta, found, _ = jax.lax.while_loop(lambda now: now[3], trial, start)
        return jax.lax.stop_gradient(eta), found
