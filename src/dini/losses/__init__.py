r"""Losses that optax does not have, and soft sorting: each convex or piecewise linear, with an exact derivative.

A Fenchel-Young loss (Blondel et al. 2020) of scores ``s`` and a target ``y`` is :math:`\Omega^*(s) + \Omega(y) -
\langle s, y \rangle`, for a convex regularizer :math:`\Omega` with conjugate :math:`\Omega^*`. It is convex in ``s``,
zero where the prediction :math:`\nabla\Omega^*(s)` is the target, and its gradient is the prediction less the
target. The loss of a perturbed solver is :meth:`dini.perturbed.Perturbed.loss`.

Robust losses (:class:`RobustLoss`) stand in :class:`dini.LeastSquares` for the square of a residual.
"""

from typing import TYPE_CHECKING

from ..deferred import late as _late
from ..explanations import missing_name as _missing_name

if TYPE_CHECKING:
    from ._fenchel_young import binary_sparsemax_loss, logistic_loss, softmax_loss, sparse_sigmoid, sparsemax_loss
    from ._robust import Arctan, Cauchy, Huber, RobustLoss, SoftL1
    from ._sorting import soft_rank, soft_sort

__all__ = [
    "Arctan",
    "Cauchy",
    "Huber",
    "RobustLoss",
    "SoftL1",
    "binary_sparsemax_loss",
    "logistic_loss",
    "soft_rank",
    "soft_sort",
    "softmax_loss",
    "sparse_sigmoid",
    "sparsemax_loss",
]

#: the modules in which these names stand; made by tests/house/late.py
_LATE = {
    "._fenchel_young": "binary_sparsemax_loss logistic_loss softmax_loss sparse_sigmoid sparsemax_loss",
    "._robust": "Arctan Cauchy Huber RobustLoss SoftL1",
    "._sorting": "soft_rank soft_sort",
}

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__, __dir__ = _late(__name__, _LATE, __all__, _missing_name)
