"""Soft value-based decoding: samples of a frozen diffusion, tilted to a reward that needs no gradient.

`svdd_sample` draws several candidates in each reverse step of a kernel (`GaussianReverse`, `MaskedReverse`, or your
own) and keeps one by its value: the reward of the predicted data (`PosteriorMean`), a regression on rollouts
(`fit_mc_value`), or any function of a batch and a level. `smc_sample`, `best_of_n` and `Guided` are what it is
compared with. The experiment is in `study`, what it prints and draws in `report` and `picture`.
"""

from ..kernels import GaussianReverse, MaskedReverse, rollouts, sample
from .baselines import best_of_n, smc_sample
from .decoding import Decoded, Selected, svdd_sample, svdd_step
from .guided import Guided
from .values import LearnedValue, PosteriorMean, fit_mc_value, host_reward

__all__ = [
    "Decoded",
    "GaussianReverse",
    "Guided",
    "LearnedValue",
    "MaskedReverse",
    "PosteriorMean",
    "Selected",
    "best_of_n",
    "fit_mc_value",
    "host_reward",
    "rollouts",
    "sample",
    "smc_sample",
    "svdd_sample",
    "svdd_step",
]
