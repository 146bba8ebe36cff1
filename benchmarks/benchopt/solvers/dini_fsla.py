"""dini's FSLA in benchopt's bilevel benchmark: see `benchmark_utils/dini_solver.py`."""

from benchmark_utils.dini_solver import DiniSolver

from dini import bilevel


class Solver(DiniSolver):
    name = "dini-FSLA"

    def method(self, problem, **steps):
        return bilevel.FSLA(problem, **steps, eta=0.1)
