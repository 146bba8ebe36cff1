"""dini differentiates through anything that solves."""

from typing import TYPE_CHECKING

from .deferred import late as _late
from .explanations import missing_name as _missing_name

if TYPE_CHECKING:
    from . import (
        adapters,
        bilevel,
        certified,
        compat,
        conditions,
        extend,
        linear,
        losses,
        penalties,
        perturbed,
        sets,
        solvers,
        testing,
    )
    from .batches import batch_solve
    from .conic import ConeSolution, cone_program
    from .convex import ProgramSolution, quadratic_program
    from .cvxpy_programs import CvxpyProgram, from_cvxpy
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
    from .equilibria import nash_equilibrium, variational_inequality
    from .handed_in import differentiate
    from .iterators import run_iterator
    from .kept import keep_programs
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
        VariationalInequality,
    )
    from .solution import Solution, Stats
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
        Extragradient,
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
        SemismoothNewton,
        Solver,
        TrustRegionNewtonCG,
        VariableProjection,
        solver,
    )
    from .solving import solve
    from .status import DerivativeError, SolveError, SolveWarning, Status
    from .verbs import fixed_point, least_squares, minimize, root

__version__ = "0.2.0"

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
    "Extragradient",
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
    "SemismoothNewton",
    "Solution",
    "SolveError",
    "SolveWarning",
    "Solver",
    "Stats",
    "Status",
    "TrustRegionNewtonCG",
    "Unrolled",
    "VariableProjection",
    "VariationalInequality",
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
    "keep_programs",
    "least_squares",
    "linear",
    "losses",
    "minimize",
    "nash_equilibrium",
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
    "variational_inequality",
]

#: the modules in which these names stand; made by tests/house/late.py
_LATE = {
    ".batches": "batch_solve",
    ".conic": "ConeSolution cone_program",
    ".convex": "ProgramSolution quadratic_program",
    ".cvxpy_programs": "CvxpyProgram from_cvxpy",
    ".differentiation": (
        "Auto Choice Differentiation Implicit JacobianFree Neumann OneStep Unrolled custom_fixed_point custom_root "
        "root_jvp root_vjp"
    ),
    ".equilibria": "nash_equilibrium variational_inequality",
    ".handed_in": "differentiate",
    ".iterators": "run_iterator",
    ".kept": "keep_programs",
    ".monitors": "Callback Monitor Monitors ProgressBar Record",
    ".one_sided": "one_sided_jvp",
    ".problems": (
        "Composite ConeProgram FixedPoint LeastSquares LinearComposite Minimize Multipliers NonlinearProgram "
        "PrimalDual Quadratic QuadraticProgram Root VariationalInequality"
    ),
    ".solution": "Solution Stats",
    ".solvers": (
        "ADMM BFGS LBFGS LBFGSB ActiveSet Anderson ArmijoSGD AugmentedLagrangian Bisection BlockCoordinateDescent "
        "Broyden ChambollePock Chandrupatla Chord CondatVu ConicInteriorPoint CoordinateDescent Dogleg "
        "DoglegLeastSquares DouglasRachford Extragradient FixedPointIteration FrankWolfe GaussNewton GradientDescent "
        "HostConeSolver InteriorPoint LevenbergMarquardt MirrorDescent NelderMead Newton NewtonKrylov NonlinearCG "
        "NonlinearInteriorPoint OperatorSplitting OptaxSolver PolyakSGD ProjectedGradient ProjectedNewton "
        "ProximalGradient ProximalNewton SemismoothNewton Solver TrustRegionNewtonCG VariableProjection solver"
    ),
    ".solving": "solve",
    ".status": "DerivativeError SolveError SolveWarning Status",
    ".verbs": "fixed_point least_squares minimize root",
}

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__, __dir__ = _late(__name__, _LATE, __all__, _missing_name)
