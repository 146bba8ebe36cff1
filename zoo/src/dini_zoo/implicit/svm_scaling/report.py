"""What the experiment prints, with the paper's claim beside our figures.

The claim is the only thing here that is not measured.
"""

from __future__ import annotations

from collections.abc import Iterator

from dini_zoo.kit.tables import Alarm, Check, Strong, Table, above, at_least, at_most, duration, size

from .measurement import Row, Size, speedup, thrift
from .solvers import IMPLICIT, OTHER, PEER, UNROLLED
from .study import Result


def tables(result: Result) -> list[Table]:
    """The costs at each number of features, and the ratios of times over all of them."""
    return [*(cost_table(found) for found in result.sizes), speed_table(result)]


def cost_table(found: Size) -> Table:
    """Every solver with every way to differentiate it, at one number of features."""
    rows: list[list[str] | None] = []
    for row in found.rows:
        about = [Strong(row.solver), f"{row.steps} steps", _end(found, row)]
        for i, (way, reading) in enumerate(row.readings.items()):
            rows.append(
                [
                    about[i] if i < len(about) else "",
                    f"{way} *" if reading.checkpoint else way,
                    f"{reading.error:.0e}",
                    duration(reading.fastest),
                    duration(reading.median),
                    size(reading.memory),
                    duration(reading.compile_seconds),
                ]
            )
        rows += [[text, *[""] * 6] for text in about[len(row.readings) :]]
        rows.append(None)
    return Table(
        f"Hypergradients with {found.features} features",
        ("solver", "way", "error", "fastest", "median", "memory", "compile"),
        rows[:-1],
        f"Reference {found.derivative:.8g}, central difference {found.difference:.8g}; tie margin "
        f"{found.tie_margin:.0e}.",
        left=2,
    )


def _end(found: Size, row: Row) -> str:
    reading = row.readings[IMPLICIT]
    text = f"residual {reading.residual:.0e}"
    return text if found.converged(reading) else Alarm(text)


def speed_table(result: Result) -> Table:
    """Unrolled over implicit, by the number of features."""
    settings, rows = result.settings, []
    for row in result.sizes[0].rows:
        for way in [*(way for way in row.readings if way not in (UNROLLED, PEER)), PEER]:
            ratios = [
                f"{speedup(other, way):.2f}" if way in other.readings else "-"
                for other in (found.row(row.solver) for found in result.sizes)
            ]
            rows.append([row.solver, way, *ratios])
    return Table(
        "Time of the unrolled hypergradient over that of another, by the number of features",
        ("solver", "way", *(str(found.features) for found in result.sizes)),
        rows,
        "More than 1: unrolling takes longer (paper: for all three solvers at all sizes, 100 to 10,000 "
        "features, 2,500 steps and 500 epochs). Implicit: through the fixed point of mirror descent for mirror "
        "descent, of projected gradient for the others; implicit, PG: mirror descent, but the latter. Error: of the "
        "derivative, relative to that at a precise solution. Residual: of the projected gradient; red where it is not "
        "below the tie margin, so that the point does not know its support. Times: solve and derivative, programs in "
        f"at most {settings.rounds} turns. Compile: less where JAX's cache has the program. Memory: for intermediate "
        f"results, the data not among them. *: more than {size(settings.memory_limit)}, so timed with checkpoints. "
        f"JAXopt: as many steps of its own solvers, up to {settings.peer_limit} features, where it is installed.",
        left=2,
    )


def implicit_ways(row: Row) -> list[str]:
    """dini's implicit ways to differentiate a solver."""
    return [way for way in row.readings if way not in (UNROLLED, PEER)]


def spread(size: Size) -> list[float]:
    """The relative errors of implicit derivatives at points that have converged."""
    return [
        row.readings[way].error for row in size.rows for way in implicit_ways(row) if size.converged(row.readings[way])
    ]


def _range(values: list[float]) -> str:
    return " to ".join(f"{value:.0f}" if value >= 10 else f"{value:.2f}" for value in (min(values), max(values)))


def checks(result: Result) -> Iterator[Check]:
    """Every bar: of each solver at all numbers of features."""
    for name in [row.solver for row in result.sizes[0].rows]:
        rows = [size.row(name) for size in result.sizes]
        for way in implicit_ways(rows[0]):
            through = "" if way == IMPLICIT else f", {OTHER.split()[-1]}"
            faster, smaller = ([ratio(row, way) for row in rows] for ratio in (speedup, thrift))
            yield Check(f"{name}{through}: time", min(faster), above(1), paper="> 1", shown=_range(faster))
            yield Check(f"{name}{through}: memory", min(smaller), at_least(20), shown=_range(smaller))
    worst = max((error for found in result.sizes for error in spread(found)), default=None)
    yield Check("error, implicit, converged", worst, at_most(1e-5), form=".0e")
    off = max(abs(size.derivative - size.difference) / abs(size.difference) for size in result.sizes)
    yield Check("reference to difference", off, at_most(1e-6), form=".0e")


def headline(result: Result) -> str:
    """The one figure that matters."""
    ratios = [speedup(size.row(row.solver), IMPLICIT) for size in result.sizes for row in result.sizes[0].rows]
    first, last = result.sizes[0].features, result.sizes[-1].features
    return (
        f"unrolling takes {min(ratios):.1f} to {max(ratios):.1f} times as long as implicit; solvers: "
        f"{len(result.sizes[0].rows)}, features: {first:,} to {last:,}"
    )
