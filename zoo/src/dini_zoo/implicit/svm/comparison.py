"""Every solver of the dual with every way to differentiate its solution, at one regularization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import dini
from dini_zoo.kit.data import Split
from dini_zoo.kit.measure import Program, compile_program, fastest, side_by_side

from ..support_vectors import MIRROR, PROJECTED, tie_margin, validation_loss

MIRROR_CONDITION = "mirror descent's fixed point"
PROJECTED_CONDITION = "projected gradient's fixed point"
UNROLLED = "unrolling"
WAYS = (MIRROR_CONDITION, PROJECTED_CONDITION, UNROLLED)


@dataclass(frozen=True)
class Contender:
    """A solver, given the regularization."""

    name: str
    solver: Callable[[Array], dini.Solver]
    rounds: int = 5
    """How often its programs are timed, at most."""
    patience: float = 2.0
    """Seconds after which no further round begins."""


@dataclass(frozen=True)
class Cell:
    """One solver, differentiated in one way."""

    through: str
    derivative: float
    error: float
    """Relative to the central difference."""
    seconds: float
    """Solve and derivative together."""
    memory: int
    """Bytes for intermediate results of the compiled gradient."""
    system_solved: bool
    """Whether the linear system of the derivative was solved to its tolerance; true where there is none."""


@dataclass(frozen=True)
class Row:
    """One solver."""

    solver: str
    value: float
    status: dini.Status
    steps: int
    residual: float
    seconds: float
    cells: tuple[Cell, ...]

    @property
    def converged(self) -> bool:
        return self.status == dini.Status.CONVERGED

    def cell(self, through: str) -> Cell:
        return next(cell for cell in self.cells if cell.through == through)


@dataclass(frozen=True)
class Comparison:
    """All solvers, with the central difference that judges them."""

    log_theta: float
    value: float
    difference: float
    tie_margin: float
    checkpoint: bool
    rows: tuple[Row, ...]

    def row(self, solver: str) -> Row:
        return next(row for row in self.rows if row.solver == solver)


def central_difference(split: Split, log_theta: float, width: float = 1e-5) -> tuple[float, float, float]:
    """The validation loss, its central difference and the dual's tie margin, almost to machine precision.

    The width is small because the loss has kinks, where an element of the dual joins or leaves the support.
    """
    solver = dini.BlockCoordinateDescent(tol=1e-12, max_steps=20_000)
    loss = jax.jit(lambda at: validation_loss(at, split.train, split.validation, solver))
    (below, _), (here, solution), (above, _) = (loss(log_theta + shift) for shift in (-width, 0.0, width))
    margin = tie_margin(solution.x, np.exp(log_theta), split.train)
    return float(here), float(above - below) / (2 * width), float(margin)


def compare(
    split: Split,
    log_theta: float,
    contenders: Sequence[Contender],
    ways: Sequence[str] = WAYS,
    *,
    checkpoint: bool,
    advance: Callable[[str], None] = lambda doing: None,
) -> Comparison:
    """Fill the table: every solver, differentiated in the ways of these names.

    `checkpoint` is whether unrolling keeps checkpoints in place of all states.
    """
    at = jnp.asarray(log_theta, float)

    def loss(contender: Contender, at: Array, mode: dini.Differentiation) -> tuple[Array, dini.Solution]:
        # The solver is built inside: where its step size follows the regularization, unrolling differentiates that too.
        # What fails is to be shown in the table, so it warns and its result stands.
        solver = contender.solver(jnp.exp(at))
        return validation_loss(at, split.train, split.validation, solver, differentiation=mode, on_failure="warn")

    # to compile is most of the work, and two programs are compiled at a time
    truth, *solves = side_by_side(
        lambda contender: (
            central_difference(split, log_theta)
            if contender is None
            else compile_program(partial(loss, contender, mode=PROJECTED), at)
        ),
        [None, *contenders],
    )
    value, difference, margin = truth
    advance("central difference")
    found = [solve.run_and_listen()[0] for solve in solves]
    jobs = []
    for contender, (_, solution) in zip(contenders, found, strict=True):
        modes = {
            MIRROR_CONDITION: MIRROR,
            PROJECTED_CONDITION: PROJECTED,
            # the same iterations as the solver took, so that neither side does more work
            UNROLLED: dini.Unrolled(steps=int(solution.stats.steps), checkpoint=checkpoint),
        }
        jobs += [(contender, modes[way]) for way in ways]
    gradients = side_by_side(
        lambda job: compile_program(jax.value_and_grad(partial(loss, job[0], mode=job[1]), has_aux=True), at), jobs
    )
    rows = []
    for i, contender in enumerate(contenders):
        own = gradients[i * len(ways) : (i + 1) * len(ways)]
        rows.append(_row(contender, solves[i], found[i], dict(zip(ways, own, strict=True)), difference))
        advance(contender.name)
    return Comparison(log_theta, value, difference, margin, checkpoint, tuple(rows))


def _row(
    contender: Contender,
    solve: Program,
    found: tuple[Array, dini.Solution],
    gradients: dict[str, Program],
    difference: float,
) -> Row:
    """Run and time a solver's programs."""
    value, solution = found
    findings = {through: gradient.run_and_listen() for through, gradient in gradients.items()}
    seconds = fastest([solve, *gradients.values()], contender.rounds, contender.patience)

    def cell(through: str, taken: float) -> Cell:
        (_, derivative), warnings = findings[through]
        return Cell(
            through,
            float(derivative),
            abs(float(derivative) - difference) / abs(difference),
            taken,
            gradients[through].memory,
            not any(message.startswith("The linear system") for message in warnings),
        )

    return Row(
        contender.name,
        float(value),
        dini.Status(int(solution.status)),
        int(solution.stats.steps),
        float(solution.stats.error),
        seconds[0],
        tuple(map(cell, gradients, seconds[1:])),
    )
