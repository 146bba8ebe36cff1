"""The solvers of the paper's figure, and the ways to differentiate them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dini
from dini_zoo.kit.checking import positive

from ..support_vectors import MIRROR, PROJECTED

MIRROR_DESCENT, PROJECTED_GRADIENT, BLOCKS = "mirror descent", "projected gradient", "coordinate descent"

IMPLICIT, OTHER, UNROLLED, PEER = "implicit", "implicit, PG", "unrolled", "JAXopt, implicit"


@dataclass(frozen=True)
class Limits:
    """How many steps the solvers take."""

    mirror: int
    projected: int
    blocks: int
    """Epochs."""


#: The paper's 2,500, 2,500 and 500, scaled.
SCALED = Limits(mirror=1000, projected=500, blocks=50)


@dataclass(frozen=True)
class Contender:
    """A solver that takes all of its steps, and ways to differentiate it, by name."""

    name: str
    solver: dini.Solver
    ways: dict[str, dini.Differentiation]

    @property
    def steps(self) -> int:
        return self.solver.max_steps


def contenders(names: Sequence[str], step_size: float, limits: Limits) -> list[Contender]:
    """The solvers of those names.

    Mirror descent has steps of 1, projected gradient a constant `step_size`, and block coordinate descent its own.
    Mirror descent is differentiated through its own fixed point and through that of projected gradient; the other two
    through the latter, which is theirs but for the sizes of the steps.
    """
    positive("step_size", step_size)

    def contender(name: str, solver: dini.Solver, **implicit: dini.Differentiation) -> Contender:
        # with checkpoints unrolling would take its steps twice
        unrolled = dini.Unrolled(steps=solver.max_steps, checkpoint=False)
        return Contender(name, solver, {**implicit, UNROLLED: unrolled})

    mirror = dini.MirrorDescent(step_size=1.0, tol=0.0, max_steps=limits.mirror)
    projected = dini.ProjectedGradient(step_size=step_size, tol=0.0, max_steps=limits.projected)
    blocks = dini.BlockCoordinateDescent(tol=0.0, max_steps=limits.blocks)
    known = [
        contender(MIRROR_DESCENT, mirror, **{IMPLICIT: MIRROR, OTHER: PROJECTED}),
        contender(PROJECTED_GRADIENT, projected, **{IMPLICIT: PROJECTED}),
        contender(BLOCKS, blocks, **{IMPLICIT: PROJECTED}),
    ]
    return [one for one in known if one.name in names]
