"""The default run: which cases of a test it takes, and what a test may cost."""

import itertools

import pytest
from by_default import covering

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


SPIN = """
import pytest, time

def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def test_cheap(): pass
def test_dear(): spin(0.15)
def test_too_dear(): spin(0.4)
@pytest.mark.may_cost(5)
def test_allowed(): spin(0.4)
@pytest.mark.thorough
def test_thorough(): spin(0.4)
"""


def test_what_a_test_may_cost(run, monkeypatch):
    monkeypatch.setattr("budget.DEAR", 0.1)
    monkeypatch.setattr("budget.TOO_DEAR", 0.3)
    monkeypatch.delenv("DINI_TEST_OPTIMIZED", raising=False)
    result = run(SPIN)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*test_too_dear took 0.* s of CPU*", "3 tests, together *", "*test_dear"])
    assert "test_thorough" not in str(result.stdout)
    monkeypatch.setenv("DINI_TEST_OPTIMIZED", "1")
    run(SPIN).assert_outcomes(passed=5)
