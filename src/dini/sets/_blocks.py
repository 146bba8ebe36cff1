"""A product of cones over one vector, taken apart into its elementary cones."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._bounds import NonNegative
from ._cones import ConeProduct, DualCone, Free, SecondOrder, Zero, dual
from ._exponential import Exponential
from ._matrix import PositiveSemidefinite
from ._power import Power


class Block(NamedTuple):
    """One elementary cone over consecutive elements.

    Attributes
    ----------
    kind
        Which cone it is: free, zero, nonnegative, second-order, semidefinite, exponential or power.
    first, size
        Where its elements begin, and how many there are.
    cone
        The cone; for a ``dual`` one the cone whose dual it is.
    dual
        Whether it is the dual of an exponential or power cone.
    """

    kind: str
    first: int
    size: int
    cone: Any
    dual: bool = False


def blocks(cone: Any, size: int, first: int = 0) -> list[Block]:
    """Return the elementary cones of a cone over so many elements, in their order.

    Elements of a polyhedral cone are in one of their own each; vectors of one element in a second-order cone, and
    matrices of order one, are nonnegative numbers.

    Raises
    ------
    TypeError
        If a cone is not one of those that :class:`dini.ConeProgram` takes.
    """
    if size == 0:
        return []
    if isinstance(cone, ConeProduct):
        found: list[Block] = []
        for part, length in zip(cone.cones, cone.sizes, strict=True):
            found += blocks(part, length, first)
            first += length
        return found
    if isinstance(cone, DualCone):
        if isinstance(cone.cone, Exponential | Power):
            return [block._replace(dual=True) for block in blocks(cone.cone, size, first)]
        return blocks(dual(cone.cone), size, first)
    for kind, polyhedral in (("free", Free), ("zero", Zero), ("nonnegative", NonNegative)):
        if isinstance(cone, polyhedral):
            return [Block(kind, first + i, 1, cone) for i in range(size)]
    for kind, fixed in (("exponential", Exponential), ("power", Power)):
        if isinstance(cone, fixed):
            return [Block(kind, first + i, 3, cone) for i in range(0, size, 3)]
    for kind, whole in (("second-order", SecondOrder), ("semidefinite", PositiveSemidefinite)):
        if isinstance(cone, whole):
            return [Block(kind if size > 1 else "nonnegative", first, size, cone if size > 1 else NonNegative())]
    raise TypeError(
        "A cone program takes the cones Zero, Free, NonNegative, SecondOrder, PositiveSemidefinite, Exponential and "
        f"Power of dini.sets, their duals and products: given {cone!r}."
    )


def block_of_rows(cone: Any, size: int) -> np.ndarray:
    """Return, for each element, the number of its elementary cone."""
    parts = blocks(cone, size)
    return np.repeat(np.arange(len(parts)), [part.size for part in parts])
