"""What the tests of all experiments do with a run: be quiet, read the tables, look whether there is a picture."""

import io

from rich.console import Console


def quiet():
    """A console that nobody sees."""
    return Console(file=io.StringIO())


def printed(result):
    """The tables of a result in a terminal of 80 columns."""
    console = Console(file=io.StringIO(), width=80)
    for table in result.tables():
        console.print(table)
    return console.file.getvalue()


def assert_drawn(result, folder):
    """The result has a picture with something on it."""
    path = folder / "picture.png"
    result.figure().savefig(path)
    assert path.stat().st_size > 50_000


def assert_all_bars_met(result, checks):
    """No check fails, and the tables show none that does."""
    assert [check for check in checks(result) if not check.holds] == []
    assert "MISSED" not in printed(result)
