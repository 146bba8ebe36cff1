"""Other libraries' warnings, which the status of a solve takes the place of."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Generator

import numpy as np

#: whose warnings
_MODULES = r"scipy\.|qpsolvers\.|osqp\.|proxsuite\.|scs\.|highspy|clarabel|dini\.adapters\."
_door, _depth = threading.Lock(), [0]


def _hide() -> None:
    warnings.filterwarnings("ignore", module=_MODULES)
    # an option that a method has not is no matter of a solve's success
    warnings.filterwarnings("error", "Unknown solver options", module=_MODULES)


def _show() -> None:
    """Take our filters out: whatever others have done in between stays."""
    with contextlib.suppress(AttributeError):  # filters of other kinds than Python's own
        for one in list(warnings.filters):
            if getattr(one[3], "pattern", None) == _MODULES:
                warnings.filters.remove(one)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Hide warnings of other libraries' solvers while one runs, in whatever thread.

    ``warnings.catch_warnings`` puts back what was there when it was entered: of two threads, the one that ends last
    would put back the other's.
    """
    with _door:
        _depth[0] += 1
        _hide()
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        with _door:
            _depth[0] -= 1
            if not _depth[0]:
                _show()
