"""The experiment's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dini_zoo.kit.tables import check_table, duration, plain_table, size

from .checks import checks
from .measurement import Row, Size, speedup
from .solvers import IMPLICIT, PEER, UNROLLED

if TYPE_CHECKING:
    from rich.table import Table

    from .experiment import Result


def cost_table(result: Result, found: Size) -> Table:
    """Every solver with every way to differentiate it, at one number of features."""
    table = plain_table(
        "solver",
        "way",
        right=("error", "fastest", "median", "memory", "compile"),
        title=f"Hypergradients with {found.features} features",
        caption=f"Reference {found.derivative:.8g}, central difference {found.difference:.8g}; tie margin "
        f"{found.tie_margin:.0e}.",
    )
    for row in found.rows:
        about = [f"[bold]{row.solver}[/]", f"{row.steps} steps", _end(found, row)]
        for i, (way, reading) in enumerate(row.readings.items()):
            table.add_row(
                about[i] if i < len(about) else "",
                f"{way} *" if reading.checkpoint else way,
                f"{reading.error:.0e}",
                duration(reading.fastest),
                duration(reading.median),
                size(reading.memory),
                duration(reading.compile_seconds),
            )
        if len(row.readings) < len(about):
            table.add_row(about[2], *[""] * 6)
        table.add_section()
    return table


def _end(found: Size, row: Row) -> str:
    reading = row.readings[IMPLICIT]
    text = f"residual {reading.residual:.0e}"
    return text if found.converged(reading) else f"[red]{text}[/]"


def speed_table(result: Result) -> Table:
    """Unrolled over implicit, by the number of features."""
    names = [str(found.features) for found in result.sizes]
    settings = result.settings
    table = plain_table(
        "solver",
        "way",
        right=tuple(names),
        title="Time of the unrolled hypergradient over that of another, by the number of features",
        caption="More than 1: unrolling takes longer (paper: for all three solvers at all sizes, 100 to 10,000 "
        "features, 2,500 steps and 500 epochs). Implicit: through the fixed point of mirror descent for mirror "
        "descent, of projected gradient for the others; implicit, PG: mirror descent, but the latter. Error: of the "
        "derivative, relative to that at a precise solution. Residual: of the projected gradient; red where it is not "
        "below the tie margin, so that the point does not know its support. Times: solve and derivative, programs in "
        f"4 to {settings.rounds} turns. Compile: less where JAX's cache has the program. Memory: for intermediate "
        f"results, the data not among them. *: more than {size(settings.memory_limit)}, so timed with checkpoints. "
        f"JAXopt: as many steps of its own solvers, up to {settings.peer_limit} features, where it is installed.",
    )
    for row in result.sizes[0].rows:
        for way in [*(way for way in row.readings if way not in (UNROLLED, PEER)), PEER]:
            ratios = [
                f"{speedup(other, way):.2f}" if way in other.readings else "-"
                for other in (found.row(row.solver) for found in result.sizes)
            ]
            table.add_row(row.solver, way, *ratios)
    return table


def reference_table(result: Result) -> Table:
    """The bars."""
    return check_table(
        checks(result),
        title="Beside the paper's claim",
        caption="Time, memory: of unrolling over those of the implicit way, the least and the greatest of all numbers "
        "of features. PG: through the fixed point of projected gradient.",
    )


def tables(result: Result) -> list[Table]:
    """All tables; the bars only where the settings are theirs."""
    found = [*(cost_table(result, one) for one in result.sizes), speed_table(result)]
    return [*found, reference_table(result)] if result.settings == type(result.settings)() else found
