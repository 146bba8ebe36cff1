"""What tests cost: seconds of CPU, of this process and of those that it started. A list, by which nothing ever fails.

Wall time says little where other programs run, and CPU time is that of a machine: a limit would fail on a slower one.
"""

import os

import pytest

#: beyond this a test of the default run is listed at the end; `@pytest.mark.may_cost(seconds)` says that more is known
DEAR = 2.0
#: so many of them
_LISTED = 20
#: the stages, in words
_STAGES = {False: "the default run", True: "thorough and slow tests"}

_start = pytest.StashKey[float]()


def _spent():
    return sum(os.times()[:4])


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
        report.user_properties.append(("may cost", allowed.args[0] if allowed else DEAR))
    return report


def pytest_terminal_summary(terminalreporter):
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    told = {report.nodeid: dict(report.user_properties) for report in reports if report.when == "call"}
    stages = {waits: {name: one["cpu"][0] for name, one in told.items() if one["cpu"][1] == waits} for waits in _STAGES}
    by_default = stages[False]
    dear = sorted((name for name in by_default if by_default[name] > told[name]["may cost"]), key=by_default.get)[::-1]
    if told:
        terminalreporter.section("seconds of CPU")
    for waits, cost in stages.items():
        if cost:
            terminalreporter.line(f"{sum(cost.values()):6.0f}  {_STAGES[waits]}: {len(cost)} tests")
    if dear:
        together = sum(by_default[name] for name in dear)
        terminalreporter.line(
            f"{together:6.0f}  {len(dear)} of the default run that take above {DEAR:.0f}, the dearest first:"
        )
        for name in dear[:_LISTED]:
            terminalreporter.line(f"{by_default[name]:8.1f}  {name}")
