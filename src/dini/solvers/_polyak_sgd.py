"""Stochastic gradient descent with Polyak's step size."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_between, require_positive
from ..loop import met
from ..protocols import AnyProblem, Minimization
from ..trees import Tree
from ._base import solver
from .shared._stochastic import MomentumState, Stochastic, evaluate, optimality, steepest


@solver
class PolyakSGD(Stochastic):
    r"""Stochastic gradient descent with the bounded Polyak step size, with momentum.

    .. math::
        \begin{aligned}
        x &\leftarrow \Pi_C(x - \eta\nabla f_b(x) + \beta v), \qquad (1) \\
        \eta &= \min\Bigl(\frac{f_b(x) - f_b^*}{c\,\|\nabla f_b(x)\|^2}, \eta_{\max}\Bigr) \qquad (2)
        \end{aligned}

    with ``v`` the last move. No step size is tuned: :math:`f_b^*`, the smallest value of the objective on the batch, is
    zero for losses of models that can fit each batch. The error is that of :class:`OptaxSolver`, at the point before
    the step.

    Parameters
    ----------
    max_step_size
        :math:`\eta_{\max}`.
    lower_bound
        :math:`f_b^*`, or a lower bound of it.
    scale
        :math:`c > 0`; one for convex objectives that can be fitted, one half for strongly convex ones.
    momentum
        :math:`\beta`, in [0, 1).
    rtol, atol, max_steps
        As for :class:`OptaxSolver`.

    References
    ----------
    Loizou, Vaswani, Laradji, Lacoste-Julien, "Stochastic Polyak step-size for SGD: an adaptive learning rate for fast
    convergence", AISTATS 2021.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2))
    >>> print(dini.solve(problem, dini.PolyakSGD(), jnp.zeros(2), jnp.array([1.5, -1.0])).x.round(3))
    [ 1.5 -1. ]
    """

    max_step_size: Any = 1.0
    lower_bound: Any = 0.0
    scale: Any = 1.0
    momentum: Any = 0.0
    max_steps: int = field(default=10000, metadata={"static": True})

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("PolyakSGD's max_step_size", self.max_step_size)
        require_positive("PolyakSGD's scale", self.scale)
        require_between("PolyakSGD's momentum", self.momentum, 0, 1, or_low=True)

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> MomentumState:
        """Return the state before the first step."""
        return MomentumState.first(problem, x, args, 0)

    def step(self, problem: Minimization, x: Tree, state: MomentumState, *args: Tree) -> tuple[Any, MomentumState]:
        """Take one step."""
        dtype = state.error.dtype
        value, gradient, aux = evaluate(problem, x, args)
        squared = trees.vdot(gradient, gradient).astype(dtype)
        above = jnp.maximum(value.astype(dtype) - self.lower_bound, 0)
        # (2): above = f_b - f_b^*, squared = ||grad f_b||^2
        positive = squared > 0
        ratio = jnp.where(positive, above / (self.scale * jnp.where(positive, squared, 1)), 0)
        # a constant of differentiation, as all step sizes that a rule finds
        eta = jax.lax.stop_gradient(jnp.minimum(ratio, self.max_step_size)).astype(dtype)
        # (1): v = velocity
        new = trees.axpy(jnp.asarray(self.momentum), state.velocity, trees.axpy(-eta, gradient, x))
        error = optimality(problem, x, value, gradient).astype(dtype)
        scales = steepest(state.scales, error)
        new = trees.where(met(self, x, error, scales), x, problem.prox(new, 1.0))
        seen = value.astype(dtype), aux, state.steps + 1, scales
        return new, MomentumState(error, eta, trees.sub(new, x), *seen)
