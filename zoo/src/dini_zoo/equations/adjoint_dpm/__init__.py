"""Gradients through diffusion samplers by the adjoint equation: in initial noise, condition and weights.

`sample_pf_ode` integrates the probability flow in the clock of its reparametrization and is differentiated by the
adjoint equation, by checkpoints, or as it is. `ascend_noise` raises a loss by the noise alone. `CosineVP`, `DiscreteVP`
and `time_grid` stand beside the processes of `dini_zoo.diffusion`. The experiment is in `study`, what it prints and
draws in `report` and `picture`.
"""

from .sampling import guided, sample_pf_ode
from .schedules import CosineVP, DiscreteVP, noise_ratio, time_grid, time_of_ratio
from .steering import Ascent, ascend_noise, clip_perturbation

__all__ = [
    "Ascent",
    "CosineVP",
    "DiscreteVP",
    "ascend_noise",
    "clip_perturbation",
    "guided",
    "noise_ratio",
    "sample_pf_ode",
    "time_grid",
    "time_of_ratio",
]
