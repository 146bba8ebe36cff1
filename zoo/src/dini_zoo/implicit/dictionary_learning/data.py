"""Breast cancer: the activity of 76 genes in a tumor, and whether a distant metastasis came within five years.

References
----------
Desmedt et al., "Strong time dependence of the 76-gene prognostic signature for node-negative breast cancer patients",
Clin. Cancer Res. 2007: the data. Pölsterl, "scikit-survival", JMLR 2020: its copy of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float
from sklearn.model_selection import StratifiedKFold

#: Days.
YEAR = 365.25


class Cohort(NamedTuple):
    """`m` patients with `p` genes; the label is 1 where the event came in time and 0 where it did not."""

    X: Float[Array, "m p"]
    y: Float[Array, " m"]


class Fold(NamedTuple):
    """The patients to learn from and those to judge by, in units of the former."""

    train: Cohort
    test: Cohort


def outcomes(
    event: np.ndarray, time: Float[np.ndarray, " m"], limit: float
) -> tuple[np.ndarray, Float[np.ndarray, " m"]]:
    """Whose outcome at the time `limit` is known, and the labels of those.

    `time` is that of the event, or, where there was none, the end of observation. A patient who was lost before
    `limit` without an event has no outcome.
    """
    event, time = np.asarray(event, bool), np.asarray(time)
    if event.shape != time.shape or event.ndim != 1:
        raise ValueError(f"event and time must be vectors of one length: given shapes {event.shape} and {time.shape}.")
    early = event & (time <= limit)
    known = early | (time > limit)
    return known, early[known].astype(float)


def breast_cancer(years: float = 5.0) -> Cohort:
    """The patients of scikit-survival's breast cancer data whose outcome after so many years is known.

    Raises
    ------
    ModuleNotFoundError
        Where scikit-survival is not installed: dini-zoo does not depend on it.
    """
    try:
        from sksurv.datasets import load_breast_cancer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The breast cancer data come with scikit-survival, which cannot be imported ({error}). Install it: "
            "`pip install 'dini-zoo[survival]'`; in dini's repository `uv sync` does so.",
            name=error.name,
        ) from error

    table, survival = load_breast_cancer()
    genes = [name for name in table.columns if name.startswith("X")]
    known, y = outcomes(survival["e.tdm"], survival["t.tdm"], years * YEAR)
    return Cohort(table.loc[known, genes].to_numpy(float), y)


def standardize(train: Cohort, test: Cohort) -> Fold:
    """Subtract the mean of the training patients from each gene, and divide by their standard deviation."""
    center, scale = train.X.mean(axis=0), train.X.std(axis=0)
    if not np.all(scale > 0):
        constant = np.flatnonzero(~(scale > 0)).tolist()
        raise ValueError(f"train.X must vary in every column to be standardized: the columns {constant} do not.")
    return Fold(*(Cohort((part.X - center) / scale, part.y) for part in (train, test)))


def folds(cohort: Cohort, splits: int, seeds: Iterable[int]) -> list[Fold]:
    """Repeated cross-validation: for each seed a shuffle and `splits` folds, all with their share of either label."""
    found = []
    for seed in seeds:
        for train, test in StratifiedKFold(splits, shuffle=True, random_state=seed).split(cohort.X, cohort.y):
            found.append(standardize(*(Cohort(cohort.X[part], cohort.y[part]) for part in (train, test))))
    return found
