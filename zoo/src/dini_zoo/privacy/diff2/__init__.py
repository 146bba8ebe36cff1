"""Private descent by differences of gradients: most rounds report how gradients changed, which needs far less noise.

`diff2_estimator` is the estimator, for any optimizer; `diff2_gd` and `diff2_local` are complete descents, `dp_gd`,
`dp_sgd` and `local_sgd` what they are compared with. `calibrate` and similar ones say how much noise a budget asks for,
`privacy_spent` of the field's ledger what was spent. Clipped means of any vectors of records, with the proof of their
sensitivity, are in `clipping`. The experiment is in `study`, what it prints in `report`.
"""

from ..ledger import Ledger, privacy_spent
from .budget import LocalNoise, Noise, calibrate, calibrate_local, local_spent, spent
from .clipping import Clients, Clipped, clip_per_example, clipped_difference_mean, clipped_mean
from .estimator import Diff2Estimator, EstimatorState, diff2_estimator
from .local import diff2_local, local_ledger, local_sgd
from .loops import Descent, diff2_gd, dp_gd, random_order, round_robin
from .poisson import calibrate_poisson, dp_sgd, poisson_ledger

__all__ = [
    "Clients",
    "Clipped",
    "Descent",
    "Diff2Estimator",
    "EstimatorState",
    "Ledger",
    "LocalNoise",
    "Noise",
    "calibrate",
    "calibrate_local",
    "calibrate_poisson",
    "clip_per_example",
    "clipped_difference_mean",
    "clipped_mean",
    "diff2_estimator",
    "diff2_gd",
    "diff2_local",
    "dp_gd",
    "dp_sgd",
    "local_ledger",
    "local_sgd",
    "local_spent",
    "poisson_ledger",
    "privacy_spent",
    "random_order",
    "round_robin",
    "spent",
]
