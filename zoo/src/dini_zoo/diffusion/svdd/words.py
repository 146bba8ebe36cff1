r"""Short words in which everything is known: the denoiser by enumeration, the values by a dynamic programme.

Words are of a Markov chain. Of a state, a word with masks, each position is one of five numbers, and the step from
level :math:`t` reveals each hidden token with probability :math:`1/t`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..kernels import MaskedReverse
from ..masked import linear_masks
from .baselines import best_of_n, smc_sample
from .decoding import svdd_sample
from .values import PosteriorMean

TOKENS, LENGTH = 4, 6
MASK, SYMBOLS = TOKENS, TOKENS + 1
STATES = SYMBOLS**LENGTH
#: Of the tilted law.
TEMPERATURE = 0.3
POWERS = SYMBOLS ** np.arange(LENGTH)[::-1]


class MarkovChain(NamedTuple):
    """The law of words of any length."""

    start: Float[np.ndarray, " K"]
    rows: Float[np.ndarray, "K K"]

    @classmethod
    def drawn(cls, seed: int = 0) -> MarkovChain:
        """A start from Dirichlet(1), and rows from Dirichlet(1/2)."""
        random = np.random.default_rng(seed)
        start = random.dirichlet(np.ones(TOKENS))
        return cls(start, random.dirichlet(0.5 * np.ones(TOKENS), size=TOKENS))

    def sample(self, random: np.random.Generator, n: int, length: int) -> Int[np.ndarray, "n L"]:
        """So many words."""
        words = np.empty((n, length), np.int32)
        for i in range(length):
            law = np.broadcast_to(self.start, (n, TOKENS)) if i == 0 else self.rows[words[:, i - 1]]
            reach = np.cumsum(law, axis=1)
            words[:, i] = np.minimum((random.random((n, 1)) >= reach).sum(axis=1), TOKENS - 1)
        return words

    def log_prob(self, words: Int[np.ndarray, "n L"]) -> Float[np.ndarray, " n"]:
        """Of words."""
        steps = np.log(self.rows)[words[:, :-1], words[:, 1:]]
        return np.log(self.start)[words[:, 0]] + steps.sum(axis=1)


def reward(words: Array) -> Array:
    """How often 1 follows 0, and a half where the number of 3s is odd. It has no gradient."""
    pairs = jnp.sum((words[..., :-1] == 0) & (words[..., 1:] == 1), axis=-1)
    return pairs + 0.5 * (jnp.sum(words == 3, axis=-1) % 2)


def code(words: Array) -> Array:
    """The number of a state."""
    return words @ jnp.asarray(POWERS)


class Step(NamedTuple):
    """All transitions that a step may make, and what of their probability does not depend on the level."""

    source: Int[np.ndarray, " n"]
    target: Int[np.ndarray, " n"]
    tokens: Float[np.ndarray, " n"]
    """The probability of the tokens that are revealed."""
    shown: Int[np.ndarray, " n"]
    """How many."""
    hidden: Int[np.ndarray, " n"]
    """How many stay hidden."""

    def probability(self, t: int) -> Float[np.ndarray, " n"]:
        """On the way from level `t` to the next one."""
        return self.tokens * (1 / t) ** self.shown * (1 - 1 / t) ** self.hidden

    def expected(self, value: np.ndarray, t: int) -> Float[np.ndarray, " S"]:
        """Of each state, the mean of a function of the next one."""
        return np.bincount(self.source, self.probability(t) * value[self.target], minlength=STATES)


class Known(NamedTuple):
    """What is known of the words, in double precision."""

    states: Int[np.ndarray, "S L"]
    denoiser: Float[np.ndarray, "S L K"]
    """The probability of each token, given what a state shows."""
    step: Step
    words: Int[np.ndarray, " W"]
    """The numbers of the states that hide nothing."""
    rewards: Float[np.ndarray, " S"]
    """Of words; zero of other states."""
    law: Float[np.ndarray, " S"]
    """Of words that the chain draws without guidance."""
    target: Float[np.ndarray, " S"]
    """That law, tilted."""
    soft: Float[np.ndarray, "T1 S"]
    """The soft value, by level."""
    mean: Float[np.ndarray, "T1 S"]
    """The mean reward, by level."""


ALL_HIDDEN = STATES - 1


@functools.cache
def known(temperature: float = TEMPERATURE) -> Known:
    """Enumerate 4⁶ words, 5⁶ states and 9⁶ transitions."""
    chain = MarkovChain.drawn()
    states = np.stack(np.unravel_index(np.arange(STATES), (SYMBOLS,) * LENGTH), axis=1)
    # the probability of what a state shows: of words, and with a sum over the tokens of each hidden position
    words = np.stack(np.unravel_index(np.arange(TOKENS**LENGTH), (TOKENS,) * LENGTH), axis=1)
    shown = np.exp(chain.log_prob(words)).reshape((TOKENS,) * LENGTH)
    for axis in range(LENGTH):
        shown = np.concatenate([shown, shown.sum(axis=axis, keepdims=True)], axis=axis)
    shown = shown.ravel()
    denoiser = np.zeros((STATES, LENGTH, TOKENS))
    for position in range(LENGTH):
        for token in range(TOKENS):
            changed = np.arange(STATES) + (token - states[:, position]) * POWERS[position]
            denoiser[:, position, token] = shown[changed] / shown
    # of each position: a token that stays, a mask that stays, a mask that becomes a token
    source, target = np.array([0, 1, 2, 3, 4, 4, 4, 4, 4]), np.array([0, 1, 2, 3, 4, 0, 1, 2, 3])
    choice = np.stack(np.unravel_index(np.arange(9**LENGTH), (9,) * LENGTH), axis=1)
    origin, end = source[choice] @ POWERS, target[choice] @ POWERS
    tokens = np.ones(len(choice))
    for position in range(LENGTH):
        reveals = choice[:, position] > MASK
        tokens[reveals] *= denoiser[origin[reveals], position, target[choice[reveals, position]]]
    step = Step(origin, end, tokens, (choice > MASK).sum(axis=1), (choice == MASK).sum(axis=1))
    whole = np.flatnonzero((states < MASK).all(axis=1))
    rewards = np.zeros(STATES)
    seen = states[whole]
    rewards[whole] = ((seen[:, :-1] == 0) & (seen[:, 1:] == 1)).sum(axis=1) + 0.5 * ((seen == 3).sum(axis=1) % 2)
    # backwards: values; forwards: the law
    factor, mean = [np.exp(rewards / temperature)], [rewards]
    for t in range(1, LENGTH + 1):
        factor.append(step.expected(factor[-1], t))
        mean.append(step.expected(mean[-1], t))
    law = np.zeros(STATES)
    law[ALL_HIDDEN] = 1.0
    for t in range(LENGTH, 0, -1):
        law = np.bincount(step.target, step.probability(t) * law[step.source], minlength=STATES)
    target = law * np.exp(rewards / temperature)
    # states that no level reaches have no value
    with np.errstate(divide="ignore"):
        soft = temperature * np.log(np.stack(factor))
    return Known(states, denoiser, step, whole, rewards, law, target / target.sum(), soft, np.stack(mean))


def decoded_law(found: Known, temperature: float = TEMPERATURE) -> Float[np.ndarray, " S"]:
    """The law of words of the chain with the optimal kernel, from all hidden."""
    law, factor = np.zeros(STATES), np.exp(found.soft / temperature)
    law[ALL_HIDDEN] = 1.0
    for t in range(LENGTH, 0, -1):
        kernel = found.step.probability(t) * factor[t - 1, found.step.target] / factor[t, found.step.source]
        law = np.bincount(found.step.target, kernel * law[found.step.source], minlength=STATES)
    return law


def kernel_of(denoiser: Array) -> MaskedReverse:
    """The reverse, with a table as denoiser."""
    logits = jnp.log(denoiser)
    return MaskedReverse(lambda x, m: logits[code(x)], linear_masks(LENGTH), LENGTH, MASK)


def tables(found: Known) -> dict[str, Float[np.ndarray, "T1 S"]]:
    """The three values, by level and state."""
    posterior_mean = PosteriorMean(kernel_of(jnp.asarray(found.denoiser)), reward)
    of_states = np.asarray(jax.jit(lambda x: posterior_mean(x, 1))(jnp.asarray(found.states)))
    return {
        "exact": np.where(np.isfinite(found.soft), found.soft, 0.0),
        "mean": found.mean,
        "posterior mean": np.broadcast_to(of_states, found.soft.shape),
    }


@dataclass(frozen=True)
class Words:
    """Mean rewards, and distances in total variation to the tilted law."""

    counts: tuple[int, ...]
    """Candidates."""
    chains: int
    rewards: dict[str, list[float]]
    """Of each value, by candidates."""
    distances: dict[str, list[float]]
    greedy: dict[str, float]
    """Mean rewards with temperature 0."""
    populations: dict[str, float]
    """Mean rewards of sequential Monte Carlo."""
    best: float
    """Of the best of one more than the greedy choice has candidates: as many calls of the network, where the prediction
    of a kept candidate is not kept."""
    greedy_count: int
    free: float
    """The mean reward of the chain without guidance, exactly, and that of the tilted law."""
    tilted: float
    log_mean: float
    """The soft value of all hidden."""
    floor: float
    """The distance of a sample of the tilted law itself."""


def decode(key: Array, *, counts: tuple[int, ...], greedy: int, chains: int) -> Words:
    """Decode words with each of the three values, by numbers of candidates."""
    found = known()
    values = {name: jnp.asarray(table, jnp.float32) for name, table in tables(found).items()}
    denoiser = jnp.asarray(found.denoiser, jnp.float32)
    for_draws, for_greedy, for_best, for_smc, for_floor = jax.random.split(key, 5)
    tilted = jnp.asarray(found.target, jnp.float32)

    def drawn(key: Array, table: Array, temperature: Array, count: int) -> Array:
        value = lambda x, t: table[t, code(x)]
        options = {"batch": chains, "candidates": count, "temperature": temperature}
        return code(svdd_sample(key, kernel_of(denoiser), value, **options).x)

    def populations(key: Array, table: Array) -> Array:
        value = lambda x, t: table[t, code(x)]
        one = lambda key: smc_sample(key, kernel_of(denoiser), value, batch=greedy, temperature=TEMPERATURE).x
        return code(jax.vmap(one)(jax.random.split(key, max(chains // greedy, 1))).reshape(-1, LENGTH))

    def best(key: Array) -> Array:
        return code(best_of_n(key, kernel_of(denoiser), reward, batch=chains, n=greedy + 1).x)

    mean = lambda codes: float(found.rewards[np.asarray(codes)].mean())

    def distance(codes: Array) -> float:
        share = np.bincount(np.asarray(codes), minlength=STATES) / len(codes)
        return float(0.5 * np.abs(share - found.target).sum())

    program = jax.jit(drawn, static_argnums=3)
    rewards: dict[str, list[float]] = {name: [] for name in values}
    distances: dict[str, list[float]] = {name: [] for name in values}
    for i, count in enumerate(counts):
        for name, table in values.items():
            codes = program(jax.random.fold_in(for_draws, i), table, jnp.float32(TEMPERATURE), count)
            rewards[name].append(mean(codes))
            distances[name].append(distance(codes))
    monte_carlo = jax.jit(populations)
    exact = jax.random.categorical(for_floor, jnp.log(tilted), shape=(chains,))
    return Words(
        counts=counts,
        chains=chains,
        rewards=rewards,
        distances=distances,
        greedy={n: mean(program(for_greedy, table, jnp.float32(0.0), greedy)) for n, table in values.items()},
        populations={name: mean(monte_carlo(for_smc, table)) for name, table in values.items()},
        best=mean(jax.jit(best)(for_best)),
        greedy_count=greedy,
        free=float(found.law @ found.rewards),
        tilted=float(found.target @ found.rewards),
        log_mean=float(found.soft[-1, ALL_HIDDEN]),
        floor=distance(exact),
    )
