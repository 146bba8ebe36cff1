"""What tests cost: seconds of CPU, of this process and of those that it started. A list, by which nothing ever fails.

Wall time says little where other programs run, and CPU time is that of a machine: a limit would fail on a slower one.

`--list-costly` adds the tests that it names at the end to `tests/costly.txt`, by which they are thorough from then on.
`@pytest.mark.may_cost(seconds)` keeps a costly test in the default run, where nothing cheaper tests that thing.
"""

import os

import pytest
from by_default import LIST, listed

#: beyond this a test of the default run is costly
COSTLY = 1.0
#: so many of them
_LISTED = 20
#: the stages, in words
_STAGES = {False: "the default run", True: "thorough and slow tests"}

_start = pytest.StashKey[float]()


def _spent():
    return sum(os.times()[:4])


def pytest_addoption(parser):
    parser.addoption("--list-costly", action="store_true", help="add the costly tests of this run to tests/costly.txt")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    item.stash[_start] = _spent()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        waits = bool(item.get_closest_marker("slow") or item.get_closest_marker("thorough"))
        allowed = item.get_closest_marker("may_cost")
        report.user_properties.append(("cpu", (round(_spent() - item.stash[_start], 2), waits)))
        report.user_properties.append(("may cost", allowed.args[0] if allowed else COSTLY))
    return report


def pytest_terminal_summary(terminalreporter):
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    known = {report.nodeid: dict(report.user_properties) for report in reports if report.when == "call"}
    stages = {
        waits: {name: one["cpu"][0] for name, one in known.items() if one["cpu"][1] == waits} for waits in _STAGES
    }
    by_default = stages[False]
    costly = sorted(
        (name for name in by_default if by_default[name] > known[name]["may cost"]), key=by_default.get, reverse=True
    )
    if known:
        terminalreporter.section("seconds of CPU")
    for waits, cost in stages.items():
        if cost:
            terminalreporter.line(f"{sum(cost.values()):6.0f}  {_STAGES[waits]}: {len(cost)} tests")
    if costly:
        together = sum(by_default[name] for name in costly)
        terminalreporter.line(
            f"{together:6.0f}  {len(costly)} of the default run that take above {COSTLY:.0f} each, the costliest first:"
        )
        for name in costly[:_LISTED]:
            terminalreporter.line(f"{by_default[name]:8.1f}  {name}")
    if terminalreporter.config.option.list_costly:
        add_to_list({name: by_default[name] for name in costly}, by_default)


def add_to_list(costly, by_default, path=LIST):
    """Add tests with their seconds to the list; of each file the cheapest test stays in the default run."""
    cost, all_of = {}, {}
    for name, seconds in by_default.items():
        test = name.split("[")[0]
        cost[test] = max(seconds, cost.get(test, 0.0))
        all_of.setdefault(test.split("::")[0], set()).add(test)
    tests = {name.split("[")[0] for name in costly}
    stay = {min(of, key=cost.get) for of in all_of.values() if of <= tests}
    known = listed(path) | {test: f"{cost[test]:.1f}" for test in tests - stay}
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    path.write_text(
        "\n".join([*head, *(f"{known[name]:>6}  {name}" for name in sorted(known))]) + "\n", encoding="utf-8"
    )
