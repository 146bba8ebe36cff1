"""Fast samplers for diffusions that revert to a given mean: exponential integrators of the reverse SDE and its flow.

`MeanRevertingSDE` and its schedules are the field's; `mr_sampler` makes a sampler of a time grid (`time_grid`), for a
network that predicts noise, data or velocity (`mr_loss` trains it). The experiment is in `study`, what it prints and
draws in `report` and `picture`.
"""

from ..mean_reverting import MeanRevertingSDE, constant, cosine, linear, table
from ..predictions import convert
from .method import GRIDS, TARGETS, Model, mr_loss, mr_sampler, threshold, time_grid

__all__ = [
    "GRIDS",
    "TARGETS",
    "MeanRevertingSDE",
    "Model",
    "constant",
    "convert",
    "cosine",
    "linear",
    "mr_loss",
    "mr_sampler",
    "table",
    "threshold",
    "time_grid",
]
