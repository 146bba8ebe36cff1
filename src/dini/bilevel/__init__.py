"""Bilevel problems: an outer objective at the solution of an inner problem."""

from typing import TYPE_CHECKING

from ..deferred import late as _late
from ..explanations import missing_name as _missing_name

if TYPE_CHECKING:
    from ._adjoints import Lanczos, LinearSGD, Plane, RandomTerm
    from ._batches import Batch, Batches
    from ._criteria import k_fold, leave_one_out, monte_carlo_sure, sure
    from ._estimators import SAGA, SGD, SPIDER, STORM, Estimator
    from ._evolution import EvolutionStrategy
    from ._first_order import BOME, F2SA
    from ._hoag import HOAG
    from ._hypergradient import Hypergradient, Warm, value_and_hypergradient
    from ._loop import Method, State
    from ._presets import FSLA, MASOBA, SABA, SOBA, SRBA, TTSA, AmIGO, LancBiO, StocBiO, SubBiO
    from ._problem import Bilevel
    from ._progress import Reach
    from ._stochastic import Stochastic

__all__ = [
    "BOME",
    "F2SA",
    "FSLA",
    "HOAG",
    "MASOBA",
    "SABA",
    "SAGA",
    "SGD",
    "SOBA",
    "SPIDER",
    "SRBA",
    "STORM",
    "TTSA",
    "AmIGO",
    "Batch",
    "Batches",
    "Bilevel",
    "Estimator",
    "EvolutionStrategy",
    "Hypergradient",
    "LancBiO",
    "Lanczos",
    "LinearSGD",
    "Method",
    "Plane",
    "RandomTerm",
    "Reach",
    "State",
    "StocBiO",
    "Stochastic",
    "SubBiO",
    "Warm",
    "k_fold",
    "leave_one_out",
    "monte_carlo_sure",
    "sure",
    "value_and_hypergradient",
]

#: the modules in which these names stand; made by tests/house/late.py
_LATE = {
    "._adjoints": "Lanczos LinearSGD Plane RandomTerm",
    "._batches": "Batch Batches",
    "._criteria": "k_fold leave_one_out monte_carlo_sure sure",
    "._estimators": "SAGA SGD SPIDER STORM Estimator",
    "._evolution": "EvolutionStrategy",
    "._first_order": "BOME F2SA",
    "._hoag": "HOAG",
    "._hypergradient": "Hypergradient Warm value_and_hypergradient",
    "._loop": "Method State",
    "._presets": "FSLA MASOBA SABA SOBA SRBA TTSA AmIGO LancBiO StocBiO SubBiO",
    "._problem": "Bilevel",
    "._progress": "Reach",
    "._stochastic": "Stochastic",
}

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__, __dir__ = _late(__name__, _LATE, __all__, _missing_name)
