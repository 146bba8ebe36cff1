"""What a run found, as plain data, and as JSON: settings, versions, tables, figures beside their references."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .tables import Check, Table, Verdict

#: What figures depend on, beside the zoo itself.
PACKAGES = ("dini", "dini-zoo", "jax", "equinox", "optax", "numpy", "scikit-learn")

#: Fields of a result that differ from run to run though the seed is the same.
TIMES = frozenset({"seconds", "times", "compile_seconds"})


def plain(value: Any, *, times: bool = True) -> Any:
    """Dictionaries, lists, strings and numbers for a value made of dataclasses, named tuples, containers and arrays.

    With `times=False` what is called `seconds`, `times` or `compile_seconds` is left out: the rest of two runs with the
    same seed is the same.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        pairs = value._asdict()
    elif isinstance(value, Mapping):
        pairs = {str(key): one for key, one in value.items()}
    elif isinstance(value, Sequence | set | frozenset):
        return [plain(one, times=times) for one in value]
    elif hasattr(value, "__array__"):
        return plain(np.asarray(value).tolist(), times=times)
    elif callable(value):
        return getattr(value, "__name__", type(value).__name__)
    else:
        return repr(value)
    return {name: plain(one, times=times) for name, one in pairs.items() if times or name not in TIMES}


def differing(settings: Any) -> dict[str, str]:
    """The settings that are not the default ones, as text. Seeds are not among them: bars hold for any."""
    ours, usual = plain(settings), plain(type(settings)())
    return {
        name: _short(value)
        for name, value in ours.items()
        if value != usual[name] and name not in ("seed", "seeds", "data_seed")
    }


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 40 else f"{text[:37]}..."


def versions() -> dict[str, str]:
    """The versions of what figures depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        found[name] = importlib.metadata.version(name)
    return found


@dataclass(frozen=True)
class Record:
    """A run's results, without its arrays."""

    name: str
    headline: str
    """The one figure that matters, in a sentence."""
    settings: dict[str, Any]
    verdict: Verdict
    tables: Sequence[Table]
    phases: dict[str, float]
    """What each took, in seconds, with what its remembered parts took when they were made."""
    seconds: float
    """What all of it took, counted alike."""
    remembered: dict[str, float]
    """What of it was remembered from earlier runs, by phase."""
    versions: dict[str, str]

    def json(self) -> dict[str, Any]:
        """The record for a file."""
        found = {
            "name": self.name,
            "headline": self.headline,
            "settings": self.settings,
            "figures": [_figure(check) for check in self.verdict.checks],
            "other_settings": self.verdict.others,
            "tables": plain(self.tables),
            "phases": {name: round(seconds, 2) for name, seconds in self.phases.items()},
            "seconds": round(self.seconds, 1),
            "remembered": {name: round(seconds, 2) for name, seconds in self.remembered.items()},
            "versions": self.versions,
        }
        return plain(found)

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        path.write_text(json.dumps(self.json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _figure(check: Check) -> dict[str, Any]:
    ours, reference, paper, bar = check.cells
    return {
        "quantity": check.quantity,
        "value": check.ours,
        "ours": ours,
        "reference": reference,
        "paper": paper,
        "bar": bar,
        "verdict": check.verdict,
    }
