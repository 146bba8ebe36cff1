"""What is measured: the samples that a small gradient costs, and training on digits with batches that grow.

The first part is a logistic regression with a loss that is not convex, as in the specification: how many samples it
takes until the gradient of all data is small. The second trains a perceptron on the digits of scikit-learn.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dini_zoo.kit.data import Sample
from dini_zoo.kit.run import Phase, Run
from dini_zoo.kit.training import Trainer

from .. import classifiers
from .adagrad_norm import adagrad_norm
from .controller import Batches, BatchSizeController
from .loop import GrowingBatch, Test
from .sizes import inner_product_test, norm_test

NORM, INNER = "norm test", "inner-product test"
CONSTANT, FULL, DOUBLING, SGD = "constant", "all data", "doubling", "SGD, norm test"


@dataclass(frozen=True)
class Logistic:
    """The first part."""

    points: int = 8192
    features: int = 20
    data_seed: int = 0
    learning_rate: float = 2.0
    accumulator: float = 1e-2
    initial: int = 16
    """The first batch."""
    etas: tuple[float, ...] = (1.0, 0.5)
    constant: tuple[int, ...] = (256, 16)
    target: float = 1e-5
    """The squared norm of the gradient of all data at which a run ends."""
    patience: int = 4000
    """Steps at most."""


@dataclass(frozen=True)
class Digits:
    """The second part."""

    train: int = 1500
    hidden: int = 64
    learning_rate: float = 0.03
    sgd_rates: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    """SGD takes the one with the least training loss."""
    initial: int = 8
    theta: float = 0.5
    eta: float = 1.0
    doubled: int = 256
    """Where the fixed schedule, which doubles the batch after each pass, ends."""
    passes: int = 40
    """The budget: so many times the training sample."""


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: tuple[int, ...] = (20, 21, 22, 23, 24)
    """Of the batches, and of the perceptron's weights."""
    logistic: Logistic = Logistic()
    digits: Digits = Digits()

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=(0,),
            logistic=Logistic(points=256, features=4, initial=8, constant=(32,), etas=(1.0,), target=1e-4, patience=60),
            digits=Digits(train=160, hidden=8, passes=3, doubled=8, sgd_rates=(0.1,)),
        )


@dataclass(frozen=True)
class Descent:
    """A run until the gradient of all data is small."""

    samples: list[int]
    """Seen before each step, and at the end."""
    squares: list[float]
    """The squared norms of the gradient of all data there."""
    sizes: list[int]
    """Of each step's batch."""
    reached: bool

    @property
    def steps(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True)
class Trained:
    """A perceptron that was trained on a budget of samples."""

    steps: int
    loss: float
    """The mean cross-entropy on the training sample."""
    accuracy: float
    """On the test sample."""
    samples: list[int]
    """Where the loss was looked at on the way."""
    losses: list[float]
    sizes: list[tuple[int, int]]
    """The batch and the samples seen before it, wherever it changes."""

    @property
    def final(self) -> int:
        """The last batch's size."""
        return self.sizes[-1][1]


@dataclass(frozen=True)
class Result:
    """What was found, a run for each seed."""

    settings: Settings
    descents: dict[str, list[Descent]]
    trained: dict[str, list[Trained]]
    sgd: dict[float, list[Trained]]
    """SGD with the norm test at each of its rates, of which the best is in `trained`."""


def by_eta(eta: float) -> str:
    return f"{NORM}, η = {eta:g}"


def by_size(size: int) -> str:
    return f"{CONSTANT} {size}"


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"logistic": 15.0, "digits, constant": 10.0, "digits, tests": 22.0})
    descents = run.part("logistic", lambda phase: logistic(settings, run, phase))
    fixed = run.part("digits, constant", lambda phase: schedules(settings, run, phase))
    tested, sgd = run.part("digits, tests", lambda phase: tests(settings, run, phase))
    return Result(settings, descents, fixed | tested, sgd)


# the logistic regression


def points(settings: Logistic) -> tuple[np.ndarray, np.ndarray]:
    """Points and their classes, zero and one, drawn by a logistic model."""
    random = np.random.RandomState(settings.data_seed)
    truth = random.randn(settings.features)
    X = random.randn(settings.points, settings.features)
    return X, (random.rand(settings.points) < 1 / (1 + np.exp(-X @ truth))).astype(float)


def sigmoid_loss(w: jax.Array, example: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The squared distance of a point's probability from its class: smooth, and not convex."""
    x, y = example
    return (jax.nn.sigmoid(x @ w) - y) ** 2


def logistic(settings: Settings, run: Run, phase: Phase) -> dict[str, list[Descent]]:
    """Every method's runs until the gradient is small."""
    setup = settings.logistic
    data = jax.tree.map(jnp.asarray, points(setup))
    mean = lambda w: jnp.mean(jax.vmap(sigmoid_loss, (None, 0))(w, data))
    square = jax.jit(lambda w: jnp.sum(jax.grad(mean)(w) ** 2))
    optimizer = adagrad_norm(setup.learning_rate, setup.accumulator)
    growing = BatchSizeController(setup.initial, setup.points)

    def loops() -> dict[str, GrowingBatch]:
        micro = min(512, setup.points)
        make = lambda controller, test: GrowingBatch(sigmoid_loss, optimizer, controller, test, micro_batch=micro)
        tested = {by_eta(eta): make(growing, lambda found, _, eta=eta: norm_test(found, eta)) for eta in setup.etas}
        fixed = {by_size(size): make(BatchSizeController(size, size), None) for size in setup.constant}
        return tested | fixed | {FULL: make(BatchSizeController(setup.points, setup.points), None)}

    def descend(loop: GrowingBatch, seed: int) -> Descent:
        batches = Batches(setup.points, run.random("batches", seed), fresh=True, length=setup.points)
        state = loop.init(jnp.full(setup.features, 0.5))
        samples, squares, sizes = [0], [float(square(state.params))], []
        while squares[-1] > setup.target and len(sizes) < setup.patience:
            state, step = loop.step(state, data, batches)
            samples.append(state.samples)
            squares.append(float(square(state.params)))
            sizes.append(step.size)
        return Descent(samples, squares, sizes, squares[-1] <= setup.target)

    found = {}
    for name, loop in loops().items():
        # all data leave nothing to chance
        seeds = settings.seeds[:1] if name == FULL else settings.seeds
        found[name] = [descend(loop, seed) for seed in seeds]
        phase.advance()
    return found


# the digits


@functools.cache
def _sample(train: int) -> tuple[Sample, Sample]:
    return classifiers.digits(train)


def _perceptron(setup: Digits, run: Run, seed: int) -> classifiers.Perceptron:
    return classifiers.Perceptron((64, setup.hidden, 10), key=run.key("weights", seed))


def example_loss(model: classifiers.Perceptron, example: Sample) -> jax.Array:
    """The cross-entropy of one image."""
    return classifiers.loss(model, jax.tree.map(lambda leaf: leaf[None], example))


def doubling(setup: Digits) -> list[tuple[int, int]]:
    """Sizes with their numbers of steps: doubled after each pass, up to a largest one, until the budget is spent."""
    budget, size, plan = setup.passes * setup.train, setup.initial, []
    while size < setup.doubled:
        steps = setup.train // size
        plan.append((size, steps))
        budget, size = budget - steps * size, 2 * size
    return [*plan, (size, -(-budget // size))]


def schedules(settings: Settings, run: Run, phase: Phase) -> dict[str, list[Trained]]:
    """AdaGrad with batches whose sizes are fixed beforehand."""
    setup = settings.digits
    train, test = _sample(setup.train)
    budget = setup.passes * setup.train
    plans = {
        by_size(setup.initial): [(setup.initial, -(-budget // setup.initial))],
        DOUBLING: doubling(setup),
        FULL: [(setup.train, setup.passes)],
    }
    watch = jax.jit(lambda model: classifiers.loss(model, train))
    optimizer = optax.adagrad(setup.learning_rate, initial_accumulator_value=0.0, eps=1e-10)
    counts = {steps for plan in plans.values() for _, steps in plan}
    trainers = {steps: Trainer(classifiers.loss, optimizer, steps=steps, watch=watch) for steps in counts}
    found = {}
    for name, plan in plans.items():

        def one(seed: int, plan: Any = plan) -> Trained:
            batches = Batches(setup.train, run.random("batches", seed))
            model, state = _perceptron(setup, run, seed), None
            samples, losses, sizes, seen = [], [], [], 0
            for size, steps in plan:
                trainer = trainers[steps]
                order = np.stack([batches.draw(size)[0][:size] for _ in range(steps)])
                course = trainer(model, train, key=run.key("unused"), order=order, state=state)
                model, state = course.model, course.state
                sizes.append((seen, size))
                samples += [seen + i * trainer.every * size for i in range(len(course.watched))]
                losses += [float(loss) for loss in course.watched]
                seen += steps * size
            steps = sum(steps for _, steps in plan)
            return Trained(steps, losses[-1], float(classifiers.accuracy(model, test)), samples, losses, sizes)

        found[name] = [one(seed) for seed in settings.seeds]
        phase.advance()
    return found


def tests(settings: Settings, run: Run, phase: Phase) -> tuple[dict[str, list[Trained]], dict[float, list[Trained]]]:
    """AdaGrad and SGD with batches that tests make larger."""
    setup = settings.digits
    controller = BatchSizeController(setup.initial, setup.train)
    adagrad = optax.adagrad(setup.learning_rate, initial_accumulator_value=0.0, eps=1e-10)
    rated = optax.inject_hyperparams(optax.sgd)(learning_rate=setup.sgd_rates[0])
    norm: Test = lambda found, along: norm_test(found, setup.eta)
    inner: Test = lambda found, along: inner_product_test(found, along(), setup.theta)

    def loop(optimizer: optax.GradientTransformation, test: Test) -> GrowingBatch:
        return GrowingBatch(example_loss, optimizer, controller, test, micro_batch=min(128, setup.train))

    found = {}
    for name, test in ((INNER, inner), (NORM, norm)):
        growing = loop(adagrad, test)
        found[name] = [_grown(growing, setup, run, seed) for seed in settings.seeds]
        phase.advance()
    growing, sgd = loop(rated, norm), {}
    for rate in setup.sgd_rates:

        def set_rate(state: Any, rate: float = rate) -> Any:
            return state._replace(hyperparams=state.hyperparams | {"learning_rate": jnp.asarray(rate)})

        sgd[rate] = [_grown(growing, setup, run, seed, set_rate) for seed in settings.seeds]
        phase.advance()
    best = min(sgd, key=lambda rate: np.mean([one.loss for one in sgd[rate]]))
    return found | {SGD: sgd[best]}, sgd


def _grown(
    loop: GrowingBatch, setup: Digits, run: Run, seed: int, prepare: Callable[[Any], Any] = lambda state: state
) -> Trained:
    """Train on the budget, and look at the loss once a pass."""
    train, test = _sample(setup.train)
    data = jax.tree.map(jnp.asarray, train)
    batches = Batches(setup.train, run.random("batches", seed), length=setup.train)
    state = loop.init(_perceptron(setup, run, seed))
    state = state._replace(optimizer=prepare(state.optimizer))
    samples, losses, sizes, steps = [0], [float(_loss(state.params, data))], [], 0
    while state.samples < setup.passes * setup.train:
        before = state.samples
        state, step = loop.step(state, data, batches)
        steps += 1
        if not sizes or sizes[-1][1] != step.size:
            sizes.append((before, step.size))
        if state.samples // setup.train > before // setup.train:
            samples.append(state.samples)
            losses.append(float(_loss(state.params, data)))
    accuracy = float(classifiers.accuracy(state.params, test))
    return Trained(steps, float(_loss(state.params, data)), accuracy, samples, losses, sizes)


_loss = jax.jit(classifiers.loss)
