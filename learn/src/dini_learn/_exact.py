"""Fits of a squared loss, exact: by second moments of all columns, or of those that matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from . import _sparse_fits
from ._columns import Columns
from ._data import Data, Judged
from ._folds import Folds
from ._groups import Groups
from ._moments import Moments, table
from ._stein import Disturbed


class Exact:
    """Fits of data on the supports of their minimizers.

    Parameters
    ----------
    data
        The data and what is minimized of them.
    groups
        Of a penalty of groups: the group of each feature.
    """

    def __init__(self, data: Data, groups: np.ndarray | None = None):
        self.data = data
        # the intercept is one of its own
        self._groups = None if groups is None else Groups(np.append(0, 1 + groups))
        if data.narrow:
            self._moments = Moments(table(data.X, data.y, data.spec.intercept), data.weights)
        else:
            one = np.full((1, data.samples), float(data.spec.intercept))
            if scipy.sparse.issparse(data.X):
                self._rows = scipy.sparse.csr_array(scipy.sparse.vstack([scipy.sparse.csr_array(one), data.X.T]))
            else:
                self._rows = np.concatenate([one, np.ascontiguousarray(data.X.T)])

    def lanes(self, folds: Folds, judged: Judged) -> list[list[_sparse_fits.Lane]]:
        """Return the fits of each target."""
        data, targets = self.data, range(self.data.targets)
        if not data.narrow:
            pairs = list(zip(judged.train, judged.held, strict=True))
            return [[Columns(self._rows, data.y[:, t], *pair, self._groups) for pair in pairs] for t in targets]
        if data.stein and len(folds.train) > 1:
            return [self._disturbed(folds, judged)]
        train, held = self._moments.folds(folds)
        train, held = train / judged.fitted[:, None, None], held / judged.among[:, None, None]
        last = 1 + data.features
        matrices = [np.ascontiguousarray(part[:, :last, :last]) for part in (train, held)]
        return [
            [
                _sparse_fits.Moments(
                    a,
                    p[:last, last + t].copy(),
                    b,
                    q[:last, last + t].copy(),
                    q[last + t, last + t],
                    self._groups,
                )
                for a, b, p, q in zip(*matrices, train, held, strict=True)
            ]
            for t in targets
        ]

    def _disturbed(self, folds: Folds, judged: Judged) -> list[_sparse_fits.Lane]:
        """Return the fits by which Stein's estimate is known, and the one that others evaluate."""
        of = Disturbed.of(self.data.spec, self._moments.on(folds.train[0]), folds.train[0] * self.data.weights)
        nothing = np.zeros_like(of.matrix)
        first = of.matrix, of.linear[0] - of.slopes[0], of.square + 2 * of.rest
        judges = [first, *((nothing, -slope, 0.0) for slope in of.slopes[1:])]
        targets = list(of.linear)
        if folds.judge is not None:
            held = self._moments.on(folds.held[-1]) / judged.among[-1]
            judges.append((held[:-1, :-1].copy(), held[:-1, -1].copy(), held[-1, -1]))
            targets.append(of.linear[0])
        return [
            _sparse_fits.Moments(of.matrix, y, *judge, self._groups) for y, judge in zip(targets, judges, strict=True)
        ]

    def whole(self, folds: Folds, ends: Any) -> tuple[Folds, Any]:
        """Return a fit on all samples, and where it starts."""
        del folds
        starts = ends and [[each[0]._replace(l2=None)] for each in ends]
        return Folds.whole(self.data.samples, 1), starts

    def fits(
        self, l1: np.ndarray, l2: np.ndarray, lanes: Any, ends: Any, certify: bool = False, rough: bool = False
    ) -> list[Any]:
        """Return the fits, for each target; no rough ones, for exact ones cost no more.

        Penalties are of shape ``(columns, targets)``, those of squares with a first axis where they are each fit's own.
        """
        del rough
        count = len(lanes[0])
        found = []
        for target, own in enumerate(lanes):
            starts = [None] * count if ends is None else ends[target]
            given = (np.broadcast_to(part[..., target], (count, len(l1))) for part in (l1, l2))
            found.append(_sparse_fits.fits(own, *given, starts, certify))
        return found
