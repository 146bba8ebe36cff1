"""The paper's experiment on dictionary learning: will the tumor have spread in five years?

Four classifiers of breast cancer patients by the activity of their genes, compared over repeated cross-validation: two
logistic regressions on all genes, one on ten sparse codes of a dictionary that was learned without a task, and one
whose dictionary then learns the task, by derivatives through the codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import jax
import numpy as np
from jaxtyping import Float

from dini_zoo.kit.run import Run
from dini_zoo.kit.seeds import Estimate, Paired

from .baselines import FIXED, L1, L2, TASK, auc, l1_logistic, l2_logistic, learn_dictionary
from .coding import SparseCoding
from .data import Cohort, Fold, breast_cancer, folds
from .hypergradient import Precision, Way, costs, precision
from .task import Params, bounded, classify, train


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    splits: int = 5
    """Folds of a cross-validation."""
    seeds: tuple[int, ...] = (100, 101, 102, 103, 104)
    """A cross-validation for each."""
    atoms: int = 10
    coding: SparseCoding = field(default_factory=SparseCoding)
    dictionary_steps: int = 30
    """Of learning without a task."""
    learning_rate: float = 3e-3
    """Of Adam."""
    steps: int = 60
    """Of Adam."""
    C_l1: float = 0.2
    """The inverse strength of the penalty in L1 logistic regression, as scikit-learn counts it."""
    C_l2: float = 0.01
    """That in L2 logistic regression."""
    C_codes: float = 10.0
    """That on the codes."""
    exact: int = 3000
    """Steps of FISTA where the derivative is compared with central differences."""
    difference: float = 1e-6
    """The step of those."""
    directions: int = 5
    """Random directions in which they are taken."""
    rounds: int = 20
    """Turns in which derivatives are timed; with zero they are not."""
    checkpoints: bool = True
    """Whether to time unrolling with checkpoints, too."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            splits=3,
            seeds=(100,),
            atoms=4,
            coding=SparseCoding(steps=60),
            dictionary_steps=3,
            steps=5,
            exact=200,
            directions=2,
            rounds=0,
            checkpoints=False,
        )

    @property
    def decay(self) -> float:
        """The factor of the squared weights with which the loss is that of scikit-learn."""
        return 1 / (2 * self.C_codes)


@dataclass(frozen=True)
class Codes:
    """The codes of the test patients of a fold, before and after learning the task."""

    before: Float[np.ndarray, "m k"]
    after: Float[np.ndarray, "m k"]
    y: Float[np.ndarray, " m"]
    weights: tuple[np.ndarray, np.ndarray]
    """Of the atoms, before and after."""


@dataclass(frozen=True)
class Trial:
    """What was found in one fold."""

    auc: dict[str, float]
    """Of the test patients, by method."""
    genes: int
    """Those that L1 logistic regression selects."""
    loss: Float[np.ndarray, " steps"]
    """Of the training patients, by steps of Adam."""
    course: Float[np.ndarray, " steps"]
    """The AUC of the test patients, by steps of Adam."""
    unexplained: Float[np.ndarray, " steps"]
    """The share of the test patients' squares that the codes leave, by steps of Adam."""
    active: Float[np.ndarray, " steps"]
    """The share of their codes that is not zero."""
    codes: Codes
    moved: float
    """Relative change of the dictionary."""
    residual: float
    """The largest error of a code on the way, as the solver measures it."""


@dataclass(frozen=True)
class Result:
    """What was found in all folds, and what the derivative is worth in the first."""

    settings: Settings
    patients: tuple[int, int]
    """With label 1 and with label 0."""
    genes: int
    trials: list[Trial]
    precision: list[Precision]
    ways: dict[str, Way]

    def auc(self, method: str) -> Float[np.ndarray, " folds"]:
        """The AUC in each fold."""
        return np.array([trial.auc[method] for trial in self.trials])

    def estimate(self, method: str) -> Estimate:
        """The mean AUC of the folds in percent, with 1.96 standard errors, as the paper has it.

        Folds share patients and are not independent: the interval is too narrow, as that of the paper is.
        """
        return Estimate.of(self.auc(method), scale=100, normal=True)

    def gain(self, one: str, other: str) -> Paired:
        """What one method's AUC has over another's, fold by fold, in percent."""
        return Paired.of(self.auc(one), self.auc(other), scale=100, normal=True)


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"folds": 25.0, "derivatives": 15.0})
    cohort = breast_cancer()
    parts = folds(cohort, settings.splits, settings.seeds)
    learner = Learner(settings)
    found = run.each("folds", parts, lambda fold, _: learner.trial(fold))
    trials = [trial for trial, _ in found]
    problem = (found[0][1], _scaled(parts[0].train), settings.coding, settings.decay)

    def derivatives(_: Any) -> tuple[list[Precision], dict[str, Way]]:
        about = {"exact": settings.exact, "step": settings.difference, "directions": settings.directions}
        ways = costs(*problem, rounds=settings.rounds, checkpoints=settings.checkpoints) if settings.rounds else {}
        return precision(*problem, **about), ways

    exact, ways = run.part("derivatives", derivatives)
    ill = int(cohort.y.sum())
    return Result(settings, (ill, len(cohort.y) - ill), cohort.X.shape[1], trials, exact, ways)


class Learner:
    """The methods with their compiled parts. Folds of equal size share these."""

    def __init__(self, settings: Settings):
        self.settings = settings
        coding = settings.coding
        self.encode: Callable[..., Any] = jax.jit(coding.encode)
        self.train: Callable[..., Any] = jax.jit(
            partial(
                train, coding=coding, decay=settings.decay, learning_rate=settings.learning_rate, steps=settings.steps
            )
        )
        # of the test patients, after every step
        self.follow: Callable[..., Any] = jax.jit(jax.vmap(lambda params, X: classify(params, X, coding), (0, None)))

    def trial(self, fold: Fold) -> tuple[Trial, Params]:
        """Learn by all methods; return also where task-driven learning begins."""
        settings = self.settings
        sparse, dense = l1_logistic(fold.train, settings.C_l1), l2_logistic(fold.train, settings.C_l2)
        known, test = _scaled(fold.train), _scaled(fold.test)
        D = learn_dictionary(known.X, settings.atoms, settings.coding.strength, settings.dictionary_steps)
        codes = self.encode(known.X, D)
        on_codes = l2_logistic(Cohort(np.asarray(codes.x), known.y), settings.C_codes)
        start = Params(D, on_codes.coef_[0], on_codes.intercept_[0])

        course = jax.tree.map(np.asarray, self.train(start, known))
        scores, followed = jax.tree.map(np.asarray, self.follow(course.params, test.X))
        curve = np.array([auc(test.y, one) for one in scores])
        path = course.params
        left = test.X - followed.x @ np.asarray(bounded(path.D))
        trial = Trial(
            auc={
                L1: auc(fold.test.y, sparse.decision_function(fold.test.X)),
                L2: auc(fold.test.y, dense.decision_function(fold.test.X)),
                FIXED: float(curve[0]),
                TASK: float(curve[-1]),
            },
            genes=int(np.count_nonzero(sparse.coef_)),
            loss=course.loss,
            course=curve,
            unexplained=np.sum(left**2, axis=(1, 2)) / np.sum(test.X**2),
            active=np.mean(followed.x != 0, axis=(1, 2)),
            codes=Codes(followed.x[0], followed.x[-1], test.y, (path.w[0], path.w[-1])),
            moved=float(np.linalg.norm(path.D[-1] - D) / np.linalg.norm(D)),
            residual=float(max(course.error.max(), followed.stats.error.max())),
        )
        return trial, start


def _scaled(cohort: Cohort) -> Cohort:
    """Patients whose squared norm is about one, whatever the number of genes: the size that the codes are made for."""
    return cohort._replace(X=cohort.X / np.sqrt(cohort.X.shape[1]))
