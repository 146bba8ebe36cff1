"""The default run: which tests and cases it takes, and what they cost."""

import ast
import itertools
from pathlib import Path

import pytest
from budget import add_to_list
from by_default import covering, listed

ROOT = Path(__file__).parents[2]

KEPT = {
    '"each"': {"x-1", "y-2", "x-3"},
    '"pairs"': {"x-1", "x-2", "x-3", "y-1", "y-2", "y-3"},
    "2": {"x-1", "x-2"},
    '"y-2"': {"y-2"},
    'without=["y-2", "x-1"]': {"x-2", "x-3", "y-1", "y-3"},
}
TEST = """
import pytest

@pytest.mark.by_default({how})
@pytest.mark.parametrize("a", [1, 2, 3])
@pytest.mark.parametrize("b", ["x", "y"])
def test_{number}(a, b):
    pass
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run the tests of a text with the two plugins, in this process; the second value is what is printed."""

    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(text, *options):
        pytester.makepyfile(text)
        pytester.makeini("[pytest]\nmarkers =\n  slow\n  thorough\n  by_default\n  may_cost\n")
        return pytester.runpytest_inprocess("-p", "by_default", "-p", "budget", "-q", *options)

    return run


def test_a_covering_holds_every_pair_and_is_small():
    cells = list(itertools.product(range(5), range(4), range(3), range(2)))
    for strength, most in ((1, 5), (2, 25)):
        held = lambda cell, strength=strength: set(itertools.combinations(enumerate(cell), strength))
        chosen = covering(cells, strength)
        assert set().union(*map(held, cells)) == set().union(*(held(cells[at]) for at in chosen))
        assert len(chosen) <= most
        assert chosen == covering(cells, strength)


def test_the_cases_of_the_default_run(run):
    text = "".join(TEST.format(how=how, number=number) for number, how in enumerate(KEPT))
    names = {f"test_{number}[{name}]" for number, kept in enumerate(KEPT.values()) for name in kept}
    lines = run(text, "-m", "not thorough", "--collect-only").outlines
    assert {line.split("::")[1] for line in lines if "::" in line} == names
    run(text, "-m", "thorough").assert_outcomes(passed=6 * len(KEPT) - len(names), deselected=len(names))


def test_names_that_are_no_cases(run):
    result = run(TEST.format(how='"x-4"', number=0))
    result.stderr.fnmatch_lines(['*takes "each", "pairs", *of these: *\'y-3\'*unknown are *x-4*'])


def test_parts_of_the_thorough_tests(pytester, run):
    """Each part has all default tests, and each thorough one is in one part."""
    one = "import pytest\n\ndef test_a():\n    pass\n\n@pytest.mark.thorough\ndef test_b():\n    pass\n"
    pytester.makepyfile(**{f"test_{name}": one for name in "cdefghij"})
    lists = [run("", "--collect-only", "--thorough-part", f"{k}/3").outlines for k in (49, 50, 51)]
    found = [[line for line in lines if "::" in line] for lines in lists]
    assert all(sum("test_a" in line for line in lines) == 8 for lines in found)
    assert sorted(line for lines in found for line in lines if "test_b" in line) == sorted(
        f"test_{name}.py::test_b" for name in "cdefghij"
    )
    assert sum(bool([line for line in lines if "test_b" in line]) for lines in found) > 1
    for wrong in ("3", "1/0", "-1/3", "a/b"):
        run("", f"--thorough-part={wrong}").stderr.fnmatch_lines(["*--thorough-part takes K/N*"])


def test_thorough_tests_that_come_too_late(run):
    one = "import pytest\n\ndef test_a():\n    pass\n\n@pytest.mark.thorough\ndef test_b():\n    pass\n"
    result = run(one, "--thorough-minutes=-1")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["1 thorough tests were not begun*"])
    # this run is timed from its own start, however late it comes in the run of all tests
    run(one, "--thorough-minutes=0.5").assert_outcomes(passed=2)


def test_each_test_and_each_value_once(run):
    text = """
import pytest

pytestmark = pytest.mark.by_default("once")
numbers = pytest.mark.parametrize("number", [1, 2, 3])

@numbers
def test_one(number): pass
@numbers
def test_two(number): pass
@pytest.mark.by_default(2)
@numbers
def test_three(number): pass
def test_four(): pass
"""
    lines = run(text, "-m", "not thorough", "--collect-only").outlines
    taken = [line.split("::")[1] for line in lines if "::" in line]
    assert taken == ["test_one[1]", "test_one[3]", "test_two[2]", "test_three[1]", "test_three[2]", "test_four"]


def functions(path):
    """The tests of a file, and of these the ones without a mark that they are not in the default run."""
    tests = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    waits = lambda test: {"pytest.mark.slow", "pytest.mark.thorough"} & set(map(ast.unparse, test.decorator_list))
    return {test.name for test in tests}, {test.name for test in tests if not waits(test)}


def test_the_list_names_tests_and_leaves_some_of_each_file():
    """A test that has another name now, or is gone, is listed no more; of every file something is tested by default."""
    names = set()
    for path in sorted([*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("*/tests/**/test_*.py")]):
        name_of = lambda test, path=path: f"{path.relative_to(ROOT).as_posix()}::{test}"
        tests, by_default = (set(map(name_of, found)) for found in functions(path))
        names |= tests
        assert by_default - listed().keys() or not by_default, f"{path.name}: all its tests are thorough"
    unknown = sorted(name for name in listed() if name not in names)
    assert not unknown, "these are no tests: take them off tests/costly.txt, or correct their names"


SPIN = """
import pytest, time

def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def test_cheap(): pass
def test_costly(): spin(0.15)
def test_costlyer(): spin(0.4)
@pytest.mark.may_cost(5)
def test_known(): spin(0.4)
@pytest.mark.thorough
def test_thorough(): spin(0.4)
"""


def test_what_is_dear_is_listed_and_passes(run, monkeypatch):
    monkeypatch.setattr("budget.COSTLY", 0.1)
    result = run(SPIN)
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(
        [
            "*the default run: 4 tests",
            "*thorough and slow tests: 1 tests",
            "*2 of the default run*",
            "*test_costlyer",
            "*test_costly",
        ]
    )
    assert not {"test_known", "test_thorough"} & set(str(result.stdout).split("::"))


def test_what_is_dear_is_added_to_the_list(tmp_path):
    path = tmp_path / "costly.txt"
    path.write_text("# head\n   9.0  x.py::test_known\n")
    cost = {"x.py::test_costly[1]": 0.1, "x.py::test_costly[2]": 3.0, "x.py::test_cheap": 0.1, "y.py::test_all": 2.0}
    add_to_list({name: cost[name] for name in cost if cost[name] > 1}, cost, path)
    assert path.read_text() == "# head\n   3.0  x.py::test_costly\n   9.0  x.py::test_known\n"
    assert listed(path) == {"x.py::test_known": "9.0", "x.py::test_costly": "3.0"}
