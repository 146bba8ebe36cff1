"""Enforces annotations of shapes in modules of fields, by one line in `dini_zoo/__init__.py`.

`FIELDS` are those whose tests have passed with it. `DINI_ZOO_CHECKS=all` takes the others, too: what their tests then
say is an annotation to be mended, and the field belongs into the list. With `DINI_ZOO_CHECKS=0` in the environment
functions are as they were written. What is enforced is in `enforcing.py`, which is imported with the first field.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import types
from typing import Any

#: The environment's variable that switches it off, with the value 0, or on in all fields, with the value `all`.
VARIABLE = "DINI_ZOO_CHECKS"
FIELDS = (
    "bilevel",
    "diffusion",
    "equations",
    "generative",
    "implicit",
    "inference",
    "optimizers",
    "physics",
    "privacy",
    "reinforcement",
    "topology",
)
#: Modules of experiments.
LEFT_OUT = ("experiment", "study", "report", "picture")


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module, and enforces its annotations."""

    def exec_module(self, module: types.ModuleType) -> None:
        from .enforcing import enforce

        super().exec_module(module)
        enforce(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules of the fields."""

    def __init__(self, package: str):
        self.package = package

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """A module's specification with the loader that enforces; `None` for those of others."""
        parts = fullname.split(".")
        if parts[0] != self.package or len(parts) < 3 or parts[1] == "kit" or parts[-1] in LEFT_OUT:
            return None
        if parts[1] not in FIELDS and os.environ.get(VARIABLE) != "all":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def install(package: str) -> None:
    """Enforce the annotations of all modules of a package that are imported from now on."""
    if os.environ.get(VARIABLE, "1") != "0":
        sys.meta_path.insert(0, _Finder(package))
