"""Score-based generative modelling through stochastic differential equations.

The score of a diffusion's laws, learned by `dsm_loss`, gives samples by the reverse SDE (`pc_sample`) and by its
probability flow (`ode_sample`, `encode`), densities (`log_likelihood`), and samples on conditions: classes
(`guided_score`), known pixels (`observe_mask`) or linear measurements (`observe_linear`). Processes and samplers are
the field's. The experiment is in `study`, what it prints and draws in `report` and `picture`.
"""

from ..flows import encode, log_likelihood, ode_sample
from ..predictor_corrector import (
    Langevin,
    ancestral,
    euler_maruyama,
    pc_sample,
    probability_flow,
    reverse_diffusion,
)
from ..processes import VESDE, VPSDE, Process, SubVPSDE
from .guidance import guided_score, observe_linear, observe_mask
from .losses import dsm_loss

__all__ = [
    "VESDE",
    "VPSDE",
    "Langevin",
    "Process",
    "SubVPSDE",
    "ancestral",
    "dsm_loss",
    "encode",
    "euler_maruyama",
    "guided_score",
    "log_likelihood",
    "observe_linear",
    "observe_mask",
    "ode_sample",
    "pc_sample",
    "probability_flow",
    "reverse_diffusion",
]
