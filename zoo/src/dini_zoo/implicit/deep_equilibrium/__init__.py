"""An equilibrium classifier: a layer whose output is a fixed point, differentiated in any of dini's modes.

The parts: the layer and the classifier on it (`layer`, `equilibrium`, `classify`, `initial`), how strongly the layer
contracts (`contraction`), training by Adam (`epoch`, `look`, `train`), and the exact gradient by dense algebra
(`Reference`). The experiment is in `dini_zoo.implicit.deep_equilibrium.experiment`.
"""

from .equilibrium import Params, classify, equilibrium, initial, layer
from .reference import Contraction, Reference, contraction
from .training import Course, epoch, look, loss, start, train

__all__ = [
    "Contraction",
    "Course",
    "Params",
    "Reference",
    "classify",
    "contraction",
    "epoch",
    "equilibrium",
    "initial",
    "layer",
    "look",
    "loss",
    "start",
    "train",
]
