"""What a test of the default run may cost: seconds of CPU, of this process and of those that it started.

`@pytest.mark.may_cost(seconds)` allows more, where a test cannot be divided.
"""

import os

import pytest

#: beyond the first a test is listed at the end of a run, beyond the second it fails
DEAR, TOO_DEAR = 2.0, 10.0
#: so many of them
_LISTED = 20
_REMEDY = """\
{name} took {seconds:.1f} s of CPU. It may take {most:.0f}, and should take less than {dear:.0f}.
Nearly all of this is compilation, as a rule. What helps:
- one `jax.jit` around the body, values as arguments of it and not as constants, shapes as small as the claim allows,
- a program that is shared with the tests beside it,
- of many cases a few: `@pytest.mark.by_default("each")`, the others are then thorough,
- `@pytest.mark.thorough`, with the reason beside it, where a cheaper test holds most of the same."""

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
    marked = item.get_closest_marker("slow") or item.get_closest_marker("thorough")
    if report.when == "call" and not marked and not os.environ.get("DINI_TEST_OPTIMIZED"):
        seconds = _spent() - item.stash[_start]
        report.user_properties.append(("cpu", round(seconds, 2)))
        allowed = item.get_closest_marker("may_cost")
        most = allowed.args[0] if allowed else TOO_DEAR
        if report.passed and seconds > most:
            report.outcome = "failed"
            report.longrepr = _REMEDY.format(name=item.nodeid, seconds=seconds, most=most, dear=DEAR)
    return report


def pytest_terminal_summary(terminalreporter):
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    cost = {report.nodeid: dict(report.user_properties).get("cpu", 0) for report in reports if report.when == "call"}
    dear = sorted((name for name in cost if cost[name] > DEAR), key=cost.get, reverse=True)
    if dear:
        total, of_all = sum(cost[name] for name in dear), sum(cost.values())
        terminalreporter.section(f"more than {DEAR:.0f} s of CPU")
        terminalreporter.line(f"{len(dear)} tests, together {total:.0f} s of {of_all:.0f} s. The dearest:")
        for name in dear[:_LISTED]:
            terminalreporter.line(f"{cost[name]:6.1f}  {name}")
