"""Fits by programs that JAX compiles, on padded data: for what has no solver of its own here."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from . import _programs
from ._data import Data, Judged
from ._folds import Folds
from ._moments import Moments, table
from ._padding import COLUMNS, SAMPLES, bucket, padded
from ._stein import Disturbed


class Compiled:
    """Fits of data by compiled programs.

    Parameters
    ----------
    data
        The data and what is minimized of them.
    groups
        Of a penalty of groups: the group of each feature.
    """

    def __init__(self, data: Data, groups: np.ndarray | None):
        self.data, self.spec = data, data.spec
        # Huber's loss has a scale as its last coefficient
        self.scaled = self.spec.loss == "huber"
        self.columns = bucket(1 + data.features + self.scaled, COLUMNS)
        self.place = np.arange(self.columns)
        if groups is not None:
            self.place[1 : 1 + data.features] = 1 + groups
        self.rows = bucket(data.samples, SAMPLES)
        squared = self.spec.loss == "squared"
        self.by_moments = squared and data.narrow and not data.closed
        self.dual = self.spec.kind == "l2" and squared and data.features > data.samples
        self.setting = np.asarray(self.spec.setting, float)

    def _put(self, array: Any) -> Any:
        with jax.enable_x64(True):
            return jax.device_put(np.asarray(array, float))

    @functools.cached_property
    def design(self) -> Any:
        """The padded columns: one, the features, what is void."""
        found = np.zeros((self.rows, self.columns))
        found[: self.data.samples, 0] = float(self.spec.intercept)
        found[: self.data.samples, 1 : 1 + self.data.features] = self.data.X
        return self._put(found)

    @functools.cached_property
    def goals(self) -> list[Any]:
        """The targets of each fit, padded."""
        y = self.data.y
        each = [y] if self.data.together else [y[:, c] for c in range(self.data.targets)]
        return [self._put(padded(goal, self.rows, *goal.shape[1:])) for goal in each]

    @functools.cached_property
    def _moments(self) -> Moments:
        return Moments(table(self.data.X, self.data.y, self.spec.intercept), self.data.weights)

    def lanes(self, folds: Folds, judged: Judged) -> Any:
        """Return the weights of folds, as the programs take them; or their moments, of each target."""
        if self.data.stein:
            return [self._disturbed(folds, judged)]
        if self.by_moments:
            parts = self._moments.folds(folds)
            scales = judged.fitted, judged.among
            return [
                tuple(
                    self._put(self._padded(part, target) / by[:, None, None])
                    for part, by in zip(parts, scales, strict=True)
                )
                for target in range(self.data.targets)
            ]
        both = (padded(part, len(part), self.rows) for part in (judged.train, judged.held))
        return tuple(self._put(part) for part in both)

    def _disturbed(self, folds: Folds, judged: Judged) -> tuple[Any, Any]:
        """Return the moments of the fits by which Stein's estimate is known, and of the one that others judge."""
        of = Disturbed.of(self.spec, self._moments.on(folds.train[0]), folds.train[0] * self.data.weights)
        train, held = of.padded(self.columns)
        if folds.judge is not None:
            train = np.concatenate([train, train[:1]])
            judge = self._moments.on(folds.held[-1])[None] / judged.among[-1]
            held = np.concatenate([held, self._padded(judge, 0)])
        return self._put(train), self._put(held)

    def _padded(self, moments: np.ndarray, target: int) -> np.ndarray:
        """Return moments padded, one target's last."""
        last = 1 + self.data.features
        kept = np.append(np.arange(last), last + target)
        place = np.append(np.arange(last), self.columns)
        found = np.zeros((len(moments), self.columns + 1, self.columns + 1))
        found[:, place[:, None], place] = moments[:, kept[:, None], kept]
        return found

    def whole(self, folds: Folds, ends: Any) -> tuple[Folds, Any]:
        """Return as many fits on all samples as there are folds, so that the program is the same."""
        del ends
        return Folds.whole(self.data.samples, len(folds.share)), None

    def fits(
        self, l1: np.ndarray, l2: np.ndarray, lanes: Any, ends: Any, certify: bool = False, rough: bool = False
    ) -> list[Any]:
        """Return what the program finds, for each target that is fitted on its own; there are no rough programs."""
        del rough
        spec, data = self.spec, self.data
        # a Lasso is an elastic net without squares: they share programs
        kind = "elasticnet" if spec.kind == "l1" else spec.kind
        l1, l2 = self._logarithms(l1), self._logarithms(l2)
        count = len(lanes[0][0]) if self.by_moments else len(lanes[0])
        spread = lambda part: np.broadcast_to(part[None], (count, *part.shape))
        with jax.enable_x64(True):
            found = []
            for target in range(1 if data.together else data.targets):
                own = spread(l1 if data.together else l1[:, target]), spread(l2 if data.together else l2[:, target])
                x0 = self._start(own[0].shape) if ends is None else ends[target]
                if self.by_moments:
                    fits = _programs.moment_fits(certify, own, x0, *lanes[target], self.place)
                elif spec.loss == "squared" and spec.kind == "l2":
                    given = self.design, self.goals[target], spec.noise[target], float(spec.intercept)
                    fits = _programs.ridge_fits(spec.criterion, self.dual, own, *lanes, *given)
                else:
                    given = self.design, self.goals[target], self.setting, self.place
                    fits = _programs.linear_fits(spec.loss, kind, certify, own, x0, *lanes, *given)
                fits = jax.device_get(fits)
                found.append(fits._replace(ends=fits.x))
        return found

    def _logarithms(self, penalties: np.ndarray) -> np.ndarray:
        """Return logarithms for all columns: minus infinity without a penalty, and one on what is void."""
        found = np.ones((self.columns, penalties.shape[1]))
        found[: len(penalties)] = penalties
        if self.scaled:
            found[-1] = 0.0
        with np.errstate(divide="ignore"):
            return np.log(found)

    def _start(self, shape: tuple[int, ...]) -> np.ndarray:
        x0 = np.zeros(shape)
        if self.scaled:
            x0[:, -1] = self.spec.setting[1]
        return x0
