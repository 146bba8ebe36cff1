r"""Samples from a score alone: its integral along a segment is a difference of log densities, which Metropolis needs.

References
----------
Alain and Bengio, "What regularized auto-encoders learn from the data-generating distribution", JMLR 15
(2014).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, one_of, positive, same_shape

type Score = Callable[[Array], Array]
#: From a key and points, where to go, and the log density of the way back less that of the way there.
type Proposal = Callable[[Array, Array], tuple[Array, Array]]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)
#: Nodes and weights on [0, 1]. All but the first change their sign, exactly, with the direction.
RULES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "end point": ((0.0,), (1.0,)),
    "midpoint": ((0.5,), (1.0,)),
    "trapezoid": ((0.0, 1.0), (0.5, 0.5)),
    "Gauss": (tuple((1 + _NODES) / 2), tuple(_WEIGHTS / 2)),
}


def path_log_ratio(
    score: Score, a: Float[Array, "n d"], b: Float[Array, "n d"], rule: str = "Gauss"
) -> Float[Array, " n"]:
    r""":math:`\log p(b) - \log p(a) = \int_0^1 \psi(a + u (b - a))^\top (b - a)\, du`, by a rule with few nodes.

    Parameters
    ----------
    score
        :math:`\psi`, of a batch.
    a, b
        The ends.
    rule
        `"Gauss"`, of four points, `"midpoint"`, `"trapezoid"`, or `"end point"`, which is not antisymmetric, so that a
        chain by it has another law even for an exact score.

    Raises
    ------
    ValueError
        For another rule and ends of different shapes.

    Examples
    --------
    >>> a, b = jnp.array([[0.0]]), jnp.array([[2.0]])
    >>> path_log_ratio(lambda x: -x, a, b)  # of a normal law
    Array([-2.], dtype=float32)
    """
    one_of("rule", rule, tuple(RULES))
    same_shape("b", b, "a", a.shape)
    nodes, weights = RULES[rule]
    u = jnp.asarray(nodes, a.dtype)[:, None, None]
    slopes = score((a + u * (b - a)).reshape(-1, a.shape[1])).reshape(len(nodes), *a.shape)
    return jnp.einsum("k,knd,nd->n", jnp.asarray(weights, a.dtype), slopes, b - a)


def random_walk(scale: Any) -> Proposal:
    """Normal steps of this standard deviation."""
    positive("scale", scale)

    def propose(key: Array, x: Array) -> tuple[Array, Array]:
        return x + scale * jax.random.normal(key, x.shape, x.dtype), jnp.zeros(len(x), x.dtype)

    return propose


def langevin(score: Score, scale: Any) -> Proposal:
    r"""Steps :math:`\tfrac12 \tau^2 \psi(x) + \tau e`."""
    positive("scale", scale)

    def propose(key: Array, x: Array) -> tuple[Array, Array]:
        ahead = x + 0.5 * scale**2 * score(x)
        y = ahead + scale * jax.random.normal(key, x.shape, x.dtype)
        back = y + 0.5 * scale**2 * score(y)
        squared = lambda v: jnp.sum(v**2, axis=-1)
        return y, (squared(y - ahead) - squared(x - back)) / (2 * scale**2)

    return propose


class Chains(NamedTuple):
    """Where chains are, and how they came there."""

    x: Float[Array, "n d"]
    acceptance: Float[Array, ""]
    """The share of steps that were taken."""
    invalid: Any
    """How many steps were refused because a ratio was not a finite number."""
    furthest: Float[Array, ""]
    """The greatest absolute coordinate on the way: of a chain that diverged it is huge."""


def metropolis_hastings(
    key: Array,
    x0: Float[Array, "n d"],
    log_ratio: Callable[[Array, Array], Float[Array, " n"]],
    proposal: Proposal,
    *,
    steps: int,
    radius: Any = jnp.inf,
) -> Chains:
    r"""Markov chains side by side, each step accepted with probability :math:`\min(1, e^{\Delta})`.

    Parameters
    ----------
    key
        Of proposals and decisions.
    x0
        Where the chains start.
    log_ratio
        `log_ratio(x, y)`: :math:`\log p(y) - \log p(x)` of each pair, such as :func:`path_log_ratio` of a score.
    proposal
        :func:`random_walk`, :func:`langevin`, or your own.
    steps
        How many, one or more.
    radius
        Proposals further from zero are refused: far from the data a learned score knows nothing.

    Returns
    -------
    Chains
        Their last points. A ratio that is not a finite number is a refusal, and is counted: of a density that is
        zero beyond a border, each proposal there.

    Examples
    --------
    >>> x0 = jnp.zeros((2000, 1))
    >>> found = metropolis_hastings(
    ...     jax.random.key(0), x0, lambda x, y: (x**2 - y**2)[:, 0] / 2, random_walk(2.0), steps=50
    ... )
    >>> bool(abs(found.x.std() - 1) < 0.06)
    True
    """
    at_least("steps", steps, 1)
    positive("radius", None if radius is jnp.inf else radius)

    def step(carried: Any, key: Array) -> Any:
        x, taken, invalid, furthest = carried
        for_proposal, for_decision = jax.random.split(key)
        y, correction = proposal(for_proposal, x)
        gain = log_ratio(x, y) + correction
        # an infinite one is an overflow as well: it would be taken for sure, or leave no trace
        wrong = ~jnp.isfinite(gain)
        inside = jnp.sum(y**2, axis=-1) <= radius**2
        # one minus a uniform number is never zero
        chance = jnp.log1p(-jax.random.uniform(for_decision, gain.shape, gain.dtype))
        accept = (chance < gain) & inside & ~wrong
        x = jnp.where(accept[:, None], y, x)
        return (x, taken + jnp.mean(accept), invalid + jnp.sum(wrong), jnp.maximum(furthest, jnp.max(jnp.abs(x)))), None

    start = (x0, jnp.zeros((), x0.dtype), jnp.array(0), jnp.max(jnp.abs(x0)))
    (x, taken, invalid, furthest), _ = jax.lax.scan(step, start, jax.random.split(key, steps))
    return Chains(x, taken / steps, invalid, furthest)
