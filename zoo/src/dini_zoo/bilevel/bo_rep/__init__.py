"""Stochastic bilevel optimization where smoothness is not bounded: steps of one length, along a normalized momentum.

`BOREP` is the method, in the shape of `init`, `update` and `run`; its outer step is any optax transformation, such as
`normalized_momentum`. `soba` and `ma_soba` are presets of the same loop, which it is compared with. `epoch_sgd` refines
the start of the inner variable. What it asks of the two levels is an `Oracles` of the field. The experiment is in
`study`, what it prints and draws in `report`.
"""

from .method import BOREP, BilevelSolution, BOREPState, ma_soba, soba
from .momentum import normalized_momentum
from .refinement import epoch_sgd, project_to_ball

__all__ = [
    "BOREP",
    "BOREPState",
    "BilevelSolution",
    "epoch_sgd",
    "ma_soba",
    "normalized_momentum",
    "project_to_ball",
    "soba",
]
