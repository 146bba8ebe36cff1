"""The experiment of PMOE: its bars, and all of its parts in small."""

import dataclasses

import numpy as np
import pytest
from outputs import assert_bars_met, assert_drawn, assert_fits, performed

from dini_zoo.reinforcement.pmoe.experiment import experiment
from dini_zoo.reinforcement.pmoe.study import PARTS

#: In one seed of the first eight one component serves both bumps, and loses between them: the page says so.
MISSED = "PMOE, max: worst seed"


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("pmoe", experiment, but=(MISSED,))


@pytest.mark.slow
def test_the_bars_on_other_seeds():
    settings = dataclasses.replace(
        experiment.settings(), seeds=tuple(range(8, 16)), parts=("exact", "critics"), critic_seeds=8
    )
    result = assert_bars_met("pmoe", experiment, settings, but=(
        MISSED, "PPO: greedy above one Gaussian", "Pendulum: return, PMOE, max", "Pendulum: return, PMOE, all",
        "Pendulum: return, one Gaussian",
    ))  # fmt: skip
    assert len(result.critics) == 2


@pytest.mark.thorough
@pytest.mark.may_cost(120)
def test_all_parts_run():
    """Small, with every table, check and panel."""
    settings = experiment.settings()
    settings = dataclasses.replace(
        settings, seeds=(0, 1), parts=PARTS, components=2, updates=4, batch=4, critic_seeds=2, start=256, alone=2,
        rounds=2, control_seeds=2, control_steps=410,
    )  # fmt: skip
    done = performed("pmoe", experiment, settings)
    assert len(done.record.tables) == 7
    assert_fits([*done.record.tables, done.record.verdict.table()])
    assert all(check.ours is not None and np.isfinite(check.ours) for check in done.record.verdict.checks)
    assert all(len(one) == 2 for task in done.result.control for one in task.returns)
    assert_drawn(experiment.draw(done.result))


def test_settings_are_checked():
    for change, named in (({"parts": ("all",)}, "parts"), ({"rows": ("SAC",)}, "rows")):
        with pytest.raises(ValueError, match=named):
            performed("pmoe", experiment, dataclasses.replace(experiment.settings.tiny(), **change))
