r"""Hyperparameters as unconstrained numbers, with a normal distribution around the present ones.

Networks are trained for hyperparameters near the present ones, :math:`\lambda + \epsilon` with
:math:`\epsilon \sim N(0, \operatorname{diag}(\sigma^2))`: how near is tuned as well, against the entropy

.. math:: \sum_h \log( \sigma_h \sqrt{2 \pi e} ) .
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

#: The deviations that the distribution may have.
NARROWEST, WIDEST = 1e-2, 3.0


@dataclass(frozen=True)
class Hyper:
    """One hyperparameter.

    Parameters
    ----------
    name
        Of which there is one in a space.
    init
        At the start, inside of the bounds.
    bounds
        Between two finite ones it is a sigmoid of the unconstrained number, above one a softplus, without any that
        number itself.
    discrete
        Whether it is rounded down. No derivative of the training loss in it is taken, so that it may be. A whole `init`
        starts half a unit up, or midway to an upper bound that is nearer: at itself rounding errors would decide.
    per_example
        Whether it may differ within a batch, as a dropout rate may and a weight decay may not.

    Raises
    ------
    ValueError
        For bounds that are none, and an `init` that is not inside of them.
    """

    name: str
    init: float
    bounds: tuple[float, float] = (-np.inf, np.inf)
    discrete: bool = False
    per_example: bool = True

    def __post_init__(self) -> None:
        low, high = self.bounds
        if not low < high or (np.isinf(low) and np.isfinite(high)):
            raise ValueError(
                f"bounds of {self.name} must be two increasing numbers, a number and infinity, or both infinite: given "
                f"{self.bounds}."
            )
        if not low < self.init < high:
            raise ValueError(f"init of {self.name} must be inside of {self.bounds}: given {self.init}.")

    @property
    def start(self) -> float:
        """The unconstrained number of `init`."""
        low, high = self.bounds
        init = float(self.init)
        if self.discrete and init == np.floor(init):
            init += min(0.5, (high - init) / 2)
        if np.isfinite(high):
            share = (init - low) / (high - low)
            return float(np.log(share) - np.log1p(-share))
        if np.isfinite(low):
            away = init - low
            return float(away + np.log(-np.expm1(-away)))
        return init

    def constrain(self, number: Array) -> Array:
        """The hyperparameter of an unconstrained number."""
        low, high = self.bounds
        if np.isfinite(high):
            value = low + (high - low) * jax.nn.sigmoid(number)
        else:
            value = low + jax.nn.softplus(number) if np.isfinite(low) else number
        return jnp.floor(value) if self.discrete else value


class HyperState(NamedTuple):
    """Where the distribution is: its center, and its deviation before :func:`deviation`."""

    center: Float[Array, " h"]
    scale: Float[Array, " h"]


def deviation(scale: Float[Array, " h"]) -> Float[Array, " h"]:
    r""":math:`\sigma`, the softplus of what is trained, from 0.01 to 3: it neither collapses nor explodes."""
    return jnp.clip(jax.nn.softplus(scale), NARROWEST, WIDEST)


def perturbation_entropy(scale: Float[Array, " h"]) -> Float[Array, ""]:
    """The entropy of the distribution, as a function of what is trained.

    Examples
    --------
    >>> print(f"{perturbation_entropy(jnp.log(jnp.expm1(jnp.array([1.0, 1.0])))):.4f}")
    2.8379
    """
    return jnp.sum(jnp.log(deviation(scale)) + 0.5 * np.log(2 * np.pi * np.e))


@dataclass(frozen=True)
class HyperSpace:
    """Several hyperparameters.

    Raises
    ------
    ValueError
        For none at all, and for two of the same name.

    Examples
    --------
    >>> space = HyperSpace([Hyper("dropout", 0.05, (0.0, 0.9)), Hyper("holes", 1.5, (0.0, 4.0), discrete=True)])
    >>> state = space.init(deviation=0.5)
    >>> {name: round(float(value), 3) for name, value in space.constrain(state.center).items()}
    {'dropout': 0.05, 'holes': 1.0}
    >>> space.perturb(state, jax.random.key(0), 7).shape
    (7, 2)
    """

    hypers: Sequence[Hyper]

    def __post_init__(self) -> None:
        names = [one.name for one in self.hypers]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"hypers must be at least one, each with a name of its own: given {names}.")

    def init(self, deviation: float = 0.5) -> HyperState:
        """The hyperparameters' initial values, and the same deviation for each.

        Raises
        ------
        ValueError
            Unless the deviation is between 0.01 and 3: at these ends and beyond it has no derivative.
        """
        if not NARROWEST < deviation < WIDEST:
            raise ValueError(f"deviation must be between {NARROWEST:g} and {WIDEST:g}: given {deviation}.")
        center = jnp.array([one.start for one in self.hypers])
        return HyperState(center, jnp.full_like(center, deviation + np.log(-np.expm1(-deviation))))

    def constrain(self, numbers: Float[Array, "*n h"]) -> dict[str, Float[Array, "*n"]]:
        """The hyperparameters by name."""
        return {one.name: one.constrain(numbers[..., i]) for i, one in enumerate(self.hypers)}

    def perturb(self, state: HyperState, key: Array, batch: int) -> Float[Array, "batch h"]:
        """Numbers around the present ones, a row for each example; equal ones where they may not differ."""
        noise = jax.random.normal(key, (batch, len(self.hypers)), state.center.dtype)
        apart = np.array([one.per_example for one in self.hypers])
        return state.center + deviation(state.scale) * jnp.where(apart, noise, noise[0])
