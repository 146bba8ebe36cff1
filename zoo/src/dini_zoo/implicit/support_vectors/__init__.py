"""A multiclass support vector machine that two systems share: its dual, its validation loss, ways to differentiate."""

from .machine import accuracy, center, dual, tie_margin, weights
from .modes import MIRROR, PROJECTED
from .outer import Loss, hypergradient, name_of, squared_error, squared_hinge, validation_loss

__all__ = [
    "MIRROR",
    "PROJECTED",
    "Loss",
    "accuracy",
    "center",
    "dual",
    "hypergradient",
    "name_of",
    "squared_error",
    "squared_hinge",
    "tie_margin",
    "validation_loss",
    "weights",
]
