r"""Digits that a neural ODE carries to where a linear head tells them apart: what the regularizers are tried on.

An image is the state at time zero, :math:`\dot z = f(z, t)` the flow to time one, and the head sees the end. One solve
takes a whole batch, with steps in common. All methods share the data, the networks' first weights, the order of the
batches, and the optimizer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from sklearn import datasets, model_selection

from ..kit.data import Sample
from ..kit.losses import cross_entropy
from ..kit.measure import Program, compile_program, take_turns
from ..kit.training import Course, Trainer
from .fields import Affine, NeuralField
from .recording import heuristic_penalty, solve_recorded

#: The flow of a network that is the solve's `args`.
TERM = diffrax.ODETerm(lambda t, z, field: field(t, z))
SOLVER = diffrax.Tsit5()


class Split(NamedTuple):
    """Three quarters of the digits to train with, a quarter to test with."""

    train: Sample
    test: Sample


@cache
def split() -> Split:
    """The 1797 images of scikit-learn in [0, 1], 8×8 each: every digit has the same share of both parts."""
    images, labels = datasets.load_digits(return_X_y=True)
    parts = model_selection.train_test_split(images / 16, labels, test_size=0.25, random_state=0, stratify=labels)
    return Split(Sample(parts[0], np.eye(10)[parts[2]]), Sample(parts[1], np.eye(10)[parts[3]]))


class FlowClassifier(eqx.Module):
    """A flow, and a linear head on its end."""

    field: NeuralField
    head: Affine

    def __init__(self, hidden: int, *, key: Array):
        of_field, of_head = jax.random.split(key)
        self.field = NeuralField((64, hidden, 64), key=of_field)
        self.head = Affine(64, 10, key=of_head)


class Given(NamedTuple):
    """The inputs of one step of training, as a row of numbers."""

    weight: Any
    """Of the penalty."""
    tolerance: Any
    """Of the solve, relative and absolute."""
    spread: Any
    """Of the end of the solve about one."""
    seed: Any
    step: Any

    def key(self, base: Array) -> Array:
        """The step's random key."""
        fold = lambda key, number: jax.random.fold_in(key, jnp.asarray(number, jnp.int32))
        return fold(fold(base, self.seed), self.step)


class Flowed(NamedTuple):
    """A solve in training."""

    end: Float[Array, "batch 64"]
    penalty: Float[Array, ""]
    steps: Array
    """Accepted and rejected ones."""


#: Solve for a field, from a batch of images, with a key.
Solve = Callable[[NeuralField, Float[Array, "batch 64"], Given, Array], Flowed]


def controller(tolerance: Any) -> diffrax.PIDController:
    """Of all solves."""
    return diffrax.PIDController(rtol=tolerance, atol=tolerance)


@dataclass(frozen=True)
class Training:
    """How all methods train."""

    steps: int
    batch: int
    rate: float
    hidden: int
    tolerance: float
    checkpoints: int = 64
    max_steps: int = 1024

    @property
    def adjoint(self) -> diffrax.RecursiveCheckpointAdjoint:
        """That differentiates the solver's steps."""
        return diffrax.RecursiveCheckpointAdjoint(checkpoints=self.checkpoints)

    def trainer(self, solve: Solve, key: Array) -> Trainer[FlowClassifier]:
        """One program for all weights, tolerances, and seeds."""

        def loss(model: FlowClassifier, batch: Sample, row: Array) -> Any:
            given = Given(*row)
            flowed = solve(model.field, batch.X, given, given.key(key))
            scores = model.head(flowed.end)
            return cross_entropy(scores, batch.Y) + given.weight * flowed.penalty, flowed.steps

        # the row of numbers stands where the trainer has a step's key
        return Trainer(loss, optax.adam(self.rate), steps=self.steps, batch=self.batch, aux=True)

    def train(
        self,
        trainer: Trainer[FlowClassifier],
        key: Array,
        seed: int,
        *,
        weights: optax.Schedule = lambda step: 0.0,
        spread: float = 0.0,
        tolerance: float | None = None,
        advance: Callable[[int], None] = lambda steps: None,
    ) -> Course[FlowClassifier]:
        """Train one model. Of one seed, all start alike and see the same batches.

        The course's `seconds` are of the processor, on which other programs count for little.
        """
        of_model, of_order = jax.random.split(jax.random.fold_in(key, seed))
        rows = [
            Given(float(weights(step)), tolerance or self.tolerance, spread, float(seed), float(step))
            for step in range(self.steps)
        ]
        marks = [time.process_time()]

        def advanced(steps: int) -> None:
            marks.append(time.process_time())
            advance(steps)

        course = trainer(
            FlowClassifier(self.hidden, key=of_model),
            split().train,
            key=of_order,
            step_keys=jnp.asarray(rows),
            advance=advanced,
        )
        spent = np.diff(marks)
        # the first part may have been compiled: it counts as the others do
        return replace(course, seconds=float(len(spent) * np.mean(spent[1:] if len(spent) > 1 else spent)))


def evaluations(steps: Any) -> Any:
    """Calls of the network in so many steps of Tsit5: six a step, and two at the start."""
    return 6 * np.asarray(steps) + 2


@dataclass(frozen=True)
class Tested:
    """A model with one tolerance on the images that it was not trained with."""

    tolerance: float
    evaluations: int
    accuracy: float
    error: float
    """The distance of the flow's end from that of an accurate solve, relative to the latter's size."""


@eqx.filter_jit
def _carried(field: NeuralField, X: Array, tolerance: Array) -> tuple[Array, Array]:
    solution = diffrax.diffeqsolve(
        TERM, SOLVER, 0.0, 1.0, None, X, field, stepsize_controller=controller(tolerance), max_steps=4096
    )
    assert solution.ys is not None
    return solution.ys[0], solution.stats["num_steps"]


def test(model: FlowClassifier, tolerances: Sequence[float]) -> list[Tested]:
    """Steps, accuracy and error for each tolerance of the solve; all test images are one batch."""
    sample = split().test
    X = jnp.asarray(sample.X)
    truth, _ = _carried(model.field, X, jnp.asarray(1e-12))
    found = []
    for tolerance in tolerances:
        end, steps = _carried(model.field, X, jnp.asarray(tolerance))
        right = np.argmax(np.asarray(model.head(end)), axis=1) == sample.labels
        error = float(jnp.linalg.norm(end - truth) / jnp.linalg.norm(truth))
        found.append(Tested(tolerance, int(evaluations(steps)), float(right.mean()), error))
    return found


def prediction_times(models: Sequence[FlowClassifier], tolerance: float, rounds: int) -> list[float]:
    """The shortest time of each model's scores of all test images, in turns, in seconds."""
    X = jnp.asarray(split().test.X)

    def scores(params: Any, X: Array) -> Array:
        model = eqx.combine(params, static)
        end, _ = _carried(model.field, X, jnp.asarray(tolerance))
        return model.head(end)

    parts = [eqx.partition(model, eqx.is_array) for model in models]
    static = parts[0][1]
    program = compile_program(scores, parts[0][0], X)
    programs = [Program(program.compiled, (params, X)) for params, _ in parts]
    return [min(times) for times in take_turns(programs, rounds)]


def plain(training: Training) -> Solve:
    """No penalty. The end may be random: STEER."""

    def solve(field: NeuralField, X: Array, given: Given, key: Array) -> Flowed:
        end = 1 + given.spread * jax.random.uniform(key, minval=-1.0, maxval=1.0)
        solution = diffrax.diffeqsolve(
            TERM,
            SOLVER,
            0.0,
            end,
            None,
            X,
            field,
            stepsize_controller=controller(given.tolerance),
            adjoint=training.adjoint,
            max_steps=training.max_steps,
        )
        assert solution.ys is not None
        return Flowed(solution.ys[0], jnp.zeros(()), solution.stats["num_steps"])

    return solve


def recorded(training: Training, kind: Any) -> Solve:
    """The mean of an estimate over the accepted steps as a penalty."""

    def solve(field: NeuralField, X: Array, given: Given, key: Array) -> Flowed:
        del key
        solution, heuristics = solve_recorded(
            TERM,
            SOLVER,
            0.0,
            1.0,
            None,
            X,
            field,
            rtol=given.tolerance,
            atol=given.tolerance,
            stiffness="stiffness" in kind,
            adjoint=training.adjoint,
            max_steps=training.max_steps,
        )
        assert solution.ys is not None
        return Flowed(solution.ys[0], heuristic_penalty(heuristics, kind), solution.stats["num_steps"])

    return solve
