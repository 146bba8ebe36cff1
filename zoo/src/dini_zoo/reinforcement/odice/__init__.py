"""O-DICE: values and a policy from recorded transitions alone, by the orthogonal update of a dual loss.

`dice_gradients` is the update and what it is compared with, for any value function; `Learner`, `odice_step` and
`odice_imitation_step` learn a policy beside it. `solve_dice_tabular` solves the dual of a small problem to the end, and
`return_sensitivity` differentiates the policy's return through that solution. The update for any two losses is in
`dini_zoo.reinforcement.gradient_surgery`, exact values and occupancies are in `dini_zoo.reinforcement.grids`. The
experiment is in `study`, what it prints and draws in `report` and `picture`.
"""

from .conjugates import Conjugate, action_weights, conjugate_f
from .descent import Descended, descend
from .gradients import Aux, Transitions, dice_gradients
from .learning import Learner, Report, State, odice_imitation_step, odice_step, weighted_bc_loss
from .tabular import Dual, Sensitivity, return_sensitivity, solve_dice_tabular, weighted_policy

__all__ = [
    "Aux",
    "Conjugate",
    "Descended",
    "Dual",
    "Learner",
    "Report",
    "Sensitivity",
    "State",
    "Transitions",
    "action_weights",
    "conjugate_f",
    "descend",
    "dice_gradients",
    "odice_imitation_step",
    "odice_step",
    "return_sensitivity",
    "solve_dice_tabular",
    "weighted_bc_loss",
    "weighted_policy",
]
