"""The table of experiments."""

from dataclasses import FrozenInstanceError, is_dataclass

import pytest

from dini_zoo.registry import EXPERIMENTS


def test_names_are_unique_and_lower_case():
    names = [entry.name for entry in EXPERIMENTS]
    assert len(names) == len(set(names))
    assert names == [name.lower() for name in names]


def test_every_experiment_has_the_shape():
    for entry in EXPERIMENTS:
        experiment = entry.load()
        assert callable(experiment.run)
        assert is_dataclass(experiment.Settings)
        settings = experiment.Settings.tiny()
        assert isinstance(settings, experiment.Settings)
        with pytest.raises(FrozenInstanceError):
            settings.anything = 0
