"""Neural differential equations made cheap by the error or stiffness estimate of one step at a random time.

`locally_regularised_solve` is `diffrax.diffeqsolve` with the penalty of one step beside the solution, for any adjoint;
`local_penalty` is the penalty of a step from a point that you have. `SamplingSolver` is what finds the point in a
solve. The experiment is in `study`, what it prints and draws in `report` and `picture`.
"""

from ..estimates import exponential_schedule, initial_step, scaled_error, stage_stiffness
from .method import (
    LocalStep,
    Regularised,
    local_penalty,
    local_step,
    locally_regularised_solve,
    penalty_evaluations,
)
from .sampling import SampledStep, SamplingSolver, sample_time

__all__ = [
    "LocalStep",
    "Regularised",
    "SampledStep",
    "SamplingSolver",
    "exponential_schedule",
    "initial_step",
    "local_penalty",
    "local_step",
    "locally_regularised_solve",
    "penalty_evaluations",
    "sample_time",
    "scaled_error",
    "stage_stiffness",
]
