"""Differentiable architecture search, and the self-distillation of its supernet from past snapshots.

The parts: a supernet whose edges mix operations (`MixedOp`, `Cell`, `SuperNet`), the gradient of the validation loss in
the mixture of first order, of second order or implicit by dini (`arch_gradient`), the architecture that is read off
(`derive`), a buffer of snapshots that vote (`TeacherBuffer`, `self_distillation_loss`), one step of the search
(`Search`), and measures of sharpness. The experiment is in `study`, what it prints and draws in `report`.
"""

from .distillation import TeacherBuffer, Teachers, self_distillation_loss
from .genotype import Genotype, derive
from .gradient import arch_gradient
from .search import DartsState, Search
from .sharpness import hessian_top_eigenvalue, sharpness
from .supernet import Cell, MixedOp, SuperNet, dense_operations, edges_of

__all__ = [
    "Cell",
    "DartsState",
    "Genotype",
    "MixedOp",
    "Search",
    "SuperNet",
    "TeacherBuffer",
    "Teachers",
    "arch_gradient",
    "dense_operations",
    "derive",
    "edges_of",
    "hessian_top_eigenvalue",
    "self_distillation_loss",
    "sharpness",
]
