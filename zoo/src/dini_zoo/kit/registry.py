"""Finding the systems: every package of a field's folder that has an `about.toml` is one.

Nothing is registered anywhere else, and finding them imports none of them.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .experiment import Experiment

#: The folder of the fields.
ROOT = Path(__file__).parents[1]

ABOUT, INTRODUCTION, PAGE = "about.toml", "field.md", "page.md"


class UnknownSystemError(LookupError):
    """No system has the name that was asked for."""


class BrokenSystemError(ValueError):
    """What a system says about itself is not complete."""


class MissingExtraError(ImportError):
    """What a system needs is not installed."""


@dataclass(frozen=True)
class Entry:
    """What a system says about itself in its `about.toml`, and where it is."""

    name: str
    """What a user types: lower case, words joined by hyphens."""
    title: str
    """The head of its page."""
    summary: str
    """One line that says what the experiment shows."""
    paper: str
    """Authors, short title and year."""
    folder: Path
    extra: str = ""
    """The extra of the distribution `dini-zoo` that it needs."""
    uses: str = ""
    """Another field whose modules it imports, such as its processes and data: never that field's systems."""

    @property
    def field(self) -> str:
        """The folder's name of its field."""
        return self.folder.parent.name

    @property
    def package(self) -> str:
        """Its dotted name."""
        return f"{__package__.rpartition('.')[0]}.{self.field}.{self.folder.name}"

    @property
    def page(self) -> str:
        """Markdown: the method, with an example, for its page."""
        return (self.folder / PAGE).read_text(encoding="utf-8")

    def load(self) -> Experiment:
        """Import its experiment. Raises `MissingExtraError` where something that it needs is not installed."""
        try:
            return importlib.import_module(f"{self.package}.experiment").experiment
        except ModuleNotFoundError as error:
            if not self.extra or (error.name or "").startswith("dini"):
                raise
            raise MissingExtraError(
                f"{self.name} needs {error.name}, which is not installed: `pip install 'dini-zoo[{self.extra}]'`."
            ) from error

    def source(self) -> str:
        """A digest of the code that its figures come from: its own, its fields', the kit's and dini's."""
        from importlib.util import find_spec

        library = find_spec("dini")
        assert library is not None
        assert library.origin is not None
        found = hashlib.sha256()
        fields = (self.folder.parent, *([ROOT / self.uses] if self.uses else []))
        modules = (path for folder in fields for path in sorted(folder.glob("*.py")))
        folders = (self.folder, ROOT / "kit", Path(library.origin).parent)
        for path in (*modules, *(path for folder in folders for path in sorted(folder.rglob("*.py")))):
            found.update(path.read_bytes())
        return found.hexdigest()


@dataclass(frozen=True)
class Field:
    """A field: a folder with a page's beginning in `field.md`, and systems."""

    name: str
    systems: tuple[Entry, ...]
    introduction: str
    """Markdown: a heading and what the field is about."""

    @property
    def title(self) -> str:
        """The first line of the introduction."""
        return self.introduction.partition("\n")[0].removeprefix("#").strip()


def _entry(path: Path) -> Entry:
    try:
        described = tomllib.loads(path.read_text(encoding="utf-8"))
        return Entry(**described, folder=path.parent)
    except (TypeError, tomllib.TOMLDecodeError) as error:
        raise BrokenSystemError(
            f"{path} must give `name`, `title`, `summary` and `paper` (`extra` and `uses` if there are such): {error}"
        ) from error


@functools.cache
def fields(root: Path = ROOT) -> tuple[Field, ...]:
    """All fields with their systems, in order of their names."""
    found = []
    for introduction in sorted(root.glob(f"*/{INTRODUCTION}")):
        entries = sorted(map(_entry, introduction.parent.glob(f"*/{ABOUT}")), key=lambda entry: entry.name)
        text = introduction.read_text(encoding="utf-8")
        found.append(Field(introduction.parent.name, tuple(entries), text))
    return tuple(found)


def systems() -> tuple[Entry, ...]:
    """All systems, field by field."""
    return tuple(entry for field in fields() for entry in field.systems)


def find(name: str) -> Entry:
    """The system of that name. Raises `UnknownSystemError`, which names those that come near."""
    entries = {entry.name: entry for entry in systems()}
    if name in entries:
        return entries[name]
    near = _near(name, list(entries))
    suggestion = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise UnknownSystemError(f"No system is called {name!r}.{suggestion} `dini list` shows all of them.")


def _near(name: str, names: Sequence[str]) -> list[str]:
    """At most three names that `name` is a misspelling or a part of."""
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    containing = [known for known in names if len(wanted) > 1 and wanted in known]
    similar = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    return list(dict.fromkeys(containing + similar))[:3]
