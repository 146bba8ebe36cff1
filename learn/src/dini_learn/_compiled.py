"""Fits by programs that JAX compiles, on padded data: for what has no solver of its own here."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from . import _programs
from ._data import Data, Judged
from ._folds import Folds
from ._losses import LOSSES
from ._padding import COLUMNS, SAMPLES, bucket, padded

#: what rounding of a matrix of the samples may be, as a part of a penalty: its trace is a bound
_ROUNDING = 1e-4


class Lanes(NamedTuple):
    """Weights of the samples of each fit and of its evaluation, padded; curvatures and means of columns there."""

    train: Any
    held: Any
    curvatures: np.ndarray
    centers: np.ndarray
    totals: np.ndarray


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
        self.columns = bucket(1 + data.features, COLUMNS)
        self.place = np.arange(self.columns)
        if groups is not None:
            self.place[1 : 1 + data.features] = 1 + groups
        self.rows = bucket(data.samples, SAMPLES)
        squared = self.spec.loss == "squared"
        self.closed = squared and self.spec.kind == "l2"
        self.dual = self.closed and data.features > data.samples
        # what is fitted is in units of its own, from which no solver has to find its way: of the target here, for
        # losses of this degree in it, and of columns at each fit, on whose own samples they are about one
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

    def lanes(self, folds: Folds, judged: Judged) -> Lanes:
        """Return the weights of folds, as the programs take them, and what columns are on their samples."""
        del folds
        curvatures, totals = self.data.curvatures_of(judged.train), judged.train.sum(axis=1)
        centers = np.zeros((len(judged.train), self.columns))
        if self.data.spec.intercept and not self.closed:
            centers[:, 1 : 1 + self.data.features] = judged.train / totals[:, None] @ self.data.X
        train, held = (self._put(padded(part, len(part), self.rows)) for part in (judged.train, judged.held))
        return Lanes(train, held, curvatures, centers, totals)

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
        l2 = np.broadcast_to(l2, (len(lanes.train), *l1.shape[-2:]))
        with jax.enable_x64(True):
            found = []
            for target in range(1 if data.together else data.targets):
                parts = (l1, l2) if data.together else (l1[:, target], l2[..., target])
                units = self._units(parts[1], lanes)
                own = self._logarithms(*parts, units)
                outward = (self.size / units).reshape(*units.shape, *[1] * (parts[0].ndim - 1))
                if self.closed:
                    given = self.design, self.goals[target], spec.noise[target], spec.repeated, float(spec.intercept)
                    fits = _programs.ridge_fits(spec.criterion, self.dual, own, *lanes[:2], *given)
                    fits = fits._replace(solved=fits.solved & self._seen(parts[1][0]))
                    outward = np.ones(1)
                else:
                    x0 = np.zeros(own[0].shape)
                    x0 = x0 if ends is None else self._moved(ends[target], lanes, 1.0) / outward
                    given = self.design, self.goals[target], self.setting, self.place, units, lanes.centers
                    fits = _programs.linear_fits(spec.loss, kind, certify, own, x0, *lanes[:2], *given)
                fits = jax.device_get(fits)
                x, worth = self._moved(fits.x * outward, lanes, -1.0), self.size**self.degree
                gradient = tuple(worth * part for part in fits.gradient)
                found.append(fits._replace(value=worth * fits.value, gradient=gradient, x=x, ends=x))
        return found

    def _moved(self, x: np.ndarray, lanes: Lanes, side: float) -> np.ndarray:
        """Return coefficients with intercepts for columns around the means of fits; or from there, with minus one."""
        if self.closed:
            return x
        x = x.copy()
        x[:, 0] += side * np.einsum("fj,fj...->f...", lanes.centers, x)
        return x

    def _seen(self, l2: np.ndarray) -> bool:
        """Whether a ridge by matrices of the samples, which add to one for a penalty, sees features in all units."""
        inside = slice(1, 1 + self.data.features)
        return not self.dual or np.finfo(float).eps * float((self.data.curvatures / l2[inside]).sum()) <= _ROUNDING

    def _units(self, l2: np.ndarray, lanes: Lanes) -> np.ndarray:
        """Return what each column is divided by in each fit, so that curvatures are about one.

        Those of a group are alike.
        """
        found = np.ones((len(l2), self.columns))
        if self.closed:
            return found
        loss, place = LOSSES[self.spec.loss], self.place[1 : 1 + self.data.features]
        for fit, total in enumerate(lanes.totals):
            squares = l2[fit, 1 : 1 + self.data.features].reshape(self.data.features, -1).mean(axis=1)
            squares = lanes.curvatures[fit] + squares
            squares = squares * self.data.size ** (2 - self.degree) / (loss.curvature * total)
            squares = (np.bincount(place, squares) / np.maximum(np.bincount(place), 1))[place]
            found[fit, 1 : 1 + self.data.features] = [_power(np.sqrt(part)) for part in squares]
        return found

    def _logarithms(self, l1: np.ndarray, l2: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logarithms for all columns: minus infinity without a penalty, and one on what is void.

        They are those that penalize what is fitted, which is in units.
        """
        inside, found = slice(1, 1 + self.data.features), []
        for power, part in ((1, np.broadcast_to(l1, l2.shape)), (2, l2)):
            whole = np.ones((len(l2), self.columns, *part.shape[2:]))
            whole[:, : part.shape[1]] = part
            by = self.size ** (power - self.degree) / units[:, inside] ** power
            whole[:, inside] *= by.reshape(*by.shape, *[1] * (part.ndim - 2))
            with np.errstate(divide="ignore"):
                found.append(np.log(whole))
        return found[0], found[1]


def _power(size: float) -> float:
    """Return a power of two near a size, by which division is exact: one of nothing."""
    return float(2.0 ** np.round(np.log2(size))) if size > 0 else 1.0
