r"""Digits that a neural SDE carries: :math:`dz = f(z)\,dt + g(z) \circ dW`, with noise in each coordinate of its own.

The state is 16 whitened principal components of an image. All is in single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import optax
from jaxtyping import Array, Float
from sklearn import decomposition

from dini_zoo.kit.data import Sample
from dini_zoo.kit.losses import cross_entropy
from dini_zoo.kit.training import Trainer

from ..digit_flows import Split, split
from ..fields import Affine, NeuralField
from ..recording import heuristic_penalty, solve_recorded

#: Components of an image.
FEATURES = 16
#: The shortest step that the controller takes, and the first one.
SHORTEST, FIRST = 1e-3, 0.02


def components() -> Split:
    """The digits' whitened principal components, as the images to train with have them."""
    train, test = split()
    whitened = decomposition.PCA(FEATURES, whiten=True, random_state=0).fit(train.X)
    single = lambda sample: Sample(whitened.transform(sample.X).astype(np.float32), sample.Y.astype(np.float32))
    return Split(single(train), single(test))


class NoisyFlow(eqx.Module):
    """Drift, diffusion, and a linear head on the end."""

    drift: NeuralField
    spread: Affine
    head: Affine

    def __init__(self, hidden: int, *, key: Array):
        keys = jax.random.split(key, 3)
        self.drift = NeuralField((FEATURES, hidden, FEATURES), key=keys[0], timed=False)
        self.spread = Affine(FEATURES, FEATURES, key=keys[1])
        self.head = Affine(FEATURES, 10, key=keys[2])


def _diffusion(t: Any, z: Array, model: NoisyFlow) -> lineax.DiagonalLinearOperator:
    del t
    return lineax.DiagonalLinearOperator(0.1 * jax.nn.softplus(model.spread(z)))


def solve(
    model: NoisyFlow, X: Float[Array, "batch 16"], tolerance: Any, key: Array, **options: Any
) -> tuple[Array, Array, Array]:
    """The ends of a batch, the mean error estimate, and the steps that were accepted."""
    path = diffrax.VirtualBrownianTree(
        0.0,
        1.0,
        SHORTEST / 2,
        jax.ShapeDtypeStruct(X.shape, X.dtype),
        key,
        levy_area=diffrax.SpaceTimeLevyArea,
    )
    terms = diffrax.MultiTerm(
        diffrax.ODETerm(lambda t, z, model: model.drift(t, z)), diffrax.ControlTerm(_diffusion, path)
    )
    solution, heuristics = solve_recorded(
        terms,
        diffrax.SPaRK(),
        0.0,
        1.0,
        FIRST,
        X,
        model,
        rtol=tolerance,
        atol=tolerance,
        stiffness=False,
        stepsize_controller=diffrax.PIDController(
            rtol=tolerance, atol=tolerance, pcoeff=0.1, icoeff=0.3, dtmin=SHORTEST
        ),
        max_steps=1024,
        **options,
    )
    assert solution.ys is not None
    return solution.ys[0], heuristic_penalty(heuristics, "error"), heuristics.steps


class _Given(NamedTuple):
    weight: Any
    seed: Any
    step: Any


@dataclass(frozen=True)
class Noisy:
    """One model with one tolerance: means over draws of the noise."""

    weight: float
    tolerance: float
    steps: float
    accuracy: float


@eqx.filter_jit
def _scores(model: NoisyFlow, X: Array, tolerance: Array, key: Array) -> tuple[Array, Array]:
    end, _, steps = solve(model, X, tolerance, key)
    return model.head(end), steps


def test(model: NoisyFlow, sample: Sample, weight: float, tolerance: float, keys: Array) -> Noisy:
    """Accepted steps and accuracy of one draw of the noise for each key."""
    found = [_scores(model, jnp.asarray(sample.X), jnp.asarray(tolerance, jnp.float32), key) for key in keys]
    right = [np.argmax(np.asarray(scores), axis=1) == sample.labels for scores, _ in found]
    return Noisy(weight, tolerance, float(np.mean([steps for _, steps in found])), float(np.mean(right)))


@dataclass(frozen=True)
class NoisyTraining:
    """How all weights train."""

    steps: int
    batch: int
    rate: float
    hidden: int
    tolerance: float

    def trainer(self, key: Array) -> Trainer[NoisyFlow]:
        """One program for all weights and seeds."""
        adjoint = diffrax.RecursiveCheckpointAdjoint(checkpoints=32)

        def loss(model: NoisyFlow, batch: Sample, row: Array) -> Array:
            given = _Given(*row)
            numbers = [jnp.asarray(one, jnp.int32) for one in (given.seed, given.step)]
            of_noise = jax.random.fold_in(jax.random.fold_in(key, numbers[0]), numbers[1])
            end, penalty, _ = solve(model, batch.X, self.tolerance, of_noise, adjoint=adjoint)
            return cross_entropy(model.head(end), batch.Y) + given.weight * penalty

        return Trainer(loss, optax.adam(self.rate), steps=self.steps, batch=self.batch)

    def train(
        self,
        trainer: Trainer[NoisyFlow],
        data: Sample,
        key: Array,
        seed: int,
        weight: float,
        advance: Callable[[int], None],
    ) -> NoisyFlow:
        """Train one model. Of one seed, all start alike and see the same batches and the same noise."""
        of_model, of_order = jax.random.split(jax.random.fold_in(key, seed))
        rows = [_Given(weight, float(seed), float(step)) for step in range(self.steps)]
        course = trainer(
            NoisyFlow(self.hidden, key=of_model),
            data,
            key=of_order,
            step_keys=jnp.asarray(rows, jnp.float32),
            advance=advance,
        )
        return course.model


def study(
    training: NoisyTraining,
    key: Array,
    seeds: Sequence[int],
    weights: Sequence[float],
    tolerances: Sequence[float],
    draws: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> list[list[Noisy]]:
    """For each seed, every weight with every tolerance of a test."""
    with jax.enable_x64(False):
        train, held = components()
        of_training, of_tests = jax.random.split(key)
        trainer = training.trainer(of_training)
        keys = jax.random.split(of_tests, draws)
        found = []
        for seed in seeds:
            models = {weight: training.train(trainer, train, of_training, seed, weight, advance) for weight in weights}
            tests = [test(models[w], held, w, tolerance, keys) for w in weights for tolerance in tolerances]
            found.append(tests)
    return found
