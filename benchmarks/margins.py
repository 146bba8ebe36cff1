"""What each named number of the solvers buys: lanes that are right, wrong and failed, and steps, with it changed.

    python benchmarks/margins.py                               # all families, and results/margins.md
    python benchmarks/margins.py --families smooth --raw DIR   # some, into the raw folder
    python benchmarks/margins.py --only interior,splitting     # some numbers

A number is a constant in capitals at the top of a module of `src/dini/solvers`, or a tuple of them. Each is made larger
and smaller: four times; of a share between zero and one its odds, four times (0.9 becomes 0.97 and 0.69); of a number
between one and two its distance from one, four times; whole numbers twice; powers by 1.3. The families of problems are
those of `margin_families.py`, each one batch, judged by the truth.

A family is compiled once: while it is traced, the numbers are arguments of the compiled function, put under their names
into all modules that import them. So what is read is found as well. A number that has to be a Python number (a count of
rounds that are unrolled) is changed by tracing again; one that is only the default of a field is not reached.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import json
import math
import pathlib
import re
import sys
import tempfile
import time
import traceback
import warnings
from typing import Any

import report

report.one_core()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from margin_families import FAMILIES, Family  # noqa: E402

import dini  # noqa: E402

jax.config.update("jax_enable_x64", True)

FOLDER = pathlib.Path(dini.__file__).parent
#: by 1.3, since they are powers
POWERS = {
    "interior._interior_rules._POWER_MU",
    "interior._interior_modes._SWITCH_SLOPE",
    "interior._interior_modes._SWITCH_VIOLATION",
    "judge._margins.PROBE",
    "interior._second_look._LOOKS",
    "interior._second_look._TANGENT",
    "interior._scaled_cones._WORTH",
}
#: no margins, and why
LEFT_OUT = {
    "interior._interior_state.DESCEND": "names of modes",
    "interior._interior_state.CORRECT": "names of modes",
    "interior._interior_state.RESTORE": "names of modes",
    "interior._interior_state.POLISH": "names of modes",
    "_nelder_mead._FILL": "names of trials",
    "_nelder_mead._REFLECT": "names of trials",
    "_nelder_mead._EXPAND": "names of trials",
    "_nelder_mead._OUTSIDE": "names of trials",
    "_nelder_mead._INSIDE": "names of trials",
    "interior._filter.SIZE": "size of a buffer",
    "_newton_krylov._BLOCK": "size of a buffer",
    "_newton_krylov._LEAST": "size of a buffer",
    "_newton_krylov._MOST": "size of a buffer",
    "_newton_krylov._NUMBERS": "size of a buffer",
    "shared._definite.FEW": "size from which on one of two equal computations costs less",
    "_newton._WORTHWHILE": "size from which on one of two equal computations costs less",
    "_newton._FEW_COLORS": "size from which on one of two equal computations costs less",
    "_nonlinear_interior_point._WORTHWHILE": "size from which on one of two equal computations costs less",
    "shared._residual_solver._DENSE": "size from which on one of two equal computations costs less",
}
KINDS = ("right", "wrong", "failed")
#: steps that change by less than this share are the same
SAME = 0.01


@functools.cache
def numbers() -> dict[str, Any]:
    """Return the named numbers, by module and name."""
    found = {}
    for path in sorted((FOLDER / "solvers").rglob("*.py")):
        name = ".".join(path.relative_to(FOLDER / "solvers").with_suffix("").parts)
        module = importlib.import_module(f"dini.solvers.{name}".removesuffix(".__init__"))
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.Assign):
                continue
            target = node.targets[0]
            for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                if not isinstance(each, ast.Name) or not each.id.lstrip("_").isupper():
                    continue
                value = getattr(module, each.id)
                leaves = jax.tree.leaves(value)
                plain = isinstance(value, int | float | tuple) and leaves
                if plain and all(type(leaf) in (int, float) for leaf in leaves):
                    found[f"{name}.{each.id}"] = value
    return {key: value for key, value in found.items() if key not in LEFT_OUT}


@functools.cache
def places() -> dict[str, list[tuple[dict[str, Any], str]]]:
    """Return where each number is bound: its module, and those that import it by name."""
    found = {
        key: [(vars(sys.modules[f"dini.solvers.{key.rpartition('.')[0]}"]), key.split(".")[-1])] for key in numbers()
    }
    for module in [each for name, each in sys.modules.items() if name.split(".")[0] == "dini" and each.__file__]:
        for node in ast.walk(ast.parse(pathlib.Path(module.__file__).read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                package = module.__package__.split(".")[: len(module.__package__.split(".")) - node.level + 1]
                origin = ".".join([*package, *filter(None, [node.module])]).removeprefix("dini.solvers.")
                for alias in node.names:
                    if f"{origin}.{alias.name}" in found:
                        found[f"{origin}.{alias.name}"].append((vars(module), alias.asname or alias.name))
    return found


def bind(values: dict[str, Any]) -> None:
    """Give numbers other values, in all modules."""
    for key, value in values.items():
        for variables, name in places()[key]:
            variables[name] = value


def changed(key: str, value: Any, more: bool, far: bool = False) -> Any:
    """Return a larger or a smaller number, or one so far away that it says nothing any more."""
    if isinstance(value, tuple):
        return tuple(changed(key, each, more, far) for each in value)
    if isinstance(value, int):
        by = 32 if far else 2
        return max(1, by * value) if more else max(min(1, value), value // by)
    by = (2 if far else 1.3) if key in POWERS else 1e6 if far else 4.0
    by = by if more else 1 / by
    if key in POWERS:
        return value * by
    if 0 < value < 1:
        odds = value / (1 - value) * by
        return odds / (1 + odds)
    return 1 + (value - 1) * by if 1 <= value < 2 else value * by


class Measured:
    """A family in one precision, compiled with the numbers as arguments."""

    def __init__(self, family: Family, dtype: Any) -> None:
        self.family = family
        self.given = jax.tree.map(lambda v: jnp.asarray(v, dtype if v.dtype == float else v.dtype), family.lanes)
        #: what has to be a Python number
        self.plain: set[str] = set()
        self.compiled, self.read = self._made({})
        self.first = self._outputs({})
        self.kinds: list[str] = []
        self.kinds = self._judged(self.first)

    def _made(self, fixed: dict[str, Any]) -> tuple[Any, set[str]]:
        """Trace and compile, with some numbers as Python numbers that differ from their own."""

        def solved(margins: dict[str, Any], given: Any) -> Any:
            bind(margins)
            return jax.vmap(self.family.solve)(given)

        while True:
            free = {key: value for key, value in numbers().items() if key not in self.plain}
            jax.clear_caches()
            bind(fixed)
            try:
                traced = jax.jit(solved).trace(free, self.given)
            except (jax.errors.JAXTypeError, TypeError) as error:
                told = set(re.findall(r"margins\['([^']+)'\]", str(error))) or _named(error)
                if not told & set(free):
                    raise
                self.plain |= told
                continue
            finally:
                bind(numbers())
                jax.clear_caches()
            return traced.lower().compile(), _used(traced, free) | self.plain

    def _outputs(self, other: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what the compiled function gives for each lane, with another number (also for callbacks)."""
        bind(other)
        try:
            free = {key: value for key, value in (numbers() | other).items() if key not in self.plain}
            out = jax.tree.map(np.asarray, self.compiled(free, self.given))
        finally:
            bind(numbers())
        return [{key: value[i] for key, value in out.items()} for i in range(len(out["status"]))]

    def _judged(self, lanes: list[dict[str, Any]]) -> list[str]:
        kinds = []
        for i, (lane, before) in enumerate(zip(lanes, self.first, strict=True)):
            if self.kinds and all(np.array_equal(lane[key], before[key], equal_nan=True) for key in lane):
                kinds.append(self.kinds[i])
                continue
            out = {key: np.asarray(value, float) for key, value in lane.items()}
            kinds.append(self.family.judge(i, dini.Status(int(lane["status"])).name, out))
        return kinds

    def outcomes(self, other: dict[str, Any]) -> list[list[Any]]:
        """Return kind and steps of each lane, with other numbers."""
        lanes = self.first
        if set(other) & self.plain:
            kept, self.compiled = self.compiled, self._made(other)[0]
            lanes, self.compiled = self._outputs({}), kept
        elif other:
            lanes = self._outputs(other)
        return [[kind, int(lane["steps"])] for kind, lane in zip(self._judged(lanes), lanes, strict=True)]

    def changed(self, key: str, more: bool, far: bool) -> list[list[Any]]:
        """Return the outcomes with a number changed."""
        value = changed(key, numbers()[key], more, far)
        return self.outcomes({key: value} if value != numbers()[key] else {})


def _named(error: Exception) -> set[str]:
    """Return the numbers that stand in the line of the solvers where an error came from."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if "/dini/solvers/" in each.filename]
    words = set(re.findall(r"\w+", frames[-1].line or "")) if frames else set()
    return {key for key in numbers() if key.rpartition(".")[2] in words}


def _used(traced: Any, free: dict[str, Any]) -> set[str]:
    """Return which numbers the traced function reads; those of callbacks are not seen, and are taken for read."""
    jaxpr = traced.jaxpr.jaxpr
    read = {id(var) for eqn in jaxpr.eqns for var in eqn.invars}
    names = [key for key, value in sorted(free.items()) for _ in jax.tree.leaves(value)]
    used = {key for key, var in zip(names, jaxpr.invars, strict=False) if id(var) in read}
    called = "callback" in str(jaxpr)
    return used | {key for key in free if called and "_on_host" in key}


def measure(name: str, dtype: Any, only: list[str]) -> dict[str, Any]:
    """Return the outcomes of a family, as it is and with each number that it reads changed."""
    start = time.process_time()
    measured = Measured(FAMILIES[name](dtype), dtype)
    first = measured.outcomes({})
    print(
        name, np.dtype(dtype).name, counts(first), f"{time.process_time() - start:.0f} s", file=sys.stderr, flush=True
    )
    changes = {}
    for key in sorted(measured.read):
        if not only or any(part in key for part in only):
            found = [measured.changed(key, more, False) for more in (True, False)]
            if key not in measured.plain and all(_idle(first, new) for new in found):
                found += [measured.changed(key, more, True) for more in (True, False)]
            changes[key] = found
    told = f"{len(changes)} numbers, of these unrolled {len(measured.plain)}: {time.process_time() - start:.0f} s"
    print(name, np.dtype(dtype).name, told, file=sys.stderr, flush=True)
    return {"first": first, "changes": changes}


def counts(lanes: list[list[Any]]) -> list[int]:
    """Return how many lanes are right, wrong and failed."""
    return [sum(lane[0] == kind for lane in lanes) for kind in KINDS]


def _compared(pieces: list[tuple[list[Any], list[Any]]]) -> tuple[str, str, int, float]:
    """Return counts of some families, steps as a share, how many lanes change, and by what a family's steps do."""
    before = [lane for first, _ in pieces for lane in first]
    after = [lane for _, new in pieces for lane in new]
    logs = [[math.log((b[1] + 1) / (a[1] + 1)) for a, b in zip(*piece, strict=True)] for piece in pieces]
    share = math.exp(np.mean(np.concatenate(logs)))
    moved = sum(a[0] != b[0] for a, b in zip(before, after, strict=True))
    return "/".join(map(str, counts(after))), f"{share:.3f}", moved, max(abs(np.mean(each)) for each in logs)


def _idle(first: list[Any], new: list[Any]) -> bool:
    _, _, moved, most = _compared([(first, new)])
    return not moved and most < SAME


def _shown(value: Any) -> str:
    return ", ".join(f"{each:.4g}" for each in jax.tree.leaves(value))


def tables(raw: pathlib.Path) -> str:
    """Return the table of all families that are there."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(raw.glob("*.json"))}
    rows, idle, unread = [], [], []

    def row(key: str, those: list[Any], far: bool) -> list[str]:
        as_it_is = counts([lane for part in those for lane in part["first"]])
        cells = [f"`{key}`", _shown(numbers()[key]), str(len(those)), "/".join(map(str, as_it_is))]
        for i, more in enumerate((True, False)):
            pieces = [(part["first"], part["changes"][key][i + 2 * far]) for part in those]
            kinds, share, moved, _ = _compared(pieces)
            cells += [f"{_shown(changed(key, numbers()[key], more, far))}: {kinds}", share, str(moved)]
        return cells

    for key, value in numbers().items():
        those = [part for part in found.values() if key in part["changes"]]
        if not those:
            unread.append(f"`{key}` ({_shown(value)})")
            continue
        pieces = [(part["first"], new) for part in those for new in part["changes"][key][:2]]
        if all(_idle(*piece) for piece in pieces):
            idle.append((key, those))
        else:
            rows.append(row(key, those, False))
    still = [(key, [part for part in those if len(part["changes"][key]) == 4]) for key, those in idle]
    silent = [row(key, those, True) for key, those in still if those]
    unrolled = [f"`{key}` ({_shown(numbers()[key])})" for key, those in still if not those]
    header = ["number", "value", "families", "as it is", "larger", "steps", "moved", "smaller", "steps", "moved"]
    body = [f"Right/wrong/failed of all lanes of the families that read a number ({len(found)} families in all).\n"]
    body.append("Steps: geometric mean over lanes, as a share. Moved: lanes that change between these three.\n")
    body.append(report.table(header, rows))
    body.append(
        "\n## Numbers that buy nothing here\n\nNo lane moves, and the steps of each family change by less than 1 %."
    )
    body.append("So they are made larger and smaller a million times as well (whole numbers 32 times, powers twice).\n")
    body.append(report.table(header, silent))
    told = "; ".join(unrolled) or "none"
    body.append(f"\nNot measured with larger changes (Python numbers, or families run before there were such): {told}.")
    missing = sorted({name for name in FAMILIES if not any(name == each.rpartition(", ")[0] for each in found)})
    body.append(f"\nFamilies that were not run: {', '.join(missing) or 'none'}.")
    body.append(f"\nRead by no family that was run: {'; '.join(unread) or 'none'}.")
    reasons = sorted(set(LEFT_OUT.values()))
    body += [f"\nLeft out, {why}: {', '.join(f'`{k}`' for k, w in LEFT_OUT.items() if w == why)}." for why in reasons]
    body.append("\n## Families\n")
    lanes = [[f"{name}", *map(str, counts(part["first"])), str(len(part["changes"]))] for name, part in found.items()]
    body.append(report.table(["family", *KINDS, "numbers read"], lanes))
    return "\n".join(body)


def main() -> None:
    """Measure what is asked for, and write the table of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", default="", help="parts of their names, separated by commas")
    parser.add_argument("--only", default="", help="parts of the names of numbers, separated by commas")
    parser.add_argument("--precisions", default="float64,float32")
    parser.add_argument("--raw", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "dini-margins")
    parser.add_argument("--table", action="store_true", help="only make the table")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    args.raw.mkdir(parents=True, exist_ok=True)
    parts, only = args.families.split(","), list(filter(None, args.only.split(",")))
    for name in () if args.table else FAMILIES:
        if name in parts or any(part in name for part in parts if part not in FAMILIES):
            for precision in args.precisions.split(","):
                path = args.raw / f"{name}, {precision}.json"
                path.write_text(json.dumps(measure(name, np.dtype(precision).type, only)))
    if not args.only:
        title = "What each named number buys: lanes that are right, wrong and failed with it changed"
        report.write("margins", title, "python benchmarks/margins.py", tables(args.raw), "float64 and float32")
    else:
        print(tables(args.raw))


if __name__ == "__main__":
    main()
