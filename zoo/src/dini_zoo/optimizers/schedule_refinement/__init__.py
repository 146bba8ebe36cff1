"""Learning-rate schedules that are best for the last iterate: linear decay, and refined ones from gradient norms.

The parts: schedules for optax (`linear_decay_schedule`, `array_schedule`); recording norms in a run
(`record_grad_norm`, `recorded_grad_norms`) and making the next run's schedule of them (`refine_schedule`, or the simple
one nearest to it, `fit_schedule`); the theorem behind both, for any base optimizer (`last_iterate_weights`,
`last_iterate_transform`); its bounds (`conversion_bound`, `general_bound`) and the schedule that minimizes one
(`optimize_schedule`). The experiment's tasks are in `tasks` and `sweeps`, the schedule that hypergradients learn in
`learning`, the experiment in `study`, what it prints and draws in `report` and `picture`.
"""

from .bounds import conversion_bound, general_bound, optimize_schedule
from .conversion import LastIterateState, last_iterate_transform, last_iterate_weights
from .recording import GradNormState, record_grad_norm, recorded_grad_norms
from .schedules import Fit, array_schedule, fit_schedule, linear_decay_schedule, refine_schedule

__all__ = [
    "Fit",
    "GradNormState",
    "LastIterateState",
    "array_schedule",
    "conversion_bound",
    "fit_schedule",
    "general_bound",
    "last_iterate_transform",
    "last_iterate_weights",
    "linear_decay_schedule",
    "optimize_schedule",
    "record_grad_norm",
    "recorded_grad_norms",
    "refine_schedule",
]
