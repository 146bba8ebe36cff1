"""Longer words, with a network as denoiser and a fitted value: too many to enumerate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ...kit.training import Trainer
from ..kernels import MaskedReverse, rollouts, sample
from ..masked import linear_masks, masked_loss
from ..networks import normal_init
from .baselines import best_of_n, smc_sample
from .decoding import svdd_sample
from .values import LearnedValue, PosteriorMean, fit_mc_value
from .words import MASK, SYMBOLS, TOKENS, MarkovChain, reward

LENGTH, STEPS = 24, 32
#: The least temperature with which the lowest are replaced.
REPLACING = 0.05
FRACTION = 0.2
PARTICLES = 10
#: The reward of the prediction, and a fitted value.
VALUES = ("PM", "MC")
METHODS = ("SVDD", "SVDD-R", "SMC")


class WordNetwork(eqx.Module):
    r"""Of a word, one-hot, and with `timed` of a level: a layer and two steps :math:`h += \mathrm{silu}(Wh + b)`."""

    weights: tuple[Array, ...]
    offsets: tuple[Array, ...]
    outlet: Array
    outlet_offset: Array
    outputs: tuple[int, ...] = eqx.field(static=True)
    timed: bool = eqx.field(static=True)

    def __init__(self, outputs: tuple[int, ...], *, timed: bool, width: int, key: Array):
        keys = jax.random.split(key, 4)
        sizes = (LENGTH * SYMBOLS + timed, width, width, width)
        self.weights = tuple(
            jnp.sqrt(2.0) * normal_init(key, n, m) for key, m, n in zip(keys, sizes[:-1], sizes[1:], strict=False)
        )
        self.offsets = tuple(jnp.zeros(width) for _ in range(3))
        size = int(np.prod(outputs))
        self.outlet, self.outlet_offset = normal_init(keys[3], size, width), jnp.zeros(size)
        self.outputs, self.timed = outputs, timed

    def __call__(self, x: Array, t: Any) -> Array:
        """Outputs `(n, ...)` of words and a level, one for all or one each."""
        h = jax.nn.one_hot(x, SYMBOLS).reshape(len(x), -1)
        if self.timed:
            level = jnp.broadcast_to(jnp.asarray(t, h.dtype), (len(x),)) / STEPS
            h = jnp.concatenate([h, level[:, None]], axis=1)
        h = jax.nn.silu(h @ self.weights[0].T + self.offsets[0])
        for W, b in zip(self.weights[1:], self.offsets[1:], strict=True):
            h = h + jax.nn.silu(h @ W.T + b)
        return (h @ self.outlet.T + self.outlet_offset).reshape(len(x), *self.outputs)


@dataclass(frozen=True)
class Models:
    """A denoiser and, if it was asked for, a value."""

    denoiser: WordNetwork
    value: LearnedValue | None
    bound: float
    """The denoiser's bound of the negative log-likelihood, at the end."""
    entropy: float
    """The least that it can be."""


def kernel(denoiser: WordNetwork) -> MaskedReverse:
    """The reverse."""
    return MaskedReverse(denoiser, linear_masks(STEPS), LENGTH, MASK)


def train(
    key: Array,
    random: np.random.Generator,
    *,
    words: int,
    steps: int,
    paths: int,
    value_steps: int,
    width: int,
    advance: Callable[[int], None],
) -> Models:
    """Train a denoiser on words of the chain, and a value on its rollouts."""
    chain = MarkovChain.drawn()
    data = chain.sample(random, words, LENGTH)
    for_weights, for_training, for_paths, for_value, for_fit = jax.random.split(key, 5)

    def loss(denoise: WordNetwork, batch: Array, key: Array) -> Array:
        return masked_loss(denoise, batch, key, mask=MASK)

    rate = optax.cosine_decay_schedule(1e-3, steps)
    trainer = Trainer(loss, optax.adam(rate), steps=steps, batch=min(256, words))
    denoiser = WordNetwork((LENGTH, TOKENS), timed=False, width=width, key=for_weights)
    course = trainer(denoiser, data, key=for_training, advance=advance)
    bound = float(course.loss[-max(steps // 10, 1) :].mean())
    entropy = float(-chain.log_prob(data).mean())
    if not value_steps:
        return Models(course.model, None, bound, entropy)
    found = eqx.filter_jit(lambda model, key: rollouts(key, kernel(model), paths))(course.model, for_paths)
    value = WordNetwork((), timed=True, width=width, key=for_value)
    rate = optax.cosine_decay_schedule(1e-3, value_steps)
    options = {"steps": value_steps, "batch": min(512, paths), "advance": advance}
    fitted = fit_mc_value(for_fit, found, reward, value, optax.adam(rate), **options)
    return Models(course.model, fitted, bound, entropy)


@dataclass(frozen=True)
class Outcome:
    """What a sampler gave, for each key."""

    method: str
    value: str
    temperature: float | None
    medians: list[float]
    distinct: list[int]
    """How many of the words differ."""
    log_probs: list[float]
    """The mean log probability of the words under the chain that the data are from."""


def decode(
    models: Models,
    keys: Array,
    *,
    batch: int,
    candidates: int,
    temperatures: tuple[float, ...],
    methods: tuple[str, ...] = METHODS,
    kinds: tuple[str, ...] = VALUES,
) -> list[Outcome]:
    """Decode with both values and several temperatures, and by what they are compared with."""
    truth = MarkovChain.drawn()
    model = kernel(models.denoiser)
    values: dict[str, Any] = {"PM": PosteriorMean(model, reward), "MC": models.value}

    def outcome(method: str, value: str, temperature: float | None, drawn: list[Array]) -> Outcome:
        words = [np.asarray(x) for x in drawn]
        return Outcome(
            method,
            value,
            temperature,
            [float(np.median(np.asarray(reward(x)))) for x in words],
            [len(np.unique(x, axis=0)) for x in words],
            [float(truth.log_prob(x).mean()) for x in words],
        )

    free = jax.jit(lambda key: sample(key, model, batch))
    best = jax.jit(lambda key: best_of_n(key, model, reward, batch=batch, n=candidates).x)
    outcomes = [
        outcome("no guidance", "", None, [free(key) for key in keys]),
        outcome(f"best of {candidates}", "", None, [best(key) for key in keys]),
    ]
    for name in kinds:
        value = values[name]
        options = {"batch": batch, "candidates": candidates}

        @jax.jit
        def decoded(key: Array, a: Array, value: Any = value, options: Any = options) -> Array:
            return svdd_sample(key, model, value, temperature=a, **options).x

        @jax.jit
        def replacing(key: Array, a: Array, value: Any = value, options: Any = options) -> Array:
            options = options | {"resample_fraction": FRACTION, "resample_temperature": jnp.maximum(a, REPLACING)}
            return svdd_sample(key, model, value, temperature=a, **options).x

        @jax.jit
        def populations(key: Array, a: Array, value: Any = value) -> Array:
            one = lambda key: smc_sample(key, model, value, batch=PARTICLES, temperature=a).x
            return jax.vmap(one)(jax.random.split(key, max(batch // PARTICLES, 1))).reshape(-1, LENGTH)

        programs = {"SVDD": decoded, "SVDD-R": replacing, "SMC": populations}
        for method in methods:
            program = programs[method]
            for a in temperatures:
                if a > 0 or method != "SMC":
                    outcomes.append(outcome(method, name, a, [program(key, jnp.float32(a)) for key in keys]))
    return outcomes
