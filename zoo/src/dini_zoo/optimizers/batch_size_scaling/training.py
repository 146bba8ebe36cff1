"""Training at many rates side by side: which are stable, and what a learner of rates is worth beside a grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dini_zoo.kit.data import Sample
from dini_zoo.kit.run import Phase, Run
from dini_zoo.kit.training import Trainer

from .. import classifiers
from .learner import lanczos_learning_rate
from .measurement import top_and_noise
from .rates import scale_learning_rate


@dataclass(frozen=True)
class Rates:
    """An optimizer's largest stable rates."""

    largest: dict[int, float]
    """By batch size; NaN where none was stable."""
    tried: dict[int, list[float]]
    losses: dict[int, list[list[float]]]
    """On all data at the end: a row for each rate, a column for each run."""

    @property
    def inside(self) -> bool:
        """Whether every largest rate is neither the first nor the last of those that were tried."""
        return all(self.tried[b][0] < rate < self.tried[b][-1] for b, rate in self.largest.items())

    def slope(self, low: int, high: int) -> float | None:
        """Of the logarithm of the rate over that of the batch, fitted between two sizes; `None` without two points."""
        kept = [(b, rate) for b, rate in self.largest.items() if low <= b <= high and np.isfinite(rate)]
        if len(kept) < 2:
            return None
        return float(np.polyfit(*np.log(np.asarray(kept)).T, 1)[0])


class _Stability(Protocol):
    """The settings of `largest_rates`."""

    hidden: tuple[int, ...]
    steps: int
    bound: float
    runs: int
    stable: int
    sgd: tuple[tuple[int, float], ...]
    adam: tuple[tuple[int, float], ...]
    around: int


class _Learner(Protocol):
    """The settings of `learned`."""

    batches: tuple[int, ...]
    epochs: int
    lanczos: int
    safeties: tuple[tuple[int, float], ...]
    sgd: tuple[float, ...]
    momenta: tuple[float, ...]
    adam: tuple[float, ...]
    default: tuple[float, float]


def _model(hidden: tuple[int, ...], key: jax.Array) -> classifiers.Perceptron:
    return classifiers.Perceptron((64, *hidden, 10), key=key)


def _train(optimizer: optax.GradientTransformation, model: Any, data: Sample, order: jax.Array) -> jax.Array:
    """The loss on all data after a step for each row of the order."""

    def step(carried: Any, indices: jax.Array) -> Any:
        model, state = carried
        batch = jax.tree.map(lambda leaf: leaf[indices], data)
        slope = jax.grad(classifiers.loss)(model, batch)
        updates, state = optimizer.update(slope, state, model)
        return (optax.apply_updates(model, updates), state), None

    (model, _), _ = jax.lax.scan(step, (model, optimizer.init(model)), order)
    return classifiers.loss(model, data)


def sweep(
    make: Callable[..., optax.GradientTransformation],
    grid: dict[str, Any],
    hidden: tuple[int, ...],
    data: Sample,
    keys: jax.Array,
    orders: Any,
) -> np.ndarray:
    """The final losses of an optimizer on a grid of its arguments, a row for each of them, a column for each key.

    `orders` has the examples of each step, for each key; all of it is one program.
    """

    def one(arguments: dict[str, jax.Array], key: jax.Array, order: jax.Array) -> jax.Array:
        return _train(make(**arguments), _model(hidden, key), data, order)

    lanes = jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, None))
    grid = {name: jnp.asarray(values, jnp.float32) for name, values in grid.items()}
    return np.asarray(jax.jit(lanes)(grid, keys, jnp.asarray(orders)))


def largest_rates(setup: _Stability, sample: Sample, run: Run, phase: Phase) -> tuple[Rates, Rates]:
    """The largest stable rate of SGD and of Adam for each batch size, batches drawn with replacement."""
    data = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), sample)
    keys = jnp.stack([run.key("stability", i) for i in range(setup.runs)])
    steps = np.arange(-setup.around, setup.around + 1)

    def found(name: str, make: Any, middles: tuple[tuple[int, float], ...]) -> Rates:
        largest, tried, losses = {}, {}, {}
        for b, middle in middles:
            rates = 2.0 ** (np.round(2 * np.log2(middle)) / 2 + steps / 2)
            shape = (setup.runs, setup.steps, b)
            orders = run.random("stability", name, b).integers(0, len(sample.X), shape)
            table = sweep(make, {"learning_rate": rates}, setup.hidden, data, keys, orders)
            stable = np.sum(np.isfinite(table) & (table < setup.bound), axis=1) >= setup.stable
            largest[b] = float(rates[stable][-1]) if stable.any() else float("nan")
            tried[b], losses[b] = rates.tolist(), table.tolist()
            phase.advance()
        return Rates(largest, tried, losses)

    return found("sgd", optax.sgd, setup.sgd), found("adam", optax.adam, setup.adam)


@dataclass(frozen=True)
class Learned:
    """Final losses on all data, a row of seeds for each way."""

    learner: dict[tuple[int, float], list[float]]
    """By batch and safety factor; NaN or infinity where it diverged."""
    paths: dict[tuple[int, float], list[list[float]]]
    """Losses on all data after each epoch, seed by seed."""
    rates: dict[tuple[int, float], list[tuple[float, float]]]
    """The last rate and momentum, seed by seed."""
    sgd: dict[int, dict[tuple[float, float], list[float]]]
    """By batch, then by rate and momentum."""
    adam: dict[int, dict[float, list[float]]]
    """By batch, then by rate."""
    inverse: dict[int, list[float]]
    r"""By batch: SGD without momentum at :math:`1 / \lambda_1` of the first weights, found from all data."""
    curvature: list[tuple[float, float]]
    """The largest eigenvalue and the noise along its vector at the first weights, seed by seed."""

    def best(self, b: int) -> tuple[tuple[float, float], float]:
        """The best cell of SGD's grid by the mean over seeds, and that mean."""
        return _least(self.sgd[b])

    def transferred(self, old: int, new: int) -> dict[str, tuple[float, list[float]]]:
        """What the best rate of one batch size, scaled to another, is worth there: its nearest cell of the grid.

        By the linear rule, and by the ratio of the largest stable rates.
        """
        (rate, momentum), _ = self.best(old)
        largest, noise = np.mean(self.curvature, axis=0)
        scaled = {
            "linear rule": float(scale_learning_rate(rate, old, new)),
            "saturating rule": float(scale_learning_rate(rate, old, new, largest=largest, noise=noise)),
        }
        found = {}
        for name, wanted in scaled.items():
            rates = [one for one, other in self.sgd[new] if other == momentum]
            cell = min(rates, key=lambda one: abs(np.log(one / wanted)))
            found[name] = (cell, self.sgd[new][cell, momentum])
        return found


def _least[K](cells: dict[K, list[float]]) -> tuple[K, float]:
    means = {cell: float(np.mean(values)) for cell, values in cells.items()}
    best = min(means, key=lambda cell: means[cell] if np.isfinite(means[cell]) else np.inf)
    return best, means[best]


def permuted(random: np.random.Generator, count: int, size: int, epochs: int) -> np.ndarray:
    """Examples of each step, epoch by epoch in an order of its own; what is left over at its end is dropped."""
    steps = count // size
    return np.concatenate([random.permutation(count)[: steps * size].reshape(steps, size) for _ in range(epochs)])


def learned(
    setup: _Learner, hidden: tuple[int, ...], sample: Sample, seeds: tuple[int, ...], run: Run, phase: Phase
) -> Learned:
    """Train with the learner, and on the grids of SGD and Adam, with the same weights and batches."""
    data = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), sample)
    keys = [run.key("learner", seed) for seed in seeds]
    start = []
    for key in keys:
        top, noise, _ = top_and_noise(_model(hidden, key), data, key, 20, 1)
        start.append((float(top), float(noise)))
    learner, paths, rates, sgd, adam, inverse = {}, {}, {}, {}, {}, {}
    for b in setup.batches:
        orders, others = (
            np.stack([permuted(run.random(name, seed, b), len(sample.X), b, setup.epochs) for seed in seeds])
            for name in ("orders", "curvature batches")
        )
        cells = [(rate, momentum) for momentum in setup.momenta for rate in setup.sgd]
        # each seed has a rate of its own; those of other seeds are not looked at
        tried = [*cells, *((1 / top, 0.0) for top, _ in start)]
        grid = dict(zip(("learning_rate", "momentum"), map(list, zip(*tried, strict=True)), strict=True))
        table = sweep(optax.sgd, grid, hidden, data, jnp.stack(keys), orders)
        sgd[b] = {cell: row.tolist() for cell, row in zip(cells, table, strict=False)}
        inverse[b] = np.diag(table[len(cells) :]).tolist()
        table = sweep(optax.adam, {"learning_rate": setup.adam}, hidden, data, jnp.stack(keys), orders)
        adam[b] = {rate: row.tolist() for rate, row in zip(setup.adam, table, strict=True)}
        phase.advance()
        for batch, safety in setup.safeties:
            if batch == b:
                courses = _followed(setup, safety, hidden, data, keys, orders, others)
                paths[b, safety] = [np.asarray(course.watched).tolist() for course in courses]
                learner[b, safety] = [path[-1] for path in paths[b, safety]]
                rates[b, safety] = [
                    (float(course.state.learning_rate), float(course.state.momentum)) for course in courses
                ]
                phase.advance()
    return Learned(learner, paths, rates, sgd, adam, inverse, start)


def _followed(
    setup: _Learner,
    safety: float,
    hidden: tuple[int, ...],
    data: Sample,
    keys: list[jax.Array],
    orders: np.ndarray,
    others: np.ndarray,
) -> list[Any]:
    """Train with the learner, a refresh for each epoch on one more batch, one seed after the other."""
    b = orders.shape[2]
    steps = orders.shape[1]
    every = steps // setup.epochs
    part = lambda batch, half: jax.tree.map(lambda leaf: leaf[:b] if half == 0 else leaf[b:], batch)

    def slope(model: Any, batch: Sample, key: jax.Array) -> Any:
        value, gradient = jax.value_and_grad(classifiers.loss)(model, part(batch, 0))
        return (value, None), gradient

    trainer = Trainer(
        # what the learner looks at is the other half: a batch of the same size that the step does not see
        lambda model, batch, key: classifiers.loss(model, part(batch, 1)),
        lanczos_learning_rate(setup.lanczos, every=every, safety=safety),
        steps=steps,
        every=every,
        gradient=slope,
        watch=jax.jit(lambda model: classifiers.loss(model, data)),
        finite=False,
    )
    both = np.concatenate([orders, others], axis=2)
    return [trainer(_model(hidden, key), data, key=key, order=order) for key, order in zip(keys, both, strict=True)]
