"""Tables and checks: what a run prints, as plain data.

A `Check` sets a figure beside the specification's reference and the paper's claim, and says whether it meets its bar. A
bar is made by `at_least`, `at_most`, `above`, `below`, `between` or `near`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import rich.box
import rich.table
from rich.text import Text


class Alarm(str):
    """A cell that is to be seen: what it says is not as it should be."""


class Strong(str):
    """A cell that heads the rows below it."""


@dataclass(frozen=True)
class Table:
    """Figures in columns; it fits a terminal of 80 columns if its words do."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str] | None]
    """Cells of text; `None` is a line between two rows."""
    caption: str = ""
    left: int = 1
    """So many columns, from the first, are words and not figures."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if row is not None and len(row) != len(self.columns):
                raise ValueError(
                    f"A row of the table {self.title!r} must have {len(self.columns)} cells: given {list(row)}."
                )

    def rich(self) -> rich.table.Table:
        """The table for a terminal."""
        table = rich.table.Table(title=self.title, caption=self.caption or None, box=rich.box.SIMPLE_HEAD)
        table.show_edge = table.pad_edge = False
        table.padding = (0, 1, 0, 0)
        table.title_style, table.caption_justify = "bold", "left"
        for i, name in enumerate(self.columns):
            table.add_column(name, justify="left" if i < self.left else "right")
        for row in self.rows:
            if row is None:
                table.add_section()
            else:
                table.add_row(*map(_styled, row))
        return table

    def markdown(self) -> str:
        """The table for a page, without its title and caption."""
        marks = [":--" if i < self.left else "--:" for i in range(len(self.columns))]
        rows = [self.columns, marks, *(row for row in self.rows if row is not None)]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


_STYLES = {Alarm: "bold red", Strong: "bold"}


def _styled(cell: str) -> Text:
    return Text(str(cell), style=_STYLES.get(type(cell), ""))


@dataclass(frozen=True)
class Bar:
    """What a figure must be: in an interval, whose text is shown."""

    text: str
    low: float = -math.inf
    high: float = math.inf
    open: bool = False
    """Whether the ends do not belong to it."""
    around: bool = False
    """Whether it is around a figure of the specification, which has one seed."""

    def holds(self, value: float) -> bool:
        """Whether a figure meets the bar; what is not a number meets none."""
        return self.low < value < self.high if self.open else self.low <= value <= self.high


def at_least(bound: float) -> Bar:
    """The figure must not be less than `bound`."""
    return Bar(f"≥ {bound:g}", low=bound)


def at_most(bound: float) -> Bar:
    """The figure must not be more than `bound`."""
    return Bar(f"≤ {bound:g}", high=bound)


def above(bound: float) -> Bar:
    """The figure must be more than `bound`."""
    return Bar(f"> {bound:g}", low=bound, open=True)


def below(bound: float) -> Bar:
    """The figure must be less than `bound`."""
    return Bar(f"< {bound:g}", high=bound, open=True)


def between(low: float, high: float) -> Bar:
    """The figure must be in the interval."""
    return Bar(f"{low:g} to {high:g}", low, high)


def near(reference: float, tolerance: float) -> Bar:
    """The figure must be the reference, up to a relative tolerance."""
    width = tolerance * abs(reference)
    return Bar(f"to {tolerance:.0e}", reference - width, reference + width, around=True)


MET, MISSED, ABSENT = "met", "MISSED", "not measured"


@dataclass(frozen=True)
class Check:
    """A figure beside its references, and its bar."""

    quantity: str
    ours: float | None
    """The figure; `None` where this run does not measure it."""
    bar: Bar | None = None
    """What it must be; without a bar it is only shown."""
    reference: float | str = ""
    """The specification's figure, made with other code."""
    paper: float | str = ""
    """The paper's figure."""
    form: str = ".3g"
    """How figures are written."""
    shown: str = ""
    """How ours is written where that says more than the number."""

    @property
    def verdict(self) -> str:
        """`"met"`, `"MISSED"`, `"not measured"`, or nothing where there is no bar."""
        if self.ours is None:
            return ABSENT
        if self.bar is None:
            return ""
        return MET if self.bar.holds(self.ours) else MISSED

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Ours, the reference, the paper's figure, the bar: as text."""
        ours = "" if self.ours is None else self.shown or f"{self.ours:{self.form}}"
        others = (one if isinstance(one, str) else f"{one:{self.form}}" for one in (self.reference, self.paper))
        return (ours, *others, "" if self.bar is None else self.bar.text)


def spread(values: Iterable[float], form: str = ".3g") -> str:
    """The least and the greatest of some figures as text, or one if both read the same; an alarm if one is not finite.

    Examples
    --------
    >>> spread([0.52, 0.41, 0.6]), spread([0.5, 0.5], ".2f")
    ('0.41 to 0.6', '0.50')
    """
    found = list(values)
    if any(math.isnan(one) for one in found):
        return Alarm("NaN")
    low, high = f"{min(found):{form}}", f"{max(found):{form}}"
    shown = low if low == high else f"{low} to {high}"
    return shown if all(map(math.isfinite, found)) else Alarm(shown)


def worst(
    quantity: str,
    values: Iterable[float],
    bar: Bar | None,
    reference: float | str = "",
    paper: float | str = "",
    form: str = ".3g",
) -> Check:
    """A check of figures that all must meet the bar, by the one that is nearest to missing it, or misses it most.

    That is the least figure if the bar has a lower end only, the one farthest from the middle if it has both, and else
    the greatest. What is shown is the range of the figures.
    """
    found = list(values)
    if not found:
        return Check(quantity, None, bar, reference, paper, form)
    ends = (-math.inf, math.inf) if bar is None else (bar.low, bar.high)
    if all(map(math.isfinite, ends)):
        ours = max(found, key=lambda one: abs(one - sum(ends) / 2))
    else:
        ours = (min if math.isfinite(ends[0]) else max)(found)
    if any(math.isnan(one) for one in found):
        ours = math.nan
    return Check(quantity, ours, bar, reference, paper, form, spread(found, form))


def near_reference(quantity: str, ours: float | None, reference: float, tolerance: float, form: str) -> Check:
    """A check that a figure is the specification's, up to a relative tolerance."""
    return Check(quantity, ours, near(reference, tolerance), reference, form=form)


@dataclass(frozen=True)
class Verdict:
    """All checks of a run, and what of its settings is not as in the one that the bars are for."""

    checks: Sequence[Check]
    others: dict[str, str] = field(default_factory=dict)
    """Settings that the bars are not for, as text."""

    def count(self, verdict: str) -> int:
        """How many checks end so."""
        return sum(check.verdict == verdict for check in self.checks)

    def table(self) -> Table:
        """The checks for a terminal or a page."""
        mark = " (other settings)" if self.others else ""
        all_cells = [check.cells for check in self.checks]
        # a column that has nothing in it is left out
        kept = [i for i in range(4) if any(cells[i] for cells in all_cells)]
        rows = []
        for check, cells in zip(self.checks, all_cells, strict=True):
            judged = check.verdict + (mark if check.verdict in (MET, MISSED) else "")
            verdict = Alarm(judged) if check.verdict == MISSED and not mark else judged
            rows.append([check.quantity, *(cells[i] for i in kept), verdict])
        names = ("ours", "reference", "paper", "bar")
        caption = "Reference: the specification's figure. " if 1 in kept else ""
        if mark:
            settings = ", ".join(f"{name} = {value}" for name, value in self.others.items())
            caption += f"References and bars are for other settings; here {settings}."
        return Table("Compared with the references", ["quantity", *(names[i] for i in kept), ""], rows, caption.strip())


def judged(checks: Iterable[Check], others: dict[str, str]) -> Verdict:
    """All checks of a run as a `Verdict`."""
    return Verdict(tuple(checks), others)


def duration(seconds: float) -> str:
    """A time, to two or three digits."""
    milliseconds = 1e3 * seconds
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def size(memory: float) -> str:
    """A number of bytes, to two or three digits."""
    if memory < 1e6:
        return f"{memory / 1e3:.0f} kB"
    return f"{memory / 1e6:.1f} MB" if memory < 1e8 else f"{memory / 1e6:.0f} MB"
