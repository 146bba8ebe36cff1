"""Self-distillation with ground-truth targets: the same model fitted again to a mixture of truth and its own answers.

The parts: kernel ridge regression (`kernel_ridge_fit`), all steps of its self-distillation from one eigendecomposition
(`SelfDistillation`), their limit as a fixed point of dini's (`limit_by_iteration`), the best share of the ground truth
for any model (`optimal_mixing_weight`), and the loop for models that are trained (`distill`). All of it but the loop is
differentiable. The experiment is in `study`, what it prints and draws in `report` and `picture`.
"""

from .limit import limit_by_iteration
from .loop import BestOnValidation, Step, distill
from .mixing import distillation_targets, optimal_mixing_weight
from .ridge import KernelRidgeFit, gaussian_kernel, kernel_ridge_fit, squared_distances
from .spectral import SelfDistillation, Steps

__all__ = [
    "BestOnValidation",
    "KernelRidgeFit",
    "SelfDistillation",
    "Step",
    "Steps",
    "distill",
    "distillation_targets",
    "gaussian_kernel",
    "kernel_ridge_fit",
    "limit_by_iteration",
    "optimal_mixing_weight",
    "squared_distances",
]
