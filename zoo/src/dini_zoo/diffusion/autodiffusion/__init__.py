"""AutoDiffusion: the few steps, and the layers in each of them, with which a frozen diffusion draws best.

`search_schedule` evolves sets of steps (`StepSpace`) or masks of layers (`LayerSpace`) by any figure, such as
`SampleDistance`, Fréchet's distance of samples from the data; `evolve` is the loop behind it, for any discrete search.
`learn_times` follows the distance's gradient instead, through the sampler. The experiment is in
`study`, what it prints and draws in `report`.
"""

from .evolution import Evolution, evolve
from .gradient import LearnedTimes, increasing_times, learn_times
from .samplers import SampleDistance, ddim, dpm_solver, respace
from .schedules import SPACINGS, spaced
from .spaces import LayerSpace, SearchResult, StepSpace, search_schedule

__all__ = [
    "SPACINGS",
    "Evolution",
    "LayerSpace",
    "LearnedTimes",
    "SampleDistance",
    "SearchResult",
    "StepSpace",
    "ddim",
    "dpm_solver",
    "evolve",
    "increasing_times",
    "learn_times",
    "respace",
    "search_schedule",
    "spaced",
]
