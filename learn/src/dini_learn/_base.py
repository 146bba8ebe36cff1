"""What all estimators share: parameters, validation, the fit, and the attributes that it leaves."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit, check_cv
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_sample_weight, validate_data

from ._displays import PathDisplay, PenaltiesDisplay
from ._folds import Folds
from ._inner import Inner, Spec
from ._outcome import Hypergradient, Outcome, messages, stacked
from ._progress import Progress
from ._stein import probed
from ._strengths import Strengths
from ._tuning import Tuning

#: at most so many splits judge how far many penalties are to be trusted
_NESTED = 5


class Task(NamedTuple):
    """Checked data, fits on them, the map to their penalties, folds, and folds that judge many penalties."""

    X: Any
    y: np.ndarray
    weights: np.ndarray
    inner: Inner
    strengths: Strengths
    folds: Folds
    nested: list[Folds]


class TunedEstimator(BaseEstimator):
    """Base of the estimators."""

    _sparse: ClassVar[bool] = False
    _several: ClassVar[bool] = False
    _classifies: ClassVar[bool] = False
    _grouped: bool = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "penalties": [StrOptions({"shared", "groups", "features"})],
        "feature_groups": ["array-like", None],
        "criterion": [StrOptions({"cv", "holdout"})],
        "cv": ["cv_object"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "shrinkage": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "n_jobs": [None, Integral],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "certify": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        penalties="shared",
        feature_groups=None,
        criterion="cv",
        cv=None,
        validation_fraction=0.2,
        shrinkage="auto",
        fit_intercept=True,
        max_iter=100,
        tol=1e-5,
        certify=True,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.penalties = penalties
        self.feature_groups = feature_groups
        self.criterion = criterion
        self.cv = cv
        self.validation_fraction = validation_fraction
        self.shrinkage = shrinkage
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.certify = certify
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._sparse
        tags.target_tags.multi_output = self._several
        return tags

    def _spec(self, X: Any, y: np.ndarray, weights: np.ndarray) -> Spec:
        """Return what is minimized."""
        raise NotImplementedError

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Return the targets of the loss, a column for each predictor."""
        return (y if y.ndim == 2 else y[:, None]).astype(float)

    def fit(self, X, y, sample_weight=None, groups=None):
        """Tune the penalties, and fit with them on all samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Target values; of :class:`TunedRidge` also of shape (n_samples, n_targets).
        sample_weight : array-like of shape (n_samples,), default=None
            What each sample counts, in the fits and in the criterion.
        groups : array-like of shape (n_samples,), default=None
            Groups of samples, for a splitter ``cv`` that asks for them.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For input that does not fit.
        """
        self._validate_params()
        task = self._task(X, y, sample_weight, groups)
        progress = Progress(type(self).__name__, self.verbose)
        parts = self._parts(task)
        run = Parallel(n_jobs=self.n_jobs, require="sharedmem")
        outcomes = run(delayed(self._searched)(part, progress) for part in parts)
        progress.done()
        self.n_iter_ = progress.count
        told = [self._told(outcome) for outcome in outcomes]
        for name, value in told[0].items() if len(parts) == 1 else stacked(told).items():
            setattr(self, name, value)
        self._keep_coefficients(task, outcomes)
        for outcome in outcomes:
            self._warn(outcome)
        return self

    def _task(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> Task:
        """Return what is to be solved, from what was given to fit."""
        self._refuse_targets(y)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr" if self._sparse else False,
            dtype=np.float64,
            y_numeric=not self._classifies,
            multi_output=self._several,
            ensure_min_samples=2,
        )
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        y = self._encoded(y)
        targets = self._targets(y)
        spec = self._spec(X, targets, weights)
        of_features = self._groups_of(X)
        grouped = spec.kind == "group"
        inner = Inner(spec, X, targets, weights, of_features if grouped else None)
        # the penalty of a group is that of its size
        factor = np.sqrt(np.bincount(of_features)[of_features]) if grouped else None
        strengths = Strengths.of(self.penalties, of_features, X.shape[1], targets.shape[1], spec.kinds, factor)
        folds, nested = self._folds(X, y, weights, groups, strengths.size > 1 and self.shrinkage == "auto")
        if inner.stein:
            folds, nested = probed(folds, X.shape[1]), [probed(part, X.shape[1]) for part in nested]
        return Task(X, y, weights, inner, strengths, folds, nested)

    def _refuse_targets(self, y: Any) -> None:
        shape = getattr(y, "shape", None) or np.shape(y if isinstance(y, list | tuple) else ())
        if not self._several and len(shape) == 2 and shape[1] > 1:
            name = type(self).__name__
            kind = "Classifier" if self._classifies else "Regressor"
            more = "" if self._classifies else ", or TunedRidge, which takes several"
            raise ValueError(
                f"y should be a 1d array, got an array of shape {shape} instead. {name} has one target. For several "
                f"use sklearn.multioutput.MultiOutput{kind}({name}()){more}."
            )

    def _parts(self, task: Task) -> list[Task]:
        """Return the searches that have penalties of their own."""
        return [task]

    def _searched(self, task: Task, progress: Progress) -> Outcome:
        inner, strengths, folds = task.inner, task.strengths, task.folds
        tuning = Tuning(inner, strengths, self.max_iter, self.tol, progress, self.n_jobs)
        tuned = tuning.run(folds, task.nested, self.shrinkage)
        if not np.isfinite(tuned.best.value):
            raise ValueError(
                "The held-out loss is not finite at any penalty that was tried: X or y may be too large for float64, "
                "or a fold cannot be fitted."
            )
        best = tuned.best
        if self.certify and not inner.closed and not inner.exactly(strengths, folds):
            best = tuning.certified(best, strengths, folds)
        each = strengths.expand(tuned.best.theta)
        return Outcome(inner, strengths, tuned, best, inner.coefficients(each, folds), each)

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        return y

    def _groups_of(self, X: Any) -> np.ndarray | None:
        """Return the number of the group of each feature, where they matter."""
        if self.penalties != "groups" and not self._grouped:
            return None
        if self.feature_groups is None:
            raise ValueError(
                "feature_groups is needed, an array of shape (n_features,) with the group of each feature."
            )
        given = np.asarray(self.feature_groups)
        if given.shape != (X.shape[1],):
            raise ValueError(
                f"feature_groups must be of shape (n_features,) = ({X.shape[1]},), the group of each feature: given "
                f"{given.shape}."
            )
        if given.dtype.kind == "f" and np.isnan(given).any():
            raise ValueError("feature_groups contains NaN: the group of each feature is needed.")
        try:
            return np.unique(given, return_inverse=True)[1]
        except TypeError as error:
            raise ValueError(
                "feature_groups must be labels that can be sorted, all numbers or all strings: given some of each."
            ) from error

    def _folds(self, X: Any, y: np.ndarray, weights: np.ndarray, groups: Any, nest: bool) -> tuple[Folds, list[Folds]]:
        samples = X.shape[0]
        if self.criterion in ("loo", "sure"):
            whole = np.ones((1, samples), bool)
            folds = Folds(whole, whole, np.ones(1))
            if not nest:
                return folds, []
            splits = Folds.of(check_cv(self.cv, y, classifier=False).split(X, y, groups), samples)
            return folds, [Folds(t[None], h[None], np.ones(1), 0) for t, h in zip(*splits[:2], strict=True)][:_NESTED]
        random = check_random_state(self.random_state)
        if self.criterion == "holdout":
            splitter = StratifiedShuffleSplit if self._classifies else ShuffleSplit
            split = splitter(1, test_size=self.validation_fraction, random_state=random).split(X, y)
            folds = Folds.of(split, samples)
            folds = folds.halves(random) if nest else folds
        else:
            splitter = check_cv(self.cv, y, classifier=self._classifies)
            folds = Folds.of(splitter.split(X, y, groups), samples)
        if self._classifies:
            self._require_classes(folds, y, weights)
        nested = [folds.nested(fit) for fit in range(min(len(folds.share), _NESTED))] if nest else []
        return folds, [part for part in nested if part is not None]

    def _require_classes(self, folds: Folds, y: np.ndarray, weights: np.ndarray) -> None:
        classes = len(np.unique(y))
        if any(len(np.unique(y[rows & (weights > 0)])) < classes for rows in folds.train):
            raise ValueError(
                "In one of the splits a class has no sample with a weight to be fitted: use a stratified splitter, or "
                "fewer splits."
            )

    def _told(self, outcome: Outcome) -> dict[str, Any]:
        """Return what is told of a search."""
        inner, strengths, tuned = outcome.inner, outcome.strengths, outcome.tuned
        spec, targets = inner.spec, inner.data.targets
        # the squared loss is told without its half, as a mean over targets
        unit = 2.0 / targets if spec.loss == "squared" else 1.0
        gradient = unit * outcome.best.gradient.reshape(spec.kinds, strengths.size)
        shared = strengths.shared()
        maps = [shared if phase == "shared" else strengths for phase, _ in tuned.trace]
        return {
            "penalties_": self._shown(strengths, tuned.best.theta),
            "loss_": float(unit * tuned.best.value),
            "hypergradient_": Hypergradient(gradient, float(unit * outcome.best.error)),
            "shrinkage_": tuned.shrinkage,
            "nested_losses_": None if tuned.judged is None else unit * tuned.judged,
            "path_": {
                "phase": np.array([phase for phase, _ in tuned.trace]),
                "loss": unit * np.array([at.value for _, at in tuned.trace]),
                "penalties": np.array(
                    [self._shown(own, at.theta) for own, (_, at) in zip(maps, tuned.trace, strict=True)]
                ),
                "gradient_norm": unit * np.array([np.linalg.norm(at.gradient) for _, at in tuned.trace]),
            },
        }

    def _shown(self, strengths: Strengths, theta: np.ndarray) -> np.ndarray:
        """Return penalties as they are told: of each feature, with a row for each class or kind where they differ."""
        each = strengths._replace(factor=np.ones_like(strengths.factor)).expand(theta)
        rows = np.swapaxes(each, 1, 2) if self.penalties == "classes" else each[..., 0]
        return rows[0] if len(rows) == 1 else rows

    def _keep_coefficients(self, task: Task, outcomes: list[Outcome]) -> None:
        (outcome,) = outcomes
        self.coef_ = outcome.fitted.coef[:, 0]
        self.intercept_ = float(outcome.fitted.intercept[0])

    def _warn(self, outcome: Outcome) -> None:
        labels = np.arange(self.n_features_in_)
        if self.penalties == "features":
            labels = getattr(self, "feature_names_in_", labels)
        elif self.penalties == "groups":
            labels = np.unique(np.asarray(self.feature_groups))
        elif self.penalties == "classes":
            labels = self.classes_
        for message in messages(outcome, self.max_iter, self.penalties, labels):
            warnings.warn(message, ConvergenceWarning, stacklevel=3)

    def plot_path(self, *, ax=None):
        """Draw the search: the criterion at each evaluation. Returns a :class:`PathDisplay`."""
        return PathDisplay.from_estimator(self, ax=ax)

    def plot_penalties(self, *, ax=None):
        """Draw the penalty of each feature. Returns a :class:`PenaltiesDisplay`."""
        return PenaltiesDisplay.from_estimator(self, ax=ax)
