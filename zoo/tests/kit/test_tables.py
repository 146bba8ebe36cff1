"""Tables and checks."""

import math

import pytest
from outputs import assert_fits, printed

from dini_zoo.kit.results import differing, plain
from dini_zoo.kit.tables import (
    Alarm,
    Check,
    Table,
    above,
    at_least,
    at_most,
    below,
    between,
    duration,
    judged,
    near,
    near_reference,
    size,
    spread,
    worst,
)


@pytest.mark.parametrize(
    ("bar", "text", "inside", "outside"),
    [
        (at_least(2), "≥ 2", (2, 3), (1.9, math.nan)),
        (at_most(2), "≤ 2", (2, -1), (2.1, math.nan)),
        (above(2), "> 2", (2.1,), (2, 1)),
        (below(2), "< 2", (1.9,), (2, 3)),
        (between(1, 2), "1 to 2", (1, 2), (0.9, 2.1)),
        (near(-100.0, 1e-2), "to 1e-02", (-99, -101), (-98.9, -101.1, 100)),
    ],
)
def test_bars(bar, text, inside, outside):
    assert bar.text == text
    assert all(map(bar.holds, inside))
    assert not any(map(bar.holds, outside))


def test_a_verdict_shows_what_is_missed_and_what_is_of_other_settings():
    checks = [
        Check("first", 0.5, at_most(1), reference=0.4, paper="small"),
        near_reference("second", 2.0, 1.0, 0.1, ".2f"),
        Check("third", None, at_most(1)),
        Check("fourth", 3.0),
    ]
    verdict = judged(checks, {})
    text = printed([verdict.table()])
    assert [verdict.count(name) for name in ("met", "MISSED", "not measured", "")] == [1, 1, 1, 1]
    assert [line.split()[-1] for line in text.splitlines()[3:7]] == ["met", "MISSED", "measured", "3"]
    assert "other settings" not in text
    text = printed([judged(checks, {"steps": "3"}).table()])
    assert "MISSED (other settings)" in text
    assert "here steps = 3" in text
    assert_fits([verdict.table()])


@pytest.mark.parametrize(
    ("bar", "values", "ours", "shown", "verdict"),
    [
        (at_most(2), [1.0, 3.0, 2.0], 3.0, "1.0 to 3.0", "MISSED"),
        (at_least(2), [5.0, 3.0, 4.0], 3.0, "3.0 to 5.0", "met"),
        (above(3), [5.0, 3.0], 3.0, "3.0 to 5.0", "MISSED"),
        (between(1, 3), [1.5, 2.0, 2.7], 2.7, "1.5 to 2.7", "met"),
        (between(1, 3), [0.5, 2.0, 2.7], 0.5, "0.5 to 2.7", "MISSED"),
        (None, [1.0, 1.04], 1.04, "1.0", ""),
        (at_most(2), [1.0, math.nan], math.nan, "NaN", "MISSED"),
        (at_least(2), [math.inf, 3.0], 3.0, "3.0 to inf", "met"),
        (at_least(2), [], None, "", "not measured"),
    ],
)
def test_the_worst_of_several_figures_is_checked(bar, values, ours, shown, verdict):
    check = worst("q", iter(values), bar, 7.0, "paper", ".1f")
    assert check.ours == ours or (math.isnan(ours) and math.isnan(check.ours))
    assert check.verdict == verdict
    assert check.cells == (shown, "7.0", "paper", "" if bar is None else bar.text)


@pytest.mark.parametrize("one", [math.nan, math.inf, -math.inf])
def test_figures_that_are_not_finite_are_an_alarm(one):
    assert isinstance(spread([1.0, one]), Alarm)
    assert not isinstance(spread([1.0, 2.0]), Alarm)


def test_a_column_that_nobody_fills_is_left_out():
    table = judged([Check("first", 0.5, at_most(1))], {}).table()
    assert list(table.columns) == ["quantity", "ours", "bar", ""]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="A row of the table 'T' must have 2 cells"):
        Table("T", ("a", "b"), [["1"]])


def test_settings_that_differ_are_named_but_for_seeds():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Settings:
        steps: int = 3
        rates: tuple[float, ...] = (0.1,)
        seed: int = 0
        seeds: tuple[int, ...] = (0, 1)

    assert differing(Settings(seed=5, seeds=(7,))) == {}
    assert differing(Settings(steps=4, rates=(0.2,))) == {"steps": "4", "rates": "[0.2]"}


def test_plain_data_is_json():
    import numpy as np

    value = {"a": np.arange(2), 3: (math.inf, np.float64(0.5)), "seconds": 1.0, "f": len}
    assert plain(value) == {"a": [0, 1], "3": ["inf", 0.5], "seconds": 1.0, "f": "len"}
    assert "seconds" not in plain(value, times=False)


def test_times_and_sizes():
    assert [duration(s) for s in (0.0012, 0.25, 3.0, 240.0)] == ["1.2 ms", "250 ms", "3.0 s", "4 min"]
    assert [size(n) for n in (2_000, 2.5e6, 3e8)] == ["2 kB", "2.5 MB", "300 MB"]
