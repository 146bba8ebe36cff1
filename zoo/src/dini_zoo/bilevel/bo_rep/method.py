r"""BO-REP: one loop over an outer variable, an inner one that is seldom touched, and the solution of the linear system.

With the oracles of :mod:`dini_zoo.bilevel.oracles`, each on a batch of its own,

.. math:: y_k &= \frac1N \sum_{t=1}^N v_t, \quad
              v_{t+1} = \operatorname{proj}_{B(y_{k-1}, R)} (v_t - \gamma \nabla_y g(x_k, v_t)), \quad v_0 = y_{k-1},
              \qquad \text{every } I \text{ steps, else } y_k = y_{k-1}, \\
          h_k &= \nabla_x f(x_k, y_k) - J(x_k, y_k)^\top z_k, \\
          z_{k+1} &= z_k - \nu \, [ H(x_k, y_k) z_k - \nabla_y f(x_k, y_k) ], \\
          m_{k+1} &= \beta m_k + (1 - \beta) h_k, \qquad x_{k+1} = x_k - \eta \, m_{k+1} / \|m_{k+1}\| .

References
----------
J. Hao, X. Gong, M. Liu, "Bilevel optimization under unbounded smoothness: a new algorithm and convergence analysis",
ICLR 2024 (arXiv 2401.09587). M. Dagréou, P. Ablin, S. Vaiter, T. Moreau, "A framework for bilevel optimization that
enables stochastic and global variance reduction algorithms", NeurIPS 2022 (SOBA). X. Chen, T. Xiao, K.
Balasubramanian, "Optimal algorithms for stochastic bilevel optimization under relaxed smoothness conditions", JMLR 2024
(MA-SOBA).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

import dini
from dini.status import guard
from dini_zoo.kit.checking import at_least, not_negative, one_of, positive

from ..oracles import Oracles
from .momentum import length
from .refinement import check_radius, within

Tree = Any
type Sampler = Callable[[Array], tuple[Any, Any]]


class BOREPState(NamedTuple):
    """Where the loop is."""

    x: Tree
    y: Tree
    z: Tree
    optimizer: Any
    """The state of the outer step, the momentum in it."""
    k: Int[Array, ""]
    """Steps taken."""
    lower_calls: Int[Array, ""]
    """Gradients of the inner objective."""
    periods: Int[Array, ""]
    """Updates of the inner variable."""
    projected: Int[Array, ""]
    """Of these, in how many a step left the ball."""
    finite: Bool[Array, ""]
    """Whether all numbers were finite so far, and no variable diverged; from the first step on where this fails, the
    variables stay as they were."""
    reach: dini.bilevel.Reach
    """What shows that one diverges."""


class BilevelSolution(NamedTuple):
    """What a run ends with."""

    x: Tree
    y: Tree
    z: Tree
    state: BOREPState
    watched: Any
    """What `watch` returned before the first step and after every so many."""
    h: Float[Array, " steps"]
    """The norm of the hypergradient's estimate at each step."""

    @property
    def finite(self) -> Bool[Array, ""]:
        """Whether no number on the way was NaN or infinite, and no variable diverged (:class:`dini.bilevel.Reach`)."""
        return self.state.finite

    @property
    def projected(self) -> Float[Array, ""]:
        """The share of the inner updates that left their ball."""
        return self.state.projected / jnp.maximum(self.state.periods, 1)


@dataclass(frozen=True)
class BOREP:
    r"""Stochastic bilevel optimization with a normalized outer step and periodic inner updates.

    Parameters
    ----------
    oracles
        Of the two levels. Trees of arrays of any form for `x` and `y`.
    optimizer
        The outer step, an optax transformation of hypergradients: :func:`normalized_momentum` makes this BO-REP.
    nu
        :math:`\nu`, the step of the linear system: less than two over the largest eigenvalue of `H`.
        :func:`dini_zoo.bilevel.oracles.largest_curvature` estimates that.
    gamma
        :math:`\gamma`, the inner step; the same bound.
    period
        :math:`I`.
    inner_steps
        :math:`N`.
    radius
        :math:`R`. It must leave room for what the solution moves in a period, twice :math:`\eta I` times the Lipschitz
        constant of :math:`y^\star`: where it does not, :math:`y` cannot follow, and nothing works. :meth:`run` warns
        where more than half of the inner updates meet it.
    damping
        Added to `H`, for inner objectives that are not strongly convex: the recursion of `z` diverges where `H` has
        negative eigenvalues.
    z_order
        Whether the hypergradient has the `"old"` solution of the linear system, as in the paper, or the `"new"` one, as
        in its code.

    Raises
    ------
    ValueError
        For settings out of range.

    Examples
    --------
    >>> from dini_zoo.bilevel.oracles import Oracles
    >>> f = lambda x, y, _: jnp.sum(jnp.cosh(y))  # no Lipschitz constant bounds its derivative
    >>> g = lambda x, y, _: 0.5 * jnp.sum((y - x) ** 2)
    >>> method = BOREP(Oracles(f, g), normalized_momentum(0.02), nu=0.5, gamma=0.5)
    >>> state = method.init(x := jnp.array([8.0, -5.0]), y=x)
    >>> found = method.run(state, lambda key: (None, None), jax.random.key(0), steps=600)
    >>> bool(jnp.abs(found.x).max() < 0.05)
    True
    """

    oracles: Oracles
    optimizer: optax.GradientTransformation
    nu: Any
    gamma: Any
    period: int = 2
    inner_steps: int = 3
    radius: Any = np.inf
    damping: Any = 0.0
    z_order: Literal["old", "new"] = "old"

    def __post_init__(self) -> None:
        positive("nu", self.nu)
        positive("gamma", self.gamma)
        at_least("period", self.period, 1)
        at_least("inner_steps", self.inner_steps, 1)
        check_radius("radius", self.radius)
        not_negative("damping", self.damping)
        one_of("z_order", self.z_order, ("old", "new"))

    def init(self, x: Tree, y: Tree, z: Tree | None = None, *, lower_calls: int = 0) -> BOREPState:
        """The start: `z` is zero if it is not given; `lower_calls` is what refining `y` has cost.

        Raises
        ------
        TypeError
            Where `z` has not the form of `y`, and for arrays that are not of floats; it names the leaf.
        """
        x, y = _floats("x", x), _floats("y", y)
        z = jax.tree.map(jnp.zeros_like, y) if z is None else _floats("z", z)
        _require_like("z", z, "y", y)
        zero, finite = jnp.zeros((), jnp.int32), jnp.asarray(True)
        reach = dini.bilevel.Reach.start(x, y, z)
        return BOREPState(x, y, z, self.optimizer.init(x), zero, zero + lower_calls, zero, zero, finite, reach)

    def update(self, state: BOREPState, data_outer: Any, data_inner: Any) -> BOREPState:
        """Take one step.

        Parameters
        ----------
        data_outer
            One batch for the derivatives of `f`.
        data_inner
            `inner_steps + 2` batches of `g`, along a first axis of each array: of the inner steps, of `H` and of `J`.
        """
        return self._update(state, data_outer, data_inner)[0]

    def _update(self, state: BOREPState, data_outer: Any, data_inner: Any) -> tuple[BOREPState, Array]:
        """One step, and the norm of the hypergradient's estimate."""
        batch = lambda i: jax.tree.map(lambda leaf: leaf[i], data_inner)
        _require_batches(data_inner, self.inner_steps + 2)
        x, z = state.x, state.z
        due = (state.k > 0) & (state.k % self.period == 0)
        stay = lambda y: (y, jnp.asarray(False), jax.tree.map(jnp.zeros_like, y))
        y, projected, slope = jax.lax.cond(due, lambda y: self._inner_update(x, y, data_inner), stay, state.y)
        upper = self.oracles.upper(x, y, data_outer)
        Hz = self.oracles.hessian(x, y, z, batch(self.inner_steps))
        solve = lambda z, Hz, b: z - _as(self.nu, z) * (Hz + _as(self.damping, z) * z - b)
        new_z = jax.tree.map(solve, z, Hz, upper.y)
        crossed = self.oracles.cross(x, y, z if self.z_order == "old" else new_z, batch(self.inner_steps + 1))
        h = jax.tree.map(jnp.subtract, upper.x, crossed)
        steps, optimizer = self.optimizer.update(h, state.optimizer, x)
        moved = (optax.apply_updates(x, steps), y, new_z, optimizer)
        reach, diverged = state.reach.after((h, moved[0]), (slope, y), (h, new_z))
        finite = state.finite & _finite((moved, h)) & ~diverged
        keep = lambda new, old: jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, old)
        x, y, z, optimizer = keep(moved, (state.x, state.y, state.z, state.optimizer))
        return BOREPState(
            x=x,
            y=y,
            z=z,
            optimizer=optimizer,
            k=state.k + 1,
            lower_calls=state.lower_calls + jnp.where(due, self.inner_steps, 0),
            periods=state.periods + due,
            projected=state.projected + projected,
            finite=finite,
            reach=reach,
        ), length(h)

    def inner_update(self, x: Tree, y: Tree, data_inner: Any) -> tuple[Tree, Array]:
        """The average of `N` projected gradient steps from `y`, and whether one left the ball.

        `data_inner` has a batch for each step in front; what follows them is not looked at.
        """
        return self._inner_update(x, y, data_inner)[:2]

    def _inner_update(self, x: Tree, y: Tree, data_inner: Any) -> tuple[Tree, Array, Tree]:
        """The same, and the last gradient."""

        def step(carried: Any, given: Any) -> Any:
            v, mean, outside, _ = carried
            t, data = given
            slope = self.oracles.lower(x, v, data)
            moved = jax.tree.map(lambda v, d: v - _as(self.gamma, v) * d, v, slope)
            v, left = within(moved, y, self.radius)
            mean = jax.tree.map(lambda m, v: m + (v - m) / t.astype(v.dtype), mean, v)
            slope = jax.tree.map(lambda d, v: d.astype(v.dtype), slope, v)
            return (v, mean, outside | left, slope), None

        lower = jax.tree.map(lambda leaf: leaf[: self.inner_steps], data_inner)
        counts = jnp.arange(1, self.inner_steps + 1)
        # average and points have the types of y whatever the oracle's noise has
        (_, mean, outside, slope), _ = jax.lax.scan(step, (y, y, jnp.asarray(False), y), (counts, lower))
        return mean, outside, slope

    def refine(self, state: BOREPState, data_outer: Any, data_inner: Any, steps: int) -> BOREPState:
        """So many further steps of the linear system, at the variables as they are: for a start far from its solution.

        :func:`dini_zoo.bilevel.oracles.adjoint` solves the system by conjugate gradients instead.
        """
        at_least("steps", steps, 1)
        b = self.oracles.upper(state.x, state.y, data_outer).y

        def step(z: Tree, _: None) -> tuple[Tree, None]:
            Hz = self.oracles.hessian(state.x, state.y, z, data_inner)
            solve = lambda z, Hz, b: z - _as(self.nu, z) * (Hz + _as(self.damping, z) * z - b)
            return jax.tree.map(solve, z, Hz, b), None

        return state._replace(z=jax.lax.scan(step, state.z, length=steps)[0])

    def run(
        self,
        state: BOREPState,
        sample: Sampler,
        key: Array,
        *,
        steps: int,
        every: int | None = None,
        watch: Callable[[BOREPState], Any] = lambda state: None,
    ) -> BilevelSolution:
        """Take so many steps.

        Parameters
        ----------
        state
            From :meth:`init`.
        sample
            `sample(key)`: what :meth:`update` is given as data.
        key
            Each step has one of its own.
        steps
            In all.
        every
            Steps between two calls of `watch`; it divides them. All of them if it is not given.
        watch
            `watch(state)`: a tree of figures.

        Warns
        -----
        SolveWarning
            Where more than half of the inner updates left their ball, also of a compiled program; not under `jax.vmap`,
            where `projected` of the solution says so for each lane.
        """
        every = steps if every is None else every
        at_least("steps", steps, 1)
        if every < 1 or steps % every:
            raise ValueError(f"every must divide steps, {steps}: given {every}.")

        def step(state: BOREPState, key: Array) -> tuple[BOREPState, Array]:
            return self._update(state, *sample(key))

        def chunk(state: BOREPState, keys: Array) -> tuple[BOREPState, Any]:
            state, h = jax.lax.scan(step, state, keys)
            return state, (h, watch(state))

        keys = jax.random.split(key, steps).reshape(steps // every, every)
        first = watch(state)
        state, (h, watched) = jax.lax.scan(chunk, state, keys)
        watched = jax.tree.map(lambda one, rest: jnp.concatenate([jnp.asarray(one)[None], rest]), first, watched)
        found = BilevelSolution(state.x, state.y, state.z, state, watched, h.reshape(-1))
        figures = found.projected, jnp.asarray(self.radius)
        return found._replace(x=guard(found.x, found.projected > 0.5, _narrow, figures, "warn"))


def _narrow(share: Any, radius: Any) -> Exception:
    return dini.SolveError(
        f"{float(share):.0%} of the updates of the inner variable left the ball of radius {float(radius):g} around its "
        "last value: it may not follow its solution. Give a larger radius, a shorter period, or a smaller outer step."
    )


def soba(oracles: Oracles, rate: optax.ScalarOrSchedule, *, nu: Any, gamma: Any, damping: Any = 0.0) -> BOREP:
    """SOBA: one step of each variable at a time, the outer one along the hypergradient's estimate as it is."""
    if not callable(rate):
        not_negative("rate", rate)
    return BOREP(oracles, optax.scale_by_learning_rate(rate), nu, gamma, 1, 1, damping=damping)


def ma_soba(
    oracles: Oracles, rate: optax.ScalarOrSchedule, *, nu: Any, gamma: Any, beta: float = 0.9, damping: Any = 0.0
) -> BOREP:
    """MA-SOBA: as :func:`soba`, along an average of the estimates."""
    if not callable(rate):
        not_negative("rate", rate)
    average = optax.chain(optax.ema(beta, debias=False), optax.scale_by_learning_rate(rate))
    return BOREP(oracles, average, nu, gamma, 1, 1, damping=damping)


def _as(number: Any, like: Array) -> Array:
    """A setting in the type of an array."""
    return jnp.asarray(number, like.dtype)


def _finite(tree: Tree) -> Bool[Array, ""]:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))


def _floats(name: str, tree: Tree) -> Tree:
    tree = jax.tree.map(jnp.asarray, tree)
    for path, leaf in jax.tree.leaves_with_path(tree):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(f"{name}{jax.tree_util.keystr(path)} must be of real floats: given {leaf.dtype}.")
    return tree


def _require_like(name: str, tree: Tree, other: str, like: Tree) -> None:
    if jax.tree.structure(tree) != jax.tree.structure(like):
        raise TypeError(
            f"{name} must be a tree like {other}, {jax.tree.structure(like)}: given {jax.tree.structure(tree)}."
        )
    for (path, leaf), wanted in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(like), strict=True):
        if (leaf.shape, leaf.dtype) != (wanted.shape, wanted.dtype):
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)} must be as in {other}, {wanted.dtype}{list(wanted.shape)}: given "
                f"{leaf.dtype}{list(leaf.shape)}."
            )


def _require_batches(data: Any, count: int) -> None:
    for path, leaf in jax.tree.leaves_with_path(data):
        if not np.ndim(leaf) or np.shape(leaf)[0] != count:
            raise ValueError(
                f"data_inner{jax.tree_util.keystr(path)} must have {count} batches along its first axis, one for each "
                f"inner step and two for second derivatives: given the shape {np.shape(leaf)}."
            )
