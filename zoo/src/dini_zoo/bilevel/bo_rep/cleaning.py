r"""Data hyper-cleaning: weights of examples with partly wrong labels, chosen by the loss on a few clean ones.

.. math:: g(x, w) = \frac1n \sum_i \sigma(x_i) \, \ell_i(w) + \frac\mu2 \|w\|^2, \qquad
          f(x, w) = \frac1m \sum_j \ell^{\text{clean}}_j(w),

with the cross-entropy of a recurrent network that reads an 8×8 image as eight steps of eight pixels.
"""

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
from sklearn.metrics import roc_auc_score

from ..data import Labelled, NoisyDigits
from ..oracles import Oracles
from .method import BOREP, ma_soba
from .momentum import normalized_momentum

NU, GAMMA, PERIOD, INNER_STEPS, REFINEMENT, PENALTY = 0.1, 0.3, 2, 3, 200, 5e-4
UNIFORM, BO_REP, MA_SOBA = "uniform weights", "BO-REP", "MA-SOBA"


class Reader(eqx.Module):
    """A gated recurrent unit from zero over parts of an image, and a linear map of its last state to scores."""

    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear

    def __init__(self, parts: int, units: int, key: Array):
        keys = jax.random.split(key)
        self.cell = eqx.nn.GRUCell(64 // parts, units, key=keys[0])
        self.head = eqx.nn.Linear(units, 10, key=keys[1])

    def __call__(self, X: Float[Array, "m 64"]) -> Float[Array, "m 10"]:
        """The scores of a batch."""
        h = jnp.zeros((len(X), self.cell.hidden_size), X.dtype)
        for part in jnp.split(X, 64 // self.cell.input_size, axis=1):  # in copies: loops in second derivatives are slow
            h = jax.vmap(self.cell)(part, h)
        return jax.vmap(self.head)(h)


def losses(model: Reader, X: Array, y: Array) -> Float[Array, " m"]:
    """The cross-entropy of each image."""
    return optax.softmax_cross_entropy_with_integer_labels(model(X), y)


@dataclass(frozen=True)
class Task:
    """The network's form, the data, and how many images a batch has."""

    digits: NoisyDigits
    parts: int
    """In which an image is read."""
    units: int
    batch: int

    def model(self, key: Array) -> Reader:
        """A new network."""
        return Reader(self.parts, self.units, key)

    def oracles(self, like: Reader) -> Oracles:
        """Of the two objectives; data are indices of images."""
        static = eqx.filter(like, eqx.is_inexact_array, inverse=True)
        train, validation = (_arrays(one) for one in self.digits[:2])

        def inner(x: Array, w: Reader, rows: Array) -> Array:
            ell = losses(eqx.combine(w, static), train.X[rows], train.y[rows])
            squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(w))
            return jnp.mean(jax.nn.sigmoid(x[rows]) * ell) + 0.5 * PENALTY * squares

        def outer(x: Array, w: Reader, rows: Array) -> Array:
            return jnp.mean(losses(eqx.combine(w, static), validation.X[rows], validation.y[rows]))

        return Oracles(outer, inner)

    def sample(self, key: Array, count: int) -> tuple[Array, Array]:
        """A batch of the validation sample, and several of the training sample, all with replacement."""
        for_outer, for_inner = jax.random.split(key)
        sizes = (len(self.digits.validation.y), len(self.digits.train.y))
        outer = jax.random.randint(for_outer, (self.batch,), 0, sizes[0])
        return outer, jax.random.randint(for_inner, (count, self.batch), 0, sizes[1])


def _arrays(sample: Labelled) -> Labelled:
    return Labelled(jnp.asarray(sample.X, jnp.float32), jnp.asarray(sample.y))


@dataclass(frozen=True)
class Cleaned:
    """What one method ends with, a row for each seed."""

    name: str
    rate: float
    """Of the outer step; 0 without one."""
    accuracy: Float[np.ndarray, "seeds times"]
    """On the test sample, along the way."""
    auc: Float[np.ndarray, " seeds"]
    """How well the weights tell clean labels from wrong ones: the area under the curve of their ranks."""
    weights: Float[np.ndarray, "seeds n"]
    finite: tuple[bool, ...]


def clean(
    task: Task, keys: Array, *, steps: int, every: int, etas: tuple[float, ...], rates: tuple[float, ...]
) -> list[Cleaned]:
    """Uniform weights, BO-REP with each step length, MA-SOBA with each rate, for all keys."""
    model = eqx.filter_jit(task.model)(keys[0])
    test = _arrays(task.digits.test)
    static = eqx.filter(model, eqx.is_inexact_array, inverse=True)
    x0 = jnp.zeros(len(task.digits.train.y))

    def accuracy(w: Reader) -> Array:
        return jnp.mean(jnp.argmax(eqx.combine(w, static)(test.X), axis=1) == test.y)

    def method(name: str, rate: Any) -> BOREP:
        oracles = task.oracles(model)
        if name == MA_SOBA:
            return ma_soba(oracles, rate, nu=NU, gamma=GAMMA)
        return BOREP(oracles, normalized_momentum(rate), NU, GAMMA, PERIOD, INNER_STEPS)

    def refined(key: Array) -> Reader:
        """Plain stochastic gradient steps at equal weights."""
        w = eqx.filter(task.model(key), eqx.is_inexact_array)

        def step(w: Reader, key: Array) -> tuple[Reader, None]:
            slope = task.oracles(model).lower(x0, w, task.sample(key, 1)[1][0])
            return jax.tree.map(lambda w, d: w - GAMMA * d, w, slope), None

        return jax.lax.scan(step, w, jax.random.split(jax.random.fold_in(key, 1), REFINEMENT))[0]

    def run(name: str, given: tuple[Array, Reader, Array]) -> tuple[Array, ...]:
        rate, w, key = given
        one = method(name, rate)
        sample = partial(task.sample, count=one.inner_steps + 2)
        watch = lambda state: accuracy(state.y)
        state = one.init(x0, w, lower_calls=REFINEMENT)
        found = one.run(state, sample, jax.random.fold_in(key, 2), steps=steps, every=every, watch=watch)
        return found.x, found.watched, found.finite

    def uniform(given: tuple[Array, Reader, Array]) -> tuple[Array, ...]:
        _, w, key = given
        one = method(BO_REP, 1.0)

        def update(w: Reader, key: Array) -> tuple[Reader, None]:
            return one.inner_update(x0, w, task.sample(key, INNER_STEPS)[1])[0], None

        def chunk(w: Reader, keys: Array) -> tuple[Reader, Array]:
            w, _ = jax.lax.scan(update, w, keys)
            return w, accuracy(w)

        updates = jax.random.split(jax.random.fold_in(key, 2), (steps // every, max(every // PERIOD, 1)))
        _, found = jax.lax.scan(chunk, w, updates)
        return x0, jnp.concatenate([accuracy(w)[None], found]), jnp.asarray(True)

    @partial(jax.jit, static_argnums=0)
    def together(program: Any, rates: Array, starts: Reader) -> tuple[Array, ...]:
        """All rates and keys, one after another: side by side, products of small matrices are slower."""
        repeat = lambda leaf: jnp.concatenate([leaf] * len(rates))
        return jax.lax.map(program, (jnp.repeat(rates, len(keys)), *jax.tree.map(repeat, (starts, keys))))

    starts = jax.jit(lambda keys: jax.lax.map(refined, keys))(keys)
    found = []
    programs = (
        (UNIFORM, (0.0,), uniform),
        (BO_REP, etas, partial(run, BO_REP)),
        (MA_SOBA, rates, partial(run, MA_SOBA)),
    )
    for name, chosen, program in programs:
        ends = together(program, jnp.array(chosen), starts) if chosen else ()
        for i, rate in enumerate(chosen):
            rows = slice(i * len(keys), (i + 1) * len(keys))
            found.append(_result(task, name, rate, tuple(part[rows] for part in ends)))
    return found


def _result(task: Task, name: str, rate: float, ends: tuple[Array, ...]) -> Cleaned:
    x, accuracy, finite = map(np.asarray, ends)
    auc = np.array([roc_auc_score(~task.digits.wrong, one) for one in x])
    return Cleaned(name, rate, accuracy, auc, 1 / (1 + np.exp(-x)), tuple(map(bool, finite)))
