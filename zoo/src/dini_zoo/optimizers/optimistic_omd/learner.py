r"""Optimistic online mirror descent.

Each round one plays a point before its loss is known, with a guess :math:`M_t` of the gradient to come, and moves a
center :math:`\hat x` once it is:

.. math::
    x_t &= \arg\min_{x \in C} \; \eta_t \langle M_t, x \rangle + D(x, \hat x_t), \qquad g_t = \nabla f_t(x_t), \\
    \hat x_{t+1} &= \arg\min_{x \in C} \; \eta_t \langle g_t, x \rangle + D(x, \hat x_t) .

Where :math:`\eta_t` does not grow, the regret against any :math:`u \in C` is in the Euclidean geometry at most

.. math:: \sum_t \eta_t \|g_t - M_t\|^2 + \frac{1}{2 \eta_t} \big(\|u - \hat x_t\|^2 - \|u - \hat x_{t+1}\|^2
          - \|x_t - \hat x_t\|^2 - \|x_t - \hat x_{t+1}\|^2\big) :

what counts is how wrong the guesses are. With the last gradient as the guess, that is how much the losses drift and how
noisy they are, whatever the learner knows of either.

References
----------
Chen, Zhang, Tu, Zhao, Zhang, "Optimistic online mirror descent for bridging stochastic and adversarial online convex
optimization", JMLR 2024 (arXiv 2302.04552). Sachs, Hadiji, van Erven, Guzmán, "Between stochastic and adversarial
online convex optimization", NeurIPS 2022: the setting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ...kit.checking import trainable
from .geometry import Euclidean, inside
from .steps import StepRule


class Learner(NamedTuple):
    """An algorithm of online learning as three pure functions, whose states are pytrees of arrays."""

    init: Callable[[Any], Any]
    """Takes a first point to the first state."""
    play: Callable[[Any], Any]
    """The point of a round."""
    update: Callable[[Any, Any], Any]
    """Takes a state and the gradient at the point that was played to the next state."""


class Flags(NamedTuple):
    """What a learner has seen and should not have."""

    exceeded: Array
    """Whether a gradient was longer than the bound that the user gave. It was used as it was."""
    broken: Array
    """Whether one was not finite. It was left out."""


class State(NamedTuple):
    """Carried from round to round."""

    center: Any
    last: Any
    """The last gradient; zero before the first."""
    rule: Any
    """The step size's own state."""
    count: Array
    """Rounds so far."""
    flags: Flags


Hint = Literal["last", "none"] | Callable[[Array, Any], Any]


def optimistic_mirror_descent(constraint: Any, rule: StepRule, *, geometry: Any = None, hint: Hint = "last") -> Learner:
    r"""Optimistic online mirror descent on a set.

    Parameters
    ----------
    constraint
        :math:`C`, a convex set of dini, or `None` for the whole space.
    rule
        The step size: `adaptive_variation`, `strongly_convex`, `constant`, or another one.
    geometry
        The mirror map: Euclidean if it is not given; `dini.conditions.KL()` on a simplex gives optimistic Hedge; any
        geometry that `dini.MirrorDescent` takes.
    hint
        The guess :math:`M_t`: ``"last"``, the last gradient; ``"none"``, zero, which is online mirror descent; or a
        function of the number of rounds so far and the last gradient.

    Raises
    ------
    TypeError
        Where one of the three is none of its kind.
    ValueError
        Where the set is not convex.
        Where a gradient has not the structure and the shapes of the point, or is not finite while that can be seen.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> from dini_zoo.optimizers.optimistic_omd import adaptive_variation
    >>> learner = optimistic_mirror_descent(dini.sets.Box(-1.0, 1.0), adaptive_variation(D=2.0, G=2.0, L=1.0))
    >>> state = learner.init(jnp.zeros(()))
    >>> for c in (0.5, -0.5, 0.9, 0.1):
    ...     x = learner.play(state)
    ...     state = learner.update(state, x - c)
    ...     print(f"{x:.4f} {state.center:.4f}")
    0.0000 0.1336
    0.2670 -0.0709
    -0.2726 0.2374
    0.5362 0.1263
    """
    check_set(constraint)
    if not isinstance(rule, StepRule):
        raise TypeError(f"rule must be a StepRule, such as adaptive_variation(D, G, L): given {rule!r}.")
    mirror = Euclidean() if geometry is None else geometry
    if not callable(getattr(mirror, "step", None)):
        raise TypeError(
            "geometry must have a mirror step, as Euclidean(), QuadraticNorm(H), dini.conditions.KL() and "
            f"dini.conditions.Geometry(...) have: given {mirror!r}."
        )
    if not (callable(hint) or hint in ("last", "none")):
        raise TypeError(
            f'hint must be "last", "none", or a function of the round and the last gradient: given {hint!r}.'
        )

    def init(x: Any) -> State:
        x = floating(x)
        start = inside(constraint, x)
        nothing = jax.tree.map(jnp.zeros_like, start)
        return State(start, nothing, rule.init(start), jnp.zeros((), jnp.int32), no_flags())

    def step(state: State, g: Any) -> Any:
        eta = rule.step_size(state.rule)
        return mirror.step(state.center, g, jnp.asarray(eta, dtype_of(state.center)), constraint)

    def guess(state: State) -> Any:
        return state.last if hint == "last" else hint(state.count, state.last)  # pyright: ignore[reportCallIssue]

    def play(state: State) -> Any:
        if hint == "none":
            return state.center
        return step(state, guess(state))

    def update(state: State, gradient: Any) -> State:
        g, flags = checked(gradient, state.center, state.flags, rule.bound)
        new = State(step(state, g), g, rule.update(state.rule, g), state.count + 1, flags)
        return kept(new, state, gradient)

    return Learner(init, play, update)


def check_set(constraint: Any) -> None:
    """Raise unless there is a convex set of dini, or none."""
    if constraint is not None and not callable(getattr(constraint, "project", None)):
        raise TypeError(f"constraint must be a set of dini.sets, or None: given {constraint!r}.")
    if not getattr(constraint, "convex", True):
        raise ValueError(f"constraint must be convex: given {constraint!r}.")


def floating(x: Any) -> Any:
    """A point whose numbers are floats, or `TypeError` if it holds anything else than numbers."""
    trainable("x", jax.tree.map(lambda leaf: float(leaf) if isinstance(leaf, int) else leaf, x))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) * 1.0, x)


def dtype_of(x: Any) -> Any:
    """The type of a point's numbers."""
    return jnp.result_type(*jax.tree.leaves(x))


def no_flags() -> Flags:
    """Nothing amiss."""
    return Flags(jnp.zeros((), bool), jnp.zeros((), bool))


def finite(tree: Any) -> Array:
    """Whether all numbers of a tree are finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def checked(gradient: Any, point: Any, flags: Flags, bound: Any) -> tuple[Any, Flags]:
    """A gradient like the point, and what is to be flagged; raises where it does not fit, or is seen to be broken."""
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (gradient, point)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"A gradient must have the shapes of the point, {shapes[1]}: given {shapes[0]}.")
    good = finite(gradient)
    if not isinstance(good, jax.core.Tracer) and not good:
        raise ValueError(f"Gradients must be finite: given {jax.tree.map(np.asarray, gradient)}.")
    g = jax.tree.map(lambda u, v: jnp.asarray(u, v.dtype), gradient, point)
    # rounding is no reason for a flag
    over = jnp.zeros((), bool) if bound is None else optax.tree.norm(g) > bound * (1 + 1e-6)
    return g, Flags(flags.exceeded | (over & good), flags.broken | ~good)


def kept(new: Any, old: Any, gradient: Any) -> Any:
    """The new state, or the old one, but its flags, where the gradient was not finite."""
    good = finite(gradient)
    chosen = jax.tree.map(lambda u, v: jnp.where(good, u, v), new, old)
    return chosen._replace(flags=new.flags)


def follow(learner: Learner, gradient: Callable[[Any, Any], Any], items: Any, start: Any) -> tuple[Any, Any]:
    """Play one round for each of some items.

    Parameters
    ----------
    learner
        Any of this package.
    gradient
        Takes the point that was played and an item, what is known of the round, to the gradient.
    items
        A tree of arrays with rounds along their first axes.
    start
        Where to begin.

    Returns
    -------
    tuple
        The points that were played, rounds along the first axis, and the last state.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini_zoo.optimizers.optimistic_omd import constant
    >>> learner = optimistic_mirror_descent(None, constant(0.5))
    >>> points, state = follow(learner, lambda x, a: x - a, jnp.ones(50), 0.0)
    >>> print(points[0], points[-1].round(3))
    0.0 1.0
    """

    def step(state: Any, item: Any) -> Any:
        x = learner.play(state)
        return learner.update(state, gradient(x, item)), x

    state, points = jax.lax.scan(step, learner.init(start), items)
    return points, state
