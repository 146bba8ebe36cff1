"""Neural differential equations made cheap by penalties on what their solver estimates anyway.

`solve_recorded` is `diffrax.diffeqsolve` with the sums of the solver's error and stiffness estimates beside the
solution, `heuristic_penalty` makes a number to train with of them; `RecordingSolver` is the wrapper behind both. They
stand in the field's modules `recording` and `estimates`, since the local regularizer shares them. The experiment is in
`study`, its SDE in `noisy`, what it prints and draws in `report` and `picture`.
"""

from ..estimates import exponential_schedule, rms, scaled_error, stability_size, stage_stiffness
from ..recording import RecordingSolver, SolverHeuristics, heuristic_penalty, solve_recorded, steer_end_time

__all__ = [
    "RecordingSolver",
    "SolverHeuristics",
    "exponential_schedule",
    "heuristic_penalty",
    "rms",
    "scaled_error",
    "solve_recorded",
    "stability_size",
    "stage_stiffness",
    "steer_end_time",
]
