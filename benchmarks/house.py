"""How large and how entangled the code is: lines, selects, constants, long and branching functions, steps of solvers.

    python benchmarks/house.py [--folder src/dini] [--longest 10]

Counted are the lines with code on them: no docstrings, comments or blank lines. Selects are calls of `jnp.where`. A
constant is a number in capitals at the top of a module, or several at once. Complexity is McCabe's, as ruff counts it.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import pathlib
import shutil
import subprocess
import tokenize
from collections.abc import Iterator

LONG, BRANCHING, STEP = 60, 10, 40
#: tokens that are no code
_BLANK = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)

type Function = ast.FunctionDef | ast.AsyncFunctionDef


def lines_of_code(text: str) -> set[int]:
    """Return the numbers of the lines with code on them."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        # docstrings, of attributes as well
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documented |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _BLANK:
            found |= set(range(token.start[0], token.end[0] + 1))
    return found - documented


def functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Yield all functions with their names, of methods with those of their classes."""

    def under(node: ast.AST, above: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            inside = above
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inside = f"{above}{child.name}."
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield inside[:-1], child
            yield from under(child, inside)

    return under(tree, "")


def constants(tree: ast.Module) -> int:
    """Return how many numbers in capitals stand at the top of a module."""
    total = 0
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        names = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets
        values = node.value.elts if isinstance(node.value, ast.Tuple) and len(names) > 1 else [node.value]
        for name, value in zip(names, values, strict=False):
            numbers = [part for part in ast.walk(value) if isinstance(part, ast.Constant)]
            plain = numbers and all(isinstance(part.value, int | float) for part in numbers)
            total += isinstance(name, ast.Name) and name.id.lstrip("_").isupper() and bool(plain)
    return total


def selects(tree: ast.Module) -> int:
    """Return how many calls of `jnp.where` there are."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return sum(ast.unparse(call) == "jnp.where" for call in calls)


def branching(folder: pathlib.Path) -> int:
    """Return how many functions ruff finds to be more complex than `BRANCHING`."""
    ruff = shutil.which("ruff")
    if ruff is None:
        raise SystemExit("ruff is not installed: uv sync")
    how = ["--isolated", "--select", "C901", "--config", f"lint.mccabe.max-complexity={BRANCHING}"]
    told = subprocess.run(
        [ruff, "check", *how, "--output-format", "json", str(folder)], capture_output=True, text=True, check=False
    )
    return len(json.loads(told.stdout))


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("src/dini"))
    parser.add_argument("--longest", type=int, default=10, help="how many of the longest functions to name")
    given = parser.parse_args()
    totals = dict.fromkeys(("files", "lines", "lines of code", "selects", "constants", "constants in solvers"), 0)
    lengths: list[tuple[int, str]] = []
    for path in sorted(given.folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        tree, code = ast.parse(text), lines_of_code(text)
        found = constants(tree)
        totals["files"] += 1
        totals["lines"] += text.count("\n")
        totals["lines of code"] += len(code)
        totals["selects"] += selects(tree)
        totals["constants"] += found
        totals["constants in solvers"] += found * ("solvers" in path.parts)
        for name, node in functions(tree):
            inside = set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            lengths.append((len(code & inside), f"{path.relative_to(given.folder)}: {name}"))
    steps = [each for each in lengths if each[1].split(".")[-1] == "step" and "solvers" in each[1]]
    totals[f"functions above {LONG} lines of code"] = sum(length > LONG for length, _ in lengths)
    totals[f"functions of complexity above {BRANCHING}"] = branching(given.folder)
    totals[f"steps of solvers above {STEP} lines of code"] = sum(length > STEP for length, _ in steps)
    for name, count in totals.items():
        print(f"{count:7,d}  {name}")
    for title, group in (("longest functions", lengths), ("longest steps", steps)):
        print(f"\n{title}")
        for length, name in sorted(group, reverse=True)[: given.longest]:
            print(f"{length:7d}  {name}")


if __name__ == "__main__":
    main()
