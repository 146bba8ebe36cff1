"""Signed measures in a form that tests compare."""

import numpy as np


def as_dict(measure):
    """The measure with the weights of equal points added up."""
    found = {}
    for point, weight in zip(
        np.asarray(measure.points)[measure.mask].tolist(), np.asarray(measure.weights)[measure.mask], strict=True
    ):
        found[tuple(point)] = found.get(tuple(point), 0) + weight
    return {point: weight for point, weight in found.items() if weight}
