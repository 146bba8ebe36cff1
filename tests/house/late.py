"""The tables by which names of packages are imported late.

    python tests/house/late.py

writes them anew from the imports that stand above them for type checkers; `test_import.py` holds both to each other.
"""

import ast
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
BEGIN, END = "_LATE = {\n", "}\n"

#: the packages that have one
FILES = sorted(
    path
    for folder in ("src/dini", "learn/src/dini_learn")
    for path in (ROOT / folder).rglob("__init__.py")
    if BEGIN in path.read_text(encoding="utf-8")
)


def _for_type_checkers(tree):
    """Return the imports that only a type checker sees."""
    blocks = [
        node for node in tree.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    return [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]


def names(text: str) -> dict[str, list[str]]:
    """Return the names that are imported from each module, as it is written there; "." has modules themselves."""
    found: dict[str, list[str]] = {}
    for node in _for_type_checkers(ast.parse(text)):
        found.setdefault("." * node.level + (node.module or ""), []).extend(
            alias.asname or alias.name for alias in node.names
        )
    return found


def table(text: str) -> str:
    """Return the table of a file, from its imports."""
    rows = []
    for module, found in names(text).items():
        if module == ".":
            continue
        together = f'    "{module}": "{" ".join(found)}",\n'
        lines = textwrap.wrap(" ".join(found), 109)
        lines = [f'"{line} "' for line in lines[:-1]] + [f'"{lines[-1]}"']
        if len(together) <= 121:
            rows.append(together)
        else:
            rows.append(f'    "{module}": (\n' + "".join(f"        {line}\n" for line in lines) + "    ),\n")
    return "".join(rows)


def renewed(text: str) -> str:
    """Return a file with its table made anew."""
    before, rest = text.split(BEGIN)
    lines = rest.splitlines(keepends=True)
    return before + BEGIN + table(text) + "".join(lines[lines.index(END) :])


if __name__ == "__main__":
    for path in FILES:
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
