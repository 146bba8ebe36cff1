"""What the regressors share: predictions, and the noise of those with a squared loss."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from ._base import TunedEstimator
from ._inner import Spec
from ._stein import noise_of


class TunedRegressor(RegressorMixin, TunedEstimator):
    """Base of the regressors."""

    def predict(self, X):
        """Return the linear prediction.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predictions.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr" if self._sparse else False, dtype=np.float64, reset=False)
        return safe_sparse_dot(X, self.coef_.T) + self.intercept_


class TunedSquared(TunedRegressor):
    """Base of those with a squared loss."""

    _sparse = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TunedEstimator._parameter_constraints,
        "criterion": [StrOptions({"cv", "holdout", "sure"})],
        "noise": [Interval(Real, 0, None, closed="neither"), "array-like", None],
        "weights": [StrOptions({"precisions", "repetitions"})],
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
        noise=None,
        weights="precisions",
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
        self.noise = noise
        self.weights = weights

    def _squared(self, kind: str, mean: bool, X: Any, y: np.ndarray, weights: np.ndarray) -> Spec:
        spec = Spec("squared", kind, mean, self.criterion, noise=(0.0,) * y.shape[1], intercept=self.fit_intercept)
        if self.criterion != "sure":
            return spec
        repeated = self.weights == "repetitions"
        given = self.noise is not None
        noise = self._given_noise(y.shape[1]) if given else noise_of(X, y, weights, self.fit_intercept, repeated)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return spec._replace(noise=noise, seed=seed, repeated=repeated)

    def _given_noise(self, targets: int) -> tuple[float, ...]:
        given = np.asarray(self.noise, float)
        if given.shape not in ((), (targets,)) or not (given > 0).all():
            raise ValueError(f"noise must be one positive number, or one for each of {targets} targets: given {given}.")
        return tuple(np.broadcast_to(given, targets).tolist())
