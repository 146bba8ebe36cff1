"""JAXopt's public names, thin over dini: ``import dini.compat.jaxopt as jaxopt``."""

from . import base
from ._base import OptStep
from ._first_order import GradientDescent, ProjectedGradient, ProximalGradient

__all__ = ["GradientDescent", "OptStep", "ProjectedGradient", "ProximalGradient", "base"]
