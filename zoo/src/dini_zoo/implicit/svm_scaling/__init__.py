"""Hypergradients of the support vector machine as the number of its features grows: implicit against unrolled.

The parts: classification data of any number of features (`synthetic`), the solvers and the ways to differentiate them
(`contenders`), JAXopt's where it is installed (`peers`), and their measurement (`measure`). The experiment is in
`study`, what it prints and draws in `report` and `picture`.
"""

from .data import Data, synthetic
from .measurement import Reading, Row, Size, measure
from .peers import peers
from .solvers import Contender, contenders

__all__ = ["Contender", "Data", "Reading", "Row", "Size", "contenders", "measure", "peers", "synthetic"]
