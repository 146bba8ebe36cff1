"""One code that generates an equation's input and its solution, trained by residuals alone, and inverted in the code.

`GenerativeOperator` has an encoder and decoders, `virtual_observable_loss` trains it; `Darcy` has the residuals,
`TwoPhase` a medium with jumps. `LatentProblem` and `invert` go from a few values of the solution to the code, by
dini's least squares, Laplace's method, variational inference or NUTS; `descend` is the published procedure. The nets
are in the field's `operators`, test functions in `weak_forms`, laws in `posteriors`, the tuning of a noise in
`hyperparameters`. The experiment is in `study`, what it prints in `report`.
"""

from .darcy import Darcy, Mixed
from .generative import (
    GenerativeOperator,
    Labels,
    code,
    divergence_from_normal,
    gaussian_loss,
    phase_loss,
    phase_targets,
    virtual_observable_loss,
)
from .inversion import Inversion, LatentProblem, Observations, descend, invert, relative_misfit
from .two_phase import Located, TwoPhase

__all__ = [
    "Darcy",
    "GenerativeOperator",
    "Inversion",
    "Labels",
    "LatentProblem",
    "Located",
    "Mixed",
    "Observations",
    "TwoPhase",
    "code",
    "descend",
    "divergence_from_normal",
    "gaussian_loss",
    "invert",
    "phase_loss",
    "phase_targets",
    "relative_misfit",
    "virtual_observable_loss",
]
