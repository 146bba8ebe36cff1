"""Fits by programs that JAX compiles, on padded data: for what has no solver of its own here."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from . import _programs
from ._data import Data, Judged
from ._folds import Folds
from ._losses import LOSSES
from ._moments import Moments, table
from ._padding import COLUMNS, SAMPLES, bucket, padded
from ._stein import Disturbed

#: what rounding of a matrix of the samples may be, as a part of a penalty: its trace is a bound
_ROUNDING = 1e-4


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
        self.closed = squared and self.spec.kind == "l2"
        self.dual = self.closed and data.features > data.samples
        # what is fitted is in units of its own, from which no solver has to find its way: of the target here, for
        # losses of this degree in it, and of columns at each fit
        self.size = 1.0 if self.closed else _power(data.size)
        self.degree = LOSSES[self.spec.loss].degree
        self.setting = np.asarray(self.spec.setting, float) / (1.0, self.size)

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
        return [self._put(padded(goal / self.size, self.rows, *goal.shape[1:])) for goal in each]

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
        count = len(lanes[0][0]) if self.by_moments else len(lanes[0])
        spread = lambda part: np.broadcast_to(part[None], (count, *part.shape))
        with jax.enable_x64(True):
            found = []
            for target in range(1 if data.together else data.targets):
                parts = (l1, l2) if data.together else (l1[:, target], l2[:, target])
                units = self._units(parts[1])
                own = tuple(spread(part) for part in self._logarithms(*parts, units))
                outward = (self.size / units).reshape(-1, *[1] * (parts[0].ndim - 1))
                x0 = self._start(own[0].shape) if ends is None else ends[target] / outward
                if self.by_moments:
                    both = np.append(units, self.size)
                    fits = _programs.moment_fits(certify, own, x0, *lanes[target], self.place, both)
                elif self.closed:
                    given = self.design, self.goals[target], spec.noise[target], float(spec.intercept)
                    fits = _programs.ridge_fits(spec.criterion, self.dual, own, *lanes, *given)
                    fits = fits._replace(solved=fits.solved & self._seen(parts[1]))
                else:
                    given = self.design, self.goals[target], self.setting, self.place, units
                    fits = _programs.linear_fits(spec.loss, kind, certify, own, x0, *lanes, *given)
                fits = jax.device_get(fits)
                x, worth = fits.x * outward, self.size**self.degree
                gradient = tuple(worth * part for part in fits.gradient)
                found.append(fits._replace(value=worth * fits.value, gradient=gradient, x=x, ends=x))
        return found

    def _seen(self, l2: np.ndarray) -> bool:
        """Whether a ridge by matrices of the samples, which add to one for a penalty, sees features in all units."""
        inside = slice(1, 1 + self.data.features)
        return not self.dual or np.finfo(float).eps * float((self.data.curvatures / l2[inside]).sum()) <= _ROUNDING

    def _units(self, l2: np.ndarray) -> np.ndarray:
        """Return what each column is divided by, so that curvatures are about one; those of a group are alike."""
        found = np.ones(self.columns)
        if self.closed:
            return found
        samples = LOSSES[self.spec.loss].curvature * (1.0 if self.spec.mean else self.data.weights.sum())
        inside = slice(1, 1 + self.data.features)
        curvatures = self.data.curvatures + l2[inside].reshape(self.data.features, -1).mean(axis=1)
        squares = curvatures * self.data.size ** (2 - self.degree) / samples
        place = self.place[inside]
        squares = (np.bincount(place, squares) / np.maximum(np.bincount(place), 1))[place]
        found[inside] = [_power(np.sqrt(part)) for part in squares]
        return found

    def _logarithms(self, l1: np.ndarray, l2: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logarithms for all columns: minus infinity without a penalty, and one on what is void.

        They are those that penalize what is fitted, which is in units.
        """
        inside, found = slice(1, 1 + self.data.features), []
        for power, part in ((1, l1), (2, l2)):
            whole = np.ones((self.columns, *part.shape[1:]))
            whole[: len(part)] = part
            by = self.size ** (power - self.degree) / units[inside] ** power
            whole[inside] *= by.reshape(-1, *[1] * (part.ndim - 1))
            if self.scaled:
                whole[-1] = 0.0
            with np.errstate(divide="ignore"):
                found.append(np.log(whole))
        return found[0], found[1]

    def _start(self, shape: tuple[int, ...]) -> np.ndarray:
        x0 = np.zeros(shape)
        if self.scaled:
            x0[:, -1] = self.setting[1]
        return x0


def _power(size: float) -> float:
    """Return a power of two near a size, by which division is exact: one of nothing."""
    return float(2.0 ** np.round(np.log2(size))) if size > 0 else 1.0
