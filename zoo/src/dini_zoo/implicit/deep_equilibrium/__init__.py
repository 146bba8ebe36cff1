"""An equilibrium classifier: a layer whose output is a fixed point, differentiated in any of dini's modes.

The parts: the layer and the classifier on it (`layer`, `equilibrium`, `classify`, `initial`), how strongly the layer
contracts (`contraction`), training by Adam (`trainer`, `look`, `train`), and the exact gradient by dense algebra
(`Reference`). The experiment is in `study`, what it prints and draws in `report` and `picture`.
"""

from .equilibrium import Params, classify, equilibrium, initial, layer
from .reference import Contraction, Reference, contraction
from .training import Course, look, loss, train, trainer

__all__ = [
    "Contraction",
    "Course",
    "Params",
    "Reference",
    "classify",
    "contraction",
    "equilibrium",
    "initial",
    "layer",
    "look",
    "loss",
    "train",
    "trainer",
]
