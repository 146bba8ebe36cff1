"""The extragradient method for variational inequalities."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_positive
from ..problems import VariationalInequality
from ..status import Status
from ..trees import Scalar, Tree
from ._base import infinity, running, solver
from .judge import _units
from .judge._margins import LONG
from .judge._units import Units
from .shared import _natural


class State(NamedTuple):
    """Carried from step to step: the operator and the residual at the point, step sizes, what is known of units.

    ``step_size`` is that of the next trial, ``width`` that of the residual.
    """

    error: Scalar
    operator: Tree
    force: Tree
    step_size: Any
    width: Any
    steps: Any
    scaling: Any
    scales: Any
    status: Any


@solver
class Extragradient(_natural.NaturalSolver):
    r"""The extragradient method, with step sizes that need no Lipschitz constant.

    .. math::
        \begin{aligned}
        y &= \Pi_C(x - t F(x)), \qquad (1) \\
        t\,\|F(x) - F(y)\| &\le 0.9\,\|x - y\|, \qquad (2) \\
        x &\leftarrow \Pi_C(x - t F(y)) \qquad (3)
        \end{aligned}

    A trial at which (2) fails leaves ``x`` where it is and shortens ``t``; after one that uses less than half of what
    (2) allows, ``t`` is doubled. The iterates converge for every monotone, locally Lipschitz ``F`` that has a solution,
    where the projection method :math:`x \leftarrow \Pi_C(x - t F(x))` may cycle: a bilinear saddle point, say. A step
    costs two evaluations of ``F``, one where the trial fails. Convergence is linear at best;
    :class:`dini.SemismoothNewton`, which takes these steps where it must, ends with few.

    The error is :math:`\|x - \Pi_C(x - \eta F(x))\|_2 / \eta`, with a step size :math:`\eta` that is about one over the
    size of the Jacobian of ``F``. Unknowns that are not alike are scaled first, each where ``C`` leaves it independent
    (bounds), those that ``C`` couples together; all of the above is in scaled variables then.

    Parameters
    ----------
    step_size
        The first ``t``; unknowns are not scaled then. Default: by the size of the Jacobian of ``F`` at the start.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Korpelevich, "The extragradient method for finding saddle points and other problems", Matecon 1976. Khobotov,
    "Modification of the extra-gradient method for solving variational inequalities and certain optimization problems",
    USSR Comput. Math. Math. Phys. 1987.

    Examples
    --------
    The saddle point of :math:`x y` with ``x`` and ``y`` in [-1, 2], around which the projection method turns:

    >>> import dini, jax.numpy as jnp
    >>> problem = dini.VariationalInequality(lambda x: jnp.array([x[1], -x[0]]), dini.sets.Box(-1.0, 2.0))
    >>> print(dini.solve(problem, dini.Extragradient(atol=1e-6), jnp.ones(2)).x.round(3) + 0.0)
    [0. 0.]
    """

    step_size: Any = None
    max_steps: int = field(default=5000, metadata={"static": True})

    solves = (VariationalInequality,)
    composite = True
    adaptive = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("Extragradient's step_size", self.step_size)

    def init(self, problem: VariationalInequality, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, with the scales of the unknowns."""
        inf, zero = infinity(x), trees.zeros_like(x)
        one, steps = jnp.ones_like(inf), jnp.zeros((), jnp.int32)
        # steps of a given size are in the user's units
        scaling = jax.tree.map(jnp.ones_like, x) if self.step_size is not None else _natural.scales_of(problem, x, args)
        return State(inf, zero, zero, one, one, steps, scaling, Units.unknown(x), running())

    def advance(self, problem: _natural.Scaled, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Try one step."""
        first, eps = state.steps == 0, trees.eps(x)
        # (1), from the start its projection
        y = _natural.ahead(problem, x, state.operator, jnp.where(first, 0, state.step_size))
        there = problem.operator(y, *args)
        # (2), (3)
        given = (problem, x, state.operator, y, there, state.step_size, args)
        trial = _natural.extragradient(*given)
        accept = first | trial.accept
        now, value = trees.where(first, (y, there), trees.where(accept, trial[:2], (x, state.operator)))
        step_size, width = jax.lax.cond(
            first, lambda: self._first(problem, y, there, args), lambda: (trial.step_size, state.width)
        )
        width = _natural.followed(width, step_size)
        force = _natural.force(problem, now, value, width)
        error = _natural.norm_of(force, state.error)
        size = _natural.norm_of(jax.lax.stop_gradient(now), error)
        squared, changed = (
            trees.vdot(v, v) for v in jax.lax.stop_gradient((trees.sub(now, x), trees.sub(force, state.force)))
        )
        taken = accept & ~first
        pair = jnp.where(taken, squared, 0), jnp.where(taken, changed, 0)
        known = Units.of(_units.learned(state.scales, accept, *pair, size, error, eps))
        begins = jnp.where(first, jnp.maximum(size, width * error), Units.of(state.scales).origin)
        known = known._replace(origin=begins)
        # the residual has vanished, at a point that has never been farther out and is far from a solution
        outward = (size >= 0.99 * known.extent) & (known.soft * error > LONG * size)
        runs = accept & outward & (error <= eps * known.steepest)
        status = jnp.where(runs | _natural.far(now, begins, eps), Status.DIVERGED, Status.RUNNING).astype(jnp.int32)
        return now, State(
            error, value, force, step_size, width, state.steps + 1, state.scaling, known.packed(error.dtype), status
        )

    def _first(self, problem: _natural.Scaled, x: Tree, value: Tree, args: tuple[Tree, ...]) -> tuple[Any, Any]:
        """Return the first step size and that of the residual."""
        dtype = trees.real_dtype(x)
        width = _natural.natural_step(problem, x, args, _natural.first_length(x, value, dtype))
        step_size = 0.7 * width if self.step_size is None else jnp.asarray(self.step_size, dtype)
        return step_size.astype(dtype), width.astype(dtype)

    def differentiable_step(self, problem: VariationalInequality, x: Tree, state: State, *args: Tree) -> Any:
        """Return the projected point ahead."""
        scaled = _natural.Scaled(problem, state.scaling)
        u = scaled.inside(x)
        return scaled.outside(_natural.ahead(scaled, u, scaled.operator(u, *args), state.step_size))
