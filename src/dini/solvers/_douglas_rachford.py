"""Douglas-Rachford splitting, with a smooth third function."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_positive
from ..conditions import curvature
from ..problems import Composite, PrimalDual
from ..trees import Scalar, Tree
from ._base import Solver, infinity, solver
from .judge import _units


class State(NamedTuple):
    """Carried from step to step: the point that the operator moves, and its step size."""

    error: Scalar
    point: Tree
    step_size: Scalar
    scales: Any


@solver
class DouglasRachford(Solver):
    r"""Douglas-Rachford splitting for :math:`g(x) + h(x)`, a :class:`dini.Composite` without operator.

    With a smooth ``f`` it is the three-operator splitting of Davis and Yin:

    .. math::
        \begin{aligned}
        x &= \mathrm{prox}_{\gamma g}(z), \qquad (1) \\
        u &= \mathrm{prox}_{\gamma h}(2x - z - \gamma\nabla f(x)), \qquad (2) \\
        y &= (2x - z - \gamma\nabla f(x) - u)/\gamma \in \partial h(u), \qquad (3) \\
        z &\leftarrow z + u - x, \qquad (4)
        \end{aligned}

    where ``y`` is the dual variable. The error is :math:`\|x - u\|_2 / \gamma`, the residual of the saddle point in
    units of a gradient.

    Parameters
    ----------
    step_size
        :math:`\gamma`, at most two over the curvature of ``f``. Default: one over the curvature of ``f`` at the start,
        estimated (one where there is no ``f``).
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Lions and Mercier, "Splitting algorithms for the sum of two nonlinear operators", SIAM J. Numer. Anal. 1979; Davis
    and Yin, "A three-operator splitting scheme and its optimization applications", Set-Valued Var. Anal. 2017.

    Examples
    --------
    The point of a simplex nearest to ``a`` that obeys bounds:

    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Composite(
    ...     lambda x, a: 0.5 * jnp.sum((x - a) ** 2), dini.sets.Box(0.0, 0.5), constraint=dini.sets.Simplex()
    ... )
    >>> a = jnp.array([0.9, 0.5, 0.1])
    >>> print(dini.solve(problem, dini.DouglasRachford(), problem.start(a, a), a).x.primal.round(3))
    [0.5   0.45  0.05]
    """

    step_size: Any = None
    max_steps: int = field(default=20000, metadata={"static": True})

    solves = (Composite,)
    composite = True
    gradient_only = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("DouglasRachford's step_size", self.step_size)

    def check(self, problem: Any, x: Tree) -> None:
        """Raise unless the operator is the identity."""
        super().check(problem, x)
        if problem.operator is not None:
            raise TypeError("DouglasRachford needs an operator that is the identity, None. Use CondatVu or ADMM.")

    def init(self, problem: Any, x: PrimalDual, *args: Tree) -> State:
        """Return the state before the first step."""
        inf = infinity(x)
        step_size = self.step_size
        if step_size is None:
            top = jnp.zeros_like(inf)
            if problem.smooth:
                top = curvature(lambda u: problem.smooth_gradient(u, *args), x.primal).astype(inf.dtype)
            step_size = jnp.where(top > 0, 1 / jnp.where(top > 0, top, 1), 1.0)
        gamma = jnp.asarray(step_size, inf.dtype)
        # the point whose step has the dual variable of the start: (3) with u = x, solved for z
        slope = trees.add(problem.smooth_gradient(x.primal, *args), x.dual)
        return State(inf, trees.axpy(-gamma, slope, x.primal), gamma, _units.Units.unknown(x))

    def step(self, problem: Any, x: PrimalDual, state: State, *args: Tree) -> tuple[PrimalDual, State]:
        """Take one step."""
        gamma, z = state.step_size, state.point
        del x
        # (1): x = primal
        primal = problem.inner_prox(z, gamma)
        slope = problem.smooth_gradient(primal, *args)
        argument = trees.axpy(-gamma, slope, trees.sub(trees.scale(2, primal), z))
        # (2): u = second
        second = problem.outer_prox(argument, gamma)
        # (3): y = dual
        dual = trees.scale(1 / gamma, trees.sub(argument, second))
        move = trees.sub(second, primal)
        error = trees.norm(move).astype(gamma.dtype) / gamma
        # the point beside which the two copies of x agree, and the gradients that it is balanced by
        size = jnp.maximum(_units.norm(primal) / gamma, jnp.maximum(_units.norm(slope), _units.norm(dual)))
        scales = _units.of_parts(state.scales, size, trees.eps(primal))
        # (4): u - x = move
        return PrimalDual(primal, dual), State(error, trees.add(z, move), gamma, scales)

    def differentiable_step(self, problem: Any, x: PrimalDual, state: State, *args: Tree) -> PrimalDual:
        """Return one step from the point that belongs to ``x``."""
        slope = trees.add(problem.smooth_gradient(x.primal, *args), x.dual)
        return self.step(problem, x, state._replace(point=trees.axpy(-state.step_size, slope, x.primal)), *args)[0]
