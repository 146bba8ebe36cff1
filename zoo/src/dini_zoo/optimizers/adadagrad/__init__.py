"""Batches that grow by tests of the spread of per-example gradients, and AdaGrad with one step size.

The parts: moments of any per-example estimates, merged over micro-batches and devices (`moments`, `accumulate`,
`merge`, `across`), tests (`norm_test` and others), the size from step to step (`BatchSizeController`, `Batches`), a
loop (`GrowingBatch`), and optax transformations (`adagrad_norm`, `scale_by_samples`). The experiment is in `study`,
what it prints and draws in `report`.
"""

from ..moments import (
    Moments,
    accumulate,
    across,
    directional_moments,
    gradient_moments,
    inner_products,
    merge,
    moments,
)
from .adagrad_norm import adagrad_norm, scale_by_adagrad_norm, scale_by_samples
from .controller import Batches, BatchSizeController, Control, padded_size
from .loop import GrowingBatch, Step, Training
from .sizes import augmented_inner_product_test, inner_product_test, norm_test, orthogonality_test

__all__ = [
    "BatchSizeController",
    "Batches",
    "Control",
    "GrowingBatch",
    "Moments",
    "Step",
    "Training",
    "accumulate",
    "across",
    "adagrad_norm",
    "augmented_inner_product_test",
    "directional_moments",
    "gradient_moments",
    "inner_product_test",
    "inner_products",
    "merge",
    "moments",
    "norm_test",
    "orthogonality_test",
    "padded_size",
    "scale_by_adagrad_norm",
    "scale_by_samples",
]
