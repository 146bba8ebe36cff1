"""Engines that compute signed measures of complexes on the host: multipers, and a small one in NumPy.

An engine is given ranks and returns ranks, and so knows nothing of values or derivatives.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from typing import Any, Literal

import numpy as np

from dini_zoo.kit.checking import one_of

from . import reduction
from .complexes import Ranked, cliques
from .reduction import NEVER, Points

Engine = Literal["auto", "multipers", "numpy"]
ENGINES = ("auto", "multipers", "numpy")
#: Where multipers is not installed, complexes of more simplices are refused: the NumPy engine would take minutes.
LARGEST = 600
INSTALL = "multipers is not installed: `pip install 'dini-zoo[topology]'`"


def has_multipers() -> bool:
    """Whether multipers is installed."""
    return importlib.util.find_spec("multipers") is not None


def chosen(engine: Engine, parameters: int) -> tuple[str, int | None]:
    """The engine that is used, and the most simplices that it takes.

    Warns where multipers is wished for and the NumPy engine steps in; raises `ModuleNotFoundError` where it cannot.
    """
    one_of("engine", engine, ENGINES)
    if engine == "numpy":
        if parameters > 2:
            raise ValueError(f"engine must be 'multipers' for {parameters} parameters: given 'numpy', for up to 2.")
        return "numpy", None
    if has_multipers():
        return "multipers", None
    if engine == "multipers" or parameters > 2:
        raise ModuleNotFoundError(f"{INSTALL}.", name="multipers")
    instead = f"The NumPy engine is used, for complexes of at most {LARGEST} simplices"
    warnings.warn(f"{INSTALL}. {instead}.", RuntimeWarning, stacklevel=3)
    return "numpy", LARGEST


def measured(engine: str, most: int | None, complex: Ranked, degree: int, invariant: str) -> Points:
    """The signed measure of a complex in ranks; `NEVER` stands for infinity."""
    if not any(map(len, complex.cells)):
        columns = complex.ranks[0].shape[1] * (2 if invariant == "rank" else 1)
        return Points(np.zeros((0, columns), np.int32), np.zeros(0, np.int32))
    if engine == "multipers":
        return _by_multipers(complex, degree, invariant)
    if most is not None:
        complex = cliques(complex, degree + 1)
        count = reduction.counted(complex)
        if count > most:
            raise RuntimeError(f"{INSTALL}, and the complex has {count} simplices, more than {most}.")
    return {"hilbert": reduction.hilbert, "rank": reduction.rank}[invariant](complex, degree)


def _by_multipers(complex: Ranked, degree: int, invariant: str) -> Points:
    """Gudhi's simplex trees end the process where multipers converts them: the tree is its own, filled by arrays."""
    multipers = _multipers()
    parameters = complex.ranks[0].shape[1]
    # it takes two parameters or more: a constant second one changes nothing
    columns = max(parameters, 2)
    tree = multipers.SimplexTreeMulti(num_parameters=columns)
    for cells, ranks in zip(complex.cells, complex.ranks, strict=True):
        if len(cells):
            filtration = np.zeros((len(cells), columns))
            filtration[:, :parameters] = ranks
            tree.insert_batch(np.ascontiguousarray(cells.T), filtration)
    if complex.flag:
        # of no edges it makes an array of another shape
        if columns == 2 and len(complex.cells[1]):
            tree.collapse_edges(-1)
        tree.expansion(degree + 1)
    if tree.dimension < degree:
        return Points(np.zeros((0, parameters * (2 if invariant == "rank" else 1)), np.int32), np.zeros(0, np.int32))
    ((places, weights),) = multipers.signed_measure(tree, degree=degree, invariant=invariant, n_jobs=1)
    places = np.asarray(places)
    kept = [i for i in range(places.shape[1]) if i % columns < parameters]
    mine = np.where(np.isfinite(places[:, kept]), places[:, kept], NEVER).astype(np.int32)
    if columns == parameters:
        return Points(mine, np.asarray(weights, np.int32))
    # bars of one parameter end with the constant one too: its own end is none
    return _merged(mine, np.asarray(weights, np.int32))


def _merged(places: np.ndarray, weights: np.ndarray) -> Points:
    """The measure with the weights of equal points added up."""
    unique, which = np.unique(places, axis=0, return_inverse=True)
    total = np.zeros(len(unique), int)
    np.add.at(total, which.reshape(-1), weights)
    return Points(unique[total != 0].astype(np.int32), total[total != 0].astype(np.int32))


@functools.cache
def _multipers() -> Any:
    with warnings.catch_warnings():
        # strings of its modules have escapes that Python warns of when it compiles them first
        warnings.simplefilter("ignore", SyntaxWarning)
        import multipers
    return multipers
