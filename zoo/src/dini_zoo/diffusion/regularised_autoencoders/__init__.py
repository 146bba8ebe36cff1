"""What regularised autoencoders learn: the displacement of a reconstruction is the score, times the noise's variance.

`dae_loss` and `rcae_loss` train any function of a batch; `score_from_reconstruction` is its score, `path_log_ratio` the
difference of log densities along a segment, and `metropolis_hastings` samples by it. `TiedAutoencoder` has an energy.
`linear_reconstruction` and `rcae_on_grid` are optima in closed form, by dini's linear solves. The experiment is in
`study`, what it prints in `report`.
"""

from .losses import dae_loss, jacobian_asymmetry, rcae_loss, score_from_reconstruction, squared_jacobian
from .networks import Residual, TiedAutoencoder
from .optima import LinearReconstruction, linear_reconstruction, rcae_on_grid, score_matching_loss
from .sampling import Chains, langevin, metropolis_hastings, path_log_ratio, random_walk

__all__ = [
    "Chains",
    "LinearReconstruction",
    "Residual",
    "TiedAutoencoder",
    "dae_loss",
    "jacobian_asymmetry",
    "langevin",
    "linear_reconstruction",
    "metropolis_hastings",
    "path_log_ratio",
    "random_walk",
    "rcae_loss",
    "rcae_on_grid",
    "score_from_reconstruction",
    "score_matching_loss",
    "squared_jacobian",
]
