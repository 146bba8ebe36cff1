"""Differential equations as hard constraints: a least-squares layer, split over experts.

The parts: the layer (`LeastSquaresConstraint` on `Terms`), its split (`DomainPartition`, `MixtureOfConstraints`),
derivatives on a mesh (`FiniteDifference`, `Spectral`), two equations (`DiffusionSorption`, `NavierStokes2D`), a neural
operator (`FourierOperator`) and its training without solutions (`ConstrainedOperator`, `Training`, `trainer`,
`train`), and a reference solution (`method_of_lines`). The experiment is in `study`, what it prints and draws in
`report` and `picture`.
"""

from .constraint import Constrained, Constraint, Info, LeastSquaresConstraint, SoftConstraint, Terms, sample
from .derivatives import FiniteDifference, Spectral
from .diffusion_sorption import DiffusionSorption
from .fourier import FourierOperator
from .mixture import MixtureOfConstraints
from .navier_stokes import NavierStokes2D, random_vorticity
from .partition import DomainPartition
from .reference import method_of_lines
from .training import ConstrainedOperator, Course, Training, loss, train, trainer

__all__ = [
    "Constrained",
    "ConstrainedOperator",
    "Constraint",
    "Course",
    "DiffusionSorption",
    "DomainPartition",
    "FiniteDifference",
    "FourierOperator",
    "Info",
    "LeastSquaresConstraint",
    "MixtureOfConstraints",
    "NavierStokes2D",
    "SoftConstraint",
    "Spectral",
    "Terms",
    "Training",
    "loss",
    "method_of_lines",
    "random_vorticity",
    "sample",
    "train",
    "trainer",
]
