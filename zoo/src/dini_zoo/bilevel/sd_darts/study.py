"""The paper's claims on a dense search space: a flatter supernet, and what that is worth for what is derived from it.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.run import Run

from ..data import Labelled, NoisyDigits, noisy_digits
from .genotype import Genotype, derive, random_genotype
from .search import Batch, Search
from .sharpness import hessian_top_eigenvalue, sharpness
from .supernet import SuperNet, dense_operations

DARTS, SD = "DARTS", "SD-DARTS"


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of supernets and of their batches. The data are those of the specification."""
    train: int = 400
    validation: int = 400
    share: float = 0.2
    """Of the labels of both that are wrong."""
    width: int = 32
    nodes: int = 4
    batch: int = 64
    steps: int = 800
    """Of the search."""
    strength: float = 10.0
    """Of the self-distillation."""
    teachers: int = 4
    interval: int = 25
    temperature: float = 2.0
    radius: float = 0.1
    """Of the ascent that sharpness is measured with."""
    iterations: int = 20
    """Of the power method."""
    retraining: int = 1000
    """Steps with which an architecture is retrained; 0 leaves this out."""
    random: int = 5
    """Architectures that are drawn."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            train=16,
            validation=16,
            width=4,
            nodes=1,
            batch=8,
            steps=6,
            teachers=1,
            interval=2,
            iterations=2,
            retraining=0,
        )


@dataclass(frozen=True)
class Found:
    """What a search ends with, an entry for each seed."""

    eigenvalue: Float[np.ndarray, " seeds"]
    """The largest of the training loss's Hessian in the weights."""
    ascent: Float[np.ndarray, " seeds"]
    """The climb of the validation loss."""
    accuracy: Float[np.ndarray, " seeds"]
    """Of the supernet, on the test sample."""
    inherited: Float[np.ndarray, " seeds"]
    """Of the derived network with the supernet's weights."""
    alpha: Float[np.ndarray, "seeds e o"]
    kept: list[Genotype]
    finite: tuple[bool, ...]


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    operations: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    searches: dict[str, Found]
    retrained: dict[str, Float[np.ndarray, "seeds n"]]
    """Test accuracies of architectures that were retrained."""


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"search": 90, "retraining": 60})
    digits = noisy_digits(settings.train, settings.validation, settings.share, noisy_validation=True)
    names, makers = zip(*dense_operations(settings.width).items(), strict=True)
    make = lambda key: SuperNet(64, settings.width, 10, n_nodes=settings.nodes, operations=makers, key=key)
    edges = make(run.key("form")).cell.edges
    keys = jnp.stack([run.key("search", seed) for seed in settings.seeds])
    searches = run.part("search", lambda _: searched(settings, digits, make, keys))
    if not settings.retraining:
        return Result(settings, names, edges, searches, {})

    def retrain(_: object) -> dict[str, Float[np.ndarray, "seeds n"]]:
        random = run.random("architectures")
        drawn = [[random_genotype(random, edges, len(names)) for _ in range(settings.random)] for _ in settings.seeds]
        chosen = {DARTS: [[one] for one in searches[DARTS].kept], SD: [[one] for one in searches[SD].kept]}
        return retrained(settings, digits, make, chosen | {"random": drawn}, keys)

    return Result(settings, names, edges, searches, run.part("retraining", retrain))


def _arrays(sample: Labelled) -> Batch:
    return jnp.asarray(sample.X, jnp.float32), jnp.asarray(sample.y)


def weights_optimizer(steps: int) -> optax.GradientTransformation:
    """Of the weights: clipped gradients, decay, momentum, a cosine."""
    schedule = optax.cosine_decay_schedule(0.05, steps, alpha=0.001 / 0.05)
    parts = (optax.clip_by_global_norm(5.0), optax.add_decayed_weights(3e-4), optax.sgd(schedule, momentum=0.9))
    return optax.chain(*parts)


def searched(settings: Settings, digits: NoisyDigits, make: Any, keys: Array) -> dict[str, Found]:
    """Search with and without self-distillation, from the same supernets and batches."""
    train, validation, test = (_arrays(sample) for sample in digits[:3])
    like = make(keys[0])
    static = eqx.filter(like, eqx.is_inexact_array, inverse=True)
    apply = lambda w, alpha, x: eqx.combine(w, static)(x, alpha)
    edges = like.cell.edges
    operations = len(like.cell.mixed.operations)

    def drawn(sample: Batch, key: Array) -> Batch:
        rows = jax.random.randint(key, (settings.batch,), 0, len(sample[1]))
        return sample[0][rows], sample[1][rows]

    def one(given: tuple[Array, Array]) -> tuple[Any, ...]:
        strength, key = given
        search = Search(
            apply,
            weights_optimizer(settings.steps),
            optax.chain(optax.add_decayed_weights(1e-3), optax.adam(3e-3, b1=0.5, b2=0.999)),
            strength=strength,
            teachers=settings.teachers,
            interval=settings.interval,
            temperature=settings.temperature,
        )
        for_w, for_alpha, for_steps, for_power = jax.random.split(key, 4)
        w = eqx.filter(make(for_w), eqx.is_inexact_array)
        alpha = 1e-3 * jax.random.normal(for_alpha, (len(edges), operations))

        def step(state: Any, key: Array) -> tuple[Any, None]:
            keys = jax.random.split(key)
            return search.step(state, drawn(train, keys[0]), drawn(validation, keys[1])), None

        state, _ = jax.lax.scan(step, search.init(w, alpha), jax.random.split(for_steps, settings.steps))
        on_train = lambda w: search.loss(w, state.alpha, train)
        on_validation = lambda w: search.loss(w, state.alpha, validation)
        accuracy = jnp.mean(jnp.argmax(apply(state.w, state.alpha, test[0]), axis=1) == test[1])
        top = hessian_top_eigenvalue(on_train, state.w, for_power, iterations=settings.iterations)
        return state.w, state.alpha, state.finite, top, sharpness(on_validation, state.w, settings.radius), accuracy

    # one program for both: the strength is an argument, and votes are not counted where it is zero
    program = jax.jit(lambda strength, keys: jax.lax.map(lambda key: one((strength, key)), keys))
    inherit = jax.jit(lambda w, weights: eqx.combine(w, static).weighted(test[0], weights))
    found = {}
    for name, strength in ((DARTS, 0.0), (SD, settings.strength)):
        w, alpha, finite, top, climb, accuracy = program(jnp.asarray(strength), keys)
        kept = [derive(one, edges) for one in np.asarray(alpha)]
        inherited = []
        for i, genotype in enumerate(kept):
            scores = inherit(
                jax.tree.map(partial(_nth, i), w), jnp.asarray(genotype.weights(edges, operations), jnp.float32)
            )
            inherited.append(float(jnp.mean(jnp.argmax(scores, axis=1) == test[1])))
        parts = (np.asarray(part) for part in (top, climb, accuracy))
        found[name] = Found(*parts, np.array(inherited), np.asarray(alpha), kept, tuple(map(bool, finite)))
    return found


def _nth(i: int, leaf: Array) -> Array:
    return leaf[i]


def retrained(
    settings: Settings, digits: NoisyDigits, make: Any, chosen: dict[str, list[list[Genotype]]], keys: Array
) -> dict[str, Float[np.ndarray, "seeds n"]]:
    """Test accuracies of architectures with new weights, trained on both samples; a list of them for each key."""
    train, validation, test = (_arrays(sample) for sample in digits[:3])
    both = tuple(jnp.concatenate(pair) for pair in zip(train, validation, strict=True))
    like = make(keys[0])
    static = eqx.filter(like, eqx.is_inexact_array, inverse=True)
    optimizer = weights_optimizer(settings.retraining)

    def one(given: tuple[Array, Array]) -> Array:
        weights, key = given
        for_w, for_steps = jax.random.split(jax.random.fold_in(key, 1))
        w = eqx.filter(make(for_w), eqx.is_inexact_array)

        def loss(w: Any, rows: Array) -> Array:
            scores = eqx.combine(w, static).weighted(both[0][rows], weights)
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, both[1][rows]))

        def step(carried: Any, key: Array) -> tuple[Any, None]:
            w, state = carried
            slope = jax.grad(loss)(w, jax.random.randint(key, (settings.batch,), 0, len(both[1])))
            updates, state = optimizer.update(slope, state, w)
            return (optax.apply_updates(w, updates), state), None

        (w, _), _ = jax.lax.scan(step, (w, optimizer.init(w)), jax.random.split(for_steps, settings.retraining))
        return jnp.mean(jnp.argmax(eqx.combine(w, static).weighted(test[0], weights), axis=1) == test[1])

    lanes = [(name, i, one) for name, lists in chosen.items() for i, several in enumerate(lists) for one in several]
    operations = len(like.cell.mixed.operations)
    weights = jnp.asarray(np.stack([one.weights(like.cell.edges, operations) for *_, one in lanes]), jnp.float32)
    found = np.asarray(
        jax.jit(lambda *given: jax.lax.map(one, given))(weights, keys[np.array([i for _, i, _ in lanes])])
    )
    own = {name: [value for (of, *_), value in zip(lanes, found, strict=True) if of == name] for name in chosen}
    return {name: np.array(values).reshape(len(keys), -1) for name, values in own.items()}
