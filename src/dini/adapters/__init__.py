"""Other people's solvers as solvers of dini's problems, each imported when it is used."""

from ._scipy import SciPy

__all__ = ["SciPy"]
