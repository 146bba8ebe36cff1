"""The experiment of programmable inference: its bars, and all of its parts in small."""

import dataclasses

import numpy as np
import pytest
from outputs import assert_bars_met, assert_drawn, assert_fits, performed

from dini_zoo.inference.programmable_vi.experiment import experiment


@pytest.mark.slow
def test_the_bars_at_full_scale():
    # times depend on what else the machine does
    assert_bars_met("programmable-vi", experiment, but=("time / by hand, 64", "time / by hand, 1024"))


@pytest.mark.thorough
@pytest.mark.may_cost(60)
def test_all_parts_run():
    """Small, with every objective, table, check and panel."""
    settings = experiment.settings.tiny()
    settings = dataclasses.replace(
        settings, objectives=experiment.settings().objectives, seeds=(0, 1), particles=(1, 2), timed=(8, 16)
    )
    done = performed("programmable-vi", experiment, settings)
    assert_fits([*done.record.tables, done.record.verdict.table()])
    named = {check.quantity: check for check in done.record.verdict.checks}
    assert all(check.ours is not None for check in named.values() if not check.quantity.startswith("time"))
    assert all(np.isfinite(check.ours) for check in named.values() if check.ours is not None)
    assert_drawn(experiment.draw(done.result))
