r"""Complete descents by the estimator: one step a round on the server.

DIFF2-GD is :math:`x_r = x_{r-1} - \eta\,(v_r + \nabla h(x_{r-1}))`, or any transformation of optax in place of that
step; :math:`h` is a term without data. With `restart_every=1` it is DP-GD. All iterates are released, so that what is
computed of them costs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import at_least

from .budget import Noise
from .clipping import Clients, Vectors
from .estimator import Diff2Estimator, EstimatorState, diff2_estimator

type Public = Callable[[Any], Any]
"""A function of the parameters that has no private data in it."""


class Descent(NamedTuple):
    """A descent that has ended."""

    params: Any
    """The last iterate."""
    drawn: Any
    """An iterate of a round that was drawn uniformly beforehand: the one that the theory speaks of."""
    state: Any
    """The estimator's; its counts are what a ledger needs."""
    observed: Any
    """What `observe` returned of each round's new iterate, with an axis of rounds in front; `None` without it."""
    clipped: Float[Array, " R"]
    """The share of vectors that each round shortened. It is not private."""
    finite: Bool[Array, ""]
    """Whether the last iterate is finite; a step that is too long, or a radius that is too small, ends elsewhere."""


def nothing(_: Any) -> Any:
    return None


def add(one: Any, other: Any) -> Any:
    """The sum of two trees, the second of which may be `None`."""
    return one if other is None else jax.tree.map(jnp.add, one, other)


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether all numbers of a tree are finite."""
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()


def descend(
    round_: Callable[[Any, Any], tuple[Any, Any, Array]],
    params: Any,
    carried: Any,
    key: Array,
    rounds: int,
    observe: Public | None,
    inputs: Any = None,
) -> Descent:
    """Scan `round_((params, carried), input) -> (params, carried, share clipped)`."""
    at_least("rounds", rounds, 1)
    params = jax.tree.map(jnp.asarray, params)
    chosen = jax.random.randint(key, (), 0, rounds)
    look = observe or nothing

    def one(loop: Any, numbered: Any) -> Any:
        (params, carried, drawn), (r, given) = loop, numbered
        params, carried, clipped = round_((params, carried), given)
        drawn = jax.tree.map(lambda new, old: jnp.where(r == chosen, new, old), params, drawn)
        return (params, carried, drawn), (look(params), clipped)

    loop, (observed, clipped) = jax.lax.scan(one, (params, carried, params), (jnp.arange(rounds), inputs))
    last, carried, drawn = loop
    return Descent(last, drawn, carried, observed, clipped, all_finite(last))


def diff2_gd(
    estimator: Diff2Estimator,
    optimizer: optax.GradientTransformation,
    params: Any,
    clients: Clients,
    key: Array,
    *,
    rounds: int,
    public: Public = nothing,
    observe: Public | None = None,
) -> Descent:
    r"""DIFF2-GD: so many rounds of an optimizer that is given the estimates.

    Parameters
    ----------
    estimator
        Of `diff2_estimator`.
    optimizer
        `optax.sgd(eta)` in the paper.
    params
        :math:`x_0`, which must not depend on the data.
    clients
        The records.
    key
        Secret, the caller's, for nothing else: all noise is from it.
    rounds
        :math:`R`, as the noise was calibrated for.
    public
        The gradient of a term without data, :math:`\nabla h`: it is added after clipping and noise.
    observe
        A function of an iterate that is kept for each round; the identity keeps the path. What it computes of private
        data is not private.

    Returns
    -------
    Descent
        Its `state` is an `EstimatorState`: `estimator.ledger(descent.state, clients)` is the ledger.

    Raises
    ------
    ValueError
        For less than one round.

    References
    ----------
    Murata and Suzuki, "DIFF2: differential private optimization via gradient differences for nonconvex distributed
    learning", ICML 2023 (arXiv 2302.03884).
    """
    noise, draw = jax.random.split(key)

    def one(loop: tuple[Any, tuple[EstimatorState, Any]], _: Any) -> Any:
        params, (state, inner) = loop
        estimate, state = estimator.update(state, params, clients, noise)
        updates, inner = optimizer.update(add(estimate, public(params)), inner, params)
        return optax.apply_updates(params, updates), (state, inner), state.clipped

    params = jax.tree.map(jnp.asarray, params)
    start = (estimator.init(params), optimizer.init(params))
    found = descend(one, params, start, draw, rounds, observe)
    return found._replace(state=found.state[0])


def dp_gd(
    fun: Vectors,
    optimizer: optax.GradientTransformation,
    params: Any,
    clients: Clients,
    key: Array,
    *,
    rounds: int,
    clip: Any,
    noise: Any = 0.0,
    public: Public = nothing,
    observe: Public | None = None,
    microbatch: int | None = None,
) -> tuple[Descent, Diff2Estimator]:
    r"""DP-GD: a clipped mean of gradients and noise :math:`N(0, (C s)^2 I)` in each round; DIFF2 with restarts alone.

    `clip` is :math:`C`, `noise` is :math:`s` of `calibrate(..., restart_every=1)`; the rest as in `diff2_gd`. Returns
    the descent, and the estimator that has its ledger.

    Examples
    --------
    >>> clients = Clients.equal(jnp.array([1.0, 3.0]))
    >>> found, estimator = dp_gd(
    ...     lambda x, z: x - z, optax.sgd(0.5), 0.0, clients, jax.random.key(0), rounds=20, clip=5.0
    ... )
    >>> print(found.params.round(3), estimator.ledger(found.state, clients).releases[0].count)
    2.0 20
    """
    estimator = diff2_estimator(
        fun,
        gradient_clip=clip,
        difference_clip=1.0,
        restart_every=1,
        noise=Noise(noise, 0.0),
        microbatch=microbatch,
    )
    found = diff2_gd(estimator, optimizer, params, clients, key, rounds=rounds, public=public, observe=observe)
    return found, estimator


def round_robin(clients: int, rounds: int) -> Int[Array, " R"]:
    """Which client works in each round: one after the other.

    Examples
    --------
    >>> print(round_robin(2, 5))
    [0 1 0 1 0]
    """
    at_least("clients", clients, 1)
    at_least("rounds", rounds, 1)
    return jnp.arange(rounds) % clients


def random_order(key: Array, clients: int, rounds: int, at_most: int) -> Int[Array, " R"]:
    """Which client works in each round, by chance, none of them more than `at_most` times.

    Raises `ValueError` where that leaves rounds without a client. The key must not be that of the noise.

    Examples
    --------
    >>> print(jnp.bincount(random_order(jax.random.key(0), 2, 4, 2)))
    [2 2]
    """
    at_least("clients", clients, 1)
    at_least("rounds", rounds, 1)
    at_least("at_most", at_most, 1)
    if clients * at_most < rounds:
        raise ValueError(f"at_most must be at least {-(-rounds // clients)} for {rounds} rounds: given {at_most}.")
    return jax.random.permutation(key, jnp.repeat(jnp.arange(clients), at_most))[:rounds]
