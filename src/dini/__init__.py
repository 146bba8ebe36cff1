"""dini differentiates through anything that solves."""

from typing import TYPE_CHECKING

from . import conditions, linear, penalties, sets, solvers
from .batches import batch_solve
from .conic import ConeSolution, cone_program
from .convex import ProgramSolution, quadratic_program
from .cvxpy_programs import CvxpyProgram, from_cvxpy
from .deferred import deferred as _deferred
from .differentiate import differentiate
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
from .explanations import missing_name as _missing_name
from .iterators import run_iterator
from .monitors import Callback, Monitor, Monitors, ProgressBar, Record
from .one_sided import one_sided_jvp
from .problems import (
    Composite,
    ConeProgram,
    FixedPoint,
    LeastSquares,
    LinearComposite,
    Minimize,
    Multipliers,
    NonlinearProgram,
    PrimalDual,
    Quadratic,
    QuadraticProgram,
    Root,
)
from .solution import Solution, Stats
from .solve import solve
from .solvers import (
    ADMM,
    BFGS,
    LBFGS,
    LBFGSB,
    ActiveSet,
    Anderson,
    ArmijoSGD,
    AugmentedLagrangian,
    Bisection,
    BlockCoordinateDescent,
    Broyden,
    ChambollePock,
    Chandrupatla,
    Chord,
    CondatVu,
    ConicInteriorPoint,
    CoordinateDescent,
    Dogleg,
    DoglegLeastSquares,
    DouglasRachford,
    FixedPointIteration,
    FrankWolfe,
    GaussNewton,
    GradientDescent,
    HostConeSolver,
    InteriorPoint,
    LevenbergMarquardt,
    MirrorDescent,
    NelderMead,
    Newton,
    NewtonKrylov,
    NonlinearCG,
    NonlinearInteriorPoint,
    OperatorSplitting,
    OptaxSolver,
    PolyakSGD,
    ProjectedGradient,
    ProjectedNewton,
    ProximalGradient,
    ProximalNewton,
    Solver,
    TrustRegionNewtonCG,
    VariableProjection,
    solver,
)
from .status import DerivativeError, SolveError, SolveWarning, Status
from .verbs import fixed_point, least_squares, minimize, root

if TYPE_CHECKING:
    from . import adapters, bilevel, certified, compat, extend, losses, perturbed, testing

__version__ = "0.1.0"

__all__ = [
    "ADMM",
    "BFGS",
    "LBFGS",
    "LBFGSB",
    "ActiveSet",
    "Anderson",
    "ArmijoSGD",
    "AugmentedLagrangian",
    "Auto",
    "Bisection",
    "BlockCoordinateDescent",
    "Broyden",
    "Callback",
    "ChambollePock",
    "Chandrupatla",
    "Choice",
    "Chord",
    "Composite",
    "CondatVu",
    "ConeProgram",
    "ConeSolution",
    "ConicInteriorPoint",
    "CoordinateDescent",
    "CvxpyProgram",
    "DerivativeError",
    "Differentiation",
    "Dogleg",
    "DoglegLeastSquares",
    "DouglasRachford",
    "FixedPoint",
    "FixedPointIteration",
    "FrankWolfe",
    "GaussNewton",
    "GradientDescent",
    "HostConeSolver",
    "Implicit",
    "InteriorPoint",
    "JacobianFree",
    "LeastSquares",
    "LevenbergMarquardt",
    "LinearComposite",
    "Minimize",
    "MirrorDescent",
    "Monitor",
    "Monitors",
    "Multipliers",
    "NelderMead",
    "Neumann",
    "Newton",
    "NewtonKrylov",
    "NonlinearCG",
    "NonlinearInteriorPoint",
    "NonlinearProgram",
    "OneStep",
    "OperatorSplitting",
    "OptaxSolver",
    "PolyakSGD",
    "PrimalDual",
    "ProgramSolution",
    "ProgressBar",
    "ProjectedGradient",
    "ProjectedNewton",
    "ProximalGradient",
    "ProximalNewton",
    "Quadratic",
    "QuadraticProgram",
    "Record",
    "Root",
    "Solution",
    "SolveError",
    "SolveWarning",
    "Solver",
    "Stats",
    "Status",
    "TrustRegionNewtonCG",
    "Unrolled",
    "VariableProjection",
    "adapters",
    "batch_solve",
    "bilevel",
    "certified",
    "compat",
    "conditions",
    "cone_program",
    "custom_fixed_point",
    "custom_root",
    "differentiate",
    "extend",
    "fixed_point",
    "from_cvxpy",
    "least_squares",
    "linear",
    "losses",
    "minimize",
    "one_sided_jvp",
    "penalties",
    "perturbed",
    "quadratic_program",
    "root",
    "root_jvp",
    "root_vjp",
    "run_iterator",
    "sets",
    "solve",
    "solver",
    "solvers",
    "testing",
]

#: modules that nothing else here needs, which are imported when somebody names them
_LATE = ("adapters", "bilevel", "certified", "compat", "extend", "losses", "perturbed", "testing")

if not TYPE_CHECKING:  # a type checker would take any name for an attribute

    def __getattr__(name):
        if name in _LATE:
            return _deferred(f"{__name__}.{name}")
        raise _missing_name(__name__, name)

    def __dir__():
        return sorted({*globals(), *_LATE})
