r"""Preconditioned rewards (PURPLE): a factor in :math:`(0, 1]` that makes a learned reward less steep.

.. math:: \tilde r(s, a) = \kappa\, r(s, a), \qquad
          \nabla \tilde r = \kappa\, \nabla r + r\, \nabla \kappa .

A factor that does not depend on state and action scales the reward's Lipschitz constant, and each bound on the value's,
by :math:`\kappa` exactly; of others the second term has to be counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ...kit.checking import at_least, known, not_negative, same_shape
from ..lipschitz import gradient_penalty


def precondition_reward(
    reward: Float[Array, " *shape"], kappa: float | Array, *, constant: bool = True
) -> Float[Array, " *shape"]:
    r"""The reward times a factor in :math:`(0, 1]`.

    Parameters
    ----------
    reward
        :math:`r`, zero or of any sign.
    kappa
        :math:`\kappa`: a number, or one for each reward.
    constant
        Whether derivatives take the factor for a constant: then slopes are scaled by it.

    Returns
    -------
    Array
        :math:`\kappa r`; NaN where a factor that is known only when the program runs is outside of its range.

    Raises
    ------
    ValueError
        For a factor outside of :math:`(0, 1]`, and factors of another shape than the rewards'.

    Examples
    --------
    >>> print(precondition_reward(jnp.array([2.0, -4.0]), 0.5))
    [ 1. -2.]
    """
    if np.ndim(kappa):
        same_shape("kappa", kappa, "reward", jnp.shape(reward))
    if known(kappa) and not np.all((np.asarray(kappa) > 0) & (np.asarray(kappa) <= 1)):
        raise ValueError(f"kappa must be above 0 and at most 1: given {kappa}.")
    factor = jnp.asarray(kappa, jnp.result_type(reward))
    factor = jnp.where((factor > 0) & (factor <= 1), factor, jnp.nan)
    return (jax.lax.stop_gradient(factor) if constant else factor) * reward


class Recent(NamedTuple):
    """The last few penalties of a model of the dynamics."""

    values: Float[Array, " window"]
    count: Int[Array, ""]
    """How many there have been."""


@dataclass(frozen=True)
class SmoothDynamics:
    r"""The factor of published code, from the slope of a model of the dynamics :math:`\hat f(s, a)`.

    .. math:: P = \frac1m \sum_i \max\Bigl(0, \bigl|\nabla_{s,a} \textstyle\sum_j \hat f_j\bigr| - k\Bigr)^2, \qquad
              \kappa = \operatorname{clip}\bigl(e^{-P / \mathrm{std}(P)}, \kappa_0, 1\bigr),

    one number a batch, with the standard deviation of the last few penalties, this one among them; the first one is
    taken as it is. Where the dynamics are less steep than :math:`k`, the factor is one.

    Parameters
    ----------
    threshold
        :math:`k`, zero or more.
    floor
        :math:`\kappa_0`, above 0 and at most 1.
    window
        How many penalties the deviation is of, at least two.

    Raises
    ------
    ValueError
        For numbers outside of these ranges.
    """

    threshold: float = 9.0
    floor: float = 0.7
    window: int = 10

    def __post_init__(self) -> None:
        not_negative("threshold", self.threshold)
        if not 0 < self.floor <= 1:
            raise ValueError(f"floor must be above 0 and at most 1: given {self.floor}.")
        at_least("window", self.window, 2)

    def init(self) -> Recent:
        """No penalties yet."""
        return Recent(jnp.zeros(self.window), jnp.zeros((), int))

    def __call__(
        self, recent: Recent, model: Callable[[Array, Array], Array], states: Array, actions: Array
    ) -> tuple[Recent, Float[Array, ""]]:
        """The factor for a batch, from a model of one state and one action."""
        total: Any = lambda _, point: jnp.sum(model(*point))
        steep = gradient_penalty(total, None, (states, actions), target=self.threshold)
        recent = Recent(recent.values.at[recent.count % self.window].set(steep), recent.count + 1)
        there = jnp.arange(self.window) < recent.count
        seen = jnp.minimum(recent.count, self.window)
        mean = jnp.sum(jnp.where(there, recent.values, 0.0)) / seen
        deviation = jnp.sqrt(jnp.sum(jnp.where(there, (recent.values - mean) ** 2, 0.0)) / seen)
        # equal penalties above zero have no deviation: the factor is the floor, as for any that differ little
        ratio = jnp.where(
            recent.count > 1, steep / jnp.where(deviation > 0, deviation, jnp.finfo(steep.dtype).tiny), steep
        )
        return recent, jnp.clip(jnp.exp(-ratio), self.floor, 1.0)


@dataclass(frozen=True)
class Constant:
    """The same factor always; raises `ValueError` outside of (0, 1]."""

    kappa: float | Array = 1.0

    def __post_init__(self) -> None:
        precondition_reward(jnp.zeros(()), self.kappa)

    def init(self, key: Array) -> tuple[()]:
        """Nothing is carried."""
        return ()

    def update(self, memory: tuple[()], states: Array, actions: Array, next_states: Array) -> tuple[tuple[()], Any]:
        """The factor."""
        return memory, self.kappa


class Model(eqx.Module):
    r"""A model of the dynamics that predicts how the state changes: :math:`\hat f(s, a) = s + g(s, a)`."""

    network: Callable[[Array], Array]
    """:math:`g`, of both one behind the other."""

    def __call__(self, state: Float[Array, " s"], action: Float[Array, " a"]) -> Float[Array, " s"]:
        """The next state."""
        return state + self.network(jnp.concatenate([state, action]))


class Modeled(NamedTuple):
    """A model of the dynamics on its way."""

    model: Any
    optimizer: Any
    recent: Recent


@dataclass(frozen=True)
class LearnedDynamics:
    """The factor of `SmoothDynamics`, of a model of the dynamics that is learned beside the policy.

    Parameters
    ----------
    make
        `make(key)`: an Equinox module that takes one state and one action, and predicts the next state.
    optimizer
        An optax transformation.
    smooth
        How the factor is made of the model's slope.
    """

    make: Callable[[Array], Any]
    optimizer: optax.GradientTransformation
    smooth: SmoothDynamics = SmoothDynamics()

    def init(self, key: Array) -> Modeled:
        """The first model."""
        model = self.make(key)
        return Modeled(model, self.optimizer.init(eqx.filter(model, eqx.is_inexact_array)), self.smooth.init())

    def update(self, memory: Modeled, states: Array, actions: Array, next_states: Array) -> tuple[Modeled, Array]:
        """One step of the model on a batch, and the factor for it."""
        error = lambda model: jnp.mean((jax.vmap(model)(states, actions) - next_states) ** 2)
        updates, optimizer = self.optimizer.update(
            eqx.filter_grad(error)(memory.model), memory.optimizer, eqx.filter(memory.model, eqx.is_inexact_array)
        )
        model = eqx.apply_updates(memory.model, updates)
        recent, kappa = self.smooth(memory.recent, model, states, actions)
        return Modeled(model, optimizer, recent), kappa
