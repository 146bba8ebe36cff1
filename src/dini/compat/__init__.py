"""Other libraries' names for dini, where the distributions that have them are installed."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["jaxopt"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
