"""What `verbose` prints: one line that is renewed."""

from __future__ import annotations

import sys
import time

import numpy as np

from ._search import At


class Progress:
    """Counts evaluations, and prints them a few times a second.

    Parameters
    ----------
    name
        The estimator's name.
    verbose
        Whether anything is printed.
    """

    def __init__(self, name: str, verbose: int):
        self.name, self.verbose = name, verbose
        self.count, self.least, self._shown = 0, np.inf, 0.0

    def __call__(self, at: At) -> None:
        """Count a point."""
        self.count += 1
        self.least = min(self.least, at.value if np.isfinite(at.value) else np.inf)
        if self.verbose and time.monotonic() - self._shown > 0.2:
            self._shown = time.monotonic()
            self._print()

    def _print(self) -> None:
        sys.stderr.write(f"\r{self.name}: {self.count} evaluations, least loss {self.least:.6g}")
        sys.stderr.flush()

    def done(self) -> None:
        """End the line."""
        if self.verbose:
            self._print()
            sys.stderr.write("\n")
