"""Nesterov's accelerated projected gradient method in its plain form, as a solver of dini."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import dini


class State(NamedTuple):
    """Carried from step to step."""

    error: Any
    extrapolated: Any
    momentum: Any


@dini.solver
class FISTA(dini.Solver):
    r"""FISTA with a constant step, for an unknown that is one array.

    With :math:`y_0 = x_0` and :math:`t_0 = 1`:

    .. math:: x_{n+1} = \mathrm{proj}_C(y_n - \eta \nabla f(y_n)), \quad
              t_{n+1} = \tfrac12 \big(1 + \sqrt{1 + 4 t_n^2}\big), \quad
              y_{n+1} = x_{n+1} + \tfrac{t_n - 1}{t_{n+1}} (x_{n+1} - x_n).

    The paper's experiment differentiates these iterations. :class:`dini.ProjectedGradient` also restarts the momentum
    where it points uphill, which makes the iterates converge linearly, and their derivatives with them.

    References
    ----------
    Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sci. 2009.
    """

    step_size: Any
    max_steps: int = field(default=1000, metadata={"static": True})

    composite = True

    def init(self, problem: Any, x: jax.Array, *args: Any) -> State:
        return State(jnp.full((), jnp.inf, x.dtype), x, jnp.ones((), x.dtype))

    def step(self, problem: Any, x: jax.Array, state: State, *args: Any) -> tuple[jax.Array, State]:
        y = state.extrapolated
        new = problem.prox(y - self.step_size * problem.gradient(y, *args), self.step_size)
        grown = 0.5 * (1 + jnp.sqrt(1 + 4 * state.momentum**2))
        error = jnp.sqrt(jnp.sum((new - y) ** 2)) / self.step_size
        return new, State(error, new + (state.momentum - 1) / grown * (new - x), grown)
