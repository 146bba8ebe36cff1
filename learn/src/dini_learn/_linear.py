"""Regression by a squared loss: ridge, Lasso, elastic net, group Lasso."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import StrOptions

from ._regressors import TunedSquared


class TunedRidge(TunedSquared):
    r"""Ridge regression whose penalty, or penalties, are tuned by hypergradients.

    The fit minimizes, as :class:`sklearn.linear_model.Ridge` does with one penalty,

    .. math:: \sum_i a_i (y_i - x_i^\top w - b)^2 + \sum_j \lambda_j w_j^2 ,

    with weights :math:`a_i` of the samples, and the penalties minimize the mean squared error of samples that are held
    out, or what is known in closed form.

    Parameters
    ----------
    penalties : {"shared", "groups", "features"}, default="shared"
        One penalty for all features, one for each group of them, or one for each.
    feature_groups : array-like of shape (n_features,), Series or mapping, default=None
        The group of each feature, for ``penalties="groups"``. A mapping, and a Series whose index has names, give
        it by the names of the columns of ``X``, or by their places where they have no names.
    bounds : array-like of shape (2,) or (n_kinds, 2), default=None
        The least and the largest penalty of the search, of each kind where an elastic net has two; by default they are
        by the data.
    alpha_per_target : bool, default=False
        Whether each target has penalties of its own, as in :class:`sklearn.linear_model.RidgeCV`: a search for each.
    criterion : {"cv", "holdout", "loo", "sure"}, default="cv"
        What is minimized: the mean over the folds of the held-out error, that of one random split, the error of
        leave-one-out in closed form (with ``groups``, that of leaving each group out), or Stein's unbiased estimate of
        the risk.
    cv : int, splitter or iterable, default=None
        As in :class:`sklearn.model_selection.GridSearchCV`. With ``"loo"`` and ``"sure"`` it is only for the choice of
        ``shrinkage``.
    validation_fraction : float, default=0.2
        Share of the samples that is held out by ``"holdout"``.
    shrinkage : "auto" or float, default="auto"
        With several penalties: the strength of a prior that draws their logarithms to their mean, by :math:`s
        \operatorname{var}(\log \lambda)` in units of the criterion at one shared penalty. Many penalties can fit the
        criterion itself. ``"auto"`` tries several strengths on nested splits, and keeps one shared penalty unless
        several are better by more than the standard error.
    fit_intercept : bool, default=True
        Whether there is an intercept, which has no penalty.
    noise : float or array-like of shape (n_targets,), default=None
        Standard deviation of the noise, for ``"sure"``. By default it is estimated by what least squares on all
        features leaves per degree of freedom, which takes more samples than features.
    weights : {"precisions", "repetitions"}, default="precisions"
        What ``sample_weight`` means to ``"sure"``: how precise each target is, its variance being that of the noise
        over its weight, in units of the weights' mean, so that weights which are all alike change nothing; or how often
        each sample is there. Other criteria do not depend on it.
    max_iter : int, default=100
        Evaluations of the criterion in each search in several penalties, and at most twice as many again near kinks.
    tol : float, default=1e-5
        Where such a search ends, relative to the criterion.
    certify : bool, default=True
        Whether to estimate the error of the last hypergradient, which costs about as much as another evaluation.
    n_jobs : int, default=None
        How many threads search at a time: on the nested splits by which ``shrinkage="auto"`` chooses, and for targets
        with penalties of their own. The folds of a criterion are one computation already, in which it means nothing.
    random_state : int, RandomState instance or None, default=None
        For ``"holdout"``, and for ``"sure"`` of a fit with absolute values.
    verbose : int, default=0
        Whether to print a line of progress.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Coefficients.
    intercept_ : float or ndarray of shape (n_targets,)
        The intercept.
    penalties_ : ndarray of shape (n_features,) or (n_targets, n_features)
        The penalty of each feature; with ``alpha_per_target`` a row for each target. So it is with the attributes that
        follow, which have a leading axis for targets then; ``path_`` is a list.
    loss_ : float
        The criterion with them, a mean over the targets.
    hypergradient_ : Hypergradient
        The derivative, in the logarithms of what was tuned, of the criterion and of the prior where there is one, and
        an estimate of the error.
    path_ : dict
        The search: ``phase``, ``loss``, ``penalties`` and ``gradient_norm`` of each evaluation.
    shrinkage_ : float
        The strength of the prior; infinite for one shared penalty.
    nested_losses_ : ndarray of shape (n_splits, 1 + n_shrinkages) or None
        Losses on nested held-out samples: of one shared penalty, and for each shrinkage that was tried.
    n_iter_ : int
        How often the criterion was evaluated.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where ``X`` has some.

    References
    ----------
    Bengio, "Gradient-based optimization of hyperparameters", Neural Computation 2000. Allen, "The relationship between
    variable selection and data augmentation and a method for prediction", Technometrics 1974. Stein, "Estimation of the
    mean of a multivariate normal distribution", Annals of Statistics 1981.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from dini_learn import TunedRidge
    >>> X, y = load_diabetes(return_X_y=True)
    >>> print(round(TunedRidge(criterion="loo").fit(X, y).score(X, y), 3))
    0.517
    """

    _several = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TunedSquared._parameter_constraints,
        "criterion": [StrOptions({"cv", "holdout", "loo", "sure"})],
        "alpha_per_target": ["boolean"],
    }

    def __init__(
        self,
        *,
        penalties="shared",
        feature_groups=None,
        bounds=None,
        alpha_per_target=False,
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
            noise=noise,
            weights=weights,
            max_iter=max_iter,
            tol=tol,
            certify=certify,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.alpha_per_target = alpha_per_target

    def _spec(self, X, y, weights):
        return self._squared("l2", False, X, y, weights)

    def _parts(self, task):
        if not self.alpha_per_target or task.y.ndim == 1:
            return [task]
        one = task.strengths._replace(index=task.strengths.index[:, :1])
        return [
            task._replace(inner=task.inner.of_target(task.X, task.y, place), strengths=one)
            for place in range(task.y.shape[1])
        ]

    def _keep_coefficients(self, task, outcomes):
        coef = np.concatenate([outcome.fitted.coef for outcome in outcomes], axis=1).T
        intercept = np.concatenate([np.atleast_1d(outcome.fitted.intercept) for outcome in outcomes])
        if task.y.ndim == 1:
            self.coef_, self.intercept_ = coef[0], float(intercept[0])
        else:
            self.coef_, self.intercept_ = coef, intercept


class TunedLasso(TunedSquared):
    r"""The Lasso, with one penalty or many that are tuned by hypergradients.

    The fit minimizes, as :class:`sklearn.linear_model.Lasso` does with one penalty,

    .. math:: \frac{1}{2 \sum_i a_i} \sum_i a_i (y_i - x_i^\top w - b)^2 + \sum_j \lambda_j |w_j| .

    Parameters and attributes are those of :class:`TunedRidge`, for one target; ``criterion`` is ``"cv"``, ``"holdout"``
    or ``"sure"``. That is, for noise of standard deviation :math:`\sigma` and ``n`` samples,

    .. math:: \frac1n \|y - \hat y\|^2 - \sigma^2 + \frac{2 \sigma^2}{n} \operatorname{df} ,

    where the degrees of freedom are the number of features that are not left out, and one for the intercept. It jumps
    where features come and go, and grows between two such penalties, so that one shared penalty is the best of these,
    exactly; ``hypergradient_`` is the derivative towards stronger penalties there. For several penalties the degrees of
    freedom are taken from fits of up to 16 slightly disturbed targets (of all directions where there are no more
    features than that, of random ones by ``random_state`` elsewhere), which has a derivative in each; ``loss_`` is this
    estimate then, but where one shared penalty is kept.

    References
    ----------
    Zou, Hastie, Tibshirani, "On the degrees of freedom of the lasso", Annals of Statistics 2007. Deledalle, Vaiter,
    Fadili, Peyre, "Stein Unbiased GrAdient estimator of the Risk (SUGAR) for multiple parameter selection", SIAM
    Journal on Imaging Sciences 2014. Bertrand, Klopfenstein, Massias, Blondel, Vaiter, Gramfort, Salmon, "Implicit
    differentiation for fast hyperparameter selection in non-smooth convex learning", JMLR 2022 (arXiv 2105.01637).
    """

    def _spec(self, X, y, weights):
        return self._squared("l1", True, X, y, weights)


class TunedElasticNet(TunedSquared):
    r"""The elastic net, with two penalties or many that are tuned by hypergradients.

    The fit minimizes

    .. math:: \frac{1}{2 \sum_i a_i} \sum_i a_i (y_i - x_i^\top w - b)^2 + \sum_j \lambda_j |w_j|
              + \tfrac12 \sum_j \mu_j w_j^2 ,

    both kinds of penalties tuned. With one of each, :class:`sklearn.linear_model.ElasticNet` does the same with
    ``alpha`` :math:`= \lambda + \mu` and ``l1_ratio`` :math:`= \lambda / (\lambda + \mu)`. ``penalties_`` is of shape
    ``(2, n_features)``, first :math:`\lambda`. Parameters and attributes are those of :class:`TunedLasso`; ``"sure"``
    is by disturbed targets.
    """

    def _spec(self, X, y, weights):
        return self._squared("elasticnet", True, X, y, weights)


class TunedGroupLasso(TunedSquared):
    r"""The group Lasso, with one penalty or one for each group that are tuned by hypergradients.

    The fit minimizes

    .. math:: \frac{1}{2 \sum_i a_i} \sum_i a_i (y_i - x_i^\top w - b)^2 + \sum_g \lambda_g \sqrt{|g|}\, \|w_g\|_2 ,

    for groups ``g`` of :math:`|g|` features, which ``feature_groups`` names; without it each feature is a group of its
    own, and the fit is a Lasso. ``penalties`` is ``"shared"`` or
    ``"groups"``; ``penalties_`` has :math:`\lambda_g` for each feature. Other parameters and attributes are those of
    :class:`TunedLasso`; ``"sure"`` is by disturbed targets.

    References
    ----------
    Yuan and Lin, "Model selection and estimation in regression with grouped variables", JRSS B 2006.
    """

    _grouped = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TunedSquared._parameter_constraints,
        "penalties": [StrOptions({"shared", "groups"})],
    }

    def _labels(self):
        return np.arange(self.n_features_in_) if self.feature_groups is None else super()._labels()

    def _spec(self, X, y, weights):
        return self._squared("group", True, X, y, weights)
