"""dini differentiates through anything that solves."""

from . import certified, conditions, linear, losses, penalties, perturbed, sets, solvers, testing
from .differentiation import (
    Auto,
    Choice,
    Differentiation,
    Implicit,
    JacobianFree,
    Neumann,
    OneStep,
    Unrolled,
    custom_fixed_point,
    custom_root,
    root_jvp,
    root_vjp,
)
from .monitors import Callback, Monitor, Monitors, ProgressBar, Record
from .one_sided import one_sided_jvp
from .problems import FixedPoint, LeastSquares, LinearComposite, Minimize, Root
from .solution import Solution, Stats
from .solve import solve
from .solvers import (
    BFGS,
    LBFGS,
    Anderson,
    BlockCoordinateDescent,
    FixedPointIteration,
    GradientDescent,
    LevenbergMarquardt,
    MirrorDescent,
    Newton,
    ProjectedGradient,
    ProximalGradient,
    Solver,
)
from .status import DerivativeError, SolveError, SolveWarning, Status
from .verbs import fixed_point, least_squares, minimize, root

__version__ = "0.1.0"

__all__ = [
    "BFGS",
    "LBFGS",
    "Anderson",
    "Auto",
    "BlockCoordinateDescent",
    "Callback",
    "Choice",
    "DerivativeError",
    "Differentiation",
    "FixedPoint",
    "FixedPointIteration",
    "GradientDescent",
    "Implicit",
    "JacobianFree",
    "LeastSquares",
    "LevenbergMarquardt",
    "LinearComposite",
    "Minimize",
    "MirrorDescent",
    "Monitor",
    "Monitors",
    "Neumann",
    "Newton",
    "OneStep",
    "ProgressBar",
    "ProjectedGradient",
    "ProximalGradient",
    "Record",
    "Root",
    "Solution",
    "SolveError",
    "SolveWarning",
    "Solver",
    "Stats",
    "Status",
    "Unrolled",
    "certified",
    "conditions",
    "custom_fixed_point",
    "custom_root",
    "fixed_point",
    "least_squares",
    "linear",
    "losses",
    "minimize",
    "one_sided_jvp",
    "penalties",
    "perturbed",
    "root",
    "root_jvp",
    "root_vjp",
    "sets",
    "solve",
    "solvers",
    "testing",
]
