"""dini's SubBiO in benchopt's bilevel benchmark: see `benchmark_utils/dini_solver.py`."""

from benchmark_utils.dini_solver import DiniSolver

from dini import bilevel


class Solver(DiniSolver):
    name = "dini-SubBiO"

    def method(self, problem, **steps):
        return bilevel.SubBiO(problem, **steps)
