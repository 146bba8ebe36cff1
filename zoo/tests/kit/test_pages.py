"""What the pages say of a run."""

import pytest

from dini_zoo.kit import pages, registry

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
