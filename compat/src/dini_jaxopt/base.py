"""The bases of JAXopt's solvers and what they return."""

from ._base import AutoOrBoolean, IterativeSolver, KKTSolution, LineSearchStep, OptStep, Solver, StochasticSolver
from ._linear_operator import LinearOperator

__all__ = [
    "AutoOrBoolean",
    "IterativeSolver",
    "KKTSolution",
    "LineSearchStep",
    "LinearOperator",
    "OptStep",
    "Solver",
    "StochasticSolver",
]
