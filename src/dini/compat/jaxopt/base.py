"""The bases of JAXopt's solvers and what they return."""

from ._base import AutoOrBoolean, IterativeSolver, KKTSolution, LineSearchStep, OptStep, Solver, StochasticSolver

__all__ = [
    "AutoOrBoolean",
    "IterativeSolver",
    "KKTSolution",
    "LineSearchStep",
    "OptStep",
    "Solver",
    "StochasticSolver",
]
