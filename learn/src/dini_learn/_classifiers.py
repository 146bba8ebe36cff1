"""Classification: logistic regression and linear support vectors."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ._base import TunedEstimator
from ._inner import Spec


class TunedClassifier(ClassifierMixin, TunedEstimator):
    """Base of the classifiers."""

    _classifies = True
    _sparse = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TunedEstimator._parameter_constraints,
        "penalties": [StrOptions({"shared", "classes", "groups", "features"})],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        *,
        penalties="shared",
        feature_groups=None,
        bounds=None,
        class_weight=None,
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
        super().__init__(
            penalties=penalties,
            feature_groups=feature_groups,
            bounds=bounds,
            criterion=criterion,
            cv=cv,
            validation_fraction=validation_fraction,
            shrinkage=shrinkage,
            fit_intercept=fit_intercept,
            max_iter=max_iter,
            tol=tol,
            certify=certify,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def _encoded(self, y):
        check_classification_targets(y)
        encoder = LabelEncoder().fit(y)
        self.classes_ = encoder.classes_
        if len(self.classes_) < 2:
            raise ValueError(
                f"This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
                f"{self.classes_[0]!r}"
            )
        return encoder.transform(y)

    def _weighted(self, y, weights):
        if self.class_weight is None:
            return weights
        given = {"classes": self.classes_, "y": self.classes_[y], "sample_weight": weights}
        return weights * compute_class_weight(self.class_weight, **given)[y]

    def _targets(self, y):
        if len(self.classes_) == 2:
            return y[:, None].astype(float)
        return np.eye(len(self.classes_))[y]

    def _keep_coefficients(self, task, outcomes):
        fitted = outcomes[0].fitted
        self.coef_, self.intercept_ = np.ascontiguousarray(fitted.coef.T), fitted.intercept

    def decision_function(self, X):
        """Return the linear predictors.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Of two classes those of the second.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        scores = safe_sparse_dot(X, self.coef_.T) + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """Return the most probable class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Classes.
        """
        scores = self.decision_function(X)
        place = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[place]


class TunedLogisticRegression(TunedClassifier):
    r"""Logistic regression, binary or multinomial, whose penalty or penalties are tuned by hypergradients.

    The fit minimizes, as :class:`sklearn.linear_model.LogisticRegression` does with ``C`` for :math:`1 / \lambda`,

    .. math:: -\sum_i a_i \log p(y_i \mid x_i) + R(w),

    with one of

    - ``penalty="l2"``: :math:`R(w) = \tfrac12 \sum_{cj} \lambda_{cj} w_{cj}^2`,
    - ``penalty="l1"``: :math:`R(w) = \sum_{cj} \lambda_{cj} |w_{cj}|`,
    - ``penalty="elasticnet"``: both, each with its own penalties,
    - ``penalty="group"``: :math:`R(w) = \sum_g \lambda_g \sqrt{|g|} \|w_g\|_2`, all classes of a group together,

    and the penalties minimize the mean of :math:`-\log p(y_i \mid x_i)` of samples that are held out.

    Parameters
    ----------
    penalty : {"l2", "l1", "elasticnet", "group"}, default="l2"
        The form of the penalty.
    penalties : {"shared", "classes", "groups", "features"}, default="shared"
        One penalty for all coefficients, one for each class, each group of features, or each feature. Not all go with
        ``penalty="group"``: ``"shared"`` and ``"groups"`` do.
    class_weight : dict, "balanced" or None, default=None
        What the samples of each class count, beside ``sample_weight``: in the fits, and in the criterion. As in
        :class:`sklearn.linear_model.LogisticRegression`, ``"balanced"`` gives each class the same sum.
    feature_groups, bounds, criterion, cv, validation_fraction, shrinkage, fit_intercept, max_iter, tol, certify
        As in :class:`TunedRidge`, and so are ``n_jobs``, ``random_state`` and ``verbose``. ``criterion`` is ``"cv"`` or
        ``"holdout"``. Splits are stratified, but where ``groups`` are held out together.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts.
    penalties_ : ndarray of shape (n_features,), (n_classes, n_features), or with a leading axis of two
        The penalty of each coefficient; of an elastic net those of absolute values, then those of squares.

    Other attributes are those of :class:`TunedRidge`.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from dini_learn import TunedLogisticRegression
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> print(round(TunedLogisticRegression().fit(scale(X), y).score(scale(X), y), 2))
    0.99
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TunedClassifier._parameter_constraints,
        "penalty": [StrOptions({"l2", "l1", "elasticnet", "group"})],
    }

    def __init__(
        self,
        *,
        penalty="l2",
        penalties="shared",
        feature_groups=None,
        bounds=None,
        class_weight=None,
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
        super().__init__(
            penalties=penalties,
            feature_groups=feature_groups,
            bounds=bounds,
            class_weight=class_weight,
            criterion=criterion,
            cv=cv,
            validation_fraction=validation_fraction,
            shrinkage=shrinkage,
            fit_intercept=fit_intercept,
            max_iter=max_iter,
            tol=tol,
            certify=certify,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.penalty = penalty

    @property
    def _grouped(self):
        return self.penalty == "group"

    def _spec(self, X, y, weights):
        if self.penalty == "group" and self.penalties in ("features", "classes"):
            raise ValueError(f"penalty='group' needs penalties='shared' or 'groups': given {self.penalties!r}.")
        loss = "logistic" if len(self.classes_) == 2 else "multinomial"
        return Spec(loss, self.penalty, False, self.criterion, intercept=self.fit_intercept)

    def predict_proba(self, X):
        """Return the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Rows sum to one.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.stack([expit(-scores), expit(scores)], axis=1)
        return softmax(scores, axis=1)

    def predict_log_proba(self, X):
        """Return the logarithm of the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        logarithms : ndarray of shape (n_samples, n_classes)
            Logarithms.
        """
        scores = self.decision_function(X)
        scores = np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores
        return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


class TunedSVC(TunedClassifier):
    r"""Linear support vector classification, whose penalty or penalties are tuned by hypergradients.

    The fit minimizes, as :class:`sklearn.svm.LinearSVC` does with ``C`` for :math:`1 / \lambda` but for the intercept,
    which has no penalty here (there it has, unless ``intercept_scaling`` is large: a column of ones in ``X`` and
    ``fit_intercept=False`` are the same here),

    .. math:: \sum_i a_i \max(0, 1 - y_i (x_i^\top w + b))^2 + \tfrac12 \sum_j \lambda_j w_j^2 , \qquad y_i = \pm 1 ,

    for each class against all others where there are more than two, and the penalties minimize the mean of that loss,
    summed over the classes, of samples that are held out. Parameters and attributes are those of
    :class:`TunedLogisticRegression`.
    """

    def _spec(self, X, y, weights):
        return Spec("squared_hinge", "l2", False, self.criterion, intercept=self.fit_intercept)

    def _targets(self, y):
        return 2 * super()._targets(y) - 1
