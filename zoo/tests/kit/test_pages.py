"""What the pages say of a run."""

import dataclasses

import pytest

from dini_zoo.kit import pages, registry, repetitions
from dini_zoo.kit.tables import Check, at_most, near

FOUND = {
    "figures": [{"quantity": "q", "ours": "1", "reference": "", "paper": "", "bar": "", "verdict": ""}],
    "seconds": 80.4,
    "versions": {"dini": "1", "jax": "2"},
}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"remembered": {}}, "in 80 s, with"),
        (
            {"remembered": {"training": 30.2, "a network": 9.9}},
            "in 80 s (training, a network: 40 s, in an earlier run)",
        ),
        # a record that does not say what it remembered shows no time for all of it
        ({}, "in 80 s (not counting trainings that it may have remembered)"),
    ],
)
def test_the_time_that_is_shown_is_true(monkeypatch, tmp_path, record, told):
    monkeypatch.setattr(pages, "results", lambda entry: FOUND | record)
    entry = registry.Entry("parabola", "Parabola", "Fits one.", "Nobody, 2000", tmp_path)
    assert told in pages.figure_table(entry)


def test_ranges_over_other_seeds_are_shown(monkeypatch, tmp_path):
    figure = lambda value, verdict: {"quantity": "q", "value": value, "form": ".1f", "verdict": verdict}
    again = [
        {"seed": seed, "headline": f"error {seed}%", "figures": [figure(float(seed), verdict)]}
        for seed, verdict in ((20, "met"), (21, "MISSED"), (22, "met"))
    ]
    record = FOUND | {"remembered": {}, "headline": "error 1%", "repetitions": again}
    monkeypatch.setattr(pages, "results", lambda entry: record)
    entry = registry.Entry("parabola", "Parabola", "Fits one.", "Nobody, 2000", tmp_path)
    shown = pages.figure_table(entry)
    assert "| quantity | ours | seeds 20 to 22 | verdict |" in shown
    assert "| q | 1 | 20.0 to 22.0 | **missed with 1 of 3** |" in shown
    assert "`dini repeat parabola`" in shown
    assert pages._headline(entry) == "error 20 to 22%; seeds: 3"


def test_experiments_are_repeated_with_one_seed_alone():
    one = dataclasses.make_dataclass("One", [("seed", int, 0), ("data_seed", int, 0), ("points", int, 3)])
    assert repetitions.seeded(one(), 20) == one(20, 20, 3)
    several = dataclasses.make_dataclass("Several", [("seeds", tuple, (0, 1))])
    with pytest.raises(ValueError, match="dini run NAME --seeds"):
        repetitions.seeded(several(), 20)
    with pytest.raises(ValueError, match="no seed"):
        repetitions.seeded(dataclasses.make_dataclass("Without", [("points", int, 3)])(), 20)


@pytest.mark.parametrize(
    ("sentences", "ranged"),
    [
        (["1,000 of 2e-10", "900 of 3e-11"], "900 to 1,000 of 3e-11 to 2e-10"),
        (["2.37 ± 0.04 bits", "2.33 ± 0.05 bits"], "2.33 to 2.37 bits"),
        (["2.37 ± 0.04 bits", "2.37 ± 0.05 bits"], "2.37 bits"),
        (["-0.5 points of L2", "+0.5 points of L2"], "-0.5 to +0.5 points of L2"),
    ],
)
def test_sentences_with_ranges(sentences, ranged):
    assert repetitions.ranged(sentences) == ranged


def test_a_figure_of_the_specification_is_that_of_its_seed():
    """Its bar is not judged with other seeds."""
    around = Check("q", 2.0, near(1.0, 1e-3))
    own = Check("r", 2.0, at_most(1.0))
    found = repetitions.Repetition(20, "", [around, own], 1.0).json()
    assert [one["verdict"] for one in found["figures"]] == ["", "MISSED"]
