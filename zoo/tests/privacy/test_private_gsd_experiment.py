"""The experiment of Private-GSD: its bars, and all of its parts in small."""

import dataclasses

import numpy as np
import pytest
from outputs import assert_bars_met, assert_drawn, assert_fits, performed

from dini_zoo.privacy.private_gsd.experiment import experiment
from dini_zoo.privacy.private_gsd.study import PARTS


@pytest.mark.slow
def test_the_bars_at_full_scale():
    settings = dataclasses.replace(experiment.settings(), adaptive_seeds=(0, 1, 2))
    # two bars beside the relaxed baseline at one ε: the page says why
    but = ("prefix, ε 1: max / RAP++", "half-space, ε 1: average / RAP++")
    assert_bars_met("private-gsd", experiment, settings, but=but)


@pytest.mark.thorough
@pytest.mark.may_cost(60)
def test_all_parts_run():
    """Small, with every table, check and panel."""
    settings = dataclasses.replace(
        experiment.settings.tiny(), epsilons=(1.0, 10.0), conditions=5, parts=PARTS, mirror_steps=5
    )
    done = performed("private-gsd", experiment, settings)
    assert len(done.record.tables) == len(PARTS)
    assert_fits([*done.record.tables, done.record.verdict.table()])
    assert all(check.ours is not None and np.isfinite(check.ours) for check in done.record.verdict.checks)
    assert_drawn(experiment.draw(done.result))
