"""Stochastic differential equations whose noise has memory, and variational inference for them.

Fractional Brownian motion is approximated by a few Ornstein-Uhlenbeck processes (`optimal_weights`, `WeightTable`), so
that the equation is an ordinary one for diffrax (`FractionalSDE.terms`) and the Hurst index a parameter
(`FractionalNoise`). `VideoSDE` is a model of frames over it. The experiment is in `study`, what it prints and draws in
`report` and `picture`.
"""

from .approximation import (
    WeightTable,
    fbm_covariance,
    ma_covariance,
    optimal_weights,
    ou_speeds,
    relative_error,
    variance_scale,
)
from .brownian import GridBrownianPath
from .equation import FractionalSDE, Path, State
from .noise import FixedNoise, FractionalNoise, MarkovNoise, exact_ou_step, gaussian_bridge_control, white_noise
from .video import VideoSDE

__all__ = [
    "FixedNoise",
    "FractionalNoise",
    "FractionalSDE",
    "GridBrownianPath",
    "MarkovNoise",
    "Path",
    "State",
    "VideoSDE",
    "WeightTable",
    "exact_ou_step",
    "fbm_covariance",
    "gaussian_bridge_control",
    "ma_covariance",
    "optimal_weights",
    "ou_speeds",
    "relative_error",
    "variance_scale",
    "white_noise",
]
