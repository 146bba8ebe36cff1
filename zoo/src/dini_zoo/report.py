"""What the experiments' tables have in common: their form, and figures beside a reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich import box
from rich.table import Table


@dataclass(frozen=True)
class Check:
    """A figure of ours, the reference, and whether ours clears the bar."""

    quantity: str
    ours: str
    reference: str
    bar: str
    holds: bool


def near(quantity: str, ours: float, reference: float, tolerance: float, form: str) -> Check:
    """A figure that must be the reference up to a relative tolerance. `form` is a format such as `.3f`."""
    holds = abs(ours - reference) <= tolerance * abs(reference)
    return Check(quantity, f"{ours:{form}}", f"{reference:{form}}", f"to {tolerance:.0e}", holds)


def duration(seconds: float) -> str:
    """A time, to two or three digits."""
    milliseconds = 1e3 * seconds
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{seconds:.1f} s"


def size(memory: float) -> str:
    """A number of bytes, to two or three digits."""
    if memory < 1e6:
        return f"{memory / 1e3:.0f} kB"
    return f"{memory / 1e6:.1f} MB" if memory < 1e8 else f"{memory / 1e6:.0f} MB"


def plain_table(*left: str, right: tuple[str, ...], title: str, caption: str | None = None) -> Table:
    """A table that fits a terminal of 80 columns."""
    table = Table(*left, title=title, caption=caption, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.pad_edge = False
    for name in right:
        table.add_column(name, justify="right")
    table.title_style = "bold"
    table.caption_justify = "left"
    return table


def check_table(checks: Iterable[Check], title: str, caption: str) -> Table:
    """Figures beside the reference."""
    table = plain_table("quantity", right=("ours", "reference"), title=title, caption=caption)
    table.add_column("bar")
    table.add_column("")
    for check in checks:
        met = "[green]met[/]" if check.holds else "[bold red]MISSED[/]"
        table.add_row(check.quantity, check.ours, check.reference, check.bar, met)
    return table
