"""Regression by other losses: Huber's, quantiles, counts, the tube of support vectors; and the Lasso of groups."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.linear_model import QuantileRegressor
from sklearn.metrics import d2_tweedie_score
from sklearn.utils._param_validation import Interval, StrOptions

from ._base import TunedEstimator
from ._data import deviation
from ._inner import Spec
from ._regressors import TunedRegressor

#: the kink of the quantile's loss is rounded by this part of a robust standard deviation of what is predicted
_ROUNDED = 0.05

#: the half width of a tube by default, as a part of the same
_TUBE = 0.1


class TunedPoisson(TunedRegressor):
    r"""Poisson regression with a logarithmic link, whose penalty or penalties are tuned by hypergradients.

    The fit minimizes, as :class:`sklearn.linear_model.PoissonRegressor` does with one penalty,

    .. math:: \frac{1}{\sum_i a_i} \sum_i a_i \bigl(e^{z_i} - y_i z_i\bigr) + \tfrac12 \sum_j \lambda_j w_j^2, \qquad
              z_i = x_i^\top w + b ,

    and the penalties minimize half of the mean deviance, which is the first term but for a constant, of samples that
    are held out. Parameters and attributes are those of :class:`TunedLasso`.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags

    def _spec(self, X, y, weights):
        if (y < 0).any() or not (weights @ y[:, 0] > 0):
            raise ValueError("Some value(s) of y are out of the valid range of the loss: counts, not all zero.")
        level = float(np.log(weights @ y[:, 0] / weights.sum())) if self.fit_intercept else 0.0
        return Spec("poisson", "l2", True, self.criterion, (0.0, level), intercept=self.fit_intercept)

    def predict(self, X):
        """Return the expected counts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Predictions.
        """
        return np.exp(super().predict(X))

    def score(self, X, y, sample_weight=None):
        """Return the part of the deviance that is explained, as :class:`sklearn.linear_model.PoissonRegressor` does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,)
            True counts.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        score : float
            :math:`D^2`.
        """
        return d2_tweedie_score(y, self.predict(X), sample_weight=sample_weight, power=1)


class TunedSVR(TunedRegressor):
    r"""Linear support vector regression, whose penalty or penalties are tuned by hypergradients.

    The fit minimizes, as :class:`sklearn.svm.LinearSVR` does with ``loss="squared_epsilon_insensitive"`` and ``C`` for
    :math:`1 / \lambda`, but for the intercept, which has no penalty here,

    .. math:: \sum_i a_i \max(0, |y_i - x_i^\top w - b| - \epsilon)^2 + \tfrac12 \sum_j \lambda_j w_j^2 ,

    and the penalties minimize that loss on samples that are held out. Parameters and attributes are those of
    :class:`TunedLasso`, and ``epsilon``: a number in the units of ``y``, or ``"auto"`` for a tenth of a robust standard
    deviation of ``y`` (1.4826 times its median absolute deviation), which is ``epsilon_`` then. Without a tube, that is
    with ``epsilon=0``, the loss is that of a ridge.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TunedEstimator._parameter_constraints,
        "epsilon": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
    }

    def __init__(
        self,
        *,
        epsilon="auto",
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
        self.epsilon = epsilon

    def _spec(self, X, y, weights):
        automatic = isinstance(self.epsilon, str)
        tube = _TUBE * deviation(y[:, 0], weights, self.fit_intercept)[1] if automatic else self.epsilon
        setting = (0.0, float(tube))
        return Spec("squared_epsilon_insensitive", "l2", False, self.criterion, setting, intercept=self.fit_intercept)

    def _keep_coefficients(self, task, outcomes):
        super()._keep_coefficients(task, outcomes)
        self.epsilon_ = outcomes[0].inner.spec.setting[1]


class TunedHuber(TunedRegressor):
    r"""Robust regression by Huber's loss, whose penalty or penalties are tuned by hypergradients.

    The fit minimizes, as :class:`sklearn.linear_model.HuberRegressor` does with one penalty,

    .. math:: \sum_i a_i \Bigl(\sigma + \sigma H\Bigl(\frac{y_i - x_i^\top w - b}{\sigma}\Bigr)\Bigr)
              + \sum_j \lambda_j w_j^2 , \qquad
              H(r) = \begin{cases} r^2 & |r| \le \epsilon \\ 2 \epsilon |r| - \epsilon^2 & \text{else,} \end{cases}

    in the scale :math:`\sigma` too, which is ``scale_`` (where most residuals vanish it would be zero, and is kept at
    about a ten-thousandth of a robust standard deviation of ``y``, 1.4826 times its median absolute deviation). The
    penalties minimize half of the mean of the same loss, with the scale that was fitted, on samples that are held out.
    Parameters and attributes are those of :class:`TunedLasso`, and ``epsilon``.

    References
    ----------
    Owen, "A robust hybrid of lasso and ridge regression", 2007.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TunedEstimator._parameter_constraints,
        "epsilon": [Interval(Real, 1, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        epsilon=1.35,
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
        self.epsilon = epsilon

    def _spec(self, X, y, weights):
        setting = (float(self.epsilon), deviation(y[:, 0], weights, self.fit_intercept)[1])
        return Spec("huber", "l2", False, self.criterion, setting, intercept=self.fit_intercept)

    def _keep_coefficients(self, task, outcomes):
        super()._keep_coefficients(task, outcomes)
        self.scale_ = outcomes[0].fitted.scale


class TunedQuantile(TunedRegressor):
    r"""Quantile regression, whose penalty or penalties are tuned by hypergradients.

    The fit minimizes, as :class:`sklearn.linear_model.QuantileRegressor` does with one penalty (and by its linear
    program),

    .. math:: \frac{1}{\sum_i a_i} \sum_i a_i\, \rho_q(y_i - x_i^\top w - b) + \sum_j \lambda_j |w_j| , \qquad
              \rho_q(r) = \max(q r, (q - 1) r) .

    A solution of that is constant almost everywhere in the penalties, so there is nothing to descend along. The
    penalties are those that minimize the held-out loss of fits with :math:`(q - 1) r + \tau \log(1 + e^{r / \tau})` for
    :math:`\rho_q`, with a twentieth of a robust standard deviation of ``y`` (1.4826 times its median absolute
    deviation) for :math:`\tau`; ``loss_`` and ``path_`` are of these. Parameters and attributes are those of
    :class:`TunedLasso`, and ``quantile``.

    References
    ----------
    Fernandes, Guerre, Horta, "Smoothing quantile regressions", Journal of Business & Economic Statistics 2021.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TunedEstimator._parameter_constraints,
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        *,
        quantile=0.5,
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
        self.quantile = quantile

    def _spec(self, X, y, weights):
        setting = (float(self.quantile), _ROUNDED * deviation(y[:, 0], weights, self.fit_intercept)[1])
        return Spec("pinball", "l1", True, self.criterion, setting, intercept=self.fit_intercept)

    def _keep_coefficients(self, task, outcomes):
        # the linear program, on columns that are divided by their penalties, and a target in a unit of its own
        strengths = outcomes[0].each[0, :, 0]
        exact = QuantileRegressor(quantile=self.quantile, alpha=1.0, fit_intercept=self.fit_intercept)
        size = outcomes[0].inner.data.size
        exact.fit(task.X / strengths, task.y / size, sample_weight=task.weights)
        self.coef_, self.intercept_ = size * exact.coef_ / strengths, float(size * exact.intercept_)
