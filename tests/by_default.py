"""Which tests, and which cases of a parametrized test, the default run takes: the others are `thorough`.

`tests/costly.txt` lists tests that a newcomer need not wait for. Of the others,
`@pytest.mark.by_default(...)` on a test (or as a module's `pytestmark`) says which cases are taken:

- `"each"`: so few cases that every value of every parameter is in one of them,
- `"pairs"`: so few that every two values of two parameters meet in one of them,
- `"once"`: of all tests of a module that have this mark together, so few that each test, and each value of each
  parameter, is in one,
- a number: so many, the first ones,
- names: the cases of these ids; `without=[...]`: all but the cases of these ids.

`--thorough-part K/N` takes one of N parts of the thorough tests, those of the files that K modulo N selects. All of
them take too long for the check of a change: `.ci/run` takes another part every week. `--thorough-minutes M`
skips those that come later than `M` minutes after the start, so that a slow machine ends in time; their number is in
the summary.
"""

import itertools
import time
import zlib
from pathlib import Path

import pytest

#: names of tests, each behind the seconds of CPU that it took when it was listed
LIST = Path(__file__).with_name("costly.txt")


def listed(path=LIST):
    """Return the names of the list, each with the seconds beside it, as text."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: seconds for seconds, name in (line.split(maxsplit=1) for line in lines if not line.startswith("#"))}


def test_of(item):
    """Return the name of the test of which an item is a case."""
    return item.nodeid.split("[")[0]


def but(names, costly):
    """Return names as cases of a test, of which the costly ones are thorough: in all tests of a file the same ones.

    Tests of one thing share its programs, so that it costs most of what it costs as soon as one of them runs.
    """
    return [pytest.param(name, id=name, marks=[pytest.mark.thorough] if name in costly else []) for name in names]


def covering(cells, strength):
    """Return the places of cells that hold every combination of `strength` parameters' values that there is.

    `cells` are tuples of values' places.
    """
    return fewest([set(itertools.combinations(enumerate(cell), min(strength, len(cell)))) for cell in cells])


def fewest(held):
    """Return the places of few sets whose union is that of all. Greedy, and the first of several that are as good."""
    missing, chosen = set().union(*held), []
    while missing:
        best = max(range(len(held)), key=lambda at: len(held[at] & missing))
        missing -= held[best]
        chosen.append(best)
    return sorted(chosen)


def chosen(items, mark, whole):
    """Return those of one test's cases that are run by default; of what is named, all must exist in a `whole` test."""
    kept, without = mark.args, mark.kwargs.get("without", ())
    if kept == ("once",):
        values = lambda item: {(name, id(value)) for name, value in item.callspec.params.items()}
        return [items[at] for at in fewest([{test_of(item)} | values(item) for item in items])]
    if kept in (("each",), ("pairs",)):
        # a value is one object in all cases that have it
        cells = [tuple(map(id, item.callspec.params.values())) for item in items]
        return [items[at] for at in covering(cells, 1 if kept == ("each",) else 2)]
    if len(kept) == 1 and isinstance(kept[0], int):
        return items[: kept[0]]
    known = [item.callspec.id for item in items]
    unknown = sorted({*kept, *without} - set(known))
    if (whole and unknown) or bool(kept) == bool(without):
        raise pytest.UsageError(
            f'by_default of {items[0].nodeid.split("[")[0]} takes "each", "pairs", a number, or names, or `without` '
            f"names, of these: {known}. Given {mark.args} and {mark.kwargs}, where unknown are {unknown}."
        )
    return [item for item, name in zip(items, known, strict=True) if (name in kept if kept else name not in without)]


def part(text):
    """Return the numbers `K`, `N` of `K/N`."""
    try:
        which, of = map(int, text.split("/"))
    except ValueError:
        which, of = 0, 0
    if which < 0 or of < 1:
        raise pytest.UsageError(f"--thorough-part takes K/N, as in 0/3, with K from 0 and N from 1. Given {text!r}.")
    return which % of, of


def within(item, which, of):
    """Return whether a test's file is in a part: tests of a file share programs, so they are in the same one."""
    return zlib.crc32(item.nodeid.split("::")[0].encode()) % of == which


def pytest_addoption(parser):
    parser.addoption("--thorough-part", default="0/1", metavar="K/N", help="run one of N parts of the thorough tests")
    parser.addoption("--thorough-minutes", type=float, metavar="M", help="begin no thorough test after M minutes")


_BEGAN = pytest.StashKey[float]()
_LATE = "a thorough test, later than --thorough-minutes"


def pytest_configure(config):
    config.stash[_BEGAN] = time.monotonic()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    minutes = item.config.getoption("--thorough-minutes")
    late = minutes is not None and time.monotonic() - item.config.stash[_BEGAN] > 60 * minutes
    if late and item.get_closest_marker("thorough"):
        pytest.skip(_LATE)


def pytest_terminal_summary(terminalreporter):
    late = sum(_LATE in str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    if late:
        terminalreporter.line(f"{late} thorough tests were not begun: the time of --thorough-minutes was over")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    costly, tests = listed(), {}
    for item in items:
        if test_of(item) in costly:
            item.add_marker("thorough")
        mark = item.get_closest_marker("by_default")
        marked = item.get_closest_marker("slow") or item.get_closest_marker("thorough")
        if mark is not None and hasattr(item, "callspec") and not marked:
            of = item.path if mark.args == ("once",) else test_of(item)
            tests.setdefault(of, (mark, []))[1].append(item)
    # of a test whose cases are asked for one by one, each is there that is named
    whole = not any("[" in argument for argument in config.args)
    for mark, cases in tests.values():
        default = set(map(id, chosen(cases, mark, whole)))
        for item in cases:
            if id(item) not in default:
                item.add_marker("thorough")
    which, of = part(config.getoption("--thorough-part"))
    left = [item for item in items if item.get_closest_marker("thorough") and not within(item, which, of)]
    if left:
        config.hook.pytest_deselected(items=left)
        out = set(map(id, left))
        items[:] = [item for item in items if id(item) not in out]
