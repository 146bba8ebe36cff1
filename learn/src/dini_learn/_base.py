"""What all estimators share: parameters, validation, the fit, and the attributes that it leaves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit, check_cv
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
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

#: at most so many splits assess several penalties
_NESTED = 5


class Task(NamedTuple):
    """Checked data, fits on them, the map to their penalties, folds, and folds that evaluate many penalties."""

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
        "feature_groups": ["array-like", Mapping, None],
        "bounds": ["array-like", None],
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
        bounds=None,
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
        self.bounds = bounds
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
            Groups of samples that are held out together: by ``"holdout"``, by ``"loo"``, which leaves one group out
            then, and by a splitter ``cv`` that asks for them.

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
        found = [self._reported(outcome) for outcome in outcomes]
        for name, value in found[0].items() if len(parts) == 1 else stacked(found).items():
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
        weights = self._weighted(y, weights)
        targets = self._targets(y)
        spec = self._spec(X, targets, weights)
        if groups is not None:
            groups = column_or_1d(groups)
            check_consistent_length(X, groups)
            # what is known in closed form is the error of each sample alone
            spec = spec._replace(criterion="cv") if self.criterion == "loo" else spec
        labels = self._labels() if self.penalties == "groups" or self._grouped else None
        of_features = None if labels is None else np.unique(labels, return_inverse=True)[1]
        grouped = spec.kind == "group"
        inner = Inner(spec, X, targets, weights, of_features if grouped else None)
        # the penalty of a group is that of its size
        factor = np.sqrt(np.bincount(of_features)[of_features]) if grouped else None
        strengths = Strengths.of(self.penalties, of_features, X.shape[1], targets.shape[1], spec.kinds, factor)
        nest = strengths.size > 1 and self.shrinkage == "auto"
        folds, nested = self._folds(spec, X, y, weights, groups, nest)
        if inner.stein:
            folds, nested = probed(folds, X.shape[1]), [probed(part, X.shape[1]) for part in nested]
        return Task(X, y, weights, inner, strengths, folds, nested)

    def _range(self, kinds: int) -> np.ndarray | None:
        """Return the least and the largest penalty of each kind."""
        if self.bounds is None:
            return None
        given = np.asarray(self.bounds, float)
        if given.shape not in ((2,), (kinds, 2)) or not ((given > 0) & (given < np.inf)).all():
            shape = "(2,)" if kinds == 1 else f"(2,) or ({kinds}, 2)"
            raise ValueError(f"bounds must be positive numbers of shape {shape}, least and largest: given {given}.")
        if not (given[..., 0] < given[..., 1]).all():
            raise ValueError(f"bounds must be a least penalty and a larger greatest one: given {given}.")
        return np.broadcast_to(given, (kinds, 2))

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
        tuning = Tuning(inner, strengths, self.max_iter, self.tol, progress, self.n_jobs, self._range(inner.spec.kinds))
        tuned = tuning.run(folds, task.nested, self.shrinkage)
        if not np.isfinite(tuned.best.value):
            raise ValueError(
                "The held-out loss is not finite at any penalty of the search: X or y may be too large for float64, "
                "or a fold cannot be fitted."
            )
        best = tuned.best
        if self.certify and not inner.closed and not inner.exactly(strengths, folds):
            best = tuning.certified(best, strengths, folds)
        each = strengths.expand(tuned.best.theta)
        return Outcome(inner, strengths, tuned, best, inner.coefficients(each, folds), each)

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        return y

    def _weighted(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the weights of samples with what their targets add."""
        del y
        return weights

    def _labels(self) -> np.ndarray:
        """Return the group of each feature."""
        given, features = self.feature_groups, self.n_features_in_
        if given is None:
            raise ValueError(
                "feature_groups is required: an array of shape (n_features,) with the group of each feature, or a "
                "mapping from the names of features to their groups."
            )
        if isinstance(given, Mapping):
            given = self._by_name(list(given), list(given.values()))
        elif hasattr(given, "index") and not isinstance(given, Sequence) and list(given.index) != list(range(features)):
            # a Series has names of its own, but for those that say nothing
            given = self._by_name(list(given.index), list(given))
        given = np.asarray(given)
        if given.shape != (features,):
            raise ValueError(
                f"feature_groups must be of shape (n_features,) = ({features},), the group of each feature: given "
                f"{given.shape}."
            )
        if given.dtype.kind == "f" and np.isnan(given).any():
            raise ValueError("feature_groups contains NaN: each feature needs a group.")
        try:
            np.unique(given)
        except TypeError as error:
            raise ValueError(
                "feature_groups must be labels that can be sorted, all numbers or all strings: given some of each."
            ) from error
        return given

    def _by_name(self, names: list[Any], groups: list[Any]) -> list[Any]:
        """Return groups in the order of the features, whose names are those of ``X``, or their places."""
        features = list(getattr(self, "feature_names_in_", range(self.n_features_in_)))
        known = dict(zip(names, groups, strict=True))
        missing = [name for name in features if name not in known]
        unknown = [name for name in known if name not in set(features)]
        if len(known) < len(names) or missing or unknown:
            what = "names of X's columns" if hasattr(self, "feature_names_in_") else "positions of X's columns"
            raise ValueError(
                f"feature_groups must give each feature one group, by the {what}: missing are "
                f"{missing[:5]}, unknown are {unknown[:5]}, and {len(names) - len(known)} are repeated."
            )
        return [known[name] for name in features]

    def _folds(
        self, spec: Spec, X: Any, y: np.ndarray, weights: np.ndarray, groups: Any, nest: bool
    ) -> tuple[Folds, list[Folds]]:
        samples = X.shape[0]
        if self.criterion == "loo" and groups is not None:
            folds = Folds.without_each(groups, weights)
            if not nest:
                return folds, []
            cv = GroupKFold(min(_NESTED, len(folds.share))) if self.cv is None else check_cv(self.cv, y)
            splits = Folds.of(cv.split(X, y, groups), samples)
            return folds, [folds.aside(*split) for split in zip(*splits[:2], strict=True)][:_NESTED]
        if spec.criterion in ("loo", "sure"):
            if groups is not None and not nest:
                raise ValueError(
                    "groups has no effect with criterion='sure', which holds out no samples and assumes that their "
                    "noise is independent. Use criterion='cv' with a splitter by groups."
                )
            whole = np.ones((1, samples), bool)
            folds = Folds(whole, whole, np.ones(1))
            if not nest:
                return folds, []
            splits = Folds.of(check_cv(self.cv, y, classifier=False).split(X, y, groups), samples)
            return folds, [Folds(t[None], h[None], np.ones(1), 0) for t, h in zip(*splits[:2], strict=True)][:_NESTED]
        random = check_random_state(self.random_state)
        if self.criterion == "holdout":
            splitter = StratifiedShuffleSplit if self._classifies else ShuffleSplit
            splitter = splitter if groups is None else GroupShuffleSplit
            split = splitter(1, test_size=self.validation_fraction, random_state=random).split(X, y, groups)
            folds = Folds.of(split, samples)
            folds = folds.halves(random, groups) if nest else folds
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
                "cv has a split in which a class has no training sample with a positive weight: use a stratified "
                "splitter, or fewer splits."
            )

    def _reported(self, outcome: Outcome) -> dict[str, Any]:
        """Return the fitted attributes of a search."""
        inner, strengths, tuned = outcome.inner, outcome.strengths, outcome.tuned
        spec, targets = inner.spec, inner.data.targets
        # the squared loss is reported without its half, as a mean over targets
        unit = 2.0 / targets if spec.loss == "squared" else 1.0
        # where many penalties are held together, the search minimizes the prior, too
        gradient = unit * (outcome.best.gradient + tuned.best.prior).reshape(spec.kinds, strengths.size)
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
                "gradient_norm": unit * np.array([np.linalg.norm(at.slope) for _, at in tuned.trace]),
            },
        }

    def _shown(self, strengths: Strengths, theta: np.ndarray) -> np.ndarray:
        """Return penalties as reported: of each feature, with a row for each class or kind where they differ."""
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
            labels = np.unique(self._labels())
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
