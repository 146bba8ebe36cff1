"""Target-based surrogates: one costly gradient in a model's outputs serves many cheap steps of its parameters.

The parts: the surrogate and its geometries (`surrogate`, `metrics`), step sizes in target space (`stepsizes`), the
inner steps by any solver of dini or optimizer of optax (`inner`), and the whole method, `SSO` (`method`). The
experiment is in `study`, what it prints and draws in `report` and `picture`.
"""

from .inner import Armijo, Inner, armijo_gradient_descent, minimize_surrogate
from .method import SSO, Info, State, per_example, sso_step
from .metrics import AdaGrad, Diagonal, Divergence, Euclidean, NewtonDiagonal
from .stepsizes import Searched, TargetSearch, exponential, inverse_sqrt, target_armijo
from .surrogate import Surrogate, target_surrogate

__all__ = [
    "SSO",
    "AdaGrad",
    "Armijo",
    "Diagonal",
    "Divergence",
    "Euclidean",
    "Info",
    "Inner",
    "NewtonDiagonal",
    "Searched",
    "State",
    "Surrogate",
    "TargetSearch",
    "armijo_gradient_descent",
    "exponential",
    "inverse_sqrt",
    "minimize_surrogate",
    "per_example",
    "sso_step",
    "target_armijo",
    "target_surrogate",
]
