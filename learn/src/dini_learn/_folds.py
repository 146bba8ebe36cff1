"""Which samples each fit of a search sees, and by which it is evaluated: weights of samples, a row for each fit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np


class Folds(NamedTuple):
    """Fits on some of the samples.

    Attributes
    ----------
    train, held
        Of shape ``(fits, samples)``: whether a sample is fitted, and whether it evaluates the fit.
    share
        Of shape ``(fits,)``: what a fit's held-out loss counts in the criterion.
    judge
        The fit whose held-out loss no penalty is tuned by, or ``None``.
    """

    train: np.ndarray
    held: np.ndarray
    share: np.ndarray
    judge: int | None = None

    @classmethod
    def of(cls, splits: Iterable[tuple[Any, Any]], samples: int) -> Folds:
        """Return the folds of a splitter: pairs of indices, or of masks."""
        pairs = list(splits)
        train, held = (np.zeros((len(pairs), samples), bool) for _ in range(2))
        for row, (fitted, judged) in enumerate(pairs):
            train[row, fitted] = True
            held[row, judged] = True
        if not pairs or not (train.any(1) & held.any(1)).all():
            raise ValueError("cv must yield at least one split, each with training and held-out samples.")
        return cls(train, held, np.full(len(pairs), 1 / len(pairs)))

    @classmethod
    def without_each(cls, groups: np.ndarray, weights: np.ndarray) -> Folds:
        """Return a fit without each group of samples, which is evaluated by these: all samples count as they weigh."""
        names = np.unique(groups[weights > 0])
        if len(names) < 2:
            raise ValueError(f"groups must have at least two groups for criterion='loo': given only {names[0]!r}.")
        held = groups == names[:, None]
        return cls(~held, held, held @ weights / weights.sum())

    def halves(self, random: np.random.RandomState, groups: np.ndarray | None = None) -> Folds:
        """Return two fits in place of one, each evaluated by half of the samples, or groups of them, that are held out.

        The one itself where there is only one group.
        """
        rows = np.flatnonzero(self.held[0])
        each = rows if groups is None else groups[rows]
        names = random.permutation(np.unique(each))
        if len(names) < 2:
            return self
        held = np.zeros((2, self.held.shape[1]), bool)
        held[0, rows[np.isin(each, names[::2])]] = held[1, rows[np.isin(each, names[1::2])]] = True
        return Folds(np.repeat(self.train, 2, axis=0), held, np.full(2, 0.5))

    def aside(self, train: np.ndarray, held: np.ndarray) -> Folds:
        """Return the fits on some of the samples, and one on all of these that others evaluate."""
        some = self.held & train
        use = some.any(axis=1)
        share = self.share[use] / self.share[use].sum()
        fits = np.concatenate([self.train[use] & train, train[None]]), np.concatenate([some[use], held[None]])
        return Folds(*fits, np.append(share, 0.0), len(share))

    def nested(self, fit: int) -> Folds | None:
        """Return the same without the samples that are held out of one fit, which evaluates what the others tune.

        ``None`` where there are no others, or one of them has nothing left.
        """
        others = np.arange(len(self.share)) != fit
        keep = np.where(others[:, None], ~self.held[fit], True)
        train, held = self.train & keep, self.held & keep
        if not others.any() or not (train.any(1) & held.any(1)).all():
            return None
        return Folds(train, held, others / others.sum(), fit)

    @classmethod
    def whole(cls, samples: int, fits: int) -> Folds:
        """Return fits that are all on all samples that count."""
        rows = np.ones((fits, samples), bool)
        return cls(rows, rows, np.full(fits, 1 / fits))
