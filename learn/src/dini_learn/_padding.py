"""Sizes of compiled programs: data of about one size share one, and are filled up with what counts for nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

#: the least numbers of samples and of columns of a program
SAMPLES, COLUMNS = 256, 16


def bucket(size: int, least: int) -> int:
    """Return the size of the program for data of a size: at most an eighth larger, or the least one."""
    if size <= least:
        return least
    step = max(1, 1 << (size.bit_length() - 4))
    return -(-size // step) * step


def padded(array: Any, *shape: int) -> Any:
    """Return an array filled up with zeros at the ends of its axes."""
    array = np.asarray(array, float)
    return np.pad(array, [(0, to - now) for now, to in zip(array.shape, shape, strict=True)])
