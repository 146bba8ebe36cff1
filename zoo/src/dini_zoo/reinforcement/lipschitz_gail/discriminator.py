r"""A discriminator of experts: its loss with smoothed labels, entropy and a penalty on its slope; rewards of its score.

With the score :math:`D(s, a)`, whose logistic function is the probability of "expert", policy's points :math:`p` and
the expert's :math:`e`,

.. math:: L = \mathbb{E}_p \log(1 + e^{D}) + \mathbb{E}_e \bigl[\log(1 + e^{D}) - y D\bigr]
              - \eta\, \mathbb{E}\, H(D) + \lambda\, \mathrm{GP},

with labels :math:`y \sim U(0.7, 1.2)` of the expert alone, each redrawn, and :math:`H` the entropy of the
probability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...kit.checking import at_least, known, not_negative, one_length, one_of, positive
from ..lipschitz import KINDS, Kind, euclidean, gradient_penalty, interpolate_points
from ..policies import Network
from .absorbing import still

Tree = Any
Form = Literal["minimax", "sum", "clipped"]
FORMS = ("minimax", "sum", "clipped")


@dataclass(frozen=True)
class Penalty:
    r"""A penalty on a discriminator's slope.

    Parameters
    ----------
    kind
        Where: `dini_zoo.reinforcement.lipschitz.interpolate_points`.
    weight
        :math:`\lambda`, zero or more.
    target
        :math:`k`, zero or more.
    one_sided
        Whether slopes below the target are left alone.
    shared, std
        Of the points.

    Raises
    ------
    ValueError
        For an unknown kind, and numbers outside of their ranges.
    """

    kind: Kind = "wgan"
    weight: float = 10.0
    target: float = 1.0
    one_sided: bool = True
    shared: bool = True
    std: float = 10.0

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        not_negative("weight", self.weight)
        not_negative("target", self.target)
        positive("std", self.std)

    def __call__(
        self, score_fn: Callable[[Any, Tree], Array], params: Any, key: Array, policy_batch: Tree, expert_batch: Tree
    ) -> Float[Array, ""]:
        r""":math:`\lambda\,\mathrm{GP}` at points that the key draws."""
        points = interpolate_points(key, policy_batch, expert_batch, self.kind, shared=self.shared, std=self.std)
        return self.weight * gradient_penalty(score_fn, params, points, target=self.target, one_sided=self.one_sided)


def bernoulli_entropy(score: Float[Array, " *shape"]) -> Float[Array, " *shape"]:
    """The entropy of a coin whose log odds are the score, in nats.

    Examples
    --------
    >>> print(bernoulli_entropy(jnp.zeros(2)).round(3))
    [0.693 0.693]
    """
    chance = jax.nn.sigmoid(score)
    return chance * jax.nn.softplus(-score) + (1 - chance) * jax.nn.softplus(score)


def discriminator_loss(
    score_fn: Callable[[Any, Tree], Array],
    params: Any,
    key: Array,
    policy_batch: Tree,
    expert_batch: Tree,
    *,
    entropy: float = 1e-3,
    label_smoothing: tuple[float, float] | None = (0.7, 1.2),
    penalty: Penalty | None = Penalty(),
) -> Float[Array, ""]:
    r"""The loss :math:`L` of a discriminator on a batch.

    Parameters
    ----------
    score_fn
        `score_fn(params, point)`: :math:`D` of one example, a number.
    params
        What is learned.
    key
        Of labels and of the penalty's points.
    policy_batch, expert_batch
        :math:`p` and :math:`e`, trees of arrays with an axis of examples in front.
    entropy
        :math:`\eta`.
    label_smoothing
        The ends of the interval of the expert's labels. All are one if it is not given. Its middle must be above
        zero and at most one: beyond that the loss has no lower end.
    penalty
        On the slope; none if it is `None`.

    Raises
    ------
    ValueError
        For empty batches, labels whose middle is not above zero and at most one, a negative weight of the entropy; and
        with a penalty for batches that are not of the same shapes.
    """
    for name, batch in (("policy_batch", policy_batch), ("expert_batch", expert_batch)):
        at_least(f"the number of examples of {name}", one_length(name, batch), 1)
    not_negative("entropy", entropy)
    if label_smoothing is not None:
        low, high = label_smoothing
        if known(low) and known(high) and not (low <= high and 0 < low + high <= 2):
            raise ValueError(
                "label_smoothing must be an interval (low, high) whose middle is above 0 and at most 1: "
                f"given {label_smoothing}."
            )
    score = jax.vmap(partial(score_fn, params))
    ours, theirs = score(policy_batch), score(expert_batch)
    for_labels, for_points = jax.random.split(key)
    labels: Any = 1.0
    if label_smoothing is not None:
        labels = jax.random.uniform(for_labels, theirs.shape, theirs.dtype, *label_smoothing)
    # of logits, so that labels above one need no logarithm of anything
    total = jnp.mean(jax.nn.softplus(ours)) + jnp.mean(jax.nn.softplus(theirs) - labels * theirs)
    total = total - entropy * jnp.mean(bernoulli_entropy(jnp.concatenate([ours, theirs])))
    if penalty is None:
        return total
    return total + penalty(score_fn, params, for_points, policy_batch, expert_batch)


def imitation_reward(score: Float[Array, " *shape"], form: Form = "minimax") -> Float[Array, " *shape"]:
    r"""The reward of a score.

    =========== ============================================= ========
    ``minimax`` :math:`-\log(1 - \sigma(D)) = \log(1 + e^D)`   zero or more, with a slope from 0 to 1
    ``sum``     :math:`\log(1 + e^D) + \log \sigma(D) = D`     of both signs
    ``clipped`` :math:`-\log(1 - \sigma(D) + 10^{-8})`         published code's ``minimax``, at most 18.42
    =========== ============================================= ========

    So the reward of the first two is at most as steep as the score. Rewards of one sign say something of an episode's
    length: where episodes may end early, ``minimax`` pays for staying alive.

    Raises
    ------
    ValueError
        For an unknown form.

    Examples
    --------
    >>> print(imitation_reward(jnp.array([0.0, 20.0])).round(3))
    [ 0.693 20.   ]
    """
    one_of("form", form, FORMS)
    score = jnp.asarray(score)
    if form == "sum":
        return score
    if form == "minimax":
        return jax.nn.softplus(score)
    return -jnp.log(jax.nn.sigmoid(-score) + 1e-8)


class Discriminator(eqx.Module):
    r"""A score of states and actions: a network on both, whose hidden layers may be divided by their spectral norms.

    .. math:: D(s, a) = f(s, a), \qquad W_l \to W_l / |W_l|_2 \quad (l < L).

    The norm is :math:`u^\top W v` with the singular vectors of the power iteration, which the module carries and
    `refreshed` moves; derivatives take the vectors for constants, which is exact where they have converged. The head is
    not divided, so that it alone says how steep the score is.
    """

    network: Network
    vectors: tuple[Float[Array, " n"], ...] | None
    """:math:`u` of each hidden layer; none where layers are as they are."""

    absorbing: bool = eqx.field(static=True)
    """Whether actions in the absorbing state are left out: see `absorbing`."""

    def __init__(
        self,
        observations: int,
        actions: int,
        hidden: Sequence[int] = (64, 64),
        *,
        key: Array,
        spectral: bool = False,
        slope: float = 0.1,
        absorbing: bool = False,
    ) -> None:
        self.absorbing = absorbing
        for_network, for_vectors = jax.random.split(key)
        sizes = (observations + actions, *hidden, 1)
        self.network = Network(
            sizes, for_network, activation=partial(jax.nn.leaky_relu, negative_slope=slope), last_scale=0.01
        )
        keys = jax.random.split(for_vectors, len(hidden))
        self.vectors = (
            tuple(_unit(jax.random.normal(one, (size,))) for one, size in zip(keys, hidden, strict=True))
            if spectral
            else None
        )

    def __call__(self, point: tuple[Float[Array, " s"], Float[Array, " a"]]) -> Float[Array, ""]:
        """The score of one state and action."""
        state, action = point
        if self.absorbing:
            action = still(state, action)
        return self.normalized().network(jnp.concatenate([state, action]))[0]

    def refreshed(self, steps: int = 5) -> Self:
        """With vectors so many power steps on; the same where there are none."""
        if self.vectors is None:
            return self

        def moved(layer: eqx.nn.Linear, u: Array) -> Array:
            W = jax.lax.stop_gradient(layer.weight)
            return jax.lax.fori_loop(0, steps, lambda _, u: _unit(W @ (W.T @ u)), u)

        vectors = tuple(map(moved, self.network.layers, self.vectors))
        return eqx.tree_at(lambda tree: tree.vectors, self, vectors)

    def normalized(self) -> Self:
        """With hidden layers divided by their norms: the network that the score is of."""
        if self.vectors is None:
            return self

        def divided(layer: eqx.nn.Linear, u: Array) -> Array:
            u = jax.lax.stop_gradient(u)
            v = jax.lax.stop_gradient(_unit(layer.weight.T @ u))
            return layer.weight / (u @ layer.weight @ v)

        hidden = self.network.layers[: len(self.vectors)]
        weights = [divided(layer, u) for layer, u in zip(hidden, self.vectors, strict=True)]
        return eqx.tree_at(lambda tree: [layer.weight for layer in tree.network.layers[: len(weights)]], self, weights)


def _unit(vector: Array) -> Array:
    """The vector at length one; of zeros it is zeros."""
    length = euclidean(vector)
    return vector / jnp.where(length > 0, length, 1.0)
