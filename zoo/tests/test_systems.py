"""All systems: each one's tiny run, its page, and what it may import."""

import ast
import contextlib
import dataclasses
import io
import json
import re
from pathlib import Path

import jax
import pytest
from outputs import assert_drawn, assert_fits, performed

from dini_zoo.kit import pages, registry
from dini_zoo.kit.results import plain

SYSTEMS = registry.systems()
ZOO = registry.ROOT
SOURCES = sorted(ZOO.rglob("*.py"))

each_system = pytest.mark.parametrize("entry", SYSTEMS, ids=lambda entry: entry.name)
#: what is compiled anew for each system: by default for one of each field, of those that take the least; for none of a
#: field where the least is more than eight seconds
COSTLY = ("bilevel", "reinforcement")
LEAST = ("continuous-speculative-decoding", "difftactile", "fractional-sde", "optimistic-omd", "svdd")
FIRST = {entry.field: entry for entry in sorted(reversed(SYSTEMS), key=lambda entry: entry.name in LEAST)}.values()
one_of_each_field = pytest.mark.parametrize(
    "entry",
    [
        pytest.param(
            entry, id=entry.name, marks=[] if entry in FIRST and entry.field not in COSTLY else [pytest.mark.thorough]
        )
        for entry in SYSTEMS
    ],
)


def loaded(entry):
    """The experiment of a system."""
    if entry.extra in (optional := {"survival": "sksurv", "topology": "multipers"}):
        module = optional[entry.extra]
        pytest.importorskip(module, reason=f"{module}, which {entry.name} needs, has no build for this platform")
    return entry.load()


def figures(result):
    """A result without its times, to be compared with another."""
    return plain(result, times=False)


@one_of_each_field
def test_the_tiny_run(entry):
    experiment = loaded(entry)
    done = performed(entry.name, experiment, experiment.settings.tiny())
    record = done.record
    assert record.tables
    assert record.verdict.checks
    assert 0 < len(record.headline) <= 160
    assert "\n" not in record.headline
    assert_fits([*record.tables, record.verdict.table()])
    json.dumps(record.json(), allow_nan=False)
    assert_drawn(experiment.draw(done.result))


@pytest.mark.slow
@each_system
def test_the_same_seed_gives_the_same_figures(entry):
    experiment = loaded(entry)
    one, other = (performed(entry.name, experiment, experiment.settings.tiny()).result for _ in range(2))
    assert figures(one) == figures(other)


@each_system
def test_the_settings_are_options(entry):
    settings = loaded(entry).settings
    assert dataclasses.is_dataclass(settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.tiny().anything = 0


@one_of_each_field
def test_the_example_of_the_page_runs(entry):
    loaded(entry)
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", entry.page, re.DOTALL | re.MULTILINE))
    expected = re.findall(r"# ->[ ]?(.*)$", code, re.MULTILINE)
    assert expected, "the page has no example that prints something"
    console = io.StringIO()
    with contextlib.redirect_stdout(console), jax.enable_x64(False):
        exec(compile(code, str(entry.folder / registry.PAGE), "exec"), {"__name__": "page"})
    assert console.getvalue().split() == " ".join(expected).split()


@each_system
def test_the_results_are_those_of_the_settings(entry):
    """What is on the pages was made with the settings that a user gets."""
    found = pages.results(entry)
    if found is None:
        pytest.skip("not run yet")
    # a setting that came later had its default's effect before
    now = plain(loaded(entry).settings())
    assert found["settings"] == {name: now.get(name) for name in found["settings"]}
    assert not found["other_settings"]
    assert pages.picture(entry).stat().st_size <= 150_000


def test_the_pages_are_as_the_results_are():
    assert pages.outdated() == [], "`dini pages` makes them anew"


def imports(path):
    """The modules that a file imports, as dotted names, wherever in it."""
    package = ("dini_zoo", *path.relative_to(ZOO).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            whole = ".".join((*base, *((node.module or "").split(".") if node.module else ())))
            yield whole
            # a name may be a module
            yield from (f"{whole}.{alias.name}" for alias in node.names)


def module(path):
    parts = path.relative_to(ZOO).with_suffix("").parts
    return ".".join(("dini_zoo", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module(path): path for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ZOO)))
def test_a_system_imports_the_kit_its_fields_and_dini_alone(path):
    parts = path.relative_to(ZOO).parts
    used = {entry.folder: entry.uses for entry in SYSTEMS}.get(ZOO.joinpath(*parts[:2]))
    for name in imports(path):
        if not name.startswith("dini_zoo.") or name not in MODULES:
            continue
        target = name.split(".")[1:]
        if target[0] == "kit":
            continue
        assert parts[0] != "kit", f"the kit knows no field: {name}"
        assert target[0] in (parts[0], used), f"{name} is of another field"
        system = (ZOO / target[0] / target[1] / registry.ABOUT).exists() if len(target) > 1 else False
        assert not system or target[1] == parts[1], f"{name} is of another system"


def test_imports_make_no_circle():
    graph = {
        name: {found for found in imports(path) if found in MODULES and found != name} for name, path in MODULES.items()
    }
    # a package knows its modules, not the other way round
    graph = {name: {one for one in found if not name.startswith(f"{one}.")} for name, found in graph.items()}
    while graph:
        free = {name for name, needs in graph.items() if not needs & graph.keys()}
        assert free, f"these import one another: {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in free}


def test_files_are_of_a_size_to_read():
    for path in (*SOURCES, *Path(__file__).parent.rglob("*.py")):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 550, path
