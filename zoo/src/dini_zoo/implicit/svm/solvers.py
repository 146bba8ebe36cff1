"""The solvers that the experiment compares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

import dini
from dini_zoo.kit.data import Split

from .comparison import Contender
from .fista import FISTA

MIRROR = "mirror descent"
ACCELERATED = "accelerated gradient"
RESTARTED = "restarted gradient"
BLOCKS = "coordinate descent"


def contenders(
    names: Sequence[str], split: Split, *, mirror_steps: int, accelerated_steps: int, pairs: int
) -> list[Contender]:
    """The solvers of those names.

    Mirror descent and accelerated projected gradient have the paper's constant steps; projected gradient with restarts
    and block coordinate descent find their own and run to a small tolerance. The programs of the accelerated method are
    timed `pairs` times, however long that takes.
    """
    top = np.linalg.norm(split.train.X, 2) ** 2
    mirror = dini.MirrorDescent(step_size=1.0, max_steps=mirror_steps)
    restarted = dini.ProjectedGradient(tol=1e-9, max_steps=20_000)
    blocks = dini.BlockCoordinateDescent(tol=1e-10, max_steps=20_000)
    known = [
        Contender(MIRROR, lambda theta: mirror),
        # one over the Lipschitz constant of the dual's gradient
        Contender(ACCELERATED, lambda theta: FISTA(theta / top, max_steps=accelerated_steps), pairs, math.inf),
        Contender(RESTARTED, lambda theta: restarted),
        Contender(BLOCKS, lambda theta: blocks),
    ]
    return [contender for contender in known if contender.name in names]
