"""Learning rates as a function of the batch size, from the spectrum of batches' Hessians.

The parts: how far a batch's extreme eigenvalues are from those of all data (`batch_extreme_eigenvalues`,
`hessian_noise`), what follows for rates (`max_learning_rate`, `scale_learning_rate`), and an optax transformation that
learns rate and momentum from a few Lanczos steps (`lanczos_learning_rate`). Lanczos' method and the Hessian as an
operator are in the field: `dini_zoo.optimizers.lanczos` and `.curvature`. The experiment is in `study`, what it prints
and draws in `report` and `picture`.
"""

from ..curvature import gauss_newton_operator, hessian_operator
from ..lanczos import extremes, lanczos, quadrature, random_direction, ritz
from .eigenvalues import (
    batch_extreme_eigenvalues,
    covariance_top_eigenvalue,
    effective_batch_size,
    hessian_noise,
    overlap,
)
from .learner import HeavyBall, heavy_ball, lanczos_learning_rate
from .rates import critical_batch_size, max_learning_rate, scale_learning_rate

__all__ = [
    "HeavyBall",
    "batch_extreme_eigenvalues",
    "covariance_top_eigenvalue",
    "critical_batch_size",
    "effective_batch_size",
    "extremes",
    "gauss_newton_operator",
    "heavy_ball",
    "hessian_noise",
    "hessian_operator",
    "lanczos",
    "lanczos_learning_rate",
    "max_learning_rate",
    "overlap",
    "quadrature",
    "random_direction",
    "ritz",
    "scale_learning_rate",
]
