"""The skeleton of a new system: code, tests and page, which run and pass the tests as they are."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from . import pages, registry

SKELETON = Path(__file__).parent / "skeleton"
TESTS = pages.CHECKOUT / "zoo" / "tests"


def lay_out(name: str, field: str, *, root: Path | None = None, tests: Path | None = None) -> list[Path]:
    """Write the files of a system, and of its field if that is new. Returns their paths.

    Raises `ValueError` for a name that is taken or badly formed, and where there is no checkout.
    """
    if root is None and not pages.README.exists():
        raise ValueError("A system is laid out in a checkout: `uv run dini new` in one, not where dini is installed.")
    root, tests = root or registry.ROOT, tests or TESTS
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ValueError(f"A system's name is of lower case words joined by hyphens: given {name!r}.")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", field) or field == "kit":
        raise ValueError(f"A field's name is that of a Python package other than `kit`: given {field!r}.")
    known = {entry.name for one in registry.fields(root) for entry in one.systems} | {one for one in ("all",)}
    known |= {one.name for one in registry.fields(root)}
    if name in known:
        raise ValueError(f"The name {name!r} is taken.")
    package = name.replace("-", "_")
    folder = root / field / package
    if folder.exists():
        raise ValueError(f"The folder {folder} is there already.")
    words = {
        "name": name,
        "package": package,
        "field": field,
        "title": name.replace("-", " ").capitalize(),
        "field_title": field.replace("_", " ").capitalize(),
    }
    planned = {folder / path.stem: path for path in sorted(SKELETON.glob("system/*.txt"))}
    planned |= {tests / field / f"test_{package}.py": SKELETON / "test.txt"}
    if not (root / field / registry.INTRODUCTION).exists():
        planned |= {root / field / path.stem: path for path in sorted(SKELETON.glob("field/*.txt"))}
    for path, template in planned.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(template.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
    registry.fields.cache_clear()
    if root == registry.ROOT:
        pages.write()
    return list(planned)
