r"""A learning rate and a momentum from the curvature of batches, learned while training goes on.

A few Lanczos steps from a random vector give Ritz values :math:`\theta_j` with weights :math:`\omega_j` of a batch's
Hessian. The largest, :math:`L = \max_j |\theta_j|`, and the one of largest weight, :math:`\mu = |\theta_{j^*}|`, which
stands for the bulk, make Polyak's heavy ball:

.. math:: \alpha = \frac{4 s}{(\sqrt L + \sqrt\mu)^2}, \qquad
          \rho = \Big(\frac{\sqrt L - \sqrt\mu}{\sqrt L + \sqrt\mu}\Big)^2, \qquad
          m \leftarrow \rho m + g, \quad w \leftarrow w - \alpha m .

The safety factor :math:`s` is not in the paper: with :math:`s = 1`, the best for gradients without noise, training on
batches diverges, since momentum amplifies the noise by :math:`1 / (1 - \rho)` and curvature grows between refreshes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from ...kit.checking import at_least, trainable
from ..curvature import hessian_operator
from ..lanczos import lanczos, random_direction, ritz
from .eigenvalues import Number, number, positive, require

Tree = Any


class HeavyBall(NamedTuple):
    """Polyak's parameters."""

    learning_rate: Float[Array, ""]
    momentum: Float[Array, ""]


def heavy_ball(largest: Number, bulk: Number, safety: float = 1.0) -> HeavyBall:
    r"""Polyak's rate and momentum for a spectrum between :math:`\mu`, the bulk, and :math:`L`, the largest.

    On a quadratic with exact ends, and a safety factor of one, the error shrinks by
    :math:`(\sqrt{L/\mu} - 1) / (\sqrt{L/\mu} + 1)` a step.

    Parameters
    ----------
    largest, bulk
        :math:`L` and :math:`\mu`, positive, the first not the smaller.
    safety
        :math:`s`, by which the rate is multiplied.

    Raises
    ------
    ValueError
        For numbers that are not positive, and for a `bulk` above `largest`. Of traced numbers the result is then NaN.

    Examples
    --------
    >>> print("{:.4f} {:.4f}".format(*heavy_ball(4.0, 1.0)))
    0.4444 0.1111
    """
    safety, bulk = number("safety", safety, positive, "positive"), number("bulk", bulk, positive, "positive")
    if not isinstance(bulk, jax.core.Tracer):
        require("largest", largest, lambda largest: largest >= bulk, f"at least bulk, {bulk}")
    largest = jnp.asarray(largest, float)
    above, below = jnp.sqrt(jnp.where(largest >= bulk, largest, jnp.nan)), jnp.sqrt(bulk)
    return HeavyBall(4 * safety / (above + below) ** 2, ((above - below) / (above + below)) ** 2)


class LearnerState(NamedTuple):
    """What the learner carries."""

    velocity: Tree
    learning_rate: Float[Array, ""]
    momentum: Float[Array, ""]
    largest: Float[Array, ""]
    """The smoothed curvature; zero before there is one."""
    steps: Int[Array, ""]
    key: Array


def lanczos_learning_rate(
    num_steps: int = 10,
    *,
    every: int,
    safety: float = 0.25,
    rule: Literal["heavy_ball", "rayleigh"] = "heavy_ball",
    initial_learning_rate: float = 1e-2,
    smoothing: float = 0.7,
    floor: float = 1e-3,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD whose rate and momentum follow the curvature of its own batches.

    Every so many steps, before the step, the Hessian of the step's own batch is looked at: the curvature of batches of
    the training's size is what its stability depends on. The largest curvature is smoothed,
    :math:`L_s \leftarrow \max(L, \tau L_s + (1 - \tau) L)`: it may rise at once and falls slowly.

    Parameters
    ----------
    num_steps
        Lanczos steps: so many products with the Hessian, each about two gradients.
    every
        Steps between two looks; once a pass through the data is usual.
    safety
        :math:`s` in the formulas above. Small batches need less.
    rule
        `"heavy_ball"`, or `"rayleigh"`: :math:`\alpha = s \langle g, g \rangle / \langle g, H g \rangle`, the exact
        line search along the gradient, without momentum and with one product.
    initial_learning_rate
        Until curvature gives a rate: where it is not positive along the gradient, or not finite, rate and momentum stay
        as they are.
    smoothing
        :math:`\tau`.
    floor
        The bulk is not taken for less than this share of the largest: its Ritz value may be about zero.
    seed
        Of the random vectors.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        `update(grads, state, params, value_fn=...)`, where `value_fn(params)` is the loss on the step's batch. This is
        the argument that optax's line searches take. The updates are to be added as they are; the state has the
        `learning_rate` and the `momentum`.

    Raises
    ------
    ValueError
        For numbers out of range, another rule, and an update without `params` or `value_fn`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, optax
    >>> loss = lambda w: 0.5 * jnp.sum(jnp.array([1.0, 100.0]) * w**2)
    >>> optimizer, w = lanczos_learning_rate(2, every=10, safety=1.0), jnp.ones(2)
    >>> @jax.jit
    ... def step(w, state):
    ...     updates, state = optimizer.update(jax.grad(loss)(w), state, w, value_fn=loss)
    ...     return optax.apply_updates(w, updates), state
    >>> state = optimizer.init(w)
    >>> for _ in range(100):
    ...     w, state = step(w, state)
    >>> print(f"{state.largest:.1f} {bool(loss(w) < 0.1)}")
    100.0 True
    """
    for name, value in {"num_steps": num_steps, "every": every}.items():
        at_least(name, value, 1)
    for name, value in {"safety": safety, "initial_learning_rate": initial_learning_rate}.items():
        require(name, value, lambda value: (value > 0) & (value < jnp.inf), "positive and finite")
    require("smoothing", smoothing, lambda value: (value >= 0) & (value < 1), "at least 0 and below 1")
    require("floor", floor, lambda value: (value > 0) & (value <= 1), "above 0 and at most 1")
    if rule not in ("heavy_ball", "rayleigh"):
        raise ValueError(f"rule must be 'heavy_ball' or 'rayleigh': given {rule!r}.")

    def init(params: Tree) -> LearnerState:
        trainable("params", params)
        number = lambda value: jnp.asarray(value, jnp.float32)
        return LearnerState(
            jax.tree.map(jnp.zeros_like, params),
            *map(number, (initial_learning_rate, 0.0, 0.0)),
            jnp.zeros((), jnp.int32),
            jax.random.key(seed),
        )

    def looked(slope: Tree, state: LearnerState, params: Tree, value_fn: Callable[[Tree], Array]) -> LearnerState:
        product = hessian_operator(value_fn, params)
        key, own = jax.random.split(state.key)
        if rule == "rayleigh":
            dot = lambda a, b: sum(jnp.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))
            square, curvature = dot(slope, slope), dot(slope, product(slope))
            usable = (curvature > 0) & jnp.isfinite(curvature) & (square > 0)
            found = HeavyBall(safety * square / jnp.where(usable, curvature, 1), jnp.zeros(()))
            largest = jnp.where(usable, curvature / jnp.where(usable, square, 1), 0)
        else:
            of = ritz(lanczos(product, random_direction(own, params), num_steps))
            largest = jnp.max(jnp.abs(of.values))
            usable = (largest > 0) & jnp.isfinite(largest)
            kept = smoothing * state.largest + (1 - smoothing) * largest
            largest = jnp.where(state.largest > 0, jnp.maximum(largest, kept), largest)
            bulk = jnp.maximum(jnp.abs(of.values[jnp.argmax(of.weights)]), floor * largest)
            one = jnp.ones(())
            found = heavy_ball(jnp.where(usable, largest, one), jnp.where(usable, bulk, one), safety)
        new = (found.learning_rate, found.momentum, largest)
        old = (state.learning_rate, state.momentum, state.largest)
        chosen = [jnp.where(usable, a, b).astype(b.dtype) for a, b in zip(new, old, strict=True)]
        return state._replace(key=key, learning_rate=chosen[0], momentum=chosen[1], largest=chosen[2])

    def update(
        updates: Tree, state: LearnerState, params: Tree = None, *, value_fn: Any = None, **_: Any
    ) -> tuple[Tree, LearnerState]:
        if params is None or value_fn is None:
            raise ValueError(
                "lanczos_learning_rate needs `update(grads, state, params, value_fn=...)`: the parameters, and the "
                "loss of the step's batch as a function of them."
            )
        due = state.steps % every == 0
        state = lax.cond(due, lambda: looked(updates, state, params, value_fn), lambda: state)
        velocity = jax.tree.map(lambda m, g: state.momentum.astype(m.dtype) * m + g, state.velocity, updates)
        found = jax.tree.map(lambda m: -state.learning_rate.astype(m.dtype) * m, velocity)
        return found, state._replace(velocity=velocity, steps=state.steps + 1)

    return optax.GradientTransformationExtraArgs(init, update)
