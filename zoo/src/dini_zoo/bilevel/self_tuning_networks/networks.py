r"""A perceptron on digits with wrong labels whose three dropout rates are tuned while it trains, and what it rivals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ..data import Labelled, NoisyDigits
from .layers import HyperLinear
from .method import STN, STNState
from .space import Hyper, HyperSpace

#: No rate may be larger: what is left of a layer would be scaled too much.
LARGEST = 0.9
RATES = ("input", "hidden 1", "hidden 2")


class Perceptron(eqx.Module):
    """Three dense layers with ReLU, plain ones or such that answer to hyperparameters, and dropout before each."""

    layers: tuple[Any, ...]

    def __call__(
        self, X: Float[Array, "m p"], numbers: Array, rates: Float[Array, "m 3"] | None = None, key: Array | None = None
    ) -> Float[Array, "m k"]:
        """The scores of a batch; without rates nothing is dropped."""
        for i, layer in enumerate(self.layers):
            if rates is not None and key is not None:
                X = dropped(jax.random.fold_in(key, i), X, rates[:, i])
            X = layer(X, numbers) if isinstance(layer, HyperLinear) else X @ layer.weight.T + layer.bias
            if i < len(self.layers) - 1:
                X = jax.nn.relu(X)
        return X


def dropped(key: Array, X: Float[Array, "m p"], rates: Float[Array, " m"]) -> Float[Array, "m p"]:
    """Dropout with a rate for each row; what is left is scaled, so that its mean stays."""
    kept = jax.random.uniform(key, X.shape, X.dtype) >= rates[:, None]
    return jnp.where(kept, X / (1 - rates[:, None]), 0)


def perceptron(units: int, key: Array, *, n_hyper: int | None = None) -> Perceptron:
    """A new network; with `n_hyper` one that answers to so many hyperparameters."""
    sizes = (64, units, units, 10)
    keys = jax.random.split(key, 3)
    shapes = zip(keys, sizes[:-1], sizes[1:], strict=True)
    if n_hyper is None:
        return Perceptron(tuple(eqx.nn.Linear(m, n, key=key) for key, m, n in shapes))
    return Perceptron(tuple(HyperLinear(m, n, n_hyper, key=key, name=f"layer {m}-{n}") for key, m, n in shapes))


@dataclass(frozen=True)
class Recipe:
    """How networks are trained."""

    digits: NoisyDigits
    units: int
    batch: int
    steps: int
    warmup: int
    every: int
    """Steps between two looks at the whole validation sample, of which the best is kept."""

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Of the weights."""
        return optax.sgd(0.05, momentum=0.9)

    def drawn(self, sample: Labelled, key: Array) -> tuple[Array, Array]:
        """A batch with replacement."""
        rows = jax.random.randint(key, (self.batch,), 0, len(sample.y))
        return jnp.asarray(sample.X, jnp.float32)[rows], jnp.asarray(sample.y)[rows]


def cross_entropy(scores: Array, y: Array) -> Array:
    """The mean over a batch."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, y))


def _losses(model: Perceptron, numbers: Array, recipe: Recipe) -> Array:
    """Of the validation and of the test sample, without dropout."""
    samples = (recipe.digits.validation, recipe.digits.test)
    return jnp.stack([cross_entropy(model(jnp.asarray(s.X, jnp.float32), numbers), jnp.asarray(s.y)) for s in samples])


@dataclass(frozen=True)
class Trained:
    """One training."""

    losses: Float[np.ndarray, "times 2"]
    """Of the validation and of the test sample, along the way."""
    rates: Float[np.ndarray, "times 3"]
    """Dropout rates along the way."""

    @property
    def best(self) -> tuple[float, float]:
        """Validation and test loss where the first is least; infinite where all are not finite."""
        found = np.where(np.isfinite(self.losses[:, 0]), self.losses[:, 0], np.inf)
        return tuple(map(float, self.losses[int(np.argmin(found))]))


def self_tuning(recipe: Recipe, starts: tuple[float, ...], keys: Array) -> list[list[Trained]]:
    """Train with rates that start at each of `starts`, for each key: a list for each start."""
    space = HyperSpace([Hyper(name, 0.5 * LARGEST, (0.0, LARGEST)) for name in RATES])
    train, validation = recipe.digits.train, recipe.digits.validation

    def train_loss(model: Perceptron, numbers: Array, hypers: dict[str, Array], batch: Any, key: Array) -> Array:
        rates = jnp.stack([hypers[name] for name in RATES], axis=1)
        return cross_entropy(model(batch[0], numbers, rates, key), batch[1])

    def valid_loss(model: Perceptron, numbers: Array, batch: Any) -> Array:
        return cross_entropy(model(batch[0], numbers), batch[1])

    def one(given: tuple[Array, Array]) -> Any:
        center, key = given
        model = perceptron(recipe.units, key, n_hyper=len(RATES))
        stn = STN(model, train_loss, valid_loss, space, recipe.optimizer, optax.adam(0.01), recipe.batch)
        hyper = space.init(0.5)
        state = stn.init(model, hyper._replace(center=jnp.full_like(hyper.center, center)))

        def watch(state: STNState) -> tuple[Array, Array]:
            rates = space.constrain(state.hyper.center)
            losses = _losses(stn.model(state), state.hyper.center, recipe)
            return jnp.where(state.finite, losses, jnp.nan), jnp.stack([rates[name] for name in RATES])

        cycles = (recipe.steps - recipe.warmup) // stn.train_steps
        every = max(recipe.every // stn.train_steps, 1)
        samplers = (partial(recipe.drawn, train), partial(recipe.drawn, validation))
        how = {"cycles": cycles - cycles % every, "warmup": recipe.warmup, "every": every, "watch": watch}
        return stn.run(state, *samplers, jax.random.fold_in(key, 1), **how).watched

    centers = [np.log(start / (LARGEST - start)) for start in starts]
    lanes = jnp.repeat(jnp.array(centers, jnp.float32), len(keys)), jnp.tile(keys, len(starts))
    losses, rates = jax.jit(lambda lanes: jax.lax.map(one, lanes))(lanes)
    return _apart(losses, rates, len(starts))


def fixed(recipe: Recipe, rates: Float[np.ndarray, "n 3"], keys: Array) -> list[list[Trained]]:
    """Train plain networks with constant rates, for each key: a list for each row of rates."""
    like = perceptron(recipe.units, keys[0])
    static = eqx.filter(like, eqx.is_inexact_array, inverse=True)

    def one(given: tuple[Array, Array]) -> Array:
        rate, key = given
        rate = jnp.broadcast_to(rate, (recipe.batch, 3))
        w = eqx.filter(perceptron(recipe.units, key), eqx.is_inexact_array)

        def loss(w: Any, batch: Any, key: Array) -> Array:
            return cross_entropy(eqx.combine(w, static)(batch[0], rate[0], rate, key), batch[1])

        def step(carried: Any, key: Array) -> tuple[Any, None]:
            w, optimizer = carried
            for_batch, for_loss = jax.random.split(key)
            slope = jax.grad(loss)(w, recipe.drawn(recipe.digits.train, for_batch), for_loss)
            updates, optimizer = recipe.optimizer.update(slope, optimizer, w)
            return (optax.apply_updates(w, updates), optimizer), None

        def chunk(carried: Any, keys: Array) -> tuple[Any, Array]:
            carried, _ = jax.lax.scan(step, carried, keys)
            return carried, _losses(eqx.combine(carried[0], static), rate[0], recipe)

        keys = jax.random.split(jax.random.fold_in(key, 1), (recipe.steps // recipe.every, recipe.every))
        return jax.lax.scan(chunk, (w, recipe.optimizer.init(w)), keys)[1]

    lanes = jnp.repeat(jnp.asarray(rates, jnp.float32), len(keys), axis=0), jnp.tile(keys, len(rates))
    losses = jax.jit(lambda lanes: jax.lax.map(one, lanes))(lanes)
    constant = np.repeat(np.asarray(lanes[0])[:, None], losses.shape[1], axis=1)
    return _apart(losses, constant, len(rates))


def _apart(losses: Any, rates: Any, count: int) -> list[list[Trained]]:
    losses, rates = np.asarray(losses), np.asarray(rates)
    each = len(losses) // count
    return [[Trained(losses[i], rates[i]) for i in range(j * each, (j + 1) * each)] for j in range(count)]
