"""Pictures of a search and of what it found, in scikit-learn's manner."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted


def _axis(name: str, ax: Any) -> Any:
    check_matplotlib_support(name)
    import matplotlib.pyplot as plt

    return plt.subplots()[1] if ax is None else ax


class PathDisplay:
    """The criterion at each evaluation of a search.

    Parameters
    ----------
    loss : ndarray of shape (n_evaluations,)
        The criterion.
    phase : ndarray of shape (n_evaluations,)
        Whether one shared penalty was tuned, or all.

    Attributes
    ----------
    ax_, figure_, lines_
        What was drawn, by matplotlib.
    """

    def __init__(self, *, loss, phase):
        self.loss = loss
        self.phase = phase

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw the search of a fitted estimator.

        Parameters
        ----------
        estimator : object
            One of ``dini_learn``'s, fitted.
        ax : matplotlib axes, default=None
            Where to draw.

        Returns
        -------
        display : PathDisplay
            The picture.
        """
        check_is_fitted(estimator)
        if isinstance(estimator.path_, list):
            raise ValueError(
                "PathDisplay draws one target, and path_ has a search for each of several. Draw one by "
                "PathDisplay(loss=path['loss'], phase=path['phase']).plot() for a path of path_."
            )
        return cls(loss=estimator.path_["loss"], phase=estimator.path_["phase"]).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw on an axis, or on a new one, and return self."""
        self.ax_ = ax = _axis("PathDisplay.plot", ax)
        self.figure_ = ax.figure
        place = np.arange(1, len(self.loss) + 1)
        words = {"shared": "one shared penalty", "tuned": "all penalties"}
        self.lines_ = []
        for phase, word in words.items():
            some = self.phase == phase
            if some.any():
                self.lines_ += ax.plot(place[some], self.loss[some], ".", label=word)
        self.lines_ += ax.plot(
            place, np.minimum.accumulate(self.loss), color="black", linewidth=1, label="least so far"
        )
        ax.set(xlabel="evaluation", ylabel="criterion")
        ax.legend()
        return self


class PenaltiesDisplay:
    """The penalty of each feature.

    Parameters
    ----------
    penalties : ndarray of shape (n_features,) or (n_rows, n_features)
        The penalties; a row for each kind of penalty, or for each class.
    names : list of str
        The features.

    Attributes
    ----------
    ax_, figure_, lines_
        What was drawn, by matplotlib.
    """

    #: with more features their names are not written
    _NAMED = 25

    def __init__(self, *, penalties, names):
        self.penalties = penalties
        self.names = names

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw the penalties of a fitted estimator.

        Parameters
        ----------
        estimator : object
            One of ``dini_learn``'s, fitted.
        ax : matplotlib axes, default=None
            Where to draw.

        Returns
        -------
        display : PenaltiesDisplay
            The picture.
        """
        check_is_fitted(estimator)
        penalties = np.atleast_2d(estimator.penalties_).reshape(-1, estimator.n_features_in_)
        default = [f"x{place}" for place in range(estimator.n_features_in_)]
        names = [str(name) for name in getattr(estimator, "feature_names_in_", default)]
        return cls(penalties=penalties, names=names).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw on an axis, or on a new one, and return self."""
        self.ax_ = ax = _axis("PenaltiesDisplay.plot", ax)
        self.figure_ = ax.figure
        place = np.arange(self.penalties.shape[1])
        self.lines_ = []
        for row, own in enumerate(self.penalties):
            self.lines_ += ax.plot(place, own, "o", markersize=4, label=f"row {row}")
        ax.set(yscale="log", ylabel="penalty", xlabel="feature")
        if len(self.names) <= self._NAMED:
            ax.set_xticks(place, self.names, rotation=90)
        if len(self.penalties) > 1:
            ax.legend()
        return self
