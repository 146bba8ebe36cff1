"""Descent of an outer objective that has no gradient: it is looked at in pairs of points around."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.records import record
from ..checks.settings import require_count, require_positive
from ..differentiation import Implicit
from ..entry import as_solver
from ..functions import as_function
from ..problems._base import Problem
from ..solvers import LBFGS, Solver
from ..status import Status
from ..trees import Tree
from ._checks import check_outer, require_real
from ._hoag import SOLVED, data_of
from ._hypergradient import Task
from ._loop import Method, Moved, State
from ._rules import as_rule


@record
class EvolutionStrategy(Method):
    r"""Descent along an estimate of the gradient of the smoothed outer objective, from its values alone.

    The outer objective may jump (an accuracy, a count). With :math:`h(\theta) = f(x^*(\theta), \theta)` and normal
    :math:`\varepsilon_i`, the direction

    .. math:: D_\theta = \frac{1}{2 \sigma K} \sum_{i=1}^{K}
              \bigl(h(\theta + \sigma \varepsilon_i) - h(\theta - \sigma \varepsilon_i)\bigr)\, \varepsilon_i

    is, in the mean, the gradient of :math:`\mathbb{E}\, h(\theta + \sigma \varepsilon)`. The inner problems of all
    pairs are solved in one ``vmap``, from the last solution at ``theta``. A pair of which a solve fails is left out; if
    all fail, the step is not finite.

    Parameters
    ----------
    outer, inner, solver
        As in :class:`HOAG`; the outer objective need not be differentiable.
    outer_step
        A number, a function of the step's number, or a transformation of optax.
    sigma
        :math:`\sigma`, in the units of ``theta``.
    pairs
        :math:`K`.
    seed
        Of the random numbers.

    References
    ----------
    Salimans, Ho, Chen, Sidor, Sutskever, "Evolution strategies as a scalable alternative to reinforcement learning",
    2017 (arXiv 1703.03864). Nesterov, Spokoiny, "Random gradient-free minimization of convex functions", Found. Comput.
    Math. 2017.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> fit = dini.Minimize(lambda x, t: jnp.sum(x**2 - t * x))
    >>> method = dini.bilevel.EvolutionStrategy(lambda x, t: jnp.sum(jnp.abs(x - 1)), fit, outer_step=0.1, sigma=0.1)
    >>> print(method.run(method.init(jnp.zeros(1), jnp.zeros(1)), 60).theta.round(1))
    [2.]
    """

    outer: Any
    inner: Any
    outer_step: Any
    sigma: Any
    solver: Solver = field(default_factory=LBFGS)
    pairs: int = field(default=10, metadata={"static": True})
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "outer", as_function(self.outer, "EvolutionStrategy's outer"))
        if not isinstance(self.inner, Problem):
            object.__setattr__(self, "inner", as_function(self.inner, "EvolutionStrategy's inner"))
        object.__setattr__(self, "solver", as_solver(self.solver))
        object.__setattr__(self, "outer_step", as_rule("outer_step", self.outer_step))
        require_positive("EvolutionStrategy's sigma", self.sigma)
        require_count("EvolutionStrategy's pairs", self.pairs)

    def init(self, theta: Tree, x: Tree, outer_batch: Any = None, inner_batch: Any = None) -> State:
        """Return the state before the first step; batches are the data."""
        theta, x = require_real("theta", theta), require_real("x", x)
        check_outer("outer", self.outer, x, theta, *data_of(outer_batch))
        return self._started(theta, x, outer_batch, inner_batch)

    @property
    def batches(self) -> tuple[int, int]:
        """One of each."""
        return 1, 1

    def _remembered(self, theta: Tree, x: Tree, outer: Any, inner: Any) -> tuple[Any, Any]:
        del outer, inner
        return trees.zeros_like(x), self.outer_step.init(theta)

    def _advance(self, state: State, outer: Any, inner: Any) -> Moved:
        task = Task(self.outer, self.inner, self.solver, Implicit(), data_of(outer), data_of(inner))
        flat, unravel = ravel_pytree(state.theta)
        key = jax.random.fold_in(jax.random.key(self.seed), state.steps)
        noise = jax.random.normal(key, (self.pairs, flat.size), flat.dtype)

        def looked_at(point: Any) -> tuple[Any, ...]:
            theta = unravel(point)
            solution = task.solved(theta, state.x, "ignore")
            solved = solution.status == Status.CONVERGED
            return task.value(solution.x, theta), solution.x, solved, solution.stats.error

        shift = jnp.asarray(self.sigma, flat.dtype) * noise
        here = flat[None]
        values, points, solved, errors = jax.vmap(looked_at)(jnp.concatenate([here, here + shift, here - shift]))
        above, below = values[1 : 1 + self.pairs], values[1 + self.pairs :]
        sound = solved[1 : 1 + self.pairs] & solved[1 + self.pairs :] & jnp.isfinite(above - below)
        slope = jnp.where(sound, above - below, 0) / (2 * self.sigma)
        count = jnp.where(jnp.any(sound), jnp.sum(sound), jnp.nan)
        direction = unravel(jnp.sum(slope[:, None] * noise, axis=0) / count.astype(flat.dtype))
        theta, rule = self.outer_step.step(state.theta, direction, state.memory, state.steps)
        x = jax.tree.map(lambda rows: rows[0], points)
        x = trees.where(solved[0], x, state.x)
        error = trees.norm(direction).astype(state.error.dtype)
        new = state._replace(theta=theta, x=x, error=error, residual=errors[0], memory=rule)
        return Moved(new, errors[0], direction)

    @property
    def remedy(self) -> str:
        """What to do where a run fails."""
        return SOLVED
