r"""Step sizes in target space: schedules, and a search that needs no evaluation of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .checks import Targets, require_positive, total


def inverse_sqrt(eta: float) -> Callable[[Any], Array]:
    r"""The schedule :math:`\eta_t = \eta / \sqrt{t + 1}`, for :math:`t = 0, 1, \dots`"""
    require_positive("eta", eta)
    return lambda count: eta / jnp.sqrt(count + 1.0)


def exponential(eta: float, horizon: int) -> Callable[[Any], Array]:
    r"""The schedule :math:`\eta_t = \eta \, (1/T)^{t/T}` for a run of :math:`T` steps, with :math:`t = 1, \dots, T`.

    For losses that are strongly convex in the targets it adapts to the noise, which it need not know.
    """
    require_positive("eta", eta)
    if not horizon >= 1:
        raise ValueError(f"horizon must be at least 1: given {horizon}.")
    return lambda count: eta * (1.0 / horizon) ** ((count + 1.0) / horizon)


class Searched(NamedTuple):
    """What a search has found."""

    eta: Float[Array, ""]
    found: Any
    """Whether it satisfies the condition; if not, it is the least that was allowed."""
    trials: Any
    """How often the loss was evaluated, the start not counted."""


def target_armijo(
    loss: Callable[[Targets], Any],
    z: Targets,
    gradients: Targets,
    eta: Any,
    *,
    sufficient: float = 0.5,
    factor: float = 0.9,
    low: float = 1e-4,
    high: float = 1e4,
) -> Searched:
    r"""Backtrack in target space until :math:`\ell(z - \eta G) \le \ell(z) - c \eta \|G\|^2`.

    Only the loss of given targets is evaluated, never the model.

    Parameters
    ----------
    loss
        The sum of the losses of a batch, a function of its targets.
    z, gradients
        The targets and the gradient of `loss` there.
    eta
        Where to begin; cut off at `low` and `high`.
    sufficient
        :math:`c`, in (0, 1).
    factor
        Of each trial to the one before, in (0, 1).
    low, high
        Between which :math:`\eta` lies. The search ends at `low` whatever the loss is there.

    Raises
    ------
    ValueError
        Where a setting is out of its range.

    Examples
    --------
    For half of a square any :math:`\eta \le 2 (1 - c)` will do:

    >>> import jax.numpy as jnp
    >>> z = jnp.array([3.0, 4.0])
    >>> print(target_armijo(lambda z: 0.5 * jnp.sum(z**2), z, z, 2.0, factor=0.5).eta)
    1.0
    """
    for name, value in {"sufficient": sufficient, "factor": factor}.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1: given {value}.")
    if not 0 < low < high:
        raise ValueError(f"low and high must be 0 < low < high: given {low} and {high}.")
    start, slope = loss(z), total(jax.tree.map(jnp.square, gradients))
    dtype = jnp.result_type(start, slope)

    def enough(eta: Array) -> Array:
        moved = loss(jax.tree.map(lambda u, g: u - eta * g, z, gradients))
        return moved <= start - sufficient * eta * slope

    def body(now: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        eta = jnp.maximum(factor * now[0], low).astype(dtype)
        return eta, enough(eta), now[2] + 1

    first = jnp.clip(jnp.asarray(eta, dtype), low, high)
    begun = first, enough(first), jnp.ones((), jnp.int32)
    return Searched(*jax.lax.while_loop(lambda now: ~now[1] & (now[0] > low), body, begun))


@dataclass(frozen=True)
class TargetSearch:
    r"""A step size for each batch by `target_armijo`, which begins a little above the last one: SSO-SLS.

    Nothing is to be tuned. Where a search fails, the next one begins at the last step size that was good.

    Parameters
    ----------
    first
        Where the first search begins.
    expand
        The factor from the last step size to where the next search begins, at least 1.
    sufficient, factor, low, high
        As for `target_armijo`.
    """

    first: float = 10.0
    expand: float = 2.0
    sufficient: float = 0.5
    factor: float = 0.9
    low: float = 1e-4
    high: float = 1e4

    def __post_init__(self) -> None:
        require_positive("TargetSearch's first", self.first)
        if not self.expand >= 1:
            raise ValueError(f"TargetSearch's expand must be at least 1: given {self.expand}.")

    def search(self, loss: Callable[[Targets], Any], z: Targets, gradients: Targets, last: Any) -> Searched:
        """The step size for a batch, from that of the one before."""
        settings = {name: getattr(self, name) for name in ("sufficient", "factor", "low", "high")}
        return target_armijo(loss, z, gradients, self.expand * last, **settings)
