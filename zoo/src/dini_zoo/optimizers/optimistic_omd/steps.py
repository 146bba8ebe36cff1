r"""Step sizes of online learning: each depends on the gradients so far, never on the one to come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from dini_zoo.kit.checking import positive


class StepRule(NamedTuple):
    """A step size as three functions, and the bound on gradients that it believes in."""

    init: Callable[[Any], Any]
    """Takes a point to the state before the first round."""
    step_size: Callable[[Any], Array]
    """The step size of a round, from the state before it."""
    update: Callable[[Any, Any], Any]
    """Takes the state and the round's gradient to the next state."""
    bound: Any = None
    """On the norm of gradients; a larger one is flagged."""


class Variation(NamedTuple):
    """What has been seen of the gradients."""

    squares: Array
    """The sum of squared changes."""
    last: Any
    """The last gradient; zero before the first."""


def require_positive(**settings: Any) -> None:
    """Raise unless settings are positive and finite, as far as they are known now; traced ones mark the result."""
    for name, value in settings.items():
        positive(name, value)


def adaptive_variation(D: Any, G: Any, L: Any, *, norm: Callable[[Any], Array] = optax.tree.norm) -> StepRule:
    r"""For smooth convex losses, :math:`\eta_t = D / \sqrt{\delta + 4 G^2 + \bar V_{t-1}}`.

    :math:`\bar V_{t-1} = \sum_{s < t} \|g_s - g_{s-1}\|^2` is how much the gradients have changed, with
    :math:`g_0 = 0`, and :math:`\delta = 10 D^2 L^2`. Where little changes, the steps stay long.

    Parameters
    ----------
    D
        The diameter of the set; without one, a guess of the distance to go.
    G
        A bound on the norms of gradients.
    L
        How smooth the expected losses are. A wrong one changes constants only.
    norm
        Of gradients: the dual one of the geometry's, Euclidean if it is not given.

    Raises
    ------
    ValueError
        Where a setting is not positive.
    """
    require_positive(D=D, G=G, L=L)
    base = 10 * D**2 * L**2 + 4 * G**2

    def init(x: Any) -> Variation:
        return Variation(jnp.zeros((), _dtype(x)), jax.tree.map(jnp.zeros_like, x))

    def update(state: Variation, g: Any) -> Variation:
        return Variation(state.squares + norm(optax.tree.sub(g, state.last)) ** 2, g)

    return StepRule(init, lambda state: D / jnp.sqrt(base + state.squares), update, G)


def strongly_convex(modulus: Any) -> StepRule:
    r"""For losses that are :math:`\lambda`-strongly convex in the mean, :math:`\eta_t = 2 / (\lambda t)`."""
    require_positive(modulus=modulus)
    return _counted(lambda t: 2 / (modulus * t))


def decreasing(D: Any, G: Any) -> StepRule:
    r"""What works in the worst case, :math:`\eta_t = D / (G \sqrt t)`."""
    require_positive(D=D, G=G)
    return _counted(lambda t: D / (G * jnp.sqrt(t)))._replace(bound=G)


def constant(eta: Any) -> StepRule:
    """The same step size in all rounds."""
    require_positive(eta=eta)
    return StepRule(lambda x: (), lambda state: jnp.asarray(eta), lambda state, g: state)


def adagrad_norm(D: Any, G: Any) -> StepRule:
    r"""AdaGrad with one number, :math:`\eta_t = D / \sqrt{2 (G^2 + \sum_{s < t} \|g_s\|^2)}`."""
    require_positive(D=D, G=G)

    def init(x: Any) -> Array:
        return jnp.zeros((), _dtype(x))

    def update(state: Array, g: Any) -> Array:
        return state + optax.tree.norm(g, squared=True)

    return StepRule(init, lambda state: D / jnp.sqrt(2 * (G**2 + state)), update, G)


def _counted(rule: Callable[[Array], Array]) -> StepRule:
    """A step size that depends on the number of the round alone, from one on."""
    return StepRule(lambda x: jnp.ones((), _dtype(x)), rule, lambda t, g: t + 1)


def _dtype(x: Any) -> Any:
    """A type in which rounds and squares can be counted: half precision ends at a few hundred."""
    return jnp.promote_types(jnp.result_type(*jax.tree.leaves(x)), jnp.float32)
