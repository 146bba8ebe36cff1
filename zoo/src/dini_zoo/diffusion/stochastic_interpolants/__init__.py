"""Stochastic interpolants: flows and diffusions between two laws, with a noise level that is chosen after training.

The interpolants are the field's; here are the losses whose minimizers are the fields along them (`velocity_loss`,
`drift_loss`, `score_loss`, `denoiser_loss`), conversions (`Fields`), samplers (`sample_ode`, `sample_sde`), densities
and bounds (`log_density_ode`, `log_density_sde`, `loss_bound`), and Schrödinger bridges (`gaussian_bridge`,
`optimal_variance_path`, `schrodinger_bridge`). The experiment is in `study`, its output in `report` and `picture`.
"""

from ..interpolants import (
    CustomInterpolant,
    GaussianMixtureFields,
    LinearInterpolant,
    brownian,
    bump,
    encoding_decoding,
    linear,
    mirror,
    one_sided_linear,
    one_sided_trig,
    one_sided_vp,
    sigmoids,
    sine,
    trig,
    zero,
)
from .bounds import best_noise, drift_bound, loss_bound
from .bridges import Bridge, gaussian_bridge, optimal_variance_path, path_energy, schrodinger_bridge
from .fields import Fields
from .losses import denoiser_loss, drift_loss, score_loss, velocity_loss
from .sampling import log_density_ode, log_density_sde, sample_ode, sample_sde

__all__ = [
    "Bridge",
    "CustomInterpolant",
    "Fields",
    "GaussianMixtureFields",
    "LinearInterpolant",
    "best_noise",
    "brownian",
    "bump",
    "denoiser_loss",
    "drift_bound",
    "drift_loss",
    "encoding_decoding",
    "gaussian_bridge",
    "linear",
    "log_density_ode",
    "log_density_sde",
    "loss_bound",
    "mirror",
    "one_sided_linear",
    "one_sided_trig",
    "one_sided_vp",
    "optimal_variance_path",
    "path_energy",
    "sample_ode",
    "sample_sde",
    "schrodinger_bridge",
    "score_loss",
    "sigmoids",
    "sine",
    "trig",
    "velocity_loss",
    "zero",
]
