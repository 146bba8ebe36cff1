"""dini's SABA in benchopt's bilevel benchmark: see `benchmark_utils/dini_solver.py`."""

from benchmark_utils.dini_solver import DiniSolver

from dini import bilevel


class Solver(DiniSolver):
    name = "dini-SABA"

    def method(self, problem, **steps):
        return bilevel.SABA(problem, **steps)
